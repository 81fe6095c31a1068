"""Backend `builtin`: the shipped network, on any machine, without foreign weights."""

import cc3d
import numpy as np
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.errors import StudyFailure
from trabecula.image.levels import BODY_CODES, CODE_OF_LEVEL, DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.image.volume import Volume, resample
from trabecula.model import spine_network
from trabecula.model.spine_network import SpineMap
from trabecula.segment.column import BODY_REACH_MM, Column, find_column
from trabecula.segment.evidence import find_evidence
from trabecula.segment.numbering import Level, name_levels

# Farther from the spine's axis no process belongs to a vertebra.
POSTERIOR_REACH_MM = 75.0


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
    spine = spine_network.predict(network, ct, device=device)
    column = find_column(spine)
    evidence = find_evidence(spine, column) if column is not None else None
    if column is None or evidence is None:
        raise StudyFailure("no_vertebra")
    found = name_levels(evidence)
    coarse = Volume(coarse_labels(spine, column, found), spine.affine)
    return to_ct_grid(ct, spine, column, found, coarse), found


def codes_at(points_mm: NDArray, column: Column, found: list[Level], *, reach_mm: float) -> NDArray[np.uint8]:
    """Code of the level in whose slab of the spine (n, 3) points lie; 0 beyond `reach_mm` or where none was found."""
    arc, distance = column.arc_mm(points_mm)
    codes = np.zeros(len(column.cuts_mm) + 1, np.uint8)
    codes[[level.piece for level in found]] = [CODE_OF_LEVEL[level.name] for level in found]
    return np.where(distance < reach_mm, codes[np.searchsorted(column.cuts_mm, arc)], 0).astype(np.uint8)


def coarse_labels(spine: SpineMap, column: Column, found: list[Level]) -> NDArray[np.uint8]:
    """Canonical label map on the network's grid."""
    semantic = spine.probabilities.argmax(axis=0)
    labels = np.zeros(semantic.shape, np.uint8)
    for index, value in (
        (spine_network.SACRUM, SACRUM),
        (spine_network.RIB, RIB),
        (spine_network.HIP, HIP),
        (spine_network.DISC, DISC),
    ):
        labels[semantic == index] = value
    parts = ((spine_network.BODY, BODY_REACH_MM, 0), (spine_network.POSTERIOR, POSTERIOR_REACH_MM, POSTERIOR))
    for index, reach, shift in parts:
        voxels = np.argwhere(semantic == index)
        code = codes_at(spine.to_mm(voxels), column, found, reach_mm=reach)
        labels[tuple(voxels.T)] = np.where(code > 0, code + shift, 0)
    return labels


def to_ct_grid(ct: Volume, spine: SpineMap, column: Column, found: list[Level], coarse: Volume) -> Volume:
    """Bring the labels to the CT's grid, the bodies' surfaces finer than the network's voxels.

    The bodies are where the interpolated probability of body exceeds one half; the rest is taken from the nearest
    voxel of the network's grid.
    """
    labels = resample(coarse, ct.array.shape, ct.affine, outside=0, how="nearest").array
    labels[np.isin(labels, BODY_CODES)] = 0
    around = _around_bodies(coarse)
    box = _box_on(ct, coarse.part(around))
    shape, affine = labels[box].shape, ct.part(box).affine
    body = resample(
        Volume(spine.probabilities[spine_network.BODY].astype(np.float32), spine.affine), shape, affine, outside=0
    )
    slabs = resample(_slabs(coarse, around, column, found), shape, affine, outside=0, how="nearest").array
    bodies = largest_parts(np.where(body.array > 0.5, slabs, 0))
    labels[box][bodies > 0] = bodies[bodies > 0]
    return ct.with_array(labels)


def _slabs(coarse: Volume, around: tuple[slice, ...], column: Column, found: list[Level]) -> Volume:
    """Code of the level in whose slab each voxel at or beside a body lies, on the network's grid."""
    part = coarse.part(around)
    voxels = np.argwhere(ndimage.binary_dilation(np.isin(part.array, BODY_CODES), iterations=2))
    slabs = np.zeros(part.array.shape, np.uint8)
    slabs[tuple(voxels.T)] = codes_at(part.to_mm(voxels), column, found, reach_mm=BODY_REACH_MM)
    return part.with_array(slabs)


def largest_parts(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest connected part of every label: specks elsewhere are no vertebra."""
    kept = np.zeros_like(labels)
    for code in np.unique(labels[labels > 0]):
        kept[cc3d.largest_k(labels == code, k=1, connectivity=6) > 0] = code
    return kept


def _around_bodies(coarse: Volume) -> tuple[slice, ...]:
    """Box of the network's voxels around all bodies, with a margin."""
    voxels = np.argwhere(np.isin(coarse.array, BODY_CODES))
    low, high = voxels.min(axis=0) - 3, voxels.max(axis=0) + 4
    return tuple(slice(max(int(a), 0), int(b)) for a, b in zip(low, high, strict=True))


def _box_on(ct: Volume, region: Volume) -> tuple[slice, ...]:
    """Box of the CT's voxels that covers a region."""
    last = np.array(region.array.shape) - 1
    corners = region.to_mm([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    at = ct.to_voxels(corners)
    low = np.clip(np.floor(at.min(axis=0)).astype(int), 0, ct.array.shape)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + 1, 0, ct.array.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
