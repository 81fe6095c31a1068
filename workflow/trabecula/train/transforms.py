"""Random variation of training regions by MONAI, as patients, positions, protocols and devices differ."""

import math
from dataclasses import dataclass

from monai.data.meta_obj import set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from monai.transforms.spatial.array import RandAffine, RandFlip


@dataclass(frozen=True)
class Variation:
    """Largest change of each kind; each change is drawn evenly from its range, per region.

    Attributes
    ----------
    shift_mm, rotation_deg : float
        Place of the crop around the body, and turn about each axis (pose).
    scale : float
        Relative change of size, as by the body's size and by the field of view.
    kernel_mm : float
        Standard deviation of a smoothing in the slice's plane, as by a softer kernel.
    slice_mm : float
        Standard deviation of a smoothing along the patient, as by thicker slices.
    offset_hu, slope : float
        Calibration of the device: added, and relative change.
    noise_hu : float
        Standard deviation of white noise.
    """

    shift_mm: float = 4.0
    rotation_deg: float = 10.0
    scale: float = 0.1
    kernel_mm: float = 1.2
    slice_mm: float = 2.0
    offset_hu: float = 12.0
    slope: float = 0.03
    noise_hu: float = 20.0


def variation(largest: Variation, *, spacing_mm: float) -> Compose:
    """Compose the random transforms of one region.

    Parameters
    ----------
    largest : Variation
        Largest change of each kind.
    spacing_mm : float
        Distance between the region's voxels.

    Returns
    -------
    Compose
        From a (1, x, y, z) tensor of Hounsfield units to another; x runs to the patient's right, y to the front, z to
        the head. Its chance is set by ``set_random_state``.
    """
    # The region's place in the patient is of no use here, and carrying it along takes as long as the transforms.
    set_track_meta(False)
    angle, shift = math.radians(largest.rotation_deg), largest.shift_mm / spacing_mm
    in_plane, along = (0.01, largest.kernel_mm / spacing_mm), (0.01, largest.slice_mm / spacing_mm)
    return Compose(
        [
            RandAffine(
                prob=1.0,
                rotate_range=(angle,) * 3,
                translate_range=(shift,) * 3,
                scale_range=(largest.scale,) * 3,
                padding_mode="border",
            ),
            RandFlip(prob=0.5, spatial_axis=0),
            RandGaussianSmooth(sigma_x=in_plane, sigma_y=in_plane, sigma_z=along, prob=1.0),
            RandScaleIntensity(factors=largest.slope, prob=1.0),
            RandShiftIntensity(offsets=largest.offset_hu, prob=1.0),
            RandGaussianNoise(prob=1.0, std=largest.noise_hu, sample_std=True),
        ]
    )
