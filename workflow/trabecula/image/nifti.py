"""Write NIfTI-1 files slice by slice.

The header is written here and not by nibabel, since that takes longer to import than a small study to convert.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from isal.igzip import IGzipFile
from numpy.typing import DTypeLike, NDArray

from trabecula.runtime.whole_file import whole_file


def nifti_in(folder: Path, name: str) -> Path:
    """Give the path of the NIfTI file of a name in a folder: the plain file where it exists, else the compressed."""
    plain = folder / f"{name}.nii"
    return plain if plain.exists() else folder / f"{name}.nii.gz"


@contextmanager
def writing_nifti(
    path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], dtype: DTypeLike
) -> Iterator[Callable[[NDArray], object]]:
    """Write a NIfTI-1 file slice by slice; it comes into its place when it is complete.

    Parameters
    ----------
    path : Path
        Compressed when it ends in ``.gz``.
    shape : (int, int, int)
        Columns, rows and slices.
    affine : (4, 4) array
        Voxel indices to RAS+ millimetres, without shear.
    dtype
        Type of the voxels.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.

    Yields
    ------
    callable
        Takes the next slice as a (rows, columns) array.
    """
    header = header_of(shape, affine, np.dtype(dtype))
    # Snakemake takes away the folder of a job whose driver was killed, while the job may still write.
    with whole_file(path, make_folder=False) as unfinished, unfinished.open("wb") as raw:
        # Level 1 of isal: a sixth of zlib's time for files a tenth larger. No time stamp: same input, same bytes.
        packed = path.suffix == ".gz" and IGzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0)
        with packed or nullcontext(raw) as file:
            file.write(header)
            yield lambda voxels: file.write(np.ascontiguousarray(voxels, dtype).data)


# Fields that are not 0, with their layout and place in the header (nifti1.h of the NIfTI data format working group).
_TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "u2": 512}
_PLACES = {
    "sizeof_hdr": ("i", 0),
    "dim": ("8h", 40),
    "datatype": ("2h", 70),
    "pixdim": ("8f", 76),
    "vox_offset": ("3f", 108),
    "xyzt_units": ("b", 123),
    "form_codes": ("2h", 252),
    "quatern": ("6f", 256),
    "srow": ("12f", 280),
    "magic": ("4s", 344),
}
_SIZE = 352  # with four bytes that say that no extension follows
_MILLIMETRES, _SCANNER = 2, 1


def header_of(shape: tuple[int, ...], affine: NDArray[np.float64], dtype: np.dtype) -> bytes:
    """Make the header of a NIfTI-1 file; its two ways to say where the volume lies agree.

    Parameters
    ----------
    shape : (int, int, int)
        Columns, rows and slices.
    affine : (4, 4) array
        Voxel indices to RAS+ millimetres, without shear.
    dtype : dtype
        Type of the voxels: uint8, int16, uint16, int32 or float32.

    Examples
    --------
    >>> header = header_of((512, 512, 300), np.diag([0.5, 0.5, 2.0, 1.0]), np.dtype("int16"))
    >>> len(header), struct.unpack_from("<4h", header, 40), struct.unpack_from("<3f", header, 80)
    (352, (3, 512, 512, 300), (0.5, 0.5, 2.0))
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    handed, quaternion = _quaternion(affine[:3, :3] / spacing)
    values = {
        "sizeof_hdr": [348],
        "dim": [3, *shape, 1, 1, 1, 1],
        "datatype": [_TYPES[dtype.str[1:]], dtype.itemsize * 8],
        "pixdim": [handed, *spacing, 0, 0, 0, 0],
        "vox_offset": [_SIZE, 1, 0],  # and the slope and intercept of the values
        "xyzt_units": [_MILLIMETRES],
        "form_codes": [_SCANNER, _SCANNER],
        "quatern": [*quaternion, *affine[:3, 3]],
        "srow": affine[:3].ravel(),
        "magic": [b"n+1\0"],
    }
    header = bytearray(_SIZE)
    for name, (layout, place) in _PLACES.items():
        struct.pack_into(f"<{layout}", header, place, *values[name])
    return bytes(header)


def _quaternion(axes: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Give handedness (1 or -1) and the last three parts of the quaternion of (3, 3) unit axes.

    The quaternion's first part is not negative.

    >>> handed, parts = _quaternion(np.diag([-1.0, -1.0, 1.0]))  # half a turn about z
    >>> handed, np.abs(parts).tolist()
    (1, [0.0, 0.0, 1.0])

    Source: I. Y. Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, J. Guid. Control Dyn.
    23(6), 2000: the eigenvector of the largest eigenvalue.
    """
    handed = 1 if np.linalg.det(axes) > 0 else -1
    (a, b, c), (d, e, f), (g, h, i) = axes * [1, 1, handed]
    upper = [[a + e + i, h - f, c - g, d - b], [0, a - e - i, b + d, c + g], [0, 0, e - a - i, f + h]]
    matrix = np.array([*upper, [0, 0, 0, i - a - e]])
    vector = np.linalg.eigh(matrix + np.triu(matrix, 1).T)[1][:, -1]
    return handed, vector[1:] * (1 if vector[0] >= 0 else -1)
