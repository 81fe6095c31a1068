"""Classes of a series' values, by its header: original, derived, in doubt, of another spectrum, or no CT numbers."""

import pytest
from made_headers import GATES, WEIGHTS, header, stack

from trabecula.dicom.derived import ORDER, Derivation, derivation_of
from trabecula.index import choose, facts

ORIGINAL, DERIVED = "ORIGINAL\\PRIMARY\\AXIAL", "DERIVED\\SECONDARY\\AXIAL"


def values_of(**changes) -> str:
    return derivation_of(header(**changes)).values


@pytest.mark.parametrize(
    "image_type",
    [
        *(f"{DERIVED}\\CT_SOM7 VPCT\\{word}" for word in ("BF", "BV", "MTT", "TTP", "TMAX", "AVG")),
        "DERIVED\\PRIMARY\\PERFUSION\\RCBF",
        f"{DERIVED}\\CT_SOM7 DE VNC",
        f"{DERIVED}\\DE RHO_Z",
        *(f"DERIVED\\PRIMARY\\AXIAL\\{word}" for word in ("MAT_SPECIFIC", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "VNC")),
        "DERIVED\\SECONDARY\\AXIAL\\GSI MD\\IODINE(WATER)",
        "DERIVED\\SECONDARY\\AXIAL\\WATER(IODINE)",
        *(f"DERIVED\\SECONDARY\\{word}" for word in ("IODINE NO WATER", "Z EFFECTIVE", "ELECTRON DENSITY", "UA")),
        "ORIGINAL\\PRIMARY\\AXIAL\\VNC",
        "DERIVED\\PRIMARY\\VOLUME\\SUBTRACTION",
        "DERIVED\\SECONDARY\\AXIAL\\BONE REMOVAL",
        "DERIVED\\SECONDARY\\FUSED",
    ],
)
def test_image_types_of_maps_and_differences_refuse_alone(image_type):
    assert values_of(image_type=image_type) == "other_values"


@pytest.mark.parametrize(
    "word", ["MIP", "MINIP", "MIN_IP", "CT_SOM5 MIP", "MAXIMUM", "VRT", "VOLREND", "SSD", "CURVED", "PROJECTION IMAGE"]
)
def test_image_types_of_projections_refuse_alone(word):
    assert values_of(image_type=f"DERIVED\\SECONDARY\\AXIAL\\{word}") == "projection"


MAPS = """
Iodine map|carte d'iode|Carte Iode 2mm|mapa de yodo|mapa de iodo|Mappa Iodio|Jodkarte|IodineNoWater|Iodine (Water) 1.25
virt. nativ 1.0|Virtual Non-Contrast|VNC 1,0 Br40|Virtuell nativ|virtuel sans contraste|sin contraste virtual
Virtual Unenhanced|Blood Flow|Blutfluß|Volume sanguin|CBF|rCBV|Time to peak|Lung PBV|MTT map|Rho/Z|Zeff|Z-effective
Effective Z|Electron Density|Elektronendichte 3.0|densité électronique|bone removal|Calcium Suppression 25|Uric acid
DE_LiverVNC|LungPBV|natif virtuel|ohne Knochen|DE_Gout|synthetic CT|mu-map|ventilation map|Contrast-Enhanced Structures
Jodiumkaart|PureCalcium|DE Collagen|K-edge Gd|Arterial Enhancement Fraction|knochenfrei|GSI VUE|VNI 1.0|MD Iodine
"""
PROJECTIONS = """
MIP 10/5 cor|10 mm MIP ax|MinIP 5.0|COR MIP|MIP sag|3D tMIP coronal
LUNG MIPs 10x2|Maximum Intensity Projection|curved MPR
"""
SPECTRAL = """
MonoE 40keV|VMI 55 keV|Monoenergetic Plus 70 keV|monoenergetisch 60|40 keV Abd|Optimum Contrast 1.0
Opt. Contrast|Monochromatic|Mono+ 40|Mixed 0.5|linear blend 0.3|Nonlinear blending|DE_Abd_OC|Contraste optimal
"""
WEAK = """
BF|Abd BF ven|rho|MIP|iodine|Perfusion 5.0|Subtraktion|Abd M_0.5|mono
AxMIP|Maximumintensitätsprojektion|intensità massima
"""
HARMLESS = """
bone|Knochen 1.0 Br64|LUNG|Abd/Pel w iodine contrast|mit Jod|CT CH/AB/PEL|PreMonitoring|Calcium Scoring|spinal fusion L4
CT BONE DENSITY|QCT bone mineral density|CAP w/ MIPs|sagittal bone|TrueFidelity DLIR-H|low dose|CTAC|CBCT
Abd 1.0 Bv40|Thorax Bf37 3|BV 36 1.0|Bv48d|Dr MD Abd|curved spine|fused L4-S1|spinal fusion CT|1.0 for MIP|MIP source
source images for MPR
T3D|vue axiale|CT ED chest|oral water|PVP 5.0|ASIR 50 %|Dual Energy 120 kV|MAR|Thorax nativ|sin contraste
ROUTINE Kev
"""


def listed(texts: str) -> list[str]:
    return texts.strip().replace("\n", "|").split("|")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        *((text, "other_values") for text in listed(MAPS)),
        *((text, "projection") for text in listed(PROJECTIONS)),
        *((text, "other_spectrum") for text in listed(SPECTRAL)),
        *((text, "in_doubt") for text in listed(WEAK)),
        *((text, "original") for text in listed(HARMLESS)),
    ],
)
def test_descriptions_of_originals_refuse_by_two_words_or_a_phrase_and_not_by_one_word(text, values):
    assert values_of(description=text) == values


@pytest.mark.parametrize("sign", [{"image_type": DERIVED}, {"series_time": "113000", "acquisition_time": "101500.25"}])
@pytest.mark.parametrize(
    ("text", "values"), [("BF", "other_values"), ("MIP", "projection"), ("mono", "other_spectrum")]
)
def test_a_weak_word_decides_where_the_series_is_derived_or_made_later(sign, text, values):
    assert values_of(description=text, **sign) == values


@pytest.mark.parametrize(
    ("image_type", "values"),
    [
        (ORIGINAL, "original"),
        (None, "original"),
        ("ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI DUAL\\STD\\SNRG\\DET_AB", "original"),
        ("ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 MON", "original"),
        ("ORIGINAL\\PRIMARY\\AXIAL\\ADD", "original"),
        ("DERIVED\\SECONDARY\\PROCESSED", "derived"),
        ("DERIVED\\PRIMARY\\AXIAL", "derived"),
        ("DERIVED\\SECONDARY\\AXIAL\\CSA MPR", "derived"),
        ("DERIVED\\SECONDARY\\AVERAGE", "derived"),
        ("DERIVED\\SECONDARY\\RESAMPLED", "derived"),
        ("DERIVED\\SECONDARY\\AXIAL\\GSI MONO", "other_spectrum"),
        ("DERIVED\\SECONDARY\\AXIAL\\MonoE 40keV", "other_spectrum"),
        ("DERIVED\\SECONDARY\\AXIAL\\CT_SOM7 DE OPT", "other_spectrum"),
        ("DERIVED\\SECONDARY\\AXIAL\\MIXED", "other_spectrum"),
        ("MIXED\\PRIMARY\\VOLUME\\NONE", "original"),
        ("ORIGINAL\\PRIMARY\\AXIAL\\VMI", "other_spectrum"),
    ],
)
def test_image_types_of_ct_numbers(image_type, values):
    assert values_of(image_type=image_type) == values


@pytest.mark.parametrize("unit", ["MGML", "PCT", "Z_EFF", "ED", "EDW", "HU_MOD", "Jones^Ann"])
def test_other_units_than_hounsfields_refuse_and_only_those_of_the_standard_are_named(unit):
    derivation = derivation_of(header(rescale_type=unit))
    assert derivation.values == "other_values"
    assert derivation.signs == (f"RescaleType: {'not HU' if unit == 'Jones^Ann' else unit}",)


@pytest.mark.parametrize("unit", [None, "", "HU", "hu", "US", "Hounsfield"])
def test_hounsfield_units_or_none_that_are_named_are_no_sign(unit):
    assert derivation_of(header(rescale_type=unit)) == Derivation("original")


@pytest.mark.parametrize(
    ("stored", "values"),
    [
        ({"bits_stored": 12, "signed": 0, "intercept": -1024.0}, "original"),
        ({"bits_stored": 16, "signed": 1, "intercept": 0.0}, "original"),
        ({"bits_stored": 8, "signed": 0, "intercept": -1024.0, "slope": 16.0}, "original"),
        ({"bits_stored": 16, "signed": 0, "intercept": 0.0}, "derived"),
        ({"bits_stored": 8, "signed": 0, "intercept": -1024.0}, "derived"),
        ({"bits_stored": 8, "signed": 0, "intercept": 0.0, "image_type": DERIVED}, "other_values"),
        ({"bits_stored": 16, "signed": 0, "intercept": 0.0, "description": "perfusion"}, "other_values"),
    ],
)
def test_a_range_without_air_or_bone_is_a_weak_sign(stored, values):
    assert values_of(**stored) == values


def test_signs_are_words_of_a_fixed_list_and_no_text_of_the_header():
    derivation = derivation_of(header(description="Jones Ann, iodine map", derivation="made by Dr. Smith: MIP"))
    assert derivation.signs == ("description: iodine", "description: map", "description: MIP")


def test_what_is_said_of_the_derivation_counts_and_compression_does_not():
    assert values_of(derivation="Monoenergetic 50 keV") == "other_spectrum"
    assert values_of(derivation="Lossless JPEG compression, selection value 1, ratio 2.7") == "original"


SPECTRA = {
    "VMI 40 keV": {"description": "MonoE 40keV"},
    "VMI 70 keV": {"image_type": f"{DERIVED}\\VMI", "description": "KEV 70"},
    "blend": {"image_type": f"{DERIVED}\\CT_SOM5 SPI DUAL\\MIXED"},
    "VMI": {"image_type": f"{DERIVED}\\VMI"},
    "blend 0.5": {"image_type": f"{DERIVED}\\CT_SOM5 SPI DUAL\\MIXED\\M_0.5"},
    "optimum contrast": {"image_type": f"{DERIVED}\\CT_SOM7 DE OPT"},
}


@pytest.mark.parametrize(("spectrum", "changes"), SPECTRA.items())
def test_the_device_key_names_the_spectrum_in_place_of_a_voltage(spectrum, changes):
    image = header(manufacturer="M", model="X", kernel="Qr40", **changes)
    assert facts.device_key(image) == f"M|X|{spectrum}|Qr40"
    assert facts.tube_voltage(image) is None


RIVALS = [
    {},
    {"image_type": DERIVED},
    {"description": "BF"},
    {"image_type": f"{DERIVED}\\VMI", "description": "VMI 40 keV"},
]


def test_no_thinness_makes_up_for_a_class_that_comes_later():
    thick = [stack(40, 5.0, **changes) for changes in RIVALS]
    thin = [stack(200, 1.0, **changes) for changes in RIVALS]
    assert [ORDER[number] for number in range(4)] == [derivation_of(part.first).values for part in thin]
    for better in range(4):
        for worse in range(better + 1, 4):
            assert choose.score(thin[worse], WEIGHTS) > choose.score(thick[better], WEIGHTS)
            assert choose.best([thin[worse], thick[better]], GATES, WEIGHTS) is thick[better]
        assert choose.best([thick[better], thin[better]], GATES, WEIGHTS) is thin[better]


def test_flags_say_what_limits_the_figures_and_a_derived_series_with_the_same_values_has_none():
    assert [choose.flags_of(stack(**changes), GATES) for changes in RIVALS] == [
        [],
        [],
        ["maybe_derived"],
        ["other_spectrum"],
    ]
