DEVELOPMENT = [name for name, cohort in COHORTS.items() if cohort.role == "development"]

if TRAINS and not DEVELOPMENT:
    raise WorkflowError(
        "Option model: null trains a model, but no cohort has the role development; give one this role, or name a model."
    )


rule train:
    """Train the networks of all folds and both tasks on the development cohorts, and write the model bundle."""
    input:
        cubes=of_shards("results/{cohort}/crop/{shard}.arrow", DEVELOPMENT),
        measures=of_shards("results/{cohort}/measure/{shard}.parquet", DEVELOPMENT),
        studies=expand("results/{cohort}/index/studies.parquet", cohort=DEVELOPMENT),
        labels=expand("results/{cohort}/index/labels.parquet", cohort=DEVELOPMENT),
    output:
        metadata=f"results/models/{config['train']['name']}/configs/metadata.json",
    log:
        "logs/train.log",
    benchmark:
        "logs/train.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 8
    resources:
        mem_mb=grows(8000),
        runtime=grows(720),
    params:
        code=digest("train"),
        options=config["train"],
        choice={
            option: config["aggregate"][option]
            for option in ("levels", "substitutes", "max_interval_days", "reduced_below_mg_cm3")
        },
        synthetic=[name for name in DEVELOPMENT if COHORTS[name].synthetic],
    script:
        "../../scripts/train.py"


rule train_demo:
    """Train the bundle that ships: snakemake --configfile config/train_demo.yaml --directory SCRATCH train_demo."""
    input:
        rules.train.output.metadata,
    localrule: True
