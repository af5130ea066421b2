"""Closed forms that belong on a scenario's axes: which chain meets the conditions of which formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from channel_sim import theory
from channel_sim.link import CodedLink
from channel_sim.losses import PacketLoss
from channel_sim.protection import NoProtection
from channel_sim.store import Curve
from channel_sim.trial import Chain
from scenarios.scenario import Scenario
from sources.coder import FixedLength
from sources.synthetic import Markov

_FAR_APART = 64
"""Packets between symbols of one packet, from which their erasures count as independent: λ^64 is nothing."""
Value = tuple[str, str, float, str]


def reference_curves(scenario: Scenario) -> list[Curve]:
    """One value a sweep point and closed form, from the first arm that meets the form's conditions."""
    found: dict[tuple[int, str, str], Curve] = {}
    for task in scenario.tasks:
        for label, metric, value, source in _closed_forms(task.chain):
            found.setdefault((task.point_index, label, metric), Curve(task.point_index, label, metric, value, source))
    return list(found.values())


def _closed_forms(chain: Chain) -> Iterator[Value]:
    yield from _markov_concealment(chain)
    yield from _uncoded_link(chain)


def _markov_concealment(chain: Chain) -> Iterator[Value]:
    """Independent erasures of single symbols: lost packets of one symbol, or packets whose symbols lie far apart."""
    if not (isinstance(chain.source, Markov) and isinstance(chain.channel, PacketLoss) and isinstance(chain.coder, FixedLength)):
        return
    far_apart = chain.coder.interleave and chain.source.num_symbols // chain.coder.packet_bits >= _FAR_APART
    isolated = chain.coder.packet_bits == 1 or far_apart
    if not isolated or chain.channel.slot_bits is not None or not isinstance(chain.protection, NoProtection):
        return
    loss, flip = chain.channel.loss_rate, chain.source.flip_probability
    cases: tuple[tuple[Literal[0, 1, 2], str], ...] = ((2, "optimum, both sides"), (1, "optimum, past only"), (0, "no model"))
    for sides, label in cases:
        error = theory.markov_map_error(flip, loss, sides)
        yield label, "recovered_fraction", 1 - error, "symbol-wise MAP of a symmetric Markov source over independent erasures"
        yield label, "token_error_rate", loss * error, "symbol-wise MAP of a symmetric Markov source over independent erasures"


def _uncoded_link(chain: Chain) -> Iterator[Value]:
    channel = chain.channel
    if not (isinstance(channel, CodedLink) and channel.code == "uncoded" and channel.fading in ("awgn", "rayleigh_block")):
        return
    order = {"bpsk": 2, "qpsk": 4, "qam16": 16, "qam64": 64}[channel.modulation]
    fading: Literal["awgn", "rayleigh"] = "awgn" if channel.fading == "awgn" else "rayleigh"
    error = theory.qam_bit_error_probability(order, channel.resolved_ebno_db, fading)
    yield "uncoded, closed form", "bit_error_rate", error, "exact bit error probability of Gray-labelled QAM"
