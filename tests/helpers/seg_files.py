"""DICOM Segmentation objects for tests, and a scan around them."""

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from ct_files import UID, save, slice_of
from pydicom.sr.codedict import codes as snomed
from pydicom.sr.coding import Code

from trabecula.image.volume import Volume

FRAME = f"{UID}.77"
Described = tuple[str, Code, list[Code]]
BODY = Code("3572006", "SCT", "Vertebral body")


def write_seg(path: Path, parts: Sequence[np.ndarray], described: Sequence[Described], kind: str = "BINARY") -> Path:
    """Write a SEG object whose (k, j, i) parts lie on ten axial slices of 20 x 24 pixels, 3 mm apart."""
    slices = [slice_of((-17.0, -20.0, -30.0 + 3 * k)) for k in range(len(parts[0]))]
    for k, source in enumerate(slices):
        source.FrameOfReferenceUID, source.SOPInstanceUID = FRAME, f"{UID}.8.{k + 1}"
        source.StudyTime = source.StudyID = source.AccessionNumber = source.ReferringPhysicianName = ""
        source.PositionReferenceIndicator = ""
        source.SliceThickness = source.SpacingBetweenSlices = 3
        save(source, path.parent / f"source-{k}")
    segments = []
    for number, (label, kind_of, regions) in enumerate(described, start=1):
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=label,
                segmented_property_category=snomed.SCT.AnatomicalStructure,
                segmented_property_type=kind_of,
                algorithm_type="MANUAL",
                anatomic_regions=regions or None,
            )
        )
    pixels = np.stack(parts, axis=-1)
    seg = hd.seg.Segmentation(
        source_images=[pydicom.dcmread(path.parent / f"source-{k}") for k in range(len(slices))],
        pixel_array=pixels.astype(np.float32) * 0.8 if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=f"{UID}.5",
        series_number=5,
        sop_instance_uid=f"{UID}.5.1",
        instance_number=1,
        manufacturer="Maker",
        manufacturer_model_name="Model",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)
    return path


def blocks(n: int) -> list[np.ndarray]:
    """Make boxes one above the other, with an empty slice between."""
    parts = []
    for i in range(n):
        part = np.zeros((10, 20, 24), bool)
        part[1 + 3 * i : 3 + 3 * i, 5:15, 4:20] = True
        parts.append(part)
    return parts


def scan_around() -> Volume:
    """Make a CT that holds the slices of `write_seg`, on a finer grid with other axes."""
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    affine[:3, 3] = -25.0, -25.0, -35.0
    return Volume(np.zeros((50, 50, 30), np.int16), affine)
