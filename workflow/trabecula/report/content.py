"""What the page says, made from the tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pyarrow as pa

from trabecula.bundle import Bundle
from trabecula.report import words

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything that the report stands on.

    Attributes
    ----------
    patients, studies, vertebrae, failures, runs : tables
        Of the schemas of these names.
    statistics : dict
        Tables that evaluate wrote, by name.
    bundle : Bundle
        The model.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    failures: pa.Table
    runs: pa.Table
    statistics: Mapping[str, pa.Table]
    bundle: Bundle

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of one of the tables of evaluate."""
        return self.statistics[name].to_pylist()


# --- synthetic -------------------------------------------------------------------------------------


def synthetic_note(results: Results) -> str:
    """What is simulated, in one sentence; empty where nothing is."""
    patients = results.patients.select(["cohort", "synthetic"]).to_pylist()
    cohorts = sorted({row["cohort"] for row in patients if row["synthetic"]})
    parts = []
    if cohorts and len(cohorts) == len({row["cohort"] for row in patients}):
        parts.append("every patient here is simulated")
    elif cohorts:
        parts.append(f"the patients of {', '.join(cohorts)} are simulated")
    if results.bundle.synthetic:
        parts.append("the model was trained on simulated patients")
    return " and ".join(parts)


# --- cohorts ---------------------------------------------------------------------------------------


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


def cohorts(patients: pa.Table) -> list[CohortSummary]:
    """A summary per cohort, from the table patients."""
    rows = patients.to_pylist()
    return [
        _cohort(name, [row for row in rows if row["cohort"] == name]) for name in sorted({r["cohort"] for r in rows})
    ]


def _cohort(name: str, rows: Sequence[Row]) -> CohortSummary:
    ages = [row["age_years"] for row in rows if row["age_years"] is not None]
    sexes = Counter(row["sex"] or "unknown" for row in rows)
    devices = Counter(row["device_key"] for row in rows if row["device_key"])
    grades = Counter(row["grade"] for row in rows if row["grade"])
    return CohortSummary(
        name=name,
        role=rows[0]["role"],
        patients=len(rows),
        results=sum(row["vbmd_mg_cm3"] is not None for row in rows),
        age=f"{median(ages):.0f} ({min(ages):.0f}–{max(ages):.0f}), n = {len(ages)}" if ages else words.MISSING,
        sex=", ".join(f"{sex} {n:,}" for sex, n in sorted(sexes.items())),
        devices=tuple(f"{device}: {n:,}" for device, n in sorted(devices.items())),
        labelled=sum(row["qct_vbmd_mg_cm3"] is not None for row in rows),
        grades=", ".join(f"{grade} {grades[grade]:,}" for grade in ("normal", "low", "osteoporosis") if grades[grade]),
        uncertain=sum(bool(row["level_uncertain"]) for row in rows),
    )


# --- statistics ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, its n, and a note where something is undefined."""

    text: str
    n: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the study's table; published figures carry their number of patients in words."""

    group: str
    predictor: str
    cells: tuple[Cell, ...]
    published: str = ""


def study_table(metrics: Sequence[Row], published: Sequence[Any], columns: Sequence[str]) -> list[Line]:
    """Network and HU baseline per set, and below them the published figures.

    Parameters
    ----------
    metrics : sequence of rows
        Of the table metrics.
    published : sequence of Published
    columns : sequence of str
        Metrics to show.
    """
    found = {(row["set"], row["predictor"], row["metric"]): row for row in metrics}
    lines = [
        Line(words.SET[name], words.PREDICTOR[predictor], tuple(_cell(found[name, predictor, c]) for c in columns))
        for name in words.SET
        for predictor in words.PREDICTOR
        if (name, predictor, columns[0]) in found
    ]
    for row in published:
        if any(column in row.figures for column in columns):
            cells = tuple(Cell(row.figures.get(column, words.MISSING), "") for column in columns)
            lines.append(Line(row.name, "published, other data", cells, published=row.n))
    return lines


def _cell(row: Row) -> Cell:
    missing = "undefined" if row["value"] is None else "no interval"
    return Cell(words.estimate(row), f"n = {row['n']:,}", f"{missing}: {row['reason']}" if row["reason"] else "")


@dataclass(frozen=True)
class Comparison:
    """The outcome for one set and figure, in words and numbers."""

    group: str
    sentence: str
    numbers: str


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """Outcomes from the table comparison."""
    return [Comparison(words.SET[row["set"]], row["sentence"], _numbers(row)) for row in rows]


def _numbers(row: Row) -> str:
    """Such as ``AUC 0.950 against 0.930, difference 0.020 (−0.010 to 0.050), p = 0.2, n = 20``."""
    metric = words.METRICS[row["metric"]]
    if row["difference"] is None:
        return f"n = {row['n']:,}"
    network, baseline, difference = (
        words.number(row[name], metric.digits) for name in ("network", "hu_baseline", "difference")
    )
    unit = f" {metric.unit}" if metric.unit else ""
    parts = [
        f"{metric.heading} {network} against {baseline}{unit}",
        f"difference {difference} {words.interval(row['low'], row['high'], metric.digits)}".strip(),
        *([words.p_value(row["p_value"])] if row["p_value"] is not None else []),
        f"n = {row['n']:,}",
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class Left:
    """Patients that a set's figures leave out for one reason; a number per predictor and task."""

    group: str
    reason: str
    n: tuple[int, ...]


PREDICTIONS = tuple((predictor, task) for predictor in words.PREDICTOR for task in ("classification", "regression"))


def left_out(rows: Sequence[Row]) -> list[Left]:
    """Patients left out, from the table left_out: numbers in the order of `PREDICTIONS`."""
    n = {(row["set"], row["reason"], row["predictor"], row["task"]): row["n"] for row in rows}
    return [
        Left(words.SET[name], words.reason(reason), tuple(n.get((name, reason, *which), 0) for which in PREDICTIONS))
        for name, reason in dict.fromkeys((row["set"], row["reason"]) for row in rows)
    ]


def in_brief(results: Results) -> list[str]:
    """The report in a few plain sentences."""
    flow = results.rows("flow")
    n = Counter()
    for row in flow:
        if row["reason"] is None:
            n[row["unit"], row["step"]] += row["n"]
    with_result = sum(value is not None for value in results.patients["vbmd_mg_cm3"].to_pylist())
    sentences = [
        f"{words.counted(n['studies', 'found'], 'CT study')} of {words.counted(n['patients', 'found'], 'patient')} "
        f"were found; bone density was measured in {words.counted(n['studies', 'measured'], 'study')}, and "
        f"{words.counted(with_result, 'patient')} have a result."
    ]
    found = {(row["set"], row["predictor"], row["metric"]): row for row in results.rows("metrics")}
    outcomes = results.rows("comparison")
    for name in (name for name in words.SET if (name, "network", "auc") in found):
        own = [row["sentence"] for row in outcomes if row["set"] == name]
        sentences.append(" ".join([_figures_of(name, found), *own]))
    if not found:
        sentences.append("No patient of a development or external cohort is here, so nothing is compared with QCT.")
    return sentences


def _figures_of(name: str, found: Mapping[tuple[str, str, str], Row]) -> str:
    both = []
    for predictor, called in (("network", "the network"), ("hu_baseline", "HU alone")):
        auc, mae = found[name, predictor, "auc"], found[name, predictor, "mae"]
        both.append(f"{called} reaches AUC {words.estimate(auc)} and MAE {words.estimate(mae)} {words.MG_CM3}")
    n = words.counted(found[name, "network", "mae"]["n"], "patient")
    return f"{words.SET[name]}, {n} with QCT: {', '.join(both)}."


# --- what dropped out, the model, the run ----------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """Rows of the table failures that share cohort, stage and reason."""

    cohort: str
    stage: str
    reason: str
    rows: int
    files: int


def losses(failures: pa.Table) -> list[Loss]:
    """Failures by cohort, stage and reason, most frequent first."""
    grouped = failures.group_by(["cohort", "stage", "reason"]).aggregate([([], "count_all"), ("n_files", "sum")])
    found = [
        Loss(row["cohort"], row["stage"], words.reason(row["reason"]), row["count_all"], row["n_files_sum"] or 0)
        for row in grouped.to_pylist()
    ]
    return sorted(found, key=lambda loss: (loss.cohort, loss.stage, -loss.rows, loss.reason))


def model_facts(bundle: Bundle) -> dict[str, str]:
    """Facts of the model card, by name."""
    low, high = bundle.roi.hu_window
    lines = bundle.hu_baseline
    return {
        "Name": bundle.name,
        "Model id": bundle.model_id,
        "Trained on": "simulated patients" if bundle.synthetic else "patients",
        "Tasks": ", ".join(bundle.tasks),
        "Folds": str(len(bundle.folds)),
        "Region": f"{bundle.roi.size}³ voxels of {bundle.roi.spacing_mm:g} mm, {words.number(low, 0)} to {high:.0f} HU",
        "90 % interval": (
            words.MISSING if bundle.half_width_mg_cm3 is None else f"± {bundle.half_width_mg_cm3:.1f} {words.MG_CM3}"
        ),
        "HU alone": "; ".join(
            f"without fold {line.fold}: {line.slope:.3f} × HU {_signed(line.intercept)} mg/cm³ (n = {line.n:,})"
            for line in lines
        ),
    }


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {abs(value):.1f}"


def run_facts(runs: pa.Table) -> dict[str, str]:
    """Facts of the latest run, by name."""
    if not runs.num_rows:
        return {}
    run = max(runs.to_pylist(), key=lambda row: row["finished"])
    packages = json.loads(run["packages"])
    return {
        "Run": run["run_id"],
        "Finished": f"{run['finished']:%Y-%m-%d %H:%M} UTC",
        "Trabecula": run["version"] + (f", commit {run['commit']}" if run["commit"] else ""),
        "Configuration (SHA-256)": run["config_hash"],
        "Model": run["model_id"],
        "Packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
    }
