"""Reference tissues of a scan, for the calibration of bone density, from the whole CT and its label map."""

from typing import Any

from trabecula.density.tissue.air import air_hu, padding_share
from trabecula.density.tissue.blood import blood_hu
from trabecula.density.tissue.rods import rods_hu
from trabecula.density.tissue.soft import fat_hu, muscle_hu, noise_hu, slice_axis
from trabecula.image.volume import Volume

__all__ = [
    "air_hu",
    "blood_hu",
    "fat_hu",
    "muscle_hu",
    "noise_hu",
    "padding_share",
    "rods_hu",
    "scan_facts",
    "slice_axis",
]


def scan_facts(ct: Volume, labels: Volume) -> dict[str, Any]:
    """Measure the columns `tables.SCAN_FACTS` of one scan; None where undefined.

    Parameters
    ----------
    ct, labels : Volume
        Hounsfield units and canonical codes on one grid.
    """
    noise = noise_hu(ct)
    return {
        "noise_hu": noise,
        "padding_share": padding_share(ct),
        "air_hu": air_hu(ct),
        "fat_hu": fat_hu(ct),
        "muscle_hu": muscle_hu(ct, labels),
        "blood_hu": None if noise is None else blood_hu(ct, labels, noise_hu=noise),
        "rods_hu": [] if noise is None else rods_hu(ct, labels, noise_hu=noise),
    }
