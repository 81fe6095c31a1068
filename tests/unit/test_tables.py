"""Schemas: every column is described, and a table is of its schema or is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trabecula import catalog, tables
from trabecula.tables.fields import NULLABLE, PURE, column, one_of, some_of
from trabecula.tables.fields import schema as table_schema

ALL = {name: value for name, value in vars(tables).items() if isinstance(value, pa.Schema) and not name.startswith("_")}
SPLIT = {"scheme": "random", "split": "random0", "held_out": None, "patient_id": "a", "part": "test"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_column_has_a_meaning_and_every_number_a_unit(name):
    for field in ALL[name]:
        assert tables.metadata_of(field, "description"), field.name
        assert tables.metadata_of(field, "unit") or not tables.is_number(field.type), field.name


@pytest.mark.parametrize("name", tables.PUBLIC)
def test_every_public_column_that_may_be_null_says_what_null_means(name):
    assert [
        field.name for field in tables.PUBLIC[name] if field.nullable and not tables.metadata_of(field, "null")
    ] == []


@pytest.mark.parametrize("name", tables.PUBLIC)
def test_keys_are_columns_and_their_tables_exist(name):
    schema = tables.PUBLIC[name]
    assert set(tables.KEYS_OF[name]) <= set(schema.names)
    if name in tables.BELONGS_TO:
        assert set(tables.KEYS_OF[tables.BELONGS_TO[name]]) <= set(schema.names)
    assert name in tables.WHOLE or "cohort" in schema.names


def test_a_column_without_description_or_unit_is_refused():
    column("share", PURE, "A share")
    column("name", tables.TEXT, "A name")
    for kind, description in ((tables.TEXT, ""), (tables.FLOAT, "A number"), (pa.list_(tables.INT), "Numbers")):
        with pytest.raises(ValueError, match="column x"):
            column("x", kind, description)


def test_a_column_may_hold_null_only_where_that_is_said():
    assert not column("name", tables.TEXT, "A name").nullable
    assert column("name", tables.TEXT, "A name", "Unknown").nullable
    assert tables.metadata_of(column("name", tables.TEXT, "A name", "Unknown"), "null") == "Unknown"
    assert column("name", tables.TEXT, "A name", NULLABLE).nullable


def test_a_text_that_is_none_of_its_values_is_refused():
    fields = [
        column("sex", one_of({"F": "female", "M": "male"}), "Sex", "Unknown"),
        column("flags", some_of("flags, reasons"), "Flags"),
    ]
    schema = table_schema("few", *fields)
    good = [{"sex": "F", "flags": ["split", "metal"]}, {"sex": None, "flags": []}]
    assert tables.cast(good, schema).to_pylist() == good
    for wrong in ({"sex": "female", "flags": []}, {"sex": "F", "flags": ["metal", "transitional"]}):
        with pytest.raises(ValueError, match="none of its values"):
            tables.cast([*good, wrong], schema)


@pytest.mark.parametrize("name", tables.PUBLIC)
def test_the_dictionary_holds_every_column(name):
    section = catalog.dictionary().split(f"## {name}\n")[1].split("\n## ")[0]
    for field in tables.PUBLIC[name]:
        assert f"| `{field.name}` |" in section
        assert field.metadata[b"description"].decode() in section


@pytest.mark.parametrize("name", sorted(ALL))
def test_columns_that_are_all_null_keep_their_type_on_disk(tmp_path, name):
    schema = ALL[name]
    plain = {pa.string(): "x", pa.bool_(): True, pa.int32(): 1, pa.float64(): 1.0, tables.TEXTS: []}
    row = {field.name: None if field.nullable else plain.get(field.type, 0) for field in schema}
    for field in schema:
        if not field.nullable and field.type == pa.string() and (values := tables.values_of(field)):
            row[field.name] = next(iter(values))
    tables.write([row, row], schema, tmp_path / "cohort=a" / "file.parquet")
    found = tables.read(tmp_path / "cohort=a" / "file.parquet", schema)
    assert found.schema.equals(schema, check_metadata=True)
    assert found.to_pylist() == tables.cast([row, row], schema).to_pylist()


def test_what_is_not_of_the_schema_is_refused():
    row = SPLIT
    assert tables.cast([row], tables.SPLITS).to_pylist() == [row]
    for wrong in ({"patient_id": "a"}, row | {"more": 1}, row | {"patient_id": None}, row | {"split": 1}):
        with pytest.raises((ValueError, pa.ArrowInvalid, pa.ArrowTypeError)):
            tables.cast([wrong], tables.SPLITS)


def test_the_cohort_comes_from_the_folder_where_the_file_lacks_it(tmp_path):
    path = tmp_path / "cohort=north" / "labels.parquet"
    row = dict.fromkeys(tables.LABELS.names) | {"cohort": "north", "patient_id": "a", "status": "unused"}
    row |= {"line": 1, "faults": []}
    lean = tables.cast([row], tables.LABELS).drop_columns("cohort")
    path.parent.mkdir()
    pq.write_table(lean.cast(tables.in_partition(tables.LABELS)), path)
    assert tables.read(path, tables.LABELS).to_pylist() == [row]
    path.rename(tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match="cohort"):
        tables.read(tmp_path / "labels.parquet", tables.LABELS)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "splits.parquet"
    tables.write([SPLIT], tables.SPLITS, path)
    with pytest.raises(ValueError, match="NULL"):
        tables.write([SPLIT | {"patient_id": None}], tables.SPLITS, path)
    assert tables.read(path, tables.SPLITS).num_rows == 1
    assert [one.name for one in tmp_path.iterdir()] == ["splits.parquet"]
