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
from scenarios.scenario import load, shipped
from sources.fixed_length import FixedLength
from tests.chains import ENTRIES, ROOT, chain_of, chain_with, deliver, hear, heard, tables_with

LOSSLESS = {"ideal"}
"""Entries around which nothing is lost; what a protection leaves over is chance, so it is not asked to leave something."""
SHIPPED_ARMS = [(name, task.arm) for name in shipped() for task in load(name).tasks if task.point_index == 0]


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


@cache
def short(name: str) -> dict[str, Chain]:
    """The arms of a shipped scenario at its worst point, with short items."""
    loaded = load(name)
    key, length = ("item_bytes", 256) if hasattr(loaded.tasks[0].chain.source, "item_bytes") else ("num_symbols", 400)
    loaded = load(name, {f"source.{key}": length})
    return {task.arm: task.chain for task in loaded.tasks}


@pytest.mark.parametrize(("name", "arm"), SHIPPED_ARMS)
def test_no_arm_of_a_shipped_scenario_knows_what_it_was_not_sent(name: str, arm: str):
    """Catches what only shows where components meet: parity, context of other packets, soft bits."""
    assert leaks(short(name)[arm]) == []


SENT: list[Tokens] = []
CALLS: list[int] = []


class LeavesTokensBehind(FixedLength):
    """Remembers what it sent last and reads it at the other end."""

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        SENT[:] = tokens
        return super().encode(tokens)

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
