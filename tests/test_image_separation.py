"""The separation baseline: equal uses, cliffs where the code has them, and an envelope that only rises."""

from functools import cache

import numpy as np
import pytest

import scenarios
from channel_sim.bler_measurement import wrong_blocks
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from scenarios.python_api import Results
from scenarios.scenario import load, read_shipped

pytestmark = pytest.mark.sionna
POINTS = [0.0, 4.0, 10.0]
BITS_PER_USE = {f"{name} {rate}": bits * value for name, bits in (("QPSK", 2), ("16-QAM", 4), ("64-QAM", 6))
                for rate, value in (("1/3", 1 / 3), ("1/2", 1 / 2), ("2/3", 2 / 3))}


@cache
def run() -> Results:
    tables = read_shipped("image_separation_awgn")
    return scenarios.run(tables | {"items": 2, "sweep": {"channel.esno_db": POINTS}})


def means(metric: str, esno_db: float) -> dict[str, float]:
    return {row.arm: row.mean for row in run().find(metric, esno_db=esno_db)}


def test_all_arms_take_the_same_channel_uses():
    """Catches budgets that forget CRC, padding or the preamble, and a file that fills its blocks by half."""
    uses = means("channel_uses_per_pixel", 10.0)
    assert uses.keys() == BITS_PER_USE.keys()
    assert max(uses.values()) <= 1.02 * 5760 / 128**2
    assert np.mean(list(uses.values())) >= 0.96 * 5760 / 128**2


@pytest.mark.parametrize("esno_db", POINTS)
def test_a_scheme_survives_where_its_code_does(esno_db):
    """Catches a dB convention off by the bits of a symbol or the code rate: no scheme survives above capacity (Shannon 1948), all
    do that need less than .75 of it."""
    capacity = np.log2(1 + 10 ** (esno_db / 10))
    lost = means("undecodable_rate", esno_db)
    for arm, bits in BITS_PER_USE.items():
        if bits > capacity:
            assert lost[arm] == 1, arm
        elif bits < 0.75 * capacity:
            assert lost[arm] == 0, arm


@pytest.mark.parametrize(("arm", "esno_db"), [("QPSK 1/3", 0.0), ("QPSK 1/2", 0.0), ("QPSK 2/3", 4.0), ("16-QAM 1/3", 4.0),
                                              ("16-QAM 2/3", 10.0), ("64-QAM 1/2", 10.0)])
def test_at_the_cliff_pictures_go_with_the_blocks_of_another_decoder(arm, esno_db):
    """Catches a decoder, or a budget, that moves the cliff: 60 random blocks of the same code, decoded by Sionna's belief
    propagation, lose no more than two where every picture came through, and nearly all where none did."""
    task = next(one for one in load("image_separation_awgn").tasks if one.arm == arm and one.sweep["channel.esno_db"] == esno_db)
    assert isinstance(task.chain.channel, CodedLink)
    link = task.chain.channel.model_copy(update={"ldpc_backend": "sionna"})
    wrong = int(wrong_blocks(link, 60, Key(5).child(arm)).sum())
    shown = 1 - means("undecodable_rate", esno_db)[arm]
    assert shown == (wrong <= 2) if shown in (0, 1) else 2 < wrong < 60
    assert wrong <= 2 or wrong >= 20


def test_lost_pictures_are_those_whose_blocks_were_lost():
    """Catches a picture that is shown although its blocks are not there, and one that is not although all are."""
    for esno_db in POINTS:
        packets, pictures = means("packet_loss_rate", esno_db), means("undecodable_rate", esno_db)
        assert all((packets[arm] == 0) == (pictures[arm] == 0) for arm in packets)


def test_the_envelope_rises_with_the_power():
    """Catches an envelope of the wrong direction, and power that does harm."""
    best = [max(means("psnr_db", esno_db).values()) for esno_db in POINTS]
    assert best == sorted(best) and best[-1] > best[0] + 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image_tokens_loss", "image_redundancy"])
def test_tokens_and_codecs_meet_the_losses_at_equal_uses(name):
    """Catches parity as long as the longest packet that nobody counted, and budgets that no file fills: means over all pictures."""
    tables = read_shipped(name)
    found = scenarios.run(tables | {"replicates": 1, "sweep": {"channel.loss_rate": [0.0]}}).find("channel_uses_per_pixel")
    uses = [row.mean for row in found]
    assert len(uses) == len(tables["arm"]) and max(uses) <= 1.025 * min(uses)


@pytest.mark.slow
def test_soft_tokens_meet_their_rivals_at_equal_uses():
    """Catches a code that takes more of the air than what goes uncoded, and a compressed arm that takes less, as means."""
    tables = read_shipped("image_soft_tokens")
    found = scenarios.run(tables | {"sweep": {"channel.esno_db": [10.0]}}).find("channel_uses_per_pixel")
    uses = {row.arm: row.mean for row in found}
    assert len(uses) == len(tables["arm"]) == 4 and max(uses.values()) <= 1.01 * min(uses.values()), uses
