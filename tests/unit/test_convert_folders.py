"""Convert folders as they come: slices without identifiers, and files of other kinds between them."""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ct_files import UID, save, save_all, save_as
from linear_stacks import (
    EXACT,
    MENDED,
    TWICE,
    WHOLE,
    at,
    beside_mm,
    change,
    convert,
    converted,
    each,
    error_hu,
    every,
    read,
    scout,
    without,
)
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from trabecula.convert.by_hand import convert_folder

# --- identifiers ------------------------------------------------------------------------------------------

IDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"]


def bare(folder: Path, slices: Sequence[Dataset], keywords: Iterable[str], value: str | None) -> None:
    """Write slices without some identifiers, or with empty ones."""
    for number, dataset in enumerate(each(list(slices), "SOPInstanceUID", TWICE[: len(slices)])):
        change(dataset, dict.fromkeys(keywords, value))
        save_as(dataset, folder / f"{number:03d}", uid.ExplicitVRLittleEndian)


@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
@pytest.mark.parametrize("keywords", [*([name] for name in IDS), IDS], ids=[*IDS, "all of them"])
def test_slices_without_identifiers_are_one_volume_under_a_substitute(tmp_path, keywords, value):
    bare(tmp_path / "in", every(3, 8), keywords, value)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["flags"] == ["substitute_ids"] and entry["repairs"] == []
    assert error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01
    (again,), _ = converted(tmp_path / "in", tmp_path / "again")
    assert again == entry


def test_one_slice_without_its_instance_uid_stays_in_its_series(tmp_path):
    slices = every(3, 8)
    bare(tmp_path / "in", slices, [], None)
    change(slices[3], {"SOPInstanceUID": None})
    save_as(slices[3], tmp_path / "in" / "003", uid.ExplicitVRLittleEndian)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["flags"] == ["substitute_ids"] and beside_mm(ct, WHOLE) <= 0.01


def test_folders_keep_apart_what_has_no_identifiers(tmp_path):
    bare(tmp_path / "in" / "a", every(3, 8), IDS, "")
    bare(tmp_path / "in" / "b", every(3, 8, plus=9), IDS, "")
    entries, volumes = converted(tmp_path / "in", tmp_path / "out")
    assert [entry["status"] for entry in entries] == ["ok", "ok"]
    assert all("substitute_ids" in entry["flags"] for entry in entries)
    assert sorted(plus for ct in volumes for plus in (0, 9) if error_hu(ct, plus) <= EXACT) == [0, 9]


def test_folders_keep_apart_people_who_were_given_the_same_uids(tmp_path):
    for name, plus in (("a", 0), ("b", 9)):
        for number, dataset in enumerate(every(3, 8, plus=plus)):
            change(dataset, dict.fromkeys(IDS, "1.2.826.0.1.7"))
            save_as(dataset, tmp_path / "in" / name / f"{number:03d}", uid.ExplicitVRLittleEndian)
    entries, volumes = converted(tmp_path / "in", tmp_path / "out")
    assert [(entry["status"], entry["flags"]) for entry in entries] == [("ok", ["substitute_ids"])] * 2
    assert sorted(plus for ct in volumes for plus in (0, 9) if error_hu(ct, plus) <= EXACT) == [0, 9]


def test_missing_slices_and_missing_identifiers_are_both_said(tmp_path):
    bare(tmp_path / "in", without(every(3, 8), 5), ["SOPInstanceUID", "SeriesInstanceUID"], "")
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == ["missing_slices"] and entry["flags"] == ["substitute_ids"]
    assert error_hu(ct) <= MENDED


# --- folders ----------------------------------------------------------------------------------------------


def test_every_file_of_a_mixed_folder_is_accounted_for(tmp_path):
    folder = tmp_path / "in"
    save_all(every(3, 8), folder / "deep" / "down here")
    save_all(scout(SeriesInstanceUID=f"{UID}.1.5"), folder / "scout")
    (folder / "README.txt").write_text("Exported from the archive.\n")
    (folder / "notes.csv").write_text("a,b\n1,2\n" * 40)
    (folder / "empty").touch()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    whole = save(at(40, SeriesInstanceUID=f"{UID}.1.6")[0], tmp_path / "whole").read_bytes()
    (folder / "transfer.tmp").write_bytes(whole[: len(whole) * 3 // 4])
    directory = Dataset()
    directory.SOPClassUID = uid.MediaStorageDirectoryStorage
    directory.DirectoryRecordSequence = Items([])
    save(directory, folder / "DICOMDIR")
    entries, (ct,) = converted(folder, tmp_path / "out")
    assert error_hu(ct) <= EXACT
    reasons = {entry["reason"]: entry["n_files"] for entry in entries}
    assert reasons[None] == 8 and reasons["localizer"] == 1 and reasons["not_dicom"] == 3
    assert reasons["empty"] == 1 and reasons["dicomdir"] == 1 and reasons["truncated"] == 1
    assert sum(entry["n_files"] for entry in entries) == 15


def test_a_closed_folder_is_accounted_for(tmp_path, monkeypatch):
    save_all(every(3, 8), tmp_path / "dicom/open")
    (tmp_path / "dicom/closed").mkdir()
    really = os.scandir

    def scandir(folder):  # the tests' account may be allowed to open any folder
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return really(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    entries = convert_folder(tmp_path / "dicom", tmp_path / "out")
    assert [(entry["reason"], entry["n_files"]) for entry in entries] == [(None, 8), ("closed_folder", 1)]


def test_an_empty_folder_gives_an_empty_list(tmp_path):
    (tmp_path / "in").mkdir()
    assert converted(tmp_path / "in", tmp_path / "out") == ([], [])


def test_an_uncompressed_nifti_holds_the_same(tmp_path):
    save_all(every(3, 8), tmp_path / "in")
    (entry,) = convert_folder(tmp_path / "in", tmp_path / "out", form="nii")
    assert entry["file"].endswith(".nii")
    assert error_hu(read(tmp_path / "out" / entry["file"], entry)) <= EXACT


def test_the_same_folder_under_other_file_names_gives_the_same_volume(tmp_path):
    slices = every(3, 8)
    _, (first,) = convert(tmp_path / "one", slices)
    for number, dataset in enumerate(slices):
        save(dataset, tmp_path / "in" / f"{(number * 5) % 8}" / "IM")
    _, (second,) = converted(tmp_path / "in", tmp_path / "out")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(first.affine, second.affine)
