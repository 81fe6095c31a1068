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

from trabecula.convert.by_hand import read_folder


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
FURTHER = {
    "KVP": "CTXRayDetailsSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}


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


STRAY = {
    "position": {"ImagePositionPatient": [500, 500, 500]},
    "directions": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
    "pixel spacing": {"PixelSpacing": [9, 9], "SliceThickness": 77},
    "rescale": {"RescaleSlope": 7, "RescaleIntercept": 0, "RescaleType": "US"},
    "voltage and kernel": {"KVP": 40, "ConvolutionKernel": "OTHER"},
    "numbers": {"AcquisitionNumber": 9, "TemporalPositionIndex": 9},
    "an empty position": {"ImagePositionPatient": None, "PixelSpacing": None},
}
STRAY["all of it"] = {keyword: content for strays in list(STRAY.values())[:-1] for keyword, content in strays.items()}


@pytest.mark.parametrize("stray", STRAY)
@pytest.mark.parametrize("per_frame", [[POSITION], ALL], ids=["shared", "with each frame"])
@pytest.mark.parametrize("sop_class", [uid.EnhancedCTImageStorage, LEGACY], ids=["enhanced", "legacy"])
@pytest.mark.parametrize("n", [1, 8])
def test_stray_values_beside_the_functional_groups_change_nothing(tmp_path, stray, per_frame, sop_class, n):
    slices = shuffled(rescaled(every(3, 8), VARIED))[:n] if per_frame == ALL else shuffled(every(3, 8))[:n]
    for folder, strays in (("in", STRAY[stray]), ("plain", {})):
        file = enhanced(slices, per_frame=per_frame, SOPClassUID=sop_class, SOPInstanceUID=TWICE[0])
        described = {"KVP": 120, "ConvolutionKernel": "STANDARD", "FrameType": file.ImageType}
        described |= {"FrameAcquisitionNumber": 4, "TemporalPositionIndex": 1}
        for keyword, sequence in FURTHER.items():
            group = file.SharedFunctionalGroupsSequence[0].get(sequence, [Dataset()])[0]
            setattr(group, keyword, described[keyword])
            setattr(file.SharedFunctionalGroupsSequence[0], sequence, Items([group]))
        for keyword, content in strays.items():
            setattr(file, keyword, content)
        save_as(file, tmp_path / folder / "frames", uid.ExplicitVRLittleEndian)
    headers, plain = (
        [header._replace(path="", size=0, mtime_ns=0, pixel_offset=None) for header in read_folder(tmp_path / folder)]
        for folder in ("in", "plain")
    )
    assert headers == plain and len(headers) == n
    if n > 1:
        (entry,), (ct,) = converted(tmp_path / "in", tmp_path / "out")
        assert entry["repairs"] == [] and error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01


def test_values_at_the_top_level_alone_are_those_of_all_frames(tmp_path):
    file = enhanced(every(3, 8), per_frame=[POSITION])
    (shared,) = file.SharedFunctionalGroupsSequence
    for sequence in ("PlaneOrientationSequence", "PixelMeasuresSequence", RESCALE):
        for element in shared[sequence][0]:
            setattr(file, element.keyword, element.value)
        del shared[sequence]
    (entry,), (ct,) = convert(tmp_path, [file])
    assert entry["repairs"] == [] and error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01


@pytest.mark.parametrize(
    ("sequence", "stray", "reason"),
    [
        (POSITION, {"ImagePositionPatient": [-17, -20, 9]}, "no_geometry"),
        (RESCALE, {"RescaleSlope": 7, "RescaleIntercept": 5}, "no_rescale"),
        ("PlaneOrientationSequence", {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "no_geometry"),
    ],
)
@pytest.mark.parametrize("lacking", [[3], range(8)], ids=["one frame", "all frames"])
def test_a_frame_takes_neither_another_ones_value_nor_a_stray_one(tmp_path, sequence, stray, reason, lacking):
    file = enhanced(every(3, 8), per_frame=ALL)
    for keyword, content in stray.items():
        setattr(file, keyword, content)
    for frame in lacking:
        del file.PerFrameFunctionalGroupsSequence[frame][sequence]
    entries, volumes = convert(tmp_path, [file])
    if sequence != POSITION and len(lacking) == 8:  # no frame says otherwise
        assert len(volumes) == 1 and entries[0]["repairs"] == []
    else:
        assert {entry["reason"] for entry in entries} >= {reason}
    assert all(error_hu(ct) <= MENDED or sequence == RESCALE for ct in volumes)


def test_what_a_splitting_program_left_of_all_frames_is_not_a_slices_own(tmp_path):
    """Single slices that keep the functional groups of the file that they were taken from."""
    slices = every(3, 8)
    groups = enhanced(slices, per_frame=ALL)
    for dataset in slices:
        dataset.SharedFunctionalGroupsSequence = groups.SharedFunctionalGroupsSequence
        dataset.PerFrameFunctionalGroupsSequence = groups.PerFrameFunctionalGroupsSequence
    (entry,), (ct,) = convert(tmp_path, slices)
    assert entry["repairs"] == [] and error_hu(ct) <= EXACT and beside_mm(ct, WHOLE) <= 0.01


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
