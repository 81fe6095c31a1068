"""The model card of the builtin spine network."""

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

Measured before these scans joined the training, in one piece and without numbering.

## Dice in the training scans

{seen}

These show that nothing is broken, not how well new scans go.

## Limits

Few real scans stand behind it. Expect errors in children, in the cervical and upper thoracic spine, beside metal, in
severe scoliosis, and wherever anatomy differs from the scans above. Look at the pictures in the report.
"""
LICENCES = {
    "totalseg_example": "`totalseg_example`: the reference case of TotalSegmentator's tests, native CT of the abdomen "
    "with label maps made by TotalSegmentator (https://github.com/wasserth/TotalSegmentator, Apache-2.0)",
    "tptbox_vertebra_crop": "`tptbox_vertebra_crop`: sample CT around L3 of TPTBox's tests, with sub-region labels "
    "(https://github.com/Hendrik-code/TPTBox, Apache-2.0)",
}

Dice = Mapping[str, Mapping[str, float]]


def class_dice(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> dict[str, float]:
    """Dice coefficient of every class that the truth holds, where the truth is known."""
    known = truth != UNKNOWN
    found = {}
    for index, name in enumerate(CLASSES[1:], start=1):
        a, b = (predicted == index) & known, truth == index
        if b.any():
            found[name] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return found


def dice_in(network: UNet, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Dice per class in whole scans, on the scans' own grids, without randomisation."""
    found = {}
    for example in examples:
        ct = Volume(example.hu.numpy(), np.diag([example.spacing_mm] * 3 + [1.0]))
        spine = spine_network.predict(network, ct, device="cpu")
        truth = example.classes.numpy()
        at = np.indices(truth.shape).reshape(3, -1).T * example.spacing_mm / SPACING_MM
        nearest = np.minimum(np.rint(at).astype(int), np.array(spine.seen.shape) - 1)
        predicted = spine.probabilities.argmax(axis=0)[tuple(nearest.T)].reshape(truth.shape)
        found[example.name] = class_dice(predicted, truth)
    return found


def dice_table(dice: Dice) -> str:
    """Markdown table of Dice per scan and class."""
    if not dice:
        return "None: all real scans were in the training from the start."
    rows = ["| scan | " + " | ".join(CLASSES[1:]) + " |", "|" + "---|" * len(CLASSES)]
    for name, found in dice.items():
        rows.append(f"| {name} | " + " | ".join(f"{found[c]:.3f}" if c in found else "" for c in CLASSES[1:]) + " |")
    return "\n".join(rows)


def write_card(
    folder: Path, *, real: Sequence[str], synthetic: int, unseen: Dice, seen: Dice, facts: Mapping[str, Any]
) -> None:
    """Write the model card beside the weights.

    Parameters
    ----------
    folder : Path
        The bundle.
    real : sequence of str
        Names of the real scans in the training.
    synthetic : int
        Number of synthetic patients.
    unseen, seen : mapping
        Dice per scan and class, before and after a scan was in the training.
    facts : mapping
        The recipe: parameters, steps, late_steps, batch_size, seed.
    """
    data = [LICENCES[name] for name in real]
    data.append(f"{synthetic} synthetic patients of this project (`trabecula.phantom`, Apache-2.0)")
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
