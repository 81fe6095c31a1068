"""What a run can say to the items of a checklist; each function gives a text, empty where there is nothing to say."""

from dataclasses import dataclass

import pandas as pd

from trabecula.report import brief, facts, people, words
from trabecula.report.content import Results


@dataclass(frozen=True)
class Known:
    """What the fillers look at: results of a cohort, its patients as `people.frame`, cuts between grades."""

    results: Results
    patients: pd.DataFrame
    cuts_mg_cm3: tuple[float, float]


def intended(of: Known) -> str:
    """The use that the software is made for."""
    return "Research: finding reduced bone density on CT that was made for other reasons. No medical device."


def aim(of: Known) -> str:
    """Development, evaluation, application: by the cohort's role."""
    if of.patients.empty:
        return ""
    role = of.patients["role"].iloc[0]
    return f"Role of the cohort: {role} ({words.ROLE_MEANS[role]})."


def sources(of: Known) -> str:
    """Patients and scanners."""
    return " ".join(
        f"{one.name}: {words.counted(one.patients, 'patient')}; scanners {', '.join(one.devices) or 'unknown'}."
        for one in people.cohorts(of.patients)
    )


def side_by_side(of: Known) -> str:
    """Training patients and these."""
    n = int(of.patients.shape[0])
    return (
        f"{words.counted(n, 'patient')} here; the summary over all cohorts has every cohort side by side." if n else ""
    )


def eligible(of: Known) -> str:
    """Gates of the index."""
    lost = sum(row["n"] for row in of.results.flow.to_pylist() if row["reason"] and row["unit"] == "studies")
    return f"Every CT study with an acceptable series; {words.counted(lost, 'study')} fell out, by reason in the flow."


def preparation(of: Known) -> str:
    """Regions that the model sees."""
    return f"Vertebrae are outlined, cut out and resampled: {facts.model_facts(of.results.bundle)['Region']}."


def outcome(of: Known) -> str:
    """Cuts of the reference."""
    low, normal = of.cuts_mg_cm3
    return f"Trabecular vBMD by QCT; reduced below {normal:g}, osteoporosis below {low:g} {words.MG_CM3}."


def predictors(of: Known) -> str:
    """What the model is told."""
    told = ", ".join(of.results.bundle.scan_inputs) or "nothing"
    return f"The CT around the vertebral bodies; told besides: {told}."


def reviewers(of: Known) -> str:
    """Verdicts of readers."""
    n = of.results.verdicts.num_rows
    return f"Levels and outlines are automatic; readers judged {words.counted(n, 'vertebra line')}." if n else ""


def missing(of: Known) -> str:
    """What dropped out."""
    n = int(of.patients["vbmd_mg_cm3"].isna().sum())
    return f"{words.counted(n, 'patient')} have no result; nothing is imputed, each has a reason code."


def partitions(of: Known) -> str:
    """Sets of the statistics."""
    found = {row["set"] for row in of.results.rows("metrics")}
    return "; ".join(f"{words.SET[name]}: {words.SET_MEANS[name]}" for name in words.SET if name in found)


def disjoint(of: Known) -> str:
    """The unit of division."""
    return "Patients: all scans of a patient are on one side, and no patient is judged by a network that saw them."


def model(of: Known) -> str:
    """The bundle."""
    bundle = of.results.bundle
    tasks = ", ".join(bundle.tasks)
    return f"3D networks (MONAI), {len(bundle.folds)} folds, tasks {tasks}; bundle {bundle.model_id}."


def training(of: Known) -> str:
    """Epochs and how one was kept."""
    if not of.results.training.num_rows:
        return ""
    epochs = max(of.results.training["epoch"].to_pylist())
    return f"Up to {epochs} epochs; the weights with the lowest loss on the validation part were kept."


def predictions(of: Known) -> str:
    """Means over folds."""
    return "Mean over folds and levels used; a patient of the training has the fold that never saw them."


def strata(of: Known) -> str:
    """Strata with figures."""
    found = dict.fromkeys(words.STRATUM[row["stratum"]].lower() for row in of.results.rows("strata"))
    return f"Figures with tests of interaction by {', '.join(found)}." if found else ""


def measures(of: Known) -> str:
    """Measures and intervals."""
    if not of.results.judged:
        return ""
    return "AUC (DeLong), proportions (Wilson), calibration, net benefit, MAE, agreement (BCa bootstrap of patients)."


def updating(of: Known) -> str:
    """Recalibration on local labels."""
    n = len(of.results.rows("recalibration"))
    return (
        "Fits of intercept, or intercept and slope, to local labels are simulated; the model stays as it is."
        if n
        else ""
    )


def output(of: Known) -> str:
    """What a patient gets."""
    return "vBMD with a 90 % interval, a probability of reduced density, a grade and a decision that may be withheld."


def code(of: Known) -> str:
    """Version and run."""
    run = facts.run_facts(of.results.runs)
    return f"Trabecula {run['Trabecula']}, Apache-2.0; run {run['Run']}; {run['Packages']}." if run else ""


def flow(of: Known) -> str:
    """Studies and patients."""
    return brief.found(of.results.flow, of.patients)


def people_(of: Known) -> str:
    """Age and sex."""
    return " ".join(f"Age, median (quartiles): {one.age}; {one.sex}." for one in people.cohorts(of.patients))


def events(of: Known) -> str:
    """Labelled and reduced."""
    known = of.patients["qct_reduced"].dropna()
    return (
        f"{words.counted(len(known), 'patient')} with QCT, {int(known.eq(True).sum()):,} of them reduced."
        if len(known)
        else ""
    )


def performance(of: Known) -> str:
    """The sentences of the first paragraph."""
    return " ".join(brief.against_qct(of.results))


def abstention(of: Known) -> str:
    """Decisions withheld."""
    n = int(of.patients["decision"].isin(["indeterminate", "not_evaluable"]).sum())
    return f"{words.counted(n, 'patient')} of {len(of.patients):,} have no decision, each with a reason."


def design(of: Known) -> str:
    """Retrospective."""
    return "Retrospective: archived CT."


def identity(of: Known) -> str:
    """Pseudonyms."""
    return "Keyed pseudonyms (HMAC-SHA256); the key and the linkage stay with the hospital, outside the results."


def acquisition(of: Known) -> str:
    """Scanners, voltage and kernel."""
    devices = of.patients["device_key"].dropna().value_counts().sort_index()
    return (
        "Maker, model, kVp, kernel: " + "; ".join(f"{name} ({n:,})" for name, n in devices.items()) + "."
        if len(devices)
        else ""
    )


def internal(of: Known) -> str:
    """Patients of the training, by networks that never saw them."""
    return _set(of, "cross-validated")


def external(of: Known) -> str:
    """Patients without part in the training."""
    return _set(of, "external")


def _set(of: Known, name: str) -> str:
    rows = [row for row in of.results.rows("metrics") if row["set"] == name and row["predictor"] == "network"]
    auc = next((row for row in rows if row["metric"] == "auc"), None)
    return f"{words.SET[name]}: AUC {words.estimate(auc)}, n = {auc['n']:,}." if auc else ""


FILLERS = {
    function.__name__.rstrip("_"): function
    for function in (
        intended, aim, sources, side_by_side, eligible, preparation, outcome, predictors, reviewers, missing,
        partitions, disjoint, model, training,
        predictions, strata, measures, updating, output, code, flow, people_, events,
        performance, abstention, design, identity, acquisition, internal, external,
    )
}  # fmt: skip
