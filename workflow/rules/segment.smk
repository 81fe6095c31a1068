rule segment:
    """Outline and number the vertebrae of every converted study of a shard."""
    input:
        ct="results/{cohort}/convert/{shard}",
        table="results/{cohort}/convert/{shard}.parquet",
        coding=ancient(SEGMENT.coding_file),
    output:
        labels=temp(directory("results/{cohort}/segment/{shard}")),
        table="results/{cohort}/segment/{shard}.parquet",
    log:
        "logs/{cohort}/segment/{shard}.log",
    benchmark:
        "logs/{cohort}/segment/{shard}.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: config["segment"]["threads"]
    resources:
        mem_mb=grows(SEGMENT.memory_mb),
        runtime=grows(240),
    params:
        code=digest("segment"),
        options=SEGMENT.as_params(),
        read_files=[content(path, pattern) for path, pattern in SEGMENT.read_files],
        private=config["private"],
    script:
        "../../scripts/segment.py"


rule train_segmenter:
    """Train the builtin spine network that segment uses (see models/segmenter/docs/README.md)."""
    output:
        metadata="results/models/segmenter/configs/metadata.json",
    log:
        "logs/train_segmenter.log",
    benchmark:
        "logs/train_segmenter.benchmark.tsv"
    conda:
        "../../envs/trabecula.yaml"
    threads: 2
    resources:
        mem_mb=grows(6000),
        runtime=grows(240),
    params:
        code=digest("train_segmenter"),
        options=config["train_segmenter"],
    script:
        "../../scripts/train_segmenter.py"
