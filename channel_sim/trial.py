"""Items through one chain: the sending half, the channel between, the receiving half, and what is measured of them.

The receiving half is a function of receptions, preambles and its own keys; nothing else is handed to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.metrics import Measurement, Truth, measure
from channel_sim.stages import Channel, Coder, Component, Decoder, Delivery, Evaluator, Protection, Source, Tokenizer
from channel_sim.types import Content, Evidence, Item, Origin, Packets, Preamble, Reception, Reconstruction, Tokens

SUREST_LLR = 8.0
"""As sure as a bit may be where a prior is made of what the decoder says beyond it. A posterior in float32 ends near e^-16; of a
bit that takes all of that for itself the prior would be 0, and the channel decoder would fall back to what it heard alone."""
_Shaped = TypeVar("_Shaped", Preamble, Evidence, Reconstruction)


class Receiver(Component):
    """What the receiver does around its decoder."""

    revision: ClassVar[int] = 3

    abstain_below: float = Field(0.0, ge=0, le=1, description="restored tokens of lower confidence are given up (LOST)")
    num_exchanges: int = Field(0, ge=0, le=64, description="times that the decoder's posterior goes back to the channel as a prior")


@dataclass(frozen=True)
class Chain:
    """One component a stage; an evaluator judges what came out, where there is one."""

    source: Source
    tokenizer: Tokenizer
    coder: Coder
    protection: Protection
    channel: Channel
    decoder: Decoder
    receiver: Receiver = Receiver()
    evaluator: Evaluator | None = None


@dataclass(frozen=True, eq=False)
class Sent:
    """One item on the sending side."""

    index: int
    item: Item
    tokens: Tokens
    packets: Packets
    preamble: Preamble


@dataclass(frozen=True, eq=False)
class Heard:
    """Some items past the channel: what was delivered, and what the coder makes of it. It depends on no decoder."""

    deliveries: list[Delivery]
    evidence: list[Evidence]


@dataclass(frozen=True, eq=False)
class Received:
    """One item on the receiving side."""

    evidence: Evidence
    reconstruction: Reconstruction
    content: Content
    missing: np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trial: both sides, what was measured, and what it cost.

    features: float32 [2, d] of the original and of what came out, by the evaluator; None where it has none
    """

    sent: Sent
    delivery: Delivery
    received: Received
    measurement: Measurement
    ledger: Ledger
    features: np.ndarray | None = None


def send(chain: Chain, indices: Sequence[int], root: Key) -> list[Sent]:
    """The sending half: items to packets. It depends on the source, the tokenizer and the coder alone."""
    keys = [root.child("item", index) for index in indices]
    items = chain.source.items(indices, [key.child("source") for key in keys])
    return encode(chain, items, indices, keys)


def encode(chain: Chain, items: Sequence[Item], indices: Sequence[int], keys: Sequence[Key]) -> list[Sent]:
    """Given items to packets; `keys` are the items' own."""
    tokens = [chain.tokenizer.encode(item, key.child("shared")) for item, key in zip(items, keys, strict=True)]
    coded = chain.coder.encode(tokens)
    return [Sent(index, item, of_item, packets, _shaped(preamble, of_item.content_shape))
            for index, item, of_item, (packets, preamble) in zip(indices, items, tokens, coded, strict=True)]


def carry(chain: Chain, sent: Sequence[Sent], replicate: int, root: Key) -> Heard:
    """Send what is coded through protection and channel; it depends on neither decoder nor receiver, so arms may share it."""
    over_the_air = [root.child("item", one.index).child("channel", replicate) for one in sent]
    deliveries = chain.protection.send([one.packets for one in sent], chain.channel, over_the_air)
    return Heard(deliveries, _evidence(chain.coder, [one.reception for one in deliveries], [one.preamble for one in sent]))


def receive(chain: Chain, receptions: Sequence[Reception], preambles: Sequence[Preamble], keys: Sequence[Key],
            replicate: int) -> list[Received]:
    """The receiving half: receptions to content. `keys` are the items' own; only `shared` and `decoder` are drawn from."""
    return restore(chain, _evidence(chain.coder, receptions, preambles), keys, replicate)


def _evidence(coder: Coder, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
    return [_shaped(one, preamble.content_shape)
            for one, preamble in zip(coder.receive(receptions, preambles), preambles, strict=True)]


def _shaped(record: _Shaped, content_shape: tuple[int, ...]) -> _Shaped:
    """The record with the shape of the content, which goes past coder and decoder: neither has a use for it."""
    return record if record.content_shape == content_shape else replace(record, content_shape=content_shape)


def restore(chain: Chain, evidence: Sequence[Evidence], keys: Sequence[Key], replicate: int) -> list[Received]:
    """The end of the receiving half: evidence to content."""
    shared = [key.child("shared") for key in keys]
    drawn = [key.child("decoder", replicate) for key in keys]
    restored = [_abstain(one, chain.receiver.abstain_below) for one in chain.decoder.restore(evidence, drawn)]
    received = []
    for known, unshaped, both, own in zip(evidence, restored, shared, drawn, strict=True):
        reconstruction = _shaped(unshaped, known.content_shape)
        content, missing = chain.tokenizer.decode(reconstruction, both)
        content = chain.decoder.mend(content, missing, own)
        received.append(Received(known, reconstruction, content, missing))
    return received


def exchange(chain: Chain, heard: Heard, preambles: Sequence[Preamble], keys: Sequence[Key], replicate: int) -> Heard:
    """Once around: what the decoder infers beyond its evidence is a prior of the channel decoder, which then hears better.

    Extrinsic both ways: neither is told again what it said itself. A packet whose CRC has fitted once stays as it is.
    Where a code block did not converge, what it says beyond its prior still depends on it: an approximation.

    Source: J. Hagenauer, "Source-controlled channel decoding", IEEE Trans. Commun. 43 (1995).
    """
    evidence = [_doubted(one) for one in heard.evidence]
    inferred = chain.decoder.restore(evidence, [key.child("decoder", replicate) for key in keys])
    deliveries = [_detected_again(chain.coder, *sides)
                  for sides in zip(heard.deliveries, evidence, inferred, preambles, strict=True)]
    return Heard(deliveries, _evidence(chain.coder, [one.reception for one in deliveries], preambles))


def _detected_again(coder: Coder, delivery: Delivery, evidence: Evidence, inferred: Reconstruction,
                    preamble: Preamble) -> Delivery:
    if delivery.again is None:
        raise RequestError('num_exchanges must be 0 with a protection, which stands before the channel: use protection "none"')
    if inferred.posterior is None and not evidence.known.all():
        raise RequestError("num_exchanges must be 0 with a decoder that states no posterior; use one that does, such as ngram")
    return delivery if evidence.known.all() else delivery.again(coder.a_priori(evidence, inferred, preamble))


def _doubted(evidence: Evidence) -> Evidence:
    if evidence.bit_llr is None:
        return evidence
    return replace(evidence, bit_llr=np.clip(evidence.bit_llr, -SUREST_LLR, SUREST_LLR))


def run(chain: Chain, sent: Sequence[Sent], replicate: int, root: Key, heard: Heard | None = None) -> list[Outcome]:
    """Send what is coded through the channel, unless it was `heard` before, receive it, and measure; one outcome an item."""
    heard = heard or carry(chain, sent, replicate, root)
    keys, preambles = [root.child("item", one.index) for one in sent], [one.preamble for one in sent]
    for _ in range(chain.receiver.num_exchanges):
        heard = exchange(chain, heard, preambles, keys, replicate)
    received = restore(chain, heard.evidence, keys, replicate)
    return [_outcome(chain, *sides) for sides in zip(sent, heard.deliveries, received, strict=True)]


def _outcome(chain: Chain, sent: Sent, delivery: Delivery, received: Received) -> Outcome:
    ledger = delivery.ledger + _own_charges(chain, sent)
    truth = Truth(sent.item, sent.tokens, sent.packets)
    measured = measure(truth, received.evidence, received.reconstruction, received.content, ledger, delivery.counts,
                       missing=received.missing)
    if chain.evaluator is None:
        return Outcome(sent, delivery, received, measured, ledger)
    measured.update(chain.evaluator.measure(sent.item, received.content, received.missing))
    features = chain.evaluator.features(sent.item, received.content)
    return Outcome(sent, delivery, received, measured, ledger, features)


def _own_charges(chain: Chain, sent: Sent) -> Ledger:
    preamble_bits = sent.preamble.num_bits
    uses = chain.channel.side_uses(preamble_bits)
    return Ledger(
        source_symbols=sent.item.content.size if isinstance(sent.item.content, np.ndarray) else len(sent.item.content),
        token_bits=sent.tokens.values.size * sent.tokens.bits_per_token,
        ideal_bits=sent.packets.ideal_bits or 0.0,
        head_bits=sent.packets.head_bits,
        shared_bits=8 * (chain.tokenizer.shared_bytes + chain.coder.shared_bytes),
        preamble_bits=preamble_bits,
        channel_uses=uses,
        energy=float(uses),
    )


def _abstain(reconstruction: Reconstruction, threshold: float) -> Reconstruction:
    doubtful = (reconstruction.confidence < threshold) & (reconstruction.origin != Origin.RECEIVED)
    if not np.any(doubtful):
        return reconstruction
    return replace(
        reconstruction,
        values=np.where(doubtful, 0, reconstruction.values),
        origin=np.where(doubtful, Origin.LOST, reconstruction.origin).astype(np.uint8),
        confidence=np.where(doubtful, 0, reconstruction.confidence),
    )
