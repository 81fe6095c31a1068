"""Paint one vertebra: body, posterior elements, trabecular texture, osteophytes, implants."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from trabecula.density.attenuation import Spongiosa
from trabecula.image.levels import CODE_OF_LEVEL, DISC, POSTERIOR
from trabecula.phantom.population import Patient
from trabecula.phantom.shapes import (
    FAR_MM,
    Array,
    Frame,
    Grid,
    Patch,
    blend,
    capsule,
    coverage,
    frame_patch,
    middle,
    smooth_max,
    sub_patch,
)
from trabecula.phantom.spine import Spine, Vertebra

CORTEX_MG_CM3 = 720.0
CORTEX_MM = 0.55
POSTERIOR_CORTEX_MM = 1.3
METAL_HU = 8000.0


Point = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A capsule in local coordinates; `stretch` elongates it along u, v, w."""

    start: Point
    end: Point
    radii: tuple[float, float]
    stretch: Point = (1.0, 1.0, 1.0)


def union_of_parts(parts: list[Part], frame: Frame, patch: Patch) -> Array:
    """Measure the signed distance from the nearest of several capsules; FAR_MM where none is near."""
    distance = np.full(patch.shape, FAR_MM, np.float32)
    for part in parts:
        reach = (max(part.radii) + 2.0) * np.array(part.stretch)
        ends = np.array([part.start, part.end])
        low, high = ends.min(0) - reach, ends.max(0) + reach
        corners = frame.to_world(np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T)
        near_part = sub_patch(patch, corners.min(0), corners.max(0))
        if near_part is None:
            continue
        where, box = near_part
        stretch = np.array(part.stretch, np.float32)
        u, v, w = (c / s for c, s in zip(frame.local(box), stretch, strict=True))
        near = capsule(u, v, w, part.start / stretch, part.end / stretch, part.radii)
        distance[where] = np.minimum(distance[where], near * min(1.0, float(stretch.min())))
    return distance


def both_sides(parts: list[Part]) -> list[Part]:
    """Add the mirror images of parts."""
    return [*parts, *(Part(_flip(p.start), _flip(p.end), p.radii, p.stretch) for p in parts)]


def _flip(point: Point) -> Point:
    return -point[0], point[1], point[2]


def posterior_parts(v: Vertebra, scale: float) -> list[Part]:
    """Shape pedicles, laminae, articular, transverse and spinous processes."""
    a, b, h, t, s = v.half_width_mm, v.half_depth_mm, v.half_height_mm, v.lumbar, scale

    def mix(thoracic: float, lumbar: float) -> float:
        return s * (thoracic + t * (lumbar - thoracic))

    behind = -b - mix(12.0, 13.0)
    pedicle = Part(
        (0.58 * a, -0.72 * b, 0.38 * h),
        (mix(11.0, 16.0), behind, 0.35 * h),
        (mix(3.0, 4.6), mix(3.2, 4.4)),
        (1.0, 1.0, 1.5),
    )
    lamina = Part(
        (mix(12.0, 17.0), behind, 0.1 * h),
        (mix(2.0, 3.0), -b - mix(21.0, 26.0), -0.45 * h),
        (3.4 * s, 3.2 * s),
        (1.0, 1.0, mix(2.2, 2.0) / s),
    )
    upper_facet = Part(
        (mix(12.0, 17.5), behind - 0.5, 0.4 * h),
        (mix(10.0, 17.5), -b - mix(13.5, 12.5), h + mix(3.0, 4.5)),
        (3.3 * s, 3.5 * s),
    )
    lower_facet = Part(
        (mix(10.0, 14.0), behind - 4.0 * s, -0.4 * h),
        (mix(10.0, 13.5), -b - mix(18.5, 21.0), -h - mix(1.0, 5.5)),
        (3.5 * s, 3.6 * s),
    )
    transverse = Part(
        (mix(12.0, 17.0), behind, 0.3 * h),
        (mix(29.0, 41.0), -b - mix(26.0, 17.0), 0.25 * h + mix(4.0, 1.5)),
        (mix(4.2, 3.6), mix(4.4, 2.6)),
        (1.0, 1.0, 1.25),
    )
    spinous = Part(
        (0.0, -b - mix(23.0, 27.0), -0.5 * h - mix(3.0, 0.0)),
        (0.0, -b - mix(40.0, 38.0 if v.level in ("L5", "L6") else 46.0), -0.7 * h - mix(16.0, 3.0)),
        (mix(3.0, 3.2), mix(2.6, 3.8)),
        (1.0, 1.0, 1.5 + 1.2 * t),
    )
    return [*both_sides([pedicle, lamina, upper_facet, lower_facet, transverse]), spinous]


def body_distance(v: Vertebra, osteophyte_mm: float, angle_rad: float, frame_uvw: tuple[Array, Array, Array]) -> Array:
    """Measure the signed distance from a vertebral body: waisted, kidney-shaped, with concave endplates."""
    u, vv, w = frame_uvw
    a, b, h = v.half_width_mm, v.half_depth_mm, v.half_height_mm
    f = v.fracture
    forward = np.clip(vv / np.float32(b), -1.2, 1.2)
    wedge = 0.03 if v.level in ("L4", "L5", "L6") else -0.02
    shape = (1.0 - wedge, 1.0, 1.0 + wedge) if f is None else (f.posterior, f.middle, f.anterior)
    half = np.float32(h) * (
        shape[1] + forward * ((shape[2] - shape[0]) / 2) + forward**2 * ((shape[2] + shape[0]) / 2 - shape[1])
    ).astype(np.float32)
    height = np.clip(np.abs(w) / half, 0, 1.3)
    # The dent of the back wall makes the kidney shape; a waist narrows the middle of the body.
    dent = np.float32(0.16 * b) * np.exp(-((u / np.float32(0.5 * a)) ** 2))
    back = np.where(vv < 0, vv * np.float32(1.06) - dent * np.minimum(-vv / np.float32(b), np.float32(1)), vv)
    waist = np.float32(0.90) + np.float32(0.11) * height**2
    lip = 0.0
    if osteophyte_mm > 0.3:
        sides = np.maximum(np.cos(np.arctan2(vv, u) - np.float32(angle_rad)), 0) + 0.35 * (vv > -0.3 * b)
        lip = np.float32(osteophyte_mm) * sides * np.exp(-(((height - 1.0) * half / 2.6) ** 2))
    power = np.float32(2.35)
    radius = (np.abs(u / np.float32(a)) ** power + np.abs(back / np.float32(b)) ** power) ** (1 / power)
    side = (radius - waist) * np.float32(0.5 * (a + b)) - lip
    concavity = np.float32(0.13 * h + 0.6) * np.clip(1 - radius**2, 0, 1)
    end = np.abs(w) - (half - concavity)
    return smooth_max(side.astype(np.float32), end, 2.2)


def _texture(rng: Generator, shape: tuple[int, ...], steps_mm: tuple[float, float, float], scale_mm: float) -> Array:
    """Draw noise of zero mean and unit SD with a correlation length, on (z, s, y, x) samples."""
    noise = rng.standard_normal((shape[0] * shape[1], *shape[2:]), dtype=np.float32)
    size = [max(1, round(scale_mm / step)) for step in steps_mm]
    smooth = uniform_filter(noise, size, mode="nearest")  # pyright: ignore[reportArgumentType] if max(size) > 1 else noise
    return (smooth / max(float(smooth.std()), 1e-6)).reshape(shape)


def trabecular_density(
    vbmd_mg_cm3: float, distance: Array, uvw: tuple[Array, Array, Array], v: Vertebra, rng: Generator, grid: Grid
) -> Array:
    """Draw the mineral density inside a body, mg/cm³; its mean more than 3.5 mm below the surface is the truth."""
    steps = (float(grid.z[1] - grid.z[0]) / len(grid.sub), float(grid.y[1] - grid.y[0]), float(grid.x[1] - grid.x[0]))
    fine = _texture(rng, distance.shape, steps, 1.6)
    coarse = _texture(rng, distance.shape, steps, 7.0)
    u, vv, w = uvw
    near_endplate = (w / np.float32(v.half_height_mm)) ** 2 - np.float32(0.33)
    vein = np.exp(-((u / 3.0) ** 2) - ((vv + 0.75 * v.half_depth_mm) / 5.0) ** 2 - (w / 2.5) ** 2)
    field = vbmd_mg_cm3 * (1 + 0.12 * near_endplate - 0.75 * vein) + 10.0 * coarse + 18.0 * fine
    core = distance < -3.5
    if core.any():
        field += vbmd_mg_cm3 - float(field[core].mean())
    return np.maximum(field, -60.0).astype(np.float32)


def _screws(v: Vertebra) -> list[Part]:
    a, b, h = v.half_width_mm, v.half_depth_mm, v.half_height_mm
    start, end = (0.75 * a, -b - 28.0, 0.4 * h), (0.35 * a, 0.55 * b, 0.25 * h)
    head = Part((0.75 * a, -b - 34.0, 0.4 * h), start, (5.5, 5.5))
    rod = Part((0.75 * a, -b - 34.0, -1.7 * h), (0.75 * a, -b - 34.0, 1.7 * h), (2.8, 2.8))
    return both_sides([Part(start, end, (3.0, 2.6)), head, rod])


def _cement(v: Vertebra, rng: Generator) -> list[Part]:
    a, b, h = v.half_width_mm, v.half_depth_mm, 0.6 * v.half_height_mm
    spots = rng.uniform(-0.45, 0.45, (5, 3)) * np.array([a, b, h])
    ends = spots + rng.uniform(-4, 4, (5, 3))
    return [Part(tuple(p), tuple(q), (5.0, 3.5)) for p, q in zip(spots.tolist(), ends.tolist(), strict=True)]


def _implant(canvas: Array, patch: Patch, v: Vertebra, parts: list[Part], hu: float, psf_mm: float) -> None:
    blend(canvas, patch, coverage(union_of_parts(parts, v.frame, patch), psf_mm), hu)


def paint_vertebra(
    canvas: Array, labels: NDArray[np.uint8], grid: Grid, v: Vertebra, patient: Patient, bone: Spongiosa, scale: float
) -> None:
    """Paint body and posterior elements in HU and label them."""
    a, b, h, s = v.half_width_mm + 6, v.half_depth_mm + 6, v.half_height_mm + 10 * scale, scale
    patch = frame_patch(grid, v.frame, (-46 * s, -b - 58 * s, -h - 22 * s), (46 * s, b, h))
    if patch is None:
        return
    rng = np.random.default_rng([patient.seed, 2, CODE_OF_LEVEL[v.level]])
    vbmd = patient.vbmd_mg_cm3[v.level]
    cortex_hu = float(bone.hu(CORTEX_MG_CM3))
    spur = max(0.0, patient.osteophytes * rng.uniform(0.0, 2.0)), rng.uniform(0, np.pi)
    corners = v.frame.to_world(np.array(np.meshgrid((-a, a), (-b, b), (-h, h))).reshape(3, -1).T)
    posterior = union_of_parts(posterior_parts(v, s), v.frame, patch)
    body = np.full(patch.shape, FAR_MM, np.float32)
    near_body = sub_patch(patch, corners.min(0), corners.max(0))
    if near_body is not None:
        where, box = near_body
        uvw = v.frame.local(box)
        body[where] = near = body_distance(v, *spur, uvw)
        density = trabecular_density(vbmd, near, uvw, v, rng, grid)
        full, core = coverage(near, grid.psf_mm), coverage(near + CORTEX_MM, grid.psf_mm)
        hu = bone.hu(density).astype(np.float32)
        # Cover-weighted mean of core and cortex, so that the shell has partial volume of its own.
        mixed = cortex_hu + (hu - cortex_hu) * core / np.maximum(full, np.float32(1e-3))
        cut = (where[0], where[2], where[3])
        place = tuple(slice(p.start + c.start, p.start + c.stop) for p, c in zip(patch.where, cut, strict=True))
        blend(canvas, Patch(place, box.x, box.y, box.z), full, mixed)  # type: ignore[arg-type]
    _paint_posterior(canvas, patch, posterior, body, bone, vbmd, grid.psf_mm)
    region = labels[patch.where]
    region[(middle(posterior) < 0) & (middle(body) >= 0)] = POSTERIOR + CODE_OF_LEVEL[v.level]
    region[middle(body) < 0] = CODE_OF_LEVEL[v.level]
    if v.level in patient.cement:
        _implant(canvas, patch, v, _cement(v, rng), 1800.0, grid.psf_mm)
    if v.level in patient.screws:
        _implant(canvas, patch, v, _screws(v), METAL_HU, grid.psf_mm)


def _paint_posterior(
    canvas: Array, patch: Patch, distance: Array, body: Array, bone: Spongiosa, vbmd: float, psf_mm: float
) -> None:
    """Paint thick cortex around spongiosa, open towards the body where the pedicles leave it."""
    cortex, core_hu = float(bone.hu(CORTEX_MG_CM3 + 80)), float(bone.hu(1.35 * vbmd + 40))
    outside = coverage(-body - 1.0, psf_mm)
    full = coverage(distance, psf_mm) * outside
    core = coverage(np.maximum(distance, -body - 3.0) + POSTERIOR_CORTEX_MM, psf_mm)
    blend(canvas, patch, full, cortex + (core_hu - cortex) * core)


def mean_height(v: Vertebra) -> float:
    """Give the height of a body relative to the intact one, mean of front and back."""
    return 0.5 * (v.fracture.anterior + v.fracture.posterior) if v.fracture else 1.0


def paint_disc(canvas: Array, labels: NDArray[np.uint8], grid: Grid, spine: Spine, number: int, disc_hu: float) -> None:
    """Paint the disc below vertebra `number` (0 is the last lumbar one); paint the bodies after it."""
    v = spine.vertebrae[number]
    below = spine.vertebrae[number - 1] if number else None
    upper = v.frame.to_world([0, 0, -v.half_height_mm * mean_height(v)])
    top = 0.0 if below is None else below.half_height_mm * mean_height(below)
    lower = spine.sacrum.origin if below is None else below.frame.to_world([0, 0, top])
    up = (v.frame.axes + (spine.sacrum if below is None else below.frame).axes) / 2
    frame = Frame((upper + lower) / 2, up / np.linalg.norm(up, axis=1, keepdims=True))
    a, b, h = 0.96 * v.half_width_mm, 0.96 * v.half_depth_mm, 0.5 * v.disc_mm + 3.5
    patch = frame_patch(grid, frame, (-a - 3, -b - 3, -h), (a + 3, b + 3, h))
    if patch is None:
        return
    u, vv, w = frame.local(patch)
    radius = np.sqrt((u / np.float32(a)) ** 2 + (vv / np.float32(b)) ** 2)
    distance = smooth_max((radius - 1) * np.float32(0.5 * (a + b)), np.abs(w) - np.float32(h), 2.0)
    blend(canvas, patch, coverage(distance, grid.psf_mm), disc_hu)
    labels[patch.where][middle(distance) < 0] = DISC
