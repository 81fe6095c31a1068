"""Tell by its header what the values of a CT series are: as the scanner measured them, reformatted, or something else.

No single attribute tells. Signs are collected from ImageType, RescaleType, the descriptions of series and derivation,
the tube voltage, the range of values that can be stored, and times.
A sign weighs 1 where it may mean other things as well, and 2 where it can't; 2 in all decide. ImageType's words are
written by machines and mostly weigh 2; a single word of a description, which people type, weighs 1, and a phrase of
two words 2. Signs that do not say what the values are weigh 1 beside others: ImageType is DERIVED, the series was begun
long after its acquisition, the stored values have no room for air and bone.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from trabecula.dicom.headers.record import Header

Values = Literal["original", "derived", "in_doubt", "other_spectrum", "projection", "other_values"]
Meaning = Literal["other_spectrum", "projection", "other_values"]

# Best first: among the acceptable series of a study, one of an earlier class is chosen.
ORDER: tuple[Values, ...] = ("original", "derived", "in_doubt", "other_spectrum", "projection", "other_values")
# Flags of classes that can be measured, keys of `trabecula.errors.FLAGS`.
FLAGS: dict[Values, str] = {"in_doubt": "maybe_derived", "other_spectrum": "other_spectrum"}
# Of equal weights, the class of less use counts.
_MEANINGS: tuple[Meaning, ...] = ("other_values", "projection", "other_spectrum")
_DECIDES = 2


class _Word(NamedTuple):
    """A word of the vocabulary: its meaning, its weight in ImageType and in descriptions, and its spellings."""

    name: str
    meaning: Meaning
    in_image_type: int
    in_texts: int
    spellings: str


# DICOM PS3.3 C.8.2.1.1.1, C.8.15.3.8 and C.8.16.2, makers' words and presets, and the words of seven languages. Texts
# are compared in lower case, without accents, with one blank in place of signs and between letters and digits.
_WORDS = (
    # Maps of perfusion
    _Word("perfusion map", "other_values", 2, 2, r"vpct|perfusion (map|karte|parameters?)|perfusionskarte|lung pbv"),
    _Word("perfusion", "other_values", 2, 1, r"(lungen)?perfusi?(on|one|ao|e|oncc)"),
    _Word(
        *("blood flow", "other_values", 2, 2),
        r"r?cbf|blood flow|blutfluss|(flux|debit) sanguin|flusso (sanguigno|ematico)|flu[jx]o sanguineo|"
        r"bloed(flow|stroom|doorstroming)|arterial (flow|enhancement fraction)|aef",
    ),
    _Word("BF", "other_values", 2, 1, r"bf(?! \d\d)|haf"),  # Bf37 and Bv40 are kernels
    _Word(
        *("blood volume", "other_values", 2, 2),
        r"r?cbv|pbv|blood vol(ume)?|blutvolumen|volumen? (sanguin|sanguigno|ematico|sanguineo)|bloedvolume",
    ),
    _Word("BV", "other_values", 2, 1, r"bv(?! \d\d)"),
    _Word(
        *("transit time", "other_values", 2, 2),
        r"(mean )?transit time|time to (peak|drain|start)|transitzeit|temps? de transit|tempo di transito|"
        r"t(iem|em)po de transito|transittijd",
    ),
    _Word("MTT", "other_values", 2, 1, r"mtt|ttp|ttd|tts|tmax|t max"),
    _Word("permeability", "other_values", 2, 1, r"permeab\w*|k ?trans|patlak|flow ext\w*"),
    # Quantities of materials
    _Word(
        "iodine map",
        "other_values",
        2,
        2,
        r"[ij]od(ium)? ?(karte|kaart|karta|bild|verteilung|dichte|map)|iodine (density|overlay|only|mg)",
    ),
    _Word("iodine", "other_values", 2, 1, r"iodine|[ij]od|jodium|iode|[iy]odo|iodio"),
    _Word("map", "other_values", 1, 1, r"maps?|mapas?|karte|cartes?|mapp[ae]|kaart|cartographie|overlay|u ?map"),
    _Word(
        *("material", "other_values", 2, 2),
        r"material (density|decomposition|map)|materialdichte|gsi md|mdi? (iodine|calcium|hap|fat|water|uric acid)|"
        r"mat (specific|removed|fractional|value based|modified)|"
        r"(iodine|calcium|hap|fat|uric acid|blood) (no )?water|water (no )?(iodine|calcium|hap|fat)|fat fraction",
    ),
    _Word("MD", "other_values", 2, 0, r"md|mdi"),  # a doctor's title in descriptions
    _Word("uric acid", "other_values", 2, 2, r"uric acid|harnsaure|acide urique|acido urico|urinezuur"),
    _Word("UA", "other_values", 2, 0, r"ua"),
    _Word(
        "calcium",
        "other_values",
        2,
        2,
        r"(calcium|ca) (suppress\w*|supp|map|removal)|hydroxyapatite|pure ?(calcium|lumen)",
    ),
    _Word(
        *("effective atomic number", "other_values", 2, 2),
        r"z ?eff\w*|eff(ective)? (z|atomic num\w*)|ordnungszahl|n(umer|ombr)[oe] atomi(co|que)|"
        r"atoomnummer|rho z|ρ z",
    ),
    _Word("rho", "other_values", 2, 1, r"rho|ρ"),
    _Word("ED", "other_values", 2, 0, r"edw?"),
    _Word(
        *("electron density", "other_values", 2, 2),
        r"electron dens\w*|elektronendichte|elektronendichtheid|densit[ae] el\w+|densidade? ele\w+|"
        r"stopping power\w*|spr",
    ),
    _Word(
        *("virtual non-contrast", "other_values", 2, 2),
        r"vnca?|vni|gsi vue|"
        r"virt\w* (nativ\w*|non|un ?enh\w*|ohne|sans|senza|sin|sem|zonder|blanco?|basal\w*|noncontrast)|"
        r"(nati[fv]\w*|sans contraste|senza contrasto|sin contraste|sem contraste|blanco) virt\w*",
    ),
    _Word("VUE", "other_values", 2, 0, r"vue"),
    _Word(
        "modified",
        "other_values",
        2,
        2,
        r"hu mod|bones? (remov\w*|free|subtr\w*)|no bones?|knochenentfernung|ohne knochen|knochenfrei|sans os",
    ),
    _Word(
        "modified by material",
        "other_values",
        2,
        2,
        r"contrast enhanced structures|k edge|de (gout|bone marrow|calculi|collagen|hard ?plaques?)",
    ),
    _Word("made from MR", "other_values", 2, 2, r"(synthetic|pseudo|substitute) ct|mrcat|s ?ct (from )?mr"),
    _Word("ratio", "other_values", 2, 2, r"mu map|density map|parametric response|jacobian"),
    _Word("function", "other_values", 2, 1, r"ventilation|emphysema|laa"),
    _Word("subtraction", "other_values", 2, 1, r"s(ub|ous|us)tra[ckz]\w*|sottra\w*|difference|differenz|dsa|minus"),
    # Vertebrae are fused, and a spine is curved: alone, such words say nothing in descriptions.
    _Word("fused", "other_values", 2, 0, r"fused|fusion"),
    _Word("fused images", "other_values", 2, 2, r"fusioniert|fus(ed|ion) (pet|spect|images?)|(pet|spect) ct fus\w*"),
    _Word("vessels", "other_values", 2, 1, r"lung vessels?|lungengefasse"),
    _Word("segmentation", "other_values", 2, 1, r"segmentation|segmentierung|segmentazione|segmentacion"),
    # Projections and renderings
    _Word(
        *("MIP", "projection", 2, 1),
        r"t? ?mips?|(ax|cor|kor|sag|tra)mips?|max(imum)? ?ip|m[ao][xs]s?im\w* ?intens\w*|intens\w* m[ao][xs]s?im\w*",
    ),
    _Word("MinIP", "projection", 2, 1, r"minip|min(imum)? ?ip|min(imum)? intensit\w*"),
    _Word("slab", "projection", 0, 1, r"(maxip|mips?|minip) \d[\d.]*|\d[\d.]* (mm )?(maxip|mips?|minip)"),
    _Word(
        "plane",
        "projection",
        0,
        1,
        r"(ax\w*|cor\w*|kor\w*|sag\w*|tra\w*) t?mips?|t?mips? (ax\w*|cor\w*|kor\w*|sag\w*|tra\w*)",
    ),
    _Word("ray sum", "projection", 2, 1, r"ray ?sum"),
    _Word("extreme", "projection", 2, 0, r"maximum|minimum|mean ip|projection image"),
    _Word("intensity projection", "projection", 0, 1, r"intens\w*? ?proje[ckz]\w*|proye[ck]\w* de (maxima )?intens\w*"),
    _Word(
        "rendering", "projection", 2, 1, r"vrt|vol ?rend?\w*|volume render\w*|3 d vr|ssd|surface render\w*|cinematic\w*"
    ),
    _Word("curved", "projection", 2, 0, r"curved|kurviert|courbe|curv[oa]|gekromd"),
    _Word("curved planes", "projection", 2, 2, r"(curved|courbe) (mpr|mpvr|plan\w*|ref\w*|rec\w*)"),
    _Word("CPR", "projection", 2, 1, r"cpr|panoram\w*"),
    _Word("collage", "projection", 2, 1, r"collage"),
    # Hounsfield units of another spectrum than that of a tube
    _Word(
        *("VMI", "other_spectrum", 2, 2),
        r"vmi|mono ?e|mono ?energ\w*|mono \d{2,3}|mono ?(plus|chrom\w*|crom\w*)|virt\w* mono\w*|gsi mono",
    ),
    _Word("mono", "other_spectrum", 2, 1, r"mono(?! ?phas)"),
    _Word("keV", "other_spectrum", 2, 2, r"\d+(\.\d+)? kev|kev \d+"),
    _Word(
        "optimum contrast",
        "other_spectrum",
        2,
        2,
        r"optim\w+ [ck]ontr\w*|[ck]ontr\w* optim\w*|opt contr\w*|de opt|de \w+ oc",
    ),
    _Word("linear blend", "other_spectrum", 2, 2, r"(non ?)?linear blend\w*|mix\w* lineaire|average weighted|de mix"),
    _Word("mixed", "other_spectrum", 1, 1, r"mixed( image)?|image mixte"),
    _Word("blend", "other_spectrum", 2, 1, r"blend\w*|mixed 0\.\d+|energy prop wt|[mf] 0\.\d+|mischbild"),
)
_FOUND = [(word, re.compile(rf"(?<![\w.])(?:{word.spellings})(?![\w.])")) for word in _WORDS]
# Contrast media hold iodine; calcium is scored on original images, and others are made from them.
_HARMLESS = re.compile(
    r"iod\w* contrast\w*|contrast\w* iod\w*|(mit|nach|with|post|avec|con|com|met) ([ij]od[eo]?|yodo|iodio)\b|"
    r"calcium scor\w*|(for|fur|pour|para|per|source|quelle?|w|with|and|incl\w*|plus|mit|und|avec|con|com|met) "
    r"(images? )?(for )?(mips?|mprs?)\b|\b(mips?|mprs?) (source|quell|src)\w*"
)
_SAME_VALUES = re.compile(
    r"\b(mpr|reformat\w*|avg|ave|average[ds]?|mittelwert|moyenne|resampled?|interpolated|csa mpr|qc)\b"
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z]{3})(?=[A-Z]{2})")
_BESIDE_DIGITS = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SIGNS = re.compile(r"(?!(?<=\d)[.](?=\d))[^\w|]|_")  # but points within numbers, and the bar between values
_ENERGY = re.compile(r"(\d+)(?:\.\d+)? kev|kev (\d+)")
_SHARE = re.compile(r"(?:[mf]|mixed|blend) (0\.\d+)")
# Spellings of RescaleType (0028,1054) that stand for Hounsfield units, or for nothing said; others of PS3.3 C.11.1.1.2.
_HOUNSFIELD = {"", "HU", "US", "UNSPECIFIED", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS"}
_OTHER_UNITS = {"OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"}
# Hounsfield units that a CT has room for, and the lowest voltage of a CT's tube.
_ROOM_HU = (-300, 300)
_LEAST_KVP = 60
_LATER_S = 600  # original series are made within minutes


@dataclass(frozen=True)
class Derivation:
    """Class of a series' values, and the signs of it.

    Attributes
    ----------
    values : str
        original; derived (Hounsfield units as the scanner measured them, reformatted or resampled); in_doubt (a sign
        that is too weak alone); other_spectrum (Hounsfield units of one energy, or of a blend); projection;
        other_values (no Hounsfield units of the body).
    signs : tuple of str
        Each sign's attribute and the word of the vocabulary that was found in it; never the text itself.
    spectrum : str or None
        Name of the spectrum, in place of a tube voltage; None where it is that of the tube.
    """

    values: Values
    signs: tuple[str, ...] = ()
    spectrum: str | None = None

    @property
    def rank(self) -> int:
        """Give the place of the class in `ORDER`: of a study's series, the smallest is chosen."""
        return ORDER.index(self.values)


def derivation_of(header: Header) -> Derivation:
    """Tell by a header what the values of its series are."""
    return _derivation(
        header.image_type,
        f"{header.description or ''} | {header.derivation or ''}",
        header.rescale_type,
        is_low_voltage=0 < (header.kvp or 0) < _LEAST_KVP,
        has_room=_has_room(header),
        is_later=_is_later(header.series_time, header.acquisition_time),
    )


def values_by_image_type(image_type: str | None) -> Values:
    r"""Tell by ImageType alone (0008,0008) what the values are.

    >>> values_by_image_type("ORIGINAL\\PRIMARY\\AXIAL"), values_by_image_type("DERIVED\\SECONDARY\\CT_SOM7 VPCT\\BF")
    ('original', 'other_values')
    """
    return _derivation(image_type, "", None).values


def refusal(values: Values) -> Literal["projection", "other_values"] | None:
    """Give the reason why values can't be measured, a key of `trabecula.errors.REASONS`; None where they can."""
    return values if values == "projection" or values == "other_values" else None


@lru_cache(maxsize=4096)
def _derivation(
    image_type: str | None,
    texts: str,
    rescale_type: str | None,
    *,
    is_low_voltage: bool = False,
    has_room: bool = True,
    is_later: bool = False,
) -> Derivation:
    """Weigh the signs.

    >>> _derivation("ORIGINAL", "BF", None).values, _derivation("DERIVED", "BF", None).values
    ('in_doubt', 'other_values')
    >>> _derivation("ORIGINAL", "MonoE 40keV", "HU")
    Derivation(values='other_spectrum', signs=('description: VMI', 'description: keV'), spectrum='VMI 40 keV')
    """
    kinds = " | ".join(map(plain_words, (image_type or "").split("\\")))
    kinds = kinds.removeprefix("mixed")  # so of a multi-frame file: of original and derived frames
    texts = _HARMLESS.sub(" ", plain_words(texts))
    weights = dict.fromkeys(_MEANINGS, 0)
    signs = []
    for meaning, weight, sign in (
        *_signs_of_words(kinds, "ImageType"),
        *_signs_of_words(texts, "description"),
        *_signs_of_values(rescale_type, is_low_voltage=is_low_voltage),
    ):
        weights[meaning] += weight
        signs.append(sign)
    is_derived = kinds.startswith("derived")
    support = ["SeriesTime: later"] * is_later + ["ImageType: derived"] * is_derived
    support += ["range: no room for air and bone"] * (not has_room)
    if not signs and (has_room or len(support) < _DECIDES):
        support += ["words: reformat or mean"] * bool(_SAME_VALUES.search(f"{kinds} | {texts}"))
        return Derivation("derived" if support[is_later:] else "original", tuple(support))
    signs += support
    if sum(weights.values()) + len(support) < _DECIDES:
        return Derivation("in_doubt", tuple(signs))
    values = max(_MEANINGS, key=weights.__getitem__)
    spectrum = _spectrum(f"{kinds} | {texts}", signs) if values == "other_spectrum" else None
    return Derivation(values, tuple(signs), spectrum)


def _signs_of_words(text: str, attribute: str) -> Iterator[tuple[Meaning, int, str]]:
    """Yield meaning, weight and name of each word of the vocabulary in a text."""
    for word, spelling in _FOUND:
        weight = word.in_image_type if attribute == "ImageType" else word.in_texts
        if weight and spelling.search(text):
            yield word.meaning, weight, f"{attribute}: {word.name}"


def _signs_of_values(rescale_type: str | None, *, is_low_voltage: bool) -> Iterator[tuple[Meaning, int, str]]:
    """Yield meaning, weight and name of each sign that lies in units and voltage."""
    unit = (rescale_type or "").strip().upper()
    if unit not in _HOUNSFIELD:
        yield "other_values", _DECIDES, f"RescaleType: {unit if unit in _OTHER_UNITS else 'not HU'}"
    if is_low_voltage:
        yield "other_spectrum", 1, "KVP: too low for a tube"


def _spectrum(text: str, signs: list[str]) -> str:
    """Name the spectrum of images that are not those of a tube's voltage."""
    if energy := _ENERGY.search(text):
        return f"VMI {energy[1] or energy[2]} keV"
    if any("optimum contrast" in sign for sign in signs):
        return "optimum contrast"
    if any(sign.endswith(("blend", "mixed")) for sign in signs):
        share = _SHARE.search(text)
        return f"blend {share[1]}" if share else "blend"
    return "VMI"


def plain_words(text: str) -> str:
    """Write a text in lower case, without accents, with blanks for signs, and words apart that were written together.

    >>> plain_words("Carte d'Iodé_40keV (M_0.5) NoWater")
    'carte d iode 40 kev m 0.5 no water'
    """
    words = _CAMEL.sub(" ", text).casefold()
    letters = "".join(c for c in unicodedata.normalize("NFKD", words) if not unicodedata.combining(c))
    apart = _BESIDE_DIGITS.sub(" ", letters)
    return " ".join(_SIGNS.sub(" ", apart).split())


def _has_room(header: Header) -> bool:
    """Tell whether the stored values can hold air and bone, as far as the header says how they are stored."""
    bits, signed, slope, intercept = header.bits_stored, header.signed, header.slope, header.intercept
    if bits is None or signed not in (0, 1) or not slope or intercept is None or not 0 < bits <= 16:
        return True
    least, span = (-(1 << bits - 1) if signed else 0), (1 << bits) - 1
    ends = least * slope + intercept, (least + span) * slope + intercept
    return min(ends) <= _ROOM_HU[0] and max(ends) >= _ROOM_HU[1]


def _is_later(series_time: str | None, acquisition_time: str | None) -> bool:
    """Tell whether a series was begun long after its slices were acquired.

    >>> _is_later("111500.00", "101500"), _is_later("101700", "101500"), _is_later(None, "101500")
    (True, False, False)
    """
    begun, acquired = _seconds(series_time), _seconds(acquisition_time)
    return begun is not None and acquired is not None and begun - acquired > _LATER_S


def _seconds(time: str | None) -> int | None:
    digits = (time or "")[:6]
    if len(digits) < 6 or not digits.isdecimal():
        return None
    return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
