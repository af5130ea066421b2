"""The order in which packets go on the air, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from channel_sim.types import CERTAIN_LLR, Packets, Reception


def air_order(block_sizes: Sequence[int], depth: int) -> np.ndarray:
    """int64 [num_rows]: the row at each place on the air. Rows are numbered block by block; `depth` blocks take turns.

        block 0:  0 1 2 3 ┐
        block 1:  4 5 6 7 ┘ depth 2  ─▶  0 4 1 5 2 6 3 7

    The blocks are parted into as many groups of at least `depth` as there are, of sizes that differ by at most one; within a
    group the first rows of all blocks go first, then the second ones, and so on. So rows of one block lie at least `depth`
    places apart where there are `depth` blocks, as far as the blocks are of one size.

    >>> air_order([4, 4, 4, 4], 2).tolist()
    [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    """
    sizes = np.asarray(block_sizes, np.int64)
    rows = np.arange(int(sizes.sum()))
    if depth == 1 or sizes.size < 2:
        return rows
    num_groups = max(1, sizes.size // depth)
    group_of_block = np.arange(sizes.size) * num_groups // sizes.size
    block = np.repeat(np.arange(sizes.size), sizes)
    place_in_block = rows - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((block, place_in_block, group_of_block[block]))


def inverse(order: np.ndarray) -> np.ndarray:
    """int64: the place of each row."""
    places = np.empty(order.size, np.int64)
    places[order] = np.arange(order.size)
    return places


def on_air(packets: Packets, rows: np.ndarray) -> Packets:
    """The packets `rows` as they are sent, in that order; a packet may be sent several times. What they carry of which tokens
    is the business of both ends, so that they state no tokens."""
    header = np.zeros((rows.size, 3), np.int32)
    header[:, 0] = packets.header[rows, 0]
    return Packets(bits=packets.bits[rows], num_bits=packets.num_bits[rows], order=np.zeros(0, np.int32),
                   bounds=np.zeros(rows.size + 1, np.int32), header=header, header_bits=packets.header_bits)


def picked(packets: Packets, received: Reception, places: np.ndarray) -> Reception:
    """The packets again from what was received at `places` int [num_packets]; -1 = at none.

    The headers are those of `packets`: a packet that arrives has its header intact.
    """
    if not received.num_packets:
        return Reception(llr=np.zeros((places.size, 0), np.float32), lost=np.ones(places.size, np.bool_),
                         crc_ok=np.zeros(places.size, np.bool_), header=np.full((places.size, 3), -1, np.int32),
                         crc_checked=received.crc_checked)
    lost = (places < 0) | received.lost[places]
    width = int(packets.num_bits[~lost].max(initial=0))
    return Reception(llr=np.where(lost[:, None], 0, received.llr[places, :width]).astype(np.float32), lost=lost,
                     crc_ok=received.crc_ok[places] & ~lost, header=np.where(lost[:, None], -1, packets.header).astype(np.int32),
                     crc_checked=received.crc_checked, checks=received.checks and received.checks.rows(places, lost))


def joined(receptions: Sequence[Reception]) -> Reception:
    """Receptions of packets that were sent one after another, as one."""
    width = max(one.llr.shape[1] for one in receptions)
    llr = [np.pad(one.llr, ((0, 0), (0, width - one.llr.shape[1])), constant_values=-CERTAIN_LLR) for one in receptions]
    lost = np.concatenate([one.lost for one in receptions])
    return Reception(llr=np.where(lost[:, None], 0, np.concatenate(llr)).astype(np.float32), lost=lost,
                     crc_ok=np.concatenate([one.crc_ok for one in receptions]),
                     header=np.concatenate([one.header for one in receptions]), crc_checked=receptions[0].crc_checked)
