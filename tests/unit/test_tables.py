"""Schemas: every column is described, and a table is of its schema or is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trabecula import catalog, tables

ALL = {name: value for name, value in vars(tables).items() if isinstance(value, pa.Schema) and not name.startswith("_")}
# Numbers without a unit: shares, scores, and values whose unit another column or the column's meaning gives.
RATIOS = {"height_ratio_anterior", "height_ratio_middle", "height_ratio_neighbours"}
SHARES = {"padding_share", "contrast_probability"}
PROBABILITIES = {"probability_reduced", "joint_probability_reduced"}
WITHOUT_UNIT = {"score", "level_confidence", "value", "threshold"} | PROBABILITIES | RATIOS | SHARES
SPLIT = {"scheme": "random", "split": "random0", "held_out": None, "patient_id": "a", "part": "test"}


@pytest.mark.parametrize("name", tables.PUBLIC)
def test_every_column_has_a_meaning_and_every_number_a_unit(name):
    for field in tables.PUBLIC[name]:
        assert field.metadata[b"description"], field.name
        if pa.types.is_floating(field.type) and field.name not in WITHOUT_UNIT:
            assert field.metadata[b"unit"], field.name


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
