"""Measure signed distances of simple solids, and paint them with partial volume.

All coordinates are RAS+ millimetres; arrays are ordered (z, y, x) so that one axial slice is
contiguous. A signed distance is negative inside; distances of curved solids are first-order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Painted arrays are float32; intermediate ones may be wider.
Array = NDArray[np.floating]
FAR_MM = 1e3


@dataclass(frozen=True)
class Grid:
    """Voxel centres along each axis and the sub-slices that average to one slice.

    Attributes
    ----------
    x, y, z : (n,) arrays
        Voxel centres in millimetres, increasing.
    sub : (s,) array
        Offsets of sub-slices from a slice's centre, millimetres; s is odd and the middle one is 0.
    psf_mm : float
        Width of the in-plane ramp by which edges are blurred.
    """

    x: Array
    y: Array
    z: Array
    sub: Array
    psf_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Give the number of voxels (z, y, x)."""
        return len(self.z), len(self.y), len(self.x)


@dataclass(frozen=True)
class Patch:
    """A box of a grid: where it lies and its coordinates.

    Attributes
    ----------
    where : tuple of slices
        (z, y, x) into arrays of the grid.
    x, y, z : arrays
        Coordinates that broadcast to (z, s, y, x), s counting sub-slices.
    """

    where: tuple[slice, slice, slice]
    x: Array
    y: Array
    z: Array

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Give the number of sampling points (z, s, y, x)."""
        return self.z.shape[0], self.z.shape[1], self.y.shape[2], self.x.shape[3]


@dataclass(frozen=True)
class Frame:
    """A local coordinate system: u to the right, v to the front, w to the head.

    Attributes
    ----------
    origin : (3,) array
        In millimetres.
    axes : (3, 3) array
        Rows are the directions of u, v and w.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]

    def to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Convert (..., 3) local to patient millimetres."""
        return np.asarray(points, float) @ self.axes + self.origin

    def local(self, patch: Patch) -> tuple[Array, Array, Array]:
        """Give the coordinates u, v, w of the sampling points of a patch."""
        dx, dy, dz = (c - np.float32(o) for c, o in zip((patch.x, patch.y, patch.z), self.origin, strict=True))
        a = self.axes.astype(np.float32)
        return tuple(a[i, 0] * dx + (a[i, 1] * dy + a[i, 2] * dz) for i in range(3))  # type: ignore[return-value]


WORLD = Frame(np.zeros(3), np.eye(3))


def box_patch(grid: Grid, low: ArrayLike, high: ArrayLike, *, sub: bool = True) -> Patch | None:
    """Cut the part of a grid within a box given by two corners in mm; None if empty."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    reach = abs(grid.sub[0]) if sub else 0.0
    where = tuple(
        slice(int(np.searchsorted(axis, low[i] - extra)), int(np.searchsorted(axis, high[i] + extra)))
        for axis, i, extra in ((grid.z, 2, reach), (grid.y, 1, 0.0), (grid.x, 0, 0.0))
    )
    if any(s.stop <= s.start for s in where):
        return None
    offsets = grid.sub if sub else np.zeros(1, np.float32)
    z = (grid.z[where[0], None] + offsets[None, :])[:, :, None, None]
    return Patch(where, grid.x[where[2]][None, None, None, :], grid.y[where[1]][None, None, :, None], z)  # type: ignore[arg-type]


def frame_patch(grid: Grid, frame: Frame, low: ArrayLike, high: ArrayLike, *, sub: bool = True) -> Patch | None:
    """Cut the part of a grid around a box given in a local frame; None if empty."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    world = frame.to_world(corners)
    return box_patch(grid, world.min(0), world.max(0), sub=sub)


def sub_patch(patch: Patch, low: ArrayLike, high: ArrayLike) -> tuple[tuple[slice, ...], Patch] | None:
    """Cut the part of a patch within a box in mm, as (index into its samples, patch); None if empty."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    z = patch.z[:, :, 0, 0]
    axes = (patch.x[0, 0, 0], patch.y[0, 0, :, 0])
    cut = [slice(int(np.searchsorted(a, low[i])), int(np.searchsorted(a, high[i]))) for i, a in enumerate(axes)]
    cut.append(slice(int(np.searchsorted(z[:, -1], low[2])), int(np.searchsorted(z[:, 0], high[2]))))
    if any(c.stop <= c.start for c in cut):
        return None
    x, y, k = cut
    part = Patch(patch.where, patch.x[..., x], patch.y[:, :, y], patch.z[k])
    return (k, slice(None), y, x), part


def ellipsoid(u: Array, v: Array, w: Array, radii: ArrayLike) -> Array:
    """Measure the signed distance from an ellipsoid at the origin (first order, exact on the surface).

    >>> u = np.array([1.0, 2.0, 3.0], np.float32)
    >>> ellipsoid(u, 0 * u, 0 * u, (2, 2, 2)).tolist()
    [-1.0, 0.0, 1.0]
    """
    a, b, c = (np.float32(r) for r in np.asarray(radii))
    k0 = np.sqrt((u / a) ** 2 + ((v / b) ** 2 + (w / c) ** 2))
    k1 = np.sqrt((u / a**2) ** 2 + ((v / b**2) ** 2 + (w / c**2) ** 2))
    return k0 * (k0 - np.float32(1)) / np.maximum(k1, np.float32(1e-4))


def capsule(u: Array, v: Array, w: Array, start: ArrayLike, end: ArrayLike, radii: tuple[float, float]) -> Array:
    """Measure the signed distance from a segment with a radius that changes from start to end.

    >>> u = np.array([0.0, 5.0, 12.0], np.float32)
    >>> capsule(u, 0 * u, 0 * u, (0, 0, 0), (10, 0, 0), (2, 1)).tolist()
    [-2.0, -1.5, 1.0]
    """
    p, q = np.asarray(start, np.float32), np.asarray(end, np.float32)
    d = q - p
    t = ((u - p[0]) * d[0] + ((v - p[1]) * d[1] + (w - p[2]) * d[2])) / np.float32(d @ d)
    t = np.clip(t, np.float32(0), np.float32(1))
    far = (u - (p[0] + t * d[0])) ** 2 + (v - (p[1] + t * d[1])) ** 2 + (w - (p[2] + t * d[2])) ** 2
    return np.sqrt(far) - (np.float32(radii[0]) + t * np.float32(radii[1] - radii[0]))


def smooth_max(a: Array, b: Array, k_mm: float) -> Array:
    """Intersect two solids by their signed distances, with an edge rounded over k_mm.

    >>> smooth_max(np.array([-1.0, 0.0]), np.array([-9.0, 0.0]), 2.0).tolist()
    [-1.0, 0.5]
    """
    h = np.maximum(np.float32(k_mm) - np.abs(a - b), np.float32(0))
    return np.maximum(a, b) + h * h * np.float32(0.25 / k_mm)


def coverage(distance: Array, width_mm: float) -> Array:
    """Give the share of a voxel that a solid fills, from the signed distance of its centre.

    >>> coverage(np.array([-2.0, 0.0, 2.0], np.float32), 1.0).tolist()
    [1.0, 0.5, 0.0]
    """
    return np.clip(np.float32(0.5) - distance * np.float32(1.0 / width_mm), np.float32(0), np.float32(1))


def blend(canvas: Array, patch: Patch, cover: Array, value: Array | float) -> None:
    """Paint a solid over a canvas in HU; cover is (z, s, y, x)."""
    part = canvas[patch.where]
    mean = cover.mean(axis=1) if cover.shape[1] > 1 else cover[:, 0]
    if isinstance(value, int | float):
        part += mean * (value - part)
    elif cover.shape[1] == 1:
        part += mean * (value[:, 0] - part)
    else:
        part *= 1.0 - mean
        part += (cover * value).mean(axis=1)


def middle(samples: Array) -> Array:
    """Take the sub-slice at the centre of each slice."""
    return samples[:, samples.shape[1] // 2]
