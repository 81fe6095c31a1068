"""Catalog of the tables: views for DuckDB, a data dictionary and a data package.

Here belongs what is written from the schemas for readers of the tables. The schemas belong to `tables`.
"""

from pathlib import Path

import duckdb

from trabecula.catalog.package import data_package
from trabecula.catalog.sql import PLACE, text, views_sql
from trabecula.catalog.views import VIEWS
from trabecula.catalog.words import dictionary, dictionary_csv
from trabecula.runtime.whole_file import whole_file

__all__ = ["PLACE", "VIEWS", "data_package", "dictionary", "dictionary_csv", "views_sql", "write"]


def write(folder: Path, *, place: Path) -> None:
    """Write views.sql, trabecula.duckdb, dictionary.md, dictionary.csv and datapackage.json into a folder of tables.

    Parameters
    ----------
    folder : Path
        Folder of the tables.
    place : Path
        Folder in which the views of the database look for the tables, whatever folder it is opened from; it need not
        exist yet.
    """
    write_text(views_sql("results/tables"), folder / "views.sql")
    write_text(dictionary(), folder / "dictionary.md")
    write_text(dictionary_csv(), folder / "dictionary.csv")
    write_text(data_package(folder), folder / "datapackage.json")
    with whole_file(folder / "trabecula.duckdb") as unfinished, duckdb.connect(unfinished) as connection:
        # DuckDB checks a view when it is made, and at that time the tables still lie in `folder`.
        connection.execute(f"SET VARIABLE {PLACE} = {text(str(folder.absolute()))}")
        connection.execute(views_sql(str(place.absolute())))


def write_text(content: str, path: Path) -> None:
    """Write a whole text file in UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(content, encoding="utf-8")
