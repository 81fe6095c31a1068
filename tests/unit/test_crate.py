"""RO-Crate of a run: another program can read it, it names every file with its hash, and nobody's name or folder."""

import json
import shutil
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from made_tables import made_cohorts, write_tables
from rocrate.rocrate import ROCrate
from small_cohort import write_bundle

from trabecula import tables
from trabecula.aggregate import crate, publish, record
from trabecula.model import bundle

STARTED, FINISHED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 1, 2, 3, 14, 5, tzinfo=UTC)
# What a configuration could give away.
SECRETS = (
    "/mnt/st_mary/meier_hans",
    "~/keys/of_dr_house",
    "tcp://node7.st-mary.example:8786",
    "..\\st_mary\\outlines7",
)
CONFIG = {
    "private": SECRETS[1],
    "dask": {"scheduler": SECRETS[2]},
    "segment": {"masks": SECRETS[3], "tables": [SECRETS[0]], "backend": "builtin"},
    "aggregate": {"verdicts": f"{SECRETS[0]}/verdicts.csv", "keep_runs": 3},
}


def published(folder: Path, monkeypatch) -> Path:
    """Folder of a published run."""
    results = folder / "results"
    write_tables(results / ".staging/tables", **made_cohorts())
    shutil.rmtree(results / ".staging/tables/runs")
    monkeypatch.setattr(record, "now", lambda: FINISHED)
    model = bundle.read(write_bundle(folder / "model", {}))
    inputs = {"north": "a" * 64, "south": "b" * 64}
    run = record.Run(STARTED, json.dumps(CONFIG), {"index": "c0de", "crop": "cafe"}, model, inputs)
    publish.publish(results / ".staging", results, run=run, keep_runs=1)
    return next((results / "runs").iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return published(tmp_path_factory.mktemp("site"), monkeypatch)


@pytest.fixture(scope="module")
def read(run) -> ROCrate:
    return ROCrate(run)


def test_every_file_is_named_with_its_hash_and_size(run, read):
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} - {crate.METADATA}
    named = {unquote(entity.id): entity for entity in read.data_entities}
    assert named.keys() == files
    assert {unquote(part["@id"]) for part in read.root_dataset.properties()["hasPart"]} == files
    for name, entity in named.items():
        data = (run / name).read_bytes()
        assert entity["sha256"] == sha256(data).hexdigest()
        assert entity["contentSize"] == str(len(data))
        assert entity["encodingFormat"]
    assert named["tables/patients/cohort=north/patients.parquet"]["description"] == tables.MEANINGS["patients"]


def test_the_action_tells_what_made_the_tables_from_what(run, read):
    (row,) = tables.read(run / "tables/runs/runs.parquet", tables.RUNS).to_pylist()
    action = read.get(f"#run-{row['run_id']}")
    assert action.type == "CreateAction"
    assert read.root_dataset["mentions"].id == action.id
    assert [datetime.fromisoformat(action[time]) for time in ("startTime", "endTime")] == [STARTED, FINISHED]
    software = action["instrument"]
    assert (software["name"], software["softwareVersion"]) == ("Trabecula", row["version"])
    packages = {package["name"]: package["softwareVersion"] for package in software["softwareRequirements"]}
    assert packages == json.loads(row["packages"])
    assert {item["name"].split()[-1]: item["value"] for item in software["additionalProperty"]} == {
        "index": "c0de",
        "crop": "cafe",
    }
    objects = {entity.id: entity for entity in action["object"]}
    assert objects.keys() == {"#cohort-north", "#cohort-south", "#model", "config.json"}
    assert objects["#cohort-north"]["sha256"] == "a" * 64
    assert objects["#model"]["name"] == row["model_id"]
    weights = {item["name"].split()[-1]: item["value"] for item in objects["#model"]["additionalProperty"]}
    assert weights == json.loads(row["model_sha256"])
    results = {entity.id for entity in action["result"]}
    assert results == {entity.id for entity in read.data_entities} - {"config.json"}


def test_every_reference_leads_somewhere(run):
    graph = json.loads((run / crate.METADATA).read_text())["@graph"]
    ids = [entity["@id"] for entity in graph]
    assert len(ids) == len(set(ids))

    def references(value):
        if isinstance(value, dict):
            yield value["@id"]
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    outside = {"https://w3id.org/ro/crate/1.1", crate.PARQUET}
    for entity in graph:
        for name, value in entity.items():
            if name not in ("@id", "@type"):
                assert set(references(value)) <= {*ids, *outside}, name


def test_no_place_and_no_name_is_told(run):
    for name in (crate.METADATA, crate.CONFIG):
        text = (run / name).read_text()
        parts = {
            part for secret in SECRETS for part in secret.replace("\\", "/").split("/") if "_" in part or "." in part
        }
        assert parts > {"meier_hans", "of_dr_house"}
        for secret in (*SECRETS, *parts, "verdicts.csv", str(Path.home()), str(run.parents[2]), "file:"):
            assert secret not in text


def test_the_configuration_is_attached_without_places(run):
    config = json.loads((run / crate.CONFIG).read_text())
    assert config["aggregate"] == {"verdicts": record.PLACE, "keep_runs": 3}
    assert config["segment"] == {"masks": record.PLACE, "tables": [record.PLACE], "backend": "builtin"}


@pytest.mark.parametrize("place", ["dask.klinik-mueller.example:8786", "verdicts_dr_mueller.csv"])
@pytest.mark.parametrize("option", sorted(record.PLACES))
def test_places_without_a_slash_are_left_out_too(option, place):
    assert record.without_places({"section": {option: place, "n": 3}}) == {"section": {option: record.PLACE, "n": 3}}


def test_every_option_with_a_free_text_is_a_place_or_known_to_be_none():
    schema = yaml.safe_load((Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml").read_text())

    def free_texts(section):
        for name, option in section["properties"].items():
            if "properties" in option:
                yield from free_texts(option)
            elif "string" in option.get("type", []) and "enum" not in option:
                yield name

    assert set(free_texts(schema)) == record.PLACES | {"coding", "name", "title"}


def test_the_same_run_is_described_by_the_same_text(run, tmp_path, monkeypatch):
    """But for the database, whose bytes tell its place."""
    assert without_database(run) == without_database(published(tmp_path, monkeypatch))


def without_database(run: Path) -> list[dict]:
    graph = json.loads((run / crate.METADATA).read_text())["@graph"]
    return [entity for entity in graph if not entity["@id"].endswith(".duckdb")]
