"""Keyed pseudonyms in place of identities (HMAC-SHA256, RFC 2104), and the identities that they stand for."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import NamedTuple

from trabecula.errors import ConfigError
from trabecula.runtime.whole_file import write_private_once

# Synthetic patients have no identity to protect. Their key is public, so that the shipped demo model
# recognises the patients that it was trained on wherever the demo runs.
SYNTHETIC_KEY = b"trabecula synthetic patients: a public key"


def read_or_make_key(path: Path) -> bytes:
    """Read the site's secret key; make it on first use, readable by its owner only.

    Raises
    ------
    ConfigError
        If the file holds fewer than 32 bytes.
    """
    if not path.exists():
        write_private_once(path, secrets.token_hex(32))
    key = path.read_bytes().strip()
    if len(key) < 32:
        raise ConfigError(f"The pseudonym key {path} has {len(key)} bytes instead of 32; put the right key back.")
    return key


def key_of(private: Path, *, synthetic: bool) -> bytes:
    """Give the key of a cohort's pseudonyms: the site's secret one, or the public one of synthetic patients."""
    return SYNTHETIC_KEY if synthetic else read_or_make_key(private / "key")


def fingerprint(key: bytes) -> str:
    """Give 16 hexadecimal digits that differ from key to key, and from which no key can be found."""
    return _digest("key", "fingerprint", key).hex()[:16]


def refuse_other_key(path: Path, made_with: Path) -> None:
    """Refuse a key other than the one that made a cohort's pseudonyms: patients would get a second pseudonym.

    Parameters
    ----------
    path : Path
        The site's secret key.
    made_with : Path
        Fingerprint of the key that the cohort was indexed with (``results/{cohort}/index/key.txt``); absent before the
        first index.

    Raises
    ------
    ConfigError
        If the key is lost, or is another one.
    """
    if not made_with.exists():
        return
    expected, cohort = made_with.read_text().strip(), made_with.parents[1].name
    present = fingerprint(read_or_make_key(path)) if path.exists() else None
    if present != expected:
        trouble = "is missing" if present is None else f"is another key (fingerprint {present})"
        raise ConfigError(
            f"The pseudonym key {path} {trouble}: the results of the cohort {cohort} were made with the key of "
            f"fingerprint {expected}. Put that key back, or run in a new folder; see docs/threats.md on changing "
            "the key."
        )


class Pseudonyms(NamedTuple):
    """Pseudonyms of a series, of its study and of its patient."""

    patient_id: str
    study_id: str
    series_id: str


def study_identity(root: str, study_uid: str) -> str:
    r"""Join a study's root and its UID, since one UID can occur under two patients (anonymised archives).

    >>> study_identity("4711 ", "1.2.3")
    '4711\\1.2.3'
    """
    return f"{root.strip()}\\{study_uid}"


def series_identity(root: str, study_uid: str, series_uid: str) -> str:
    """Join a study's identity and a series' UID."""
    return f"{study_identity(root, study_uid)}\\{series_uid}"


class Roots(NamedTuple):
    """Texts that pseudonyms are made from, at first the patient's id (see `trabecula.cohort.registry`).

    Attributes
    ----------
    patient : str
        Root of the patient's pseudonym.
    study : str
        Root of the pseudonyms of a study and its series, which are made from its UIDs as well.
    """

    patient: str
    study: str


def pseudonyms_of(roots: Roots, study_uid: str, series_uid: str, *, key: bytes) -> Pseudonyms:
    """Give the pseudonyms of a series, of its study and of its patient.

    Parameters
    ----------
    roots : Roots
        Texts that stand for the patient.
    study_uid, series_uid : str
        Original UIDs.
    key : bytes
        The secret key.
    """
    return Pseudonyms(
        pseudonym("patient", roots.patient, key),
        pseudonym("study", study_identity(roots.study, study_uid), key),
        pseudonym("series", series_identity(roots.study, study_uid, series_uid), key),
    )


def pseudonym(kind: str, identity: str, key: bytes) -> str:
    """Give the keyed pseudonym of an identity.

    Parameters
    ----------
    kind : {"patient", "study", "series"}
        What the identity names; equal text of different kinds gives unrelated pseudonyms.
    identity : str
        A patient's root, or what `study_identity` or `series_identity` gives; surrounding
        blanks do not count (DICOM pads values to even length).
    key : bytes
        The secret key.

    Returns
    -------
    str
        The kind's two first letters and 128 bits in base 32 (RFC 4648, lower case, unpadded).

    Examples
    --------
    >>> pseudonym("patient", "4711", SYNTHETIC_KEY) == pseudonym("patient", "4711 ", SYNTHETIC_KEY)
    True
    """
    return kind[:2] + base64.b32encode(_digest(kind, identity, key)).decode().rstrip("=").lower()


def pseudonym_uid(kind: str, identity: str, key: bytes) -> str:
    """Give the same pseudonym as a DICOM UID: 2.25 and 128 bits as a decimal number (DICOM PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(_digest(kind, identity, key), 'big')}"


def pixel_key(key: bytes) -> bytes:
    """Give the key of digests of pixels, which tells nothing of the key that it is made from."""
    return _digest("key", "pixels", key)


def _digest(kind: str, identity: str, key: bytes) -> bytes:
    """Give 128 bits: enough that no two of a million million identities collide."""
    return hmac.new(key, f"{kind}\0{identity.strip()}".encode(), hashlib.sha256).digest()[:16]
