"""What a metric is and how far to trust it: ratios of sums over items, with 95 % intervals that hold items together.

Bits and tokens of an item share its fades, bursts and words, so the item is the unit that is resampled, replicates and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its submodules are loaded on first use: most commands need none

from channel_sim.metrics import CATALOGUE
from channel_sim.store import Trial
from reports.bootstrap import TAIL, alike, bca, expanded_tail, resample, units_of
from reports.columns import Columns

Method = Literal["bootstrap", "clopper-pearson", "upper limit", "lower limit", "constant", "none"]
FEW_ITEMS = 20
"""Below it the note says so: with skewed rates a nominal 95 % interval holds the truth 93 % of the time at 15 items, 94 % from
20 on (measured, tests/test_coverage.py: Beta(.5, 4.5) rates)."""
FEW_EVENTS = 5
"""A rate with events in fewer items is flagged as well: it hangs on each of them. Where nine in ten items are without error,
intervals that carry no note hold the truth 94 % of the time or more from 20 items on. What no resampling can know is a tail that
was not seen: of errors in one item of ten, with severities like the fourth power of a uniform, it is 83 % at 50 and 90 % at 100."""


@dataclass(frozen=True)
class Estimate:
    """`mean` with its 95 % interval [low, high] over `num_items` items; low and high are None where a single item gives none.

    method: "upper limit" is no event at all, high = 3 / num_items, times the largest item over the mean one; "lower limit" is
            nothing but events; "constant" has no spread, or cannot have any
    note:   what a reader must know before trusting the interval, "" if nothing
    """

    mean: float
    low: float | None
    high: float | None
    num_items: int
    method: Method
    note: str = ""


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference.

    variance_ratio: how many times more items unpaired arms would need, None where undefined
    p_value:        two-sided, of no difference: Student's t of the jackknife over items; 1 where nothing can be told
    """

    variance_ratio: float | None = None
    p_value: float = 1.0


def estimate(trials: Sequence[Trial], metric: str) -> Estimate | None:
    """The ratio of sums of `metric` over trials and its interval; None where no trial could measure it (see `reason`).

    A rate of an item is at most 1, so a mean rate m needs an event in at least m of all items: n items without one bound m
    by 3/n at 95 %, whatever the dependence inside them. Where items count unequally, those with an event might be the largest:
    3/n times the largest denominator over the mean one. A metric with a transform is that of the ratio, and so are the ends
    of its interval.

    >>> trials = [Trial("t", i, 0, {"block_error_rate": (i % 2, 1)}, {}, {}) for i in range(40)]
    >>> one = estimate(trials, "block_error_rate")
    >>> one.mean, round(one.low, 3), round(one.high, 3), one.method
    (0.5, 0.338, 0.662, 'clopper-pearson')

    Source: J. A. Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249 (1983), rule of three.
    """
    return estimate_all([trials], metric)[0]


def estimate_all(tasks: Sequence[Sequence[Trial]], metric: str) -> list[Estimate | None]:
    """`estimate` of every task, to the last bit, in the time of a few: they share their resamples."""
    found: list[Estimate | None] = []
    open_sums: dict[int, np.ndarray] = {}
    for place, trials in enumerate(tasks):
        sums = by_item(trials, metric)[1]
        sums = sums[sums[:, 1] > 0]
        found.append(_certain(trials, metric, sums) if len(sums) else None)
        if len(sums) and found[-1] is None:
            open_sums[place] = sums
    for place, one in zip(open_sums, _resampled(list(open_sums.values()), metric), strict=True):
        found[place] = one
    return found


def estimate_sums(many: Sequence[np.ndarray], metric: str) -> list[Estimate | None]:
    """`estimate` of a rate from its sums by item, float64 [n, 2], where these are no metric of any trial."""
    known = [sums[sums[:, 1] > 0] for sums in many]
    found = [(_limit(sums, metric) or _binomial(sums)) if len(sums) else None for sums in known]
    left = [place for place, sums in enumerate(known) if len(sums) and found[place] is None]
    for place, one in zip(left, _resampled([known[place] for place in left], metric), strict=True):
        found[place] = one
    return found


def reason(trials: Sequence[Trial], metric: str) -> str:
    """Why `metric` was not measured: what most trials give as their reason."""
    columns = trials if isinstance(trials, Columns) else Columns(trials)
    reasons = columns.reasons(metric)
    if reasons:
        return reasons.most_common(1)[0][0]
    if not trials:
        return "no trial is on file"
    return "nothing to count in any trial" if columns.measured(metric) else "not part of this chain"


def paired_difference(trials_a: Sequence[Trial], trials_b: Sequence[Trial], metric: str) -> Difference | None:
    """`metric` of a less that of b over the same items, both arms resampled together; None where one has not measured it.

    Where no item differs, the mean differs by at most 3/n for the reason that `estimate` gives.
    """
    return paired_differences([(trials_a, trials_b)], metric)[0]


def paired_differences(pairs: Sequence[tuple[Sequence[Trial], Sequence[Trial]]], metric: str) -> list[Difference | None]:
    """`paired_difference` of every pair, to the last bit, in the time of a few."""
    found: list[Difference | None] = []
    open_sums: dict[int, np.ndarray] = {}
    for place, (trials_a, trials_b) in enumerate(pairs):
        sums = _paired_sums(trials_a, trials_b, metric)
        found.append(None)
        if not len(sums) or not np.all(sums[:, [1, 3]].sum(axis=0)):
            continue
        if np.array_equal(sums[:, :2], sums[:, 2:]):
            limit = min(1.0, _rule_of_three(sums[:, 1])) if _is_rate(metric) else 0.0
            found[-1] = Difference(0.0, -limit, limit, len(sums), "upper limit" if limit else "constant")
        else:
            open_sums[place] = sums
    for place, one in zip(open_sums, _resampled_differences(list(open_sums.values()), metric), strict=True):
        found[place] = one
    return found


def _paired_sums(trials_a: Sequence[Trial], trials_b: Sequence[Trial], metric: str) -> np.ndarray:
    """float64 [n, 4]: numerators and denominators of both arms over items that at least one has measured."""
    require_equal_items(trials_a, trials_b)
    sums = np.hstack([by_item(trials_a, metric)[1], by_item(trials_b, metric)[1]])
    return sums[(sums[:, 1] > 0) | (sums[:, 3] > 0)]


def require_equal_items(trials_a: Sequence[Trial], trials_b: Sequence[Trial]) -> None:
    """ValueError unless both arms met the same items, which a paired difference needs."""
    items_a, items_b = (trials.distinct_items if isinstance(trials, Columns) else np.unique([trial.item for trial in trials])
                        for trials in (trials_a, trials_b))
    if not np.array_equal(items_a, items_b):
        raise ValueError(f"a paired difference needs equal items, got {len(items_a)} and {len(items_b)} with "
                         f"{len(np.intersect1d(items_a, items_b))} in common; run both arms over the same items")


def holm(p_values: Sequence[float], num_comparisons: int | None = None) -> list[float]:
    """p-values adjusted for their number, in the order given: those at most 5 % hold together, with 5 % risk of any false one.

    num_comparisons: of all that might have been made, where these were chosen by looking; at least len(p_values)

    >>> holm([0.01, 0.04, 0.03]), holm([0.01], num_comparisons=3)
    ([0.03, 0.06, 0.06], [0.03])

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    number = len(p_values) if num_comparisons is None else num_comparisons
    assert number >= len(p_values)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(np.array(p_values, np.float64)[order] * (number - np.arange(len(order))))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted.round(15).tolist()


def clopper_pearson(events: int, num_trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a probability from independent trials.

    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
    """
    low = scipy.special.betaincinv(events, num_trials - events + 1, TAIL) if events else 0.0
    high = scipy.special.betaincinv(events + 1, num_trials - events, 1 - TAIL) if events < num_trials else 1.0
    return float(low), float(high)


def by_item(trials: Sequence[Trial], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Items int64 [n], ascending, and (numerator, denominator) float64 [n, 2] over their replicates; (0, 0) where not measured."""
    if isinstance(trials, Columns) and trials.is_one_an_item:
        return trials.items, trials.pairs(metric)
    items, replicates, pairs = _pairs(trials, metric)
    order = np.lexsort((replicates, items))  # sums of floats must not depend on the order of trials
    distinct, of_item = np.unique(items[order], return_inverse=True)
    sums = np.zeros((len(distinct), 2))
    np.add.at(sums, of_item, pairs[order])
    return distinct, sums


def _pairs(trials: Sequence[Trial], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items int64 [n], replicates int64 [n], (numerator, denominator) float64 [n, 2]."""
    if isinstance(trials, Columns):
        return trials.items, trials.replicates, trials.pairs(metric)
    heads = np.array([(trial.item, trial.replicate) for trial in trials], np.int64).reshape(-1, 2)
    pairs = np.array([trial.metrics.get(metric, (0.0, 0.0)) for trial in trials], np.float64).reshape(-1, 2)
    return heads[:, 0], heads[:, 1], pairs


def _is_rate(metric: str) -> bool:
    """Something counted against something: an item's value is at least 0, and at most 1 but for edit distances."""
    return metric in CATALOGUE and CATALOGUE[metric].unit == "1" and CATALOGUE[metric].counts != "none"


def _is_share(metric: str) -> bool:
    return _is_rate(metric) and CATALOGUE[metric].counts == "share"


def _certain(trials: Sequence[Trial], metric: str, sums: np.ndarray) -> Estimate | None:
    """What needs no resampling: a limit, or an exact interval."""
    if not _is_rate(metric):
        return None
    return _impossible(trials, metric, sums) or _limit(sums, metric) or _single_trials(trials, metric, sums)


def _impossible(trials: Sequence[Trial], metric: str, sums: np.ndarray) -> Estimate | None:
    """Exactly 0 where no event could happen: the metric that counts its chances was measured and has none in any item."""
    if np.any(sums[:, 0]) or not CATALOGUE[metric].within:
        return None
    chances = by_item(trials, CATALOGUE[metric].within)[1].sum(axis=0)
    return Estimate(0.0, 0.0, 0.0, len(sums), "constant") if chances[1] > 0 and chances[0] == 0 else None


def _limit(sums: np.ndarray, metric: str) -> Estimate | None:
    """No event at all, or nothing but events: a one-sided limit instead of an interval."""
    if not np.any(sums[:, 0]):
        return Estimate(0.0, 0.0, min(1.0, _rule_of_three(sums[:, 1])), len(sums), "upper limit")
    if _is_share(metric) and np.array_equal(sums[:, 0], sums[:, 1]):
        return Estimate(1.0, max(0.0, 1 - _rule_of_three(sums[:, 1])), 1.0, len(sums), "lower limit")
    return None


def _rule_of_three(denominators: np.ndarray) -> float:
    """3/n for items that count equally, else as if every unseen event were in an item as large as the largest."""
    n, largest = len(denominators), denominators.max()
    return float(3 / n if np.all(denominators == largest) else 3 * largest / denominators.sum())


def _single_trials(trials: Sequence[Trial], metric: str, sums: np.ndarray) -> Estimate | None:
    exact = _binomial(sums)
    return exact if exact and np.count_nonzero(_pairs(trials, metric)[2][:, 1] > 0) == len(sums) else None


def _binomial(sums: np.ndarray) -> Estimate | None:
    """Exact where every item is one 0/1 trial: items are independent, so the count is binomial."""
    if np.any(sums[:, 1] != 1) or not np.all(np.isin(sums[:, 0], (0, 1))):
        return None
    events = int(sums[:, 0].sum())
    return Estimate(events / len(sums), *clopper_pearson(events, len(sums)), len(sums), "clopper-pearson")


def _resampled(many: Sequence[np.ndarray], metric: str) -> list[Estimate]:
    """The estimate of each of float64 [n, 2]."""
    means = [float(sums[:, 0].sum() / sums[:, 1].sum()) for sums in many]
    found = {place: _without_spread(sums, mean, metric) for place, (sums, mean) in enumerate(zip(many, means, strict=True))}
    for places in alike({place: many[place] for place, one in found.items() if one is None}):
        units = np.stack([units_of(many[place]) for place in places])
        left_out = units.sum(axis=1, keepdims=True) - units
        observed = np.array([means[place] for place in places])
        ends = bca(_ratio(resample(units, metric)), _ratio(left_out), observed, tail=expanded_tail(units.shape[1]))
        values, first, second = (_values(one, metric) for one in (observed, *ends))
        low, high = np.minimum(first, second), np.maximum(first, second)  # a transform that falls swaps them
        for place, *numbers in zip(places, values.tolist(), low.tolist(), high.tolist(), strict=True):
            (value, lower, upper), n = numbers, len(many[place])
            found[place] = Estimate(value, lower, upper, n, "bootstrap", _few(n) or _caution(many[place], metric))
    return [one for one in found.values() if one is not None]


def _without_spread(sums: np.ndarray, mean: float, metric: str) -> Estimate | None:
    n = len(sums)
    if n == 1:
        return Estimate(float(_values(np.array([mean]), metric)[0]), None, None, 1, "none", "a single item gives no interval")
    if np.ptp(sums[:, 0] / sums[:, 1]) <= 1e-12 * abs(mean):  # no spread but for rounding
        value = float(_values(np.array([mean]), metric)[0])
        return Estimate(value, value, value, n, "constant", _few(n) or _caution(sums, metric))
    return None


def _resampled_differences(many: Sequence[np.ndarray], metric: str) -> list[Difference]:
    """The paired difference of each of float64 [n, 4]."""
    observed = _gap(np.stack([sums.sum(axis=0) for sums in many]), metric) if many else np.zeros(0)
    found = {place: Difference(float(observed[place]), None, None, 1, "none", "a single item gives no interval")
             for place, sums in enumerate(many) if len(sums) == 1}
    for places in alike({place: sums for place, sums in enumerate(many) if len(sums) > 1}):
        units, means = np.stack([units_of(many[place]) for place in places]), observed[places]
        drawn, left_out = resample(units, metric), units.sum(axis=1, keepdims=True) - units
        a, b = (_values(_ratio(drawn[..., arm:arm + 2]), metric) for arm in (0, 2))
        gone = ~(np.isfinite(a) & np.isfinite(b))  # a draw may hold no item that measures one of the arms
        a[gone] = b[gone] = np.nan
        jackknife = _gap(left_out, metric)
        jackknife = np.where(np.isfinite(jackknife), jackknife, means[:, None])
        ends = bca(a - b, jackknife, means, tail=expanded_tail(units.shape[1]))
        paired, apart = np.nanvar(a - b, axis=-1), np.nanvar(a, axis=-1) + np.nanvar(b, axis=-1)
        ratios = np.divide(apart, paired, out=np.full(len(places), np.nan), where=paired > 0)
        columns = (means, *ends, ratios, _p_values(jackknife, means))
        for place, mean, low, high, ratio, p_value in zip(places, *(column.tolist() for column in columns), strict=True):
            n = len(many[place])
            note = _few(n) or (_few_differences(many[place]) if _is_rate(metric) else "")
            found[place] = Difference(mean, low, high, n, "bootstrap", note, ratio if ratio == ratio else None, p_value)
    return [found[place] for place in range(len(many))]


def _p_values(jackknife: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """float64 [k], two-sided, from leave-one-out values float64 [k, n] of differences [k]; bootstrap values are too few for what
    Holm asks of tails.

    Source: J. W. Tukey, "Bias and confidence in not-quite large samples" (abstract), Ann. Math. Statist. 29 (1958).
    """
    n = jackknife.shape[1]
    error = np.sqrt((n - 1) / n * np.sum((jackknife - jackknife.mean(axis=1, keepdims=True)) ** 2, axis=1))
    same = error <= 1e-12 * np.abs(observed)  # the same difference everywhere
    tails = 2 * scipy.special.stdtr(n - 1, -np.abs(observed) / np.where(same, 1.0, error))
    return np.where(same, np.where(observed != 0, 0.0, 1.0), tails)


def _gap(sums: np.ndarray, metric: str) -> np.ndarray:
    """float64 [...]: the metric of the first arm less that of the second, from both their sums [..., 4]."""
    return _values(_ratio(sums[..., :2]), metric) - _values(_ratio(sums[..., 2:]), metric)


def _values(ratios: np.ndarray, metric: str) -> np.ndarray:
    """float64 [...]: the metric at each ratio of sums, transformed where it is; NaN stays."""
    if metric not in CATALOGUE or not CATALOGUE[metric].transform:
        return ratios
    values = [CATALOGUE[metric].value(ratio) if ratio == ratio else ratio for ratio in ratios.ravel().tolist()]
    return np.array(values).reshape(ratios.shape)


def _caution(sums: np.ndarray, metric: str) -> str:
    """What an interval of a rate, or of a transformed mean error, hangs on."""
    if _is_rate(metric):
        return _few_events(sums)
    if metric in CATALOGUE and CATALOGUE[metric].transform:
        return _few_events(np.stack([sums[:, 0], np.full(len(sums), np.inf)], axis=1))
    return ""


def _ratio(sums: np.ndarray) -> np.ndarray:
    """float64 [...] from [..., 2]; NaN where the denominator is 0."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.full(sums.shape[:-1], np.nan), where=sums[..., 1] > 0)


def _few(num_items: int) -> str:
    return f"too few items ({num_items}): the interval is likely too narrow" if num_items < FEW_ITEMS else ""


def _few_events(sums: np.ndarray) -> str:
    with_event, without = np.count_nonzero(sums[:, 0] > 0), np.count_nonzero(sums[:, 0] < sums[:, 1])
    if min(with_event, without) >= FEW_EVENTS:
        return ""
    if not without:
        return f"nothing but events in all {len(sums)} items: the interval knows no other"
    what = f"events in only {with_event}" if with_event <= without else f"anything but events in only {without}"
    return f"{what} of {len(sums)} items: the interval hangs on them"


def _few_differences(sums: np.ndarray) -> str:
    differing = np.count_nonzero(np.any(sums[:, :2] != sums[:, 2:], axis=1))
    return f"the arms differ in only {differing} of {len(sums)} items: the interval hangs on them" if differing < FEW_EVENTS else ""
