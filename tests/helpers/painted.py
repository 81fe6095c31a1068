"""Single vertebrae of synthetic patients, painted straight into their cubes: quick, without noise, of known pose."""

from dataclasses import replace

import numpy as np

from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.phantom import DEVICES, Patient, sample_patient
from trabecula.phantom.render import bone_of
from trabecula.phantom.shapes import Grid
from trabecula.phantom.spine import Vertebra, build_spine
from trabecula.phantom.vertebra import paint_vertebra
from trabecula.tables.cubes import VertebraCrop

SIZE = 64
DEVICE = next(iter(DEVICES.values()))
PLAIN = {"osteophytes": 0.0, "fractures": {}, "screws": (), "cement": ()}


def patient(index: int, **changes) -> Patient:
    """Make a patient without spurs, fractures and implants, but with the given changes."""
    return replace(sample_patient(20240, index), **(PLAIN | changes))


def painted(person: Patient, level: str) -> tuple[VertebraCrop, Vertebra]:
    """Paint a vertebra into its cube, and give its true position with it."""
    spine = build_spine(person)
    (painted_vertebra,) = (vertebra for vertebra in spine.vertebrae if vertebra.level == level)
    x, y, z = (painted_vertebra.frame.origin[:, None] + np.arange(SIZE) - (SIZE - 1) / 2).astype(np.float32)
    grid = Grid(x, y, z, np.zeros(1, np.float32), 1.0)
    canvas, labels = np.full(grid.shape, 50.0, np.float32), np.zeros(grid.shape, np.uint8)
    paint_vertebra(canvas, labels, grid, painted_vertebra, person, bone_of(person, DEVICE, "native"), spine.scale)
    crop = VertebraCrop(
        cohort="c", patient_id="p", study_id="s", level=level, level_confidence=0.9, level_uncertain=False,
        complete=True, centroid_mm=(0.0, 0.0, 0.0), segmenter="phantom",
        ct=np.rint(np.minimum(canvas, 3071)).astype(np.int16).transpose(2, 1, 0), label=labels.transpose(2, 1, 0),
    )  # fmt: skip
    assert CODE_OF_LEVEL[level] in crop.label
    return crop, painted_vertebra
