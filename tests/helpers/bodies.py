"""Vertebral bodies whose axes, density and heights are known, in cubes of 64 voxels."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.tables.cubes import VertebraCrop

L1 = CODE_OF_LEVEL["L1"]
CORE_HU, CORTEX_HU, AROUND_HU = 150, 450, 40


def places_mm(size=64, spacing_mm=1.0) -> NDArray[np.float64]:
    """Give the right, front and head positions of a cube's voxels, from its middle."""
    return (np.indices((size,) * 3).astype(np.float64) - (size - 1) / 2) * spacing_mm


def from_middle(mask) -> NDArray[np.float64]:
    """Give the (n, 3) places of a mask's voxels in a cube of 1 mm."""
    return np.argwhere(mask).astype(np.float64) - (len(mask) - 1) / 2


def turned(**angles_deg: float) -> NDArray[np.float64]:
    """Give the (3, 3) rows right, front and up of a vertebra turned about x, y and z one after the other."""
    return Rotation.from_euler("xyz", [angles_deg.get(axis, 0.0) for axis in "xyz"], degrees=True).as_matrix().T


def vertebra(body, ct, posterior=None, **other) -> VertebraCrop:
    """Make a crop around a body mask and a mask of posterior elements."""
    label = (body * L1).astype(np.uint8)
    if posterior is not None:
        label[posterior & ~body] = POSTERIOR + L1
    fields = {
        "cohort": "c", "patient_id": "p", "study_id": "s", "level": "L1", "level_confidence": 0.9,
        "level_uncertain": False, "complete": True, "centroid_mm": (0.0, 0.0, 0.0), "segmenter": "test",
        "ct": ct.astype(np.int16), "label": label,
    }  # fmt: skip
    return VertebraCrop(**(fields | other))


def cylinder(
    half_height=13.0, right=22.0, front=16.0, *, cortex=1.0, axes=None, wedge=0.0, concave=0.0, pedicles=True, **other
) -> VertebraCrop:
    """Make an elliptic cylinder with a shell of cortex and two pedicles, in any pose.

    `wedge` is the share of the height that the front has lost, `concave` the depth of each endplate's dent in mm.
    """
    x, y, z = np.tensordot(np.eye(3) if axes is None else axes, places_mm(), axes=1)

    def solid(less):
        section = (x / (right - less)) ** 2 + (y / (front - less)) ** 2
        half = half_height * (1 - wedge / 2 * (1 + y / front)) - concave * np.clip(1 - section, 0, 1)
        return (section <= 1) & (np.abs(z) <= half - less)

    ct = np.where(solid(cortex), CORE_HU, np.where(solid(0), CORTEX_HU, AROUND_HU))
    posterior = (np.abs(np.abs(x) - 0.6 * right) < 4) & (y < -front / 2) & (y > -front - 10) & (np.abs(z - 4) < 6)
    return vertebra(solid(0), ct, posterior if pedicles else None, **other)
