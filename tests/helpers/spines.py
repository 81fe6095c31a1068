"""Label maps of synthetic spines at the network's spacing, whole and spoilt."""

from dataclasses import replace
from functools import cache

import numpy as np
from scipy import ndimage

from trabecula import phantom
from trabecula.image.distance import depth_mm
from trabecula.image.levels import BODY_CODES, CODE_OF_LEVEL, DISC, POSTERIOR
from trabecula.image.volume import Volume
from trabecula.model import spine_network
from trabecula.model.spine_network import SPACING_MM, SpineMap
from trabecula.phantom.population import levels_of
from trabecula.train_segmenter.examples import to_classes

SEED = 77


@cache
def labels_of(index: int, lumbar: int | None = None) -> Volume:
    """Give the canonical label map of a synthetic patient, on request with another number of lumbar vertebrae."""
    patient = phantom.sample_patient(SEED, index)
    if lumbar is not None:
        levels = levels_of(lumbar)
        density = {level: patient.vbmd_mg_cm3.get(level, 100.0) for level in levels}
        patient = replace(patient, lumbar_count=lumbar, vbmd_mg_cm3=density, fractures={}, screws=(), cement=())
    device = next(iter(phantom.DEVICES.values()))
    spacing = (SPACING_MM, SPACING_MM, SPACING_MM)
    labels = phantom.render(patient, device, spacing_mm=spacing, seed=index)[1]
    return _around_spine(labels)


def _around_spine(labels: Volume) -> Volume:
    """Cut out the scan 80 mm to the sides of the bodies, 90 mm behind and 30 mm in front of them."""
    at = np.argwhere(np.isin(labels.array, BODY_CODES)).mean(axis=0)
    first, last = np.array([-80, -90]) / SPACING_MM, np.array([80, 30]) / SPACING_MM
    x, y = (slice(max(int(at[i] + first[i]), 0), int(at[i] + last[i])) for i in (0, 1))
    affine = labels.affine.copy()
    affine[:3, 3] = labels.to_mm([[x.start, y.start, 0]])[0]
    return Volume(np.ascontiguousarray(labels.array[x, y]), affine)


def spine_map(labels: Volume) -> SpineMap:
    """Give a perfect network's answer to a canonical label map at the network's spacing."""
    classes = to_classes(labels.array)
    soft = [ndimage.gaussian_filter((classes == k).astype(np.float32), 0.8) for k in range(len(spine_network.CLASSES))]
    return SpineMap(np.stack(soft).astype(np.float16), labels.affine, np.ones(classes.shape, bool))


def only(labels: Volume, keep: list[int]) -> Volume:
    """Keep only some codes of a map."""
    return labels.with_array(np.where(np.isin(labels.array, keep), labels.array, 0))


def levels_in(labels: Volume) -> list[str]:
    """List the names of the bodies in a map, from foot to head."""
    codes = [code for code in np.unique(labels.array) if code in BODY_CODES]
    height = {code: np.argwhere(labels.array == code)[:, 2].mean() for code in codes}
    names = {code: level for level, code in CODE_OF_LEVEL.items()}
    return [names[code] for code in sorted(codes, key=lambda code: height[code])]


def cut_scan(labels: Volume, lowest: str | None, highest: str | None) -> Volume:
    """Cut out the scan from the middle of one level up to the middle of another."""
    levels_in_scan = levels_in(labels)
    middle = {
        name: int(np.argwhere(labels.array == CODE_OF_LEVEL[name])[:, 2].mean())
        for name in (lowest, highest)
        if name in levels_in_scan
    }
    first = middle[lowest] if lowest else 0
    last = middle[highest] if highest else labels.array.shape[2]
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    return Volume(labels.array[:, :, first:last], affine)


def renamed(labels: Volume, new: dict[str, str]) -> Volume:
    """Give bodies and posterior elements other names."""
    table = np.arange(256, dtype=np.uint8)
    for old, name in new.items():
        for shift in (0, POSTERIOR):
            table[CODE_OF_LEVEL[old] + shift] = CODE_OF_LEVEL[name] + shift
    return labels.with_array(table[labels.array])


def fused(labels: Volume, lower: str, upper: str) -> Volume:
    """Fuse two bodies: the disc between them becomes bone."""
    parts = [labels.array == CODE_OF_LEVEL[name] for name in (lower, upper)]
    near = [depth_mm(~part, SPACING_MM) < 14 for part in parts]
    bridge = near[0] & near[1] & (labels.array == DISC)
    return labels.with_array(np.where(bridge, CODE_OF_LEVEL[lower], labels.array))


def swapped_halves(labels: Volume, lower: str, upper: str) -> Volume:
    """Swap the names of two neighbours to the right of their middles."""
    result = labels.array.copy()
    for name, other in ((lower, upper), (upper, lower)):
        part = labels.array == CODE_OF_LEVEL[name]
        middle = int(np.argwhere(part)[:, 0].mean())
        part[:middle] = False
        result[part] = CODE_OF_LEVEL[other]
    return labels.with_array(result)


def upper_half(labels: Volume, name: str, other: str) -> Volume:
    """Give the upper half of a body another name."""
    part = labels.array == CODE_OF_LEVEL[name]
    part[:, :, : int(np.argwhere(part)[:, 2].mean())] = False
    return labels.with_array(np.where(part, CODE_OF_LEVEL[other], labels.array))
