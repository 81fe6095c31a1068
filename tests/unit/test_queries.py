"""The documented queries: every language gives the same numbers."""

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
from made_tables import made_cohorts, write_tables

from trabecula import catalog

PAGE = (Path(__file__).parents[2] / "docs/queries.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^## (\d+)\. (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
RUN = "0123456789abcdef"
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Make a working folder with two cohorts, and an earlier run of other numbers."""
    folder = tmp_path_factory.mktemp("place")
    folder_of_tables = write_tables(folder / "results/tables", **made_cohorts())
    catalog.write(folder_of_tables, place=folder_of_tables)
    write_tables(folder / f"results/runs/{RUN}/tables", **made_cohorts(seed=8))
    return folder


def block(section: str, language: str) -> str:
    """Find the only block of a language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return code


def preamble() -> str:
    (code,) = re.findall(r"```\n(import pandas.*?)```", PAGE, re.DOTALL)
    return code


def rows_of(answer: pd.DataFrame | pl.DataFrame) -> Rows:
    columns = [answer[name].to_list() for name in answer.columns]
    return in_order([tuple(row) for row in zip(*columns, strict=True)])


def in_order(rows: Rows) -> Rows:
    """Sort rows, with numbers rounded and None for NULL."""

    def comparable(value: Any) -> Any:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        return value if isinstance(value, str) else round(float(value), 6)

    return sorted((tuple(comparable(value) for value in row) for row in rows), key=str)


def test_there_are_ten_questions():
    assert [int(number) for number, _, _ in QUESTIONS] == list(range(1, 11))


@pytest.mark.parametrize(("title", "section"), [(title, section) for _, title, section in QUESTIONS])
def test_duckdb_pandas_and_polars_agree(place, monkeypatch, title, section):
    monkeypatch.chdir(place)
    with duckdb.connect(place / "results/tables/trabecula.duckdb", read_only=True) as database:
        asked = database.execute(block(section, "sql"))
        names, rows = [column[0] for column in asked.description or ()], in_order(asked.fetchall())
    assert rows, title
    for language in ("pandas", "polars"):
        variables: dict[str, Any] = {}
        exec(preamble() + block(section, language), variables)
        assert list(variables["answer"].columns) == names
        assert rows_of(variables["answer"]) == rows


def has_r() -> bool:
    asked = ["Rscript", "-e", "library(arrow); library(dplyr); library(tidyr)"]
    return shutil.which("Rscript") is not None and subprocess.run(asked, capture_output=True).returncode == 0


@pytest.mark.skipif(not has_r(), reason="Rscript with arrow, dplyr and tidyr is not here")
@pytest.mark.parametrize(("title", "section"), [(title, section) for _, title, section in QUESTIONS])
def test_r_agrees_with_duckdb(place, tmp_path, title, section):
    with duckdb.connect() as database:
        database.execute(f"SET VARIABLE {catalog.PLACE} = '{place}/results/tables'")
        database.execute((place / "results/tables/views.sql").read_text())
        asked = database.execute(block(section, "sql").replace("'results/", f"'{place}/results/"))
        names, rows = [column[0] for column in asked.description or ()], in_order(asked.fetchall())
    out = tmp_path / "answer.csv"
    code = (
        f"library(arrow); library(dplyr)\n{block(section, 'r')}\nwrite.csv(answer, '{out}', row.names = FALSE, na = '')"
    )
    subprocess.run(["Rscript", "-e", code], cwd=place, check=True)
    answer = pd.read_csv(out)
    assert list(answer.columns) == names, title
    assert rows_of(answer) == rows
