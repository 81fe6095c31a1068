"""The tables as a Frictionless Data Package (https://datapackage.org/standard/data-package/, version 2)."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from trabecula import tables

PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"


def data_package(folder: Path) -> str:
    """JSON of the data package of a folder of tables; a table without a file has no resource.

    Parquet has its own NULL, so no text stands for a missing value. The column cohort stands in the folders' names.
    """
    found = {name: sorted(folder.glob(f"{name}/**/{name}.parquet")) for name in tables.PUBLIC}
    resources = [_resource(name, folder, files) for name, files in found.items() if files]
    package = {"$schema": PROFILE, "name": "trabecula-tables", "title": "Bone density from archived CT"}
    return json.dumps(package | {"resources": resources}, indent=1, ensure_ascii=False) + "\n"


def _resource(name: str, folder: Path, files: list[Path]) -> dict[str, Any]:
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
    schema, key, to = tables.PUBLIC[name], list(tables.KEYS_OF[name]), tables.BELONGS_TO.get(name)
    described: dict[str, Any] = {"fields": [_field(field) for field in schema], "missingValues": []}
    if key:
        # A primary key may hold no NULL, a unique one may.
        nullable = any(schema.field(column).nullable for column in key)
        described |= {"uniqueKeys": [key]} if nullable else {"primaryKey": key}
    if to:
        columns = list(tables.KEYS_OF[to])
        described["foreignKeys"] = [{"fields": columns, "reference": {"resource": to, "fields": columns}}]
    return described


def _field(field: pa.Field) -> dict[str, Any]:
    values, constraints = tables.values_of(field), {}
    if not field.nullable:
        constraints["required"] = True
    if values and pa.types.is_list(field.type):
        constraints["jsonSchema"] = {"type": "array", "items": {"enum": list(values)}}
    elif values:
        constraints["enum"] = list(values)
    described: dict[str, Any] = {"name": field.name, "type": _type(field.type)}
    described["description"] = tables.said(field, "description")
    if unit := tables.said(field, "unit"):
        described["unit"] = unit
    if null := tables.said(field, "null"):
        described["nullMeaning"] = null
    if values and not pa.types.is_list(field.type):
        described["categories"] = [{"value": code, "label": meaning} for code, meaning in values.items()]
    return described | ({"constraints": constraints} if constraints else {})


def _type(kind: pa.DataType) -> str:
    named = (
        (pa.types.is_list(kind), "array"),
        (pa.types.is_string(kind), "string"),
        (pa.types.is_boolean(kind), "boolean"),
        (pa.types.is_integer(kind), "integer"),
        (pa.types.is_floating(kind), "number"),
        (pa.types.is_timestamp(kind), "datetime"),
    )
    return next(name for fits, name in named if fits)
