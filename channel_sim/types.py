"""What flows through the chain: frozen records whose arrays are checked once and read-only ever after.

    Source ─Item─▶ Tokenizer ─Tokens─▶ Coder ─Packets, Preamble─▶ Protection⟲Channel ─Reception─▶ Coder ─Evidence─▶ Decoder
                                                                                        content ◀─ Reconstruction ◀─┘
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod

import numpy as np

from channel_sim.checks import array, require
from channel_sim.crc import CRC_BITS, CrcName

Content = bytes | np.ndarray
CERTAIN_LLR = 50.0
"""|LLR| of a bit that is taken as certain; every LLR is ln P(1)/P(0)."""


class Origin(IntEnum):
    """Where a reconstructed token comes from."""

    RECEIVED = 0
    INFERRED = 1
    CONCEALED = 2
    LOST = 3


@dataclass(frozen=True, eq=False)
class Item:
    """One thing to send: `content` is bytes, uint8 image [H, W, C], int16 audio [n] or a vector; `name` says which part of what.

    `label` is the class of what it shows, where that is known: for judging what came out, never sent.
    """

    content: Content
    modality: str
    name: str
    label: int | None = None


@dataclass(frozen=True, eq=False)
class Tokens:
    """`values` int32 [n], 0 <= values < vocab_size; `grid` is the shape of the token lattice, (n,) for text.

    `content_shape` is the shape of the item's content where the tokens do not tell it, and the receiver must know it to decode.
    """

    values: np.ndarray
    vocab_size: int
    grid: tuple[int, ...] = ()
    content_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        values = array(self, "values", np.int32, ndim=1)
        object.__setattr__(self, "grid", self.grid or (values.size,))
        require(self.vocab_size >= 2, f"vocab_size must be >= 2, got {self.vocab_size}")
        require(values.size == 0 or 0 <= values.min() <= values.max() < self.vocab_size,
                f"token values must lie in [0, {self.vocab_size})")
        _check_grid(self.grid, values.size)
        _check_shape(self.content_shape)

    @property
    def bits_per_token(self) -> int:
        return bits_for(self.vocab_size)


@dataclass(frozen=True)
class Preamble:
    """What the receiver is told beside the packets, taken as received; its bits are charged.

    `choices` are what the coder or the protection must tell, in an order that both ends know. How many numbers `grid` and
    `content_shape` have follows from the tokenizer, which the scenario tells.
    """

    num_tokens: int
    num_packets: int
    grid: tuple[int, ...] = ()
    choices: tuple[int, ...] = ()
    content_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", self.grid or (self.num_tokens,))
        numbers = (self.num_tokens, self.num_packets, *self.choices)
        require(min(numbers) >= 0, f"numbers of a preamble must be >= 0, got {numbers}")
        _check_grid(self.grid, self.num_tokens)
        _check_shape(self.content_shape)

    def to_bytes(self) -> bytes:
        """The preamble as it is sent: LEB128 numbers. The grid of a sequence is not sent, it is (num_tokens,)."""
        grid = () if len(self.grid) == 1 else self.grid
        numbers = (self.num_tokens, self.num_packets, *grid, *self.content_shape, *self.choices)
        return b"".join(_leb128(number) for number in numbers)

    @property
    def num_bits(self) -> int:
        return 8 * len(self.to_bytes())


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of one item.

    bits:      uint8 [num_packets, max_bits], 0 or 1, most significant bit of a token first, zero past `num_bits`
    num_bits:  int32 [num_packets], payload bits of each packet
    order:     int32 [n], token positions in the order in which packets carry them (a permutation: they tile the token axis)
    bounds:    int32 [num_packets + 1]; packet k carries the tokens order[bounds[k]:bounds[k + 1]]
    header:    int32 [num_packets, 3]: sequence number, first token, token count
    header_bits: bits of one header on the air (may be 0: the slot then tells the sequence number)
    context:   for each packet the packets that must be usable before it is: range(first, last, step), int32 [num_packets, 3]
    ideal_bits: -log2 P of the tokens under the integer tables that code them; None where no model codes
    importance: float32 [num_packets] or None
    head_bits:  of the payload, what a file of this kind has whatever it holds; published rates leave it out, the link charges it
    """

    bits: np.ndarray
    num_bits: np.ndarray
    order: np.ndarray
    bounds: np.ndarray
    header: np.ndarray
    header_bits: int = 0
    context: np.ndarray | None = None
    ideal_bits: float | None = None
    importance: np.ndarray | None = None
    head_bits: int = 0

    def __post_init__(self) -> None:
        bits = array(self, "bits", np.uint8, ndim=2)
        num_bits = array(self, "num_bits", np.int32, shape=(len(bits),))
        order = array(self, "order", np.int32, ndim=1)
        bounds = array(self, "bounds", np.int32, shape=(len(bits) + 1,))
        header = array(self, "header", np.int32, shape=(len(bits), 3))
        fits = num_bits.size == 0 or 0 <= num_bits.min() <= num_bits.max() <= bits.shape[1]
        require(fits, "num_bits must fit the rows of bits")
        require(bits.size == 0 or bits.max() <= 1, "bits must be 0 or 1")
        require(not np.any(bits[np.arange(bits.shape[1]) >= num_bits[:, None]]), "bits past num_bits must be 0")
        require(np.array_equal(np.sort(order), np.arange(order.size)), "token positions must tile the token axis")
        require(bounds[0] == 0 and bounds[-1] == order.size and np.all(np.diff(bounds) >= 0), "bounds must part the tokens")
        require(np.array_equal(header[:, 2], np.diff(bounds)), "the header's token count must be the packet's")
        require(self.header_bits >= 0, f"header_bits must be >= 0, got {self.header_bits}")
        require(0 <= self.head_bits <= num_bits.sum(), f"head_bits must be of the payload, got {self.head_bits}")
        if self.context is not None:
            first, last, step = array(self, "context", np.int32, shape=(len(bits), 3)).T
            require(bool(np.all((0 <= first) & (first <= last) & (last <= len(bits)) & (step >= 1))),
                    "context must be (first, last, step) of packets")
        if self.importance is not None:
            array(self, "importance", np.float32, shape=(len(bits),))

    @property
    def num_packets(self) -> int:
        return len(self.bits)

    def positions(self, packet: int) -> np.ndarray:
        """int32: the token positions that `packet` carries, in the order of its payload."""
        return self.order[self.bounds[packet]:self.bounds[packet + 1]]


@dataclass(frozen=True, eq=False)
class ReceivedChecks:
    """What a receiver needs to check packets again once it has changed bits of them.

    llr:      float32 [num_packets, bits of the CRC] = ln P(1)/P(0) of the CRCs as they arrived; 0 in a lost row
    num_bits: int32 [num_packets], payload bits of what arrived; 0 in a lost row
    crc:      their law; the header, taken as received, does not enter: sent as zeros, it changes no CRC
    """

    llr: np.ndarray
    num_bits: np.ndarray
    crc: CrcName

    def __post_init__(self) -> None:
        num_bits = array(self, "num_bits", np.int32, ndim=1)
        llr = array(self, "llr", np.float32, shape=(num_bits.size, CRC_BITS[self.crc]))
        require(not np.any(num_bits < 0), "num_bits must be >= 0")
        require(bool(np.all(np.abs(llr) <= CERTAIN_LLR)), f"LLRs must be finite and |LLR| <= {CERTAIN_LLR:g}")

    def rows(self, places: np.ndarray, lost: np.ndarray) -> ReceivedChecks:
        """Those at `places` int [n], less what is `lost` bool [n]."""
        return ReceivedChecks(np.where(lost[:, None], 0, self.llr[places]).astype(np.float32),
                              np.where(lost, 0, self.num_bits[places]), self.crc)


@dataclass(frozen=True, eq=False)
class Reception:
    """What the receiver has of one item: one row per sent slot, and nothing that leads to the truth.

    llr:       float32 [num_packets, width] = ln P(1)/P(0), most significant bit first; ±50 = certain; 0 = nothing known.
               `width` is that of the longest packet that arrived, so that it tells nothing of lost ones;
               past its own end a packet that arrived reads as certain zeros
    lost:      bool [num_packets]; a lost row has LLR 0 and a header of -1
    crc_ok:    bool [num_packets]; arrived and not known to have failed
    header:    int32 [num_packets, 3] of what arrived: sequence number, first token, token count
    crc_checked: packets carried a CRC, so `crc_ok` means checked
    checks:    the CRCs themselves; None where whoever hands over the packets keeps them
    """

    llr: np.ndarray
    lost: np.ndarray
    crc_ok: np.ndarray
    header: np.ndarray
    crc_checked: bool = False
    checks: ReceivedChecks | None = None

    def __post_init__(self) -> None:
        llr = array(self, "llr", np.float32, ndim=2)
        lost = array(self, "lost", np.bool_, shape=(len(llr),))
        crc_ok = array(self, "crc_ok", np.bool_, shape=(len(llr),))
        header = array(self, "header", np.int32, shape=(len(llr), 3))
        require(bool(np.all(np.isfinite(llr))), "LLRs must be finite")
        require(llr.size == 0 or float(np.abs(llr).max()) <= CERTAIN_LLR, f"|LLR| must be <= {CERTAIN_LLR:g}")
        require(not np.any(llr[lost]), "the LLRs of a lost packet must be 0")
        require(not np.any(crc_ok & lost), "a lost packet has no CRC that is right")
        require(bool(np.all(header[lost] == -1)), "a lost packet has no header")
        if self.checks is not None:
            require(len(self.checks.llr) == len(llr), "checks must be those of the packets")
            require(not np.any(self.checks.llr[lost]) and not np.any(self.checks.num_bits[lost]), "a lost packet has no check")
            require(int(self.checks.num_bits.max(initial=0)) <= llr.shape[1], "num_bits must fit the rows of LLRs")

    @property
    def num_packets(self) -> int:
        return len(self.llr)

    @property
    def certain(self) -> np.ndarray:
        """bool [num_packets, width]: bits taken as sent: arrived, CRC not failed, and checked by it or certain themselves."""
        checked = self.crc_ok[:, None] & self.crc_checked
        return (self.crc_ok & ~self.lost)[:, None] & (checked | (np.abs(self.llr) >= CERTAIN_LLR))

    @property
    def hard_bits(self) -> np.ndarray:
        """uint8 [num_packets, width]: the more probable value of each bit; 0 where nothing is known."""
        return (self.llr > 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of each token: the seam between transport and inference.

    known:    bool [n]; values int32 [n], right where known unless the channel deceived (0 elsewhere)
    bit_llr:  float32 [n, bits_per_token] or None: where not known, ln P(1)/P(0) of each bit; 0 = erased
    """

    known: np.ndarray
    values: np.ndarray
    vocab_size: int
    grid: tuple[int, ...] = ()
    bit_llr: np.ndarray | None = None
    content_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        known = array(self, "known", np.bool_, ndim=1)
        values = array(self, "values", np.int32, shape=known.shape)
        object.__setattr__(self, "grid", self.grid or known.shape)
        require(not np.any(values[~known]), "values of unknown tokens must be 0")
        require(not np.any(values[known] >= self.vocab_size) and not np.any(values < 0),
                f"known token values must lie in [0, {self.vocab_size})")
        _check_grid(self.grid, known.size)
        _check_shape(self.content_shape)
        if self.bit_llr is not None:
            llr = array(self, "bit_llr", np.float32, shape=(known.size, bits_for(self.vocab_size)))
            require(bool(np.all(np.isfinite(llr))), "LLRs must be finite")

    @property
    def num_tokens(self) -> int:
        return self.known.size

    @property
    def erased(self) -> np.ndarray:
        """bool [n]: nothing was received of the token."""
        if self.bit_llr is None:
            return ~self.known
        return ~self.known & ~np.any(self.bit_llr, axis=1)

    def log_likelihood(self, positions: np.ndarray) -> np.ndarray:
        """float64 [len(positions), vocab_size]: ln p(y | token) up to a constant a row; 0 for an erased token.

        The product over the bits of a token; a known token is one-hot with the log of zero at -1e9.
        """
        positions = np.asarray(positions)
        table = np.zeros((positions.size, self.vocab_size))
        if self.bit_llr is not None:
            bits = token_bits(np.arange(self.vocab_size), self.vocab_size).astype(np.float64)  # [vocab, bits]
            table += self.bit_llr[positions].astype(np.float64) @ bits.T
        known = self.known[positions]
        table[known] = -1e9
        table[known, self.values[positions[known]]] = 0.0
        return table


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the decoder makes of the evidence.

    values:     int32 [n]
    origin:     uint8 [n], an `Origin` for every token; LOST (given up) is an error in every rate, its value is 0
    confidence: float32 [n], the decoder's probability that the token is right; 1 where received, 0 where lost
    posterior:  float32 [number of tokens that are not RECEIVED, vocab_size] or None, in token order; rows sum to 1
    blend:      float32 of the same shape or None: weights of token values, rows sum to 1. A tokenizer that has a vector for each
                value decodes such a token by the weighted mean of the vectors instead of by `values`
    draws:      int32 [num_draws, number of tokens that are not RECEIVED] or None: a tokenizer of pictures decodes the item with
                each row of values in turn, and their mean is the content instead of what `values` decode to

    `values` stay what is counted as right or wrong. A LOST token has a row like the others that is read by nobody: whatever
    `blend` and `draws` say there, it decodes to the tokenizer's constant. Tokenizers that can use neither go by `values`.
    """

    values: np.ndarray
    origin: np.ndarray
    confidence: np.ndarray
    vocab_size: int
    grid: tuple[int, ...] = ()
    posterior: np.ndarray | None = None
    content_shape: tuple[int, ...] = ()
    blend: np.ndarray | None = None
    draws: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = array(self, "values", np.int32, ndim=1)
        origin = array(self, "origin", np.uint8, shape=values.shape)
        confidence = array(self, "confidence", np.float32, shape=values.shape)
        object.__setattr__(self, "grid", self.grid or values.shape)
        _check_grid(self.grid, values.size)
        require(values.size == 0 or 0 <= values.min() <= values.max() < self.vocab_size,
                f"token values must lie in [0, {self.vocab_size})")
        require(values.size == 0 or origin.max() <= Origin.LOST, "every token must have an origin")
        require(bool(np.all((confidence >= 0) & (confidence <= 1.0001))), "confidence must lie in [0, 1]")
        _check_shape(self.content_shape)
        num_restored = int(np.sum(origin != Origin.RECEIVED))
        for name in ("posterior", "blend"):
            if getattr(self, name) is not None:
                rows = array(self, name, np.float32, shape=(num_restored, self.vocab_size))
                sums = rows.sum(axis=1, dtype=np.float64)
                fair = not np.any(rows < 0) and bool(np.all(np.abs(sums - 1) < 1e-3))
                require(fair, f"rows of a {name} must be probabilities")
        if self.draws is not None:
            draws = array(self, "draws", np.int32, ndim=2)
            require(len(draws) > 0 and draws.shape[1] == num_restored,
                    f"draws must have at least one row of {num_restored} tokens, got shape {draws.shape}")
            require(draws.size == 0 or 0 <= draws.min() <= draws.max() < self.vocab_size,
                    f"values of draws must lie in [0, {self.vocab_size})")

    @property
    def lost(self) -> np.ndarray:
        return self.origin == Origin.LOST


def hard_decision(evidence: Evidence) -> Reconstruction:
    """Known tokens as received; soft tokens by the sign of each bit; LOST where a bit is unknown or the decision is no token."""
    values, origin = evidence.values.copy(), np.where(evidence.known, Origin.RECEIVED, Origin.LOST).astype(np.uint8)
    confidence = evidence.known.astype(np.float32)
    if evidence.bit_llr is not None:
        decided = bits_to_tokens(evidence.bit_llr > 0)
        usable = ~evidence.known & np.all(evidence.bit_llr != 0, axis=1) & (decided < evidence.vocab_size)
        values[usable], origin[usable] = decided[usable], Origin.INFERRED
        right = 1 / (1 + np.exp(-np.abs(evidence.bit_llr[usable].astype(np.float64))))
        confidence[usable] = right.prod(axis=1)
    return Reconstruction(values, origin, confidence, evidence.vocab_size, evidence.grid, content_shape=evidence.content_shape)


def bits_for(vocab_size: int) -> int:
    """Bits of a token's fixed-length code word: ceil(log2(vocab_size)), at least 1."""
    return max(1, (vocab_size - 1).bit_length())


def token_bits(values: np.ndarray, vocab_size: int) -> np.ndarray:
    """uint8 [n, bits_for(vocab_size)]: the fixed-length code words, most significant bit first."""
    shifts = np.arange(bits_for(vocab_size))[::-1]
    return ((np.asarray(values)[:, None] >> shifts) & 1).astype(np.uint8)


def bits_to_tokens(bits: np.ndarray) -> np.ndarray:
    """int32 [n] from 0/1 [n, bits_per_token], most significant bit first; may exceed the vocabulary."""
    weights = 1 << np.arange(bits.shape[1])[::-1]
    return (bits.astype(np.int64) @ weights).astype(np.int32)


def _check_grid(grid: tuple[int, ...], num_tokens: int) -> None:
    holds = all(side >= 0 for side in grid) and prod(grid) == num_tokens
    require(holds, f"grid {grid} does not hold {num_tokens} tokens")


def _check_shape(content_shape: tuple[int, ...]) -> None:
    require(all(side >= 0 for side in content_shape), f"sides of content_shape must be >= 0, got {content_shape}")


def _leb128(number: int) -> bytes:
    digits = []
    while True:
        number, low = number >> 7, number & 127
        digits.append(low | (128 if number else 0))
        if not number:
            return bytes(digits)
