"""Write a whole archive: studies, artefacts, QCT labels and the truth."""

import csv
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.ndimage import find_objects

from trabecula.image.levels import CODE_OF_LEVEL
from trabecula.image.volume import Volume
from trabecula.phantom.artefacts import (
    Headers,
    has_artefact,
    thicker,
    write_dose_report,
    write_foreign_modality,
    write_localizer,
    write_sagittal,
    write_secondary_capture,
    write_stray_files,
)
from trabecula.phantom.devices import DEVICES, Device
from trabecula.phantom.dicom import PatientAttributes, SeriesAttributes, StudyAttributes, make_uid, write_series
from trabecula.phantom.population import Patient, sample_patient
from trabecula.phantom.render import FIELD_OF_VIEW_MM, expected_hu, phase_of, render
from trabecula.runtime.children import end_with
from trabecula.runtime.log import progress

Row = dict[str, object]
LABEL_COLUMNS = ("patient_id", "study_date", "level", "vbmd", "unit", "device")
TRUTH_SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("study_instance_uid", pa.string()),
        ("series_instance_uid", pa.string()),
        ("device", pa.string()),
        ("phase", pa.string()),
        ("sex", pa.string()),
        ("age_years", pa.float64()),
        ("level", pa.string()),
        ("x_mm", pa.float64()),
        ("y_mm", pa.float64()),
        ("z_mm", pa.float64()),
        ("complete", pa.bool_()),
        ("vbmd_mg_cm3", pa.float64()),
        ("expected_hu", pa.float64()),
        ("fractured", pa.bool_()),
        ("metal", pa.bool_()),
    ]
)
# Accuracy of a real QCT: a proportional and an absolute part (Wang et al., Sci Rep 2017;7:6284).
_QCT_RELATIVE_SD, _QCT_ABSOLUTE_SD = 0.013, 0.8


@dataclass(frozen=True)
class Layout:
    """Where the files of a study go.

    Attributes
    ----------
    folder : callable
        Folder of a series by its number and description.
    name : callable
        File name of a slice by number and SOP instance UID.
    """

    folder: Callable[[int, str], Path]
    name: Callable[[int, str], str]


def layout_of(root: Path, patient: Patient, study_uid: str) -> Layout:
    """Choose one of four ways in which real archives are laid out, by the patient's index."""
    day, tail = patient.study_date.strftime("%Y%m%d"), study_uid[-8:]
    nested = root / patient.patient_id / f"{day}_CT_Abdomen"
    named = root / "export" / str(patient.name).replace("^", "_") / f"study_{tail}"
    flat = root / "flat" / f"{patient.index:05d}"
    media = root / "DICOM" / f"{int(tail) % 0xFFFF:04X}{patient.index % 0xFFFF:04X}"
    return (
        Layout(lambda n, d: nested / f"{n:03d}_{d}".replace(" ", "_"), lambda k, uid: f"{k:04d}.dcm"),
        Layout(lambda n, d: named / f"S{n}", lambda k, uid: f"IM{k:05d}"),
        Layout(lambda n, d: flat, lambda k, uid: f"CT.{uid}.dcm"),
        Layout(lambda n, d: media / f"{n:08X}", lambda k, uid: f"{k:08X}"),
    )[patient.index % 4]


def headers_of(patient: Patient, device: Device, seed: int) -> Headers:
    """Give the DICOM attributes of a patient's study and primary series."""
    uid = make_uid("trabecula", seed, patient.index, device.model)
    person = PatientAttributes(
        patient.patient_id, patient.name, patient.birth_date, patient.sex, age_years=patient.age_years
    )
    study = StudyAttributes(
        uid=uid,
        date=patient.study_date,
        frame_of_reference_uid=make_uid(uid, "frame"),
        time=f"{8 + patient.index % 9:02d}{patient.index * 7 % 60:02d}00",
        study_id=str(patient.index),
        accession=f"ACC{patient.index:07d}",
    )
    phase = phase_of(patient, device)
    series = SeriesAttributes(
        uid=make_uid(uid, "primary"),
        description=f"Abdomen {device.thickness_mm:g} {device.kernel.name}",
        manufacturer=device.maker,
        model=device.model,
        kvp=device.kvp,
        kernel=device.kernel.name,
        thickness_mm=device.thickness_mm,
        exposure_mas=device.ma_s,
        contrast_agent=None if phase == "native" else f"IODINATED {phase.upper()}",
        padding_hu=device.padding_hu,
    )
    return Headers(person, study, series)


def truth_rows(patient: Patient, device_name: str, headers: Headers, labels: Volume) -> list[Row]:
    """List the vertebral bodies that the scan shows at least in part, one row each."""
    device, rows = DEVICES[device_name], []
    boxes = find_objects(labels.array, max_label=30)
    for level in patient.levels:
        code = CODE_OF_LEVEL[level]
        box = boxes[code - 1]
        if box is None:
            continue
        voxels = np.argwhere(labels.array[box] == code) + [s.start for s in box]
        x, y, z = labels.to_mm(voxels.mean(axis=0, keepdims=True))[0]
        rows.append(
            {
                "patient_id": patient.patient_id,
                "study_instance_uid": headers.study.uid,
                "series_instance_uid": headers.series.uid,
                "device": device_name,
                "phase": phase_of(patient, device),
                "sex": patient.sex,
                "age_years": patient.age_years,
                "level": level,
                "x_mm": x,
                "y_mm": y,
                "z_mm": z,
                "complete": bool(box[2].start > 0 and box[2].stop < labels.array.shape[2]),
                "vbmd_mg_cm3": patient.vbmd_mg_cm3[level],
                "expected_hu": expected_hu(patient, device, level),
                "fractured": level in patient.fractures,
                "metal": level in patient.screws or level in patient.cement,
            }
        )
    return rows


def k2hpo4_from_ha(vbmd_mg_cm3: float) -> float:
    """Convert a density to a K2HPO4 phantom's scale (Faulkner: HA = 1.15 K2HPO4 - 7.32).

    >>> round(k2hpo4_from_ha(107.68), 6)
    100.0
    """
    return (vbmd_mg_cm3 + 7.32) / 1.15


def label_rows(patient: Patient, device_name: str, seed: int) -> list[Row]:
    """List the results of the hospital's QCT: L1 to L3 without fractured or operated ones, and the mean of L1-L2."""
    rng = np.random.default_rng([seed, patient.index, 0x9C7])
    bad = {*patient.fractures, *patient.screws, *patient.cement}
    error = {level: rng.normal() for level in ("L1", "L2", "L3")}
    vbmd_mg_cm3 = {
        level: patient.vbmd_mg_cm3[level] * (1 + _QCT_RELATIVE_SD * e) + _QCT_ABSOLUTE_SD * rng.normal()
        for level, e in error.items()
        if level not in bad
    }
    if "L1" in vbmd_mg_cm3 and "L2" in vbmd_mg_cm3:
        vbmd_mg_cm3["L1-L2"] = 0.5 * (vbmd_mg_cm3["L1"] + vbmd_mg_cm3["L2"])
    # One in four has the QCT some days after the CT.
    day = patient.study_date + timedelta(days=int(rng.integers(1, 20)) if patient.index % 4 == 3 else 0)
    ha = DEVICES[device_name].qct_material == "HA"
    return [
        {
            "patient_id": patient.patient_id,
            "study_date": day.isoformat(),
            "level": level,
            "vbmd": f"{value if ha else k2hpo4_from_ha(value):.1f}",
            "unit": "mg/cm3 HA" if ha else "mg/cm3 K2HPO4",
            "device": device_name,
        }
        for level, value in vbmd_mg_cm3.items()
    ]


def _write_artefacts(ct: Volume, patient: Patient, headers: Headers, layout: Layout, files: list[Path]) -> None:
    index = patient.index
    if has_artefact("localizer", index):
        write_localizer(ct, layout.folder(1, "Scout") / "scout", headers)
    if has_artefact("sagittal", index):
        write_sagittal(ct, layout.folder(5, "Sag MPR") / "sag", headers)
    if has_artefact("dose_report", index):
        write_dose_report(layout.folder(997, "Dose Report"), headers)
    if has_artefact("secondary_capture", index):
        write_secondary_capture(ct, layout.folder(99, "Screen"), headers)
    if has_artefact("mr", index):
        write_foreign_modality(ct, layout.folder(20, "T2 TSE"), headers, "MR")
    if has_artefact("pet", index):
        write_foreign_modality(ct, layout.folder(21, "PET AC"), headers, "PET")
    write_stray_files(files[0].parent, files, index)


def write_study(
    index: int, *, root: Path, seed: int, devices: tuple[str, ...], matrix: int
) -> tuple[list[Row], list[Row]]:
    """Write the study of one patient, and give its truth and label rows."""
    patient, name = sample_patient(seed, index), devices[index % len(devices)]
    device = DEVICES[name]
    headers = headers_of(patient, device, seed)
    layout = layout_of(root, patient, headers.study.uid)
    pixel = FIELD_OF_VIEW_MM / matrix
    spacing = (pixel, pixel, device.thickness_mm)
    ct, labels = render(patient, device, spacing_mm=spacing, matrix=matrix, seed=seed)
    blocks = {"patient": headers.patient, "study": headers.study, "name": layout.name}
    files = write_series(ct, layout.folder(2, headers.series.description), series=headers.series, **blocks)
    if has_artefact("thick", index):
        thickness = 2 * device.thickness_mm
        thick = headers.other("thick", 3, f"Abdomen {thickness:g} thick", thickness_mm=thickness)
        write_series(thicker(ct), layout.folder(3, thick.description), series=thick, **blocks)
    if has_artefact("sharp", index):
        kernel = device.sharp_kernel
        series = headers.other("sharp", 4, f"Abdomen {device.thickness_mm:g} {kernel.name}", kernel=kernel.name)
        sharp, _ = render(patient, device, spacing_mm=spacing, matrix=matrix, seed=seed, kernel=kernel)
        write_series(sharp, layout.folder(4, series.description), series=series, **blocks)
    _write_artefacts(ct, patient, headers, layout, files)
    return truth_rows(patient, name, headers, labels), label_rows(patient, name, seed)


def _map(job: Callable, indices: Sequence[int], workers: int) -> Iterator:
    if workers <= 1:
        yield from map(job, indices)
        return
    # Fork: a spawned process would run the calling script again.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, fork, initializer=end_with, initargs=(os.getpid(),)) as pool:
        yield from pool.map(job, indices)


def write_archive(
    folder: Path,
    *,
    seed: int,
    first_patient: int = 0,
    patients: int,
    devices: Sequence[str],
    matrix: int = 512,
    workers: int = 1,
) -> None:
    """Write ``archive/``, ``labels.csv`` and ``truth.parquet`` into a folder.

    Parameters
    ----------
    folder : Path
        What it holds under these three names is replaced, once everything is written.
    seed : int
        Same seed, same bytes.
    first_patient, patients : int
        Patients ``first_patient .. first_patient + patients - 1`` of the seed's population.
    devices : sequence of str
        Keys of `DEVICES`, given to patients in turn.
    matrix : int
        Rows and columns of an image; the field of view is 410 mm.
    workers : int
        Processes.
    """
    partial_folder = folder / ".partial"
    shutil.rmtree(partial_folder, ignore_errors=True)
    root = partial_folder / "archive"
    root.mkdir(parents=True)
    job = partial(write_study, root=root, seed=seed, devices=tuple(devices), matrix=matrix)
    indices = range(first_patient, first_patient + patients)
    rows = list(progress(_map(job, indices, workers), what="synthetic archive", unit="studies", total=patients))
    truth, labels = ([row for pair in rows for row in pair[kind]] for kind in (0, 1))
    pq.write_table(pa.Table.from_pylist(truth, TRUTH_SCHEMA), partial_folder / "truth.parquet", compression="zstd")
    with (partial_folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, LABEL_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(labels)
    shutil.rmtree(folder / "archive", ignore_errors=True)
    for name in ("archive", "truth.parquet", "labels.csv"):
        (partial_folder / name).replace(folder / name)
    partial_folder.rmdir()
