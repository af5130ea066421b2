"""A receiver that gives up what it doubts: fewer wrong tokens are kept, and what is given up is an error that says so."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.trial import Outcome, run, send
from channel_sim.types import Origin
from tests.chains import ROOT, chain_of, tables_with


def outcomes(threshold: float) -> list[Outcome]:
    tables = tables_with("decoders", "bidirectional") | {"receiver": {"abstain_below": threshold}}
    chain = chain_of(tables)
    return run(chain, send(chain, range(8), ROOT), 0, ROOT)


@pytest.mark.parametrize("threshold", [0.3, 0.9, 1.0])
def test_what_is_less_sure_than_the_threshold_is_given_up(threshold: float):
    """Catches the rule turned round, received tokens given up, and values that stay in tokens marked as lost."""
    for all_kept, one in zip(outcomes(0.0), outcomes(threshold), strict=True):
        before, after = all_kept.received.reconstruction, one.received.reconstruction
        doubtful = (before.confidence < threshold) & (before.origin != Origin.RECEIVED)
        assert np.array_equal(after.lost, doubtful)
        assert not np.any(after.values[doubtful]) and not np.any(after.confidence[doubtful])
        assert np.array_equal(after.values[~doubtful], before.values[~doubtful])


def test_giving_up_trades_errors_that_are_kept_for_tokens_that_are_lost():
    """Catches tokens given up that no rate counts, and a threshold that keeps more wrong tokens the higher it is."""
    rates = []
    for threshold in (0.0, 0.3, 0.6, 0.9):
        sums = {name: sum(one.measurement.values[name][0] for one in outcomes(threshold))
                for name in ("invented_fraction", "lost_token_rate", "token_error_rate")}
        assert sums["token_error_rate"] == sums["invented_fraction"] + sums["lost_token_rate"]
        rates.append((sums["invented_fraction"], sums["lost_token_rate"]))
    wrong, lost = np.transpose(rates)
    assert np.all(np.diff(wrong) < 0) and np.all(np.diff(lost) > 0) and lost[0] == 0
