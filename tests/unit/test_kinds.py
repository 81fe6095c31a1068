"""CT images are known by their modality or their storage class, where one of the two tells nothing."""

import pytest
from ct_files import axial_stack, enhanced, save, save_odd
from hypothesis import given
from hypothesis import strategies as st
from made_headers import header
from pydicom import uid
from test_headers import read_files
from test_index import places, read, run

from trabecula.dicom.headers.record import Header
from trabecula.dicom.kinds import CT_CLASSES, is_ct
from trabecula.dicom.stacks import reason_against_image, stacks_of

NO_MODALITY = [None, "", "ANONYMIZED", "REMOVED", "XX", "UNKNOWN", "N/A", "7B2F9C", "0"]
NO_CLASS = [None, "", "anonymized", "05703841015643452503209109170649", "2.25.4711", "1.2.826.0.1.3680043.10.5", "0.0"]
OTHER_MODALITIES = ["MR", "PT", "PET", "OT", "SC", "SR", "SEG", "RTSTRUCT", "US"]
OTHER_CLASSES = [uid.MRImageStorage, uid.PositronEmissionTomographyImageStorage, uid.SegmentationStorage]


@given(st.sampled_from([*NO_MODALITY, "CT", "ct", "CT "]), st.sampled_from([*NO_CLASS, *CT_CLASSES]))
def test_either_attribute_tells_a_ct_image(modality, sop_class):
    speaks = (modality or "").strip().upper() == "CT" or sop_class in CT_CLASSES
    assert is_ct(header(modality=modality, sop_class=sop_class)) == speaks


@given(st.sampled_from(OTHER_MODALITIES), st.sampled_from([*NO_CLASS, *CT_CLASSES]))
def test_another_modality_is_no_ct(modality, sop_class):
    if modality != "SC":  # no defined term
        assert not is_ct(header(modality=modality, sop_class=sop_class))


@given(st.sampled_from([*NO_MODALITY, "CT"]), st.sampled_from(OTHER_CLASSES))
def test_another_storage_class_is_no_ct(modality, sop_class):
    assert not is_ct(header(modality=modality, sop_class=sop_class))


def test_raw_data_of_a_maker_are_no_ct_image():
    raw = header(sop_class="1.3.12.2.1107.5.9.1", rows=None, columns=None, positions_mm=None)
    assert not is_ct(raw) and is_ct(raw._replace(sop_class=None))
    assert not is_ct(Header("", None, 0, 0))


def test_slices_that_say_it_in_different_ways_are_one_stack():
    ways = [
        {"modality": None},
        {"sop_class": None},
        {"sop_class": "2.25.7"},
        {"sop_class": "2.25.8"},
        {"modality": "XX"},
    ]
    (stack,) = stacks_of((header(k, **ways[k % len(ways)]) for k in range(20)), max_gap_mm=10)
    assert stack.n_slices == 20 and reason_against_image(stack) is None
    enhanced_too = [header(k, sop_class=uid.EnhancedCTImageStorage) for k in range(20, 40)]
    assert len(stacks_of([*stack.headers, *enhanced_too], max_gap_mm=10)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"Modality": None},
        {"Modality": "ANONYMIZED"},
        {"SOPClassUID": "05703841015643452503209109170649121759226008273168"},
        {"SOPClassUID": "2.25.309340983409340982340923409"},
        {"SOPClassUID": "removed"},
    ],
    ids=str,
)
def test_a_study_is_measured_though_a_tool_took_out_that_it_is_ct(tmp_path, changes):
    save_odd(axial_stack(), tmp_path / "archive", **changes)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    (study,) = read(where, "studies")
    (series,) = read(where, "series")
    assert (study["status"], series["accepted"], series["reason"]) == ("accepted", True, None)
    assert series["score"] > 0


@pytest.mark.parametrize("changes", [{"Modality": "MR"}, {"Modality": "removed", "SOPClassUID": "removed"}], ids=str)
def test_what_is_no_ct_or_never_said_so_is_refused(tmp_path, changes):
    save_odd(axial_stack(), tmp_path / "archive", **changes)
    where = places(tmp_path, tmp_path / "archive")
    run(where)
    assert [row["reason"] for row in read(where, "studies")] == ["not_ct"]


def test_frames_of_a_multi_frame_ct_without_modality_are_slices(tmp_path):
    dataset = enhanced(axial_stack(4))
    del dataset.Modality
    save(dataset, tmp_path / "x")
    records = read_files(tmp_path, "x")
    assert [record["frame"] for record in records] == [0, 1, 2, 3]
    assert len({tuple(record["positions_mm"]) for record in records}) == 4
