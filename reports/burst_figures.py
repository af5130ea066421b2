"""How long losses last: the lengths of bursts that were met, beside those that the channel's own law expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from channel_sim.store import Store
from reports.axes import COLUMN_INCHES, plain
from reports.card import BURST_LABELS, ChannelCard, channel_cards
from reports.figures import add_legend, save, style

_MOST = 6


def save_bursts(store: Store, folder: Path) -> list[Path]:
    """Write folder/bursts.svg, .pdf and .png; nothing where no burst was seen to end."""
    figure = draw_bursts(store)
    return save(figure, folder / "bursts") if figure else []


def draw_bursts(store: Store) -> Figure | None:
    """A histogram a sweep point, of the first arms that met it; None where nothing was lost in bursts. At most six points, spread
    evenly over the sweep: bars are measured shares, rings the law's."""
    cards = [card for card in {one.where: one for one in reversed(channel_cards(store))}.values() if card.pooled.bursts.sum()][::-1]
    if not cards:
        return None
    if len(cards) > _MOST:
        cards = [cards[round(k * (len(cards) - 1) / (_MOST - 1))] for k in range(_MOST)]
    with style():
        return _draw(cards)


def _draw(cards: Sequence[ChannelCard]) -> Figure:
    last = max(index for card in cards for index, count in enumerate(card.pooled.bursts) if count) + 1
    figure = Figure(figsize=(COLUMN_INCHES, 1.15 * len(cards) + 0.55))
    axes = figure.subplots(len(cards), 1, squeeze=False, sharex=True)
    for axis, card in zip(axes.flat, cards, strict=True):
        axis.bar(range(last), card.pooled.burst_shares[:last], width=0.76, color="#8FB8D8", edgecolor="#0072B2", linewidth=0.6,
                 label="measured")
        law = card.pooled.model_burst_shares
        if law:
            axis.plot(range(last), law[:last], linestyle="none", marker="o", markerfacecolor="none", color="#111111",
                      label="the channel's law")
        axis.set_title(plain(card.where), loc="right", fontsize=7.5, pad=2)
        axis.set_ylabel("Share", fontsize=7.5)
        axis.grid(axis="y")
    axes[-1, 0].set_xticks(range(last), BURST_LABELS[:last])
    axes[-1, 0].set_xlabel("Length of a burst (slots)")
    add_legend(figure)
    return figure
