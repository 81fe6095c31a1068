"""NIfTI volumes for tests of index and convert, in any order of voxels, type and packing."""

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ct_files import linear_hu
from numpy.typing import NDArray

from trabecula.image.volume import Volume

# All ways to store a volume along the patient's axes: the order of the axes, and which of them run backwards.
STORAGE = [
    (order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]
# Voxels to RAS+ millimetres, with the slices of a feet-first scan: columns to the left, rows to the back, upwards.
AFFINE = np.array([[-1.5, 0, 0, 17], [0, -2, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1.0]])


def linear_volume(shape: tuple[int, int, int] = (24, 20, 6), affine: NDArray[np.float64] = AFFINE) -> Volume:
    """Make a volume of `ct_files.linear_hu`, whole numbers from -1024."""
    volume = Volume(np.zeros(shape), affine)
    points = volume.to_mm(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3))
    return volume.with_array(np.rint(linear_hu(points)).clip(-1024).reshape(shape))


def stored_as(volume: Volume, order: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """Store a volume with its axes in another order, some of them backwards, in its place."""
    array, affine = volume.array.transpose(order), volume.affine[:, [*order, 3]]
    last = np.array(array.shape) - 1
    affine[:3, 3] += affine[:3, :3] @ (last * (np.array(flips) < 0))
    affine[:3, :3] *= flips
    return Volume(array[tuple(slice(None, None, flip) for flip in flips)], affine)


def save_nifti(
    volume: Volume, path: Path, dtype: str = "<i2", slope: float = 1, intercept: float = 0, **fields: Any
) -> Path:
    """Write a NIfTI file with nibabel, compressed when its name ends in .gz; `fields` are those of the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (volume.array - intercept) / slope
    kind = np.dtype(dtype)
    header = nib.Nifti1Header(endianness=">" if kind.byteorder == ">" else "<")
    header.set_data_dtype(kind)
    image = nib.Nifti1Image(stored.astype(kind) if kind.kind == "f" else np.rint(stored).astype(kind), None, header)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    # nibabel chooses slope and intercept by itself unless they are given to its writer.
    image.header.set_slope_inter(slope, intercept)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path
