"""The channel card: what the losses of every arm and point looked like, beside what their channel says of itself."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.card import BURST_ENDS, SNR_STEP_DB, Card
from channel_sim.link_law import LinkLaw
from channel_sim.loss_law import LONGEST_BURST, NUM_LAGS, LossLaw
from channel_sim.store import Store
from reports.files import writing
from reports.summary import point_text, read_once, value_text

BURST_LABELS = (*map(str, BURST_ENDS[:8]), *(f"{end // 2 + 1}-{end}" for end in BURST_ENDS[8:]), f">{BURST_ENDS[-1]}")
_Z95, _Z_FLAG = 1.959964, 4.5
_LEAST_SHARE = 1e-3
"""Bins of SNR that a law makes less likely are shown only where they were met."""
_CARDS_AT_ONCE = 1000
_LEAST_BURSTS, _LEAST_TRIALS = 50, 20
"""Fewer bursts or trials are not held against a model: their spread is not known well enough."""


@dataclass(frozen=True)
class Measured:
    """A pooled ratio, its standard error over trials, which are independent, and its 95 % interval; None: not defined."""

    value: float | None
    error: float | None = None
    interval: tuple[float, float] | None = None


class Pooled:
    """The cards of one task, added up: memory does not grow with their number."""

    def __init__(self, cards: Iterable[Card], law: LossLaw | None, link: LinkLaw | None = None) -> None:
        self.law, self.link, self.num_trials, self.longest = law, link, 0, 0
        self.sizes: Counter[int] = Counter()
        self.snr: Counter[int] = Counter()
        self.joint, self.bursts = np.zeros(NUM_LAGS, np.int64), np.zeros(len(BURST_LABELS), np.int64)
        self._sums, self._products = np.zeros(4), np.zeros((4, 4))  # slots, lost, lost with a slot after it, both lost
        rest = iter(cards)
        while some := list(islice(rest, _CARDS_AT_ONCE)):
            self._add(some)

    def _add(self, cards: list[Card]) -> None:
        self.num_trials += len(cards)
        self.sizes.update(card.num_slots for card in cards)
        self.longest = max(self.longest, *(card.longest for card in cards))
        joint = np.array([card.joint for card in cards])
        self.joint += joint.sum(axis=0)
        self.bursts += np.array([card.bursts for card in cards]).sum(axis=0)
        counts = np.array([(card.num_slots, card.num_lost, card.num_ends) for card in cards])
        rows = np.stack([counts[:, 0], counts[:, 1], joint[:, 0] + counts[:, 2], joint[:, 0]], axis=1).astype(np.float64)
        self._sums += rows.sum(axis=0)
        self._products += np.einsum("ci,cj->ij", rows, rows)
        for card in cards:
            for offset, count in enumerate(card.snr[1:]):
                self.snr[card.snr[0] + offset] += count

    @property
    def num_slots(self) -> int:
        return int(self._sums[0])

    @property
    def num_bursts(self) -> int:
        """Bursts whose end was seen."""
        return int(self._sums[2] - self._sums[3])

    @property
    def stated(self) -> tuple[float | None, float | None, float | None]:
        """Loss rate, P(loss | loss) and mean burst as the law has them."""
        return (self.law.loss_rate, self.law.loss_given_loss, self.law.mean_burst) if self.law else (None, None, None)

    @property
    def loss_rate(self) -> Measured:
        return self._ratio(np.array([0.0, 1, 0, 0]), np.array([1.0, 0, 0, 0]))

    @property
    def loss_given_loss(self) -> Measured:
        return self._ratio(np.array([0.0, 0, 0, 1]), np.array([0.0, 0, 1, 0]))

    @property
    def mean_burst(self) -> Measured:
        """Losses with a slot after them per end of a burst: 1 / (1 - P(loss | loss)), which no edge makes shorter.

        Its interval is that of P(loss | loss), without an end where that reaches 1.
        """
        burst, given = self._ratio(np.array([0.0, 0, 1, 0]), np.array([0.0, 0, 1, -1])), self.loss_given_loss.interval
        return replace(burst, interval=burst.interval and given and (_mean_burst(given[0]), _mean_burst(given[1])))

    @property
    def autocorrelation(self) -> list[float | None]:
        """At lags 1 to 8; None where nothing or everything was lost, or no trial is that long."""
        rate = self.loss_rate.value
        pairs = [sum(count * max(0, size - lag) for size, count in self.sizes.items()) for lag in range(1, NUM_LAGS + 1)]
        if not rate or rate == 1:
            return [None] * NUM_LAGS
        return [float(both / number - rate**2) / (rate * (1 - rate)) if number else None
                for both, number in zip(self.joint, pairs, strict=True)]

    @property
    def burst_shares(self) -> list[float]:
        """Of the bursts between two arrivals, by bins of length."""
        return (self.bursts / max(1, self.bursts.sum())).tolist()

    @property
    def model_burst_shares(self) -> list[float] | None:
        """What the law expects of them. In n slots it sees n - k - 1 places for a burst of k between two arrivals, so short trials
        show fewer long bursts than there are."""
        if self.law is None or not self.law.bursts:
            return None
        lengths = np.arange(1, LONGEST_BURST + 1)
        places = sum(count * np.maximum(0, size - lengths - 1) for size, count in self.sizes.items())
        expected = np.bincount(np.searchsorted(BURST_ENDS, lengths), places * np.array(self.law.bursts), len(BURST_LABELS))
        return (expected / expected.sum()).tolist() if expected.sum() else None

    @property
    def snr_shares(self) -> dict[int, tuple[float, float | None]]:
        """Bin -> (share of the fades, what the law of the link gives it, None where it has none); empty without a radio link."""
        if not self.snr:
            return {}
        first, stated = self.link.snr_shares if self.link and self.link.snr_shares else (0, ())
        likely = [first + index for index, share in enumerate(stated) if share >= _LEAST_SHARE]
        bins, total = [*self.snr, *likely], sum(self.snr.values())
        return {place: (self.snr[place] / total,
                        None if not stated else stated[place - first] if 0 <= place - first < len(stated) else 0.0)
                for place in range(min(bins), max(bins) + 1)}

    def _ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> Measured:
        """Ratio of sums; its variance is that of the sum of its residuals over trials (delta method)."""
        below = float(denominator @ self._sums)
        if below <= 0:
            return Measured(None)
        value = float(numerator @ self._sums) / below
        residual = numerator - value * denominator
        # Σ residual is 0, so Σ residual² is its variance times the number of trials less one
        spread = float(residual @ self._products @ residual) * self.num_trials / max(1, self.num_trials - 1)
        if self.num_trials < 2:
            return Measured(value)
        error = float(np.sqrt(max(0.0, spread))) / below
        return Measured(value, error, (max(0.0, value - _Z95 * error), min(1.0, value + _Z95 * error)))

    def excess(self) -> Measured:
        """P(loss | loss) less the loss rate, with the error of the difference."""
        (given, rate), below = (self.loss_given_loss, self.loss_rate), self._sums[[2, 0]]
        if given.value is None or rate.value is None or self.num_trials < 2:
            return Measured(None)
        residual = np.array([0, 0, -given.value, 1]) / below[0] - np.array([-rate.value, 1, 0, 0]) / below[1]
        spread = float(residual @ self._products @ residual) * self.num_trials / (self.num_trials - 1)
        return Measured(given.value - rate.value, float(np.sqrt(max(0.0, spread))))


def _mean_burst(loss_given_loss: float) -> float:
    return 1 / (1 - loss_given_loss) if loss_given_loss < 1 else float("inf")


@dataclass(frozen=True)
class ChannelCard:
    """Arms that met the same losses at one sweep point, and what these looked like. flags: what a reader must know of them."""

    arms: tuple[str, ...]
    task_ids: tuple[str, ...]
    sweep: dict[str, Any]
    pooled: Pooled
    flags: tuple[str, ...]

    @property
    def where(self) -> str:
        return point_text(self.sweep)


@read_once
def channel_cards(store: Store) -> list[ChannelCard]:
    """One card for each set of losses, ordered by sweep point, then arm; points without a card are left out."""
    laws = store.laws()
    cards: dict[tuple[int, str], ChannelCard] = {}
    for point in sorted(store.points(), key=lambda one: (one.point_index, one.arm_index)):
        stated = laws.get(point.task_id, {})
        law = LossLaw.from_dict(stated) if "loss_rate" in stated else None
        link = LinkLaw.from_dict(stated["link"]) if "link" in stated else None
        pooled = Pooled(store.cards(point.task_id), law, link)
        if not pooled.num_trials:
            continue
        place = (point.point_index, _fingerprint(pooled))
        known = cards.get(place)
        cards[place] = (replace(known, arms=(*known.arms, point.arm), task_ids=(*known.task_ids, point.task_id)) if known else
                        ChannelCard((point.arm,), (point.task_id,), point.sweep, pooled, flags(pooled)))
    return list(cards.values())


def _fingerprint(pooled: Pooled) -> str:
    return repr((pooled.law, pooled.link, sorted(pooled.sizes.items()), pooled.joint.tolist(), pooled.bursts.tolist(),
                 pooled.longest, pooled._products.tolist(), sorted(pooled.snr.items())))


def flags(pooled: Pooled) -> tuple[str, ...]:
    """Anti-bursty models, losses that were measured to be anti-bursty, and those that depart from their model."""
    law, found = pooled.law, []
    enough = pooled.num_bursts >= _LEAST_BURSTS and pooled.num_trials >= _LEAST_TRIALS
    if law is not None and law.is_anti_bursty and law.mean_burst is not None:
        found.append(f"Anti-bursty model: a mean burst of {law.mean_burst:.3g} is shorter than the {1 / (1 - law.loss_rate):.3g} "
                     f"of independent losses of the same rate, and P(loss | loss) = {law.loss_given_loss:.3g} is below the loss "
                     f"rate of {law.loss_rate:.3g}.")
    excess = pooled.excess()
    if not found and enough and excess.value is not None and excess.error and excess.value < -_Z_FLAG * excess.error:
        found.append(f"Anti-bursty as measured: P(loss | loss) = {pooled.loss_given_loss.value:.3g} is below the loss rate of "
                     f"{pooled.loss_rate.value:.3g}, so that bursts are shorter than those of independent losses.")
    for name, measured, stated in (("loss rate", pooled.loss_rate, pooled.stated[0]),
                                   ("P(loss | loss)", pooled.loss_given_loss, pooled.stated[1])):
        if (enough and stated is not None and measured.value is not None and measured.error
                and abs(measured.value - stated) > _Z_FLAG * measured.error):
            found.append(f"Not the model's: the {name} was {measured.value:.4g}, the model states {stated:.4g}, which is "
                         f"{abs(measured.value - stated) / measured.error:.1f} standard errors away.")
    return tuple(found)


def write_card_csv(store: Store, path: Path) -> None:
    """One line an arm, sweep point and quantity: what was measured, its 95 % interval over trials, and what the model states."""
    cards = channel_cards(store)
    keys = list(dict.fromkeys(key for card in cards for key in card.sweep))
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", *keys, "quantity", "at", "measured", "ci_low", "ci_high", "model", "task_id"])
        for card in cards:
            lines = list(_lines(card.pooled))
            for arm, task_id in zip(card.arms, card.task_ids, strict=True):
                where = [value_text(card.sweep[key]) if key in card.sweep else "" for key in keys]
                writer.writerows([arm, *where, *line, task_id] for line in lines)


def _lines(pooled: Pooled) -> Iterator[list[Any]]:
    """(quantity, at, measured, low, high, model)."""
    law = pooled.law
    ratios = {"loss_rate": pooled.loss_rate, "loss_given_loss": pooled.loss_given_loss, "mean_burst_slots": pooled.mean_burst}
    for (name, measured), stated in zip(ratios.items(), pooled.stated, strict=True):
        yield [name, "", _number(measured.value), *map(_number, measured.interval or (None, None)), _number(stated)]
    counts = {"num_slots": pooled.num_slots, "num_bursts": pooled.num_bursts, "longest_burst_slots": pooled.longest}
    for name, count in counts.items():
        yield [name, "", count, "", "", ""]
    stated_lags = law.autocorrelation if law and law.autocorrelation else (None,) * NUM_LAGS
    for lag, (value, stated) in enumerate(zip(pooled.autocorrelation, stated_lags, strict=True), start=1):
        yield ["autocorrelation", lag, _number(value), "", "", _number(stated)]
    stated_shares = pooled.model_burst_shares
    for index, (label, share) in enumerate(zip(BURST_LABELS, pooled.burst_shares, strict=True)):
        yield ["burst_share", label, _number(share), "", "", _number(stated_shares[index] if stated_shares else None)]
    for low, (share, stated) in pooled.snr_shares.items():
        yield ["snr_share_from_db", low * SNR_STEP_DB, _number(share), "", "", _number(stated)]


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))
