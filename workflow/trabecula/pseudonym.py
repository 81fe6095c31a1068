"""Keyed pseudonyms in place of identities (HMAC-SHA256, RFC 2104)."""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

# Synthetic patients have no identity to protect. Their key is public, so that the shipped demo model
# recognises the patients that it was trained on wherever the demo runs.
SYNTHETIC_KEY = b"trabecula synthetic patients: a public key"


def read_or_make_key(path: Path) -> bytes:
    """The site's secret key; made on first use, readable by its owner only.

    Raises
    ------
    ValueError
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
        raise ValueError(f"{path} holds a key of {len(key)} bytes; 32 are needed")
    return key


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
