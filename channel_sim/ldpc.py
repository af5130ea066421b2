"""LDPC of 5G without TensorFlow in the loop: a layered decoder on the very parity-check matrix that Sionna decodes on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from channel_sim.checks import require
from channel_sim.min_star import decode_blocks
from channel_sim.sionna_blocks import load


@dataclass(frozen=True, eq=False)
class Graph:
    """The checks of a code, and where its bits are received. The information bits are the first bits of the code word.

    info_bits:  information bits of a block
    code_bits:  bits of a block that are sent
    row_starts: int32 [num_checks + 1], where the bits of each check start in `columns`
    columns:    int32 [num_edges], which bits of the code word take part
    sources:    int32 [num_bits], the place of each bit of the code word in what is received, -1 where it was not sent
    """

    info_bits: int
    code_bits: int
    row_starts: np.ndarray
    columns: np.ndarray
    sources: np.ndarray


def decode(channel_llr: np.ndarray, a_priori: np.ndarray | None = None, *, graph: Graph, num_iterations: int = 20,
           early_stop: bool = True) -> np.ndarray:
    """float32 [num_blocks, info_bits]: posterior LLRs of all information bits, also of the 2Z that 5G never sends.

        channel_llr ─▶ undo interleaving and puncturing ─▶ + ─▶ layered min* ─▶ posterior LLR
                                              a_priori ────┘

    channel_llr: float32 [num_blocks, code_bits], as they were received: interleaved, 2Z information bits missing
    a_priori:    float32 [num_blocks, info_bits]; None is all zeros

    LLR = ln P(1)/P(0); channel and prior together are bounded to ±128, but a prior of ±50 is certain: no check outweighs it, and
    its posterior is near ±1000. An iteration updates every check once,
    each from what those before it left, and so does the work of nearly two of Sionna's (`layered_iterations`); `early_stop`
    leaves out those after the first that satisfies all checks. A block's result is the same bit for bit in every batch, order
    and thread; the function holds no lock while it works, so threads may share a batch.

    Raises ValueError where an LLR is not a number.
    """
    num_blocks = len(channel_llr)
    if a_priori is None:
        a_priori = np.zeros((num_blocks, graph.info_bits), np.float32)
    channel, prior = (np.ascontiguousarray(llr, dtype=np.float32) for llr in (channel_llr, a_priori))
    _require_llr(channel, "channel_llr", (num_blocks, graph.code_bits))
    _require_llr(prior, "a_priori", (num_blocks, graph.info_bits))
    require(num_iterations >= 1, f"num_iterations must be >= 1, got {num_iterations}")
    return decode_blocks(channel, prior, graph.row_starts, graph.columns, graph.sources, num_iterations, early_stop)[0]


def layered_iterations(flooding_iterations: int) -> int:
    """Iterations of `decode` that leave the block error rate of so many of Sionna's, which update all checks at once.

    11 for 20: on QPSK over AWGN, at a block error rate of 1e-2 and rates from 1/5 to 9/10, .1 dB better to .02 dB worse than
    Sionna in the formats of `python -m benchmarks.ldpc`; most of the intervals include 0. Higher modulations
    and lower block error rates were not compared.
    """
    return -(-flooding_iterations * 11 // 20)


@lru_cache(maxsize=64)
def graph_of(info_bits: int, code_bits: int, bits_per_symbol: int) -> Graph:
    """The graph of the 5G code from `info_bits` to `code_bits` bits, sent on symbols of `bits_per_symbol` bits.

    Loads TensorFlow: the matrix is read from Sionna's decoder. Filler bits are known to be 0; they leave their checks, which
    is what an LLR without bound does to a check.

    Source: 3GPP TS 38.212, "Multiplexing and channel coding", sections 5.3.2 and 5.4.2 (2018).
    """
    _, phy = load()
    encoder = phy.fec.ldpc.LDPC5GEncoder(info_bits, code_bits, num_bits_per_symbol=bits_per_symbol)
    num_fillers = encoder.k_ldpc - info_bits
    sent_or_sendable = encoder.n_ldpc - 2 * encoder.z - num_fillers
    # Sionna prunes an empty graph where no parity bit is punctured
    matrix = phy.fec.ldpc.LDPC5GDecoder(encoder, prune_pcm=code_bits < sent_or_sendable).pcm.tocsr().sorted_indices()
    is_filler = (matrix.indices >= info_bits) & (matrix.indices < encoder.k_ldpc)
    columns = matrix.indices[~is_filler]
    row_starts = np.concatenate([[0], np.cumsum(~is_filler)])[matrix.indptr]
    sources = np.full(matrix.shape[1] - num_fillers, -1)
    sources[2 * encoder.z:2 * encoder.z + code_bits] = encoder.out_int_inv
    shifted = np.where(columns < info_bits, columns, columns - num_fillers)
    return Graph(info_bits, code_bits, *(_frozen(one) for one in (row_starts, shifted, sources)))


def _frozen(indices: Any) -> np.ndarray:
    array = np.ascontiguousarray(indices, dtype=np.int32)
    array.flags.writeable = False
    return array


def _require_llr(llr: np.ndarray, name: str, shape: tuple[int, int]) -> None:
    require(llr.shape == shape, f"{name} must have shape {shape}, got {llr.shape}")
    require(not np.isnan(llr).any(), f"{name} must be numbers, got nan")
