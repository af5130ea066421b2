"""The block error tables that Sionna SYS ships for its `PHYAbstraction`, read without TensorFlow.

They hold rates of 5G LDPC codes (20 iterations of boxplus-phi) for the modulation and coding schemes of TS 38.214 and five block
sizes, on grids of 1.6 and 1.8 dB; `PHYAbstraction` gives a block error rate of infinity for a scheme that they lack. Here what is
missing is an error that names it. Where a rate was 0 their simulation ended, so a 0 in them is no rate.

Source: J. Hoydis et al., "Sionna", arXiv:2203.11854 (2022), module sionna.sys; 3GPP TS 38.214, tables 5.1.3.1-1 to 5.1.3.1-4,
6.1.4.1-1 and 6.1.4.1-2 (modulation orders and code rates; no π/2-BPSK, so q is 2).
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.block_errors import BlockErrorTable, CodeUse
from channel_sim.checks import RequestError

FILES = ("PDSCH_table1.json", "PDSCH_table2.json", "PDSCH_table3.json", "PDSCH_table4.json", "PUSCH_table1.json",
         "PUSCH_table2.json")
ITERATIONS = 20
_MODULATION_BITS = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6, "qam256": 8}
_LOW = (120, 157, 193, 251, 308, 379, 449, 526, 602, 679)
_MIDDLE = (340, 378, 434, 490, 553, 616, 658)
_HIGH = (466, 517, 567, 616, 666, 719, 772, 822, 873)
_HIGHEST = (682.5, 711, 754, 797, 841, 885, 916.5, 948)
_Groups = tuple[tuple[int, tuple[float, ...]], ...]
_SCHEMES: dict[tuple[int, int], _Groups] = {
    (1, 1): ((2, _LOW), (4, _MIDDLE), (6, (438, *_HIGH, 910, 948))),
    (1, 2): ((2, (120, 193, 308, 449, 602)), (4, _MIDDLE[1:]), (6, _HIGH), (8, _HIGHEST)),
    (1, 3): ((2, (30, 40, 50, 64, 78, 99, *_LOW[:9])), (4, _MIDDLE[:6]), (6, (438, *_HIGH[:7]))),
    (1, 4): ((2, (120, 193, 449)), (4, (378, 490, 616)), (6, _HIGH), (8, _HIGHEST), (10, (805.5, 853, 900.5, 948))),
    (0, 1): ((2, _LOW), (4, _MIDDLE), (6, (*_HIGH, 910, 948))),
    (0, 2): ((2, (30, 40, 50, 64, 78, 99, *_LOW)), (4, (*_MIDDLE[1:], 699, 772)), (6, (567, 616, 666, 772))),
}


def scheme(category: int, index: int, mcs: int) -> tuple[int, float]:
    """(bits a symbol, 1024 times the code rate) of a modulation and coding scheme; category 0 is PUSCH, 1 PDSCH."""
    flat = [(bits, rate) for bits, rates in _SCHEMES[category, index] for rate in rates]
    return flat[mcs]


def sionna_table(block_bits: int, code_rate: float, code_bits: int, modulation: str) -> BlockErrorTable:
    """The table of a 5G LDPC code; all points of Sionna's files that are of this code, together.

    Raises a `RequestError` naming what is missing: the scheme, the block size, or points in the waterfall.
    """
    bits = _MODULATION_BITS[modulation]
    rates = sorted({rate for of_bits, rate, _, _ in _entries() if of_bits == bits})
    matching = [rate for rate in rates if abs(rate / 1024 - code_rate) < 5e-4]
    if not matching:
        listed = ", ".join(f"{rate:g}/1024" for rate in rates) or "none"
        raise RequestError(f'table = "sionna" has no code_rate = {code_rate:.4g} with modulation = "{modulation}"; it has {listed}')
    found = [(snr, rate) for of_bits, of_rate, size, points in _entries()
             if (of_bits, of_rate, size) == (bits, matching[0], block_bits) for snr, rate in points]
    if not found:
        sizes = sorted({size for of_bits, rate, size, _ in _entries() if (of_bits, rate) == (bits, matching[0])})
        raise RequestError(f'table = "sionna" has no block_bits = {block_bits} at {matching[0]:g}/1024 with {modulation}; '
                           f"it has {', '.join(map(str, sizes))}")
    settings = (("ldpc_backend", "sionna"), ("num_iterations", ITERATIONS))
    return _table(found, CodeUse("ldpc", block_bits, code_bits, modulation, settings))


def digest_of_files() -> str:
    """SHA-256 of the files together."""
    return sha256(b"".join(path.read_bytes() for path in _paths())).hexdigest()


def _table(found: list[tuple[float, float]], use: CodeUse) -> BlockErrorTable:
    """One point an SNR, the mean where files share it."""
    by_snr: dict[float, list[float]] = {}
    for snr, rate in found:
        by_snr.setdefault(round(snr, 6), []).append(rate)
    esno_db = np.array(sorted(by_snr))
    rates = np.array([float(np.mean(by_snr[snr])) for snr in esno_db])
    inside = int(((rates > 0) & (rates < 1)).sum())
    if inside < 2:
        raise RequestError(f'table = "sionna" has {inside} point in the waterfall of {use}, of which 2 are needed: its grid is too '
                           'wide there; use table = "project" or a file of channel-sim train bler-table')
    return BlockErrorTable(use, esno_db, rates, origin={"files": "sionna.sys bler_tables", "blocks": "not told"})


@lru_cache(maxsize=1)
def _entries() -> list[tuple[int, float, int, tuple[tuple[float, float], ...]]]:
    """(bits a symbol, 1024 times the code rate, block bits, points (Es/N0 in dB, rate)) of all files."""
    entries = []
    for path in _paths():
        for category, indices in json.loads(path.read_text())["category"].items():
            for index, schemes in indices["index"].items():
                for mcs, entry in schemes["MCS"].items():
                    bits, rate = scheme(int(category), int(index), int(mcs))
                    entries += [(bits, rate, int(size), _points(entry["SNR_db"], column)) for size, column in entry["CBS"].items()]
    return entries


def _points(snr_db: list[float], column: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """Up to the last rate that is not 0: what follows was not simulated, or has no rate."""
    rates = np.array(column["BLER"])
    measured = int(np.flatnonzero(rates > 0)[-1]) + 1 if np.any(rates > 0) else 0
    return tuple(zip(snr_db[:measured], rates[:measured].tolist(), strict=True))


def _paths() -> list[Path]:
    spec = find_spec("sionna")  # finds the package without running it: TensorFlow stays out
    folders = [Path(folder) / "sys" / "bler_tables" for folder in (spec.submodule_search_locations or [])] if spec else []
    paths = [folder / name for folder in folders for name in FILES if (folder / name).is_file()]
    if not paths:
        raise RequestError('table = "sionna" needs the tables of Sionna SYS: install sionna-no-rt')
    return paths
