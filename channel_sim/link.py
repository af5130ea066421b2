"""The coded link: CRC, error correction, QAM, fading and noise, and soft decisions on the other side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from channel_sim import codes, mapping
from channel_sim.checks import RequestError
from channel_sim.codes import LdpcBackend
from channel_sim.crc import CRC_BITS, CrcName, crc
from channel_sim.fading import Flat, Propagation
from channel_sim.interleaving import air_order
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.link_law import LinkLaw, flat_snr_shares
from channel_sim.ofdm import ChannelKnowledge, Fading, propagation
from channel_sim.sionna_blocks import CodeName, FrameFormat
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import Packets

MAX_LLR = 49.0
"""A link is never certain: certain is 50."""
OF_THE_CODE = {"block_bits", "code_rate", "num_iterations", "ldpc_backend", "list_size"}
MEANT_BY_CODE = {"uncoded": set[str](), "ldpc": OF_THE_CODE - {"list_size"}, "polar": {"block_bits", "code_rate", "list_size"},
                 "convolutional": {"block_bits", "code_rate"}, "turbo": {"block_bits", "code_rate", "num_iterations"}}
OF_FLAT_FADING = {"fading_block_symbols", "rician_k_db"}
OF_OFDM = {"delay_spread_ns", "carrier_ghz", "speed_kmh", "subcarrier_spacing_khz", "num_subcarriers", "cyclic_prefix_samples",
           "symbols_per_slot", "channel_knowledge"}
MEANT_BY_FADING = {"awgn": set[str](), "rayleigh": set[str](), "rayleigh_block": {"fading_block_symbols"},
                   "rician_block": OF_FLAT_FADING}


@dataclass(frozen=True, eq=False)
class Received:
    """What the receiver has of one item before it decodes for good. Rows are code blocks, or symbols where there is no code.

    llr:       float32 [num_rows, code_bits] from the channel, unscrambled; of all transmissions of a row, added up
    posterior: float32 [num_rows, info_bits], as decoded after the last transmission of each row; None: not decoded yet
    snr_db:    float64 [num_fades], Es|h|^2/N0 of each fade
    first:     (bool [num_packets], how many of the fades): whose CRC failed when sent once, and what that met; None: sent only once
    """

    llr: np.ndarray
    posterior: np.ndarray | None
    snr_db: np.ndarray
    first: tuple[np.ndarray, int] | None = None


class CodedLink(Channel):
    """A radio link from packets to soft bits: what is sent in one channel use is one complex symbol of mean energy Es = 1.

        header + payload ─▶ CRC ─▶ code blocks ─▶ encoder ─▶ scrambling ─▶ QAM ─▶ interleaving ─▶ ·h ─▶ +n
        payload LLRs ◀── CRC check ◀── decoder ◀── unscrambling ◀── demapper ◀── deinterleaving ◀── /h ◀─┘

    A packet starts a code block, or when uncoded a symbol; what it does not fill is zeros, charged as padding. The code word
    of a block is `block_bits / code_rate` bits rounded to whole symbols, and all rates, Eb/N0 among them, are those after rounding.
    Es/N0 = Eb/N0 * code_rate * bits per symbol, of the code alone: overheads are charged as uses and energy. y = h x + n with
    E|h|^2 = 1 and E|n|^2 = N0; BPSK lies on the real axis of the same complex symbol, so its Pb is Q(sqrt(2 Es/N0)).
    Fades, noise and scrambling run along the item's symbols, drawn first and scaled after. A packet whose CRC failed is sent
    again, up to `max_transmissions` times in all, after every packet of the round before, and the LLRs of its code bits add up.
    """

    revision: ClassVar[int] = 3
    source: ClassVar[str] = (
        "3GPP TS 38.211, 38.212 (LDPC, polar, CRC, QAM), TR 38.901 (TDL, CDL); J. Hoydis et al., \"Sionna: An Open-Source Library "
        "for Next-Generation Physical Layer Research\", arXiv:2203.11854 (2022); D. Chase, IEEE Trans. Commun. 33 (1985)")

    code: CodeName = Field("ldpc", description="none, 5G LDPC, 5G polar (list decoder), or one convolutional and one turbo code")
    block_bits: int = Field(512, ge=1, description="information bits of a code block, CRC included; not of uncoded")
    code_rate: float = Field(0.5, gt=0, lt=1, description="information bits per coded bit; ignored when uncoded")
    num_iterations: int = Field(20, ge=1, le=1000, description="of LDPC belief propagation, or what equals them; or of turbo")
    ldpc_backend: LdpcBackend = Field("auto", description="belief propagation by Sionna, layered in numba, or by the machine")
    list_size: int = Field(8, ge=1, le=64, description="paths of the polar decoder")
    crc: CrcName = Field("crc16", description="one CRC a packet, over header and payload, charged")
    modulation: Literal["bpsk", "qpsk", "qam16", "qam64", "qam256"] = Field("qpsk", description="Gray-labelled constellation")
    interleave_blocks: int = Field(1, ge=1, le=4096, description="code blocks whose symbols take turns on the air; 1: none")
    fading: Fading = Field("awgn", description="none, flat fading, or TDL and CDL channels over OFDM")
    fading_block_symbols: int = Field(64, ge=1, description="symbols of one fading block; of rayleigh_block and rician_block")
    rician_k_db: float = Field(6.0, ge=-60, le=60, description="line of sight over the rest, power ratio in dB; of rician_block")
    delay_spread_ns: float = Field(100.0, ge=0, le=1e5, description="rms delay spread; of tdl and cdl")
    carrier_ghz: float = Field(3.5, gt=0, le=100, description="carrier frequency; of tdl and cdl")
    speed_kmh: float = Field(3.0, ge=0, le=1000, description="speed of the receiver; of tdl and cdl")
    subcarrier_spacing_khz: float = Field(15.0, gt=0, le=960, description="of OFDM; of tdl and cdl")
    num_subcarriers: int = Field(72, ge=1, le=1024, description="of OFDM; of tdl and cdl")
    cyclic_prefix_samples: int = Field(6, ge=0, description="cyclic prefix of an OFDM symbol, in 1/num_subcarriers of it, charged")
    symbols_per_slot: int = Field(14, ge=3, le=28, description="OFDM symbols of a slot, two of them pilots, charged")
    channel_knowledge: ChannelKnowledge = Field("perfect", description="of the receiver on tdl and cdl: given, or from pilots")
    esno_db: float | None = Field(None, ge=-60, le=100, description="Es/N0 in dB, mean over fades; or give ebno_db")
    ebno_db: float | None = Field(None, ge=-60, le=100, description="Eb/N0 in dB of the code alone; or give esno_db")
    on_crc_failure: Literal["erase", "deliver"] = Field("erase", description="a failed packet is lost, or delivered with its LLRs")
    max_transmissions: int = Field(1, ge=1, le=64, description="of a packet until its CRC fits, LLRs added up (chase combining)")

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
        if self.crc == "none" and self.max_transmissions > 1:
            raise ValueError(f'max_transmissions = {self.max_transmissions} needs a CRC, got crc = "none": choose a crc, '
                             "or max_transmissions = 1")
        if self.on_crc_failure == "deliver" and self.code not in codes.SOFT_OUTPUT:
            raise ValueError(f'on_crc_failure = "deliver" needs soft decisions, and the list decoder of code = "{self.code}" gives '
                             f'hard ones: use on_crc_failure = "erase", or a code of {", ".join(codes.SOFT_OUTPUT)}')
        return self

    @model_validator(mode="after")
    def _has_a_code(self) -> Self:
        codes.check(self.code, self.block_bits, self.code_rate)
        if self.code != "uncoded" and self.block_bits <= CRC_BITS[self.crc]:
            raise ValueError(f"block_bits must exceed the {CRC_BITS[self.crc]} bits of {self.crc}, got {self.block_bits}")
        return self

    @model_validator(mode="after")
    def _has_a_way(self) -> Self:
        assert self.propagation is not None  # refuses by itself what cannot be
        return self

    @property
    def assumptions(self) -> tuple[str, ...]:  # type: ignore[override]
        """What is taken for granted under the values at hand."""
        return tuple(_assumptions(self))

    @property
    def ignored_fields(self) -> frozenset[str]:
        ignored = {"esno_db" if self.esno_db is None else "ebno_db"} | (OF_THE_CODE - MEANT_BY_CODE[self.code])
        ignored |= (OF_FLAT_FADING | OF_OFDM) - MEANT_BY_FADING.get(self.fading, OF_OFDM)
        return frozenset(ignored if self._interleaves else ignored | {"interleave_blocks"})

    @property
    def _interleaves(self) -> bool:
        """Where every symbol meets the same law by itself, or there are no blocks, the order changes nothing."""
        return self.code != "uncoded" and self.fading not in ("awgn", "rayleigh")

    @property
    def bits_per_symbol(self) -> int:
        return mapping.BITS_PER_SYMBOL[self.modulation]

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

    def link_law(self) -> LinkLaw:
        way = self.propagation
        shares = flat_snr_shares(way.law, self.resolved_esno_db, way.rician_k_db) if isinstance(way, Flat) else None
        return LinkLaw(self.resolved_esno_db, self.resolved_ebno_db, self.snr_db, self.realised_code_rate,
                       self.realised_code_rate * self.bits_per_symbol / self._uses_a_symbol, shares)

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
    def takes_prior(self) -> bool:
        return self.code in codes.SOFT_OUTPUT

    @property
    def frame(self) -> FrameFormat:
        """One code block, or one symbol where there is no code."""
        return codes.frame_of(self.code, self.block_bits, self.code_rate, self.bits_per_symbol, num_iterations=self.num_iterations,
                              list_size=self.list_size, ldpc_backend=self.ldpc_backend)

    @property
    def propagation(self) -> Propagation:
        """The way from antenna to antenna."""
        return _propagation_of(*(getattr(self, name) for name in _PROPAGATION_FIELDS))

    @property
    def _uses_a_symbol(self) -> float:
        """Channel uses a data symbol, with its share of pilots and cyclic prefix."""
        capacity = getattr(self.propagation, "slot_capacity", 1)
        return self.propagation.num_uses(capacity) / capacity

    def side_uses(self, num_bits: int) -> int:
        # at the rate of the code, but in no code word of their own: what is told beside the packets goes along with one of them
        return int(np.ceil(num_bits * self._uses_a_symbol / (self.realised_code_rate * self.bits_per_symbol)))

    def channel_uses(self, num_bits: np.ndarray) -> np.ndarray:
        """int64: of each packet; over OFDM its share of whole slots, rounded up, as if others filled them."""
        return np.ceil(self._rows_of(num_bits) * self.frame.symbols * self._uses_a_symbol - 1e-9).astype(np.int64)

    def charge(self, packets: Packets) -> Ledger:
        """All packets of an item sent once, one after the other."""
        return replace(self._charge_again(packets, np.ones(packets.num_packets, bool)), repeated_bits=0,
                       coded_bits=int(packets.num_bits.sum()))

    def _charge_again(self, packets: Packets, sent: np.ndarray) -> Ledger:
        """The packets that bool [num_packets] `sent` marks, as ones that were sent before."""
        count, rows = int(sent.sum()), int(self._rows(packets)[sent].sum())
        padding = rows * self.frame.info_bits - int(self.bits_on_air(packets)[sent].sum())
        told = Ledger(header_bits=packets.header_bits * count, crc_bits=self.crc_bits * count, padding_bits=padding,
                      repeated_bits=int(packets.num_bits[sent].sum()), transmissions=count)
        return told + self.propagation.charges(rows * self.frame.symbols)

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [self._transmit(one, key) for one, key in zip(packets, keys, strict=True)]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """Posterior LLRs of packets whose CRC fits; of the others what channel and code say, without the prior."""
        packets, state = observation.packets, observation.state
        prior = self._known_padding(packets)
        if a_priori is not None:
            self._require_soft_output()
            prior = self._with_payload(packets, prior, a_priori)
        posterior = state.posterior
        if posterior is None or a_priori is not None:
            posterior = codes.decode(state.llr, prior, self.frame)
        crc_ok, decided = self._crc_ok(packets, posterior), posterior > 0
        if a_priori is not None:
            assert prior is not None
            checked = crc_ok & (self.crc != "none")  # unchecked bits stay evidence, which must not hold the prior
            posterior = np.where(np.repeat(checked, self._rows(packets))[:, None], posterior, posterior - prior)
        payload, stream = np.zeros(packets.bits.shape, np.float32), posterior.ravel()
        check = np.zeros((packets.num_packets, self.crc_bits), np.float32)
        for packet, (_, first, end) in enumerate(self._spans(packets)):
            payload[packet, :end - first] = stream[first:end]
            check[packet] = stream[end:end + self.crc_bits]
        detection = Detection(np.clip(payload, -MAX_LLR, MAX_LLR), crc_ok, snr_db=state.snr_db,
                              check_llr=np.clip(check, -MAX_LLR, MAX_LLR))
        if self.code == "uncoded":
            return detection
        wrong = (decided != self._information_rows(packets)).any(axis=1)
        of_packets = np.bincount(np.repeat(np.arange(packets.num_packets), self._rows(packets)), wrong, packets.num_packets)
        return replace(detection, num_blocks=wrong.size, block_errors=int(wrong.sum()),
                       packet_block_errors=of_packets.astype(np.int64))

    def _require_soft_output(self) -> None:
        if not self.takes_prior:
            raise RequestError(f'num_exchanges must be 0 for code = "{self.code}": its list decoder takes and gives no soft '
                               f'decisions; use a code of {", ".join(codes.SOFT_OUTPUT)}')

    def _transmit(self, packets: Packets, key: Key) -> Observation:
        rows, frame = self._rows(packets), self.frame
        words = codes.encode(self._information_rows(packets), frame)
        scrambling = key.child("scrambling").integers(2, words.size).astype(np.uint8).reshape(words.shape)
        llr, snr_db = self._carry(words, scrambling, key)
        ledger = self.charge(packets)
        if self.max_transmissions == 1:
            return Observation(packets, np.zeros(rows.size, bool), Received(llr, None, snr_db), ledger)
        padding = self._known_padding(packets)
        posterior, heard, failures = codes.decode(llr, padding, frame), [snr_db], list[np.ndarray]()
        for transmission in range(1, self.max_transmissions):
            failed = ~self._crc_ok(packets, posterior)
            failures.append(failed)
            again = np.repeat(failed, rows)
            if not again.any():
                break
            more, snr_db = self._carry(words[again], scrambling[again], key.child("transmission", transmission))
            llr[again] += more
            posterior[again] = codes.decode(llr[again], None if padding is None else padding[again], frame)
            heard.append(snr_db)
            ledger = ledger + self._charge_again(packets, failed)
        received = Received(llr, posterior, np.concatenate(heard), (failures[0], heard[0].size))
        return Observation(packets, np.zeros(rows.size, bool), received, ledger)

    def _carry(self, words: np.ndarray, scrambling: np.ndarray, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [num_rows, code_bits] LLRs of the code bits, float64 [num_fades] SNRs in dB) of uint8 [num_rows, code_bits]."""
        symbols = mapping.modulate(words ^ scrambling, self.bits_per_symbol)
        depth = self.interleave_blocks if self._interleaves else 1
        order = air_order([self.frame.symbols] * len(words), depth) if depth > 1 else slice(None)
        heard = self.propagation.carry(symbols[order], self.no, key)
        equalised, noise = np.empty_like(heard.symbols), np.empty_like(heard.noise)
        equalised[order], noise[order] = heard.symbols, heard.noise
        llr = mapping.demodulate(equalised, noise, self.bits_per_symbol).reshape(words.shape)
        return np.where(scrambling, -llr, llr), heard.snr_db

    def _crc_ok(self, packets: Packets, posterior: np.ndarray) -> np.ndarray:
        """bool [num_packets]. The CRC is linear: bits and their check fit if the check of both together is zero."""
        decided = posterior.ravel() > 0
        spans = self._spans(packets)
        return np.array([not np.any(crc(decided[start:end + self.crc_bits], self.crc)) for start, _, end in spans], bool)

    def _known_padding(self, packets: Packets) -> np.ndarray | None:
        """float32 [num_rows, info_bits], the decoder's prior: padding is zeros, of the rest nothing is known; None without any."""
        if self.code == "uncoded" or not self.takes_prior:
            return None
        ends = np.cumsum(self._rows(packets)) * self.frame.info_bits
        stream = np.zeros(int(ends[-1]) if ends.size else 0, np.float32)
        for packet, (_, _, end) in enumerate(self._spans(packets)):
            stream[end + self.crc_bits:ends[packet]] = -MAX_LLR
        return stream.reshape(-1, self.frame.info_bits) if stream.any() else None

    def _with_payload(self, packets: Packets, known: np.ndarray | None, a_priori: np.ndarray) -> np.ndarray:
        """float32 [num_rows, info_bits]: `known`, and what is told of the payload; nothing of header and CRC."""
        num_rows = int(self._rows(packets).sum())
        stream = np.zeros(num_rows * self.frame.info_bits, np.float32) if known is None else known.ravel().copy()
        for packet, (_, first, end) in enumerate(self._spans(packets)):
            stream[first:end] = a_priori[packet, :end - first]
        return stream.reshape(-1, self.frame.info_bits)

    def _information_rows(self, packets: Packets) -> np.ndarray:
        """uint8 [num_rows, info_bits]: header, payload, CRC and padding of each packet in turn."""
        stream = np.zeros(int(self._rows(packets).sum()) * self.frame.info_bits, np.uint8)
        for packet, (start, first, end) in enumerate(self._spans(packets)):
            stream[first:end] = packets.bits[packet, :end - first]
            stream[end:end + self.crc_bits] = crc(stream[start:end], self.crc)
        return stream.reshape(-1, self.frame.info_bits)

    def _rows_of(self, num_bits: np.ndarray) -> np.ndarray:
        return -(-np.asarray(num_bits, dtype=np.int64) // self.frame.info_bits)

    def _rows(self, packets: Packets) -> np.ndarray:
        """int64 [num_packets]: code blocks, or symbols, that each packet takes."""
        return self._rows_of(self.bits_on_air(packets))

    def _spans(self, packets: Packets) -> Iterator[tuple[int, int, int]]:
        """Of each packet in the stream of information bits: where its header starts, its payload starts, and its payload ends."""
        padded = self._rows(packets) * self.frame.info_bits
        starts = np.cumsum(padded) - padded
        for start, payload_bits in zip(starts.tolist(), packets.num_bits.tolist(), strict=True):
            first = start + packets.header_bits
            yield start, first, first + payload_bits


_PROPAGATION_FIELDS = ("fading", *sorted(OF_FLAT_FADING | OF_OFDM))


@lru_cache(maxsize=256)
def _propagation_of(*values: object) -> Propagation:
    return propagation(**dict(zip(_PROPAGATION_FIELDS, values, strict=True)))  # type: ignore[arg-type]


def _assumptions(link: CodedLink) -> Iterator[str]:
    if link.fading in MEANT_BY_FADING:
        yield "The receiver knows the fades and the noise power exactly, and is synchronised; no pilots are sent or charged."
    elif link.channel_knowledge == "perfect":
        yield ("The receiver knows the channel and the noise power exactly, and is synchronised; pilots and cyclic prefix are sent "
               "and charged all the same.")
    else:
        yield ("The receiver knows the noise power and the statistics of the channel (delays, powers, speed) exactly, and is "
               "synchronised; it estimates the channel from pilots, which are charged, and knows the variance of its error.")
    yield "A random scrambling sequence, known at both ends and not charged, makes Es equal to 1 in the mean whatever is sent."
    if link.code != "uncoded" and link.takes_prior:
        yield "Where a packet ends is known: the zeros that fill its last code block are sent, charged, and certain to the decoder."
    yield "Headers are sent as zeros and charged; their content is taken as received unless the packet is lost."
    if link.fading in ("rayleigh_block", "rician_block"):
        yield ("A fading block is a fixed number of symbols of the item's stream; packets may share one and blocks fade "
               "independently.")
    if link.fading not in MEANT_BY_FADING:
        yield "The cyclic prefix covers all delays and the channel is constant over an OFDM symbol: subcarriers do not interfere."
    if link.max_transmissions > 1:
        yield "Acknowledgements are free, immediate and never wrong; packets sent again meet fades of their own."
