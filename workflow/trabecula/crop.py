"""Cut one patient-aligned cube around every vertebral body, and take each scan's own facts.

Everything after this stage works from the cubes alone. They are written study by study, so
memory does not grow with the number of studies.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from trabecula import tables
from trabecula.density import tissue
from trabecula.errors import StudyFailure
from trabecula.image import overlay
from trabecula.image.distance import depth_mm
from trabecula.image.edge import EDGE_MM
from trabecula.image.levels import BODY_CODES, CODE_OF_LEVEL, ORDER
from trabecula.image.nifti import nifti_in
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume, read_nifti, resample
from trabecula.tables.cubes import VertebraCrop, open_cubes, read_cubes, read_spacing_mm

__all__ = ["VertebraCrop", "crop_shard", "read_cubes", "read_spacing_mm", "read_study", "write_crops"]


# Padding is looked for in a rim of this width around the body.
RIM_MM = 2.0
# Noise in lung reaches -1024 HU in single voxels; padding that cuts a body lines more of its rim.
PADDING_SHARE = 0.01
# Nearest neighbour follows a surface well enough below this distance between slices.
THICK_MM = 2.0

Box: TypeAlias = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StudyCrop:
    """Crops of one study: its row of the table `tables.CROP`, and its vertebrae from head to foot."""

    row: dict[str, Any]
    vertebrae: tuple[VertebraCrop, ...]


# --- geometry ------------------------------------------------------------------------------------


def body_boxes(labels: NDArray[np.uint8]) -> dict[int, Box]:
    """Give the box around every vertebral body in an (i, j, k) label map, by the body's code.

    >>> body_boxes(np.array([[[20, 20, 0]], [[0, 20, 51]]], np.uint8))
    {20: (slice(0, 2, None), slice(0, 1, None), slice(0, 2, None))}
    """
    # Images from SimpleITK run fastest along i; seven times faster in that order.
    boxes = ndimage.find_objects(labels.T, max_label=max(BODY_CODES))
    return {code: box[::-1] for code, box in enumerate(boxes, start=1) if box is not None and code in BODY_CODES}


def grown(box: Box, shape: tuple[int, ...], *, by: NDArray) -> Box:
    """Grow a box by (3,) voxels to each side, as far as the array goes.

    >>> grown((slice(0, 4), slice(2, 5), slice(3, 4)), (9, 5, 9), by=np.array([1, 1, 2]))
    (slice(0, 5, None), slice(1, 5, None), slice(1, 6, None))
    """
    i, j, k = (
        slice(max(int(axis.start - n), 0), min(int(axis.stop + n), size))
        for axis, n, size in zip(box, by, shape, strict=True)
    )
    return i, j, k


def cube_affine(centre_mm: NDArray[np.float64], *, size: int, spacing_mm: float) -> NDArray[np.float64]:
    """Give the (4, 4) affine, voxels to RAS+ millimetres, of a cube around a (3,) point.

    >>> cube_affine(np.array([0.0, 10.0, 20.0]), size=64, spacing_mm=1.0)[:3, 3].tolist()
    [-31.5, -21.5, -11.5]
    """
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = centre_mm - (size - 1) / 2 * spacing_mm
    return affine


def around(volume: Volume, affine: NDArray[np.float64], size: int) -> Volume:
    """Take the part of a volume that a cube is interpolated from."""
    low, high = affine[:3, 3], affine[:3, 3] + (size - 1) * np.diag(affine)[:3]
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = volume.to_voxels(corners)
    first, last = np.floor(voxels.min(axis=0)).astype(int), np.ceil(voxels.max(axis=0)).astype(int)
    first, last = np.maximum(first, 0), np.minimum(last, np.array(volume.array.shape) - 1)
    i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    return volume.part((i, j, k))


def cut_ct(ct: Volume, centre_mm: NDArray[np.float64], *, size: int, spacing_mm: float) -> NDArray[np.int16]:
    """Resample a patient-aligned cube of Hounsfield units around a point.

    Parameters
    ----------
    ct : Volume
        Hounsfield units, axes in any order and direction, without shear.
    centre_mm : (3,) array
        Middle of the cube in RAS+ millimetres.
    size : int
        Voxels along each side.
    spacing_mm : float
        Distance between neighbouring voxels, in millimetres.

    Returns
    -------
    (size, size, size) array
        Trilinear, rounded; -1024 HU outside the scan and nowhere less.
    """
    affine = cube_affine(centre_mm, size=size, spacing_mm=spacing_mm)
    near = around(ct, affine, size)
    # ITK truncates integers towards zero, and padding far below air would bleed into its neighbours.
    hu = near.with_array(np.maximum(near.array, PADDING_HU).astype(np.float32))
    cube = resample(hu, (size, size, size), affine, outside=PADDING_HU).array
    return np.ascontiguousarray(np.rint(cube).astype(np.int16))


def cut_label(labels: Volume, centre_mm: NDArray[np.float64], *, size: int, spacing_mm: float) -> NDArray[np.uint8]:
    """Resample a cube of label codes around a point: on the grid of `cut_ct`, by nearest neighbour, 0 outside."""
    affine = cube_affine(centre_mm, size=size, spacing_mm=spacing_mm)
    cube = resample(around(labels, affine, size), (size, size, size), affine, outside=0, how="nearest").array
    return np.ascontiguousarray(cube)


def without_steps(
    label: NDArray[np.uint8], labels: Volume, code: int, box: Box, *, affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Outline a body anew where slices are thick, so that its surface does not run in steps.

    Shape-based interpolation (Raya and Udupa, IEEE Trans Med Imaging 1990,
    doi:10.1109/42.52980): the distance to the surface is interpolated, not the label. On a
    known body it raises Dice from 0.93 to 0.95 at 5 mm slices, and hardly at 1 mm.

    Parameters
    ----------
    label : (size, size, size) array
        Cube of codes by nearest neighbour.
    labels : Volume
        The whole label map.
    code, box
        Code of the body, and the box in the label map that holds it.
    affine : (4, 4) array
        Cube's voxels to RAS+ millimetres.

    Returns
    -------
    (size, size, size) array
        The cube with the body outlined anew and other labels as they were.
    """
    spacing = labels.spacing_mm
    # One voxel around the body decides where its surface lies.
    near = labels.part(grown(box, labels.array.shape, by=np.ones(3, int)))
    body = near.array == code
    depth = depth_mm(body, spacing) - depth_mm(~body, spacing)
    cube = resample(near.with_array(depth.astype(np.float32)), label.shape, affine, outside=-1)
    free = (label == 0) | (label == code)
    return np.where(free, np.where(cube.array > 0, code, 0), label).astype(np.uint8)


def is_complete(ct: Volume, labels: Volume, code: int, box: Box) -> bool:
    """Tell whether a vertebral body lies clear of the scan's six edges and of padding.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    code : int
        Code of the body.
    box : tuple of slice
        Box that holds the body, as `body_boxes` gives it.

    Returns
    -------
    bool
        False when a body voxel lies on the first or last slice of any axis or within 4 mm of
        it, or when padding (-1024 HU or less) lines more than 1 % of the body's 2 mm rim.
    """
    shape, spacing = labels.array.shape, labels.spacing_mm
    free = np.array([[axis.start, n - axis.stop] for axis, n in zip(box, shape, strict=True)])
    if np.any(free < 1) or np.any(free * spacing[:, None] < EDGE_MM):
        return False
    reach = np.maximum(np.ceil(RIM_MM / spacing).astype(int), 1)
    wide = grown(box, shape, by=reach)
    padding = ct.array[wide] <= PADDING_HU
    if not padding.any():
        return True
    body = labels.array[wide] == code
    rim = ndimage.maximum_filter(body, size=tuple(2 * reach + 1)) & ~body
    return bool(padding[rim | body].sum() <= PADDING_SHARE * rim.sum())


# --- one study, one shard -------------------------------------------------------------------------


def cut_study(
    ct: Volume, labels: Volume, rows: Iterable[Mapping[str, Any]], *, size: int, spacing_mm: float
) -> tuple[VertebraCrop, ...]:
    """Cut a cube around every vertebral body that the segmentation names.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    rows : iterable of mapping
        The study's rows of the table `tables.SEGMENT`.
    size, spacing_mm
        Voxels along a cube's side, and the distance between them in millimetres.

    Raises
    ------
    StudyFailure
        If no row names a vertebra whose body is in the label map.
    """
    boxes = body_boxes(labels.array)
    row_of_level = {row["level"]: row for row in rows}
    vertebrae = tuple(
        _cut_vertebra(ct, labels, boxes[CODE_OF_LEVEL[level]], row_of_level[level], size=size, spacing_mm=spacing_mm)
        for level in ORDER
        if level in row_of_level and CODE_OF_LEVEL[level] in boxes
    )
    if not vertebrae:
        raise StudyFailure("no_vertebra")
    return vertebrae


def _cut_vertebra(
    ct: Volume, labels: Volume, box: Box, row: Mapping[str, Any], *, size: int, spacing_mm: float
) -> VertebraCrop:
    """Cut the cube around one body; `box` holds the body, `row` is its row of the table `tables.SEGMENT`."""
    code = CODE_OF_LEVEL[row["level"]]
    near = labels.part(box)
    centre_mm = near.to_mm([np.argwhere(near.array == code).mean(axis=0)])[0]
    label = cut_label(labels, centre_mm, size=size, spacing_mm=spacing_mm)
    if labels.spacing_mm.max() > THICK_MM:
        affine = cube_affine(centre_mm, size=size, spacing_mm=spacing_mm)
        label = without_steps(label, labels, code, box, affine=affine)
    return VertebraCrop(
        **{name: row[name] for name in ("cohort", "patient_id", "study_id", "level", "level_confidence", "segmenter")},
        level_uncertain=bool(row["level_uncertain"]),
        level_flags=row["level_flags"],
        complete="cut_by_mask" not in row["level_flags"] and is_complete(ct, labels, code, box),
        centroid_mm=tuple(centre_mm.tolist()),
        ct=cut_ct(ct, centre_mm, size=size, spacing_mm=spacing_mm),
        label=label,
    )


def crop_study(
    ct: Volume, labels: Volume, rows: Sequence[Mapping[str, Any]], *, size: int, spacing_mm: float
) -> StudyCrop:
    """Make cubes, scan facts and overlay of one study; a study without vertebra becomes a row with the reason.

    Parameters are those of `cut_study`.
    """
    row: dict[str, Any] = {name: rows[0][name] for name in ("cohort", "patient_id", "study_id")}
    row |= {"status": "ok", "reason": None, "detail": None, "n_vertebrae": 0, "picture": None}
    row |= dict.fromkeys(fact.name for fact in tables.SCAN_FACTS)
    try:
        vertebrae = cut_study(ct, labels, rows, size=size, spacing_mm=spacing_mm)
    except StudyFailure as failure:
        return StudyCrop(row | {"status": "failed", "reason": failure.reason, "detail": failure.detail or None}, ())
    row |= {
        "n_vertebrae": len(vertebrae),
        **tissue.scan_facts(ct, labels),
        "picture": overlay.draw_overlay(ct, labels, [_mark(vertebra) for vertebra in vertebrae]),
    }
    return StudyCrop(row, vertebrae)


def _mark(vertebra: VertebraCrop) -> overlay.Mark:
    """Name a vertebra for the overlay: its level, "?" where that is uncertain, and "cut" where the body is cut."""
    name = vertebra.level + ("?" if vertebra.level_uncertain else "") + ("" if vertebra.complete else " cut")
    return overlay.Mark(name=name, code=vertebra.code, centroid_mm=vertebra.centroid_mm)


def crop_shard(
    segmented: pa.Table, read: Callable[[str], tuple[Volume, Volume]], *, size: int, spacing_mm: float
) -> Iterator[StudyCrop]:
    """Crop study after study; nothing of a study is held once the next one is asked for.

    Parameters
    ----------
    segmented : pyarrow.Table
        Table of the segmentation (`tables.SEGMENT`); studies that failed there are passed over.
    read : callable
        From a study's pseudonym to its CT and label map.
    size, spacing_mm
        Voxels along a cube's side, and the distance between them in millimetres.
    """
    studies: dict[str, list[Mapping[str, Any]]] = {}
    for row in segmented.to_pylist():
        if row["status"] == "ok":
            studies.setdefault(row["study_id"], []).append(row)
    for study_id, rows in studies.items():
        # Without names for the volumes, which would keep them until the next study is read.
        yield crop_study(*read(study_id), rows, size=size, spacing_mm=spacing_mm)


# --- files -----------------------------------------------------------------------------------------


def read_study(ct: Path, labels: Path, study_id: str) -> tuple[Volume, Volume]:
    """Read a study's CT and label map from the folders of `convert` and `segment`."""
    return read_nifti(nifti_in(ct, study_id)), read_nifti(labels / f"{study_id}.nii.gz")


def write_crops(
    studies: Iterable[StudyCrop], cubes: Path | str, table: Path | str, *, size: int, spacing_mm: float
) -> None:
    """Write cubes (Arrow IPC, zstd, a batch per study) and the table of studies, as they come."""
    rows = []
    with open_cubes(cubes, size=size, spacing_mm=spacing_mm) as write:
        for study in studies:
            write(study.vertebrae)
            rows.append(study.row)
    tables.write(rows, tables.CROP, table)
