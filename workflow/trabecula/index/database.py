"""Sort and join more rows than memory holds."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from trabecula.runtime.whole_file import beside


@contextmanager
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB with little memory; rows for which it has no room go into a private folder that others can't read."""
    spill = beside(folder / "spill")
    shutil.rmtree(spill, ignore_errors=True)  # of a killed process that had the same number
    spill.mkdir(mode=0o700, parents=True)  # DuckDB would let the group read it
    with duckdb.connect(config={"temp_directory": str(spill), "memory_limit": "500MB", "threads": 1}) as opened:
        try:
            yield opened
        finally:
            shutil.rmtree(spill, ignore_errors=True)


def in_sql(paths: Iterable[Path]) -> str:
    """Write Parquet files as a table in DuckDB's SQL, with the name of each row's file; paths are taken literally.

    >>> in_sql([Path("it's[1].parquet")])
    "read_parquet(['it''s[[]1].parquet'], filename = true)"
    """
    literal = (re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''") for path in paths)
    return "read_parquet([{}], filename = true)".format(", ".join(f"'{path}'" for path in literal))
