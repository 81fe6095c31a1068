"""Backend `builtin`: the shipped network, on any machine, without foreign weights."""

import numpy as np
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray

from trabecula import segmenter
from trabecula.errors import StudyFailure
from trabecula.levels import BODY_CODES, CODE_OF_LEVEL, DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.segment.numbering import Column, Level, find_column, name_levels
from trabecula.segmenter import SpineMap
from trabecula.volume import Volume, resample

# Farther from the spine's axis nothing belongs to a vertebra.
REACH_MM = 75.0


def segment(network: UNet, ct: Volume, *, device: str) -> tuple[Volume, list[Level]]:
    """Outline and number the vertebrae of a scan.

    Parameters
    ----------
    network : UNet
        The trained network of `segmenter`.
    ct : Volume
        HU.
    device : str
        Where the network is; "cpu" or "cuda".

    Returns
    -------
    labels : Volume
        uint8 canonical label map (see `levels`) on the CT's grid.
    found : list of Level
        The vertebrae's names, from foot to head.

    Raises
    ------
    StudyFailure
        If no vertebra is found.
    """
    spine = segmenter.predict(network, ct, device=device)
    column = find_column(spine)
    found = name_levels(spine, column) if column is not None else []
    if column is None or not found:
        raise StudyFailure("no_vertebra")
    coarse = Volume(coarse_labels(spine, column, found), spine.affine)
    return to_ct_grid(ct, spine, column, found, coarse), found


def territory(column: Column, found: list[Level], shape: tuple[int, ...], affine: NDArray) -> NDArray[np.uint8]:
    """Code of the level whose slab along the spine a voxel lies in; 0 far from the spine or where nothing was found."""
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    arc, distance = column.arc_mm(points)
    codes = np.zeros(len(column.cuts_mm) + 1, np.uint8)
    codes[[level.piece for level in found]] = [CODE_OF_LEVEL[level.name] for level in found]
    code = codes[np.searchsorted(column.cuts_mm, arc)]
    return np.where(distance < REACH_MM, code, 0).astype(np.uint8).reshape(shape)


def coarse_labels(spine: SpineMap, column: Column, found: list[Level]) -> NDArray[np.uint8]:
    """Canonical label map on the network's grid."""
    semantic = spine.probabilities.argmax(axis=0)
    code = territory(column, found, semantic.shape, spine.affine)
    labels = np.zeros(semantic.shape, np.uint8)
    for index, value in ((segmenter.SACRUM, SACRUM), (segmenter.RIB, RIB), (segmenter.HIP, HIP), (segmenter.DISC, DISC)):
        labels[semantic == index] = value
    body, posterior = semantic == segmenter.BODY, semantic == segmenter.POSTERIOR
    labels[body] = code[body]
    labels[posterior & (code > 0)] = POSTERIOR + code[posterior & (code > 0)]
    return labels


def to_ct_grid(ct: Volume, spine: SpineMap, column: Column, found: list[Level], coarse: Volume) -> Volume:
    """Bring the labels to the CT's grid, the bodies' surfaces finer than the network's voxels.

    The bodies are where the interpolated probability of body exceeds one half and all others; the rest is taken from
    the nearest voxel of the network's grid.
    """
    labels = resample(coarse, ct.array.shape, ct.affine, outside=0, how="nearest").array
    labels[np.isin(labels, BODY_CODES)] = 0
    box = _box(ct, coarse)
    inside = Volume(ct.array[box], _shifted(ct.affine, box))
    shape = inside.array.shape
    body = resample(_channel(spine, segmenter.BODY), shape, inside.affine, outside=0).array
    code = resample(coarse.with_array(territory(column, found, coarse.array.shape, coarse.affine)), shape,
                    inside.affine, outside=0, how="nearest").array
    is_body = (body > 0.5) & (code > 0)
    labels[box][is_body] = code[is_body]
    return ct.with_array(labels)


def _channel(spine: SpineMap, index: int) -> Volume:
    return Volume(spine.probabilities[index].astype(np.float32), spine.affine)


def _box(ct: Volume, coarse: Volume) -> tuple[slice, ...]:
    """Box of the CT's voxels around all bodies, with a margin."""
    voxels = np.argwhere(np.isin(coarse.array, BODY_CODES))
    low, high = voxels.min(axis=0) - 2, voxels.max(axis=0) + 2
    corners = [[(low, high)[a][0], (low, high)[b][1], (low, high)[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    at = ct.to_voxels(coarse.to_mm(corners))
    first = np.clip(np.floor(at.min(axis=0)).astype(int), 0, ct.array.shape)
    last = np.clip(np.ceil(at.max(axis=0)).astype(int) + 1, 1, ct.array.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _shifted(affine: NDArray, box: tuple[slice, ...]) -> NDArray[np.float64]:
    """Affine of a box cut out of an image."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return moved
