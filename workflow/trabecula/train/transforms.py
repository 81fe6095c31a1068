"""Random variation of training regions: what differs between patients, positions and devices."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Variation:
    """Largest change of each kind; each is drawn evenly from its range, per region.

    Attributes
    ----------
    shift_mm, rotation_deg, scale : float
        Placement of the region, turn about each axis, and relative size.
    offset_hu, slope : float
        Calibration of the device: added, and relative change.
    noise_hu : float
        Standard deviation of white noise.
    blur : float
        Share of the mean over 3 x 3 x 3 voxels, 0 to 1.
    """

    shift_mm: float = 4.0
    rotation_deg: float = 10.0
    scale: float = 0.1
    offset_hu: float = 10.0
    slope: float = 0.03
    noise_hu: float = 20.0
    blur: float = 0.7


def vary(hu: Tensor, *, spacing_mm: float, by: Variation, generator: Generator) -> Tensor:
    """Vary a batch of regions at random.

    Parameters
    ----------
    hu : (n, 1, x, y, z) tensor
        Hounsfield units; x runs to the patient's right, y to the front, z to the head.
    spacing_mm : float
        Distance between neighbouring voxels.
    by : Variation
        How much.
    generator : torch.Generator
        Source of chance, on the batch's device.

    Returns
    -------
    (n, 1, x, y, z) tensor
        Hounsfield units.
    """
    moved = move(hu, placements(len(hu), hu.shape[-1] * spacing_mm / 2, by=by, generator=generator))
    return vary_values(moved, by=by, generator=generator)


def placements(n: int, half_side_mm: float, *, by: Variation, generator: Generator) -> Tensor:
    """Random placements: mirrored left to right in half of the cases, turned, scaled, shifted.

    Returns
    -------
    (n, 3, 4) tensor
        Affine maps in the normalised coordinates of `torch.nn.functional.affine_grid` (z, y, x).
    """
    angles = _even(n, 3, generator=generator) * math.radians(by.rotation_deg)
    size = 1 + _even(n, 1, generator=generator) * by.scale
    mirror = torch.where(_even(n, 1, generator=generator) < 0, -1.0, 1.0)
    shift = _even(n, 3, generator=generator) * by.shift_mm / half_side_mm
    # The array's first axis is x (left to right), and it is affine_grid's last coordinate.
    factors = torch.cat([size, size, size * mirror], dim=1)
    return torch.cat([rotations(angles) * factors[:, None], shift[:, :, None]], dim=2)


def rotations(angles: Tensor) -> Tensor:
    """Rotation matrices.

    Parameters
    ----------
    angles : (n, 3) tensor
        Turns about the three axes, one after the other, in radians.

    Returns
    -------
    (n, 3, 3) tensor
    """
    zero, one = torch.zeros_like(angles[:, 0]), torch.ones_like(angles[:, 0])
    (c0, c1, c2), (s0, s1, s2) = angles.cos().unbind(1), angles.sin().unbind(1)
    first = torch.stack([one, zero, zero, zero, c0, -s0, zero, s0, c0], dim=1)
    second = torch.stack([c1, zero, s1, zero, one, zero, -s1, zero, c1], dim=1)
    third = torch.stack([c2, -s2, zero, s2, c2, zero, zero, zero, one], dim=1)
    return first.view(-1, 3, 3) @ second.view(-1, 3, 3) @ third.view(-1, 3, 3)


def move(hu: Tensor, affine: Tensor) -> Tensor:
    """Sample regions (n, 1, x, y, z) at the places that affine maps (n, 3, 4) name, trilinear, edges repeated."""
    grid = functional.affine_grid(affine, list(hu.shape), align_corners=False)
    return functional.grid_sample(hu, grid, padding_mode="border", align_corners=False)


def vary_values(hu: Tensor, *, by: Variation, generator: Generator) -> Tensor:
    """Vary calibration, sharpness and noise of regions (n, 1, x, y, z), in Hounsfield units."""
    offset, slope, noise, blur = _even(4, len(hu), 1, 1, 1, 1, generator=generator)
    mean = functional.avg_pool3d(hu, 3, stride=1, padding=1, count_include_pad=False)
    soft = torch.lerp(hu, mean, blur.abs() * by.blur)
    grain = torch.randn(hu.shape, generator=generator, device=hu.device) * noise.abs() * by.noise_hu
    return soft * (1 + slope * by.slope) + offset * by.offset_hu + grain


def _even(*shape: int, generator: Generator) -> Tensor:
    """Evenly distributed numbers from -1 to 1."""
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
