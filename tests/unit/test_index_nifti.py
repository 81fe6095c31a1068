"""NIfTI files of an archive in the index: records, identities, sidecars, and what becomes of them when files change."""

import errno
import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
from ct_files import axial_stack, save_all
from made_headers import DEFAULTS
from nifti_files import AFFINE, STORAGE, linear_volume, save_nifti, stored_as

from trabecula import index, tables
from trabecula.convert.by_hand import read_folder
from trabecula.dicom.headers.record import NIFTI, ListedFile
from trabecula.index import scan
from trabecula.nifti.records import data_set_of, read_records

SHAPE = (24, 20, 12)


def ct(path: Path, *, shape=SHAPE, affine=AFFINE, **fields) -> Path:
    return save_nifti(linear_volume(shape, affine), path, **fields)


def cohort(folder: Path, name: str = "test", archive: Path | None = None, labels: Path | None = None) -> index.Cohort:
    where = archive or folder / "site_archive"
    return index.Cohort(name, False, where, labels, folder / f"results/{name}", folder / "private")


def run(where: index.Cohort, **changes) -> None:
    gates = DEFAULTS["gates"] | {"min_slices": 4, "min_extent_mm": 10}
    options = DEFAULTS | {"shard_size": 2, "workers": 1, "gates": gates, "max_gap_mm": 10}
    index.index_cohort(where, scheduler=None, **options | changes)


def read(where: index.Cohort, name: str) -> list[dict]:
    return tables.read(where.public / f"index/{name}.parquet", tables.PUBLIC[name]).to_pylist()


def linked(where: index.Cohort) -> list[dict]:
    return pq.read_table(where.private / where.name / "linkage.parquet").to_pylist()


def study_of(where: index.Cohort, ending: str) -> dict:
    (row,) = (row for row in linked(where) if row["files"][0].endswith(ending))
    return next(study for study in read(where, "studies") if study["study_id"] == row["study_id"])


def records(archive: Path, **options) -> list:
    files = sorted(path for path in archive.rglob("*") if path.is_file())
    listed = [ListedFile(str(f.relative_to(archive)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return read_records(str(archive), listed, archives=False, **options)


def test_a_volume_is_a_record_per_slice(tmp_path):
    ct(tmp_path / "p1.nii.gz", dtype="<u2", slope=2, intercept=-1024)
    slices = records(tmp_path)
    assert [header.frame for header in slices] == list(range(12))
    first = slices[0]
    assert (first.rows, first.columns, first.frames, first.samples) == (20, 24, 12, 1)
    assert (first.bits, first.bits_stored, first.high_bit, first.signed) == (16, 16, 15, 0)
    assert (first.slope, first.intercept, first.photometric) == (2, -1024, "MONOCHROME2")
    assert (first.modality, first.transfer_syntax, first.loss) == ("CT", NIFTI, 0)
    assert first.substitute is False and first.reason is None
    np.testing.assert_allclose(np.diff([header.positions_mm for header in slices], axis=0), [[0, 0, 3]] * 11)


@pytest.mark.parametrize(("order", "flips"), STORAGE[::5])
def test_slices_are_the_same_however_a_volume_is_stored(tmp_path, order, flips):
    save_nifti(stored_as(linear_volume(SHAPE), order, flips), tmp_path / "a/p1.nii")
    ct(tmp_path / "b/p1.nii")
    (stored, plain) = (sorted(records(tmp_path / name), key=lambda header: header.positions_mm[2]) for name in "ab")
    for one_slice, other in zip(stored, plain, strict=True):
        np.testing.assert_allclose(one_slice.positions_mm, other.positions_mm, atol=1e-4)
        np.testing.assert_allclose(one_slice.orientation, other.orientation, atol=1e-6)
        np.testing.assert_allclose(one_slice.pixel_spacing_mm, other.pixel_spacing_mm, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"no volume"), "not_nifti"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(50)), "not_nifti"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "truncated"),
        (lambda path: path.write_bytes(gzip.compress(path.read_bytes())[:100]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:252] + bytes(4) + path.read_bytes()[256:]), "no_geometry"),
        (lambda path: ct(path, pixdim=[1, 1.5, 2, 3.5, 0, 0, 0, 0]), "two_geometries"),
        (lambda path: ct(path, dtype="u1"), "eight_bit"),
    ],
)
def test_a_volume_that_can_not_be_used_is_a_study_with_its_reason(tmp_path, damage, reason):
    where = cohort(tmp_path)
    ct(where.archive / "p1.nii")
    damage(where.archive / "p1.nii")
    run(where)
    (study,) = read(where, "studies")
    assert (study["status"], study["reason"]) == ("rejected", reason)
    assert read(where, "failures") == []


def test_a_bomb_is_not_inflated(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((512, 512, 4000))
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.GzipFile(tmp_path / "p1.nii.gz", "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(40):
            file.write(bytes(2**20))
    (record,) = records(tmp_path)
    assert record.reason == "truncated"


def test_layouts_side_by_side_give_each_patient_a_name(tmp_path):
    where = cohort(tmp_path)
    for path in (
        *("bids/sub-01/ses-1/ct/sub-01_ses-1_ct.nii.gz", "bids/sub-01/ses-2/ct/sub-01_ses-2_ct.nii.gz"),
        *("other/sub-01/sub-01_ct.nii.gz", "ts/s0001/ct.nii.gz", "ts/s0002/ct.nii.gz", "nn/imagesTr/c_1_0000.nii.gz"),
        *("flat/001.nii.gz", "flat/002.nii", "flat/anonymous.nii.gz"),
    ):
        ct(where.archive / path)
    for path in (
        "ts/s0001/segmentations/l1.nii.gz",
        "nn/labelsTr/c_1.nii.gz",
        "bids/derivatives/sub-01/sub-01_msk.nii",
    ):
        ct(where.archive / path)
    ct(where.archive / "bids/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    save_all(
        axial_stack(), where.archive / "dicom", PatientID="001", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1"
    )
    run(where)
    rows = linked(where)
    assert len({row["patient"] for row in rows}) == 9
    assert len({row["study_uid"] for row in rows}) == 10
    of_subject = [row for row in rows if "/bids/" in row["files"][0]]
    assert len(of_subject) == 3 and len({row["patient_id"] for row in of_subject}) == 1
    assert len({row["study_id"] for row in of_subject}) == 2
    failures = {row["reason"]: row["n_files"] for row in read(where, "failures")}
    assert failures == {"label_map": 3}
    flags = {
        row["files"][0].rpartition("/")[2]: study_of(where, row["files"][0])["flags"] for row in rows if row["chosen"]
    }
    assert [name for name, listed in flags.items() if "substitute_ids" in listed] == ["anonymous.nii.gz"]
    assert [row["reason"] for row in read(where, "series") if row["modality"] == "MR"] == ["not_ct"]


def test_labels_name_subjects_as_their_files_do(tmp_path):
    labels = tmp_path / "labels.csv"
    lines = [f"{name},2020-01-01,L1,100,mg/cm3 HA" for name in ("sub-01", "s0001", "001", "002")]
    labels.write_text("\n".join(["patient_id,study_date,level,vbmd,unit", *lines]) + "\n")
    where = cohort(tmp_path, labels=labels)
    for path in ("sub-01_ct.nii.gz", "s0001/ct.nii.gz", "a/001.nii.gz", "b/001.nii.gz"):
        ct(where.archive / path)
    run(where)
    reasons = [row["reason"] for row in read(where, "labels")]
    assert reasons == [None, None, "ambiguous_patient", "no_scan"]


def test_equal_ids_of_two_archives_are_two_patients_and_a_moved_archive_keeps_its_names(tmp_path):
    names = {}
    for place in ("first/nifti", "second/nifti", "moved/first/nifti"):
        archive = tmp_path / place
        ct(archive / "001.nii.gz")
        where = cohort(tmp_path, place.replace("/", "_"), archive)
        run(where)
        (study,) = read(where, "studies")
        names[place] = study["patient_id"], study["study_id"]
    assert names["first/nifti"] == names["moved/first/nifti"]
    assert set(names["first/nifti"]).isdisjoint(names["second/nifti"])


def test_an_archive_that_was_renamed_is_as_from_nothing(tmp_path):
    where = cohort(tmp_path, archive=tmp_path / "old")
    ct(where.archive / "001.nii.gz")
    ct(where.archive / "anonymous.nii.gz")
    run(where)
    before = {row["study_uid"] for row in linked(where)}
    where.archive.rename(tmp_path / "new")
    ct(tmp_path / "new/sub/002.nii.gz")
    renamed = cohort(tmp_path, archive=tmp_path / "new")
    run(renamed)
    assert {row["patient"].partition("\\")[2] for row in linked(renamed)} == {"NIfTI:new/", "NIfTI:new/sub", ""}
    assert len(linked(renamed)) == 3 and before.isdisjoint(row["study_uid"] for row in linked(renamed))


def test_files_that_come_change_no_other_names(tmp_path):
    where = cohort(tmp_path)
    ct(where.archive / "p1/CT_1.nii.gz")
    ct(where.archive / "sub-1/sub-1_ct.nii.gz")
    run(where)
    before = {row["files"][0]: row["series_id"] for row in linked(where)}
    for path in ("p1/CT_2.nii.gz", "p2/CT_1.nii.gz", "sub-1/ses-2/sub-1_ses-2_ct.nii.gz", "rawdata/sub-1_ct.nii"):
        ct(where.archive / path)
    run(where)
    after = {row["files"][0]: row["series_id"] for row in linked(where)}
    assert after.items() > before.items() and len(set(after.values())) == 6


def test_a_file_beside_its_packed_copy_is_one_scan(tmp_path):
    where = cohort(tmp_path)
    ct(where.archive / "001.nii")
    ct(where.archive / "001.nii.gz")
    run(where)
    assert len(read(where, "studies")) == 1
    assert [(row["reason"], row["n_files"]) for row in read(where, "failures")] == [("duplicate_file", 1)]


def test_members_of_zip_files_are_read_as_the_files_are(tmp_path):
    plain, packed = tmp_path / "plain/set", tmp_path / "packed/set"
    ct(plain / "sub-1/sub-1_ct.nii.gz")
    (plain / "participants.tsv").write_text("participant_id\tage\tsex\nsub-1\t61\tF\n")
    (plain / "ct.json").write_text('{"KVP": 120}')
    packed.mkdir(parents=True)
    shutil.make_archive(str(packed / "all"), "zip", plain)
    rows = []
    for place in (plain, packed):
        where = cohort(tmp_path / place.parent.name, archive=place)
        run(where, archives=True)
        (study,) = read(where, "studies")
        rows.append([study[name] for name in ("status", "age_years", "sex", "kvp", "device_key", "spacing_mm")])
    assert rows[0] == rows[1] == ["accepted", 61.0, "F", 120.0, "?|?|120|?", 3.0]


# --- sidecars -----------------------------------------------------------------------------------------------------


def bids(archive: Path) -> Path:
    """A data set of two subjects, one of them with two sessions."""
    for name in ("sub-01/ses-1/ct/sub-01_ses-1_ct", "sub-01/ses-2/ct/sub-01_ses-2_ct", "sub-02/ct/sub-02_ct"):
        ct(archive / f"{name}.nii.gz")
    return archive


def test_facts_come_from_sidecars_the_nearest_counting_most(tmp_path):
    where = cohort(tmp_path)
    archive = bids(where.archive)
    (archive / "ct.json").write_text(
        json.dumps({"KVP": 120, "Manufacturer": "Maker", "ConvolutionKernel": ["I30f", "3"]})
    )
    (archive / "sub-02/ct/sub-02_ct.json").write_text(json.dumps({"Modality": "ct scan"}))
    (archive / "T1w.json").write_text(json.dumps({"KVP": 7}))
    (archive / "sub-01/sub-01_ct.json").write_text(json.dumps({"KVP": "100", "ManufacturersModelName": "=SUM(1)"}))
    one_file = {"SliceThickness": 2.5, "ContrastBolusAgent": "Iomeprol", "BodyPartExamined": "SPINE"}
    (archive / "sub-01/ses-1/ct/sub-01_ses-1_ct.json").write_text(json.dumps(one_file))
    lines = ["participant_id\tage\tsex", "sub-01\t67.5\tfemale", "02\t89+\tM", "sub-03\tn/a\tn/a"]
    (archive / "participants.tsv").write_text("\n".join(lines))
    (archive / "sub-01/sub-01_sessions.tsv").write_text("session_id\tacq_time\nses-1\t2019-03-01\nses-2\t2019-03-11\n")
    (archive / "sub-02/sub-02_scans.tsv").write_text("filename\tacq_time\nct/sub-02_ct.nii.gz\t2020-01-01T10:00:00\n")
    run(where)
    first, second, other = (study_of(where, f"{end}_ct.nii.gz") for end in ("ses-1", "ses-2", "sub-02"))
    assert first["device_key"] == "Maker|SUM(1)|100|I30f\\3"
    assert (first["thickness_mm"], first["contrast_agent"], first["age_years"], first["sex"]) == (2.5, True, 67.5, "F")
    assert (second["thickness_mm"], second["contrast_agent"]) == (None, None)
    assert (first["days_from_first_study"], second["days_from_first_study"]) == (0, 10)
    assert (other["device_key"], other["age_years"], other["sex"]) == ("Maker|?|120|I30f\\3", 89.0, "M")
    assert {row["reason"]: row["n_files"] for row in read(where, "failures")} == {"sidecar": 8}


def test_sidecars_that_come_change_and_go_are_followed_as_from_nothing(tmp_path):
    where = cohort(tmp_path)
    archive = bids(where.archive)
    run(where)
    shards = where.public / "index/shards.txt"
    in_shards = shards.read_text()

    def keys() -> list[str]:
        run(where)
        again = cohort(tmp_path / "again", archive=archive)
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        run(again)
        listed = [
            [study_of(each, f"{end}_ct.nii.gz") for end in ("ses-1", "ses-2", "sub-02")] for each in (where, again)
        ]
        assert [row["device_key"] for row in listed[0]] == [row["device_key"] for row in listed[1]]
        return [row["device_key"].split("|")[2] for row in listed[0]]

    sidecar = archive / "sub-01/ct.json"
    sidecar.write_text('{"KVP": 100}')
    assert keys() == ["100", "100", "?"]
    (archive / "ct.json").write_text('{"KVP": 140}')
    assert keys() == ["100", "100", "140"]
    sidecar.write_text('{"KVP": 80 }')
    assert keys() == ["80", "80", "140"]
    sidecar.unlink()
    assert keys() == ["140", "140", "140"]
    (archive / "ct.json").write_text("{")
    assert keys() == ["?", "?", "?"]
    assert [row["reason"] for row in read(where, "failures")] == ["bad_sidecar"]
    assert shards.read_text() == in_shards  # nothing is converted anew


def test_scans_in_a_folder_that_was_closed_are_not_lost_when_a_sidecar_above_it_comes(tmp_path, monkeypatch):
    where = cohort(tmp_path)
    archive = bids(where.archive)
    run(where)
    before = {row["study_id"] for row in read(where, "studies")}
    really = os.scandir

    def scandir(folder):
        if str(folder) == str(archive / "sub-01/ses-1"):
            raise PermissionError(errno.EACCES, "closed")
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    really_open = open
    monkeypatch.setattr("builtins.open", lambda path, *args, **kwargs: _refuse(path, really_open, *args, **kwargs))
    (archive / "ct.json").write_text('{"KVP": 140}')
    run(where)
    assert {row["study_id"] for row in read(where, "studies") if row["status"] == "accepted"} == before
    assert [study_of(where, f"{end}_ct.nii.gz")["kvp"] for end in ("ses-1", "ses-2")] == [None, 140.0]


def _refuse(path, really_open, *args, **kwargs):
    """Open a file, unless it lies in the closed folder."""
    if "/sub-01/ses-1/" in str(path):
        raise PermissionError(errno.EACCES, "closed")
    return really_open(path, *args, **kwargs)


def test_unchanged_files_beside_sidecars_are_not_read_again(tmp_path, monkeypatch):
    where = cohort(tmp_path)
    archive = bids(where.archive)
    (archive / "ct.json").write_text('{"KVP": 100}')
    run(where)
    paths = []

    def watched(root, files, *, archives):
        paths.extend(file.path for file in files)
        return read_records(root, files, archives=archives)

    monkeypatch.setattr(scan, "read_records", watched)
    run(where)
    assert paths == []
    (archive / "sub-02/ct/sub-02_ct.json").write_text("{}")
    run(where)
    assert paths == ["sub-02/ct/sub-02_ct.json", "sub-02/ct/sub-02_ct.nii.gz"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ct.json", b"{"),
        ("ct.json", b"\xff\xfe"),
        ("ct.json", b"[" * 100_000),
        ("participants.tsv", b"participant_id\tage\n\xff"),
    ],
)
def test_a_damaged_sidecar_has_its_reason_and_says_nothing(tmp_path, name, content):
    ct(tmp_path / "sub-1_ct.nii.gz")
    (tmp_path / name).write_bytes(content)
    listed = records(tmp_path)
    assert {header.reason for header in listed} == {None, "bad_sidecar"}
    assert {header.kvp for header in listed} == {None}


@pytest.mark.parametrize(
    "content",
    [
        *({"KVP": value} for value in (None, True, "many", [1, 2], {}, float("nan"), float("inf"), 10**400)),
        *({"Manufacturer": value} for value in (None, True, {}, [{}], "", "\0", " ")),
        *({"StudyDate": value} for value in ("1899-99-99", 5, [], "n/a")),
        *([], 5, None, "text", [{"KVP": 5}]),
    ],
)
def test_odd_entries_say_nothing(tmp_path, content):
    ct(tmp_path / "sub-1_ct.nii.gz")
    (tmp_path / "ct.json").write_text(json.dumps(content))
    header = next(header for header in records(tmp_path) if header.transfer_syntax == NIFTI)
    assert (header.kvp, header.manufacturer, header.study_date) == (None, None, None)


@pytest.mark.parametrize(
    "lines", ["", "\n", "participant_id", "a\tb\n1", "participant_id\tage\tsex\nsub-1\t-3\tx\nsub-1"]
)
def test_odd_tables_say_nothing(tmp_path, lines):
    ct(tmp_path / "sub-1_ct.nii.gz")
    for name in ("participants.tsv", "sub-1_scans.tsv", "sub-1_sessions.tsv"):
        (tmp_path / name).write_text(lines)
    listed = records(tmp_path)
    assert {header.reason for header in listed} == {None, "sidecar"}
    assert {(header.age, header.sex, header.study_date) for header in listed} == {(None, None, None)}


def test_a_sidecar_of_one_file_is_not_that_of_its_namesake_below(tmp_path):
    ct(tmp_path / "001.nii.gz")
    ct(tmp_path / "later/001.nii.gz")
    (tmp_path / "001.json").write_text('{"KVP": 80}')
    voltages = {header.path: header.kvp for header in records(tmp_path)}
    assert voltages == {"001.nii.gz": 80.0, "later/001.nii.gz": None, "001.json": None}


def test_reading_by_hand_reads_both_kinds(tmp_path):
    ct(tmp_path / "in/p1.nii.gz")
    save_all(axial_stack(3), tmp_path / "in")
    headers = read_folder(tmp_path / "in")
    assert sorted(header.transfer_syntax == NIFTI for header in headers) == [False] * 3 + [True] * 12


def test_an_archive_is_named_by_its_path():
    assert data_set_of("/mnt/x/verse19") == "verse19"
    assert data_set_of("/mnt/verse19/images") == "verse19/images"


# --- gates --------------------------------------------------------------------------------------------------------


def test_voxels_that_are_longest_within_slices_are_those_of_a_reformat(tmp_path):
    where = cohort(tmp_path)
    affines = {
        "sagittal": ([3.0, 1, 1], "accepted", ["reformat"]),
        "thick_sagittal": ([4.5, 1, 1], "accepted", ["thick_slices", "reformat"]),
        "too_thick_sagittal": ([8.0, 1, 1], "rejected", []),
        "axial": ([0.9, 0.9, 0.6], "accepted", []),
        "even": ([1.0, 1.1, 1.0], "accepted", []),
    }
    for name, (steps, _, _) in affines.items():
        ct(where.archive / f"{name}.nii", shape=(24, 20, 30), affine=np.diag([*steps, 1.0]))
    run(where)
    for name, (_, status, flags) in affines.items():
        study = study_of(where, f"/{name}.nii")
        assert (study["status"], study["flags"]) == (status, flags)
    assert study_of(where, "/too_thick_sagittal.nii")["reason"] == "too_thick"


def test_no_name_of_a_subject_leaves_the_private_folder(tmp_path, caplog):
    where = cohort(tmp_path)
    ct(where.archive / "sub-Exxample/ses-Whenever/sub-Exxample_ses-Whenever_ct.nii.gz")
    ct(where.archive / "Exxample_mask.nii.gz")
    (where.archive / "Exxample.json").write_text("{")
    run(where)
    public = [path for path in where.public.rglob("*") if path.is_file()]
    assert public
    for path in public:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = str(pq.read_table(path).to_pylist()).encode()
        assert b"Exxample" not in content and b"Whenever" not in content
    assert "Exxample" not in caplog.text
