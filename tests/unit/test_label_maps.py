"""The path of a study's label map, from its names in the archive."""

from pathlib import Path

import pyarrow as pa
import pytest

from trabecula.cohort.label_maps import mask_path, read_archived_studies
from trabecula.cohort.linkage import LINKAGE
from trabecula.cohort.private import write_private
from trabecula.dicom.files import as_text
from trabecula.dicom.headers.record import NIFTI
from trabecula.errors import StudyFailure

KEYS = {"cohort": "verse", "patient_id": "pa1", "study_id": "st1"}
VERSE = "rawdata/sub-verse007/sub-verse007_ct.nii.gz"


def path_of(pattern: str, *places: str, member: str | None = None, syntax: str = NIFTI) -> str:
    """Give the path of the label map of the first file's study, when all of these are of one patient."""
    rows = [
        {
            **{"study_id": f"st{number}", "patient_id": "pa1", "study_uid": f"1.2.{number}", "chosen": True},
            **{"shard": f"{number:05d}", "archive": "/data/verse"},
            "slices": [{"path": f"/data/verse/{place}", "member": member, "transfer_syntax": syntax}],
        }
        for number, place in enumerate(places, start=1)
    ]
    write_private(pa.Table.from_pylist(rows, LINKAGE), Path("linkage.parquet"))
    identity = read_archived_studies(Path("linkage.parquet"), "00001")["st1"]
    return str(mask_path(pattern, KEYS, identity))


def missing(*args: str, **options: str) -> str:
    """Give the detail with which a study fails for its label map; it holds none of the archive's names."""
    with pytest.raises(StudyFailure) as failure:
        path_of(*args, **options)
    assert failure.value.reason == "mask_missing" and failure.value.detail
    assert not any(word in str(failure.value) for word in ("verse007", "sub-", "1.2.1", "rawdata"))
    return failure.value.detail


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "place", "expected"),
    [
        ("d/{subject}/{name}_seg-vert_msk.nii.gz", VERSE, "d/sub-verse007/sub-verse007_seg-vert_msk.nii.gz"),
        ("{name}_seg-vert_msk.nii.gz", "sub-verse007_ct.nii.gz", "sub-verse007_seg-vert_msk.nii.gz"),
        ("{name}_msk.nii", "a/sub-1/sub-1_split-verse268_CT.nii", "sub-1_split-verse268_msk.nii"),
        (
            "{subject}/{session}/{name}_seg.nii.gz",
            "sub-1/ses-2/sub-1_ses-2_ct.nii.gz",
            "sub-1/ses-2/sub-1_ses-2_seg.nii.gz",
        ),
        ("m/{subject}/vertebrae.nii.gz", "s0011/ct.nii.gz", "m/s0011/vertebrae.nii.gz"),
        ("labels/{name}_seg.nii.gz", "volumes/liver_12.nii.gz", "labels/liver_12_seg.nii.gz"),
        ("labelsTr/{name}.nii.gz", "imagesTr/case_7_0000.nii.gz", "labelsTr/case_7.nii.gz"),
        ("{study_id}-{cohort}-{patient_id}.nii", VERSE, "st1-verse-pa1.nii"),
        ("{name}.nii", "Knie Größe {study_id} (2).nii", "Knie Größe {study_id} (2).nii"),
        ("{name}.nii", as_text("Gro\udcdf.nii"), "Gro\udcdf.nii"),
        ("a{{b}}/{name}.nii", VERSE, "a{b}/sub-verse007.nii"),
    ],
)
def test_names_of_nifti_files_fill_the_pattern(pattern, place, expected):
    assert path_of(pattern, place) == expected


def test_a_file_inside_another_is_named_by_its_own_name():
    assert path_of("{subject}/{name}.nii", "all.zip", member=VERSE) == "sub-verse007/sub-verse007.nii"


@pytest.mark.parametrize("field", ["name", "subject", "session"])
def test_a_dicom_study_has_no_name_of_a_file(field):
    detail = missing(f"{{study_id}}-{{{field}}}.nii", "a/1.dcm", syntax="1.2.840.10008.1.2")
    assert f"{{{field}}}" in detail and "DICOM" in detail


@pytest.mark.parametrize("field", ["session", "study_instance_uid"])
def test_a_name_that_a_nifti_file_lacks_is_said(field):
    assert f"{{{field}}}" in (detail := missing(f"{{name}}/{{{field}}}.nii", VERSE)) and "NIfTI" in detail


@pytest.mark.parametrize("member", ["../../../secret/.nii.gz", "..nii", "a/..nii.gz", "sub-../ct.nii.gz", "x\0y.nii"])
def test_no_name_leads_to_another_folder(member):
    """Members of zip and tar files may have any names."""
    for pattern in ("masks/{name}.nii", "masks/{subject}.nii"):
        try:
            path = path_of(pattern, "all.zip", member=member)
        except StudyFailure as failure:
            assert failure.reason == "mask_missing" and "secret" not in str(failure)
        else:
            assert Path(path).parent == Path("masks") and ".." not in Path(path).parts


def test_one_label_map_is_never_that_of_several_studies():
    places = ["sub-1/ses-1/sub-1_ses-1_ct.nii", "sub-1/ses-2/sub-1_ses-2_ct.nii"]
    assert "2 studies" in missing("masks/{subject}.nii", *places)
    assert path_of("masks/{subject}_{session}.nii", *places) == "masks/sub-1_ses-1.nii"
    assert path_of("masks/{name}.nii", *places) == "masks/sub-1_ses-1.nii"
    assert path_of("masks/{subject}.nii", places[0]) == "masks/sub-1.nii"
