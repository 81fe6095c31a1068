"""Cost of training: the step, the variation of regions, and the way of the data from file to network.

Run it as ``PYTHONPATH=workflow python bench/train.py``; see bench/README.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import measure
from measure import Contender, child

SCRIPT = __file__
TARGETS = {"busy": 0.90}
SPACING_MM = 2.0
PER_PATIENT = 2  # regions
NETWORKS = {"small": 32, "densenet121": 64}  # and the side of their regions
BATCH = 16

# --- made data ----------------------------------------------------------------------------------------------------


def write_arrow(path: str, patients: str, size: str) -> None:
    """Write a file of regions as `rois.write_regions` does, of noise, a shard of 64 patients at a time."""
    import pyarrow as pa

    from trabecula.train.rois import VERTEBRA, rois_schema

    schema = rois_schema(int(size))
    with pa.ipc.new_file(path, schema) as writer:
        for start in range(0, int(patients), 64):
            names = [f"pa{i:06d}" for i in range(start, min(start + 64, int(patients))) for _ in range(PER_PATIENT)]
            keys = {"cohort": "bench", "level": "L1"}
            columns = [pa.array([keys.get(key, name) for name in names]) for key in VERTEBRA]
            voxels = pa.FixedShapeTensorArray.from_numpy_ndarray(_noise(len(names), int(size)))
            writer.write_batch(pa.RecordBatch.from_arrays([*columns, voxels], schema=schema))


def write_numpy(folder: str, patients: str, size: str) -> None:
    """Write the same regions, a NumPy file per patient."""
    import numpy as np

    Path(folder).mkdir(parents=True)
    for i in range(int(patients)):
        np.save(Path(folder) / f"{i:06d}.npy", _noise(PER_PATIENT, int(size)))


@cache
def _noise(n: int, size: int) -> Any:
    """Draw noise, the same for all patients: only the amount that is read counts."""
    import numpy as np

    return np.random.default_rng(n).normal(100, 50, (n, size, size, size)).astype(np.float16)


# --- the way of the data ----------------------------------------------------------------------------------------------


def _mapped() -> Callable[..., dict[str, float]]:
    from trabecula.train.rois import Regions

    def work(path: str) -> dict[str, float]:
        regions = Regions(path)
        return _epoch(len(regions), lambda i: regions[i])

    return work


def _one_by_one() -> Callable[..., dict[str, float]]:
    import numpy as np
    import torch

    def work(folder: str) -> dict[str, float]:
        files = sorted(Path(folder).iterdir())
        return _epoch(
            PER_PATIENT * len(files),
            lambda i: torch.from_numpy(np.load(files[i // PER_PATIENT])[i % PER_PATIENT])[None],
        )

    return work


def _all_at_once() -> Callable[..., dict[str, float]]:
    import numpy as np
    import torch

    def work(folder: str) -> dict[str, float]:
        held = torch.from_numpy(np.concatenate([np.load(file) for file in sorted(Path(folder).iterdir())]))
        return _epoch(len(held), lambda i: held[i][None])

    return work


def _epoch(n: int, region: Callable[[int], Any]) -> dict[str, float]:
    """Stack shuffled batches of all regions; give the growth of own and mapped memory."""
    import torch

    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    before = _memory_mb()
    for start in range(0, n, BATCH):
        torch.stack([region(i) for i in order[start : start + BATCH]]).float().mean()
    after = _memory_mb()
    return {name: after[name] - before[name] for name in after} | {"own": after["own"], "n": n}


def _memory_mb() -> dict[str, float]:
    """Read the process's own resident memory, and that of mapped files, which the kernel takes back at need."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    anonymous, mapped = (int(lines[name].split()[0]) * 1024 / measure.MB for name in ("RssAnon", "RssFile"))
    return {"own": anonymous, "mapped": mapped}


CONTENDERS = {
    "Arrow, memory-mapped": "mapped",
    "np.load, a file per patient": "one_by_one",
    "all in memory": "all_at_once",
}


def data_path(folder: Path, options: argparse.Namespace) -> list[str]:
    """Measure an epoch of reading in three ways, for few and for many patients."""
    head = ["an epoch of reading", "patients", "CPU µs per region", "times Arrow", "peak MB", "own MB", "mapped MB"]
    rows = []
    for patients in options.patients:
        arrow, files = folder / f"{patients}.arrow", folder / f"{patients}"
        measure.ask(child(SCRIPT, "write_arrow", arrow, patients, 32))
        measure.ask(child(SCRIPT, "write_numpy", files, patients, 32))
        measure.warm(folder)
        source = {name: arrow if loader == "mapped" else files for name, loader in CONTENDERS.items()}
        commands = {name: child(SCRIPT, loader, source[name]) for name, loader in CONTENDERS.items()}
        costs = measure.measured([Contender(name, [command]) for name, command in commands.items()], options.repeats)
        for name, figures in costs.items():
            memory = measure.ask(commands[name])
            times = measure.ratio(figures, costs["Arrow, memory-mapped"])
            rows.append([name, patients, f"{figures.work_s / memory['n'] * 1e6:.0f}", f"{times:.1f}"])
            rows[-1] += [f"{figures.peak_mb:.0f}", f"{memory['own']:.0f}", f"{memory['mapped']:.0f}"]
    return [
        "## The way of the data: 32³ regions, two per patient, shuffled, in batches of 16",
        "",
        *measure.table(head, rows),
        "",
        "Peak MB is all that was resident, mapped files too; the kernel takes their pages back when memory is short.",
        "Own MB is what the process holds for itself after the epoch, imports and all; mapped MB is what the epoch "
        "mapped of files.",
        "",
    ]


# --- the variation ----------------------------------------------------------------------------------------------------


def _monai() -> Callable[[str, str], None]:
    from trabecula.train.transforms import Variation, variation

    vary = variation(Variation(), spacing_mm=SPACING_MM)
    return lambda size, n: _vary(lambda hu: vary(hu), size, n)


def _batchgenerators() -> Callable[[str, str], None]:
    """Compose similar transforms of nnU-Net with the same ranges; without shift, since nnU-Net crops instead."""
    import math

    from batchgeneratorsv2.transforms.intensity.brightness import (
        BrightnessAdditiveTransform,
        MultiplicativeBrightnessTransform,
    )
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    from trabecula.train.transforms import Variation

    largest = Variation()
    angle = math.radians(largest.rotation_deg)

    def work(size: str, n: str) -> None:
        pose = SpatialTransform(
            (int(size),) * 3,
            0,
            False,
            p_rotation=1,
            rotation=(-angle, angle),
            p_scaling=1,
            scaling=(1 - largest.scale, 1 + largest.scale),
            padding_mode_image="border",
        )
        vary = ComposeTransforms(
            [
                pose,
                MirrorTransform((0,)),
                GaussianBlurTransform((0.01, largest.slice_mm / SPACING_MM)),
                MultiplicativeBrightnessTransform((1 - largest.slope, 1 + largest.slope), False),
                BrightnessAdditiveTransform(0, largest.offset_hu / 2),
                GaussianNoiseTransform((0, largest.noise_hu)),
            ]
        )
        _vary(lambda hu: vary(image=hu)["image"], size, n)

    return work


def _vary(transform: Callable[[Any], Any], size: str, n: str) -> None:
    import torch

    hu = torch.randn(1, *[int(size)] * 3) * 50 + 100
    for _ in range(int(n)):
        assert transform(hu).shape == hu.shape


def varied(options: argparse.Namespace) -> list[str]:
    """Measure the variation of a region by MONAI's transforms and by nnU-Net's."""
    rows = []
    for size in sorted(NETWORKS.values()):
        names = {"MONAI, as trained": "monai", "batchgeneratorsv2 (nnU-Net), the like": "batchgenerators"}
        contenders = [
            Contender(name, [child(SCRIPT, loader, size, options.varied, first=(size, 2))])
            for name, loader in names.items()
        ]
        costs = measure.measured(contenders, options.repeats)
        for name, figures in costs.items():
            times = measure.ratio(figures, costs["MONAI, as trained"])
            rows.append([f"{name}, {size}³", f"{figures.work_s / options.varied * 1e3:.1f}", f"{times:.1f}"])
    head = ["variation", "CPU ms per region", "times MONAI"]
    return ["## Variation of a region, one thread", "", *measure.table(head, rows), ""]


# --- the step ---------------------------------------------------------------------------------------------------------


def _cuda() -> Callable[[], bool]:
    import torch

    return torch.cuda.is_available


def _training() -> Callable[..., dict[str, float]]:
    import numpy as np

    from trabecula.train import fit
    from trabecula.train.data import Data
    from trabecula.train.rois import Regions

    def work(path: str, kind: str, device: str, workers: str, plain: str) -> dict[str, float]:
        """Time whole epochs of `fit.fit`, and steps on a batch that lies ready, in seconds per region."""
        regions = Regions(path)
        n = len(regions)
        reduced = (np.arange(n) % 2).astype(np.float32)
        data = Data(regions, np.zeros((n, 0), np.float32), reduced, 100 + 40 * reduced)
        recipe = fit.Recipe(
            kind, 1, 99, BATCH, 1e-3, NETWORKS[kind], SPACING_MM, (-200, 600), (), seed=0, device=device
        )
        step_s = _step_s(recipe, n, plain=bool(int(plain)))
        epoch_s = 0.0 if int(plain) else _epoch_s(data, recipe, int(workers))
        return {"step_s": step_s / BATCH, "epoch_s": epoch_s / n, "n": n}

    return work


def _clock(recipe: Any) -> Callable[[], float]:
    """Give the clock for a recipe: wall time for a GPU, else CPU time, which others on the machine do not change."""
    return time.perf_counter if recipe.device == "cuda" else time.process_time


def _epoch_s(data: Any, recipe: Any, workers: int) -> float:
    """Time an epoch as half of what two more epochs take, so that the start of a training does not count."""
    from dataclasses import replace

    import numpy as np

    from trabecula.train import fit

    now = _clock(recipe)
    every, few = np.arange(len(data.regions)), np.arange(BATCH)
    times = {}
    for epochs in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            begun = now()
            longer, state = replace(recipe, epochs=epochs), Path(folder) / "state"
            fit.fit(data, every, few, task="regression", recipe=longer, state=state, workers=workers)
            times[epochs] = now() - begun
    return (times[3] - times[1]) / 2


def _step_s(recipe: Any, n: int, *, plain: bool) -> float:
    """Take the median time of a training step; plain is single precision in MONAI's own memory layout."""
    import torch

    from trabecula.model import network

    now = _clock(recipe)
    device = torch.device(recipe.device)
    net = network.build(network.describe(recipe.network, ()), "regression")
    net = net.to(device) if plain else network.placed(net, device)
    fast = device.type == "cuda" and not plain
    optimiser, scaler = torch.optim.AdamW(net.parameters()), torch.amp.GradScaler(device.type, enabled=fast)
    hu = torch.randn(BATCH, 1, *[recipe.roi_size] * 3, device=device) * 50 + 100
    scan, target = torch.zeros(BATCH, 0, device=device), torch.randn(BATCH, device=device)
    times = []
    for _ in range(max(n // BATCH, 3)):
        begun = now()
        with torch.autocast(device.type, enabled=fast):
            output = net(network.to_input(hu, scan, (-200, 600)))[:, 0].float()
        loss = torch.nn.functional.smooth_l1_loss(output, target)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        float(loss.detach())
        times.append(now() - begun)
    return sorted(times[1:])[len(times[1:]) // 2]


def steps(folder: Path, options: argparse.Namespace, devices: Sequence[str]) -> list[str]:
    """Measure regions per second of training (of CPU time without a GPU), and the network's share of an epoch."""
    head = ["training", "regions/s, steps alone", "times plain", "regions/s, whole epoch", "network at work"]
    rows = []
    for device in devices:
        for kind, size in NETWORKS.items():
            n = options.regions[kind] * (32 if device == "cuda" else 1)
            if not n:
                continue
            path = folder / f"{kind}-{device}.arrow"
            measure.ask(child(SCRIPT, "write_arrow", path, n // PER_PATIENT, size))
            workers = options.workers if device == "cuda" else 0
            ours = measure.ask(child(SCRIPT, "training", path, kind, device, workers, 0))
            times = "1.0"
            if device == "cuda":
                plain = measure.ask(child(SCRIPT, "training", path, kind, device, workers, 1))
                times = f"{plain['step_s'] / ours['step_s']:.1f}"
            share = f"{ours['step_s'] / ours['epoch_s']:.0%}"
            row = [f"{kind}, {size}³, {device}, {workers} workers", f"{1 / ours['step_s']:.1f}", times]
            rows.append([*row, f"{1 / ours['epoch_s']:.1f}", share])
    return [
        f"## Training, batches of {BATCH}",
        "",
        *measure.table(head, rows),
        "",
        "Plain is single precision and MONAI's own memory layout; on CUDA ours is mixed precision and channels last. "
        f"The network should be at work for {TARGETS['busy']:.0%} of an epoch on CUDA; with no workers, one core "
        "varies regions and trains by turns. Seconds are CPU time on the CPU, wall time on CUDA.",
        *([] if "cuda" in devices else ["", "No GPU was at hand: CUDA was not measured."]),
        "",
    ]


LOADERS: dict[str, measure.Loader] = {
    "write_arrow": lambda: write_arrow,
    "write_numpy": lambda: write_numpy,
    "mapped": _mapped,
    "one_by_one": _one_by_one,
    "all_at_once": _all_at_once,
    "monai": _monai,
    "batchgenerators": _batchgenerators,
    "cuda": _cuda,
    "training": _training,
}


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--patients", type=int, nargs="*", default=[500, 5000], help="patients of the data's way")
    parser.add_argument("--varied", type=int, default=60, help="regions that are varied; 0: none")
    parser.add_argument("--small", type=int, default=128, help="regions that the small network is trained on; 0: none")
    parser.add_argument("--densenet121", type=int, default=16, help="regions of densenet121; on CUDA 32 times both")
    parser.add_argument("--workers", type=int, default=7, help="processes that vary regions, on CUDA")
    parser.add_argument("--repeats", type=int, default=3, help="runs of everything but the training")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    options = parser.parse_args()
    options.regions = {"small": options.small, "densenet121": options.densenet121}
    devices = ["cpu", "cuda"] if measure.ask(child(SCRIPT, "cuda")) else ["cpu"]
    lines = ["# bench/train", ""]
    with tempfile.TemporaryDirectory() as folder:
        if "cuda" in devices:  # its workers need all cores
            lines += steps(Path(folder), options, ["cuda"])
        measure.on_one_core()
        lines += steps(Path(folder), options, ["cpu"])
        lines += varied(options) if options.varied else []
        lines += data_path(Path(folder), options)
    lines += measure.machine(["torch", "monai", "batchgeneratorsv2", "pyarrow", "numpy"])
    measure.publish(lines, options.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
