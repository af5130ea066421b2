"""Randomness with an address: prefix-stable, one-way, the same for the same path, and of the law it names."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest

from channel_sim.keys import Key
from tests.laws import SIGNIFICANCE, assert_rate

DRAWS: dict[str, Callable[..., np.ndarray]] = {
    "uniform": Key.uniform,
    "normal": Key.normal,
    "complex_normal": Key.complex_normal,
    "integers": lambda key, *shape: key.integers(1000, *shape),
}


def assert_law(draws: np.ndarray, law: str) -> None:
    """`draws` are independent and of scipy's `law`: two-sided Kolmogorov-Smirnov test at 1e-6."""
    p_value = kstest(draws.ravel(), law).pvalue
    assert p_value > SIGNIFICANCE, f"not {law} (p = {p_value:.2g})"


def assert_uncorrelated(a: np.ndarray, b: np.ndarray) -> None:
    """Standard normal `a` and `b` are independent: their correlation is within 5 standard deviations of 0."""
    assert abs(np.mean(a * b)) * np.sqrt(a.size) < 5


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("tail", [(), (3,), (2, 5)])
def test_a_longer_draw_begins_with_the_shorter_one(draw, tail):
    """Catches draws laid out so that a longer item, or one more packet, meets other noise."""
    longest = draw(Key(1).child("x"), 1000, *tail)
    for length in (0, 1, 2, 7, 64, 999):
        assert np.array_equal(draw(Key(1).child("x"), length, *tail), longest[:length])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_key_draws_the_same_whenever_it_is_asked(draw):
    """Catches a hidden counter: a draw must not depend on draws before it, on copies or on the process."""
    key = Key(3).child("item", 4, "channel")
    first = draw(key, 10)
    key.child("other").normal(5)
    for same in (key, Key(3).child("item").child(4).child("channel"), copy.deepcopy(key), pickle.loads(pickle.dumps(key))):
        assert same == key and hash(same) == hash(key) and np.array_equal(draw(same, 10), first)


def test_a_path_is_its_labels_one_by_one():
    """Catches paths that run together: ("ab", "c") and ("a", "bc"), 1 and "1", parent and child, swapped labels."""
    root = Key(1)
    paths = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), (0,), (-1,),
             ("'1'",), (1, 1), (11,), ("",), ("", ""), ("a, b",)]
    keys = [root.child(*path) for path in paths] + [Key(0), Key(2), Key(-1), Key(2**64)]
    assert len(set(keys)) == len({float(key.uniform(1)[0]) for key in keys}) == len(paths) + 4
    assert root.child() == root and root.child("a", 1) == root.child("a").child(1)


def test_numpy_integers_are_the_same_labels():
    """Catches paired arms that part because one counts items with NumPy: repr(np.int64(1)) is not '1'."""
    for one in (np.int64(1), np.int32(1), np.uint8(1)):
        assert Key(1).child("item", one) == Key(1).child("item", 1)
    assert Key(1).child(np.str_("a")) == Key(1).child("a")


@pytest.mark.parametrize("label", [0.1, None, 1.0, ("a",)])
def test_what_is_no_label_is_refused(label):
    """Catches a loss rate or SNR in a path: common random numbers would be lost without a word."""
    with pytest.raises(TypeError):
        Key(1).child(label)


def test_siblings_parent_and_child_are_independent():
    """Catches streams that overlap or follow from one another."""
    parent = Key(5)
    family = [parent] + [parent.child("x", i) for i in range(5)] + [parent.child("x", 0, "y")]
    streams = [key.normal(20_000) for key in family]
    for i, first in enumerate(streams):
        for second in streams[:i]:
            assert_uncorrelated(first, second)
            assert_uncorrelated(first[1:], second[:-1])
    first_draws = np.array([parent.child("item", i).normal(2) for i in range(20_000)])
    assert_law(first_draws[:, 0], "norm")
    assert_uncorrelated(first_draws[:-1, 0], first_draws[1:, 0])
    assert_uncorrelated(first_draws[:, 0], first_draws[:, 1])


def test_negative_control_dependent_streams_are_seen():
    """The helper must tell a stream that leaks 10 % of another."""
    a, b = Key(5).child("a").normal(20_000), Key(5).child("b").normal(20_000)
    with pytest.raises(AssertionError):
        assert_uncorrelated(a, 0.1 * a + np.sqrt(0.99) * b)


def test_a_key_does_not_hold_its_path():
    """Catches a receiver key that tells, or leads to, what other branches drew: it holds one digest and nothing else."""
    key = Key(7).child("item", 1, "channel", "noise")
    assert Key.__slots__ == ("_digest",) and not hasattr(key, "__dict__")
    assert len(key._digest) == 16 and key._digest != Key(7)._digest
    assert "noise" not in repr(key) and "item" not in repr(key)


def test_uniform_draws_are_uniform_on_the_half_open_interval():
    """Catches 1 included, which would index past the end, and a law that is not flat."""
    draws = Key(11).uniform(200, 500)
    assert draws.dtype == np.float64 and draws.min() >= 0 and draws.max() < 1
    assert_law(draws, "uniform")


def test_normal_draws_are_standard_normal():
    """Catches a wrong variance."""
    assert_law(Key(12).normal(200, 500), "norm")


def test_complex_draws_are_circular_with_unit_power():
    """Catches E|x|^2 = 2 (3 dB too much noise), one part stronger than the other, and dependent parts."""
    draws = Key(13).complex_normal(100_000)
    assert draws.dtype == np.complex128
    assert_law(draws.real * np.sqrt(2), "norm")
    assert_law(draws.imag * np.sqrt(2), "norm")
    assert_uncorrelated(draws.real * np.sqrt(2), draws.imag * np.sqrt(2))
    assert_law(np.abs(draws)**2, "expon")  # mean power 1


def test_negative_control_laws_that_are_a_little_off_fail():
    """The helper must tell 3 % of scale, 2 % of shift and 1 % of missing range at the size used above."""
    uniform, normal = Key(11).uniform(100_000), Key(12).normal(100_000)
    for draws, law in ((0.99 * uniform, "uniform"), (1.03 * normal, "norm"), (normal + 0.02, "norm"),
                       (np.abs(Key(13).complex_normal(100_000))**2 * 1.03, "expon")):
        with pytest.raises(AssertionError, match=f"not {law}"):
            assert_law(draws, law)


@pytest.mark.parametrize("high", [1, 2, 7, 255])
def test_integers_are_uniform_from_0_up_to_but_not_high(high):
    """Catches high itself, a value that never comes, and a bias to any of them."""
    draws = Key(14).integers(high, 100_000)
    counts = np.bincount(draws, minlength=high)
    assert draws.dtype == np.int64 and counts.size == high
    for value in {0, high // 2, high - 1}:
        assert_rate(counts[value], draws.size, 1 / high)


@pytest.mark.parametrize("high", [1, 2, 3, 5, 2**31 - 1, 2**31, 2**31 + 1, 10**12 + 39])
def test_the_largest_uniform_still_draws_below_high(high, monkeypatch):
    """Catches rounding up to high: once in 2^53 draws, never seen by sampling."""
    monkeypatch.setattr(Key, "uniform", lambda self, *shape: np.full(shape, 1 - 2.0**-53))
    assert Key(1).integers(high, 1).tolist() == [high - 1]


def test_seeds_for_frameworks_fit_31_bits_and_differ():
    """Catches negative seeds, which frameworks refuse, and a seed that ignores most of the digest."""
    seeds = [Key(1).child("item", i).seed() for i in range(1000)]
    assert all(0 <= seed < 2**31 for seed in seeds) and len(set(seeds)) == 1000
    assert_rate(sum(seed < 2**30 for seed in seeds), 1000, 0.5)


def test_golden():
    """Catches any change of the path digest or the generator: all results on file would change with it."""
    assert Key(1).child("item", 0, "channel", 0).uniform(1)[0] == 0.9180877125091285
