"""The scenarios that weigh parity against a prior: what makes their arms comparable is kept by the files as shipped."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import comb

import numpy as np
import pytest

from benchmarks.breakeven import SPENDINGS, Cell, Rival, Strip, among_all, rival_to
from channel_sim.keys import Key
from channel_sim.theory import LossChain, arq_mean_transmissions, mds_failure_probability
from channel_sim.trial import Chain, send
from channel_sim.types import Tokens
from reports.statistics import Difference
from scenarios.scenario import load
from sources.text import python_docs
from tests.chains import deliver

NUM_ITEMS = {"damaged_packets": 20, "parity_or_arq": 40, "parity_or_context": 12, "parity_or_rate": 12, "surprisal_uep": 6}
CHEAPER = "fewer uses"


@cache
def arms(name: str) -> dict[str, Chain]:
    """The arms at the last point of the sweep, where a deadline is longest."""
    return {task.arm: task.chain for task in load(name).tasks}


def mean_uses(chain: Chain, num_items: int) -> float:
    sent = send(chain, range(num_items), Key(3))
    return float(np.mean([one.ledger.channel_uses for one in deliver(chain, sent)]))


@pytest.mark.parametrize(("name", "within"), [
    ("parity_or_context", 0.03), ("parity_or_arq", 0.05), ("surprisal_uep", 0.03),
    pytest.param("parity_or_rate", 0.06, marks=pytest.mark.sionna),
    pytest.param("damaged_packets", 0.03, marks=pytest.mark.sionna)])
def test_arms_spend_equal_channel_uses(name: str, within: float):
    """Catches an arm that is given more of the channel than its rivals, here as a share of the mean over all arms."""
    uses = {label: mean_uses(chain, NUM_ITEMS[name]) for label, chain in arms(name).items() if CHEAPER not in label}
    assert len(uses) >= 3
    mean = np.mean(list(uses.values()))
    assert all(abs(one - mean) < within * mean for one in uses.values()), uses


def test_the_sender_of_parity_or_context_designs_for_the_rate_that_the_file_says():
    """Catches parity that belongs to another belief: at a loss rate of 0.23 one item in a hundred fails, by the closed form."""
    chain = arms("parity_or_context")["chained + parity"]
    data = np.array([one.packets.num_packets for one in send(chain, range(40), Key(3))])
    codes = zip(data + -(-data * 36 // 60), data, strict=True)
    assert 0.005 < np.mean([mds_failure_probability(int(n), int(k), 0.23) for n, k in codes]) < 0.02


def test_retransmission_spends_what_the_parity_of_parity_or_arq_does():
    """Catches a code rate that is not that of ARQ without a deadline: 60/78 of what is sent is new, as 1 - 0.23 arrives."""
    assert arq_mean_transmissions(16, LossChain.independent(0.23)) == pytest.approx(78 / 60, rel=0.002)


def test_the_rival_fails_in_one_item_of_a_hundred_at_the_loss_rate_it_is_designed_for():
    """Catches a design for another rate, against the binomial tail summed by hand."""
    codes = [(10, 8), (20, 16), (3, 1)]
    loss = Rival(75, codes, (1.0, 1.0)).loss_rate(None)
    tails = [sum(comb(n, lost) * loss**lost * (1 - loss)**(n - lost) for lost in range(n - k + 1, n + 1)) for n, k in codes]
    assert np.mean(tails) == pytest.approx(0.01, rel=1e-6)


def test_the_rival_has_as_many_channel_uses_as_the_prior():
    """Catches a break-even at unequal uses, for every way in which a prior arm spends them."""
    items = [Tokens(np.frombuffer(python_docs()[256 * i:256 * (i + 1)], np.uint8).astype(np.int32), 256) for i in range(12)]
    for spending in SPENDINGS:
        prior, rival = rival_to(spending, items).uses
        assert rival == pytest.approx(prior, rel=0.06)


def test_the_prior_wins_a_cell_of_the_break_even_among_all_cells():
    """Catches a test of each cell by itself: of 104 cells with equal arms the prior would be said to win two or three."""
    alone, gap = Rival(75, [(10, 8)], (1.0, 1.0)), Difference(-0.1, -0.19, -0.01, 24, "bootstrap", p_value=0.03)
    cells = [Cell("twice", 0.4, 0.3, 0.4, gap, (1.0, 1.0)) for _ in range(4)]
    one, = among_all([Strip(64, None, SPENDINGS[0], alone, cells[:1])])
    many = among_all([Strip(64, None, SPENDINGS[0], alone, cells[:2]), Strip(64, 4.0, SPENDINGS[0], alone, cells[2:])])
    assert one.cells[0].prior_wins
    assert [cell.prior_wins for row in many for cell in row.cells] == [False] * 4
    sure = among_all([Strip(64, None, SPENDINGS[0], alone, [cells[0], cells[1]._replace(gap=replace(gap, p_value=1e-4))])])
    assert [cell.prior_wins for cell in sure[0].cells] == [True, True]
