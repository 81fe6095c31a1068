"""Included first: configuration, paths, and what several rules share."""

from functools import cache
from pathlib import Path

import yaml

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from trabecula.model import bundle_checks, segmenter_choice
from trabecula.runtime import clock, privacy, stale_files
from trabecula.runtime import config as settings
from trabecula.runtime.digest import digest
from trabecula.errors import ConfigError
from trabecula.cohort.pseudonym import refuse_other_key

# This included file puts its folder on the path of the driver and of every script.
HOME = Path(str(workflow.current_basedir)).parent

# Here, since the driver, every job and every script are born with it.
privacy.close_process()
privacy.close_folder(Path(".snakemake"))  # Snakemake makes it, and this run's log in it, before it reads this file

if workflow.is_main_process and (_mended := clock.mend(Path("results"))):
    logger.warning(
        f"{_mended} results carry times in the future: a clock was wrong. Their times are now those of today."
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
    VERDICTS = settings.find_verdicts(config["aggregate"]["verdicts"], _places) or []
    SEGMENT = segmenter_choice.resolve(config["segment"], _places)
except ConfigError as error:
    raise WorkflowError(str(error))


onstart:
    # This run holds the lock now.
    for _folder in ("results", config["private"]):
        stale_files.remove(Path(_folder))


wildcard_constraints:
    cohort="[A-Za-z0-9_-]+",
    shard=r"\d{5}",


@cache
def shard_names(cohort):
    """Names of a cohort's shards; waits for the index, which raises until it is done."""
    return Path(checkpoints.index.get(cohort=cohort).output.shards).read_text().split()


def of_shards(pattern, cohorts=tuple(COHORTS)):
    """Input function: a path per shard of the cohorts; the pattern holds {cohort} and {shard}."""

    def paths(wildcards):
        return [pattern.format(cohort=cohort, shard=shard) for cohort in cohorts for shard in shard_names(cohort)]

    return paths


def shard_list(wildcards):
    """Input function: the list of a shard's studies, which the index writes."""
    shard_names(wildcards.cohort)
    return f"results/{wildcards.cohort}/shards/{wildcards.shard}.tsv"


def grows(first):
    """Resource function: more with every attempt."""
    return lambda wildcards, attempt: first * attempt


def options(section, *names):
    """Some options of a section of the configuration."""
    return {name: config[section][name] for name in names}


def networks(pattern):
    """Input function: a path per network of every split; waits for the division of the patients."""

    def paths(wildcards):
        names = Path(checkpoints.train_cases.get().output.names).read_text().split()
        return expand(pattern, split=names, task=config["train"]["tasks"])

    return paths


def in_scratch(target):
    """Command that runs a target of the synthetic study in a folder of its own, with its own configuration."""
    # The folder is locked by the run that calls this one.
    return (
        f"snakemake --snakefile {HOME}/Snakefile --configfile {HOME}/config/reproduce.yaml --nolock "
        f"--directory scratch/reproduce --cores {{threads}} --rerun-incomplete {target} 2>&1 | tee {{log}}"
    )
