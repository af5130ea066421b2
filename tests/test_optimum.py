"""The yardstick of order three in `benchmarks.optimum`, against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.optimum import HIDDEN, HiddenChain, OrderThree, erased, order_three_items, order_three_posterior, wrong
from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import Evidence
from decoders.bidirectional import Bidirectional
from decoders.dude import Dude
from decoders.exact_markov import ExactHiddenMarkov
from decoders.fitted_markov import FittedMarkov
from decoders.lm_beam import LmBeam
from decoders.lm_greedy import LmGreedy
from decoders.ngram import NGramRestorer
from decoders.posterior_sample import PosteriorSample
from sources.models.model import CausalModel


def by_enumeration(model: CausalModel, evidence: Evidence) -> np.ndarray:
    """float64 [unknown, 2]."""
    unknown = np.flatnonzero(~evidence.known)
    ways = np.array(list(product((0, 1), repeat=unknown.size)), np.int32)
    filled = np.tile(evidence.values, (len(ways), 1))
    filled[:, unknown] = ways
    state, weights = model.start(len(ways)), np.ones(len(ways))
    for at in range(evidence.num_tokens):
        weights *= model.frequencies(state)[np.arange(len(ways)), filled[:, at]] / 65536
        state = model.advance(state, filled[:, at])
    one = weights @ ways / weights.sum()
    return np.stack([1 - one, one], axis=1)


@pytest.mark.parametrize("index", range(4))
def test_the_yardsticks_are_exact(index: int) -> None:
    """Catches contexts read backwards, a start that is not fair, and evidence on one side alone."""
    values = order_three_items(index + 1, 12)[index]
    known = Key(1).child(index).uniform(12) < 0.4
    evidence = Evidence(known, np.where(known, values, 0), 2)
    np.testing.assert_allclose(order_three_posterior(evidence), by_enumeration(OrderThree(), evidence), atol=1e-4)
    (found,) = ExactHiddenMarkov(**HIDDEN).restore([evidence], [Key(0)])
    assert found.posterior is not None
    np.testing.assert_allclose(found.posterior, by_enumeration(HiddenChain(**HIDDEN), evidence), atol=1e-4)


@pytest.mark.parametrize("cls", [LmBeam, LmGreedy, Bidirectional, PosteriorSample, NGramRestorer, Dude, FittedMarkov])
def test_who_is_not_the_optimum_says_so(cls: type[Decoder]) -> None:
    """Catches a report that shows a decoder beside the optimum and not why it falls short."""
    assert any("the optimum" in line and "Decoder" in line for line in cls.assumptions)


@pytest.mark.parametrize("erasure_probability", [0.1, 0.3, 0.5])
def test_the_beam_meets_the_optimum_of_longer_memories(erasure_probability: float) -> None:
    """Catches hypotheses that meet too early: order three, and hidden, whose memory is without end; errors within a hundredth."""
    evidence = erased(order_three_items(8), erasure_probability)
    hidden = [one.posterior for one in ExactHiddenMarkov(**HIDDEN).restore(evidence, [Key(0)] * 8) if one.posterior is not None]
    for model, posteriors in ((OrderThree(), [order_three_posterior(one) for one in evidence]), (HiddenChain(**HIDDEN), hidden)):
        best = sum(np.sum(1 - one.max(axis=1)) for one in posteriors)
        assert 0.9999 * best <= wrong(LmBeam(model=model, follow_weight=1.0), evidence, posteriors).sum() <= 1.01 * best
