"""Define the record that is remembered of every file of an archive, or of every frame of a multi-frame CT."""

import re
from functools import lru_cache
from typing import NamedTuple

from trabecula.dicom.syntaxes import DEFLATED, IMPLICIT, LOSSLESS, LOSSY, UNCOMPRESSED

# Stands in place of a transfer syntax for the slices of a NIfTI volume, whose pixels nothing but their file describes.
NIFTI = "NIfTI"
# Ranks of `Header.loss`.
MAYBE_LOSSY, LOSSY_ONCE, LOSSY_PIXELS = 2, 3, 4
_PLAIN = {*UNCOMPRESSED, DEFLATED, NIFTI}
_YES = {"01", "1", "Y", "YES", "TRUE", "LOSSY"}
_LOSSY_WORD = re.compile(r"(?<![A-Z])LOSSY(?![A-Z])")


class ListedFile(NamedTuple):
    """A file that a walk of the archive has found.

    Attributes
    ----------
    path : str
        Path below the archive's top folder, as `dicom.files.as_text` writes it.
    size : int
        Bytes.
    mtime_ns : int
        Modification time in nanoseconds.
    reason : str or None
        Why it need not be opened, a key of `trabecula.errors.REASONS`; None where it is a file to be read.
    """

    path: str
    size: int
    mtime_ns: int
    reason: str | None = None


class Source(NamedTuple):
    """A file by itself, or a member of a zip or tar file, which is to be read.

    Attributes
    ----------
    path, member, size, mtime_ns
        As in `Header`.
    n_bytes : int
        Bytes of what is read: of the file by itself, or of the member.
    """

    path: str
    member: str | None
    size: int
    mtime_ns: int
    n_bytes: int


class Header(NamedTuple):
    """Attributes of one file, or of one frame of a multi-frame CT.

    Its fields are the columns of `table.FILES`. `fields.FIELDS` names the DICOM attribute of each; the others are:

    Attributes
    ----------
    path : str
        Path below the archive's top folder.
    member : str or None
        Name within the zip or tar file; None for a file by itself.
    size, mtime_ns : int
        Bytes and modification time of the file, also where a member lies inside it.
    frame : int
        Number within a multi-frame CT file, from 0; 0 also in all other files.
    transfer_syntax : str or None
        UID of the transfer syntax that the pixels have, whatever the file says; None where nothing tells it; `NIFTI`
        for a slice of a NIfTI volume.
    pixel_offset : int or None
        Byte at which uncompressed pixels begin; None where they are encapsulated or absent.
    stream_lossy : bool or None
        Whether the first bytes of a compressed stream say that it lost something (see `trabecula.dicom.streams`); None
        where they do not tell, and of uncompressed pixels.
    substitute : bool
        Whether missing UIDs were replaced (see `trabecula.dicom.identity`).
    reason : str or None
        Why the file can't be used, a key of `trabecula.errors.REASONS`; None where it can.
    """

    path: str
    member: str | None
    size: int
    mtime_ns: int
    patient: str | None = None
    issuer: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    sop_class: str | None = None
    modality: str | None = None
    image_type: str | None = None
    study_date: str | None = None
    series_time: str | None = None
    acquisition_moment: str | None = None
    acquisition_time: str | None = None
    content_time: str | None = None
    scan_options: str | None = None
    frame_of_reference: str | None = None
    birth_date: str | None = None
    age: str | None = None
    sex: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kernel: str | None = None
    body_part: str | None = None
    description: str | None = None
    derivation: str | None = None
    contrast: str | None = None
    photometric: str | None = None
    lossy: str | None = None
    lossy_ratio: str | None = None
    lossy_method: str | None = None
    rescale_type: str | None = None
    kvp: float | None = None
    thickness_mm: float | None = None
    trigger_ms: float | None = None
    cardiac_phase: float | None = None
    slope: float | None = None
    intercept: float | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int | None = None
    bits: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    signed: int | None = None
    samples: int | None = None
    acquisition: int | None = None
    phase: int | None = None
    padding: int | None = None
    padding_limit: int | None = None
    pixel_spacing_mm: list[float] | None = None
    orientation: list[float] | None = None
    positions_mm: list[float] | None = None
    frame: int | None = 0
    transfer_syntax: str | None = None
    pixel_offset: int | None = None
    stream_lossy: bool | None = None
    substitute: bool | None = None
    reason: str | None = None

    @property
    def loss(self) -> int:
        """Rank what the compression lost, by stream, transfer syntax and header, from 0 (nothing).

        1 is a stream without loss, 2 one of which nothing tells it yet, 3 stands for pixels that lose nothing but were
        once compressed with loss, by the header, and 4 for a stream with loss.
        """
        syntax = self.transfer_syntax or IMPLICIT
        if self.stream_lossy or (self.stream_lossy is None and syntax in LOSSY):
            return LOSSY_PIXELS
        if _states_loss(self.lossy, self.lossy_ratio, self.lossy_method, self.image_type):
            return LOSSY_ONCE
        if syntax in _PLAIN:
            return 0
        return 1 if self.stream_lossy is False or syntax in LOSSLESS else MAYBE_LOSSY

    def is_truncated(self, bytes_left: int, *, frames: int = 1) -> bool:
        """Tell whether uncompressed pixels of the first frames need more bytes than there are."""
        rows, columns, bits = self.rows, self.columns, self.bits
        if rows is None or columns is None or bits is None:
            return False
        return bytes_left < rows * columns * bits * (self.samples or 1) * frames // 8


@lru_cache(maxsize=1000)
def _states_loss(lossy: str | None, ratio: str | None, method: str | None, image_type: str | None) -> bool:
    r"""Tell whether a header states that the pixels were once compressed with loss (DICOM PS3.3 C.7.6.1.1.5).

    A ratio and a method speak for it unless LossyImageCompression says that nothing was lost: some write those of a
    compression without loss.

    >>> _states_loss("00", "2.4", "ISO_14495_1", None), _states_loss(None, "10\\2", None, None)
    (False, True)
    >>> _states_loss("00", None, None, "DERIVED\\PRIMARY\\AXIAL\\JPEG_LOSSY")
    True
    """
    word = (lossy or "").strip().upper()
    if word in _YES or _LOSSY_WORD.search((image_type or "").upper()):
        return True
    return word not in ("00", "0") and (bool(method) or any(map(_is_above_one, (ratio or "").split("\\"))))


def _is_above_one(text: str) -> bool:
    try:
        return float(text) > 1
    except ValueError:
        return False


def failed(source: Source, reason: str) -> Header:
    """Give the record of a file from which nothing could be read."""
    return Header(source.path, source.member, source.size, source.mtime_ns, frame=None, reason=reason)


def pixel_bytes(bytes_left: int, length: int | None) -> int:
    """Count the bytes of pixels: as many as their element says, or none where the file does not hold as many.

    >>> pixel_bytes(bytes_left=600, length=512), pixel_bytes(bytes_left=500, length=512)
    (512, 0)
    """
    return 0 if length is None or length > bytes_left else length
