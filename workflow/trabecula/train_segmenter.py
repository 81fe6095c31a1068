"""Train the builtin spine network on real and synthetic scans with strong randomisation.

Every training step draws from its own random generator, seeded by the run's seed and the step's
number: a run that was killed and taken up again goes on exactly as if it had not been.
"""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from torch.nn import functional

from trabecula import phantom, segmenter
from trabecula.levels import DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.log import progress
from trabecula.segmenter import AIR_HU, CLASSES, PATCH, SPACING_MM
from trabecula.tables import beside
from trabecula.volume import Volume, aligned_grid, bounds_mm, read_nifti, resample

log = logging.getLogger(__name__)

REAL = ("totalseg_example", "tptbox_vertebra_crop")


@dataclass(frozen=True)
class Example:
    """One labelled scan.

    Attributes
    ----------
    name : str
        Where it comes from.
    hu : (i, j, k) float32 tensor
        CT on a patient-aligned grid.
    classes : (i, j, k) uint8 tensor
        Class of every voxel, an index into `segmenter.CLASSES`; UNKNOWN is left out of the loss.
    spacing_mm : float
        Distance between neighbouring voxels.
    weight : float
        How often it is drawn, relative to the others.
    """

    name: str
    hu: torch.Tensor
    classes: torch.Tensor
    spacing_mm: float
    weight: float


UNKNOWN = 255


def to_classes(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Canonical label codes (see `levels`) to the network's classes."""
    table = np.zeros(256, np.uint8)
    table[1:30] = segmenter.BODY
    table[SACRUM] = segmenter.SACRUM
    table[POSTERIOR : POSTERIOR + 30] = segmenter.POSTERIOR
    table[POSTERIOR + SACRUM] = segmenter.SACRUM
    table[[RIB, HIP, DISC]] = segmenter.RIB, segmenter.HIP, segmenter.DISC
    return table[labels]


def read_totalseg_example(folder: Path) -> Example:
    """TotalSegmentator's reference case (Apache-2.0): native CT, T11 to the sacrum, 3 mm.

    Its label maps are combined: bodies from ``vertebrae_pp_refined``, the discs and the rest of T11's body
    from ``vertebrae_body``, everything else from ``total`` (25, 26 sacrum; 27-33 L5-T11; 77, 78 hips; 92-115 ribs).
    """
    maps = folder / "spine_report" / "test_result"
    ct = read_nifti(folder / "example_ct.nii.gz")
    total = read_nifti(folder / "example_seg_fast_force_split.nii.gz").array
    parts = read_nifti(maps / "totalseg_vertebrae_body.nii.gz").array
    bodies = read_nifti(maps / "totalseg_vertebrae_pp_refined.nii.gz").array
    classes = np.zeros(ct.array.shape, np.uint8)
    classes[np.isin(total, range(27, 34))] = segmenter.POSTERIOR
    classes[(total == 33) & (parts == 1)] = segmenter.BODY
    classes[np.isin(total, (25, 26))] = segmenter.SACRUM
    classes[np.isin(total, (77, 78))] = segmenter.HIP
    classes[np.isin(total, range(92, 116))] = segmenter.RIB
    classes[(parts == 2) & (classes == 0)] = segmenter.DISC
    classes[bodies > 0] = segmenter.BODY
    return _example("totalseg_example", ct.array, classes, SPACING_MM, weight=1.0)


def read_tptbox_crop(folder: Path) -> Example:
    """TPTBox's sample (Apache-2.0): CT around L3 at 1.5 mm with sub-regions (41-48 posterior, 49 and 50 body)."""
    ct = read_nifti(folder / "sample_ct" / "sub-ct_label-22_ct.nii.gz")
    regions = read_nifti(folder / "sample_ct" / "sub-ct_seg-subreg_label-22_msk.nii.gz")
    shape, affine = aligned_grid(*bounds_mm(ct), 1.5)
    hu = resample(ct, shape, affine, outside=AIR_HU).array
    part = resample(regions, shape, affine, outside=0, how="nearest").array
    classes = np.zeros(shape, np.uint8)
    classes[(part >= 41) & (part <= 48)] = segmenter.POSTERIOR
    classes[part >= 49] = segmenter.BODY
    # Discs and ribs are not labelled here: what is bright or between bodies and unlabelled is left out of the loss.
    classes[(classes == 0) & (hu > 120)] = UNKNOWN
    return _example("tptbox_vertebra_crop", hu, classes, 1.5, weight=0.25)


def from_synthetic(ct: Volume, labels: Volume, *, weight: float) -> Example:
    """A synthetic scan with its canonical label map, both on one patient-aligned isotropic grid."""
    return _example("synthetic", ct.array, to_classes(labels.array), float(ct.spacing_mm[0]), weight=weight)


def _example(name: str, hu: NDArray, classes: NDArray, spacing_mm: float, *, weight: float) -> Example:
    return Example(
        name,
        torch.from_numpy(np.ascontiguousarray(hu, np.float32)),
        torch.from_numpy(np.ascontiguousarray(classes)),
        spacing_mm,
        weight,
    )


# --- randomisation ------------------------------------------------------------------------------------


def random_patch(example: Example, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A randomly posed, cut and recoloured patch.

    Returns
    -------
    input : (1, PATCH, PATCH, PATCH) float32 tensor
        As the network wants it.
    classes : (1, PATCH, PATCH, PATCH) int64 tensor
        Class of every voxel.
    """
    grid = random_pose(example, rng)
    hu = functional.grid_sample((example.hu - AIR_HU)[None, None], grid, align_corners=True)[0, 0] + AIR_HU
    nearest = functional.grid_sample(example.classes[None, None].float(), grid, mode="nearest", align_corners=True)
    classes = nearest[0, 0].round().long()
    hu = degrade(recolour(hu, classes, rng), rng)
    hu, classes = cut_view(hu, classes, rng)
    return torch.from_numpy(segmenter.to_input(hu.numpy()))[None], classes[None]


def random_pose(example: Example, rng: np.random.Generator) -> torch.Tensor:
    """(1, PATCH, PATCH, PATCH, 3) sampling grid for `grid_sample`: pose, size, mirror and a smooth bend."""
    shape = np.array(example.hu.shape)
    spine = rng.random() < 0.75
    pool = (example.classes == rng.choice([1, 1, 1, 2, 3, 4, 4, 5])).nonzero() if spine else None
    if pool is not None and len(pool):
        centre = pool[rng.integers(len(pool))].numpy() + rng.uniform(-45, 45, 3) / example.spacing_mm
    else:
        centre = rng.uniform(0, shape)
    angles = np.deg2rad(rng.normal(0, (10, 5, 8)))
    scale = rng.uniform(0.8, 1.25) * rng.uniform(0.93, 1.07, 3) * np.array([rng.choice([-1, 1]), 1, 1])
    matrix = _rotation(angles) * scale * SPACING_MM / example.spacing_mm
    axis = np.arange(PATCH) - (PATCH - 1) / 2
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1) @ matrix.T + centre
    bend = torch.from_numpy(rng.normal(0, rng.uniform(0, 3), (1, 3, 4, 4, 4)) / example.spacing_mm)
    smooth = functional.interpolate(bend, size=(PATCH,) * 3, mode="trilinear", align_corners=True)
    points = points + smooth[0].permute(1, 2, 3, 0).numpy()
    # grid_sample wants the last axis first, from -1 to 1.
    return torch.from_numpy((points / (shape - 1) * 2 - 1)[..., ::-1].copy()).float()[None]


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation about x, then y, then z by the given radians."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def recolour(hu: torch.Tensor, classes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Change bone density, contrast medium in organs and vessels, and the scanner's calibration."""
    bone = (classes > 0) & (classes < segmenter.DISC)
    factor = 2 ** rng.uniform(-1.2, 1.2)
    hu = torch.where(bone & (hu > 20), 20 + (hu - 20) * factor, hu)
    soft = ~bone & (hu > -30) & (hu < 120)
    for _ in range(rng.integers(0, 6)):
        inside = _ellipsoid(rng)
        hu = torch.where(soft & inside, hu + rng.uniform(-40, 260), hu)
    return hu * rng.uniform(0.92, 1.08) + rng.normal(0, 15)


def _ellipsoid(rng: np.random.Generator) -> torch.Tensor:
    """(PATCH, PATCH, PATCH) bool: inside of a random ellipsoid, 10 to 80 mm in radius."""
    axis = torch.arange(PATCH, dtype=torch.float32)
    centre, radius = rng.uniform(0, PATCH, 3), rng.uniform(10, 80, 3) / SPACING_MM
    x, y, z = (((axis - float(c)) / float(r)) ** 2 for c, r in zip(centre, radius, strict=True))
    return x[:, None, None] + y[None, :, None] + z[None, None, :] < 1


def degrade(hu: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur as thick slices and soft kernels do, then add noise, white or grained."""
    sigma_mm = np.array([rng.uniform(0, 2.5)] * 2 + [rng.uniform(0, 4)]) * (rng.random() < 0.7)
    hu = _blur(hu, sigma_mm)
    noise = torch.from_numpy(rng.normal(0, 1, hu.shape).astype(np.float32))
    grained = _blur(noise, np.full(3, rng.uniform(0, 2.5)))
    return hu + grained / (grained.std() + 1e-6) * rng.gamma(1.5, 12)


def _blur(image: torch.Tensor, sigma_mm: NDArray[np.float64]) -> torch.Tensor:
    for axis, sigma in enumerate(sigma_mm / SPACING_MM):
        if sigma < 0.2:
            continue
        reach = math.ceil(2.5 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        shape, pad = [1] * 5, [0] * 3
        shape[2 + axis], pad[axis] = len(kernel), reach
        weights = (kernel / kernel.sum()).reshape(shape).float()
        # Dividing by the blurred weight keeps the border's level, like an edge that goes on.
        ones = functional.conv3d(torch.ones_like(image)[None, None], weights, padding=pad)[0, 0]
        image = functional.conv3d(image[None, None], weights, padding=pad)[0, 0] / ones
    return image


def cut_view(hu: torch.Tensor, classes: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the field of view on some sides, as the ends of a scan and narrow reconstructions do."""
    hu, classes = hu.clone(), classes.clone()
    for axis, chance in enumerate((0.12, 0.12, 0.35)):
        if rng.random() >= chance:
            continue
        at, length = int(rng.integers(4, PATCH // 2)), PATCH
        gone = slice(0, at) if rng.random() < 0.5 else slice(length - at, length)
        index = [slice(None)] * 3
        index[axis] = gone
        hu[tuple(index)], classes[tuple(index)] = AIR_HU, 0
    return hu, classes


# --- training -----------------------------------------------------------------------------------------


def train(
    examples: Sequence[Example],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str,
    state: Path,
) -> UNet:
    """Train the network; resumes from `state` where it exists and saves there every 50 steps."""
    torch.manual_seed(seed)
    network = segmenter.build_network().to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    losses = _resume(state, network, optimiser)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    chances = np.array([example.weight for example in examples])
    for step in progress(range(len(losses), steps), what="train segmenter", unit="steps"):
        rng = np.random.default_rng((seed, step))
        drawn = rng.choice(len(examples), batch_size, p=chances / chances.sum())
        pairs = [random_patch(examples[i], rng) for i in drawn]
        inputs, classes = (torch.stack(part).to(device) for part in zip(*pairs, strict=True))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _schedule(step, steps)
        optimiser.zero_grad()
        loss = _loss(network(inputs), classes, loss_of)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            _save(state, network, optimiser, losses)
            log.info("step %d: loss %.3f", step + 1, np.mean(losses[-50:]))
    return network


def _loss(logits: torch.Tensor, classes: torch.Tensor, loss_of: DiceCELoss) -> torch.Tensor:
    """Dice and cross-entropy over known voxels: where the class is unknown, the prediction is taken as right."""
    unknown = classes == UNKNOWN
    target = torch.where(unknown, 0, classes)
    sure = torch.zeros_like(logits)
    sure[:, 0] = 20.0
    return loss_of(torch.where(unknown, sure, logits), target)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over 50 steps, then half a cosine to zero."""
    return min((step + 1) / 50, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, losses: list[float]) -> None:
    part = beside(path)
    torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses}, part)
    part.replace(path)


def _resume(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    if not path.exists():
        return []
    state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return state["losses"]


def class_dice(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> dict[str, float]:
    """Dice coefficient of every class that the truth holds."""
    found = {}
    for index, name in enumerate(CLASSES[1:], start=1):
        a, b = predicted == index, truth == index
        if b.any():
            found[name] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return found


# --- the whole -----------------------------------------------------------------------------------------


def read_examples(real: Path | None, sources: Sequence[str], *, synthetic_patients: int, seed: int) -> list[Example]:
    """Real scans of the named sources, and synthetic patients that together are drawn as often as they.

    Parameters
    ----------
    real : Path or None
        Folder that holds the sources; None trains on synthetic patients alone.
    sources : sequence of str
        Names out of `REAL`.
    synthetic_patients : int
        Number of synthetic patients.
    seed : int
        Seed of the synthetic patients.
    """
    readers = {"totalseg_example": read_totalseg_example, "tptbox_vertebra_crop": read_tptbox_crop}
    found = [readers[name](real / name) for name in sources] if real else []
    weight = (sum(example.weight for example in found) or 1.0) / synthetic_patients
    devices = list(phantom.DEVICES.values())
    spacing = (SPACING_MM, SPACING_MM, SPACING_MM)
    for index in progress(range(synthetic_patients), what="synthetic patients", unit="patients"):
        patient = phantom.sample_patient(seed, index)
        ct, labels = phantom.render(patient, devices[index % len(devices)], spacing_mm=spacing, seed=seed + index)
        found.append(from_synthetic(ct, labels, weight=weight))
    return found


CARD = """# Builtin spine network

A MONAI UNet of 605,000 parameters that tells vertebral bodies, posterior elements, sacrum, ribs, hips and discs
apart in CT at {spacing:g} mm. It does not number vertebrae. For research only; not a medical device.

Made by `snakemake train_segmenter`: {steps} steps of {batch} patches, seed {seed}, PyTorch {torch}.

## Data

{data}

All with random pose, size (0.8 to 1.25), bend, bone density (x 0.4 to 2.3), contrast medium, calibration, blur, noise
and field of view. Half of what the network saw is synthetic.

## Dice in the training scans, without randomisation

{dice}

These are figures of the training data: they show that nothing is broken, not how well new scans go.

## Limits

Few real scans stand behind it. Expect errors in children, in the cervical spine, beside metal, in severe scoliosis,
and wherever anatomy differs from the scans above. Look at the pictures in the report.
"""
LICENCES = {
    "totalseg_example": "`totalseg_example`: the reference case of TotalSegmentator's tests, native CT of the abdomen "
    "with label maps made by TotalSegmentator (https://github.com/wasserth/TotalSegmentator, Apache-2.0)",
    "tptbox_vertebra_crop": "`tptbox_vertebra_crop`: sample CT around L3 of TPTBox's tests, with sub-region labels "
    "(https://github.com/Hendrik-code/TPTBox, Apache-2.0)",
}


def write_card(
    folder: Path, *, examples: Sequence[Example], dice: Mapping[str, Mapping[str, float]], facts: Mapping[str, Any]
) -> None:
    """Write the model card beside the weights."""
    real = [LICENCES[e.name] for e in examples if e.name in LICENCES]
    synthetic = sum(e.name == "synthetic" for e in examples)
    data = [*real, f"{synthetic} synthetic patients of this project (`trabecula.phantom`, Apache-2.0)"]
    rows = ["| scan | " + " | ".join(CLASSES[1:]) + " |", "|" + "---|" * len(CLASSES)]
    for name, found in dice.items():
        rows.append(f"| {name} | " + " | ".join(f"{found[c]:.3f}" if c in found else "" for c in CLASSES[1:]) + " |")
    text = CARD.format(
        spacing=SPACING_MM,
        steps=facts["steps"],
        batch=facts["batch_size"],
        seed=facts["seed"],
        torch=torch.__version__,
        data="\n".join(f"- {line}" for line in data),
        dice="\n".join(rows),
    )
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "README.md").write_text(text)


def dice_of_training(network: UNet, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Dice per class in the real training scans and in the first synthetic one, without randomisation."""
    shown = {e.name: e for e in reversed(examples) if e.spacing_mm == SPACING_MM}
    network.eval()
    found = {}
    for name, example in shown.items():
        affine = np.diag([SPACING_MM] * 3 + [1.0])
        spine = segmenter.predict(network, Volume(example.hu.numpy(), affine), device="cpu")
        found[name] = class_dice(spine.probabilities.argmax(axis=0), example.classes.numpy())
    return found


def train_bundle(
    folder: Path,
    *,
    real: Path | None,
    sources: Sequence[str],
    synthetic_patients: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str,
    state: Path,
) -> None:
    """Read the data, train, and write the bundle with its model card; then the resumable state is removed."""
    facts = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    examples = read_examples(real, sources, synthetic_patients=synthetic_patients, seed=seed)
    network = train(examples, **facts, device=device, state=state)
    dice = dice_of_training(network.cpu(), examples)
    data = [example.name for example in examples if example.name != "synthetic"]
    segmenter.save_bundle(
        network, folder, facts=facts | {"real": data, "synthetic_patients": synthetic_patients, "dice": dice}
    )
    write_card(folder, examples=examples, dice=dice, facts=facts)
    state.unlink()
