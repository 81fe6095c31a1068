"""Measure the builtin segmentation: its agreement with the labelled reference scan, and its cost on a large scan.

Run it as ``PYTHONPATH=workflow python bench/segment.py``; see bench/README.md.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from measure import Contender, child

SCRIPT = __file__
ROOT = Path(__file__).parents[1]
TARGETS = {"dice": 0.85, "surface_mm": 1.5, "cpu_s": 30, "peak_mb": 3000}
BODIES = {level: 20 + i for i, level in enumerate(("L1", "L2", "L3", "L4", "L5"))}  # numbers in `vertebrae_pp`

# --- quality -------------------------------------------------------------------------------------------------


def judge(network: str, data: str) -> list[dict[str, Any]]:
    """Judge each lumbar body of the reference scan: the name that it got, Dice, and mean distance of the surfaces."""
    import numpy as np

    from trabecula.image.levels import LEVEL_OF_CODE
    from trabecula.image.volume import read_nifti
    from trabecula.model import spine_network
    from trabecula.segment import builtin

    folder = Path(data) / "totalseg_example"
    truth = read_nifti(folder / "spine_report" / "test_result" / "totalseg_vertebrae_pp_refined.nii.gz").array
    net, _ = spine_network.load_bundle(Path(network), device="cpu")
    labels, levels = builtin.segment(net, read_nifti(folder / "example_ct.nii.gz"), device="cpu")
    confidence = {level.name: level.confidence for level in levels}
    rows = []
    for level, code in BODIES.items():
        true = truth == code
        voxels_of_code = np.bincount(labels.array[true & (labels.array < 29)], minlength=29)
        best = int(voxels_of_code[1:].argmax()) + 1
        body = labels.array == best
        name = LEVEL_OF_CODE.get(best, "none")
        dice = float(2 * (body & true).sum() / (body.sum() + true.sum()))
        surface = _surface_mm(body, true, labels.spacing_mm)
        rows.append({"level": level, "name": name, "confidence": confidence.get(name), "dice": dice, "mm": surface})
    return rows


def _surface_mm(a, b, spacing_mm) -> float:
    """Measure the mean distance in mm from the surface of either mask to that of the other."""
    import numpy as np

    from trabecula.image.distance import depth_mm

    edges = [mask & (depth_mm(mask, 1.0) <= 1) for mask in (a, b)]
    away = [depth_mm(~edge, spacing_mm) for edge in edges]
    return float(np.concatenate([away[1][edges[0]], away[0][edges[1]]]).mean())


# --- cost ----------------------------------------------------------------------------------------------------


def write_study(path: str, side: str, slices: str) -> None:
    """Write a synthetic scan of the abdomen as NIfTI."""
    from trabecula import phantom
    from trabecula.image.volume import write_nifti

    field_mm, length_mm = 400.0, 260.0
    patient = phantom.sample_patient(11, 3)
    spacing = (field_mm / int(side), field_mm / int(side), length_mm / int(slices))
    ct, _ = phantom.render(patient, phantom.DEVICES["alpha"], spacing_mm=spacing, matrix=int(side), seed=1)
    write_nifti(ct.with_array(ct.array[:, :, : int(slices)]), Path(path))


def load_builtin() -> Callable[[str, str], list[str]]:
    """Load our network, for one study."""
    from trabecula.image.volume import read_nifti
    from trabecula.model import spine_network
    from trabecula.segment import builtin

    def work(network: str, path: str) -> list[str]:
        net, _ = spine_network.load_bundle(Path(network), device="cpu")
        return [level.name for level in builtin.segment(net, read_nifti(Path(path)), device="cpu")[1]]

    return work


def load_totalsegmentator() -> Callable[[str], str]:
    """Load TotalSegmentator, called as its page shows for one study: tasks `total` at 3 mm and `vertebrae_body`."""
    from totalsegmentator.python_api import totalsegmentator

    def work(path: str) -> str:
        rois = [f"vertebrae_{name}" for name in ("T11", "T12", "L1", "L2", "L3", "L4", "L5")]
        totalsegmentator(path, None, fast=True, roi_subset=rois, ml=True, quiet=True, device="cpu")
        totalsegmentator(path, None, task="vertebrae_body", ml=True, quiet=True, device="cpu")
        return "done"

    return work


def cost_lines(network: Path, side: int, slices: int, repeats: int, folder: Path) -> list[str]:
    """Write the table of CPU time, wall time and memory for one study."""
    path = folder / "study.nii"
    measure.ask(child(SCRIPT, "write_study", path, side, slices))
    contenders = [Contender("builtin", [child(SCRIPT, "builtin", network, path)])]
    if os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        contenders.append(Contender("TotalSegmentator, 3 mm and bodies", [child(SCRIPT, "totalsegmentator", path)]))
    rows = [
        [name, figures.cpu(), figures.work(), f"{figures.wall_s:.1f}", figures.peak()]
        for name, figures in measure.measured(contenders, repeats).items()
    ]
    head = ["route", "CPU s, whole process", "CPU s without imports", "wall s", "peak MB (imports)"]
    lines = [f"## One study of {side} x {side} x {slices}", "", *measure.table(head, rows), ""]
    lines.append(f"Targets for builtin: {TARGETS['cpu_s']} CPU-s, {TARGETS['peak_mb']} MB.")
    if len(contenders) == 1:
        lines.append("TotalSegmentator is absent: set TOTALSEG_WEIGHTS_PATH to the folder of its weights.")
    return lines


def quality_lines(networks: dict[str, Path], data: Path) -> list[str]:
    """Write a table of the reference scan's lumbar bodies per network."""
    lines = []
    for title, network in networks.items():
        rows = [
            [row["level"], row["name"], f"{row['confidence'] or 0:.3f}", f"{row['dice']:.3f}", f"{row['mm']:.2f}"]
            for row in measure.ask(child(SCRIPT, "judge", network, data))
        ]
        head = ["body", "named", "confidence", "Dice", "surface distance, mm"]
        lines += [f"## {title}", "", *measure.table(head, rows), ""]
    return [*lines, f"Targets: Dice {TARGETS['dice']}, surface distance {TARGETS['surface_mm']} mm."]


LOADERS: dict[str, measure.Loader] = {
    "judge": lambda: judge,
    "write_study": lambda: write_study,
    "builtin": load_builtin,
    "totalsegmentator": load_totalsegmentator,
}


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, default=ROOT / "models" / "segmenter", help="bundle that is shipped")
    parser.add_argument("--before", type=Path, help="bundle from before the reference scan was in the training")
    parser.add_argument("--data", type=Path, help="folder with totalseg_example; without it no quality is measured")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measure.on_one_core()
    lines = ["# Segmentation", ""]
    if options.data:
        networks = {"Trained without this scan": options.before} if options.before else {}
        lines += quality_lines(networks | {"Shipped network, trained on this scan too": options.network}, options.data)
    with tempfile.TemporaryDirectory() as folder:
        cost = cost_lines(options.network, options.side, options.slices, options.repeats, Path(folder))
    lines += ["", *cost, "", *measure.machine(["torch", "monai", "TotalSegmentator", "nnunetv2"])]
    measure.publish(lines, options.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
