# results/{cohort}/{index,crop,measure}/ -> results/train/{cases,splits,audit}.parquet, rois.arrow
#                                        -> results/train/networks/{split}/{task}.*
#                                        -> results/models/{name}/
DEVELOPMENT = [name for name, cohort in COHORTS.items() if cohort.role == "development"]
TRAIN = config["train"]

if TRAINS and not DEVELOPMENT:
    raise WorkflowError(
        "Option model: null trains a model, but no cohort has the role development; give a cohort this role, or name a "
        "model."
    )


PROTOCOL = options(
    "train",
    "folds",
    "random_repeats",
    "random_fractions",
    "leave_one_device_out",
    "min_device_patients",
    "validation_fraction",
    "seed",
)
RECIPE = options(
    "train",
    "network",
    "epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "roi_size",
    "roi_spacing_mm",
    "hu_window",
    "scan_inputs",
    "seed",
    "device",
)
CHOICE = options("aggregate", "levels", "substitutes", "max_interval_days", "reduced_below_mg_cm3")


checkpoint train_cases:
    """Link labels to scans, cut the patients' regions, and divide the patients; a division that was made is kept."""
    input:
        converts=of_shards("results/{cohort}/convert/{shard}.parquet", DEVELOPMENT),
        cubes=of_shards("results/{cohort}/crop/{shard}.arrow", DEVELOPMENT),
        crops=of_shards("results/{cohort}/crop/{shard}.parquet", DEVELOPMENT),
        measures=of_shards("results/{cohort}/measure/{shard}.parquet", DEVELOPMENT),
        studies=expand("results/{cohort}/index/studies.parquet", cohort=DEVELOPMENT),
        labels=expand("results/{cohort}/index/labels.parquet", cohort=DEVELOPMENT),
        verdicts=ancient(VERDICTS or []),
    output:
        cases="results/train/cases.parquet",
        audit="results/train/audit.parquet",
        rois="results/train/rois.arrow",
        splits=update("results/train/splits.parquet"),
        names="results/train/splits.txt",
        digests="results/train/digests.tsv",
    log:
        "logs/train/cases.log",
    benchmark:
        "logs/train/cases.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        code=[digest("train.cases"), digest("train.audit"), digest("train.rois"), digest("train.splits")],
        reviewed=content(VERDICTS),
        order=DEVELOPMENT,
        choice=CHOICE,
        protocol=PROTOCOL,
        roi=[TRAIN["roi_size"], TRAIN["roi_spacing_mm"], TRAIN["hu_window"]],
    script:
        "../../scripts/train_cases.py"


rule train_network:
    """Train the network of one split and task, and let it predict every development patient."""
    input:
        cases=ancient("results/train/cases.parquet"),
        rois=ancient("results/train/rois.arrow"),
        splits=ancient("results/train/splits.parquet"),
    output:
        weights="results/train/networks/{split}/{task}.safetensors",
        fitted="results/train/networks/{split}/{task}.parquet",
        curve="results/train/networks/{split}/{task}.curve.parquet",
    log:
        "logs/train/{split}/{task}.log",
    benchmark:
        "logs/train/{split}/{task}.benchmark.tsv"
    wildcard_constraints:
        split=r"(fold|random|device)\d+",
        task="classification|regression|joint",
    conda:
        "../../envs/trabecula.yaml"
    threads: 1 if TRAIN["network"] == "small" else 8
    resources:
        mem_mb=grows(8000),
        runtime=grows(720),
    params:
        code=digest("train.network"),
        learnt_from=learnt_from("cases.parquet", "rois.arrow", "splits.parquet"),
        recipe=RECIPE,
    script:
        "../../scripts/train_network.py"


rule train:
    """Write the model bundle: the folds' networks, and the predictions of every network and baseline for every patient."""
    input:
        cases=ancient("results/train/cases.parquet"),
        splits=ancient("results/train/splits.parquet"),
        audit=ancient("results/train/audit.parquet"),
        weights=networks("results/train/networks/{split}/{task}.safetensors"),
        fitted=networks("results/train/networks/{split}/{task}.parquet"),
        curves=networks("results/train/networks/{split}/{task}.curve.parquet"),
    output:
        metadata=f"results/models/{TRAIN['name']}/configs/metadata.json",
    log:
        "logs/train/train.log",
    benchmark:
        "logs/train/train.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(4000),
        runtime=grows(30),
    params:
        code=digest("train"),
        learnt_from=learnt_from("cases.parquet", "splits.parquet", "audit.parquet"),
        networks="results/train/networks",
        record=dict(
            name=TRAIN["name"],
            tasks=TRAIN["tasks"],
            cube_size=config["crop"]["size"],
            cube_spacing_mm=config["crop"]["spacing_mm"],
        ),
        choice=CHOICE,
        recipe=RECIPE,
        protocol=PROTOCOL,
        synthetic=[name for name in DEVELOPMENT if COHORTS[name].synthetic],
    script:
        "../../scripts/train.py"


rule train_demo:
    """Train the bundle that ships in models/demo, on simulated patients; when stopped, run it again and it goes on."""
    log:
        "logs/train_demo.log",
    localrule: True
    conda:
        "../../envs/trabecula.yaml"
    threads: workflow.cores or 1
    shell:
        in_scratch("train")


rule reproduce:
    """Run the whole protocol on a synthetic cohort of the reference study's size; when stopped, run it again."""
    log:
        "logs/reproduce.log",
    localrule: True
    conda:
        "../../envs/trabecula.yaml"
    threads: workflow.cores or 1
    shell:
        in_scratch("all")
