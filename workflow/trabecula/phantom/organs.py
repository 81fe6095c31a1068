"""Paint muscles, vessels, abdominal organs, lungs, gas and the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from trabecula.phantom.body import Body
from trabecula.phantom.physics import TissueHu
from trabecula.phantom.population import Patient
from trabecula.phantom.shapes import Array, Grid, blend, box_patch, coverage, ellipsoid
from trabecula.phantom.spine import Spine

GAS_HU = -990.0
LUNG_HU = -860.0
CALCIUM_HU = 620.0
# A calibration phantom: thickness of its slab, radius and distance of its rods.
SLAB_MM, ROD_MM, ROD_STEP_MM = 24.0, 8.0, 30.0


@dataclass(frozen=True)
class Scene:
    """A scan that is being painted, and the anatomy that its soft tissue follows.

    Attributes
    ----------
    canvas : (z, y, x) array
        Hounsfield units, painted in place.
    layer : (z, y, x) array
        Layer index of `body.layers`.
    texture : (z, y, x) array
        Block of noise of unit SD, for fat in muscle and the like.
    """

    canvas: Array
    layer: Array
    texture: Array
    grid: Grid
    body: Body
    spine: Spine
    tissue: TissueHu
    patient: Patient

    @property
    def scale(self) -> float:
        """Give the size of the skeleton relative to an average man."""
        return self.patient.skeletal_scale


def make_texture(rng: Generator, grid: Grid, size_mm: float = 3.0) -> Array:
    """Make a periodic (24, 96, 96) block of noise of unit SD."""
    spacing = [float(axis[1] - axis[0]) for axis in (grid.z, grid.y, grid.x)]
    noise = rng.standard_normal((24, 96, 96), dtype=np.float32)
    smooth = gaussian_filter(noise, [0.5 * size_mm / step for step in spacing], mode="wrap")
    return smooth / smooth.std()


def repeated(texture: Array, where: tuple[slice, slice, slice]) -> Array:
    """Give the block of noise, repeated, at a box of the grid."""
    return texture[np.ix_(*(np.arange(s.start, s.stop) % n for s, n in zip(where, texture.shape, strict=True)))]


def tube(scene: Scene, z_mm: ArrayLike, x_mm: ArrayLike, y_mm: ArrayLike, rx_mm: ArrayLike, ry_mm: ArrayLike):
    """Give the patch and signed distance of an upright tube by control points of increasing z; None if empty."""
    z_mm = np.asarray(z_mm, float)
    path = [np.broadcast_to(np.asarray(c, float), z_mm.shape) for c in (x_mm, y_mm, rx_mm, ry_mm)]
    x, y, rx, ry = path
    low = ((x - rx).min() - 2, (y - ry).min() - 2, z_mm[0])
    high = ((x + rx).max() + 2, (y + ry).max() + 2, z_mm[-1])
    patch = box_patch(scene.grid, low, high, sub=False)
    if patch is None:
        return None
    cx, cy, ax, ay = (np.interp(patch.z, z_mm, c).astype(np.float32) for c in path)
    radius = np.sqrt(((patch.x - cx) / ax) ** 2 + ((patch.y - cy) / ay) ** 2)
    return patch, (radius - 1) * np.minimum(ax, ay)


def paint_tube(scene: Scene, value: float, *path: ArrayLike) -> None:
    """Paint an upright tube of one value."""
    shape = tube(scene, *path)
    if shape is not None:
        patch, distance = shape
        blend(scene.canvas, patch, coverage(distance, scene.grid.psf_mm), value)


def paint_muscle(scene: Scene, fat_share: float, *path: ArrayLike) -> None:
    """Paint an upright tube of muscle, streaked with fat."""
    shape = tube(scene, *path)
    if shape is None:
        return
    patch, distance = shape
    # Muscles stay under the subcutaneous fat, whatever the outline does.
    distance = np.maximum(distance, (1.0 - scene.layer[patch.where][:, None]) * 15)
    tissue = scene.tissue
    noise = repeated(scene.texture, patch.where)[:, None]
    share = np.clip(fat_share + np.float32(0.28 * np.sqrt(fat_share)) * noise, 0, 1)
    blend(
        scene.canvas, patch, coverage(distance, scene.grid.psf_mm), tissue.muscle + (tissue.fat - tissue.muscle) * share
    )


def paint_ellipsoid(
    scene: Scene, value: float, centre: ArrayLike, radii: ArrayLike, *, within_layer: float | None = None,
    below_mm: Array | None = None, above_y_mm: float | None = None,
) -> None:  # fmt: skip
    """Paint an ellipsoid, which may end at the wall of the cavity, at a dome above or at a level in y."""
    centre, radii = np.asarray(centre, float), np.asarray(radii, float)
    patch = box_patch(scene.grid, centre - radii - 1, centre + radii + 1, sub=False)
    if patch is None:
        return
    c = centre.astype(np.float32)
    distance = ellipsoid(patch.x - c[0], patch.y - c[1], patch.z - c[2], radii)
    if within_layer is not None:
        distance = np.maximum(distance, (within_layer - scene.layer[patch.where][:, None]) * 15)
    if below_mm is not None:
        distance = np.maximum(distance, patch.z - below_mm[patch.where[1:]][None, None])
    if above_y_mm is not None:
        distance = np.maximum(distance, np.float32(above_y_mm) - patch.y)
    blend(scene.canvas, patch, coverage(distance, scene.grid.psf_mm), value)


def diaphragm(scene: Scene, top_mm: float) -> Array:
    """Give the height of the diaphragm, (y, x): two domes that fall to the chest wall and the back."""
    a, _, middle = scene.body.at(top_mm)
    x, y = scene.grid.x[None, :], scene.grid.y[:, None]
    across = (np.abs(x) - 0.42 * a) / (0.55 * a)
    # The left dome stands lower; towards the midline both fall less than towards the wall.
    lower_left = -7.0 * (1 - np.tanh(x / 30.0))
    across = np.where(across < 0, 0.45 * across, across)
    behind = np.clip((middle - 10 - y) / 80.0, 0, None)
    return (top_mm + lower_left - 45.0 * across**2 - 70.0 * behind**1.5 - 6.0 * np.abs(y - middle) / 60).astype(
        np.float32
    )


def paint_lungs(scene: Scene, dome: Array, rng: Generator) -> None:
    """Paint lung into the chest above the diaphragm, beside the mediastinum, and the heart between."""
    grid, layer = scene.grid, scene.layer
    start = int(np.searchsorted(grid.z, float(dome.min()), "left"))
    if start >= len(grid.z):
        return
    rows, columns = (np.flatnonzero(layer[start:].max(axis=(0, axis)) > 1.9) for axis in (2, 1))
    if not len(rows):
        return
    box = (slice(start, len(grid.z)), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    z, y, x = grid.z[box[0], None, None], grid.y[None, box[1], None], grid.x[None, None, box[2]]
    cx, cy = (v[:, None, None].astype(np.float32) for v in scene.spine.centre_at(grid.z[box[0]]))
    gap = np.where(y > cy + 8, 27.0, 23.0).astype(np.float32) * np.float32(scene.scale)
    inside = np.minimum((layer[box] - 2.05) * 15, np.minimum(z - dome[box[1:]][None], np.abs(x - cx) - gap))
    vessels = np.maximum(repeated(scene.texture, box) - 1.6, 0) * 320
    cover = np.clip(0.5 + inside / grid.psf_mm, 0, 1).astype(np.float32)
    part = scene.canvas[box]
    part += cover * (LUNG_HU + vessels.astype(np.float32) - part)
    top, (a, b, middle) = float(dome.max()), scene.body.at(float(dome.max()))
    heart = (float(-0.16 * a), float(middle + 0.35 * b), top + 28)
    paint_ellipsoid(scene, scene.tissue.aorta - 5, heart, (float(0.42 * a), float(0.42 * b), 42.0))


def paint_back(scene: Scene) -> None:
    """Paint erector spinae, multifidus, psoas, quadratus lumborum and the canal."""
    s, fat = scene.scale, scene.patient.muscle_fat
    z = np.linspace(-110.0, 430.0, 46)
    x, y = scene.spine.centre_at(z)
    rise = np.clip((z + 110) / 190, 0.55, 1) * np.clip((430 - z) / 160, 0.55, 1)
    back = y - 17 * s
    for side in (-1, 1):
        paint_muscle(scene, 0.7 * fat, z, x + side * 40 * s, back - 24 * s, 29 * s * rise, 22 * s * rise)
        paint_muscle(scene, 1.3 * fat, z, x + side * 15 * s, back - 24 * s, 14 * s * rise, 17 * s * rise)
        _paint_flank(scene, side, z, x, y, rise)
    canal = np.array([v.frame.to_world([0, -v.half_depth_mm - 8.5 * s, 0]) for v in scene.spine.vertebrae])
    paint_tube(scene, scene.tissue.fat + 20, canal[:, 2], canal[:, 0], canal[:, 1], 11.5 * s, 8.5 * s)
    paint_tube(scene, scene.tissue.fluid + 14, canal[:, 2], canal[:, 0], canal[:, 1], 9 * s, 7 * s)


def _paint_flank(scene: Scene, side: int, z: NDArray, x: NDArray, y: NDArray, rise: NDArray) -> None:
    """Paint psoas, quadratus lumborum, gluteal muscles and iliacus of one side, along the spine at x, y."""
    s, fat = scene.scale, scene.patient.muscle_fat
    low = (z > -100) & (z < 185)
    radius = s * np.interp(z[low], (-100, 0, 70, 185), (19, 22, 19, 6))
    out = x[low] + side * s * np.interp(z[low], (-100, 0, 70, 185), (56, 42, 37, 27))
    front = y[low] + np.interp(z[low], (-100, 0), (30, 3))
    paint_muscle(scene, 0.45 * fat, z[low], out, front, radius, 1.15 * radius)
    low = (z > 0) & (z < 165)
    paint_muscle(scene, 0.5 * fat, z[low], x[low] + side * 66 * s, y[low] - 23 * s, 19 * s, 11 * s)
    hip, wide = z[z < 5], 46 * s * rise[z < 5]
    paint_muscle(scene, 0.6 * fat, hip, side * (78 - 0.1 * hip) * s, -66 * s, wide, 30 * s)
    inner = side * s * np.interp(hip, (-100, 5), (72, 84))
    paint_muscle(scene, 0.3 * fat, hip, inner, 6 * s, 17 * s, 34 * s)


def paint_vessels(scene: Scene, rng: Generator) -> None:
    """Paint the aorta (calcified at times), caval vein and their branches to the legs."""
    s, t = scene.scale, scene.tissue
    z = np.linspace(-90.0, 430.0, 60)
    x, y = scene.spine.centre_at(np.clip(z, 30, None))
    front = y + 17 * s + 11
    trunk = z > 58
    wide = rng.uniform(0.85, 1.25) * s
    aorta = (z[trunk], x[trunk] - 8 * s, front[trunk] + 1, 9.5 * wide, 9.5 * wide)
    paint_tube(scene, t.vein, z[trunk], x[trunk] + 18 * s, front[trunk] - 1, 11.5 * s, 9 * s)
    paint_tube(scene, t.aorta, *aorta)
    legs, away = ~trunk, (58 - z[~trunk]) / 148
    for side in (-1, 1):
        lx, ly = side * (8 + 50 * away) * s + 2, front[legs][-1] - 22 * away + 55 * np.clip(away - 0.55, 0, 1)
        paint_tube(scene, t.aorta, z[legs], lx, ly, 5.5 * s, 5.5 * s)
        paint_tube(scene, t.vein, z[legs], lx + 4, ly - 10, 7 * s, 6 * s)
    for _ in range(int(scene.patient.aortic_calcification * 110)):
        angle, k = rng.uniform(0, 2 * np.pi), rng.integers(len(z[trunk]))
        spot = (aorta[1][k] + 9.3 * wide * np.cos(angle), aorta[2][k] + 9.3 * wide * np.sin(angle), aorta[0][k])
        paint_ellipsoid(scene, CALCIUM_HU * rng.uniform(0.5, 1.4), spot, rng.uniform(1.0, 3.2, 3))


def paint_abdomen(scene: Scene, dome: Array, rng: Generator) -> None:
    """Paint liver, spleen, kidneys, stomach, pancreas and bowel."""
    t, s = scene.tissue, scene.scale
    a, b, middle = (float(v) for v in scene.body.at(150.0))
    w = a - scene.body.fat_mm - 14
    under = partial(paint_ellipsoid, scene, below_mm=dome - 3.0)
    _paint_bowel(scene, rng, w, b, middle)
    paint_ellipsoid(scene, t.bowel + 10, (-0.05 * w, middle + 12, 158), (62 * s, 13, 15), within_layer=2.05)
    under(t.spleen, (-0.72 * w, middle - 28, 188), (27 * s, 42 * s, 50 * s), within_layer=2.03)
    stomach = (-0.42 * w, middle + 0.32 * b, 195)
    under(t.fluid + 15, stomach, (46 * s, 36 * s, 44 * s), within_layer=2.05)
    fluid_level = stomach[1] + rng.uniform(-5, 22)
    under(GAS_HU, stomach, (43 * s, 33 * s, 41 * s), within_layer=2.2, above_y_mm=fluid_level)
    reach = rng.uniform(0.9, 1.15)
    under(t.liver, (0.46 * w, middle + 8, 178), (0.60 * w, 0.66 * b, 82 * s * reach), within_layer=2.03)
    under(t.liver, (0.02 * w, middle + 0.42 * b, 200), (0.52 * w, 0.34 * b, 42 * s), within_layer=2.03)
    paint_ellipsoid(scene, t.fluid, (0.38 * w, middle + 0.38 * b, 128), (14, 18, 26), within_layer=2.1)
    for side, height in ((-1, 158.0), (1, 143.0)):
        x, y = (float(v) for v in scene.spine.centre_at(np.array(height)))
        centre = np.array([x + side * 64 * s, y - 4 * s, height + rng.normal(0, 6)])
        paint_ellipsoid(scene, scene.tissue.fat, centre, (32 * s, 29 * s, 60 * s), within_layer=2.1)
        paint_ellipsoid(scene, t.kidney, centre, (27 * s, 24 * s, 54 * s))
        sinus = centre - np.array([side * 19.0 * s, -4.0, 0.0])
        paint_ellipsoid(scene, t.fat + 30, sinus, (13 * s, 9 * s, 27 * s))


def _paint_bowel(scene: Scene, rng: Generator, w: float, b: float, middle: float) -> None:
    """Paint colon along the flanks and loops of small bowel, with stool, fluid and gas; at times oral contrast."""
    t, oral = scene.tissue, rng.random() < 0.15
    for side in (-1, 1):
        z = np.linspace(-30, 130, 24)
        wiggle = 5 * np.sin(z / 9 + rng.uniform(0, 6))
        radius = 17 + 4 * np.sin(z / 7 + rng.uniform(0, 6))
        x = side * (0.80 * w + wiggle * 0.5)
        paint_tube(scene, t.bowel, z, x, middle - 6 + wiggle, radius + 2, radius + 2)
        paint_tube(scene, 20.0 if rng.random() < 0.5 else -350.0, z, x, middle - 6 + wiggle, radius, radius)
        paint_tube(scene, GAS_HU, z, x, middle + 1 + wiggle, radius * 0.6, radius * 0.5)
    front = middle + b - scene.body.fat_mm - 30
    for _ in range(80):
        z = rng.uniform(-100, 150)
        y = rng.uniform(max(24.0, middle - 0.2 * b), front)
        centre, radii = (rng.uniform(-0.72, 0.72) * w, y, z), rng.uniform((14, 11, 12), (30, 21, 24))
        paint_ellipsoid(scene, t.bowel, centre, radii, within_layer=2.1)
        content = float(rng.choice([t.fluid + 10, GAS_HU, 240.0 if oral else t.bowel + 5], p=[0.5, 0.2, 0.3]))
        paint_ellipsoid(scene, content, centre, radii - 3.0, within_layer=2.3)


def paint_rods(scene: Scene, hu: Sequence[float], water_hu: float = 0.0) -> None:
    """Paint a slab like water under the back, with a calibration rod of 16 mm for each value, from left to right."""
    grid = scene.grid
    depth = np.abs(grid.y - (_under_back(scene) - 0.5 * SLAB_MM))[:, None] - 0.5 * SLAB_MM
    side = np.abs(grid.x)[None, :] - 0.5 * ROD_STEP_MM * (len(hu) + 1)
    cover = np.clip(0.5 - np.maximum(depth, side) / grid.psf_mm, 0, 1)
    image = GAS_HU + (water_hu - GAS_HU) * cover
    for number, value in enumerate(hu):
        x = ROD_STEP_MM * (number - 0.5 * (len(hu) - 1))
        away = np.hypot(grid.x[None, :] - x, grid.y[:, None] - (_under_back(scene) - 0.5 * SLAB_MM)) - ROD_MM
        image += np.clip(0.5 - away / grid.psf_mm, 0, 1) * (value - image)
    rows = np.flatnonzero(cover.any(axis=1))
    box = slice(rows[0], rows[-1] + 1)
    part = scene.canvas[:, box]
    outside = (scene.layer[:, box] < -0.2) & (cover[box] > 0)
    np.copyto(part, image[box].astype(np.float32), where=outside)


def _under_back(scene: Scene) -> float:
    """Give the y of a plane that the whole back lies above."""
    _, b, middle = scene.body.at(scene.grid.z)
    return float((middle - b).min()) - 4.0


def paint_table(scene: Scene, *, lower_mm: float = 0.0) -> None:
    """Paint the table: a curved shell filled with foam, under the back and outside the body."""
    grid = scene.grid
    y = grid.y[:, None] - (_under_back(scene) - lower_mm + grid.x[None, :] ** 2 / 1500.0)
    shell = np.clip(1.2 - np.abs(np.abs(y + 18) - 18), 0, 1) * 950.0
    foam = np.where((y < 0) & (y > -36), 40.0, 0.0)
    table = ((shell + foam) * (np.abs(grid.x) < 215)).astype(np.float32)
    rows = np.flatnonzero(table.any(axis=1))
    if len(rows):
        box = slice(rows[0], rows[-1] + 1)
        scene.canvas[:, box] += table[box] * (scene.layer[:, box] < -0.2)


def paint_soft_tissue(scene: Scene, rods_hu: Sequence[float] = ()) -> None:
    """Paint all that is not bone; later organs cover earlier ones. A calibration phantom only where rods are given."""
    rng = np.random.default_rng([scene.patient.seed, 5])
    dome = diaphragm(scene, 232.0 * scene.scale + rng.normal(0, 10))
    paint_table(scene, lower_mm=SLAB_MM if rods_hu else 0.0)
    if rods_hu:
        paint_rods(scene, rods_hu)
    paint_abdomen(scene, dome, rng)
    paint_lungs(scene, dome, rng)
    paint_back(scene)
    paint_vessels(scene, rng)
