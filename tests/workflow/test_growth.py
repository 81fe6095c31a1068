"""An archive that grows and is corrected, run again and again, gives the tables of one run from nothing."""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from small_site import MASKS, Site, hospital, tables, write_settings

YEARS_AGO = 1_500_000_000  # in seconds since 1970: older than any result
FIRST, PATIENTS = 9, 5
# A study that moved to a new shard has another one than in a run from nothing.
DIFFERS = ["shard"]


def place_of(dataset: pydicom.Dataset) -> Path:
    """Give the folder of a file in an archive of five levels: year, month, patient, study, series."""
    series = f"{dataset.StudyInstanceUID[-6:]}/{dataset.SeriesInstanceUID[-6:]}"
    return Path("2026/11", f"{dataset.PatientID[-2:]}", series)


class Archive:
    """The files that arrive one after another, and the archive into which they are put.

    Parameters
    ----------
    waiting : Path
        Folder with files of synthetic patients, in any order.
    folder : Path
        The archive's top folder.
    """

    def __init__(self, waiting: Path, folder: Path) -> None:
        self.folder = folder
        self.of_patient: dict[int, list[Path]] = {}
        for file in sorted(waiting.rglob("*")):
            with suppress(InvalidDicomError, IsADirectoryError):
                self.of_patient.setdefault(
                    int(pydicom.dcmread(file, stop_before_pixels=True).PatientID[-2:]), []
                ).append(file)

    def put(self, files: Iterable[Path], **changes: str) -> None:
        """Put files into the archive, with some attributes changed."""
        for file in files:
            dataset = pydicom.dcmread(file)
            for keyword, text in changes.items():
                setattr(dataset, keyword, text)
            target = self.folder / place_of(dataset) / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(target)

    def change(self, patient: int, **changes: str) -> None:
        """Change attributes of all files of a patient in place."""
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                dataset = pydicom.dcmread(file)
                if dataset.PatientID.endswith(f"{patient:02d}"):
                    for keyword, text in changes.items():
                        setattr(dataset, keyword, text)
                    dataset.save_as(file)

    def axial(self, patient: int) -> list[Path]:
        """List the slices of a patient's axial series, in order of their height."""
        files = [(pydicom.dcmread(file, stop_before_pixels=True), file) for file in self.of_patient[patient]]
        slices = [(dataset, file) for dataset, file in files if "B30f" in dataset.get("SeriesDescription", "")]
        return [file for _, file in sorted(slices, key=lambda pair: float(pair[0].ImagePositionPatient[2]))]


def older(file: Path) -> None:
    os.utime(file, (YEARS_AGO, YEARS_AGO))


def new_uids(archive: Archive, files: Iterable[Path], **changes: str) -> None:
    """Put files into the archive as another study: all UIDs are new, the pixels are not."""
    study, series = generate_uid(entropy_srcs=["study"]), generate_uid(entropy_srcs=["series"])
    for number, file in enumerate(files):
        instance = generate_uid(entropy_srcs=[str(number)])
        archive.put([file], StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID=instance, **changes)


@pytest.fixture
def site(repository: Path, tmp_path: Path) -> Site:
    """A site whose archive is still empty, beside a folder with all files that will arrive."""
    folder = tmp_path / "site"
    hospital(folder / "arriving", first_patient=FIRST, patients=PATIENTS)
    (folder / "archive").mkdir()
    shutil.copytree(repository / "models", folder / "models")
    write_settings(
        folder,
        ["hospital archive labels.csv external"],
        index={"shard_size": 2},
        segment=MASKS,
        evaluate={"bootstrap": 100},
        aggregate={"verdicts": "verdicts.csv"},
    )
    return Site(folder, repository)


def labels(site: Site, *without: int) -> None:
    """Write the labels of all patients but some, as a file that was unpacked with an old time."""
    lines = (site.folder / "arriving/labels.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(tuple(f"SYN-{number:07d}" for number in without))]
    (site.folder / "labels.csv").write_text("\n".join(kept) + "\n")
    older(site.folder / "labels.csv")


def verdicts(site: Site, *lines: str) -> None:
    (site.folder / "verdicts.csv").write_text("\n".join(["study_id,level,verdict,new_level", *lines]) + "\n")
    older(site.folder / "verdicts.csv")


def rows(site: Site, name: str, cohort: str = "hospital") -> list[dict]:
    return pq.ParquetFile(site.folder / f"results/tables/{name}/cohort={cohort}/{name}.parquet").read().to_pylist()


def from_nothing(site: Site) -> Site:
    """Run the workflow on a copy of the final archive without any result, with the names that were given before."""
    again = Site(site.folder.with_name("again"), site.repository)
    again.folder.mkdir()
    for name in (
        "site.yaml",
        "cohorts.tsv",
        "archive",
        "label_maps",
        "models",
        "labels.csv",
        "verdicts.csv",
        "private",
    ):
        copy = shutil.copytree if (site.folder / name).is_dir() else shutil.copy2
        copy(site.folder / name, again.folder / name)
    for owner in again.folder.glob("private/*/owner*"):
        owner.unlink()
    again.run()
    return again


def same_but_for_shards(site: Site, again: Site) -> None:
    before, after = tables(site.folder), tables(again.folder)
    assert before.keys() == after.keys()
    for name, table in after.items():
        grown, at_once = (rows.to_pandas().drop(columns=DIFFERS, errors="ignore") for rows in (before[name], table))
        # In the last digits a network's values depend on how many vertebrae it is given at once.
        pd.testing.assert_frame_equal(grown, at_once, rtol=1e-5, obj=name)


def test_an_archive_that_grew_and_was_corrected_gives_the_tables_of_one_run(site):
    folder, archive = site.folder, Archive(site.folder / "arriving/archive", site.folder / "archive")
    labels(site, 10)
    verdicts(site)
    mask_of_10 = max(folder.glob("label_maps/*"), key=lambda path: path.name.endswith("07788581.nii.gz"))
    hidden = shutil.move(mask_of_10, folder / "mask_that_comes_later")
    slices = archive.axial(9)
    archive.put(slices[: len(slices) // 2])
    archive.put(archive.of_patient[10])
    archive.put(archive.of_patient[11])
    site.run()
    reasons = {row["reason"] for row in rows(site, "studies")}
    assert "mask_missing" in reasons
    first = {row["study_id"]: row["patient_id"] for row in rows(site, "studies")}

    # Growth by patient, study, series and slice, five levels down; Snakemake's own memory is gone.
    shutil.rmtree(folder / ".snakemake")
    shutil.move(hidden, mask_of_10)
    older(mask_of_10)
    archive.put(archive.of_patient[12])
    same_person = pydicom.dcmread(archive.axial(11)[0], stop_before_pixels=True)
    archive.put(
        archive.of_patient[13],
        **{keyword: same_person.get(keyword) for keyword in ("PatientID", "PatientSex", "PatientBirthDate")},
    )
    archive.put([file for file in archive.of_patient[9] if file not in slices])
    archive.put(slices[len(slices) // 2 :])
    labels(site)
    site.run()
    studies = rows(site, "studies")
    assert [row["reason"] for row in studies if row["status"] != "measured"] == []
    assert first.items() <= {row["study_id"]: row["patient_id"] for row in studies}.items()
    assert len(studies) == PATIENTS and len(rows(site, "patients")) == PATIENTS - 1

    # A corrected id, an issuer, a study under two ids, verdicts, and a second cohort over the same archive.
    people = {row["study_id"]: row["patient_id"] for row in studies}
    archive.change(12, PatientID="CORRECTED-12")
    archive.change(9, IssuerOfPatientID="HOSPITAL")
    new_uids(archive, archive.axial(10), PatientID="TWIN-10")
    with (folder / "cohorts.tsv").open("a") as file:
        file.write("again\tarchive\tlabels.csv\tscreening\n")
    verdicts(site, *(f"{study},L1,reject," for study in people.keys() - first.keys()))
    site.run()
    studies = rows(site, "studies")
    assert people.items() <= {row["study_id"]: row["patient_id"] for row in studies}.items()
    reviewed = pq.ParquetFile(folder / "results/tables/verdicts/verdicts.parquet").read()
    assert reviewed["status"].to_pylist() == ["used"] * 2 * len(people.keys() - first.keys())  # in both cohorts
    assert [row["reason"] for row in studies if row["status"] != "measured"] == ["same_scan"]
    measured = [row for row in rows(site, "patients") if row["vbmd_mg_cm3"] is not None]
    assert len(measured) == PATIENTS - 1
    summary = (folder / "results/report/index.html").read_text()
    assert re.search(rf"\b{PATIENTS - 1} patients have a result", summary)
    assert "Nothing to be done" in site.run("--dry-run")
    same_but_for_shards(site, from_nothing(site))
