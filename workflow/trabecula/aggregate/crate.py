"""RO-Crate of a run: it describes the run's tables and what made them, for archives and other programs.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), Process Run Crate (https://w3id.org/ro/wfrun/process/0.5).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.model.file import File
from rocrate.rocrate import ROCrate

from trabecula import tables
from trabecula.aggregate.record import without_places
from trabecula.model import bundle

VERSION = "1.1"
METADATA = "ro-crate-metadata.json"
CONFIG = "config.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
PARQUET = "https://www.iana.org/assignments/media-types/application/vnd.apache.parquet"
FORMATS = {".parquet": ["application/vnd.apache.parquet", {"@id": PARQUET}], ".json": "application/json"}
FORMATS |= {
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".sql": "application/sql",
    ".duckdb": "application/octet-stream",
}


def write(folder: Path, run: Mapping[str, Any], *, config: str) -> None:
    """Describe the files of a run's folder within that folder; no file is copied.

    Parameters
    ----------
    folder : Path
        Holds ``tables/``.
    run : mapping
        The run's row of the table runs.
    config : str
        The resolved configuration as JSON; paths and addresses are left out.
    """
    settings = json.dumps(without_places(json.loads(config)), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(f"{settings}\n", encoding="utf-8")
    crate = ROCrate(version=VERSION)
    crate.name = f"Bone density from CT: tables of run {run['run_id']}"
    crate.description = (
        "Tables of Trabecula: trabecular bone density of the spine from archived CT, by patient, scan and vertebra. "
        "Patients appear under keyed pseudonyms. For research use only."
    )
    crate.datePublished = run["finished"]
    crate.license = "None is asserted: who owns the data decides"
    crate.root_dataset["conformsTo"] = _named(crate, PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [_file(crate, folder, path) for path in paths]
    software, packages = _software(crate, run), _packages(crate, run)
    action = _named(
        crate,
        f"#run-{run['run_id']}",
        "CreateAction",
        name="Aggregation of all shards' tables",
        startTime=run["started"].isoformat(),
        endTime=run["finished"].isoformat(),
        instrument=software,
        object=[*_inputs(crate, run), _model(crate, run), *(file for file in files if file.id == CONFIG)],
        result=[file for file in files if file.id != CONFIG],
    )
    software["softwareRequirements"] = packages
    crate.root_dataset["mentions"] = action
    crate.metadata.write(folder)


def _named(crate: ROCrate, id: str, kind: str, **facts: Any) -> Entity:
    """Add an entity other than a file; facts may be entities themselves."""
    entity = ContextEntity(crate, id, properties={"@type": kind})
    crate.add(entity)
    for name, value in facts.items():
        entity[name] = value
    return entity


def _file(crate: ROCrate, folder: Path, path: Path) -> Entity:
    """Describe a file: name, size, SHA-256, format, and what the table of its folder means."""
    place = path.relative_to(folder)
    about = tables.MEANINGS.get(place.parts[1], "") if len(place.parts) > 2 else ""
    facts: dict[str, Any] = {
        "name": place.name,
        "contentSize": str(path.stat().st_size),
        "sha256": bundle.sha256_of(path),
        "encodingFormat": FORMATS[path.suffix],
    }
    file = File(crate, path, dest_path=str(place), properties=facts | ({"description": about} if about else {}))
    crate.add(file)
    return file


def _software(crate: ROCrate, run: Mapping[str, Any]) -> Entity:
    """Describe this package: version, commit, and the digest of each stage's code."""
    facts = {"name": "Trabecula", "softwareVersion": run["version"]}
    facts |= {"identifier": f"commit {run['commit']}"} if run["commit"] else {}
    digests = _values(crate, "code", "Digest of the code of stage", json.loads(run["code"]))
    return _named(crate, "#trabecula", "SoftwareApplication", **facts, additionalProperty=digests)


def _packages(crate: ROCrate, run: Mapping[str, Any]) -> list[Entity]:
    return [
        _named(crate, f"https://pypi.org/project/{name}/", "SoftwareApplication", name=name, softwareVersion=version)
        for name, version in json.loads(run["packages"]).items()
    ]


def _inputs(crate: ROCrate, run: Mapping[str, Any]) -> Iterable[Entity]:
    """Describe the digest of the index's tables of each cohort; the archives themselves have no name here."""
    for cohort, sha256 in json.loads(run["inputs"]).items():
        about = "Studies that the index found in the archive of this cohort, and their labels"
        yield _named(crate, f"#cohort-{cohort}", "Dataset", name=cohort, description=about, sha256=sha256)


def _model(crate: ROCrate, run: Mapping[str, Any]) -> Entity:
    """Describe the model by its name and the digests of its weights."""
    weights = _values(crate, "model", "SHA-256 of", json.loads(run["model_sha256"]))
    return _named(crate, "#model", "CreativeWork", name=run["model_id"], additionalProperty=weights)


def _values(crate: ROCrate, group: str, caption: str, values: Mapping[str, str]) -> list[Entity]:
    return [
        _named(crate, f"#{group}-{name}", "PropertyValue", name=f"{caption} {name}", value=value)
        for name, value in values.items()
    ]
