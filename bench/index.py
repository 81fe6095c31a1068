"""Measure how fast headers are read, in files per CPU-second beside pydicom and GDCM, and what a large archive costs.

Run it as ``PYTHONPATH=workflow python bench/index.py``; see bench/README.md.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import measure
from measure import Contender, Figures, child, ratio

SCRIPT = __file__
SERIES_SLICES = 125
TARGET_PER_S = 10_000
OURS = "ours: walk, parse, table"

# --- an archive with headers as scanners write them ----------------------------------------------------------

# Maker, model, kernels, root of its UIDs, name of its private groups, decimals of positions.
SCANNERS = (
    ("GE MEDICAL SYSTEMS", "LightSpeed VCT", ("STANDARD", "BONE"), "1.2.840.113619.2.55.3.2831868886.391", "GEMS", 6),
    ("SIEMENS", "SOMATOM Definition AS+", ("B30f", "I70f\\3"), "1.3.12.2.1107.5.1.4.66151.300000180306", "SIEMENS", 7),
    ("Philips", "iCT 256", ("B", "YA"), "1.2.840.113704.1.111.5208", "ELSCINT1", 2),
    ("TOSHIBA", "Aquilion ONE", ("FC08", "FC30"), "1.2.392.200036.9116.2.6.1.48.1215", "TOSHIBA", 3),
)
_OF_A_SERIES = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "StudyDate": "20190417",
    "AcquisitionDate": "20190417",
    "ContentDate": "20190417",
    "StudyTime": "101502.734000",
    "SeriesTime": "101711.250000",
    "AccessionNumber": "A0042317",
    "Modality": "CT",
    "InstitutionName": "General Hospital",
    "ReferringPhysicianName": "Referrer^Rita",
    "StationName": "CT01",
    "StudyDescription": "CT THORAX ABDOMEN PELVIS",
    "InstitutionalDepartmentName": "Radiology",
    "OperatorsName": "Operator^Otto",
    "PatientName": "Doe^Jane",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientBirthDate": "19510203",
    "PatientSex": "F",
    "PatientAge": "068Y",
    "PatientWeight": "71.5",
    "ContrastBolusAgent": "OMNIPAQUE 350",
    "BodyPartExamined": "CHEST_ABDOMEN",
    "ScanOptions": "HELICAL MODE",
    "SliceThickness": "1.25",
    "KVP": "120",
    "DataCollectionDiameter": "500",
    "SoftwareVersions": "syngo 07MW18.4",
    "ProtocolName": "5.1 Thorax/Abdomen/Pelvis",
    "ReconstructionDiameter": "360",
    "DistanceSourceToDetector": "949.075",
    "DistanceSourceToPatient": "541.0",
    "GantryDetectorTilt": "0",
    "TableHeight": "162.5",
    "RotationDirection": "CW",
    "ExposureTime": "600",
    "FocalSpots": "1.2",
    "PatientPosition": "HFS",
    "TotalCollimationWidth": 40.0,
    "SpiralPitchFactor": 1.375,
    "StudyID": "4711",
    "SeriesNumber": "2",
    "AcquisitionNumber": "1",
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 16,
    "Columns": 16,
    "PixelSpacing": ["0.703125", "0.703125"],
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "PixelPaddingValue": -2000,
    "WindowCenter": "40",
    "WindowWidth": "400",
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "PerformedProcedureStepStartDate": "20190417",
    "PixelData": bytes(512),
}


def write_archive(folder: str, files: str, mixed: str) -> int:
    """Write CT headers of several scanners, series by series, and give the number of elements of the last one.

    With `mixed` all lie in one folder under names that say nothing, as in some dumps.
    """
    rng = random.Random(20190417)
    names = [f"{number:08x}" for number in rng.sample(range(1 << 32), int(files))] if mixed else None
    dataset = None
    for number, (series, k, dataset) in enumerate(islice(_slices(rng), int(files))):
        place = Path(folder) / (names[number] if names else f"{series:04d}/{k:04d}.dcm")
        place.parent.mkdir(exist_ok=True)
        dataset.save_as(place, enforce_file_format=True)
    assert dataset is not None
    return len(dataset)


def _slices(rng: random.Random) -> Iterator[tuple[int, int, Any]]:
    """Yield series number, slice number and data set, without end; the slices of a series share a data set."""
    number = 0
    while True:
        dataset, decimals = _series(number, rng)
        start, spacing = rng.uniform(-900, 300), rng.choice((0.625, 1.25, 2.5))
        for k in range(rng.randrange(60, 400)):
            _place(dataset, k, start + k * spacing, decimals, rng)
            yield number, k, dataset
        number += 1


def _series(number: int, rng: random.Random) -> tuple[Any, int]:
    """Make a data set with all attributes that the slices of a series have in common."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    maker, model, kernels, root, group, decimals = SCANNERS[number % len(SCANNERS)]
    dataset = Dataset()
    for keyword, value in _OF_A_SERIES.items():
        setattr(dataset, keyword, value)
    study = f"{root}.{rng.randrange(10 ** rng.randrange(4, 9))}"
    dataset.Manufacturer, dataset.ManufacturerModelName = maker, model
    dataset.ConvolutionKernel = kernels[number // len(SCANNERS) % len(kernels)]
    dataset.SeriesDescription = f"{dataset.ConvolutionKernel} axial {number}"
    dataset.PatientID = f"{rng.randrange(10 ** rng.randrange(5, 9))}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{study}.1", f"{study}.{number + 2}"
    dataset.FrameOfReferenceUID = f"{study}.0"
    dataset.ReferencedStudySequence = [_reference("1.2.840.10008.3.1.2.3.1", dataset.StudyInstanceUID)]
    dataset.RequestAttributesSequence = [Dataset()]
    dataset.RequestAttributesSequence[0].ScheduledProcedureStepID = "SPS004711"
    _add_private(dataset, group, rng)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    # One series in four leaves out the representations, as many archives do.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if number % 4 == 2 else ExplicitVRLittleEndian
    return dataset, decimals


def _reference(sop_class: str, instance: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    return item


def _add_private(dataset: Any, group: str, rng: random.Random) -> None:
    for tag, representation, value in (
        (0x0009, "LO", f"{group} CT"),
        (0x0019, "DS", "1.375"),
        (0x0043, "OB", rng.randbytes(128)),
    ):
        block = dataset.private_block(tag, f"{group}_{tag:04X}_01", create=True)
        for element in (1, 2):
            block.add_new(element, representation, value)


def _place(dataset: Any, k: int, z_mm: float, decimals: int, rng: random.Random) -> None:
    """Set the attributes that differ from slice to slice."""
    dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{rng.randrange(10**6)}.{k}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.InstanceNumber = str(k + 1)
    z = f"{z_mm:.{decimals}f}".rstrip("0").rstrip(".")
    dataset.ImagePositionPatient = ["-180", f"-{170 + k % 3}.5", z]
    dataset.SliceLocation = z
    dataset.AcquisitionTime = dataset.ContentTime = f"1017{k % 60:02d}.{rng.randrange(10**6):06d}"
    dataset.XRayTubeCurrent, dataset.Exposure = str(rng.randrange(80, 500)), str(rng.randrange(9, 300))


# --- the contenders: each imports its packages, and gives its work as a function ------------------------------------


def ours() -> Callable[..., object]:
    """Load walk, parse and table of this workflow."""
    from trabecula.dicom.headers.read import read_headers
    from trabecula.dicom.headers.record import ListedFile
    from trabecula.dicom.headers.table import as_table
    from trabecula.index import scan

    def work(archive: str) -> int:
        files = 0
        for batch in scan.listing(Path(archive)).to_batches(max_chunksize=scan.BATCH):
            listed = map(ListedFile, *(column.to_pylist() for column in batch.columns))
            files += len(as_table(read_headers(archive, listed, archives=False)))
        return files

    return work


def pydicom_values() -> Callable[..., object]:
    """Load pydicom, with the same attributes, values decoded."""
    import pydicom

    def work(archive: str, *keywords: str) -> int:
        # The list that pydicom takes; what it gives is decoded when it is asked for.
        read = [
            [dataset.get(keyword) for keyword in keywords]
            for dataset in (
                pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords)) for path in _files(archive)
            )
        ]
        return len(read)

    return work


def _files(archive: str) -> Iterator[Path]:
    return (path for path in Path(archive).rglob("*") if path.is_file())


def gdcm_scan() -> Callable[..., object]:
    """Load GDCM's scanner, with the same attributes; values stay in its own map, as text."""
    import gdcm

    def work(archive: str, *tags: str) -> int:
        return len(_gdcm_scanned(gdcm, archive, tags)[1])

    return work


def gdcm_values() -> Callable[..., object]:
    """Load GDCM's scanner, which hands its values to Python as text."""
    import gdcm

    def work(archive: str, *tags: str) -> int:
        scanner, files = _gdcm_scanned(gdcm, archive, tags)
        gdcm_tags = [_gdcm_tag(gdcm, tag) for tag in tags]
        return len([[scanner.GetValue(file, tag) for tag in gdcm_tags] for file in files])

    return work


def _gdcm_scanned(gdcm: Any, archive: str, tags: tuple[str, ...]) -> tuple[Any, list[str]]:
    scanner, folder = gdcm.Scanner(), gdcm.Directory()
    for tag in tags:
        scanner.AddTag(_gdcm_tag(gdcm, tag))
    folder.Load(archive, True)
    if not scanner.Scan(folder.GetFilenames()):
        raise RuntimeError("GDCM could not scan the archive")
    return scanner, list(folder.GetFilenames())


def _gdcm_tag(gdcm: Any, tag: str) -> Any:
    return gdcm.Tag(int(tag) >> 16, int(tag) & 0xFFFF)


def check() -> Callable[..., object]:
    """Load a comparison of all values, and of the bytes at the pixel data's offset, with pydicom's."""
    import pydicom

    from trabecula.convert.by_hand import read_folder
    from trabecula.dicom.headers.fields import FIELDS

    def work(archive: str) -> dict[str, Any]:
        differences, headers = [], read_folder(Path(archive))
        for header in headers:
            dataset = pydicom.dcmread(header.path)
            expected = {field.name: _plain(dataset.get(field.keyword), field.kind) for field in FIELDS}
            expected["transfer_syntax"] = dataset.file_meta.TransferSyntaxUID
            expected["reason"] = None
            differences += [name for name, value in expected.items() if getattr(header, name) != value]
            pixels = Path(header.path).read_bytes()[header.pixel_offset :]
            differences += ["pixel_offset"] * (not pixels.startswith(dataset.PixelData))
        return {"files": len(headers), "differences": differences}

    return work


def _plain(value: Any, kind: str) -> Any:
    """Bring a value of pydicom's into the form that our table has for its kind."""
    if value is None or value == "":
        return None
    if kind == "text":
        return "\\".join(map(str, value)) if isinstance(value, list) or hasattr(value, "append") else str(value)
    if kind == "vector":
        return [float(part) for part in value]
    # Padding may be written with a sign or without: our table has its 16 bits.
    return float(value) if kind == "number" else int(value) & 0xFFFF


# --- a large archive -------------------------------------------------------------------------------------------


def write_many(folder: str, files: str, offset: str) -> None:
    """Write many headers: one file's bytes with identifiers and positions put in, all of fixed length."""
    template = _template(Path(folder) / "template")
    for number in range(int(offset), int(offset) + int(files)):
        series, k = divmod(number, SERIES_SLICES)
        place = Path(folder) / f"{series // 100:04d}/{series:06d}"
        if k == 0 or number == int(offset):
            place.mkdir(parents=True, exist_ok=True)
        content = template.replace(_SERIES_MARK, b"%09d" % series).replace(_SLICE_MARK, b"%09d" % k)
        (place / f"{k:04d}.dcm").write_bytes(content.replace(_PLACE_MARK, b"%09.3f" % (1.25 * k)))


_SERIES_MARK, _SLICE_MARK, _PLACE_MARK = b"777777777", b"888888888", b"99999.999"


def _template(path: Path) -> bytes:
    """Give a file's bytes with marks where series, slice and position go."""
    dataset, _ = _series(0, random.Random(0))
    series, k = _SERIES_MARK.decode(), _SLICE_MARK.decode()
    dataset.PatientID = series
    dataset.ContrastBolusAgent = None
    dataset.PixelSpacing = ["20.0", "20.0"]  # 16 pixels, and yet as wide as a body
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{series}", f"1.2.3.{series}.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{series}.1.{k}"
    dataset.ImagePositionPatient = ["-160", "-160", _PLACE_MARK.decode()]
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    path.unlink()
    return content


def walk() -> Callable[..., object]:
    """Load the bare walk."""
    from trabecula.index import scan

    return lambda archive: len(scan.listing(Path(archive)))


def scanned() -> Callable[..., object]:
    """Load the scan that brings the memory of an archive up to date."""
    from trabecula.index import scan

    def work(archive: str, memory: str, workers: str) -> None:
        scan.scan(Path(archive), Path(memory), workers=int(workers), scheduler=None, archives=False)

    return work


def indexed() -> Callable[..., object]:
    """Load the whole stage, with the configuration's defaults."""
    import yaml

    from trabecula import index
    from trabecula.runtime.config import with_defaults

    schema = yaml.safe_load((Path(SCRIPT).parents[1] / "workflow/schemas/config.schema.yaml").read_text())

    def work(archive: str, out: str, workers: str) -> None:
        config = with_defaults({}, schema)
        options = {**config["index"], "workers": int(workers), "max_gap_mm": config["convert"]["max_gap_mm"]}
        del options["watch"]  # decides only when the index runs
        cohort = index.Cohort("bench", False, Path(archive), None, Path(out) / "results", Path(out) / "private")
        index.index_cohort(cohort, scheduler=None, **options)

    return work


LOADERS = {
    "write_archive": lambda: write_archive,
    "write_many": lambda: write_many,
    "tags": lambda: _tags,
    "check": check,
    "ours": ours,
    "pydicom": pydicom_values,
    "gdcm": gdcm_scan,
    "gdcm values": gdcm_values,
    "walk": walk,
    "scanned": scanned,
    "indexed": indexed,
}


def _tags() -> dict[str, int]:
    from trabecula.dicom.headers.fields import FIELDS

    return {field.keyword: field.tag for field in FIELDS}


# --- what is measured --------------------------------------------------------------------------------------------


def compare_readers(archive: Path, arguments: argparse.Namespace) -> list[str]:
    """Measure the headers of one archive by every reader."""
    n_elements = measure.ask(
        child(SCRIPT, "write_archive", archive, arguments.files, "mixed" if arguments.mixed else "")
    )
    tags = measure.ask(child(SCRIPT, "tags"))
    measure.warm(archive)
    checked = measure.ask(child(SCRIPT, "check", archive))
    figures_of = measure.measured(_readers(archive, tags), arguments.repeats)
    best = figures_of[OURS]
    head, rows = ["reader", *_HEAD, "times ours"], []
    for name, figures in figures_of.items():
        rows.append([name, *_row(figures, arguments.files), f"{ratio(figures, best):.1f}"])
    differing = ", ".join(sorted(set(checked["differences"]))) or "none"
    return [
        f"## Headers of {arguments.files} files of {n_elements} elements{', in one folder' if arguments.mixed else ''}",
        "",
        *measure.table(head, rows),
        "",
        f"- {len(tags)} attributes of each. Values of ours that differ from pydicom's, over {checked['files']} files: "
        f"{len(checked['differences'])} ({differing}).",
        f"- Ours reads {arguments.files / best.work_s:,.0f} files per CPU-second (target: at least {TARGET_PER_S:,}).",
        "",
    ]


_HEAD = ("CPU s, whole process", "CPU s without imports", "files per CPU-s", "wall s", "peak MB (imports)")


def _row(figures: Figures, files: int) -> list[str]:
    rate = f"{files / figures.work_s:,.0f}"
    return [figures.cpu(), figures.work(), rate, f"{figures.wall_s:.2f}", figures.peak()]


def _readers(archive: Path, tags: dict[str, int]) -> list[Contender]:
    readers = [_reader(OURS, "ours", archive), _reader("pydicom, decoded values", "pydicom", archive, *tags)]
    if measure.is_installed("gdcm"):
        readers.append(_reader("gdcm.Scanner", "gdcm", archive, *tags.values()))
        readers.append(_reader("gdcm.Scanner, values to Python", "gdcm values", archive, *tags.values()))
    return readers


def _reader(name: str, loader: str, archive: Path, *arguments: object) -> Contender:
    small = archive.with_name("small")
    return Contender(name, [child(SCRIPT, loader, archive, *arguments, first=(small, *arguments))])


def measure_growth(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Measure the index of a large archive and of a quarter of it, and a second scan."""
    whole, quarter, n_quarter = folder / "whole", folder / "whole/quarter", arguments.million // 4
    quarter.mkdir(parents=True)
    measure.ask(child(SCRIPT, "write_many", quarter, n_quarter, 0))
    measure.ask(child(SCRIPT, "write_many", whole, arguments.million - n_quarter, n_quarter))
    measure.warm(whole)
    work, loader = ("scan", "scanned") if arguments.scan_only else ("index", "indexed")
    rows = []
    for files, archive in ((n_quarter, quarter), (arguments.million, whole)):
        out = folder / f"out{files}"
        first = (folder / "small", folder / "out", 1)
        contender = Contender(work, [child(SCRIPT, loader, archive, out, arguments.workers, first=first)], out)
        figures = measure.measured([contender], arguments.million_repeats)[work]
        rows.append([f"{work} of {files:,} new files", *_row(figures, files)])
    memory = out if arguments.scan_only else out / "private/bench/files"
    again = child(SCRIPT, "scanned", whole, memory, arguments.workers, first=(folder / "small", folder / "out", 1))
    second = Contender("second scan, nothing changed", [again])
    figures_of = measure.measured([second, _reader("bare walk", "walk", whole)], arguments.repeats)
    rows += [[name, *_row(figures, arguments.million)] for name, figures in figures_of.items()]
    return [
        f"## {arguments.million:,} files, {arguments.workers} worker{'s' * (arguments.workers > 1)}",
        "",
        *measure.table(["", *_HEAD], rows),
        "",
        f"- Second scan to bare walk, without imports: {ratio(*figures_of.values()):.2f}.",
        "",
    ]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=5000, help="files for the comparison of readers; 0 leaves it out")
    parser.add_argument("--mixed", action="store_true", help="these files in one folder, in no order")
    parser.add_argument("--million", type=int, default=0, metavar="N", help="also index N files, such as 100000")
    parser.add_argument("--scan-only", action="store_true", help="with --million: the scan without choice and tables")
    parser.add_argument("--workers", type=int, default=1, help="with --million: processes that read side by side")
    parser.add_argument("--million-repeats", type=int, default=1, help="runs of the first index of N files")
    parser.add_argument("--repeats", type=int, default=5, help="runs of everything else")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    arguments = parser.parse_args()
    if arguments.workers == 1:
        measure.on_one_core()
    lines = ["# bench/index", ""]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("small", "archive"):
            (Path(folder) / name).mkdir()
        measure.ask(child(SCRIPT, "write_archive", Path(folder) / "small", 8, ""))
        if arguments.files:
            lines += compare_readers(Path(folder) / "archive", arguments)
        if arguments.million:
            lines += measure_growth(Path(folder), arguments)
    lines += measure.machine(["pydicom", "python-gdcm", "pyarrow", "duckdb"])
    measure.publish(lines, arguments.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
