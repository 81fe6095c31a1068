"""Scan a synthetic patient on a device: a CT and its label map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trabecula.density.attenuation import Spongiosa, in_water, spongiosa
from trabecula.image.volume import Volume
from trabecula.phantom.acquisition import acquire
from trabecula.phantom.body import Body, build_body, layer_hu, layers
from trabecula.phantom.devices import Device, Kernel
from trabecula.phantom.organs import Scene, make_texture, paint_soft_tissue
from trabecula.phantom.physics import IODINE_MG_ML, tissue_hu
from trabecula.phantom.population import Patient
from trabecula.phantom.shapes import Grid
from trabecula.phantom.skeleton import paint_hips, paint_ribs, paint_sacrum
from trabecula.phantom.spine import Spine, build_spine
from trabecula.phantom.vertebra import paint_disc, paint_vertebra

Phase = Literal["native", "arterial", "portal"]
FIELD_OF_VIEW_MM = 410.0
_SUB_SLICE_MM = 1.3


@dataclass(frozen=True)
class Positioning:
    """How the patient lies on the table.

    Attributes
    ----------
    rods_mg_cm3 : sequence of float
        Rods of a calibration phantom under the patient, mg/cm³ HA in water; none by default.
    shift_mm : (3,) tuple
        Shift of the grid of voxels against the patient, as when they are laid down again.
    """

    rods_mg_cm3: Sequence[float] = ()
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


USUAL_POSITIONING = Positioning()


def phase_of(patient: Patient, device: Device) -> Phase:
    """Give the contrast phase of a patient's scan on a device."""
    if patient.phase_draw < device.contrast_share:
        return "portal"
    return "arterial" if patient.phase_draw < 1.5 * device.contrast_share else "native"


def bone_of(patient: Patient, device: Device, phase: Phase) -> Spongiosa:
    """Give the trabecular bone of a patient as a device sees it before calibration errors."""
    iodine = IODINE_MG_ML[phase].get("marrow", 0.0)
    return spongiosa(device.energy_kev, marrow_fat=patient.marrow_fat, iodine_mg_ml=iodine)


def expected_hu(patient: Patient, device: Device, level: str, phase: Phase | None = None) -> float:
    """Give the mean trabecular HU of a level as the device should report it, beam hardening and noise aside."""
    hu = float(bone_of(patient, device, phase or phase_of(patient, device)).hu(patient.vbmd_mg_cm3[level]))
    return device.slope * hu + device.offset_hu


def scan_range_mm(patient: Patient, spine: Spine) -> tuple[float, float]:
    """Draw the lowest and highest z of a patient's scan, in millimetres."""
    rng = np.random.default_rng([patient.seed, 6])
    height = {v.level: float(v.frame.origin[2]) for v in spine.vertebrae}
    top = height[str(rng.choice(["T9", "T10", "T10", "T11"]))] + rng.uniform(5, 25)
    bottom = rng.uniform(-100.0, -45.0)
    if patient.coverage == "upper_abdomen":
        top = height[str(rng.choice(["T8", "T9"]))] + rng.uniform(0, 25)
        bottom = height[str(rng.choice(["L3", "L4"]))] + rng.uniform(-30, 0)
    if patient.coverage == "lumbar":
        top = height[str(rng.choice(["T12", "T11"]))] + rng.uniform(0, 20)
    return bottom, top


def _axis(middle: float, count: int, step: float) -> NDArray[np.float32]:
    """Give the places of voxels at even steps around a middle.

    >>> _axis(10.0, 3, 2.0).tolist()
    [8.0, 10.0, 12.0]
    """
    return (middle + (np.arange(count) - (count - 1) / 2) * step).astype(np.float32)


def _sub_slices(thickness_mm: float) -> NDArray[np.float32]:
    """Give the offsets of an odd number of sub-slices that fill a slice, about 1.3 mm apart.

    >>> _sub_slices(3.0).tolist()
    [-1.0, 0.0, 1.0]
    """
    count = max(1, 2 * round((thickness_mm / _SUB_SLICE_MM - 1) / 2) + 1)
    return (((np.arange(count) + 0.5) / count - 0.5) * thickness_mm).astype(np.float32)


def scan_grid(
    patient: Patient, spine: Spine, centre_y_mm: float, spacing_mm: tuple[float, float, float], matrix: int | None,
    thickness_mm: float, psf_mm: float,
) -> Grid:  # fmt: skip
    """Lay the voxel grid of a scan; spacing is (x, y, z), the field of view is centred on the trunk."""
    dx, dy, dz = spacing_mm
    low, high = scan_range_mm(patient, spine)
    nx, ny = (matrix or int(np.ceil(FIELD_OF_VIEW_MM / d)) for d in (dx, dy))
    z = (low + dz * np.arange(max(2, int((high - low) / dz) + 1))).astype(np.float32)
    return Grid(_axis(0.0, nx, dx), _axis(centre_y_mm, ny, dy), z, _sub_slices(thickness_mm), psf_mm)


def render(
    patient: Patient,
    device: Device,
    *,
    spacing_mm: tuple[float, float, float],
    matrix: int | None = None,
    seed: int,
    kernel: Kernel | None = None,
    phase: Phase | None = None,
    positioning: Positioning = USUAL_POSITIONING,
) -> tuple[Volume, Volume]:
    """Scan a patient.

    Parameters
    ----------
    patient : Patient
        Who is scanned.
    device : Device
        The scanner.
    spacing_mm : (3,) tuple
        Distance between voxels to the right, to the front and between slices; slices are as thick as far apart.
    matrix : int, optional
        Rows and columns; by default as many as fill 410 mm.
    seed : int
        Of the noise of this acquisition; the anatomy depends on the patient alone.
    kernel : Kernel, optional
        The device's standard kernel by default.
    phase : str, optional
        Contrast phase; by default the one that the patient would have on this device.
    positioning : Positioning
        How the patient lies on the table.

    Returns
    -------
    ct : Volume
        (i, j, k) int16, Hounsfield units, RAS+.
    labels : Volume
        (i, j, k) uint8 canonical codes of `trabecula.image.levels` on the same grid.
    """
    kernel, phase = kernel or device.kernel, phase or phase_of(patient, device)
    spine = build_spine(patient)
    middle_z = 120.0
    body = build_body(patient, float(spine.centre_at(np.array(middle_z))[1]))
    centre_y = float(body.at(middle_z)[2])
    psf = float(np.hypot(kernel.blur_mm, 0.5 * (spacing_mm[0] + spacing_mm[1]) * 0.8))
    grid = scan_grid(patient, spine, centre_y, spacing_mm, matrix, spacing_mm[2], psf)
    dx, dy, dz = positioning.shift_mm
    grid = replace(grid, x=grid.x + dx, y=grid.y + dy, z=grid.z + dz)
    canvas, labels = paint(patient, device, phase, grid, spine, body, positioning.rods_mg_cm3)
    acquired = acquire(canvas, grid, device, kernel, body, spacing_mm[2], np.random.default_rng([seed, patient.index]))
    affine = np.diag([*spacing_mm, 1.0]).astype(float)
    affine[:3, 3] = grid.x[0], grid.y[0], grid.z[0]
    return Volume(acquired.transpose(2, 1, 0), affine), Volume(labels.transpose(2, 1, 0), affine)


def paint(
    patient: Patient, device: Device, phase: Phase, grid: Grid, spine: Spine, body: Body, rods_mg_cm3: Sequence[float]
) -> tuple[NDArray, NDArray]:
    """Paint noise-free HU and labels, (z, y, x): soft tissue first, then discs and bones over it."""
    tissue, bone = tissue_hu(device.energy_kev, phase), bone_of(patient, device, phase)
    layer = layers(body, grid)
    canvas = layer_hu(layer, tissue, tissue.fat + 6.0, body.fat_mm)
    labels = np.zeros(grid.shape, np.uint8)
    texture = make_texture(np.random.default_rng([patient.seed, 7]), grid)
    rods_hu = [float(in_water(device.energy_kev).hu(density)) for density in rods_mg_cm3]
    paint_soft_tissue(Scene(canvas, layer, texture, grid, body, spine, tissue, patient), rods_hu)
    for number in range(len(spine.vertebrae)):
        paint_disc(canvas, labels, grid, spine, number, tissue.disc)
    lowest = patient.vbmd_mg_cm3[spine.vertebrae[0].level]
    paint_hips(canvas, labels, grid, spine.scale, lowest, bone)
    paint_sacrum(canvas, labels, grid, spine, 0.85 * lowest, bone)
    paint_ribs(canvas, labels, grid, spine, body, bone, patient.seed)
    for vertebra in spine.vertebrae:
        paint_vertebra(canvas, labels, grid, vertebra, patient, bone, spine.scale)
    return canvas, labels
