"""Facts on a scan beside its voxels, for networks and baselines that take account of them."""

import pandas as pd

from trabecula.density.calibrate import contrast_rows

COLUMNS = ("kvp", "phase", "thickness_mm", "spacing_mm")


def scan_facts(studies: pd.DataFrame, crops: pd.DataFrame) -> pd.DataFrame:
    """List tube voltage, contrast phase and slices of the scans that were cropped.

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
    blood_hu = crops.loc[crops["status"] == "ok"].drop_duplicates("study_id").set_index("study_id")["blood_hu"]
    # The same scan may stand in two cohorts.
    cropped = studies[studies["study_id"].isin(blood_hu.index)].drop_duplicates("study_id")
    facts = cropped[["study_id", "device_key", "kvp", "thickness_mm", "spacing_mm", "contrast_agent"]].copy()
    facts["blood_hu"] = facts["study_id"].map(blood_hu)
    contrast = contrast_rows(facts.assign(status="measured"))
    return facts.assign(phase=contrast["phase"]).set_index("study_id")[list(COLUMNS)]
