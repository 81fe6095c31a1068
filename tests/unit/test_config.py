"""The configuration: defaults, refusals in one sentence, the page made from the schema."""

import runpy
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trabecula.density.thresholds import Thresholds
from trabecula.errors import ConfigError
from trabecula.runtime import config
from trabecula.runtime.defaults import default_of

HOME = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((HOME / "workflow/schemas/config.schema.yaml").read_text())
PHYSICAL = ("_mm", "_mm3", "_hu", "_mg_cm3", "_days", "_kv")


def options(schema=SCHEMA, above=()):
    """Every option of the schema: path of its name, and its part."""
    for name, part in schema.get("properties", {}).items():
        yield (*above, name), part
        yield from options(part, (*above, name))
        if isinstance(part.get("additionalProperties"), dict):
            yield from options(part["additionalProperties"], (*above, name, "any"))


LEAVES = {".".join(path): part for path, part in options() if part.get("type") != "object"}


def cohorts(folder: Path, *lines: str) -> Path:
    """A cohorts.tsv; blanks in the lines become tabs."""
    table = folder / "cohorts.tsv"
    table.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    return table


def test_an_empty_configuration_is_complete_and_valid():
    full = config.with_defaults({}, SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(full)
    assert {name.split(".")[0] for name in LEAVES} == set(full)


@pytest.mark.parametrize("path", [path for path, part in LEAVES.items() if "default" in part and ".any." not in path])
def test_a_single_default_is_the_one_of_the_whole_configuration(path):
    value = config.with_defaults({}, SCHEMA)
    for name in path.split("."):
        value = value[name]
    assert default_of(path) == value


def test_the_thresholds_without_a_configuration_are_its_defaults():
    assert default_of("aggregate.reduced_below_mg_cm3") == Thresholds().reduced_below_mg_cm3
    assert default_of("aggregate.osteoporosis_below_mg_cm3") == Thresholds().osteoporosis_below_mg_cm3


def test_the_shipped_configurations_are_valid():
    for file in (HOME / "config").glob("*.yaml"):
        config.with_defaults(yaml.safe_load(file.read_text()), SCHEMA)


def test_filling_in_defaults_changes_nothing_that_was_given():
    given_ = {"index": {"shard_size": 3}, "phantom": {"cohorts": {"a": {"patients": 2, "devices": ["alpha"]}}}}
    before = deepcopy(given_)
    full = config.with_defaults(given_, SCHEMA)
    assert given_ == before
    assert full["index"]["shard_size"] == 3
    assert full["phantom"]["cohorts"]["a"]["first_patient"] == 0
    assert config.with_defaults(full, SCHEMA) == full


@pytest.mark.parametrize("path", list(LEAVES))
def test_every_option_says_its_type_default_and_meaning(path):
    part = LEAVES[path]
    assert "type" in part or "enum" in part
    assert part["description"].endswith(".")
    assert "|" not in config.in_words(part) + part["description"], "would break the table in config/README.md"
    required = {"patients", "devices"}
    assert ("default" in part) != (path.split(".")[-1] in required)


@pytest.mark.parametrize("path", [path for path in LEAVES if path.endswith(PHYSICAL)])
def test_every_physical_quantity_has_its_unit(path):
    assert LEAVES[path]["unit"].replace(" HA", "").replace("/", "_").lower() in path


@pytest.mark.parametrize("section", ["", *sorted({path.split(".")[0] for path in LEAVES if "." in path})])
@settings(max_examples=20)
@given(name=st.text(min_size=1).filter(lambda name: "\n" not in name))
def test_an_unknown_option_is_refused_by_name(section, name):
    known = SCHEMA["properties"][section]["properties"] if section else SCHEMA["properties"]
    if name in known:
        return
    given_ = {section: {name: 1}} if section else {name: 1}
    with pytest.raises(ConfigError) as refusal:
        config.with_defaults(given_, SCHEMA)
    assert f"There is no option {section}{'.' if section else ''}{name};" in str(refusal.value)


@pytest.mark.parametrize("path", [path for path in LEAVES if ".any." not in path])
def test_a_wrong_type_is_refused_with_what_the_option_takes(path):
    given_ = {"wrong": "type"}
    for name in reversed(path.split(".")):
        given_ = {name: given_}
    with pytest.raises(ConfigError) as refusal:
        config.with_defaults(given_, SCHEMA)
    assert str(refusal.value) == f'Option {path} is {{"wrong": "type"}}; give {config.in_words(LEAVES[path])}.'


def test_a_misspelt_option_is_recognised():
    with pytest.raises(ConfigError, match=r"There is no option segment\.bakend; write backend\."):
        config.with_defaults({"segment": {"bakend": "auto"}}, SCHEMA)


def test_an_incomplete_synthetic_cohort_is_refused():
    with pytest.raises(
        ConfigError, match=r"Option phantom\.cohorts\.a lacks patients; give a whole number, at least 1\."
    ):
        config.with_defaults({"phantom": {"cohorts": {"a": {"devices": ["alpha"]}}}}, SCHEMA)


def test_the_page_of_options_is_made_from_the_schema():
    generator = runpy.run_path(str(HOME / "config/generate.py"))
    assert generator["page"](SCHEMA) == generator["PAGE"].read_text(), "run `make generated`"


def test_cohorts_are_read(tmp_path):
    (tmp_path / "labels.csv").write_text("patient_id,study_date,level,vbmd,unit\n")
    table = cohorts(
        tmp_path,
        "cohort archive labels role",
        f"one {tmp_path} {tmp_path}/labels.csv external",
        "two phantom/two/archive phantom/two/labels.csv development",
        "",
        f"three {tmp_path}  screening",
    )
    found = config.read_cohorts(table, {"two": {}})
    assert list(found) == ["one", "two", "three"]
    assert found["one"] == config.Cohort("one", tmp_path, tmp_path / "labels.csv", "external", False)
    assert found["two"].synthetic
    assert found["three"].labels is None


@pytest.mark.parametrize(
    ("lines", "cure"),
    [
        ([], "must name the columns"),
        (["cohort archive labels role"], "names no cohort"),
        (["cohort archive role"], "must name the columns"),
        (["cohort archive labels role", "a /"], "cohort line 1 has 2 entries; give 4"),
        (["cohort archive labels role", "a /  tester"], "role 'tester'; use one of development, external, screening"),
        (["cohort archive labels role", "a/b /  external"], "rename it"),
        (["cohort archive labels role", "é /  external"], "rename it"),
        (
            ["cohort archive labels role", "tables /  external"],
            "has the name of a file or folder that the workflow makes",
        ),
        (
            ["cohort archive labels role", "runs /  external"],
            "has the name of a file or folder that the workflow makes",
        ),
        *(
            (
                ["cohort archive labels role", f"{name} /  external"],
                f"the cohort {name} has the name of a file or folder",
            )
            for name in ("key", "logs", "records", "models", "Key", "TABLES")
        ),
        (["cohort archive labels role", "a /  external", "a /  external"], "occurs twice; rename one"),
        (["cohort archive labels role", "a nowhere  external"], "'nowhere' of the cohort a is not a folder"),
        (["cohort archive labels role", "a   external"], "'' of the cohort a is not a folder"),
        (
            ["cohort archive labels role", "a / nowhere.csv external"],
            "labels nowhere.csv of the cohort a can't be read",
        ),
        (["cohort archive labels role", "a phantom/a/archive  external"], "no option phantom.cohorts.a exists; add it"),
    ],
)
def test_an_unusable_table_of_cohorts_is_refused_in_one_sentence(tmp_path, lines, cure):
    with pytest.raises(ConfigError) as refusal:
        config.read_cohorts(cohorts(tmp_path, *lines), {})
    assert cure in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        ("patient_id,level,vbmd\n".encode("utf-16"), "give a CSV file in UTF-8"),
        ("Müller,L1,100\n".encode("latin-1"), "give a CSV file in UTF-8"),
        (b"patient_id|study_date|level|vbmd|unit\n", "lack the columns patient_id, study_date, level, vbmd, unit"),
        (b"patient_id;study_date;level;vbmd\n", "lack the columns unit"),
        (b"patient_id,study_date,level,unit\n", "lack the columns vbmd"),
        (b"", "are empty; name the columns patient_id"),
    ],
)
def test_unreadable_labels_are_refused_in_one_sentence(tmp_path, content, cure):
    (tmp_path / "labels.csv").write_bytes(content)
    table = cohorts(tmp_path, "cohort archive labels role", f"a {tmp_path} {tmp_path}/labels.csv external")
    with pytest.raises(ConfigError) as refusal:
        config.read_cohorts(table, {})
    assert cure in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"cohort\tarchive\tlabels\trole\na\tb\0\t\tscreening\n"])
def test_a_table_of_cohorts_that_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "cohorts.tsv").write_bytes(content)
    with pytest.raises(ConfigError, match="make it a text file in UTF-8"):
        config.read_cohorts(tmp_path / "cohorts.tsv", {})


def test_the_first_folder_that_has_a_path_counts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b/x").mkdir(parents=True)
    assert config.find("x", [tmp_path / "a", tmp_path / "b"], option="model") == tmp_path / "b/x"
    with pytest.raises(ConfigError, match="Option model names y, which does not exist; give a path that does"):
        config.find("y", [tmp_path], option="model")
