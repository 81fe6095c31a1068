"""Measure a vertebral body in its cube: trabecular density, volume, heights.

Nothing but the cube is looked at, so a new measurement needs neither scan nor segmentation. All
is done in the vertebra's own frame (`frame`), so that tilt, lordosis and rotation change nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula.image.levels import ORDER, POSTERIOR
from trabecula.measure import tile
from trabecula.measure.frame import BodyFrame, find_frame
from trabecula.measure.metal import find_metal, is_cement
from trabecula.measure.roi import Regions, find_regions, waist_section
from trabecula.measure.shape import (
    OSTEOPHYTE_MM,
    Heights,
    genant_grade,
    height_beside_neighbours,
    heights_mm,
    reaches_faces,
    rim_overhang_mm,
)
from trabecula.measure.solid import Solid
from trabecula.tables.cubes import VertebraCrop

__all__ = ["Measurement", "measure_shard", "measure_vertebra"]

# Neighbours that heights are compared with, to either side.
NEIGHBOURS = 2


@dataclass(frozen=True)
class Measurement:
    """What is known of a vertebral body; None where undefined.

    Attributes
    ----------
    trabecular_hu_mean, trabecular_hu_median, trabecular_hu_sd : float or None
        Over the trabecular region, in Hounsfield units.
    trabecular_hu_p05, trabecular_hu_p25, trabecular_hu_p75, trabecular_hu_p95 : float or None
        Percentiles over the trabecular region, in Hounsfield units.
    trabecular_volume_mm3, body_volume_mm3 : float or None
        Volumes of the trabecular region and of the body.
    ellipse_hu_mean, ellipse_hu_sd, ellipse_area_mm2 : float or None
        Over the ellipse at mid-height, and its area.
    height_anterior_mm, height_middle_mm, height_posterior_mm : float or None
        Heights along the body's own axis, in the middle from side to side.
    height_ratio_anterior, height_ratio_middle : float or None
        Anterior and middle height over the posterior one.
    height_ratio_neighbours : float or None
        Height over that of the neighbours; None for a vertebra that is seen alone.
    genant_grade : int or None
        Grade of the largest loss of height, 0 to 3.
    rim_overhang_mm : float or None
        How far the rims stand out beyond the waist.
    tilt_sagittal_deg, tilt_coronal_deg, rotation_deg : float or None
        Lean of the body's own axis to the front and to the right, and turn of its front to the right.
    flags : list of str
        What limits these figures, keys of `errors.REASONS`.
    """

    trabecular_hu_mean: float | None = None
    trabecular_hu_median: float | None = None
    trabecular_hu_sd: float | None = None
    trabecular_hu_p05: float | None = None
    trabecular_hu_p25: float | None = None
    trabecular_hu_p75: float | None = None
    trabecular_hu_p95: float | None = None
    trabecular_volume_mm3: float | None = None
    body_volume_mm3: float | None = None
    ellipse_hu_mean: float | None = None
    ellipse_hu_sd: float | None = None
    ellipse_area_mm2: float | None = None
    height_anterior_mm: float | None = None
    height_middle_mm: float | None = None
    height_posterior_mm: float | None = None
    height_ratio_anterior: float | None = None
    height_ratio_middle: float | None = None
    height_ratio_neighbours: float | None = None
    genant_grade: int | None = None
    rim_overhang_mm: float | None = None
    tilt_sagittal_deg: float | None = None
    tilt_coronal_deg: float | None = None
    rotation_deg: float | None = None
    flags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """A measured vertebra and, where it has one, its frame and the regions it was read in."""

    measured: Measurement
    frame: BodyFrame | None = None
    regions: Regions | None = None


def measure_vertebra(
    crop: VertebraCrop,
    *,
    spacing_mm: float,
    erosion_mm: float,
    endplate_mm: float,
    metal_hu: float,
    min_volume_mm3: float,
) -> Measurement:
    """Measure one vertebra.

    A body cut by the edge of the scan is never measured as a whole, the volume of one that
    leaves its cube is unknown, and a trabecular region that is too small is not measured:
    these values are None, with a flag.

    Parameters
    ----------
    crop : VertebraCrop
        The vertebra in its cube.
    spacing_mm : float
        Distance between neighbouring voxels of the cube.
    erosion_mm : float
        Distance kept from the surface of the body.
    endplate_mm : float
        Distance kept from the endplates, along the body's own axis.
    metal_hu : float
        Value above which a voxel is metal or cement.
    min_volume_mm3 : float
        Smallest trabecular region that is measured.
    """
    return _examine(crop, spacing_mm, erosion_mm, endplate_mm, metal_hu, min_volume_mm3).measured


def _examine(
    crop: VertebraCrop,
    spacing_mm: float,
    erosion_mm: float,
    endplate_mm: float,
    metal_hu: float,
    min_volume_mm3: float,
) -> _Seen:
    mask = crop.label == crop.code
    body = Solid.of(mask, spacing_mm=spacing_mm)
    metal = find_metal(crop.ct, mask, spacing_mm=spacing_mm, metal_hu=metal_hu)
    beyond = body is not None and reaches_faces(body)
    flags = _named(
        incomplete=not crop.complete,
        level_uncertain=crop.level_uncertain,
        beyond_cube=beyond,
        metal=bool(metal.any()),
        cement=is_cement(crop.ct, mask, metal, metal_hu=metal_hu),
    )
    if not crop.complete:
        return _Seen(Measurement(flags=flags))
    frame = body and find_frame(body, crop.label == crop.code + POSTERIOR)
    volume = None if body is None or beyond else body.volume_mm3
    if body is None or frame is None:
        return _Seen(Measurement(body_volume_mm3=volume, flags=[*flags, "empty_roi"]))
    waist = waist_section(body, frame)
    regions = find_regions(body, frame, waist, metal, erosion_mm=erosion_mm, endplate_mm=endplate_mm)
    density = _density(crop.ct, regions, spacing_mm, min_volume_mm3)
    overhang = None if beyond else rim_overhang_mm(body, frame, waist)
    flags += _named(
        front_by_shape=not frame.from_pedicles,
        osteophytes=overhang is not None and overhang >= OSTEOPHYTE_MM,
        empty_roi="trabecular_hu_mean" not in density,
    )
    measured = Measurement(
        **density,
        **_heights(body, frame),
        body_volume_mm3=volume,
        rim_overhang_mm=overhang,
        tilt_sagittal_deg=frame.tilt_sagittal_deg,
        tilt_coronal_deg=frame.tilt_coronal_deg,
        rotation_deg=frame.rotation_deg,
        flags=flags,
    )
    return _Seen(_with_grade(measured), frame, regions)


def _named(**findings: bool) -> list[str]:
    return [name for name, so in findings.items() if so]


def _density(ct: NDArray[np.int16], regions: Regions, spacing_mm: float, min_volume_mm3: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    hu, volume_mm3 = ct[regions.trabecular], float(regions.trabecular.sum()) * spacing_mm**3
    # A standard deviation needs two voxels, whatever smallest volume is asked for.
    if volume_mm3 >= min_volume_mm3 and hu.size > 1:
        names = [f"trabecular_hu_{name}" for name in ("p05", "p25", "median", "p75", "p95")]
        found |= zip(names, np.percentile(hu, [5, 25, 50, 75, 95]).tolist(), strict=True)
        found |= {"trabecular_hu_mean": float(hu.mean()), "trabecular_hu_sd": float(hu.std(ddof=1))}
        found["trabecular_volume_mm3"] = volume_mm3
    hu = ct[regions.ellipse]
    if hu.size > 1:
        found |= {"ellipse_hu_mean": float(hu.mean()), "ellipse_hu_sd": float(hu.std(ddof=1))}
        found["ellipse_area_mm2"] = regions.ellipse_area_mm2
    return found


def _heights(body: Solid, frame: BodyFrame) -> dict[str, Any]:
    heights = heights_mm(body, frame)
    if heights is None:
        return {}
    anterior, middle, posterior = heights
    return {
        "height_anterior_mm": anterior,
        "height_middle_mm": middle,
        "height_posterior_mm": posterior,
        "height_ratio_anterior": anterior / posterior,
        "height_ratio_middle": middle / posterior,
    }


def _with_grade(measured: Measurement) -> Measurement:
    """Grade the loss of height by all that is known of it."""
    grade = genant_grade(measured.height_ratio_anterior, measured.height_ratio_middle, measured.height_ratio_neighbours)
    others = [flag for flag in measured.flags if flag != "height_loss"]
    return replace(measured, genant_grade=grade, flags=[*others, *_named(height_loss=bool(grade))])


def compare_neighbours(measured: Sequence[Measurement]) -> list[Measurement]:
    """Judge each height of a study by those of its neighbours.

    Parameters
    ----------
    measured : sequence of Measurement
        Vertebrae of one study, from head to foot.
    """
    heights = [_known_heights(one) for one in measured]
    compared = []
    for i, (one, own) in enumerate(zip(measured, heights, strict=True)):
        near = [*heights[max(i - NEIGHBOURS, 0) : i], *heights[i + 1 :][:NEIGHBOURS]]
        ratio = own and height_beside_neighbours(own, [other for other in near if other])
        compared.append(_with_grade(replace(one, height_ratio_neighbours=ratio)))
    return compared


def _known_heights(one: Measurement) -> Heights | None:
    anterior, middle, posterior = one.height_anterior_mm, one.height_middle_mm, one.height_posterior_mm
    return None if anterior is None or middle is None or posterior is None else (anterior, middle, posterior)


def measure_shard(
    crops: Iterable[VertebraCrop],
    *,
    spacing_mm: float,
    erosion_mm: float,
    endplate_mm: float,
    metal_hu: float,
    min_volume_mm3: float,
) -> Iterator[dict[str, Any]]:
    """Rows of the table `tables.MEASURE`, one per vertebra; parameters are those of `measure_vertebra`.

    Cubes come study by study and are not kept; a study's rows come out once all of it is measured.
    """
    for _, study in groupby(crops, key=lambda crop: (crop.cohort, crop.study_id)):
        rows, found = [], []
        for crop in study:
            seen = _examine(crop, spacing_mm, erosion_mm, endplate_mm, metal_hu, min_volume_mm3)
            keys = {name: getattr(crop, name) for name in ("cohort", "patient_id", "study_id", "level")}
            rows.append(keys | {"picture": _picture(crop, seen, spacing_mm)})
            found.append(seen.measured)
        order = sorted(range(len(rows)), key=lambda i: ORDER.index(rows[i]["level"]))
        compared = compare_neighbours([found[i] for i in order])
        yield from (rows[i] | asdict(one) for i, one in sorted(zip(order, compared, strict=True), key=lambda x: x[0]))


def _picture(crop: VertebraCrop, seen: _Seen, spacing_mm: float) -> bytes | None:
    if seen.frame is None or seen.regions is None:
        return None
    return tile.paint(crop, seen.frame, seen.regions, spacing_mm=spacing_mm, hu=seen.measured.trabecular_hu_mean)
