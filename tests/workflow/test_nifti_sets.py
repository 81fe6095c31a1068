"""The whole workflow over a NIfTI data set with experts' label maps: two scans of VerSe, laid out as VerSe is.

One of them is there as DICOM as well, under another patient's id.
"""

import shutil
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from small_site import Site, write_settings

from trabecula import phantom
from trabecula.image.volume import Volume, read_nifti

SUBJECTS = ("sub-verse007", "sub-verse008")
COPIED = "sub-verse008"
MASKS = "verse/derivatives/{subject}/{name}_seg-vert_msk.nii.gz"
LOW_TO_HIGH = ["L3", "L2", "L1", "T12", "T11", "T10", "T9"]


@pytest.fixture(scope="module")
def verse(real_data: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with the two scans, after a run and both exports."""
    folder = tmp_path_factory.mktemp("verse") / "site"
    for subject in SUBJECTS:
        for part, name in (("rawdata", f"{subject}_ct"), ("derivatives", f"{subject}_seg-vert_msk")):
            place = folder / "verse" / part / subject
            place.mkdir(parents=True)
            shutil.copy(real_data / f"verse19/{name}.nii.gz", place)
    write_dicom_copy(folder / f"verse/rawdata/{COPIED}/{COPIED}_ct.nii.gz", folder / "verse/from_the_archive")
    masks = {"backend": "masks", "masks": MASKS, "coding": "verse"}
    write_settings(folder, ["verse verse  screening"], segment=masks, evaluate={"bootstrap": 100})
    site = Site(folder, repository)
    site.run()
    site.run("omop", "dicom")
    return site


def write_dicom_copy(nifti: Path, folder: Path) -> None:
    """Write a scan as axial DICOM slices of another patient."""
    ct = read_nifti(nifti)
    # Posterior, inferior, right as it is stored; left, posterior, superior as slices are.
    axial = ct.array.transpose(2, 0, 1)[::-1, :, ::-1]
    affine = ct.affine[:, [2, 0, 1, 3]]
    affine[:3, 3] += affine[:3, 0] * (axial.shape[0] - 1) + affine[:3, 2] * (axial.shape[2] - 1)
    affine[:3, [0, 2]] *= -1
    uid = "2.25.{}".format
    phantom.write_series(
        Volume(axial.clip(-1024, 3071).astype(np.int16), affine),
        folder,
        patient=phantom.PatientAttributes("HOSPITAL-4711", "Copied^Scan"),
        study=phantom.StudyAttributes(uid(1), date(2024, 1, 1), uid(2)),
        series=phantom.SeriesAttributes(uid(3)),
    )


def query(site: Site, sql: str) -> list[tuple]:
    with duckdb.connect(str(site.folder / "results/tables/trabecula.duckdb"), read_only=True) as database:
        return database.execute(sql).fetchall()


def study_of(site: Site, subject: str) -> str:
    rows = pq.read_table(site.folder / "private/verse/linkage.parquet").to_pylist()
    (study,) = {row["study_id"] for row in rows if any(f"/{subject}_ct.nii.gz" in file for file in row["files"])}
    return study


def test_an_experts_label_map_is_found_by_its_name(verse: Site) -> None:
    study = study_of(verse, "sub-verse007")
    rows = query(
        verse,
        "SELECT level, complete, trabecular_hu_mean, genant_grade, level_uncertain, segmenter FROM vertebrae "
        f"WHERE study_id = '{study}' ORDER BY centroid_z_mm",
    )
    assert [row[0] for row in rows] == LOW_TO_HIGH
    # The ends are cut by the edge of the scan, and the vertebrae between are whole.
    assert [row[1] for row in rows] == [False, True, True, True, True, True, False]
    assert all(60 < row[2] < 200 for row in rows[1:-1]) and rows[0][2] is rows[-1][2] is None
    assert dict((row[0], row[3]) for row in rows)["T12"] == 2
    assert {row[4:] for row in rows} == {(False, "masks")}
    assert query(verse, f"SELECT status, reason FROM studies WHERE study_id = '{study}'") == [("measured", None)]


def test_a_scan_is_known_again_as_dicom_and_as_nifti(verse: Site) -> None:
    rows = query(verse, "SELECT status, stage, reason, flags FROM studies")
    assert len(rows) == 3
    assert [row[1] for row in rows if row[2] == "same_scan"] == ["convert"]
    assert sum("same_scan" in row[3] for row in rows) == 1
    # The DICOM study has no name of a file, by which its label map could be found.
    assert all(row[0] == "measured" or row[2] in ("same_scan", "mask_missing") for row in rows)


def test_every_file_is_accounted_for(verse: Site) -> None:
    files = query(verse, "SELECT reason, n_files FROM failures WHERE stage = 'index'")
    assert dict(files) == {"label_map": 2}
    unknown = query(verse, f"SELECT kvp, sex, age_years FROM studies WHERE study_id = '{study_of(verse, SUBJECTS[0])}'")
    assert unknown == [(None, None, None)]


def test_no_name_of_the_data_set_is_published(verse: Site) -> None:
    words = [b"verse007", b"verse008", b"HOSPITAL-4711", b"from_the_archive"]
    for folder in ("results", "logs"):
        for file in (verse.folder / folder).rglob("*"):
            if file.is_file() and "records" not in file.parts:
                content = file.read_bytes()
                assert not any(word in content for word in words), file.name


def test_results_of_a_nifti_scan_are_dicom_objects_too(verse: Site) -> None:
    (folder,) = (verse.folder / "results/verse/export/dicom").glob(f"*/{study_of(verse, 'sub-verse007')}")
    seg = pydicom.dcmread(folder / "seg.dcm")
    assert {segment.SegmentLabel for segment in seg.SegmentSequence} == {f"{level} body" for level in LOW_TO_HIGH}
    assert pydicom.dcmread(folder / "sr.dcm").Modality == "SR"
