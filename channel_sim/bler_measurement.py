"""Block error rates of the bit-exact link over AWGN, counted until each point is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from math import ceil

import numpy as np
from scipy.optimize import brentq, minimize

from channel_sim.abstraction import code_use
from channel_sim.block_errors import BlockErrorTable
from channel_sim.checks import RequestError
from channel_sim.effective_snr import Mapping, effective_snr_db, information_curve
from channel_sim.fading import Flat
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.types import Packets

HIGHEST_RATE = 0.999
LARGEST_STEP_DB = 1.0
"""A waterfall is hardly wider: a coarser table would say nothing of it."""
BLOCKS_AT_ONCE = 200
LEAST_BLOCKS = 1000
FADES_A_BLOCK = (2, 4, 8, 16, 32)
LEAST_FITTED_RATE = 0.004
_VERSIONS = ("channel-sim", "sionna-no-rt", "tensorflow", "numpy", "numba")
Progress = Callable[[float, int, int], None]


def measure_table(link: CodedLink, *, step_db: float = 0.125, lowest_rate: float = 1e-3, least_errors: int = 100,
                  most_blocks: int = 1_000_000, seed: int = 1, progress: Progress | None = None) -> BlockErrorTable:
    """The table of `link`'s code over AWGN, at multiples of `step_db` from a rate of 0.999 down to `lowest_rate`.

    Each point ends at `least_errors` block errors and no fewer than 1000 blocks, or at `most_blocks`. The fading, SNR and CRC of
    `link` are not used. All points meet the same unit noise, so the curve is smoother than its points are certain.
    `progress` is told (Es/N0 in dB, block errors, blocks) of each finished point. Raises a `RequestError` for a link without code,
    a step above 1 dB and a rate outside (0, 1).
    """
    if link.code == "uncoded":
        raise RequestError('code must not be "uncoded": it has no block errors; its bit error rate has a closed form')
    if not 0 < step_db <= LARGEST_STEP_DB:
        raise RequestError(f"step_db must lie in (0, {LARGEST_STEP_DB:g}], got {step_db:g}: a coarser table misses the waterfall")
    if not 0 < lowest_rate < 1:
        raise RequestError(f"lowest_rate must lie in (0, 1), got {lowest_rate:g}: it is the block error rate the table ends at")
    bare = _bare(link)
    counts: dict[int, tuple[int, int]] = {}

    def rate_at(step: int) -> float:
        errors, blocks = _count(bare.model_copy(update={"esno_db": step * step_db}), least_errors, most_blocks, Key(seed))
        counts[step] = (errors, blocks)
        if progress is not None:
            progress(step * step_db, errors, blocks)
        return errors / blocks

    first = ceil(_capacity_limit_db(bare) / step_db)
    for step in count(first, -1):
        if rate_at(step) >= HIGHEST_RATE:
            break
    for step in count(first + 1):
        if rate_at(step) <= lowest_rate:
            break
    steps = sorted(counts)
    errors, blocks = np.array([counts[step] for step in steps], np.int64).T
    origin = {"settings": {"step_db": step_db, "lowest_rate": lowest_rate, "least_errors": least_errors, "most_blocks": most_blocks,
                           "seed": seed}, "decoder": _decoder(bare), "link_revision": CodedLink.revision, "versions": _versions()}
    return BlockErrorTable(code_use(link), np.array(steps) * step_db, errors / blocks, errors, blocks, origin=origin)


def fit_mappings(link: CodedLink, table: BlockErrorTable, *, num_blocks: int = 40_000, seed: int = 1,
                 progress: Progress | None = None) -> BlockErrorTable:
    """`table` with the mappings of its effective SNR, fitted to bit-exact runs of `link` over Rayleigh block fading.

    For 2, 4, ... 32 fades a block, at two SNRs where `table` alone would have mean error rates of 0.06 (half of the blocks) and
    0.004, which are some 0.1 and 0.01 in truth: the mapping whose mean error rates on the same fades are those counted.
    A table that ends above 0.004 is a `RequestError`.
    """
    if table.rates.min() > LEAST_FITTED_RATE:
        raise RequestError(f"lowest_rate must be at most {LEAST_FITTED_RATE:g} to fit fading, the table ends at "
                           f"{table.rates.min():.2g}: measure it further")
    bare, symbols = _bare(link), link.frame.symbols
    fitted, counted = [], []
    for fades in (fades for fades in FADES_A_BLOCK if fades <= symbols):
        fading = bare.model_copy(update={"fading": "rayleigh_block", "fading_block_symbols": round(symbols / fades)})
        runs = [_fading_run(fading, table, target, blocks, Key(seed).child("fit", fades, place))
                for place, (target, blocks) in enumerate(((0.06, num_blocks // 2), (LEAST_FITTED_RATE, num_blocks)))]
        found = minimize(_misfit, (1.0, -0.5), args=(table, runs), method="Nelder-Mead", bounds=((0.3, 4), (-6, 6)),
                         options={"xatol": 1e-2, "fatol": 1e-4})
        slope, beta_db = (round(float(value), 3) for value in found.x)
        fitted.append((symbols / fading.fading_block_symbols, Mapping(slope, beta_db)))
        for run in runs:
            counted.append({"fades_a_block": fades, "esno_db": run.link.esno_db, "block_errors": run.errors,
                            "num_blocks": run.num_blocks})
            if progress is not None:
                progress(run.link.resolved_esno_db, run.errors, run.num_blocks)
    return replace(table, mappings=tuple(fitted), origin=table.origin | {"fading_runs": counted})


@dataclass(frozen=True, eq=False)
class _FadingRun:
    """Block errors counted over fading, and the snr_db float64 [items, num_fades] that they met."""

    link: CodedLink
    snr_db: np.ndarray
    errors: int
    num_blocks: int

    def predicted(self, table: BlockErrorTable, mapping: Mapping) -> float:
        """Mean block error probability on the same fades."""
        effective_db = [effective_snr_db(
            snr_db, symbols_a_fade=self.link.fading_block_symbols, symbols_a_block=self.link.frame.symbols,
            num_blocks=BLOCKS_AT_ONCE, bits_per_symbol=self.link.bits_per_symbol, mapping=mapping) for snr_db in self.snr_db]
        return float(np.mean(table.probability(np.array(effective_db))))


def _fading_run(link: CodedLink, table: BlockErrorTable, target: float, num_blocks: int, key: Key) -> _FadingRun:
    keys = list(_parts(num_blocks, key))
    fading = Flat("rayleigh_block", link.fading_block_symbols)
    gain_db = np.array([20 * np.log10(np.abs(fading.fades(BLOCKS_AT_ONCE * link.frame.symbols, part))) for part in keys])
    total = BLOCKS_AT_ONCE * len(keys)

    def excess(esno_db: float) -> float:
        return _FadingRun(link, gain_db + esno_db, 0, total).predicted(table, Mapping()) - target

    esno_db = round(float(brentq(excess, table.esno_db[0], table.esno_db[-1] + 40, xtol=1e-3)), 2)
    there = link.model_copy(update={"esno_db": esno_db})
    errors = sum(int(wrong_blocks(there, BLOCKS_AT_ONCE, part).sum()) for part in keys)
    return _FadingRun(there, gain_db + esno_db, errors, total)


def _misfit(parameters: Sequence[float], table: BlockErrorTable, runs: Sequence[_FadingRun]) -> float:
    mapping = Mapping(*map(float, parameters))
    return float(sum(np.log(run.predicted(table, mapping) * run.num_blocks / max(run.errors, 1)) ** 2 for run in runs))


def wrong_blocks(link: CodedLink, num_blocks: int, key: Key) -> np.ndarray:
    """bool [num_blocks]: which of as many one-block packets, sent in one item, `link` decodes wrongly in any payload bit."""
    packets = one_block_packets(link, num_blocks, key)
    observation, = link.transmit([packets], [key])
    detection = link.detect(observation)
    inside = np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]
    return (((detection.llr > 0) != (packets.bits == 1)) & inside).any(axis=1)


def one_block_packets(link: CodedLink, num_blocks: int, key: Key) -> Packets:
    """Packets of uniform bits that fill one code block each with their CRC."""
    size = link.block_bits - link.crc_bits
    bits = key.child("payload").integers(2, num_blocks, size).astype(np.uint8)
    return Packets(bits=bits, num_bits=np.full(num_blocks, size, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(num_blocks + 1, np.int32), header=np.zeros((num_blocks, 3), np.int32))


def _bare(link: CodedLink) -> CodedLink:
    """The code alone, over AWGN: no CRC in its blocks."""
    return link.model_copy(update={"fading": "awgn", "ebno_db": None, "esno_db": 0.0, "crc": "none", "on_crc_failure": "deliver"})


def _count(link: CodedLink, least_errors: int, most_blocks: int, key: Key) -> tuple[int, int]:
    errors = blocks = 0
    for part in _parts(most_blocks, key):
        wrong = wrong_blocks(link, BLOCKS_AT_ONCE, part)
        errors, blocks = errors + int(wrong.sum()), blocks + wrong.size
        if errors >= least_errors and blocks >= LEAST_BLOCKS:
            break
    return errors, blocks


def _parts(most_blocks: int, key: Key) -> Iterator[Key]:
    return (key.child("part", part) for part in range(-(-most_blocks // BLOCKS_AT_ONCE)))


def _capacity_limit_db(link: CodedLink) -> float:
    """Es/N0 in dB below which no code of this rate is decoded."""
    return float(information_curve(link.bits_per_symbol).inverse(np.array(link.realised_code_rate)))


def _decoder(link: CodedLink) -> str:
    return "layered min* in numba" if link.frame.in_numba else "Sionna"


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
