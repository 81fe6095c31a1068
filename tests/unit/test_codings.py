"""Codings: what numbers and names of label maps mean, and the choice of a backend before any job."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from totalsegmentator.map_to_binary import class_map

from trabecula.errors import ConfigError
from trabecula.image.codings import CODINGS, Structure, read_coding, structure_named
from trabecula.image.levels import CODE_OF_LEVEL, DISC, HIP, POSTERIOR, RIB, SACRUM
from trabecula.model import segmenter_choice
from trabecula.model.segmenter_settings import Builtin, Masks, NnUNet, Settings, TotalSegmentator, from_params
from trabecula.model.totalseg_weights import FOLDERS
from trabecula.runtime import config

HOME = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((HOME / "workflow/schemas/config.schema.yaml").read_text())
L1 = CODE_OF_LEVEL["L1"]


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("L1", Structure(L1, whole=True)),
        ("vertebrae_L1", Structure(L1, whole=True)),
        ("Vertebra L1", Structure(L1, whole=True)),
        ("First lumbar vertebra", Structure(L1, whole=True)),
        ("lumbar vertebrae 1 (L1)", Structure(L1, whole=True)),
        ("L1 body", Structure(L1)),
        ("vertebral_body_L1", Structure(L1)),
        ("L1_posterior", Structure(POSTERIOR + L1)),
        ("L1 spinous process", Structure(POSTERIOR + L1)),
        ("Th12", Structure(CODE_OF_LEVEL["T12"], whole=True)),
        ("sacrum", Structure(SACRUM)),
        ("S1 vertebra", Structure(SACRUM)),
        ("rib_left_4", Structure(RIB)),
        ("hip_right", Structure(HIP)),
        ("Intervertebral disc L4-L5", Structure(DISC)),
        ("L1-L2", None),
        ("T14", None),
        ("vertebra", None),
        ("L1 metastasis", None),
        ("liver", None),
        ("", None),
    ],
)
def test_names_are_read_if_every_word_is_understood(name: str, structure: Structure | None) -> None:
    assert structure_named(name) == structure


@pytest.mark.parametrize(("coding", "task"), [("totalsegmentator", "total"), ("vertebrae_pp", "vertebrae_pp")])
def test_the_codings_of_totalsegmentator_are_its_own(coding: str, task: str) -> None:
    named = {value: structure_named(name) for value, name in class_map[task].items()}
    assert {value: structure.code for value, structure in named.items() if structure} == CODINGS[coding].codes


@pytest.mark.parametrize(
    ("coding", "numbers"),
    [
        ("verse", {20: "L1", 25: "L6", 28: "T13"}),
        ("totalspineseg", {11: "C1", 17: "C7", 21: "T1", 32: "T12", 41: "L1", 45: "L5", 46: "L6"}),
        ("moose", {1: "C1", 8: "T1", 19: "T12", 20: "L1", 24: "L5", 25: "L6"}),
        ("vertebralbodiesct", {1: "T1", 12: "T12", 13: "L1", 17: "L5", 18: "L6", 21: "T13"}),
    ],
)
def test_numbers_at_the_ends_of_the_spines_regions(coding: str, numbers: dict[int, str]) -> None:
    codes = CODINGS[coding].codes
    assert {value: codes[value] for value in numbers} == {v: CODE_OF_LEVEL[level] for v, level in numbers.items()}


def test_only_codings_of_whole_vertebrae_are_split() -> None:
    assert {name for name, coding in CODINGS.items() if coding.whole} == {
        *("verse", "totalsegmentator", "totalspineseg", "moose"),
    }


def test_a_coding_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("value\tlevel\n1\tL1\n2\tL2 body\n300\tL2 posterior\n4\tsacrum\n")
    coding = read_coding(path)
    l2 = CODE_OF_LEVEL["L2"]
    assert (coding.codes, coding.whole) == ({1: L1, 2: l2, 300: POSTERIOR + l2, 4: SACRUM}, {L1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns"),
        ("number\tname\n1\tL1\n", "must name the columns"),
        ("value\tlevel\n", "names no number"),
        ("value\tlevel\n1\tliver\n", "holds the line '1 liver'"),
        ("value\tlevel\n1\tL1\n1\tL2\n", "holds the line '1 L2'"),
        ("value\tlevel\n0\tL1\n", "holds the line '0 L1'"),
        ("value\tlevel\n1,L1\n", "holds the line '1,L1'"),
    ],
)
def test_a_coding_that_is_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_coding(path)


def section(**options: Any) -> dict[str, Any]:
    """The section `segment` of a configuration with these options, checked by the schema."""
    return config.with_defaults({"segment": options}, SCHEMA)["segment"]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_auto_takes_totalsegmentator_where_all_its_weights_are(weights: Path) -> None:
    assert segmenter_choice.resolve(section(), [HOME]) == Builtin(str(HOME / "models/segmenter"), "auto")
    for name in FOLDERS["total"]:
        (weights / name).mkdir(parents=True)
    assert segmenter_choice.resolve(section(), [HOME]) == TotalSegmentator("total", "auto")
    assert segmenter_choice.resolve(section(task="fast"), [HOME]).backend == "builtin"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "totalsegmentator"}, "totalseg_download_weights -t total` and .*TOTALSEG_WEIGHTS_PATH"),
        ({"backend": "totalsegmentator", "task": "fast"}, "totalseg_download_weights -t total_fast` and"),
        ({"backend": "nnunet"}, r"segment\.nnunet\.folder is missing"),
        ({"backend": "nnunet", "nnunet": {"folder": "nowhere"}}, "names nowhere, which does not exist"),
        ({"backend": "masks"}, r"segment\.masks is None"),
        ({"backend": "masks", "masks": "masks/{patient_id}.nii.gz"}, "with {study_id}"),
        ({"backend": "masks", "masks": "masks/{study_id}/{series}.nii"}, "no other fields"),
        ({"backend": "masks", "masks": "masks/{study_id.nii"}, "with {study_id}"),
        ({"coding": "mine.tsv"}, r"segment\.coding names mine\.tsv"),
    ],
    ids=str,
)
def test_what_a_backend_lacks_is_said_before_any_job(weights: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        segmenter_choice.resolve(section(**options), [HOME])


def test_paths_are_looked_for_like_the_model(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "mine.tsv").write_text("value\tlevel\n1\tL1\n")
    (tmp_path / "net").mkdir()
    chosen = segmenter_choice.resolve(
        section(backend="nnunet", nnunet={"folder": "net", "folds": [0, "all"]}, coding="mine.tsv"), [tmp_path, HOME]
    )
    coding = str(tmp_path / "mine.tsv")
    assert chosen == NnUNet(coding, str(tmp_path / "net"), [0, "all"], "auto")
    assert chosen.coding_file == [coding]
    (tmp_path / "mine").mkdir()
    chosen = segmenter_choice.resolve(section(backend="builtin", network="mine", device="cuda"), [tmp_path, HOME])
    assert chosen == Builtin(str(tmp_path / "mine"), "cuda")
    assert chosen.coding_file == []


@pytest.mark.parametrize(
    "settings",
    [
        Builtin("models/segmenter", "auto"),
        TotalSegmentator("fast", "cuda"),
        NnUNet("verse", "net", [0, "all"], "cpu"),
        NnUNet("mine.tsv", "net", None, "cpu"),
        Masks("canonical", "{study_id}.nii"),
    ],
    ids=str,
)
def test_a_rule_passes_settings_as_plain_values_that_can_be_compared(settings: Settings) -> None:
    """Snakemake compares the text of builtin values alone, and leaves out all others without a word."""
    params = settings.as_params()
    assert ast.literal_eval(repr(params)) == params
    assert from_params(params) == settings
