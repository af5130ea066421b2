"""One arm against another over a whole sweep: `python -m benchmarks.over_the_sweep RESULTS ARM BASELINE [METRIC]`.

RESULTS is the folder of a run. Prints the paired difference of METRIC (PSNR in dB) at each point of the sweep, as `channel-sim
report --baseline` does, and of its mean over all points, which the report has not; then the same without the items that one of the
two arms cannot show at any point, because it has no file that fits. METRIC kid is how much nearer ARM is to the originals than
BASELINE, point by point. 95 % intervals by the paired bootstrap over items, each for itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from channel_sim.store import Store, Trial
from reports.realism import nearer_by
from reports.statistics import estimate, paired_difference
from reports.summary import Summary, point_text, summarise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("arm")
    parser.add_argument("baseline")
    parser.add_argument("metric", nargs="?", default="psnr_db")
    options = parser.parse_args()
    with closing(Store(options.results / "results.sqlite")) as store:
        summary = summarise(store)
        if options.metric == "kid":
            _print_realism(store, summary, options.arm, options.baseline)
            return
        arms = {name: _by_point(summary, name) for name in (options.arm, options.baseline)}
    _print(arms, options.metric, "all items")
    unsent = {item for points in arms.values() for item in _never_shown([trial for trials in points.values() for trial in trials])}
    if unsent:
        shown = {name: {point: [trial for trial in trials if trial.item not in unsent] for point, trials in points.items()}
                 for name, points in arms.items()}
        _print(shown, options.metric, f"without the {len(unsent)} that one of them can never show")


def _by_point(summary: Summary, arm: str) -> dict[str, list[Trial]]:
    points = {point_text(row.point.sweep): list(row.trials) for row in summary.of(arm)}
    if not points:
        raise SystemExit(f"{arm!r}: must be one of the arms {', '.join(map(repr, summary.arms))}")
    return points


def _print_realism(store: Store, summary: Summary, arm: str, baseline: str) -> None:
    print(f"KID of {baseline!r} less that of {arm!r}")
    for mine, other in zip(summary.of(arm), summary.of(baseline), strict=True):
        (items, ours), (others, theirs) = (store.features(row.point.task_id) for row in (mine, other))
        if not np.array_equal(items, others):
            raise SystemExit(f"{point_text(mine.point.sweep)}: both arms must have features of the same pictures")
        gap = nearer_by(ours[:, 0], ours[:, 1], theirs[:, 1])
        if gap is not None:
            print(f"  {point_text(mine.point.sweep):<28}{gap.mean:>8.4f} [{gap.low:.4f}, {gap.high:.4f}]")


def _never_shown(trials: Sequence[Trial]) -> set[int]:
    """Items of which nothing was decodable, whatever the channel did."""
    shares = {item: [trial.metrics.get("undecodable_rate", (0.0, 1.0)) for trial in trials if trial.item == item]
              for item in {trial.item for trial in trials}}
    return {item for item, pairs in shares.items() if all(lost == of for lost, of in pairs)}


def _print(arms: dict[str, dict[str, list[Trial]]], metric: str, title: str) -> None:
    first, baseline = arms.values()
    of_arm, of_baseline = arms
    print(f"{title}: {metric} of {of_arm!r}, of {of_baseline!r}, difference")
    pairs = {point: (trials, baseline[point]) for point, trials in first.items() if point in baseline}
    pairs["all alike"] = ([trial for mine, _ in pairs.values() for trial in mine],
                          [trial for _, other in pairs.values() for trial in other])
    for point, (mine, other) in pairs.items():
        ours, theirs, gap = estimate(mine, metric), estimate(other, metric), paired_difference(mine, other, metric)
        if ours is not None and theirs is not None and gap is not None:
            print(f"  {point:<28}{ours.mean:>8.2f}{theirs.mean:>8.2f}{gap.mean:>8.2f} [{gap.low:.2f}, {gap.high:.2f}]")


if __name__ == "__main__":
    main()
