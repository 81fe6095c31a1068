"""Describe a chosen stack as convert needs it, apart from the table that it lies in: that takes pyarrow to read."""

from dataclasses import dataclass, field

from trabecula.dicom.headers.record import Header


@dataclass(frozen=True)
class Linked:
    """A chosen stack, as convert needs it.

    Attributes
    ----------
    headers : list of Header
        Its files, with full paths.
    n_damaged, n_odd : int
        Files of the series that are damaged or do not fit in, and are not among them.
    copies : list of (Header, Header)
        Files among them, each with another file of the same instance.
    """

    headers: list[Header]
    n_damaged: int = 0
    n_odd: int = 0
    copies: list[tuple[Header, Header]] = field(default_factory=list)
