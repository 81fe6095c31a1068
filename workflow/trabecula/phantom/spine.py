"""Place each vertebra: sizes, sagittal curves, scoliosis.

The middle of the sacral endplate is the origin. Sizes follow the usual morphometry of adult
spines (Panjabi et al., Spine 1991;16:888-901 and 1992;17:299-306), rounded.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trabecula.phantom.population import Fracture, Patient
from trabecula.phantom.shapes import Frame

# From T6 to the last lumbar vertebra: half width, half depth, half height, disc below (mm), tilt (degrees,
# positive when the body leans forward).
_TEMPLATE = {
    "T6": (14.2, 13.0, 9.8, 4.5, 5.0),
    "T7": (14.8, 13.6, 10.1, 4.5, 0.0),
    "T8": (15.4, 14.2, 10.4, 4.8, -4.0),
    "T9": (16.2, 14.7, 10.8, 5.2, -8.0),
    "T10": (17.2, 15.2, 11.3, 5.6, -11.0),
    "T11": (18.6, 15.6, 11.8, 6.2, -13.0),
    "T12": (20.2, 16.0, 12.5, 7.2, -13.0),
    "L1": (21.5, 16.6, 13.2, 8.5, -10.0),
    "L2": (22.6, 17.1, 13.6, 9.8, -6.0),
    "L3": (23.6, 17.5, 13.9, 10.8, 0.0),
    "L4": (24.7, 17.7, 13.9, 11.4, 9.0),
    "L5": (25.8, 17.7, 13.6, 10.5, 20.0),
}
_SACRAL_TILT_DEG = 36.0
_SCOLIOSIS_LENGTH_MM = 330.0


@dataclass(frozen=True)
class Vertebra:
    """Position and size of one vertebra.

    Attributes
    ----------
    level : str
        Canonical name.
    frame : Frame
        Origin in the middle of the body; w points to the upper endplate.
    half_width_mm, half_depth_mm, half_height_mm : float
        Half sizes of the body; the height is the intact one.
    disc_mm : float
        Thickness of the disc below.
    lumbar : float
        Shape of the posterior elements: 0 thoracic, 1 lumbar.
    has_ribs : bool
    fracture : Fracture or None
    """

    level: str
    frame: Frame
    half_width_mm: float
    half_depth_mm: float
    half_height_mm: float
    disc_mm: float
    lumbar: float
    has_ribs: bool
    fracture: Fracture | None


@dataclass(frozen=True)
class Spine:
    """Vertebrae from the last lumbar one upwards, and the sacrum's frame (origin on its endplate)."""

    vertebrae: tuple[Vertebra, ...]
    sacrum: Frame
    scale: float

    def centre_at(self, z_mm: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give x and y of the line through the bodies (continued along the sacrum) at heights z."""
        points = [self.sacrum.to_world([0.0, -22.0 * self.scale, -110.0 * self.scale]), self.sacrum.origin]
        points += [v.frame.origin for v in self.vertebrae]
        line = np.array(points)
        return np.interp(z_mm, line[:, 2], line[:, 0]), np.interp(z_mm, line[:, 2], line[:, 1])


def tilted_axes(tilt_rad: float, roll_rad: float) -> NDArray[np.float64]:
    """Give the (3, 3) rows u, v, w of a frame that leans forward by tilt and to the right by roll.

    >>> tilted_axes(0.0, 0.0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    ct, st, cr, sr = np.cos(tilt_rad), np.sin(tilt_rad), np.cos(roll_rad), np.sin(roll_rad)
    lean = np.array([[1.0, 0.0, 0.0], [0.0, ct, -st], [0.0, st, ct]])
    side = np.array([[cr, 0.0, -sr], [0.0, 1.0, 0.0], [sr, 0.0, cr]])
    return lean @ side


def template_levels(lumbar_count: int) -> list[str]:
    """List the template of each level from the last lumbar vertebra upwards.

    A spine with 4 or 6 lumbar vertebrae has the usual shapes counted from the sacrum: the first of
    six lumbar vertebrae looks like a twelfth thoracic one without ribs.
    """
    names = list(_TEMPLATE)[::-1]
    count = 7 + lumbar_count
    return (names + [names[-1]] * count)[:count]


def _lateral(z_mm: float, scoliosis_mm: float) -> tuple[float, float]:
    phase = 2.0 * np.pi * z_mm / _SCOLIOSIS_LENGTH_MM
    return scoliosis_mm * np.sin(phase), scoliosis_mm * np.cos(phase) * 2.0 * np.pi / _SCOLIOSIS_LENGTH_MM


def _lumbar_share(level: str) -> float:
    return {"T11": 0.35, "T12": 0.75}.get(level, 1.0 if level.startswith("L") else 0.0)


def build_spine(patient: Patient) -> Spine:
    """Stack the vertebrae of a patient on the sacrum."""
    rng = np.random.default_rng([patient.seed, 1])
    scale, curve = patient.skeletal_scale, 0.35 + 0.65 * patient.lordosis
    _, roll = _lateral(0.0, patient.scoliosis_mm)
    sacrum = Frame(np.zeros(3), tilted_axes(np.deg2rad(_SACRAL_TILT_DEG) * curve, np.arctan(roll) * 0.3))
    top, last_up = np.zeros(3), sacrum.axes[2]
    vertebrae = []
    levels = patient.levels[::-1]
    for level, template in zip(levels, template_levels(patient.lumbar_count), strict=True):
        width, depth, height, disc, tilt = np.array(_TEMPLATE[template]) * ([scale] * 4 + [curve])
        height, disc = height * rng.normal(1.0, 0.02), disc * rng.normal(1.0, 0.12)
        fracture = patient.fractures.get(level)
        loss = 0.5 * (fracture.anterior + fracture.posterior) if fracture else 1.0
        _, roll = _lateral(top[2], patient.scoliosis_mm)
        axes = tilted_axes(np.deg2rad(tilt + rng.normal(0.0, 1.0)), np.arctan(roll))
        origin = top + disc * _unit(last_up + axes[2]) + height * loss * axes[2]
        vertebrae.append(
            Vertebra(
                level=level,
                frame=Frame(origin, axes),
                half_width_mm=width * rng.normal(1.0, 0.02),
                half_depth_mm=depth * rng.normal(1.0, 0.02),
                half_height_mm=height,
                disc_mm=disc,
                lumbar=_lumbar_share(level),
                has_ribs=level.startswith("T"),
                fracture=fracture,
            )
        )
        top, last_up = origin + height * loss * axes[2], axes[2]
    return Spine(tuple(vertebrae), sacrum, scale)


def _unit(vector: NDArray) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)
