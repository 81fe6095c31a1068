"""Call TotalSegmentator as its documentation does, in a process of its own; the oracle of a test.

usage: official_totalsegmentator.py CT.nii OUT.npz
"""

import sys
from typing import Any

import numpy as np
from totalsegmentator.python_api import totalsegmentator

from trabecula.segment.totalsegmentator import ROIS

if __name__ == "__main__":  # its worker processes import this file
    ct, out = sys.argv[1:]
    common: dict[str, Any] = {"ml": True, "quiet": True, "device": "cpu", "nr_thr_saving": 1}
    maps: dict[str, Any] = {
        "total": totalsegmentator(ct, None, task="total", roi_subset=ROIS, **common),
        "vertebrae_body": totalsegmentator(ct, None, task="vertebrae_body", **common),
    }
    arrays: dict[str, Any] = {name: np.asarray(image.dataobj) for name, image in maps.items()}
    np.savez(out, **arrays)
