"""Part the body of a vertebra from its posterior elements, where a label map has one number for both.

The body is the part in front of the spinal canal. The canal is the hole that the vertebra's arch encloses in the
vertebra's own axial slices, which are square to the spine.
"""

from collections.abc import Collection

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.image.distance import depth_mm
from trabecula.image.levels import POSTERIOR
from trabecula.image.volume import Volume, corners_mm, resample

SPACING_MM = 1.5
# A bony canal is wider (lumbar spine: 200 mm² and more), the foramina of the arteries in the neck are narrower.
MIN_CANAL_MM2 = 60.0
# Widest gap in an arch that is bridged: coarse label maps leave gaps open.
BRIDGED_MM = 3.0
# Pedicles and laminae of the lumbar spine are thinner than twice this, bodies thicker.
OPENING_MM = 8.0
# The same for small vertebrae, as a share of the body's inscribed radius.
OPENING_SHARE = 0.45
# Half the depth of the smallest bodies of adults (neck); a part that is thinner everywhere is posterior elements alone.
MIN_RADIUS_MM = 6.0
# A vertebra with less than this share of the usual volume is cut by the scan's edge, and its centre says little.
FRAGMENT = 0.5
UP = np.array([0.0, 0.0, 1.0])
# From one vertebra to the next a spine rises by more than this share of the way, or the label map shows no spine.
LEAST_RISE = 0.3


def split_bodies(labels: Volume, whole: Collection[int]) -> Volume:
    """Give the posterior elements of whole vertebrae the code ``POSTERIOR + code``.

    Parameters
    ----------
    labels : Volume
        Canonical codes (see `trabecula.image.levels`), in which a body's code covers the whole vertebra.
    whole : collection of int
        The codes of whole vertebrae.

    Returns
    -------
    Volume
        uint8 on the same grid. A vertebra of which too little is in view to find a body is posterior elements.
    """
    result = labels.array.astype(np.uint8)
    vertebrae = {
        code: box for code, box in enumerate(ndimage.find_objects(labels.array), start=1) if box and code in whole
    }
    for code, up in _axes(labels, vertebrae).items():
        box = _grown(vertebrae[code], labels.array.shape)
        place = labels.part(box)
        part = place.with_array(place.array == code)
        rest = part.array & ~_on_grid(_body(_straightened(part, up)), part)
        result[box][rest] = POSTERIOR + code
    return labels.with_array(result)


def _axes(labels: Volume, vertebrae: dict[int, tuple[slice, ...]]) -> dict[int, NDArray[np.float64]]:
    """Give the direction of the spine at each vertebra, from its neighbours' centres: a unit vector that points up."""
    centres, sizes = [], []
    for code, box in vertebrae.items():
        voxels = np.argwhere(labels.array[box] == code)
        centres.append(labels.to_mm(voxels + [side.start for side in box]).mean(axis=0))
        sizes.append(len(voxels))
    heights = np.array(centres)[:, 2] if centres else np.empty(0)
    upwards = [i for i in np.argsort(heights) if sizes[i] >= FRAGMENT * np.median(sizes)]
    if len(upwards) < 2:
        return dict.fromkeys(vertebrae, UP)
    along = np.gradient(np.array(centres)[upwards], axis=0)
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    along = np.where(along[:, 2:] > LEAST_RISE * lengths, along / np.maximum(lengths, 1e-9), UP)
    nearest = np.abs(heights[:, None] - heights[upwards]).argmin(axis=1)
    return {code: along[nearest[i]] for i, code in enumerate(vertebrae)}


def _straightened(vertebra: Volume, up: NDArray[np.float64]) -> Volume:
    """Resample a vertebra's mask to a grid whose third axis follows the spine and whose second points to the front."""
    right = np.cross([0.0, 1.0, 0.0], up)
    right /= np.linalg.norm(right)
    turned = np.eye(4)
    turned[:3, :3] = np.column_stack([right, np.cross(up, right), up])
    corners = corners_mm(vertebra) @ turned[:3, :3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    n = np.ceil((high - low) / SPACING_MM).astype(int) + 1
    affine = turned @ np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = turned[:3, :3] @ low
    shape = (int(n[0]), int(n[1]), int(n[2]))
    return resample(vertebra.with_array(vertebra.array.astype(np.float32)), shape, affine, outside=0)


def _body(straight: Volume) -> Volume:
    """Find the mask of the body on the straightened grid."""
    vertebra = straight.array > 0.5
    opened = _opened(vertebra)
    canal = _canal(vertebra, opened)
    if not canal.any():
        return straight.with_array(opened)
    # The canal's front is the back of the body; it is square to the line from the canal's centre to the body's.
    forwards = np.argwhere(opened).mean(axis=0) - np.argwhere(canal).mean(axis=0)
    forwards[2] = 0
    forwards /= np.linalg.norm(forwards)
    front = np.percentile(np.argwhere(canal) @ forwards, 95)
    ahead = np.tensordot(forwards, np.indices(vertebra.shape), axes=1) > front + 0.5
    return straight.with_array(_largest(vertebra & ahead))


def _opened(vertebra: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Open each axial slice with a disc as wide as a pedicle, so that thin processes go and the body stays.

    Slices are opened one by one, not the whole with a ball, which does not fit into a collapsed body.
    """
    slices = np.moveaxis(np.pad(vertebra, ((1, 1), (1, 1), (0, 0))), 2, 0)
    depth = np.stack([depth_mm(axial, SPACING_MM)[1:-1, 1:-1] for axial in slices], axis=2)
    widest = depth.max(axis=(0, 1))
    usual = float(np.percentile(widest[widest > 0], 75)) if widest.any() else 0.0
    if usual < MIN_RADIUS_MM:
        return np.zeros_like(vertebra)
    radius = min(OPENING_MM, OPENING_SHARE * usual)
    core = depth > radius
    kept = np.zeros_like(vertebra)
    for k in np.flatnonzero(core.any(axis=(0, 1))):
        kept[:, :, k] = depth_mm(~core[:, :, k], SPACING_MM) <= radius
    return _largest(kept & vertebra)


def _canal(vertebra: NDArray[np.bool_], opened: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the holes of the axial slices that lie behind the body and are as large as a canal."""
    canal = np.zeros_like(vertebra)
    if not opened.any():
        return canal
    back = np.argwhere(opened)[:, 1].mean()
    # Above and below a hollow endplate there is bone; above and below the canal there is not.
    footprint = np.asarray(opened.any(axis=2))
    for k in np.flatnonzero(vertebra.any(axis=(0, 1))):
        axial = _closed(vertebra[:, :, k])
        filled = np.asarray(ndimage.binary_fill_holes(axial))
        holes = np.asarray(cc3d.connected_components(filled & ~axial, connectivity=4))
        for i in range(1, int(holes.max()) + 1):
            hole = holes == i
            x, y = np.argwhere(hole).mean(axis=0)
            enclosed = y < back and not footprint[round(x), round(y)]
            if enclosed and hole.sum() * SPACING_MM**2 >= MIN_CANAL_MM2:
                canal[:, :, k] |= hole
    return canal


def _closed(axial: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bridge narrow gaps of an axial slice, without filling wider ones."""
    margin = int(np.ceil(BRIDGED_MM / SPACING_MM)) + 1
    padded = np.pad(axial, margin)
    grown = depth_mm(~padded, SPACING_MM) <= BRIDGED_MM / 2
    closed = depth_mm(grown, SPACING_MM) > BRIDGED_MM / 2
    return (closed | padded)[margin:-margin, margin:-margin]


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest connected part."""
    return cc3d.largest_k(mask, k=1, connectivity=6) > 0


def _on_grid(body: Volume, vertebra: Volume) -> NDArray[np.bool_]:
    """Bring the body to the vertebra's own grid."""
    mask = body.with_array(body.array.astype(np.float32))
    return resample(mask, vertebra.array.shape, vertebra.affine, outside=0).array > 0.5


def _grown(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Grow a box by a voxel on every side, so that interpolation sees the outside.

    >>> _grown((slice(0, 4), slice(2, 5)), (9, 5))
    (slice(0, 5, None), slice(1, 5, None))
    """
    return tuple(slice(max(side.start - 1, 0), min(side.stop + 1, n)) for side, n in zip(box, shape, strict=True))
