"""A small working directory of the workflow, and ways to run the workflow there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from kept import kept
from pydicom.errors import InvalidDicomError

from trabecula.image.volume import write_nifti
from trabecula.phantom import render, sample_patient, write_archive
from trabecula.phantom.devices import DEVICES
from trabecula.phantom.dicom import make_uid
from trabecula.phantom.render import FIELD_OF_VIEW_MM

SEED, MATRIX = 20240, 128
# Of the hospital's pseudonyms, so that they, and all that is sorted by them, are the same in every run of the tests.
KEY = "5e" * 32
LONGEST_S = 1800
# Logs of the jobs after the shards, in a site with a hospital's cohort and a synthetic cohort.
LAST = {"aggregate.log", "evaluate.log", "hospital/report.log", "made/report.log", "report_summary.log"}
# Put before a command, so that it runs in a network namespace of its own, which has nothing but a loopback; that is
# still down: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING, see netdevice(7).
_LOOPBACK_ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as loopback:
    fcntl.ioctl(loopback, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITHOUT_NETWORK = ("unshare", "--net", sys.executable, "-c", _LOOPBACK_ALONE)
# Attributes by which hospitals' headers name persons and places, and synthetic headers don't.
SAID_BY_A_HOSPITAL = {
    "ReferringPhysicianName": "Refferal^Ruth",
    "OperatorsName": "Opperator^Otto",
    "InstitutionName": "Holy Example Hospital",
    "InstitutionAddress": "17 Example Avenue",
    "DeviceSerialNumber": "SERIAL-90817",
    "PatientAddress": "4 Sample Lane",
    "OtherPatientIDs": "INSURANCE-5566",
    "PatientComments": "brother of Jonny",
}
# How the name of a folder in a hospital's archive begins.
IDENTIFYING = "Exxample Jane"
# Label maps that are there already: the shipped network takes ten times as long as all other stages together.
MASKS = {"backend": "masks", "masks": "label_maps/{study_instance_uid}.nii.gz", "coding": "canonical"}
# Files and folders that decide how synthetic patients look.
PHANTOM = [
    *(f"workflow/trabecula/{part}" for part in ("phantom", "density", "image")),
    *("envs/requirements.txt", "tests/helpers/small_site.py"),
]
# A training of twelve patients, as short as it can be.
TRAIN = {
    "name": "toy",
    "network": "small",
    "folds": 2,
    "random_repeats": 0,
    "leave_one_device_out": False,
    "validation_fraction": 0.4,
    "epochs": 2,
    "roi_size": 32,
    "roi_spacing_mm": 2.0,
    "scan_inputs": ["kvp"],
}
# The patients of that training.
TRAINED = {"first_patient": 20, "patients": 12, "devices": ["alpha", "beta"]}


@dataclass(frozen=True)
class Site:
    """A working directory, and the copy of the repository whose Snakefile runs in it.

    Attributes
    ----------
    folder : Path
        It holds the archive, the configuration and all that the workflow writes.
    repository : Path
        Copy of the repository; a test may edit it.
    within : tuple of str
        Words before the command of a run.
    """

    folder: Path
    repository: Path
    within: tuple[str, ...] = ()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake in a session of its own, so that it can be killed with all its jobs."""
        command = [sys.executable, "-m", "snakemake", "-s", str(self.repository / "Snakefile")]
        command += ["--directory", str(self.folder), "--configfile", str(self.folder / "site.yaml"), "--cores", "2"]
        return subprocess.Popen(
            [*self.within, *command, *arguments],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        """Run Snakemake, which must succeed; give its output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, output
        return output

    def fails(self, *arguments: str) -> str:
        """Run Snakemake, which must fail; give its output."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode != 0, output
        return output

    def ran(self, *arguments: str) -> set[str]:
        """Run Snakemake; give the logs that it wrote, which name its jobs."""
        before = times(self.folder, "logs/**/*.log")
        self.run(*arguments)
        after = times(self.folder, "logs/**/*.log")
        return {log.removeprefix("logs/") for log, time in after.items() if time != before.get(log)}


def environment() -> dict[str, str]:
    """Give the variables for a run of Snakemake: this Python's programs first, one thread per job."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": programs, "OMP_NUM_THREADS": "1"}


def times(folder: Path, *patterns: str) -> dict[str, int]:
    """Give the times of change of a folder's files, in nanoseconds, by relative path."""
    files = (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def tables(folder: Path) -> dict[str, pa.Table]:
    """Read every public table of a site but the record of the run, by relative path."""
    files = [file for file in folder.glob("results/tables/**/*.parquet") if file.name != "runs.parquet"]
    assert files
    return {str(file.relative_to(folder)): pq.ParquetFile(file).read() for file in files}


def same_tables(site: Site, undisturbed: Site) -> None:
    """Check that every public table but the record of the run is the same as in the undisturbed run."""
    expected, actual = tables(undisturbed.folder), tables(site.folder)
    assert expected.keys() == actual.keys()
    for name, table in expected.items():
        assert actual[name].equals(table), name


root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root")


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """Mount a file system for as long as the block lasts."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill a disk to the last byte, for as long as the block lasts."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


def hospital(folder: Path, *, first_patient: int, patients: int) -> None:
    """Write an archive and labels as a hospital would have them: not known to the workflow as synthetic."""
    who = {"first_patient": first_patient, "patients": patients, "devices": ["alpha"]}
    write_archive(folder, seed=SEED, matrix=MATRIX, workers=2, **who)
    add_label_maps(folder.parent, **who)
    archive = folder / "archive"
    for file in sorted(archive.rglob("*")):
        if file.is_file() and file.suffix == ".dcm":
            with suppress(InvalidDicomError):
                dataset = pydicom.dcmread(file)
                for keyword, text in SAID_BY_A_HOSPITAL.items():
                    setattr(dataset, keyword, text)
                dataset.save_as(file)
    for number, place in enumerate(sorted(archive.iterdir())):
        place.rename(archive / f"{IDENTIFYING} {number}")


def add_label_maps(site: Path, *, first_patient: int, patients: int, devices: Sequence[str]) -> None:
    """Put the true label maps of synthetic studies into a site's folder, each under its study's UID (see `MASKS`)."""

    def write(folder: Path) -> None:
        pixel_mm = FIELD_OF_VIEW_MM / MATRIX
        for index in range(first_patient, first_patient + patients):
            device = DEVICES[devices[index % len(devices)]]
            spacing_mm = (pixel_mm, pixel_mm, device.thickness_mm)
            _, labels = render(sample_patient(SEED, index), device, spacing_mm=spacing_mm, matrix=MATRIX, seed=SEED)
            write_nifti(labels, folder / f"{make_uid('trabecula', SEED, index, device.model)}.nii.gz")

    name = f"label_maps-{first_patient}-{patients}-{'-'.join(devices)}"
    shutil.copytree(kept(name, write, PHANTOM), site / "label_maps", dirs_exist_ok=True)


def write_settings(folder: Path, cohorts: Sequence[str], **options: object) -> None:
    """Write site.yaml, cohorts.tsv and the key; blanks in the lines of cohorts become tabs."""
    lines = ["cohort archive labels role", *cohorts]
    (folder / "cohorts.tsv").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    (folder / "site.yaml").write_text(yaml.safe_dump({"cohorts": "cohorts.tsv", **options}))
    key = folder / "private/key"
    key.parent.mkdir(mode=0o700, exist_ok=True)
    key.write_text(KEY)
    key.chmod(0o600)


def set_option(site: Site, section: str, **options: object) -> None:
    """Change options of a section in the site's configuration."""
    path = site.folder / "site.yaml"
    chosen = yaml.safe_load(path.read_text())
    chosen[section] = chosen.get(section, {}) | options
    path.write_text(yaml.safe_dump(chosen))
