"""What a stretch of symbols goes through between the antennas, and what a receiver that knows it makes of them: flat fading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from channel_sim.checks import require
from channel_sim.keys import Key
from channel_sim.ledger import Ledger

FlatLaw = Literal["awgn", "rayleigh_block", "rician_block", "rayleigh"]
FLAT_LAWS: tuple[FlatLaw, ...] = get_args(FlatLaw)


@dataclass(frozen=True, eq=False)
class Heard:
    """What the demapper gets of one item's symbols, and what they met.

    symbols: complex128 [num_symbols], equalised: what was sent plus an error of mean 0
    noise:   float64 [num_symbols], variance of that error, that of the channel estimate included
    snr_db:  float64 [num_fades], received Es |h|^2 / N0 of each fade in turn, as it was: for the record, not for the receiver
    """

    symbols: np.ndarray
    noise: np.ndarray
    snr_db: np.ndarray


class Propagation(ABC):
    """The way from one antenna to another, for the symbols of one item in turn. Es is 1, E|h|^2 is 1, E|n|^2 is N0.

    A record: cheap, hashable, picklable.
    """

    @abstractmethod
    def charges(self, num_symbols: int) -> Ledger:
        """What carrying `num_symbols` data symbols costs: uses and energy, theirs and those of all that goes with them."""

    @abstractmethod
    def carry(self, symbols: np.ndarray, no: float, key: Key) -> Heard:
        """Send complex128 [num_symbols] at noise power `no` (N0); `key` is the item's channel key."""

    @property
    def slot_capacity(self) -> int:
        """Data symbols of a slot, which is sent whole; 1 where there are no slots."""
        return 1

    def num_uses(self, num_symbols: int) -> int:
        """Complex channel uses that `num_symbols` data symbols take."""
        return self.charges(num_symbols).channel_uses


@dataclass(frozen=True)
class Flat(Propagation):
    """y = h x + n with one complex h a symbol, known to the receiver, which divides by it.

    awgn:           h = 1
    rayleigh_block: h ~ CN(0, 1), constant over `block_symbols` symbols of the item, independent from block to block
    rician_block:   h = sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) g with g the h of rayleigh_block: the line of sight has phase 0 and
                    K = 10^(rician_k_db / 10) times the power of what is scattered
    rayleigh:       rayleigh_block with blocks of one symbol

    Source: J. Proakis, "Digital Communications" (2001), sections 14.1 and 14.3; S. O. Rice, Bell Syst. Tech. J. 24 (1945).
    """

    law: FlatLaw = "awgn"
    block_symbols: int = 1
    rician_k_db: float = 0.0

    def __post_init__(self) -> None:
        require(self.law in FLAT_LAWS, f"fading must be one of {', '.join(FLAT_LAWS)}, got {self.law!r}")
        require(self.block_symbols >= 1, f"fading_block_symbols must be >= 1, got {self.block_symbols}: use 1 for fast fading")
        require(abs(self.rician_k_db) <= 300, f"rician_k_db must lie in [-300, 300], got {self.rician_k_db:g}: it is in dB")

    def charges(self, num_symbols: int) -> Ledger:
        return Ledger(channel_uses=num_symbols, energy=float(num_symbols))

    def carry(self, symbols: np.ndarray, no: float, key: Key) -> Heard:
        blocks = self.fades(symbols.size, key)
        fades = np.repeat(blocks, self._symbols_a_fade(symbols.size))[:symbols.size]
        noise = np.sqrt(no) * key.child("symbol noise").complex_normal(symbols.size)
        received = fades * symbols + noise
        return Heard(received / fades, no / np.abs(fades) ** 2, 10 * np.log10(np.abs(blocks) ** 2 / no))

    def fades(self, num_symbols: int, key: Key) -> np.ndarray:
        """complex128 [num_fades]: h of each fading block that `num_symbols` symbols reach into; one in all for awgn."""
        if self.law == "awgn":
            return np.ones(min(num_symbols, 1), np.complex128)
        scattered = key.child("fading").complex_normal(-(-num_symbols // self._symbols_a_fade(num_symbols)))
        if self.law != "rician_block":
            return scattered
        ratio = 10 ** (self.rician_k_db / 10)
        return np.sqrt(ratio / (ratio + 1)) + np.sqrt(1 / (ratio + 1)) * scattered

    def _symbols_a_fade(self, num_symbols: int) -> int:
        if self.law == "awgn":
            return max(num_symbols, 1)
        return 1 if self.law == "rayleigh" else self.block_symbols
