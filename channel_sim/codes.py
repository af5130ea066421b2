"""Error-correcting codes on blocks: what each can be asked for, and bits to code words to LLRs."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Literal

import numpy as np

from channel_sim import ldpc, polar, sionna_blocks
from channel_sim.sionna_blocks import CodeName, FrameFormat

LdpcBackend = Literal["auto", "sionna", "numba"]
LONGEST_SMALL_BLOCK = 292
HIGHEST_SMALL_RATE = Fraction(9, 10)
BLOCK_BITS: dict[str, tuple[int, int]] = {"ldpc": (12, 8448), "polar": (20, 1013), "convolutional": (12, 8448), "turbo": (40, 6144)}
LONGEST_POLAR_WORD = 1088
POLAR_CRC_BITS = 11
SOFT_OUTPUT = ("uncoded", "ldpc", "convolutional", "turbo")
ITERATIVE = ("ldpc", "turbo")
HARD_LLR = 49.0


def check(code: CodeName, block_bits: int, code_rate: float) -> None:
    """Refuse, with a ValueError, what the code cannot do."""
    if code == "uncoded":
        return
    fewest, most = BLOCK_BITS[code]
    if not fewest <= block_bits <= most:
        raise ValueError(f'block_bits must lie in [{fewest}, {most}] for code = "{code}", got {block_bits}: '
                         "longer packets are cut into several blocks")
    lowest, highest = rates(code, block_bits)
    if lowest == highest and code_rate != lowest:
        raise ValueError(f'code_rate must be {float(lowest):g} for code = "{code}", got {code_rate:g}: '
                         'other rates are those of "ldpc" and "polar"')
    if not float(lowest) <= code_rate <= float(highest):
        raise ValueError(f"code_rate must lie in [{float(lowest):.4g}, {float(highest):.4g}] for {code} with "
                         f"block_bits = {block_bits}, got {code_rate:g}")


def rates(code: CodeName, block_bits: int) -> tuple[Fraction, Fraction]:
    """Lowest and highest code rate, before the code word is rounded to whole symbols.

    ldpc: without repetition, base graph 2 reaches down to 1/5, up to 3824 bits; base graph 1 down to 1/3.
    polar: the list's own CRC counts as parity; one mother code word of at most 1024 bits.

    Source: 3GPP TS 38.212, sections 5.3.1, 5.3.2, 5.4.2.1, 6.3.1 and 7.2.2 (2018).
    """
    if code == "ldpc":
        # closer to 1 some graphs of small blocks do not give back their punctured bits even without noise
        highest = HIGHEST_SMALL_RATE if block_bits <= LONGEST_SMALL_BLOCK else Fraction(948, 1024)
        return Fraction(1, 5) if block_bits <= 3824 else Fraction(1, 3), highest
    if code == "polar":
        return max(Fraction(1, 8), Fraction(block_bits, LONGEST_POLAR_WORD)), Fraction(block_bits, block_bits + POLAR_CRC_BITS)
    return (Fraction(1), Fraction(1)) if code == "uncoded" else (Fraction(1, 2), Fraction(1, 2))


def frame_of(code: CodeName, block_bits: int, code_rate: float, bits_per_symbol: int, *, num_iterations: int = 20,
             list_size: int = 8, ldpc_backend: LdpcBackend = "auto") -> FrameFormat:
    """The format of a block: a code word of block_bits / code_rate bits, rounded to whole symbols."""
    if code == "uncoded":
        return FrameFormat(bits_per_symbol, bits_per_symbol, bits_per_symbol)
    lowest, highest = rates(code, block_bits)
    fewest, most = ceil(block_bits / (highest * bits_per_symbol)), floor(block_bits / (lowest * bits_per_symbol))
    # where one rate only is to be had the last symbol is filled up
    symbols = fewest if lowest == highest else min(max(round(block_bits / (code_rate * bits_per_symbol)), fewest), most)
    return FrameFormat(block_bits, symbols * bits_per_symbol, bits_per_symbol, code,
                       num_iterations if code in ITERATIVE else 0, list_size if code == "polar" else 0,
                       code == "ldpc" and in_numba(ldpc_backend))


def in_numba(ldpc_backend: LdpcBackend) -> bool:
    """Whether LDPC is decoded by min-sum in numba: `auto` is that unless TensorFlow has a GPU."""
    return ldpc_backend == "numba" or (ldpc_backend == "auto" and not sionna_blocks.sees_gpu())


def encode(info_bits: np.ndarray, frame: FrameFormat) -> np.ndarray:
    """uint8 [num_blocks, code_bits] from uint8 [num_blocks, info_bits]."""
    if frame.code == "uncoded" or not len(info_bits):
        return info_bits.reshape(-1, frame.code_bits)
    words = sionna_blocks.encode(info_bits, frame)
    return np.pad(words, ((0, 0), (0, frame.code_bits - frame.word_bits)))


def decode(llr: np.ndarray, a_priori: np.ndarray | None, frame: FrameFormat) -> np.ndarray:
    """float32 [num_blocks, info_bits]: posterior LLR = ln P(1)/P(0), prior included; ±49 from the hard decisions of polar.

    llr:      float32 [num_blocks, code_bits] from the channel
    a_priori: float32 [num_blocks, info_bits], or None for none; polar takes none
    """
    if frame.code == "uncoded":
        return llr if a_priori is None else llr + a_priori
    if not len(llr):
        return np.zeros((0, frame.info_bits), np.float32)
    words = np.ascontiguousarray(llr[:, :frame.word_bits])
    if frame.code == "polar":
        assert a_priori is None, "a hard decision has no use for a prior"
        return np.where(polar.decode(words, frame), HARD_LLR, -HARD_LLR).astype(np.float32)
    if frame.in_numba:
        graph = ldpc.graph_of(frame.info_bits, frame.code_bits, frame.bits_per_symbol)
        # a layered iteration does the work of nearly two: so both backends have the error rate of `num_iterations`
        return ldpc.decode(words, a_priori, graph=graph, num_iterations=ldpc.layered_iterations(frame.num_iterations))
    return sionna_blocks.decode(words, a_priori, frame)
