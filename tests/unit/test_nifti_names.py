"""Names of NIfTI files: whose scan it is, and whether it is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trabecula.nifti.names import is_nifti, is_sidecar, name_of, stem_of

words = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("path", "patient", "session", "root"),
    [
        ("sub-01/ses-2/ct/sub-01_ses-2_acq-bone_ct.nii.gz", "sub-01", "ses-2", ""),
        ("sub-01/ses-1/sub-01_ses-1_ct.nii.gz", "sub-01", "ses-1", ""),
        ("sub-01/2019-03-01/ct.nii.gz", "sub-01", "2019-03-01", ""),
        ("sub-01/anything/at/all.nii", "sub-01", None, ""),
        ("sub-01_ct.nii.gz", "sub-01", None, ""),
        ("sub-01.NII.GZ", "sub-01", None, ""),
        ("sub-000_ct.nii.gz", "sub-000", None, ""),
        ("rawdata/sub-verse007/sub-verse007_ct.nii.gz", "sub-verse007", None, ""),
        ("rawdata/sub-verse401/sub-verse401_split-verse253_ct.nii.gz", "sub-verse401", None, ""),
        ("dataset-01training/rawdata/sub-gl003/sub-gl003_dir-ax_ct.nii.gz", "sub-gl003", None, "dataset-01training"),
        ("s0001/ct.nii.gz", "s0001", None, ""),
        ("Totalsegmentator_dataset_v201/s0001/ct.nii.gz", "s0001", None, "Totalsegmentator_dataset_v201"),
        ("LIDC-IDRI-0001/CT_1.nii.gz", "LIDC-IDRI-0001", None, ""),
        ("p1/baseline/scan.nii.gz", "p1", "baseline", ""),
        ("p1/20190301/CT.nii.gz", "p1", "20190301", ""),
        ("p1/images/ct.nii", "p1", None, ""),
        ("imagesTr/case_0000.nii.gz", "case", None, "imagesTr"),
        ("Task01/imagesTs/liver_7_0001.nii.gz", "liver_7", None, "Task01/imagesTs"),
        ("volumes/colon_12.nii.gz", "colon_12", None, "volumes"),
        ("volume-0.nii", "volume-0", None, ""),
        ("LiTS/volume-130.nii", "volume-130", None, "LiTS"),
        ("flat/CT_12.nii.gz", "CT_12", None, "flat"),
        ("img0001.nii.gz", "img0001", None, ""),
        ("001.nii.gz", "001", None, ""),
        ("001-CT.nii.gz", "001", None, ""),
        ("CHUM-001__CT.nii.gz", "CHUM-001", None, ""),
        ("2019-03-01/001.nii.gz", "001", None, "2019-03-01"),
        ("example_ct.nii.gz", "example_ct", None, ""),
        ("ct.nii.gz", None, None, ""),
        ("images/volume.nii.gz", None, None, ""),
    ],
)
def test_a_path_says_whose_scan_it_is(path, patient, session, root):
    name = name_of(path)
    assert (name.patient, name.session, name.root, name.modality, name.is_label_map) == (
        patient,
        session,
        root,
        "CT",
        False,
    )


@pytest.mark.parametrize(
    "path",
    [
        "derivatives/sub-verse007/sub-verse007_seg-vert_msk.nii.gz",
        "derivatives/sub-1/sub-1_desc-resampled_ct.nii.gz",
        "sub-verse007_seg-vert_msk.nii.gz",
        "sub-1/sub-1_space-ct_dseg.nii.gz",
        "sub-1/sub-1_label-L1_probseg.nii.gz",
        "sub-1/sub-1_label-L1_mask.nii.gz",
        "labelsTr/case.nii.gz",
        "labels/liver_12.nii.gz",
        "labels_v2/liver_12.nii.gz",
        "Masks/1.nii",
        "s0001/segmentations/vertebrae_L1.nii.gz",
        "label0001.nii.gz",
        "segmentation-0.nii",
        "001_label.nii.gz",
        "001_labels.nii.gz",
        "001_seg.nii.gz",
        "001-Mask-2.nii.gz",
        "bdmap_05_predicted.nii.gz",
        "p1/SEG.nii.gz",
        "001_seg_fast.nii.gz",
    ],
)
def test_a_name_says_that_it_is_drawn_on_a_scan(path):
    assert name_of(path).is_label_map


@pytest.mark.parametrize(
    ("path", "modality"),
    [
        ("sub-1/anat/sub-1_T1w.nii.gz", "MR"),
        ("sub-1/anat/sub-1_angio.nii.gz", "MR"),
        ("case_angio.nii.gz", "CT"),
        ("sub-1/dwi/sub-1_dwi.nii.gz", "MR"),
        ("sub-1/pet/sub-1_pet.nii.gz", "PT"),
        ("PETCT_1/SUV.nii.gz", "PT"),
        ("PETCT_1/CTres.nii.gz", "CT"),
        ("s0001/mri.nii.gz", "MR"),
        ("sub-T1w_ct.nii.gz", "CT"),
    ],
)
def test_a_name_says_that_it_is_no_ct(path, modality):
    assert name_of(path).modality == modality


def test_files_are_known_by_their_endings():
    assert is_nifti("a/B.NII") and is_nifti("a.nii.gz") and not is_nifti("nii") and not is_nifti("a.nii.png")
    assert is_sidecar("participants.TSV") and is_sidecar("a.json") and not is_sidecar("a.nii")
    assert stem_of("a.b/c.d.nii.gz") == "c.d"


@given(st.lists(words, min_size=1, max_size=5), st.sampled_from([".nii", ".nii.gz", ".NII.gz"]))
def test_any_path_has_a_name(parts, ending):
    name_of("/".join(parts) + ending)


@given(st.lists(st.integers(0, 9999), min_size=2, max_size=30, unique=True))
@pytest.mark.parametrize(
    "pattern", ["ct_{}", "volume-{}", "img{:04}", "{}", "case_{}_0000", "p{}/ct", "sub-{}_ct", "Scan{}"]
)
@pytest.mark.parametrize("folder", ["", "images/", "2019-01-01/", "LiTS/", "site/images/"])
def test_numbered_files_are_of_as_many_people(folder, pattern, numbers):
    names = [name_of(f"{folder}{pattern.format(number)}.nii.gz") for number in numbers]
    assert len({(name.root, name.patient) for name in names}) == len(numbers)


@given(words, words)
def test_sessions_of_a_subject_are_of_one_person(first, second):
    names = {name_of(f"sub-07/ses-{session}/ct/sub-07_ct.nii.gz") for session in (first, second)}
    assert {(name.root, name.patient) for name in names} == {("", "sub-07")}
