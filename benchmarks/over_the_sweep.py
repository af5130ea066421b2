"""One arm against another over a whole sweep: `python -m benchmarks.over_the_sweep RESULTS ARM BASELINE [METRIC] [--beside RUN]`.

RESULTS is the folder of a run. Prints the paired difference of METRIC (PSNR in dB) at each point of the sweep, as `channel-sim
report --baseline` does, and of its mean over all points, which the report has not; then the same without the items that one of the
two arms cannot show at any point, because it has no file that fits. METRIC kid is how much nearer ARM is to the originals than
BASELINE, point by point; --beside names the run that BASELINE's are taken from, of the same items at other points. 95 % intervals
by the paired bootstrap over items, each for itself.
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

Realism = tuple[str, list[str], list[tuple[np.ndarray, np.ndarray]]]
"""An arm, its points, and of each the items [n] and their features [n, 2, d], of the original and of what came out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("arm")
    parser.add_argument("baseline")
    parser.add_argument("metric", nargs="?", default="psnr_db")
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    if options.metric == "kid":
        _print_realism((options.arm, *_features(options.results, options.arm)),
                       (options.baseline, *_features(options.beside or options.results, options.baseline)))
        return
    with closing(Store(options.results / "results.sqlite")) as store:
        summary = summarise(store)
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


def _features(folder: Path, arm: str) -> tuple[list[str], list[tuple[np.ndarray, np.ndarray]]]:
    """(points, (items [n], features [n, 2, d]) of each)."""
    with closing(Store(folder / "results.sqlite")) as store:
        rows = summarise(store).of(arm)
        return [point_text(row.point.sweep) for row in rows], [store.features(row.point.task_id) for row in rows]


def _print_realism(mine: Realism, other: Realism) -> None:
    print(f"KID of {other[0]!r} less that of {mine[0]!r}")
    for here, (items, ours), there, (others, theirs) in zip(*mine[1:], *other[1:], strict=True):
        if not np.array_equal(items, others):
            raise SystemExit(f"{here}: both arms must have features of the same pictures, got {len(items)} and {len(others)}")
        gap = nearer_by(ours[:, 0], ours[:, 1], theirs[:, 1])
        if gap is not None:
            print(f"  {here if here == there else f'{here}, {there}':<28}{gap.mean:>8.4f} [{gap.low:.4f}, {gap.high:.4f}]")


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
