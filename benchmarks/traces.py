"""Loss traces of a folder: do they load, are their cards an independent count, and what do models fitted to them mislead about?

    python benchmarks/traces.py FOLDER [--cards]

For every trace: residual loss of a systematic (20, 16) erasure code over the trace itself and over each model fitted to it at
equal loss rate. --cards: count only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from channel_sim.card import card_of
from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.loss_fit import fit_models, residual_loss
from channel_sim.loss_trace import read_trace

NUM_SLOTS, N, K = 200_000, 20, 16


def agrees(lost: np.ndarray) -> bool:
    """The card's counts are those of string operations."""
    text, card = "".join("01"[int(one)] for one in lost), card_of(lost)
    runs = [len(run) for run in text.split("0") if run]
    inner = [len(run) for run in text.strip("1").split("0") if run]
    pairs = tuple(sum(a == b == "1" for a, b in zip(text, text[lag:], strict=False)) for lag in range(1, 9))
    return (card.num_lost == text.count("1") and card.longest == max(runs, default=0) and sum(card.bursts) == len(inner)
            and card.num_ends == text.count("10") and card.joint == pairs
            and list(card.bursts[:8]) == [inner.count(length) for length in range(1, 9)])


def main(folder: Path, *, cards_only: bool) -> None:
    paths = sorted(folder.rglob("*.txt"))
    traces = [read_trace(str(path)) for path in paths]
    print(f"{len(traces)} traces load, {sum(one.size for one in traces):,} packets; the channel card is the independent count in "
          f"{sum(map(agrees, traces))} of them")
    if cards_only:
        return
    ratios: dict[str, list[float]] = {}
    for path, lost in zip(paths, traces, strict=True):
        try:
            models = fit_models(lost)
        except RequestError:
            continue
        own = residual_loss(lost, N, K)
        drawn = {name: model.lost_packets(NUM_SLOTS, Key(1).child(path.name, name)) for name, model in models.items()}
        left = {name: residual_loss(of_model, N, K) for name, of_model in drawn.items()}
        if own > 1e-3:
            for name, value in left.items():
                ratios.setdefault(name, []).append(value / own)
    print(f"residual loss of a ({N},{K}) code over each model, as a multiple of that over the trace, where that is above 1e-3")
    print(f"{'':18}{'traces':>8}{'median':>9}{'10 %':>9}{'90 %':>9}{'within 20 %':>13}")
    for name, values in ratios.items():
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(f"{name:18}{len(values):8}{middle:9.3f}{low:9.3f}{high:9.3f}{np.mean(np.abs(np.array(values) - 1) < 0.2):13.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), cards_only="--cards" in sys.argv)
