"""Write the measurements of a scan as a DICOM structured report: TID 1500 (PS3.16), Comprehensive 3D SR."""

from collections.abc import Mapping, Sequence
from typing import Any

import highdicom
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from trabecula import __version__
from trabecula.export import identity, terms

_HU, _MM3, _MG_CM3 = codes.UCUM.HounsfieldUnit, codes.UCUM.CubicMillimeter, codes.UCUM.MilligramsPerCubicCentimeter
_ATTENUATION, _VOLUME = codes.DCM.AttenuationCoefficient, codes.SCT.Volume
_MEAN, _SD = codes.SCT.Mean, codes.SCT.StandardDeviation

# Columns of the table `vertebrae`: name, unit, and the codes that distinguish measurements of the same name.
OF_LEVEL: dict[str, tuple[Code, Code, dict[str, Any]]] = {
    "trabecular_hu_mean": (_ATTENUATION, _HU, {"derivation": _MEAN, "method": terms.TRABECULAR}),
    "trabecular_hu_sd": (_ATTENUATION, _HU, {"derivation": _SD, "method": terms.TRABECULAR}),
    "trabecular_volume_mm3": (_VOLUME, _MM3, {"method": terms.TRABECULAR}),
    "body_volume_mm3": (_VOLUME, _MM3, {"method": terms.VERTEBRAL_BODY}),
}
# The same for the table `studies`.
OF_SCAN: dict[str, tuple[Code, Code, dict[str, Any]]] = {
    "vbmd_mg_cm3": (terms.VBMD, _MG_CM3, {}),
    "vbmd_low": (terms.VBMD_LOW, _MG_CM3, {}),
    "vbmd_high": (terms.VBMD_HIGH, _MG_CM3, {}),
    "probability_reduced": (terms.PROBABILITY, codes.UCUM.NoUnits, {}),
    "trabecular_hu": (_ATTENUATION, _HU, {"derivation": _MEAN, "method": terms.TRABECULAR}),
}


def structured_report(
    study: identity.Study,
    scan: Mapping[str, Any],
    vertebrae: Sequence[Mapping[str, Any]],
    seg: highdicom.seg.Segmentation,
) -> sr.Comprehensive3DSR:
    """Make a report with a group of measurements per vertebra, and one for the scan.

    Parameters
    ----------
    study : Study
        The scan, its patient and the run.
    scan : mapping
        Row of the table `studies`.
    vertebrae : sequence of mapping
        Rows of the table `vertebrae`, in the order of the segments.
    seg : Segmentation
        The Segmentation that outlines them.

    Returns
    -------
    Comprehensive3DSR
        Partial and unverified: nobody has looked at it. What is NULL in the tables is left out.
    """
    groups: list[Any] = [_of_level(study, row, seg, i) for i, row in enumerate(vertebrae, start=1)]
    if any(scan[name] is not None for name in OF_SCAN):
        groups.append(_of_scan(study, scan))
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=identity.derived_uid("device", study.run_id), name="Trabecula", serial_number=study.run_id
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = sr.Comprehensive3DSR(
        evidence=[seg],
        content=content[0],
        series_instance_uid=study.uid("report series"),
        series_number=9002,
        sop_instance_uid=study.uid("report"),
        instance_number=1,
        series_description=study.described("Bone density, research use"),
        coding_schemes=[CodingSchemeIdentificationItem(terms.OWN, name="Trabecula: its tables' columns and flags")],
        **study.equipment(),
    )
    identity.mark_pseudonymous(report, study)
    return report


def _measured(row: Mapping[str, Any], kinds: Mapping[str, tuple[Code, Code, dict[str, Any]]]) -> list[sr.Measurement]:
    return [
        # A decimal string may have 16 letters.
        sr.Measurement(name=name, value=float(f"{row[column]:.7g}"), unit=unit, **qualifiers)
        for column, (name, unit, qualifiers) in kinds.items()
        if row[column] is not None
    ]


def _limits(flags: Sequence[str], level_flags: Sequence[str] = ()) -> list[sr.QualitativeEvaluation]:
    limitations = [
        *map(terms.limitation, sorted(set(flags))),
        *map(terms.level_limitation, sorted(set(level_flags))),
    ]
    return [sr.QualitativeEvaluation(terms.LIMITATION, limitation) for limitation in limitations]


def _of_level(study: identity.Study, row: Mapping[str, Any], seg: highdicom.seg.Segmentation, number: int) -> Any:
    # Flags against a level count only while the level is uncertain; a reviewer's verdict makes it certain.
    uncertain = row["level_uncertain"]
    flags, doubts = ([*row["flags"], "level_uncertain"], row["level_flags"]) if uncertain else (row["flags"], [])
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=study.uid(f"segment {row['level']}"), identifier=row["level"]),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(study.series_uid),
        ),
        finding_type=terms.VERTEBRAL_BODY,
        finding_sites=[sr.FindingSite(terms.VERTEBRA_OF_LEVEL[row["level"]])],
        algorithm_id=sr.AlgorithmIdentification("Trabecula", __version__, [f"segmenter {row['segmenter']}"]),
        measurements=_measured(row, OF_LEVEL),
        qualitative_evaluations=_limits(flags, doubts),
    )


def _of_scan(study: identity.Study, scan: Mapping[str, Any]) -> Any:
    levels = ", ".join(scan["levels_used"])
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=study.uid("scan"), identifier=f"Scan, levels {levels}"),
        finding_type=terms.BONE_DENSITY,
        finding_sites=[sr.FindingSite(terms.VERTEBRA_OF_LEVEL[level]) for level in scan["levels_used"]],
        algorithm_id=sr.AlgorithmIdentification("Trabecula", __version__, [f"model {study.model_id}"]),
        measurements=_measured(scan, OF_SCAN),
        qualitative_evaluations=_limits([*scan["flags"], *scan["novelty"]]),
    )
