"""The readers of foreign input, each as a function of some bytes that returns, or raises on forbidden behaviour.

A target makes whole inputs, from which a search begins, and the function that reads one. That function accepts
the package's answers to bad input (`TrabeculaError`, reasons) and no other error, and checks the result.
"""

import gzip
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import yaml
from ct_files import axial_stack, compressed, enhanced, save, save_as
from nnunet_folders import HU_OF_LEVEL
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from seg_files import BODY, FRAME, Described, blocks, scan_around, write_seg
from snakemake.common.configfile import load_configfile
from toy_bundle import CUBES, write_toy

from trabecula import tables
from trabecula.cohort import verdicts
from trabecula.cohort.labels.read import read_labels
from trabecula.cohort.registry import Names
from trabecula.convert.by_hand import convert_folder
from trabecula.dicom.headers.read import read_headers
from trabecula.dicom.headers.record import Header, ListedFile
from trabecula.dicom.headers.table import as_table
from trabecula.dicom.quiet import quiet
from trabecula.errors import REASONS, StudyFailure, TrabeculaError
from trabecula.image.codings import CODINGS
from trabecula.image.levels import CODE_OF_LEVEL, LEVEL_OF_CODE
from trabecula.image.volume import Volume, read_nifti, write_nifti
from trabecula.index import choose
from trabecula.index.rows import Rules, failure_rows, judge, label_rows
from trabecula.model import bundle, bundle_checks
from trabecula.runtime.config import read_cohorts, with_defaults
from trabecula.segment import masks

Run = Callable[[bytes], None]
Target = Callable[[Path], tuple[list[bytes], Run]]

SCHEMA: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml").read_text())
INDEX = with_defaults({}, SCHEMA)["index"]
KEY = bytes(32)
SHAPE = (6, 5)


def _slices(n: int) -> list[Dataset]:
    return axial_stack(n, shape=SHAPE)


def _files(folder: Path) -> list[bytes]:
    """Write the same slice in every form that a file may have, and files with several slices or none."""
    dataset = _slices(1)[0]
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ContrastBolusAgent = "Jod"
    dataset.PatientAge = "045Y"
    save(dataset, folder / "plain")
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        save_as(dataset, folder / syntax.name, syntax)
    save_as(dataset, folder / "packed", RLELossless, [compressed(dataset, RLELossless)])
    frames = enhanced(_slices(2))
    frames.Rows, frames.Columns = SHAPE
    save(frames, folder / "frames")
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("in/plain"), (folder / "plain").read_bytes())  # without a time
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _beside(folder: Path) -> Path:
    """Write a folder of three slices to which a fourth belongs."""
    for number, dataset in enumerate(_slices(4)[1:], start=1):
        save(dataset, folder / f"{number:03d}")
    return folder


def index(folder: Path) -> tuple[list[bytes], Run]:
    """Test the reader of headers, and the index of a file beside three others of its series."""
    archive = _beside(folder / "archive")
    gates = choose.Gates(**INDEX["gates"] | {"min_slices": 2, "min_extent_mm": 2}, max_gap_mm=10)
    rules = Rules("fuzz", Names(KEY), gates, choose.Weights(**INDEX["score"]), archive)
    names = [path.name for path in sorted(archive.iterdir())]
    beside = read_headers(str(archive), [ListedFile(name, 9999, 1) for name in names], archives=False)

    def run(data: bytes) -> None:
        (archive / "000").write_bytes(data)
        read = read_headers(str(archive), [ListedFile("000", len(data), 1)], archives=True)
        assert read and all(header.reason is None or header.reason in REASONS for header in read)
        rows = as_table([*read, *beside]).to_pylist()
        judged = judge((Header(**row) for row in rows), rules)
        tables.cast(judged.series, tables.SERIES)
        tables.cast([row | {"days_from_first_study": None, "shard": None} for row in judged.studies], tables.STUDIES)
        tables.cast(failure_rows("fuzz", judged.lost), tables.FAILURES)
        assert sum(row["n_slices"] or 0 for row in judged.series) + judged.lost.total() >= 3

    return _files(folder / "seeds"), run


def convert(folder: Path) -> tuple[list[bytes], Run]:
    """Test the conversion of a folder of slices with one foreign file."""
    inputs, out = _beside(folder / "in"), folder / "out"

    def run(data: bytes) -> None:
        (inputs / "000").write_bytes(data)
        shutil.rmtree(out, ignore_errors=True)
        entries = convert_folder(inputs, out)
        assert entries == json.loads((out / "convert.json").read_text())
        written = {path.name for path in out.iterdir()} - {"convert.json"}
        assert written == {entry["file"] for entry in entries if entry["status"] == "ok"}
        for name in written:
            volume = read_nifti(out / name)
            assert volume.array.ndim == 3 and np.isfinite(volume.affine).all()

    return _files(folder / "seeds"), run


LABELS = [
    "patient_id,study_date,level,vbmd,unit,device\n"
    "A1,2020-01-31,L1,101.5,mg/cm3 HA,QCT\nA1,2020-01-31,L2,99,mg/cm3 K2HPO4,\n",
    'patient_id;study_date;level;vbmd;unit\n"A;1";2020-02-30;L1-L3;"101,5";mg/cm3 HA\n\n',
    "\ufeffpatient_id\tstudy_date\tlevel\tvbmd\tunit\r\nA2\t31.01.2020\tlws 1\t-3\tT-score\r\n",
    "study_id,level,verdict,new_level,centroid_z_mm,comment\nst1,L1,relabel,L2,-12.5,why\nst1,L2,reject,,,\n",
]


def labels(folder: Path) -> tuple[list[bytes], Run]:
    """Test the readers of the hospital's labels and of the reviewers' verdicts."""
    folder.mkdir(parents=True, exist_ok=True)
    path, patients, first = folder / "file.csv", {"pa1": "A1"}, {"pa1": date(2020, 1, 1)}

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            rows = label_rows("fuzz", read_labels(path), patients, first, ambiguous=set(), names=Names(KEY))
        except TrabeculaError as error:
            assert str(error)
        else:
            assert all((row["reason"] is None) == (row["status"] == "used") for row in rows)
            tables.cast(rows, tables.LABELS)
        try:
            judged = verdicts.read(path)
        except TrabeculaError as error:
            assert str(error)
        else:
            assert set(judged["reason"].dropna()) <= REASONS.keys()

    return [text.encode() for text in LABELS], run


COHORTS = "cohort\tarchive\tlabels\trole\nward\tHERE\tHERE/labels.csv\texternal\nscreen\tHERE\t\tscreening\n"
CONFIG = """\
cohorts: cohorts.tsv
model: null
index: {shard_size: 64, gates: {min_slices: 20, min_extent_mm: 1.5e2}, archives: true}
segment: {backend: masks, masks: {folder: maps, coding: verse}}
train: {tasks: [classification, regression], folds: 5, hu_window: [-200, 600]}
phantom: {seed: 1, cohorts: {made: {patients: 2, devices: [alpha], matrix: 128}}}
dask: {scheduler: "tcp://127.0.0.1:8786"}
"""


def config(folder: Path) -> tuple[list[bytes], Run]:
    """Test the readers of the configuration (first byte c) and of the table of cohorts (anything else)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(LABELS[0])
    path = folder / "file"

    def run(data: bytes) -> None:
        path.write_bytes(data[1:].replace(b"HERE", bytes(folder)))
        try:
            if data[:1] == b"c":
                chosen = with_defaults(loaded(), SCHEMA)
                assert chosen.keys() == SCHEMA["properties"].keys()
            else:
                assert all(cohort.name for cohort in read_cohorts(path, {"made": {}}).values())
        except TrabeculaError as error:
            assert str(error)

    def loaded() -> dict[str, Any]:
        try:
            return load_configfile(str(path))
        except Exception:  # Snakemake's own reader, which is none of ours
            return {}

    return [b"c" + CONFIG.encode(), b"t" + COHORTS.encode()], run


def _same_every_time(path: Path) -> bytes:
    """Replace the random UIDs and the times of a SEG object by fixed ones, and give its bytes."""
    seg, uids = pydicom.dcmread(path), {}

    def fixed(dataset: Dataset, element: DataElement) -> None:
        if element.VR == "UI" and str(element.value).startswith("1.2.826.0.1.3680043.10.511.3."):
            element.value = uids.setdefault(element.value, f"1.2.3.{len(uids)}")
        elif element.VR in ("DA", "TM", "DT"):
            element.value = ""

    seg.walk(fixed)
    seg.save_as(path)
    return path.read_bytes()


def mask(folder: Path) -> tuple[list[bytes], Run]:
    """Test the readers of label maps: NIfTI, compressed NIfTI (first byte g, or z: compressed here), SEG (d)."""
    folder.mkdir(parents=True, exist_ok=True)
    ct = scan_around()
    array = np.zeros((8, 8, 12), np.uint16)
    for number, level in enumerate(list(HU_OF_LEVEL)[:2]):
        array[2:6, 2:6, 1 + 5 * number : 5 + 5 * number] = CODE_OF_LEVEL[level]
    write_nifti(Volume(array, np.diag([3.0, 3.0, 2.0, 1.0])), folder / "seed.nii")
    plain = (folder / "seed.nii").read_bytes()
    described: list[Described] = [("L2 body", BODY, []), ("L1 body", BODY, [])]
    seg = _same_every_time(write_seg(folder / "seg/m.dcm", blocks(2), described))
    names = {b"z": "m.nii.gz", b"g": "m.nii.gz", b"d": "m.dcm"}

    def run(data: bytes) -> None:
        kind, content = data[:1], data[1:]
        path = folder / names.get(kind, "m.nii")
        path.write_bytes(gzip.compress(content, 1) if kind == b"z" else content)
        try:
            label_map, levels = masks.segment(ct, path, coding=CODINGS["verse"], frame_of_reference=FRAME)
        except StudyFailure as failure:
            assert failure.reason in REASONS
        else:
            assert label_map.array.shape == ct.array.shape
            assert {level.name for level in levels} <= set(LEVEL_OF_CODE.values())

    return [b"n" + plain, b"z" + plain, b"g" + gzip.compress(plain, mtime=0), b"d" + seg], run


def model(folder: Path) -> tuple[list[bytes], Run]:
    """Test the readers of a bundle with one foreign file; the first byte chooses the file."""
    whole, toy = folder / "whole", folder / "toy"
    write_toy(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    shutil.copytree(whole, toy)

    def run(data: bytes) -> None:
        name = files[(data or b"\0")[0] % len(files)]
        (toy / name).write_bytes(data[1:])
        try:
            bundle_checks.check_bundle(toy, **CUBES)
            read = bundle.read(toy)
            bundle.check_weights(read)
            splits = bundle.read_splits(read)
        except TrabeculaError as error:
            assert str(error)
        else:
            assert set(splits.values()) <= set(read.folds)
        finally:
            shutil.copy(whole / name, toy / name)

    return [struct.pack("B", i) + (whole / name).read_bytes() for i, name in enumerate(files)], run


def _quiet(target: Target) -> Target:
    """Silence pydicom, which warns of every odd value."""

    def prepared(folder: Path) -> tuple[list[bytes], Run]:
        seeds, run = target(folder)

        def silent(data: bytes) -> None:
            with quiet():
                run(data)

        return seeds, silent

    return prepared


TARGETS: dict[str, Target] = {
    "index": _quiet(index),
    "convert": _quiet(convert),
    "labels": labels,
    "config": config,
    "mask": _quiet(mask),
    "model": model,
}
