"""The headline and the comparisons behind it: who beats whom where, by how much, and when nothing may be said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.store import Point, Store, Trial
from reports.comparability import equal_cost_arms, marks, unequal_packets, unequal_uses
from reports.findings import comparisons, findings, leads_of, multiplicity
from reports.headline import headline
from reports.summary import Summary, summarise

RATES = [0.01, 0.05, 0.1, 0.2]
METRIC = "token_error_rate"


def part(stage: str, name: str, **parameters: Any) -> dict[str, Any]:
    return {"stage": stage, "name": name, "parameters": parameters}


def meta(arms: dict[str, str], sweep: dict[str, list[Any]], slot_bits: int | None) -> dict[str, Any]:
    """arms: label -> name of its coder."""
    chains = {label: [part("coder", coder), part("channel", "packet_loss", slot_bits=slot_bits)] for label, coder in arms.items()}
    return {"sweep": sweep, "show": [METRIC], "arms": [{"label": label, "chain": chain} for label, chain in chains.items()]}


def results(path: Path, arms: dict[str, str], errors: Callable[[str, float, int], float], *, num_items: int = 40,
            uses: dict[str, int] | None = None, packets: dict[str, int] | None = None, slot_bits: int | None = 128,
            sweep: dict[str, list[Any]] | None = None, metric: str = METRIC) -> Summary:
    """What a run leaves whose arms make `errors(arm, value, item)` of 100 tokens."""
    sweep = {"channel.loss_rate": RATES} if sweep is None else sweep
    key, values = next(iter(sweep.items()))
    store = Store.create(path, meta(arms, sweep, slot_bits) | {"show": [metric]})
    points = [Point(a, p, arm, {key: value}, f"{a}-{p}") for a, arm in enumerate(arms) for p, value in enumerate(values)]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    for point in points:
        ledger = Ledger(channel_uses=(uses or {}).get(point.arm, 1000), transmissions=(packets or {}).get(point.arm, 10)).to_dict()
        store.add([Trial(point.task_id, i, 0, {metric: (errors(point.arm, point.sweep[key], i), 100.0)}, {}, ledger)
                   for i in range(num_items)], [])
    summary = summarise(store)
    store.close()
    return summary


TWO = {"prior": "fixed_length", "parity": "entropy"}


def crossing(arm: str, rate: float, item: int) -> float:
    """The prior's errors grow gently; parity has few below a loss rate of 6 % and many above."""
    spread = item % 5
    return 2 + spread + 10 * rate if arm == "prior" else (spread if rate < 0.06 else 20 + spread + item % 3)


def test_it_says_who_wins_where_by_how_much_and_where_the_lead_changes(tmp_path: Path) -> None:
    """Catches a wrong sign, rates as fractions, a lead without its interval, and a change of sides that is not said."""
    said = headline(results(tmp_path / "r.sqlite", TWO, crossing), METRIC)
    assert said.startswith("At equal channel uses “parity” beats “prior” in the token error rate at loss rate 0.01 and 0.05 "
                           "(at 0.05 by 2.5 points, 95 % interval 2.5 to 2.5")
    assert "; “prior” beats “parity” at loss rate 0.1 and 0.2 (at 0.1 by 17.98 points, 95 % interval 17.73" in said
    assert said.endswith(": the lead changes between loss rate 0.05 and 0.1.")


def test_where_no_arm_is_the_rival_by_its_coder_parity_is(tmp_path: Path) -> None:
    """Catches pictures whose two best codecs with parity are compared, and the prior that stands beside them is not."""
    summary = results(tmp_path / "r.sqlite", {"prior": "a", "parity": "b", "more parity": "b"}, lambda arm, rate, item: crossing(
        "prior" if arm == "prior" else "parity", rate, item) + (arm == "more parity"))
    for arm in summary.meta["arms"][1:]:
        arm["chain"].append(part("protection", "reed_solomon"))
    assert headline(summary, METRIC).startswith("At equal channel uses “parity” beats “prior” in the token error rate at loss rate")


def test_packets_of_data_alone_are_no_parity(tmp_path: Path) -> None:
    """Catches an arm without redundancy that is the one "with parity" since the component that sends it is called priority."""
    arms = {"bare": "a", "plain": "a", "parity": "a"}
    summary = results(tmp_path / "r.sqlite", arms, lambda arm, rate, item: crossing(
        "prior" if arm == "bare" else "parity", rate, item) + (30 if arm == "plain" else 0))
    for arm, needed in zip(summary.meta["arms"], ([8], None, [4, 8]), strict=True):
        arm["chain"] += [part("protection", "priority", n=8, needed=needed)] if needed else []
    assert headline(summary, METRIC).startswith("At equal channel uses “parity” beats “bare” in")


def test_two_reconstructions_of_one_stream_are_no_rivals(tmp_path: Path) -> None:
    """Catches a headline about the mean and a sample of the same bytes, where another tokenizer stands beside them."""
    arms = {"mean": "a", "sample": "a", "codec": "a"}

    def worse(arm: str, rate: float, item: int) -> float:
        return 5.0 + 20 * list(arms).index(arm) + item % 5

    summary = results(tmp_path / "r.sqlite", arms, worse)
    tokenizers = [part("tokenizer", "diffc_image", level=9, reconstruction=rule) for rule in ("mean", "ancestral")]
    for arm, tokenizer in zip(summary.meta["arms"], (*tokenizers, part("tokenizer", "jpeg", quality=9)), strict=True):
        arm["chain"].append(tokenizer)
    assert headline(summary, METRIC).startswith("At equal channel uses “mean” beats “codec” in")
    summary.meta["arms"][1]["chain"][-1]["parameters"]["level"] = 10
    assert headline(summary, METRIC).startswith("At equal channel uses “mean” beats “sample” in"), "the control"


def test_higher_is_better_where_it_is(tmp_path: Path) -> None:
    """Catches the loser named as the winner for metrics such as the recovered fraction, and points where the unit is dB."""
    said = headline(results(tmp_path / "a.sqlite", TWO, crossing, metric="recovered_fraction"), "recovered_fraction")
    assert said.startswith("At equal channel uses “prior” beats “parity” in the recovered fraction at loss rate 0.01 and 0.05")
    summary = results(tmp_path / "b.sqlite", TWO, lambda arm, rate, i: crossing(arm, rate, i) * 100, metric="psnr_db")
    assert "the PSNR at loss rate 0.01 and 0.05 (at 0.05 by 2.5 dB, 95 % interval" in headline(summary, "psnr_db")


def test_noise_is_no_lead(tmp_path: Path) -> None:
    """Catches over-claiming: of two arms that differ by chance alone one is not ahead, and the sentence says what may be hidden."""
    def chance(arm: str, rate: float, item: int) -> float:
        return float(Key(3).child(arm, int(1000 * rate), item).integers(30, 1)[0])

    said = headline(results(tmp_path / "r.sqlite", TWO, chance), METRIC)
    assert said.startswith("At equal channel uses “prior” and “parity” cannot be told apart in the token error rate at any of 4 "
                           "sweep points; intervals allow differences up to ")


def test_a_lead_must_survive_the_number_of_comparisons(tmp_path: Path) -> None:
    """Catches a lead at one of many points whose interval excludes 0 by luck: p = 0.03 of 20 arms is nothing."""
    arms = {f"arm {a:02d}": "fixed_length" for a in range(20)}

    def chance(arm: str, rate: float, item: int) -> float:
        return float(Key(5).child(arm, item).integers(30, 1)[0])

    summary = results(tmp_path / "r.sqlite", arms, chance, sweep={"channel.loss_rate": [0.1]})
    assert comparisons(summary, METRIC) == 190 and "190 pairs of arms" in multiplicity(summary, METRIC)
    (one,) = findings(summary, METRIC)
    worst = max(arms, key=lambda arm: summary.of(arm)[0].estimates[METRIC].mean)
    assert worst in one.best  # the interval of best and worst of 20 excludes 0: chosen by looking, it tells nothing
    (lead,) = leads_of([(summary.of(one.best[0])[0].trials, summary.of(worst)[0].trials)], METRIC)
    assert lead is not None and lead.low is not None and lead.low > 0


def test_the_rival_is_the_best_that_compresses_even_if_two_of_a_kind_lead(tmp_path: Path) -> None:
    """Catches a headline about two variants of one arm, and arms of another cost in it."""
    arms = dict.fromkeys(["nothing", "prior", "prior, tuned"], "fixed_length") | dict.fromkeys(["parity", "cheap"], "entropy")
    level = {"nothing": 40, "prior": 10, "prior, tuned": 9, "parity": 20, "cheap": 1}
    summary = results(tmp_path / "r.sqlite", arms, lambda arm, rate, i: level[arm] + (i * 7 + len(arm)) % 3, uses={"cheap": 700})
    assert equal_cost_arms(summary) == ["nothing", "prior", "prior, tuned", "parity"]
    said = headline(summary, METRIC)
    assert said.startswith("At equal channel uses “prior, tuned” beats “parity” in the token error rate at loss rate 0.01 to 0.2 (")


def test_an_unseen_error_is_said_with_the_lead(tmp_path: Path) -> None:
    """Catches certainty from 40 items without an error."""
    said = headline(results(tmp_path / "r.sqlite", TWO, lambda arm, rate, i: 0 if arm == "parity" else 5 + i % 3), METRIC)
    assert "the better one without an event in 40 items" in said


@pytest.mark.parametrize("arms", [{"alone": "entropy"}, TWO])
def test_nothing_is_said_where_nothing_may_be(tmp_path: Path, arms: dict[str, str]) -> None:
    """Catches a comparison of one arm, of arms with other costs, and of a metric of which neither way is better."""
    summary = results(tmp_path / "a.sqlite", arms, crossing, uses={"parity": 2000})
    assert headline(summary, METRIC) == ""
    assert headline(results(tmp_path / "b.sqlite", TWO, crossing, metric="packet_loss_rate"), "packet_loss_rate") == ""


def test_many_changes_are_counted(tmp_path: Path) -> None:
    """Catches a sentence of twenty parts."""
    values = [round(0.01 * n, 2) for n in range(1, 21)]

    def alternating(arm: str, rate: float, item: int) -> float:
        return 10 + (arm == "prior") * (-1) ** round(100 * rate) * 4 + item % 2

    summary = results(tmp_path / "r.sqlite", TWO, alternating, sweep={"channel.loss_rate": values})
    said = headline(summary, METRIC)
    assert "“prior” beats “parity” in the token error rate at 10 of 20 sweep points, most at loss rate 0.01 (by 4 points" in said
    assert "and “parity” beats “prior” at 10 of 20" in said


def test_packets_of_unequal_size_are_said_where_a_slot_is_a_packet(tmp_path: Path) -> None:
    """Catches arms that lose fewer bits because they send fewer, longer packets at one loss rate, and a false alarm with slots."""
    packets = {"parity": 5}
    fair = results(tmp_path / "a.sqlite", TWO, crossing, packets=packets)
    unfair = results(tmp_path / "b.sqlite", TWO, crossing, packets=packets, slot_bits=None)
    assert (unequal_packets(fair), unequal_uses(fair), equal_cost_arms(fair)) == ([], [], ["prior", "parity"])
    assert unequal_packets(unfair) == ["parity: +100 %"] and marks(unfair) == {"parity": "+100 % bits a packet"}
    assert equal_cost_arms(unfair) == ["prior"] and headline(unfair, METRIC) == ""
    dear = results(tmp_path / "c.sqlite", TWO, crossing, uses={"parity": 1030})
    assert marks(dear) == {"parity": "+3 % uses"} and equal_cost_arms(dear) == ["prior"]
