"""Thumbnail of a vertebra: where its density was read.

An axial section at mid-height and a sagittal one in the middle, both in the vertebra's own frame, with the outlines
of body, trabecular region and ellipse.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from trabecula.image.padding import PADDING_HU
from trabecula.measure.frame import BodyFrame
from trabecula.measure.roi import Regions
from trabecula.tables.cubes import VertebraCrop

# Level 300, width 1000 HU.
WINDOW_HU = (-200.0, 800.0)
HALF_MM, PIXEL_MM = 32.0, 0.5
QUALITY = 60
# Okabe and Ito, "Color Universal Design", 2008: colour-blind readers can tell them apart too.
BODY, REGION, ELLIPSE = (86, 180, 233), (240, 228, 66), (213, 94, 0)


def draw_thumbnail(
    crop: VertebraCrop, frame: BodyFrame, regions: Regions, *, spacing_mm: float, hu: float | None
) -> bytes:
    """Draw the thumbnail of one vertebra, as WebP without metadata.

    Left: axial at mid-height, the front of the vertebra up and its right at the left. Right: sagittal in the middle,
    the front at the left.

    Parameters
    ----------
    crop : VertebraCrop
        The vertebra in its cube.
    frame : BodyFrame
        Axes of the vertebra.
    regions : Regions
        Trabecular region and ellipse, where density was read.
    spacing_mm : float
        Distance between neighbouring voxels of the cube.
    hu : float or None
        Mean of the trabecular region, which is written on the thumbnail; None: "not measured" is written.
    """
    along = np.arange(HALF_MM, -HALF_MM, -PIXEL_MM)
    right, front, up = np.eye(3)
    views = [
        along[:, None, None] * front + along[None, :, None] * right,
        along[:, None, None] * up + along[None, :, None] * front,
    ]
    panels = [_panel(crop, frame.to_cube(view) / spacing_mm + (len(crop.ct) - 1) / 2, regions) for view in views]
    image = Image.fromarray(np.hstack(panels))
    text = f"{crop.level}{'?' if crop.level_uncertain else ''}  {'not measured' if hu is None else f'{hu:.0f} HU'}"
    font = ImageFont.load_default(size=13)
    ImageDraw.Draw(image).text((4, 3), text, "white", font, stroke_width=2, stroke_fill="black")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _panel(crop: VertebraCrop, voxels: NDArray[np.float64], regions: Regions) -> NDArray[np.uint8]:
    """Draw a section of a cube at (h, w, 3) voxels, with outlines; (h, w, 3)."""
    places = np.moveaxis(voxels, -1, 0)
    hu = ndimage.map_coordinates(crop.ct, places, order=1, cval=PADDING_HU, output=np.float32)
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1)[..., None] * 255
    image = np.rint(grey.repeat(3, axis=-1)).astype(np.uint8)
    for mask, colour in ((crop.label == crop.code, BODY), (regions.trabecular, REGION), (regions.ellipse, ELLIPSE)):
        image[_outline(mask, places)] = colour
    return image


def _outline(mask: NDArray[np.bool_], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Give the pixels just inside the edge of a mask in a section; (h, w)."""
    inside = ndimage.map_coordinates(mask.view(np.uint8), places, order=1, output=np.float32) >= 0.5
    return inside & np.logical_not(ndimage.binary_erosion(inside))
