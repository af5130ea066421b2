"""What everything cost, by arm: the ledger as a table, and the arms whose channel uses differ."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from channel_sim.ledger import Ledger
from channel_sim.store import Store
from reports.files import writing
from reports.summary import Summary, summarise, value_text

_KINDS = {"coded_bits": "payload", "header_bits": "headers", "preamble_bits": "preamble", "crc_bits": "CRC",
          "parity_bits": "parity", "repeated_bits": "repeated", "padding_bits": "padding", "side_bits": "side information"}
_SIGNALS = {"pilot_uses": "pilots", "cyclic_prefix_uses": "cyclic prefix", "filling_uses": "slot filling"}


@dataclass(frozen=True)
class LedgerRow:
    """One arm: channel uses and energy an item (a range where they vary over the sweep), and (mean, share of uses) a column."""

    arm: str
    uses: str
    transmissions: str
    energy: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LedgerTable:
    columns: tuple[str, ...]
    rows: tuple[LedgerRow, ...]


def ledger_table(summary: Summary) -> LedgerTable:
    """Means an item over all sweep points. Bits share the uses of no other signal in proportion to their number."""
    by_arm = {arm: [row.ledger for row in summary.of(arm) if row.ledger] for arm in summary.arms}
    means = {arm: _mean(ledgers) for arm, ledgers in by_arm.items() if ledgers}
    kinds = [kind for kind in (*_KINDS, *_SIGNALS) if any(ledger.get(kind) for ledger in means.values())]
    rows = [LedgerRow(arm, _range([one["channel_uses"] for one in by_arm[arm]]),
                      f"{ledger['transmissions']:,.1f}".removesuffix(".0"), _range([one["energy"] for one in by_arm[arm]]),
                      tuple((_count(ledger[kind]), _share(ledger, kind)) for kind in kinds)) for arm, ledger in means.items()]
    return LedgerTable(tuple((_KINDS | _SIGNALS)[kind] for kind in kinds), tuple(rows))


def write_cost_csv(store: Store, path: Path) -> None:
    """One line an arm and sweep point: the mean ledger of an item, one column a kind, energy in units of Es."""
    summary = summarise(store)
    kinds = [field.name for field in fields(Ledger)]
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", *summary.sweep_keys, *kinds, "num_trials", "task_id"])
        for row in summary.rows:
            where = [value_text(row.point.sweep[key]) if key in row.point.sweep else "" for key in summary.sweep_keys]
            costs = [repr(row.ledger[kind]) if kind in row.ledger else "" for kind in kinds]
            writer.writerow([row.point.arm, *where, *costs, len(row.trials), row.point.task_id])


def _mean(ledgers: list[dict[str, float]]) -> dict[str, float]:
    return {kind: sum(one[kind] for one in ledgers) / len(ledgers) for kind in ledgers[0]}


def _share(ledger: dict[str, float], kind: str) -> str:
    bits, uses = sum(ledger[one] for one in _KINDS), ledger["channel_uses"]
    signals = sum(ledger[one] for one in _SIGNALS)
    if not uses or not ledger[kind]:
        return ""
    share = ledger[kind] / uses if kind in _SIGNALS else ledger[kind] / bits * (1 - signals / uses)
    return f"{100 * share:.1f} %"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number else "–"


def _range(values: list[float]) -> str:
    low, high = _count(min(values)), _count(max(values))
    return low if low == high else f"{low} – {high}"
