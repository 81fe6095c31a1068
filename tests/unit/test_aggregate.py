"""Aggregate: a small cohort of known fates through to the tables; nothing lost, nothing made up."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from small_cohort import LEVELS, SUBSTITUTES, Study, good, shard_paths, write_bundle, write_cohort, write_shard

from trabecula import aggregate, tables
from trabecula.aggregate import vertebra_tables
from trabecula.aggregate.out_of_core import buckets, shard_files, table_files
from trabecula.cohort.retries import Retries, Retry, read_retries
from trabecula.density import calibrate
from trabecula.density.thresholds import Thresholds
from trabecula.errors import REASONS
from trabecula.model import bundle
from trabecula.tables.cubes import read_facts

SPLITS = {"trained": 1}
RULES = aggregate.Rules(LEVELS, SUBSTITUTES, Thresholds(), max_interval_days=180)
CALIBRATION = calibrate.Options("phantomless", 3, [], "mg/cm3 HA")
COHORTS = [aggregate.Cohort("dev", "development", True), aggregate.Cohort("ext", "external", False)]
CUT = {"complete": False, "trabecular_hu_mean": None, "flags": ["incomplete"]}
METAL = {"flags": ["metal"]}
STUDIES = [
    Study("whole", "whole", vertebrae=good("L1", "L2", "L3")),
    Study("trained", "trained", vertebrae={"L1": CUT, "L2": METAL, "L3": {"level_uncertain": True}, "T12": {}}),
    Study("truncated", "truncated", fails=("convert", "truncated")),
    Study("boneless", "boneless", fails=("segment", "no_vertebra")),
    Study("uncropped", "uncropped", fails=("crop", "no_vertebra")),
    Study("localizer", "localizer", fails=("index", "localizer")),
    Study("cut", "cut", vertebrae={"L1": CUT}, shard="00001"),
    Study("twice", "first", vertebrae=good("L1", "L2"), shard="00001"),
    Study("twice", "second", day=400, vertebrae=good("L1"), shard="00001"),
    Study("metal", "metal", vertebrae={"L1": METAL}, shard="00001"),
    Study("unpredicted", "unpredicted", vertebrae=good("L1"), predicted=False, shard="00001"),
    Study("undated", "undated", day=None, vertebrae=good("L1"), shard="00001"),
    Study("near", "near", vertebrae={"L1": {"probability": 0.6}}, shard="00001"),
    Study("bright", "bright", vertebrae={"L1": {"trabecular_hu_mean": 221.0, "vbmd": 300.0}}, shard="00001"),
]
BAD = {"status": "unused", "reason": "bad_level"}
LABELS = [
    dict(patient_id="whole", level="L1-L2", vbmd_mg_cm3=97.0, days_from_first_study=5),
    dict(patient_id="twice", level="L1", vbmd_mg_cm3=130.0, days_from_first_study=390),
    dict(patient_id="twice", level="L1", vbmd_mg_cm3=140.0, days_from_first_study=150),
    dict(patient_id="trained", level="L1", vbmd_mg_cm3=99.0, days_from_first_study=181),
    dict(patient_id="cut", level="L1", vbmd_mg_cm3=99.0, days_from_first_study=0),
    dict(patient_id="nobody", level="L1", vbmd_mg_cm3=99.0, days_from_first_study=None),
    dict(patient_id="metal", level=None, vbmd_mg_cm3=None, days_from_first_study=0) | BAD,
]


def write(folder: Path) -> Path:
    """Write what the stages leave: the cohort `dev` as above, and `ext`, of which nothing was accepted."""
    model = bundle.read(write_bundle(folder.parent / "model", SPLITS)).model_id
    write_cohort(folder, "dev", STUDIES, LABELS, model, SPLITS)
    write_cohort(folder, "ext", [Study("nothing", "nothing", fails=("index", "not_ct"), shard="00000")], [], model, {})
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Folder of results, aggregated."""
    folder = write(tmp_path_factory.mktemp("run") / "results")
    run(folder)
    return folder


@pytest.fixture
def copy(tmp_path) -> Path:
    """Folder of results, not aggregated: to be spoiled."""
    return write(tmp_path / "results")


def run(
    results: Path,
    into: Path | None = None,
    scheduler: str | None = None,
    reviewed: Path | None = None,
    cohorts: Sequence[aggregate.Cohort] = COHORTS,
) -> None:
    paths = {stage: [str(path) for path in files] for stage, files in shard_paths(results).items()}
    index = [str(path) for path in sorted(results.glob("*/index/*.parquet"))]
    shards = aggregate.list_shards(**paths)
    inputs = aggregate.Inputs(cohorts, index, shards, model=results.parent / "model", verdicts=reviewed)
    runtime = aggregate.Runtime(
        into or results, scheduler=scheduler, threads=2, keep_runs=2, config="{}", code={"index": "0"}
    )
    aggregate.run(inputs, RULES, CALIBRATION, runtime)


def table(results: Path, name: str, cohort: str = "dev") -> pd.DataFrame:
    path = results / "tables" / name / f"cohort={cohort}" / f"{name}.parquet"
    return tables.read(path, tables.PUBLIC[name]).to_pandas()


def test_every_study_is_measured_or_has_a_stage_and_a_reason(results):
    studies = table(results, "studies").set_index("study_id")
    dropped = studies[studies["status"] != "measured"]
    assert {name: (row["status"], row["stage"], row["reason"]) for name, row in dropped.iterrows()} == {
        "truncated": ("failed", "convert", "truncated"),
        "boneless": ("failed", "segment", "no_vertebra"),
        "uncropped": ("failed", "crop", "no_vertebra"),
        "localizer": ("rejected", "index", "localizer"),
        "cut": ("failed", "measure", "no_complete_vertebra"),
    }
    assert len(studies) == len(STUDIES)


def test_patients_are_all_there_once_with_a_decision_or_a_reason(results):
    patients = table(results, "patients").set_index("patient_id")
    assert sorted(patients.index) == sorted({study.patient for study in STUDIES})
    decided = patients.loc[patients["decision_reason"].isna(), "decision"].to_dict()
    assert decided == dict.fromkeys(["whole", "trained", "twice", "undated"], "reduced")
    assert patients["decision_reason"].dropna().to_dict() == {
        "truncated": "truncated",
        "boneless": "no_vertebra",
        "uncropped": "no_vertebra",
        "localizer": "localizer",
        "cut": "no_complete_vertebra",
        "metal": "no_complete_vertebra",
        "unpredicted": "no_prediction",
        "near": "near_cut",
        "bright": "hu_out_of_range",
    }
    assert sorted(patients.index[patients["decision"] == "indeterminate"]) == ["bright", "near"]
    assert {name: list(codes) for name, codes in patients["novelty"].items() if len(codes)} == {
        "bright": ["hu_out_of_range"]
    }
    studies = table(results, "studies").set_index("study_id")
    assert {name: list(codes) for name, codes in studies["novelty"].items() if len(codes)} == {
        "bright": ["hu_out_of_range"]
    }


def test_a_patients_row_stands_on_the_right_study_levels_and_folds(results):
    patients = table(results, "patients").set_index("patient_id")
    assert patients.loc["whole", "vbmd_mg_cm3"] == 115 and patients.loc["whole", "grade"] == "low"
    assert patients.loc["trained", "vbmd_mg_cm3"] == 120 and patients.loc["trained", "grade"] == "normal"
    assert {name: list(levels) for name, levels in patients["levels_used"].items()}["trained"] == ["L3", "T12"]
    assert patients.loc["trained", "level_uncertain"] and not patients.loc["whole", "level_uncertain"]
    assert patients.index[patients["in_training"]].tolist() == ["trained"]
    rows = patients.to_dict("index")
    assert (rows["trained"]["vbmd_low"], rows["trained"]["vbmd_high"]) == (99, 141)
    assert (rows["whole"]["vbmd_low"], rows["whole"]["vbmd_high"]) == (85, 145)
    assert rows["whole"]["interval_group"] == "all patients"
    assert rows["whole"]["probability_reduced"] == pytest.approx(3**0.5 / (1 + 3**0.5))
    assert rows["whole"]["joint_probability_reduced"] == pytest.approx(0.75)
    assert rows["whole"]["fold_spread_mg_cm3"] == pytest.approx(10 / 2**0.5)
    assert pd.isna(rows["trained"]["fold_spread_mg_cm3"])
    assert (patients.loc["twice", "study_id"], patients.loc["twice", "days_from_scan"]) == ("second", -10)
    assert patients["qct_vbmd_mg_cm3"].dropna().to_dict() == {"whole": 97.0, "twice": 130.0}
    assert patients["qct_reduced"].dropna().to_dict() == {"whole": True, "twice": False}


def test_what_is_unknown_is_null_and_never_zero(results):
    patients = table(results, "patients").set_index("patient_id")
    numbers = ["vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "hu_baseline_vbmd_mg_cm3"]
    nothing = ["truncated", "boneless", "uncropped", "localizer", "cut", "metal"]
    assert patients.loc[nothing, [*numbers, "trabecular_hu", "grade", "level_uncertain"]].isna().all(axis=None)
    assert not (patients[numbers] == 0).any(axis=None)
    assert patients.loc["metal", "study_id"] == "metal" and patients["study_id"].isna()["cut"]


def test_labels_keep_their_fate(results):
    labels = table(results, "labels")
    reasons = {(row["patient_id"], row["days_from_first_study"]): row["reason"] for _, row in labels.iterrows()}
    assert pd.isna(reasons.pop(("whole", 5)))
    assert pd.isna(reasons.pop(("twice", 390)))
    assert sorted(reasons.values()) == ["bad_level", "label_too_far", "no_scan", "no_scan", "superseded"]


def test_failures_hold_files_series_and_studies(results):
    failures = table(results, "failures")
    kinds = failures["n_files"].notna().map({True: "files", False: ""}).where(failures["n_files"].notna(), None)
    kinds = kinds.fillna(failures["series_id"].notna().map({True: "series", False: "study"}))
    counts = kinds.value_counts().to_dict()
    assert counts == {"series": len(STUDIES) + 1, "study": 5, "files": 1}
    assert failures.loc[failures["stage"] == "convert", "detail"].tolist() == ["3 of 90"]
    assert set(failures["reason"]) <= set(REASONS)


def test_a_cohort_without_a_study_has_empty_tables_of_the_same_types(results):
    assert len(table(results, "patients", "ext")) == 1
    for name in ("vertebrae", "predictions", "labels"):
        path = results / "tables" / name / "cohort=ext" / f"{name}.parquet"
        assert pq.read_metadata(path).num_rows == 0
        # Parquet names the items of a list otherwise than Arrow: the cast mends it, and nothing else differs.
        schema = tables.in_partition(tables.PUBLIC[name])
        assert tables.read_columns(path).cast(schema).schema == schema
        assert [(field.name, field.metadata) for field in pq.read_schema(path)] == [
            (field.name, field.metadata) for field in schema
        ]


@pytest.mark.parametrize(
    "studies",
    [
        [],
        [Study("refused", "refused", fails=("index", "too_short"))],
        [Study("gone", "gone", fails=("index", "vanished"))],
        [Study("gone", "gone", fails=("index", "vanished")), Study("refused", "refused", fails=("index", "not_ct"))],
    ],
    ids=["empty", "refused", "gone", "both"],
)
@pytest.mark.parametrize("role", ["development", "external", "screening"])
def test_cohorts_without_an_accepted_study_end_with_their_tables_and_reasons(tmp_path, studies, role):
    write_bundle(tmp_path / "model", SPLITS)
    labels = [dict(patient_id="nobody", level="L1", vbmd_mg_cm3=99.0, days_from_first_study=None)]
    no_scan = labels[0] | {"status": "unused", "reason": "no_scan"}
    write_cohort(tmp_path / "results", "alone", studies, [no_scan], "", {})
    run(tmp_path / "results", cohorts=[aggregate.Cohort("alone", role, False)])
    kept = {name: table(tmp_path / "results", name, "alone") for name in tables.PUBLIC if name not in tables.WHOLE}
    reasons = {study.name: study.fails[1] for study in studies if study.fails}
    assert dict(zip(kept["studies"]["study_id"], kept["studies"]["reason"], strict=True)) == reasons
    assert set(kept["failures"]["study_id"].dropna()) == set(reasons)
    assert list(kept["patients"]["patient_id"]) == [name for name, reason in reasons.items() if reason != "vanished"]
    assert len(kept["vertebrae"]) == len(kept["predictions"]) == 0
    assert list(kept["labels"]["reason"]) == ["no_scan"]
    reached = kept["flow"][kept["flow"]["reason"].isna()]
    assert set(reached["unit"]) == {"series", "studies", "patients"}
    assert reached.loc[reached["step"] == "measured", "n"].tolist() == [0, 0]


def test_studies_that_are_gone_keep_their_rows_and_are_not_found(tmp_path):
    gone = ("index", "vanished")
    studies = [
        *(Study("left", name, fails=gone) for name in ("left1", "left2")),
        Study("stays", "here", vertebrae=good("L1", "L2")),
        Study("stays", "there", fails=gone),
        Study("damaged", "damaged", fails=("convert", "vanished")),
    ]
    write_bundle(tmp_path / "model", SPLITS)
    model = bundle.read(tmp_path / "model").model_id
    write_cohort(tmp_path / "results", "alone", studies, [], model, {})
    run(tmp_path / "results", cohorts=[aggregate.Cohort("alone", "external", False)])
    rows = table(tmp_path / "results", "studies", "alone")
    assert set(rows.loc[rows["reason"] == "vanished", "study_id"]) == {"left1", "left2", "there", "damaged"}
    assert list(table(tmp_path / "results", "patients", "alone")["patient_id"]) == ["damaged", "stays"]
    flow = table(tmp_path / "results", "flow", "alone")
    found = flow[(flow["step"] == "found") & flow["reason"].isna()].set_index("unit")["n"]
    assert found[["studies", "patients"]].tolist() == [2, 2]


def test_readers_find_the_cohort_in_the_folders_name(results):
    folder = results / "tables" / "patients"
    assert sorted(pd.read_parquet(folder)["cohort"].unique()) == ["dev", "ext"]
    for options in ({"partitioning": "hive"}, {"partitioning": "hive", "schema": tables.PATIENTS}):
        rows = ds.dataset(folder, **options).to_table(filter=ds.field("cohort") == "ext")
        assert rows["cohort"].to_pylist() == ["ext"]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*/cohort=*/*.parquet"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_two_runs_give_the_same_bytes_and_one_record(results):
    before = digests(results / "tables")
    run(results)
    assert len(before) == 16 and digests(results / "tables") == before
    (row,) = tables.read(results / "tables" / "runs" / "runs.parquet", tables.RUNS).to_pylist()
    assert row["started"] <= row["finished"] and row["model_id"].startswith("test-")
    assert not list(results.glob(".*"))


@pytest.mark.slow
def test_batches_and_buckets_of_any_size_give_the_same_bytes(results, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "SHARDS_PER_BATCH", 1)
    monkeypatch.setattr(buckets, "PATIENTS_PER_BUCKET", 2)
    monkeypatch.setattr(buckets, "ROWS_AT_ONCE", 3)
    run(results, tmp_path)
    assert digests(tmp_path / "tables") == digests(results / "tables")


def test_row_groups_have_one_size_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "ROWS_PER_GROUP", 4)
    plain = dict.fromkeys(tables.LABELS.names) | {"cohort": "c", "patient_id": "p", "status": "used", "faults": []}
    whole = tables.cast([plain | {"line": i} for i in range(10)], tables.LABELS)
    cuts = [0, 1, 1, 3, 9, 10]
    with table_files.table_writer(tmp_path, "labels", "c") as table:
        for first, last in itertools.pairwise(cuts):
            table.add(whole.slice(first, last - first))
    path = table_files.table_path(tmp_path, "labels", "c")
    meta = pq.read_metadata(path)
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [4, 4, 2]
    assert tables.read(path, tables.LABELS).equals(whole)


def test_what_a_study_left_in_a_shard_that_it_has_left_counts_nowhere(results, copy, tmp_path):
    model = bundle.read(copy.parent / "model").model_id
    left = [
        Study("twice", "first", vertebrae={"L1": {"trabecular_hu_mean": 20.0, "vbmd": 20.0}, "L4": {}}),
        Study("near", "near", fails=("segment", "mask_missing")),
    ]
    in_first_shard = [study for study in STUDIES if study.shard == "00000" and study.status == "accepted"]
    write_shard(copy / "dev", "00000", "dev", [*in_first_shard, *left], model, SPLITS)
    run(copy, tmp_path / "again")
    assert digests(tmp_path / "again" / "tables") == digests(results / "tables")


def test_a_scan_that_is_there_twice_counts_once_over_patients_shards_and_cohorts(copy):
    def person(name: str, digests: str, **values) -> Study:
        return Study(name, f"{name} scan", vertebrae=good("L1"), digests=tuple(digests), **values)

    of_dev = [person("p", "ab"), person("q", "bc", n_slices=80, shard="00001"), person("r", "xyz")]
    of_dev += [replace(person("q", "def", shard="00001"), name="q alone"), replace(person("p", "ab"), name="p twice")]
    of_ext = [person("p", "ab"), person("s", "a"), person("u", "st"), person("v", "su", n_slices=99)]
    model = bundle.read(copy.parent / "model").model_id
    label = dict(level="L1", vbmd_mg_cm3=97.0, days_from_first_study=0)
    write_cohort(copy, "dev", of_dev, [label | {"patient_id": name} for name in "pq"], model, SPLITS)
    write_cohort(copy, "ext", of_ext, [label | {"patient_id": name} for name in "su"], model, SPLITS)
    run(copy)
    for cohort, expected in {
        "dev": {"p twice": "same_scan", "q scan": "same_scan", "q alone": "same_person"},
        "ext": {"s scan": "same_scan", "v scan": "same_scan"},
    }.items():
        studies = table(copy, "studies", cohort).set_index("study_id")
        assert studies["reason"].dropna().to_dict() == expected
        assert set(studies.loc[list(expected), "stage"]) == {"convert"}
        for name in ("vertebrae", "predictions"):
            assert not set(table(copy, name, cohort)["study_id"]) & expected.keys()
        failures = table(copy, "failures", cohort)
        details = set(failures.loc[failures["reason"] == "same_scan", "detail"])
        assert details == ({"counts as study p scan"} | ({"counts as study u scan"} if cohort == "ext" else set()))
        patients = table(copy, "patients", cohort).set_index("patient_id")
        counted = {study.patient for study in (of_dev if cohort == "dev" else of_ext)} - {"q", "s", "v"}
        assert set(patients.index[patients["study_id"].notna()]) == counted
        flagged = np.array(["same_scan" in flags for flags in patients["flags"]])
        assert set(patients.index[flagged]) == {"p", "u"} & set(patients.index)
        assert (patients.loc[flagged, "quality"] == "limited").all()
        assert set(patients.index[patients["qct_vbmd_mg_cm3"].notna()]) == ({"p"} if cohort == "dev" else {"u"})
        assert set(table(copy, "labels", cohort)["reason"].dropna()) == {"no_scan"}
    calibrations = tables.read(copy / "tables/calibrations/calibrations.parquet", tables.CALIBRATIONS)
    assert calibrations["n"].to_pylist() == [1]


def test_a_scan_of_the_training_is_known_under_another_id(copy):
    studies = [
        Study("known", "known scan", vertebrae=good("L1"), digests=("a", "b")),
        Study("new", "new scan", vertebrae=good("L1"), digests=("x", "y")),
    ]
    model = bundle.read(write_bundle(copy.parent / "model", SPLITS, "b", "c")).model_id
    write_cohort(copy, "ext", studies, [], model, SPLITS)
    run(copy)
    patients = table(copy, "patients", "ext").set_index("patient_id")
    assert patients["in_training"].to_dict() == {"known": True, "new": False}


def test_what_may_pass_is_asked_for_again_as_long_as_it_stands(copy):
    def retries_after(**reasons: str) -> Retries:
        studies = [Study(name, name, fails=("convert", reason)) for name, reason in reasons.items()]
        model = bundle.read(copy.parent / "model").model_id
        write_cohort(copy, "dev", [Study("whole", "whole", vertebrae=good("L1")), *studies], [], model, SPLITS)
        (copy / "dev/convert/00001.parquet").unlink(missing_ok=True)
        run(copy)
        return read_retries(copy / "dev/retries.tsv")

    waits = (Retry("a", "00000", "unreadable"), Retry("b", "00000", "vanished"))
    assert retries_after(a="unreadable", b="vanished", c="mask_missing", d="truncated") == Retries(1, waits)
    assert retries_after(a="changed") == Retries(2, (Retry("a", "00000", "changed"),))
    assert retries_after(c="mask_missing", d="lossy") == Retries(2)
    assert retries_after() == Retries(2)
    assert read_retries(copy / "ext/retries.tsv") == Retries()


def test_a_run_that_was_killed_leaves_nothing_behind(copy):
    left = copy / ".staging.1.trabecula-unfinished/parts/dev.00000.vertebrae.arrow"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    run(copy)
    assert not list(copy.glob(".*"))


def test_a_job_of_a_killed_driver_that_still_works_mixes_nothing_into_the_tables(copy, monkeypatch):
    run(copy)
    expected, write_tables = digests(copy / "tables"), aggregate.out_of_core.write_tables

    def write_with_other_at_work(*args: Any, **options: Any) -> None:
        other = copy / ".staging.1.trabecula-unfinished/tables/studies/cohort=dev/studies.parquet"
        write_tables(*args, **options)
        other.parent.mkdir(parents=True)
        other.write_bytes(b"of earlier inputs")

    monkeypatch.setattr(aggregate.out_of_core, "write_tables", write_with_other_at_work)
    run(copy)
    assert digests(copy / "tables") == expected


@pytest.mark.parametrize("n", [1, 3, 7])
def test_buckets_hold_every_row_once_in_its_patients_range(tmp_path, n):
    patients = [*(f"p{i % 5}" for i in range(23)), None]
    plain = dict.fromkeys(tables.FAILURES.names, "x") | {"stage": "index", "reason": "unreadable"}
    rows = [plain | {"patient_id": patient, "n_files": i} for i, patient in enumerate(patients)]
    path = tmp_path / "c" / "index" / "failures.parquet"
    tables.write(rows, tables.FAILURES, path)
    starts = ["p1", "p2", "p3", "p4"][n - 1 :: n]
    paths = buckets.split(path, tables.FAILURES, tmp_path, starts=starts)
    read = [buckets.read(paths, k, tables.FAILURES).to_pandas() for k in range(len(starts) + 1)]
    assert sorted(pd.concat(read)["n_files"]) == list(range(24))
    for k, rows in enumerate(read):
        assert all(sum(start <= patient for start in starts) == k for patient in rows["patient_id"].dropna())
        assert rows.groupby("patient_id")["n_files"].is_monotonic_increasing.all()


def rewrite(path: Path, schema: pa.Schema, change) -> None:
    tables.write(change(tables.read(path, schema).to_pylist()), schema, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "schema", "change", "message"),
    [
        ("convert/00000", "CONVERT", lambda rows: rows[1:], "segment did not see"),
        ("convert/00000", "CONVERT", lambda rows: rows[:2] + rows[3:], "hold different studies"),
        ("segment/00001", "SEGMENT", lambda rows: rows[1:], "segment did not see"),
        ("measure/00000", "MEASURE", lambda rows: rows[1:], "crop and measure hold different"),
        ("infer/00000", "INFER", lambda rows: [*rows, rows[0]], "a prediction is there twice"),
        ("infer/00000", "INFER", lambda rows: [row | {"model_id": "other"} for row in rows], "another model"),
        ("infer/00000", "INFER", lambda rows: [row | {"fold": 0} for row in rows[-1:]], "whom it was trained on"),
        ("infer/00000", "INFER", lambda rows: [row | {"fold": row["fold"] + 1} for row in rows], "task or fold"),
        ("infer/00000", "INFER", lambda rows: rows[1:], "not predicted for every task"),
        ("index/series", "SERIES", lambda rows: rows[1:], "accepted series and accepted studies differ"),
        ("index/series", "SERIES", lambda rows: [*rows, rows[0]], "a series is there twice"),
        ("index/studies", "STUDIES", lambda rows: rows[1:], "accepted series and accepted studies differ"),
        ("index/studies", "STUDIES", lambda rows: [row | {"shard": "00000"} for row in rows], "hold different studies"),
    ],
)
def test_what_does_not_add_up_crashes_and_writes_nothing(copy, file, schema, change, message):
    if "trained on" in message:
        change = lambda rows: [row | {"fold": 0} for row in rows if row["patient_id"] == "trained"]  # noqa: E731
    rewrite(copy / "dev" / f"{file}.parquet", getattr(tables, schema), change)
    with pytest.raises(AssertionError, match=message):
        run(copy)
    assert not digests(copy / "tables")


def test_verdicts_count_before_levels_are_chosen(copy, tmp_path):
    lines = ["study_id,level,verdict,new_level,centroid_z_mm", "whole,L1,reject,,2", "trained,L3,relabel,L4"]
    lines += ["nowhere,L1,accept,", "whole,L2,reject,,-28"]
    path = tmp_path / "verdicts.csv"
    path.write_text("\n".join(lines) + "\n")
    run(copy, reviewed=path)
    patients = table(copy, "patients").set_index("patient_id")
    used = {name: list(levels) for name, levels in patients["levels_used"].items()}
    assert used["whole"] == ["L2", "L3"] and used["trained"] == ["T12", "L4"] and used["twice"] == ["L1"]
    assert patients.index[patients["reviewed"]].tolist() == ["trained", "whole"]
    studies = table(copy, "studies").set_index("study_id")
    assert studies["levels_used"].map(list)["whole"] == ["L2", "L3"] and studies["levels_used"].map(len)["cut"] == 0
    assert studies["vbmd_mg_cm3"]["whole"] == patients["vbmd_mg_cm3"]["whole"]
    vertebrae = table(copy, "vertebrae").set_index(["study_id", "level_found"])
    assert vertebrae["verdict"].dropna().to_dict() == {("trained", "L3"): "relabel", ("whole", "L1"): "reject"}
    assert vertebrae.loc[("trained", "L3"), "level"] == "L4"
    predictions = table(copy, "predictions")
    assert set(predictions.loc[predictions["study_id"] == "trained", "level"]) == {"T12", "L1", "L2", "L4"}
    rows = tables.read(copy / "tables" / "verdicts" / "verdicts.parquet", tables.VERDICTS).to_pylist()
    assert [(row["study_id"], row["status"]) for row in rows] == [
        ("whole", "used"), ("trained", "used"), (None, "unused"), ("whole", "unused")
    ]  # fmt: skip
    assert [row["reason"] for row in rows] == [None, None, "no_such_vertebra", "segmentation_changed"]


def test_cubes_stay_on_disk(copy):
    path = copy / "dev" / "crop" / "00000.arrow"
    facts = read_facts(path)
    assert set(facts.column_names) == {field.name for field in tables.crop_schema(16, 1.0)} - {"ct", "label"}
    assert facts.num_rows == 7


def test_lists_of_shards_that_differ_are_refused(copy):
    paths = {stage: [str(path) for path in files] for stage, files in shard_paths(copy).items()}
    with pytest.raises(AssertionError, match="disagree about shard"):
        aggregate.list_shards(**paths | {"infer": paths["infer"][::-1]})


def test_rows_of_a_batch_come_by_patient_study_and_level(copy, results):
    write_shard(copy / "dev", "00000", "dev", [Study("p", "p", vertebrae=good("L2", "T12", "L10"[:2]))], "m", {})
    vertebrae = table(results, "vertebrae")
    assert vertebrae.loc[vertebrae["study_id"] == "trained", "level"].tolist() == ["T12", "L1", "L2", "L3"]


def test_densities_from_hu_carry_their_method_and_a_reason_where_there_is_none(results):
    for name, hu in (("vertebrae", "trabecular_hu_mean"), ("patients", "trabecular_hu")):
        rows = table(results, name)
        has_density = rows["vbmd_hu_mg_cm3"].notna()
        assert has_density.any()
        assert (has_density == rows[hu].notna()).all()
        assert (has_density == rows["calibration_reason"].isna()).all()
        assert set(rows["calibration"]) == {"phantomless"}
    lines = tables.read(results / "tables" / "calibrations" / "calibrations.parquet", tables.CALIBRATIONS).to_pandas()
    assert lines["reason"].tolist() == ["too_few_labels"]


def test_networks_and_hu_stand_on_the_same_vertebrae():
    vertebrae = pa.table({"study_id": ["st0", "st0", "st1"], "level": ["T11", "T12", "L1"]})
    predicted = pa.table({"study_id": ["st0"], "level": ["T12"]})
    kept = vertebra_tables.comparable(vertebrae, predicted)
    assert kept.to_pylist() == [{"study_id": "st0", "level": "T12"}, {"study_id": "st1", "level": "L1"}]


# --- patients whom the training knew under an earlier pseudonym ---------------------------------------------------

KNOWN = {"old": 0, "older": 1, "same": 1}


@pytest.fixture(scope="module")
def corrected(tmp_path_factory) -> Path:
    """Folder of results of patients with earlier pseudonyms, whom the networks predicted by the present ones."""
    folder = tmp_path_factory.mktemp("corrected")
    model = bundle.read(write_bundle(folder / "model", KNOWN)).model_id
    vertebrae = {"L1": {}, "L2": {}}
    development = [
        Study("renamed", "one", vertebrae=vertebrae, earlier=("old", "unheard")),
        Study("merged", "two", vertebrae=vertebrae, earlier=("old", "older")),
        Study("same", "three", vertebrae=vertebrae, earlier=("older",)),
        Study("moved", "four", vertebrae=vertebrae),
        Study("new", "five", vertebrae=vertebrae, earlier=("unheard",)),
    ]
    write_cohort(folder / "results", "dev", development, [], model, KNOWN)
    external = [Study("moved", "six", vertebrae=vertebrae, earlier=("older",))]
    write_cohort(folder / "results", "ext", external, [], model, KNOWN)
    run(folder / "results")
    return folder / "results"


def test_a_patient_of_the_training_is_held_out_under_any_earlier_pseudonym_in_every_cohort(corrected):
    predictions = table(corrected, "predictions")
    folds = predictions.groupby("patient_id")["fold"].unique().map(sorted).to_dict()
    assert folds == {"renamed": [0], "same": [1], "moved": [1], "new": [0, 1]}
    marked = predictions.groupby("patient_id")["in_training"].unique().map(list).to_dict()
    assert marked == {"renamed": [True], "same": [True], "moved": [True], "new": [False]}
    assert table(corrected, "predictions", "ext")["fold"].unique().tolist() == [1]
    patients = table(corrected, "patients").set_index("patient_id")
    assert patients["in_training"].to_dict() == dict(renamed=True, merged=True, same=True, moved=True, new=False)
    assert table(corrected, "patients", "ext")["in_training"].tolist() == [True]


def test_a_patient_whom_every_network_may_have_seen_has_no_prediction_and_no_baseline(corrected):
    rows = {row["patient_id"]: row for row in table(corrected, "patients").to_dict("records")}
    merged, renamed = rows["merged"], rows["renamed"]
    assert (merged["decision"], merged["decision_reason"]) == ("not_evaluable", "no_prediction")
    unknown = ("vbmd_mg_cm3", "hu_baseline_vbmd_mg_cm3", "probability_reduced")
    assert [pd.isna(merged[name]) for name in unknown] == [True] * 3 and merged["trabecular_hu"] == 100
    assert (renamed["vbmd_mg_cm3"], renamed["hu_baseline_vbmd_mg_cm3"]) == (110, 100)
