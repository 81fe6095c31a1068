"""Write the public tables of a cohort: bucket after bucket, so that whole tables are never in memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trabecula import tables
from trabecula.aggregate import buckets
from trabecula.aggregate.check import require
from trabecula.aggregate.shards import Part, in_order
from trabecula.aggregate.small import Piece
from trabecula.density import calibrate
from trabecula.runtime.whole_file import whole_file

# Rows of a row group, whatever the size of batches and buckets: the same rows give the same bytes.
ROWS_PER_GROUP = 100_000


class Rows:
    """Rows that come in pieces of any size and leave in row groups of one."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema, self._held = writer, schema, schema.empty_table()
        self.n = 0

    def add(self, rows: pa.Table) -> None:
        """Take rows in, and write the row groups that are full."""
        self.n += len(rows)
        self._held = pa.concat_tables([self._held, rows.select(self._schema.names).cast(self._schema)])
        full = len(self._held) - len(self._held) % ROWS_PER_GROUP
        for first in range(0, full, ROWS_PER_GROUP):
            self._write(self._held.slice(first, ROWS_PER_GROUP))
        self._held = self._held.slice(full)

    def end(self) -> None:
        """Write what is left."""
        if len(self._held) or not self.n:
            self._write(self._held)

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROWS_PER_GROUP)


@contextmanager
def table_writer(folder: Path, name: str, cohort: str) -> Iterator[Rows]:
    """Writer of a cohort's table; the file takes its place when it is whole and holds the rows that went in."""
    schema = tables.in_partition(tables.PUBLIC[name])
    path = place(folder, name, cohort)
    with whole_file(path) as unfinished:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            rows = Rows(writer, schema)
            yield rows
            rows.end()
        require(pq.read_metadata(unfinished).num_rows == rows.n, f"{path.name} does not hold the rows that went in")


def place(folder: Path, name: str, cohort: str) -> Path:
    """File of a cohort's table."""
    return folder / name / f"cohort={cohort}" / f"{name}.parquet"


def write_plain(folder: Path, cohort: str, name: str, pieces: Sequence[Piece], *, rows: int | None) -> None:
    """Write a small table as its pieces hold it.

    Parameters
    ----------
    folder : Path
        Where the tables go: ``{table}/cohort={cohort}/{table}.parquet``.
    cohort, name : str
        Names of cohort and table.
    pieces : sequence of Piece
        Of all buckets, in their order.
    rows : int or None
        Rows that it must have; None where no other table says.
    """
    with table_writer(folder, name, cohort) as table:
        for piece in pieces:
            table.add(buckets.read([piece.files[name]], 0, tables.PUBLIC[name]))
        require(rows is None or table.n == rows, f"cohort {cohort}: {table.n} of {rows} rows of {name}")


def write_predictions(folder: Path, cohort: str, parts: Sequence[Part], *, n_buckets: int) -> None:
    """Write the predictions, bucket by bucket."""
    with table_writer(folder, "predictions", cohort) as table:
        for bucket in range(n_buckets):
            table.add(_rows(parts, "predictions", bucket))
        require(table.n == sum(part.n_predictions for part in parts), f"cohort {cohort}: predictions were lost")


def write_densities(
    folder: Path,
    cohort: str,
    pieces: Sequence[Piece],
    parts: Sequence[Part],
    options: calibrate.Options,
    devices: calibrate.Devices,
) -> None:
    """Write studies, patients and vertebrae, with their density from HU.

    Parameters
    ----------
    folder : Path
        Where the tables go.
    cohort : str
        Its name.
    pieces : sequence of Piece
        Of all buckets, in their order.
    parts : sequence of Part
        Whose files hold the vertebrae.
    options, devices
        See `calibrate.study_lines`.
    """
    with ExitStack() as stack:
        into = {name: stack.enter_context(table_writer(folder, name, cohort)) for name in _HU}
        for bucket, piece in enumerate(pieces):
            rows = {name: buckets.read([piece.files[name]], 0, tables.PUBLIC[name]) for name in ("studies", "patients")}
            rows["vertebrae"] = _rows(parts, "vertebrae", bucket)
            lines = calibrate.study_lines(buckets.frame(rows["studies"].select(calibrate.OF_STUDY)), options, devices)
            for name, table in rows.items():
                into[name].add(_with_density(table, tables.PUBLIC[name], _HU[name], lines, options.method))
        n = into["vertebrae"].n
        require(n == sum(part.n_vertebrae for part in parts), f"cohort {cohort}: vertebrae were lost")


_HU = {"studies": "trabecular_hu", "patients": "trabecular_hu", "vertebrae": "trabecular_hu_mean"}


def _rows(parts: Sequence[Part], name: str, bucket: int) -> pa.Table:
    """A bucket's rows of a large table, in order."""
    of = tables.in_partition(tables.PUBLIC[name])
    return in_order(buckets.read([getattr(part, name) for part in parts], bucket, of))


def _with_density(
    rows: pa.Table, to: pa.Schema, hu: str, lines: Mapping[str, calibrate.Line | str], method: str
) -> pa.Table:
    """Fill in the columns `tables.CALIBRATED` that the table has."""
    keys = buckets.frame(rows.select([hu, "study_id"]))
    found = calibrate.calibrated(keys[hu], keys["study_id"], lines, method=method)
    names = [name for name in found if name in to.names]
    filled = rows.drop_columns([name for name in names if name in rows.column_names])
    for name in names:
        filled = filled.append_column(to.field(name), pa.array(found[name], to.field(name).type, from_pandas=True))
    return filled
