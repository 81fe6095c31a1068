"""The trabecular region and the ellipse, against other ways to the same definitions."""

from pathlib import Path

import numpy as np
import pytest
from bodies import CORE_HU, cylinder, from_middle, places_mm, turned, vertebra
from painted import painted, patient
from real_spine import totalseg_cubes
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial import KDTree

from trabecula.image.distance import depth_mm, eroded
from trabecula.image.levels import POSTERIOR
from trabecula.measure.frame import BodyFrame, find_frame
from trabecula.measure.roi import Regions, find_regions, waist_section
from trabecula.measure.solid import Solid

EROSION_MM, ENDPLATE_MM = 4.0, 5.0


def examined(crop, *, spacing_mm=1.0, erosion_mm=EROSION_MM, endplate_mm=ENDPLATE_MM) -> tuple[BodyFrame, Regions]:
    body = Solid.of(crop.label == crop.code, spacing_mm=spacing_mm)
    assert body is not None
    frame = find_frame(body, crop.label == crop.code + POSTERIOR)
    assert frame is not None
    metal = np.zeros(crop.label.shape, bool)
    waist = waist_section(body, frame)
    return frame, find_regions(body, frame, waist, metal, erosion_mm=erosion_mm, endplate_mm=endplate_mm)


def region_by_hand(crop, frame: BodyFrame) -> np.ndarray:
    """The definition of docs/architecture.md, voxel by voxel: trees, steps and rotation instead of grids and shifts."""
    mask = crop.label == crop.code
    size = len(mask)
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    keep = KDTree(outside).query(inside)[0] - 0.5 >= EROSION_MM
    # Straight up and straight down, millimetre by millimetre.
    solid = RegularGridInterpolator([np.arange(size)] * 3, mask.astype(float), method="nearest", bounds_error=False)
    for way in (1, -1):
        for step in range(1, int(ENDPLATE_MM) + 1):
            keep &= np.nan_to_num(solid(inside + way * step * frame.axes[2])) > 0.5
    # The whole body turned upright, and the outline that most of its waist shares.
    fine = 0.5
    grid = (np.indices((120, 120, 41)) - np.array([59.5, 59.5, 20])[:, None, None, None]) * fine
    grid[2] *= 0.4 * frame.height_mm / 2 / (20 * fine)
    places = np.tensordot(frame.axes.T, grid, axes=1) + frame.centre_mm[:, None, None, None] + (size - 1) / 2
    turned_upright = ndimage.map_coordinates(mask.astype(float), places, order=1)
    outline = turned_upright.mean(axis=-1) >= 0.5
    off_outline = np.asarray(ndimage.distance_transform_edt(outline)) * fine
    local = (inside - (size - 1) / 2 - frame.centre_mm) @ frame.axes.T
    keep &= ndimage.map_coordinates(off_outline, local[:, :2].T / fine + 59.5, order=1) >= EROSION_MM
    across, ahead, along = local.T / np.array([[frame.width_mm], [frame.depth_mm], [frame.height_mm]])
    keep &= ~((np.abs(across) <= 0.12) & (ahead <= -0.1) & (np.abs(along) <= 0.15))
    return crop.ct[tuple(inside[keep].T)]


@pytest.mark.slow
def test_the_region_of_real_bodies_is_the_one_made_by_hand(real_data: Path):
    for crop in totalseg_cubes(real_data)[1:]:
        frame, regions = examined(crop)
        by_hand = region_by_hand(crop, frame)
        assert crop.ct[regions.trabecular].mean() == pytest.approx(by_hand.mean(), abs=1)
        assert np.count_nonzero(regions.trabecular) == pytest.approx(len(by_hand), rel=0.05)


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("by_mm", [0.0, 0.4, 1.0, 2.5, 6.0])
def test_erosion_is_the_distance_transforms(by_mm, spacing_mm):
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((30, 25, 20)), 3) > 0.5
    mask |= np.hypot(*(np.indices(mask.shape)[:2] - 14)) < 12
    depth = depth_mm(np.pad(mask, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(eroded(mask, by_mm, spacing_mm), mask & (depth - spacing_mm / 2 >= by_mm))


@pytest.mark.parametrize(("size", "spacing_mm"), [(64, 1.0), (128, 0.5), (32, 2.0)])
def test_distances_are_in_millimetres(size, spacing_mm):
    """A box of 44 x 32 x 26 mm keeps 36 x 24 x 16 mm at every spacing of the cube."""
    x, y, z = np.abs(places_mm(size, spacing_mm))
    body = (x < 22) & (y < 16) & (z < 13)
    _, regions = examined(vertebra(body, np.full(body.shape, 100)), spacing_mm=spacing_mm)
    extent = [np.ptp(axis) + 1 for axis in np.nonzero(regions.trabecular)]
    np.testing.assert_allclose(np.array(extent) * spacing_mm, [36, 24, 16], atol=spacing_mm + 1e-9)


def test_the_vein_is_kept_off():
    """A vein as large as they come, of 200 HU less, opens in the middle of the back wall."""
    x, y, z = places_mm()
    crop = cylinder()
    vein = (np.abs(x) < 4.5) & (y < -16 + 12) & (np.abs(z) < 3)
    crop.ct[vein] -= 200
    _, regions = examined(crop)
    assert crop.ct[regions.trabecular].mean() == pytest.approx(CORE_HU, abs=0.5)
    assert crop.ct[regions.ellipse].mean() == pytest.approx(CORE_HU, abs=0.5)


@pytest.mark.parametrize("index", [1, 4])
def test_osteophytes_do_not_shift_the_region(index):
    plain, _ = painted(patient(index), "L1")
    spurred, _ = painted(patient(index, osteophytes=6.0), "L1")
    assert np.count_nonzero(spurred.label == spurred.code) > 1.02 * np.count_nonzero(plain.label == plain.code)
    means = [crop.ct[examined(crop)[1].trabecular].mean() for crop in (plain, spurred)]
    assert means[0] == pytest.approx(means[1], abs=1)


def test_the_region_holds_what_it_should():
    """Pixel for pixel inside the body, clear of its faces, one piece to each side of the vein."""
    crop = cylinder(axes=turned(x=20, y=10))
    frame, regions = examined(crop)
    body = crop.label == crop.code
    assert not np.any(regions.trabecular & ~body)
    local = frame.to_local(from_middle(regions.trabecular))
    assert np.abs(local[:, 2]).max() <= frame.height_mm / 2 - ENDPLATE_MM + 0.5


def test_the_ellipse_lies_between_vein_and_cortex():
    crop = cylinder()
    frame, regions = examined(crop)
    right, front, up = frame.to_local(from_middle(regions.ellipse)).T
    assert np.abs(up).max() <= 1.5
    assert np.abs(right).max() <= frame.width_mm / 4
    assert -0.1 * frame.depth_mm <= front.min()
    assert front.max() <= frame.depth_mm / 2 - EROSION_MM
    half_front = (0.6 * frame.depth_mm - EROSION_MM) / 2
    assert regions.ellipse_area_mm2 == pytest.approx(np.pi * frame.width_mm / 4 * half_front)
    assert np.count_nonzero(regions.ellipse) / 3 == pytest.approx(regions.ellipse_area_mm2, rel=0.35)


def test_a_body_without_room_has_no_ellipse():
    _, regions = examined(cylinder(right=8, front=5))
    assert regions.ellipse_area_mm2 == 0
    assert not regions.ellipse.any()
