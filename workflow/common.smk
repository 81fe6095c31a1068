"""Included first: configuration, paths, and what several rules share."""

from functools import cache
from pathlib import Path

import yaml

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from trabecula.model import bundle_checks, segmenter_choice
from trabecula.runtime import clock, places, privacy, records, stale_files
from trabecula.runtime import config as settings
from trabecula.runtime.content import content_digest
from trabecula.runtime.digest import digest
from trabecula.errors import ConfigError
from trabecula.cohort.private_owner import refuse_other_owner
from trabecula.cohort.pseudonym import refuse_other_key

# Because this file is included, its folder is on the Python path of the driver and of every script.
HOME = Path(str(workflow.current_basedir)).parent

# Done here, since the driver, every job and every script begin with this file.
privacy.close_process()
privacy.close_folder(Path(".snakemake"))  # Snakemake makes it, and this run's log in it, before it reads this file

if workflow.is_main_process and (_mended := clock.mend(Path("results"))):
    logger.warning(
        f"{_mended} results were dated in the future, since a clock was wrong. They have been given the present time."
    )

try:
    _schema = yaml.safe_load(Path(workflow.source_path("schemas/config.schema.yaml")).read_text())
    config.update(settings.with_defaults(config, _schema))
    _places = [Path(), HOME]
    COHORTS = settings.read_cohorts(
        settings.find(config["cohorts"], _places, option="cohorts"), config["phantom"]["cohorts"]
    )
    for _cohort in COHORTS.values():
        if not _cohort.synthetic:
            refuse_other_key(Path(config["private"], "key"), Path("results", _cohort.name, "index/key.txt"))
    places.check(Path(config["private"]), {name: cohort.archive for name, cohort in COHORTS.items()})
    if workflow.is_main_process:
        for _cohort in COHORTS:
            refuse_other_owner(Path(config["private"], _cohort), Path())
    TRAINS = config["model"] is None
    MODEL = (
        f"results/models/{config['train']['name']}"
        if TRAINS
        else str(settings.find(config["model"], _places, option="model"))
    )
    if TRAINS:
        bundle_checks.check_region(
            roi_size=config["train"]["roi_size"],
            roi_spacing_mm=config["train"]["roi_spacing_mm"],
            cube_size=config["crop"]["size"],
            cube_spacing_mm=config["crop"]["spacing_mm"],
        )
    else:
        bundle_checks.check_bundle(
            MODEL,
            cube_size=config["crop"]["size"],
            cube_spacing_mm=config["crop"]["spacing_mm"],
            levels=config["aggregate"]["levels"],
            reduced_below_mg_cm3=config["aggregate"]["reduced_below_mg_cm3"],
        )
    VERDICTS = settings.find_verdicts(config["aggregate"]["verdicts"], _places)
    SEGMENT = segmenter_choice.resolve(config["segment"], _places)
except ConfigError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:  # before Snakemake opens its records, which it does when this file has been read
    try:
        records.keep_beside(Path("results"), Path(".snakemake"))
    except OSError as error:
        logger.warning(
            f"Snakemake's records can't be kept in results/{records.FOLDER} ({error.strerror}). They stay in "
            ".snakemake; copy this folder wherever you copy the results."
        )
    if _unrecorded := records.unrecorded(Path("results")):
        logger.warning(
            f"Results without a record of how they were made: {len(_unrecorded)}, the first is {_unrecorded[0]}. They "
            f"were copied without results/{records.FOLDER}, or it was removed. Whether options, code or archives have "
            "changed since can't be told for them, so they stay as they are. Run `snakemake --forcerun index` to look "
            "for new and changed studies, or `snakemake --forceall` to make all results anew."
        )


if workflow.is_main_process and (_scheduler := config["dask"]["scheduler"]) and not _scheduler.startswith("tls://"):
    logger.warning(
        f"The Dask scheduler {_scheduler} is reached without TLS: whoever can connect to it can run code as you, and read "
        "the pseudonym key. See docs/threats.md."
    )


onstart:
    # Only from here on does this run hold the lock of the working directory.
    for _folder in places.written(Path(config["private"]), COHORTS):
        stale_files.remove(_folder)
    stale_files.remove_beside(Path(config["private"], "key"))


wildcard_constraints:
    cohort="[A-Za-z0-9_-]+",
    shard=r"\d{5}",


@cache
def content(path, pattern="**/*"):
    """Give a digest of a file or a folder; jobs, which plan nothing, need none.

    As a parameter beside an input that is marked ancient, it makes the input's content count and not its time: a file
    from an archive or a copy is often older than the results, and one that was only touched gives the same results.
    """
    return content_digest(Path(path), pattern=pattern) if path and workflow.is_main_process else None


# A bundle that was given counts by the content of all its files. One that this run trains is a result like others.
BUNDLE = f"{MODEL}/configs/metadata.json" if TRAINS else ancient(f"{MODEL}/configs/metadata.json")
BUNDLE_CONTENT = None if TRAINS else content(MODEL)


@cache
def shard_names(cohort):
    """List the names of a cohort's shards; raises until the index is done, so that Snakemake waits for it."""
    return Path(checkpoints.index.get(cohort=cohort).output.shards).read_text().split()


def of_shards(pattern, cohorts=tuple(COHORTS)):
    """Give an input function that lists a path per shard of the cohorts; the pattern holds {cohort} and {shard}."""

    def paths(wildcards):
        return [pattern.format(cohort=cohort, shard=shard) for cohort in cohorts for shard in shard_names(cohort)]

    return paths


# Named targets at which a run ends before crop has used the volumes.
BEFORE_CROP = {"indexed", "converted", "segmented"}


def of_shards_before_crop(pattern):
    """Give an input function as `of_shards` does, for a target that leaves the volumes to a later run."""

    def paths(wildcards):
        # Snakemake removes a temporary file when no other job of the run needs it. Which targets it was asked for is
        # known only here, after the rules have been read; from here on, the run goes on as with --notemp.
        if set(workflow.dag_settings.targets) <= BEFORE_CROP:
            workflow.storage_settings.notemp = True
        return of_shards(pattern)(wildcards)

    return paths


def shard_list(wildcards):
    """Input function: give the path of a shard's list of studies, which the index writes."""
    shard_names(wildcards.cohort)
    return f"results/{wildcards.cohort}/shards/{wildcards.shard}.tsv"


def grows(first):
    """Give a resource function: the first amount, multiplied by the number of the attempt."""
    return lambda wildcards, attempt: first * attempt


def options(section, *names):
    """Select options of a section of the configuration."""
    return {name: config[section][name] for name in names}


def networks(pattern):
    """Give an input function that lists a path per network of every split, once the patients are divided."""

    def paths(wildcards):
        names = Path(checkpoints.train_cases.get().output.names).read_text().split()
        return expand(pattern, split=names, task=config["train"]["tasks"])

    return paths


def learnt_from(*names):
    """Give a parameter function: digests of files that train_cases wrote, which count by content and not by time.

    train_cases runs whenever a study is tried again, and trains nothing again where it writes what it wrote before.
    """

    def digests(wildcards):
        written = Path("results/train/digests.tsv")
        lines = written.read_text().splitlines() if written.exists() else []
        return [line for line in lines if line.split("\t")[0] in names]

    return digests


def in_scratch(target):
    """Give the command that runs a target of the synthetic study in a folder of its own, with its own configuration."""
    # --nolock, since the run that calls this command holds the lock.
    return (
        f"snakemake --snakefile {HOME}/Snakefile --configfile {HOME}/config/reproduce.yaml --nolock "
        f"--directory scratch/reproduce --cores {{threads}} --rerun-incomplete {target} 2>&1 | tee {{log}}"
    )
