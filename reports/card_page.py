"""The channel card on the page: a table with one small drawing a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from channel_sim.card import SNR_STEP_DB
from channel_sim.store import Store
from reports.card import BURST_LABELS, ChannelCard, Measured, channel_cards
from reports.summary import significant

_WIDTH, _HEIGHT, _BASE, _TOP, _LEFT = 190, 74, 56, 8, 28
_LEAST_MEMORY = 0.1
"""An autocorrelation below it fills no panel, whatever its sign."""


@dataclass(frozen=True)
class CardRow:
    """One card as text: (measured, model) of each quantity, its drawings, and what must be known of it."""

    arms: str
    where: str
    cells: tuple[tuple[str, str], ...]
    drawings: tuple[Markup, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class CardTable:
    """shown: the cards `at` one point of the sweep, "" where nothing is swept; others: those of the other points, in order."""

    at: str
    shown: tuple[CardRow, ...]
    others: tuple[CardRow, ...]
    num_arms: int


def card_table(store: Store) -> CardTable:
    """All cards of a results file; empty where nothing was sent over a channel that has one."""
    cards = channel_cards(store)
    places = list(dict.fromkeys(card.where for card in cards))
    middle = places[len(places) // 2] if places else ""
    arms = list(dict.fromkeys(arm for card in cards for arm in card.arms))
    rows = [(card.where == middle, _row(card, len(arms))) for card in cards]
    return CardTable(middle, tuple(row for here, row in rows if here), tuple(row for here, row in rows if not here), len(arms))


def _row(card: ChannelCard, num_arms: int) -> CardRow:
    pooled, law = card.pooled, card.pooled.law
    arms = "all arms" if len(card.arms) == num_arms > 1 else "; ".join(card.arms)
    ratios = (pooled.loss_rate, pooled.loss_given_loss, pooled.mean_burst)
    compared = [(_text(measured), _plain(stated)) for measured, stated in zip(ratios, pooled.stated, strict=True)]
    cells = ((f"{pooled.num_slots:,}", ""), *compared, (f"{pooled.longest:,}", ""))
    drawings = []
    if pooled.bursts.sum():
        last = max(index for index, count in enumerate(pooled.bursts) if count) + 1
        stated = pooled.model_burst_shares
        drawings.append(_panel("bursts by length", BURST_LABELS[:last], pooled.burst_shares[:last], stated and stated[:last]))
    lags = [value for value in pooled.autocorrelation if value is not None]
    if lags:
        stated_lags = list(law.autocorrelation[:len(lags)]) if law and law.autocorrelation else None
        drawings.append(_panel("autocorrelation by lag", list(map(str, range(1, len(lags) + 1))), lags, stated_lags, signed=True))
    if pooled.snr:
        shares = pooled.snr_shares
        expected = [stated for _, stated in shares.values() if stated is not None]
        drawings.append(_panel("fades by SNR, dB", [str(low * SNR_STEP_DB) for low in shares], [one for one, _ in shares.values()],
                               expected or None))
    return CardRow(arms, card.where, cells, tuple(drawings), card.flags)


def _text(measured: Measured) -> str:
    if measured.value is None:
        return "–"
    low, high = measured.interval or (None, None)
    if low is None or high is None:
        return significant(measured.value, 4)
    return f"{significant(measured.value, 4)} [{significant(low, 4)}, {significant(high, 4).replace('inf', '∞')}]"


def _plain(value: float | None) -> str:
    return "" if value is None else significant(value, 4)


def _panel(title: str, labels: Sequence[str], values: Sequence[float], model: Sequence[float] | None, *,
           signed: bool = False) -> Markup:
    """Bars with what was measured, rings with what the model states, a scale on the left; `signed` values may lie below zero."""
    least, most = _scale([*values, *(model or ())], signed=signed)

    def level(value: float) -> float:
        return _BASE - (_BASE - _TOP) * (value - least) / (most - least)

    step = (_WIDTH - 4 - _LEFT) / len(values)
    parts = [f'<text x="{_LEFT}" y="72" class="t">{escape(title)}</text>', f'<path d="M{_LEFT} {level(0):.1f}H{_WIDTH - 4}"/>',
             f'<path d="M{_LEFT} {_TOP}V{_BASE}"/>']
    for mark in (most, 0.0, *([least] if signed else [])):
        if mark in (least, most) or min(level(mark) - _TOP, _BASE - level(mark)) > 7:  # no two on top of each other
            parts.append(f'<text x="{_LEFT - 3}" y="{level(mark) + 2.4:.1f}" text-anchor="end">{mark:.2g}</text>')
    for index, value in enumerate(values):
        top, left = min(level(0), level(value)), _LEFT + (index + 0.12) * step
        height = abs(level(value) - level(0))
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{0.76 * step:.1f}" height="{height:.1f}"/>')
    for index, stated in enumerate(model or ()):
        parts.append(f'<circle cx="{_LEFT + (index + 0.5) * step:.1f}" cy="{level(stated):.1f}" r="2"/>')
    ends = {labels[0]: ("start", _LEFT + 0.12 * step), labels[-1]: ("end", _WIDTH - 4 - 0.12 * step)}
    parts += [f'<text x="{x:.1f}" y="64" text-anchor="{anchor}">{escape(label)}</text>' for label, (anchor, x) in ends.items()]
    said = ", ".join(f"{label}: {value:.3g}" for label, value in zip(labels, values, strict=True))
    return Markup(f'<svg class="card" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}, measured: '
                  f'{escape(said)}">{"".join(parts)}</svg>')  # our own numbers and words, escaped above


def _scale(values: Sequence[float], *, signed: bool) -> tuple[float, float]:
    """(lowest, highest) of a panel."""
    if signed:
        return min(-_LEAST_MEMORY, *values), max(_LEAST_MEMORY, *values)
    return 0.0, max(*values, 1e-9)
