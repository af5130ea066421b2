"""The audit where packets arrive damaged or shift: other content behind the same signal must be heard alike, exchanges included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from channel_sim.bits import BinaryErasure, BinarySymmetric
from channel_sim.crc import crc, crc_of_flips
from channel_sim.keys import Key
from channel_sim.protection import NoProtection
from channel_sim.stages import Channel, Delivery, Detection, Observation
from channel_sim.trial import Chain, Outcome, Sent, run, send
from channel_sim.types import CERTAIN_LLR, Packets
from tests.chains import ROOT, chain_of, heard

TEXT = {"name": "text", "item_bytes": 128}
ENTROPY = {"name": "entropy", "packet_bits": 100}
FIXED = {"name": "fixed_length", "packet_bits": 240, "header_bits": 0}
FLIPS = {"name": "bsc", "flip_probability": 0.004, "soft": True, "crc": "crc16"}
HOLES = {"name": "bec", "erasure_probability": 0.04, "crc": "crc6"}
UNCODED = {"name": "coded_link", "code": "uncoded", "esno_db": 7.0, "on_crc_failure": "deliver"}
LDPC = {"name": "coded_link", "code": "ldpc", "block_bits": 200, "ebno_db": 0.0, "on_crc_failure": "deliver"}
TWICE = {"num_exchanges": 2}


def chain(channel: dict[str, Any], coder: dict[str, Any], receiver: dict[str, Any] | None = None) -> Chain:
    return chain_of({"question": "?", "items": 4, "arm": [{"label": "a"}], "source": TEXT, "channel": channel, "coder": coder,
                     "decoder": {"name": "ngram"}, "receiver": receiver or {}})


def repairing(repair: str, **fields: Any) -> dict[str, Any]:
    return {**ENTROPY, "repair": repair, "list_size": 128, **fields}


CHAINS = [
    *(pytest.param(channel, repairing(repair, context=context), None, id=f"{repair}, {context}, {channel['name']}")
      for repair, context in (("prefix", "independent"), ("list", "chained"), ("list", "mdc:2"))
      for channel in (FLIPS, HOLES, UNCODED)),
    pytest.param(HOLES | {"crc": "none"}, repairing("prefix"), None, id="prefix, no CRC, bec"),
    pytest.param(UNCODED | {"crc": "none"}, repairing("list"), None, id="list, no CRC, uncoded"),
    pytest.param(LDPC, repairing("list"), None, id="list, ldpc", marks=pytest.mark.sionna),
    pytest.param(FLIPS, {"name": "surprisal_uep", "packet_bits": 200}, None, id="surprisal_uep, bsc"),
    pytest.param(UNCODED | {"esno_db": 3.0}, FIXED, TWICE, id="exchanges, uncoded"),
    pytest.param(FLIPS, FIXED, TWICE, id="exchanges, bsc"),
    *(pytest.param(LDPC | {"crc": name}, FIXED, TWICE, id=f"exchanges, ldpc, {name}", marks=pytest.mark.sionna)
      for name in ("crc16", "none")),
]


class Replayed:
    """A channel over which the signal is already made: it hands out these observations."""

    def __init__(self, channel: Channel, observations: Sequence[Observation]) -> None:
        self._channel, self._observations = channel, observations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return list(self._observations)


def behind_the_same_signal(channel: Channel, observation: Observation, key: Key) -> Observation:
    """Other payloads, and the noise that makes of them what was received: a radio signal as it is, other flips, other erasures."""
    packets, state = observation.packets, observation.state
    inside = np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]
    change = (key.integers(2, *packets.bits.shape).astype(np.uint8) & inside).astype(np.uint8)
    if isinstance(channel, BinaryErasure):
        change = np.array([_within(channel, *row) for row in zip(state.payload, state.check, packets.num_bits.tolist())], np.uint8)
    other = replace(packets, bits=packets.bits ^ change)
    if isinstance(channel, BinarySymmetric):
        of_checks = np.array([crc(row[:size], channel.crc) ^ crc(new[:size], channel.crc)
                              for row, new, size in zip(packets.bits, other.bits, packets.num_bits)], bool)
        state = replace(state, payload=state.payload ^ (change > 0), check=state.check ^ of_checks)
    return replace(observation, packets=other, state=state)


def _within(channel: BinaryErasure, payload: np.ndarray, check: np.ndarray, num_bits: int) -> np.ndarray:
    """uint8 [max_bits]: a change of erased bits that leaves the CRC as it is wherever that was not erased; none may be there."""
    marks = crc_of_flips(num_bits, channel.crc).tolist()
    solved = dict[int, tuple[int, frozenset[int]]]()  # highest bit of a sum of marks -> it, and the places that make it
    for place in [*np.flatnonzero(payload[:num_bits]), *(num_bits + np.flatnonzero(check))]:
        mark, places = marks[place], frozenset([int(place)])
        while mark and mark.bit_length() in solved:
            other_mark, others = solved[mark.bit_length()]
            mark, places = mark ^ other_mark, places ^ others
        if mark:
            solved[mark.bit_length()] = mark, places
        elif min(places) < num_bits:
            return np.isin(np.arange(payload.size), [one for one in places if one < num_bits]).astype(np.uint8)
    return np.zeros(payload.size, np.uint8)


def behind(chain: Chain, sent: Sequence[Sent], observations: Sequence[Observation]) -> list[Outcome]:
    return run(replace(chain, channel=Replayed(chain.channel, observations)), sent, 0, ROOT)  # type: ignore[arg-type]


def both_ways(chain: Chain) -> tuple[list[Outcome], list[Outcome]]:
    """Two items as sent and heard, and two others behind the same signals, which the first preambles tell of."""
    sent, others = send(chain, [0, 1], ROOT), send(chain, [2, 3], ROOT)
    keys = [ROOT.child("item", one.index).child("channel", 0) for one in sent]
    observations = chain.channel.transmit([one.packets for one in sent], keys)
    swapped = [behind_the_same_signal(chain.channel, one, ROOT.child("swap", index)) for index, one in enumerate(observations)]
    assert any(not np.array_equal(*pair) for pair in ((one.packets.bits, two.packets.bits)
                                                      for one, two in zip(observations, swapped, strict=True)))
    behind_them = [replace(one, item=other.item, tokens=other.tokens, packets=observation.packets)
                   for one, other, observation in zip(sent, others, swapped, strict=True)]
    return behind(chain, sent, observations), behind(chain, behind_them, swapped)


def tells(chain: Chain) -> list[str]:
    """Ways in which the receiver tells apart what reached it alike; [] if none is found."""
    found = []
    for one, other in zip(*both_ways(chain), strict=True):
        if not same_reception(one.delivery, other.delivery):
            found.append("the reception tells what was sent")
        if heard([one.received]) != heard([other.received]):
            found.append("what is heard tells what was sent")
    return found


def same_reception(one: Delivery, other: Delivery) -> bool:
    mine, theirs = one.reception, other.reception
    pairs = [(getattr(mine, name), getattr(theirs, name)) for name in ("llr", "lost", "crc_ok", "header")]
    if mine.checks is not None and theirs.checks is not None:
        pairs += [(mine.checks.llr, theirs.checks.llr), (mine.checks.num_bits, theirs.checks.num_bits)]
    return all(np.array_equal(*pair) for pair in pairs) and (mine.checks is None) == (theirs.checks is None)


@pytest.mark.parametrize(("channel", "coder", "receiver"), CHAINS)
def test_what_was_sent_is_not_told_by_what_arrived_damaged(channel: dict[str, Any], coder: dict[str, Any],
                                                           receiver: dict[str, Any] | None):
    """Catches CRCs, repairs and priors that look at the bits sent where only the ones received may count."""
    assert tells(chain(channel, coder, receiver)) == []


@pytest.mark.parametrize(("channel", "coder", "receiver"), CHAINS)
def test_something_is_damaged_and_repaired(channel: dict[str, Any], coder: dict[str, Any], receiver: dict[str, Any] | None):
    """Catches an audit over chains in which there is nothing to detect anew, and one of repairs that never find anything."""
    arm = chain(channel, coder)  # before any exchange
    damaged = kept = 0
    for one in run(arm, send(arm, [0, 1], ROOT), 0, ROOT):
        reception, known = one.delivery.reception, one.received.evidence.known
        doubtful = ~reception.crc_ok | (not reception.crc_checked and np.any(np.abs(reception.llr) < CERTAIN_LLR))
        damaged += int(doubtful.sum())
        kept += sum(known[one.sent.packets.positions(packet)].any() for packet in np.flatnonzero(doubtful))
    assert damaged and (kept or "repair" not in coder)


class FitsIfRight(BinarySymmetric):
    """Its CRC fits where the payload is as sent, be the CRC itself damaged or not."""

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        return replace(super().detect(observation), crc_ok=~observation.state.payload.any(axis=1))


class ChecksAsSent(BinarySymmetric):
    """Hands over CRCs as they were sent."""

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        found = super().detect(observation)
        assert found.check_llr is not None
        return replace(found, check_llr=np.abs(found.check_llr) * (2.0 * self._checks(observation.packets) - 1))


class StopsWhereRight(NoProtection):
    """Keeps, on detecting anew, the packets that are as they were sent, and calls them certain."""

    def send(self, packets: Sequence[Packets], channel: Channel, keys: Sequence[Key]) -> list[Delivery]:
        return [self._stopping(*sides) for sides in zip(packets, super().send(packets, channel, keys), strict=True)]

    def _stopping(self, packets: Packets, delivery: Delivery) -> Delivery:
        def again(prior: np.ndarray) -> Delivery:
            assert delivery.again is not None
            anew = delivery.again(prior)
            llr = anew.reception.llr
            right = np.all((llr > 0) == packets.bits[:, :llr.shape[1]], axis=1)
            llr = np.where(right[:, None], CERTAIN_LLR * np.sign(llr), llr).astype(np.float32)
            return replace(anew, reception=replace(anew.reception, llr=llr), again=again)

        return replace(delivery, again=again)


IN_TRUTH: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "a CRC that fits where the payload is right": ("channel", FitsIfRight, repairing("list"), {}),
    "CRCs told as sent": ("channel", ChecksAsSent, repairing("prefix"), {}),
    "exchanges that stop where it is right": ("protection", StopsWhereRight, FIXED, TWICE),
}


@pytest.mark.parametrize("name", IN_TRUTH)
def test_negative_control_what_looks_at_the_bits_sent_is_caught(name: str):
    """The audit must tell: each of these knows the truth behind the signal."""
    stage, cheat, coder, receiver = IN_TRUTH[name]
    arm = chain(FLIPS | {"crc": "none" if receiver else "crc16"}, coder, receiver)
    component = cheat(**arm.channel.model_dump()) if stage == "channel" else cheat()
    assert tells(arm) == [] and tells(replace(arm, **{stage: component})) != []
