"""How much memory a segmentation takes, and what happens when there is too little."""

import gc

import numpy as np
import torch

from trabecula.volume import Volume

# TotalSegmentator's images in double precision and its networks' answers; measured on a scan of 512 x 512 x 800 voxels.
BYTES_PER_VOXEL = 40
# Python, torch and the networks.
BASE_MB = 1500
# How torch's allocator for the CPU says it; for CUDA it has a type of its own.
_ALLOCATOR = ("not enough memory", "can't allocate memory")


def estimate_mb(ct: Volume) -> float:
    """Memory in MB (10⁶ bytes) that TotalSegmentator or another nnU-Net takes for a scan."""
    return BASE_MB + BYTES_PER_VOXEL * float(np.prod(ct.array.shape)) / 1e6


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that there was too little memory, of the machine or of the GPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _ALLOCATOR)


def release() -> None:
    """Give back what is held and no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
