"""How sure a result is: calibrated probability, interval, decision, and whether the scan is like the training's.

All of it is learned out of fold, by patient. A patient of the training is judged by the patients of the other folds,
anyone else by all of them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from trabecula.model.uncertainty import decision, intervals, novelty, temperature
from trabecula.model.uncertainty.decision import DecisionThresholds
from trabecula.model.uncertainty.intervals import Width
from trabecula.model.uncertainty.novelty import Experience, Range
from trabecula.model.uncertainty.temperature import Temperature

__all__ = ["DecisionThresholds", "Experience", "Range", "Reference", "Temperature", "Uncertainty", "Width"]
__all__ += ["from_facts", "judge", "learn", "to_facts"]

JUDGED = (
    *("probability_reduced", "vbmd_low", "vbmd_high", "interval_group", "novelty"),
    *("decision", "decision_reason"),
)


@dataclass(frozen=True)
class Reference:
    """Reference that development patients give for judging the results of one fold's patients, or of new patients.

    Attributes
    ----------
    fold : int or None
        For patients of this fold, learned from the patients of all other folds; None: for new patients, learned from
        all.
    temperature : Temperature
        Temperature of the classification networks.
    thresholds : DecisionThresholds
        Thresholds of the decision.
    widths : tuple of Width
        Half widths of the intervals: over all patients first, then by group.
    experience : Experience
        The scans of the training.
    """

    fold: int | None
    temperature: Temperature
    thresholds: DecisionThresholds
    widths: tuple[Width, ...]
    experience: Experience

    def width(self, group: str) -> Width:
        """Give the half width of a group, or that over all patients where the group has no own."""
        return {width.group: width for width in self.widths}.get(group, self.widths[0])


@dataclass(frozen=True)
class Uncertainty:
    """The part of a bundle that tells how sure its results are.

    Attributes
    ----------
    references : tuple of Reference
        One per fold, and one for new patients.
    """

    references: tuple[Reference, ...]

    def reference(self, fold: int | None) -> Reference:
        """Give the reference for patients of a fold, or (None) for new patients."""
        return next(reference for reference in self.references if reference.fold == fold)


def learn(cases: pd.DataFrame) -> Uncertainty:
    """Learn from development patients how sure results are.

    Parameters
    ----------
    cases : DataFrame
        A row per patient, out of fold: patient_id, fold, logit (mean over levels, by the classification network),
        regression and hu (vBMD by the network and by the HU line, in mg/cm3), qct_vbmd_mg_cm3, reduced,
        trabecular_hu, kvp, phase, thickness_mm, spacing_mm, device_key. The last six may be unknown.
    """
    folds = sorted(int(fold) for fold in cases["fold"].unique())
    held_out = [_reference(cases[cases["fold"] != fold], fold) for fold in folds]
    return Uncertainty((*held_out, _reference(cases, None)))


def _reference(cases: pd.DataFrame, fold: int | None) -> Reference:
    """Learn one reference from these patients."""
    logits, reduced = cases["logit"].to_numpy(np.float64), cases["reduced"].to_numpy(bool)
    scaling = temperature.fit(logits, reduced)
    residuals = (cases["regression"] - cases["qct_vbmd_mg_cm3"]).to_numpy(np.float64)
    return Reference(
        fold=fold,
        temperature=scaling,
        thresholds=decision.learn(temperature.probability(logits, scaling.value), reduced),
        widths=intervals.learn(residuals, intervals.groups(cases).to_numpy(str)),
        experience=novelty.learn(cases),
    )


def judge(results: pd.DataFrame, uncertainty: Uncertainty) -> pd.DataFrame:
    """Tell how sure each study's result is.

    Parameters
    ----------
    results : DataFrame
        By study: logit, vbmd_mg_cm3, fold_spread_mg_cm3, hu_baseline_vbmd_mg_cm3, trabecular_hu, kvp, phase,
        thickness_mm, spacing_mm, device_key, and fold: that of a patient of the training, else NaN or `NO_FOLD`.
        Each of them may be unknown.
    uncertainty : Uncertainty
        The uncertainty of the bundle that gave the results.

    Returns
    -------
    DataFrame
        By study, columns `JUDGED`: probability_reduced (calibrated), vbmd_low and vbmd_high (mg/cm3),
        interval_group, novelty (list of codes), decision, decision_reason.
    """
    folds = results["fold"].astype(float)
    of_none = ~folds.isin([reference.fold for reference in uncertainty.references if reference.fold is not None])
    parts = []
    for reference in uncertainty.references:
        covered = of_none if reference.fold is None else folds == reference.fold
        parts.append(_judge(results[covered], reference))
    return pd.concat(parts).loc[results.index]


def _judge(results: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Judge the results of the patients that one reference is for."""
    logits = results["logit"].to_numpy(np.float64)
    probability = temperature.probability(logits, reference.temperature.value)
    codes = novelty.find(results, reference.experience)
    decisions, reasons = _decisions(probability, novelty.blocking(codes), reference.thresholds)
    vbmd = results["vbmd_mg_cm3"].astype(float)
    widths = [reference.width(group) for group in intervals.groups(results)]
    half = pd.Series([width.half_width_mg_cm3 for width in widths], results.index, float)
    group = pd.Series([width.group for width in widths], results.index, object)
    columns = {
        "probability_reduced": pd.Series(probability, results.index),
        "vbmd_low": vbmd - half,
        "vbmd_high": vbmd + half,
        "interval_group": group.where((vbmd + half).notna(), None),
        "novelty": codes,
        "decision": pd.Series(decisions, results.index, object),
        "decision_reason": pd.Series(reasons, results.index, object),
    }
    return pd.DataFrame(columns, index=results.index)[list(JUDGED)]


def _decisions(
    probability: np.ndarray, blocking: pd.Series, thresholds: DecisionThresholds
) -> tuple[list[str], list[str | None]]:
    """Decide, and give the reason where there is no decision: a blocking code, else that a threshold is near."""
    by_probability = decision.decide(probability, thresholds)
    pairs = [_with_reason(decided, code) for decided, code in zip(by_probability, blocking, strict=True)]
    return [decided for decided, _ in pairs], [reason for _, reason in pairs]


def _with_reason(decided: str, blocking_code: str | None) -> tuple[str, str | None]:
    """Let a blocking code stop a decision, and give the reason of a decision that there is not."""
    if decided == "not_evaluable":
        return decided, "no_prediction"
    if blocking_code:
        return "indeterminate", blocking_code
    return decided, "near_cut" if decided == "indeterminate" else None


def to_facts(uncertainty: Uncertainty) -> dict[str, Any]:
    """Give the uncertainty as plain values for the bundle's metadata; `from_facts` reads them."""
    references = [_to_facts(reference) for reference in uncertainty.references]
    return {"coverage": intervals.COVERAGE, "decision_error": decision.ERROR, "references": references}


def _to_facts(reference: Reference) -> dict[str, Any]:
    """Give one reference as plain values."""
    return {
        "fold": reference.fold,
        "temperature": asdict(reference.temperature),
        "cuts": asdict(reference.thresholds),
        "widths": [asdict(width) for width in reference.widths],
        "experience": asdict(reference.experience),
    }


def from_facts(facts: Mapping[str, Any]) -> Uncertainty:
    """Read the uncertainty from plain values that `to_facts` gave.

    Raises
    ------
    KeyError, TypeError
        If something is missing or unknown.
    """
    return Uncertainty(tuple(_from_facts(reference) for reference in facts["references"]))


def _from_facts(facts: Mapping[str, Any]) -> Reference:
    """Read one reference from plain values."""
    experience = dict(facts["experience"])
    names = ("kvp", "trabecular_hu", "thickness_mm", "spacing_mm")
    ranges = {name: experience[name] and Range(**experience[name]) for name in names}
    return Reference(
        fold=facts["fold"],
        temperature=Temperature(**facts["temperature"]),
        thresholds=DecisionThresholds(**facts["cuts"]),
        widths=tuple(Width(**width) for width in facts["widths"]),
        experience=Experience(**{**experience, **ranges, "devices": tuple(experience["devices"])}),
    )
