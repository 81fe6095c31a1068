"""The model card and the licence note of a bundle, from its metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

SYNTHETIC = """\
> **Synthetic.** This model was trained {how_far}on simulated CT of simulated patients, to demonstrate and test the
> workflow. Its figures say nothing about people. Never use it on patients: train one on scans of your own.
"""

CARD = """\
# {model_id}

Estimates bone density from CT around a vertebral body: the probability of reduced density (vBMD below
{reduced_below_mg_cm3:g} mg/cm³ HA) and the trabecular vBMD itself (mg/cm³ HA). For research; not a medical device.

{warning}
## Networks
MONAI 3D DenseNet (`{kind}`), one per task and fold ({tasks}): {n_networks} networks. Input: {roi_size}³ voxels of
{roi_spacing_mm:g} mm centred on the body and aligned to the patient, {low:g} to {high:g} HU scaled to 0 to 1.
Scan facts given to the networks: {scan_inputs}.
A patient's result is the mean over {n_levels} levels ({levels}; in their place {substitutes}) of the networks for
classification and regression; a joint network, where there is one, is only compared with them.

Trained with AdamW (at most {epochs} epochs, ended after {patience} without a lower validation loss, highest learning
rate {learning_rate:g}, batches of {batch_size}, seed {seed}), with random pose, place, size, kernel, slice thickness,
calibration and noise. The epoch was chosen on a part of the training patients, never on the held-out fold.
`training.parquet` holds the learning curves, `protocol.parquet` the predictions of every network and baseline.

## Patients
{cohorts}

Splits are by patient, stratified by class and device; `splits.parquet` lists the patients of each (pseudonyms), and
`audit.parquet` how labels were joined to scans. These patients are predicted only by the networks that never saw them.

## Cross-validation
By patient, each predicted by the fold that never saw them, n = {n}{synthetic_note}.

| | AUC (reduced density) | MAE, mg/cm³ | RMSE, mg/cm³ | bias, mg/cm³ | Pearson r |
|---|---|---|---|---|---|
{scores}

The HU baseline is a straight line from mean trabecular HU to vBMD, fitted on the same folds.
Half width of the 90 % interval for a new patient, from the out-of-fold residuals (split conformal; patients of other
devices or hospitals may be covered less): {interval}. Temperature of the probability: {temperature}.

## Limits
- Valid for devices, tube voltages, kernels and contrast phases like those of these patients; HU depend on all of them.
- Learned from the levels above; at other levels it extrapolates.
- Vertebrae with metal, cement or a body cut by the scan's edge are outside its purpose.
- Weights are safetensors; their SHA-256 are in `configs/metadata.json`. Code digest {code}; {packages}.
"""

LICENCE_SYNTHETIC = """\
SPDX-License-Identifier: Apache-2.0

These weights were trained on simulated patients alone. They are licensed under the Apache License, Version 2.0;
you may obtain a copy of it at http://www.apache.org/licenses/LICENSE-2.0
"""

LICENCE_SITE = """\
These weights were trained on patients' data. Their terms of use are for the institution that holds these data to set;
until it does, no licence is granted. The software that made them is licensed under the Apache License, Version 2.0.
"""


def licence(cohorts: Sequence[Mapping[str, Any]]) -> str:
    """Give the text of a bundle's LICENSE: we can give away only models trained on simulated patients alone."""
    return LICENCE_SYNTHETIC if all(cohort["synthetic"] for cohort in cohorts) else LICENCE_SITE


def warning(cohorts: Sequence[Mapping[str, Any]]) -> str:
    """Give the warning that opens a card where patients were simulated; empty for real patients."""
    simulated = [cohort["synthetic"] for cohort in cohorts]
    return SYNTHETIC.format(how_far="" if all(simulated) else "in part ") if any(simulated) else ""


def model_card(metadata: Mapping[str, Any]) -> str:
    """Write a model card.

    Parameters
    ----------
    metadata : mapping
        Content of `configs/metadata.json`.

    Returns
    -------
    str
        Markdown.
    """
    validation, training = metadata["cross_validation"], metadata["training"]
    low, high = metadata["hu_window"]
    return CARD.format(
        model_id=metadata["model_id"],
        reduced_below_mg_cm3=metadata["reduced_below_mg_cm3"],
        warning=warning(metadata["cohorts"]),
        kind=training["network"],
        n_networks=len(metadata["tasks"]) * len(metadata["folds"]),
        low=low,
        high=high,
        n_levels=len(metadata["levels"]),
        levels=", ".join(metadata["levels"]),
        substitutes=", ".join(metadata["substitutes"]) or "none",
        cohorts=cohort_table(metadata["cohorts"]),
        n=validation["patients"],
        synthetic_note=" (synthetic)" if metadata["synthetic"] else "",
        scores="\n".join(
            [score_row("networks", validation["network"]), score_row("HU baseline", validation["hu_baseline"])]
        ),
        interval=widths_text(new_patients(metadata)["widths"]),
        temperature=number(new_patients(metadata)["temperature"]["value"], 2),
        tasks=", ".join(metadata["tasks"]),
        scan_inputs=", ".join(metadata["scan_inputs"]) or "none",
        packages=", ".join(f"{name} {package_version}" for name, package_version in metadata["packages"].items()),
        **{key: training[key] for key in ("epochs", "patience", "learning_rate", "batch_size", "seed")},
        **{key: metadata[key] for key in ("roi_size", "roi_spacing_mm", "code")},
    )


def cohort_table(cohorts: Sequence[Mapping[str, Any]]) -> str:
    """Write the Markdown table of the cohorts' summaries."""
    head = "| cohort | patients | regions | reduced | vBMD, mean ± SD | mean age | women | devices |"
    return "\n".join([head, "|---" * 8 + "|", *(cohort_row(cohort) for cohort in cohorts)])


def cohort_row(cohort: Mapping[str, Any]) -> str:
    """Write one line of the table of cohorts."""
    return (
        f"| {cohort['cohort']}{' (synthetic)' if cohort['synthetic'] else ''} "
        f"| {cohort['patients']} | {cohort['regions']} | {cohort['reduced']} "
        f"| {number(cohort['vbmd_mean_mg_cm3'])} ± {number(cohort['vbmd_sd_mg_cm3'])} mg/cm³ HA "
        f"| {number(cohort['age_mean_years'])} | {cohort['women']} | {cohort['devices']} |"
    )


def score_row(name: str, scores: Mapping[str, float | None]) -> str:
    """Write one line of the table of scores."""
    keys = ("auc", "mae_mg_cm3", "rmse_mg_cm3", "bias_mg_cm3", "pearson_r")
    return " | ".join([f"| {name}", *(number(scores[key]) for key in keys)]) + " |"


def new_patients(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the metadata on the uncertainty of patients outside the training."""
    return next(reference for reference in metadata["uncertainty"]["references"] if reference["fold"] is None)


def widths_text(widths: Sequence[Mapping[str, Any]]) -> str:
    """Put the intervals into words.

    >>> widths_text([{"group": "all patients", "half_width_mg_cm3": 12.14, "n": 199}])
    '± 12.1 mg/cm³ (all patients, n = 199)'
    """
    return "; ".join(
        f"± {number(width['half_width_mg_cm3'], 1)} mg/cm³ ({width['group']}, n = {width['n']})"
        if width["half_width_mg_cm3"] is not None
        else f"undefined ({width['group']}, n = {width['n']}: too few)"
        for width in widths
    )


def number(value: float | None, digits: int | None = None) -> str:
    """Write a figure, rounded where digits are given, or a dash where it is undefined.

    >>> number(7.25, 1), number(7.25), number(None)
    ('7.2', '7.25', '–')
    """
    return "–" if value is None else f"{value:g}" if digits is None else f"{value:.{digits}f}"
