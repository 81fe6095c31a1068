"""Name the transfer syntaxes, and tell which of them lose information (DICOM PS3.5 A.4, PS3.6 A)."""

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
# Of GE, private: implicit and little-endian, but for the pixels, whose highest byte comes first. Nothing in a file
# shows whether somebody has swapped them since, so that they are refused.
GE_BIG_ENDIAN = "1.2.840.113619.5.2"

UNCOMPRESSED = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
# Transfer syntaxes whose streams lose information (DICOM PS3.5 A.4, and the retired ones of PS3.6). A first guess: what
# a stream says of itself goes before its name (see `trabecula.dicom.streams`).
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (*range(50, 57), *range(59, 65), 81, *range(100, 109))}
# Those that promise to lose nothing: uncompressed, deflated, RLE, and the lossless ones of JPEG, JPEG-LS, JPEG 2000,
# HTJ2K and JPEG XL. Of all others nothing but the stream tells.
LOSSLESS = {*UNCOMPRESSED, DEFLATED, RLE}
LOSSLESS |= {f"1.2.840.10008.1.2.4.{number}" for number in (57, 58, 65, 66, 70, 80, 90, 110, 201, 202)}


def is_of_maker(syntax: str) -> bool:
    """Tell whether a transfer syntax is a maker's own, of which the standard says nothing.

    >>> is_of_maker("1.3.46.670589.33.1.4.1"), is_of_maker("1.2.840.10008.1.2.1"), is_of_maker("")
    (True, False, False)
    """
    return bool(syntax) and not syntax.startswith("1.2.840.10008.")


def is_compression(syntax: str) -> bool:
    """Tell whether a transfer syntax is one of the standard's for encapsulated pixels.

    >>> is_compression("1.2.840.10008.1.2.4.70"), is_compression("1.2.840.10008.1.2.1"), is_compression("1.2.3.4")
    (True, False, False)
    """
    return syntax.startswith("1.2.840.10008.1.2.4.") or syntax == RLE
