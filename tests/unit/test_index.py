"""What an index finds, chooses, keeps and hides."""

import random
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ct_files import axial_stack, save, save_all
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import SecondaryCaptureImageStorage

from trabecula import index, linkage, shards, tables
from trabecula.index import choose, facts, headers, rows, scan
from trabecula.index.stacks import Header, Stack, stacks_of, without_copies
from trabecula.signature import signature

GATES = {"min_slices": 12, "min_extent_mm": 80, "max_spacing_mm": 5.5}
CT = "1.2.840.10008.5.1.4.1.1.2"


def header(k: int = 0, **changes) -> Header:
    """Slice k of a CT that nothing speaks against."""
    plain = Header(
        path=f"{k:03d}",
        size=1,
        mtime_ns=1,
        positions_mm=[0.0, 0.0, 2.5 * k],
        orientation=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        pixel_spacing_mm=[0.8, 0.8],
        patient="P",
        study_uid="1.1",
        series_uid="1.1.1",
        instance_uid=f"1.1.1.{k}",
        sop_class=CT,
        modality="CT",
        image_type="ORIGINAL\\PRIMARY\\AXIAL",
        kernel="STANDARD",
        kvp=120.0,
        rows=512,
        columns=512,
        slope=1.0,
        intercept=-1024.0,
        study_date="20200102",
    )
    return replace(plain, **changes)


def stack(n: int = 60, spacing_mm: float = 2.5, **changes) -> Stack:
    slices = (header(k, positions_mm=[0.0, 0.0, spacing_mm * k]) for k in range(n))
    return Stack("P", "1.1", "1.1.1", 0, tuple(replace(part, **changes) for part in slices))


def places(folder: Path, archive: Path, labels: Path | None = None) -> index.Places:
    return index.Places(archive, labels, folder / "results/test", folder / "private")


def run(where: index.Places, **changes) -> None:
    options = {"shard_size": 2, "min_slices": 4, "min_extent_mm": 10, "max_spacing_mm": 5.5, "workers": 1}
    index.index_cohort(where, cohort="test", synthetic=False, scheduler=None, **options | changes)


def read(where: index.Places, name: str) -> list[dict]:
    return tables.read(where.public / f"index/{name}.parquet", tables.PUBLIC[name]).to_pylist()


def add_study(archive: Path, number: int, **attributes) -> None:
    uid = f"1.2.3.{number}"
    plain = {"PatientID": f"HOSPITAL-{number}", "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
    save_all(axial_stack(), archive / f"study{number}", **plain | attributes)


# --- single headers -----------------------------------------------------------------------------------


def test_a_header_is_read_by_an_allow_list(tmp_path):
    path = save(axial_stack(1)[0], tmp_path / "x")
    (record,) = headers.read_headers([str(path)])
    assert record["reason"] is None and record["patient"] == "HOSPITAL-4711" and record["rows"] == 20
    assert record["positions_mm"] == [-17.0, -20.0, -30.0] and record["image_type"] == "ORIGINAL\\PRIMARY\\AXIAL"
    assert "Maria" not in str(record)


def test_what_is_no_image_has_a_reason(tmp_path):
    (tmp_path / "text").write_text("not DICOM" * 99)
    (tmp_path / "empty").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    whole = save(axial_stack(1)[0], tmp_path / "cut")
    whole.write_bytes(whole.read_bytes()[:-100])
    paths = [str(tmp_path / name) for name in ("text", "empty", "gone", "cut")]
    assert [record["reason"] for record in headers.read_headers(paths)] == [
        "not_dicom",
        "not_dicom",
        "unreadable",
        "truncated",
    ]


def test_damaged_headers_never_crash(tmp_path):
    rng = random.Random(3)
    whole = save(axial_stack(1)[0], tmp_path / "x").read_bytes()[:900]
    for _ in range(300):
        damaged = bytearray(whole[: rng.randrange(1, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "x").write_bytes(damaged)
        (record,) = headers.read_headers([str(tmp_path / "x")])
        scan._table([("x", 1, 1)], [record])


# --- stacks and choice ----------------------------------------------------------------------------------


def test_nothing_speaks_against_a_plain_ct():
    assert choose.reason_against(stack(), **GATES) is None


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("not_ct", stack(modality="MR")),
        ("not_ct", stack(modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.67")),
        ("secondary_capture", stack(sop_class=SecondaryCaptureImageStorage)),
        ("secondary_capture", stack(image_type="DERIVED\\SECONDARY\\OTHER\\CT_SOM5 PROT")),
        ("localizer", stack(image_type="ORIGINAL\\PRIMARY\\LOCALIZER")),
        ("no_geometry", stack(positions_mm=None)),
        ("no_geometry", stack(pixel_spacing_mm=None)),
        ("lossy", stack(lossy="01")),
        ("no_rescale", stack(slope=None)),
        ("head_or_extremity", stack(body_part="HEAD")),
        ("head_or_extremity", stack(description="CT Brain w/o")),
        ("not_axial", stack(orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])),
        ("too_few_slices", stack(n=8)),
        ("too_short", stack(n=20)),
        ("too_thick", stack(spacing_mm=8.0)),
    ],
)
def test_each_gate_has_its_reason(reason, refused):
    assert choose.reason_against(refused, **GATES) == reason


def test_a_hole_and_unevenness_are_reasons():
    whole = stack()
    assert (
        choose.reason_against(replace(whole, headers=whole.headers[:30] + whole.headers[31:]), **GATES)
        == "missing_slices"
    )
    moved = replace(whole.headers[30], positions_mm=[0.0, 0.0, 2.5 * 30 + 1])
    uneven = replace(whole, headers=(*whole.headers[:30], moved, *whole.headers[31:]))
    assert choose.reason_against(uneven, **GATES) == "irregular_spacing"


def test_words_for_the_trunk_outweigh_words_for_elsewhere():
    assert choose.reason_against(stack(body_part="CHEST", description="arms up, head first"), **GATES) is None


def test_derived_without_kernel_is_acceptable_and_scores_less():
    derived = stack(image_type="DERIVED\\SECONDARY\\PROCESSED", kernel=None)
    assert choose.reason_against(derived, **GATES) is None
    assert choose.score(derived) < choose.score(stack())


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (stack(n=120, spacing_mm=1.25), stack(n=30, spacing_mm=5.0)),
        (stack(kernel="STANDARD"), stack(kernel="BONE")),
        (stack(kernel="Br40d"), stack(kernel="Br64d")),
        (stack(n=160), stack(n=60)),
        (stack(kvp=120.0), stack(kvp=80.0)),
        (stack(contrast=None), stack(contrast="OMNIPAQUE")),
    ],
)
def test_the_score_prefers(better, worse):
    assert choose.score(better) > choose.score(worse)
    assert choose.best([worse, better]) is better


@pytest.mark.parametrize(
    ("kernel", "softness"),
    [
        *[(name, 1.0) for name in ("B30f", "Br40d\\3", "I31f", "STANDARD", "FC08", "B")],
        *[(name, 0.0) for name in ("B60f", "Br64d", "BONE", "LUNG", "FC51", "YC")],
        *[(name, 0.5) for name in (None, "", "DETAIL")],
    ],
)
def test_kernels_are_soft_or_sharp_by_their_makers_names(kernel, softness):
    assert choose.softness(kernel) == softness


def test_copies_are_counted_and_left_out():
    kept, copies = without_copies([header(0), header(1), header(1, path="again")])
    assert [part.path for part in kept] == ["000", "001"] and [part.path for part in copies] == ["again"]


def test_slices_that_differ_are_stacks_of_their_own():
    odd = header(9, rows=256), header(10, kernel="BONE"), header(11, orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    found = stacks_of([*(header(k) for k in range(5)), *odd])
    assert sorted(len(part.headers) for part in found) == [1, 1, 1, 5]
    assert sorted(part.number for part in found) == [0, 1, 2, 3]


def test_phases_are_parted_and_numbered_slices_are_not():
    phases = [header(k, acquisition=n, instance_uid=f"{n}.{k}") for n in (1, 2) for k in range(5)]
    assert [len(part.headers) for part in stacks_of(phases)] == [5, 5]
    numbered = [header(k, acquisition=k) for k in range(5)]
    assert [len(part.headers) for part in stacks_of(numbered)] == [5]


def test_one_uid_under_two_patients_is_two_studies():
    both = [header(0), header(0, patient="Q", path="q")]
    judged = rows.judge(both, cohort="test", key=b"k", gates=GATES)
    assert len(judged.studies) == 2 and len({part[0].patient_id for part in judged.studies.values()}) == 2


# --- what may be said ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("years", "told"),
    [
        (38.0, {"age": "038Y"}),
        (1.5, {"age": "018M"}),
        (69.9, {"birth_date": "19500202"}),
        (38.0, {"age": "038Y", "birth_date": "19000101"}),
        (90.0, {"age": "097Y"}),
        (None, {"age": "000Y", "birth_date": "20200102"}),
        (None, {"age": "old"}),
        (None, {}),
    ],
)
def test_age(years, told):
    assert facts.age_years(header(**told)) == years


def test_the_device_key_names_what_is_unknown():
    assert facts.device_key(header(manufacturer="GE", kernel=None)) == "GE|?|120|?"


# --- shards: append-only -----------------------------------------------------------------------------------


@given(st.lists(st.sets(st.integers(0, 30), max_size=8), max_size=6), st.integers(1, 5))
def test_growth_never_moves_a_study_nor_touches_a_full_shard(growths, size):
    ledger: dict[str, shards.Entry] = {}
    present: dict[str, shards.Chosen] = {}
    for growth in growths:
        before, texts = dict(ledger), shards.manifests(ledger, present.values())
        new = {f"st{n:02d}": shards.Chosen(f"st{n:02d}", "pa", "se", "f") for n in growth}
        fresh = new.keys() - present.keys()
        present = new | present
        ledger = shards.assign(ledger, present.values(), shard_size=size)
        assert all(ledger[name].shard == entry.shard for name, entry in before.items())
        after = shards.manifests(ledger, present.values())
        assert {shard: after[shard] for shard in texts} == texts  # old lists stay as they are, to the letter
        assert len(after) - len(texts) == -(-len(fresh) // size)
        assert all(count <= size for count in Counter(entry.shard for entry in ledger.values()).values())


def test_a_changed_study_changes_its_own_list_alone():
    studies = [shards.Chosen(f"st{n}", "pa", "se", "f") for n in range(4)]
    ledger = shards.assign({}, studies, shard_size=2)
    changed = [replace(study, fingerprint="g") if study.study_id == "st3" else study for study in studies]
    one, other = shards.manifests(ledger, studies), shards.manifests(ledger, changed)
    assert one["00000"] == other["00000"] and one["00001"] != other["00001"]


# --- a cohort -------------------------------------------------------------------------------------------------


def test_a_cohort_grows_and_shrinks(tmp_path):
    archive = tmp_path / "archive"
    for number in range(3):
        add_study(archive, number)
    where = places(tmp_path, archive)
    run(where)
    lists = where.public / "shards"
    before = {path.name: path.stat().st_mtime_ns for path in lists.iterdir()}
    assert set(before) == {"00000.tsv", "00001.tsv"}
    run(where)
    assert {path.name: path.stat().st_mtime_ns for path in lists.iterdir()} == before
    add_study(archive, 3)
    run(where)
    assert (where.public / "index/shards.txt").read_text().split() == ["00000", "00001", "00002"]
    assert {name: (lists / name).stat().st_mtime_ns for name in before} == before
    chosen = {study.study_id for study in shards.read_manifest(lists / "00002.tsv")}
    for path in (archive / "study3").iterdir():
        path.unlink()
    run(where)
    assert (where.public / "index/shards.txt").read_text().split() == ["00000", "00001"]
    gone = [row for row in read(where, "studies") if row["reason"] == "vanished"]
    assert {row["study_id"] for row in gone} == chosen and gone[0]["shard"] == "00002"


def test_a_known_file_is_not_read_again(tmp_path, monkeypatch):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    read_paths = []
    monkeypatch.setattr(
        headers, "read_headers", lambda paths: read_paths.extend(paths) or [{"reason": "x"}] * len(paths)
    )
    run(where)
    assert read_paths == []
    (tmp_path / "archive/new").write_text("new")
    scan.scan(tmp_path / "archive", scan.read_memory(where.private / "test/files.parquet"), workers=1, scheduler=None)
    assert [Path(path).name for path in read_paths] == ["new"]


def test_dask_reads_what_one_process_reads(tmp_path, monkeypatch):
    for number in range(3):
        add_study(tmp_path, number)
    nothing = scan.FILES.empty_table()
    alone = scan.scan(tmp_path, nothing, workers=1, scheduler=None)
    monkeypatch.setattr(scan, "IN_PROCESS", 0)
    monkeypatch.setattr(scan, "BATCH", 5)
    assert scan.scan(tmp_path, nothing, workers=2, scheduler=None).equals(alone)


def test_labels_are_pseudonymised_and_find_their_patients(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="HOSPITAL-1 ", StudyDate="20200102")
    (tmp_path / "labels.csv").write_text(
        "patient_id,study_date,level,vbmd,unit,device\n"
        "HOSPITAL-1,2020-01-12,L1,110,mg/cm3 HA,x\n"
        "HOSPITAL-9,2020-01-12,L1,120,mg/cm3 HA,x\n"
        "HOSPITAL-1,2020-01-12,L2,much,mg/cm3 HA,x\n"
    )
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    (study,) = read(where, "studies")
    labels = read(where, "labels")
    assert [(row["status"], row["reason"]) for row in labels] == [
        ("used", None),
        ("unused", "no_scan"),
        ("unused", "bad_label"),
    ]
    assert labels[0]["patient_id"] == study["patient_id"] and labels[0]["days_from_first_study"] == 10


def test_days_count_from_the_patients_first_study(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="A", StudyDate="20200102")
    add_study(tmp_path / "archive", 2, PatientID="A", StudyDate="20210102")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert sorted(row["days_from_first_study"] for row in read(where, "studies")) == [0, 366]


def test_no_identity_leaves_the_private_folder(tmp_path):
    add_study(tmp_path / "archive", 4711)
    (tmp_path / "archive/Muster^Maria.txt").write_text("HOSPITAL-4711")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    public = " ".join(
        str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
        for path in where.public.rglob("*")
        if path.is_file()
    )
    assert not [word for word in ("4711", "Muster", "1950", "20200102", "1.2.3.", "HOSPITAL") if word in public]
    for path in where.private.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o600
    files = linkage.read_files(where.private / "test/linkage.parquet", "00000")
    assert [len(paths) for paths in files.values()] == [6]


def test_rejected_studies_and_lost_files_have_rows(tmp_path):
    archive = tmp_path / "archive"
    add_study(archive, 1)
    add_study(archive, 2, Modality="MR")
    save_all(axial_stack(), archive / "anonymous", StudyInstanceUID="", SeriesInstanceUID="")
    (archive / "notes.txt").write_text("text")
    (archive / "empty").mkdir()
    where = places(tmp_path, archive)
    run(where)
    assert sorted((row["status"], row["reason"] or "") for row in read(where, "studies")) == [
        ("accepted", ""),
        ("rejected", "not_ct"),
    ]
    failures = {row["reason"]: row for row in read(where, "failures")}
    assert failures["missing_uid"]["n_files"] == 6 and failures["missing_uid"]["patient_id"] is None
    assert failures["not_dicom"]["n_files"] == 1


def test_an_empty_archive_has_empty_tables(tmp_path):
    (tmp_path / "archive").mkdir()
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert read(where, "series") == [] and (where.public / "index/shards.txt").read_text() == ""


def test_a_folder_that_is_linked_in_a_circle_is_walked_once(tmp_path):
    add_study(tmp_path / "archive", 1)
    (tmp_path / "archive/again").symlink_to(tmp_path / "archive")
    assert len(list(scan.walk(tmp_path / "archive"))) == 6


def test_the_signature_sees_files_come_and_go(tmp_path):
    add_study(tmp_path, 1)
    first = signature(tmp_path)
    assert signature(tmp_path) == first
    (tmp_path / "study1/more").touch()
    assert signature(tmp_path) != first


# --- real archive ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_index(real_data, tmp_path_factory) -> index.Places:
    """All of the real data as one archive."""
    where = places(tmp_path_factory.mktemp("real"), real_data)
    run(where, **GATES)
    return where


def test_no_file_of_a_real_archive_is_lost(real_index, real_data):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    lost = sum(row["n_files"] for row in read(real_index, "failures"))
    assert sum(len(row["files"]) for row in linked) + lost == sum(path.is_file() for path in real_data.rglob("*"))
    assert all(row["accepted"] != bool(row["reason"]) for row in read(real_index, "series"))


def test_both_abdominal_scans_of_a_real_archive_are_chosen_and_nothing_else(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    assert sorted(row["patient"] for row in linked if row["shard"]) == ["CRLM-CT-1004", "CRLM-CT-1006"]


def test_series_of_a_real_archive_have_the_right_reasons(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    reasons = {(row["series_id"], row["stack"]): row["reason"] for row in read(real_index, "series")}
    wanted = {
        "torchio_mr_labelled_ct": {"too_short"},
        "ibsi_sts_018": {"not_ct", "head_or_extremity"},
        "dcm_qa_ct_ge_tilt_variable": {"head_or_extremity"},
        "cornerstone_ct_transfer_syntaxes": {"lossy", "too_few_slices"},
        "monai_ct_dicom_tiny": {"head_or_extremity"},
        "TINY_ALPHA": {"no_geometry"},
    }
    for name, expected in wanted.items():
        found = {reasons[row["series_id"], row["stack"]] for row in linked if f"/{name}/" in row["files"][0]}
        assert found == expected
    lost = {row["reason"]: row["n_files"] for row in read(real_index, "failures") if row["series_id"] is None}
    assert lost["missing_uid"] == 20 and lost["dicomdir"] == 8


def test_facts_of_a_real_scan(real_index):
    ages = {row["age_years"] for row in read(real_index, "studies") if row["status"] == "accepted"}
    assert ages == {38.0, 49.0}
    assert facts.date_of("1994.11.22") == date(1994, 11, 22)
