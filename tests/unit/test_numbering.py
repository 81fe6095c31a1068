"""Level names on synthetic spines of known truth, whole and with every anomaly.

    python tests/unit/test_numbering.py 40

prints how names and flags did over so many patients, as docs/segmentation.md shows it.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from spines import cut_scan, fused, labels_of, levels_in, only, renamed, spine_map, swapped_halves, upper_half

from trabecula.errors import LEVEL_FLAGS, StudyFailure
from trabecula.image.levels import BODY_CODES, CODE_OF_LEVEL, DISC, HIP, LEVEL_OF_CODE, ORDER, POSTERIOR, RIB, SACRUM
from trabecula.image.volume import Volume
from trabecula.model import spine_network
from trabecula.model.spine_network import SpineMap
from trabecula.segment.column import find_column
from trabecula.segment.evidence import Evidence, find_evidence, whole_or_cut
from trabecula.segment.numbering import CERTAIN, Level, name_levels, order_of
from trabecula.segment.review import LEAST_MM3, NETWORK, READER, review

PATIENTS = 6


@dataclass
class Outcome:
    """Names of a spine's vertebrae: pairs of the true name and the level of the numbering."""

    pairs: list[tuple[str, Level]] = field(default_factory=list)

    def share(self, holds: Callable[[str, Level], bool]) -> float:
        """Share of the vertebrae for which something holds."""
        return float(np.mean([holds(true, level) for true, level in self.pairs]))

    @property
    def wrong_and_certain(self) -> list[tuple[str, str]]:
        """True name and name of the numbering where they differ and nothing flags it."""
        return [(true, level.name) for true, level in self.pairs if true != level.name and not level.uncertain]


def numbered(labels: Volume) -> Outcome:
    """Names by our own numbering, from what a perfect network would say."""
    spine = spine_map(labels)
    column = find_column(spine)
    assert column is not None
    evidence = find_evidence(spine, column)
    assert evidence is not None
    voxels = np.argwhere(np.isin(labels.array, BODY_CODES))
    piece = column.piece(labels.to_mm(voxels))
    outcome = Outcome()
    for level in name_levels(evidence):
        codes = labels.array[tuple(voxels[piece == level.piece].T)]
        true = int(np.bincount(codes).argmax())
        assert (codes == true).mean() > 0.5, "two vertebrae in one piece"
        outcome.pairs.append((LEVEL_OF_CODE[true], level))
    return outcome


# --- our own numbering ------------------------------------------------------------------------------------


def without(labels: Volume, *codes: int) -> Volume:
    """The map without some codes."""
    return labels.with_array(np.where(np.isin(labels.array, codes), 0, labels.array))


SCANS: dict[str, Callable[[int], Volume]] = {
    "whole": labels_of,
    "from L3 upwards": lambda i: cut_scan(labels_of(i), "L3", None),
    "up to L1": lambda i: cut_scan(labels_of(i), None, "L1"),
    "L4 to L1": lambda i: cut_scan(labels_of(i), "L4", "L1"),
    "no ribs found": lambda i: without(labels_of(i), RIB),
    "no discs found": lambda i: without(labels_of(i), DISC),
    "L2 and L3 grown together": lambda i: fused(labels_of(i, 5), "L3", "L2"),
    "four lumbar vertebrae": lambda i: labels_of(i, 4),
    "six lumbar vertebrae": lambda i: labels_of(i, 6),
}


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["whole", "from L3 upwards", "L4 to L1", "no discs found", "L2 and L3 grown together"])
@pytest.mark.parametrize("patient", range(PATIENTS))
def test_a_level_is_right_or_says_that_it_is_uncertain(patient: int, scan: str) -> None:
    assert not numbered(SCANS[scan](patient)).wrong_and_certain


@pytest.mark.slow
@pytest.mark.parametrize("lumbar", [4, 6])
@pytest.mark.parametrize("patient", range(3))
def test_an_unusual_number_of_lumbar_vertebrae_is_said(patient: int, lumbar: int) -> None:
    outcome = numbered(labels_of(patient, lumbar))
    assert not outcome.wrong_and_certain
    assert all("transitional" in level.flags for _, level in outcome.pairs)


def test_most_levels_of_whole_scans_are_right_and_certain() -> None:
    outcomes = [numbered(labels_of(i, 5)) for i in range(PATIENTS)]
    assert np.mean([outcome.share(lambda true, level: true == level.name) for outcome in outcomes]) > 0.95
    assert np.mean([outcome.share(lambda _, level: not level.uncertain) for outcome in outcomes]) > 0.8


def test_without_sacrum_and_ribs_every_level_is_uncertain() -> None:
    outcome = numbered(without(cut_scan(labels_of(0), "L3", None), RIB))
    assert outcome.share(lambda _, level: level.uncertain) == 1


def test_the_sacrum_alone_names_the_lumbar_levels() -> None:
    keep = [*(CODE_OF_LEVEL[f"L{i}"] for i in range(1, 6)), DISC, SACRUM]
    assert numbered(only(labels_of(0, 5), keep)).share(lambda true, level: true == level.name) == 1


def test_without_any_rib_the_sacrum_still_names_the_levels() -> None:
    outcome = numbered(without(labels_of(0, 5), RIB))
    assert outcome.share(lambda true, level: true == level.name) == 1


def test_bodies_grown_together_are_flagged_and_the_others_keep_their_names() -> None:
    outcome = numbered(fused(labels_of(0, 5), "L3", "L2"))
    assert {true for true, level in outcome.pairs if "merged" in level.flags} == {"L2", "L3"}
    assert outcome.share(lambda true, level: true == level.name) == 1


def test_the_patients_place_does_not_change_the_names() -> None:
    labels = labels_of(0)
    affine = labels.affine.copy()
    affine[:3, 3] += [7, -40, 1000]
    before, after = (numbered(volume).pairs for volume in (labels, Volume(labels.array, affine)))
    assert [level.name for _, level in before] == [level.name for _, level in after]


def test_nothing_found_is_no_column() -> None:
    empty = np.zeros((len(spine_network.CLASSES), 20, 20, 20), np.float16)
    empty[0] = 1
    assert find_column(SpineMap(empty, np.diag([2.0, 2, 2, 1]), np.ones((20, 20, 20), bool))) is None


def test_a_fragment_inside_the_scan_is_no_vertebra_and_one_at_its_edge_is() -> None:
    volumes = np.array([3000.0, 30000, 31000, 29000, 4000])
    assert whole_or_cut(volumes, np.array([False, False, False, False, True])) == [1, 2, 3, 4]
    assert whole_or_cut(volumes[:1] / 2, np.array([False])) == []


def evidence(
    n: int,
    *,
    ribs: tuple[int, ...] | None = None,
    reaches: Mapping[int, float] = MappingProxyType({}),
    sacrum: bool | None = None,
    heights: list[float] | None = None,
) -> Evidence:
    """Evidence of n vertebrae of which some, counted from the foot, bear ribs; unknown where nothing is given."""
    unknown = np.full(n, np.nan)
    return Evidence(
        pieces=tuple(range(n)),
        ribs=np.array([[np.nan if ribs is None else 35.0 if i in ribs else 0.0] * 2 for i in range(n)]),
        reaches_mm=np.array([[reaches.get(i, np.nan)] * 2 for i in range(n)]),
        sizes_mm=unknown,
        heights_mm=unknown if heights is None else np.array(heights),
        spans_mm=np.full(n, 20.0),
        fused=np.zeros(n, bool),
        sacrum=sacrum,
    )


def names(levels: list[Level]) -> list[str]:
    """Names alone."""
    return [level.name for level in levels]


def test_sacrum_and_ribs_that_agree_are_surer_than_either() -> None:
    both = name_levels(evidence(7, ribs=(5, 6), sacrum=True))
    sacrum = name_levels(evidence(7, sacrum=True))
    assert names(both) == names(sacrum) == ["L5", "L4", "L3", "L2", "L1", "T12", "T11"]
    assert both[0].confidence > sacrum[0].confidence > CERTAIN


def test_sacrum_and_ribs_that_disagree_leave_every_level_uncertain() -> None:
    levels = name_levels(evidence(7, ribs=(4, 5, 6), sacrum=True))
    assert all(level.uncertain for level in levels) and all("transitional" in level.flags for level in levels)


def test_a_short_last_rib_is_surely_the_twelfth_and_a_long_one_is_not() -> None:
    short, long = (
        name_levels(evidence(5, ribs=(2, 3, 4), reaches=reaches)) for reaches in ({2: 58, 3: 99}, {2: 94, 3: 123})
    )
    assert names(short) == ["L2", "L1", "T12", "T11", "T10"]
    assert short[0].confidence > CERTAIN > long[0].confidence


def test_ribs_outside_the_field_of_view_are_no_evidence() -> None:
    seen, unseen = (name_levels(evidence(4, ribs=ribs)) for ribs in ((), None))
    assert seen[0].name.startswith("L") and seen[0].confidence > 2 * unseen[0].confidence


def test_sizes_alone_tell_thoracic_from_lumbar_vertebrae() -> None:
    levels = name_levels(evidence(4, heights=[25.5, 25.0, 24.0, 22.5]))
    assert all(level.name.startswith("T") and level.uncertain for level in levels)


@pytest.mark.parametrize("above", [0, 1, 4])
def test_cervical_vertebrae_in_view_change_no_name(above: int) -> None:
    order = order_of(5, thirteenth=False)[: 17 + above]
    seen = evidence(len(order), ribs=tuple(range(5, 17)), sacrum=True)
    ours, theirs = name_levels(seen), name_levels(seen, order, trust=NETWORK.trust)
    assert names(ours) == names(theirs) == order
    assert not any(level.uncertain for level in [*ours, *theirs])


def test_more_pieces_than_vertebrae_are_refused() -> None:
    with pytest.raises(StudyFailure, match="no_vertebra"):
        name_levels(evidence(30))


def test_sizes_alone_never_make_a_name_certain() -> None:
    heights = [38, 38.5, 38, 36.5, 34.5, 31.5, 29, 27.5, 26, 25, 24, 22.5, 21.5, 20.5, 20, 19.5, 18.5]
    assert all(level.uncertain for level in name_levels(evidence(17, heights=heights)))


def test_confidences_are_probabilities() -> None:
    for levels in (name_levels(evidence(5, ribs=ribs)) for ribs in [(), (3, 4), (0, 1, 2, 3, 4)]):
        assert all(0 < level.confidence <= 1 for level in levels)


@pytest.mark.parametrize(("lumbar", "thirteenth"), [(4, False), (5, True), (6, False)])
def test_levels_run_from_foot_to_head(lumbar: int, thirteenth: bool) -> None:
    order = order_of(lumbar, thirteenth=thirteenth)
    assert [name for name in ORDER if name in order] == order[::-1] and len(order) == lumbar + 12 + thirteenth + 7


# --- names that others gave -------------------------------------------------------------------------------


def shifted(labels: Volume) -> Volume:
    """Every name one level too high."""
    present = [name for name in levels_in(labels) if name != "T6"]
    up = {name: ORDER[ORDER.index(name) - 1].replace("T13", "T12") for name in present}
    return renamed(labels, up)


CODES_OF_L3 = CODE_OF_LEVEL["L3"], POSTERIOR + CODE_OF_LEVEL["L3"]
# Spoilt map of a patient, and the names whose flag it must raise.
SPOILT: dict[str, tuple[Callable[[int], Volume], str, tuple[str, ...]]] = {
    "gap": (
        lambda i: without(labels_of(i, 5), CODE_OF_LEVEL["L3"], POSTERIOR + CODE_OF_LEVEL["L3"]),
        "gap",
        ("L4", "L2"),
    ),
    "merged": (lambda i: renamed(labels_of(i, 5), {"L3": "L4"}), "merged", ("L4",)),
    "swapped": (lambda i: renamed(labels_of(i, 5), {"L3": "L2", "L2": "L3"}), "out_of_order", ("L2", "L3")),
    "half of L3 named L2": (lambda i: upper_half(labels_of(i, 5), "L3", "L2"), "split", ("L2",)),
    "left/right mixture": (lambda i: swapped_halves(labels_of(i, 5), "L3", "L2"), "mixed_sides", ("L2", "L3")),
}


@pytest.mark.parametrize("patient", range(PATIENTS))
def test_a_good_map_keeps_its_names_without_a_flag(patient: int) -> None:
    labels = labels_of(patient, 5)
    levels = review(labels, NETWORK)
    large = [name for name in levels_in(labels) if (labels.array == CODE_OF_LEVEL[name]).sum() * 8 >= LEAST_MM3]
    assert names(levels) == large
    assert not [level for level in levels if set(level.flags) - {"transitional"}]
    assert np.mean([level.confidence for level in levels]) > CERTAIN


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("patient", range(3))
def test_a_spoilt_map_says_what_is_wrong(patient: int, kind: str) -> None:
    make, flag, where = SPOILT[kind]
    levels = {level.name: level for level in review(make(patient), NETWORK)}
    assert all(flag in levels[name].flags and levels[name].uncertain for name in where), levels


@pytest.mark.parametrize("patient", range(3))
def test_names_that_sacrum_and_ribs_contradict_are_uncertain(patient: int) -> None:
    assert all(level.uncertain for level in review(shifted(labels_of(patient, 5)), NETWORK))


def test_a_label_over_two_bodies_is_flagged_also_where_the_names_run_on() -> None:
    up = {"L3": "L4", "L2": "L3", "L1": "L2", "T12": "L1", "T11": "T12", "T10": "T11", "T9": "T10", "T8": "T9"}
    labels = labels_of(0, 5)
    level_of_name = {level.name: level for level in review(renamed(labels, up), NETWORK)}
    assert "merged" in level_of_name["L4"].flags
    assert all(level.uncertain for name, level in level_of_name.items() if name != "L5")


@pytest.mark.parametrize("degrees", [-25, 25])
def test_a_spine_that_leans_to_one_side_is_no_mixture(degrees: float) -> None:
    labels = labels_of(0, 5)
    tan = np.tan(np.deg2rad(degrees))
    shift = [round(tan * k) for k in range(labels.array.shape[2])]
    wide = np.pad(labels.array, ((100, 100), (0, 0), (0, 0)))
    leaning = np.stack([np.roll(wide[:, :, k], shift[k], axis=0) for k in range(len(shift))], axis=2)
    levels = review(Volume(leaning, labels.affine), NETWORK)
    assert not [level.name for level in levels if "mixed_sides" in level.flags]


def test_a_networks_names_are_uncertain_in_a_short_field_of_view() -> None:
    labels = only(labels_of(0, 5), [CODE_OF_LEVEL[name] for name in ("L3", "L2")])
    assert all(level.uncertain for level in review(labels, NETWORK))
    assert not any(level.uncertain for level in review(labels, READER))


def test_a_level_that_was_left_out_leaves_the_others_their_names() -> None:
    labels = without(labels_of(0, 5), *CODES_OF_L3)
    level_of_name = {level.name: level for level in review(labels, NETWORK)}
    assert {name for name, level in level_of_name.items() if "gap" in level.flags} == {"L4", "L2"}
    assert not level_of_name["L5"].uncertain and not level_of_name["L1"].uncertain


def test_a_map_without_bodies_is_refused() -> None:
    with pytest.raises(StudyFailure, match="no_vertebra"):
        review(only(labels_of(0), [SACRUM, RIB, HIP]), NETWORK)


def test_every_flag_has_a_meaning() -> None:
    flags = {flag for _, flag, _ in SPOILT.values()} | {"transitional", "order_in_doubt", "cut_by_mask"}
    assert flags == set(LEVEL_FLAGS)


def report(patients: int) -> None:
    """Print the tables of names and flags."""
    print("| scan | vertebrae | right | certain | wrong and certain |\n|---|---|---|---|---|")
    for name, make in SCANS.items():
        outcome = Outcome([pair for i in range(patients) for pair in _possible(make, i)])
        right = outcome.share(lambda true, level: true == level.name)
        certain = outcome.share(lambda _, level: not level.uncertain)
        wrong = len(outcome.wrong_and_certain)
        print(
            f"| {name} | {len(outcome.pairs)} | {right:.1%} | {certain:.1%} | {wrong / len(outcome.pairs):.1%} |",
            flush=True,
        )
    print("\n| fault | flag | precision | recall |\n|---|---|---|---|")
    ours = {
        "four or six lumbar vertebrae": ("transitional", ("four lumbar vertebrae", "six lumbar vertebrae")),
        "L2 and L3 grown together": ("merged", ("L2 and L3 grown together",)),
    }
    usual = _numbered_flags(patients, lambda i: labels_of(i, 5))
    for kind, (flag, scans) in ours.items():
        pairs = [pair for scan in scans for pair in _numbered_flags(patients, SCANS[scan])]
        where = {"L2", "L3"} if flag == "merged" else set(ORDER)
        there = [flag in flags for name, flags in pairs if name in where]
        false = sum(flag in flags for name, flags in pairs if name not in where) + sum(flag in f for _, f in usual)
        _print_flag(kind, flag, there, false)
    faultless = [_flags(labels_of(i, 5)) for i in range(patients)]
    for kind, (make, flag, where) in SPOILT.items():
        spoilt = [_flags(make(i)) for i in range(patients)]
        there = [flag in flags_of[name] for flags_of in spoilt for name in where if name in flags_of]
        elsewhere = [flag in flags for flags_of in spoilt for name, flags in flags_of.items() if name not in where]
        false = sum(elsewhere) + sum(flag in flags for flags_of in faultless for flags in flags_of.values())
        _print_flag(f"label map: {kind}", flag, there, false)


def _print_flag(kind: str, flag: str, there: list[bool], false: int) -> None:
    precision = sum(there) / max(sum(there) + false, 1)
    print(f"| {kind} | `{flag}` | {precision:.1%} | {np.mean(there):.1%} |", flush=True)


def _numbered_flags(patients: int, make: Callable[[int], Volume]) -> list[tuple[str, tuple[str, ...]]]:
    """True name and flags of every vertebra by our own numbering."""
    return [(true, level.flags) for i in range(patients) for true, level in _possible(make, i)]


def _possible(make: Callable[[int], Volume], patient: int) -> list[tuple[str, Level]]:
    """Pairs of a patient; none where the patient's scan lacks the levels that the cut needs."""
    try:
        return numbered(make(patient)).pairs
    except KeyError:
        return []


def _flags(labels: Volume) -> dict[str, tuple[str, ...]]:
    return {level.name: level.flags for level in review(labels, NETWORK)}


if __name__ == "__main__":
    report(int(sys.argv[1]))
