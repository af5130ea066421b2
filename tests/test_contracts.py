"""Laws that every entry of the catalogue must keep; a new component is picked up from there."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import PacketLossChannel
from channel_sim.protection import NoProtection
from channel_sim.stages import Component
from channel_sim.trial import Chain, Delivery, Sent, receive, run, send
from scenarios import catalogue
from scenarios.scenario import STAGES, load, shipped

TEXT = {"name": "text", "item_bytes": 96}
BITS = {"name": "markov", "flip_probability": 0.1, "num_symbols": 96}
ENTRIES = [(kind, name) for kind, classes in catalogue.CATALOGUE.items() for name in classes]
ROOT = Key(11)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "trace.txt").write_text("0010110001" * 20)
    (folder / "some.bin").write_bytes(bytes(range(256)) * 40)
    return folder


def tables_with(kind: str, name: str, files: Path) -> dict[str, Any]:
    """A small lossy chain around the component `name`."""
    symbols = "markov" in name or name in ("symbols", "bernoulli")
    tables: dict[str, Any] = {"question": "?", "items": 8, "arm": [{"label": "a"}], "source": BITS if symbols else TEXT,
                              "channel": {"name": "packet_loss", "loss_rate": 0.2},
                              "coder": {"name": "fixed_length", "packet_bits": 64, "interleave": True}}
    own: dict[str, Any] = {"name": name}
    if name in ("bytes_file", "loss_trace"):
        own["path"] = str(files / ("some.bin" if name == "bytes_file" else "trace.txt"))
    if name == "coded_link":
        own |= {"esno_db": 4.0, "block_bits": 64}
    if name == "exact_hidden_markov":
        tables["source"] = {"name": "hidden_markov", "num_symbols": 96}
    if kind == "models":
        tables["coder"] = {"name": "entropy", "packet_bits": 128, "model": name}
    elif kind != "receivers":
        tables[next(stage for stage, plural in STAGES.items() if plural == kind)] = own
    return tables


def chain_with(kind: str, name: str, files: Path) -> Chain:
    return load(tables_with(kind, name, files)).tasks[0].chain


def outputs(chain: Chain, indices: range) -> list[Any]:
    """Everything that a trial gives, as plain comparable values."""
    results = []
    for one in run(chain, send(chain, indices, ROOT), 0, ROOT):
        arrays = (one.sent.tokens.values, one.sent.packets.bits, one.delivery.reception.llr, one.delivery.reception.lost,
                  one.received.reconstruction.values, one.received.reconstruction.origin, one.received.reconstruction.confidence)
        results.append(([array.tobytes() for array in arrays], one.measurement.values, one.ledger))
    return results


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_one_batch_of_eight_is_eight_batches_of_one(kind: str, name: str, files: Path):
    """Catches items that feel their neighbours or the size of the batch, down to the last bit."""
    chain = chain_with(kind, name, files)
    assert outputs(chain, range(8)) == [one for i in range(8) for one in outputs(chain, range(i, i + 1))]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_components_are_frozen_hashable_picklable_records(kind: str, name: str, files: Path):
    """Catches components that cannot be sent to a worker or used as a key."""
    component = component_of(chain_with(kind, name, files), kind)
    copy = pickle.loads(pickle.dumps(component))
    assert copy == component and hash(copy) == hash(component)
    with pytest.raises(ValueError, match="frozen"):
        component.revision_of_today = 1
    assert component.revision >= 1


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_components_say_what_they_are(kind: str, name: str, files: Path):
    """Catches entries that `channel-sim list` would show without a word, and keys without a description."""
    cls = catalogue.CATALOGUE[kind][name]
    assert cls.__doc__ and cls.__doc__ != Component.__doc__
    for key, field in cls.model_fields.items():
        assert field.description or key in ("path", "model"), f"{name}.{key} has no description"


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_field_but_a_path_has_a_default(kind: str, name: str):
    """Catches components that cannot be named without reading their source."""
    required = {key for key, field in catalogue.CATALOGUE[kind][name].model_fields.items() if field.is_required()}
    assert required <= {"path"}


def component_of(chain: Chain, kind: str) -> Component:
    if kind == "models":
        return chain.coder.model
    return getattr(chain, next(stage for stage, plural in STAGES.items() if plural == kind))


SHIPPED_ARMS = [(name, task.arm) for name in shipped() for task in load(name).tasks if task.point_index == 0]


@cache
def short(name: str) -> dict[str, Chain]:
    """The arms of a shipped scenario at its worst point, with short items."""
    loaded = load(name)
    key, length = ("item_bytes", 256) if hasattr(loaded.tasks[0].chain.source, "item_bytes") else ("num_symbols", 400)
    loaded = load(name, {f"source.{key}": length})
    return {task.arm: task.chain for task in loaded.tasks}


@pytest.mark.parametrize(("name", "arm"), SHIPPED_ARMS)
def test_the_receiver_sees_only_what_it_was_sent(name: str, arm: str):
    """The audit for hidden information: receptions, preambles and receiver keys of one item, while the transmitting half has
    meanwhile sent another, longer or shorter one. Catches truth that travels by caches, globals or shared arrays."""
    chain = short(name)[arm]
    sent = send(chain, [0, 1], ROOT)
    deliveries = deliver(chain, sent)
    alone = heard(chain, deliveries, sent)
    deliver(chain, send(chain, [2, 3], ROOT))  # the transmitter goes on to other items
    assert heard(chain, deliveries, sent) == alone
    fresh = pickle.loads(pickle.dumps([(one.reception, two.preamble) for one, two in zip(deliveries, sent, strict=True)]))
    assert [receive(chain, [r], [p], [ROOT.child("item", i)], 0)[0].reconstruction.values.tobytes()
            for i, (r, p) in enumerate(fresh)] == [values for values, _ in alone]


@pytest.mark.parametrize(("name", "arm"), SHIPPED_ARMS)
def test_lost_packets_tell_nothing(name: str, arm: str):
    """Catches receptions that keep something of what was lost: all rows of lost packets must be the same whatever was sent."""
    chain = short(name)[arm]
    for delivery in deliver(chain, send(chain, [0, 1], ROOT)):
        reception = delivery.reception
        assert not np.any(reception.llr[reception.lost]) and np.all(reception.header[reception.lost] == -1)
        arrived = reception.llr[~reception.lost]
        assert reception.llr.shape[1] == 0 or np.any(arrived[:, -1])


@pytest.mark.parametrize(("name", "arm"), SHIPPED_ARMS)
def test_what_a_lost_packet_carried_changes_nothing(name: str, arm: str):
    """Catches truth that leaks out of lost packets: with other bits in them, the receiver must hear exactly the same."""
    chain = short(name)[arm]
    if not isinstance(chain.channel, PacketLossChannel) or not isinstance(chain.protection, NoProtection):
        pytest.skip("here what was lost is needed to know what arrived: parity, or noise on every bit")
    (sent,) = send(chain, [0], ROOT)
    (delivery,) = deliver(chain, [sent])
    inside = np.arange(sent.packets.bits.shape[1]) < sent.packets.num_bits[:, None]
    other = sent.packets.bits ^ (inside & delivery.reception.lost[:, None])
    (swapped,) = deliver(chain, [replace(sent, packets=replace(sent.packets, bits=other))])
    assert np.array_equal(swapped.reception.llr, delivery.reception.llr)
    assert np.array_equal(swapped.reception.header, delivery.reception.header)
    assert heard(chain, [swapped], [sent]) == heard(chain, [delivery], [sent])


def deliver(chain: Chain, sent: list[Sent]) -> list[Delivery]:
    keys = [ROOT.child("item", one.index, "channel", 0) for one in sent]
    return chain.protection.send([one.packets for one in sent], chain.channel, keys)


def heard(chain: Chain, deliveries: list[Delivery], sent: list[Sent]) -> list[tuple[bytes, bytes]]:
    received = receive(chain, [one.reception for one in deliveries], [one.preamble for one in sent],
                       [ROOT.child("item", one.index) for one in sent], 0)
    return [(one.reconstruction.values.tobytes(), one.reconstruction.confidence.tobytes()) for one in received]
