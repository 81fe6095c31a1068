rule report:
    """Write the page for people, its figures, and the gallery of pictures."""
    input:
        **{name: f"results/evaluate/{name}.parquet" for name in STATISTICS},
        patients=expand("results/tables/patients/cohort={cohort}/patients.parquet", cohort=COHORTS),
        studies=expand("results/tables/studies/cohort={cohort}/studies.parquet", cohort=COHORTS),
        vertebrae=expand(
            "results/tables/vertebrae/cohort={cohort}/vertebrae.parquet",
            cohort=COHORTS,
        ),
        failures=expand("results/tables/failures/cohort={cohort}/failures.parquet", cohort=COHORTS),
        runs="results/tables/runs/runs.parquet",
        model=f"{MODEL}/configs/metadata.json",
        crops=of_shards("results/{cohort}/crop/{shard}.parquet"),
        measures=of_shards("results/{cohort}/measure/{shard}.parquet"),
    output:
        page=report(
            "results/report/index.html",
            caption="../report/page.rst",
            category="Report",
        ),
        flow=report("results/report/flow.svg", caption="../report/flow.rst", category="Figures"),
        roc=report("results/report/roc.svg", caption="../report/roc.rst", category="Figures"),
        agreement=report(
            "results/report/agreement.svg",
            caption="../report/agreement.rst",
            category="Figures",
        ),
        recalibration=report(
            "results/report/recalibration.svg",
            caption="../report/recalibration.rst",
            category="Figures",
        ),
        learning=report(
            "results/report/learning.svg",
            caption="../report/learning.rst",
            category="Figures",
        ),
        gallery=directory("results/report/gallery"),
    log:
        "logs/report.log",
    benchmark:
        "logs/report.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(3000),
        runtime=grows(30),
    params:
        code=digest("report"),
        title=config["report"]["title"],
        per_page=config["report"]["patients_per_page"],
        cuts={name: config["aggregate"][name] for name in ["reduced_below_mg_cm3", "osteoporosis_below_mg_cm3"]},
    script:
        "../../scripts/report.py"
