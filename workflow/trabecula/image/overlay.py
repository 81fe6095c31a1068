"""Draw an overlay of each study for people to look at: sagittal and coronal, vertebrae outlined and named."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from trabecula.image.levels import POSTERIOR
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume, bounds_mm

LARGEST_BYTES = 40_000
QUALITIES = (80, 65, 50, 35, 20, 5)

WINDOW_HU = (-300.0, 800.0)
HEIGHT, FINEST_MM = 480, 0.5
# How far the overlay shows from the middle of the bodies: to the front, to the back, to either side, and beyond the
# last centres.
FRONT_MM, BACK_MM, SIDE_MM, BEYOND_MM = 40.0, 75.0, 60.0, 40.0
# The mean of parallel sections shows less noise.
SLAB_MM = (-2.0, 0.0, 2.0)
BAR_MM = 50

# Okabe and Ito, "Color Universal Design", 2008: colour-blind readers tell them apart, too.
COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (60, 130, 230), (213, 94, 0), (204, 121, 167)]
)


@dataclass(frozen=True)
class Mark:
    """A vertebra to name: its text, its code in the label map, its centre in RAS+ millimetres."""

    name: str
    code: int
    centroid_mm: tuple[float, float, float]


def draw_overlay(ct: Volume, labels: Volume, marks: Sequence[Mark]) -> bytes:
    """Draw sagittal and coronal sections that follow the spine, as WebP without metadata.

    Both have the same scale, isotropic in millimetres. The sagittal section has the front at the left; the coronal
    section is seen from the front (the patient's right at the left).

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    marks : sequence of Mark
        Vertebrae to name, at least one.

    Returns
    -------
    bytes
        WebP, less than 40 kB.
    """
    centres = np.array([mark.centroid_mm for mark in marks])
    bottom, top = (corner[2] for corner in bounds_mm(ct))
    low, high = max(centres[:, 2].min() - BEYOND_MM, bottom), min(centres[:, 2].max() + BEYOND_MM, top)
    pixel_mm = max((high - low) / HEIGHT, FINEST_MM)
    z = np.arange(high, low, -pixel_mm)
    x, y = follow(centres, z)
    ahead, aside = np.arange(FRONT_MM, -BACK_MM, -pixel_mm), np.arange(SIDE_MM, -SIDE_MM, -pixel_mm)
    sagittal = _points(x[:, None], y[:, None] + ahead, z[:, None])
    coronal = _points(x[:, None] + aside, y[:, None], z[:, None])
    image = np.hstack([paint(ct, labels, sagittal, across=0), paint(ct, labels, coronal, across=1)])
    rows = [(high - centre[2]) / pixel_mm for centre in centres]
    return encode(annotate(Image.fromarray(image), marks, rows, columns=(4, len(ahead) + 4), pixel_mm=pixel_mm))


def follow(centres_mm: NDArray[np.float64], z_mm: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Give right and front positions of the line through (n, 3) centres at (h,) heights; straight down and up beyond.

    >>> right, front = follow(np.array([[0.0, 10.0, 100.0], [20.0, 0.0, 0.0]]), np.array([150.0, 50.0, -50.0]))
    >>> right.tolist(), front.tolist()
    ([0.0, 10.0, 20.0], [10.0, 5.0, 0.0])
    """
    order = np.argsort(centres_mm[:, 2])
    x, y, z = centres_mm[order].T
    return np.interp(z_mm, z, x), np.interp(z_mm, z, y)


def _points(x: NDArray, y: NDArray, z: NDArray) -> NDArray[np.float64]:
    """Put coordinates that broadcast to (h, w) together to (h, w, 3) points."""
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def paint(ct: Volume, labels: Volume, points_mm: NDArray[np.float64], *, across: int) -> NDArray[np.uint8]:
    """Paint a section through a scan with its labels over it.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    points_mm : (h, w, 3) array
        Where the pixels lie, in RAS+ millimetres.
    across : int
        Patient axis that the slab's sections are stacked along.

    Returns
    -------
    (h, w, 3) array
        Red, green, blue.
    """
    steps = np.eye(3)[across] * np.array(SLAB_MM)[:, None]
    hu = np.mean([sample(ct, points_mm + step, order=1, outside=PADDING_HU) for step in steps], axis=0)
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1)[..., None] * 255
    codes = sample(labels, points_mm, order=0, outside=0).astype(np.uint8)
    return np.rint(_tint(grey.repeat(3, axis=-1), codes)).astype(np.uint8)


def _tint(image: NDArray[np.float64], codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tint each level: a thin veil, and a line around each piece."""
    colours = COLOURS[codes % POSTERIOR % len(COLOURS)]
    edge = ndimage.maximum_filter(codes, 3) != ndimage.minimum_filter(codes, 3)
    weight = np.where(codes == 0, 0.0, np.where(edge, 0.8, np.where(codes > POSTERIOR, 0.08, 0.15)))[..., None]
    return image * (1 - weight) + colours * weight


def sample(volume: Volume, points_mm: NDArray[np.float64], *, order: int, outside: float) -> NDArray:
    """Sample a volume at (..., 3) RAS+ millimetres: nearest (order 0) or linear (order 1)."""
    voxels = np.moveaxis(volume.to_voxels(points_mm), -1, 0)
    return ndimage.map_coordinates(volume.array, voxels, order=order, cval=outside, prefilter=False, output=np.float32)


def annotate(
    image: Image.Image, marks: Sequence[Mark], rows: Sequence[float], *, columns: Sequence[float], pixel_mm: float
) -> Image.Image:
    """Write each mark's name at its row, in every given column, and draw a bar of 50 mm."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    for mark, row in zip(marks, rows, strict=True):
        colour = tuple(COLOURS[mark.code % len(COLOURS)].tolist())
        for column in columns:
            draw.text((column, row), mark.name, colour, font, anchor="lm", stroke_width=2, stroke_fill="black")
    right, bottom = image.width - 10, image.height - 10
    left = right - BAR_MM / pixel_mm
    draw.line([(left, bottom), (right, bottom)], fill="white", width=3)
    draw.text(((left + right) / 2, bottom - 4), f"{BAR_MM} mm", fill="white", font=font, anchor="mb")
    return image


def encode(image: Image.Image) -> bytes:
    """Encode as WebP of less than 40 kB, in the best of a few qualities that is small enough; no metadata."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() < LARGEST_BYTES:
            break
    return buffer.getvalue()
