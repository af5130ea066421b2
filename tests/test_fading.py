"""Flat fading against closed forms: error rates, level statistics, and what belongs to one fade."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import ncx2, norm

from channel_sim.fading import FLAT_LAWS, Flat, FlatLaw, Heard
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from tests.laws import assert_rate

FADES = 200_000


def signs(num_symbols: int, label: str = "signs") -> np.ndarray:
    return (1 - 2 * Key(2).child(label).integers(2, num_symbols)).astype(complex)


def wrong_signs(way: Flat, esno_db: float, num_symbols: int = FADES) -> int:
    """Errors of BPSK on the real axis, hard decisions."""
    sent = signs(num_symbols)
    heard = way.carry(sent, 10 ** (-esno_db / 10), Key(5).child("channel"))
    return int(np.sum((heard.symbols.real > 0) != (sent.real > 0)))


def rician_bpsk(ratio: float, snr: float) -> float:
    """Mean of Q(sqrt(2 snr |h|²)) by Craig's integral over the moment generating function of a Rician power, K = `ratio`.

    Source: M. K. Simon, M.-S. Alouini, "Digital Communication over Fading Channels" (2005), eqs. 2.17 and 8.102.
    """
    def mean(angle: float) -> float:
        s = snr / np.sin(angle) ** 2
        return float((1 + ratio) / (1 + ratio + s) * np.exp(-ratio * s / (1 + ratio + s)))

    return quad(mean, 0, np.pi / 2)[0] / np.pi


def test_the_yardsticks_agree_where_they_meet():
    """Catches a wrong Rician integral: without line of sight it is Rayleigh's closed form, with nothing else Q(sqrt(2 snr))."""
    assert rician_bpsk(0, 10.0) == pytest.approx(0.0232687, rel=1e-5)
    assert rician_bpsk(1e7, 10**0.4) == pytest.approx(0.0125008, rel=1e-4)
    snr, ratio = 2.0, 3.0
    brute = quad(lambda x: norm.sf(np.sqrt(2 * snr * x / (2 * (ratio + 1)))) * ncx2.pdf(x, 2, 2 * ratio), 0, 80)[0]
    assert rician_bpsk(ratio, snr) == pytest.approx(brute, rel=1e-6)


@pytest.mark.parametrize("esno_db", [0.0, 10.0])
@pytest.mark.parametrize(("law", "block"), [("rayleigh", 64), ("rayleigh_block", 1)])
def test_bpsk_over_rayleigh_is_the_closed_form(law: FlatLaw, block: int, esno_db: float):
    """Catches a wrong mean power, N0/2 for N0, and fades that are not those equalised by; one symbol a fade."""
    snr = 10 ** (esno_db / 10)
    assert_rate(wrong_signs(Flat(law, block), esno_db), FADES, (1 - np.sqrt(snr / (1 + snr))) / 2)


@pytest.mark.parametrize(("k_db", "esno_db"), [(-3.0, 6.0), (6.0, 4.0), (12.0, 4.0)])
def test_bpsk_over_rician_is_the_integral(k_db: float, esno_db: float):
    """Catches K as an amplitude ratio, K without normalisation of |h|², and K in the wrong sense."""
    assert_rate(wrong_signs(Flat("rician_block", 1, k_db), esno_db), FADES, rician_bpsk(10 ** (k_db / 10), 10 ** (esno_db / 10)))


def test_half_a_decibel_of_k_or_noise_would_be_seen():
    """The negative control of the tests above: the same counts against a channel 0.5 dB off."""
    errors = wrong_signs(Flat("rician_block", 1, 6.0), 4.0)
    for k_db, esno_db in ((6.5, 4.0), (6.0, 4.5), (6.0, 3.5)):
        with pytest.raises(AssertionError):
            assert_rate(errors, FADES, rician_bpsk(10 ** (k_db / 10), 10 ** (esno_db / 10)))


@pytest.mark.parametrize(("way", "ratio"), [(Flat("rayleigh"), 0.0), (Flat("rician_block", 1, 3.0), 10**0.3)])
def test_levels_are_those_of_the_law(way: Flat, ratio: float):
    """Catches a law with the right mean and wrong tails: P(|h|² < x) from deep fades to peaks."""
    power = np.abs(way.fades(FADES, Key(6))) ** 2
    for level in (0.01, 0.1, 1.0, 2.0):
        below = ncx2.cdf(level * 2 * (ratio + 1), 2, 2 * ratio) if ratio else 1 - np.exp(-level)
        assert_rate(int(np.sum(power < level)), FADES, float(below))


@pytest.mark.parametrize("law", FLAT_LAWS)
def test_mean_power_is_one(law: FlatLaw):
    """Catches fading that amplifies: Es/N0 would not be what is given."""
    power = np.abs(Flat(law, 1, 3.0).fades(FADES, Key(7))) ** 2
    assert power.mean() == pytest.approx(1, abs=max(5 * power.std() / np.sqrt(power.size), 1e-12))


def test_the_line_of_sight_has_phase_zero():
    """Catches a random or rotated line of sight: the mean fade is sqrt(K / (K + 1)), real."""
    fades = Flat("rician_block", 1, 6.0).fades(FADES, Key(8))
    ratio = 10**0.6
    assert fades.mean() == pytest.approx(np.sqrt(ratio / (ratio + 1)), abs=5 * np.sqrt(1 / (ratio + 1) / FADES))


def test_without_and_with_nothing_but_a_line_of_sight():
    """Catches draws of their own: at K = 0 the fades are Rayleigh's, at K = ∞ there are none."""
    key = Key(9)
    assert np.allclose(Flat("rician_block", 4, -300.0).fades(40, key), Flat("rayleigh_block", 4).fades(40, key), atol=1e-12)
    assert np.allclose(Flat("rician_block", 4, 300.0).fades(40, key), 1, atol=1e-12)


@pytest.mark.parametrize("law", ["rayleigh_block", "rician_block"])
def test_a_fade_lasts_a_block_and_no_longer(law: FlatLaw):
    """Catches a block length off by one and blocks that fade alike. Without noise, what was sent is y / h: SNRs tell the fades."""
    way = Flat(law, 5)
    heard = way.carry(signs(4998), 1.0, Key(10))
    assert heard.snr_db.size == 1000 and heard.noise.size == 4998
    assert np.allclose(heard.noise, np.repeat(10 ** (-heard.snr_db / 10), 5)[:4998])
    fades = way.fades(4998, Key(10)) - np.mean(way.fades(4998, Key(10)))
    assert abs(np.vdot(fades[1:], fades[:-1])) / 999 < 5 / np.sqrt(999)


def test_awgn_is_one_fade():
    """Catches a fade on the plain channel: one SNR, Es/N0 itself, and the noise as given."""
    heard = Flat("awgn").carry(signs(1000), 0.25, Key(11))
    assert np.array_equal(heard.noise, np.full(1000, 0.25)) and heard.snr_db == pytest.approx([10 * np.log10(4)])


@pytest.mark.parametrize("law", FLAT_LAWS)
def test_noise_is_what_the_equalised_symbols_are_off_by(law: FlatLaw):
    """Catches noise not scaled by the equaliser: |y / h - x|² over its stated variance is exponential of mean 1."""
    sent = signs(50_000)
    heard = Flat(law, 7, 3.0).carry(sent, 0.5, Key(12))
    ratio = np.abs(heard.symbols - sent) ** 2 / heard.noise
    assert_rate(int(np.sum(ratio > 1)), ratio.size, float(np.exp(-1)))
    assert ratio.mean() == pytest.approx(1, abs=5 / np.sqrt(ratio.size))


@pytest.mark.parametrize("law", FLAT_LAWS)
def test_a_longer_item_starts_alike(law: FlatLaw):
    """Catches draws that depend on how many are drawn: the first symbols of a longer item meet the same, bit for bit."""
    way, sent, key = Flat(law, 8, 3.0), signs(101), Key(13)
    whole, part = way.carry(sent, 0.1, key), way.carry(sent[:37], 0.1, key)
    assert np.array_equal(whole.symbols[:37], part.symbols) and np.array_equal(whole.noise[:37], part.noise)
    assert np.array_equal(whole.snr_db[:part.snr_db.size], part.snr_db)


def test_noise_is_drawn_first_and_scaled_after():
    """Catches unpaired sweep points: at a quarter of the noise power all errors halve; laws share fades and noise."""
    sent = signs(60)
    loud, soft = (Flat("rayleigh_block", 6).carry(sent, no, Key(14)) for no in (0.4, 0.1))
    assert np.allclose(loud.symbols - sent, 2 * (soft.symbols - sent), rtol=1e-9)
    assert np.array_equal(Flat("rayleigh").fades(9, Key(14)), Flat("rayleigh_block", 1).fades(9, Key(14)))


def test_fades_and_noise_come_from_their_own_labels():
    """Catches draws under another name, which would change every result on file."""
    sent, key, no = signs(13), Key(15), 0.3
    fades = np.repeat(key.child("fading").complex_normal(4), 4)[:13]
    noise = np.sqrt(no) * key.child("symbol noise").complex_normal(13)
    heard = Flat("rayleigh_block", 4).carry(sent, no, key)
    assert np.array_equal(heard.symbols, (fades * sent + noise) / fades)


@pytest.mark.parametrize("law", FLAT_LAWS)
def test_nothing_to_carry(law: FlatLaw):
    """Catches a crash on an item without symbols."""
    heard = Flat(law).carry(np.zeros(0, complex), 1.0, Key(1))
    assert [getattr(heard, f.name).size for f in dataclasses.fields(Heard)] == [0, 0, 0]
    assert Flat(law).charges(0) == Ledger()


def test_a_symbol_is_a_use():
    """Catches overhead where none is sent."""
    assert Flat("rayleigh").charges(70) == Ledger(channel_uses=70, energy=70.0) and Flat("awgn").num_uses(70) == 70


def test_a_way_is_a_record():
    """Catches state: equal fields are equal ways, and they travel to workers."""
    way = Flat("rician_block", 3, 2.0)
    assert hash(way) == hash(Flat("rician_block", 3, 2.0)) and pickle.loads(pickle.dumps(way)) == way


def test_wrong_requests_are_refused_by_name():
    """Catches an unknown law that silently does not fade."""
    with pytest.raises(ValueError, match="fading must be one of awgn"):
        Flat("nakagami")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fading_block_symbols must be >= 1, got 0"):
        Flat("rayleigh_block", 0)
    with pytest.raises(ValueError, match="rician_k_db must lie in"):
        Flat("rician_block", 1, 1e9)
