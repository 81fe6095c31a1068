"""Description of a column: name, type, meaning, unit, values, and the meaning of NULL."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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


# In place of what NULL means: the column may hold NULL, and its description says when.
NULLABLE = ""


@dataclass(frozen=True)
class Kind:
    """Kind of the values in a column.

    Attributes
    ----------
    type : DataType
        Arrow's type.
    unit : str
        Needed for numbers; pure numbers have the unit 1 (UCUM).
    values : mapping, str or None
        The only texts that the column may hold, code to meaning; or names of lists in `CODES`, divided by commas.
    """

    type: pa.DataType
    unit: str = ""
    values: Mapping[str, str] | str | None = None


PURE, COUNT = Kind(FLOAT, "1"), Kind(INT, "1")
MM, MM2, MM3, DEGREES = Kind(FLOAT, "mm"), Kind(FLOAT, "mm2"), Kind(FLOAT, "mm3"), Kind(FLOAT, "degrees")
DAYS, YEARS = Kind(INT, "days"), Kind(FLOAT, "years")
HU, KV, MG_CM3 = Kind(FLOAT, "HU"), Kind(FLOAT, "kV"), Kind(FLOAT, "mg/cm3 HA")


def one_of(values: Mapping[str, str] | str) -> Kind:
    """Describe a text from a closed set: code to meaning, or the name of a list in `CODES`."""
    return Kind(TEXT, values=values)


def some_of(values: Mapping[str, str] | str) -> Kind:
    """Describe a list of texts from a closed set: code to meaning, or names of lists in `CODES`."""
    return Kind(TEXTS, values=values)


def list_of(number: Kind) -> Kind:
    """Describe a list of numbers of one kind."""
    return Kind(pa.list_(number.type), number.unit)


def column(name: str, kind: Kind | pa.DataType, description: str, null: str | None = None) -> pa.Field:
    """Describe one column.

    Parameters
    ----------
    name : str
        Name of the column.
    kind : Kind or DataType
        What it holds; a bare type for texts, bytes, times and truth values.
    description : str
        What the column means.
    null : str or None
        What NULL means, or `NULLABLE`; None where the column may not hold NULL.

    Raises
    ------
    ValueError
        If the description or a number's unit is missing.
    """
    kind = kind if isinstance(kind, Kind) else Kind(kind)
    if not description or (is_number(kind.type) and not kind.unit):
        raise ValueError(f"column {name} lacks a description or a unit")
    metadata = {"description": description, "unit": kind.unit}
    if kind.values:
        metadata["values"] = kind.values if isinstance(kind.values, str) else json.dumps(dict(kind.values))
    if null:
        metadata["null"] = null
    return pa.field(name, kind.type, nullable=null is not None, metadata=metadata)


def schema(name: str, *columns: pa.Field) -> pa.Schema:
    """Give a table's schema, which carries the table's name and the schema version."""
    return pa.schema(list(columns), metadata={"table": name, "schema_version": str(SCHEMA_VERSION)})


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a type holds numbers, or lists or tensors of them.

    >>> is_number(pa.list_(FLOAT)), is_number(TEXTS)
    (True, False)
    """
    if isinstance(kind, pa.FixedShapeTensorType):
        return is_number(kind.value_type)
    if pa.types.is_list(kind):
        return is_number(kind.value_type)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def metadata_of(field: pa.Field, key: str) -> str:
    """Look up the description, unit, values or null of a column; empty where it has none.

    >>> metadata_of(column("age_years", YEARS, "Age at the study"), "unit")
    'years'
    """
    return (field.metadata or {}).get(key.encode(), b"").decode()


def values_of(field: pa.Field) -> Mapping[str, str] | None:
    """Give the only texts that a column may hold, with their meanings; None where any text will do."""
    listed = metadata_of(field, "values")
    return _values(listed) if listed else None


@cache
def _values(listed: str) -> Mapping[str, str]:
    if listed.startswith("{"):
        return json.loads(listed)
    return {code: meaning for name in listed.split(", ") for code, meaning in CODES[name].items()}
