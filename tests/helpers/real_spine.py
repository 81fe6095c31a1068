"""The one complete lumbar spine among the real scans, cut into cubes with the outlines that came with it."""

from pathlib import Path

import numpy as np

from trabecula import crop
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import read_nifti
from trabecula.tables.cubes import VertebraCrop

LEVELS = ("T12", "L1", "L2", "L3", "L4", "L5")
# Whole vertebrae in TotalSegmentator's numbering.
WHOLE = {"T12": 32, "L1": 31, "L2": 30, "L3": 29, "L4": 28, "L5": 27}


def totalseg_cubes(real_data: Path) -> tuple[VertebraCrop, ...]:
    """Cut cubes of T12 (cut off) to L5; the parts of a vertebra that are not its body are posterior."""
    folder = real_data / "totalseg_example"
    ct = read_nifti(folder / "example_ct.nii.gz")
    bodies = read_nifti(folder / "spine_report/test_result/totalseg_vertebrae_pp_refined.nii.gz")
    whole = read_nifti(folder / "spine_report/test_result/totalseg.nii.gz").array
    labels = np.zeros(bodies.array.shape, np.uint8)
    for level, number in WHOLE.items():
        labels[whole == number] = POSTERIOR + CODE_OF_LEVEL[level]
        labels[bodies.array == CODE_OF_LEVEL[level]] = CODE_OF_LEVEL[level]
    keys = {"cohort": "c", "patient_id": "p", "study_id": "s", "segmenter": "x", "level_confidence": None}
    rows = [keys | {"level": level, "level_uncertain": False, "level_flags": []} for level in LEVELS]
    return crop.cut_study(ct, bodies.with_array(labels), rows, size=64, spacing_mm=1.0)
