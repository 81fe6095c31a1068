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
from trabecula.uncertainty import Width

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
    training : table
        Learning curves of the model, of the schema TRAINING.
    bundle : Bundle
        The model.
    """

    patients: pa.Table
    studies: pa.Table
    vertebrae: pa.Table
    failures: pa.Table
    runs: pa.Table
    statistics: Mapping[str, pa.Table]
    training: pa.Table
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


# --- in brief --------------------------------------------------------------------------------------


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
    named = [name for name in words.OWN_SETS if (name, "network", "auc") in found]
    for name in named:
        own = [row["sentence"] for row in outcomes if row["set"] == name and (row["second"] == "hu" or row["best_hu"])]
        sentences.append(" ".join([_figures_of(name, found), *own]))
    if not named:
        sentences.append("No patient of a development or external cohort is here, so nothing is compared with QCT.")
    return sentences


def _figures_of(name: str, found: Mapping[tuple[str, str, str], Row]) -> str:
    both = []
    for predictor, called in (("network", "the network"), ("hu", "HU alone")):
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
    lines = [line for line in bundle.baselines if line.name == "hu"]
    return {
        "Name": bundle.name,
        "Model id": bundle.model_id,
        "Trained on": "simulated patients" if bundle.synthetic else "patients",
        "Tasks": ", ".join(bundle.tasks),
        "Folds": str(len(bundle.folds)),
        "Region": f"{bundle.roi.size}³ voxels of {bundle.roi.spacing_mm:g} mm, {words.number(low, 0)} to {high:.0f} HU",
        "Told besides": ", ".join(bundle.scan_inputs) or "nothing",
        "90 % interval": "; ".join(_width(width) for width in bundle.uncertainty.of(None).widths),
        "HU alone": "; ".join(
            f"without fold {line.fold}: {line.terms.get('hu', 0.0):.3f} × HU {_signed(line.terms['intercept'])} mg/cm³ "
            f"(n = {line.n:,})"
            for line in lines
        ),
    }


def _width(width: Width) -> str:
    half = words.MISSING if width.half_width_mg_cm3 is None else f"± {width.half_width_mg_cm3:.1f} {words.MG_CM3}"
    return f"{width.group}: {half} (n = {width.n:,})"


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
