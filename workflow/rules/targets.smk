# Named targets: snakemake indexed, converted, segmented, measured, inferred, tables.
# Each runs the workflow up to there, for all cohorts. Snakemake's --until does not reach past the index, which is a
# checkpoint: what follows it is known only when it is done.


rule indexed:
    """Find what the archives hold, choose a series per study, and list the studies in shards."""
    input:
        expand("results/{cohort}/index/shards.txt", cohort=COHORTS),
    localrule: True


rule converted:
    """Convert the chosen series of all cohorts; the volumes stay until a later run has used them."""
    input:
        of_shards_before_crop("results/{cohort}/convert/{shard}.parquet"),
    localrule: True


rule segmented:
    """Outline and number all vertebrae; volumes and label maps stay until a later run has used them."""
    input:
        of_shards_before_crop("results/{cohort}/segment/{shard}.parquet"),
    localrule: True


rule measured:
    """Cut and measure all vertebrae."""
    input:
        of_shards("results/{cohort}/measure/{shard}.parquet"),
    localrule: True


rule inferred:
    """Measure all vertebrae and predict their density, with a model that is trained before if need be."""
    input:
        of_shards("results/{cohort}/measure/{shard}.parquet"),
        of_shards("results/{cohort}/infer/{shard}.parquet"),
    localrule: True


rule tables:
    """Publish the tables of all cohorts, without statistics and reports."""
    input:
        "results/tables/runs/runs.parquet",
    localrule: True
