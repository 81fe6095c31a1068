"""Estimate the memory that a segmentation takes, and notice where it runs out."""

import gc

import numpy as np
import torch

from trabecula.image.volume import Volume

# TotalSegmentator's images in double precision and its networks' answers for all classes: 3.9 GB with Python were
# measured on 512 x 512 x 300 voxels of 0.8 x 0.8 x 1 mm, with small networks of as many classes.
BYTES_PER_VOXEL = 40
# Python and torch, and room for large networks and what they compute on a patch.
BASE_MB = 2500
# Words of torch's allocator for the CPU; for CUDA torch has an exception of its own.
_ALLOCATOR = ("not enough memory", "can't allocate memory")


def estimate_mb(ct: Volume) -> float:
    """Estimate the memory in MB (10⁶ bytes) that TotalSegmentator or another nnU-Net takes for a scan.

    >>> estimate_mb(Volume(np.broadcast_to(0, (512, 512, 300)), np.eye(4)))
    5645.728
    """
    return BASE_MB + BYTES_PER_VOXEL * float(np.prod(ct.array.shape)) / 1e6


def ran_out(error: BaseException) -> bool:
    """Tell whether an exception means too little memory, of the machine or of the GPU.

    >>> ran_out(MemoryError()), ran_out(RuntimeError("a bug"))
    (True, False)
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _ALLOCATOR)


def release() -> None:
    """Give back memory that is held and no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
