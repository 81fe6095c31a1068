"""Read a hospital's QCT labels, and name the faults of every line."""

from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from trabecula.cohort.labels import levels_of, status_of
from trabecula.density.units import PHANTOM_MATERIALS, ha_from_k2hpo4, material_of
from trabecula.dicom.identity import stands_for_none
from trabecula.runtime.csv_lines import LABEL_COLUMNS, read_lines

# Trabecular bone of living people; 0 stands for "missing" in many hospital files.
PLAUSIBLE_MG_CM3 = (0.0, 500.0)
# Fault of a line whose entry in a column can't be used; the first one is the line's reason.
FAULTS = {
    "patient_id": "missing_patient",
    "study_date": "bad_date",
    "level": "bad_level",
    "unit": "unknown_unit",
    "vbmd": "bad_value",
}
# Entries as `_parse` gives them: None, NaN or NaT where the text means nothing.
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
        (mg/cm3 HA or mg/cm3 K2HPO4); others are not read. See `csv_lines.read_lines`.

    Returns
    -------
    DataFrame
        A row per line, in the file's order: line (its number in the file), patient (original id), study_date (NaT when
        not understood), level and unit_given (None when not understood: the text may be a name), vbmd_mg_cm3
        (mg/cm3 HA; NaN when not understood), faults (list of all faults of the line itself), status (used, unused),
        reason (the first of the faults; duplicate_label or contradictory_label where other lines say the same or
        something else; or None).

    Raises
    ------
    ConfigError
        If the file can't be read or a column is missing.
    """
    lines = read_lines(path, called=f"The labels {path}")
    empty = ("",) * len(LABEL_COLUMNS)
    texts = pd.DataFrame([line.entries or empty for line in lines], columns=list(LABEL_COLUMNS), dtype=str)
    entries = _parse(texts)
    faults = _faults(entries, {row for row, line in enumerate(lines) if line.entries is None})
    has_material = entries["unit"].notna()
    labels = pd.DataFrame(
        {
            "line": [line.number for line in lines],
            "patient": entries["patient_id"],
            "study_date": entries["study_date"],
            "level": entries["level"],
            "vbmd_mg_cm3": entries["vbmd"].where(has_material & ~_has_fault(faults, "bad_value")),
            "unit_given": texts["unit"].astype(object).where(has_material, None),
            "faults": faults,
        }
    )
    reason = _reasons(labels)
    return labels.assign(reason=reason, status=status_of(reason))


def _parse(texts: pd.DataFrame) -> pd.DataFrame:
    """Parse texts to dates, canonical levels, materials, and values in mg/cm3 HA where the material is known."""
    number = pd.to_numeric(texts["vbmd"], errors="coerce").astype(float)
    unit = pd.Series([material_of(unit) for unit in texts["unit"]], texts.index, object)
    study_date = pd.to_datetime(texts["study_date"], format="%Y-%m-%d", errors="coerce")
    return pd.DataFrame(
        {
            "patient_id": texts["patient_id"].mask(texts["patient_id"].map(stands_for_none).astype(bool), ""),
            "study_date": study_date.astype("datetime64[us]"),
            "level": pd.Series([_canonical(level) for level in texts["level"]], texts.index, object),
            "unit": unit,
            "vbmd": number.where(unit != "K2HPO4", number.map(ha_from_k2hpo4)),
        }
    )


def _canonical(level: str) -> str | None:
    """Write a level in one way; None where it isn't understood.

    >>> _canonical(" l1 - l2 "), _canonical("spine")
    ('L1-L2', None)
    """
    names = levels_of(level)
    if not names:
        return None
    return names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"


def _faults(entries: pd.DataFrame, overlong: set[int]) -> pd.Series:
    """List all faults of each line, in order; an overlong line, with too many entries, has that fault alone."""
    cases = _unusable_entries(entries)
    faulty_rows = {fault: set(cases.loc[cases["column"] == column, "index"]) for column, fault in FAULTS.items()}
    faults = [
        ["bad_line"] if row in overlong else [fault for fault, rows in faulty_rows.items() if row in rows]
        for row in range(len(entries))
    ]
    return pd.Series(faults, entries.index, object)


def _unusable_entries(entries: pd.DataFrame) -> pd.DataFrame:
    """Give column and index of every entry that can't be used."""
    try:
        _USABLE.validate(entries, lazy=True)
    except pa.errors.SchemaErrors as error:
        if error.failure_cases["index"].isna().any():
            raise TypeError("the columns of the labels are not of their types") from None  # pandera's text has the ids
        return error.failure_cases
    return pd.DataFrame(columns=["column", "index"])


def _has_fault(faults: pd.Series, fault: str) -> pd.Series:
    return pd.Series([fault in of_line for of_line in faults], faults.index, bool)


def _reasons(labels: pd.DataFrame) -> pd.Series:
    """Give the reason why each label can't be used; None where it can."""
    first = pd.Series([next(iter(faults), None) for faults in labels["faults"]], labels.index, object)
    key = ["patient", "study_date", "level"]
    faultless = labels[first.isna()]
    n_values = faultless.groupby(key)["vbmd_mg_cm3"].transform("nunique").reindex(labels.index)
    repeated = faultless.duplicated([*key, "vbmd_mg_cm3"]).reindex(labels.index, fill_value=False)
    return first.mask(repeated, "duplicate_label").mask(n_values > 1, "contradictory_label")
