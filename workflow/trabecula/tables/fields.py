"""How a column is described: name, type, meaning, unit, values, and what NULL means."""

import json
from collections.abc import Mapping
from functools import cache

import pyarrow as pa

from trabecula.errors import FLAGS, LEVEL_FLAGS, NOVELTY, REASONS, REPAIRS

SCHEMA_VERSION = 2

TEXT, BOOL = pa.string(), pa.bool_()
INT, FLOAT = pa.int32(), pa.float64()
TEXTS = pa.list_(pa.string())

# Lists of codes that columns take their values from, by name.
CODES: dict[str, Mapping[str, str]] = {
    "reasons": REASONS,
    "repairs": REPAIRS,
    "flags": FLAGS,
    "level_flags": LEVEL_FLAGS,
    "novelty": NOVELTY,
}


def column(
    name: str,
    kind: pa.DataType,
    description: str,
    *,
    unit: str = "",
    required: bool = False,
    values: Mapping[str, str] | str | None = None,
    null: str = "",
) -> pa.Field:
    """Describe one column.

    Parameters
    ----------
    unit : str
        Needed for numbers; pure numbers have the unit 1 (UCUM).
    required : bool
        The column may not hold NULL.
    values : mapping, str or None
        The only texts that it may hold, code to meaning; or names of lists in `CODES`, divided by commas.
    null : str
        What NULL means.

    Raises
    ------
    ValueError
        If a description or a number's unit is missing, or a required column says what NULL means.
    """
    if not description or (is_number(kind) and not unit):
        raise ValueError(f"column {name} lacks a description or a unit")
    if required and null:
        raise ValueError(f"column {name} can't be NULL")
    metadata = {"description": description, "unit": unit}
    metadata |= {"values": values if isinstance(values, str) else json.dumps(dict(values))} if values else {}
    metadata |= {"null": null} if null else {}
    return pa.field(name, kind, nullable=not required, metadata=metadata)


def schema(*columns: pa.Field, name: str) -> pa.Schema:
    """A table's schema, carrying the table's name and the schema version."""
    return pa.schema(list(columns), metadata={"table": name, "schema_version": str(SCHEMA_VERSION)})


def is_number(kind: pa.DataType) -> bool:
    """Whether a type holds numbers, or lists or tensors of them."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return is_number(kind.value_type)
    if pa.types.is_list(kind):
        return is_number(kind.value_type)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def said(field: pa.Field, what: str) -> str:
    """What a column says of itself: its description, unit or null; empty where it says nothing."""
    return (field.metadata or {}).get(what.encode(), b"").decode()


def values_of(field: pa.Field) -> Mapping[str, str] | None:
    """The only texts that a column may hold, with their meanings; None where any will do."""
    listed = said(field, "values")
    return _values(listed) if listed else None


@cache
def _values(listed: str) -> Mapping[str, str]:
    if listed.startswith("{"):
        return json.loads(listed)
    return {code: meaning for name in listed.split(", ") for code, meaning in CODES[name].items()}
