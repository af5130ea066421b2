"""Constellations and demappers against the standard's construction, brute force and Sionna's blocks."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.mapping import BITS_PER_SYMBOL, constellation, demodulate, modulate

ORDERS = sorted(BITS_PER_SYMBOL.values())


@pytest.mark.parametrize("bits_per_symbol", ORDERS)
def test_constellations_are_gray_centred_and_of_unit_energy(bits_per_symbol: int):
    """Catches a wrong scale and labels of neighbours that differ in more than one bit."""
    points = constellation(bits_per_symbol)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, rel=1e-12) and abs(points.mean()) < 1e-12
    distance = np.abs(points[:, None] - points)
    nearest = np.argwhere((distance < 1.001 * distance[distance > 1e-9].min()) & (distance > 1e-9))
    assert all((int(a) ^ int(b)).bit_count() == 1 for a, b in nearest)


@pytest.mark.sionna
@pytest.mark.parametrize("bits_per_symbol", ORDERS)
def test_constellations_are_sionnas(bits_per_symbol: int):
    """Catches rails or bits that change places: the labels of 38.211 as Sionna has them."""
    from channel_sim.sionna_blocks import load
    _, phy = load()
    points = phy.mapping.Constellation("pam" if bits_per_symbol == 1 else "qam", bits_per_symbol).points.numpy()
    assert np.allclose(points, constellation(bits_per_symbol), atol=1e-6)


def test_bits_are_labels_most_significant_first():
    """Catches bits read in the wrong order or across symbols."""
    bits = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], np.uint8)
    assert np.array_equal(modulate(bits, 4), constellation(4)[[11, 1]])
    assert np.array_equal(modulate(bits, 8), constellation(8)[[0b10110001]])


@pytest.mark.parametrize("bits_per_symbol", ORDERS)
def test_llrs_are_the_ratio_of_summed_likelihoods(bits_per_symbol: int):
    """Catches max-log, a noise power that is halved, and rails or bits mixed up: every point summed in the test."""
    points = constellation(bits_per_symbol)
    symbols = Key(1).complex_normal(300)
    noise = 0.1 + Key(2).uniform(300)
    likelihood = np.exp(-np.abs(symbols[:, None] - points) ** 2 / noise[:, None])
    one = (np.arange(points.size)[:, None] >> np.arange(bits_per_symbol)[::-1] & 1).astype(bool)  # [points, bits]
    expected = np.log(likelihood @ one) - np.log(likelihood @ ~one)
    assert np.allclose(demodulate(symbols, noise, bits_per_symbol), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits_per_symbol", ORDERS)
def test_llrs_are_finite_and_right_where_noise_is_next_to_nothing(bits_per_symbol: int):
    """Catches exponentials that run out of range: there the LLR is that of the two nearest points."""
    bits = Key(4).integers(2, 64, bits_per_symbol).astype(np.uint8)
    symbols = modulate(bits, bits_per_symbol)
    llr = demodulate(symbols + 1e-4, np.full(64, 1e-9), bits_per_symbol)
    assert np.isfinite(llr).all() and np.array_equal(llr > 0, bits == 1)


@pytest.mark.sionna
@pytest.mark.parametrize("bits_per_symbol", ORDERS)
def test_llrs_are_those_of_sionnas_demapper(bits_per_symbol: int):
    """Catches another convention than Sionna's: sign, order of bits, noise power."""
    from channel_sim.sionna_blocks import load
    tf, phy = load()
    symbols, noise = Key(5).complex_normal(500), 0.05 + Key(6).uniform(500)
    demapper = phy.mapping.Demapper("app", "pam" if bits_per_symbol == 1 else "qam", bits_per_symbol)
    theirs = demapper(tf.constant(symbols[None], tf.complex64), tf.constant(noise[None], tf.float32)).numpy()
    assert np.allclose(theirs.reshape(500, -1), demodulate(symbols, noise, bits_per_symbol), rtol=1e-4, atol=1e-3)
