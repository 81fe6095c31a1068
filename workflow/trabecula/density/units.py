"""Units of bone density: the phantom material that they name, and what they are worth in hydroxyapatite."""

_VOLUME_UNITS = ("mg/cm3", "mg/cm³", "mg/cm^3", "mg/cc", "mg/ml")
_PHANTOM_MATERIALS = {"ha": "HA", "caha": "HA", "hydroxyapatite": "HA", "k2hpo4": "K2HPO4"}
PHANTOM_MATERIALS = tuple(dict.fromkeys(_PHANTOM_MATERIALS.values()))


def ha_from_k2hpo4(vbmd_mg_cm3: float) -> float:
    """Give the hydroxyapatite equivalent of a density that was measured with a K2HPO4 phantom.

    HA = 1.15 K2HPO4 - 7.32, both in mg/cm3 (Faulkner et al., as in the conversion tables for QCT phantoms).

    >>> round(ha_from_k2hpo4(100.0), 2)
    107.68
    """
    return 1.15 * vbmd_mg_cm3 - 7.32


def material_of(unit: str) -> str | None:
    """Read the phantom material that a unit names: HA, K2HPO4, or None when it names none.

    A bare ``mg/cm3`` names none: the two materials differ by about 15 %, so that a guess could
    turn a normal density into a reduced one.

    >>> material_of("mg/ml (CaHA)"), material_of("mg/cm3")
    ('HA', None)
    """
    words = unit.lower().replace("(", " ").replace(")", " ").split()
    if len(words) != 2 or words[0] not in _VOLUME_UNITS:
        return None
    return _PHANTOM_MATERIALS.get(words[1])
