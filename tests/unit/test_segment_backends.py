"""The backends of others' networks through their real interfaces, on networks wired by hand."""

import dataclasses
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from nnunet_folders import HU_OF_LEVEL, painted_scan, write_network, write_weights
from overlap import dice
from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

from trabecula.errors import ConfigError, StudyFailure
from trabecula.image.codings import Structure, coding_of
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR, RIB, SACRUM
from trabecula.image.volume import Volume, resample, write_nifti
from trabecula.model import totalseg_weights
from trabecula.model.segmenter_settings import Builtin, NnUNet, Task, TotalSegmentator
from trabecula.segment import Job, memory, nnunet, open_backend, segment_shard, totalsegmentator
from trabecula.segment.backend import Backend, choose_device

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # nnU-Net's own warnings

ROOT = Path(__file__).parents[2]
THREADS = "nnUNet_def_n_proc"
OURS = coding_of(dict(enumerate((Structure(CODE_OF_LEVEL[level]) for level in HU_OF_LEVEL), start=1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hand-wired weights; TotalSegmentator's real ones can't be had in a test."""
    path = tmp_path_factory.mktemp("weights")
    write_weights(path)
    return path


@pytest.fixture
def site(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which TotalSegmentator finds its weights, and where any call to a network is an error."""
    for name in ("TOTALSEG_HOME_DIR", THREADS, "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(folder))
    calls = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(requests, "post", refuse)  # its errors are swallowed by who sends usage statistics
    monkeypatch.setattr(requests, "get", refuse)
    yield tmp_path
    assert not calls


def using(site: Path, task: Task = "total", memory_mb: float = 1e6) -> dict[str, Any]:
    """Settings of TotalSegmentator and a job on this machine, as keyword arguments."""
    return {"settings": TotalSegmentator(task, "cpu"), "job": Job(1, memory_mb, site)}


def no_identities() -> dict[str, Any]:
    """Stands for the private table, which no network needs."""
    raise AssertionError("the private table was read")


# --- totalsegmentator ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Label maps that TotalSegmentator's documented call gives for the painted scan."""
    work = tmp_path_factory.mktemp("official")
    write_nifti(painted_scan()[0], work / "ct.nii")
    (work / "config.json").write_text('{"totalseg_id": "none", "send_usage_stats": false, "prediction_counter": 0}')
    helpers = Path(__file__).parents[1] / "helpers"
    environment = os.environ | {
        "TOTALSEG_WEIGHTS_PATH": str(folder),
        "TOTALSEG_HOME_DIR": str(work),
        "PYTHONPATH": str(helpers.parents[1] / "workflow"),
    }
    command = [sys.executable, helpers / "official_totalsegmentator.py", work / "ct.nii", work / "maps.npz"]
    subprocess.run(command, env=environment, check=True, timeout=600, capture_output=True)
    return dict(np.load(work / "maps.npz"))


def test_the_kept_predictor_labels_like_the_official_call(site: Path, official: dict[str, np.ndarray]) -> None:
    """The same route with the one network of `fast` was compared once by hand; the official call takes minutes."""
    api = totalsegmentator.prepare("total", Job(1, 1e6, site))
    write_nifti(painted_scan()[0], site / "ct.nii")
    for _ in range(2):
        named, parts = totalsegmentator.outline(api, site / "ct.nii", TotalSegmentator("total", "cpu"), split=False)
        assert np.array_equal(np.asarray(named.dataobj), official["total"])
        assert np.array_equal(np.asarray(parts.dataobj), official["vertebrae_body"])
    assert official["total"].any() and official["vertebrae_body"].any()


@pytest.mark.parametrize("task", ["total", "fast"])
def test_it_outlines_and_names_bodies_posterior_elements_and_ribs(site: Path, task: Task) -> None:
    ct, truth = painted_scan()
    api = totalsegmentator.prepare(task, Job(1, 1e6, site))
    labels, levels = totalsegmentator.segment(api, ct, **using(site, task))
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    # Told apart by intensity, a level's blurred rim looks like its neighbours, the more so at 3 mm.
    for code in [*(CODE_OF_LEVEL[level] for level in HU_OF_LEVEL), RIB]:
        assert dice(labels.array == code, truth.array == code) > (0.8 if task == "total" else 0.6), code


def test_it_keeps_to_the_jobs_threads_and_sends_no_usage_statistics(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixture refuses every call to a network, also those for weights."""
    threads, convolve = set(), torch.nn.Conv3d.forward

    def watched(layer: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        threads.add(torch.get_num_threads())
        return convolve(layer, x)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        api = totalsegmentator.prepare("total", Job(1, 1e6, site))
        totalsegmentator.segment(api, painted_scan()[0], **using(site))
    finally:
        torch.set_num_threads(before)
    assert threads == {1}
    assert os.environ[THREADS] == "1"
    assert '"send_usage_stats": false' in (site / "config.json").read_text()


def test_a_split_scan_comes_out_whole(site: Path) -> None:
    ct, truth = painted_scan()
    api = totalsegmentator.prepare("total", Job(1, 1e6, site))
    labels, levels = totalsegmentator.segment(api, ct, **using(site, memory_mb=0))
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    assert dice(labels.array == CODE_OF_LEVEL["L3"], truth.array == CODE_OF_LEVEL["L3"]) > 0.8


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."),
]


class Forgetful:
    """Stands for TotalSegmentator's API: runs out of memory as often as it is told to, and notes how it is called."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.split = error, times, []

    def totalsegmentator(self, path: Path, output: None, *, task: str, force_split: bool, **options: Any) -> Any:
        self.split.append(force_split)
        if len(self.split) <= self.times:
            raise self.error
        shape = painted_scan()[0].array.shape
        value = 31 if task == "total" else 1
        return SimpleNamespace(dataobj=np.full(shape, value, np.uint8), affine=painted_scan()[0].affine)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:30])
def test_where_memory_runs_out_the_scan_is_split(tmp_path: Path, error: Exception) -> None:
    api: Any = Forgetful(error, times=1)
    _, levels = totalsegmentator.segment(api, painted_scan()[0], **using(tmp_path))
    assert [level.name for level in levels] == ["L1"]
    assert api.split == [False, True, True]


def test_a_scan_larger_than_the_jobs_memory_is_split_at_once(tmp_path: Path) -> None:
    api: Any = Forgetful(MemoryError(), times=0)
    totalsegmentator.segment(api, painted_scan()[0], **using(tmp_path, memory_mb=1000))
    assert api.split == [True, True]


def test_a_volume_of_800_slices_fits_what_its_job_asks_for() -> None:
    ct = Volume(np.broadcast_to(np.int16(0), (512, 512, 800)), np.eye(4))
    assert memory.estimate_mb(ct) <= TotalSegmentator.memory_mb


def test_a_bug_is_no_lack_of_memory(tmp_path: Path) -> None:
    api: Any = Forgetful(RuntimeError("a bug"), times=1)
    with pytest.raises(RuntimeError, match="a bug"):
        totalsegmentator.segment(api, painted_scan()[0], **using(tmp_path))


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:30])
def test_a_scan_too_large_also_in_parts_is_a_row_and_the_next_goes_on(tmp_path: Path, error: Exception) -> None:
    studies = [{"cohort": "c", "patient_id": "pa1", "study_id": study} for study in ("st1", "st2")]
    for study in studies:
        write_nifti(painted_scan()[0], tmp_path / f"{study['study_id']}.nii")
    api: Any = Forgetful(error, times=2)
    backend = Backend("fake", lambda ct, keys: totalsegmentator.segment(api, ct, **using(tmp_path)))
    rows = list(segment_shard(studies, backend, ct_folder=tmp_path, label_folder=tmp_path))
    assert [(row["study_id"], row["status"], row["reason"]) for row in rows] == [
        ("st1", "failed", "out_of_memory"),
        ("st2", "ok", None),
    ]


def test_the_folders_of_weights_are_those_that_totalsegmentator_opens() -> None:
    folders = {info["foldername"] for info in TASK_ID_WEIGHTS_CONFIGS.values() if "foldername" in info}
    assert {name for names in totalseg_weights.FOLDERS.values() for name in names} <= folders


@pytest.mark.parametrize("task", ["total", "fast"])
def test_a_missing_weight_is_said_with_how_to_fetch_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    first, *others = totalseg_weights.FOLDERS[task]
    for name in others:
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / f"{first}_v204").mkdir()  # an old release of it, which is fetched anew
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=f"{first} is missing.*totalseg_download_weights -t"):
        totalseg_weights.require_weights(task)


def test_bodies_and_posterior_elements_come_from_both_maps() -> None:
    total = np.array([31, 31, 27, 25, 0, 0, 92], np.uint8)
    parts = np.array([1, 0, 2, 1, 2, 1, 1], np.uint8)
    l1, l5 = CODE_OF_LEVEL["L1"], CODE_OF_LEVEL["L5"]
    assert totalsegmentator.combine(total, parts).tolist() == [l1, POSTERIOR + l1, POSTERIOR + l5, SACRUM, 50, 0, RIB]


def test_totalsegmentator_is_opened_with_its_settings(site: Path) -> None:
    backend = open_backend(TotalSegmentator("fast", "auto"), Job(1, 1e6, site), no_identities)
    assert re.fullmatch(r"totalsegmentator-\d+\.\d+\.\d+-fast", backend.name)


# --- builtin ------------------------------------------------------------------------------------------


def test_builtin_is_opened_with_its_settings_and_keeps_to_the_jobs_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        settings = Builtin(str(ROOT / "models" / "segmenter"), "auto")
        backend = open_backend(settings, Job(1, 1e6, tmp_path), no_identities)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert re.fullmatch(r"builtin-[0-9a-f]{8}", backend.name)


@pytest.mark.parametrize(
    ("device", "has_gpu", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_auto_takes_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, device: str, has_gpu: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device(device) == chosen


# --- nnunet -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["NibabelIOWithReorient", "SimpleITKIO"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nnunet") / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    write_network(path, 1.5, request.param)
    return path


def stored_as(volume: Volume, axes: str) -> Volume:
    """The same image with its voxels in another order."""
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(axes))
    affine = volume.affine @ inv_ornt_aff(turn, volume.array.shape)
    return Volume(np.ascontiguousarray(apply_orientation(volume.array, turn)), affine)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_an_nnunet_outlines_and_names_however_the_scan_is_stored(network: Path, axes: str) -> None:
    ct, truth = painted_scan()
    predictor = nnunet.load(network, folds=None, device="cpu", threads=1)
    labels, levels = nnunet.segment(predictor, stored_as(ct, axes), coding=OURS)
    assert labels.array.shape == stored_as(ct, axes).array.shape
    assert [level.name for level in levels] == list(HU_OF_LEVEL)
    codes = resample(labels, truth.array.shape, truth.affine, outside=0, how="nearest").array
    for level in HU_OF_LEVEL:
        code = CODE_OF_LEVEL[level]
        # The blurred rims of brighter bodies look like this one.
        assert dice(codes == code, truth.array == code) > 0.7, level


class Ruler:
    """Stands for a predictor: notes the image that it is given."""

    def __init__(self, reader: str, spacing_mm: list[float], order: list[int]) -> None:
        back = [int(i) for i in np.argsort(order)]
        self.plans_manager = SimpleNamespace(plans={"image_reader_writer": reader}, transpose_backward=back)
        self.configuration_manager = SimpleNamespace(spacing=[spacing_mm[i] for i in order])

    def predict_single_npy_array(self, image: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
        self.image, self.spacing = image, properties["spacing"]
        return np.zeros(image.shape[1:], np.uint8)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize(("reader", "sign"), [("NibabelIOWithReorient", 1), ("SimpleITKIO", -1)])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "SPL"])
def test_an_nnunet_gets_axes_and_spacings_as_in_its_training(
    reader: str, sign: int, order: list[int], axes: str
) -> None:
    """The scan's values are places in mm along x, y and z, which tells where the axes of what it gets point."""
    shape, affine = (30, 26, 22), np.diag([2.0, 1.5, 3.0, 1.0])
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3]
    steps = []
    for axis in range(3):
        ruler: Any = Ruler(reader, [2.5, 1.25, 1.0], order)
        nnunet.predict(ruler, stored_as(Volume(places[..., axis].astype(np.float32), affine), axes))
        assert ruler.spacing == [2.5, 1.25, 1.0]
        steps.append([float(np.diff(ruler.image[0, 5:15, 5:15, 5:15], axis=i).mean()) for i in range(3)])
    # Image axes run z, y, x; RAS+ counts x and y upwards, LPS+ downwards, z always upwards.
    assert np.allclose(steps, [[0, 0, sign * 1.0], [0, sign * 1.25, 0], [2.5, 0, 0]], atol=1e-4)


def test_whole_vertebrae_of_an_nnunet_are_parted(network: Path) -> None:
    ct, _ = painted_scan()
    whole = dataclasses.replace(OURS, whole=frozenset(OURS.codes.values()))
    predictor = nnunet.load(network, folds=[0], device="cpu", threads=1)
    labels, _ = nnunet.segment(predictor, ct, coding=whole)
    assert POSTERIOR + CODE_OF_LEVEL["L3"] in labels.array


def test_an_nnunet_is_opened_with_its_settings(network: Path, tmp_path: Path) -> None:
    settings = NnUNet("verse", str(network), folds=[0], device="cpu")
    backend = open_backend(settings, Job(1, 1e6, tmp_path), no_identities)
    assert backend.name.startswith("nnunet-") and backend.name.endswith("-nnUNetTrainer")


def test_an_incomplete_nnunet_is_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks dataset\.json"):
        nnunet.load(tmp_path, folds=None, device="cpu", threads=1)
    with pytest.raises(ConfigError, match="lacks fold_3"):
        nnunet.load(network, folds=[3], device="cpu", threads=1)


def test_a_scan_in_which_an_nnunet_finds_nothing_says_so(network: Path) -> None:
    predictor = nnunet.load(network, folds=None, device="cpu", threads=1)
    ct, _ = painted_scan()
    with pytest.raises(StudyFailure, match="no_vertebra"):
        nnunet.segment(predictor, ct.with_array(np.full_like(ct.array, 40)), coding=OURS)
