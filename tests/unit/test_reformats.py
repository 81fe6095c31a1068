"""Series in other directions than across the body: refused, or measured in place where a study has nothing else."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from made_headers import DEFAULTS, GATES, WEIGHTS, stack

from trabecula import crop, index, tables
from trabecula.cohort.pseudonym import SYNTHETIC_KEY
from trabecula.convert.shard import write_shard
from trabecula.image.levels import CODE_OF_LEVEL, POSTERIOR
from trabecula.image.volume import Volume, read_nifti, resample
from trabecula.index import choose
from trabecula.measure import measure_vertebra
from trabecula.phantom import DEVICES, render, sample_patient
from trabecula.phantom.dicom import PatientAttributes, SeriesAttributes, StudyAttributes, make_uid, write_series
from trabecula.runtime.defaults import default_of

SAGITTAL, CORONAL = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]
ACCEPTING = replace(GATES, reformats="accept")
MEASURED = ("L1", "L2", "L3")


def lying(orientation: list[float], n: int = 80, **changes):
    """Make a stack whose slices follow each other along their normal, 1 mm apart."""
    normal = np.cross(orientation[:3], orientation[3:])
    parts = stack(n, orientation=orientation, **changes)
    headers = (part._replace(positions_mm=[*(normal * k)]) for k, part in enumerate(parts.headers))
    return replace(parts, headers=tuple(headers))


@pytest.mark.parametrize("orientation", [SAGITTAL, CORONAL])
def test_a_reformat_is_refused_by_its_directions_and_accepted_where_the_configuration_says_so(orientation):
    reformat = lying(orientation)  # 80 mm from side to side, 410 mm along the body
    assert reformat.first.image_type == "ORIGINAL\\PRIMARY\\AXIAL"
    assert choose.reasons_against(reformat, GATES) == ["not_axial"]
    assert choose.reasons_against(reformat, ACCEPTING) == []
    assert choose.flags_of(reformat, ACCEPTING) == ["reformat"]
    assert choose.length_mm(reformat) == pytest.approx(512 * 0.8)


def test_the_length_of_a_reformat_is_that_along_the_body():
    assert choose.reasons_against(lying(SAGITTAL, rows=100), ACCEPTING) == ["too_short"]
    assert choose.reasons_against(lying(SAGITTAL, n=130, rows=130), ACCEPTING) == []


def test_every_axial_stack_goes_before_a_reformat():
    thick = stack(30, 5.0, image_type="DERIVED\\SECONDARY\\VMI", description="40 keV")
    assert choose.best([lying(SAGITTAL), thick], ACCEPTING, WEIGHTS) is thick


class Scan(NamedTuple):
    studies: list[dict]
    series: list[dict]
    ct: Volume | None


@pytest.fixture(scope="module")
def rendered() -> tuple[Volume, Volume]:
    """A patient and the true labels, 2 mm along the body."""
    device = next(iter(DEVICES.values()))
    spacing_mm = (500 / 192, 500 / 192, 2.0)
    return render(sample_patient(20240, 3), device, spacing_mm=spacing_mm, matrix=192, seed=1)


def run(folder: Path, ct: Volume, *planes: str, **gates) -> Scan:
    """Write a study with series in planes, all of which say AXIAL; index it, and convert what was chosen."""
    study = StudyAttributes(make_uid("study"), date(2020, 1, 2), make_uid("frame"))
    patient = PatientAttributes("HOSPITAL-1", "Muster^Maria", date(1950, 1, 2), "F")
    for number, plane in enumerate(planes):
        attributes = SeriesAttributes(make_uid("series", plane), number)
        write_series(ct, folder / "archive" / plane, patient=patient, study=study, series=attributes, plane=plane)  # pyright: ignore[reportArgumentType]
    cohort = index.Cohort("test", True, folder / "archive", None, folder / "results/test", folder / "private")
    options = DEFAULTS | {"workers": 1, "gates": DEFAULTS["gates"] | gates, "max_gap_mm": 10}
    index.index_cohort(cohort, scheduler=None, **options)
    studies, series = (
        tables.read(cohort.public / f"index/{name}.parquet", tables.PUBLIC[name]).to_pylist()
        for name in ("studies", "series")
    )
    manifests = sorted((cohort.public / "shards").glob("*.tsv"))
    for manifest in manifests:
        write_shard(
            *(manifest, cohort.private / "test/linkage.parquet"),
            **{"cohort": "test", "key": SYNTHETIC_KEY, "folder": folder / "ct", "table": folder / "convert.parquet"},
            **{"max_gap_mm": 10, "file_format": "nii"},
        )
    volumes = [read_nifti(path) for path in sorted((folder / "ct").glob("*.nii"))]
    return Scan(studies, series, volumes[0] if volumes else None)


def trabecular_hu(ct: Volume, labels: Volume) -> dict[str, float | None]:
    """Crop and measure some vertebrae of a scan, with labels on its grid."""
    keys = {"cohort": "c", "patient_id": "p", "study_id": "s", "segmenter": "x", "level_confidence": None}
    rows = [keys | {"level": level, "level_uncertain": False, "level_flags": []} for level in MEASURED]
    options = {
        name: default_of(f"measure.{name}") for name in ("erosion_mm", "endplate_mm", "metal_hu", "min_volume_mm3")
    }
    cubes = crop.cut_study(ct, labels, rows, size=64, spacing_mm=1.0)
    measurements = [measure_vertebra(cube, spacing_mm=1.0, **options) for cube in cubes]
    return {cube.level: m.trabecular_hu_mean for cube, m in zip(cubes, measurements, strict=True)}


def test_a_sagittal_series_alone_is_refused(rendered, tmp_path):
    scan = run(tmp_path, rendered[0], "sagittal")
    assert [(study["status"], study["reason"]) for study in scan.studies] == [("rejected", "not_axial")]
    assert scan.ct is None


def test_beside_an_axial_series_a_sagittal_one_is_not_chosen(rendered, tmp_path):
    scan = run(tmp_path, rendered[0], "axial", "sagittal", reformats="accept")
    assert [series["flags"] for series in scan.series if series["accepted"]] == [[]]
    assert [series["reason"] for series in scan.series if series["flags"]] == ["not_chosen"]


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_a_reformat_that_is_all_there_is_gives_the_same_figures_as_axial_slices(rendered, tmp_path, plane):
    ct, labels = rendered
    scan = run(tmp_path, ct, plane, reformats="accept")
    assert [(study["status"], study["flags"]) for study in scan.studies] == [("accepted", ["reformat"])]
    assert scan.ct is not None
    # The same voxels at the same places in the patient.
    on_grid = resample(labels, scan.ct.array.shape, scan.ct.affine, outside=0, how="nearest")
    same = resample(ct, scan.ct.array.shape, scan.ct.affine, outside=0, how="nearest")
    np.testing.assert_array_equal(scan.ct.array, np.rint(same.array).clip(-1024))
    codes = {CODE_OF_LEVEL[level] + part for level in MEASURED for part in (0, POSTERIOR)}
    assert codes <= set(np.unique(on_grid.array))
    upright, turned = trabecular_hu(ct, labels), trabecular_hu(scan.ct, on_grid)
    assert list(turned) == list(MEASURED)
    for level in MEASURED:
        assert turned[level] == pytest.approx(upright[level], abs=0.5)
