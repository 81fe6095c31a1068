"""Convert multi-frame files: every frame goes to its place."""

from collections.abc import Sequence
from typing import Any

import pytest
from ct_files import compressed, ct_dataset, save_as
from linear_stacks import (
    EXACT,
    MENDED,
    TWICE,
    VARIED,
    WHOLE,
    beside_mm,
    check_codes,
    check_shows,
    convert,
    converted,
    error_hu,
    every,
    rescaled,
    shuffled,
    stored,
    tilted,
    without,
)
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items


def enhanced(slices: Sequence[Dataset], *, per_frame: Sequence[str], **attributes: Any) -> Dataset:
    """Make one Enhanced CT of slices; sequences named in `per_frame` stand with each frame, others are shared."""
    macros = {
        "PlanePositionSequence": ["ImagePositionPatient"],
        "PlaneOrientationSequence": ["ImageOrientationPatient"],
        "PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"],
        "PixelValueTransformationSequence": ["RescaleSlope", "RescaleIntercept"],
    }

    def group(dataset: Dataset, *, shared: bool) -> Dataset:
        items = Dataset()
        for sequence, keywords in macros.items():
            if (sequence in per_frame) != shared and all(keyword in dataset for keyword in keywords):
                item = Dataset()
                for keyword in keywords:
                    setattr(item, keyword, dataset[keyword].value)
                setattr(items, sequence, Items([item]))
        return items

    defaults: dict[str, Any] = {
        "SOPClassUID": uid.EnhancedCTImageStorage,
        "NumberOfFrames": len(slices),
        "Rows": slices[0].Rows,
        "Columns": slices[0].Columns,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "SliceThickness": None,
        "SharedFunctionalGroupsSequence": Items([group(slices[0], shared=True)]),
        "PerFrameFunctionalGroupsSequence": Items([group(dataset, shared=False) for dataset in slices]),
        "PixelData": b"".join(dataset.PixelData for dataset in slices),
    }
    return ct_dataset(**defaults | attributes)


POSITION, RESCALE = "PlanePositionSequence", "PixelValueTransformationSequence"
ALL = [POSITION, RESCALE, "PlaneOrientationSequence", "PixelMeasuresSequence"]
LEGACY = uid.LegacyConvertedEnhancedCTImageStorage


@pytest.mark.parametrize(
    ("make", "repairs", "flags"),
    [
        pytest.param(lambda: enhanced(every(3, 8), per_frame=[POSITION]), [], [], id="geometry and rescale shared"),
        pytest.param(lambda: enhanced(every(3, 8), per_frame=ALL), [], [], id="all of it with each frame"),
        pytest.param(lambda: enhanced(shuffled(every(3, 8)), per_frame=[POSITION]), [], [], id="frames shuffled"),
        pytest.param(lambda: enhanced(every(3, 8)[::-1], per_frame=ALL), [], [], id="frames descending"),
        pytest.param(
            lambda: enhanced(shuffled(rescaled(every(3, 8), VARIED)), per_frame=ALL),
            [],
            ["?rescale_varies"],
            id="frames shuffled, each with its rescale",
        ),
        pytest.param(
            lambda: enhanced(every(3, 8), per_frame=[POSITION], PhotometricInterpretation="MONOCHROME1"),
            [],
            ["monochrome1"],
            id="MONOCHROME1",
        ),
        pytest.param(
            lambda: enhanced(every(3, 8), per_frame=[POSITION], SOPClassUID=LEGACY), [], [], id="legacy converted"
        ),
        pytest.param(
            lambda: enhanced(shuffled(rescaled(every(3, 8), VARIED)), per_frame=ALL, SOPClassUID=LEGACY),
            [],
            ["?rescale_varies"],
            id="legacy converted and shuffled, each with its rescale",
        ),
        pytest.param(
            lambda: enhanced(without(every(3, 8), 4), per_frame=[POSITION]),
            ["missing_slices"],
            [],
            id="a frame is missing",
        ),
        pytest.param(
            lambda: enhanced(
                stored(every(3, 8), "<u2", 12, -1024),
                per_frame=[POSITION],
                BitsStored=12,
                HighBit=11,
                PixelRepresentation=0,
            ),
            [],
            [],
            id="12 bits unsigned",
        ),
    ],
)
def test_frames_go_to_their_places(tmp_path, make, repairs, flags):
    (entry,), (ct,) = convert(tmp_path, [make()])
    assert entry["repairs"] == repairs and entry["n_files"] == 1
    check_codes(entry["flags"], [*flags, "?thick_slices"])
    assert ct.array.size == 24 * 20 * 8 and beside_mm(ct, WHOLE) <= 0.01
    assert error_hu(ct) <= (MENDED if repairs else EXACT)


def test_fewer_descriptions_than_frames_are_refused(tmp_path):
    file = enhanced(every(3, 8), per_frame=ALL)
    file.PerFrameFunctionalGroupsSequence = Items(list(file.PerFrameFunctionalGroupsSequence)[:5])
    entries, volumes = convert(tmp_path, [file])
    assert entries and volumes == []


def test_cut_frames_are_refused_or_missing(tmp_path):
    """The last three frames are not there."""
    file = enhanced(every(3, 8), per_frame=ALL)
    file.PixelData = file.PixelData[: 5 * 960]
    entries, volumes = convert(tmp_path, [file])
    assert all(error_hu(ct) <= EXACT and 5 in ct.array.shape for ct in volumes)
    assert [entry["reason"] for entry in entries if entry["status"] == "failed"] in (["truncated"], [])
    assert all("damaged_slices" in entry["repairs"] for entry in entries if entry["status"] == "ok")


def test_frames_without_a_rescale_are_refused(tmp_path):
    slices = every(3, 8, RescaleSlope=None, RescaleIntercept=None)
    (entry,), _ = convert(tmp_path, [enhanced(slices, per_frame=ALL)])
    assert entry["reason"] == "no_rescale"


def test_compressed_frames_go_to_their_places(tmp_path):
    slices = shuffled(every(3, 8))
    frames = [compressed(dataset, uid.JPEGLSLossless) for dataset in slices]
    file = enhanced(slices, per_frame=ALL, SOPInstanceUID=TWICE[0])
    save_as(file, tmp_path / "in" / "frames", uid.JPEGLSLossless, frames)
    (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
    assert entry["repairs"] == [] and error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01


def test_tilted_frames_are_made_upright(tmp_path):
    slices = tilted(-14.0)
    (entry,), (ct,) = convert(tmp_path, [enhanced(shuffled([*slices, *tilted(-14.0, 8)[7:]]), per_frame=ALL)])
    assert entry["repairs"] == ["gantry_tilt"]
    check_shows(ct, tilted(-14.0, 8), MENDED)
