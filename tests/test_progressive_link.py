"""One progressive stream over a lossy link: equal uses, every prefix shown, a beginning that survives."""

from functools import cache

import numpy as np
import pytest

import scenarios
from channel_sim.keys import Key
from channel_sim.trial import encode
from scenarios.python_api import Results
from scenarios.scenario import Task, load, read_shipped

STREAM = ["DiffC, no protection", "DiffC, any 15 of 20", "DiffC, layers"]


def uses(task: Task) -> float:
    """Mean channel uses over the scenario's pictures, of all that is charged."""
    chain, root = task.chain, Key(1)
    keys = [root.child("item", index) for index in range(17)]
    sent = encode(chain, chain.source.items(range(17), keys), range(17), keys)
    deliveries = chain.protection.send([one.packets for one in sent], chain.channel, keys)
    return float(np.mean([delivery.ledger.channel_uses + chain.channel.side_uses(one.preamble.num_bits)
                          for one, delivery in zip(sent, deliveries, strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize("name, unsent", [
    ("diffc_progressive_link", set()),
    pytest.param("diffc_progressive_fades", {"AVIF, any 9 of 20"}, marks=pytest.mark.sionna)])
def test_all_arms_take_the_same_channel_uses(name, unsent):
    """Catches side information, preambles, CRCs and padding that one arm is charged for and another is not: means within 1 %
    over all pictures, but where some have no file."""
    found = {task.arm: uses(task) for task in load(name).tasks if task.point_index == 0}
    equal = {arm: count for arm, count in found.items() if arm not in unsent}
    assert max(equal.values()) <= 1.01 * found["DiffC, layers"] and min(equal.values()) >= 0.99 * found["DiffC, layers"], found
    assert all(found[arm] < found["DiffC, layers"] for arm in unsent)


@cache
def run() -> Results:
    tables = read_shipped("diffc_progressive_link")
    kept = {key: tables[key] for key in tables if key not in ("arm", "envelopes")}
    arms = [arm for arm in tables["arm"] if arm["label"] in STREAM]
    return scenarios.run(kept | {"arm": arms, "items": 8, "replicates": 1, "sweep": {"channel.loss_rate": [0.0, 0.1, 0.3, 0.5]}})


def psnr(arm: str, loss_rate: float) -> float:
    (row,) = run().find("psnr_db", arm, loss_rate=loss_rate)
    return row.mean


@pytest.mark.slow
def test_with_its_beginning_protected_a_stream_loses_little_at_ten_per_cent():
    """Catches parity that takes too much, and layers that do not come back: within 1.5 dB of the stream without any loss, which the
    stream without protection is not."""
    whole = psnr("DiffC, no protection", 0.0)
    assert psnr("DiffC, any 15 of 20", 0.1) >= whole - 1.5 and psnr("DiffC, layers", 0.1) >= whole - 2
    assert psnr("DiffC, no protection", 0.1) < whole - 3


@pytest.mark.slow
def test_layers_fall_in_steps_where_one_code_has_a_cliff():
    """Catches layers that fall together: one rate keeps its quality up to 10 % and is gone at 30 %, layers are between."""
    cliff, steps = ([psnr(arm, rate) for rate in (0.1, 0.3, 0.5)] for arm in ("DiffC, any 15 of 20", "DiffC, layers"))
    assert cliff[0] - cliff[1] > 3 and steps[1] > cliff[1] + 2 and steps[2] > cliff[2] + 1
    assert all(np.isfinite(steps)) and steps == sorted(steps, reverse=True)


def test_a_stream_in_its_arms_is_one():
    """Catches arms that are told apart by more than what protects them: source, tokenizer, coder and decoder are the same."""
    for name, arms in (("diffc_progressive_link", STREAM[1:]),
                       ("diffc_progressive_fades", ["DiffC, any 11 of 20", "DiffC, layers"])):
        chains = [task.chain for task in load(name).tasks if task.arm in arms and task.point_index == 0]
        assert len(chains) == 2
        for stage in ("source", "tokenizer", "coder", "channel", "decoder"):
            assert getattr(chains[0], stage) == getattr(chains[1], stage)
