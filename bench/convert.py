"""Measure the cost of turning a series into NIfTI, beside dcm2niix, SimpleITK and dicom2nifti, and their agreement.

Run it as ``PYTHONPATH=workflow python bench/convert.py``; see bench/README.md.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
from measure import Contender, Figures, child, ratio

SCRIPT = __file__
TARGETS = {"work": 0.5, "peak_mb": 100, "shard": 0.6}
DISTINCT = 8  # studies of a shard that are files of their own

# --- DICOM with noise and structure, so that compression has work ----------------------------------------------


def write_series(folder: str, slices: str, side: str, number: str) -> None:
    """Write a CT of a trunk with a spine and noise."""
    import numpy as np

    rng = np.random.default_rng(int(number))
    dataset, n, z_mm = _header(int(number), int(side)), int(slices), 1.0
    row, column = np.meshgrid(*[np.linspace(-1, 1, int(side), dtype=np.float32)] * 2, indexing="ij")
    body = (row / 0.65) ** 2 + (column / 0.9) ** 2 < 1
    lungs = ((row + 0.1) / 0.35) ** 2 + ((np.abs(column) - 0.42) / 0.28) ** 2 < 1
    bone = ((row - 0.35) / 0.1) ** 2 + (column / 0.12) ** 2 < 1
    for k in range(n):
        tissue = 45 + 15 * np.sin(9 * row + 0.05 * k) * np.cos(7 * column)
        hu = np.where(body, np.where(lungs, -830, np.where(bone, 230, tissue)), -1000)
        hu += rng.normal(0, 18, hu.shape).astype(np.float32)
        dataset.PixelData = (np.rint(hu).clip(-1024, 3071) + 1024).astype("<i2").tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SeriesInstanceUID}.{k}"
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = ["-170.25", "-182.5", f"{-350 + k * z_mm:.2f}"]
        dataset.SliceLocation = dataset.ImagePositionPatient[2]
        dataset.save_as(Path(folder) / f"{k:04d}.dcm", enforce_file_format=True)


def _header(number: int, side: int) -> Any:
    """Make a data set with all attributes that the slices have in common."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset, uid = Dataset(), f"1.2.826.0.1.3680043.8.498.{number + 1}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20200102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101112"
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = "CT", "SIEMENS", "SOMATOM Definition AS+"
    dataset.PatientName, dataset.PatientID = f"Bench^{number}", f"BENCH{number}"
    dataset.KVP, dataset.SliceThickness, dataset.ConvolutionKernel = "120", "1", "B30f"
    dataset.BodyPartExamined, dataset.ProtocolName, dataset.PatientPosition = "CHEST", "Trunk", "HFS"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = uid, f"{uid}.1", f"{uid}.0"
    dataset.SeriesNumber, dataset.AcquisitionNumber = 2, 1
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = side
    dataset.PixelSpacing = [f"{360 / side:.6f}"] * 2
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_studies(folder: str, studies: str, slices: str, side: str) -> None:
    """Write a shard's studies, a folder for each; those after the first few are links to them, to spare the disk."""
    for number in range(int(studies)):
        study = Path(folder) / f"{number:03d}"
        study.mkdir()
        if number < DISTINCT:
            write_series(str(study), slices, side, str(number))
            continue
        for path in (Path(folder) / f"{number % DISTINCT:03d}").iterdir():
            (study / path.name).hardlink_to(path)


# --- the contenders: each imports its packages, and gives its work as a function ------------------------------------


def ours() -> Callable[..., None]:
    """Load headers, stacks and volumes of this workflow, for one folder or several."""
    from trabecula.cohort.linked import Linked
    from trabecula.cohort.pseudonym import SYNTHETIC_KEY
    from trabecula.convert import convert_stack
    from trabecula.convert.by_hand import read_folder
    from trabecula.dicom.stacks import stacks_of, without_copies
    from trabecula.runtime.defaults import default_of

    max_gap_mm = default_of("convert.max_gap_mm")

    def work(out: str, ending: str, *folders: str) -> None:
        for folder in folders:
            sound = without_copies(read_folder(Path(folder))).kept
            (stack,) = stacks_of(sound, max_gap_mm=max_gap_mm)
            path = Path(out) / f"{Path(folder).name}.{ending}"
            convert_stack(Linked(list(stack.headers)), path, max_gap_mm=max_gap_mm, key=SYNTHETIC_KEY)

    return work


def simpleitk() -> Callable[..., None]:
    """Load SimpleITK's reader of series."""
    import SimpleITK as sitk

    def work(folder: str, path: str) -> None:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
        sitk.WriteImage(reader.Execute(), path, useCompression=path.endswith(".gz"))

    return work


def dicom2nifti_series() -> Callable[..., None]:
    """Load dicom2nifti, which is not to turn the axes."""
    from dicom2nifti import dicom_series_to_nifti

    def work(folder: str, path: str) -> None:
        dicom_series_to_nifti(folder, path, reorient_nifti=False)

    return work


def agreement() -> Callable[..., list[float]]:
    """Load a comparison of two NIfTI files: the largest difference of voxels, and of the corners' places in mm.

    Axes may run either way: both are turned to RAS+ first.
    """
    import nibabel
    import numpy as np

    def work(path: str, other_path: str) -> list[float]:
        a, b = (nibabel.as_closest_canonical(nibabel.load(file)) for file in (path, other_path))
        if a.shape != b.shape:
            return [float("nan"), float("nan")]
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.shape], (1,))).reshape(4, -1)
        differences = (np.abs(a.dataobj[:, :, k].astype(float) - b.dataobj[:, :, k]).max() for k in range(a.shape[2]))
        apart = np.linalg.norm(((a.affine - b.affine) @ corners)[:3], axis=0).max()
        return [float(max(differences)), float(apart)]

    return work


def dcm2niix_program() -> Callable[..., str]:
    """Find the program itself: the package's script would start Python for it."""
    import dcm2niix

    return lambda: dcm2niix.bin


LOADERS = {
    "write_series": lambda: write_series,
    "write_studies": lambda: write_studies,
    "ours": ours,
    "simpleitk": simpleitk,
    "dicom2nifti": dicom2nifti_series,
    "agreement": agreement,
    "dcm2niix": dcm2niix_program,
}

# --- one series ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """A contender, the ending of the file that it writes, and the name of our contender that writes the same kind."""

    contender: Contender
    ending: str
    like: str

    @property
    def written(self) -> Path | None:
        """Find the volume that a run has written."""
        assert self.contender.out is not None
        return next(iter(sorted(self.contender.out.glob(f"*.{self.ending}"))), None)


OURS = {"nii": "ours, .nii", "nii.gz": "ours, .nii.gz"}
# Options that write the same kind as ours, and besides dcm2niix's own default: level 6, which is slow.
DCM2NIIX = {"nii": "dcm2niix -z n", "nii.gz": "dcm2niix -1 -z i"}
DCM2NIIX_SLOW = "dcm2niix -z i"


def routes(series: Path, folder: Path, dcm2niix: str | None) -> list[Route]:
    """List all routes from a series to a file; those of packages that are absent are left out."""
    listed = []

    def add(name: str, ending: str, command: Callable[[Path], list[str]]) -> None:
        out = folder / f"route{len(listed)}"
        listed.append(Route(Contender(name, [command(out)], out), ending, OURS[ending]))

    for ending, name in OURS.items():
        add(name, ending, lambda out, ending=ending: _ours(folder, ending, out, [series]))
    for ending, name in [*DCM2NIIX.items(), ("nii.gz", DCM2NIIX_SLOW)] if dcm2niix else ():
        add(name, ending, lambda out, name=name: _dcm2niix(dcm2niix, name, out, series))
    for ending in OURS if measure.is_installed("SimpleITK") else ():
        add(f"SimpleITK, .{ending}", ending, lambda out, ending=ending: _peer(folder, "simpleitk", ending, out, series))
    if measure.is_installed("dicom2nifti"):
        add("dicom2nifti, .nii", "nii", lambda out: _peer(folder, "dicom2nifti", "nii", out, series))
    return listed


def _ours(folder: Path, ending: str, out: Path, series: list[Path]) -> list[str]:
    return child(SCRIPT, "ours", out, ending, *series, first=(folder, ending, folder / "small"))


def _peer(folder: Path, loader: str, ending: str, out: Path, series: Path) -> list[str]:
    first = (folder / "small", folder / f"small.{ending}")
    return child(SCRIPT, loader, series, out / f"series.{ending}", first=first)


def _dcm2niix(program: str | None, name: str, out: Path, series: Path) -> list[str]:
    # Without the sidecar, which we do not write either.
    return [str(program), *name.split()[1:], "-b", "n", "-f", series.name, "-o", str(out), str(series)]


def one_series(folder: Path, dcm2niix: str | None, arguments: argparse.Namespace) -> list[str]:
    """Measure one series by every route."""
    series = folder / "series"
    series.mkdir()
    measure.ask(child(SCRIPT, "write_series", series, arguments.slices, arguments.side, 0))
    measure.warm(series)
    size = sum(path.stat().st_size for path in series.iterdir())
    ways = routes(series, folder, dcm2niix)
    floor = Contender("floor: the files into one", [["sh", "-c", f"cat '{series}'/* > '{folder}/floor'"]])
    figures_of = measure.measured([*(way.contender for way in ways), floor], arguments.repeats)
    (folder / "floor").unlink()
    rows = [_row_of_route(way, figures_of, ways[0]) for way in ways]
    rows.append([floor.name, *_figures(figures_of[floor.name]), "", f"{size / measure.MB:.0f}", "", ""])
    head = ["route", *_HEAD, "times ours, like output", "MB written", "voxels differ by", "corners differ by, mm"]
    return [
        f"## One series: {arguments.slices} slices of {arguments.side} x {arguments.side}, {size / measure.MB:.0f} MB",
        "",
        *measure.table(head, rows),
        "",
        *_beside_targets(figures_of),
        "",
    ]


_HEAD = ("CPU s, whole process", "CPU s without imports", "wall s", "peak MB (imports)")


def _figures(figures: Figures) -> list[str]:
    return [figures.cpu(), figures.work(), f"{figures.wall_s:.2f}", figures.peak()]


def _row_of_route(way: Route, figures_of: dict[str, Figures], first: Route) -> list[str]:
    figures = figures_of[way.contender.name]
    times = f"{ratio(figures, figures_of[way.like]):.1f}"
    if way.written is None or first.written is None:
        return [way.contender.name, *_figures(figures), times, "nothing", "", ""]
    differences = measure.ask(child(SCRIPT, "agreement", first.written, way.written))
    size = f"{way.written.stat().st_size / measure.MB:.0f}"
    return [way.contender.name, *_figures(figures), times, size, *(f"{number:.3g}" for number in differences)]


def _beside_targets(figures_of: dict[str, Figures]) -> list[str]:
    lines = []
    for ending, name in OURS.items():
        theirs = DCM2NIIX[ending]
        if theirs in figures_of:
            part = ratio(figures_of[name], figures_of[theirs])
            lines.append(f"- {name}: {part:.2f} of {theirs}, CPU without imports (target: at most {TARGETS['work']}).")
        peak = figures_of[name].peak_mb
        lines.append(f"- {name}: peak {peak:.0f} MB, imports among it (target: at most {TARGETS['peak_mb']}).")
    return lines


# --- a shard ---------------------------------------------------------------------------------------------------------


def one_shard(folder: Path, dcm2niix: str | None, arguments: argparse.Namespace) -> list[str]:
    """Measure many studies: one process of ours for all, and a process of dcm2niix for each."""
    studies = folder / "studies"
    studies.mkdir()
    measure.ask(
        child(SCRIPT, "write_studies", studies, arguments.studies, arguments.study_slices, arguments.study_side)
    )
    measure.warm(studies)
    size = sum(path.stat().st_size for path in studies.rglob("*.dcm"))
    contenders = _shard_contenders(sorted(studies.iterdir()), folder, dcm2niix)
    figures_of = measure.measured(contenders, arguments.repeats)
    head, rows = ["shard", *_HEAD, "times ours, whole process"], []
    ours_like = {name: OURS[ending] for names in (OURS, DCM2NIIX) for ending, name in names.items()}
    for name, figures in figures_of.items():
        times = ratio(figures, figures_of[ours_like[name]], whole=True)
        rows.append([name, *_figures(figures), f"{times:.1f}"])
    slices = f"{arguments.study_slices} slices of {arguments.study_side} x {arguments.study_side}"
    return [
        f"## A shard: {arguments.studies} studies of {slices}, {size / measure.MB:.0f} MB",
        "",
        *measure.table(head, rows),
        "",
        *_shard_beside_targets(figures_of),
        "",
    ]


def _shard_contenders(studies: list[Path], folder: Path, dcm2niix: str | None) -> list[Contender]:
    contenders = []
    for ending, name in OURS.items():
        out = folder / f"shard{len(contenders)}"
        contenders.append(Contender(name, [_ours(folder, ending, out, studies)], out))
    for ending in OURS if dcm2niix else ():
        name, out = DCM2NIIX[ending], folder / f"shard{len(contenders)}"
        contenders.append(Contender(name, [_dcm2niix(dcm2niix, name, out, study) for study in studies], out))
    return contenders


def _shard_beside_targets(figures_of: dict[str, Figures]) -> list[str]:
    lines = []
    for ending, name in OURS.items():
        theirs = DCM2NIIX[ending]
        if theirs in figures_of:
            part = ratio(figures_of[name], figures_of[theirs], whole=True)
            lines.append(f"- {name}: {part:.2f} of {theirs}, whole processes (target: at most {TARGETS['shard']}).")
    return lines


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--slices", type=int, default=400, help="slices of the one series; 0 leaves it out")
    parser.add_argument("--side", type=int, default=512, help="rows and columns of the one series")
    parser.add_argument("--studies", type=int, default=64, help="studies of the shard; 0 leaves it out")
    parser.add_argument("--study-slices", type=int, default=60, help="slices of each")
    parser.add_argument("--study-side", type=int, default=256, help="rows and columns of each")
    parser.add_argument("--repeats", type=int, default=3, help="runs of everything")
    parser.add_argument("--out", type=Path, help="file for the report, too")
    arguments = parser.parse_args()
    measure.on_one_core()
    dcm2niix = measure.ask(child(SCRIPT, "dcm2niix")) if measure.is_installed("dcm2niix") else None
    lines = ["# bench/convert", ""]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small").mkdir()
        measure.ask(child(SCRIPT, "write_series", Path(folder) / "small", 8, 32, 0))
        if arguments.slices:
            lines += one_series(Path(folder), dcm2niix, arguments)
        if arguments.studies:
            lines += one_shard(Path(folder), dcm2niix, arguments)
    lines += measure.machine(["dcm2niix", "SimpleITK", "dicom2nifti", "pydicom", "nibabel", "isal", "numpy"])
    measure.publish(lines, arguments.out)


if __name__ == "__main__" and not measure.is_child(LOADERS):
    main()
