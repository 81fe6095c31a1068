"""Write the vertebral bodies of a scan as a DICOM Segmentation (PS3.3, A.51)."""

import highdicom
import numpy as np
from pydicom.sr.codedict import codes

from trabecula.export import identity, terms
from trabecula.export.grid import Bodies

_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def segmentation(study: identity.Study, bodies: Bodies, *, segmenter: str) -> highdicom.seg.Segmentation:
    """Make a binary Segmentation with a segment per level.

    Parameters
    ----------
    study : Study
        The scan, its patient and the run.
    bodies : Bodies
        Masks in RAS+.
    segmenter : str
        Backend and version that outlined them.

    Returns
    -------
    Segmentation
        Axial frames; columns to the patient's left, rows to the back, frames to the head (LPS+).
    """
    seg = highdicom.seg.Segmentation(
        source_images=[identity.source_image(study)],
        pixel_array=_volume(study, bodies),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(study, bodies.levels, segmenter),
        series_instance_uid=study.uid("segmentation series"),
        series_number=9001,
        sop_instance_uid=study.uid("segmentation"),
        instance_number=1,
        content_label="VERTEBRAE",
        content_description="Vertebral bodies",
        series_description=study.described("Vertebral bodies"),
        **study.equipment(),
    )
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = study.uid("dimensions")
    for index in seg.DimensionIndexSequence:
        index.DimensionOrganizationUID = study.uid("dimensions")
    seg.BurnedInAnnotation = "NO"
    identity.mark_pseudonymous(seg, study)
    return seg


def _volume(study: identity.Study, bodies: Bodies) -> highdicom.Volume:
    """Arrange the masks as (frame, row, column, segment), with their position in LPS+."""
    # RAS+ runs to the right and to the front, columns and rows to the left and to the back.
    frames = bodies.masks[::-1, ::-1].transpose(2, 1, 0, 3).astype(np.uint8)
    right, front, _, _ = bodies.masks.shape
    first = bodies.origin_mm + np.array([right - 1, front - 1, 0]) * bodies.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[::-1] * bodies.spacing_mm
    affine[:3, 3] = first * _RAS_TO_LPS
    return highdicom.Volume(
        frames,
        affine,
        "PATIENT",
        frame_of_reference_uid=identity.source_image(study).FrameOfReferenceUID,
        channels={"SegmentNumber": [1 + i for i in range(len(bodies.levels))]},
    )


def _segments(study: identity.Study, levels: tuple[str, ...], segmenter: str) -> list[highdicom.seg.SegmentDescription]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=segmenter, family=codes.DCM.ArtificialIntelligence, version=study.run_id
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"{level} body",
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=terms.VERTEBRAL_BODY,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=study.uid(f"segment {level}"),
            tracking_id=level,
            anatomic_regions=[terms.VERTEBRA_OF_LEVEL[level]],
        )
        for number, level in enumerate(levels, start=1)
    ]
