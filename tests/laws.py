"""Statistical assertions with fixed keys: two-sided, exact, sized for the defect they are to catch."""

from __future__ import annotations

from scipy.stats import binomtest

SIGNIFICANCE = 1e-6


def assert_rate(events: int, trials: int, expected: float) -> None:
    """`events` of `trials` independent trials fit probability `expected`: two-sided exact binomial test at 1e-6."""
    p_value = binomtest(int(events), int(trials), expected).pvalue
    assert p_value > SIGNIFICANCE, f"{events}/{trials} = {events / trials:.6g}, expected {expected:.6g} (p = {p_value:.2g})"
