"""Stacks that can be measured, and the one of a study that is."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_headers import GATES, WEIGHTS, header, stack
from pydicom.uid import SecondaryCaptureImageStorage

from trabecula.cohort.registry import Names
from trabecula.dicom.headers.record import Header
from trabecula.dicom.stacks import Stack, stacks_of, without_copies
from trabecula.index import choose, rows


def test_nothing_speaks_against_a_plain_ct():
    assert choose.reasons_against(stack(), GATES) == []


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("not_ct", stack(modality="MR")),
        ("not_ct", stack(modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.67")),
        ("secondary_capture", stack(sop_class=SecondaryCaptureImageStorage)),
        ("secondary_capture", stack(image_type="DERIVED\\SECONDARY\\OTHER\\CT_SOM5 PROT")),
        ("secondary_capture", stack(photometric="RGB")),
        ("localizer", stack(image_type="ORIGINAL\\PRIMARY\\LOCALIZER")),
        ("projection", stack(image_type="DERIVED\\SECONDARY\\PROJECTION IMAGE")),
        ("projection", stack(image_type="DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 MIP")),
        ("other_values", stack(image_type="DERIVED\\PRIMARY\\VOLUME\\SUBTRACTION")),
        ("other_values", stack(rescale_type="MGML")),
        ("projection", stack(image_type="DERIVED\\PRIMARY\\VOLUME\\MAXIMUM")),
        ("no_geometry", stack(positions_mm=None)),
        ("no_geometry", stack(pixel_spacing_mm=None)),
        ("lossy", stack(lossy="01")),
        ("lossy", stack(transfer_syntax="1.2.840.10008.1.2.4.51")),
        ("no_rescale", stack(slope=None)),
        ("no_rescale", stack(slope=0.0)),
        ("head_or_extremity", stack(body_part="HEAD", pixel_spacing_mm=[0.45, 0.45])),
        ("head_or_extremity", stack(body_part="HEAD", description="CT Brain w/o")),
        ("not_axial", stack(orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])),
        ("too_few_slices", stack(n=39, spacing_mm=3.0)),
        ("too_short", stack(n=80, spacing_mm=1.0)),
        ("too_thick", stack(spacing_mm=8.0)),
    ],
)
def test_each_gate_has_its_reason(reason, refused):
    assert choose.reasons_against(refused, GATES)[0] == reason


OBLIQUE = [1.0, 0.0, 0.0, 0.0, 0.7, -0.714]


@pytest.mark.parametrize(
    ("gate", "limit", "reason", "refused"),
    [
        ("max_spacing_mm", 8.0, "too_thick", stack(spacing_mm=8.0)),
        ("min_axial", 0.6, "not_axial", stack(orientation=OBLIQUE)),
    ],
)
def test_a_wider_gate_lets_pass(gate, limit, reason, refused):
    assert choose.reasons_against(refused, GATES) == [reason]
    assert choose.reasons_against(refused, replace(GATES, **{gate: limit})) == []


def test_thick_slices_may_be_few_and_are_flagged():
    thick = stack(n=25, spacing_mm=5.0)
    assert choose.reasons_against(thick, GATES) == []
    assert choose.flags_of(thick, GATES) == ["thick_slices"] and choose.flags_of(stack(), GATES) == []


def test_every_gate_that_a_stack_fails_is_kept():
    assert choose.reasons_against(stack(n=5, spacing_mm=8.0), GATES) == ["too_short", "too_thick"]


def test_a_small_hole_is_left_to_convert_and_a_large_one_is_a_reason():
    whole = stack()
    for missing, reasons in ((1, []), (3, []), (4, ["missing_slices"])):
        holed = replace(whole, headers=whole.headers[:30] + whole.headers[30 + missing :])
        assert choose.reasons_against(holed, GATES) == reasons  # slices 2.5 mm apart, gaps of 5, 10 and 12.5 mm
    far = [part._replace(positions_mm=[0.0, 0.0, 40.0 + 11.3 * k]) for k, part in enumerate(whole.headers[30:])]
    assert choose.reasons_against(replace(whole, headers=(*whole.headers[:30], *far)), GATES) == ["irregular_spacing"]


def test_one_word_for_elsewhere_is_too_weak():
    wide = stack(body_part="HEAD")
    assert choose.reasons_against(wide, GATES) == [] and choose.flags_of(wide, GATES) == ["elsewhere_by_text"]
    cropped = stack(body_part="EXTREMITY", rows=160, columns=172)
    assert choose.reasons_against(cropped, GATES) == []


def test_words_for_the_trunk_outweigh_words_for_elsewhere():
    small = stack(body_part="CHEST", description="arms up, head first", pixel_spacing_mm=[0.4, 0.4])
    assert choose.reasons_against(small, GATES) == [] and choose.flags_of(small, GATES) == []


@pytest.mark.parametrize("text", ["LWS feet first", "Columna, arms up", "leg pain, back"])
def test_how_a_patient_lies_is_no_part_of_the_body(text):
    assert choose.reasons_against(stack(description=text, pixel_spacing_mm=[0.4, 0.4]), GATES) == []


def test_a_stack_with_slices_at_one_position_comes_last():
    repeated = stack(spacing_mm=1.0, n=150)
    repeated = replace(repeated, headers=(*repeated.headers, *repeated.headers[:20]))
    good = stack(spacing_mm=3.0)
    assert choose.score(repeated, WEIGHTS) > choose.score(good, WEIGHTS)
    assert choose.best([repeated, good], GATES, WEIGHTS) is good


def test_derived_without_kernel_is_acceptable_and_scores_less():
    derived = stack(image_type="DERIVED\\SECONDARY\\PROCESSED", kernel=None)
    assert choose.reasons_against(derived, GATES) == []
    assert choose.score(derived, WEIGHTS) < choose.score(stack(), WEIGHTS)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (stack(n=120, spacing_mm=1.25), stack(n=30, spacing_mm=5.0)),
        (stack(kernel="STANDARD"), stack(kernel="BONE")),
        (stack(kernel="Br40d"), stack(kernel="Br64d")),
        (stack(n=160), stack(n=60)),
        (stack(kvp=120.0), stack(kvp=80.0)),
        (stack(contrast=None), stack(contrast="OMNIPAQUE")),
        (stack(), stack(pixel_spacing_mm=[0.35, 0.35])),
    ],
)
def test_the_score_prefers(better, worse):
    assert choose.score(better, WEIGHTS) > choose.score(worse, WEIGHTS)
    assert choose.best([worse, better], GATES, WEIGHTS) is better


def test_a_weight_of_nothing_counts_nothing():
    sharp, soft = stack(kernel="BONE"), stack(kernel="STANDARD", kvp=100.0)
    assert choose.best([sharp, soft], GATES, WEIGHTS) is soft
    assert choose.best([sharp, soft], GATES, replace(WEIGHTS, kernel=0)) is sharp


@pytest.mark.parametrize(
    ("weight", "worse"),
    [
        ("original", stack(image_type="DERIVED\\PRIMARY\\AXIAL")),
        ("field_of_view", stack(pixel_spacing_mm=[0.35, 0.35])),
    ],
)
def test_a_fact_counts_by_its_weight_alone(weight, worse):
    assert choose.score(worse, WEIGHTS) < choose.score(stack(), WEIGHTS)
    without = replace(WEIGHTS, **{weight: 0})
    assert choose.score(worse, without) == choose.score(stack(), without)


@pytest.mark.parametrize(
    ("kernel", "softness"),
    [
        *[(name, 1.0) for name in ("B30f", "Br40d\\3", "I31f", "STANDARD", "FC08", "B", "IMR1,Soft Tissue", "STD+")],
        *[(name, 0.0) for name in ("B60f", "Br64d", "BONEPLUS", "LUNG", "FC51", "YC", "IMR1,SharpPlus", "Lung STD")],
        *[(name, 0.5) for name in (None, "", "DETAIL", "C")],
    ],
)
def test_kernels_are_soft_or_sharp_by_their_makers_names(kernel, softness):
    assert choose.softness(kernel) == softness


def test_copies_are_counted_and_left_out():
    instances = without_copies([header(0), header(1), header(1, path="again")])
    assert [part.path for part in instances.kept] == ["000", "001"]
    assert [part.path for part in instances.copies] == ["again"]
    assert [(number, part.path) for number, part in instances.repeats(instances.kept)] == [(1, "again")]


def parts(*files: Header) -> list[Stack]:
    return stacks_of(files, max_gap_mm=10)


FLAGGED, JPEG2000, NEAR_LOSSLESS = {"lossy": "01"}, "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.81"


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (FLAGGED, {}),
        ({"transfer_syntax": JPEG2000}, {"transfer_syntax": "1.2.840.10008.1.2.1"}),
        ({"transfer_syntax": JPEG2000}, {"transfer_syntax": "1.2.840.10008.1.2.4.90"}),
        ({"transfer_syntax": JPEG2000}, {"transfer_syntax": "1.2.840.10008.1.2.5"}),
        ({"transfer_syntax": JPEG2000}, {"transfer_syntax": None}),
        ({"transfer_syntax": "1.2.840.113619.5.2"}, {"transfer_syntax": "1.2.840.10008.1.2.4.201"}),
        ({"transfer_syntax": NEAR_LOSSLESS}, {"transfer_syntax": "1.2.840.10008.1.2.4.80"}),
        (FLAGGED, {"transfer_syntax": JPEG2000}),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.90"}, {}),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.70", "stream_lossy": True}, {"transfer_syntax": JPEG2000}),
        ({"transfer_syntax": JPEG2000}, {"transfer_syntax": NEAR_LOSSLESS, "stream_lossy": False}),
        ({"transfer_syntax": JPEG2000, "stream_lossy": True}, FLAGGED),
    ],
)
def test_of_copies_the_one_that_lost_least_is_kept_and_no_lossy_one_is_remembered(worse, better):
    instances = without_copies([header(0, path="a", **worse), header(0, path="b", **better)])
    assert [part.path for part in instances.kept] == ["b"] and [part.path for part in instances.copies] == ["a"]
    is_lossy = worse is FLAGGED or "stream_lossy" in worse or worse == {"transfer_syntax": NEAR_LOSSLESS}
    assert [copy.path for _, copy in instances.repeats(instances.kept)] == [] if is_lossy else ["a"]


def test_copies_compressed_alike_are_remembered_and_the_first_path_is_kept():
    files = [header(0, path=path, transfer_syntax=JPEG2000) for path in "cab"]
    instances = without_copies([*files, header(1, path="a"), header(0, path="0", **FLAGGED)])
    assert [part.path for part in instances.kept] == ["a", "a"]
    assert [part.path for _, part in instances.repeats(files[1:2])] == ["b", "c"]


def test_slices_that_differ_are_stacks_of_their_own():
    odd = header(9, rows=256), header(10, kernel="BONE"), header(11, orientation=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    stacks = parts(*(header(k) for k in range(5)), *odd, header(12, positions_mm=None))
    assert sorted(len(part.headers) for part in stacks) == [1, 1, 1, 1, 5]
    assert sorted(part.number for part in stacks) == [0, 1, 2, 3, 4]
    assert max(stacks, key=lambda part: part.n_slices).n_odd == 4


def test_directions_that_are_nearly_the_same_are_one():
    noisy = [header(k, orientation=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0049 + 0.0001 * k]) for k in range(5)]
    assert [len(part.headers) for part in parts(*noisy)] == [5]


def test_phases_are_parted_and_numbered_slices_are_not():
    phases = [header(k, acquisition=n, instance_uid=f"{n}.{k}") for n in (1, 2) for k in range(5)]
    assert [(len(part.headers), part.split) for part in parts(*phases)] == [(5, True), (5, True)]
    numbered = [header(k, acquisition=k) for k in range(5)]
    assert [(len(part.headers), part.split) for part in parts(*numbered)] == [(5, False)]


def test_stations_that_overlap_are_parted():
    stations = [
        header(k, acquisition=n, instance_uid=f"{n}.{k}", positions_mm=[0.0, 0.0, 2.5 * k + 31.1 * n])
        for n in (1, 2)
        for k in range(20)
    ]
    assert [len(part.headers) for part in parts(*stations)] == [20, 20]


@pytest.mark.parametrize("shift_mm", [1.25, 25.0], ids=["between", "above"])
@pytest.mark.parametrize("other", [{"model": "Other"}, {"manufacturer": "Other"}, {"study_date": "20210304"}])
def test_slices_of_two_people_under_one_uid_are_no_volume_where_day_or_scanner_differ(other, shift_mm):
    common = {"model": "Model", "manufacturer": "Maker"}
    first = [header(k, **common) for k in range(10)]
    place = [[0.0, 0.0, 2.5 * k + shift_mm] for k in range(10)]
    second = [header(k + 50, positions_mm=place[k], **common | other) for k in range(10)]
    unsaid = [header(k, **dict.fromkeys(common)) for k in range(10)]
    assert [(stack.n_slices, stack.flags) for stack in parts(*first, *second)] == [(10, ["split"])] * 2
    assert [stack.n_slices for stack in parts(*first[:8], *unsaid[8:])] == [10]
    each = (part._replace(study_date=f"202001{k + 1:02d}") for k, part in enumerate(first))
    assert [stack.n_slices for stack in parts(*each)] == [10]  # a date of its own for every file says nothing


def test_phases_are_parted_though_one_lacks_a_slice():
    phases = [header(k, acquisition=n, instance_uid=f"{n}.{k}") for n in (1, 2) for k in range(9)]
    assert sorted(len(part.headers) for part in parts(*phases[:4], *phases[5:])) == [8, 9]


def rules(folder: Path = Path()) -> rows.Rules:
    return rows.Rules("test", Names(b"k"), GATES, WEIGHTS, folder)


def test_one_uid_under_two_patients_is_two_studies():
    judged = rows.judge([header(0), header(0, patient="Q", path="q")], rules())
    assert len({row["study_id"] for row in judged.studies}) == 2 == len({row["patient_id"] for row in judged.studies})


def test_every_candidate_is_kept_with_gates_and_score():
    good, sharp, short = (
        [header(k, series_uid=f"1.1.{n}", instance_uid=f"{n}.{k}", path=f"{n}{k:03d}", **other) for k in range(size)]
        for n, size, other in ((1, 60, {}), (2, 60, {"kernel": "BONE"}), (3, 10, {}))
    )
    judged = rows.judge([*good, *sharp, *short], rules())
    assert [(row["reason"], row["gates"]) for row in judged.series] == [
        (None, []),
        ("not_chosen", []),
        ("too_few_slices", ["too_few_slices", "too_short"]),
    ]
    assert judged.series[0]["score"] > judged.series[1]["score"] and judged.series[2]["score"] is not None
    assert judged.series[0]["series_uid"].startswith("2.25.")


@pytest.mark.parametrize(
    "changes", [{"lossy": "01"}, {"lossy": "01", "lossy_ratio": "9"}, {"lossy_method": "ISO_10918_1"}]
)
def test_pixels_that_were_once_compressed_with_loss_are_measured_where_that_is_accepted(changes):
    once, thick, accepting = stack(**changes), stack(n=50, spacing_mm=4.0), replace(GATES, lossy="accept")
    assert choose.reasons_against(once, GATES) == ["lossy"]
    assert choose.reasons_against(once, accepting) == []
    assert choose.flags_of(once, accepting) == ["lossy_once"]
    assert choose.best([once, thick], accepting, WEIGHTS) is thick


@pytest.mark.parametrize("changes", [{"transfer_syntax": "1.2.840.10008.1.2.4.51"}, {"stream_lossy": True}])
def test_pixels_that_are_stored_with_loss_are_never_measured(changes):
    assert choose.reasons_against(stack(lossy="01", **changes), replace(GATES, lossy="accept")) == ["lossy"]
