"""Read from the name and folders of a NIfTI file whose scan it is: patient, session, and what kind of image.

Layouts that are read: BIDS, with VerSe's ``rawdata`` and ``derivatives``; a folder per patient with a generic file name
(TotalSegmentator, ``s0001/ct.nii.gz``); nnU-Net (``imagesTr/case_0000.nii.gz``); and files named after their patients
(CTSpine1K, ``volumes/liver_12.nii.gz``). Only the file's own path counts, never its neighbours, so that a file
that comes changes nobody else's identity. Where a path leaves doubt, two files are of two patients.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trabecula.dicom.identity import stands_for_none

ENDINGS = (".nii.gz", ".nii")
SIDECARS = (".json", ".tsv")
_ENTITY = re.compile(r"([a-zA-Z]+)-(.+)")
_SEPARATOR = re.compile(r"[^A-Za-z0-9]+")
# Last words, and others, of names, and names of folders, of what is drawn or computed on a scan.
_DRAWN = re.compile(
    r"(seg(m|mentation)?s?|[dp]seg|probseg|msks?|masks?|labels?|labelmaps?|lbls?|gt|(ground_?)?truth|annotations?|annot|rois?|"
    r"pred(icted|ictions?)?|contours?|heatmaps?|atlas)\d*"
)
_DRAWN_ANYWHERE = re.compile(r"(seg(mentation)?s?|msks?|masks?|labels?)\d*")
_DRAWN_FOLDER = re.compile(
    r"(labels?(tr|ts|va|val|train|test|[_-].*)?|masks?(tr|ts|[_-].*)?|segmentations?|segs?|msks?|annotations?|"
    r"derivatives?|gt|ground[_-]?truths?|rois?|predictions?)"
)
# Names that say what a file shows and not of whom.
_GENERIC = re.compile(
    r"(ct|cts|ct_?(scan|image|volume)|img|image|volume|vol|scan|series|nifti|nii|data|orig|original|source|input|cta|ctres|"
    r"mr|mri|pet|pt|suv|thorax|chest|abdomen|spine)"
)
_GENERIC_NUMBERED = re.compile(r"(ct|img|image|scan|series)[_-]?[1-9]")
# Folders that hold many patients, or a patient's files, and name nobody.
_COLLECTION = re.compile(
    r"(images?|imgs?|volumes?|vols?|scans?|cts?|ct_?scans?|niftis?|niis?|data|dataset|datasets|rawdata|raw|sourcedata|source|"
    r"train(ing)?|val(idation)?|test(ing)?|images?(tr|ts|va|val)|anat|func|dwi|fmap|perf|pet|mri?|series|studies|patients|"
    r"subjects|cases|input|archive|archives|tmp)"
)
_NNUNET = re.compile(r"images?(tr|ts|va|val)", re.IGNORECASE)
# Folders that BIDS puts between a data set and its files.
_BIDS_FOLDERS = frozenset({"rawdata", "sourcedata", "derivatives", "anat", "ct", "func", "dwi", "fmap", "perf", "pet"})
_SESSION = re.compile(
    r"ses-.+|(session|visit|baseline|follow[_-]?up|time_?point|tp)[_-]?\d*|"
    r"(19|20)\d\d(?P<by>[-_.]?)(0[1-9]|1[0-2])(?P=by)(0[1-9]|[12]\d|3[01])",
    re.IGNORECASE,
)
# Last words of names of scans that are no CT, with the modality that DICOM would name; some are so in BIDS alone.
_OTHER_MODALITIES = {
    **dict.fromkeys(("mr", "mri", "t1w", "t2w", "pdw", "flair", "dwi", "adc", "bold"), "MR"),
    **dict.fromkeys(("pet", "pt", "suv"), "PT"),
}
_OTHER_SUFFIXES = _OTHER_MODALITIES | dict.fromkeys(
    (
        *("t2starw", "inplanet1", "inplanet2", "unit1", "mp2rage", "swi", "angio", "cbv", "sbref", "epi", "asl"),
        *("m0scan", "phase1", "phase2", "phasediff", "fieldmap", "magnitude1", "magnitude2", "t1map", "t2map"),
    ),
    "MR",
)
# Suffixes by which a JSON file counts for all scans below it.
BIDS_SUFFIXES = frozenset({"ct", "CT", "T1w", "T2w", "pet"})


@dataclass(frozen=True)
class Name:
    """Statements of the path of a NIfTI file.

    Attributes
    ----------
    patient : str or None
        Id of the patient as the data set writes it, such as ``sub-verse007``; None where no part of the path is one.
    session : str or None
        Name of the session; None where there is none.
    root : str
        Folder of the data set: one id below two roots is of two patients.
    stem : str
        Name of the file without its ending.
    entities : tuple of (str, str)
        BIDS entities of the name, such as ``("sub", "verse007")``.
    suffix : str or None
        Last part of a BIDS name, such as ``ct``; None where it is not of that kind.
    modality : str
        Modality (0008,0060): CT unless the name says otherwise.
    is_label_map : bool
        Whether it is a label map, a mask or another derivative.
    """

    patient: str | None
    session: str | None
    root: str
    stem: str
    entities: tuple[tuple[str, str], ...]
    suffix: str | None
    modality: str
    is_label_map: bool


def is_nifti(path: str) -> bool:
    """Tell whether a file is NIfTI by its name.

    >>> is_nifti("sub-1_CT.NII.GZ"), is_nifti("1.dcm")
    (True, False)
    """
    return path.lower().endswith(ENDINGS)


def is_sidecar(path: str) -> bool:
    """Tell whether a file holds facts about others by its name."""
    return path.lower().endswith(SIDECARS)


def is_generic_folder(name: str) -> bool:
    """Tell whether a folder's name says nothing of whose files are in it."""
    return _COLLECTION.fullmatch(name.lower()) is not None


def stem_of(path: str) -> str:
    """Give the name of a file without its folders and its ending.

    >>> stem_of("volumes/liver_12.nii.gz"), stem_of("ct.nii")
    ('liver_12', 'ct')
    """
    name = path.rpartition("/")[2]
    ending = next((ending for ending in (*ENDINGS, *SIDECARS) if name.lower().endswith(ending)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def base_of(path: str) -> str:
    """Give the name of a scan's file from which those of its label maps are made.

    It is the name without its ending, the word that says that it is a CT, and nnU-Net's number of the channel.

    >>> paths = ("rawdata/sub-verse007/sub-verse007_ct.nii.gz", "imagesTr/case_7_0000.nii.gz", "s0001/ct.nii.gz")
    >>> [base_of(path) for path in paths]
    ['sub-verse007', 'case_7', 'ct']
    """
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return _without_endings(stem_of(path), in_nnunet=bool(_NNUNET.fullmatch(folder)))


def entities_of(stem: str) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """Part a name into its BIDS entities and its suffix.

    >>> entities_of("sub-gl003_dir-ax_ct"), entities_of("case_0000")
    (((('sub', 'gl003'), ('dir', 'ax')), 'ct'), ((), None))
    >>> entities_of("ct")
    ((), 'ct')
    """
    *parts, last = stem.split("_")
    pairs = [match.groups() for part in parts if (match := _ENTITY.fullmatch(part))]
    if len(pairs) < len(parts):
        return (), None
    if match := _ENTITY.fullmatch(last):
        return tuple((key, label) for key, label in (*pairs, match.groups())), None
    suffix = last if last.isalnum() and (pairs or not any(sign.isdigit() for sign in last)) else None
    return tuple((key, label) for key, label in pairs), suffix


def name_of(path: str) -> Name:
    """Read what the path of a NIfTI file says.

    Parameters
    ----------
    path : str
        Path below the archive's top folder; a zip or tar file counts as a folder of its members.

    Examples
    --------
    >>> name = name_of("rawdata/sub-verse007/sub-verse007_ct.nii.gz")
    >>> name.patient, name.session, name.root, name.modality, name.is_label_map
    ('sub-verse007', None, '', 'CT', False)
    >>> name_of("derivatives/sub-verse007/sub-verse007_seg-vert_msk.nii.gz").is_label_map
    True
    >>> paths = ("s0001/ct.nii.gz", "imagesTr/case_7_0000.nii.gz", "volumes/liver_12.nii.gz")
    >>> [name_of(path).patient for path in paths]
    ['s0001', 'case_7', 'liver_12']
    """
    *folders, _ = path.split("/")
    stem = stem_of(path)
    entities, suffix = entities_of(stem)
    labels = dict(entities)
    is_drawn = _is_drawn(stem, folders, has_entities=bool(entities))
    subjects = [number for number, folder in enumerate(folders) if folder.startswith("sub-") and len(folder) > 4]
    if "sub" not in labels and not subjects:
        patient, root, session = _by_folders(stem, folders)
        return Name(patient, session, root, stem, entities, suffix, _modality(stem, _OTHER_MODALITIES), is_drawn)
    patient = f"sub-{labels['sub']}" if "sub" in labels else folders[subjects[-1]]
    before, after = (folders[: subjects[0]], folders[subjects[0] + 1 :]) if subjects else (folders, folders)
    sessions = [folder for folder in after if _SESSION.fullmatch(folder)]
    session = f"ses-{labels['ses']}" if "ses" in labels else sessions[-1] if subjects and sessions else None
    root = [folder for folder in before if folder.lower() not in _BIDS_FOLDERS and not folder.startswith("ses-")]
    modality = _modality(stem, _OTHER_SUFFIXES)
    return Name(patient, session, "/".join(root), stem, entities, suffix, modality, is_drawn)


def _by_folders(stem: str, folders: list[str]) -> tuple[str | None, str, str | None]:
    """Give patient, root and session of a file that is named in no BIDS manner.

    >>> _by_folders("ct", ["site", "p1", "2019-03-01"]), _by_folders("001", ["baseline"]), _by_folders("ct", [])
    (('p1', 'site', '2019-03-01'), ('001', 'baseline', None), (None, '', None))
    """
    patient = base_of("/".join([*folders, stem]))
    root, session = list(folders), None
    while root and (_COLLECTION.fullmatch(root[-1].lower()) or _SESSION.fullmatch(root[-1])):
        folder = root.pop()
        session = session or (folder if _SESSION.fullmatch(folder) else None)
    is_id = bool(root) and any(sign.isdigit() for sign in root[-1])
    if _GENERIC.fullmatch(patient.lower()) or (is_id and _GENERIC_NUMBERED.fullmatch(patient.lower())):
        return (root[-1], "/".join(root[:-1]), session) if root else (None, "", None)
    return patient, "/".join(folders), None


def _modality(stem: str, words: Mapping[str, str]) -> str:
    return words.get(_words(stem)[-1], "CT")


def _without_endings(stem: str, *, in_nnunet: bool) -> str:
    """Leave out of a name the word that says that it is a CT, and nnU-Net's number of the channel.

    >>> _without_endings("case_7_0000", in_nnunet=False), _without_endings("0007-CT", in_nnunet=False)
    ('case_7', '0007')
    >>> _without_endings("liver_0001", in_nnunet=True), _without_endings("liver_0001", in_nnunet=False)
    ('liver', 'liver_0001')
    """
    short = re.sub(r"_\d{4}$" if in_nnunet else r"(?<=\d)_0000$", "", stem)
    short = re.sub(r"(?<=[^_-])[_-]+(ct|mri?|pet|pt)$", "", short, flags=re.IGNORECASE)
    return stem if stands_for_none(short) else short


def _words(stem: str) -> list[str]:
    """Give the words of a name in lower case, without numbers at its end.

    >>> _words("sub-1_T1w"), _words("segmentation-12"), _words("12")
    (['sub', '1', 't1w'], ['segmentation'], ['12'])
    """
    words = [word for word in _SEPARATOR.split(stem.lower()) if word] or [""]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return words


def _is_drawn(stem: str, folders: list[str], *, has_entities: bool) -> bool:
    if any(_DRAWN_FOLDER.fullmatch(folder.lower()) for folder in folders):
        return True
    words = _words(stem)
    if _DRAWN.fullmatch(words[-1]):
        return True
    return not has_entities and any(map(_DRAWN_ANYWHERE.fullmatch, words))
