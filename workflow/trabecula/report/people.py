"""Who the patients are and what was found in them: counts over the tables patients, studies and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from trabecula.evaluate.discrimination import wilson
from trabecula.report import words
from trabecula.report.cells import Cell, Line, Row, Table, figure, pick, plain

COLUMNS = (
    "cohort", "role", "age_years", "sex", "device_key", "vbmd_mg_cm3", "trabecular_hu", "probability_reduced", "grade",
    "decision", "decision_reason", "novelty", "flags", "quality", "reviewed", "level_uncertain", "qct_vbmd_mg_cm3",
    "qct_reduced",
)  # fmt: skip
GRADES = ("normal", "low", "osteoporosis")


@dataclass(frozen=True)
class CohortSummary:
    """One line of the table of cohorts; ready to print."""

    name: str
    role: str
    patients: int
    results: int
    age: str
    sex: str
    devices: tuple[str, ...]
    labelled: int
    grades: str
    uncertain: int


def frame(patients: pa.Table) -> pd.DataFrame:
    """The columns that the report looks at, of all patients."""
    return patients.select(list(COLUMNS)).to_pandas()


def cohorts(patients: pd.DataFrame) -> list[CohortSummary]:
    """A summary per cohort, from the frame of patients."""
    return [_cohort(str(name), rows) for name, rows in patients.groupby("cohort", sort=True)]


def _cohort(name: str, rows: pd.DataFrame) -> CohortSummary:
    ages, grades = rows["age_years"].dropna(), rows["grade"].value_counts()
    sexes = rows["sex"].fillna("unknown").value_counts().sort_index()
    devices = rows["device_key"].dropna().value_counts().sort_index()
    # Not the youngest and the oldest, who are single patients.
    low, middle, high = ages.quantile([0.25, 0.5, 0.75])
    age = f"{middle:.0f} ({low:.0f}–{high:.0f}), n = {len(ages):,}" if len(ages) else words.MISSING
    return CohortSummary(
        name=name,
        role=rows["role"].iloc[0],
        patients=len(rows),
        results=int(rows["vbmd_mg_cm3"].notna().sum()),
        age=age,
        sex=", ".join(f"{sex} {n:,}" for sex, n in sexes.items()),
        devices=tuple(f"{device}: {n:,}" for device, n in devices.items()),
        labelled=int(rows["qct_vbmd_mg_cm3"].notna().sum()),
        grades=", ".join(f"{grade} {grades[grade]:,}" for grade in GRADES if grade in grades),
        uncertain=int(rows["level_uncertain"].eq(True).sum()),
    )


def share_of(n: int, total: int) -> Cell:
    """A count as a share, with Wilson's interval."""
    if not total:
        return Cell(words.MISSING, why="nobody")
    share = wilson(n, total)
    ends = f"({100 * (share.low or 0):.1f}–{100 * (share.high or 0):.1f})"
    return Cell(words.percent(n / total), (ends, f"{n:,} of {total:,}"))


def doubts(patients: pd.DataFrame) -> Table:
    """Quality of the results: flags, uncertain levels, novelty, and who was looked at."""
    measured = patients[patients["vbmd_mg_cm3"].notna()]
    total = len(measured)
    counts = [
        ("Quality good", "no flag, no uncertain level, nothing unlike the training", measured["quality"].eq("good")),
        ("A level's name may be off by one", "", measured["level_uncertain"].eq(True)),
        ("Reviewed", "a reader's verdict counts for a vertebra", measured["reviewed"].eq(True)),
    ]
    lines = [
        Line((Cell(name, (means,) if means else ()),), (share_of(int(hit.sum()), total),))
        for name, means, hit in counts
    ]
    for column, called in (("flags", "Flag"), ("novelty", "Unlike the training")):
        found = measured[column].explode().dropna().value_counts().sort_index()
        lines += [Line(plain(f"{called}: {_said(str(code))}"), (share_of(int(n), total),)) for code, n in found.items()]
    return Table(
        "Quality of the results, share of the measured patients",
        plain("What", "Patients"),
        tuple(lines) if total else (),
    )


def _said(code: str) -> str:
    text = words.reason(code)
    return code.replace("_", " ") if text == code else text


def undecided(patients: pd.DataFrame) -> Table:
    """Shares with each decision, and why others have none."""
    total, lines = len(patients), []
    counted = patients.fillna({"decision_reason": ""}).groupby(["decision", "decision_reason"]).size()
    for (decision, reason), n in counted.items():  # pyright: ignore[reportGeneralTypeIssues]
        why = _said(str(reason)) if reason else ""
        lines.append(Line(plain(words.DECISION.get(str(decision), str(decision)), why), (share_of(int(n), total),)))
    return Table(
        "Decisions of the network, share of all patients", plain("Decision", "Because", "Patients"), tuple(lines)
    )


def prevalence(rows: Sequence[Row]) -> Table:
    """Shares of the grades and of reduced density by stratum."""
    quantities = ("osteoporosis", "low", "reduced")
    lines = []
    for stratum, cell in _cells(rows):
        own = [{**row, "metric": "share"} for row in rows if (row["stratum"], row["cell"]) == (stratum, cell)]
        found = tuple(figure(pick(own, quantity=quantity)) for quantity in quantities)
        lines.append(Line(plain(words.STRATUM[stratum], cell), found))
    columns = plain("Stratum", "Group", *(name.capitalize() for name in quantities))
    return Table("Share of the measured patients by the network, with Wilson’s interval", columns, tuple(lines))


def percentiles(rows: Sequence[Row], quantity: str) -> Table:
    """Mean, standard deviation and percentiles by stratum."""
    names = ("sd", "p05", "p25", "p50", "p75", "p95")
    lines = []
    for row in (row for row in rows if row["quantity"] == quantity):
        spread = plain(*(words.number(row[name], 1) for name in names))
        heads = plain(words.STRATUM[row["stratum"]], row["cell"])
        lines.append(Line(heads, (figure({**row, "metric": "mae"}), *spread)))
    called = {"vbmd_mg_cm3": f"vBMD by the network ({words.MG_CM3})", "trabecular_hu": "Mean trabecular HU"}[quantity]
    return Table(called, plain("Stratum", "Group", "Mean", "SD", *(f"P{name[1:]}" for name in names[1:])), tuple(lines))


def _cells(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["stratum"], row["cell"]) for row in rows))


def verdicts(rows: pa.Table) -> Table:
    """Reviewers' lines by verdict and status."""
    counted = rows.to_pandas().fillna({"verdict": "not understood", "reason": ""})
    found = counted.groupby(["verdict", "status", "reason"]).size()
    lines = tuple(
        Line(plain(verdict, status, _said(reason) if reason else ""), plain(f"{n:,}"))
        for (verdict, status, reason), n in found.items()  # pyright: ignore[reportGeneralTypeIssues]
    )
    return Table("Lines of the reviewers' file", plain("Verdict", "Status", "Because", "Lines"), lines)


def age_bands(ages: pd.Series, *, years: int = 10) -> pd.Series:
    """Lower end of each patient's age band, in years; NaN where the age is unknown."""
    return ages // years * years
