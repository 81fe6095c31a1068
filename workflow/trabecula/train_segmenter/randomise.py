"""Take patches of a labelled scan, randomly posed, cut and recoloured.

Shape and appearance vary far beyond what scanners and patients do, so that the network has to hold on to what
all CT shares (Billot et al., SynthSeg, Med Image Anal 2023, doi:10.1016/j.media.2023.102789).
"""

import math

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional

from trabecula.image.padding import PADDING_HU
from trabecula.model import spine_network
from trabecula.model.spine_network import PATCH, SPACING_MM
from trabecula.train_segmenter.examples import Example

# How often the patch's middle lies near each class: discs and bodies most, so that ends of scans are seen too.
NEAR = (spine_network.BODY,) * 5 + (
    spine_network.POSTERIOR,
    spine_network.SACRUM,
    spine_network.RIB,
    spine_network.RIB,
    spine_network.HIP,
)


def random_patch(example: Example, rng: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a patch, randomly posed, cut and recoloured.

    Returns
    -------
    input : (1, PATCH, PATCH, PATCH) float32 tensor
        Input of the network (see `spine_network.to_input`).
    classes : (1, PATCH, PATCH, PATCH) int64 tensor
        Class of every voxel; UNKNOWN is left out of the loss.
    """
    hu, classes = sample(example, random_points(example, rng))
    hu = degrade(recolour(hu, classes, rng), rng)
    hu, classes = cut_view(hu, classes, rng)
    return torch.from_numpy(spine_network.to_input(hu.numpy()))[None], classes[None]


def random_points(example: Example, rng: Generator) -> NDArray[np.float64]:
    """Draw the (PATCH, PATCH, PATCH, 3) voxels of the scan to sample at: pose, size, mirror and a smooth bend."""
    shape = np.array(example.hu.shape)
    pool = example.places[int(rng.choice(NEAR))] if rng.random() < 0.8 else ()
    if len(pool):
        centre = pool[rng.integers(len(pool))] + rng.uniform(-40, 40, 3) / example.spacing_mm
    else:
        centre = rng.uniform(0, shape)
    # Mostly within the scan: a patch of air teaches little.
    half = np.minimum(0.35 * PATCH * SPACING_MM / example.spacing_mm, shape / 2)
    centre = np.clip(centre, half, shape - half)
    angles = np.deg2rad(rng.normal(0, (14, 8, 9)))
    scale = rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3) * np.array([rng.choice([-1, 1]), 1, 1])
    matrix = _rotation(angles) * scale * SPACING_MM / example.spacing_mm
    axis = np.arange(PATCH) - (PATCH - 1) / 2
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1) @ matrix.T + centre
    bend = torch.from_numpy(rng.normal(0, rng.uniform(0, 4), (1, 3, 5, 5, 5)) / example.spacing_mm)
    smooth = functional.interpolate(bend, size=(PATCH,) * 3, mode="trilinear", align_corners=True)
    return points + smooth[0].permute(1, 2, 3, 0).numpy()


def sample(example: Example, points: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample HU (float32, air outside the scan) and class (int64) at voxel positions, from the part that holds them."""
    shape = np.array(example.hu.shape)
    low = np.clip(np.floor(points.min(axis=(0, 1, 2))).astype(int) - 1, 0, shape - 2)
    high = np.clip(np.ceil(points.max(axis=(0, 1, 2))).astype(int) + 2, low + 2, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    # grid_sample wants the last axis first, from -1 to 1.
    grid = torch.from_numpy(((points - low) / (high - low - 1) * 2 - 1)[..., ::-1].copy()).float()[None]
    above_air = example.hu[box].float()[None, None] - PADDING_HU
    hu = functional.grid_sample(above_air, grid, align_corners=True)[0, 0] + PADDING_HU
    nearest = functional.grid_sample(example.classes[box].float()[None, None], grid, mode="nearest", align_corners=True)
    return hu, nearest[0, 0].round().long()


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the (3, 3) rotation about x, then y, then z by these radians.

    >>> np.rint(_rotation(np.array([0, 0, np.pi / 2])) @ [1, 0, 0]).tolist()
    [0.0, 1.0, 0.0]
    """
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


# --- what the patient and the scanner's calibration change -------------------------------------------------


def recolour(hu: torch.Tensor, classes: torch.Tensor, rng: Generator) -> torch.Tensor:
    """Change bone density, discs, contrast medium in organs and vessels, implants, and the scanner's calibration."""
    bone = (classes > 0) & (classes < spine_network.DISC)
    factor = 2 ** rng.uniform(-1.4, 1.2) * (1 + rng.uniform(0, 0.35) * _field(rng))
    hu = torch.where(bone & (hu > 20), 20 + (hu - 20) * factor, hu)
    hu = torch.where(classes == spine_network.DISC, hu + rng.uniform(-50, 60), hu)
    soft = ~bone & (hu > -30) & (hu < 130)
    hu = torch.where(soft, hu + rng.uniform(0, 30) * _field(rng), hu)
    for _ in range(rng.integers(0, 6)):
        hu = torch.where(soft & _ellipsoid(rng, 10, 70), hu + rng.uniform(-40, 280), hu)
    for _ in range(rng.integers(0, 4)):  # calcified vessels, contrast medium in bowel, stones
        hu = torch.where(soft & _ellipsoid(rng, 2, 20), hu + rng.uniform(100, 900), hu)
    if rng.random() < 0.25:  # islands and metastases, dense or lytic
        hu = torch.where(bone & _ellipsoid(rng, 3, 12), hu + rng.uniform(-250, 500), hu)
    if rng.random() < 0.06:
        hu = torch.where(_ellipsoid(rng, 2, 9), torch.tensor(3000.0), hu)
    return hu * rng.uniform(0.9, 1.1) + rng.normal(0, 18)


def _field(rng: Generator) -> torch.Tensor:
    """Draw a smooth (PATCH, PATCH, PATCH) field of about unit spread."""
    n = int(rng.integers(3, 9))
    coarse = torch.from_numpy(rng.normal(0, 1, (1, 1, n, n, n)).astype(np.float32))
    return functional.interpolate(coarse, size=(PATCH,) * 3, mode="trilinear", align_corners=True)[0, 0]


def _ellipsoid(rng: Generator, least_mm: float, most_mm: float) -> torch.Tensor:
    """Draw a (PATCH, PATCH, PATCH) mask: the inside of an ellipsoid with radii between two bounds."""
    axis = torch.arange(PATCH, dtype=torch.float32)
    centre, radius = rng.uniform(0, PATCH, 3), rng.uniform(least_mm, most_mm, 3) / SPACING_MM
    x, y, z = (((axis - float(c)) / float(r)) ** 2 for c, r in zip(centre, radius, strict=True))
    return x[:, None, None] + y[None, :, None] + z[None, None, :] < 1


# --- what the acquisition changes ------------------------------------------------------------------------


def degrade(hu: torch.Tensor, rng: Generator) -> torch.Tensor:
    """Apply a soft or sharp kernel, add noise, white or grained, and make slices thick."""
    hu = _blur(hu, np.array([rng.uniform(0, 2.0)] * 2 + [0.0]))
    if rng.random() < 0.3:
        hu = hu + rng.uniform(0, 1.5) * (hu - _blur(hu, np.full(3, 2.0)))
    noise = torch.from_numpy(rng.normal(0, 1, hu.shape).astype(np.float32))
    grained = _blur(noise, np.array([rng.uniform(0, 2.5)] * 2 + [rng.uniform(0, 1.0)]))
    hu = hu + grained / (grained.std() + 1e-6) * rng.gamma(1.5, 15)
    return hu @ thick_slices(rng).T if rng.random() < 0.6 else hu


def thick_slices(rng: Generator) -> torch.Tensor:
    """Draw (PATCH, PATCH) weights that average along z over slices, and interpolate between these."""
    thickness = rng.uniform(2.0, 6.5) / SPACING_MM
    step = thickness * rng.uniform(0.6, 1.0)
    centres = np.arange(-rng.uniform(0, step), PATCH + step, step)
    axis = np.arange(PATCH)
    covered = np.clip(thickness / 2 + 0.5 - np.abs(axis[None] - centres[:, None]), 0, 1)
    covered[covered.sum(axis=1) == 0, 0] = 1
    average = covered / covered.sum(axis=1, keepdims=True)
    between = np.clip(1 - np.abs(axis[:, None] - centres[None]) / step, 0, None)
    return torch.from_numpy(((between / between.sum(axis=1, keepdims=True)) @ average).astype(np.float32))


def _blur(image: torch.Tensor, sigma_mm: NDArray[np.float64]) -> torch.Tensor:
    """Blur by a Gaussian with (3,) standard deviations along the axes."""
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


def cut_view(hu: torch.Tensor, classes: torch.Tensor, rng: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the field of view on some sides, as the ends of a scan and narrow reconstructions do."""
    hu, classes = hu.clone(), classes.clone()
    for axis, chance in enumerate((0.08, 0.08, 0.25)):
        if rng.random() >= chance:
            continue
        width = int(rng.integers(4, PATCH // 2))
        gone = slice(0, width) if rng.random() < 0.5 else slice(PATCH - width, PATCH)
        index = [slice(None)] * 3
        index[axis] = gone
        hu[tuple(index)], classes[tuple(index)] = PADDING_HU, 0
    return hu, classes
