"""OFDM over multipath: what the standard's channels are, what the receiver makes of them, and what goes along on the air."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from channel_sim import sionna_blocks
from channel_sim.fading import Flat, Heard
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.multipath import MULTIPATH_MODELS, Multipath, _generator
from channel_sim.ofdm import FADINGS, Ofdm, _cholesky, _estimator, _solved, propagation

SMALL: dict[str, Any] = {"num_subcarriers": 12, "cyclic_prefix_samples": 2}


def ofdm(**fields: Any) -> Ofdm:
    way = propagation(**{"fading": "tdl_a", **fields})
    assert isinstance(way, Ofdm)
    return way


def qpsk(num_symbols: int) -> np.ndarray:
    signs = 1 - 2 * Key(2).child("signs").integers(2, num_symbols, 2)
    return (signs[:, 0] + 1j * signs[:, 1]) / np.sqrt(2)


def assert_mean(per_item: list[float] | np.ndarray, expected: float, sharpness: float) -> None:
    """The mean over independent items is `expected`, within 5 standard errors that are at most `sharpness` of it."""
    values = np.asarray(per_item)
    error = values.std(ddof=1) / np.sqrt(values.size)
    assert error < sharpness * abs(expected), f"standard error {error:.3g}: too few items to see {sharpness:.1%} of {expected:.3g}"
    assert abs(values.mean() - expected) < 5 * error, f"{values.mean():.5g} ± {error:.2g}, expected {expected:.5g}"


def full_covariance(way: Ofdm) -> np.ndarray:
    """E[h h*] over a slot, element by element from the model's delays, powers and time correlations."""
    statistics = way.multipath.statistics(way.symbols_per_slot, way.symbol_seconds)
    spacing, carriers = way.subcarrier_spacing_khz * 1e3, way.num_subcarriers
    size = way.symbols_per_slot * carriers
    covariance = np.zeros((size, size), complex)
    for a in range(size):
        for b in range(size):
            (t, f), (s, g) = divmod(a, carriers), divmod(b, carriers)
            rho = statistics.correlation[:, abs(t - s)]
            rho = rho if t >= s else rho.conj()
            covariance[a, b] = np.sum(statistics.powers * rho * np.exp(-2j * np.pi * spacing * (f - g) * statistics.delays))
    return covariance


# ---------------------------------------------------------------- what goes along


def test_everything_sent_is_charged():
    """Catches free pilots, a free prefix and a last slot charged in part: of 14 symbols of 72 + 6 samples, 12 carry data."""
    assert ofdm().charges(1000) == Ledger(pilot_uses=2 * 2 * 72, cyclic_prefix_uses=2 * 14 * 6, filling_uses=2 * 864 - 1000,
                                          channel_uses=2 * 14 * 78, energy=2.0 * 14 * 78)
    assert ofdm().charges(0) == Ledger()


@pytest.mark.parametrize("num_symbols", [1, 119, 120, 121, 999])
def test_uses_add_up(num_symbols: int):
    """Catches a use that belongs to nobody, at and around whole slots."""
    ledger = ofdm(**SMALL).charges(num_symbols)
    assert num_symbols + ledger.pilot_uses + ledger.cyclic_prefix_uses + ledger.filling_uses == ledger.channel_uses == ledger.energy
    assert 0 <= ledger.filling_uses < 144 and ofdm(**SMALL).num_uses(num_symbols) == ledger.channel_uses


def test_the_receivers_knowledge_changes_no_charge():
    """Catches a comparison at unequal uses: pilots are sent to the receiver that needs none, too."""
    assert ofdm(channel_knowledge="perfect").charges(777) == ofdm(channel_knowledge="ls_lmmse").charges(777)


def test_pilots_are_the_third_symbol_and_the_third_last():
    """Catches pilots that coincide or leave a slot's edges to extrapolation."""
    assert ofdm().pilot_symbols == (2, 11) and ofdm(symbols_per_slot=7).pilot_symbols == (1, 5)
    for symbols in range(3, 29):
        way = ofdm(symbols_per_slot=symbols)
        assert len(set(way.pilot_symbols) | set(way.data_symbols)) == symbols == len(way.data_symbols) + 2


@pytest.mark.parametrize(("fields", "message"), [
    ({"delay_spread_ns": -1.0}, "delay_spread_ns must be >= 0, got -1"),
    ({"carrier_ghz": 0.0}, "carrier_ghz must be > 0, got 0"),
    ({"speed_kmh": -3.0}, "speed_kmh must be >= 0, got -3"),
    ({"subcarrier_spacing_khz": 0.0}, "subcarrier_spacing_khz must be > 0, got 0"),
    ({"num_subcarriers": 0}, "num_subcarriers must lie in"),
    ({"cyclic_prefix_samples": 100}, "cyclic_prefix_samples must lie in .* got 100"),
    ({"symbols_per_slot": 2}, "symbols_per_slot must lie in .* got 2"),
    ({"channel_knowledge": "genie"}, "channel_knowledge must be one of perfect, ls_lmmse, got 'genie'"),
    ({"fading": "tdl_z"}, "fading must be one of awgn, .*cdl_c, got 'tdl_z'"),
    ({"speed_kmh": 500.0, "carrier_ghz": 28.0}, "subcarrier_spacing_khz must be >= 259.4, got 15"),
])
def test_wrong_requests_are_refused_by_name(fields: dict[str, Any], message: str):
    """Catches a request that runs as something else: key, rule, value and cure are said."""
    with pytest.raises(ValueError, match=message):
        propagation(**{"fading": "tdl_a", **fields})


def test_a_prefix_shorter_than_the_channel_is_refused():
    """Catches interference between OFDM symbols that is not simulated. TDL-E ends at 20.6519 delay spreads, 6195.57 ns at 300."""
    with pytest.raises(ValueError, match="cyclic_prefix_samples must be >= 7, got 6: 5556 ns .* 6196 ns"):
        ofdm(fading="tdl_e", delay_spread_ns=300.0)
    assert ofdm(fading="tdl_e", delay_spread_ns=300.0, cyclic_prefix_samples=7).multipath.longest_delay_ns == pytest.approx(6195.57)
    assert ofdm(delay_spread_ns=0.0, cyclic_prefix_samples=0).multipath.longest_delay_ns == 0


def test_every_law_has_a_way():
    """Catches a law that is offered and not built, and multipath fields that touch flat fading."""
    for law in FADINGS:
        way = propagation(fading=law)
        assert isinstance(way, Ofdm) == (law in MULTIPATH_MODELS) and pickle.loads(pickle.dumps(way)) == way
    assert propagation(fading="rayleigh_block", fading_block_symbols=5, delay_spread_ns=-1.0) == Flat("rayleigh_block", 5, 6.0)


def test_a_check_needs_no_tensorflow():
    """Catches a slow `channel-sim list`: building, refusing and charging read tables alone."""
    script = ("import sys\nfrom channel_sim.ofdm import propagation\n"
              "propagation(fading='cdl_c', channel_knowledge='ls_lmmse').charges(5000)\n"
              "sys.exit(any(name.startswith(('tensorflow', 'sionna', 'keras')) for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# ---------------------------------------------------------------- what is known without having met the channel


@pytest.mark.parametrize(("model", "k_db", "last"), [("tdl_d", 13.3, 12.525), ("tdl_e", 22.0, 20.6519)])
def test_line_of_sight_models_have_the_published_ratio(model: Any, k_db: float, last: float):
    """Catches a specular path lost or counted twice. 3GPP TR 38.901, tables 7.7.2-4 and 7.7.2-5: K of the first tap, last delay."""
    statistics = Multipath(model, 1e9).statistics(3, 1e-3)
    assert 10 * np.log10(statistics.powers[0] / statistics.powers[1]) == pytest.approx(k_db, abs=1e-9)
    assert statistics.delays[:2].tolist() == [0, 0] and statistics.delays.max() == pytest.approx(last)


@pytest.mark.parametrize("model", MULTIPATH_MODELS)
def test_statistics_are_those_of_a_channel_of_energy_one(model: Any):
    """Catches unnormalised powers and a delay spread that is not what it says (the tables round: 1 %, TDL-B of 38.901 too)."""
    statistics = Multipath(model, 250.0, speed_kmh=60.0).statistics(5, 1e-4)
    assert statistics.powers.sum() == pytest.approx(1) and np.allclose(statistics.correlation[:, 0], 1, atol=1e-12)
    mean = statistics.powers @ statistics.delays
    spread = np.sqrt(statistics.powers @ statistics.delays**2 - mean**2)
    assert spread == pytest.approx(250e-9, rel=0.02)


def test_motion_in_any_direction_is_a_brute_force_mean():
    """Catches a wrong law of directions in the clustered models, against a draw of directions and one ray a cluster."""
    multipath = Multipath("cdl_a", speed_kmh=120.0)
    step = 2e-4
    azimuth, zenith = 2 * np.pi * Key(3).uniform(400_000), np.pi * Key(4).uniform(400_000)
    arrival = np.deg2rad(30.1)  # of the tenth cluster, TR 38.901 table 7.7.1-1
    cosine = np.sin(zenith) * np.cos(azimuth) * np.sin(arrival) + np.cos(zenith) * np.cos(arrival)
    for lag, value in enumerate(multipath.statistics(4, step).correlation[9]):
        drawn = np.exp(2j * np.pi * multipath.doppler_hz * lag * step * cosine)
        assert value == pytest.approx(drawn.mean(), abs=5 / np.sqrt(azimuth.size))


def test_the_estimator_is_the_textbook_one():
    """Catches a wrong mode, pilot, order or noise: against C_dp (C_pp + N0 I)⁻¹ over the full covariance of a small slot."""
    for law, no in (("tdl_a", 0.1), ("tdl_d", 0.01), ("cdl_a", 1.0)):
        way = ofdm(fading=law, num_subcarriers=5, cyclic_prefix_samples=1, symbols_per_slot=6, speed_kmh=150.0)
        covariance = full_covariance(way)
        index = np.arange(30).reshape(6, 5)
        pilots, data = index[list(way.pilot_symbols)].ravel(), index[list(way.data_symbols)].ravel()
        gain = covariance[np.ix_(data, pilots)] @ np.linalg.inv(covariance[np.ix_(pilots, pilots)] + no * np.eye(10))
        error = np.diag(covariance[np.ix_(data, data)] - gain @ covariance[np.ix_(pilots, data)]).real
        estimator = _estimator(way, no)
        heard = Key(5).complex_normal(10)
        assert np.allclose(estimator(heard), gain @ heard, atol=1e-9) and np.allclose(estimator.error, error, atol=1e-9)


def test_the_factors_are_those_of_lapack():
    """Catches a slip in the two loops that stand for it."""
    parts = Key(6).complex_normal(9, 20)
    matrix, right = parts @ parts.conj().T + np.eye(9), Key(7).complex_normal(9, 4)
    assert np.allclose(_cholesky(matrix), np.linalg.cholesky(matrix))
    assert np.allclose(_solved(_cholesky(matrix), right), np.linalg.solve(np.linalg.cholesky(matrix), right))


def test_estimates_are_certain_without_noise_and_nothing_in_noise_alone():
    """Catches an error variance of the wrong scale at both ends: none at N0 → 0 on a constant channel, E|h|² = 1 at N0 → ∞."""
    still = ofdm(speed_kmh=0.0, **SMALL)
    assert _estimator(still, 1e-8).error.max() < 1e-7
    assert _estimator(still, 1e8).error.min() > 1 - 1e-6


# ---------------------------------------------------------------- Sionna's channels


@pytest.mark.sionna
def test_equal_keys_meet_equal_channels_whatever_came_before():
    """Catches a generator with a memory: other draws, Sionna's own seed and the order of calls must not matter, bit for bit."""
    _, phy = sionna_blocks.load()
    ways = [Multipath("tdl_a"), Multipath("tdl_d"), Multipath("cdl_a")]
    first = [_uncached(way, 20, Key(1).child(i)) for i, way in enumerate(ways)]
    phy.config.seed = 7
    phy.config.tf_rng.uniform([3])
    own = phy.config.tf_rng.state.numpy()
    again = [_uncached(way, 20, Key(1).child(i)) for i, way in reversed(list(enumerate(ways)))]
    assert all(np.array_equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert np.array_equal(phy.config.tf_rng.state.numpy(), own), "the generator that others draw from has moved on"


def _uncached(multipath: Multipath, num_steps: int, key: Key) -> np.ndarray:
    import_module("channel_sim.multipath")._drawn.cache_clear()
    return multipath.draw(num_steps, 7e-5, key)[0]


@pytest.mark.sionna
@pytest.mark.parametrize("model", ["tdl_a", "tdl_e", "cdl_c"])
def test_a_longer_item_starts_on_the_same_channel(model: Any):
    """Catches draws that depend on their number: 100, 257 and 3584 steps (three shapes) agree bit for bit where they overlap."""
    multipath, key = Multipath(model), Key(11)
    short, longer, longest = (multipath.draw(steps, 7e-5, key)[0] for steps in (100, 257, 3584))
    assert np.array_equal(short, longest[:, :100]) and np.array_equal(longer, longest[:, :257])


@pytest.mark.sionna
def test_neighbouring_seeds_draw_apart():
    """Catches streams that overlap: Sionna's seeds are places in one stream: 300 in a row draw too much alike."""
    _, phy = sionna_blocks.load()
    tdl = import_module("sionna.phy.channel.tr38901").TDL("A", 1e-7, 3.5e9, precision="double")
    energy = []
    for seed in range(300):
        with _generator(seed):
            energy.append(float(np.sum(np.abs(tdl(1, 1, 1.0)[0].numpy()) ** 2)))
    assert_mean(energy, 1.0, 0.04)


@pytest.mark.sionna
def test_threads_and_determinism_change_no_bit():
    """Catches sums split by thread, and Sionna's generator that cannot start under TensorFlow's deterministic mode."""
    script = ("from tests.test_ofdm import *\ntf, _ = sionna_blocks.load()\ntf.config.experimental.enable_op_determinism()\n"
              "print(sample().symbols.tobytes().hex())")
    limits = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    elsewhere = subprocess.run([sys.executable, "-c", script], env=os.environ | limits, capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == sample().symbols.tobytes().hex()


def sample() -> Heard:
    return ofdm(channel_knowledge="ls_lmmse", speed_kmh=90.0).carry(qpsk(2000), 0.1, Key(21))


@pytest.mark.sionna
@pytest.mark.parametrize(("model", "num_draws"), [("tdl_a", 120), ("tdl_d", 80), ("cdl_a", 50)])
def test_drawn_channels_have_the_statistics_that_the_receiver_knows(model: Any, num_draws: int):
    """Catches a profile, Doppler law or line of sight other than drawn: tap powers and correlation at a lag, draw by draw."""
    multipath, step, lag = Multipath(model, speed_kmh=120.0), 1e-3, 1
    known = multipath.statistics(2, step)
    taps = np.stack([multipath.draw(2, step, Key(31).child(i))[0] for i in range(num_draws)])  # [draws, taps, 2]
    powers, lagged = known.powers, known.powers * known.correlation[:, lag]
    if model == "tdl_d":  # Sionna gives the specular path and what is scattered at its delay as one tap
        powers, lagged = np.append(powers[:2].sum(), powers[2:]), np.append(lagged[:2].sum(), lagged[2:])
    energy = np.abs(taps[:, :, 0]) ** 2
    assert_mean(energy.sum(axis=1), 1.0, 0.08)
    strongest = int(np.argmax(powers))
    assert_mean(energy[:, strongest], powers[strongest], 0.17)
    product = np.sum(taps[:, :, lag] * taps[:, :, 0].conj(), axis=1)
    for part, expected in ((product.real, lagged.sum().real), (product.imag, lagged.sum().imag)):
        assert abs(part.mean() - expected) < 5 * part.std() / np.sqrt(num_draws), (part.mean(), expected)
    wrong = np.sum(powers)  # a channel that stands still: the negative control
    assert abs(product.real.mean() - wrong) > 5 * product.real.std() / np.sqrt(num_draws)


@pytest.mark.sionna
def test_frequency_response_is_that_of_sionna():
    """Catches a wrong sign, spacing or centre of the Fourier sum, against Sionna's own of the same taps."""
    _, phy = sionna_blocks.load()
    way, key = ofdm(delay_spread_ns=400.0), Key(41)
    gains, delays = way.multipath.draw(14, way.symbol_seconds, key.child("fading", 0))
    frequencies = phy.channel.subcarrier_frequencies(72, 15e3, precision="double")
    theirs = phy.channel.cir_to_ofdm_channel(frequencies, gains[None, None, None, None, None], delays[None, None, None])
    assert np.allclose(way.response(1, key)[0], theirs.numpy()[0, 0, 0, 0, 0], atol=1e-9)


@pytest.mark.sionna
def test_estimates_are_as_good_as_those_of_sionna():
    """Catches an estimator that is only self-consistent: mean squared error beside Sionna's LS and LMMSE, on the same pilots.

    Sionna interpolates along frequency, then time; both at once can only be better, here by less than a tenth.
    """
    _, phy = sionna_blocks.load()
    way, no = ofdm(num_subcarriers=24, delay_spread_ns=300.0, speed_kmh=60.0), 0.1
    grid = phy.ofdm.ResourceGrid(14, 24, 15e3, cyclic_prefix_length=6, pilot_pattern="kronecker", pilot_ofdm_symbol_indices=[2, 11])
    in_time = phy.ofdm.tdl_time_cov_mat("A", 60 / 3.6, 3.5e9, way.symbol_seconds, 14)
    in_frequency = phy.ofdm.tdl_freq_cov_mat("A", 15e3, 24, 300e-9)
    interpolator = phy.ofdm.LMMSEInterpolator(grid.pilot_pattern, in_time, in_frequency, order="f-t")
    h = np.concatenate([way.response(1, Key(51).child(i)) for i in range(60)])  # [items, 14, 24]
    unit = Key(52).complex_normal(60, 2, 24)
    least_squares = (h[:, way.pilot_symbols, :] + np.sqrt(no) * unit).reshape(60, 48)
    variance = np.full((1,) * 6, no, np.float32)
    theirs, their_error = interpolator(least_squares.astype(np.complex64)[:, None, None, None, None], variance)
    truth = h[:, way.data_symbols, :].reshape(60, -1)
    theirs = theirs.numpy().reshape(60, 14, 24)[:, way.data_symbols, :].reshape(60, -1)
    estimator = _estimator(way, no)
    ours = np.stack([estimator(slot) for slot in least_squares])
    mean, reference = np.mean(np.abs(ours - truth) ** 2), np.mean(np.abs(theirs - truth) ** 2)
    assert 0.9 * reference < mean < 1.01 * reference
    assert estimator.error.mean() == pytest.approx(their_error.numpy().reshape(-1, 14, 24)[0, way.data_symbols, :].mean(), rel=0.1)
    assert_mean(np.mean(np.abs(ours - truth) ** 2, axis=1), float(estimator.error.mean()), 0.07)
