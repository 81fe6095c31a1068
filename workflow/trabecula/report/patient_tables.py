"""Counts over the patients, their results and the reviewers' verdicts, as tables of the pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd
import pyarrow as pa

from trabecula.density.thresholds import Grade
from trabecula.evaluate.discrimination import wilson
from trabecula.report import wording
from trabecula.report.page_table import Cell, Line, Table, figure, groups, pick, plain
from trabecula.report.results import Row


@dataclass(frozen=True)
class CohortSummary:
    """A line of the table of cohorts, in words."""

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


def cohorts(patients: pd.DataFrame, roles: Mapping[str, str]) -> list[CohortSummary]:
    """Summarise each cohort, also one without a patient.

    Parameters
    ----------
    patients : frame
        Of `results.patient_rows`.
    roles : mapping
        Role of each cohort, by its name.
    """
    return [_cohort(name, roles[name], patients[patients["cohort"] == name]) for name in sorted(roles)]


def _cohort(name: str, role: str, rows: pd.DataFrame) -> CohortSummary:
    ages, grades = rows["age_years"].dropna(), rows["grade"].value_counts()
    sexes = rows["sex"].fillna("unknown").value_counts().sort_index()
    devices = rows["device_key"].dropna().value_counts().sort_index()
    # Quartiles, since the youngest and the oldest age would each show a single patient.
    low, middle, high = ages.quantile([0.25, 0.5, 0.75])
    age = f"{middle:.0f} ({low:.0f}–{high:.0f}), n = {len(ages):,}" if len(ages) else wording.MISSING
    return CohortSummary(
        name=name,
        role=role,
        patients=len(rows),
        results=int(rows["vbmd_mg_cm3"].notna().sum()),
        age=age,
        sex=", ".join(f"{sex} {n:,}" for sex, n in sexes.items()) or wording.MISSING,
        devices=tuple(f"{device}: {n:,}" for device, n in devices.items()),
        labelled=int(rows["qct_vbmd_mg_cm3"].notna().sum()),
        grades=", ".join(f"{grade} {grades[grade]:,}" for grade in get_args(Grade) if grade in grades),
        uncertain=int(rows["level_uncertain"].eq(True).sum()),
    )


def share_of(n: int, total: int) -> Cell:
    """Make a cell of a count as a share, with Wilson's interval."""
    if not total:
        return Cell(wording.MISSING, why="no patients")
    share = wilson(n, total)
    ends = f"({100 * (share.low or 0):.1f}–{100 * (share.high or 0):.1f})"
    return Cell(wording.percent(n / total), (ends, f"{n:,} of {total:,}"))


def quality(patients: pd.DataFrame) -> Table:
    """Count the measured patients by the quality of their results: flags, uncertain levels, novelty, reviews."""
    measured = patients[patients["vbmd_mg_cm3"].notna()]
    total = len(measured)
    meaning = "no flag, no uncertain level, nothing that the training did not hold"
    lines = [
        Line((Cell("Quality good", (meaning,)),), (_share(measured["quality"].eq("good")),)),
        Line(plain("A level's name may be off by one"), (_share(measured["level_uncertain"].eq(True)),)),
        Line(
            (Cell("Reviewed", ("a reader's verdict on a vertebra is used",)),), (_share(measured["reviewed"].eq(True)),)
        ),
    ]
    for column, title in (("flags", "Flag"), ("novelty", "Unlike the training")):
        counts = measured[column].explode().dropna().value_counts().sort_index()
        lines += [
            Line(plain(f"{title}: {_code_in_words(str(code))}"), (share_of(int(n), total),))
            for code, n in counts.items()
        ]
    caption = "Quality of the results, share of the measured patients"
    return Table(caption, plain("Finding", "Patients"), tuple(lines) if total else ())


def _share(hits: pd.Series) -> Cell:
    return share_of(int(hits.sum()), len(hits))


def _code_in_words(code: str) -> str:
    text = wording.reason(code)
    return code.replace("_", " ") if text == code else text


def decisions(patients: pd.DataFrame) -> Table:
    """Show the shares of the decisions, with the reasons why patients have none."""
    lines = []
    counts = patients.fillna({"decision_reason": ""}).groupby(["decision", "decision_reason"]).size()
    for (decision, reason), n in counts.items():  # pyright: ignore[reportGeneralTypeIssues]
        why = _code_in_words(str(reason)) if reason else ""
        lines.append(Line(plain(wording.decision(str(decision)), why), (share_of(int(n), len(patients)),)))
    columns = plain("Decision", "Reason", "Patients")
    return Table("Decisions of the network, share of all patients", columns, tuple(lines))


def prevalence(rows: Sequence[Row]) -> Table:
    """Show the shares of the grades and of reduced density by stratum."""
    quantities = ("osteoporosis", "low", "reduced")
    shares = [{**row, "metric": "share"} for row in rows]
    lines = tuple(
        Line(
            plain(wording.STRATUM[stratum], name),
            tuple(figure(pick(group, quantity=quantity)) for quantity in quantities),
        )
        for (stratum, name), group in groups(shares, "stratum", "cell")
    )
    columns = plain("Stratum", "Group", *(name.capitalize() for name in quantities))
    return Table("Share of the measured patients by the network, with Wilson’s interval", columns, lines)


def percentiles(rows: Sequence[Row], quantity: str) -> Table:
    """Show mean, standard deviation and percentiles of vBMD or HU by stratum."""
    names = ("sd", "p05", "p25", "p50", "p75", "p95")
    lines = []
    for row in (row for row in rows if row["quantity"] == quantity):
        spread = plain(*(wording.number(row[name], 1) for name in names))
        heads = plain(wording.STRATUM[row["stratum"]], row["cell"])
        lines.append(Line(heads, (figure({**row, "metric": "mae"}), *spread)))
    captions = {"vbmd_mg_cm3": f"vBMD by the network ({wording.MG_CM3})", "trabecular_hu": "Mean trabecular HU"}
    columns = plain("Stratum", "Group", "Mean", "SD", *(f"P{name[1:]}" for name in names[1:]))
    return Table(captions[quantity], columns, tuple(lines))


def verdicts(rows: pa.Table) -> Table:
    """Count the lines of the reviewers' file by verdict, status and reason."""
    reviewed = rows.to_pandas().fillna({"verdict": "not understood", "reason": ""})
    counts = reviewed.groupby(["verdict", "status", "reason"]).size()
    lines = tuple(
        Line(plain(verdict, status, _code_in_words(reason) if reason else ""), plain(f"{n:,}"))
        for (verdict, status, reason), n in counts.items()  # pyright: ignore[reportGeneralTypeIssues]
    )
    return Table("Lines of the reviewers' file", plain("Verdict", "Status", "Reason", "Lines"), lines)


def age_bands(ages: pd.Series, *, years: int = 10) -> pd.Series:
    """Give the lower end of each patient's age band, in years; NaN where the age is unknown.

    >>> age_bands(pd.Series([60.0, 69.9])).tolist()
    [60.0, 60.0]
    """
    return ages // years * years
