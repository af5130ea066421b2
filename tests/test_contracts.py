"""Laws that every entry of the catalogue must keep; a new component is picked up from there."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from channel_sim.stages import Component
from channel_sim.trial import Chain, run, send
from scenarios import catalogue
from tests.chains import ENTRIES, ROOT, chain_with, component_of


def outputs(chain: Chain, indices: range) -> list[Any]:
    """Everything that a trial gives, as plain comparable values."""
    results = []
    for one in run(chain, send(chain, indices, ROOT), 0, ROOT):
        arrays = (one.sent.tokens.values, one.sent.packets.bits, one.delivery.reception.llr, one.delivery.reception.lost,
                  one.received.reconstruction.values, one.received.reconstruction.origin, one.received.reconstruction.confidence)
        results.append(([array.tobytes() for array in arrays], one.measurement.values, one.ledger))
    return results


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_one_batch_of_eight_is_eight_batches_of_one(kind: str, name: str):
    """Catches items that feel their neighbours or the size of the batch, down to the last bit."""
    chain = chain_with(kind, name)
    assert outputs(chain, range(8)) == [one for i in range(8) for one in outputs(chain, range(i, i + 1))]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_components_are_frozen_hashable_picklable_records(kind: str, name: str):
    """Catches components that cannot be sent to a worker or used as a key."""
    component = component_of(chain_with(kind, name), kind)
    copy = pickle.loads(pickle.dumps(component))
    assert copy == component and hash(copy) == hash(component)
    with pytest.raises(ValueError, match="frozen"):
        component.revision_of_today = 1
    assert component.revision >= 1


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_components_say_what_they_are(kind: str, name: str):
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
