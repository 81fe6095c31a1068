"""The thumbnail per vertebra: small, upright in the vertebra's frame, nothing but pixels."""

import io

import numpy as np
import pytest
from bodies import cylinder, turned
from PIL import Image

from trabecula import measure
from trabecula.measure import thumbnail

OPTIONS = {"spacing_mm": 1.0, "erosion_mm": 4.0, "endplate_mm": 5.0, "metal_hu": 1200, "min_volume_mm3": 1000}


def thumbnail_of(crop) -> Image.Image:
    (row,) = measure.measure_shard([crop], **OPTIONS)
    assert len(row["picture"]) < 10_000
    image = Image.open(io.BytesIO(row["picture"]))
    image.load()
    assert not image.getexif()
    return image.convert("RGB")


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(float)


def test_both_sections_stand_side_by_side():
    side = int(2 * thumbnail.HALF_MM / thumbnail.PIXEL_MM)
    assert thumbnail_of(cylinder()).size == (2 * side, side)


def test_the_right_is_left_the_front_is_up_and_left():
    """Bright blocks beside the body tell where each side is drawn."""
    crop = cylinder()
    crop.ct[56:60, 20:44, 30:34] = 1000  # right
    crop.ct[30:34, 50:54, 30:34] = 1000  # front
    crop.ct[30:34, 30:34, 48:52] = 1000  # above
    axial, sagittal = np.split(grey(thumbnail_of(crop)), 2, axis=1)
    assert axial[50:78, 5:20].mean() > axial[50:78, -20:-5].mean() + 50
    assert axial[22:30, 60:68].mean() > 150
    assert sagittal[60:68, 22:30].mean() > 150
    assert sagittal[26:34, 60:68].mean() > 150


def test_a_tilted_body_is_drawn_upright():
    straight, posed = (grey(thumbnail_of(cylinder(axes=axes))) for axes in (None, turned(x=20, y=-10)))
    middle = np.s_[40:90, :]
    assert np.abs(straight[middle] - posed[middle]).mean() < 12


@pytest.mark.parametrize("changes", [{"level_uncertain": True}, {"half_height": 4.0}])
def test_doubt_and_absence_are_written(changes):
    usual, other = (np.asarray(thumbnail_of(cylinder(**body))) for body in ({}, changes))
    assert np.abs(usual[:20, :128].astype(float) - other[:20, :128]).max() > 100


def test_the_same_vertebra_gives_the_same_thumbnail():
    assert thumbnail_of(cylinder()).tobytes() == thumbnail_of(cylinder()).tobytes()
