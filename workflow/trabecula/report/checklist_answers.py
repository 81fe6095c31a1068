"""Answers of a run to the items of a checklist; each function gives a text, empty where the run has no answer."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from trabecula.density.thresholds import Thresholds
from trabecula.report import first_paragraph, model_and_run, patient_tables, wording
from trabecula.report.counts import count
from trabecula.report.page_table import pick
from trabecula.report.results import Results


@dataclass(frozen=True)
class Cohort:
    """A cohort's results, its patients (`results.patient_rows`) and the thresholds, from which the answers are made."""

    results: Results
    patients: pd.DataFrame
    thresholds: Thresholds


def intended(_: Cohort) -> str:
    """Say for which use the software is made."""
    return "Research: finding reduced bone density on CT that was made for other reasons. Not a medical device."


def aim(cohort: Cohort) -> str:
    """Say whether the cohort serves development, evaluation or application, by its role."""
    (role,) = cohort.results.roles.values()
    return f"Role of the cohort: {role} ({wording.ROLE_MEANS[role]})."


def sources(cohort: Cohort) -> str:
    """Count the patients and list their scanners."""
    (row,) = patient_tables.cohorts(cohort.patients, cohort.results.roles)
    if not row.patients:
        return ""
    return f"{row.name}: {wording.counted(row.patients, 'patient')}; scanners {', '.join(row.devices) or 'unknown'}."


def side_by_side(cohort: Cohort) -> str:
    """Say where this cohort stands beside the patients of the training."""
    n = len(cohort.patients)
    return f"{wording.counted(n, 'patient')} here; the summary page shows all cohorts side by side." if n else ""


def eligible(cohort: Cohort) -> str:
    """Say which studies the index accepts, and count those that it did not."""
    lost = sum(row["n"] for row in cohort.results.flow.to_pylist() if row["reason"] and row["unit"] == "studies")
    return (
        f"Every CT study with an acceptable series; {wording.counted(lost, 'study')} dropped out, with the reasons in "
        "the flow."
    )


def preparation(cohort: Cohort) -> str:
    """Say how the regions that the model sees are prepared."""
    region = model_and_run.model_facts(cohort.results.bundle)["Region"]
    return f"Vertebrae are outlined, cut out and resampled: {region}."


def outcome(cohort: Cohort) -> str:
    """Give the thresholds of the reference standard."""
    thresholds = cohort.thresholds
    return (
        f"Trabecular vBMD by QCT; reduced below {thresholds.reduced_below_mg_cm3:g}, osteoporosis below "
        f"{thresholds.osteoporosis_below_mg_cm3:g} {wording.MG_CM3}."
    )


def predictors(cohort: Cohort) -> str:
    """List what the network is given."""
    scan_facts = model_and_run.scan_facts(cohort.results.bundle)
    return f"The CT around the vertebral bodies. Scan facts given to the network: {scan_facts}."


def reviewers(cohort: Cohort) -> str:
    """Count the readers' verdicts that were used."""
    n = cohort.results.verdicts["status"].to_pylist().count("used")
    if not n:
        return ""
    return f"Levels and outlines are automatic; readers gave {wording.counted(n, 'verdict')} on single vertebrae."


def missing(cohort: Cohort) -> str:
    """Count the patients without a result."""
    if cohort.patients.empty:
        return ""
    n = int(cohort.patients["vbmd_mg_cm3"].isna().sum())
    return f"{wording.counted(n, 'patient')} have no result, each with a reason code. No value is imputed."


def partitions(cohort: Cohort) -> str:
    """List the sets of patients of the statistics."""
    present = {row["set"] for row in cohort.results.rows("metrics")}
    return "; ".join(f"{wording.SET[name]}: {wording.SET_MEANS[name]}" for name in wording.SET if name in present)


def disjoint(_: Cohort) -> str:
    """Say that the sets share no patient."""
    return (
        "Patients: all scans of a patient are in the same part, and no patient is judged by a network that was "
        "trained on them."
    )


def model(cohort: Cohort) -> str:
    """Describe the model bundle."""
    bundle = cohort.results.bundle
    tasks = ", ".join(bundle.tasks)
    return f"3D networks (MONAI), {len(bundle.folds)} folds, tasks {tasks}; bundle {bundle.model_id}."


def training(cohort: Cohort) -> str:
    """Say how many epochs the training had, and which weights were kept."""
    if not cohort.results.training.num_rows:
        return ""
    epochs = max(cohort.results.training["epoch"].to_pylist())
    return f"Up to {epochs} epochs; the weights with the lowest loss on the validation patients were kept."


def predictions(_: Cohort) -> str:
    """Say how the predictions are averaged."""
    return (
        "Mean over the folds' networks and the levels used. A patient of the training is predicted only by the network "
        "that was not trained on them."
    )


def strata(cohort: Cohort) -> str:
    """List the strata with figures."""
    names = dict.fromkeys(wording.STRATUM[row["stratum"]].lower() for row in cohort.results.rows("strata"))
    return f"Figures with tests of interaction by {', '.join(names)}." if names else ""


def measures(cohort: Cohort) -> str:
    """List the measures of performance and their intervals."""
    if not cohort.results.judged:
        return ""
    return "AUC (DeLong), proportions (Wilson), calibration, net benefit, MAE, agreement (BCa bootstrap of patients)."


def updating(cohort: Cohort) -> str:
    """Say how recalibration on local labels was examined."""
    if not cohort.results.rows("recalibration"):
        return ""
    return (
        "Corrections of the results by local labels (an intercept, or an intercept and a slope) are simulated; the "
        "model itself is not changed."
    )


def output(_: Cohort) -> str:
    """Say what a patient's result consists of."""
    return "vBMD with a 90 % interval, a probability of reduced density, a grade and a decision that may be withheld."


def code(cohort: Cohort) -> str:
    """Give the version and the run."""
    run = model_and_run.run_facts(cohort.results.runs)
    return f"Trabecula {run['Trabecula']}, Apache-2.0; run {run['Run']}; {run['Packages']}." if run else ""


def flow(cohort: Cohort) -> str:
    """Count studies and patients."""
    return " ".join(first_paragraph.counts(count(cohort.results.studies, cohort.patients)))


def people(cohort: Cohort) -> str:
    """Give age and sex."""
    (row,) = patient_tables.cohorts(cohort.patients, cohort.results.roles)
    return f"Age, median (quartiles): {row.age}; {row.sex}." if row.patients else ""


def events(cohort: Cohort) -> str:
    """Count patients with QCT and those with reduced density."""
    reduced = cohort.patients["qct_reduced"].dropna()
    if not len(reduced):
        return ""
    n = int(reduced.eq(True).sum())
    return f"{wording.counted(len(reduced), 'patient')} with QCT, {n:,} of them with reduced density."


def performance(cohort: Cohort) -> str:
    """Repeat the comparison with QCT of the first paragraph."""
    return " ".join(first_paragraph.against_qct(cohort.results))


def abstention(cohort: Cohort) -> str:
    """Count the decisions that were withheld."""
    if cohort.patients.empty:
        return ""
    n = int(cohort.patients["decision"].isin(list(wording.NO_DECISION)).sum())
    return f"{wording.counted(n, 'patient')} of {len(cohort.patients):,} have no decision, each with a reason."


def design(_: Cohort) -> str:
    """Say that the study is retrospective."""
    return "Retrospective: archived CT."


def identity(_: Cohort) -> str:
    """Describe the pseudonyms."""
    return "Keyed pseudonyms (HMAC-SHA256); the key and the linkage stay with the hospital, outside the results."


def acquisition(cohort: Cohort) -> str:
    """Count patients by scanner, voltage and kernel."""
    devices = cohort.patients["device_key"].dropna().value_counts().sort_index()
    if not len(devices):
        return ""
    return f"Maker, model, kVp, kernel: {'; '.join(f'{name} ({n:,})' for name, n in devices.items())}."


def internal(cohort: Cohort) -> str:
    """Give the AUC in patients of the training, predicted by networks that were not trained on them."""
    return _auc(cohort, "cross-validated")


def external(cohort: Cohort) -> str:
    """Give the AUC in patients who took no part in the training."""
    return _auc(cohort, "external")


def _auc(cohort: Cohort, name: str) -> str:
    auc = pick(cohort.results.rows("metrics"), set=name, predictor="network", metric="auc")
    return f"{wording.SET[name]}: AUC {wording.estimate(auc)}, n = {auc['n']:,}." if auc else ""


ANSWERS: dict[str, Callable[[Cohort], str]] = {
    function.__name__: function
    for function in (
        intended, aim, sources, side_by_side, eligible, preparation, outcome, predictors, reviewers, missing,
        partitions, disjoint, model, training,
        predictions, strata, measures, updating, output, code, flow, people, events,
        performance, abstention, design, identity, acquisition, internal, external,
    )
}  # fmt: skip
