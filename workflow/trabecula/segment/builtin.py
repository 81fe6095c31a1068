"""Segment with the shipped network, on any machine and without foreign weights (backend `builtin`)."""

from pathlib import Path

import cc3d
import numpy as np
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.errors import StudyFailure
from trabecula.image.levels import BODY_CODES, CODE_OF_LEVEL, DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.image.volume import Volume, corners_mm, resample
from trabecula.model import spine_network
from trabecula.model.segmenter_settings import Builtin
from trabecula.model.spine_network import SpineMap
from trabecula.segment.backend import Backend, choose_device
from trabecula.segment.column import BODY_REACH_MM, Column, find_column
from trabecula.segment.evidence import find_evidence
from trabecula.segment.numbering import Level, name_levels

# No process of a vertebra lies farther from the spine's axis.
POSTERIOR_REACH_MM = 75.0


def open_backend(settings: Builtin) -> Backend:
    """Load the shipped network for all studies of a job."""
    device = choose_device(settings.device)
    network, name = spine_network.load_bundle(Path(settings.network), device=device)
    return Backend(name, lambda ct, keys: segment(network, ct, device=device))


def segment(network: UNet, ct: Volume, *, device: str) -> tuple[Volume, list[Level]]:
    """Outline and number the vertebrae of a scan.

    Parameters
    ----------
    network : UNet
        The trained network (see `spine_network.load_bundle`).
    ct : Volume
        HU.
    device : str
        Where the network is; "cpu" or "cuda".

    Returns
    -------
    labels : Volume
        uint8 canonical label map (see `levels`) on the CT's grid.
    levels : list of Level
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
    levels = name_levels(evidence)
    coarse = Volume(coarse_labels(spine, column, levels), spine.affine)
    return to_ct_grid(ct, spine, column, levels, coarse), levels


def codes_at(points_mm: NDArray, column: Column, levels: list[Level], *, reach_mm: float) -> NDArray[np.uint8]:
    """Give the code of the level in whose slab of the spine each of (n, 3) points lies.

    It is 0 farther than `reach_mm` from the spine's axis, and in slabs without a named vertebra.
    """
    arc, distance = column.arc_mm(points_mm)
    codes = np.zeros(len(column.cuts_mm) + 1, np.uint8)
    codes[[level.piece for level in levels]] = [CODE_OF_LEVEL[level.name] for level in levels]
    return np.where(distance < reach_mm, codes[np.searchsorted(column.cuts_mm, arc)], 0).astype(np.uint8)


def coarse_labels(spine: SpineMap, column: Column, levels: list[Level]) -> NDArray[np.uint8]:
    """Make the canonical label map on the network's grid."""
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
        codes = codes_at(spine.to_mm(voxels), column, levels, reach_mm=reach)
        labels[tuple(voxels.T)] = np.where(codes > 0, codes + shift, 0)
    return labels


def to_ct_grid(ct: Volume, spine: SpineMap, column: Column, levels: list[Level], coarse: Volume) -> Volume:
    """Bring the labels to the CT's grid, with the bodies' surfaces finer than the network's voxels.

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
    slabs = resample(_slabs(coarse, around, column, levels), shape, affine, outside=0, how="nearest").array
    bodies = largest_parts(np.where(body.array > 0.5, slabs, 0))
    labels[box][bodies > 0] = bodies[bodies > 0]
    return ct.with_array(labels)


def _slabs(coarse: Volume, around: tuple[slice, ...], column: Column, levels: list[Level]) -> Volume:
    """Give the code of the level in whose slab each voxel at or beside a body lies, on the network's grid."""
    part = coarse.part(around)
    voxels = np.argwhere(ndimage.binary_dilation(np.isin(part.array, BODY_CODES), iterations=2))
    slabs = np.zeros(part.array.shape, np.uint8)
    slabs[tuple(voxels.T)] = codes_at(part.to_mm(voxels), column, levels, reach_mm=BODY_REACH_MM)
    return part.with_array(slabs)


def largest_parts(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest connected part of every label, since specks elsewhere are no vertebra.

    >>> largest_parts(np.array([[[20, 20, 0, 20]]], np.uint8)).tolist()
    [[[20, 20, 0, 0]]]
    """
    kept = np.zeros_like(labels)
    for code in np.unique(labels[labels > 0]):
        kept[cc3d.largest_k(labels == code, k=1, connectivity=6) > 0] = code
    return kept


def _around_bodies(coarse: Volume) -> tuple[slice, ...]:
    """Give the box of the network's voxels around all bodies, with a margin."""
    voxels = np.argwhere(np.isin(coarse.array, BODY_CODES))
    low, high = voxels.min(axis=0) - 3, voxels.max(axis=0) + 4
    return tuple(slice(max(int(a), 0), int(b)) for a, b in zip(low, high, strict=True))


def _box_on(ct: Volume, region: Volume) -> tuple[slice, ...]:
    """Give the box of the CT's voxels that covers a region."""
    corners = ct.to_voxels(corners_mm(region))
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, ct.array.shape)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, ct.array.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
