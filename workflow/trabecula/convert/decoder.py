"""Decode the pixels of a slice by pydicom and its plugins: in a child process, see `child`."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEGLossless,
)

from trabecula.convert.unchanged import check_unchanged
from trabecula.dicom.files import open_file, unpacked
from trabecula.dicom.headers.record import Header
from trabecula.dicom.quiet import quiet
from trabecula.dicom.reading import read_dicom
from trabecula.dicom.syntaxes import UNCOMPRESSED
from trabecula.errors import StudyFailure

# Retired lossless JPEG processes (DICOM PS3.6 A): the same streams as process 14, which decoders know.
_RETIRED_LOSSLESS = {f"1.2.840.10008.1.2.4.{number}" for number in (58, 65, 66)}


_last: tuple[tuple[str, str | None] | None, Dataset] = (None, Dataset())  # frames of one file follow each other


def decode_slice(header: Header) -> tuple[NDArray[np.integer], bool]:
    """Read and decode a slice; see `trabecula.convert.child.Decoder.decode`."""
    global _last
    with quiet():
        file = header.path, header.member
        if _last[0] != file:
            _last = file, read_dataset(header)
        return decode(_last[1], header)


def read_dataset(header: Header) -> Dataset:
    """Read a DICOM file, with or without preamble.

    Raises
    ------
    StudyFailure
        vanished, changed, unreadable, truncated or undecodable.
    OSError
        If disk or network fail: worth a retry, and no property of the study.
    """
    check_unchanged(header)
    with open_file(header.path, header.member) as file, unpacked(file) as content:
        try:
            dataset = read_dicom(content)
        except EOFError:
            raise StudyFailure("truncated") from None
        except (OSError, StudyFailure):
            raise
        except Exception as error:  # damaged files raise anything, from struct.error to RecursionError
            raise StudyFailure("unreadable", type(error).__name__) from None
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise StudyFailure("undecodable", "compressed pixel data, and nothing says how")
    if dataset.file_meta.TransferSyntaxUID in _RETIRED_LOSSLESS:
        dataset.file_meta.TransferSyntaxUID = JPEGLossless
    return dataset


def decode(dataset: Dataset, header: Header) -> tuple[NDArray[np.integer], bool]:
    """Decode one frame of a data set; see `trabecula.convert.child.Decoder.decode`."""
    syntax = dataset.file_meta.TransferSyntaxUID
    plain = syntax in (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)  # the name itself may be damaged
    try:
        if "PixelData" not in dataset:
            raise StudyFailure("truncated", "no pixel data")
        if syntax in (JPEG2000, HTJ2K) and not _is_reversible(dataset.PixelData):
            raise StudyFailure("lossy", "irreversible wavelet")
        # Of uncompressed pixels a padding mark may take more bits than are stored, so that they are needed yet.
        pixels = pixel_array(dataset, index=header.frame or 0, raw=True, correct_unused_bits=not plain)
    except StudyFailure:
        raise
    except Exception as error:  # several decoder libraries, each with errors of its own
        short = "less than expected" in str(error) or "actual length" in str(error)
        raise StudyFailure("truncated" if short else "undecodable", type(error).__name__) from None
    if pixels.dtype.kind not in "iu" or pixels.shape != (header.rows, header.columns):
        raise StudyFailure("undecodable", "the pixel data do not have the size that the header says")
    return pixels, plain


def _is_reversible(pixel_data: bytes) -> bool:
    """Tell whether a JPEG 2000 stream uses the reversible 5-3 wavelet (ISO 15444-1 A.6.1, end of the COD marker)."""
    marker = pixel_data.find(b"\xff\x52")
    return marker >= 0 and pixel_data[marker + 13 : marker + 14] == b"\x01"
