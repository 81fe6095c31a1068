"""Read the numbers and names in label maps.

Pure Python, since the driver of a run checks the coding of a configuration with it.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trabecula.errors import ConfigError
from trabecula.image.levels import (
    BODY_CODES,
    CODE_OF_LEVEL,
    DISC,
    HIP,
    LEVEL_OF_CODE,
    POSTERIOR,
    RIB,
    SACRUM,
    USUAL_VERTEBRAE,
)

COLUMNS = ("value", "level")
# Largest number that a label map may hold.
MAX_VALUE = 65535

_SPINE = {"c": "C", "cervical": "C", "t": "T", "th": "T", "d": "T", "thoracic": "T", "dorsal": "T"}
_SPINE |= {"l": "L", "lumbar": "L", "s": "S", "sacral": "S"}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NUMBERS = {word: i for i, word in enumerate((*_ORDINALS, "eleventh", "twelfth", "thirteenth"), start=1)}
_BODY = {"body", "bodies", "corpus"}
_POSTERIOR = {"posterior", "arch", "process", "processes", "spinous", "transverse", "articular", "lamina", "laminae"}
_POSTERIOR |= {"pedicle", "pedicles", "facet", "facets"}
_OTHERS = {"disc": DISC, "discs": DISC, "disk": DISC, "disks": DISC, "rib": RIB, "ribs": RIB}
_OTHERS |= {"hip": HIP, "hips": HIP, "ilium": HIP, "sacrum": SACRUM}
_FILLERS = {"vertebra", "vertebrae", "vertebral", "intervertebral", "bone", "bones", "structure", "element", "elements"}
_FILLERS |= {"of", "the", "and", "level", "left", "right", "superior", "inferior", "spine"}


@dataclass(frozen=True)
class Structure:
    """Part of the spine that a label stands for.

    Attributes
    ----------
    code : int
        Canonical code (see `trabecula.image.levels`).
    whole : bool
        The label covers a whole vertebra, whose body still has to be parted from the rest.
    """

    code: int
    whole: bool = False


@dataclass(frozen=True)
class Coding:
    """Meaning of the numbers in a label map.

    Attributes
    ----------
    codes : mapping
        Number in the label map to canonical code; a number that is not there is no part of the spine.
    whole : frozenset of int
        Canonical codes that stand for whole vertebrae in this coding.
    """

    codes: Mapping[int, int]
    whole: frozenset[int] = field(default=frozenset())


def structure_named(text: str) -> Structure | None:
    """Read a structure's name, as people and programs write it.

    Parameters
    ----------
    text : str
        Such as ``L1``, ``vertebrae_L1``, ``L1 body``, ``L1 posterior``, ``First lumbar vertebra``, ``rib_left_4``,
        ``sacrum``. A vertebra without ``body`` or ``posterior`` is a whole one.

    Returns
    -------
    Structure or None
        None for anything else: a name is read only if every word of it is understood.

    Examples
    --------
    >>> structure_named("First lumbar vertebra"), structure_named("L1 body"), structure_named("L1 metastasis")
    (Structure(code=20, whole=True), Structure(code=20, whole=False), None)
    """
    words = re.findall(r"[a-z]+\d+|[a-z]+|\d+", text.lower())
    levels, spines, numbers, rest = set(), set(), set(), set()
    for word in words:
        level = re.fullmatch(r"(th|[ctlds])(\d+)", word)
        if level:
            levels.add(f"{_SPINE[level[1]]}{int(level[2])}")
        elif word in _SPINE:
            spines.add(_SPINE[word])
        elif word in _NUMBERS or word.isdigit():
            numbers.add(_NUMBERS.get(word) or int(word))
        else:
            rest.add(word)
    if rest - _FILLERS - _BODY - _POSTERIOR - _OTHERS.keys():
        return None
    others = {_OTHERS[word] for word in rest & _OTHERS.keys()}
    if others:
        return Structure(others.pop()) if len(others) == 1 else None
    levels |= {f"{spine}{number}" for spine in spines for number in numbers}
    return _vertebra(levels.pop(), rest) if len(levels) == 1 else None


def _vertebra(level: str, words: set[str]) -> Structure | None:
    """Give the structure of a level such as ``L1``, with the words that stand beside it."""
    if level.startswith("S"):
        return Structure(SACRUM)
    if level not in CODE_OF_LEVEL:
        return None
    code = CODE_OF_LEVEL[level]
    if words & _POSTERIOR:
        return Structure(POSTERIOR + code)
    return Structure(code, whole=not words & _BODY)


def coding_of(structures: Mapping[int, Structure]) -> Coding:
    """Make the coding in which these numbers stand for these structures.

    >>> coding_of({1: Structure(20, whole=True), 2: Structure(26)})
    Coding(codes={1: 20, 2: 26}, whole=frozenset({20}))
    """
    return Coding(
        {value: structure.code for value, structure in structures.items()},
        frozenset(structure.code for structure in structures.values() if structure.whole),
    )


def _in_order(first: int, *levels: str) -> dict[int, int]:
    """Count levels from a number on; give the codes by these numbers."""
    return {first + i: CODE_OF_LEVEL[level] for i, level in enumerate(levels)}


_CERVICAL, _THORACIC, _LUMBAR = ([level for level in USUAL_VERTEBRAE if level[0] == region] for region in "CTL")
_BODIES = frozenset(BODY_CODES)
_POSTERIORS = {POSTERIOR + code: POSTERIOR + code for code in BODY_CODES}

CODINGS: dict[str, Coding] = {
    "canonical": Coding(
        {code: code for code in (*LEVEL_OF_CODE, DISC, RIB, HIP)} | _POSTERIORS,
    ),
    # Sekuboyina et al., Med Image Anal 2021, doi:10.1016/j.media.2021.102166.
    "verse": Coding({code: code for code in LEVEL_OF_CODE}, _BODIES),
    # TotalSegmentator 2, task total: `totalsegmentator.map_to_binary.class_map`, which a test compares with.
    "totalsegmentator": Coding(
        {25: SACRUM, 26: SACRUM, 77: HIP, 78: HIP}
        | _in_order(27, *reversed(USUAL_VERTEBRAE))
        | {value: RIB for value in range(92, 116)},
        _BODIES,
    ),
    # The same, tasks vertebrae_pp and vertebrae_pp_refined: bodies alone.
    "vertebrae_pp": Coding(_in_order(1, *USUAL_VERTEBRAE)),
    # github.com/neuropoly/totalspineseg, resources/labels_maps/tss_map.json.
    "totalspineseg": Coding(
        _in_order(11, *_CERVICAL)
        | _in_order(21, *_THORACIC)
        | _in_order(41, *_LUMBAR, "L6")
        | {50: SACRUM}
        | {value: DISC for value in (*range(63, 68), *range(71, 83), *range(91, 96), 100)},
        _BODIES,
    ),
    # MOOSE 3.2.2, model clin_ct_vertebrae, table of its package page (pypi.org/project/moosez).
    "moose": Coding(_in_order(1, *USUAL_VERTEBRAE, "L6") | {26: HIP, 27: HIP, 28: SACRUM}, _BODIES),
    # dataset.json of huggingface.co/fhofmann/VertebralBodiesCT-ResEncL: bodies alone.
    "vertebralbodiesct": Coding(_in_order(1, *_THORACIC, *_LUMBAR, "L6") | {19: SACRUM} | _in_order(21, "T13")),
}


def read_coding(path: Path) -> Coding:
    """Read a user's coding from a text file with tabs and the columns value and level.

    Parameters
    ----------
    path : Path
        A line per number; levels as `structure_named` reads them.

    Raises
    ------
    ConfigError
        If the file can't be read or a line is not understood.
    """
    try:
        header, *lines = csv.reader(path.read_text(encoding="utf-8-sig").splitlines() or [""], delimiter="\t")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The coding {path} can't be read; make it a text file in UTF-8.") from error
    if tuple(header) != COLUMNS:
        raise ConfigError(f"The coding {path} must name the columns {' and '.join(COLUMNS)}, with a tab between.")
    structures: dict[int, Structure] = {}
    for line in filter(None, lines):
        value, level = line if len(line) == len(COLUMNS) else ("", "")
        structure = structure_named(level)
        number = int(value) if re.fullmatch(r"\d{1,5}", value) else 0
        if structure is None or not 0 < number <= MAX_VALUE or number in structures:
            raise ConfigError(
                f"The coding {path} holds the line {' '.join(line)!r}; give each number once, from 1 to {MAX_VALUE}, "
                "and what it stands for, such as L1, L1 body, L1 posterior, sacrum, rib, hip or disc."
            )
        structures[number] = structure
    if not structures:
        raise ConfigError(f"The coding {path} names no number; add a line for each.")
    return coding_of(structures)


def find_coding(coding: str) -> Coding:
    """Give the coding of a name in `CODINGS`, or read it from a file (see `read_coding`)."""
    return CODINGS[coding] if coding in CODINGS else read_coding(Path(coding))
