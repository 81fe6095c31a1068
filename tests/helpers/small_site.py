"""A working directory of the workflow, small, and how to run it there."""

import os
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
from pydicom.errors import InvalidDicomError

from trabecula.phantom import write_archive

SEED = 20240
LONGEST_S = 1800
# Logs of what follows the shards, in a site with a cohort of a hospital and one that was made.
LAST = {"aggregate.log", "evaluate.log", "hospital/report.log", "made/report.log", "report_summary.log"}
# What headers of hospitals say of persons and places, and synthetic ones don't.
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


@dataclass(frozen=True)
class Site:
    """A working directory, and the copy of the repository whose Snakefile runs in it.

    Attributes
    ----------
    folder : Path
        Holds the archive, the configuration and all that the workflow writes.
    repository : Path
        Copy of the repository; a test may edit it.
    within : tuple of str
        What is put before the command of a run.
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
        """Run Snakemake to its end, which has to be a good one; returns what it said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, said
        return said

    def fails(self, *arguments: str) -> str:
        """Run Snakemake, which has to fail; returns what it said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode != 0, said
        return said

    def ran(self, *arguments: str) -> set[str]:
        """Run Snakemake; returns the logs, and so the jobs, that it wrote."""
        before = times(self.folder, "logs/**/*.log")
        self.run(*arguments)
        after = times(self.folder, "logs/**/*.log")
        return {log.removeprefix("logs/") for log, time in after.items() if time != before.get(log)}


def environment() -> dict[str, str]:
    """Variables for a run of Snakemake: this Python's programs first, one thread per job."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": programs, "OMP_NUM_THREADS": "1"}


def times(folder: Path, *patterns: str) -> dict[str, int]:
    """Times of change of a folder's files, in nanoseconds, by relative path."""
    files = (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def tables(folder: Path) -> dict[str, pa.Table]:
    """Every public table of a site but the record of the run, by relative path."""
    files = [file for file in folder.glob("results/tables/**/*.parquet") if file.name != "runs.parquet"]
    assert files
    return {str(file.relative_to(folder)): pq.ParquetFile(file).read() for file in files}


def same_tables(site: Site, undisturbed: Site) -> None:
    """Every public table but the record of the run is that of the undisturbed run."""
    expected, found = tables(undisturbed.folder), tables(site.folder)
    assert expected.keys() == found.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root")


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[None]:
    """A file system for as long as the block lasts."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, str(at)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """A disk without room for another byte, for as long as the block lasts."""
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
    write_archive(
        folder, seed=SEED, first_patient=first_patient, patients=patients, devices=["alpha"], matrix=128, workers=2
    )
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


def write_settings(folder: Path, cohorts: Sequence[str], **options: object) -> None:
    """Write site.yaml and cohorts.tsv; blanks in the lines of cohorts become tabs."""
    lines = ["cohort archive labels role", *cohorts]
    (folder / "cohorts.tsv").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    (folder / "site.yaml").write_text(yaml.safe_dump({"cohorts": "cohorts.tsv", **options}))
