"""Turn archived CT (DICOM) into tables of bone density and reports."""

from snakemake.utils import min_version

min_version("9.0")


configfile: workflow.source_path("config/config.yaml")


include: "workflow/common.smk"
include: "workflow/rules/phantom.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/crop.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/targets.smk"


rule all:
    """Make the report of every cohort and the summary, which need everything else."""
    default_target: True
    input:
        "results/report/index.html",
        expand("results/{cohort}/report/index.html", cohort=COHORTS),
    localrule: True
