# Thresholds between the grades, for the reports and the summary.
REPORT_THRESHOLDS = {name: config["aggregate"][name] for name in ["reduced_below_mg_cm3", "osteoporosis_below_mg_cm3"]}


rule report:
    """Write a cohort's report: the page, the checklists, the figures, and the gallery of images."""
    input:
        **{name: f"results/evaluate/{name}.parquet" for name in STATISTICS},
        patients="results/tables/patients/cohort={cohort}/patients.parquet",
        studies="results/tables/studies/cohort={cohort}/studies.parquet",
        vertebrae="results/tables/vertebrae/cohort={cohort}/vertebrae.parquet",
        failures="results/tables/failures/cohort={cohort}/failures.parquet",
        flow="results/tables/flow/cohort={cohort}/flow.parquet",
        verdicts="results/tables/verdicts/verdicts.parquet",
        runs="results/tables/runs/runs.parquet",
        model=BUNDLE,
        crops=lambda wildcards: of_shards("results/{cohort}/crop/{shard}.parquet", [wildcards.cohort])(wildcards),
        measures=lambda wildcards: of_shards("results/{cohort}/measure/{shard}.parquet", [wildcards.cohort])(wildcards),
    output:
        page=report(
            "results/{cohort}/report/index.html",
            caption="../report/page.rst",
            category="Report",
            labels={"cohort": "{cohort}", "page": "report"},
        ),
        checklists=report(
            "results/{cohort}/report/checklists.html",
            caption="../report/checklists.rst",
            category="Report",
            labels={"cohort": "{cohort}", "page": "checklists"},
        ),
        flow=report(
            "results/{cohort}/report/flow.svg",
            caption="../report/flow.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "flow"},
        ),
        roc=report(
            "results/{cohort}/report/roc.svg",
            caption="../report/roc.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "roc"},
        ),
        agreement=report(
            "results/{cohort}/report/agreement.svg",
            caption="../report/agreement.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "agreement"},
        ),
        calibration=report(
            "results/{cohort}/report/calibration.svg",
            caption="../report/calibration.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "calibration"},
        ),
        decision_curve=report(
            "results/{cohort}/report/decision_curve.svg",
            caption="../report/decision_curve.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "decision curve"},
        ),
        classes=report(
            "results/{cohort}/report/classes.svg",
            caption="../report/classes.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "classes"},
        ),
        strata=report(
            "results/{cohort}/report/strata.svg",
            caption="../report/strata.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "strata"},
        ),
        distribution=report(
            "results/{cohort}/report/distribution.svg",
            caption="../report/distribution.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "distribution"},
        ),
        recalibration=report(
            "results/{cohort}/report/recalibration.svg",
            caption="../report/recalibration.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "recalibration"},
        ),
        gallery=directory("results/{cohort}/report/gallery"),
    log:
        "logs/{cohort}/report.log",
    benchmark:
        "logs/{cohort}/report.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(3000),
        runtime=grows(30),
    params:
        code=digest("report"),
        bundle=BUNDLE_CONTENT,
        title=config["report"]["title"],
        patients_per_page=config["report"]["patients_per_page"],
        cohort=lambda wildcards: wildcards.cohort,
        role=lambda wildcards: COHORTS[wildcards.cohort].role,
        thresholds=REPORT_THRESHOLDS,
    script:
        "../../scripts/report.py"


rule report_summary:
    """Write the summary over all cohorts; remove the reports of cohorts that are no longer listed."""
    input:
        **{name: f"results/evaluate/{name}.parquet" for name in STATISTICS},
        patients=expand("results/tables/patients/cohort={cohort}/patients.parquet", cohort=COHORTS),
        studies=expand("results/tables/studies/cohort={cohort}/studies.parquet", cohort=COHORTS),
        vertebrae=expand("results/tables/vertebrae/cohort={cohort}/vertebrae.parquet", cohort=COHORTS),
        failures=expand("results/tables/failures/cohort={cohort}/failures.parquet", cohort=COHORTS),
        flow=expand("results/tables/flow/cohort={cohort}/flow.parquet", cohort=COHORTS),
        verdicts="results/tables/verdicts/verdicts.parquet",
        runs="results/tables/runs/runs.parquet",
        model=BUNDLE,
    output:
        page=report(
            "results/report/index.html",
            caption="../report/summary.rst",
            category="Report",
            labels={"cohort": "all", "page": "summary"},
        ),
    log:
        "logs/report_summary.log",
    benchmark:
        "logs/report_summary.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(3000),
        runtime=grows(30),
    params:
        code=digest("report"),
        bundle=BUNDLE_CONTENT,
        title=config["report"]["title"],
        roles={name: cohort.role for name, cohort in COHORTS.items()},
        thresholds=REPORT_THRESHOLDS,
    script:
        "../../scripts/report_summary.py"
