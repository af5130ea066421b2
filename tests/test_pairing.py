"""Common random numbers: what nature does has one address, whoever watches; arms and sweep points share items, losses and noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import PacketLoss, PacketLossChannel
from channel_sim.trial import Chain, Sent, run, send
from scenarios import catalogue
from tests.chains import ENTRIES, ROOT, chain_of, chain_with, tables_with

Draw = tuple[Any, ...]
"""(path of labels, what was drawn, shape but for the first axis): draws are prefix-stable along the first axis alone."""
SEVERITY: dict[str, tuple[float, float]] = {
    "loss_rate": (0.1, 0.4), "flip_probability": (0.02, 0.2), "erasure_probability": (0.1, 0.4), "esno_db": (3.0, -2.0)}
"""Keys of channels that say how bad it is: (better, worse). Items are damaged in nested ways along them."""
CHANNELS = list(catalogue.CATALOGUE["channels"])
SEVERE = [(name, key) for name in CHANNELS for key in SEVERITY if key in catalogue.CATALOGUE["channels"][name].model_fields]
NESTED = [(name, key) for name, key in SEVERE if key != "esno_db"]


@contextmanager
def spied() -> Iterator[set[Draw]]:
    """All draws from keys, by the path of labels that leads to them."""
    paths: dict[bytes, tuple[Any, ...]] = {ROOT._digest: ()}
    drawn: set[Draw] = set()
    child = Key.child

    def noted(self: Key, *labels: Any) -> Key:
        key = child(self, *labels)
        if self._digest in paths:
            paths[key._digest] = paths[self._digest] + labels
        return key

    def spy(name: str) -> Any:
        method = getattr(Key, name)

        def draw(self: Key, *arguments: int) -> Any:
            shape = arguments[1:] if name == "integers" else arguments
            drawn.add((paths.get(self._digest, ("unknown",)), name, shape[1:]))
            return method(self, *arguments)
        return draw

    with pytest.MonkeyPatch.context() as patch:
        spies = {name: spy(name) for name in ("uniform", "normal", "complex_normal", "integers", "seed")}
        patch.setattr(Key, "child", noted)
        for name, one in spies.items():
            patch.setattr(Key, name, one)
        yield drawn


def draws_of(chain: Chain, part: str) -> set[Draw]:
    """What a trial of items 0 and 1 draws below `part` of the items' keys: source, shared, channel or decoder."""
    with spied() as drawn:
        run(chain, send(chain, [0, 1], ROOT), 0, ROOT)
    assert all(path[:1] == ("item",) for path, *_ in drawn), "every draw of a trial belongs to an item"
    return {one for one in drawn if one[0][2] == part}


def with_parts(kind: str, name: str, **tables: dict[str, Any]) -> Chain:
    return chain_of(tables_with(kind, name) | tables)


def items_of(sent: list[Sent]) -> list[bytes]:
    return [one.item.content if isinstance(one.item.content, bytes) else one.item.content.tobytes() for one in sent]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_what_nature_does_has_one_address_whoever_decodes(kind: str, name: str):
    """Catches a decoder, a receiver or a packet size in the path of a loss, a noise or an item."""
    chain = chain_with(kind, name)
    others = [with_parts(kind, name, receiver={"abstain_below": 0.9})]
    if kind != "decoders":
        others.append(with_parts(kind, name, decoder={"name": "most_frequent"}))
    else:
        others.append(with_parts(kind, name, decoder={"name": "none"}))
    if kind not in ("coders", "models", "protections"):
        others.append(with_parts(kind, name, coder={"name": "fixed_length", "packet_bits": 128}))
    for part in ("source", "shared", "channel"):
        own = draws_of(chain, part)
        assert all(draws_of(other, part) == own for other in others)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_arms_meet_the_same_items_and_losses(kind: str, name: str):
    """Catches arms that compare different items, and receptions that depend on who decodes them."""
    chain, other = chain_with(kind, name), with_parts(kind, name, decoder={"name": "repeat_last"})
    mine, theirs = (run(one, send(one, [0, 1], ROOT), 0, ROOT) for one in (chain, other))
    assert items_of([one.sent for one in mine]) == items_of([one.sent for one in theirs])
    for a, b in zip(mine, theirs, strict=True):
        assert np.array_equal(a.delivery.reception.llr, b.delivery.reception.llr)
        assert np.array_equal(a.delivery.reception.lost, b.delivery.reception.lost)


@pytest.mark.parametrize("name", catalogue.CATALOGUE["protections"])
def test_protected_arms_meet_the_losses_of_unprotected_ones(name: str):
    """Catches parity or copies that draw a channel of their own for the packets that an unprotected arm sends as well."""
    protected, bare = chain_with("protections", name), chain_with("protections", "none")
    assert draws_of(bare, "channel") <= draws_of(protected, "channel")


@pytest.mark.parametrize("name", CHANNELS)
def test_a_longer_item_meets_the_same_channel_for_longer(name: str):
    """Catches draws that depend on how many packets follow: losses of the first ones must stay."""
    short, long = chain_with("channels", name), with_parts("channels", name, source={"name": "text", "item_bytes": 192})
    for one, other in zip(run(short, send(short, [0], ROOT), 0, ROOT), run(long, send(long, [0], ROOT), 0, ROOT), strict=True):
        lost, longer = one.delivery.reception.lost, other.delivery.reception.lost
        if isinstance(short.channel, PacketLossChannel) and name != "cut_off":  # which takes a part of the item, however long
            assert np.array_equal(longer[:lost.size], lost)
    assert draws_of(short, "channel") == draws_of(long, "channel")


@pytest.mark.parametrize(("name", "key"), SEVERE)
def test_points_of_a_sweep_meet_the_same_draws(name: str, key: str):
    """Catches a loss rate or an Es/N0 in the path of a draw, and noise that is drawn at its power rather than scaled."""
    better, worse = (_at(name, key, value) for value in SEVERITY[key])
    assert draws_of(better, "channel") == draws_of(worse, "channel") != set()


@pytest.mark.parametrize(("name", "key"), NESTED)
def test_damage_is_nested_along_a_sweep(name: str, key: str):
    """Catches thresholds on the wrong side: what is hit at the better point must be hit at the worse one as well."""
    better, worse = (_at(name, key, value) for value in SEVERITY[key])
    for a, b in zip(*(run(chain, send(chain, range(4), ROOT), 0, ROOT) for chain in (better, worse)), strict=True):
        few, many = (_hit(one.delivery.reception, one.sent) for one in (a, b))
        assert not np.any(few & ~many) and few.sum() < many.sum()


def _at(name: str, key: str, value: float) -> Chain:
    tables = tables_with("channels", name)
    own = {"crc": "none"} if name in ("bsc", "bec") else {}
    return chain_of(tables | {"channel": tables["channel"] | own | {key: value}})


def _hit(reception: Any, sent: Sent) -> np.ndarray:
    """bool [num_packets, max_bits]: bits that did not arrive as sent."""
    width = sent.packets.bits.shape[1]
    inside = np.arange(width) < sent.packets.num_bits[:, None]
    llr = np.pad(reception.llr, [(0, 0), (0, width - reception.llr.shape[1])])
    return inside & ((llr == 0) | ((llr > 0) != sent.packets.bits))


class NamesItsRate(PacketLoss):
    """Draws other losses at every rate."""

    def lost_packets(self, num_packets: int, key: Key) -> np.ndarray:
        return super().lost_packets(num_packets, key.child(f"at {self.loss_rate}"))


class DrawsByPacketSize(PacketLoss):
    """Draws as many numbers a packet as it has bits: other packets, other losses."""

    def _draw(self, num_packets: int, size: int, key: Key) -> np.ndarray:
        return key.uniform(num_packets, size)[:, 0] < self.loss_rate

    def transmit(self, packets: Any, keys: Any) -> Any:
        found = super().transmit(packets, keys)
        return [replace(one, lost=self._draw(one.packets.num_packets, one.packets.bits.shape[1], key))
                for one, key in zip(found, keys, strict=True)]


def test_negative_control_unpaired_channels_are_caught():
    """The spy must tell: a rate in the path of a draw, and draws that depend on the size of packets."""
    base = chain_with("channels", "packet_loss")
    rates = [draws_of(replace(base, channel=NamesItsRate(loss_rate=rate)), "channel") for rate in (0.1, 0.4)]
    assert rates[0] != rates[1]
    large = with_parts("channels", "packet_loss", coder={"name": "fixed_length", "packet_bits": 128})
    sizes = [draws_of(replace(one, channel=DrawsByPacketSize()), "channel") for one in (base, large)]
    assert sizes[0] != sizes[1]
