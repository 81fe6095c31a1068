"""Views over the tables that answer frequent questions: query, meaning, and the meaning of each column."""

from collections.abc import Mapping
from dataclasses import dataclass

from trabecula import tables
from trabecula.density.thresholds import Thresholds

# Thresholds of vBMD in mg/cm3 HA: ACR Practice Parameter for QCT; Chinese consensus 2019. The views always use these,
# whatever the configuration says, so that network, HU and QCT are graded by the same thresholds.
LOW_BELOW, OSTEOPOROSIS_BELOW = (
    f"{Thresholds().reduced_below_mg_cm3:g}",
    f"{Thresholds().osteoporosis_below_mg_cm3:g}",
)
# Least significant change = 2.77 RMS-SD, 95 % confidence, one scan each time; 30 degrees of freedom: ISCD Official
# Positions 2019, precision assessment. Pairs of scans at most this far apart count as repeats.
LSC_FACTOR, LEAST_PAIRS, REPEAT_DAYS = 2.77, 30, 30
# Wilson, J Am Stat Assoc 1927, doi:10.1080/01621459.1927.10502953; 97.5 % quantile of the normal distribution.
_Z = 1.959964


@dataclass(frozen=True)
class View:
    """A view: the meaning of a row, the query, and the meanings of the columns."""

    meaning: str
    query: str
    columns: Mapping[str, str]


def _wilson(sign: str, successes: str, n: str) -> str:
    """Write the SQL of one end of the Wilson interval of a proportion, `successes` of `n`."""
    share = f"({successes} / {n})"
    spread = f"{_Z} * sqrt({share} * (1 - {share}) / {n} + {_Z**2 / 4:.6f} / ({n} * {n}))"
    return f"greatest(0, least(1, ({share} + {_Z**2 / 2:.6f} / {n} {sign} {spread}) / (1 + {_Z**2:.6f} / {n})))"


def _grade(vbmd: str) -> str:
    """Write the SQL of the grade of a vBMD; NULL without a vBMD."""
    return (
        f"CASE WHEN {vbmd} < {OSTEOPOROSIS_BELOW} THEN 'osteoporosis' "
        f"WHEN {vbmd} < {LOW_BELOW} THEN 'low' WHEN {vbmd} IS NOT NULL THEN 'normal' END"
    )


def _described(table: str) -> dict[str, str]:
    """Give the descriptions of a table's columns."""
    return {field.name: tables.metadata_of(field, "description") for field in tables.PUBLIC[table]}


_COHORT = {"cohort": "Name of the cohort"}
_MODEL = {"model_id": "Model bundle that the result comes from"}

_PREVALENCE = f"""\
SELECT cohort, model_id, sex, CAST(floor(age_years / 10) * 10 AS INTEGER) AS age_from_years,
       CAST(count(*) AS INTEGER) AS n,
       CAST(count(*) FILTER (grade = 'osteoporosis') AS INTEGER) AS n_osteoporosis,
       count(*) FILTER (grade = 'osteoporosis') / count(*) AS share_osteoporosis,
       {_wilson("-", "count(*) FILTER (grade = 'osteoporosis')", "count(*)")} AS low,
       {_wilson("+", "count(*) FILTER (grade = 'osteoporosis')", "count(*)")} AS high
FROM patients
WHERE grade IS NOT NULL
GROUP BY ALL
ORDER BY ALL"""

_PAIRS = """\
WITH dated AS (
    SELECT *, row_number() OVER scans AS scan, lead(study_id) OVER scans AS second_study_id,
           lead(days_from_first_study) OVER scans - days_from_first_study AS days_apart,
           lead(device_key) OVER scans = device_key AS same_device,
           lead(vbmd_mg_cm3) OVER scans - vbmd_mg_cm3 AS vbmd_change_mg_cm3,
           lead(vbmd_hu_mg_cm3) OVER scans - vbmd_hu_mg_cm3 AS hu_change_mg_cm3
    FROM studies
    WHERE status = 'measured' AND days_from_first_study IS NOT NULL
    WINDOW scans AS (PARTITION BY cohort, patient_id ORDER BY days_from_first_study, study_id)
)
SELECT cohort, patient_id, study_id AS first_study_id, second_study_id, days_apart, same_device,
       vbmd_change_mg_cm3, hu_change_mg_cm3
FROM dated
WHERE second_study_id IS NOT NULL"""

_PRECISION = f"""\
WITH changes AS (
    SELECT cohort, patient_id, 'network' AS predictor, same_device, vbmd_change_mg_cm3 AS change
    FROM scan_pairs WHERE days_apart <= {REPEAT_DAYS}
    UNION ALL
    SELECT cohort, patient_id, 'hu', same_device, hu_change_mg_cm3
    FROM scan_pairs WHERE days_apart <= {REPEAT_DAYS}
), counted AS (
    SELECT cohort, predictor, same_device, CAST(count(change) AS INTEGER) AS n_pairs,
           CAST(count(DISTINCT patient_id) FILTER (change IS NOT NULL) AS INTEGER) AS n_patients,
           sqrt(avg(change * change / 2)) AS rms_sd_mg_cm3
    FROM changes GROUP BY ALL
)
SELECT cohort, predictor, same_device, n_pairs, n_patients, rms_sd_mg_cm3,
       CASE WHEN n_pairs >= {LEAST_PAIRS} THEN {LSC_FACTOR} * rms_sd_mg_cm3 END AS lsc_mg_cm3,
       CASE WHEN n_pairs < {LEAST_PAIRS} THEN 'too_few_patients' END AS reason
FROM counted
ORDER BY ALL"""

_REPEATS = """\
SELECT pairs.*, network.lsc_mg_cm3, hu.lsc_mg_cm3 AS hu_lsc_mg_cm3,
       abs(vbmd_change_mg_cm3) > network.lsc_mg_cm3 AS beyond_lsc,
       abs(hu_change_mg_cm3) > hu.lsc_mg_cm3 AS hu_beyond_lsc,
       CASE WHEN vbmd_change_mg_cm3 IS NULL THEN 'no_prediction'
            WHEN network.lsc_mg_cm3 IS NULL THEN 'too_few_patients' END AS reason,
       CASE WHEN hu_change_mg_cm3 IS NULL THEN 'no_calibration'
            WHEN hu.lsc_mg_cm3 IS NULL THEN 'too_few_patients' END AS hu_reason
FROM scan_pairs AS pairs
LEFT JOIN scan_precision AS network ON network.cohort = pairs.cohort AND network.predictor = 'network'
    AND network.same_device IS NOT DISTINCT FROM pairs.same_device
LEFT JOIN scan_precision AS hu ON hu.cohort = pairs.cohort AND hu.predictor = 'hu'
    AND hu.same_device IS NOT DISTINCT FROM pairs.same_device
ORDER BY pairs.cohort, patient_id, first_study_id"""

_RECLASSIFICATION = f"""\
SELECT cohort, model_id, {_grade("vbmd_mg_cm3")} AS network_grade,
       {_grade("hu_baseline_vbmd_mg_cm3")} AS hu_grade, {_grade("qct_vbmd_mg_cm3")} AS qct_grade,
       CAST(count(*) AS INTEGER) AS n
FROM patients
WHERE vbmd_mg_cm3 IS NOT NULL AND hu_baseline_vbmd_mg_cm3 IS NOT NULL
GROUP BY ALL
ORDER BY ALL"""

_FAILURES = """\
SELECT cohort, stage,
       CASE WHEN n_files IS NOT NULL THEN 'files' WHEN series_id IS NOT NULL THEN 'series' ELSE 'study' END AS kind,
       reason, meaning, CAST(sum(coalesce(n_files, 1)) AS INTEGER) AS n
FROM failures LEFT JOIN reasons USING (reason)
GROUP BY ALL
ORDER BY ALL"""

_HISTORY = """\
SELECT run_id, started, finished, kept, version, "commit", model_id,
       config_hash IS DISTINCT FROM lag(config_hash) OVER ends AS new_config,
       code IS DISTINCT FROM lag(code) OVER ends AS new_code,
       model_sha256 IS DISTINCT FROM lag(model_sha256) OVER ends AS new_model,
       inputs IS DISTINCT FROM lag(inputs) OVER ends AS new_inputs
FROM runs
WINDOW ends AS (ORDER BY finished, run_id)
ORDER BY finished, run_id"""

_RUN_COLUMNS = ("run_id", "started", "finished", "kept", "version", "commit", "model_id")
_PAIR_COLUMNS = _COHORT | {
    "patient_id": "Keyed pseudonym of the patient",
    "first_study_id": "Earlier scan of the pair",
    "second_study_id": "Next scan of the patient",
    "days_apart": "Days from the earlier scan to the next [days]",
    "same_device": "Both scans have the same maker, model, kVp and kernel; NULL where these are unknown for a scan",
    "vbmd_change_mg_cm3": "Later minus earlier vBMD by the network [mg/cm3 HA]; NULL where a scan has none",
    "hu_change_mg_cm3": "Later minus earlier vBMD from HU by the calibration [mg/cm3 HA]; NULL where a scan has none",
}

# A view may stand on those before it.
VIEWS: dict[str, View] = {
    "patients_with_qct": View(
        "Patients with a result and a QCT value, on whom accuracy is judged",
        """\
SELECT *, vbmd_mg_cm3 - qct_vbmd_mg_cm3 AS error_mg_cm3,
       hu_baseline_vbmd_mg_cm3 - qct_vbmd_mg_cm3 AS hu_baseline_error_mg_cm3
FROM patients
WHERE qct_vbmd_mg_cm3 IS NOT NULL AND vbmd_mg_cm3 IS NOT NULL""",
        _described("patients")
        | {
            "error_mg_cm3": "vBMD by the network minus that by QCT [mg/cm3 HA]",
            "hu_baseline_error_mg_cm3": "vBMD by the HU line minus that by QCT [mg/cm3 HA]; NULL where it gives none",
        },
    ),
    "osteoporosis_by_age_and_sex": View(
        "Share of osteoporosis among patients with a grade, by cohort, sex and decade of age, with Wilson's interval",
        _PREVALENCE,
        _COHORT
        | _MODEL
        | {
            "sex": "F, M or O; NULL where the header does not say",
            "age_from_years": "First year of the decade of age [years]; NULL where the age is unknown",
            "n": "Patients with a grade [1]",
            "n_osteoporosis": "Number of these with the grade osteoporosis by the network [1]",
            "share_osteoporosis": "n_osteoporosis / n [1]",
            "low": "Lower end of the share's 95 % interval, Wilson [1]",
            "high": "Upper end of the share's 95 % interval, Wilson [1]",
        },
    ),
    "failures_by_reason": View(
        "Numbers of files, series and studies that dropped out, by cohort, stage, kind and reason",
        _FAILURES,
        _COHORT
        | {
            "stage": "Stage in which it dropped out",
            "kind": "files, series or study",
            "reason": "Reason code",
            "meaning": "The reason in words",
            "n": "Number of files, series or studies [1]",
        },
    ),
    "scan_pairs": View(
        "Pairs of consecutive measured scans of a patient, where both have a date", _PAIRS, _PAIR_COLUMNS
    ),
    "scan_precision": View(
        f"Precision of a scan's vBMD, from pairs of scans at most {REPEAT_DAYS} days apart, by cohort, predictor, and "
        "whether both scans come from one device",
        _PRECISION,
        _COHORT
        | {
            "predictor": "network, or hu (by the calibration)",
            "same_device": "true: both scans from one device; false: from two, whose difference counts; NULL: unknown",
            "n_pairs": "Pairs with both values [1]",
            "n_patients": "Patients of these pairs [1]",
            "rms_sd_mg_cm3": "Root mean square of the pairs' standard deviations [mg/cm3 HA]; NULL without a pair",
            "lsc_mg_cm3": f"Least significant change, {LSC_FACTOR} x rms_sd_mg_cm3 [mg/cm3 HA]; NULL below "
            f"{LEAST_PAIRS} pairs",
            "reason": "Why lsc_mg_cm3 is NULL, reason code; NULL where it is given",
        },
    ),
    "repeat_scans": View(
        "Consecutive scans of a patient, and whether the change is beyond the least significant change: the cohort's "
        "on one device, or between devices",
        _REPEATS,
        _PAIR_COLUMNS
        | {
            "lsc_mg_cm3": "Least significant change of the network's vBMD (see scan_precision) [mg/cm3 HA]; NULL where "
            "there are too few pairs",
            "hu_lsc_mg_cm3": "Least significant change of the vBMD from HU [mg/cm3 HA]; NULL where there are too "
            "few pairs",
            "beyond_lsc": "The network's change is above its least significant change; NULL where reason says why",
            "hu_beyond_lsc": "The change from HU is larger than its least significant change; NULL where hu_reason "
            "says why",
            "reason": "Why beyond_lsc is NULL, reason code; NULL where it is given",
            "hu_reason": "Why hu_beyond_lsc is NULL, reason code; NULL where it is given",
        },
    ),
    "reclassification": View(
        f"Patients by grade of the network, of the HU line and of QCT, all with the thresholds {OSTEOPOROSIS_BELOW} "
        f"and {LOW_BELOW} mg/cm3 HA",
        _RECLASSIFICATION,
        _COHORT
        | _MODEL
        | {
            "network_grade": "normal, low or osteoporosis by the network's vBMD",
            "hu_grade": "normal, low or osteoporosis by the HU line's vBMD",
            "qct_grade": "normal, low or osteoporosis by QCT; NULL where not labelled",
            "n": "Patients [1]",
        },
    ),
    "run_history": View(
        "Runs in the order in which they finished, and what was new in each",
        _HISTORY,
        {name: _described("runs")[name] for name in _RUN_COLUMNS}
        | {
            "new_config": "The configuration differs from that of the run before; true for the first",
            "new_code": "The code differs from that of the run before; true for the first",
            "new_model": "The model's files differ from those of the run before; true for the first",
            "new_inputs": "The index's tables differ from those of the run before; true for the first",
        },
    ),
}
