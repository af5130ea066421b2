"""Estimates and their intervals: coverage by simulation, agreement with scipy, and the cases where there is no interval."""

import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import beta, binomtest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from channel_sim.keys import Key
from channel_sim.store import Trial
from reports import bootstrap, statistics
from reports.bootstrap import bca
from reports.statistics import Difference, Estimate, clopper_pearson, estimate, holm, paired_difference, reason

RATE = "token_error_rate"


def trials_of(pairs: np.ndarray | list[tuple[float, float]], metric: str = RATE, replicates: int = 1) -> list[Trial]:
    """One trial a row of (numerator, denominator); `replicates` consecutive rows are one item."""
    return [Trial("t", i // replicates, i % replicates, {metric: (float(a), float(b))}, {}, {}) for i, (a, b) in enumerate(pairs)]


def token_errors(key: Key, num_items: int, num_tokens: int = 50, share: float = 1.0) -> np.ndarray:
    """int [num_items]: errors of items whose rates are Beta(1, 9), so that tokens of an item are dependent; mean rate share / 10.

    For one key the errors are nested in `share`: common random numbers.
    """
    rates = share * beta.ppf(key.child("rate").uniform(num_items), 1, 9)
    return np.sum(key.child("token").uniform(num_items, num_tokens) < rates[:, None], axis=1)


def coverage(hits: Callable[[int], bool], num_experiments: int = 400) -> float:
    return sum(hits(i) for i in range(num_experiments)) / num_experiments


def covers(one: Estimate | None, truth: float) -> bool:
    assert one is not None and one.low is not None and one.high is not None
    return one.low <= truth <= one.high


def as_pairs(numerators: np.ndarray, denominator: float = 50) -> np.ndarray:
    return np.stack([numerators, np.full(len(numerators), denominator)], axis=1)


def test_the_mean_is_the_ratio_of_sums_and_not_the_mean_of_ratios():
    """Catches short items weighing as much as long ones."""
    one = estimate(trials_of([(1, 10), (0, 90)]), RATE)
    assert one is not None and one.mean == 1 / 100


def test_intervals_hold_the_truth_95_percent_of_the_time():
    """Catches resampling tokens, a wrong tail and a forgotten bias correction."""
    held = coverage(lambda i: covers(estimate(trials_of(as_pairs(token_errors(Key(1).child(i), 40))), RATE), 0.1))
    assert 0.915 < held < 0.98


def test_negative_control_intervals_over_tokens_fail():
    """The simulation must tell: treating dependent tokens as independent trials covers far too seldom."""
    held = coverage(lambda i: covers(_over_tokens(token_errors(Key(1).child(i), 40)), 0.1))
    assert held < 0.75


def test_replicates_of_an_item_stay_together():
    """Catches bootstrapping trials: 10 equal replicates an item must not narrow the interval by sqrt(10)."""
    errors = token_errors(Key(2), 40)
    alone = estimate(trials_of(as_pairs(errors)), RATE)
    tenfold = estimate(trials_of(np.repeat(as_pairs(errors), 10, axis=0), replicates=10), RATE)
    assert alone is not None and tenfold is not None and tenfold.num_items == 40
    assert (tenfold.low, tenfold.high) == pytest.approx((alone.low, alone.high), rel=1e-12)


def test_bca_is_that_of_scipy():
    """Catches a sign error in bias or acceleration: equal endpoints on scipy's own resamples."""
    numerators, denominators = Key(7).child("a").normal(30)**2, 1 + 2 * Key(7).child("b").uniform(30)
    theirs = scipy_bootstrap((numerators, denominators), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True,
                             method="BCa", n_resamples=999, vectorized=True, rng=7)
    jackknife = (numerators.sum() - numerators) / (denominators.sum() - denominators)
    ours = bca(theirs.bootstrap_distribution, jackknife, numerators.sum() / denominators.sum())
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)


def test_clopper_pearson_is_that_of_scipy():
    """Catches swapped arguments of the inverse beta function, at both ends too."""
    for events, num_trials in ((0, 5), (1, 10), (37, 100), (10, 10)):
        theirs = binomtest(events, num_trials).proportion_ci(0.95, method="exact")
        assert clopper_pearson(events, num_trials) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)


def test_one_trial_an_item_is_counted_exactly():
    """Catches a bootstrap where the exact interval exists, and the exact one where items hold more than one trial."""
    single = estimate(trials_of([(i % 4 == 0, 1) for i in range(40)]), RATE)
    double = estimate(trials_of([(i % 4 == 0, 1) for i in range(40)], replicates=2), RATE)
    assert single == Estimate(0.25, *clopper_pearson(10, 40), 40, "clopper-pearson")
    assert double is not None and double.method == "bootstrap" and double.num_items == 20


def test_no_event_is_an_upper_limit_and_nothing_but_events_a_lower_one():
    """Catches a rate reported as exactly 0, and a limit over tokens instead of items."""
    assert estimate(trials_of([(0, 1000)] * 30), RATE) == Estimate(0.0, 0.0, 0.1, 30, "upper limit")
    assert estimate(trials_of([(50, 50)] * 30), RATE) == Estimate(1.0, 0.9, 1.0, 30, "lower limit")
    assert estimate(trials_of([(0, 10)] * 2), RATE) == Estimate(0.0, 0.0, 1.0, 2, "upper limit")


def test_what_is_no_rate_has_no_limit():
    """Catches the rule of three on bits: a constant 8 bits a token has no spread, and 0 bits is no missing event."""
    constant = estimate(trials_of([(80, 10)] * 30, "bits_per_token"), "bits_per_token")
    zero = estimate(trials_of([(0, 10)] * 30, "bits_per_token"), "bits_per_token")
    assert constant == Estimate(8.0, 8.0, 8.0, 30, "constant")
    assert zero == Estimate(0.0, 0.0, 0.0, 30, "constant")


def test_too_few_items_or_events_are_said():
    """Catches an interval of five items that looks like any other."""
    few = estimate(trials_of(as_pairs(token_errors(Key(3), 5))), RATE)
    rare = estimate(trials_of([(i < 2, 50) for i in range(100)]), RATE)
    enough = estimate(trials_of(as_pairs(token_errors(Key(3), 40))), RATE)
    alone = estimate(trials_of([(3, 50)]), RATE)
    assert few is not None and "too few items (5)" in few.note
    assert rare is not None and "events in only 2 of 100 items" in rare.note
    assert enough is not None and enough.note == ""
    assert alone is not None and alone.low is None and alone.high is None and "single item" in alone.note


def test_few_differing_items_are_said():
    """Catches a difference that hangs on two items looking as sure as one over fifty."""
    fifty = [(1, 50)] * 50
    two, many = [(3, 50)] * 2 + fifty[2:], [(3, 50), (1, 50)] * 25
    one, other = (paired_difference(trials_of(arm), trials_of(fifty), RATE) for arm in (two, many))
    assert one is not None and "differ in only 2 of 50 items" in one.note
    assert other is not None and other.note == ""


def test_intervals_of_few_items_are_expanded():
    """Catches bootstrap quantiles as if the variance of n items were known: t at n - 1 degrees, the unbiased variance."""
    assert bootstrap.expanded_tail(5) == pytest.approx(norm.cdf(-2.7764451 * (5 / 4) ** 0.5), rel=1e-6)
    assert bootstrap.expanded_tail(100_000) == pytest.approx(0.025, rel=1e-4)


def test_what_was_not_measured_is_none_with_a_reason():
    """Catches a 0 in place of 'not defined', and items that measured nothing counted as items."""
    absent = [Trial("t", i, 0, {}, {RATE: "lengths differ" if i else "empty"}, {}) for i in range(3)]
    assert estimate(absent, RATE) is None and reason(absent, RATE) == "lengths differ"
    assert estimate(trials_of([(0, 0)] * 3), RATE) is None and "nothing to count" in reason(trials_of([(0, 0)] * 3), RATE)
    assert estimate([], RATE) is None and "no trial" in reason([], RATE)
    half = estimate(trials_of([(0, 0), (0, 5)] * 10), RATE)
    assert half is not None and half.num_items == 10 and half.high == 0.3


def test_no_event_in_items_that_count_unequally_bounds_as_if_the_largest_had_it():
    """Catches 3/n for a rate that one long item dominates: one of 30 items is 71 times as large, and most of all."""
    unequal = trials_of([(0, 710)] + [(0, 10)] * 29)
    assert estimate(unequal, RATE) == Estimate(0.0, 0.0, 1.0, 30, "upper limit")
    halves = estimate(trials_of([(0, 15), (0, 5)] * 15), RATE)
    assert halves is not None and halves.high == pytest.approx(0.1 * 15 / 10)
    full = estimate(trials_of([(15, 15), (5, 5)] * 15), RATE)
    assert full is not None and full.low == pytest.approx(1 - 0.1 * 15 / 10)
    same = paired_difference(trials_of([(1, 15), (1, 5)] * 15), trials_of([(1, 15), (1, 5)] * 15), RATE)
    assert same is not None and same.high == pytest.approx(0.1 * 15 / 10)


def test_the_widened_limit_holds_where_3_over_n_does_not():
    """Catches the limit applied without its reason: rare errors in the long items alone, rates at which 5 % of runs see none."""
    probability = 1 - 0.05 ** (1 / 15)  # of an error in a long item: 15 of 30 items show none with 5 %
    truth = probability * 15 / 20
    widened = estimate(trials_of([(0, 15), (0, 5)] * 15), RATE)
    assert widened is not None and 3 / 30 < truth < widened.high


def test_words_inserted_make_rates_above_1_and_no_lower_limit():
    """Catches 'at most 1' said of an edit distance."""
    assert estimate(trials_of([(10, 10)] * 30, "word_error_rate"), "word_error_rate").method == "constant"
    more = estimate(trials_of([(15 + i % 3, 10) for i in range(30)], "word_error_rate"), "word_error_rate")
    assert more is not None and more.mean == 1.6 and 1.5 < more.low < 1.6 < more.high < 1.7
    assert estimate(trials_of([(0, 10)] * 30, "word_error_rate"), "word_error_rate").method == "upper limit"


@pytest.mark.parametrize(("filled", "method", "high"), [(0, "constant", 0.0), (3, "upper limit", 0.1), (None, "upper limit", 0.1)])
def test_what_cannot_happen_has_no_limit(filled: int | None, method: str, high: float):
    """Catches 'below 0.1' said of a decoder that restores nothing, and certainty for one that tried and failed."""
    chances = {} if filled is None else {"concealed_fraction": (float(filled), 5.0)}
    trials = [Trial("t", i, 0, {"recovered_fraction": (0.0, 5.0)} | chances, {}, {}) for i in range(30)]
    assert estimate(trials, "recovered_fraction") == Estimate(0.0, 0.0, high, 30, method)


PSNR = "psnr_of_mean_mse_db"


def squared_errors(key: Key, num_items: int = 40) -> np.ndarray:
    return as_pairs(650.25 * -np.log(key.uniform(num_items)), 10)  # mean 65.025: 30 dB


def test_a_transformed_metric_is_that_of_the_ratio_with_its_ends_in_order():
    """Catches the mean of decibels, and an interval upside down because more error is less PSNR."""
    pairs = squared_errors(Key(8))
    one = estimate(trials_of(pairs, PSNR), PSNR)
    (raw,) = statistics._resampled([pairs], PSNR)
    assert one is not None and one == raw and one.low < one.mean < one.high
    assert one.mean == pytest.approx(10 * np.log10(255**2 / (pairs[:, 0].sum() / pairs[:, 1].sum())))
    plain = estimate(trials_of(pairs, "bits_per_token"), "bits_per_token")
    assert one.high - one.low == pytest.approx(10 * np.log10(plain.high / plain.low), rel=0.2)


def test_intervals_of_transformed_metrics_hold_the_truth():
    """Catches a transform that the resamples miss; 40 exponential errors of mean 65.025, so 30 dB."""
    held = coverage(lambda i: covers(estimate(trials_of(squared_errors(Key(9).child(i)), PSNR), PSNR), 30.0))
    assert 0.9 < held < 0.985


def test_paired_differences_of_transformed_metrics_are_differences_of_decibels():
    """Catches the PSNR of a difference of errors: half the error everywhere is 3.01 dB more, and certain."""
    pairs = squared_errors(Key(10))
    half = pairs * np.array([0.5, 1.0])
    one = paired_difference(trials_of(half, PSNR), trials_of(pairs, PSNR), PSNR)
    assert one is not None and (one.low, one.mean, one.high) == pytest.approx([10 * np.log10(2)] * 3)
    noisy = paired_difference(trials_of(squared_errors(Key(11)), PSNR), trials_of(pairs, PSNR), PSNR)
    assert noisy is not None and noisy.low < noisy.mean < noisy.high and noisy.high - noisy.low > 1


def test_pictures_without_an_error_stand_at_the_cap_with_a_warning():
    """Catches an infinite PSNR, and 'no error in 30 pictures' that looks like certainty."""
    exact = estimate(trials_of([(0, 10)] * 30, PSNR), PSNR)
    assert exact is not None and (exact.low, exact.mean, exact.high) == (60, 60, 60) and "only 0 of 30 items" in exact.note
    rare = estimate(trials_of([(6502.5 * (i < 2), 10) for i in range(30)], PSNR), PSNR)
    assert rare is not None and "events in only 2 of 30 items" in rare.note


def test_similarity_is_no_count():
    """Catches a limit 1 - 3/n for SSIM: it is no share, and may be negative."""
    assert estimate(trials_of([(1, 1)] * 30, "ssim"), "ssim") == Estimate(1.0, 1.0, 1.0, 30, "constant")
    half = estimate(trials_of([((-1) ** i, 1) for i in range(30)], "ssim"), "ssim")
    assert half is not None and half.method == "bootstrap" and half.low < 0 < half.high


def test_the_same_trials_give_the_same_interval_in_any_order():
    """Catches draws that depend on the order of rows or on earlier calls."""
    trials = trials_of(as_pairs(token_errors(Key(4), 30)))
    first = estimate(trials, RATE)
    bootstrap.weights_of.cache_clear()
    estimate(trials, "byte_error_rate")
    assert estimate(trials[::-1], RATE) == first


@pytest.mark.parametrize("metric", [RATE, PSNR, "chrf"])
def test_many_tasks_at_once_give_what_each_gives_alone(metric: str):
    """Catches a task that its neighbours move by a bit, and answers in another order; whole sums and fractions, and 64 at once."""
    tasks = []
    for place, size in enumerate([40, 1, 40, 2, 0, 30, *[40] * 70]):
        pairs = as_pairs(token_errors(Key(20).child(place), max(1, size)))[:size] * (0.1 if place % 2 else 1.0)
        tasks.append(trials_of(pairs if place else pairs * [0, 1], metric))
    assert statistics.estimate_all(tasks, metric) == [estimate(task, metric) for task in tasks]
    pairs_of = [(a, b) for a, b in zip(tasks[6:], tasks[7:], strict=False)] + [(tasks[1], tasks[1]), (tasks[0], tasks[2])]
    alone = [paired_difference(a, b, metric) for a, b in pairs_of]
    assert statistics.paired_differences(pairs_of, metric) == alone and sum(one is not None for one in alone) > 60


def test_quantiles_are_those_of_numpy_and_leave_nan_out():
    """Catches a quantile one place off, and draws without a value that count as the largest."""
    values = Key(21).child("values").normal(3, 200)
    values[1, ::7] = values[2, :150] = np.nan
    low, high = bca(values.copy(), np.ones((3, 5)), np.nanmedian(values, axis=1))
    for row in range(3):
        kept = values[row][~np.isnan(values[row])]
        assert (low[row], high[row]) == pytest.approx(tuple(np.quantile(kept, [0.025, 0.975])), rel=1e-12)


def test_paired_differences_hold_the_truth_and_gain_from_pairing():
    """Catches resampling the arms apart: common items must narrow the interval, and coverage must stay."""
    ratios = []

    def hit(i: int) -> bool:
        errors, fewer = (token_errors(Key(5).child(i), 40, share=share) for share in (1.0, 0.7))
        one = paired_difference(trials_of(as_pairs(errors)), trials_of(as_pairs(fewer)), RATE)
        assert one is not None and one.variance_ratio is not None
        ratios.append(one.variance_ratio)
        return covers(one, 0.03)

    assert 0.9 < coverage(hit, 300) < 0.985
    assert float(np.median(ratios)) > 3


def test_holm_is_that_of_his_paper():
    """Catches a factor that does not step down, adjusted values out of order, and choosing by looking that costs nothing."""
    assert holm([0.01, 0.005, 0.04, 0.03]) == pytest.approx([0.03, 0.02, 0.06, 0.06])  # by hand: 3, 4, 1 (raised) and 2 times
    assert holm([]) == [] and holm([0.2, 0.9]) == pytest.approx([0.4, 0.9])
    assert holm([0.01, 0.02], num_comparisons=10) == pytest.approx([0.1, 0.18])


@cache
def families() -> list[list[float]]:
    """120 runs: p-values of 8 arms without a true difference to a baseline, all over 40 common items."""
    return [family(Key(12).child(i)) for i in range(120)]


def family(key: Key, num_arms: int = 8) -> list[float]:
    errors = token_errors(key, 40)
    base, *arms = (trials_of(as_pairs(errors + key.child("own", a).integers(5, 40))) for a in range(num_arms + 1))
    found = [paired_difference(arm, base, RATE) for arm in arms]
    return [one.p_value for one in found if one is not None]


def test_one_false_difference_in_a_family_is_as_rare_as_stated():
    """Catches p-values that are too small: of 8 arms that equal the baseline, any is told apart in 5 % of runs at most."""
    assert np.mean([min(holm(one)) <= 0.05 for one in families()]) <= 0.05 + 4 * (0.05 * 0.95 / 120) ** 0.5
    assert 0.02 < np.mean([p <= 0.05 for one in families() for p in one]) < 0.1


def test_negative_control_without_correction_many_runs_show_a_difference_that_is_not():
    """The simulation must tell: eight uncorrected comparisons show a false difference far more often than one does."""
    assert np.mean([min(one) <= 0.05 for one in families()]) > 0.15


def test_a_true_difference_is_told_apart():
    """Catches a test that never rejects, and p-values on the wrong side."""
    errors, fewer = (token_errors(Key(13), 40, share=share) for share in (1.0, 0.5))
    one = paired_difference(trials_of(as_pairs(errors)), trials_of(as_pairs(fewer)), RATE)
    same = paired_difference(trials_of([(3, 50)] * 40), trials_of([(2, 50)] * 40), RATE)
    assert one is not None and one.p_value < 1e-4 and same is not None and same.p_value == 0
    assert paired_difference(trials_of(as_pairs(errors)), trials_of(as_pairs(errors)), RATE).p_value == 1


def test_a_paired_difference_refuses_other_items():
    """Catches comparing an interrupted arm over fewer items than its rival."""
    with pytest.raises(ValueError, match="40 and 39 with 39 in common"):
        paired_difference(trials_of([(1, 5)] * 40), trials_of([(1, 5)] * 39), RATE)


def test_arms_without_a_difference_are_tied_and_not_proven_equal():
    """Catches the interval [0, 0] for two arms of which no item happened to differ."""
    same = paired_difference(trials_of([(1, 5)] * 30), trials_of([(1, 5)] * 30), RATE)
    assert same == Difference(0.0, -0.1, 0.1, 30, "upper limit")
    assert paired_difference(trials_of([(1, 5)] * 9), trials_of([(0, 0)] * 9), RATE) is None


def test_a_thousand_items_take_milliseconds():
    """Catches a loop over resamples in Python: a report has hundreds of these."""
    trials = trials_of(as_pairs(token_errors(Key(6), 1000)))
    estimate(trials, RATE)
    start = time.perf_counter()
    estimate(trials, RATE)
    assert time.perf_counter() - start < 0.5


def _over_tokens(errors: np.ndarray) -> Estimate:
    return Estimate(errors.sum() / (50 * len(errors)), *clopper_pearson(int(errors.sum()), 50 * len(errors)), len(errors),
                    "clopper-pearson")
