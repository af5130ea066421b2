"""Which closed form is drawn on which axis: values where its conditions hold, nothing where they do not."""

from typing import Any

import numpy as np
import pytest

import scenarios
from channel_sim import theory
from scenarios.references import reference_curves
from scenarios.scenario import load

BITS = {"question": "What is left?", "items": 150, "source": {"name": "bernoulli", "num_symbols": 960},
        "tokenizer": {"name": "symbols"}, "coder": {"name": "fixed_length", "packet_bits": 8, "header_bits": 0}}
GILBERT = {"name": "gilbert_elliott", "loss_rate": 0.1, "mean_burst_packets": 4.0}


def curves(**tables: Any) -> dict[tuple[str, str], float]:
    scenario = load({**BITS, "arm": [{"label": "one", "decoder": {"name": "none"}}], **tables})
    return {(one.label, one.metric): one.value for one in reference_curves(scenario)}


def residual(**tables: Any) -> dict[str, float]:
    return {label: value for (label, metric), value in curves(**tables).items() if metric == "residual_packet_loss_rate"}


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("(20, 15) MDS, Gilbert losses, exact", GILBERT, {"name": "reed_solomon", "n": 20, "k": 15}),
    ("(20, 15) MDS, 4 apart, Gilbert losses, exact", GILBERT, {"name": "reed_solomon", "n": 20, "k": 15, "interleave_depth": 4}),
    ("(20, 15) MDS, 8 apart, Gilbert losses, exact", GILBERT, {"name": "reed_solomon", "n": 20, "k": 15, "interleave_depth": 100}),
    ("(16, 12) MDS, three-state losses, exact", {"name": "three_state", "pattern": "EP4"},
     {"name": "reed_solomon", "n": 16, "k": 12}),
    ("2 copies, Gilbert-Elliott losses, exact", {**GILBERT, "mean_burst_packets": 2.0, "loss_in_good": 0.02, "loss_in_bad": 0.9},
     {"name": "repeat", "copies": 2}),
    ("2 copies, 10 apart, Gilbert losses, exact", GILBERT, {"name": "repeat", "copies": 2, "interleave_depth": 10}),
    ("2 copies, independent losses, exact", {"name": "packet_loss", "loss_rate": 0.2},
     {"name": "repeat", "copies": 2, "interleave_depth": 7}),
    ("ARQ of 2 transmissions, exact", {"name": "packet_loss", "loss_rate": 0.2},
     {"name": "arq", "max_transmissions": 2, "feedback_loss_rate": 0.1}),
]


@pytest.mark.parametrize("label, channel, protection", CASES, ids=[f"{one[0]} {one[1]['name']}" for one in CASES])
def test_what_is_drawn_behind_a_protection_is_what_is_measured(label, channel, protection):
    """Catches a formula of another order on the air: the mean over items of a run lies within five standard errors."""
    tables = {"channel": channel, "protection": protection}
    (drawn, value), = residual(**tables).items()
    assert drawn == label
    results = scenarios.run({**BITS, "arm": [{"label": "one", "decoder": {"name": "none"}}], **tables})
    measured = np.array([trial.metrics["residual_packet_loss_rate"] for trial in results.trials], float)
    assert measured.mean() == pytest.approx(value, abs=5 * measured.std() / measured.size**0.5) and measured.mean() > 0


@pytest.mark.parametrize("tables", [
    {"channel": {**GILBERT, "slot_bits": 64}, "protection": {"name": "reed_solomon", "n": 20, "k": 15}},
    {"channel": GILBERT, "protection": {"name": "reed_solomon", "n": 20, "k": 16}},  # 120 packets are no whole blocks
    {"channel": GILBERT, "protection": {"name": "reed_solomon", "n": 16, "k": 12, "interleave_depth": 3}},  # nor 10 of them 3s
    {"channel": GILBERT, "protection": {"name": "reed_solomon", "n": 20, "k": 15, "target_uses": 2000}},
    {"channel": GILBERT, "protection": {"name": "arq"}},
    {"channel": {"name": "packet_loss"}, "protection": {"name": "arq", "deadline": 30}},
    {"channel": {"name": "packet_loss"}, "protection": {"name": "none"}},
])
def test_nothing_is_drawn_where_a_condition_fails(tables):
    """Catches a closed form beside a chain that it does not describe."""
    assert residual(**tables) == {}


def test_text_has_its_closed_form_while_all_items_are_of_one_size():
    """Catches a last item, shorter than the others, that is taken for one of them."""
    text = {"source": {"name": "text", "item_bytes": 480}, "tokenizer": {"name": "bytes"}, "items": 3,
            "coder": {"name": "fixed_length", "packet_bits": 64, "header_bits": 0},
            "channel": GILBERT, "protection": {"name": "reed_solomon", "n": 20, "k": 15}}
    assert residual(**text) == pytest.approx({"(20, 15) MDS, Gilbert losses, exact": theory.mds_residual_loss(20, 15, 0.1, 4.0)})
    assert residual(**{**text, "items": 10**6}) == {}


@pytest.mark.parametrize("fading, expected", [
    ({"fading": "awgn"}, theory.qam_bit_error_probability(16, 8)),
    ({"fading": "rayleigh_block"}, theory.qam_bit_error_probability(16, 8, "rayleigh")),
    ({"fading": "rayleigh"}, theory.qam_bit_error_probability(16, 8, "rayleigh")),
    ({"fading": "rician_block", "rician_k_db": 3.0}, theory.qam_bit_error_probability(16, 8, "rician", 3.0)),
])
def test_uncoded_links_have_their_bit_error_rate(fading, expected):
    """Catches Es/N0 on the axis of Eb/N0."""
    link = {"name": "coded_link", "code": "uncoded", "modulation": "qam16", "ebno_db": 8.0, **fading}
    assert curves(channel=link)["uncoded, closed form", "bit_error_rate"] == pytest.approx(expected)


def test_coded_links_have_the_best_code_of_their_length():
    """Catches a QPSK symbol booked as one binary use: rate ½, n = 1000 is at 1e-2 where Eb/N0 = .893 dB."""
    link = {"name": "coded_link", "code": "ldpc", "block_bits": 500, "code_rate": 0.5, "ebno_db": 0.893}
    for modulation in ("bpsk", "qpsk"):
        value = curves(channel={**link, "modulation": modulation})[
            "best (1000, 500) code, normal approximation", "block_error_rate"]
        assert value == pytest.approx(1e-2, rel=0.01)
    assert curves(channel={**link, "modulation": "qam16"}) == {}


@pytest.mark.parametrize("faded, num_blocks", [(500, 1), (1000, 1), (250, 2), (50, 10), (300, None)])
def test_block_fading_has_its_outage(faded, num_blocks):
    """Catches the rate of a bit for that of a symbol, and code blocks that meet different numbers of fades."""
    found = curves(channel={"name": "coded_link", "code": "ldpc", "block_bits": 500, "code_rate": 0.5, "esno_db": 10.0,
                            "modulation": "qpsk", "fading": "rayleigh_block", "fading_block_symbols": faded})
    expected = {} if num_blocks is None else {
        (f"outage at 1 bits a use, {num_blocks} {'fade' if num_blocks == 1 else 'fades'}", "block_error_rate"):
            theory.outage_probability(1, 10, num_blocks)}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("link", [
    {"code": "uncoded", "esno_db": 3.0, "fading": "rayleigh_block", "max_transmissions": 3},
    {"code": "uncoded", "esno_db": 3.0, "max_transmissions": 2},
    {"code": "ldpc", "esno_db": 3.0, "max_transmissions": 2},
    {"code": "ldpc", "esno_db": 3.0, "fading": "rayleigh_block", "fading_block_symbols": 512, "interleave_blocks": 4},
    {"code": "ldpc", "esno_db": 3.0, "fading": "rayleigh_block", "fading_block_symbols": 512, "max_transmissions": 2},
])
def test_links_that_send_again_or_interleave_have_no_closed_form(link):
    """Catches the error rate of one transmission beside copies that add up, and one fade a block where several are met."""
    assert curves(channel={"name": "coded_link", **link}) == {}


def test_losses_of_period_two_are_drawn_and_measured():
    """Catches a traceback where every second packet is lost: 2 apart, a block meets losses only or none.

    Half of the blocks lose all and give nothing back, the others lose nothing: a residual of 1/2, by hand. In order, each block
    of 20 loses 10, of which 8 among its 16 source packets stay missing: 1/2 as well.
    """
    alternating = {"name": "gilbert_elliott", "loss_rate": 0.5, "mean_burst_packets": 1.0}
    for depth in (1, 2, 3):
        tables = {"channel": alternating, "items": 10, "source": {"name": "bernoulli", "num_symbols": 768},
                  "protection": {"name": "reed_solomon", "n": 20, "k": 16, "interleave_depth": depth}}
        (_, drawn), = residual(**tables).items()
        assert drawn == pytest.approx(0.5)
        results = scenarios.run({**BITS, "arm": [{"label": "one", "decoder": {"name": "none"}}], **tables})
        assert [trial.metrics["residual_packet_loss_rate"] for trial in results.trials] == pytest.approx([0.5] * 10)
