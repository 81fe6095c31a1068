"""Check the configuration and the table of cohorts before any job."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema

from trabecula.errors import ConfigError
from trabecula.runtime.csv_lines import VERDICT_COLUMNS, VERDICT_PLACE, check_columns
from trabecula.runtime.places import RESERVED

Role = Literal["development", "external", "screening"]

COHORT_COLUMNS = ("cohort", "archive", "labels", "role")
ROLES: tuple[Role, ...] = ("development", "external", "screening")

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a section with options of its own",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "with at least {}",
    "maxItems": "with at most {}",
    "pattern": "that matches {}",
}


@dataclass(frozen=True)
class Cohort:
    """One line of cohorts.tsv.

    Attributes
    ----------
    name : str
        Unique name, used in file names.
    archive : Path
        Folder of the DICOM archive.
    labels : Path or None
        CSV of QCT labels; None where there are none.
    role : {"development", "external", "screening"}
        Use of the cohort.
    synthetic : bool
        The archive is simulated by this workflow.
    """

    name: str
    archive: Path
    labels: Path | None
    role: Role
    synthetic: bool


def with_defaults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the schema's defaults and check the result.

    Raises
    ------
    ConfigError
        If an option is unknown, of a wrong type or out of range; the message names the option and the values it takes.
    """
    full = _fill(deepcopy(dict(config)), schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(full)
    first = min(errors, key=lambda error: [str(part) for part in error.absolute_path], default=None)
    if first is not None:
        raise ConfigError(_sentence(first))
    return full


def _fill(value: Any, schema: Mapping[str, Any]) -> Any:
    """Fill in the defaults of a section and of all sections in it."""
    if not isinstance(value, dict):
        return value
    for name, part in schema.get("properties", {}).items():
        if name not in value and "default" in part:
            value[name] = deepcopy(part["default"])
        if name in value:
            value[name] = _fill(value[name], part)
    other = schema.get("additionalProperties")
    if isinstance(other, dict):
        for name in value.keys() - schema.get("properties", {}).keys():
            value[name] = _fill(value[name], other)
    return value


def _sentence(error: jsonschema.ValidationError) -> str:
    """Put into words the fault of an option, and what to write instead."""
    rule, value = cast(dict[str, Any], error.schema), cast(Any, error.instance)
    option = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        options = rule.get("properties", {})
        unknown = next(str(name) for name in value if name not in options)
        close = get_close_matches(unknown, options, n=1)
        cure = f"write {close[0]}" if close else "remove it, or see config/README.md for all options"
        return f"There is no option {option}{'.' if option else ''}{unknown}; {cure}."
    if error.validator == "required":
        missing = next(name for name in rule["required"] if name not in value)
        return f"Option {option} lacks {missing}; give {in_words(rule['properties'][missing])}."
    return f"Option {option} is {json.dumps(value, default=str)}; give {in_words(rule)}."


def in_words(option: Mapping[str, Any]) -> str:
    """Put into words the values that an option takes, from its part of the schema.

    >>> in_words({"type": "integer", "minimum": 1, "unit": "mm"})
    'a whole number, at least 1, in mm'
    """
    if "enum" in option:
        return "one of " + ", ".join(map(str, option["enum"]))
    kinds = option["type"] if isinstance(option["type"], list) else [option["type"]]
    words = " or ".join(_TYPES[kind] for kind in kinds)
    if "items" in option:
        words += f" (each: {in_words(option['items'])})"
    bounds = [text.format(option[name]) for name, text in _BOUNDS.items() if name in option]
    if "minItems" in option and option["minItems"] == option.get("maxItems"):
        bounds = [f"with {option['minItems']} entries"]
    unit = [f"in {option['unit']}"] if "unit" in option else []
    return ", ".join([words, *bounds, *unit])


def find(path: str, folders: Sequence[Path], *, option: str) -> Path:
    """Find a relative path in the first of the folders that holds it.

    Raises
    ------
    ConfigError
        If no folder holds it.
    """
    for folder in folders:
        if (folder / path).exists():
            return folder / path
    raise ConfigError(f"Option {option} names {path}, which does not exist; give a path that does.")


def find_verdicts(path: str | None, folders: Sequence[Path]) -> str | None:
    """Find the reviewers' verdicts, and check their columns; None where no path is configured.

    Raises
    ------
    ConfigError
        If the file is in none of the folders, can't be read, or lacks a column.
    """
    if path is None:
        return None
    verdicts = find(path, folders, option="aggregate.verdicts")
    check_columns(verdicts, called=f"The verdicts {path}", columns=VERDICT_COLUMNS, optional=VERDICT_PLACE)
    return str(verdicts)


def read_cohorts(path: Path, synthetic: Mapping[str, Any]) -> dict[str, Cohort]:
    """Read and check cohorts.tsv.

    Parameters
    ----------
    path : Path
        Tab-separated file with the columns cohort, archive, labels, role.
    synthetic : mapping
        Names of the cohorts that the workflow simulates; their files need not exist yet.

    Raises
    ------
    ConfigError
        If the table can't be read, or a cohort's name, role, archive or labels are not usable.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read; make it a text file in UTF-8.") from error
    if "\0" in "".join(lines):
        raise ConfigError(f"{path} holds a NUL character; make it a text file in UTF-8.")
    header, *rows = csv.reader([line for line in lines if line.strip()] or [""], delimiter="\t")
    if tuple(header) != COHORT_COLUMNS:
        raise ConfigError(f"{path}: the first line must name the columns {', '.join(COHORT_COLUMNS)}, with tabs.")
    cohorts: dict[str, Cohort] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) != len(COHORT_COLUMNS):
            raise ConfigError(
                f"{path}: cohort line {number} has {len(row)} entries; give {len(COHORT_COLUMNS)}, with tabs."
            )
        cohort = _cohort(*row, path=path, synthetic=synthetic)
        if cohort.name in cohorts:
            raise ConfigError(f"{path}: the cohort {cohort.name} occurs twice; rename one.")
        cohorts[cohort.name] = cohort
    if not cohorts:
        raise ConfigError(f"{path} names no cohort; add a line.")
    return cohorts


def _cohort(name: str, archive: str, labels: str, role: str, *, path: Path, synthetic: Mapping[str, Any]) -> Cohort:
    """Check one line of cohorts.tsv."""
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ConfigError(f"{path}: the cohort {name!r} must be named in letters, digits, _ and -; rename it.")
    if name.lower() in RESERVED:  # some storage does not tell capital letters from small ones
        raise ConfigError(
            f"{path}: the cohort {name} has the name of a file or folder that the workflow makes for all; rename it."
        )
    if role not in ROLES:
        raise ConfigError(f"{path}: the cohort {name} has the role {role!r}; use one of {', '.join(ROLES)}.")
    simulated = Path(archive) == Path("phantom") / name / "archive"
    if simulated and name not in synthetic:
        raise ConfigError(
            f"{path}: the cohort {name} is synthetic, but no option phantom.cohorts.{name} exists; add it."
        )
    if not simulated:
        if not archive or not Path(archive).is_dir():
            raise ConfigError(
                f"{path}: the archive {archive!r} of the cohort {name} is not a folder; correct its path."
            )
        if labels:
            check_columns(labels, called=f"{path}: the labels {labels} of the cohort {name}")
    return Cohort(name, Path(archive), Path(labels) if labels else None, role, simulated)


def fingerprint(config: Mapping[str, Any]) -> str:
    """Write a configuration as canonical JSON, for hashing and for the record of a run.

    >>> fingerprint({"b": 1, "a": [2]})
    '{"a":[2],"b":1}'
    """
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
