"""The bit ledger: everything is charged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Ledger:
    """What one trial cost. Ledgers add up; all counts are of real bits.

    source_symbols: samples of the item as it was (bytes, symbols, colour components)
    token_bits:     tokens at their fixed length
    coded_bits:     payload bits of the coder's packets; ideal_bits is -log2 P under the tables that coded them, beside it;
                    head_bits is what of them every file of the coder has whatever it holds
    shared_bits:    weights, vocabulary, dictionary: what both ends hold beforehand, which is not sent
    parity_bits:    whole parity packets less their headers and CRCs; padding_bits: what equal packet sizes cost
    repeated_bits:  payload bits of packets that were sent before: copies and retransmissions
    filling_uses:   what an OFDM slot sends where data ends before it does
    channel_uses:   complex symbols, or bits on packet-level channels; energy is Σ Es over them, with Es = 1
    """

    source_symbols: int = 0
    token_bits: int = 0
    coded_bits: int = 0
    ideal_bits: float = 0.0
    head_bits: int = 0
    shared_bits: int = 0
    preamble_bits: int = 0
    header_bits: int = 0
    crc_bits: int = 0
    parity_bits: int = 0
    repeated_bits: int = 0
    padding_bits: int = 0
    side_bits: int = 0
    pilot_uses: int = 0
    cyclic_prefix_uses: int = 0
    filling_uses: int = 0
    channel_uses: int = 0
    transmissions: int = 0
    energy: float = 0.0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Ledger)})

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
