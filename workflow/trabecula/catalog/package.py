"""The tables as a Frictionless Data Package (https://datapackage.org/standard/data-package/, version 2)."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from trabecula import tables

PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"


def data_package(folder: Path) -> str:
    """Write the data package of a folder of tables as JSON; a table without a file has no resource.

    Parquet has its own NULL, so no text stands for a missing value. The column cohort stands in the folders' names.
    """
    files_of = {name: sorted(folder.glob(f"{name}/**/{name}.parquet")) for name in tables.PUBLIC}
    resources = [_resource(name, folder, files) for name, files in files_of.items() if files]
    package = {"$schema": PROFILE, "name": "trabecula-tables", "title": "Bone density from archived CT"}
    return json.dumps(package | {"resources": resources}, indent=1, ensure_ascii=False) + "\n"


def _resource(name: str, folder: Path, files: list[Path]) -> dict[str, Any]:
    """Describe a table and its files."""
    paths = [file.relative_to(folder).as_posix() for file in files]
    return {
        "name": name,
        "type": "table",
        "description": tables.MEANINGS[name],
        "path": paths[0] if len(paths) == 1 else paths,
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "schema": _schema(name),
    }


def _schema(name: str) -> dict[str, Any]:
    """Describe the columns of a table, its key, and the table that its rows belong to."""
    schema, key, parent = tables.PUBLIC[name], list(tables.KEYS_OF[name]), tables.BELONGS_TO.get(name)
    described: dict[str, Any] = {"fields": [_field(field) for field in schema], "missingValues": []}
    if key:
        # A primary key may hold no NULL, a unique one may.
        nullable = any(schema.field(column).nullable for column in key)
        described |= {"uniqueKeys": [key]} if nullable else {"primaryKey": key}
    if parent:
        columns = list(tables.KEYS_OF[parent])
        described["foreignKeys"] = [{"fields": columns, "reference": {"resource": parent, "fields": columns}}]
    return described


def _field(field: pa.Field) -> dict[str, Any]:
    """Describe a column: type, meaning, unit, values, and the meaning of NULL."""
    values, constraints = tables.values_of(field), {}
    if not field.nullable:
        constraints["required"] = True
    if values and pa.types.is_list(field.type):
        constraints["jsonSchema"] = {"type": "array", "items": {"enum": list(values)}}
    elif values:
        constraints["enum"] = list(values)
    described: dict[str, Any] = {"name": field.name, "type": _type(field.type)}
    described["description"] = tables.metadata_of(field, "description")
    if unit := tables.metadata_of(field, "unit"):
        described["unit"] = unit
    if null := tables.metadata_of(field, "null"):
        described["nullMeaning"] = null
    if values and not pa.types.is_list(field.type):
        described["categories"] = [{"value": code, "label": meaning} for code, meaning in values.items()]
    return described | ({"constraints": constraints} if constraints else {})


def _type(kind: pa.DataType) -> str:
    """Give the Frictionless name of a type.

    >>> _type(pa.list_(pa.string())), _type(pa.int32())
    ('array', 'integer')
    """
    names = (
        (pa.types.is_list(kind), "array"),
        (pa.types.is_string(kind), "string"),
        (pa.types.is_boolean(kind), "boolean"),
        (pa.types.is_integer(kind), "integer"),
        (pa.types.is_floating(kind), "number"),
        (pa.types.is_timestamp(kind), "datetime"),
    )
    return next(name for fits, name in names if fits)
