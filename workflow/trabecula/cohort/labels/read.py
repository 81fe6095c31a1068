"""Read a hospital's QCT labels, and say of every line what is wrong with it."""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from trabecula.cohort.labels import levels_of, status_of
from trabecula.density.units import PHANTOM_MATERIALS, ha_from_k2hpo4, material_of
from trabecula.runtime.csv_lines import LABEL_COLUMNS, read_lines

# Trabecular bone of living people; 0 stands for "missing" in many hospital files.
PLAUSIBLE_MG_CM3 = (0.0, 500.0)
# What is wrong with a line whose entry in a column can't be used, in the order in which one is named first.
FAULTS = {
    "patient_id": "missing_patient",
    "study_date": "bad_date",
    "level": "bad_level",
    "unit": "unknown_unit",
    "vbmd": "bad_value",
}
# Entries as `_understood` gives them: None, NaN or NaT where the text means nothing.
_USABLE = pa.DataFrameSchema(
    {
        "patient_id": pa.Column(str, pa.Check.str_length(min_value=1)),
        "study_date": pa.Column("datetime64[us]"),
        "level": pa.Column(object),
        "unit": pa.Column(object, pa.Check.isin(PHANTOM_MATERIALS)),
        "vbmd": pa.Column(float, pa.Check.in_range(*PLAUSIBLE_MG_CM3, include_min=False)),
    }
)


def read_labels(path: Path | str) -> pd.DataFrame:
    """Read a hospital's QCT labels.

    Parameters
    ----------
    path : Path
        CSV with the columns patient_id, study_date (YYYY-MM-DD), level (L1, or L1-L2 for a mean), vbmd, unit
        (mg/cm3 HA or mg/cm3 K2HPO4); others are not read. See `label_file.read_lines`.

    Returns
    -------
    DataFrame
        A row per line, in the file's order: line (its number in the file), patient (original id), study_date (NaT when
        not understood), level and unit_given (None when not understood: what stands there may be a name),
        vbmd_mg_cm3 (mg/cm3 HA; NaN when not understood), faults (list of all that is wrong with the line itself),
        status (used, unused), reason (the first of the faults; duplicate_label or contradictory_label by what other
        lines say; or None).

    Raises
    ------
    ConfigError
        If the file can't be read or a column is missing.
    """
    lines = read_lines(path, called=f"The labels {path}")
    empty = ("",) * len(LABEL_COLUMNS)
    given = pd.DataFrame([line.entries or empty for line in lines], columns=list(LABEL_COLUMNS), dtype=str)
    entries = _understood(given)
    faults = _faults(entries, {row for row, line in enumerate(lines) if line.entries is None})
    material = entries["unit"].notna()
    labels = pd.DataFrame(
        {
            "line": [line.number for line in lines],
            "patient": entries["patient_id"],
            "study_date": entries["study_date"],
            "level": entries["level"],
            "vbmd_mg_cm3": entries["vbmd"].where(material & ~_has(faults, "bad_value")),
            "unit_given": given["unit"].astype(object).where(material, None),
            "faults": faults,
        }
    )
    reason = _reasons(labels)
    return labels.assign(reason=reason, status=status_of(reason))


def _understood(given: pd.DataFrame) -> pd.DataFrame:
    """What the texts mean: dates, canonical levels, materials, and values in mg/cm3 HA where the material is known."""
    number = pd.to_numeric(given["vbmd"], errors="coerce").astype(float)
    unit = pd.Series([material_of(unit) for unit in given["unit"]], given.index, object)
    return pd.DataFrame(
        {
            "patient_id": given["patient_id"],
            "study_date": pd.to_datetime(given["study_date"], format="%Y-%m-%d", errors="coerce").astype(
                "datetime64[us]"
            ),
            "level": pd.Series([_canonical(level) for level in given["level"]], given.index, object),
            "unit": unit,
            "vbmd": number.where(unit != "K2HPO4", number.map(ha_from_k2hpo4)),
        }
    )


def _canonical(level: str) -> str | None:
    """``L1-L2`` for `` l1 - l2 ``; None where it isn't understood."""
    names = levels_of(level)
    if not names:
        return None
    return names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"


def _faults(entries: pd.DataFrame, overlong: set[int]) -> pd.Series:
    """All faults of each line, in order; a line with too many entries has that one alone."""
    cases = _failures(entries)
    wrong = {fault: set(cases.loc[cases["column"] == column, "index"]) for column, fault in FAULTS.items()}
    faults = [
        ["bad_line"] if row in overlong else [fault for fault, rows in wrong.items() if row in rows]
        for row in range(len(entries))
    ]
    return pd.Series(faults, entries.index, object)


def _failures(entries: pd.DataFrame) -> pd.DataFrame:
    """Column and index of every entry that can't be used."""
    try:
        _USABLE.validate(entries, lazy=True)
    except pa.errors.SchemaErrors as error:
        if error.failure_cases["index"].isna().any():
            raise TypeError("the columns of the labels are not of their types") from None  # pandera's text has the ids
        return error.failure_cases
    return pd.DataFrame(columns=["column", "index"])


def _has(faults: pd.Series, fault: str) -> pd.Series:
    return pd.Series([fault in of_line for of_line in faults], faults.index, bool)


def _reasons(labels: pd.DataFrame) -> pd.Series:
    """Why a label can't be used; None where it can."""
    first = pd.Series([next(iter(faults), None) for faults in labels["faults"]], labels.index, object)
    key = ["patient", "study_date", "level"]
    good = labels[first.isna()]
    values = good.groupby(key)["vbmd_mg_cm3"].transform("nunique").reindex(labels.index)
    again = good.duplicated([*key, "vbmd_mg_cm3"]).reindex(labels.index, fill_value=False)
    return first.mask(again, "duplicate_label").mask(values > 1, "contradictory_label")
