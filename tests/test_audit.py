"""The audit for hidden information: the receiving half is a function of receptions, preambles and its own keys, nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import Ideal, PacketLossChannel
from channel_sim.protection import NoProtection
from channel_sim.stages import Decoder, Observation
from channel_sim.trial import Chain, Sent, send
from channel_sim.types import Evidence, Origin, Packets, Preamble, Reception, Reconstruction, Tokens
from decoders.lm_beam import LmBeam
from scenarios.scenario import load, shipped
from sources.coder import Entropy
from sources.fixed_length import FixedLength
from sources.models.from_coder import FromCoder
from sources.models.model import MaskedModel
from sources.models.ngram import NGram
from sources.text import python_docs
from tests.chains import ENTRIES, NEEDED, ROOT, chain_of, chain_with, deliver, files, hear, heard, tables_with

LOSSLESS = {"ideal"}
"""Entries around which nothing is lost; what a protection leaves over is chance, so it is not asked to leave something."""


def _is_slow(chain: Chain) -> bool:
    """A coder that writes needs 256 encodings a token."""
    return isinstance(getattr(chain.decoder, "model", None), FromCoder)


SHIPPED_ARMS = [pytest.param(name, task.arm, marks=pytest.mark.slow if _is_slow(task.chain) else [])
                for name in shipped() for task in load(name).tasks if task.point_index == 0]


def leaks(chain: Chain) -> list[str]:
    """Ways in which the receiver knows what it was not sent; [] if none is found."""
    sent = send(chain, [0, 1], ROOT)
    deliveries = deliver(chain, sent)
    alone = heard(hear(chain, deliveries, sent))
    found = []
    deliver(chain, send(chain, [2, 3], ROOT))
    if heard(hear(chain, deliveries, sent)) != alone:
        found.append("what is sent later changes what was heard")
    fresh = pickle.loads(pickle.dumps([(one.reception, two.preamble) for one, two in zip(deliveries, sent, strict=True)]))
    copies = [replace(one, reception=reception) for one, (reception, _) in zip(deliveries, fresh, strict=True)]
    preambles = [replace(one, preamble=preamble) for one, (_, preamble) in zip(sent, fresh, strict=True)]
    if [heard(hear(chain, [one], [two]))[0] for one, two in zip(copies, preambles, strict=True)] != alone:
        found.append("copies of the same receptions, one by one, are heard otherwise")
    if any(np.any(one.reception.llr[one.reception.lost]) or np.any(one.reception.header[one.reception.lost] != -1)
           for one in deliveries):
        found.append("something of a lost packet is received")
    return found + _leaks_of_lost_packets(chain, sent)


def _leaks_of_lost_packets(chain: Chain, sent: list[Sent]) -> list[str]:
    """With other tokens in lost packets the receiver must hear the same. Needs packets that are whole or lost, and no parity."""
    if not isinstance(chain.channel, PacketLossChannel) or not isinstance(chain.protection, NoProtection):
        return []
    found = []
    for one, delivery in zip(sent, deliver(chain, sent), strict=True):
        before = heard(hear(chain, [delivery], [one]))
        other = _other_in_lost_packets(chain, one, delivery.reception.lost)
        (swapped,) = deliver(chain, [other])
        if not (np.array_equal(swapped.reception.llr, delivery.reception.llr)
                and np.array_equal(swapped.reception.header, delivery.reception.header)):
            found.append("what was in a lost packet changes the reception")
        elif heard(hear(chain, [swapped], [other])) != before:
            found.append("what was in a lost packet changes what is heard")
    return found


def _other_in_lost_packets(chain: Chain, one: Sent, lost: np.ndarray) -> Sent:
    """The item as sent but for its lost packets: other tokens, coded anew; other bits where the coder's packets would move."""
    if isinstance(chain.coder, FixedLength):
        values = one.tokens.values.copy()
        inside = np.concatenate([np.zeros(0, int), *(one.packets.positions(k) for k in np.flatnonzero(lost))]).astype(int)
        values[inside] = (values[inside] + 1) % one.tokens.vocab_size
        tokens = replace(one.tokens, values=values)
        ((packets, preamble),) = chain.coder.encode([tokens])
        return replace(one, tokens=tokens, packets=packets, preamble=replace(preamble, content_shape=tokens.content_shape))
    inside = np.arange(one.packets.bits.shape[1]) < one.packets.num_bits[:, None]
    return replace(one, packets=replace(one.packets, bits=one.packets.bits ^ (inside & lost[:, None])))


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_no_entry_of_the_catalogue_knows_what_it_was_not_sent(kind: str, name: str):
    """Catches truth that travels by caches, globals, shared arrays, widths or the losses themselves."""
    assert leaks(chain_with(kind, name)) == []


@pytest.mark.parametrize(("kind", "name"), [entry for entry in ENTRIES if entry[0] != "protections" and entry[1] not in LOSSLESS])
def test_every_entry_has_something_to_hide(kind: str, name: str):
    """Catches an audit over chains in which everything arrives: there is nothing that could leak."""
    chain = chain_with(kind, name)
    sent = send(chain, [0, 1], ROOT)
    evidence = [one.evidence for one in hear(chain, deliver(chain, sent), sent)]
    assert any(not np.all(one.known) for one in evidence)


SHORT = {"item_bytes": 256, "num_symbols": 400, "size": 32, "item_seconds": 0.25, "num_dimensions": 256}


@cache
def short(name: str) -> dict[str, Chain]:
    """The arms of a shipped scenario at its worst point, with short items."""
    loaded = load(name)
    key = next(key for key in SHORT if hasattr(loaded.tasks[0].chain.source, key))
    loaded = load(name, {f"source.{key}": SHORT[key]})
    return {task.arm: task.chain for task in loaded.tasks}


@pytest.mark.parametrize(("name", "arm"), SHIPPED_ARMS)
def test_no_arm_of_a_shipped_scenario_knows_what_it_was_not_sent(name: str, arm: str):
    """Catches what only shows where components meet: parity, context of other packets, soft bits."""
    assert leaks(short(name)[arm]) == []


def guided(beam_width: int) -> Chain:
    table = {"name": "lm_beam", "model": "ngram", "beam_width": beam_width, "guide": str(files() / NEEDED["masked"]["path"])}
    return chain_of({**tables_with("decoders", "lm_beam"), "decoder": table})


def test_a_guided_beam_knows_nothing_it_was_not_sent():
    """Catches a masked model beside the beam that is shown tokens which were lost."""
    assert leaks(guided(4)) == []


RECODED = [("independent", range(2, 5)), ("independent", range(3, 7)), ("mdc:2", range(3, 7)), ("mdc:3", range(2, 7))]
"""Of the seven packets of an item those that are lost: a run between others, and tails."""


class LosesThese(PacketLossChannel):
    """Loses the packets first, …, end - 1."""

    first: int
    end: int

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return np.isin(np.arange(num_packets), range(self.first, self.end))


def coded_chain(coder: Entropy, lost: range) -> Chain:
    tables = tables_with("decoders", "ngram") | {"source": {"name": "text", "item_bytes": 232}}
    return replace(chain_of(tables), coder=coder, channel=LosesThese(first=lost.start, end=lost.stop))


def recoded(coder: Entropy, one: Sent, lost: range) -> Sent:
    """The item with other text in the lost packets, as many packets with other token counts; those that arrive are as they were."""
    begin, end = one.packets.bounds[lost.start], one.packets.bounds[lost.stop]
    arrives = ~np.isin(np.arange(one.packets.num_packets), lost)
    text = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    for offset in range(0, 40_000, 97):
        values = one.tokens.values.copy()
        values[begin:end] = text[offset:offset + end - begin]
        tokens = replace(one.tokens, values=values)
        ((packets, preamble),) = coder.encode([tokens])
        if (packets.num_packets == one.packets.num_packets and not np.array_equal(packets.header, one.packets.header)
                and np.array_equal(packets.header[arrives], one.packets.header[arrives])):
            return replace(one, tokens=tokens, packets=packets, preamble=preamble)
    raise AssertionError("no other text is coded to as many packets")


def leaks_of_counts(chain: Chain, lost: range) -> list[str]:
    """Ways in which the receiver knows how the tokens of a run of lost packets were shared out among them."""
    assert isinstance(chain.coder, Entropy)
    (one,) = send(chain, [0], ROOT)
    (delivery,) = deliver(chain, [one])
    assert np.array_equal(np.flatnonzero(delivery.reception.lost), lost)
    before = heard(hear(chain, [delivery], [one]))
    other = recoded(chain.coder, one, lost)
    (swapped,) = deliver(chain, [other])
    same = [np.array_equal(getattr(swapped.reception, name), getattr(delivery.reception, name))
            for name in ("llr", "header", "crc_ok")]
    return (([] if all(same) and other.preamble == one.preamble else ["reception or preamble tells the counts"])
            + ([] if heard(hear(chain, [swapped], [other])) == before else ["what is heard tells the counts"]))


@pytest.mark.parametrize(("context", "lost"), RECODED)
def test_how_many_tokens_a_lost_packet_had_is_not_known(context: str, lost: range):
    """Catches token counts of lost packets that travel by the preamble, by the packets around them, or past the channel."""
    coder = Entropy(model=NGram(), packet_bits=96, context=context)
    assert leaks_of_counts(coded_chain(coder, lost), lost) == []


SENT: list[Tokens] = []
CALLS: list[int] = []


class Remembers(FixedLength):
    """Remembers what it sent last."""

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        SENT[:] = tokens
        return super().encode(tokens)


class LeavesTokensBehind(Remembers):
    """Reads it at the other end."""

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        found = super().receive(receptions, preambles)
        return [replace(one, known=np.ones(one.num_tokens, bool), values=sent.values) for one, sent in zip(found, SENT)]


class Counts(Decoder):
    """Guesses by how often it was called: it feels neighbours, and time."""

    def restore(self, evidence: Sequence[Evidence], keys: Sequence[Key]) -> list[Reconstruction]:
        CALLS.append(len(evidence))
        return [replace(one, values=np.where(one.lost, len(CALLS) % 256, one.values),
                        origin=np.where(one.lost, Origin.CONCEALED, one.origin).astype(np.uint8))
                for one in super().restore(evidence, keys)]


class LosesByContent(Ideal):
    """Loses packets by the number of their ones: a loss tells what was in it."""

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [replace(one, lost=one.packets.bits.sum(axis=1) % 3 == 0) for one in super().transmit(packets, keys)]


@pytest.mark.parametrize(("stage", "component", "leak"), [
    ("coder", LeavesTokensBehind(packet_bits=64), "sent later"), ("decoder", Counts(), "one by one"),
    ("channel", LosesByContent(), "in a lost packet")])
def test_negative_control_components_that_peek_are_caught(stage: str, component: Any, leak: str):
    """The audit must tell: each of these knows what it was not sent."""
    chain = replace(chain_of(tables_with("decoders", "none")), **{stage: component})
    assert any(leak in one for one in leaks(chain))


class TellsWhereItCut(Entropy):
    """Remembers where packets began when it sent them, and takes the first byte of each for a space at the other end."""

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        coded = super().encode(tokens)
        SENT[:] = [Tokens(packets.header[:, 1], 1 << 30) for packets, _ in coded]
        return coded

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        return [_with_spaces(*pair) for pair in zip(super().receive(receptions, preambles), SENT, strict=True)]


def _with_spaces(one: Evidence, firsts: Tokens) -> Evidence:
    at = np.isin(np.arange(one.num_tokens), firsts.values) & ~one.known
    return replace(one, known=one.known | at, values=np.where(at, 32, one.values))


@pytest.mark.parametrize(("context", "lost"), RECODED)
def test_negative_control_remembered_counts_are_caught(context: str, lost: range):
    """The audit must tell: this coder knows where the packets that were lost began."""
    coder = TellsWhereItCut(model=NGram(), packet_bits=96, context=context)
    assert leaks_of_counts(coded_chain(coder, lost), lost) == ["what is heard tells the counts"]


class KnowsWhatWasSent(MaskedModel):
    """A guide that is sure of what was sent last."""

    vocab_size: int = 256

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        chosen = [sent.values[places] for sent, places in zip(SENT, asked)]
        return [np.where(np.arange(256) == one[:, None], 65536 - 255, 1) for one in chosen]


def test_negative_control_a_guide_that_knows_is_caught():
    """The audit must tell: this beam holds what was sent."""
    chain = guided(1)
    assert isinstance(chain.decoder, LmBeam)
    cheat = chain.decoder.model_copy(update={"guide": KnowsWhatWasSent()})
    assert any("sent later" in one for one in leaks(replace(chain, coder=Remembers(packet_bits=64), decoder=cheat)))
