"""The coded link: CRC, LDPC, QAM, fading and noise, and soft decisions on the other side, through Sionna."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim import sionna_blocks
from channel_sim.checks import RequestError
from channel_sim.crc import CRC_BITS, CrcName, crc
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.sionna_blocks import FrameFormat
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import Packets

BITS_PER_SYMBOL = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6}
MAX_LLR = 49.0
"""A link is never certain: certain is 50."""

UNCODED_FRAME_SYMBOLS = 512
LONGEST_SMALL_BLOCK = 292
HIGHEST_SMALL_RATE = Fraction(9, 10)


@dataclass(frozen=True, eq=False)
class Received:
    """What the antenna has of one item, and what is known at both ends.

    symbols:    complex128 [num_symbols]
    fades:      complex128 [num_symbols], known perfectly
    scrambling: uint8 [num_symbols * bits_per_symbol]
    """

    symbols: np.ndarray
    fades: np.ndarray
    scrambling: np.ndarray


class CodedLink(Channel):
    """A radio link from packets to soft bits: what is sent in one channel use is one complex symbol of mean energy Es = 1.

        header + payload ─▶ CRC ─▶ code blocks ─▶ LDPC ─▶ scrambling ─▶ QAM ─▶ ·h ─▶ +n
        payload LLRs ◀── CRC check ◀── LDPC decoder ◀── unscrambling ◀── demapper ◀── /h ◀─┘

    A packet starts a code block, or when uncoded a symbol; what it does not fill is zeros, charged as padding. The code word
    of a block is `block_bits / code_rate` bits rounded to whole symbols, and all rates, Eb/N0 among them, are those after rounding.
    Es/N0 = Eb/N0 * code_rate * bits per symbol, of the code alone: overheads are charged as uses and energy. y = h x + n with
    E|h|^2 = 1 and E|n|^2 = N0; BPSK lies on the real axis of the same complex symbol, so its Pb is Q(sqrt(2 Es/N0)).
    Fades, noise and scrambling run along the item's symbols, drawn first and scaled after.
    """

    source: ClassVar[str] = (
        "3GPP TS 38.211, 38.212 (LDPC, CRC, QAM); J. Hoydis et al., \"Sionna: An Open-Source Library for Next-Generation "
        "Physical Layer Research\", arXiv:2203.11854 (2022)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "The receiver knows the fades and the noise power exactly, and is synchronised; no pilots are sent or charged.",
        "A random scrambling sequence, known at both ends and not charged, makes Es equal to 1 in the mean whatever is sent.",
        "Headers are sent as zeros and charged; their content is taken as received unless the packet is lost.",
        "A fading block is a fixed number of symbols of the item's stream; packets may share one and blocks fade independently.",
    )

    code: Literal["uncoded", "ldpc"] = Field("ldpc", description="none, or 5G LDPC with belief propagation (boxplus-phi)")
    block_bits: int = Field(512, ge=12, le=8448, description="information bits of a code block, CRC included; ignored when uncoded")
    code_rate: float = Field(0.5, gt=0, lt=1, description="information bits per coded bit; ignored when uncoded")
    num_iterations: int = Field(20, ge=1, le=1000, description="iterations of the LDPC decoder, always all of them")
    crc: CrcName = Field("crc16", description="one CRC a packet, over header and payload, charged")
    modulation: Literal["bpsk", "qpsk", "qam16", "qam64"] = Field("qpsk", description="Gray-labelled constellation")
    fading: Literal["awgn", "rayleigh_block"] = Field("awgn", description="none, or h ~ CN(0, 1) constant over a fading block")
    fading_block_symbols: int = Field(64, ge=1, description="symbols of one fading block; ignored for awgn")
    esno_db: float | None = Field(None, ge=-60, le=100, description="Es/N0 in dB, mean over fades; or give ebno_db")
    ebno_db: float | None = Field(None, ge=-60, le=100, description="Eb/N0 in dB of the code alone; or give esno_db")
    on_crc_failure: Literal["erase", "deliver"] = Field("erase", description="a failed packet is lost, or delivered with its LLRs")

    @model_validator(mode="after")
    def _names_one_ratio(self) -> Self:
        if (self.esno_db is None) == (self.ebno_db is None):
            given = "none" if self.esno_db is None else "both"
            raise ValueError(f"exactly one of esno_db and ebno_db must be given, got {given}: name one, e.g. esno_db = 3.0")
        return self

    @model_validator(mode="after")
    def _knows_what_failed(self) -> Self:
        if self.crc == "none" and self.on_crc_failure == "erase":
            raise ValueError('on_crc_failure = "erase" needs a CRC, got crc = "none": choose a crc or on_crc_failure = "deliver"')
        return self

    @model_validator(mode="after")
    def _has_a_code(self) -> Self:
        if self.code == "uncoded":
            return self
        if self.block_bits <= CRC_BITS[self.crc]:
            raise ValueError(f"block_bits must exceed the {CRC_BITS[self.crc]} bits of {self.crc}, got {self.block_bits}")
        lowest, highest = ldpc_rates(self.block_bits)
        if not float(lowest) <= self.code_rate <= float(highest):
            raise ValueError(f"code_rate must lie in [{float(lowest):.4g}, {float(highest):.4g}] for ldpc with "
                             f"block_bits = {self.block_bits}, got {self.code_rate:g}")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        of_the_code = {"block_bits", "code_rate", "num_iterations"} if self.code == "uncoded" else set()
        of_the_fading = {"fading_block_symbols"} if self.fading == "awgn" else set()
        return frozenset({"esno_db" if self.esno_db is None else "ebno_db"} | of_the_code | of_the_fading)

    @property
    def bits_per_symbol(self) -> int:
        return BITS_PER_SYMBOL[self.modulation]

    @property
    def realised_code_rate(self) -> float:
        """Information bits per coded bit after rounding the code word to whole symbols; 1 when uncoded."""
        return self.frame.info_bits / self.frame.code_bits

    @property
    def resolved_esno_db(self) -> float:
        """Es/N0 in dB, mean over fades, whichever of the two was given."""
        if self.esno_db is not None:
            return self.esno_db
        assert self.ebno_db is not None
        return self.ebno_db + self._bits_per_use_db

    @property
    def resolved_ebno_db(self) -> float:
        """Eb/N0 in dB of the code alone, whichever of the two was given."""
        return self.ebno_db if self.ebno_db is not None else self.resolved_esno_db - self._bits_per_use_db

    @property
    def snr_db(self) -> float:
        """Mean received power over noise power in a bandwidth of the symbol rate, in dB: that is Es/N0, BPSK included."""
        return self.resolved_esno_db

    @property
    def no(self) -> float:
        """N0 at Es = 1."""
        return float(10 ** (-self.resolved_esno_db / 10))

    @property
    def _bits_per_use_db(self) -> float:
        return float(10 * np.log10(self.realised_code_rate * self.bits_per_symbol))

    @property
    def erases_on_crc_failure(self) -> bool:
        return self.on_crc_failure == "erase"

    @property
    def frame(self) -> FrameFormat:
        """What Sionna works on at a time."""
        per_symbol = self.bits_per_symbol
        if self.code == "uncoded":
            bits = UNCODED_FRAME_SYMBOLS * per_symbol
            return FrameFormat(bits, bits, per_symbol)
        lowest, highest = ldpc_rates(self.block_bits)
        fewest, most = ceil(self.block_bits / (highest * per_symbol)), floor(self.block_bits / (lowest * per_symbol))
        symbols = min(max(round(self.block_bits / (self.code_rate * per_symbol)), fewest), most)
        return FrameFormat(self.block_bits, symbols * per_symbol, per_symbol, self.num_iterations)

    @property
    def _unit(self) -> tuple[int, int]:
        """Bits and symbols of what a packet is made up of: code blocks, or symbols."""
        return (self.bits_per_symbol, 1) if self.code == "uncoded" else (self.block_bits, self.frame.symbols)

    def side_uses(self, num_bits: int) -> int:
        # at the rate of the code, but in no code word of their own: what is told beside the packets goes along with one of them
        return int(np.ceil(num_bits / (self.realised_code_rate * self.bits_per_symbol)))

    def channel_uses(self, num_bits: np.ndarray) -> np.ndarray:
        bits, symbols = self._unit
        return -(-np.asarray(num_bits, dtype=np.int64) // bits) * symbols

    def charge(self, packets: Packets) -> Ledger:
        padding = self._padded_bits(packets) - self.bits_on_air(packets)
        return replace(super().charge(packets), padding_bits=int(padding.sum()))

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [self._transmit(one, key) for one, key in zip(packets, keys, strict=True)]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        if a_priori is not None:
            raise RequestError('num_exchanges must be 0 for channel "coded_link": it takes no a-priori bits yet')
        packets, llr = observation.packets, self._information_llr(observation.state)
        payload, crc_ok = np.zeros(packets.bits.shape, np.float32), np.ones(packets.num_packets, bool)
        for packet, (start, first, end) in enumerate(self._spans(packets)):
            payload[packet, :end - first] = llr[first:end]
            # the CRC is linear: bits and their check fit if the check of both together is zero
            crc_ok[packet] = not np.any(crc(llr[start:end + self.crc_bits] > 0, self.crc))
        if self.code == "uncoded":
            return Detection(payload, crc_ok)
        wrong = (llr > 0) != self._information_bits(packets)
        block_wrong = wrong.reshape(-1, self.block_bits).any(axis=1)
        return Detection(payload, crc_ok, num_blocks=block_wrong.size, block_errors=int(block_wrong.sum()))

    def _transmit(self, packets: Packets, key: Key) -> Observation:
        bits = self._code_bits(self._information_bits(packets))
        scrambling = key.child("scrambling").integers(2, bits.size).astype(np.uint8)
        labels = (bits ^ scrambling).reshape(-1, self.bits_per_symbol) @ (1 << np.arange(self.bits_per_symbol)[::-1])
        symbols = sionna_blocks.constellation_points(self.bits_per_symbol)[labels]
        fades = self._fades(symbols.size, key)
        noise = np.sqrt(self.no) * key.child("symbol noise").complex_normal(symbols.size)
        state = Received(fades * symbols + noise, fades, scrambling)
        return Observation(packets, np.zeros(packets.num_packets, bool), state, self.charge(packets))

    def _fades(self, num_symbols: int, key: Key) -> np.ndarray:
        """complex128 [num_symbols]."""
        if self.fading == "awgn":
            return np.ones(num_symbols, np.complex128)
        num_fades = -(-num_symbols // self.fading_block_symbols)
        return np.repeat(key.child("fading").complex_normal(num_fades), self.fading_block_symbols)[:num_symbols]

    def _code_bits(self, information: np.ndarray) -> np.ndarray:
        if self.code == "uncoded":
            return information
        return sionna_blocks.encode(information.reshape(-1, self.block_bits), self.frame).ravel()

    def _information_llr(self, received: Received) -> np.ndarray:
        """float32, one for each bit of `_information_bits`."""
        frame = self.frame
        num_frames = -(-received.symbols.size // frame.symbols)
        filling = num_frames * frame.symbols - received.symbols.size
        by_symbol, by_bit = (num_frames, frame.symbols), (num_frames, frame.code_bits)
        symbols = np.pad(received.symbols / received.fades, (0, filling)).reshape(by_symbol)
        noise = np.pad(self.no / np.abs(received.fades) ** 2, (0, filling), constant_values=1.0).reshape(by_symbol)
        scrambling = np.pad(received.scrambling, (0, filling * self.bits_per_symbol)).reshape(by_bit)
        llr = sionna_blocks.detect(symbols, noise, scrambling, frame).ravel()
        return np.clip(llr[:llr.size - filling * self.bits_per_symbol], -MAX_LLR, MAX_LLR)

    def _information_bits(self, packets: Packets) -> np.ndarray:
        """uint8: header, payload, CRC and padding of each packet in turn."""
        stream = np.zeros(int(self._padded_bits(packets).sum()), np.uint8)
        for packet, (start, first, end) in enumerate(self._spans(packets)):
            stream[first:end] = packets.bits[packet, :end - first]
            stream[end:end + self.crc_bits] = crc(stream[start:end], self.crc)
        return stream

    def _padded_bits(self, packets: Packets) -> np.ndarray:
        """int64 [num_packets]: bits of whole code blocks, or of whole symbols."""
        bits, _ = self._unit
        return -(-self.bits_on_air(packets) // bits) * bits

    def _spans(self, packets: Packets) -> Iterator[tuple[int, int, int]]:
        """Of each packet in the stream of information bits: where its header starts, its payload starts, and its payload ends."""
        padded = self._padded_bits(packets)
        starts = np.cumsum(padded) - padded
        for start, payload_bits in zip(starts.tolist(), packets.num_bits.tolist(), strict=True):
            first = start + packets.header_bits
            yield start, first, first + payload_bits


def ldpc_rates(block_bits: int) -> tuple[Fraction, Fraction]:
    """Lowest and highest code rate of the 5G LDPC code without repetition.

    Base graph 2 reaches down to 1/5, up to 3824 bits; base graph 1 down to 1/3.

    Source: 3GPP TS 38.212, sections 5.3.2, 5.4.2.1 and 7.2.2 (2018).
    """
    lowest = Fraction(1, 5) if block_bits <= 3824 else Fraction(1, 3)
    # closer to 1 some graphs of small blocks do not give back their punctured bits even without noise
    highest = HIGHEST_SMALL_RATE if block_bits <= LONGEST_SMALL_BLOCK else Fraction(948, 1024)
    return lowest, highest
