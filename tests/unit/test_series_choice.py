"""An archive in which thin series that were derived lie beside thick original ones, or alone."""

from pathlib import Path

import pytest
from ct_files import axial_stack, save_all
from made_headers import DEFAULTS

from trabecula import index, tables

OPTIONS = DEFAULTS | {
    "workers": 1,
    "max_gap_mm": 10,
    "gates": DEFAULTS["gates"] | {"min_slices": 4, "min_extent_mm": 10},
}
DERIVED = ["DERIVED", "SECONDARY", "AXIAL"]
# By description: attributes, reason and flags beside an original, and status, reason, flags and device key alone.
RIVALS = {
    "blood flow": ({"ImageType": [*DERIVED, "CT_SOM7 VPCT", "BF"]}, "other_values"),
    "iodine map of an original": ({"SeriesDescription": "Iodine map"}, "other_values"),
    "mapa de yodo": ({"ImageType": DERIVED, "SeriesDescription": "mapa de yodo"}, "other_values"),
    "CBF": ({"ImageType": DERIVED, "SeriesDescription": "CBF"}, "other_values"),
    "Rho": ({"ImageType": DERIVED, "SeriesDescription": "Rho"}, "other_values"),
    "virtual native": ({"SeriesDescription": "virt. nativ 1.0"}, "other_values"),
    "density": ({"RescaleType": "MGML"}, "other_values"),
    "MIP by description": ({"ImageType": DERIVED, "SeriesDescription": "MIP 10/5 ax"}, "projection"),
    "MonoE": ({"SeriesDescription": "MonoE 70 keV"}, None),
    "optimum contrast": ({"ImageType": [*DERIVED, "CT_SOM7 DE OPT"]}, None),
    "one weak word": ({"SeriesDescription": "Abd BF"}, None),
    "a tool that says DERIVED": ({"ImageType": ["DERIVED", "SECONDARY", "PROCESSED"], "ConvolutionKernel": None}, None),
}
KEYS = {"MonoE": "Maker|Model|VMI 70 keV|STANDARD", "optimum contrast": "Maker|Model|optimum contrast|STANDARD"}
KEYS |= {"one weak word": "Maker|Model|120|STANDARD", "a tool that says DERIVED": "Maker|Model|120|?"}
FLAGS = {"MonoE": ["other_spectrum"], "optimum contrast": ["other_spectrum"], "one weak word": ["maybe_derived"]}


def save_thin(folder: Path, **attributes) -> None:
    save_all(axial_stack(30, 1.0, pixel_mm=(2.0, 2.0)), folder / "thin", SeriesInstanceUID="1.2.3.1", **attributes)


def indexed(folder: Path) -> tuple[dict, list[dict]]:
    cohort = index.Cohort("test", False, folder / "archive", None, folder / "results/test", folder / "private")
    index.index_cohort(cohort, scheduler=None, **OPTIONS)
    (study,) = tables.read(cohort.public / "index/studies.parquet", tables.STUDIES).to_pylist()
    return study, tables.read(cohort.public / "index/series.parquet", tables.SERIES).to_pylist()


@pytest.mark.parametrize("name", RIVALS)
def test_a_thick_original_is_chosen_before_any_thin_series_that_is_derived(name, tmp_path):
    attributes, reason = RIVALS[name]
    save_all(
        axial_stack(8, 5.0, pixel_mm=(2.0, 2.0)),
        tmp_path / "archive/thick",
        SeriesInstanceUID="1.2.3.2",
        RescaleType="HU",
    )
    save_thin(tmp_path / "archive", **attributes)
    study, series = indexed(tmp_path)
    chosen, rival = sorted(series, key=lambda row: not row["accepted"])
    assert (study["spacing_mm"], study["flags"], study["kvp"]) == (5.0, ["thick_slices"], 120.0)
    assert (chosen["spacing_mm"], chosen["derivation"]) == (5.0, [])
    assert (rival["reason"], rival["flags"]) == (reason or "not_chosen", FLAGS.get(name, []))
    assert rival["derivation"]


@pytest.mark.parametrize("name", RIVALS)
def test_alone_it_is_chosen_and_named_or_refused_with_its_reason(name, tmp_path):
    attributes, reason = RIVALS[name]
    save_thin(tmp_path / "archive", **attributes)
    study, _ = indexed(tmp_path)
    assert (study["status"], study["reason"]) == (("rejected", reason) if reason else ("accepted", None))
    assert (study["device_key"], study["flags"]) == (KEYS.get(name), FLAGS.get(name, []))
    assert study["kvp"] == (120.0 if (study["device_key"] or "").split("|")[-2:-1] == ["120"] else None)


def test_of_refused_series_alone_the_study_says_that_none_is_acceptable(tmp_path):
    save_thin(tmp_path / "archive", RescaleType="MGML")
    save_all(
        axial_stack(30, 1.0, pixel_mm=(2.0, 2.0)),
        tmp_path / "archive/b",
        SeriesInstanceUID="1.2.3.2",
        ImageType=[*DERIVED, "MIP"],
    )
    study, series = indexed(tmp_path)
    assert (study["reason"], {row["reason"] for row in series}) == (
        "no_acceptable_series",
        {"other_values", "projection"},
    )


def test_no_word_of_a_description_reaches_the_tables(tmp_path):
    save_thin(tmp_path / "archive", SeriesDescription="Jonny Exxample iodine map")
    _, series = indexed(tmp_path)
    assert series[0]["derivation"] == ["description: iodine", "description: map"]
    assert not any(
        "xxample" in file.read_text("latin-1") for file in (tmp_path / "results").rglob("*") if file.is_file()
    )
