"""Models fitted to traces: they find a chain again, keep the loss rate, and the shipped scenario is what the command writes."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from benchmarks.handover_trace import handover_trace
from channel_sim import theory
from channel_sim.keys import Key
from channel_sim.loss_fit import fit_models, residual_loss
from channel_sim.loss_law import trace_law
from channel_sim.loss_trace import read_trace
from channel_sim.losses import GilbertElliott, PacketLoss, ThreeState
from scenarios.cli import main
from scenarios.loss_models import scenario_text
from scenarios.scenario import load

SHIPPED = Path(str(files("scenarios")))


def trace_of(channel, size=60_000, key=1):
    return channel.lost_packets(size, Key(key))


def test_gilberts_chain_is_found_again():
    """Catches exchanged transitions: within 5 standard errors of counted transitions."""
    truth = GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0)
    found, (to_bad, to_good) = fit_models(trace_of(truth))["gilbert"], truth.transitions
    for value, expected, visits in zip(found.transitions, (to_bad, to_good), (54_000, 6_000), strict=True):
        assert abs(value - expected) < 5 * np.sqrt(expected * (1 - expected) / visits)


def test_gilbert_elliotts_chain_is_found_again():
    """Catches a Baum-Welch recursion that drifts: both loss probabilities and the memory of a chain that hides its states."""
    truth = GilbertElliott(loss_rate=0.2, mean_burst_packets=2.5, loss_in_good=0.05, loss_in_bad=0.8)
    found = fit_models(trace_of(truth))["gilbert_elliott"]
    assert found.loss_in_good == pytest.approx(0.05, abs=0.01) and found.loss_in_bad == pytest.approx(0.8, abs=0.03)
    assert sum(found.transitions) == pytest.approx(sum(truth.transitions), rel=0.1)


def test_the_three_state_chain_is_found_again():
    """Catches gaps that are exchanged, and a mixture that forgets its weights."""
    truth = ThreeState(stay_good=0.98, lost_to_good=0.1, stay_lost=0.5, stay_gap=0.6)
    found = fit_models(trace_of(truth, 200_000))["three_state"]
    for name, tolerance in (("stay_good", 0.002), ("lost_to_good", 0.01), ("stay_lost", 0.01), ("stay_gap", 0.015)):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), abs=tolerance), name


@pytest.mark.parametrize("lost", [handover_trace(), trace_of(PacketLoss(loss_rate=0.3), 500), np.arange(100) % 2 == 0,
                                  np.arange(60) < 30, np.arange(40) == 7, np.arange(40) != 7])
def test_all_models_have_the_loss_rate_and_the_burst_models_the_mean_burst_of_the_trace(lost):
    """Catches fits that are compared at another loss rate, and traces that break them: alternating, one burst, one loss."""
    law = trace_law(lost)
    for name, model in fit_models(lost).items():
        fitted = model.loss_law()
        assert fitted.loss_rate == pytest.approx(lost.mean(), rel=1e-3), name
        assert name == "independent" or fitted.mean_burst == pytest.approx(law.mean_burst, rel=1e-3), name


@pytest.mark.parametrize("text, rule", [("0" * 50, "no loss"), ("1" * 50, "no arrival"), ("0101", "4 slots")])
def test_a_trace_that_tells_nothing_is_refused(tmp_path, capsys, text, rule):
    """Catches a division by zero that a user would see as a traceback."""
    (tmp_path / "trace.txt").write_text(text)
    assert main(["train", "loss-model", str(tmp_path / "trace.txt"), "--out", str(tmp_path / "m.toml")]) == 2
    assert rule in capsys.readouterr().err and not (tmp_path / "m.toml").exists()


def test_residual_loss_is_that_of_the_code():
    """Catches windows off by one: against a loop over all of them, and against the closed form for independent losses."""
    lost = trace_of(GilbertElliott(loss_rate=0.3), 300)
    left = [lost[at:at + 6].sum() if lost[at:at + 9].sum() > 3 else 0 for at in range(300 - 9 + 1)]
    assert residual_loss(lost, 9, 6) == pytest.approx(np.mean(left) / 6)
    many = residual_loss(trace_of(PacketLoss(loss_rate=0.1), 400_000), 10, 8)
    assert many == pytest.approx(theory.mds_residual_loss(10, 8, 0.1), rel=0.05)


def test_the_shipped_scenario_is_what_the_command_writes():
    """Catches a trace or numbers that nobody can make again."""
    lost = read_trace(str(SHIPPED / "handover_trace.txt"))
    assert np.array_equal(lost, handover_trace())
    written = load_text(scenario_text("handover_trace.txt", lost, fit_models(lost)))
    for ours, theirs in zip(load("measured_traces").tasks, written.tasks, strict=True):
        for field in type(ours.chain.channel).model_fields:
            one, other = getattr(ours.chain.channel, field), getattr(theirs.chain.channel, field)
            assert one == (pytest.approx(other, rel=1e-4) if isinstance(other, float) else other) or field == "path"


def load_text(text):
    import tomllib
    tables = tomllib.loads(text)
    tables["arm"][0]["channel"]["path"] = str(SHIPPED / "handover_trace.txt")
    return load(tables)


def test_the_command_writes_a_scenario_that_runs(tmp_path, capsys):
    """Catches a path that the scenario cannot find, labels that clash, and a table without the trace."""
    (tmp_path / "my trace.txt").write_text("".join("01"[int(one)] for one in trace_of(GilbertElliott(), 2_000)))
    assert main(["train", "loss-model", str(tmp_path / "my trace.txt"), "--out", str(tmp_path / "fit.toml")]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("trace", "independent", "Gilbert-Elliott", "three states", "residual (20,16)"))
    scenario = load(tmp_path / "fit.toml")
    assert len(scenario.tasks) == 5 * 4 and scenario.tasks[0].chain.channel.loss_rate == pytest.approx(0.1, abs=0.05)


def test_the_fit_misleads_where_losses_are_no_chain():
    """The shipped scenario's point: what a (20, 16) code, five blocks interleaved, leaves of the trace is far from every fit."""
    lost = read_trace(str(SHIPPED / "handover_trace.txt"))

    def left(losses):
        spread = losses[:losses.size // 100 * 100].reshape(-1, 20, 5).transpose(0, 2, 1).ravel()  # five blocks take turns
        blocks = spread.reshape(-1, 20)
        return float((blocks[:, :16].sum(axis=1) * (blocks.sum(axis=1) > 4)).mean() / 16)

    own = np.mean([left(np.roll(lost, -phase)) for phase in range(0, 8000, 37)])
    for name in ("gilbert", "gilbert_elliott", "three_state"):
        assert left(fit_models(lost)[name].lost_packets(200_000, Key(3))) > 3 * own, name
