"""Say whose file it is: what a header says of patient, study, series and instance, and what stands in for it.

Tools that take names out of headers often write one word, or one number, into all of them. Such a value is no id: it is
recognised here, and treated as if it were missing. `trabecula.cohort.pseudonym` makes pseudonyms of what is left.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from trabecula.dicom.geometry import SAME_POSITION_MM
from trabecula.dicom.headers.record import NIFTI, Header

# Digits and dots, not all digits the same; zeros at the beginning of a part, which the standard forbids (DICOM PS3.5
# 9.1), are found in the field.
_UID = re.compile(r"(?!([0-9])(?:\1|\.)*\Z)(?=[0-9]+\.+[0-9])[0-9.]{3,64}")
# Words that stand for no patient, alone or with each other: in the examples of pydicom and deid, by CTP, dcm4che,
# Kitware's DICOM anonymizer, Horos and Slicer, and by people who fill in a form, in English, German, French, Spanish,
# Italian, Portuguese and Dutch. In lower case, without accents.
_WORDS_FOR_NONE = """
none null nil nan na empty blank missing absent void default undefined unspecified unassigned unidentified unknown
unkown unk noid noname nopatientid available applicable specified given known provided tbd tba todo dummy fake demo
sample example placeholder temp tmp temporary keine keiner leer unbekannt unbekannter unbekannte fehlt fehlend angabe
angaben vorhanden bekannt verfugbar aucun aucune vide inconnu inconnue neant absente manquant renseigne renseignee
disponible ninguno ninguna vacio vacia desconocido desconocida ignorado ignorada nessuno nessuna vuoto vuota
sconosciuto sconosciuta ignoto ignota mancante nenhum nenhuma vazio vazia desconhecido desconhecida disponivel geen
leeg onbekend onbekende beschikbaar ontbreekt
anon anonym anonymous annonymous anonymus anonimous anonymize anonymise anonymized anonymised annonymized anonimized
anonimised anonymizedid anonymousid anonymouspatient anonymizedpatient deid deidentified deidentify
deidentifiedpatient pseudonym pseudonymous pseudonymized pseudonymised pseudonymize removed remove deleted delete
erased erase cleared clear stripped redacted redact masked mask hidden hide withheld confidential private secret
scrubbed sanitized sanitised obfuscated encrypted hashed hash replaced replace suppressed censored anonymisiert
anonymisierter pseudonymisiert entfernt geloscht geloescht verborgen geheim maskiert anonyme anonymes anonymisee
supprime supprimee efface effacee retire masque masquee anonimo anonima anonimizado anonimizada anonymizado eliminado
eliminada borrado borrada suprimido suprimida oculto oculta quitado removido removida apagado apagada anonimizzato
anonimizzata rimosso rimossa cancellato cancellata eliminato eliminata nascosto anoniem geanonimiseerd geanonimiseerde
gepseudonimiseerd verwijderd gewist
id ids identifier ident pid patid patient patients pat patientid patientname name mrn subject person pazient paziente
paciente patientin patienten nome nombre naam test tests tester testing teste testpatient testpat testid mustermann
musterfrau muster johndoe janedoe
"""
# Words that mean nothing alone, and nothing beside such words.
_WORDS_BESIDE = """
no not non nao nicht niet kein ohne sans sin sem senza zonder is was the been has number num nr nummer numero numer
de identified for value field data by ctp dicom
"""
# Short for a word, with signs between; and names of people who are made up.
_PHRASES = {"k a", "n d", "n k", "n s", "john doe", "doe john", "jane doe", "doe jane", "max mustermann", "no value"}
_NONE, _BESIDE_NONE = frozenset(_WORDS_FOR_NONE.split()), frozenset(_WORDS_BESIDE.split())
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_SIX_OR_MORE = 6  # digits that are all the same, or count up, are no number that anybody gave


class Identity(NamedTuple):
    """Original identity of a series."""

    patient: str
    study_uid: str
    series_uid: str


def is_uid(text: str | None) -> bool:
    """Tell whether a text can be the UID of one study, series or instance.

    >>> is_uid("1.2.840.113619.2.55"), is_uid("anonymized"), is_uid("d41d8cd98f00b204"), is_uid("0.0.0")
    (True, False, False, False)
    """
    return text is not None and _UID.fullmatch(text) is not None


_is_common_uid = lru_cache(maxsize=1000)(is_uid)


@lru_cache(maxsize=10_000)
def stands_for_none(text: str | None) -> bool:
    """Tell whether the text of a PatientID stands for no patient: it is empty, filled up, or a word such as "removed".

    Upper case, accents and brackets do not count. A word with a number is an id, as in ANON0012; so is a short number.

    Parameters
    ----------
    text : str or None
        PatientID (0010,0020), of a header or a label.

    >>> [stands_for_none(text) for text in ("", "[Anonymisé]", "0000", "N/A", "XXXX", "123456789")]
    [True, True, True, True, True, True]
    >>> [stands_for_none(text) for text in ("1", "77", "P00", "INV-001", "ANON0012")]
    [False, False, False, False, False]
    """
    letters = (sign for sign in unicodedata.normalize("NFKD", text or "").lower() if not unicodedata.combining(sign))
    words = _WORDS.findall("".join(letters))
    joined = "".join(words)
    if joined.isdigit():
        return _is_filled_with_digits(joined)
    if len(set(joined)) == 1:
        return len(joined) > 2 or joined == "xx" or joined == "x"
    return joined in _NONE or " ".join(words) in _PHRASES or _say_none(words)


def _say_none(words: Sequence[str]) -> bool:
    """Tell whether all words stand for none; words that mean nothing alone do so beside others.

    >>> _say_none(["patient", "id", "not", "given"]), _say_none(["not"]), _say_none(["patient", "a"])
    (True, False, False)
    """
    standing = [word for word in words if word not in _BESIDE_NONE]
    return all(word in _NONE or set(word) == {"x"} for word in standing) and bool(standing or not words)


def _is_filled_with_digits(digits: str) -> bool:
    """Tell whether digits are zeros, or at least six that are all the same or count up from one."""
    if not digits.strip("0"):
        return True
    return len(digits) >= _SIX_OR_MORE and (len(set(digits)) == 1 or "12345678901234567890".startswith(digits))


def patient_of(header: Header) -> str | None:
    """Give a file's PatientID; None where it is missing, or stands for none."""
    return None if stands_for_none(header.patient) else header.patient


def identity_of(header: Header) -> Identity:
    """Give the identity of a file's series; a study without a patient's id is taken for a patient of its own."""
    study = header.study_uid or ""
    patient = patient_of(header)
    if patient is None:
        patient = f"unknown, study {study}"
    elif header.issuer:  # two issuers give one number to two patients (DICOM PS3.3 C.7.1.1, IssuerOfPatientID)
        patient = f"{patient}\\{header.issuer}"
    return Identity(patient, study, header.series_uid or "")


def lacks_uid(header: Header) -> bool:
    """Tell whether a file does not say which instance of which series of which study it is."""
    return not (header.study_uid and header.series_uid and header.instance_uid)


def instance_of(header: Header) -> Hashable:
    """Give what the copies of an instance, or of a frame of one, have in common."""
    return identity_of(header), header.instance_uid, header.frame


def place_of_instance(header: Header) -> Hashable:
    """Give what the copies of an instance have in common that lie at the same place in the patient.

    Slices of one series that were given one constant UID differ in it.
    """
    return instance_of(header), tuple(header.positions_mm or ())


# --- what stands in for ids that are none ------------------------------------------------------------------


def with_identifiers(header: Header) -> Header:
    """Replace ids that are none, as far as one file tells it (see `with_own_uids` for what several files tell).

    A PatientID that stands for none is taken out, and its issuer with it. UIDs that are none are taken out, and those
    of an image are made from folder and content (see `Header.substitute`), so that the same file always gets the same.
    """
    if _is_common_uid(header.study_uid) and _is_common_uid(header.series_uid) and is_uid(header.instance_uid):
        identified = header
    elif header.reason not in (None, "truncated") or (header.modality is None and header.rows is None):
        uids = {name: None for name in _UIDS if not is_uid(getattr(header, name))}
        identified = header._replace(**uids)
    else:
        identified = _with_substitutes(header, {name for name in _UIDS if not is_uid(getattr(header, name))})
    if header.transfer_syntax != NIFTI and stands_for_none(header.patient):  # of NIfTI, the issuer is the data set
        identified = identified._replace(patient=None, issuer=None)
    return identified


_UIDS = ("study_uid", "series_uid", "instance_uid")


def _with_substitutes(header: Header, replaced: set[str]) -> Header:
    """Replace some UIDs by ones made from folder and content; the text that stood there keeps apart what it can."""
    folder = _folder_of(header)
    study, series, instance = header.study_uid, header.series_uid, header.instance_uid
    if "study_uid" in replaced:
        person = (header.patient, header.sex, header.birth_date, header.age)
        study = uid_of("study", folder, *person, header.study_date, study)
    if "series_uid" in replaced:
        series = uid_of("series", study, folder, header.modality, header.description, header.kernel, series)
    if "instance_uid" in replaced:
        instance = uid_of("instance", header.path, header.member)
    return header._replace(study_uid=study, series_uid=series, instance_uid=instance, substitute=True)


def _folder_of(header: Header) -> tuple[str, str | None]:
    """Give the folder of a file; a zip or tar file is a folder of its members."""
    if header.member is None:
        return os.path.dirname(header.path), None
    return header.path, os.path.dirname(header.member)


def uid_of(*content: Any) -> str:
    """Make a UID from content (DICOM PS3.5 B.2: 2.25 and 128 bits as a decimal number).

    >>> uid_of("study", "folder") == uid_of("study", "folder") != uid_of("series", "folder")
    True
    """
    return f"2.25.{int.from_bytes(sha256(repr(content).encode()).digest()[:16], 'big')}"


def with_own_uids(headers: Sequence[Header]) -> list[Header]:
    """Replace the UIDs of series that are several people's: they have one constant, and contradict each other.

    This is so where one SOPInstanceUID is that of slices at several places, in several folders. In one folder nothing
    tells such slices apart from one person's, whose instances alone got a constant UID.

    Parameters
    ----------
    headers : sequence of Header
        Files of one study, or of several.

    Returns
    -------
    list of Header
        The files in the same order, those of such series with UIDs made from folder and content.
    """
    if len({(header.series_uid, header.instance_uid, header.frame) for header in headers}) == len(headers):
        return list(headers)
    instances: dict[Hashable, list[Header]] = defaultdict(list)
    for header in headers:
        if not lacks_uid(header):
            instances[instance_of(header)].append(header)
    shared = {identity_of(copies[0]) for copies in instances.values() if _are_of_several_people(copies)}
    return [_with_substitutes(header, set(_UIDS)) if identity_of(header) in shared else header for header in headers]


def _are_of_several_people(copies: Sequence[Header]) -> bool:
    """Tell whether files with one instance UID lie at several places, in several folders."""
    if len({_folder_of(header) for header in copies}) == 1:
        return False
    places = np.array([header.positions_mm for header in copies if header.positions_mm is not None])
    return len(places) > 1 and bool(np.ptp(places, axis=0).max() > SAME_POSITION_MM)
