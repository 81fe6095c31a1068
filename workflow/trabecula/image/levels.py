"""Names and codes of vertebral levels.

The canonical code of a level is that of the VerSe challenge (Sekuboyina et al.,
Med Image Anal 2021, doi:10.1016/j.media.2021.102166): 1-7 C1-C7, 8-19 T1-T12,
20-24 L1-L5, 25 L6, 26 sacrum, 28 T13. A canonical label map holds these codes on
vertebral bodies and on the sacrum, ``POSTERIOR + code`` on the posterior elements of
that level, and the structure codes below; everything else is 0.

>>> CODE_OF_LEVEL["L1"], LEVEL_OF_CODE[19], ORDER.index("L1") < ORDER.index("L2"), SACRUM in BODY_CODES
(20, 'T12', True, False)
"""

CODE_OF_LEVEL: dict[str, int] = (
    {f"C{i}": i for i in range(1, 8)}
    | {f"T{i}": 7 + i for i in range(1, 13)}
    | {f"L{i}": 19 + i for i in range(1, 7)}
    | {"S1": 26, "T13": 28}
)
LEVEL_OF_CODE: dict[int, str] = {code: level for level, code in CODE_OF_LEVEL.items()}
# Levels that exist in some people only.
SUPERNUMERARY = ("T13", "L6")

SACRUM = CODE_OF_LEVEL["S1"]
DISC = 50
RIB = 51
HIP = 52
POSTERIOR = 100

# From head to foot.
ORDER: tuple[str, ...] = (
    *(f"C{i}" for i in range(1, 8)),
    *(f"T{i}" for i in range(1, 14)),
    *(f"L{i}" for i in range(1, 7)),
    "S1",
)
# Vertebrae that everybody has but for rare variants, from head to foot.
USUAL_VERTEBRAE: tuple[str, ...] = tuple(level for level in ORDER if level not in (*SUPERNUMERARY, "S1"))

# Codes that vertebral bodies can have; the sacrum is no vertebral body.
BODY_CODES: tuple[int, ...] = tuple(code for level, code in CODE_OF_LEVEL.items() if level != "S1")
