"""Sets of patients that are judged together, with the predictions of each predictor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from trabecula.model import baselines
from trabecula.model.baselines import THRESHOLDS_HU, Baseline
from trabecula.model.uncertainty.decision import REDUCED_FROM

TRAINING, CROSS_VALIDATED, RANDOM = "training", "cross-validated", "random grouping"
DEVICE, EXTERNAL, NOT_IN_TRAINING = "leave one device out", "external", "development, not in training"
# Sets in the order of the tables, with the role of the cohorts that the patients come from.
SETS = {
    TRAINING: "development",
    CROSS_VALIDATED: "development",
    RANDOM: "development",
    DEVICE: "development",
    EXTERNAL: "external",
    NOT_IN_TRAINING: "development",
}

NETWORK, JOINT, HU, CALIBRATED = "network", "joint", "hu", "calibrated"
PREDICTORS = (NETWORK, JOINT, *baselines.NAMES, *THRESHOLDS_HU, CALIBRATED)
# These two have their figures in every set, also where they predict nothing.
ALWAYS = (NETWORK, HU)
# A threshold of HU decides, but measures no vBMD.
MEASURING = tuple(name for name in PREDICTORS if name not in THRESHOLDS_HU)
UNIT = "mg/cm3 HA"
PURE_NUMBERS = (
    *("auc", "f1", "recall", "precision", "specificity", "npv", "ppv", "accuracy", "right_side", "abstention"),
    *("brier", "calibration_slope", "calibration_intercept", "ici", "net_benefit"),
    *("pearson_r", "spearman_rho", "ccc", "icc_a1", "kappa"),
)
# Their score is a probability of reduced density.
PROBABLE = (NETWORK, JOINT)


@dataclass(frozen=True)
class Group:
    """The patients of one set; all frames share their index.

    Attributes
    ----------
    name, role : str
        One of `SETS`, and the role of its cohorts.
    patients : DataFrame
        Columns cohort, patient_id, device_key, qct_mg_cm3 (HA; NaN unknown), qct_reduced (False where unknown) and
        labelled; for patients of the run's cohorts also `FACTS`.
    vbmd_mg_cm3, score, reduced : DataFrame
        A column per predictor: vBMD (HA); a score that is higher the more likely density is reduced; the decision as 1
        or 0. NaN where the predictor gives none.
    reason : DataFrame
        A column per predictor: reason code that counts where the label or the prediction is missing.
    cohort : str or None
        Cohort of all these patients; None: all cohorts of the set, or a set of the model's protocol.
    """

    name: str
    role: str
    patients: pd.DataFrame
    vbmd_mg_cm3: pd.DataFrame
    score: pd.DataFrame
    reduced: pd.DataFrame
    reason: pd.DataFrame
    cohort: str | None = None

    @property
    def predictors(self) -> tuple[str, ...]:
        """List those of the `PREDICTORS` that predict something in this set, and always network and HU alone."""
        return tuple(
            name
            for name in PREDICTORS
            if name in ALWAYS or self.score[name].notna().any() or self.vbmd_mg_cm3[name].notna().any()
        )

    @property
    def qct(self) -> pd.Series:
        """Give vBMD by quantitative CT, mg/cm3 HA."""
        return self.patients["qct_mg_cm3"]

    def classified(self, *predictors: str) -> pd.Series:
        """Mark the labelled patients that each of the predictors gives a score, as (n,) booleans."""
        return self.patients["labelled"] & self.score[list(predictors)].notna().all(axis="columns")

    def measured(self, *predictors: str) -> pd.Series:
        """Mark the labelled patients that each of the predictors gives a vBMD, as (n,) booleans."""
        return self.patients["labelled"] & self.vbmd_mg_cm3[list(predictors)].notna().all(axis="columns")

    def decisions(self, predictor: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
        """Give truth, decision and score of the patients that the predictor classifies, as (n,) arrays."""
        patients = self.classified(predictor)
        truth = self.patients["qct_reduced"][patients].to_numpy(bool)
        decided = self.reduced[predictor][patients].to_numpy(float) == 1
        return truth, decided, self.score[predictor][patients].to_numpy(float)

    def pairs(self, predictor: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give predicted and QCT value (mg/cm3 HA) of the patients that the predictor measures, as (n,) arrays."""
        patients = self.measured(predictor)
        return self.vbmd_mg_cm3[predictor][patients].to_numpy(float), self.qct[patients].to_numpy(float)

    def part(self, mask: pd.Series) -> "Group":
        """Keep the patients of the mask, (n,) booleans."""
        frames = {f.name: getattr(self, f.name)[mask] for f in fields(self) if f.name not in ("name", "role", "cohort")}
        return replace(self, **frames)


def by_cohort(group: Group) -> Iterator[Group]:
    """List the set's cohorts by themselves, and the whole set where it has several."""
    cohorts = group.patients["cohort"]
    names = sorted(cohorts.unique())
    for name in names:
        yield replace(group.part(cohorts == name), cohort=name)
    if len(names) > 1:
        yield group


# Facts of the scan and the result, which are known of patients of the run's cohorts only.
FACTS = (
    *("study_id", "fold", "age_years", "sex", "kvp", "thickness_mm", "phase"),
    *("vbmd_low", "vbmd_high", "interval_group", "decision", "decision_reason"),
)


def groups(
    patients: pa.Table,
    studies: pa.Table,
    *,
    lines: Sequence[Baseline],
    folds: Mapping[str, int],
    reduced_below_mg_cm3: float,
) -> Iterator[Group]:
    """List the sets of the patients of development and external cohorts, each sorted by cohort and pseudonym.

    Predictions of external patients who were in the model's training do not count, nor those of patients who are known
    from the training by their scan alone, under another id. A development patient without a
    prediction belongs with its cohort: to the cross-validated patients where the model was trained on that cohort. A
    patient of several cohorts of one role counts once, in the first that has a label and a prediction; in the others
    they are left out with a reason.

    Parameters
    ----------
    patients, studies : tables
        Of the schemas PATIENTS and STUDIES.
    lines : sequence of Baseline
        The model's baselines, of all names and folds.
    folds : mapping
        Patients of the model's training, and the fold that never saw them.
    reduced_below_mg_cm3 : float
        A line from HU decides for reduced below this.
    """
    rows = _joined(patients, studies, folds)
    trained_on = set(rows.loc[_true(rows["in_training"]) & rows["fold"].notna(), "cohort"])
    judged = rows[rows["role"].isin(set(SETS.values()))].sort_values(["cohort", "patient_id"]).reset_index(drop=True)
    external = judged["role"] == "external"
    # A patient without a fold is known by a scan alone: all networks of the model learned from it.
    in_training = _true(judged["in_training"]) & judged["fold"].notna()
    leaked = _true(judged["in_training"]) & (external | ~in_training)
    in_training |= judged["cohort"].isin(trained_on) & judged["vbmd_mg_cm3"].isna()
    name = pd.Series(np.where(external, EXTERNAL, np.where(in_training, CROSS_VALIDATED, NOT_IN_TRAINING)))
    why_leaked = leaked.map({True: "in_training", False: None}).astype(object)
    left = why_leaked.where(leaked, _repeated(judged).map({True: "other_cohort", False: None}))
    whole = _group(judged, lines, left=left, reduced_below_mg_cm3=reduced_below_mg_cm3)
    for set_name, role in SETS.items():
        if (name == set_name).any():
            yield replace(whole.part(name == set_name), name=set_name, role=role)


def _joined(patients: pa.Table, studies: pa.Table, folds: Mapping[str, int]) -> pd.DataFrame:
    """Join patients with facts of their scan and their fold (NaN outside the training)."""
    scans = studies.select(["cohort", "study_id", "kvp", "thickness_mm", "phase"]).to_pandas()
    rows = patients.to_pandas().merge(scans, on=["cohort", "study_id"], how="left", validate="many_to_one")
    return rows.assign(fold=rows["patient_id"].map(folds.get).astype(float))


def _repeated(judged: pd.DataFrame) -> pd.Series:
    """Mark rows of patients who already count in another cohort of the same role."""
    useful = judged[["qct_vbmd_mg_cm3", "vbmd_mg_cm3"]].notna().sum(axis="columns")
    order = judged.assign(useful=-useful).sort_values(["useful", "cohort"], kind="stable")
    return order.duplicated(["role", "patient_id"]).reindex(judged.index)


def _true(values: pd.Series) -> pd.Series:
    """Read a column of True, False and None as booleans; unknown is False.

    >>> _true(pd.Series([True, None, False])).tolist()
    [True, False, False]
    """
    return values.eq(True).fillna(False).astype(bool)


def _group(rows: pd.DataFrame, lines: Sequence[Baseline], *, left: pd.Series, reduced_below_mg_cm3: float) -> Group:
    """Judge all patients at once, those left out with a reason; the name and role of their set come later."""
    vbmd, score = _predictions(rows, lines)
    reduced = _decided(score, vbmd, reduced_below_mg_cm3)
    frames = [frame.mask(left.notna()) for frame in (vbmd, score, reduced)]
    qct = rows["qct_vbmd_mg_cm3"].astype(float)
    people = rows[["cohort", "patient_id", "device_key", *FACTS]].assign(
        qct_mg_cm3=qct,
        qct_reduced=_true(rows["qct_reduced"]),
        labelled=qct.notna() & rows["qct_reduced"].notna(),
        left_out=left.notna(),
    )
    hidden = ["vbmd_low", "vbmd_high", "interval_group", "decision", "decision_reason"]
    people[hidden] = people[hidden].astype(object).mask(left.notna(), None)
    return Group("", "", people, *frames, reason=_reasons(rows, left))


def _predictions(rows: pd.DataFrame, lines: Sequence[Baseline]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give vBMD (mg/cm3 HA) and score by predictor."""
    columns = {"network": "vbmd_mg_cm3", "joint": "joint_vbmd_mg_cm3", "calibrated": "vbmd_hu_mg_cm3"}
    vbmd = {predictor: rows[column].astype(float) for predictor, column in columns.items()}
    for name in baselines.NAMES:
        of_name = [line for line in lines if line.name == name]
        vbmd[name] = baselines.predict(of_name, rows, rows["fold"]).astype(float)
    vbmd |= dict.fromkeys(THRESHOLDS_HU, pd.Series(np.nan, rows.index))
    score = {name: -values for name, values in vbmd.items()}
    score |= dict.fromkeys(THRESHOLDS_HU, -rows["trabecular_hu"].astype(float))
    score[NETWORK] = rows["probability_reduced"].astype(float)
    score[JOINT] = rows["joint_probability_reduced"].astype(float)
    order = list(PREDICTORS)
    return pd.DataFrame(vbmd, rows.index)[order], pd.DataFrame(score, rows.index)[order]


def _decided(score: pd.DataFrame, vbmd: pd.DataFrame, reduced_below_mg_cm3: float) -> pd.DataFrame:
    """Decide as 1 (reduced), 0 and NaN: networks by probability, lines by vBMD, thresholds by HU."""
    decided = vbmd < reduced_below_mg_cm3
    decided[[NETWORK, JOINT]] = score[[NETWORK, JOINT]] >= REDUCED_FROM
    for name, threshold in THRESHOLDS_HU.items():
        decided[name] = -score[name] < threshold
    return decided.astype(float).where(score.notna())


def _reasons(rows: pd.DataFrame, left: pd.Series) -> pd.DataFrame:
    """Give reason codes by predictor, for patients that its figures leave out."""
    lost = rows["decision_reason"].astype(object).where(rows["decision"] == "not_evaluable", None)
    network = lost.where(lost.notna(), "no_prediction")
    no_fact = lost.where(lost.notna() & rows["trabecular_hu"].isna(), "unknown_fact")
    calibration = rows["calibration_reason"].astype(object)
    reasons = dict.fromkeys(PREDICTORS, no_fact) | {NETWORK: network, JOINT: network}
    reasons[CALIBRATED] = calibration.where(calibration.notna(), network)
    unlabelled = rows["study_id"].notna() & rows["qct_vbmd_mg_cm3"].isna()
    unmeasured = rows["study_id"].isna()
    return pd.DataFrame(
        {
            name: reason.where(~unmeasured, network).mask(unlabelled, "no_label").where(left.isna(), left)
            for name, reason in reasons.items()
        },
        rows.index,
    )
