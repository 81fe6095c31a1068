"""Tell whether a JPEG 2000 stream holds all coding passes of its coefficients.

The reversible wavelet loses nothing only if every bit plane of every code block is there to the last. An encoder that
is given a rate leaves the last passes out, and nothing in the main header says so; but the headers of the packets count
the passes (ITU-T T.800 annex B), so that these are read here. Coefficients are not decoded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from trabecula.dicom.streams import codestream_of, segments

_SIZ, _COD, _COC, _QCD, _QCC, _SOT, _SOD = 0x51, 0x52, 0x53, 0x5C, 0x5D, 0x90, 0x93
# Regions of interest, changes of the order, and headers of packets that lie elsewhere: never seen in a slice.
_UNUSUAL = {0x5E, 0x5F, 0x60, 0x61}
_BYPASS, _TERMINATED, _HT = 0x01, 0x04, 0x40


# Old encoders leave out last passes that have nothing to code, which happens in the smallest subbands alone; a rate
# takes passes from the largest first.
_MOST_WITHOUT = 0.05


def is_cut(stream: bytes) -> bool | None:
    """Tell whether the last coding passes of a JPEG 2000 or HTJ2K image of one component were left out.

    Returns
    -------
    bool or None
        True where the code blocks that lack passes hold more than a twentieth of all coefficients that are coded; None
        where the stream can't be followed.
    """
    try:
        blocks = [block for block in _blocks_of(codestream_of(stream)) if block.n_passes or block.is_absent]
    except (IndexError, ValueError, KeyError):
        return None
    n_without = sum(block.size for block in blocks if block.lacks_passes or block.is_absent)
    return n_without > _MOST_WITHOUT * sum(block.size for block in blocks)


def _blocks_of(data: bytes) -> "Iterator[_Block]":
    """Yield the code blocks of all tiles, after their packets were read."""
    header: dict[int, bytes] = {}
    at = _take_segments(data, 2, header)
    bounds_of = _bounds(header[_SIZ])
    tiles = _tiles(data, at)
    for number, bounds in enumerate(bounds_of):
        segments_of_tile, packets = tiles[number]
        yield from _blocks_read(packets, _coding({**header, **segments_of_tile}), bounds)


# --- markers ------------------------------------------------------------------------------------------------


def _tiles(data: bytes, at: int) -> dict[int, tuple[dict[int, bytes], bytes]]:
    """Give the marker segments and the packets of each tile, whose parts may be scattered."""
    tiles: dict[int, tuple[dict[int, bytes], bytes]] = {}
    while data[at : at + 2] == bytes((0xFF, _SOT)):
        number, length = int.from_bytes(data[at + 4 : at + 6], "big"), int.from_bytes(data[at + 6 : at + 10], "big")
        end = at + length if length else len(data)
        segments_of_tile, packets = tiles.get(number, ({}, b""))
        start = _take_segments(data, at + 12, segments_of_tile) + 2
        tiles[number] = segments_of_tile, packets + data[start:end]
        at = end
    return tiles


def _take_segments(data: bytes, at: int, into: dict[int, bytes]) -> int:
    """Add the segments before a tile-part or its packets; give the offset of the marker there."""
    if data[at + 1] == _SOD:
        return at
    for marker, content, end in segments(data, at):
        if marker in _UNUSUAL:
            raise ValueError("unusual")
        into.setdefault(marker, content)
        if data[end] == 0xFF and data[end + 1] in (_SOT, _SOD):
            return end
    raise ValueError("no packets")


def _bounds(size: bytes) -> list[tuple[int, int, int, int]]:
    """Give first column and row, and last column and row (not included), of each tile (T.800 B.3)."""
    if size[34:36] != b"\0\1" or size[37:39] != b"\1\1":
        raise ValueError("several components, or a coarse one")
    right, low, left, top, width, height, tiles_left, tiles_top = (
        int.from_bytes(size[at : at + 4], "big") for at in range(2, 34, 4)
    )
    return [
        (max(x, left), max(y, top), min(x + width, right), min(y + height, low))
        for y in range(tiles_top, low, height)
        for x in range(tiles_left, right, width)
    ]


class _Coding(NamedTuple):
    """Coding style and quantisation of a tile (T.800 A.6.1 and A.6.4); sizes are exponents of two."""

    order: int
    n_layers: int
    n_levels: int
    block_size: tuple[int, int]
    style: int
    precinct_sizes: list[tuple[int, int]]
    n_planes: list[int]  # of each subband


def _coding(markers: Mapping[int, bytes]) -> _Coding:
    default = markers[_COD]
    has_precincts, content = default[0], default[5:]
    if _COC in markers:
        has_precincts, content = markers[_COC][1], markers[_COC][2:]
    n_levels, width, height, style = content[:4]
    sizes = content[5:] if has_precincts & 1 else b"\xff" * (n_levels + 1)
    quantised = markers[_QCC][1:] if _QCC in markers else markers[_QCD]
    if quantised[0] & 31:
        raise ValueError("quantised")
    return _Coding(
        order=default[1],
        n_layers=int.from_bytes(default[2:4], "big"),
        n_levels=n_levels,
        block_size=(width + 2, height + 2),
        style=style,
        precinct_sizes=[(size & 15, size >> 4) for size in sizes],
        n_planes=[(quantised[0] >> 5) + (exponent >> 3) - 1 for exponent in quantised[1:]],
    )


# --- code blocks and the order of their packets ---------------------------------------------------------------


@dataclass
class _Block:
    """A code block while its packets are read; `size` counts its coefficients, `n_planes` their bit planes at most."""

    size: int
    n_planes: int
    is_high_throughput: bool
    n_zero_planes: int = -1
    n_passes: int = 0
    length_bits: int = 3
    room: int = 0  # passes that its current codeword segment still takes
    n_segments: int = 0
    is_absent: bool = False  # a packet of it is not there

    @property
    def lacks_passes(self) -> bool:
        """Tell whether it is not coded to its lowest bit plane."""
        n_planes = self.n_planes - self.n_zero_planes
        if self.is_high_throughput:  # a cleanup pass codes all planes but the lowest, two others the one below it
            return self.n_passes == 2 or n_planes > (1 if self.n_passes == 1 else 2)
        return self.n_passes < 3 * n_planes - 2


class _Grid:
    """The code blocks of a subband within a precinct, row by row, with their two tag trees."""

    def __init__(self, widths: list[int], heights: list[int], n_planes: int, *, is_high_throughput: bool) -> None:
        sizes = [width * height for height in heights for width in widths]
        self.blocks = [_Block(size, n_planes, is_high_throughput) for size in sizes]
        self.layers, self.zero_planes = (_TagTree(len(widths), len(heights)) for _ in range(2))


class _Precinct(NamedTuple):
    resolution: int
    number: int
    x: int
    y: int
    grids: list[_Grid]


def _precincts(coding: _Coding, bounds: tuple[int, int, int, int]) -> Iterator[_Precinct]:
    """Yield the precincts of a tile, each with its place on the reference grid (T.800 B.6 and B.7)."""
    for resolution in range(coding.n_levels + 1):
        scale = coding.n_levels - resolution
        left, top, right, low = (_ceil(edge, scale) for edge in bounds)
        width, height = coding.precinct_sizes[resolution]
        if left >= right or top >= low:
            continue
        places = product(range(top >> height, _ceil(low, height)), range(left >> width, _ceil(right, width)))
        for number, (row, column) in enumerate(places):
            x = max(bounds[0], column << width + scale)
            y = max(bounds[1], row << height + scale)
            grids = list(_grids(coding, bounds, resolution, (column, row)))
            yield _Precinct(resolution, number, x, y, grids)


def _grids(
    coding: _Coding, bounds: tuple[int, int, int, int], resolution: int, place: tuple[int, int]
) -> Iterator[_Grid]:
    """Yield the code blocks of each subband in a precinct."""
    is_lowest = resolution == 0
    depth = coding.n_levels - resolution + (not is_lowest)
    kinds = [(0, 0)] if is_lowest else [(1, 0), (0, 1), (1, 1)]
    for number, kind in enumerate(kinds, start=0 if is_lowest else 3 * resolution - 2):
        lengths: list[list[int]] = []
        for axis in (0, 1):
            half = (kind[axis] << depth) >> 1
            size = coding.precinct_sizes[resolution][axis] - (not is_lowest)
            low = max(_ceil(bounds[axis] - half, depth), place[axis] << size)
            high = min(_ceil(bounds[axis + 2] - half, depth), (place[axis] + 1) << size)
            lengths.append(_pieces(low, high, 1 << min(coding.block_size[axis], size)))
        if all(lengths):
            yield _Grid(lengths[0], lengths[1], coding.n_planes[number], is_high_throughput=bool(coding.style & _HT))


def _pieces(low: int, high: int, step: int) -> list[int]:
    """Give the lengths of the pieces into which the multiples of a number part a range.

    >>> _pieces(3, 10, 4)
    [1, 4, 2]
    """
    return [min(high, at + step) - max(low, at) for at in range(low // step * step, high, step)] if low < high else []


def _ceil(number: int, exponent: int) -> int:
    """Divide by a power of two and round up.

    >>> _ceil(9, 3), _ceil(8, 3), _ceil(-1, 3)
    (2, 1, 0)
    """
    return -(-number >> exponent)


def _packets(coding: _Coding, bounds: tuple[int, int, int, int]) -> list[tuple[int, _Precinct]]:
    """List the packets of a tile as they follow each other: the layer and the precinct (T.800 B.12)."""
    orders = (
        lambda layer, part: (layer, part.resolution, part.number),
        lambda layer, part: (part.resolution, layer, part.number),
        lambda layer, part: (part.resolution, part.y, part.x, layer),
        lambda layer, part: (part.y, part.x, part.resolution, layer),
        lambda layer, part: (part.y, part.x, part.resolution, layer),
    )
    order = orders[coding.order]
    packets = product(range(coding.n_layers), list(_precincts(coding, bounds)))
    return sorted(packets, key=lambda packet: order(*packet))


# --- packets --------------------------------------------------------------------------------------------------


def _blocks_read(data: bytes, coding: _Coding, bounds: tuple[int, int, int, int]) -> list[_Block]:
    """Read the headers of a tile's packets as far as they go; give its code blocks."""
    packets = _packets(coding, bounds)
    at = 0
    for layer, precinct in packets:
        if at >= len(data) or data[at : at + 2] == b"\xff\xd9":
            _set_absent(precinct)
            continue
        if data[at : at + 2] == b"\xff\x91":  # start of a packet
            at += 6
        bits = _Bits(data, at)
        length = 0
        if bits.take(1):
            for grid in precinct.grids:
                length += sum(_read_block(bits, grid, number, layer, coding) for number in range(len(grid.blocks)))
        at = bits.end()
        if data[at : at + 2] == b"\xff\x92":  # end of its header
            at += 2
        at += length
        if at > len(data):
            _set_absent(precinct)
    return [block for layer, precinct in packets if layer == 0 for block in _blocks_in(precinct)]


def _set_absent(precinct: _Precinct) -> None:
    for block in _blocks_in(precinct):
        block.is_absent = True


def _blocks_in(precinct: _Precinct) -> list[_Block]:
    return [block for grid in precinct.grids for block in grid.blocks]


def _read_block(bits: "_Bits", grid: _Grid, number: int, layer: int, coding: _Coding) -> int:
    """Read what a packet says of a code block; give the bytes that it adds (T.800 B.10)."""
    block = grid.blocks[number]
    if block.n_passes:
        if not bits.take(1):
            return 0
    elif not grid.layers.reaches(bits, number, layer):
        return 0
    else:
        block.n_zero_planes = grid.zero_planes.value(bits, number)
    n_new = _number_of_passes(bits)
    while bits.take(1):
        block.length_bits += 1
    block.n_passes += n_new
    length = 0
    while n_new:
        if not block.room:
            block.room = _room(block, coding.style)
            block.n_segments += 1
        n_here = min(n_new, block.room)
        length += bits.take(block.length_bits + n_here.bit_length() - 1)
        block.room -= n_here
        n_new -= n_here
    return length


def _number_of_passes(bits: "_Bits") -> int:
    """Read a number of coding passes (T.800 table B.4)."""
    if not bits.take(1):
        return 1
    if not bits.take(1):
        return 2
    for n_bits, first in ((2, 3), (5, 6), (7, 37)):
        number = bits.take(n_bits)
        if number < (1 << n_bits) - 1 or n_bits == 7:
            return first + number
    raise AssertionError


def _room(block: _Block, style: int) -> int:
    """Count the passes that the next codeword segment takes (T.800 D.4 and D.6, T.814 B.2)."""
    if style & _HT:
        return 2 if block.n_segments else 1
    if style & _TERMINATED:
        return 1
    if style & _BYPASS:
        return 10 if not block.n_segments else 2 if block.n_segments % 2 else 1
    return 1 << 15


class _Bits:
    """Bits of a packet's header, highest first; after a byte 255 the next one has seven (T.800 B.10.1)."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._left, self._byte = 0, 0

    def take(self, n: int) -> int:
        """Give the number that the next bits make."""
        number = 0
        for _ in range(n):
            if not self._left:
                self._left = 7 if self._byte == 0xFF else 8
                self._byte = self._data[self._at]
                self._at += 1
            self._left -= 1
            number = number << 1 | self._byte >> self._left & 1
        return number

    def end(self) -> int:
        """Give the offset after the header, which fills whole bytes."""
        return self._at + (self._byte == 0xFF)


class _TagTree:
    """Numbers of a grid, coded from coarse to fine (T.800 B.10.2)."""

    def __init__(self, n_columns: int, n_rows: int) -> None:
        self._widths, sizes = [], []
        while True:
            self._widths.append(n_columns)
            sizes.append(n_columns * n_rows)
            if n_columns * n_rows <= 1:
                break
            n_columns, n_rows = (n_columns + 1) // 2, (n_rows + 1) // 2
        self._lows = [[0] * size for size in sizes]
        self._known = [[False] * size for size in sizes]

    def reaches(self, bits: _Bits, leaf: int, limit: int) -> bool:
        """Tell whether a leaf's number is at most the limit, after reading as much as that takes."""
        row, column = divmod(leaf, self._widths[0])
        low = 0
        for level in reversed(range(len(self._widths))):
            node = (row >> level) * self._widths[level] + (column >> level)
            low = max(low, self._lows[level][node])
            while low <= limit and not self._known[level][node]:
                if bits.take(1):
                    self._known[level][node] = True
                else:
                    low += 1
            self._lows[level][node] = low
        return self._known[0][leaf] and low <= limit

    def value(self, bits: _Bits, leaf: int) -> int:
        """Read a leaf's number in full."""
        limit = 0
        while not self.reaches(bits, leaf, limit):
            limit += 1
            if limit > 64:
                raise ValueError("no number of bit planes")
        return self._lows[0][leaf]
