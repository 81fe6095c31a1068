"""Read label maps from DICOM Segmentation objects (DICOM PS3.3, A.51)."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from trabecula.errors import StudyFailure
from trabecula.image.codings import Structure, structure_named
from trabecula.image.levels import CODE_OF_LEVEL, HIP, RIB, SACRUM
from trabecula.image.volume import LPS_TO_RAS, Volume
from trabecula.runtime.storage import passes

# SNOMED CT; pydicom holds a retired SRT code equal to the code that replaced it.
_SNOMED = [
    *((getattr(codes.SCT, f"{level}Vertebra", None), code) for level, code in CODE_OF_LEVEL.items()),
    (codes.SCT.Sacrum, SACRUM),
    (Code("65985001", "SCT", "S1 vertebra"), SACRUM),
    (codes.SCT.Rib, RIB),
    (codes.SCT.Hip, HIP),
]
_VERTEBRAL_BODY = Code("3572006", "SCT", "Vertebral body")


@dataclass(frozen=True)
class Segments:
    """The segments of a SEG object that belong to the spine.

    Attributes
    ----------
    labels : Volume
        Segment numbers on the object's own grid; 0 where no segment of the spine is.
    structures : dict
        Part of the spine that each segment number stands for.
    frame_of_reference : str
        Frame of Reference UID (0020,0052).
    """

    labels: Volume
    structures: dict[int, Structure]
    frame_of_reference: str


def read_seg(path: Path, *, most_voxels: int = 2**31) -> Segments:
    """Read the spine's segments from a DICOM SEG file, binary, fractional (above one half) or as a label map.

    Parameters
    ----------
    path : Path
        The file.
    most_voxels : int
        A grid of more is refused before memory is taken for it.

    Raises
    ------
    StudyFailure
        ``mask_unreadable`` if it is no SEG object or its frames form no volume, ``no_vertebra`` if no segment is
        named or coded as a part of the spine.
    """
    import highdicom  # a second of start-up, for this kind of mask alone

    try:
        seg = highdicom.seg.segread(path)
        structures = {}
        for number in seg.segment_numbers:
            structure = _structure(seg.get_segment_description(number))
            if structure is not None:
                structures[int(number)] = structure
        if not structures:
            raise StudyFailure("no_vertebra", "no segment is named or coded as a part of the spine")
        labels = _volume(seg, sorted(structures), most_voxels)
    except StudyFailure:
        raise
    except Exception as error:  # objects that are damaged, no SEG, or no volume raise anything
        if passes(error):
            raise
        raise StudyFailure("mask_unreadable", type(error).__name__) from error
    return Segments(labels, structures, str(seg.FrameOfReferenceUID))


def _volume(seg, numbers: list[int], most_voxels: int) -> Volume:
    """Put the segment numbers on the object's grid; where segments overlap, the last counts."""
    geometry = seg.get_volume_geometry()
    if math.prod(geometry.spatial_shape) > most_voxels:
        raise StudyFailure("mask_unreadable", "its grid has far more voxels than the scan has")
    labels = np.zeros(geometry.spatial_shape, np.uint16)
    for number in numbers:
        part = seg.get_volume(segment_numbers=[number]).array
        labels[part.reshape(labels.shape) > 0.5] = number
    affine = np.array(geometry.affine, float)
    affine[:3] = LPS_TO_RAS @ affine[:3]
    return Volume(labels, affine)


def _structure(segment) -> Structure | None:
    """Read the structure of a segment from its label (0062,0005), its codes, or these codes' words.

    Where the property type (0062,000F) is only a vertebra or a body, the anatomic region (0008,2218) names the level.
    """
    kind, regions = segment.segmented_property_type, segment.anatomic_regions
    structure = structure_named(segment.segment_label)
    for concept in (kind, *regions):
        structure = structure or _coded(concept) or structure_named(concept.meaning)
    if structure is None or not structure.whole:
        return structure
    return Structure(structure.code, whole=kind != _VERTEBRAL_BODY)


def _coded(concept: Code) -> Structure | None:
    """Read the structure of a SNOMED code; None for a code of anything else."""
    for snomed, code in _SNOMED:
        if snomed is not None and concept == snomed:
            return Structure(code, whole=code not in (SACRUM, RIB, HIP))
    return None
