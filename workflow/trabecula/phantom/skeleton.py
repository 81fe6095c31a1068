"""Paint sacrum, hip bones and ribs."""

import numpy as np
from numpy.typing import NDArray

from trabecula.density.attenuation import Spongiosa
from trabecula.image.levels import HIP, RIB, SACRUM
from trabecula.phantom.body import Body
from trabecula.phantom.shapes import (
    WORLD,
    Array,
    Grid,
    blend,
    box_patch,
    capsule,
    coverage,
    frame_patch,
    middle,
    smooth_max,
)
from trabecula.phantom.spine import Spine, Vertebra
from trabecula.phantom.vertebra import CORTEX_MG_CM3, Part, both_sides, union_of_parts

# How far around the chest each rib reaches, degrees from the spine, and how far its front end drops, mm.
_RIB_REACH_DEG = {"T6": 150, "T7": 142, "T8": 135, "T9": 125, "T10": 112, "T11": 82, "T12": 48}
_RIB_DROP_MM = {"T6": 95, "T7": 105, "T8": 115, "T9": 115, "T10": 105, "T11": 80, "T12": 50}


def _sacral_parts(s: float) -> list[Part]:
    middle_line = [
        Part((-11 * s, -1 * s, -13 * s), (11 * s, -1 * s, -13 * s), (16.5 * s, 16.5 * s)),
        Part((-9 * s, -1 * s, -36 * s), (9 * s, -1 * s, -36 * s), (14.5 * s, 14.5 * s)),
        Part((-7 * s, 3 * s, -57 * s), (7 * s, 3 * s, -57 * s), (12.5 * s, 12.5 * s)),
        Part((-6 * s, 10 * s, -76 * s), (6 * s, 10 * s, -76 * s), (10.5 * s, 10.5 * s)),
        Part((-3 * s, 21 * s, -93 * s), (3 * s, 21 * s, -93 * s), (8 * s, 8 * s)),
        # Fill the grooves between the fused bodies.
        Part((0, -2 * s, -16 * s), (0, -1 * s, -36 * s), (15 * s, 14 * s), (1.4, 1, 1)),
        Part((0, -1 * s, -36 * s), (0, 4 * s, -57 * s), (13.5 * s, 12 * s), (1.3, 1, 1)),
        Part((0, 4 * s, -57 * s), (0, 11 * s, -76 * s), (11.5 * s, 10 * s), (1.2, 1, 1)),
        Part((0, 11 * s, -76 * s), (0, 21 * s, -93 * s), (10 * s, 8 * s)),
        Part((0, -30 * s, -8 * s), (0, -22 * s, -75 * s), (4.5 * s, 3.5 * s)),
        Part((-17 * s, -25 * s, -26 * s), (17 * s, -25 * s, -26 * s), (3.5 * s, 3.5 * s), (1, 1, 4.0)),
        Part((-13 * s, -19 * s, -58 * s), (13 * s, -19 * s, -58 * s), (3.5 * s, 3.5 * s), (1, 1, 4.0)),
    ]
    wings = [
        Part((16 * s, -5 * s, -12 * s), (42 * s, -15 * s, -19 * s), (12 * s, 13 * s), (1, 1, 1.1)),
        Part((12 * s, -8 * s, -38 * s), (38 * s, -18 * s, -42 * s), (9 * s, 12 * s), (1, 1, 1.2)),
        Part((8 * s, -4 * s, -62 * s), (26 * s, -8 * s, -62 * s), (9 * s, 9 * s), (1, 1, 1.2)),
        Part((17 * s, -16 * s, 3 * s), (18 * s, -22 * s, -14 * s), (4 * s, 4 * s)),
    ]
    return [*middle_line, *both_sides(wings)]


def paint_sacrum(
    canvas: Array, labels: NDArray[np.uint8], grid: Grid, spine: Spine, vbmd_mg_cm3: float, bone: Spongiosa
) -> None:
    """Paint the sacrum with wings, foramina and canal."""
    s, frame = spine.scale, spine.sacrum
    patch = frame_patch(grid, frame, (-58 * s, -38 * s, -110 * s), (58 * s, 32 * s, 10 * s))
    if patch is None:
        return
    distance = union_of_parts(_sacral_parts(s), frame, patch)
    u, v, w = frame.local(patch)
    # The flat upper endplate of S1 cuts the round body; behind the body the facets rise above it.
    plate = np.where(v > -15 * s, w, np.float32(-50))
    distance = smooth_max(distance, plate, 1.5)
    for depth in (-26.0, -51.0):
        hole = capsule(np.abs(u), v, w, (17 * s, -30 * s, depth * s), (19 * s, 20 * s, depth * s), (4.5 * s, 5.0 * s))
        distance = smooth_max(distance, -hole, 2.0)
    core = coverage(distance + 1.1, grid.psf_mm)
    cortex, inner = float(bone.hu(CORTEX_MG_CM3)), float(bone.hu(vbmd_mg_cm3))
    blend(canvas, patch, coverage(distance, grid.psf_mm), cortex + (inner - cortex) * core)
    labels[patch.where][middle(distance) < 0] = SACRUM


def _hip_distance(x: Array, y: Array, z: Array, s: float) -> Array:
    """Measure the signed distance from the right iliac wing: a bent plate bounded by the crest."""
    y, z = y / s, z / s
    t = 0.72 * (y + 35) + 0.38 * (z + 25) + 4
    sheet = np.float32(46.0) + 0.5 * (t + np.sqrt(t * t + 500.0)) - np.clip(-z - 60, 0, None) * 0.25
    rim = np.sqrt(((y + 9) / 60) ** 2 + ((z + 58) / 86) ** 2)
    half = 3.6 + 3.2 * np.clip(rim - 0.75, 0, 1) / 0.25 + 13 * np.exp(-(((y - 12) / 24) ** 2) - ((z + 105) / 28) ** 2)
    half = half + 4.5 * np.exp(-(((y + 45) / 18) ** 2) - ((z + 30) / 30) ** 2)
    flat = np.abs(x / s - sheet) * np.float32(0.78) - half
    return smooth_max(flat.astype(np.float32), ((rim - 1) * 68).astype(np.float32), 4.0) * np.float32(s)


def paint_hips(
    canvas: Array, labels: NDArray[np.uint8], grid: Grid, s: float, vbmd_mg_cm3: float, bone: Spongiosa
) -> None:
    """Paint both iliac wings (mirror images)."""
    cortex, inner = float(bone.hu(CORTEX_MG_CM3 + 60)), float(bone.hu(0.8 * vbmd_mg_cm3))
    for side in (-1, 1):
        corners = np.array([[40 * side, -75, -150], [150 * side, 60, 34]]) * s
        patch = box_patch(grid, corners.min(0), corners.max(0), sub=False)
        if patch is None:
            continue
        distance = _hip_distance(patch.x * side, patch.y, patch.z, s)
        core = coverage(distance + 1.6, grid.psf_mm)
        blend(canvas, patch, coverage(distance, grid.psf_mm), cortex + (inner - cortex) * core)
        region = labels[patch.where]
        region[(distance[:, 0] < 0) & (region == 0)] = HIP


def rib_path(v: Vertebra, body: Body, s: float, reach_deg: float, drop_mm: float, side: int) -> NDArray[np.float64]:
    """Give (n, 3) points along a rib from its head to its front end, millimetres."""
    a, b, h = v.half_width_mm, v.half_depth_mm, v.half_height_mm
    head = v.frame.to_world([side * (0.95 * a + 3), -0.75 * b, 0.6 * h])
    neck = v.frame.to_world([side * (a + 13 * s), -b - 17 * s, 0.4 * h + 4])
    first = v.frame.to_world([side * (a + 26 * s), -b - 24 * s, 0.3 * h])
    angles = np.deg2rad(np.linspace(24.0, max(reach_deg, 30.0), max(3, int(reach_deg / 7))))
    share = (1 - np.cos(angles)) / 2
    height = first[2] - 6.0 - drop_mm * s * share
    x, y = body.inside_wall(angles, height)
    return np.vstack([head, neck, first, np.column_stack([side * np.abs(x), y, height])])


def _segment(canvas: Array, grid: Grid, ends: NDArray, radius: float, hu: float, width: float) -> tuple | None:
    """Paint one piece of a rib, an upright oval; give its place in the grid and the voxels inside it."""
    reach = np.array([radius + 1, radius + 1, 1.75 * radius + 1])
    patch = box_patch(grid, ends.min(0) - reach, ends.max(0) + reach, sub=False)
    if patch is None:
        return None
    stretch = np.array([1, 1, 1.75], np.float32)
    x, y, z = WORLD.local(patch)
    distance = capsule(x, y, z / stretch[2], ends[0] / stretch, ends[1] / stretch, (radius, radius))
    blend(canvas, patch, coverage(distance, width), hu)
    return patch.where, distance[:, 0] < 0


def paint_ribs(
    canvas: Array, labels: NDArray[np.uint8], grid: Grid, spine: Spine, body: Body, bone: Spongiosa, seed: int
) -> None:
    """Paint the ribs of every thoracic vertebra: first all cortex, then all cores, so that joints stay open."""
    rng = np.random.default_rng([seed, 3])
    cortex, inner = float(bone.hu(CORTEX_MG_CM3)), float(bone.hu(130.0))
    segments = []
    for v in spine.vertebrae:
        if not v.has_ribs:
            continue
        for side in (-1, 1):
            # The last rib varies most.
            spread = 0.25 if v.level == "T12" else 0.08
            reach = _RIB_REACH_DEG[v.level] * rng.uniform(1 - spread, 1 + spread)
            path = rib_path(v, body, spine.scale, reach, _RIB_DROP_MM[v.level], side)
            radius = spine.scale * (3.6 if v.level not in ("T11", "T12") else 3.1)
            segments += [(path[i : i + 2], radius) for i in range(len(path) - 1)]
    for ends, radius in segments:
        painted = _segment(canvas, grid, ends, radius, cortex, grid.psf_mm)
        if painted is not None:
            region = labels[painted[0]]
            region[painted[1] & (region == 0)] = RIB
    for ends, radius in segments:
        _segment(canvas, grid, ends, radius - 1.1, inner, grid.psf_mm)
