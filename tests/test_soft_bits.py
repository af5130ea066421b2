"""Text on the soft bits of an uncoded link: the shipped scenario's arms against closed forms, against one another and the rival."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from channel_sim.keys import Key
from channel_sim.trial import Chain, Outcome, run, send
from channel_sim.types import Origin
from scenarios.scenario import load
from tests.laws import assert_rate


def chain(arm: str, esno_db: float) -> Chain:
    return next(task.chain for task in load("soft_bits", {"channel.esno_db": esno_db}).tasks if task.arm == arm)


def outcomes(arm: str, esno_db: float, num_items: int) -> list[Outcome]:
    one = chain(arm, esno_db)
    return run(one, send(one, range(num_items), Key(7)), 0, Key(7))


def wrong(found: list[Outcome]) -> int:
    return sum(int(np.sum(one.received.reconstruction.values != one.sent.tokens.values)) for one in found)


@pytest.mark.parametrize(("esno_db", "published"), [(0.0, 0.4807), (2.0, 0.2635), (4.0, 0.0957), (6.0, 0.0189)])
def test_hard_decisions_of_bytes_are_the_closed_form(esno_db: float, published: float):
    """Catches noise of another variance, bits that are not independent, and an axis that is not what it says."""
    bit = norm.sf(np.sqrt(2 * 10 ** (esno_db / 10)))
    expected = 1 - (1 - bit) ** 8
    assert expected == pytest.approx(published, abs=5e-5)
    found = outcomes("hard decisions", esno_db, 40)
    assert_rate(wrong(found), sum(one.sent.tokens.values.size for one in found), expected)


def test_nothing_is_taken_as_received_where_nothing_checks():
    """Catches corrupted bytes that pass for known ones: without a CRC every byte stays as doubtful as its bits say."""
    found, = outcomes("n-gram prior", 2.0, 1)
    evidence, restored = found.received.evidence, found.received.reconstruction
    assert not evidence.known.any() and evidence.bit_llr is not None and np.all(restored.origin == Origin.INFERRED)
    right = restored.values == found.sent.tokens.values
    # what it claims is what happens: mean confidence is the share of right bytes
    assert abs(restored.confidence.mean() - right.mean()) < 0.02 and np.all(restored.confidence[~right] < 0.999)


def test_the_prior_leaves_a_fifteenth_and_the_gain_is_the_contexts():
    """Catches a prior that does not reach the decision, or one whose gain is that of letter frequencies alone."""
    hard, unigram, ngram = (wrong(outcomes(arm, 2.0, 8)) for arm in ("hard decisions", "unigram MAP", "n-gram prior"))
    assert 15 * ngram < hard and 6 * ngram < unigram < 0.7 * hard


@pytest.mark.sionna
def test_the_rival_has_the_same_uses_and_wins():
    """Catches a rival that is given less than its share of the channel, or whose errors are not counted."""
    raw, rival = (outcomes(arm, -3.0, 4) for arm in ("n-gram prior", "compress + LDPC 1/3"))
    for one, other in zip(raw, rival, strict=True):
        assert other.ledger.channel_uses == pytest.approx(one.ledger.channel_uses, rel=0.01)
        assert other.ledger.energy == pytest.approx(one.ledger.energy, rel=0.01)
    assert wrong(raw) > 200 and wrong(rival) == 0
    assert wrong(outcomes("compress + LDPC 1/3", -6.0, 4)) > 3000
