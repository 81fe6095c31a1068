"""A vertebral body as a solid that can be sampled at any place, not at voxels alone."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trabecula.image.distance import bounding_box


@dataclass(frozen=True)
class Solid:
    """A mask in a cube, cut to the box that holds it and one voxel around.

    Places are millimetres from the cube's middle, RAS+ (right, front, head).

    Attributes
    ----------
    mask : (i, j, k) array of bool
        The box; its outermost voxels are empty.
    first : (3,) array of int
        Voxel of the cube that the box's first voxel is; negative where the mask touches a face.
    size : int
        Voxels along the cube's side.
    spacing_mm : float
        Distance between neighbouring voxels.
    """

    mask: NDArray[np.bool_]
    first: NDArray[np.int64]
    size: int
    spacing_mm: float

    @classmethod
    def of(cls, mask: NDArray[np.bool_], *, spacing_mm: float) -> Self | None:
        """Take the solid from a (size, size, size) mask; None where that is empty."""
        box = bounding_box(mask)
        if box is None:
            return None
        first = np.array([axis.start - 1 for axis in box])
        return cls(np.pad(mask[box], 1), first, mask.shape[0], spacing_mm)

    @property
    def volume_mm3(self) -> float:
        """Volume of the mask's voxels."""
        return float(np.count_nonzero(self.mask)) * self.spacing_mm**3

    @property
    def centroid_mm(self) -> NDArray[np.float64]:
        """Mean place of the mask's voxels; (3,)."""
        along = [np.count_nonzero(self.mask, axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        return self.places_mm(np.array([np.average(np.arange(len(n)), weights=n) for n in along]))

    def voxels_mm(self) -> NDArray[np.float64]:
        """List the (n, 3) places of the mask's voxels, in the order of ``mask[mask]``."""
        return self.places_mm(np.argwhere(self.mask))

    def places_mm(self, voxels: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (..., 3) voxels of the box into places."""
        return (voxels.astype(np.float64) + self.first - (self.size - 1) / 2) * self.spacing_mm

    def to_voxels(self, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (..., 3) places into voxels of the box, not rounded."""
        return places_mm / self.spacing_mm + (self.size - 1) / 2 - self.first

    def share_at(self, places_mm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Interpolate the share of solid at (..., 3) places: linear between voxels, so that 0.5 is the surface."""
        voxels = np.moveaxis(self.to_voxels(places_mm), -1, 0)
        return ndimage.map_coordinates(self.mask.view(np.uint8), voxels, order=1, output=np.float32, prefilter=False)  # pyright: ignore[reportReturnType]

    def has(self, places_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell whether the voxels nearest to (n, 3) places are solid."""
        nearest = np.rint(self.to_voxels(places_mm)).astype(int)
        # The outermost voxels of the box are empty, like everything beyond.
        return self.mask[tuple(np.clip(nearest, 0, np.array(self.mask.shape) - 1).T)]

    def ends_mm(
        self, starts_mm: NDArray[np.float64], axis: NDArray[np.float64], furthest_mm: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Measure the solid on lines, along an axis and against it: from inside, the distances to the surface.

        Parameters
        ----------
        starts_mm : (..., 3) array
            Where the lines start.
        axis : (3,) array
            Unit vector along which they go.
        furthest_mm : float
            Length of the lines to either side.

        Returns
        -------
        (...) arrays
            Millimetres of solid along the axis, and against it.
        """
        # The sum of linear interpolates is the integral, which places a plane between voxels.
        steps = (np.arange(np.ceil(furthest_mm / self.spacing_mm)) + 0.5) * self.spacing_mm
        places = starts_mm[..., None, :] + np.concatenate([steps, -steps])[:, None] * axis
        share = self.share_at(places).reshape(*starts_mm.shape[:-1], 2, -1)
        lengths = share.sum(axis=-1, dtype=np.float64) * self.spacing_mm
        return lengths[..., 0], lengths[..., 1]
