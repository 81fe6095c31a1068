"""Numbering on spines with known truth; each backend through its real interface."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_folders import HU_OF_LEVEL, SOFT_TISSUE_HU, write_weights
from scipy import ndimage

from trabecula import phantom, segmenter, tables
from trabecula.errors import StudyFailure
from trabecula.levels import BODY_CODES, CODE_OF_LEVEL, DISC, LEVEL_OF_CODE, POSTERIOR, RIB, SACRUM
from trabecula.segment import builtin, masks, numbering, open_backend, segment_shard, totalsegmentator
from trabecula.segment.numbering import Level
from trabecula.segmenter import SpineMap
from trabecula.train_segmenter import to_classes
from trabecula.volume import Volume, bounds_mm, resample, write_nifti

ROOT = Path(__file__).parents[2]


def spine_map(labels: Volume) -> SpineMap:
    """What a perfect network would say of a canonical label map at the network's spacing."""
    classes = to_classes(labels.array)
    soft = [ndimage.gaussian_filter((classes == k).astype(np.float32), 0.6) for k in range(len(segmenter.CLASSES))]
    return SpineMap(np.stack(soft).astype(np.float16), labels.affine, np.ones(classes.shape, bool))


def numbered(labels: Volume) -> dict[str, tuple[str, Level]]:
    """True level -> the level found there."""
    spine = spine_map(labels)
    column = numbering.find_column(spine)
    assert column is not None
    found = {}
    for level in numbering.name_levels(spine, column):
        voxels = np.argwhere(np.isin(labels.array, BODY_CODES))
        mine = voxels[column.piece(labels.to_mm(voxels)) == level.piece]
        codes = labels.array[tuple(mine.T)]
        true = int(np.bincount(codes).argmax())
        assert (codes == true).mean() > 0.94, "two vertebrae in one piece"
        found[LEVEL_OF_CODE[true]] = (level.name, level)
    return found


@pytest.fixture(scope="module")
def spines() -> list[Volume]:
    """Label maps of twelve synthetic patients at the network's spacing."""
    device = next(iter(phantom.DEVICES.values()))
    return [
        phantom.render(phantom.sample_patient(77, i), device, spacing_mm=(3.0, 3.0, 3.0), seed=i)[1] for i in range(12)
    ]


def test_a_level_is_right_or_says_that_it_is_uncertain(spines: list[Volume]) -> None:
    wrong_and_sure = [
        (i, true, name)
        for i, labels in enumerate(spines)
        for true, (name, level) in numbered(labels).items()
        if name != true and not level.uncertain
    ]
    assert not wrong_and_sure


def test_most_levels_are_right_and_certain(spines: list[Volume]) -> None:
    pairs = [(true, found) for labels in spines for true, found in numbered(labels).items()]
    right = [name == true and not level.uncertain for true, (name, level) in pairs]
    assert np.mean(right) > 0.6


def only(labels: Volume, keep: list[int]) -> Volume:
    """The same map with some codes only."""
    return labels.with_array(np.where(np.isin(labels.array, keep), labels.array, 0))


def test_without_sacrum_and_ribs_every_level_is_uncertain(spines: list[Volume]) -> None:
    middle = [CODE_OF_LEVEL[level] for level in ("T12", "L1", "L2", "L3")]
    labels = only(spines[0], [*middle, *(POSTERIOR + code for code in middle), DISC])
    assert all(level.uncertain for _, level in numbered(labels).values())


def test_the_sacrum_alone_names_the_lumbar_levels(spines: list[Volume]) -> None:
    labels = only(spines[0], [*(CODE_OF_LEVEL[f"L{i}"] for i in range(1, 6)), DISC, SACRUM])
    assert {true: name for true, (name, _) in numbered(labels).items()} == {f"L{i}": f"L{i}" for i in range(1, 6)}


def test_the_last_rib_alone_names_the_levels(spines: list[Volume]) -> None:
    bodies = [CODE_OF_LEVEL[level] for level in ("T10", "T11", "T12", "L1", "L2", "L3")]
    found = numbered(only(spines[0], [*bodies, DISC, RIB]))
    assert all(true == name for true, (name, _) in found.items()) and len(found) >= 5


@pytest.mark.parametrize("missing", [0, 1])
def test_missed_discs_do_not_join_vertebrae(spines: list[Volume], missing: int) -> None:
    """Where the network saw no disc, the gap between the bodies still parts them."""
    labels = spines[missing]
    without = labels.with_array(np.where(labels.array == DISC, 0, labels.array))
    assert {true for true, _ in numbered(without).items()} >= {"L1", "L2", "L3", "L4"}


def test_the_patients_pose_does_not_change_the_names(spines: list[Volume]) -> None:
    labels = spines[0]
    moved = Volume(
        labels.array, labels.affine + np.array([[0, 0, 0, 7.0], [0, 0, 0, -40.0], [0, 0, 0, 1000.0], [0] * 4])
    )
    names = [{true: name for true, (name, _) in numbered(volume).items()} for volume in (labels, moved)]
    assert names[0] == names[1]


def test_nothing_found_is_no_column() -> None:
    empty = np.zeros((len(segmenter.CLASSES), 20, 20, 20), np.float16)
    empty[0] = 1
    assert numbering.find_column(SpineMap(empty, np.diag([3.0, 3, 3, 1]), np.ones((20, 20, 20), bool))) is None


# --- builtin ------------------------------------------------------------------------------------------


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_shipped_network_outlines_and_names_a_patient_it_never_saw() -> None:
    network, _ = segmenter.load_bundle(ROOT / "models" / "segmenter", device="cpu")
    device = next(iter(phantom.DEVICES.values()))
    ct, truth = phantom.render(phantom.sample_patient(4711, 3), device, spacing_mm=(1.5, 1.5, 2.5), seed=3)
    labels, found = builtin.segment(network, ct, device="cpu")
    assert labels.array.shape == ct.array.shape and labels.array.dtype == np.uint8
    for level in ("L1", "L2", "L3"):
        code = CODE_OF_LEVEL[level]
        assert dice(labels.array == code, truth.array == code) > 0.85, level
    assert {level.name for level in found} >= {"L1", "L2", "L3"}


def test_a_scan_without_a_spine_says_so() -> None:
    network, _ = segmenter.load_bundle(ROOT / "models" / "segmenter", device="cpu")
    water = Volume(np.zeros((60, 60, 40), np.int16), np.diag([3.0, 3, 3, 1]))
    with pytest.raises(StudyFailure, match="no_vertebra"):
        builtin.segment(network, water, device="cpu")


def test_other_weights_than_the_metadata_name_are_refused(tmp_path: Path) -> None:
    network = segmenter.build_network()
    segmenter.save_bundle(network, tmp_path, facts={})
    weights = tmp_path / "models" / "segmenter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="not those"):
        segmenter.load_bundle(tmp_path, device="cpu")


# --- masks --------------------------------------------------------------------------------------------


@pytest.fixture
def scan() -> tuple[Volume, Volume]:
    """CT of six painted vertebrae and their label map in the canonical coding, 2 mm, patient-aligned."""
    labels = np.zeros((60, 60, 110), np.uint8)
    for i, level in enumerate(HU_OF_LEVEL):
        low = 4 + 17 * i
        labels[18:42, 30:48, low : low + 13] = CODE_OF_LEVEL[level]
        labels[26:34, 12:24, low : low + 13] = POSTERIOR + CODE_OF_LEVEL[level]
    hu = np.full(labels.shape, SOFT_TISSUE_HU)
    hu[0], hu[-1] = -1000, -1000
    for level, value in HU_OF_LEVEL.items():
        hu[labels == CODE_OF_LEVEL[level]] = value
        hu[labels == POSTERIOR + CODE_OF_LEVEL[level]] = 150.0
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -60, -60, -110
    return Volume(hu.astype(np.int16), affine), Volume(labels, affine)


@pytest.mark.parametrize("coding", ["verse", "totalsegmentator", "vertebrae_pp"])
def test_given_masks_come_out_in_the_canonical_coding(tmp_path: Path, scan: tuple[Volume, Volume], coding: str) -> None:
    ct, labels = scan
    bodies = np.where(labels.array < POSTERIOR, labels.array, 0)
    back = {int(code): i for i, code in reversed(list(enumerate(masks.CODINGS[coding]))) if code}
    given = np.vectorize(lambda code: back.get(int(code), 0))(bodies).astype(np.uint8)
    # Another grid: half the spacing and mirrored axes.
    finer, affine = (120, 120, 220), np.diag([-1.0, -1, 1, 1])
    affine[:3, 3] = 58.5, 58.5, -110.5
    write_nifti(resample(labels.with_array(given), finer, affine, outside=0, how="nearest"), tmp_path / "m.nii.gz")
    found, levels = masks.segment(ct, tmp_path / "m.nii.gz", coding=coding)
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    assert np.array_equal(found.array, bodies)


def test_a_mask_elsewhere_or_absent_is_refused(tmp_path: Path, scan: tuple[Volume, Volume]) -> None:
    ct, labels = scan
    with pytest.raises(StudyFailure, match="mask_missing"):
        masks.segment(ct, tmp_path / "none.nii.gz", coding="verse")
    far = labels.affine.copy()
    far[:3, 3] += 10 * (bounds_mm(labels)[1] - bounds_mm(labels)[0])
    write_nifti(Volume(labels.array, far), tmp_path / "far.nii.gz")
    with pytest.raises(StudyFailure, match="mask_mismatch"):
        masks.segment(ct, tmp_path / "far.nii.gz", coding="canonical")


def test_a_failed_study_is_a_row_and_its_neighbour_goes_on(tmp_path: Path, scan: tuple[Volume, Volume]) -> None:
    ct, labels = scan
    studies = [{"cohort": "c", "patient_id": "pa1", "study_id": study} for study in ("st1", "st2")]
    for study in studies:
        write_nifti(ct, tmp_path / f"{study['study_id']}.nii")
    write_nifti(labels, tmp_path / "mask-st2.nii")
    backend = open_backend(
        "masks", network=tmp_path, masks_pattern=f"{tmp_path}/mask-{{study_id}}.nii", coding="canonical", device="cpu",
        threads=1, scratch=tmp_path,
    )  # fmt: skip
    rows = list(segment_shard(studies, backend, ct_folder=tmp_path, label_folder=tmp_path))
    table = tables.cast(rows, tables.SEGMENT).to_pylist()
    assert [(row["study_id"], row["reason"]) for row in table[:1]] == [("st1", "mask_missing")]
    assert [row["level"] for row in table[1:]] == list(HU_OF_LEVEL)
    assert (tmp_path / "st2.nii.gz").exists() and not (tmp_path / "st1.nii.gz").exists()


# --- totalsegmentator ---------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hand-wired weights where TotalSegmentator looks for them; its real ones can't be had in a test."""
    write_weights(tmp_path / "weights")
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", os.environ.get("TOTALSEG_HOME_DIR", ""))
    return tmp_path / "weights"


@pytest.mark.filterwarnings("ignore")
def test_totalsegmentators_real_api_outlines_and_names(
    tmp_path: Path, weights: Path, scan: tuple[Volume, Volume]
) -> None:
    ct, truth = scan
    state = tmp_path / "state"
    state.mkdir()
    api = totalsegmentator.prepare(state, threads=1)
    labels, levels = totalsegmentator.segment(api, ct, scratch=tmp_path, device="cpu")
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    for level in HU_OF_LEVEL:
        code = CODE_OF_LEVEL[level]
        # Told apart by intensity, a level's blurred rim looks like its neighbours.
        assert dice(labels.array == code, truth.array == code) > 0.8, level
    assert torch.get_num_threads() == 1
    assert '"send_usage_stats": false' in (state / "config.json").read_text()


def test_without_weights_the_message_says_how_to_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="totalseg_download_weights"):
        totalsegmentator.prepare(tmp_path, threads=1)
    assert totalsegmentator.weights_folder() is None


def test_bodies_and_posterior_elements_come_from_both_maps() -> None:
    total = np.array([31, 31, 27, 25, 0, 0], np.uint8)
    parts = np.array([1, 0, 2, 1, 2, 1], np.uint8)
    expected = [CODE_OF_LEVEL["L1"], POSTERIOR + CODE_OF_LEVEL["L1"], POSTERIOR + CODE_OF_LEVEL["L5"], SACRUM, DISC, 0]
    assert totalsegmentator.combine(total, parts).tolist() == expected
