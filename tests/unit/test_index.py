"""A cohort's index: walked, remembered, chosen, kept and hidden."""

import errno
import io
import os
import shutil
import zipfile
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ct_files import axial_stack, save, save_all
from made_headers import DEFAULTS

from trabecula import index, tables
from trabecula.cohort import linkage, shards
from trabecula.cohort.retries import Retries, Retry, read_retries, write_retries
from trabecula.dicom.files import as_path
from trabecula.dicom.headers import read as header_files
from trabecula.dicom.headers.record import failed
from trabecula.errors import ConfigError
from trabecula.index import database, facts, scan
from trabecula.nifti.names import is_nifti, stem_of
from trabecula.nifti.records import read_records
from trabecula.runtime import log
from trabecula.runtime.whole_file import UNFINISHED


def places(folder: Path, archive: Path, labels: Path | None = None) -> index.Cohort:
    # No sign in a path may mean anything to those who read it.
    return index.Cohort("test", False, archive, labels, folder / "results/test", folder / "it's [pri]*vate?")


def run(where: index.Cohort, **changes) -> None:
    gates = DEFAULTS["gates"] | {"min_slices": 4, "min_extent_mm": 10}
    options = DEFAULTS | {"shard_size": 2, "workers": 1, "gates": gates, "max_gap_mm": 10}
    index.index_cohort(where, scheduler=None, **options | changes)


def read(where: index.Cohort, name: str) -> list[dict]:
    return tables.read(where.public / f"index/{name}.parquet", tables.PUBLIC[name]).to_pylist()


def add_study(archive: Path, number: int, **attributes) -> None:
    uid = f"1.2.3.{number}"
    plain = {"PatientID": f"HOSPITAL-{number}", "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
    save_all(axial_stack(), archive / f"study{number}", **plain | attributes)


def test_what_is_no_file_is_not_opened(tmp_path):
    (tmp_path / "outside").touch()
    archive = tmp_path / "archive"
    save(axial_stack(1)[0], archive / "real/x")
    (archive / "out").symlink_to(tmp_path / "outside")
    (archive / "gone").symlink_to(tmp_path / "nowhere")
    (archive / "folder").symlink_to(archive / "real")
    (archive / "again").symlink_to(archive / "real/x")
    os.mkfifo(archive / "pipe")
    reasons = {path: reason for path, _, _, reason in scan.walk(archive)}
    assert reasons == {
        "real/x": None,
        "again": None,
        "out": "link_outside",
        "gone": "link_outside",
        "pipe": "not_regular",
    }


SYSTEM = [".snapshot", ".zfs", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", ".Trash-1000"]


@pytest.mark.parametrize("name", [*SYSTEM, "lost+found", "LOST+FOUND", "__MACOSX", ".Snapshots"])
@pytest.mark.parametrize("place", ["", "patient/study/"])
def test_folders_of_the_storage_are_not_searched_and_have_a_row(tmp_path, name, place):
    save(axial_stack(1)[0], tmp_path / "archive/patient/study/x")
    save(axial_stack(1)[0], tmp_path / f"archive/{place}{name}/patient/x")
    (tmp_path / "archive/led").symlink_to(tmp_path / f"archive/{place}{name}/patient")
    reasons = {path: reason for path, _, _, reason in scan.walk(tmp_path / "archive")}
    assert reasons == {"patient/study/x": None, f"{place}{name}": "system_folder", "led": "system_folder"}


@pytest.mark.parametrize("name", ["snapshot", "snapshots", "zfs", ".patient", "recycle", "Trash-1", "lost", "MACOSX"])
def test_other_folders_are_searched(tmp_path, name):
    save(axial_stack(1)[0], tmp_path / f"archive/{name}/{name}")
    assert [file.path for file in scan.walk(tmp_path / "archive")] == [f"{name}/{name}"]


@pytest.fixture
def close(monkeypatch):
    """Close folders, which the tests' account may be allowed to open whatever their mode is."""
    closed, really = {}, os.scandir

    def scandir(folder):
        if error := closed.get(str(folder)):
            raise OSError(error, os.strerror(error), folder)
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    return lambda folder, error=errno.EACCES: closed.update({str(folder): error})


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM])
def test_a_closed_folder_has_a_row_and_is_named_in_private_alone(tmp_path, close, caplog, error):
    archive = tmp_path / "archive"
    add_study(archive, 1)
    add_study(archive / "Exxample Jane", 2)
    close(archive / "Exxample Jane/study2", error)
    where = places(tmp_path, archive)
    run(where)
    assert [row["n_files"] for row in read(where, "failures") if row["reason"] == "closed_folder"] == [1]
    assert len(read(where, "studies")) == 1
    names = where.private / "test/closed_folders.txt"
    assert names.read_text() == "Exxample Jane/study2\n" and names.stat().st_mode & 0o777 == 0o600
    assert f"1 folders can't be opened, and are listed in {names}; 0 files" in caplog.text
    assert "Jane" not in caplog.text
    for file in where.public.rglob("*"):
        assert not file.is_file() or b"Jane" not in file.read_bytes()


def test_studies_in_a_folder_that_was_closed_later_are_not_lost(tmp_path, close, caplog, monkeypatch):
    archive = tmp_path / "archive"
    for number in range(3):
        add_study(archive / f"patient{number}", number)
    (archive / "patient1").rename(archive / "patient")  # its name begins those of the others
    where = places(tmp_path, archive)
    run(where)
    before = {name: read(where, name) for name in ("studies", "series")}
    close(archive / "patient")
    for _ in range(2):  # what is known of it does not fade
        run(where)
        assert {name: read(where, name) for name in before} == before
        assert [row["reason"] for row in read(where, "failures")] == ["closed_folder"]
        assert "6 files that earlier runs read in them count as unchanged" in caplog.text
        caplog.clear()
    close(archive / "patient", 0)
    shutil.rmtree(archive / "patient")
    run(where)
    assert sum(row["reason"] == "vanished" for row in read(where, "studies")) == 1
    assert not (where.private / "test/closed_folders.txt").exists()


@pytest.mark.parametrize("top_error", [errno.EACCES, errno.EPERM])
def test_an_archive_that_may_no_longer_be_opened_stops_the_index(tmp_path, close, top_error):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    before = read(where, "studies")
    close(tmp_path / "archive", top_error)
    close(tmp_path / "archive/study1", top_error)
    with pytest.raises(ConfigError, match="can't be"):
        run(where)
    assert read(where, "studies") == before


def test_a_folder_that_fails_for_a_moment_too_long_stops_the_index(tmp_path, close, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    add_study(tmp_path / "archive", 1)
    close(tmp_path / "archive/study1", errno.EIO)
    with pytest.raises(ConfigError, match="can't be opened: Input/output error"):
        run(places(tmp_path, tmp_path / "archive"))


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


def test_copies_of_a_slice_are_remembered_for_convert_and_make_it_convert_anew(tmp_path):
    archive = tmp_path / "archive"
    add_study(archive, 0)
    where = places(tmp_path, archive)
    run(where)
    (alone,) = shards.read_manifest(where.public / "shards/00000.tsv")
    shutil.copyfile(archive / "study0/002", archive / "study0/002 again")
    run(where)
    entries = list(shards.read_ledger(where.public / "index/ledger.tsv").values())
    assert [entry.study_id for entry in entries] == [alone.study_id] and entries[0].fingerprint != alone.fingerprint
    (linked,) = linkage.read_linked(where.private / "test/linkage.parquet", entries[0].shard).values()
    ((kept, copy),) = linked.copies
    assert kept is linked.headers[2] and copy.path == f"{archive}/study0/002 again"
    assert [(row["reason"], row["n_files"]) for row in read(where, "failures")] == [("duplicate_file", 1)]


@pytest.mark.parametrize(("n_gone", "warned"), [(0, False), (1, False), (2, True), (6, True)])
def test_much_of_an_archive_gone_is_a_warning_with_numbers_and_no_names(tmp_path, monkeypatch, n_gone, warned):
    archive, terminal = tmp_path / "archive", io.StringIO()
    for number in range(12):
        add_study(archive, number)
    where = places(tmp_path, archive)
    monkeypatch.setattr(log, "_terminal", terminal)
    run(where)
    for number in range(n_gone):
        shutil.rmtree(archive / f"study{number}")
    run(where)
    assert ("no longer in the archive" in terminal.getvalue()) == warned
    if warned:
        assert f"Cohort test: Of 12 studies that were ever accepted, {n_gone} (" in terminal.getvalue()
    assert "HOSPITAL" not in terminal.getvalue() and str(archive) not in terminal.getvalue()
    assert sum(row["reason"] == "vanished" for row in read(where, "studies")) == n_gone


def test_the_rest_of_a_delivery_moves_its_study_to_a_new_shard_and_clears_the_one_that_is_left(tmp_path):
    archive = tmp_path / "archive"
    for number in range(3):
        add_study(archive, number)
    whole = sorted((archive / "study2").iterdir())
    late = whole[-1:]
    for path in late:
        path.rename(tmp_path / path.name)
    where = places(tmp_path, archive)
    run(where, shard_size=1)
    stacks = pq.read_table(where.private / "test/linkage.parquet").to_pylist()
    (shard,) = (stack["shard"] for stack in stacks if stack["study_uid"] == "1.2.3.2")
    names = {"00000", "00001", "00002"}
    files = ("crop/{}.arrow", "convert/{}.parquet", "export/dicom/{}/st/sr.dcm")
    paths = {name: [where.public / file.format(name) for file in files] for name in names}
    for path in (path for of_shard in paths.values() for path in of_shard):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lists = {name: (where.public / f"shards/{name}.tsv").stat().st_mtime_ns for name in names - {shard}}
    for path in late:
        (tmp_path / path.name).rename(path)
    run(where, shard_size=1)
    assert set((where.public / "index/shards.txt").read_text().split()) == names - {shard} | {"00003"}
    assert {name: (where.public / f"shards/{name}.tsv").stat().st_mtime_ns for name in lists} == lists
    (stack,) = linkage.read_linked(where.private / "test/linkage.parquet", "00003").values()
    assert len(stack.headers) == len(whole)
    for name, of_shard in paths.items():
        assert [path.exists() for path in of_shard] == [name != shard] * len(files)


def test_a_study_that_failed_for_a_reason_that_may_pass_is_listed_anew_once(tmp_path):
    for number in range(2):
        add_study(tmp_path / "archive", number)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    study = read(where, "studies")[0]["study_id"]
    write_retries(where.public / "retries.tsv", [Retry(study, "00000", "vanished")], stand=True)
    for _ in range(2):
        run(where)
        assert {row["study_id"]: row["shard"] for row in read(where, "studies")}[study] == "00001"
        assert list(linkage.read_linked(where.private / "test/linkage.parquet", "00001")) == [study]
        assert study not in linkage.read_linked(where.private / "test/linkage.parquet", "00000")


def test_rows_that_memory_does_not_hold_are_closed_to_others_and_leave_nothing(tmp_path):
    with database.database(tmp_path) as opened:
        opened.sql("SET memory_limit = '40MB'")
        rows = opened.sql("SELECT range AS number, md5(range::VARCHAR) AS text FROM range(3_000_000) ORDER BY text")
        rows.to_arrow_reader(1000).read_next_batch()
        (spill,) = tmp_path.iterdir()
        assert UNFINISHED.fullmatch(spill.name) and spill.stat().st_mode & 0o777 == 0o700
        assert list(spill.iterdir())
    assert not list(tmp_path.iterdir())


def test_files_that_can_not_be_opened_are_asked_for_again_and_damaged_ones_are_not(tmp_path, monkeypatch):
    archive = tmp_path / "archive"
    for number in range(2):
        add_study(archive, number)
    (archive / "study0/damaged").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0\xff")
    where = places(tmp_path, archive)
    closed = sorted((archive / "study1").iterdir())

    def refusing(really):
        def opens(path, *arguments, **options):
            if isinstance(path, str | Path) and Path(path) in closed:
                raise PermissionError(errno.EACCES, "closed")
            return really(path, *arguments, **options)

        return opens

    requests = where.public / "retries.tsv"
    monkeypatch.setattr("builtins.open", refusing(open))
    monkeypatch.setattr(os, "open", refusing(os.open))
    for number in (1, 2):
        run(where)
        assert read_retries(requests) == Retries(number)
        assert len(read(where, "studies")) == 1
    monkeypatch.undo()
    for _ in range(2):
        run(where)
        assert read_retries(requests) == Retries(2)
        assert len(read(where, "studies")) == 2
    assert [row["reason"] for row in read(where, "failures")] == ["unreadable"]


def test_a_known_file_is_not_read_again(tmp_path, monkeypatch):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    read_paths = []
    really = read_records

    def watched(archive, files, *, archives):
        read_paths.extend(file.path for file in files)
        return really(archive, files, archives=archives)

    monkeypatch.setattr(scan, "read_records", watched)
    run(where)
    assert read_paths == []
    (tmp_path / "archive/new").write_text("new")
    run(where)
    assert read_paths == ["new"]


def memory(folder: Path, archive: Path, **options) -> list[dict]:
    """Give the records that a scan remembers, sorted by path."""
    plain = {"workers": 1, "scheduler": None, "archives": False}
    scan.scan(archive, folder, **plain | options)
    records = [row for path in scan.parts(folder) for row in pq.read_table(path).to_pylist()]
    return sorted(records, key=lambda row: (row["path"], row["member"] or ""))


def test_a_scan_that_was_killed_goes_on_where_it_stood(tmp_path, monkeypatch):
    for number in range(4):
        add_study(tmp_path / "archive", number)
    whole = memory(tmp_path / "whole", tmp_path / "archive")
    monkeypatch.setattr(scan, "PART", 5)
    monkeypatch.setattr(scan, "BATCH", 5)
    really, calls = read_records, []

    def killed(archive, files, *, archives):
        calls.append(len(files))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return really(archive, files, archives=archives)

    monkeypatch.setattr(scan, "read_records", killed)
    with pytest.raises(KeyboardInterrupt):
        memory(tmp_path / "memory", tmp_path / "archive")
    assert memory(tmp_path / "memory", tmp_path / "archive") == whole
    assert sum(calls) - calls[2] == 24  # no file was read twice


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    save(axial_stack(1)[0], tmp_path / "archive/x")
    monkeypatch.setattr(header_files, "_read_plain", lambda _, source, reader: [failed(source, "unreadable")])
    assert [row["reason"] for row in memory(tmp_path / "memory", tmp_path / "archive")] == ["unreadable"]
    monkeypatch.undo()
    assert [row["reason"] for row in memory(tmp_path / "memory", tmp_path / "archive")] == [None]


@pytest.mark.parametrize("change", [Path.unlink, lambda key: key.write_text("0123456789abcdef" * 4)])
def test_a_lost_or_other_key_stops_the_index(tmp_path, change):
    add_study(tmp_path / "archive", 1)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    before = read(where, "studies")
    change(where.private / "key")
    with pytest.raises(ConfigError, match="Put that key back"):
        run(where)
    assert read(where, "studies") == before


def test_a_damaged_zip_file_costs_its_damaged_members_on_every_scan(tmp_path):
    save_all(axial_stack(3), tmp_path / "study")
    (tmp_path / "study/inner.zip").write_bytes(b"PK\x03\x04" + bytes(600))
    (tmp_path / "archive").mkdir()
    packed = Path(shutil.make_archive(str(tmp_path / "archive/packed"), "zip", tmp_path / "study"))
    with zipfile.ZipFile(packed) as opened:
        at = opened.getinfo("001").header_offset + 60
    raw = bytearray(packed.read_bytes())
    raw[at : at + 40] = bytes(40)
    packed.write_bytes(raw)
    for _ in range(3):
        records = memory(tmp_path / "memory", tmp_path / "archive", archives=True)
        assert sorted(row["reason"] or "" for row in records) == ["", "", "other_archive", "unreadable"]


def test_a_name_that_is_no_text_is_read_all_the_same(tmp_path):
    save(axial_stack(1)[0], tmp_path / "archive/x")
    (tmp_path / "archive/x").rename(os.fsdecode(bytes(tmp_path / "archive") + b"/M\xfcller"))
    (row,) = memory(tmp_path / "memory", tmp_path / "archive")
    assert row["reason"] is None and row["rows"] == 20
    assert as_path(row["path"]) == os.fsdecode(b"M\xfcller")


def test_what_is_in_an_archive_is_found_when_asked_and_forgotten_when_not(tmp_path):
    save_all(axial_stack(3), tmp_path / "study")
    (tmp_path / "archive").mkdir()
    shutil.make_archive(str(tmp_path / "archive/packed"), "zip", tmp_path / "study")
    for asked, n in ((False, 1), (True, 3), (True, 3), (False, 1)):
        assert len(memory(tmp_path / "memory", tmp_path / "archive", archives=asked)) == n


@pytest.mark.slow
def test_processes_read_what_one_process_reads(tmp_path, monkeypatch):
    for number in range(3):
        add_study(tmp_path / "archive", number)
    alone = memory(tmp_path / "alone", tmp_path / "archive")
    monkeypatch.setattr(scan, "IN_PROCESS", 0)
    monkeypatch.setattr(scan, "BATCH", 5)
    assert memory(tmp_path / "together", tmp_path / "archive", workers=2) == alone


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
        ("unused", "bad_value"),
    ]
    assert labels[0]["patient_id"] == study["patient_id"] and labels[0]["days_from_first_study"] == 10


def test_days_count_from_the_patients_first_study(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="A", StudyDate="20200102")
    add_study(tmp_path / "archive", 2, PatientID="A", StudyDate="20210102")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert sorted(row["days_from_first_study"] for row in read(where, "studies")) == [0, 366]


def test_one_id_from_two_issuers_is_two_patients(tmp_path):
    for number, issuer in enumerate(["ONE", "OTHER", None]):
        add_study(tmp_path / "archive", number, PatientID="A", IssuerOfPatientID=issuer or "")
    (tmp_path / "labels.csv").write_text(
        "patient_id,study_date,level,vbmd,unit,device\nA,2020-01-12,L1,110,mg/cm3 HA,x\n"
    )
    where = places(tmp_path, tmp_path / "archive", tmp_path / "labels.csv")
    run(where)
    assert len({row["patient_id"] for row in read(where, "studies")}) == 3  # whose the third study is can't be known
    assert [row["reason"] for row in read(where, "labels")] == ["ambiguous_patient"]


def test_a_patient_is_one_though_a_workstation_leaves_out_the_issuer(tmp_path):
    slices = axial_stack()
    uids = {"PatientID": "A", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    save_all(slices[:3], tmp_path / "archive/a", IssuerOfPatientID="ONE", **uids)
    save_all(slices[3:], tmp_path / "archive/b", **uids)
    add_study(tmp_path / "archive", 4, PatientID="A")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert [row["n_slices"] for row in read(where, "series")] == [6, 6]
    assert len({row["patient_id"] for row in read(where, "studies")}) == 1


def test_a_date_that_an_anonymising_tool_wrote_is_none(tmp_path):
    add_study(tmp_path / "archive", 1, PatientID="A", StudyDate="19000101")
    add_study(tmp_path / "archive", 2, PatientID="A", StudyDate="20210102")
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert {row["days_from_first_study"] for row in read(where, "studies")} == {None, 0}


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
    linked = linkage.read_linked(where.private / "test/linkage.parquet", "00000")
    assert [len(stack.headers) for stack in linked.values()] == [6]


def test_rejected_studies_and_lost_files_have_rows(tmp_path):
    archive = tmp_path / "archive"
    add_study(archive, 1)
    add_study(archive, 2, Modality="MR")
    save_all(axial_stack(), archive / "anonymous", StudyInstanceUID="", SeriesInstanceUID="", PatientID="")
    (archive / "notes.txt").write_text("text")
    (archive / "empty").mkdir()
    where = places(tmp_path, archive)
    run(where)
    assert sorted((row["status"], row["reason"] or "", *row["flags"]) for row in read(where, "studies")) == [
        ("accepted", ""),
        ("accepted", "", "substitute_ids"),
        ("rejected", "not_ct"),
    ]
    (failure,) = read(where, "failures")
    assert (failure["reason"], failure["n_files"], failure["patient_id"]) == ("not_dicom", 1, None)


def test_an_empty_archive_has_empty_tables(tmp_path):
    (tmp_path / "archive").mkdir()
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert read(where, "series") == [] and (where.public / "index/shards.txt").read_text() == ""


def test_a_folder_that_is_linked_in_a_circle_is_walked_once(tmp_path):
    add_study(tmp_path / "archive", 1)
    (tmp_path / "archive/again").symlink_to(tmp_path / "archive")
    assert len(list(scan.walk(tmp_path / "archive"))) == 6


# --- real archive ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_index(real_data, tmp_path_factory) -> index.Cohort:
    """All of the real data as one archive."""
    where = places(tmp_path_factory.mktemp("real"), real_data)
    run(where, gates=DEFAULTS["gates"])
    return where


def test_no_file_of_a_real_archive_is_lost(real_index, real_data):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    lost = sum(row["n_files"] for row in read(real_index, "failures"))
    assert sum(len(row["files"]) for row in linked) + lost == sum(path.is_file() for path in real_data.rglob("*"))
    assert all(row["accepted"] != bool(row["reason"]) for row in read(real_index, "series"))


def test_scans_of_the_trunk_in_a_real_archive_are_chosen_and_nothing_else(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    chosen = [row for row in linked if row["shard"] and not is_nifti(row["files"][0])]
    assert sorted(row["patient"] for row in chosen) == ["CRLM-CT-1004", "CRLM-CT-1006", "STS_018"]


def test_nifti_scans_of_a_real_archive_are_chosen_or_have_their_reasons(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    reasons = {row["series_id"]: row["reason"] for row in read(real_index, "series")}
    volumes = {stem_of(row["files"][0]): row for row in linked if is_nifti(row["files"][0])}
    refused = {stem: reason for stem, row in volumes.items() if (reason := reasons[row["series_id"]])}
    expected_refused = {
        **{"lungfcp_0001": "too_short", "lungdx_a0002_b40": "too_thick", "niivue_iguana": "too_short"},
        **{"_2": "two_geometries", "example_ct_sm": "too_few_slices"},
        **{"totalseg": "eight_bit", "sub-ct_label-22_ct": "too_short"},
    }
    assert refused.items() >= expected_refused.items()
    of_trunk = {"c3l_00189_lungbase", "cip_ct64", "cmb_crc_01068", "moose_neck", "example_ct", "CT_image"}
    assert volumes.keys() - refused.keys() >= of_trunk | {"sub-verse007_ct", "sub-verse008_ct"}
    assert volumes["sub-verse007_ct"]["patient"].startswith("sub-verse007\\")
    assert not any(stem.endswith(("_msk", "_predicted", "_mask")) for stem in volumes)


def test_series_of_a_real_archive_have_the_right_reasons(real_index):
    linked = pq.read_table(real_index.private / "test/linkage.parquet").to_pylist()
    reasons = {(row["series_id"], row["stack"]): row["reason"] for row in read(real_index, "series")}
    expected_reasons = {
        "torchio_mr_labelled_ct": {"too_few_slices"},
        "ibsi_sts_018": {"not_ct", None},
        "totalseg_example": {"too_few_slices"},
        "dcm_qa_ct_ge_tilt_variable": {"head_or_extremity"},
        "cornerstone_ct_transfer_syntaxes": {"lossy", "too_few_slices", "other_values"},
        "monai_ct_dicom_tiny": {"head_or_extremity"},
        "TINY_ALPHA": {"no_geometry"},
    }
    for name, expected in expected_reasons.items():
        rows = [row for row in linked if f"/{name}/" in row["files"][0] and not is_nifti(row["files"][0])]
        present = {reasons[row["series_id"], row["stack"]] for row in rows}
        assert present == expected
    lost = {row["reason"]: row["n_files"] for row in read(real_index, "failures") if row["series_id"] is None}
    assert lost["dicomdir"] == 8 and "missing_uid" not in lost


def test_facts_of_a_real_scan(real_index):
    ages = {row["age_years"] for row in read(real_index, "studies") if row["status"] == "accepted"}
    assert ages == {38.0, 49.0, None}
    assert facts.date_of("1994.11.22") == date(1994, 11, 22)
