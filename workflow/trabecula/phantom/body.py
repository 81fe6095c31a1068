"""Shape the outline of the trunk and its layers: skin, subcutaneous fat, muscle wall, cavity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.phantom.physics import TissueHu
from trabecula.phantom.population import Patient
from trabecula.phantom.shapes import Array, Grid

# Heights of the outline's control points above the sacral endplate, mm, and relative half sizes there.
_Z_MM = np.array([-160.0, -60.0, 0.0, 70.0, 150.0, 240.0, 330.0, 420.0])
_WIDTH = {
    "F": np.array([1.06, 1.07, 1.03, 0.92, 0.90, 0.93, 0.94, 0.92]),
    "M": np.array([1.00, 1.00, 0.98, 0.95, 0.96, 1.00, 1.03, 1.03]),
}
_DEPTH = np.array([0.98, 0.98, 0.96, 0.97, 1.00, 1.03, 1.03, 1.00])
_POWER = 2.35
WALL_MM = 13.0
_OUTSIDE = 0.5
_STEPS = 256


@dataclass(frozen=True)
class Body:
    """Outline of the trunk by height.

    Attributes
    ----------
    z_mm : (n,) array
        Heights at which the outline is given.
    half_width_mm, half_depth_mm, middle_mm : (n,) arrays
        Half sizes and the y of the centre.
    fat_mm : float
        Thickness of subcutaneous fat at the flank.
    """

    z_mm: NDArray[np.float64]
    half_width_mm: NDArray[np.float64]
    half_depth_mm: NDArray[np.float64]
    middle_mm: NDArray[np.float64]
    fat_mm: float

    def at(self, z_mm: NDArray | float) -> tuple[NDArray, NDArray, NDArray]:
        """Give half width, half depth and y of the centre at heights z."""
        return tuple(np.interp(z_mm, self.z_mm, f) for f in (self.half_width_mm, self.half_depth_mm, self.middle_mm))  # type: ignore[return-value]

    def inside_wall(self, angle: NDArray, z_mm: NDArray) -> tuple[NDArray, NDArray]:
        """Give points in the muscle wall, where ribs run, at angles (radians) counted from the back."""
        a, b, middle = self.at(z_mm)
        dx, dy = np.sin(angle), -np.cos(angle)
        norm = (np.abs(dx / a) ** _POWER + np.abs(dy / b) ** _POWER) ** (1 / _POWER)
        radius = 1 / norm - self.fat_mm * _fat_factor(dx, dy) - 0.55 * WALL_MM
        return dx * radius, middle + dy * radius


def _fat_factor(dx: NDArray, dy: NDArray) -> NDArray:
    """Give the thickness of fat relative to the flank, by direction: thick in front and behind."""
    return 0.85 + 0.35 * np.clip(dy, 0, 1) ** 2 + 0.5 * np.clip(-dy, 0, 1) ** 2 - 0.15 * np.abs(dx)


def build_body(patient: Patient, spine_y_mm: float) -> Body:
    """Build the outline of a patient; the back's skin lies a fixed distance behind the spine."""
    rng = np.random.default_rng([patient.seed, 4])
    s, excess = patient.skeletal_scale, patient.bmi_kg_m2 - 22.0
    width = (148.0 * s + 3.4 * excess) * _WIDTH[patient.sex] * rng.normal(1.0, 0.012, len(_Z_MM))
    depth = (98.0 * s + 4.0 * excess) * _DEPTH * rng.normal(1.0, 0.012, len(_Z_MM))
    fat = max(5.0, 9.0 + 1.3 * excess + (4.0 if patient.sex == "F" else 0.0))
    back = spine_y_mm - 77.0 * s - 0.95 * fat
    return Body(_Z_MM, width, depth, back + depth, fat)


def _coarse_layers(body: Body, x: NDArray, y: NDArray, z: NDArray) -> Array:
    """Give the layer index, (z, y, x): below 0 air, 0 skin, 1 end of fat, 2 end of the muscle wall."""
    a, b, middle = (v[:, None, None] for v in body.at(z))
    px, py = x[None, None, :], y[None, :, None] - middle
    radius = np.sqrt(px**2 + py**2) + 1e-3
    norm = (np.abs(px / a) ** _POWER + np.abs(py / b) ** _POWER) ** (1 / _POWER)
    depth = radius * (1 / np.maximum(norm, 1e-3) - 1)
    # A shallow furrow over the spinous processes.
    depth = depth - 5.0 * np.exp(-((px / 16.0) ** 2)) * (py < 0)
    fat = body.fat_mm * _fat_factor(px / radius, py / radius)
    wall = WALL_MM * (1 - 0.35 * np.clip(py / radius, 0, 1) ** 2)
    inner = np.where(depth < fat, depth / fat, 1 + (depth - fat) / wall)
    return np.clip(np.where(depth < 0, depth / 12.0, inner), -_OUTSIDE, 3.0 - _OUTSIDE).astype(np.float32)


def _upsampling(coarse: NDArray, fine: NDArray) -> Array:
    """Give the (fine, coarse) weights of linear interpolation.

    >>> _upsampling(np.array([0.0, 2.0, 4.0]), np.array([0.0, 1.0])).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """
    place = np.clip((fine - coarse[0]) / (coarse[1] - coarse[0]), 0, len(coarse) - 1.001)
    low = place.astype(int)
    weights = np.zeros((len(fine), len(coarse)), np.float32)
    rows = np.arange(len(fine))
    weights[rows, low], weights[rows, low + 1] = 1 - (place - low), place - low
    return weights


def layers(body: Body, grid: Grid, coarse_mm: float = 6.0) -> Array:
    """Give the layer index of every voxel, (z, y, x); smooth, so computed coarsely and interpolated in each slice."""
    x, y = (np.arange(axis[0], axis[-1] + coarse_mm + 1e-3, coarse_mm) for axis in (grid.x, grid.y))
    field = _coarse_layers(body, x, y, grid.z)
    return np.matmul(np.matmul(_upsampling(y, grid.y), field), _upsampling(x, grid.x).T)


def layer_hu(index: Array, tissue: TissueHu, visceral_fat_hu: float, fat_mm: float) -> Array:
    """Give the Hounsfield units of air, skin, fat, muscle wall and cavity from the layer index."""
    skin = min(0.4, 2.0 / fat_mm)
    edges = np.array([-_OUTSIDE, -0.05, 0.3 * skin, skin, 1.35 * skin, 0.96, 1.03, 1.97, 2.04, 3.0 - _OUTSIDE])
    values = (-1000.0, -1000.0, tissue.skin, tissue.skin, tissue.fat, tissue.fat, tissue.muscle, tissue.muscle)
    table = np.interp(
        np.linspace(-_OUTSIDE, 3.0 - _OUTSIDE, 3 * _STEPS), edges, [*values, visceral_fat_hu, visceral_fat_hu]
    )
    step = ((index + np.float32(_OUTSIDE)) * np.float32(_STEPS - 0.4)).astype(np.uint16)
    return table.astype(np.float32).take(step)
