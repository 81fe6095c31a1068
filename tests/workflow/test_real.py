"""The whole workflow over real CT from public collections, as one messy archive.

Nothing here was made by this project; what is known of each scan was read by eye (levels.csv) or by other software.
"""

import csv
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from trabecula import phantom
from trabecula.image.levels import CODE_OF_LEVEL, ORDER
from trabecula.image.volume import Volume, read_nifti

BODIES = "totalseg_example/spine_report/test_result/totalseg_vertebrae_pp_refined.nii.gz"


def run(home: Path, folder: Path, cohorts: list[tuple[str, Path]], *extra: str) -> None:
    """Run the workflow in a folder over screening cohorts."""
    lines = ["cohort\tarchive\tlabels\trole", *(f"{name}\t{archive}\t\tscreening" for name, archive in cohorts)]
    (folder / "cohorts.tsv").write_text("\n".join(lines) + "\n")
    command = ["snakemake", "-s", home / "Snakefile", "--directory", folder, "--cores", "2", *extra]
    done = subprocess.run([*command, "--config", "cohorts=cohorts.tsv"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def results(home: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the workflow ran over the real archive and over the labelled scan written as DICOM."""
    folder = tmp_path_factory.mktemp("real")
    labelled = folder / "labelled" / "series"
    write_totalseg_example(real_data, labelled)
    keep = ["--notemp"]  # the label maps are compared below
    run(home, folder, [("real", real_data.resolve()), ("labelled", labelled.parent)], *keep)
    return folder


def write_totalseg_example(real_data: Path, folder: Path) -> None:
    """The labelled NIfTI as DICOM, with the project's own writer."""
    ct = read_nifti(real_data / "totalseg_example" / "example_ct.nii.gz")
    clipped = np.clip(ct.array, -1024, 3071).astype(np.int16)
    uid = "2.25.{}".format
    phantom.write_series(
        Volume(clipped, ct.affine),
        folder,
        patient=phantom.PatientAttributes("LABELLED", "Labelled^Scan"),
        study=phantom.StudyAttributes(uid(1), date(2024, 1, 1), uid(2)),
        series=phantom.SeriesAttributes(uid(3)),
    )


def query(results: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(results / "results/tables/trabecula.duckdb"), read_only=True) as database:
        return database.execute(sql).fetchall()


def study_of(results: Path, part_of_path: str) -> str:
    """Pseudonym of the study whose files lie under a folder."""
    linkage = pq.read_table(results / "private/real/linkage.parquet").to_pylist()
    studies = {row["study_id"] for row in linkage if any(part_of_path in file for file in row["files"])}
    assert len(studies) == 1, studies
    return studies.pop()


def known_levels(real_data: Path) -> Iterator[dict[str, str]]:
    with (real_data / "levels.csv").open(newline="") as file:
        yield from csv.DictReader(file)


@pytest.mark.parametrize("name", ["crlm_ct_1004", "crlm_ct_1006"])
def test_every_complete_body_is_found_within_its_slices(results: Path, real_data: Path, name: str) -> None:
    """Level names may be off by one where they say that they are uncertain."""
    files = (real_data / name / "dicom").glob("*.dcm")
    z_mm = sorted(float(pydicom.dcmread(f, stop_before_pixels=True).ImagePositionPatient[2]) for f in files)
    study = study_of(results, f"{name}/")
    vertebrae = query(
        results,
        "SELECT level, level_uncertain, centroid_z_mm, complete, trabecular_hu_mean "
        f"FROM vertebrae WHERE study_id = '{study}'",
    )
    for row in known_levels(real_data):
        if row["set"] != name or row["complete"] != "yes":
            continue
        low, high = (np.interp(float(row[edge]), range(len(z_mm)), z_mm) for edge in ("slice_low", "slice_high"))
        inside = [vertebra for vertebra in vertebrae if low <= vertebra[2] <= high]
        assert len(inside) == 1, (row["level"], vertebrae)
        level, uncertain, _, complete, hu = inside[0]
        assert complete and hu is not None, inside
        off = abs(ORDER.index(level) - ORDER.index(row["level"]))
        if "T" in level + row["level"] and "L" in level + row["level"]:
            off -= 1  # T13 stands between T12 and L1
        assert off == 0 or (off <= 1 and uncertain), inside
        assert uncertain or not row["also"], "an ambiguous level has to say so"


def test_the_labelled_scan_is_outlined_and_named(results: Path, real_data: Path) -> None:
    """This scan was in the network's training: a check that nothing broke, not of how well new scans go."""
    (study,) = query(results, "SELECT study_id, shard FROM studies WHERE cohort = 'labelled'")
    labels = read_nifti(results / f"results/labelled/segment/{study[1]}/{study[0]}.nii.gz")
    truth = read_nifti(real_data / BODIES)
    # Both are on the same 3 mm grid, whatever the order of their axes.
    voxels = np.argwhere(truth.array > 0)
    low = voxels.min(axis=0) - 8
    grid = np.indices(tuple(voxels.max(axis=0) + 8 - low)).reshape(3, -1).T + low
    inside = np.all((grid >= 0) & (grid < truth.array.shape), axis=1)
    grid = grid[inside]
    true = truth.array[tuple(grid.T)]
    at = np.rint(labels.to_voxels(truth.to_mm(grid))).astype(int)
    predicted = labels.array[tuple(at.T)]
    for level in ("L1", "L2", "L3", "L4", "L5"):
        a, b = predicted == CODE_OF_LEVEL[level], true == CODE_OF_LEVEL[level]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) >= 0.85, level


def test_the_labelled_scan_counts_once_as_dicom_and_as_nifti(results: Path) -> None:
    """The archive holds it as NIfTI too; which of the two counts depends on the key."""
    nifti = study_of(results, "totalseg_example/example_ct.nii.gz")
    rows = query(
        results, f"SELECT status, reason, flags FROM studies WHERE cohort = 'labelled' OR study_id = '{nifti}'"
    )
    assert sorted(row[:2] for row in rows) == [("failed", "same_scan"), ("measured", None)]
    assert all(("same_scan" in row[2]) == (row[0] == "measured") for row in rows)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("chest_ct/c3l_00189_lungbase", ("measured", None)),
        ("chest_ct/cip_ct64", ("measured", None)),
        ("chest_ct/cmb_crc_01068", ("measured", None)),
        ("chest_ct/lungdx_a0002_b40", ("rejected", "too_thick")),
        ("chest_ct/lungfcp_0001", ("rejected", "too_short")),
        ("no_spine_ct/niivue_head_phantom", ("failed", "implausible_hu")),
        ("no_spine_ct/niivue_iguana", ("rejected", "too_short")),
        ("no_spine_ct/niivue_vessels_only", ("failed", "implausible_hu")),
        ("verse19/sub-verse007_ct", ("measured", None)),
        ("verse19/sub-verse008_ct", ("measured", None)),
    ],
)
def test_a_nifti_scan_is_measured_or_refused_with_its_reason(
    results: Path, name: str, outcome: tuple[str, str | None]
) -> None:
    study = study_of(results, f"{name}.nii.gz")
    assert query(results, f"SELECT status, reason FROM studies WHERE study_id = '{study}'") == [outcome]


def test_every_other_series_has_a_reason_and_no_file_is_lost(results: Path, real_data: Path) -> None:
    accepted = query(results, "SELECT count(*) FROM series WHERE cohort = 'real' AND accepted")[0][0]
    silent = query(results, "SELECT count(*) FROM series WHERE NOT accepted AND reason IS NULL")[0][0]
    assert silent == 0 and accepted >= 2
    unexplained = query(
        results, "SELECT count(*) FROM studies WHERE status <> 'measured' AND (reason IS NULL OR stage IS NULL)"
    )[0][0]
    assert unexplained == 0
    linkage = pq.read_table(results / "private/real/linkage.parquet", columns=["files"]).to_pylist()
    in_series = sum(len(row["files"]) for row in linkage)
    in_failures = query(results, "SELECT coalesce(sum(n_files), 0) FROM failures WHERE cohort = 'real'")[0][0]
    on_disk = sum(1 for path in real_data.rglob("*") if path.is_file())
    assert in_series + in_failures == on_disk
