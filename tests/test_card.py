"""The channel card: counts of one trial, their sums over trials, and what they say of a model."""

import csv
import re
from contextlib import closing

import numpy as np
import pytest

from channel_sim.abstraction import BlerTable
from channel_sim.arq import Arq
from channel_sim.bits import BinarySymmetric
from channel_sim.card import BURST_ENDS, Card, burst_bin, card_of
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.link_law import LinkLaw
from channel_sim.loss_law import LossLaw
from channel_sim.loss_trace import LossTrace
from channel_sim.losses import GilbertElliott, Ideal, PacketLoss, ThreeState
from channel_sim.parity import ReedSolomon
from channel_sim.protection import NoProtection, Repeat
from channel_sim.store import Store
from reports.card import BURST_LABELS, Pooled, channel_cards, flags
from reports.card_page import _panel
from reports.html import _environment, write_report
from reports.links import link_rows
from scenarios.python_api import conduct
from scenarios.runner import open_store
from scenarios.scenario import load
from tests.test_losses import packets_of

CHANNELS = [PacketLoss(loss_rate=0.2), GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0),
            GilbertElliott(loss_rate=0.4, mean_burst_packets=1.3), ThreeState(pattern="EP6"),
            GilbertElliott(loss_rate=0.2, mean_burst_packets=2.5, loss_in_good=0.05, loss_in_bad=0.8)]


def counted(lost: list[bool]) -> Card:
    """The card by brute force: strings and slices."""
    text = "".join("1" if one else "0" for one in lost)
    inner = text.strip("1")
    lengths = [len(run) for run in inner.split("0") if run]
    bins = [0] * len(BURST_LABELS)
    for length in lengths:
        bins[next((index for index, end in enumerate(BURST_ENDS) if length <= end), len(BURST_ENDS))] += 1
    joint = [sum(text[i] == text[i + lag] == "1" for i in range(len(text) - lag)) for lag in range(1, 9)]
    ends = sum(text[i:i + 2] == "10" for i in range(len(text)))
    return Card(len(text), text.count("1"), ends, tuple(joint), tuple(bins), max(map(len, text.split("0")), default=0))


@pytest.mark.parametrize("loss_rate, burst", [(0.0, 1.0), (0.1, 1.2), (0.5, 3.0), (0.6, 20.0), (0.8, 90.0), (0.9, 400.0)])
def test_a_card_is_an_independent_count(loss_rate, burst):
    """Catches bursts cut by an edge that are taken for whole, pairs across the edge, and bins off by one."""
    for size in (0, 1, 2, 9, 60, 3000):
        channel = GilbertElliott(loss_rate=loss_rate, mean_burst_packets=max(burst, 1.0))
        lost = channel.lost_packets(size, Key(1).child(size))
        assert card_of(lost) == counted(lost.tolist())


def test_bins_of_bursts_hold_the_lengths_that_they_are_labelled_with():
    """Catches a histogram that is shifted by one."""
    for length in (*range(1, 20), 32, 33, 64, 65, 128, 129, 1000):
        lost = np.array([0, *[1] * length, 0], bool)
        label = BURST_LABELS[next(index for index, count in enumerate(card_of(lost).bursts) if count)]
        low, _, high = label.replace(">128", "129-9999").partition("-")
        assert int(low) <= length <= int(high or low) and burst_bin(length) == BURST_LABELS.index(label)


def test_cards_go_through_the_store_as_they_are():
    """Catches a short form that loses something: nothing lost, all lost, SNRs below zero."""
    cards = [card_of(np.array(lost, bool), snr) for lost in ([], [0] * 50, [1] * 50, [0, 1, 1, 0, 0, 1])
             for snr in (None, np.array([-3.0, -0.1, 0.0, 1.99, 2.0, 31.5]))]
    assert [Card.from_list(card.to_list()) for card in cards] == cards
    assert cards[1].snr == (-2, 1, 1, 2, 1, *[0] * 13, 1)  # bins of 2 dB from -4
    assert len(str(card_of(GilbertElliott().lost_packets(512, Key(2))).to_list()).replace(" ", "")) < 150


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
@pytest.mark.parametrize("size", [12, 64])
def test_pooled_cards_have_the_statistics_of_the_law(channel, size):
    """Catches estimates that short trials bias, as a mean of the bursts that fit into them would be: within 5 standard errors."""
    law = channel.loss_law()
    pooled = Pooled((card_of(channel.lost_packets(size, Key(3).child(trial))) for trial in range(2_000)), law)
    for measured, stated in zip((pooled.loss_rate, pooled.loss_given_loss, pooled.mean_burst), pooled.stated, strict=True):
        assert abs(measured.value - stated) < 5 * measured.error
    assert pooled.autocorrelation[2] == pytest.approx(law.autocorrelation[2], abs=0.05)
    for share, stated in zip(pooled.burst_shares[:6], pooled.model_burst_shares[:6], strict=True):
        assert abs(share - stated) < 5 * np.sqrt(stated / pooled.bursts.sum())
    assert not any("Not the model's" in flag for flag in flags(pooled))


def test_errors_are_those_of_the_spread_over_trials():
    """Catches an interval that takes slots of a burst for independent: 200 pools of 30 trials scatter as they say."""
    channel = GilbertElliott(loss_rate=0.2, mean_burst_packets=5.0)
    values, errors = [], []
    for pool in range(200):
        one = Pooled((card_of(channel.lost_packets(30, Key(4).child(pool, trial))) for trial in range(30)), None)
        values.append((one.loss_rate.value, one.loss_given_loss.value, one.excess().value))
        errors.append((one.loss_rate.error, one.loss_given_loss.error, one.excess().error))
    assert np.std(values, axis=0) == pytest.approx(np.mean(errors, axis=0), rel=0.2)


def test_anti_bursty_models_are_flagged_and_no_others():
    """Catches a 'burst' model whose bursts are shorter than those of independent losses, and false alarms."""
    for channel, expected in ((CHANNELS[2], "Anti-bursty model: a mean burst of 1.3 is shorter than the 1.67"), (CHANNELS[1], None),
                              (CHANNELS[0], None), (Ideal(), None)):
        law = channel.loss_law()
        found = flags(Pooled((card_of(channel.lost_packets(50, Key(5).child(i))) for i in range(300)), law))
        assert (len(found), found[0].startswith(expected)) == (1, True) if expected else not found


def test_losses_that_are_anti_bursty_or_not_the_models_are_noticed():
    """The negative controls: without a law, alternating losses are seen; with the law of another channel, that is seen."""
    anti = [card_of(CHANNELS[2].lost_packets(50, Key(6).child(i))) for i in range(300)]
    assert flags(Pooled(anti, None))[0].startswith("Anti-bursty as measured")
    wrong = flags(Pooled(anti, PacketLoss(loss_rate=0.4).loss_law()))
    assert any(flag.startswith("Not the model's: the P(loss | loss)") for flag in wrong)
    assert any("the loss rate was" in flag for flag in flags(Pooled(anti, PacketLoss(loss_rate=0.2).loss_law())))


def test_a_law_goes_through_the_store_as_it_is():
    """Catches bursts or lags that shift on file."""
    for channel in (*CHANNELS, Ideal()):
        law = channel.loss_law()
        again = LossLaw.from_dict(law.to_dict())
        assert again.loss_rate == pytest.approx(law.loss_rate, rel=1e-9)
        assert again.mean_burst == (law.mean_burst and pytest.approx(law.mean_burst, rel=1e-9))
        assert again.autocorrelation == pytest.approx(law.autocorrelation, rel=1e-5)
        if law.bursts:
            assert again.bursts == pytest.approx(law.bursts, rel=1e-5, abs=1e-11)


@pytest.mark.parametrize("protection", [NoProtection(), NoProtection(interleave_depth=3), ReedSolomon(n=10, k=8), Repeat(),
                                        Arq(max_transmissions=2)], ids=repr)
def test_the_card_speaks_of_the_air_not_of_what_was_repaired(protection):
    """Catches losses counted after protection, or in the order of the coder: slots as the process drew them; of ARQ those of
    the first round."""
    packets, channel, key = packets_of([8] * 30), GilbertElliott(loss_rate=0.3, mean_burst_packets=4.0), Key(7)
    delivery = protection.send([packets], channel, [key])[0]
    drawn = channel.lost_packets(30 if isinstance(protection, Arq) else delivery.ledger.transmissions, key.child("loss slots"))
    assert delivery.card == card_of(drawn)


def test_with_slot_bits_the_card_counts_slots():
    """Catches packets counted where the process steps otherwise."""
    packets, channel = packets_of([100] * 10), GilbertElliott(loss_rate=0.3, slot_bits=30)
    card = NoProtection().send([packets], channel, [Key(8)])[0].card
    assert card == card_of(channel.lost_packets(34, Key(8).child("loss slots")))


def test_a_packet_whose_crc_failed_is_a_loss_on_the_card():
    """Catches a card that is silent on channels without a loss process, in one round and over several."""
    packets, channel = packets_of([64] * 200), BinarySymmetric(flip_probability=0.005, crc="crc16")
    once = NoProtection().send([packets], channel, [Key(9)])[0]
    assert once.card.num_lost == np.sum(~once.reception.crc_ok) > 0
    again = Arq(max_transmissions=3).send([packets], channel, [Key(9)])[0]
    assert again.ledger.transmissions > 200 and again.card == once.card


def test_under_arq_the_card_has_the_law_of_the_channel():
    """Catches rounds that are pooled: more is sent after a burst, and a card of it all accuses the model falsely (the control)."""
    packets, channel = packets_of([8] * 12), GilbertElliott(loss_rate=0.3, mean_burst_packets=6.0)
    keys = [Key(12).child(trial) for trial in range(1_500)]
    sent = Arq(max_transmissions=4).send([packets] * len(keys), channel, keys)
    pooled = Pooled((one.card for one in sent), channel.loss_law())
    assert not flags(pooled) and abs(pooled.loss_rate.value - 0.3) < 4.5 * pooled.loss_rate.error
    all_rounds = Pooled((card_of(channel.lost_packets(one.ledger.transmissions, key.child("loss slots")))
                         for one, key in zip(sent, keys, strict=True)), channel.loss_law())
    assert any("the loss rate was" in flag for flag in flags(all_rounds))


def test_under_harq_the_card_shows_the_first_transmission_of_every_packet():
    """Catches losses after the last transmission beside the fades of all of them: it is the card of the same link without HARQ."""
    link = {"code": "uncoded", "modulation": "qpsk", "crc": "crc16", "fading": "rayleigh_block", "fading_block_symbols": 48,
            "esno_db": 8.0}
    packets = packets_of([64] * 100)
    once, more = (NoProtection().send([packets], CodedLink(**link, max_transmissions=most), [Key(13)])[0] for most in (1, 4))
    assert more.reception.lost.sum() < once.reception.lost.sum()
    assert more.card == once.card and once.card.num_lost == once.reception.lost.sum()


FLAT = {"awgn": {}, "rayleigh": {}, "rayleigh_block": {"fading_block_symbols": 8},
        "rician_block": {"fading_block_symbols": 8, "rician_k_db": 3.0}}


@pytest.mark.parametrize("esno_db", [2.0, 7.5])
@pytest.mark.parametrize("fading", FLAT)
def test_fades_have_the_bin_shares_that_the_link_states(fading, esno_db):
    """Catches a law of amplitudes for one of powers, a wrong K, and bins that are shifted by a rounded 2 dB."""
    law = CodedLink(fading=fading, esno_db=esno_db, **FLAT[fading]).link_law()
    first, shares = LinkLaw.from_dict(law.to_dict()).snr_shares
    amplitudes = np.random.default_rng(14).normal(size=(2, 200_000)) / np.sqrt(2)
    ratio = {"awgn": 1e30, "rician_block": 10**0.3}.get(fading, 0.0)
    amplitudes = amplitudes / np.sqrt(ratio + 1) + [[np.sqrt(ratio / (ratio + 1))], [0.0]]
    drawn = esno_db + 10 * np.log10((amplitudes**2).sum(axis=0)) + 1e-6
    expected = np.histogram(drawn, np.arange(2 * first, 2 * (first + len(shares)) + 1, 2))[0] / drawn.size
    assert shares == pytest.approx(expected, abs=0.006) and sum(shares) == pytest.approx(1, abs=1e-3)
    heard = NoProtection().send([packets_of([464] * 8)], CodedLink(fading=fading, esno_db=esno_db, **FLAT[fading]), [Key(15)])
    card = heard[0].card
    counted_here = {card.snr[0] + place: count / sum(card.snr[1:]) for place, count in enumerate(card.snr[1:])}
    for place, share in enumerate(shares, start=first):
        assert abs(counted_here.get(place, 0.0) - share) < 5 * np.sqrt(share * (1 - share) / sum(card.snr[1:])) + 1e-9


def test_the_table_of_block_errors_states_the_link_that_it_stands_for():
    """Catches the fades of the link that is looked up, which are none, and ratios of another rate."""
    shared = {"fading": "rayleigh_block", "ebno_db": 4.0}
    assert BlerTable(**shared).link_law() == CodedLink(**shared).link_law()
    assert PacketLoss(loss_rate=0.1).link_law() is None and CodedLink(fading="tdl_a", esno_db=4.0).link_law().snr_shares is None


TABLES = {"question": "?", "items": 24, "source": {"name": "bernoulli", "num_symbols": 400},
          "coder": {"name": "fixed_length", "packet_bits": 8},
          "arm": [{"label": "bursts", "channel": {"name": "gilbert_elliott", "loss_rate": 0.3, "mean_burst_packets": 1.1}},
                  {"label": "parity", "channel": {"name": "gilbert_elliott", "loss_rate": 0.3, "mean_burst_packets": 1.1},
                   "protection": {"name": "reed_solomon", "n": 6, "k": 5}}],
          "sweep": {"channel.loss_rate": [0.3, 0.45]}}


def test_the_card_of_every_arm_and_point_is_in_the_report_and_in_a_table(tmp_path):
    """Catches points without a card, numbers of another task, and a flag that no reader would see."""
    conduct(load(TABLES), tmp_path, "test", workers=1, scheduler=None, max_seconds=None, progress=lambda done, total: None)
    with closing(Store(tmp_path / "results.sqlite")) as store:
        cards = channel_cards(store)
        assert [(card.arms, card.sweep["channel.loss_rate"]) for card in cards] == [
            (("bursts",), 0.3), (("parity",), 0.3), (("bursts",), 0.45), (("parity",), 0.45)]
        for card in cards:
            trials = list(store.trials(card.task_ids[0]))
            lost, sent = (sum(one.metrics["packet_loss_rate"][side] for one in trials) for side in (0, 1))
            assert (card.pooled.loss_rate.value, card.pooled.num_slots) == (lost / sent, sent)
    with (tmp_path / "card.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = {(row["arm"], row["channel.loss_rate"], row["quantity"], row["at"]): row for row in rows}
    assert len(places) == len(rows) == 4 * (3 + 3 + 8 + 13)
    rate = places["parity", "0.45", "loss_rate", ""]
    assert float(rate["ci_low"]) < float(rate["measured"]) < float(rate["ci_high"]) and float(rate["model"]) == pytest.approx(0.45)
    page = (tmp_path / "report.html").read_text()
    assert "The channel as it was" in page and "Anti-bursty model: a mean burst of 1.1" in page and 'class="card"' in page


def test_one_card_for_arms_that_met_the_same_losses(tmp_path):
    """Catches a page that repeats one card an arm."""
    tables = TABLES | {"arm": [{"label": "a"}, {"label": "b", "decoder": {"name": "most_frequent"}}],
                       "channel": {"name": "packet_loss"}, "sweep": {}}
    conduct(load(tables), tmp_path, "test", workers=1, scheduler=None, max_seconds=None, progress=lambda done, total: None)
    with closing(Store(tmp_path / "results.sqlite")) as store:
        assert [card.arms for card in channel_cards(store)] == [("a", "b")]


def test_a_trace_is_held_against_its_own_count(tmp_path):
    """Catches a replay that is not the trace: pooled over phases, the card has the trace's own statistics."""
    lost = GilbertElliott(loss_rate=0.2, mean_burst_packets=3.0).lost_packets(600, Key(10))
    (tmp_path / "trace.txt").write_text("".join("01"[int(one)] for one in lost))
    channel = LossTrace(path=str(tmp_path / "trace.txt"))
    pooled = Pooled((card_of(channel.lost_packets(40, Key(11).child(i))) for i in range(1_000)), channel.loss_law())
    assert pooled.stated[0] == lost.mean() and not flags(pooled)
    assert abs(pooled.loss_rate.value - lost.mean()) < 5 * pooled.loss_rate.error


def test_intervals_stay_where_their_quantities_can_be():
    """Catches a P(loss | loss) above 1 and a mean burst of no slots: 2 bursts in 18 short trials."""
    cards = [card_of(np.array([0] * 4 + [1] * 7 + [0], bool)), card_of(np.array([0, 1, 1, 1, 1, 0] + [0] * 6, bool))]
    pooled = Pooled(cards + [card_of(np.zeros(12, bool))] * 16, None)
    for measured, low, high in ((pooled.loss_rate, 0, 1), (pooled.loss_given_loss, 0, 1), (pooled.mean_burst, 1, np.inf)):
        assert low <= measured.interval[0] < measured.value < measured.interval[1] <= high
    few = Pooled([card_of(np.array([0, 1, 1, 1, 0, 1, 0], bool)), card_of(np.array([0, 1, 0, 0, 0, 0, 0], bool))], None)
    assert few.loss_given_loss.interval[1] < 1 or few.mean_burst.interval[1] == np.inf


@pytest.mark.parametrize("value", [-0.005, 0.005])
def test_next_to_no_memory_fills_no_panel(value):
    """Catches a scale that is made of the largest value alone; the scale is written beside it."""
    heights = [float(one) for one in re.findall(r'height="([\d.]+)"/>', _panel("a", ["1", "2"], [value, 0.0], None, signed=True))]
    assert 0 < max(heights) < 0.05 * 48
    tall = _panel("a", ["1", "2"], [0.8, -0.2], [0.7, 0.0], signed=True)
    assert max(float(one) for one in re.findall(r'height="([\d.]+)"/>', tall)) == pytest.approx(0.8 * 48, abs=0.1)
    assert ">0.8<" in tall and ">0<" in tall and ">-0.2<" in tall


LINKS = {"question": "?", "items": 3, "source": {"name": "bernoulli", "num_symbols": 480},
         "coder": {"name": "fixed_length", "packet_bits": 480},
         "channel": {"name": "coded_link", "code": "ldpc", "block_bits": 100, "code_rate": 0.75, "modulation": "qam16",
                     "fading": "rayleigh_block", "ebno_db": 6.0},
         "arm": [{"label": "one"}, {"label": "two", "decoder": {"name": "most_frequent"}},
                 {"label": "other", "channel": {"name": "packet_loss", "loss_rate": 0.1}}]}


def page_of(tables, folder):
    """The run's report."""
    conduct(load(tables), folder, "test", workers=1, scheduler=None, max_seconds=None, progress=lambda done, total: None)
    return (folder / "report.html").read_text()


def test_every_link_is_stated_in_all_ratios_and_what_it_cost_in_energy(tmp_path):
    """Catches a report that has only the ratio that was given, at a nominal rate, or keeps energy to itself."""
    page = page_of(LINKS | {"sweep": {"channel.ebno_db": [6.0, 9.0]}}, tmp_path)
    frame = CodedLink(**{key: value for key, value in LINKS["channel"].items() if key != "name"}).frame
    rate = frame.info_bits / frame.code_bits
    with (tmp_path / "link.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["channel.ebno_db"]) for row in rows] == [(arm, at) for arm in ("one", "two") for at in ("6.0", "9.0")]
    for row in rows:
        esno_db = float(row["ebno_db"]) + 10 * np.log10(4 * rate)
        assert float(row["ebno_db"]) == float(row["channel.ebno_db"])
        assert [float(row[key]) for key in ("esno_db", "snr_db", "code_rate", "bits_per_use")] == pytest.approx(
            [esno_db, esno_db, rate, 4 * rate], rel=1e-9)
        assert f'<td class="n">{esno_db:.2f}</td><td class="n">{float(row["ebno_db"]):.2f}</td>' in page
    assert "<h2>The link</h2>" in page and "one; two<" in page and "at Eb/N0" in page
    with (tmp_path / "cost.csv").open() as file:
        costs = list(csv.DictReader(file))
    with closing(Store(tmp_path / "results.sqlite")) as store:
        for row in costs:
            energies = [trial.ledger["energy"] for trial in store.trials(row["task_id"])]
            assert float(row["energy"]) == pytest.approx(np.mean(energies)) and np.mean(energies) > 0
        again = write_report(store, tmp_path / "again").read_text()
    assert "energy <span" in page and again == page and len(costs) == 6


def section_of_links(tables, folder):
    """The section on the page of a run that has not begun."""
    with closing(open_store(load(LINKS | tables), folder, "test")) as store:
        return str(_environment().get_template("link.html").module.section(link_rows(store)))


def test_a_long_sweep_of_links_is_folded_and_one_that_leaves_the_link_alone_is_one_row(tmp_path):
    """Catches a page of link rows, and a row a point where all are the same."""
    long = section_of_links({"sweep": {"channel.ebno_db": [float(value) for value in range(13)]}}, tmp_path / "long")
    assert "<details><summary>13 links, by arm and point</summary>" in long and long.count("<th scope=\"row\">one; two<") == 13
    same = section_of_links({"sweep": {"source.num_symbols": [480, 960]}}, tmp_path / "same")
    assert same.count('<th scope="row">one; two</th>') == 1 and "<details>" not in same


def test_runs_without_a_radio_link_have_no_table_of_links(tmp_path):
    """Catches an empty table, and a law of losses that is read as one of a link."""
    assert "The link</h2>" not in page_of(TABLES | {"items": 2, "sweep": {}}, tmp_path)
    assert len((tmp_path / "link.csv").read_text().splitlines()) == 1
