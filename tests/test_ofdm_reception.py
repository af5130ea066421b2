"""What arrives over OFDM: selectivity where it belongs, bit errors of the closed forms, and LLRs that mean what they say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, j0

from channel_sim.fading import Flat, Heard
from channel_sim.keys import Key
from channel_sim.multipath import Multipath
from channel_sim.ofdm import SLOTS_A_DRAW, _estimator
from tests.test_ofdm import SMALL, assert_mean, ofdm, qpsk

SELECTIVE: dict[str, Any] = {"delay_spread_ns": 4000.0, "cyclic_prefix_samples": 48, "speed_kmh": 100.0}
"""Many fades an item: bit error rates of few items are already sharp."""


def rayleigh(snr: np.ndarray | float) -> np.ndarray:
    """Bit error probability of QPSK at mean Es/N0 `snr` over Rayleigh fading."""
    return (1 - np.sqrt(snr / 2 / (1 + np.asarray(snr) / 2))) / 2


@pytest.mark.sionna
def test_nothing_spreads_without_delays_and_motion():
    """Catches selectivity from nowhere: one fade for all of an item, in its last slot as in the first."""
    response = ofdm(delay_spread_ns=0.0, speed_kmh=0.0, **SMALL).response(20, Key(61))
    assert np.allclose(response, response[0, 0, 0], atol=1e-12)
    moving = ofdm(delay_spread_ns=0.0, speed_kmh=50.0, **SMALL).response(2, Key(61))
    assert np.allclose(moving, moving[:, :, :1], atol=1e-12) and np.ptp(np.abs(moving)) > 0.01
    spread = ofdm(delay_spread_ns=500.0, cyclic_prefix_samples=1, num_subcarriers=12, speed_kmh=0.0).response(2, Key(61))
    assert np.allclose(spread, spread[:1, :1], atol=1e-12) and np.ptp(np.abs(spread)) > 0.01


@pytest.mark.sionna
def test_slots_follow_each_other_in_time():
    """Catches slots that fade apart, or alike: the step from one slot to the next is that within one; a draw's end starts anew."""
    way = ofdm(num_subcarriers=1, cyclic_prefix_samples=1, speed_kmh=20.0)
    response = way.response(SLOTS_A_DRAW + 1, Key(62))
    steps = np.abs(np.diff(response.ravel()))
    edge = SLOTS_A_DRAW * 14 - 1
    within, between = np.delete(steps, np.arange(13, steps.size, 14)), steps[13:edge:14]
    expected = np.sqrt(2 - 2 * j0(2 * np.pi * way.multipath.doppler_hz * way.symbol_seconds))
    for some in (within, between):
        assert np.sqrt(np.mean(some**2)) == pytest.approx(expected, rel=0.35)
    assert steps[edge] > 5 * expected and np.abs(response[-1] - response[0]).min() > 5 * expected


@pytest.mark.sionna
@pytest.mark.parametrize("fading", ["tdl_a", "cdl_a"])
def test_without_line_of_sight_bit_errors_are_those_of_rayleigh(fading: str):
    """Catches a wrong Es, N0 or mean energy: QPSK with the channel known, means of independent items against the closed form."""
    way, no = ofdm(fading=fading, **SELECTIVE), 0.1
    sent = qpsk(8000)
    errors = [_wrong(way.carry(sent, no, Key(71).child(i)), sent).mean() for i in range(40)]
    assert_mean(errors, float(rayleigh(1 / no)), 0.08)


def _wrong(heard: Heard, sent: np.ndarray) -> np.ndarray:
    """bool [num_symbols, 2]."""
    return np.stack([(heard.symbols.real > 0) != (sent.real > 0), (heard.symbols.imag > 0) != (sent.imag > 0)], axis=1)


@pytest.mark.sionna
@pytest.mark.parametrize(("no", "speed_kmh"), [(0.1, 100.0), (0.01, 200.0)])
def test_with_estimates_bit_errors_are_the_closed_form_of_a_noisy_reference(no: float, speed_kmh: float):
    """Catches estimates better or worse than said: ĥ ~ CN(0, 1 - e) and noise N0 + e make Rayleigh at SNR (1 - e) / (N0 + e)."""
    way = ofdm(**SELECTIVE | {"speed_kmh": speed_kmh, "channel_knowledge": "ls_lmmse"})
    known, sent = dataclasses.replace(way, channel_knowledge="perfect"), qpsk(8000)
    error = np.tile(_estimator(way, no).error, 10)[:8000]
    keys = [Key(72).child(i) for i in range(40)]
    estimated = [_wrong(way.carry(sent, no, key), sent).mean() for key in keys]
    assert_mean(estimated, float(rayleigh((1 - error) / (no + error)).mean()), 0.07)
    assert np.mean(estimated) > np.mean([_wrong(known.carry(sent, no, key), sent).mean() for key in keys])


def test_estimating_a_slow_channel_costs_less_than_half_a_decibel():
    """Catches pilots that are not averaged: one at a time they would cost 3 dB. At 100 ns, 3 km/h, Es/N0 of 0 to 20 dB."""
    for no in (1.0, 0.1, 0.01):
        error = _estimator(ofdm(channel_knowledge="ls_lmmse"), no).error
        loss = (1 / no) / np.mean((1 - error) / (no + error))
        assert 1 < loss < 10**0.05, loss


@pytest.mark.sionna
@pytest.mark.parametrize(("fading", "no"), [("tdl_a", 0.01), ("tdl_d", 0.1), ("cdl_c", 0.01)])
def test_llrs_mean_what_they_say(fading: str, no: float):
    """Catches noise without the error of the estimate: bits whose LLR is ± L are wrong with probability 1 / (1 + e^L).

    Summed item by item; the negative control leaves the estimate's error out, and is seen.
    """
    way = ofdm(fading=fading, **SELECTIVE | {"speed_kmh": 200.0, "delay_spread_ns": 2300.0, "channel_knowledge": "ls_lmmse"})
    sent, error = qpsk(6 * 864), np.tile(_estimator(way, no).error, 6)
    honest, bold = [], []
    for i in range(40):
        heard = way.carry(sent, no, Key(81).child(i))
        wrong = _wrong(heard, sent)
        amplitude = np.sqrt(8) * np.abs(np.stack([heard.symbols.real, heard.symbols.imag], axis=1))
        for tally, noise in ((honest, heard.noise), (bold, heard.noise * no / (no + error))):
            tally.append(np.sum(wrong - expit(-amplitude / noise[:, None])))
    assert abs(np.mean(honest)) < 5 * np.std(honest) / np.sqrt(40)
    assert np.mean(bold) > 5 * np.std(bold) / np.sqrt(40)


@pytest.mark.sionna
def test_a_longer_item_is_heard_alike_and_knowledge_shares_the_channel():
    """Catches noise that depends on the item's length, and unpaired arms: the first symbols of a longer item agree bit for bit."""
    sent, key = qpsk(1800), Key(91)
    for knowledge in ("perfect", "ls_lmmse"):
        way = ofdm(channel_knowledge=knowledge)
        whole, part = way.carry(sent, 0.1, key), way.carry(sent[:900], 0.1, key)
        for name in ("symbols", "noise", "snr_db"):
            assert np.array_equal(getattr(whole, name)[:900], getattr(part, name))
        assert np.array_equal(whole.snr_db, ofdm().carry(sent, 0.1, key).snr_db)
    assert ofdm().carry(sent[:0], 0.1, key).symbols.size == 0 == way.carry(sent[:0], 0.1, key).symbols.size


@pytest.mark.sionna
def test_noise_is_paired_with_that_of_flat_fading():
    """Catches noise of another name: at h = 1 the errors of both ways would be the same."""
    sent, key = qpsk(300), Key(92)
    over, flat = ofdm().carry(sent, 0.1, key), Flat("awgn").carry(sent, 0.1, key)
    fades = ofdm().response(1, key)[:, ofdm().data_symbols, :].ravel()[:300]
    assert np.allclose((over.symbols - sent) * fades, flat.symbols - sent)


def test_correlation_in_time_is_that_of_jakes():
    """Catches a Doppler off by 2π or 3.6: the first zero of J0 is at 2π f t = 2.4048; 30 km/h at 3.5 GHz is 97.3 Hz."""
    multipath = Multipath("tdl_b", speed_kmh=30.0)
    assert multipath.doppler_hz == pytest.approx(97.2895, abs=1e-4)
    assert multipath.statistics(2, 2.404826 / (2 * np.pi * 97.2895)).correlation[3, 1] == pytest.approx(0, abs=1e-4)
    assert multipath.statistics(2, 1e-3).correlation[3, 1] == pytest.approx(j0(2 * np.pi * 0.0972895), abs=1e-5)
