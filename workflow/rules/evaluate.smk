# Tables that evaluate writes and the report reads.
STATISTICS = [
    "metrics",
    "roc",
    "agreement",
    "comparison",
    "left_out",
    "decisions",
    "abstentions",
    "spread",
    "levels",
    "near_cuts",
    "coverage",
    "recalibration",
    "calibration_curve",
    "decision_curve",
    "grades",
    "strata",
    "predictive_values",
    "thresholds",
    "reclassification",
    "precision",
    "distribution",
]


rule evaluate:
    """Compare the networks and the baselines with QCT; describe density in every cohort."""
    input:
        patients=expand("results/tables/patients/cohort={cohort}/patients.parquet", cohort=COHORTS),
        studies=expand("results/tables/studies/cohort={cohort}/studies.parquet", cohort=COHORTS),
        vertebrae=expand(
            "results/tables/vertebrae/cohort={cohort}/vertebrae.parquet",
            cohort=COHORTS,
        ),
        predictions=expand(
            "results/tables/predictions/cohort={cohort}/predictions.parquet",
            cohort=COHORTS,
        ),
        labels=expand("results/tables/labels/cohort={cohort}/labels.parquet", cohort=COHORTS),
        model=BUNDLE,
    output:
        **{name: f"results/evaluate/{name}.parquet" for name in STATISTICS},
    log:
        "logs/evaluate.log",
    benchmark:
        "logs/evaluate.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 1
    resources:
        mem_mb=grows(2000),
        runtime=grows(15),
    params:
        code=digest("evaluate"),
        bundle=BUNDLE_CONTENT,
        options=config["evaluate"],
        vbmd={name: config["aggregate"][name] for name in ["reduced_below_mg_cm3", "osteoporosis_below_mg_cm3"]},
    script:
        "../../scripts/evaluate.py"
