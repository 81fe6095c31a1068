"""Decode the pixels of a slice by pydicom and its plugins: in a child process, see `child`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, JPEGLosslessDecoder, RLELosslessDecoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from trabecula.convert.passes import is_cut
from trabecula.convert.unchanged import check_unchanged
from trabecula.dicom.files import open_file, unpacked
from trabecula.dicom.headers.record import Header
from trabecula.dicom.quiet import quiet
from trabecula.dicom.reading import read_dicom
from trabecula.dicom.streams import Stream, ends_whole, frame_of, stream_of
from trabecula.dicom.syntaxes import LOSSLESS, UNCOMPRESSED
from trabecula.errors import StudyFailure

_PLAIN = (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)
# Roots of the UIDs of makers that have compressions of their own.
_MAKERS = {
    "1.2.840.113619.": "GE",
    "1.3.12.2.1107.": "Siemens",
    "1.3.46.670589.": "Philips",
    "1.2.392.200036.9116.": "Canon",
}

_last: tuple[tuple[str, str | None] | None, Dataset] = (None, Dataset())  # frames of one file follow each other


def decode_slice(header: Header) -> tuple[NDArray[np.integer], int]:
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
    return dataset


def decode(dataset: Dataset, header: Header) -> tuple[NDArray[np.integer], int]:
    """Decode one frame of a data set; see `trabecula.convert.child.Decoder.decode`."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if "PixelData" not in dataset:
            raise _without_pixels(dataset)
        if syntax in _PLAIN:
            pixels, depth = pixel_array(dataset, index=header.frame or 0, raw=True, correct_unused_bits=False), None
        else:
            frame = frame_of(dataset.PixelData, header.frame or 0, header.frames or 1)
            pixels, depth = _decoded(frame, syntax, header)
    except StudyFailure:
        raise
    except Exception as error:  # several decoder libraries, each with errors of its own
        short = "less than expected" in str(error) or "actual length" in str(error)
        raise StudyFailure("truncated" if short else "undecodable", type(error).__name__) from None
    if pixels.dtype.kind not in "iu" or pixels.shape != (header.rows, header.columns):
        raise StudyFailure("undecodable", "the pixel data do not have the size that the header says")
    return pixels, depth or 8 * pixels.dtype.itemsize


def _without_pixels(dataset: Dataset) -> StudyFailure:
    """Give the reason against a file without the element of pixel data."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        return StudyFailure("undecodable", "the pixel data are decimals")
    return StudyFailure("truncated", "no pixel data")


def _decoded(frame: bytes, syntax: str, header: Header) -> tuple[NDArray[np.integer], int]:
    """Decode a compressed frame by what its stream is, whatever the name of its transfer syntax.

    Raises
    ------
    StudyFailure
        lossy, truncated or undecodable.
    """
    bits = header.bits if header.bits in (8, 16, 32) else 16
    stream = stream_of(frame)
    if stream is None and syntax != RLELossless:
        raise StudyFailure("undecodable", f"compressed by {_name_of(syntax)}, and no stream that is known")
    depth = bits if stream is None else stream.depth
    if depth > bits:
        raise StudyFailure("undecodable", f"samples of {depth} bits for words of {bits}")
    if stream is None:
        pixels = _by_pydicom(RLELosslessDecoder, frame, header, bits)
    else:
        refuse_lossy(stream, frame, syntax)
        if stream.codec == "JPEG":
            pixels = _by_pydicom(JPEGLosslessDecoder, frame, header, 8 if depth <= 8 else 16)
        else:
            pixels = _by_imagecodecs(frame, stream)
    words = pixels.astype(f"u{bits // 8}", casting="unsafe")  # a negative sample repeats its sign in the bits above it
    return words.view(f"i{bits // 8}") if header.signed else words, depth


def refuse_lossy(stream: Stream, frame: bytes, syntax: str) -> None:
    """Refuse a stream that lost something, or may have and nothing shows that it did not.

    Raises
    ------
    StudyFailure
        lossy.
    """
    if stream.is_lossy:
        raise StudyFailure("lossy", f"a stream of {stream.codec} with loss")
    if stream.is_lossy is None:
        is_lossy = None if stream.codec == "JPEG XL" else is_cut(frame)
        if is_lossy:
            raise StudyFailure("lossy", f"a stream of {stream.codec} that lacks the last coding passes")
        if is_lossy is None and syntax not in LOSSLESS:
            raise StudyFailure("lossy", f"nothing shows that the stream of {stream.codec} lost nothing")


def _by_pydicom(decoder: Decoder, frame: bytes, header: Header, bits: int) -> NDArray[np.integer]:
    """Decode a frame by pydicom, which calls GDCM for JPEG; nothing of the header but its size is believed."""
    options: dict[str, Any] = {
        "rows": header.rows,
        "columns": header.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": 0,
        "pixel_keyword": "PixelData",
    }
    array, _ = decoder.as_array(encapsulate([frame]), raw=True, index=0, **options)
    return array


def _by_imagecodecs(frame: bytes, stream: Stream) -> NDArray[np.integer]:
    import imagecodecs  # a codec is loaded when it is first needed

    if stream.codec == "JPEG XL":
        scaled = imagecodecs.jpegxl_decode(frame)
        container = 8 * scaled.dtype.itemsize
        if stream.depth in (8, 16):
            return scaled
        # Samples of fewer bits come spread over the whole range of the array's type.
        most, most_scaled = 2**stream.depth - 1, 2**container - 1
        return (scaled.astype(np.uint64) * most + most_scaled // 2) // most_scaled
    if stream.codec == "HTJ2K" and not ends_whole(frame):
        raise StudyFailure("truncated", "the stream has no end")  # OpenJPH takes what is there
    decode_stream = {"JPEG-LS": "jpegls_decode", "JPEG 2000": "jpeg2k_decode", "HTJ2K": "htj2k_decode"}
    return getattr(imagecodecs, decode_stream[stream.codec])(frame)


def _name_of(syntax: str) -> str:
    """Name a compression for a message."""
    maker = next((maker for root, maker in _MAKERS.items() if syntax.startswith(root)), None)
    if maker:
        return f"a private method of {maker}"
    name = UID(syntax).name
    return "a private method" if name == syntax else name
