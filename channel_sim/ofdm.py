"""OFDM over a multipath channel: slots of subcarriers, pilots, cyclic prefix, and what the receiver knows of the channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Literal, cast, get_args

import numba
import numpy as np

from channel_sim.checks import require
from channel_sim.fading import FLAT_LAWS, Flat, FlatLaw, Heard, Propagation
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.multipath import MULTIPATH_MODELS, Multipath, MultipathName

ChannelKnowledge = Literal["perfect", "ls_lmmse"]
Fading = Literal[FlatLaw, MultipathName]
FADINGS: tuple[Fading, ...] = (*FLAT_LAWS, *MULTIPATH_MODELS)

SLOTS_A_DRAW = 256
"""The channel of an item is continuous over so many slots; the next so many meet another, independent one."""
FASTEST_DOPPLER = 0.05
"""Largest Doppler shift in subcarrier spacings: the interference between subcarriers, left out, is then below Es by 20.8 dB."""
MOST_SUBCARRIERS = 1024
NEGLIGIBLE = 1e-12
"""Share of a path's energy in directions of its variation over a slot that the estimator leaves out."""


@dataclass(frozen=True)
class Ofdm(Propagation):
    """Data symbols of mean energy Es = 1, one on each subcarrier of each OFDM symbol that is no pilot, by frequency first.

        symbols ─▶ slots (two pilot symbols each) ─▶ ·h(t, f) ─▶ +n ─▶ /ĥ ─▶ symbols, with the variance (N0 + E|h - ĥ|²) / |ĥ|²

    y = h x + n a subcarrier: the cyclic prefix covers all delays, so that OFDM symbols do not meet, and the channel is taken as
    constant over one. Es/N0 is that of a subcarrier; pilots, cyclic prefix and the filling of the last slot are sent at the same
    mean power, so energy = uses. An item starts a slot; its slots follow each other in time, `SLOTS_A_DRAW` on one channel.
    What the estimate leaves of the channel is taken as noise: exactly Gaussian for BPSK and QPSK over scattered paths.

    perfect:  ĥ = h; pilots are sent and charged all the same
    ls_lmmse: least squares at the pilots of a slot (y / pilot), from there the linear estimate of least mean squared error on the
              slot's data; it knows N0, the delays and powers of the paths and their correlation in time, never their gains

    Source: J.-J. van de Beek et al., "On channel estimation in OFDM systems", IEEE VTC (1995); Y. Li, L. J. Cimini, "Bounds on the
    interchannel interference of OFDM in time-varying impairments", IEEE Trans. Commun. 49 (2001).
    """

    multipath: Multipath = field(default_factory=Multipath)
    subcarrier_spacing_khz: float = 15.0
    num_subcarriers: int = 72
    cyclic_prefix_samples: int = 6
    symbols_per_slot: int = 14
    channel_knowledge: ChannelKnowledge = "perfect"

    def __post_init__(self) -> None:
        require(self.subcarrier_spacing_khz > 0, f"subcarrier_spacing_khz must be > 0, got {self.subcarrier_spacing_khz:g}: try 15")
        require(1 <= self.num_subcarriers <= MOST_SUBCARRIERS,
                f"num_subcarriers must lie in [1, {MOST_SUBCARRIERS}], got {self.num_subcarriers}")
        require(0 <= self.cyclic_prefix_samples <= self.num_subcarriers, "cyclic_prefix_samples must lie in [0, num_subcarriers = "
                f"{self.num_subcarriers}], got {self.cyclic_prefix_samples}")
        require(3 <= self.symbols_per_slot <= 28,
                f"symbols_per_slot must lie in [3, 28], two of them for pilots, got {self.symbols_per_slot}: 14 is usual")
        require(self.channel_knowledge in get_args(ChannelKnowledge),
                f"channel_knowledge must be one of {', '.join(get_args(ChannelKnowledge))}, got {self.channel_knowledge!r}")
        self._covers_all_delays()
        slowest = self.multipath.doppler_hz / FASTEST_DOPPLER / 1e3
        require(self.subcarrier_spacing_khz >= slowest,
                f"speed_kmh = {self.multipath.speed_kmh:g} at carrier_ghz = {self.multipath.carrier_ghz:g} shifts subcarriers by "
                f"{self.multipath.doppler_hz:.4g} Hz, more than {FASTEST_DOPPLER:.0%} of their spacing, and they would interfere: "
                f"subcarrier_spacing_khz must be >= {slowest:.4g}, got {self.subcarrier_spacing_khz:g}")

    def _covers_all_delays(self) -> None:
        sample_ns = 1e6 / (self.num_subcarriers * self.subcarrier_spacing_khz)
        prefix, longest = self.cyclic_prefix_samples * sample_ns, self.multipath.longest_delay_ns
        needed = ceil(longest / sample_ns * (1 - 1e-12))
        require(self.cyclic_prefix_samples >= needed,
                f"cyclic_prefix_samples must be >= {needed}, got {self.cyclic_prefix_samples}: {prefix:.4g} ns are less than the "
                f"longest delay of {self.multipath.model}, {longest:.4g} ns, and OFDM symbols would interfere; or lower "
                f"delay_spread_ns, which is {self.multipath.delay_spread_ns:g}")

    @property
    def pilot_symbols(self) -> tuple[int, int]:
        """The two OFDM symbols of a slot, counted from 0, whose subcarriers are all pilots; 2 and 11 of 14."""
        edge = self.symbols_per_slot // 6
        return edge, self.symbols_per_slot - 1 - edge

    @property
    def data_symbols(self) -> tuple[int, ...]:
        return tuple(symbol for symbol in range(self.symbols_per_slot) if symbol not in self.pilot_symbols)

    @property
    def slot_capacity(self) -> int:
        """Data symbols of a slot."""
        return len(self.data_symbols) * self.num_subcarriers

    @property
    def symbol_seconds(self) -> float:
        """Of an OFDM symbol with its cyclic prefix."""
        return (1 + self.cyclic_prefix_samples / self.num_subcarriers) / (self.subcarrier_spacing_khz * 1e3)

    def num_slots(self, num_symbols: int) -> int:
        return -(-num_symbols // self.slot_capacity)

    def charges(self, num_symbols: int) -> Ledger:
        slots = self.num_slots(num_symbols)
        uses = slots * self.symbols_per_slot * (self.num_subcarriers + self.cyclic_prefix_samples)
        return Ledger(pilot_uses=slots * len(self.pilot_symbols) * self.num_subcarriers,
                      cyclic_prefix_uses=slots * self.symbols_per_slot * self.cyclic_prefix_samples,
                      filling_uses=slots * self.slot_capacity - num_symbols, channel_uses=uses, energy=float(uses))

    def carry(self, symbols: np.ndarray, no: float, key: Key) -> Heard:
        response = self.response(self.num_slots(symbols.size), key)
        fades = response[:, self.data_symbols, :].ravel()[:symbols.size]
        received = fades * symbols + np.sqrt(no) * key.child("symbol noise").complex_normal(symbols.size)
        known, error = fades, np.zeros(symbols.size)
        if self.channel_knowledge == "ls_lmmse":
            known, error = self._estimate(response, symbols.size, no, key)
        return Heard(received / known, (no + error) / np.abs(known) ** 2, 10 * np.log10(np.abs(fades) ** 2 / no))

    def response(self, num_slots: int, key: Key) -> np.ndarray:
        """h, complex128 [num_slots, symbols_per_slot, num_subcarriers]; subcarrier num_subcarriers // 2 is the carrier."""
        draws = []
        for draw in range(-(-num_slots // SLOTS_A_DRAW)):
            slots = min(SLOTS_A_DRAW, num_slots - draw * SLOTS_A_DRAW)
            gains, delays = self.multipath.draw(slots * self.symbols_per_slot, self.symbol_seconds, key.child("fading", draw))
            # einsum: the same sums in the same order whatever the length and the number of threads
            draws.append(np.einsum("lt,lf->tf", gains, self._turns(delays)))
        flat = np.concatenate(draws) if draws else np.zeros((0, self.num_subcarriers), np.complex128)
        return flat.reshape(num_slots, self.symbols_per_slot, self.num_subcarriers)

    def _turns(self, delays: np.ndarray) -> np.ndarray:
        """complex128 [num_paths, num_subcarriers]: phases of delayed paths."""
        frequencies = (np.arange(self.num_subcarriers) - self.num_subcarriers // 2) * self.subcarrier_spacing_khz * 1e3
        return np.exp(-2j * np.pi * np.multiply.outer(delays, frequencies))

    def _estimate(self, response: np.ndarray, num_symbols: int, no: float, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(ĥ complex128, E|h - ĥ|² float64), [num_symbols] each."""
        pilots = response[:, self.pilot_symbols, :].reshape(-1, len(self.pilot_symbols) * self.num_subcarriers)
        # pilots are known and of energy 1: y / pilot is h and noise of the same law, whichever they are
        least_squares = pilots + np.sqrt(no) * key.child("pilot noise").complex_normal(*pilots.shape)
        estimator = _estimator(self, no)
        estimates = np.concatenate([np.zeros(0), *(estimator(slot) for slot in least_squares)])
        return estimates[:num_symbols], np.tile(estimator.error, len(response))[:num_symbols]

    def modes(self) -> np.ndarray:
        """complex128 [symbols_per_slot, num_subcarriers, num_modes]: times independent CN(0, 1), h of a slot."""
        statistics = self.multipath.statistics(self.symbols_per_slot, self.symbol_seconds)
        turns = self._turns(statistics.delays)
        lags = np.subtract.outer(np.arange(self.symbols_per_slot), np.arange(self.symbols_per_slot))
        modes = []
        for power, correlation, turn in zip(statistics.powers, statistics.correlation, turns, strict=True):
            covariance = np.where(lags >= 0, correlation[np.abs(lags)], correlation[np.abs(lags)].conj())
            values, vectors = np.linalg.eigh(covariance)
            kept = values > NEGLIGIBLE * self.symbols_per_slot
            modes.append(np.einsum("sm,f->sfm", vectors[:, kept] * np.sqrt(power * values[kept]), turn))
        return np.concatenate(modes, axis=2)


@dataclass(frozen=True, eq=False)
class Estimator:
    """The linear estimate of least mean squared error of a slot's data fades from least squares at its pilots.

    inwards:  complex128 [num_modes, num_pilots];  outwards: complex128 [slot_capacity, num_modes]
    error:    float64 [slot_capacity], E|h - ĥ|²
    """

    inwards: np.ndarray
    outwards: np.ndarray
    error: np.ndarray

    def __call__(self, pilots: np.ndarray) -> np.ndarray:
        """complex128 [slot_capacity] from complex128 [num_pilots]."""
        return np.einsum("dm,m->d", self.outwards, np.einsum("mp,p->m", self.inwards, pilots))


@lru_cache(maxsize=32)
def _estimator(ofdm: Ofdm, no: float) -> Estimator:
    """With modes u ~ CN(0, I), h = G u, pilots y = B u + n: ĥ = G M⁻¹ Bᴴ y / N0 and E|h - ĥ|² = diag(G M⁻¹ Gᴴ), M = I + BᴴB / N0.

    Source: S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory" (1993), section 12.5.
    """
    modes = ofdm.modes()
    data = modes[list(ofdm.data_symbols)].reshape(ofdm.slot_capacity, -1)
    pilots = modes[list(ofdm.pilot_symbols)].reshape(-1, modes.shape[2])
    precision = np.eye(modes.shape[2]) + np.einsum("pm,pn->mn", pilots.conj(), pilots) / no
    root = _cholesky(precision)
    outwards = _solved(root, np.ascontiguousarray(data.conj().T))
    return Estimator(inwards=_solved(root, np.ascontiguousarray(pilots.conj().T)) / no,
                     outwards=np.ascontiguousarray(outwards.conj().T), error=np.sum(np.abs(outwards) ** 2, axis=0))


# not LAPACK, whose last bits depend on the number of threads
@numba.njit(cache=True)
def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower triangular L with L Lᴴ = `matrix`, complex128 [n, n], Hermitian and positive definite."""
    size = len(matrix)
    root = np.zeros_like(matrix)
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest -= root[i, k] * root[j, k].conjugate()
            root[i, j] = np.sqrt(rest.real) if i == j else rest / root[j, j]
    return root


@numba.njit(cache=True)
def _solved(root: np.ndarray, right: np.ndarray) -> np.ndarray:
    """L⁻¹ `right` for lower triangular L [n, n] and complex128 [n, m]."""
    solution = right.copy()
    for i in range(len(root)):
        for k in range(i):
            for column in range(solution.shape[1]):
                solution[i, column] -= root[i, k] * solution[k, column]
        solution[i] /= root[i, i]
    return solution


def propagation(*, fading: Fading = "awgn", fading_block_symbols: int = 64, rician_k_db: float = 6.0,
                delay_spread_ns: float = 100.0, carrier_ghz: float = 3.5, speed_kmh: float = 3.0,
                subcarrier_spacing_khz: float = 15.0, num_subcarriers: int = 72, cyclic_prefix_samples: int = 6,
                symbols_per_slot: int = 14, channel_knowledge: ChannelKnowledge = "perfect") -> Propagation:
    """The way of `fading`; fields that do not concern it are ignored. Raises ValueError that names field, rule, value and cure."""
    require(fading in FADINGS, f"fading must be one of {', '.join(FADINGS)}, got {fading!r}")
    if fading in FLAT_LAWS:
        return Flat(cast(FlatLaw, fading), fading_block_symbols, rician_k_db)
    multipath = Multipath(cast(MultipathName, fading), delay_spread_ns, carrier_ghz, speed_kmh)
    return Ofdm(multipath, subcarrier_spacing_khz, num_subcarriers, cyclic_prefix_samples, symbols_per_slot, channel_knowledge)
