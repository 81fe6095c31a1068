"""Heights, their loss, osteophytes and cement, on bodies that are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from bodies import cylinder, turned
from painted import painted, patient
from real_spine import totalseg_cubes

from trabecula import measure
from trabecula.image.levels import POSTERIOR
from trabecula.measure.frame import find_frame
from trabecula.measure.shape import genant_grade, heights_mm
from trabecula.measure.solid import Solid
from trabecula.phantom.population import Fracture

OPTIONS = {"spacing_mm": 1.0, "erosion_mm": 4.0, "endplate_mm": 5.0, "metal_hu": 1200, "min_volume_mm3": 1000}


def framed(crop):
    body = Solid.of(crop.label == crop.code, spacing_mm=1.0)
    assert body is not None
    frame = find_frame(body, crop.label == crop.code + POSTERIOR)
    assert frame is not None
    return body, frame


@pytest.mark.parametrize("angle", [-30, -15, 0, 15, 30])
@pytest.mark.parametrize("wedge", [0.0, 0.2, 0.4])
def test_heights_at_the_walls_are_those_of_the_wedge(angle, wedge):
    """Two planes that meet: its own axis halves them, and cos(half the angle between them) shortens nothing to see."""
    heights = heights_mm(*framed(cylinder(half_height=14, wedge=wedge, axes=turned(x=angle))))
    assert heights is not None
    np.testing.assert_allclose(heights, [28 * (1 - wedge), 28 * (1 - wedge / 2), 28], atol=1.0)


def test_a_dent_is_the_middle_heights():
    heights = heights_mm(*framed(cylinder(half_height=14, concave=3)))
    assert heights is not None
    assert heights[1] == pytest.approx(22, abs=1)
    assert min(heights[0], heights[2]) > 24


def test_heights_of_what_leaves_the_cube_are_unknown():
    assert heights_mm(*framed(cylinder(half_height=40, pedicles=False))) is None


@pytest.mark.parametrize(
    ("ratios", "grade"),
    [
        ((1.1, 0.95, None), 0),
        ((0.81, 0.9, 1.0), 0),
        ((0.79, 0.9, 1.0), 1),
        ((0.9, 0.74, None), 2),
        ((0.9, 0.9, 0.59), 3),
        ((None, None, None), None),
    ],
)
def test_grades_are_genants(ratios, grade):
    """20 to 25 % is mild, to 40 % moderate, more is severe."""
    assert genant_grade(*ratios) == grade


@pytest.mark.parametrize(
    ("fracture", "grades"),
    [
        (Fracture(1.0, 1.0, 1.0), {0}),
        (Fracture(0.90, 0.95, 1.0), {0}),
        (Fracture(0.70, 0.88, 1.0), {1, 2}),
        (Fracture(0.50, 0.75, 1.0), {3}),
        (Fracture(1.0, 0.60, 1.0), {2, 3}),
    ],
)
def test_fractures_of_synthetic_patients_are_graded(fracture, grades):
    crop, _ = painted(patient(0, fractures={"L1": fracture}), "L1")
    measured = measure.measure_vertebra(crop, **OPTIONS)
    assert measured.genant_grade in grades
    assert ("height_loss" in measured.flags) == (grades != {0})


@pytest.mark.parametrize("level", ["T12", "L1", "L3", "L5"])
def test_synthetic_patients_have_the_axes_that_they_were_made_with(level):
    crop, truth = painted(patient(3), level)
    _, frame = framed(crop)
    cosine = np.sum(frame.axes * truth.frame.axes, axis=1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 3
    assert measure.measure_vertebra(crop, **OPTIONS).flags == []


@pytest.mark.parametrize(("osteophytes", "spurred"), [(0.0, False), (2.0, False), (6.0, True)])
def test_large_osteophytes_are_flagged_and_small_ones_not(osteophytes, spurred):
    """This patient's L1 has spurs of 0, 3.5 and 10 mm."""
    crop, _ = painted(patient(4, osteophytes=osteophytes), "L1")
    assert ("osteophytes" in measure.measure_vertebra(crop, **OPTIONS).flags) == spurred


@pytest.mark.parametrize(
    ("implant", "flags"), [({"cement": ("L3",)}, ["metal", "cement"]), ({"screws": ("L3",)}, ["metal"])]
)
def test_cement_is_told_from_screws(implant, flags):
    crop, _ = painted(patient(0, **implant), "L3")
    named = measure.measure_vertebra(crop, **OPTIONS).flags
    assert [flag for flag in named if flag in ("metal", "cement")] == flags


def test_real_heights_are_among_those_of_a_report(real_data: Path):
    """Its makers measured one sagittal slice at 15, 50 and 85 % of the depth, in steps of 1.5 mm, along the line
    between the neighbours' centres: some slice of ours has these heights."""
    folder = real_data / "totalseg_example/spine_report"
    report = json.loads((folder / "spine_report.json").read_text())["results"]
    for crop in totalseg_cubes(real_data)[1:]:
        body, frame = framed(crop)
        right, front = np.arange(-12.0, 13.0), (np.array([0.85, 0.5, 0.15]) - 0.5) * frame.depth_mm
        places = np.stack(np.broadcast_arrays(right[:, None], front, 0.0), axis=-1)
        ours = sum(body.ends_mm(frame.to_cube(places), frame.axes[2], 40.0))
        theirs = [report[f"vertebrae_{crop.level}_height_{name}_mm"] for name in ("anterior", "middle", "posterior")]
        assert np.abs(ours - np.array(theirs)).max(axis=1).min() < 2.5
