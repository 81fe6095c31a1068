"""Keyed pseudonyms in place of identities (HMAC-SHA256, RFC 2104)."""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from trabecula.errors import ConfigError

# Synthetic patients have no identity to protect. Their key is public, so that the shipped demo model
# recognises the patients that it was trained on wherever the demo runs.
SYNTHETIC_KEY = b"trabecula synthetic patients: a public key"


def read_or_make_key(path: Path) -> bytes:
    """The site's secret key; made on first use, readable by its owner only.

    Raises
    ------
    ConfigError
        If the file holds fewer than 32 bytes.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(beside, path)  # fails where another job was first, and then its key counts
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    key = path.read_bytes().strip()
    if len(key) < 32:
        raise ConfigError(f"The pseudonym key {path} has {len(key)} bytes, and 32 are needed; put the right one back.")
    return key


def fingerprint(key: bytes) -> str:
    """What tells one key from another without telling the key: 16 hexadecimal digits."""
    return _digest("key", "fingerprint", key).hex()[:16]


def refuse_other_key(path: Path, made_with: Path) -> None:
    """Refuse to go on with a cohort whose pseudonyms another key made: patients would get a second name.

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
        If the key is lost or another one.
    """
    if not made_with.exists():
        return
    known, cohort = made_with.read_text().strip(), made_with.parents[1].name
    found = fingerprint(read_or_make_key(path)) if path.exists() else None
    if found != known:
        what = "is gone" if found is None else f"is another one (fingerprint {found})"
        raise ConfigError(
            f"The pseudonym key {path} {what}: the results of the cohort {cohort} stand on that with the fingerprint "
            f"{known}. Put that key back, or run in a new folder; see docs/threats.md on changing the key."
        )


def pseudonym(kind: str, identity: str, key: bytes) -> str:
    """Keyed pseudonym of an identity.

    Parameters
    ----------
    kind : {"patient", "study", "series"}
        What the identity names; equal text of different kinds gives unrelated pseudonyms.
    identity : str
        The original id (with its issuer) or UID; surrounding blanks do not count (DICOM pads values to even length).
    key : bytes
        The secret key.

    Returns
    -------
    str
        The kind's two first letters and 128 bits in base 32 (RFC 4648, lower case, unpadded).
    """
    return kind[:2] + base64.b32encode(_digest(kind, identity, key)).decode().rstrip("=").lower()


def pseudonym_uid(kind: str, identity: str, key: bytes) -> str:
    """The same pseudonym as a DICOM UID: 2.25 and 128 bits as a decimal number (DICOM PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(_digest(kind, identity, key), 'big')}"


def _digest(kind: str, identity: str, key: bytes) -> bytes:
    """128 bits: enough that no two of a million million identities collide."""
    return hmac.new(key, f"{kind}\0{identity.strip()}".encode(), hashlib.sha256).digest()[:16]
