"""Which arms may be compared: equal channel uses, and packets of equal size where a channel loses packets whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reports.summary import Row, Summary

USES_TOLERANCE = 0.02
COSTS = ("channel_uses_per_sample", "channel_uses_per_pixel", "bits_per_pixel", "bits_per_byte", "bits_per_token",
         "compression_rate", "adjusted_rate")
"""What a source takes, by any account: metrics in which arms may differ and be compared all the same."""
_Size = Callable[[Mapping[str, float]], float]


def unequal_uses(summary: Summary) -> list[str]:
    """One line an arm whose channel uses an item are more than 2 % off those of the first arm at some sweep point."""
    return [f"{arm}: {text}" for arm in summary.arms[1:] if (text := _off(summary, arm, _uses))]


def unequal_totals(uses: Mapping[str, float]) -> list[str]:
    """The same of one transmission: arm -> its channel uses."""
    first = next(iter(uses.values()), 0.0)
    return [f"{arm}: {text}" for arm, own in uses.items() if first and (text := _percent_off([own / first]))]


def unequal_packets(summary: Summary) -> list[str]:
    """One line an arm whose packets are more than 2 % longer or shorter than those of the first arm at some sweep point, where
    the channel loses a packet as a whole: with the same loss rate for all, who sends longer packets sends fewer of them."""
    if not any(_loses_packets(summary, arm) for arm in summary.arms):
        return []
    return [f"{arm}: {text}" for arm in summary.arms[1:] if (text := _off(summary, arm, _packet))]


def marks(summary: Summary) -> dict[str, str]:
    """Arm -> what a legend says of it beside its label, such as "−41 % uses"; arms that may be compared are not in it."""
    found: dict[str, list[str]] = {}
    for lines, what in ((unequal_uses(summary), "uses"), (unequal_packets(summary), "bits a packet")):
        for line in lines:
            arm, _, text = line.rpartition(": ")
            found.setdefault(arm, []).append(f"{text} {what}")
    return {arm: ", ".join(texts) for arm, texts in found.items()}


def equal_cost_arms(summary: Summary) -> list[str]:
    """The largest set of arms with equal channel uses, within 2 %, and equal packets at every sweep point; the first of equals."""
    sets = [[other for other in summary.arms if other == arm or not (
        _ratios(summary, other, _uses, arm) is None or _is_off(summary, other, arm))] for arm in summary.arms]
    return max(sets, key=len, default=[])


def _is_off(summary: Summary, arm: str, reference: str) -> bool:
    sizes = [_uses, _packet] if _loses_packets(summary, arm) or _loses_packets(summary, reference) else [_uses]
    return any(abs(ratio - 1) > USES_TOLERANCE for size in sizes for ratio in _ratios(summary, arm, size, reference) or [])


def _off(summary: Summary, arm: str, size: _Size) -> str:
    """'−41 %' or '−41 to +3 %' against the first arm; "" where it is within the tolerance."""
    return _percent_off(_ratios(summary, arm, size, summary.arms[0]) or [])


def _percent_off(ratios: Sequence[float]) -> str:
    off = [ratio - 1 for ratio in ratios if abs(ratio - 1) > USES_TOLERANCE]
    if not off:
        return ""
    low, high = (f"{100 * value:+.0f}".replace("-", "−") for value in (min(off), max(off)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _ratios(summary: Summary, arm: str, size: _Size, reference: str) -> list[float] | None:
    """Size of the arm over that of the reference, one a sweep point where both are known; None where that is nowhere."""
    known = {row.point.point_index: value for row in summary.of(reference) if (value := _size(row, size))}
    found = [value / known[row.point.point_index] for row in summary.of(arm)
             if row.point.point_index in known and (value := _size(row, size))]
    return found or None


def _size(row: Row, size: _Size) -> float:
    return size(row.ledger) if row.ledger else 0.0


def _uses(ledger: Mapping[str, float]) -> float:
    return ledger.get("channel_uses", 0.0)


def _packet(ledger: Mapping[str, float]) -> float:
    transmissions = ledger.get("transmissions", 0.0)
    return _uses(ledger) / transmissions if transmissions else 0.0


def _loses_packets(summary: Summary, label: str) -> bool:
    """Whether the arm's channel loses packets and a slot of its losses is a packet: `slot_bits` is there and not set."""
    channels = [part["parameters"] for arm in summary.meta.get("arms", []) if arm["label"] == label
                for part in arm["chain"] if part["stage"] == "channel"]
    return any("slot_bits" in parameters and parameters["slot_bits"] is None for parameters in channels)
