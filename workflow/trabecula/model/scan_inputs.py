"""What is known of a scan besides its voxels, for networks and baselines that take account of it."""

import pandas as pd

from trabecula.density.calibrate import contrast_rows

COLUMNS = ("kvp", "phase", "thickness_mm", "spacing_mm")


def scan_facts(studies: pd.DataFrame, crops: pd.DataFrame) -> pd.DataFrame:
    """Tube voltage, contrast phase and slices of the scans that were cropped.

    Parameters
    ----------
    studies : DataFrame
        Columns as in the table `studies`.
    crops : DataFrame
        Columns study_id, status and blood_hu, as `crop` writes them.

    Returns
    -------
    DataFrame
        By study_id: kvp (kV), phase (native, portal, arterial or unknown), thickness_mm and spacing_mm; None where
        unknown.
    """
    blood = crops.loc[crops["status"] == "ok"].drop_duplicates("study_id").set_index("study_id")["blood_hu"]
    # The same scan may stand in two cohorts.
    seen = studies[studies["study_id"].isin(blood.index)].drop_duplicates("study_id")
    facts = seen[["study_id", "kvp", "thickness_mm", "spacing_mm", "contrast_agent"]].copy()
    facts["blood_hu"] = facts["study_id"].map(blood)
    given = contrast_rows(facts.assign(status="measured"))
    return facts.assign(phase=given["phase"]).set_index("study_id")[list(COLUMNS)]
