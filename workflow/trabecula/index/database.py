"""Sorting and joining of more rows than memory holds."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb


@contextmanager
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with little memory; what it has no room for goes into a private folder, not where others may read it."""
    spill = folder / "spill"
    with duckdb.connect(config={"temp_directory": str(spill), "memory_limit": "500MB", "threads": 1}) as opened:
        try:
            yield opened
        finally:
            shutil.rmtree(spill, ignore_errors=True)


def in_sql(paths: Iterable[Path]) -> str:
    """Parquet files as a table in DuckDB's SQL, with the name of each row's file; no sign in a path means anything."""
    plain = (re.sub(r"([*?\[])", r"[\1]", str(path)).replace("'", "''") for path in paths)
    return "read_parquet([{}], filename = true)".format(", ".join(f"'{path}'" for path in plain))
