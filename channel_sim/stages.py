"""The interfaces of the chain, on one page.

A component is a frozen, validated record whose fields are the keys of its scenario table. All seams take lists of items;
the result of an item never depends on its neighbours, on the batch or on the number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from channel_sim.card import Card
from channel_sim.checks import RequestError
from channel_sim.crc import CRC_BITS, CrcName
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.link_law import LinkLaw
from channel_sim.loss_law import LossLaw
from channel_sim.metrics import Measurement
from channel_sim.types import (
    CERTAIN_LLR,
    Content,
    Evidence,
    Item,
    Packets,
    Preamble,
    ReceivedChecks,
    Reception,
    Reconstruction,
    Tokens,
    hard_decision,
)


class Component(BaseModel):
    """A part of the chain. Cheap, hashable and picklable: heavy state is built on first use and cached outside.

    `revision` is raised whenever the component's numbers change; `assumptions` are printed in every report that uses it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"must be a number, got {str(value).lower()}")
        return value

    @property
    def ignored_fields(self) -> frozenset[str]:
        """Fields that the values of others leave without meaning: they change no number and are not shown."""
        return frozenset()

    def assumed(self) -> tuple[str, ...]:
        """What the numbers assume at these values of the fields; printed in every report that uses it."""
        return self.assumptions

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files (data, weights) that this component's numbers depend on, by field name."""
        return {}

    @property
    def shared_bytes(self) -> int:
        """Bytes of the files (weights, vocabulary, dictionary) that both ends of a chain must hold for it, its fields' included."""
        fields = [getattr(self, name) for name in type(self).model_fields]
        return sum(field.shared_bytes for field in fields if isinstance(field, Component))


def _kinds(annotation: Any) -> set[Any]:
    """All types, and values of literals, that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


class Source(Component, ABC):
    """Where items come from. Item i is the same whenever, wherever and beside whatever it is drawn."""

    modality: ClassVar[str]

    @property
    def num_items(self) -> int | None:
        """How many items there are; None = as many as asked for."""
        return None

    @abstractmethod
    def items(self, indices: Sequence[int], keys: Sequence[Key]) -> list[Item]:
        """The items `indices`; keys[j] is item indices[j]'s own `source` key."""


class Tokenizer(Component, ABC):
    """Content to tokens and back."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of token values."""

    @abstractmethod
    def encode(self, item: Item, key: Key) -> Tokens:
        """Tokens of an item. `key` is the item's shared key: both ends may draw from it."""

    @abstractmethod
    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[Content, np.ndarray]:
        """(content, missing): what can be decoded, a stated constant elsewhere; `missing` bool marks the constant."""


class Coder(Component, ABC):
    """Tokens to packets and, at the other end, receptions to evidence.

    takes_posterior: `a_priori` makes a prior of payload bits out of what a decoder infers.
    """

    takes_posterior: ClassVar[bool] = False

    @abstractmethod
    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        """Packets and preamble of each item."""

    @abstractmethod
    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        """Evidence for each item. Packets that can't be decoded become unknown tokens, never exceptions."""

    def coded_bits(self, tokens: Sequence[Tokens]) -> np.ndarray:
        """int64 [items]: payload bits that `encode` makes of each; overridden where they can be told with less work."""
        return np.array([int(packets.num_bits.sum()) for packets, _ in self.encode(tokens)], np.int64)

    def a_priori(self, evidence: Evidence, reconstruction: Reconstruction, preamble: Preamble) -> np.ndarray:
        """float32 [num_packets, max_bits]: extrinsic LLRs of payload bits, what the decoder knows beyond the evidence it had."""
        raise RequestError(f"num_exchanges must be 0 with coder {type(self).__name__}: bits of its packets are no bits of single "
                           'tokens; use coder "fixed_length"')


@dataclass(frozen=True, eq=False)
class Observation:
    """What a channel did to one item: `state` is the channel's own; `lost` bool [num_packets]; `ledger` what was charged."""

    packets: Packets
    lost: np.ndarray
    state: Any
    ledger: Ledger


@dataclass(frozen=True, eq=False)
class Detection:
    """Every packet as the detector saw it, before lost ones are blanked: for measuring only, never handed to a decoder.

    llr float32 [num_packets, max_bits] of the payload; crc_ok bool; check_llr float32 [num_packets, bits of the CRC] of the CRC
    itself (None: the channel keeps it); num_blocks and block_errors count code blocks (None: no code);
    snr_db float64 [num_fades], Es|h|^2/N0 of each independent fade that the item met (None: not a radio link);
    packet_block_errors int64 [num_packets], block_errors packet by packet, of channels that a prior helps.
    """

    llr: np.ndarray
    crc_ok: np.ndarray
    num_blocks: int | None = None
    block_errors: int | None = None
    snr_db: np.ndarray | None = None
    packet_block_errors: np.ndarray | None = None
    check_llr: np.ndarray | None = None

    def with_packets_of(self, other: Detection, chosen: np.ndarray) -> Detection:
        """The packets that bool [num_packets] `chosen` marks as `other` has them, the rest as they are."""
        llr, crc_ok = np.where(chosen[:, None], other.llr, self.llr), np.where(chosen, other.crc_ok, self.crc_ok)
        mixed = replace(self, llr=llr, crc_ok=crc_ok)
        if self.check_llr is not None and other.check_llr is not None:
            mixed = replace(mixed, check_llr=np.where(chosen[:, None], other.check_llr, self.check_llr))
        if self.packet_block_errors is None or other.packet_block_errors is None:
            return mixed
        errors = np.where(chosen, other.packet_block_errors, self.packet_block_errors)
        return replace(mixed, packet_block_errors=errors, block_errors=int(errors.sum()))


class Channel(Component, ABC):
    """What hurts packets. The base class charges uses, checks CRCs and blanks what is lost; a channel does its one thing.

    On packet-level channels one bit is one channel use.
    """

    crc: CrcName = Field("none", description="one CRC a packet, over header and payload, charged")

    @abstractmethod
    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        """Send each item's packets; keys[j] is item j's channel key of this replicate."""

    @abstractmethod
    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """LLRs of every payload bit. `a_priori` float32 [num_packets, max_bits]: extrinsic LLRs from a prior."""

    @property
    def erases_on_crc_failure(self) -> bool:
        """A packet whose CRC failed is lost (True) or delivered with its LLRs (False)."""
        return False

    @property
    def takes_prior(self) -> bool:
        """`detect` can be told a prior."""
        return True

    @property
    def erasure_only(self) -> bool:
        """Every packet is either missing, and known to be, or taken as sent: what packet parity needs."""
        return self.erases_on_crc_failure and self.crc != "none"

    def loss_law(self) -> LossLaw | None:
        """What the channel's loss process says of itself, to be held against what is measured; None: it has no closed form."""
        return None

    def link_law(self) -> LinkLaw | None:
        """Es/N0, Eb/N0 and SNR of a radio link, and the law of its fades; None: it is none."""
        return None

    @final
    def receive(self, observation: Observation, a_priori: np.ndarray | None = None) -> Reception:
        """What the receiver has: detection, less what was lost."""
        return self.deliver(observation, self.detect(observation, a_priori))

    @final
    def deliver(self, observation: Observation, detection: Detection) -> Reception:
        """Blank what is lost and hand over the rest."""
        packets = observation.packets
        lost = observation.lost | (~detection.crc_ok if self.erases_on_crc_failure else False)
        arrived_bits = packets.num_bits[~lost]
        width = int(arrived_bits.max()) if arrived_bits.size else 0
        llr = np.clip(detection.llr[:, :width], -CERTAIN_LLR, CERTAIN_LLR, dtype=np.float32)
        if np.any(arrived_bits < width):
            llr[np.arange(width) >= packets.num_bits[:, None]] = -CERTAIN_LLR
        llr[lost] = 0
        checks = None
        if detection.check_llr is not None:
            check_llr = np.where(lost[:, None], 0, np.clip(detection.check_llr, -CERTAIN_LLR, CERTAIN_LLR))
            checks = ReceivedChecks(check_llr.astype(np.float32), np.where(lost, 0, packets.num_bits), self.crc)
        return Reception(
            llr=llr,
            lost=lost,
            crc_ok=detection.crc_ok & ~lost,
            header=np.where(lost[:, None], -1, packets.header).astype(np.int32),
            crc_checked=self.crc != "none",
            checks=checks,
        )

    @property
    def crc_bits(self) -> int:
        return CRC_BITS[self.crc]

    def bits_on_air(self, packets: Packets) -> np.ndarray:
        """int64 [num_packets]: header, payload and CRC of each packet."""
        return packets.header_bits + packets.num_bits.astype(np.int64) + self.crc_bits

    def channel_uses(self, num_bits: np.ndarray) -> np.ndarray:
        """Channel uses that packets of `num_bits` (header, payload and CRC) take, one number a packet."""
        return np.asarray(num_bits, dtype=np.int64)

    def side_uses(self, num_bits: int) -> int:
        """Channel uses of a few bits that are told beside the packets (preamble, side information)."""
        return num_bits

    def charge(self, packets: Packets) -> Ledger:
        """What sending these packets once costs."""
        sent = self.bits_on_air(packets)
        uses = int(self.channel_uses(sent).sum())
        return Ledger(coded_bits=int(packets.num_bits.sum()), header_bits=packets.header_bits * packets.num_packets,
                      crc_bits=self.crc_bits * packets.num_packets, channel_uses=uses, transmissions=packets.num_packets,
                      energy=float(uses))


@dataclass(frozen=True, eq=False)
class Delivery:
    """One item after protection: `reception` is all that the receiver gets; `ledger` and `counts` are for the record.

    counts: metric name -> (numerator, denominator), of what the channel and the protection did.
    card:   what the losses on the air looked like.
    again:  the same observation, detected anew with a prior float32 [num_packets, max_bits] on the bits of the coder's packets;
            None where protection stands between. Packets whose CRC has fitted once are kept as they were then.
    """

    reception: Reception
    ledger: Ledger
    counts: dict[str, tuple[float, float]] = field(default_factory=dict)
    card: Card | None = None
    again: Callable[[np.ndarray], Delivery] | None = None


class Protection(Component, ABC):
    """Redundancy around the channel: parity, copies, retransmission.

    detects_again: its deliveries can be detected anew with a prior.
    """

    detects_again: ClassVar[bool] = False

    def check(self, channel: Channel) -> None:
        """Refuse, with a `RequestError`, a channel that this protection cannot work with."""

    @abstractmethod
    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        """Send each item's packets, with redundancy; the receptions are of the coder's packets again."""


class Decoder(Component, ABC):
    """An inference rule for p(tokens | y) ∝ p_model(tokens) · p(y | tokens). Damage is normal input.

    states_posterior: its reconstructions have a posterior.
    """

    states_posterior: ClassVar[bool] = True

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        """Tokens from evidence; what is not overridden is the hard decision of decoder `none`."""
        return [hard_decision(one) for one in evidence]

    def mend(self, content: Content, missing: np.ndarray, key: Key) -> Content:
        """Fill what is missing in pixel or sample space; by default nothing."""
        return content


class Evaluator(Component, ABC):
    """Judges what came out by what it shows. It stands on the measuring side: it knows the truth, and no receiver hears of it.

    It has no key: what it says of a content is the same in every trial.
    """

    @abstractmethod
    def measure(self, item: Item, content: Content, missing: np.ndarray) -> Measurement:
        """Its own metrics of one trial, or the reasons why they are not defined. `missing` marks what could not be decoded."""

    def features(self, item: Item, content: Content) -> np.ndarray | None:
        """float32 [2, d]: what the item's content and what came out are like, for distances between sets; None: not its kind."""
        return None
