"""DICOM objects of results: bodies lie where they were, figures are the tables', and a real PACS takes them."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from exported import LEVELS, RUN, SPACING_MM, STARTED, Cohort, cohort

from trabecula import errors
from trabecula.export import grid, objects, terms
from trabecula.export.identity import as_uid
from trabecula.segment.dicom_seg import read_seg

UID_ROOTS = ("2.25.", "1.2.840.10008.", "1.2.826.0.1.3680043.9.7433.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Write the objects of two scans as the rule does."""
    place = tmp_path_factory.mktemp("dicom")
    objects.write_objects(cohort().objects(place / "tables"), place / "made")
    return place / "made"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.dcm"))


def body_mm(crop) -> np.ndarray:
    """Give the (n, 3) places of a body's voxels in RAS+ millimetres."""
    return np.argwhere(crop.label == crop.code) * SPACING_MM + (
        np.array(crop.centroid_mm) - (np.array(crop.label.shape) - 1) / 2 * SPACING_MM
    )


def ordered(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.rint(points * 1000).T)]


def measured(group: pydicom.Dataset) -> dict[tuple[str, ...], float]:
    """Read the figures of a measurement group, by name, derivation and method."""
    return {
        (item.ConceptNameCodeSequence[0].CodeMeaning, *sorted(part.ConceptCodeSequence[0].CodeMeaning
         for part in item.get("ContentSequence", []))): float(item.MeasuredValueSequence[0].NumericValue)
        for item in group.ContentSequence if item.ValueType == "NUM"
    }  # fmt: skip


def groups(report: pydicom.Dataset) -> dict[str, pydicom.Dataset]:
    """Read the measurement groups of a report, by tracking identifier."""
    whole = next(item for item in report.ContentSequence if item.ValueType == "CONTAINER")
    return {
        next(
            part.TextValue
            for part in group.ContentSequence
            if part.ValueType == "TEXT" and part.ConceptNameCodeSequence[0].CodeMeaning == "Tracking Identifier"
        ): group
        for group in whole.ContentSequence
    }


def limits(group: pydicom.Dataset) -> set[str]:
    return {
        item.ConceptCodeSequence[0].get("CodeValue") or item.ConceptCodeSequence[0].LongCodeValue
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].get("CodeValue") == "limitation"
    }


def test_a_body_lies_where_it_was(folder):
    """Every voxel of a body is there, moved with the whole body by half a voxel at most."""
    source = cohort()
    for study_id in set(source.studies["study_id"].to_pylist()):
        seg = highdicom.seg.segread(folder / study_id / "seg.dcm")
        for crop in (crop for crop in source.crops if crop.study_id == study_id):
            (number,) = (n for n in seg.segment_numbers if seg.get_segment_description(n).tracking_id == crop.level)
            volume = seg.get_volume(segment_numbers=[number])
            voxels = np.argwhere(volume.array.reshape(volume.spatial_shape))
            there = volume.map_indices_to_reference(voxels) * [-1, -1, 1]
            shift = ordered(there) - ordered(body_mm(crop))
            np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-6)
            assert np.abs(shift).max() <= SPACING_MM / 2 + 1e-6


def test_the_reader_of_foreign_segmentations_understands_ours(folder):
    """The reader finds the same levels, as bodies, of the same size."""
    source = cohort()
    study_id = source.crops[0].study_id
    scan = read_seg(folder / study_id / "seg.dcm")
    sizes = {structure.code: int((scan.labels.array == number).sum()) for number, structure in scan.structures.items()}
    assert not any(structure.whole for structure in scan.structures.values())
    assert sizes == {c.code: int((c.label == c.code).sum()) for c in source.crops if c.study_id == study_id}


def test_segments_name_their_levels_in_snomed(folder):
    seg = highdicom.seg.segread(files(folder)[0])
    regions = {segment.SegmentLabel: segment.AnatomicRegionSequence[0].CodeValue for segment in seg.SegmentSequence}
    # browser.ihtsdotools.org: T12, L1 and L2 vertebra.
    assert regions == {"T12 body": "23215003", "L1 body": "66794005", "L2 body": "14293000"}


def test_the_report_holds_the_tables_figures(folder):
    source = cohort()
    for scan in source.studies.to_pylist():
        report = pydicom.dcmread(folder / scan["study_id"] / "sr.dcm")
        by_level = groups(report)
        region, body = "Trabecular region of the vertebral body", "Vertebral body"
        for row in source.vertebrae.to_pylist():
            if row["study_id"] == scan["study_id"]:
                assert measured(by_level[row["level"]]) == pytest.approx(
                    {
                        ("Attenuation Coefficient", "Mean", region): row["trabecular_hu_mean"],
                        ("Attenuation Coefficient", "Standard Deviation", region): row["trabecular_hu_sd"],
                        ("Volume", region): row["trabecular_volume_mm3"],
                        ("Volume", body): row["body_volume_mm3"],
                    },
                    rel=1e-6,
                )
        assert measured(by_level["Scan, levels L1, L2"]) == pytest.approx(
            {
                ("Trabecular volumetric bone mineral density (HA)",): scan["vbmd_mg_cm3"],
                ("Lower end of the 90 % interval of vbmd",): scan["vbmd_low"],
                ("Upper end of the 90 % interval of vbmd",): scan["vbmd_high"],
                ("Probability of reduced bone density",): scan["probability_reduced"],
                ("Attenuation Coefficient", "Mean", region): scan["trabecular_hu"],
            },
            rel=1e-6,
        )
        assert limits(by_level["Scan, levels L1, L2"]) == {"thick_slices", "new_device"}
        assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")


def test_doubts_stand_beside_the_figures_and_null_is_left_out(tmp_path):
    flags = {"flags": ["height_loss"], "level_uncertain": True, "trabecular_hu_sd": None}
    (scan, _) = cohort(**flags).objects(tmp_path)
    group = groups(scan.report)["L1"]
    assert limits(group) == {"height_loss", "level_uncertain"}
    assert not [name for name in measured(group) if "Standard Deviation" in name]


def test_a_scan_without_a_result_has_no_group_for_it(tmp_path):
    source = cohort(1)
    columns = {"vbmd_mg_cm3", "vbmd_low", "vbmd_high", "probability_reduced", "trabecular_hu"}
    rows = [row | dict.fromkeys(columns) | {"levels_used": []} for row in source.studies.to_pylist()]
    empty = type(source.studies).from_pylist(rows, schema=source.studies.schema)
    (scan,) = Cohort(source.patients, empty, source.vertebrae, source.crops).objects(tmp_path)
    assert groups(scan.report).keys() == LEVELS.keys()


def test_verdicts_count(tmp_path):
    """A rejected vertebra stays out, a relabelled one goes under its new name."""
    (changed, whole) = cohort(flags=["rejected_by_reviewer"]).objects(tmp_path / "a")
    assert [segment.TrackingID for segment in changed.seg.SegmentSequence] == ["T12", "L2"]
    assert len(whole.seg.SegmentSequence) == 3 and groups(changed.report).keys() == groups(whole.report).keys() - {"L1"}
    (changed, _) = cohort(level="L3", level_found="L1").objects(tmp_path / "b")
    sizes = {crop.level: (crop.label == crop.code).sum() for crop in cohort().crops[:3]}
    seg = highdicom.seg.segread(saved(changed.seg))
    voxels_of = {
        seg.get_segment_description(n).tracking_id: seg.get_volume(segment_numbers=[n]).array.sum() for n in (1, 2, 3)
    }
    assert voxels_of == {"T12": sizes["T12"], "L2": sizes["L2"], "L3": sizes["L1"]}


def test_a_scan_whose_vertebrae_are_all_rejected_gives_nothing(tmp_path):
    source = cohort(1, flags=["rejected_by_reviewer"])
    (rejected,) = (i for i, level in enumerate(source.vertebrae["level"].to_pylist()) if level == "L1")
    left = Cohort(source.patients, source.studies, source.vertebrae.slice(rejected, 1), source.crops)
    assert not left.objects(tmp_path)


def saved(dataset: pydicom.Dataset) -> BytesIO:
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    content.seek(0)
    return content


def test_the_same_results_give_the_same_bytes_and_another_run_other_objects(folder, tmp_path, monkeypatch):
    again = cohort().objects(tmp_path)
    for scan in again:
        assert saved(scan.seg).read() == (folder / scan.study.study_id / "seg.dcm").read_bytes()
        assert saved(scan.report).read() == (folder / scan.study.study_id / "sr.dcm").read_bytes()
    monkeypatch.setitem(RUN, "run_id", "fedcba9876543210")
    other = cohort().objects(tmp_path)
    for first, second in zip(again, other, strict=True):
        assert first.seg.SOPInstanceUID != second.seg.SOPInstanceUID
        assert first.seg.StudyInstanceUID == second.seg.StudyInstanceUID == as_uid(first.study.study_id)
        assert first.seg.FrameOfReferenceUID == second.seg.FrameOfReferenceUID


def test_objects_hold_pseudonyms_and_the_runs_date_alone(folder):
    source = cohort()
    owner = dict(zip(source.studies["study_id"].to_pylist(), source.studies["patient_id"].to_pylist(), strict=True))
    for file in files(folder):
        read = pydicom.dcmread(file)
        assert read.PatientID == owner[file.parent.name] and str(read.PatientName) == f"{read.PatientID}^"
        assert read.PatientIdentityRemoved == "YES"
        for element in read.iterall():
            text = str(element.value)
            if element.VR == "UI" and text:
                assert text.startswith(UID_ROOTS), element
            elif element.VR in ("DA", "TM", "DT") and text:
                assert text in (f"{STARTED:%Y%m%d}", f"{STARTED:%H%M%S}", f"{STARTED:%Y%m%d%H%M%S}"), element
        assert not read.StudyDate and not read.PatientBirthDate and not read.AccessionNumber


def test_synthetic_objects_say_so(tmp_path):
    for synthetic in (True, False):
        (scan,) = cohort(1).objects(tmp_path, synthetic=synthetic)
        for dataset in (scan.seg, scan.report):
            assert ("SYNTHETIC" in dataset.SeriesDescription) == synthetic


def test_the_report_points_to_the_segments(folder):
    for study in folder.iterdir():
        seg, report = (pydicom.dcmread(study / name) for name in ("seg.dcm", "sr.dcm"))
        assert report.StudyInstanceUID == seg.StudyInstanceUID
        for level, group in groups(report).items():
            for item in group.ContentSequence:
                if item.ValueType == "IMAGE":
                    image = item.ReferencedSOPSequence[0]
                    assert image.ReferencedSOPInstanceUID == seg.SOPInstanceUID
                    segment = seg.SegmentSequence[image.ReferencedSegmentNumber - 1]
                    assert segment.TrackingID == level


def test_the_grid_is_as_small_as_the_bodies():
    crops = {crop.level: crop for crop in cohort(1).crops}
    bodies = grid.join(crops, spacing_mm=SPACING_MM)
    for axis in range(3):
        planes = np.moveaxis(bodies.masks, axis, 0)
        assert planes[0].any() and planes[-1].any()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_the_objects_keep_to_the_standard(folder):
    for file in files(folder):
        messages = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False).stderr
        assert ("Segmentation" if file.stem == "seg" else "Comprehensive3DSR") in messages
        assert "Error" not in messages, messages


@dataclass(frozen=True)
class Pacs:
    """An Orthanc that runs on this machine's own address."""

    http: int
    dicom: int

    def ask(self, path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/{path}", data, timeout=20) as answer:
            return answer.read()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def pacs(tmp_path) -> Iterator[Pacs]:
    """Run an empty Orthanc with a configuration of its own."""
    program = shutil.which("Orthanc") or shutil.which("/usr/sbin/Orthanc")
    if not program:
        pytest.skip("Orthanc (Debian's package orthanc) is not installed")
    server = Pacs(free_port(), free_port())
    options = {
        "Name": "test", "StorageDirectory": str(tmp_path / "store"), "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": server.http, "DicomPort": server.dicom, "DicomAet": "ORTHANC", "Plugins": [],
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(options))
    with (tmp_path / "orthanc.log").open("w") as log:
        running = subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                server.ask("system")
                break
            except OSError:
                assert running.poll() is None, (tmp_path / "orthanc.log").read_text()
                time.sleep(0.1)
        yield server
    finally:
        running.terminate()
        running.wait(30)


def store(pacs: Pacs, sent: list[Path], how: str) -> None:
    """Send files as another PACS would (C-STORE, dcmtk), or over Orthanc's own interface."""
    if how == "REST":
        for file in sent:
            pacs.ask("instances", file.read_bytes())
        return
    if not shutil.which("storescu"):
        pytest.skip("storescu (Debian's package dcmtk) is not installed")
    command = ["storescu", "-R", "-aec", "ORTHANC", "127.0.0.1", str(pacs.dicom), *map(str, sent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", ["C-STORE", "REST"])
def test_a_pacs_takes_the_objects_and_gives_them_back(folder, pacs, how):
    store(pacs, files(folder), how)
    kept = json.loads(pacs.ask("instances"))
    back = [pydicom.dcmread(BytesIO(pacs.ask(f"instances/{name}/file"))) for name in kept]
    assert len(back) == len(files(folder))
    by_uid = {read.SOPInstanceUID: read for read in back}
    for file in files(folder):
        sent = pydicom.dcmread(file)
        got = by_uid[sent.SOPInstanceUID]
        if file.stem == "seg":
            assert got.PixelData == sent.PixelData
            np.testing.assert_array_equal(got.pixel_array, sent.pixel_array)
        else:
            assert got.ContentSequence == sent.ContentSequence
        for element in sent:
            assert got[element.tag] == element
    # Both objects of a scan lie in its study, under its patient.
    studies = [json.loads(pacs.ask(f"studies/{name}")) for name in json.loads(pacs.ask("studies"))]
    assert {study["MainDicomTags"]["StudyInstanceUID"] for study in studies} == {
        as_uid(place.name) for place in folder.iterdir()
    }
    assert all(len(study["Series"]) == 2 for study in studies)


def test_a_code_of_our_own_has_one_meaning():
    scan = {code.value: code.meaning for code in map(terms.limitation, {**errors.REASONS, **errors.FLAGS})}
    level = {code.value: code.meaning for code in map(terms.level_limitation, errors.LEVEL_FLAGS)}
    assert not scan.keys() & level.keys()
    assert errors.FLAGS["split"].startswith(scan["split"])
    assert errors.LEVEL_FLAGS["split"].startswith(level["level_split"])
