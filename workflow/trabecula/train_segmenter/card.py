"""Measure the builtin spine network on its scans, and write its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray

from trabecula.image.volume import Volume
from trabecula.model import spine_network
from trabecula.model.spine_network import CLASSES, SPACING_MM
from trabecula.train_segmenter.examples import UNKNOWN, Example

CARD = """# Builtin spine network

A MONAI UNet of {parameters:,} parameters that tells vertebral bodies, posterior elements, sacrum, ribs, hips and discs
apart in CT at {spacing:g} mm. It does not number vertebrae. For research only; not a medical device.

Made by `snakemake train_segmenter`: {steps} steps of {batch} patches, then {late_steps} steps with all data, seed
{seed}, PyTorch {torch}.

## Data

{data}

Pose, size, bend, bone density and its texture, discs, contrast medium, calcifications, implants, calibration, kernel,
slice thickness, noise and field of view are randomised far beyond what patients and scanners do
(`trabecula.train_segmenter.randomise`).

## Dice in scans that the network had not seen

{unseen}

Measured before these scans were added to the training, on whole scans and without numbering.

## Dice in the training scans

{seen}

These figures show that nothing is broken, not how well the network works on new scans.

## Limits

It was trained on few real scans. Expect errors in children, in the cervical and upper thoracic spine, beside metal, in
severe scoliosis, and wherever anatomy differs from the scans above. Check the overlays in the report.
"""
LICENCES = {
    "totalseg_example": "`totalseg_example`: the reference case of TotalSegmentator's tests, native CT of the abdomen "
    "with label maps made by TotalSegmentator (https://github.com/wasserth/TotalSegmentator, Apache-2.0)",
    "tptbox_vertebra_crop": "`tptbox_vertebra_crop`: sample CT around L3 of TPTBox's tests, with sub-region labels "
    "(https://github.com/Hendrik-code/TPTBox, Apache-2.0)",
}

Dice = Mapping[str, Mapping[str, float]]


def class_dice(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> dict[str, float]:
    """Compute the Dice coefficient of every class that the truth holds, where the truth is known.

    >>> class_dice(np.array([1, 1, 1, 0, 2]), np.array([1, 1, 0, 0, UNKNOWN]))
    {'body': 0.8}
    """
    is_known = truth != UNKNOWN
    dice = {}
    for index, name in enumerate(CLASSES[1:], start=1):
        a, b = (predicted == index) & is_known, truth == index
        if b.any():
            dice[name] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return dice


def dice_in(network: UNet, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Compute Dice per class in whole scans, on the scans' own grids, without randomisation."""
    dice = {}
    for example in examples:
        ct = Volume(example.hu.numpy(), np.diag([example.spacing_mm] * 3 + [1.0]))
        spine = spine_network.predict(network, ct, device="cpu")
        truth = example.classes.numpy()
        voxels = np.indices(truth.shape).reshape(3, -1).T * example.spacing_mm / SPACING_MM
        nearest = np.minimum(np.rint(voxels).astype(int), np.array(spine.seen.shape) - 1)
        predicted = spine.probabilities.argmax(axis=0)[tuple(nearest.T)].reshape(truth.shape)
        dice[example.name] = class_dice(predicted, truth)
    return dice


def dice_table(dice: Dice) -> str:
    """Write Dice per scan and class as a Markdown table."""
    if not dice:
        return "None: all real scans were in the training from the start."
    rows = ["| scan | " + " | ".join(CLASSES[1:]) + " |", "|" + "---|" * len(CLASSES)]
    for name, dice_of_class in dice.items():
        cells = [f"{dice_of_class[c]:.3f}" if c in dice_of_class else "" for c in CLASSES[1:]]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_card(folder: Path, facts: Mapping[str, Any], *, unseen: Dice, seen: Dice) -> None:
    """Write the model card beside the weights.

    Parameters
    ----------
    folder : Path
        Folder of the bundle.
    facts : mapping
        Recipe and data: parameters, steps, late_steps, batch_size, seed, names of the real scans (real), number of
        synthetic_patients.
    unseen, seen : mapping
        Dice per scan and class, before and after a scan was in the training.
    """
    data = [LICENCES[name] for name in facts["real"]]
    data.append(f"{facts['synthetic_patients']} synthetic patients of this project (`trabecula.phantom`, Apache-2.0)")
    text = CARD.format(
        parameters=facts["parameters"],
        spacing=SPACING_MM,
        steps=facts["steps"],
        late_steps=facts["late_steps"],
        batch=facts["batch_size"],
        seed=facts["seed"],
        torch=torch.__version__,
        data="\n".join(f"- {line}" for line in data),
        unseen=dice_table(unseen),
        seen=dice_table(seen),
    )
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "README.md").write_text(text)
