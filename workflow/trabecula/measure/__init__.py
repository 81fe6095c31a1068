"""Measure a vertebral body in its cube: trabecular density, volume, heights.

Only the cube is read, so a new measurement needs neither scan nor segmentation. All is measured in the vertebra's own
frame (`frame`), so that tilt, lordosis and rotation change nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trabecula.image.levels import ORDER, POSTERIOR
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
from trabecula.measure.thumbnail import draw_thumbnail
from trabecula.tables.cubes import VertebraCrop

__all__ = ["Measurement", "measure_shard", "measure_vertebra"]

# Number of neighbours on either side that heights are compared with.
NEIGHBOURS = 2


@dataclass(frozen=True)
class Measurement:
    """Figures of a vertebral body; None where undefined.

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
        Findings that limit these figures, keys of `errors.REASONS`.
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
class _Examination:
    """Figures of a vertebra and, where they could be found, its frame and the regions that were read."""

    measurement: Measurement
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

    These values are None, with a flag: all of a body that the edge of the scan cuts, the volume of a body that leaves
    its cube, and the density of a trabecular region that is too small.

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
    return _examine(crop, spacing_mm, erosion_mm, endplate_mm, metal_hu, min_volume_mm3).measurement


def _examine(
    crop: VertebraCrop,
    spacing_mm: float,
    erosion_mm: float,
    endplate_mm: float,
    metal_hu: float,
    min_volume_mm3: float,
) -> _Examination:
    mask = crop.label == crop.code
    body = Solid.of(mask, spacing_mm=spacing_mm)
    metal = find_metal(crop.ct, mask, spacing_mm=spacing_mm, metal_hu=metal_hu)
    beyond_cube = body is not None and reaches_faces(body)
    flags = _names_of(
        incomplete=not crop.complete,
        level_uncertain=crop.level_uncertain,
        beyond_cube=beyond_cube,
        metal=bool(metal.any()),
        cement=is_cement(crop.ct, mask, metal, metal_hu=metal_hu),
    )
    if not crop.complete:
        return _Examination(Measurement(flags=flags))
    frame = body and find_frame(body, crop.label == crop.code + POSTERIOR)
    volume = None if body is None or beyond_cube else body.volume_mm3
    if body is None or frame is None:
        return _Examination(Measurement(body_volume_mm3=volume, flags=[*flags, "empty_roi"]))
    waist = waist_section(body, frame)
    regions = find_regions(body, frame, waist, metal, erosion_mm=erosion_mm, endplate_mm=endplate_mm)
    density = _density(crop.ct, regions, spacing_mm, min_volume_mm3)
    overhang = None if beyond_cube else rim_overhang_mm(body, frame, waist)
    flags += _names_of(
        front_by_shape=not frame.from_pedicles,
        osteophytes=overhang is not None and overhang >= OSTEOPHYTE_MM,
        empty_roi="trabecular_hu_mean" not in density,
    )
    measurement = Measurement(
        **density,
        **_heights(body, frame),
        body_volume_mm3=volume,
        rim_overhang_mm=overhang,
        tilt_sagittal_deg=frame.tilt_sagittal_deg,
        tilt_coronal_deg=frame.tilt_coronal_deg,
        rotation_deg=frame.rotation_deg,
        flags=flags,
    )
    return _Examination(_with_grade(measurement), frame, regions)


def _names_of(**findings: bool) -> list[str]:
    """List the names of the findings that are true."""
    return [name for name, present in findings.items() if present]


def _density(ct: NDArray[np.int16], regions: Regions, spacing_mm: float, min_volume_mm3: float) -> dict[str, Any]:
    """Give the figures of the trabecular region and the ellipse, those that are defined."""
    figures: dict[str, Any] = {}
    hu, volume_mm3 = ct[regions.trabecular], float(regions.trabecular.sum()) * spacing_mm**3
    # A standard deviation needs two voxels, whatever smallest volume is asked for.
    if volume_mm3 >= min_volume_mm3 and hu.size > 1:
        names = [f"trabecular_hu_{name}" for name in ("p05", "p25", "median", "p75", "p95")]
        figures |= zip(names, np.percentile(hu, [5, 25, 50, 75, 95]).tolist(), strict=True)
        figures |= {"trabecular_hu_mean": float(hu.mean()), "trabecular_hu_sd": float(hu.std(ddof=1))}
        figures["trabecular_volume_mm3"] = volume_mm3
    hu = ct[regions.ellipse]
    if hu.size > 1:
        figures |= {"ellipse_hu_mean": float(hu.mean()), "ellipse_hu_sd": float(hu.std(ddof=1))}
        figures["ellipse_area_mm2"] = regions.ellipse_area_mm2
    return figures


def _heights(body: Solid, frame: BodyFrame) -> dict[str, Any]:
    """Give the heights and their ratios; nothing where the heights are unknown."""
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


def _with_grade(measurement: Measurement) -> Measurement:
    """Grade the loss of height by every ratio that is known, and set the flag `height_loss` accordingly."""
    grade = genant_grade(
        measurement.height_ratio_anterior, measurement.height_ratio_middle, measurement.height_ratio_neighbours
    )
    others = [flag for flag in measurement.flags if flag != "height_loss"]
    return replace(measurement, genant_grade=grade, flags=[*others, *_names_of(height_loss=bool(grade))])


def compare_neighbours(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Compare the heights of each vertebra with those of its neighbours, and grade it anew.

    Parameters
    ----------
    measurements : sequence of Measurement
        Vertebrae of one study, from head to foot.
    """
    heights = [_heights_of(measurement) for measurement in measurements]
    compared = []
    for i, (measurement, height) in enumerate(zip(measurements, heights, strict=True)):
        beside = [*heights[max(i - NEIGHBOURS, 0) : i], *heights[i + 1 :][:NEIGHBOURS]]
        neighbours = [neighbour for neighbour in beside if neighbour]
        ratio = height and height_beside_neighbours(height, neighbours)
        compared.append(_with_grade(replace(measurement, height_ratio_neighbours=ratio)))
    return compared


def _heights_of(measurement: Measurement) -> Heights | None:
    """Give the three heights of a vertebra; None where one of them is unknown."""
    anterior, middle = measurement.height_anterior_mm, measurement.height_middle_mm
    posterior = measurement.height_posterior_mm
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
    """Give the rows of the table `tables.MEASURE`, one per vertebra; parameters are those of `measure_vertebra`.

    Cubes come study by study and are not kept; the rows of a study come out once all of it is measured.
    """
    for _, study in groupby(crops, key=lambda crop: (crop.cohort, crop.study_id)):
        rows, measurements = [], []
        for crop in study:
            examination = _examine(crop, spacing_mm, erosion_mm, endplate_mm, metal_hu, min_volume_mm3)
            keys = {name: getattr(crop, name) for name in ("cohort", "patient_id", "study_id", "level")}
            rows.append(keys | {"picture": _thumbnail(crop, examination, spacing_mm)})
            measurements.append(examination.measurement)
        order = sorted(range(len(rows)), key=lambda i: ORDER.index(rows[i]["level"]))
        compared = dict(zip(order, compare_neighbours([measurements[i] for i in order]), strict=True))
        yield from (row | asdict(compared[i]) for i, row in enumerate(rows))


def _thumbnail(crop: VertebraCrop, examination: _Examination, spacing_mm: float) -> bytes | None:
    """Draw the thumbnail of a vertebra; None where nothing was measured in it."""
    frame, regions = examination.frame, examination.regions
    if frame is None or regions is None:
        return None
    hu = examination.measurement.trabecular_hu_mean
    return draw_thumbnail(crop, frame, regions, spacing_mm=spacing_mm, hu=hu)
