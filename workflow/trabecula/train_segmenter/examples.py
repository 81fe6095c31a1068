"""Read and make the labelled scans that the builtin spine network learns from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from trabecula import phantom
from trabecula.image.levels import BODY_CODES, DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.image.padding import PADDING_HU
from trabecula.image.volume import Volume, aligned_grid, bounds_mm, read_nifti, resample
from trabecula.model import spine_network
from trabecula.model.spine_network import CLASSES, SPACING_MM
from trabecula.runtime.log import progress

# Class of a voxel whose class is unknown, and name of a scan that was not read but made.
UNKNOWN = 255
SYNTHETIC = "synthetic"
# Real scans are kept a little finer than the network sees them, so that scaling them up does not show their voxels.
REAL_MM = 1.5


@dataclass(frozen=True)
class Example:
    """One labelled scan.

    Attributes
    ----------
    name : str
        Source of the scan: a key of `READERS`, or SYNTHETIC.
    hu : (i, j, k) int16 tensor
        CT on a patient-aligned grid.
    classes : (i, j, k) uint8 tensor
        Class of every voxel, an index into `spine_network.CLASSES`; UNKNOWN is left out of the loss.
    spacing_mm : float
        Distance between neighbouring voxels.
    weight : float
        How often it is drawn, relative to the others.
    places : mapping from int to (n, 3) array
        Some voxels of every class.
    """

    name: str
    hu: torch.Tensor
    classes: torch.Tensor
    spacing_mm: float
    weight: float
    places: Mapping[int, NDArray[np.intp]]


def to_classes(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn canonical label codes (see `levels`) into the network's classes.

    >>> to_classes(np.array([0, 20, 120, 26, 50], np.uint8)).tolist()
    [0, 1, 2, 3, 6]
    """
    table = np.zeros(256, np.uint8)
    table[list(BODY_CODES)] = spine_network.BODY
    table[[POSTERIOR + code for code in BODY_CODES]] = spine_network.POSTERIOR
    table[[SACRUM, POSTERIOR + SACRUM]] = spine_network.SACRUM
    table[[RIB, HIP, DISC]] = spine_network.RIB, spine_network.HIP, spine_network.DISC
    return table[labels]


def totalseg_classes(folder: Path) -> NDArray[np.uint8]:
    """Read the classes of TotalSegmentator's reference case, on its own 3 mm grid.

    Its label maps are combined: bodies from ``vertebrae_pp_refined``, the discs and the rest of T11's body
    from ``vertebrae_body``, everything else from ``total`` (25, 26 sacrum; 27-33 L5-T11; 77, 78 hips; 92-115 ribs).
    """
    maps = folder / "spine_report" / "test_result"
    total = read_nifti(folder / "example_seg_fast_force_split.nii.gz").array
    parts = read_nifti(maps / "totalseg_vertebrae_body.nii.gz").array
    bodies = read_nifti(maps / "totalseg_vertebrae_pp_refined.nii.gz").array
    classes = np.zeros(total.shape, np.uint8)
    classes[np.isin(total, range(27, 34))] = spine_network.POSTERIOR
    classes[(total == 33) & (parts == 1)] = spine_network.BODY
    classes[np.isin(total, (25, 26))] = spine_network.SACRUM
    classes[np.isin(total, (77, 78))] = spine_network.HIP
    classes[np.isin(total, range(92, 116))] = spine_network.RIB
    classes[(parts == 2) & (classes == 0)] = spine_network.DISC
    classes[bodies > 0] = spine_network.BODY
    return classes


def read_totalseg_example(folder: Path) -> Example:
    """Read TotalSegmentator's reference case (Apache-2.0): native CT, T11 to the sacrum, 3 mm."""
    ct = read_nifti(folder / "example_ct.nii.gz")
    shape, affine = aligned_grid(*bounds_mm(ct), REAL_MM)
    hu = resample(ct.with_array(ct.array.astype(np.float32)), shape, affine, outside=PADDING_HU).array
    classes = smoothly(ct.with_array(totalseg_classes(folder)), shape, affine)
    return _example("totalseg_example", hu, classes, REAL_MM, weight=1.0)


def read_tptbox_crop(folder: Path) -> Example:
    """Read TPTBox's sample (Apache-2.0): CT around L3 at 1.5 mm with sub-regions (41-48 posterior, 49, 50 body)."""
    ct = read_nifti(folder / "sample_ct" / "sub-ct_label-22_ct.nii.gz")
    regions = read_nifti(folder / "sample_ct" / "sub-ct_seg-subreg_label-22_msk.nii.gz")
    shape, affine = aligned_grid(*bounds_mm(ct), REAL_MM)
    hu = resample(ct.with_array(ct.array.astype(np.float32)), shape, affine, outside=PADDING_HU).array
    part = resample(regions, shape, affine, outside=0, how="nearest").array
    classes = np.zeros(shape, np.uint8)
    classes[(part >= 41) & (part <= 48)] = spine_network.POSTERIOR
    classes[part >= 49] = spine_network.BODY
    # Discs and ribs are not labelled here: unlabelled voxels that are bright are left out of the loss.
    classes[(classes == 0) & (hu > 120)] = UNKNOWN
    return _example("tptbox_vertebra_crop", hu, classes, REAL_MM, weight=0.4)


def smoothly(classes: Volume, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Bring classes to a finer grid without the steps of the coarser one.

    Each voxel gets the class whose blurred share is largest there.
    """
    largest = np.zeros(shape, np.float32)
    smooth = np.zeros(shape, np.uint8)
    for index in range(len(CLASSES)):
        share = ndimage.gaussian_filter((classes.array == index).astype(np.float32), 0.5)
        fine = resample(classes.with_array(share), shape, affine, outside=0).array
        larger = fine > largest
        smooth[larger], largest[larger] = index, fine[larger]
    return smooth


def from_synthetic(ct: Volume, labels: Volume, *, weight: float) -> Example:
    """Make an example of a synthetic scan and its canonical label map, both on one patient-aligned isotropic grid."""
    return _example(SYNTHETIC, ct.array, to_classes(labels.array), float(ct.spacing_mm[0]), weight=weight)


def _example(name: str, hu: NDArray, classes: NDArray, spacing_mm: float, *, weight: float) -> Example:
    return Example(
        name,
        torch.from_numpy(np.ascontiguousarray(np.rint(hu), np.int16)),
        torch.from_numpy(np.ascontiguousarray(classes)),
        spacing_mm,
        weight,
        {index: some_places(classes == index) for index in range(1, len(CLASSES))},
    )


def some_places(mask: NDArray[np.bool_], most: int = 4000) -> NDArray[np.intp]:
    """Take at most so many voxels of a mask, evenly thinned, as an (n, 3) array.

    >>> some_places(np.ones((1, 2, 5), bool), most=3).tolist()
    [[0, 0, 0], [0, 0, 4], [0, 1, 3]]
    """
    voxels = np.flatnonzero(mask)
    return np.column_stack(np.unravel_index(voxels[:: len(voxels) // most + 1], mask.shape))


READERS: dict[str, Callable[[Path], Example]] = {
    "totalseg_example": read_totalseg_example,
    "tptbox_vertebra_crop": read_tptbox_crop,
}


def read_real(folder: Path | None, sources: Sequence[str]) -> list[Example]:
    """Read the real scans of the named sources; none without a folder that holds them."""
    return [READERS[name](folder / name) for name in sources] if folder else []


def make_synthetic(patients: int, *, seed: int) -> list[Example]:
    """Make scans of synthetic patients, each on one of the synthetic devices; together they weigh 1."""
    devices = list(phantom.DEVICES.values())
    examples = []
    for index in progress(range(patients), what="synthetic patients", unit="patients"):
        patient = phantom.sample_patient(seed, index)
        device = devices[index % len(devices)]
        ct, labels = phantom.render(patient, device, spacing_mm=(SPACING_MM, SPACING_MM, SPACING_MM), seed=seed + index)
        examples.append(from_synthetic(ct, labels, weight=1 / patients))
    return examples
