"""Codes in exported objects: SNOMED CT, DICOM and UCUM where they have one, else our own with its meaning.

Standard codes are those of pydicom's code dictionary (DICOM PS3.16, annexes B and D).
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from trabecula import errors
from trabecula.image.levels import BODY_CODES, LEVEL_OF_CODE

# Codes of one's own begin with 99 (DICOM PS3.16, section 8).
OWN = "99TRABECULA"
_MEANING_LETTERS = 64

VERTEBRAL_BODY = Code("3572006", "SCT", "Vertebral body")
TRABECULAR = Code("trabecular", OWN, "Trabecular region of the vertebral body")
VBMD = Code("vbmd", OWN, "Trabecular volumetric bone mineral density (HA)")
VBMD_LOW = Code("vbmd_low", OWN, "Lower end of the 90 % interval of vbmd")
VBMD_HIGH = Code("vbmd_high", OWN, "Upper end of the 90 % interval of vbmd")
PROBABILITY = Code("p_reduced", OWN, "Probability of reduced bone density")
LIMITATION = Code("limitation", OWN, "What limits the result")
BONE_DENSITY = Code("density", OWN, "Bone density of the scan")

# T13 and L6 have no code in the dictionary: they are vertebrae, and the segment's label names them.
VERTEBRA_OF_LEVEL: dict[str, Code] = {
    LEVEL_OF_CODE[code]: getattr(codes.SCT, f"{LEVEL_OF_CODE[code]}Vertebra", None) or codes.SCT.Vertebra
    for code in BODY_CODES
}


def limitation(flag: str) -> Code:
    """Give the code of a scan's flag or novelty, or of a vertebra's flag; its meaning is cut to 64 letters."""
    return Code(flag, OWN, {**errors.REASONS, **errors.FLAGS, **errors.NOVELTY}.get(flag, flag)[:_MEANING_LETTERS])


def level_limitation(flag: str) -> Code:
    """Give the code of a flag against a vertebra's level; it differs from that of a scan's flag of the same name."""
    return Code(f"level_{flag}", OWN, errors.LEVEL_FLAGS.get(flag, flag)[:_MEANING_LETTERS])
