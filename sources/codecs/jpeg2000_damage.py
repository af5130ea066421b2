"""Where the packets of a JPEG 2000 codestream end: what comes after the last whole one before a hole cannot be used.

Source: ITU-T Recommendation T.800 (2002): packet heads B.10, tag trees B.10.2, subbands B.5, progression B.12.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator

_PASSES = ((1, 1, 1), (1, 1, 2), (2, 3, 3), (5, 31, 6), (7, 128, 37))
"""How a number of coding passes is told: (bits, the value that leads on to the next row, number at value 0)."""


def whole_packets(data: bytes, height: int, width: int, colours: int, *, layers: int, levels: int, block_side: int) -> int:
    """How many bytes of `data`, the start of the packets of one tile, are whole packets.

    Packets lie by layer, resolution and colour, each subband in one precinct of code-blocks of `block_side`, coded without options.
    """
    bands = [[[_Subband(rows, columns) for rows, columns in _block_grids(height, width, levels, level, block_side)]
              for _ in range(colours)] for level in range(levels + 1)]
    whole = 0
    for layer in range(layers):
        for level in range(levels + 1):
            for colour in range(colours):
                head = _Bits(data, whole)
                try:
                    num_bytes = sum(band.packet(head, layer) for band in bands[level][colour]) if head.bit() else 0
                    body = head.end()
                except IndexError:
                    return whole
                if body + num_bytes > len(data):
                    return whole
                whole = body + num_bytes
    return whole


def _block_grids(height: int, width: int, levels: int, level: int, side: int) -> Iterator[tuple[int, int]]:
    """(rows, columns) of code-blocks in each subband of a resolution level, 0 the lowest: LL, or HL, LH, HH."""
    step = levels - max(level - 1, 0)
    high = 1 << (step - 1) if step else 0
    for up, left in ((0, 0),) if level == 0 else ((0, high), (high, 0), (high, high)):
        rows, columns = (max(0, -((offset - size) >> step)) for size, offset in ((height, up), (width, left)))
        yield -(-rows // side), -(-columns // side)


class _Bits:
    """Bits of a packet head: after a byte of 0xFF the next one has seven."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place, self._left, self._byte = data, place, 0, 0

    def bit(self) -> int:
        if not self._left:
            self._left = 7 if self._byte == 0xFF else 8
            self._byte = self._data[self._place]
            self._place += 1
        self._left -= 1
        return self._byte >> self._left & 1

    def number(self, num_bits: int) -> int:
        value = 0
        for _ in range(num_bits):
            value = value << 1 | self.bit()
        return value

    def end(self) -> int:
        """The place of the first byte after the head."""
        return self._place + (self._byte == 0xFF)


class _TagTree:
    """Numbers of a grid told bit by bit, as far as each one is asked for."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shapes = [(rows, columns)]
        while rows * columns > 1:
            rows, columns = -(-rows // 2), -(-columns // 2)
            self._shapes.append((rows, columns))
        self._least = [[0] * (rows * columns) for rows, columns in self._shapes]
        self._known = [[False] * (rows * columns) for rows, columns in self._shapes]

    def below(self, bits: _Bits, row: int, column: int, limit: int) -> bool:
        """Whether the number at (row, column) is less than `limit`."""
        least = 0
        for depth in reversed(range(len(self._shapes))):
            node = (row >> depth) * self._shapes[depth][1] + (column >> depth)
            least = max(least, self._least[depth][node])
            while least < limit and not self._known[depth][node]:
                if bits.bit():
                    self._known[depth][node] = True
                else:
                    least += 1
            self._least[depth][node] = least
        return least < limit


class _Subband:
    """What the packets of one subband have told so far."""

    def __init__(self, rows: int, columns: int) -> None:
        self._blocks = [(row, column) for row in range(rows) for column in range(columns)]
        self._inclusion, self._zero_planes = _TagTree(rows, columns), _TagTree(rows, columns)
        self._length_bits: dict[tuple[int, int], int] = {}

    def packet(self, bits: _Bits, layer: int) -> int:
        """Bytes of this subband's code-blocks in the packet of `layer`."""
        num_bytes = 0
        for block in self._blocks:
            if block in self._length_bits:
                if not bits.bit():
                    continue
            elif not self._inclusion.below(bits, *block, layer + 1):
                continue
            else:
                self._length_bits[block], limit = 3, 1
                while not self._zero_planes.below(bits, *block, limit):
                    limit += 1
            passes = _num_passes(bits)
            while bits.bit():
                self._length_bits[block] += 1
            num_bytes += bits.number(self._length_bits[block] + passes.bit_length() - 1)
        return num_bytes


def _num_passes(bits: _Bits) -> int:
    for num_bits, goes_on, least in _PASSES:
        value = bits.number(num_bits)
        if value != goes_on:
            return least + value
    raise AssertionError("the last row has no value that leads on")
