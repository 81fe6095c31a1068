"""Given label maps: NIfTI and DICOM SEG, their codings, grids and frames, and a shard of them."""

import errno
import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pyarrow as pa
import pytest
import SimpleITK as sitk
from ct_files import UID, ct_dataset, save
from nnunet_folders import HU_OF_LEVEL, painted_scan
from pydicom.sr.codedict import codes as snomed
from pydicom.sr.coding import Code
from seg_files import BODY, FRAME, Described, blocks, scan_around, write_seg

from trabecula import crop, tables
from trabecula.cohort.label_maps import ArchivedStudy
from trabecula.cohort.linkage import LINKAGE
from trabecula.cohort.private import write_private
from trabecula.errors import StudyFailure
from trabecula.image.codings import CODINGS, Coding, Structure, read_coding
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import Volume, bounds_mm, read_nifti, resample, write_nifti
from trabecula.model.segmenter_settings import Masks
from trabecula.segment import Job, dicom_seg, masks, open_backend, read_archived_studies, segment_shard
from trabecula.segment.dicom_seg import read_seg


def bodies_only(labels: Volume) -> Volume:
    return labels.with_array(np.where(labels.array < 50, labels.array, 0).astype(np.uint8))


def numbered(labels: Volume, coding: Coding) -> Volume:
    """A canonical label map in another coding's numbers."""
    back = np.zeros(256, np.uint16)
    for value, code in reversed(list(coding.codes.items())):
        back[code] = value
    return labels.with_array(back[labels.array])


# --- NIfTI --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["canonical", "vertebrae_pp", "vertebralbodiesct"])
def test_bodies_come_out_in_the_canonical_coding(tmp_path: Path, coding: str) -> None:
    ct, labels = painted_scan()
    bodies = bodies_only(labels)
    # Another grid: half the spacing and mirrored axes.
    finer, affine = (120, 120, 220), np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = 58.5, 58.5, -110.5
    mask = numbered(bodies, CODINGS[coding])
    write_nifti(resample(mask, finer, affine, outside=0, how="nearest"), tmp_path / "m.nii.gz")
    result, levels = masks.segment(ct, tmp_path / "m.nii.gz", coding=CODINGS[coding])
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    assert np.array_equal(result.array, bodies.array)


@pytest.mark.parametrize("coding", ["verse", "totalsegmentator", "totalspineseg", "moose"])
def test_whole_vertebrae_come_out_in_two_parts(tmp_path: Path, coding: str) -> None:
    ct, labels = painted_scan()
    vertebra = labels.array % POSTERIOR
    whole = labels.with_array(np.where(vertebra < 50, vertebra, 0).astype(np.uint8))
    write_nifti(numbered(whole, CODINGS[coding]), tmp_path / "m.nii.gz")
    result, levels = masks.segment(ct, tmp_path / "m.nii.gz", coding=CODINGS[coding])
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    assert np.array_equal(result.array % POSTERIOR, whole.array)
    posterior = labels.array > POSTERIOR
    assert (result.array[posterior] > POSTERIOR).all()


def test_numbers_beyond_a_byte_and_floats_are_read(tmp_path: Path) -> None:
    ct, labels = painted_scan()
    (tmp_path / "mine.tsv").write_text("value\tlevel\n1000\tL1 body\n2000\tL2 body\n")
    numbers = np.zeros(labels.array.shape, np.float32)
    numbers[labels.array == CODE_OF_LEVEL["L1"]] = 1000
    numbers[labels.array == CODE_OF_LEVEL["L2"]] = 2000
    write_nifti(labels.with_array(numbers), tmp_path / "m.nii.gz")
    result, levels = masks.segment(ct, tmp_path / "m.nii.gz", coding=read_coding(tmp_path / "mine.tsv"))
    assert [level.name for level in levels] == ["L2", "L1"]
    assert np.array_equal(result.array, np.where(numbers > 0, labels.array, 0))


def test_a_mask_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    ct, labels = painted_scan()

    def refused(path: Path, coding: str = "canonical") -> str:
        with pytest.raises(StudyFailure) as failure:
            masks.segment(ct, path, coding=CODINGS[coding])
        return failure.value.reason

    far = labels.affine.copy()
    far[:3, 3] += 10 * (bounds_mm(labels)[1] - bounds_mm(labels)[0])
    write_nifti(Volume(labels.array, far), tmp_path / "far.nii.gz")
    write_nifti(labels.with_array(np.full(labels.array.shape, 0.5, np.float32)), tmp_path / "soft.nii.gz")
    write_nifti(labels.with_array(np.full(labels.array.shape, -1, np.int16)), tmp_path / "negative.nii.gz")
    write_nifti(labels.with_array(np.zeros_like(labels.array)), tmp_path / "empty.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert refused(tmp_path / "none.nii.gz") == "mask_missing"
    assert refused(tmp_path / "broken.nii.gz") == "mask_unreadable"
    assert [refused(tmp_path / f"{name}.nii.gz") for name in ("far", "soft", "negative")] == ["mask_mismatch"] * 3
    assert refused(tmp_path / "empty.nii.gz") == "no_vertebra"


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_mask_that_was_cut_off_is_refused(tmp_path: Path, ending: str) -> None:
    ct, labels = painted_scan()
    noise = np.random.default_rng(0).integers(0, 2, labels.array.shape, np.uint8)  # so that packing keeps some length
    write_nifti(labels.with_array(np.where(labels.array == 0, noise, labels.array)), tmp_path / f"whole.{ending}")
    raw = (tmp_path / f"whole.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(raw[: int(0.8 * len(raw))])
    with pytest.raises(StudyFailure, match="mask_unreadable"):
        masks.segment(ct, tmp_path / f"cut.{ending}", coding=CODINGS["canonical"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "far more voxels"),
        ({"datatype": 0}, "HeaderDataError"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 1e-9, 1, 1, 0, 0, 0, 0]}, "smaller or larger"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, 1e9, 1, 1, 0, 0, 0, 0]}, "smaller or larger"),
        ({"srow_x": [1, 0, 0, float("nan")]}, "where it lies"),
    ],
    ids=["bomb", "type", "tiny", "huge", "nowhere"],
)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_hostile_header_is_refused(tmp_path: Path, change: dict, why: str, ending: str) -> None:
    write_nifti(painted_scan()[1], tmp_path / "whole.nii")
    content = (tmp_path / "whole.nii").read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for field, value in change.items():
        header[field] = value
    content = header.binaryblock + content[348:]
    (tmp_path / f"m.{ending}").write_bytes(gzip.compress(content) if ending == "nii.gz" else content)
    with pytest.raises(StudyFailure, match=why) as failure:
        masks.segment(painted_scan()[0], tmp_path / f"m.{ending}", coding=CODINGS["canonical"])
    assert failure.value.reason == "mask_unreadable"


def test_a_mask_on_storage_that_fails_for_a_moment_is_read_again(tmp_path: Path, monkeypatch) -> None:
    ct, labels = painted_scan()
    write_nifti(labels, tmp_path / "m.nii.gz")
    read, failures = nib.Nifti1Image.from_filename, [OSError(errno.ESTALE, "stale")]
    monkeypatch.setattr(masks.Nifti1Image, "from_filename", lambda path: read(path) if not failures else fail(failures))
    assert masks.segment(ct, tmp_path / "m.nii.gz", coding=CODINGS["canonical"])[1]
    assert not failures


def fail(failures: list[OSError]) -> None:
    raise failures.pop()


def test_a_body_at_the_edge_of_its_mask_counts_as_cut(tmp_path: Path) -> None:
    ct, labels = painted_scan()
    middle = int(np.argwhere(labels.array == CODE_OF_LEVEL["L2"])[:, 2].mean())
    write_nifti(Volume(labels.array[:, :, :middle].copy(), labels.affine), tmp_path / "m.nii.gz")
    result, levels = masks.segment(ct, tmp_path / "m.nii.gz", coding=CODINGS["canonical"])
    assert [level.name for level in levels if "cut_by_mask" in level.flags] == ["L2"]
    keys = {"cohort": "c", "patient_id": "p", "study_id": "s", "segmenter": "masks"}
    rows = [{**keys, "level": x.name, "level_confidence": 1.0, "level_uncertain": False} for x in levels]
    rows = [row | {"level_flags": list(level.flags)} for row, level in zip(rows, levels, strict=True)]
    cut = crop.cut_study(ct, result, rows, size=32, spacing_mm=2.0)
    assert {vertebra.level: vertebra.complete for vertebra in cut}["L2"] is False


# --- DICOM SEG ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_lie_where_their_slices_lie(tmp_path: Path, kind: str) -> None:
    described: list[Described] = [("L2 body", BODY, []), ("L1 body", BODY, [])]
    parts = blocks(2)
    segments = read_seg(write_seg(tmp_path / "m.dcm", parts, described, kind))
    assert segments.frame_of_reference == FRAME
    for number, part in enumerate(parts, start=1):
        k, j, i = np.argwhere(part).T
        places = np.column_stack([-17 + 1.5 * i, -20 + 2.0 * j, -30 + 3.0 * k]) * [-1, -1, 1]
        inside = segments.labels.to_mm(np.argwhere(segments.labels.array == number))
        assert np.allclose(np.sort(inside, axis=0), np.sort(places, axis=0), atol=1e-3)


@pytest.mark.parametrize(
    "described",
    [
        ("L1 body", snomed.SCT.Bone, []),
        ("vertebrae_L1", BODY, []),
        ("Segment_1", BODY, [snomed.SCT.L1Vertebra]),
        ("Segment_1", BODY, [Code("T-11910", "SRT", "First lumbar vertebra")]),
    ],
    ids=["label", "type and label", "region", "retired code"],
)
def test_a_body_is_known_by_its_label_or_its_codes(tmp_path: Path, described: Described) -> None:
    path = write_seg(tmp_path / "m.dcm", blocks(1), [described])
    result, levels = masks.segment(scan_around(), path, coding=CODINGS["verse"], frame_of_reference=FRAME)
    assert [level.name for level in levels] == ["L1"]
    assert set(np.unique(result.array)) == {0, CODE_OF_LEVEL["L1"]}


@pytest.mark.parametrize("described", [("vertebrae_L1", snomed.SCT.Bone, []), ("x", snomed.SCT.L1Vertebra, [])])
def test_a_vertebra_is_a_whole_one(tmp_path: Path, described: Described) -> None:
    segments = read_seg(write_seg(tmp_path / "m.dcm", blocks(1), [described]))
    assert segments.structures[1].whole and segments.structures[1].code == CODE_OF_LEVEL["L1"]


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    path = write_seg(tmp_path / "m.dcm", blocks(1), [("L1 body", BODY, [])])
    with pytest.raises(StudyFailure, match="mask_mismatch"):
        masks.segment(scan_around(), path, coding=CODINGS["verse"], frame_of_reference=f"{UID}.78")


def test_a_ct_or_a_seg_of_something_else_is_refused(tmp_path: Path) -> None:
    ct = save(ct_dataset(FrameOfReferenceUID=FRAME), tmp_path / "ct.dcm")
    with pytest.raises(StudyFailure, match="mask_unreadable"):
        read_seg(ct)
    with pytest.raises(StudyFailure, match="no_vertebra"):
        read_seg(write_seg(tmp_path / "m.dcm", blocks(1), [("Liver", snomed.SCT.Liver, [])]))


def test_a_real_seg_of_a_liver_holds_no_vertebra_and_lies_where_its_twin_lies(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object of the dcmqi project, taken for a vertebra, against the same mask as NRRD."""
    folder = real_data / "dcmqi_ct_seg/24x38x3"
    with pytest.raises(StudyFailure, match="no_vertebra"):
        read_seg(folder / "seg/label.seg")
    monkeypatch.setattr(dicom_seg, "structure_named", lambda text: Structure(20))
    liver = read_seg(folder / "seg/label.seg").labels
    twin = Volume.from_sitk(sitk.ReadImage(folder / "nrrd/label.nrrd"))
    again = resample(liver, twin.array.shape, twin.affine, outside=0, how="nearest")
    assert np.array_equal(again.array > 0, twin.array > 0) and again.array.any()


# --- a shard ------------------------------------------------------------------------------------------


@pytest.fixture
def shard(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], list[dict[str, Any]]]:
    """Segments a shard of two studies whose masks a pattern names; the first has none."""
    first_uid = getattr(request, "param", "1.2.1")
    ct, labels = painted_scan()
    studies = [{"cohort": "c", "patient_id": "pa1", "study_id": study} for study in ("st1", "st2")]
    rows = []
    for number, study in enumerate(studies, start=1):
        write_nifti(ct, tmp_path / f"{study['study_id']}.nii")
        part = {"path": str(tmp_path / f"{number}.dcm")}
        uid = first_uid if number == 1 else "1.2.2"
        identity = {"study_uid": uid, "study_id": study["study_id"], "shard": "00001", "slices": [part]}
        rows.append(identity | {"chosen": True})
    write_private(pa.Table.from_pylist(rows, LINKAGE), tmp_path / "linkage.parquet")
    write_nifti(labels, tmp_path / "mask-st2.nii")
    write_nifti(labels, tmp_path / "mask-1.2.2.nii")

    def run(pattern: str) -> list[dict[str, Any]]:
        identities = partial(read_archived_studies, tmp_path / "linkage.parquet", "00001")
        backend = open_backend(Masks("canonical", f"{tmp_path}/{pattern}"), Job(1, 1000, tmp_path), identities)
        (tmp_path / "labels").mkdir(exist_ok=True)
        table = segment_shard(studies, backend, ct_folder=tmp_path, label_folder=tmp_path / "labels")
        return tables.cast(list(table), tables.SEGMENT).to_pylist()

    return run


@pytest.mark.parametrize("pattern", ["mask-{study_id}.nii", "mask-{study_instance_uid}.nii"])
def test_a_failed_study_is_a_row_and_its_neighbour_goes_on(
    tmp_path: Path, shard: Callable[[str], list[dict[str, Any]]], pattern: str
) -> None:
    table = shard(pattern)
    assert [(row["study_id"], row["reason"]) for row in table[:1]] == [("st1", "mask_missing")]
    assert [row["level"] for row in table[1:]] == list(HU_OF_LEVEL)
    assert {row["segmenter"] for row in table} == {"masks"}
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["st2.nii.gz"]
    assert np.array_equal(read_nifti(tmp_path / "labels/st2.nii.gz").array, painted_scan()[1].array)


def test_the_scans_frame_of_reference_is_read_from_its_files(
    tmp_path: Path, shard: Callable[[str], list[dict[str, Any]]]
) -> None:
    write_seg(tmp_path / "mask-st1.nii", blocks(1), [("L1 body", BODY, [])])
    save(ct_dataset(FrameOfReferenceUID=FRAME), tmp_path / "1.dcm")
    assert shard("mask-{study_id}.nii")[0]["level"] == "L1"
    save(ct_dataset(FrameOfReferenceUID=f"{FRAME}.1"), tmp_path / "1.dcm")
    assert shard("mask-{study_id}.nii")[0]["reason"] == "mask_mismatch"


@pytest.mark.parametrize("shard", ["/../mask-st2", "x/../../mask-1.2.2", "1.2\0", ""], indirect=True)
def test_no_uid_leads_to_another_file(tmp_path: Path, shard: Callable[[str], list[dict[str, Any]]]) -> None:
    (tmp_path / "mask-").mkdir()
    (tmp_path / "mask-x").mkdir()
    table = shard("mask-{study_instance_uid}.nii")
    assert table[0]["reason"] == "mask_missing" and table[0]["detail"]
    assert [row["level"] for row in table[1:]] == list(HU_OF_LEVEL)


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(128) + b"DICM" + b"\2\0\0\0UL" + b"\xff" * 40])
def test_a_damaged_file_says_no_frame_of_reference(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert ArchivedStudy({}, first_file=tmp_path / "x").frame_of_reference() is None
    assert ArchivedStudy({}, first_file=tmp_path / "gone").frame_of_reference() is None
