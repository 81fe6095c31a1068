"""From HU to density: lines, contrast phase, the patient's own tissues, phantoms, devices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trabecula import tables
from trabecula.density import calibrate
from trabecula.density.attenuation import EFFECTIVE_ENERGY_KEV, in_water, iodine_hu_per_mg_ml, material_hu, spongiosa
from trabecula.density.calibrate import phantom, phantomless
from trabecula.density.calibrate.line import Line, fit_line
from trabecula.density.calibrate.phase import NATIVE_HU, Contrast, contrast
from trabecula.errors import StudyFailure

HA = "mg/cm3 HA"
RODS = (0.0, 50.0, 100.0, 200.0)
NATIVE = Contrast(0.0, "native")


def tissues(kvp: int, *, slope: float = 1.0, offset: float = 0.0, phase: Contrast = NATIVE) -> phantomless.Tissues:
    """Give the tissues of a patient made exactly as the method assumes, on a scanner that is off."""
    energy = EFFECTIVE_ENERGY_KEV[kvp]
    fat = 0.5 * (material_hu("fat", energy) + material_hu("rich_fat", energy))
    lean = material_hu("muscle", energy)
    true = (-998.8, fat, lean + 0.1 * (fat - lean), NATIVE_HU)
    air, fat, muscle, blood = (slope * hu + offset for hu in true)
    return phantomless.Tissues(air, fat, muscle, blood, phase, kvp=kvp, age_years=60.0, sex="F")


def bone_hu(kvp: int, vbmd: float) -> float:
    """Compute the trabecular HU of a woman of 60, half of whose marrow is fat."""
    return float(spongiosa(EFFECTIVE_ENERGY_KEV[kvp], marrow_fat=0.48).hu(vbmd))


def regression(x: np.ndarray, y: np.ndarray) -> Any:
    """Fit a line by SciPy, the oracle."""
    return stats.linregress(x, y)


# --- lines ---------------------------------------------------------------------------------------------------


def test_a_line_and_its_error_are_those_of_linear_regression():
    rng = np.random.default_rng(0)
    hu = rng.uniform(50, 250, 20)
    vbmd = 0.8 * hu - 5 + rng.normal(0, 6, 20)
    line, oracle = fit_line(hu, vbmd), regression(hu, vbmd)
    assert (line.slope, line.intercept) == pytest.approx((oracle.slope, oracle.intercept))
    errors = np.sqrt(np.diag(line.covariance))
    assert errors == pytest.approx([oracle.stderr, oracle.intercept_stderr])
    assert (line.low_hu, line.high_hu) == (hu.min(), hu.max())
    # The standard error of a prediction is least in the middle.
    spread = np.sum((hu - hu.mean()) ** 2)
    expected = line.residual_sd * np.sqrt(1 + 1 / 20 + (400 - hu.mean()) ** 2 / spread)
    assert line.sd_mg_cm3(400) == pytest.approx(expected)


def test_a_line_knows_where_it_ends():
    line = Line(1.0, 0.0, np.zeros((2, 2)), 1.0, 50.0, 200.0)
    assert line.extrapolates([49, 50, 200, 201, np.nan]).tolist() == [True, False, False, True, False]


# --- contrast ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kvp", EFFECTIVE_ENERGY_KEV)
@pytest.mark.parametrize("agent", [True, False, None])
def test_the_usual_blood_of_each_phase_is_named(kvp, agent):
    per_mg = iodine_hu_per_mg_ml(EFFECTIVE_ENERGY_KEV[kvp])
    # With a contrast medium in the header, blood of an anaemic patient is still native.
    assert contrast(30.0, kvp, agent).phase == "native"
    assert contrast(NATIVE_HU + 9.5 * per_mg, kvp, agent).phase == "arterial"
    portal = contrast(NATIVE_HU + 3.3 * per_mg, kvp, agent)
    assert portal.phase == "portal"
    assert (portal.probability or 0.0) > 0.99


def test_more_blood_never_means_less_contrast_medium():
    probabilities = [contrast(float(hu), 120, None).probability or 0.0 for hu in range(0, 700, 5)]
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities[0] < 0.02


def test_blood_that_is_not_seen_says_nothing():
    assert contrast(None, 120, True) == Contrast(None, "unknown")


def test_the_header_counts_where_the_blood_leaves_a_doubt():
    doubtful = NATIVE_HU + 22
    assert (contrast(doubtful, 120, True).probability or 0) > (contrast(doubtful, 120, False).probability or 1)


# --- the patient's own tissues ---------------------------------------------------------------------------------


@given(
    kvp=st.sampled_from(sorted(EFFECTIVE_ENERGY_KEV)),
    vbmd=st.floats(30, 220),
    slope=st.floats(0.98, 1.02),
    offset=st.floats(-8, 8),
)
def test_what_the_scanner_is_off_is_taken_back(kvp, vbmd, slope, offset):
    line = phantomless.calibrate(tissues(kvp, slope=slope, offset=offset))
    measured = slope * bone_hu(kvp, vbmd) + offset
    assert line.vbmd_mg_cm3(measured) == pytest.approx(vbmd, abs=3 + 0.03 * vbmd)
    assert 4 < line.sd_mg_cm3(measured) < 30


def test_less_that_is_known_is_less_sure():
    whole = tissues(120)
    at = bone_hu(120, 120)
    sure = phantomless.calibrate(whole).sd_mg_cm3(at)
    for name in ("kvp", "age_years", "blood_hu"):
        assert phantomless.calibrate(replace(whole, **{name: None})).sd_mg_cm3(at) > sure
    assert phantomless.calibrate(replace(whole, contrast=Contrast(None, "unknown"))).sd_mg_cm3(at) > sure


def test_tissues_tell_the_energy_where_the_header_does_not():
    """Without a voltage the line still follows the beam, though not all the way."""
    slopes = [phantomless.calibrate(replace(tissues(kvp), kvp=None)).slope for kvp in sorted(EFFECTIVE_ENERGY_KEV)]
    assert slopes == sorted(slopes)
    assert slopes[-1] > 1.04 * slopes[0]


@pytest.mark.parametrize("missing", [("air_hu",), ("fat_hu", "muscle_hu"), ("blood_hu", "fat_hu")])
def test_too_few_tissues_are_a_reason(missing):
    with pytest.raises(StudyFailure, match="no_reference_tissue"):
        phantomless.calibrate(replace(tissues(120), **dict.fromkeys(missing)))


def test_bright_blood_is_no_reference():
    enhanced = tissues(120, phase=Contrast(1.0, "portal"))
    bright, brighter = (phantomless.calibrate(replace(enhanced, blood_hu=hu)) for hu in (140.0, 180.0))
    assert (bright.slope, bright.intercept) == (brighter.slope, brighter.intercept)


def test_tissues_that_can_not_be_those_are_a_reason():
    with pytest.raises(StudyFailure, match="odd_tissues"):
        phantomless.calibrate(replace(tissues(120), fat_hu=60.0, muscle_hu=-120.0))


# --- phantom -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kvp", EFFECTIVE_ENERGY_KEV)
def test_rods_are_found_among_other_spots(kvp):
    rods = in_water(EFFECTIVE_ENERGY_KEV[kvp]).hu(RODS) * 1.01 - 3
    line = phantom.calibrate([*rods[::-1], -31.0, 460.0], RODS, kvp=kvp)
    assert line.vbmd_mg_cm3(rods) == pytest.approx(RODS, abs=0.01)
    assert line.residual_sd == pytest.approx(3.0 * line.slope, rel=1e-3)


@pytest.mark.parametrize("rods", [[], [0.0, 80.0, 160.0], [5.0, 6.0, 7.0, 8.0], [0.0, 300.0, 310.0, 320.0], [7.0] * 4])
def test_what_is_no_phantom_is_a_reason(rods):
    with pytest.raises(StudyFailure, match="no_phantom"):
        phantom.calibrate(rods, RODS, kvp=120)


# --- devices, tables -----------------------------------------------------------------------------------------


def labelled(n: int, device: str = "A", phase: str = "native", **extra) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    hu = rng.uniform(60, 220, n)
    keys = {"cohort": "dev", "patient_id": [f"p{i}" for i in range(n)], "device_key": device, "phase": phase}
    return pd.DataFrame(keys | {"trabecular_hu": hu, "qct_vbmd_mg_cm3": 0.8 * hu - 4 + rng.normal(0, 5, n)} | extra)


def test_a_labelled_patient_has_no_part_in_the_own_line():
    rows = labelled(12)
    rows["qct_vbmd_mg_cm3"] += [500.0] + [0.0] * 11
    devices = calibrate.gather([rows], min_patients=10)
    others = rows[1:]
    line = devices.line("A", "native", "p0")
    oracle = regression(others["trabecular_hu"].to_numpy(), others["qct_vbmd_mg_cm3"].to_numpy())
    assert line.slope == pytest.approx(oracle.slope)
    assert devices.line("A", "native", "nobody").slope != pytest.approx(oracle.slope)


def test_who_is_in_two_cohorts_counts_once():
    again = labelled(5).assign(cohort="other")
    devices = calibrate.gather([labelled(5), again], min_patients=10)
    assert devices.table()[0]["n"] == 5
    with pytest.raises(StudyFailure, match="too_few_labels"):
        devices.line("A", "native", "nobody")


def test_devices_and_phases_do_not_mix_and_small_ones_have_a_reason():
    rows = [labelled(11), labelled(4, phase="portal"), labelled(15, "B", qct_vbmd_mg_cm3=None)]
    calibrations = calibrate.gather(rows, min_patients=10).table()
    whole, small = tables.cast(calibrations, tables.CALIBRATIONS).to_pylist()
    assert (whole["device_key"], whole["phase"], whole["n"], whole["reason"]) == ("A", "native", 11, None)
    assert (small["device_key"], small["phase"], small["n"], small["reason"]) == ("A", "portal", 4, "too_few_labels")
    assert whole["slope"] == pytest.approx(0.8, abs=0.1)
    assert small["slope"] is None


def studies(**extra) -> pd.DataFrame:
    facts = {"air_hu": -999.0, "fat_hu": -95.0, "muscle_hu": 35.0, "blood_hu": 42.0, "rods_hu": [[]], "kvp": 120.0}
    keys = {"age_years": 60.0, "sex": "F", "device_key": "A", "contrast_agent": None, "status": "measured"}
    rows = pd.DataFrame({"cohort": "dev", "patient_id": "p0", "study_id": "s0"} | facts | keys | extra, index=[0])
    return rows.join(calibrate.contrast_rows(rows))


@pytest.mark.parametrize(
    ("method", "reason"),
    [("none", "no_calibration"), ("phantom", "no_phantom"), ("device", "too_few_labels"), ("phantomless", None)],
)
def test_each_method_gives_a_density_or_a_reason(method, reason):
    options = calibrate.Options(method, 10, RODS, HA)
    lines = calibrate.study_lines(studies(), options, calibrate.gather([], min_patients=10))
    densities = calibrate.calibrated([150.0, None, 150.0], ["s0", "s0", None], lines, method=method)
    assert densities.columns.tolist() == [column.name for column in tables.CALIBRATED]
    assert densities["calibration"].tolist() == [method] * 3
    assert densities["calibration_reason"].tolist() == [reason, reason or "not_measured", "not_measured"]
    assert densities["vbmd_hu_mg_cm3"].isna().tolist() == [reason is not None, True, True]
    assert (densities["vbmd_hu_mg_cm3"].isna() == densities["vbmd_hu_sd_mg_cm3"].isna()).all()


def test_tissues_calibrate_no_images_of_one_energy():
    vmi = studies(study_id="s1", device_key="M|X|VMI 40 keV|B", kvp=None)
    rows = pd.concat([studies(device_key="M|X|120|B"), vmi], ignore_index=True)
    options = calibrate.Options("phantomless", 10, RODS, HA)
    lines = calibrate.study_lines(rows, options, calibrate.gather([], min_patients=10))
    assert isinstance(lines["s0"], Line) and lines["s1"] == "other_spectrum"
    assert rows["phase"].tolist() == ["native", "unknown"]


def test_rods_of_dipotassium_phosphate_are_converted():
    options = calibrate.Options("phantom", 10, rods=[100.0], rods_unit="mg/cm3 K2HPO4")
    assert options.rods_mg_cm3 == pytest.approx([107.68])


def test_a_study_that_was_not_measured_has_neither_phase_nor_line():
    rows = studies(status="failed")
    assert rows["phase"].tolist() == [None]
    assert calibrate.study_lines(rows, calibrate.Options("none", 3, [], HA), calibrate.gather([], min_patients=3)) == {}


def test_scans_together_have_the_lines_that_each_has_alone():
    rng = np.random.default_rng(5)
    scans = [_any_tissues(rng) for _ in range(60)]
    kinds = set()
    for scan, line in zip(scans, phantomless.calibrate_all(scans), strict=True):
        try:
            alone = phantomless.calibrate(scan)
        except StudyFailure as failure:
            assert isinstance(line, StudyFailure) and str(line) == str(failure)
            kinds.add(failure.reason)
            continue
        kinds.add("line")
        assert isinstance(line, Line)
        assert line.slope == pytest.approx(alone.slope, rel=1e-9)
        np.testing.assert_allclose(line.covariance, alone.covariance, rtol=1e-9)
        assert np.linalg.eigvalsh(line.covariance).min() > 0
    assert kinds == {"line", "no_reference_tissue", "odd_tissues"}


def _any_tissues(rng: np.random.Generator) -> phantomless.Tissues:
    hu = {"air_hu": rng.normal(-999, 3), "fat_hu": rng.normal(-90, 40), "muscle_hu": rng.normal(50, 30)}
    measured = {name: None if rng.uniform() < 0.1 else float(value) for name, value in hu.items()}
    blood = float(rng.choice([40.0, 150.0, 300.0]))
    phase = contrast(blood, 120.0, None)
    return phantomless.Tissues(**measured, blood_hu=blood, contrast=phase, kvp=float(rng.choice([80, 120])), sex="F")
