"""Tables of block error rates over AWGN: what was counted, what lies between two points, and what is not known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its submodules are loaded on first use: a list of names need not wait for them

from channel_sim.effective_snr import Mapping

FORMAT = "channel-sim block error table 1"
EXTRAPOLATED_DB = 1.0
"""How far past its last point a table is continued."""
_SLOPE_DB = 0.6


@dataclass(frozen=True)
class CodeUse:
    """All that a block error rate over AWGN depends on beside the SNR: a code, its decoder and a constellation.

    `settings` are those of the decoder, (name, value) by name.
    """

    code: str
    block_bits: int
    code_bits: int
    modulation: str
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        said = [f"{name} = {value}" for name, value in self.settings]
        return ", ".join([f"{self.code} ({self.block_bits}, {self.code_bits}), {self.modulation}", *said])


@dataclass(frozen=True, eq=False)
class BlockErrorTable:
    """Block error rates of one code over AWGN, by Es/N0.

    esno_db:      float64 [num_points], increasing
    rates:        float64 [num_points], block errors / blocks
    block_errors: int64 [num_points], and num_blocks int64 [num_points]; None where a published table does not tell them
    mappings:     (fades that a block meets, mapping of its effective SNR), by the first: fitted to bit-exact runs over fading
    origin:       who counted, with what

    Between points the probit of the rate is linear in dB, after rates that rise with the SNR by chance were pooled (isotonic
    regression). Points without any error, or with errors only, are no rates: of those with errors only the last is read as half
    a block short of all, the others and the errorless are left out. Past its last point the table is continued by the slope of
    its last 0.6 dB for 1 dB, and stays there; before its first point by the slope of its first 0.6 dB. Error floors below the
    last point are thus not seen.

    Source: R. Barlow et al., "Statistical inference under order restrictions" (1972), section 1.2 (pooling).
    """

    use: CodeUse
    esno_db: np.ndarray
    rates: np.ndarray
    block_errors: np.ndarray | None = None
    num_blocks: np.ndarray | None = None
    mappings: tuple[tuple[float, Mapping], ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)
    _line: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_line", self._probit_line())

    @property
    def last_db(self) -> float:
        """Es/N0 of the last point with a rate."""
        return float(self._line[0][-2])

    @property
    def end_db(self) -> float:
        """Es/N0 up to which the table is continued."""
        return float(self._line[0][-1])

    def probability(self, esno_db: np.ndarray | float) -> np.ndarray:
        """float64, the block error probability; it never rises with the SNR, and does not change past `end_db`."""
        at, probit = self._line
        first_slope = (probit[1] - probit[0]) / (at[1] - at[0])
        below = np.minimum(np.asarray(esno_db) - at[0], 0) * first_slope
        return scipy.special.ndtr(np.interp(esno_db, at, probit) + below)

    def interval(self, esno_db: float, confidence: float = 0.95) -> tuple[float, float] | None:
        """Clopper-Pearson limits of the points around, linear in the probit between them; None without counts or past them."""
        measured = self.esno_db[0] <= esno_db <= self.esno_db[-1]
        if self.block_errors is None or self.num_blocks is None or not measured:
            return None
        tail, errors, right = (1 - confidence) / 2, self.block_errors, self.num_blocks - self.block_errors
        low = np.where(errors > 0, scipy.special.betaincinv(np.maximum(errors, 1), right + 1, tail), 0)
        high = np.where(right > 0, scipy.special.betaincinv(errors + 1, np.maximum(right, 1), 1 - tail), 1)
        probits = [np.clip(scipy.special.ndtri(side), -40, 40) for side in (low, high)]
        limits = [float(scipy.special.ndtr(np.interp(esno_db, self.esno_db, probit))) for probit in probits]
        return limits[0], limits[1]

    def esno_at(self, rate: float) -> float:
        """Es/N0 in dB at which the block error probability is `rate`."""
        at, probit = self._line
        return float(np.interp(scipy.special.ndtri(1 - rate), -probit, at))

    def shares(self, fades_a_block: float) -> list[tuple[float, Mapping]]:
        """(share, mapping) whose effective SNRs in dB make up, by their shares, that of a block that meets so many fades.

        Those of the next fitted numbers of fades, by the logarithm of the number; that of one fade needs no mapping.
        """
        known = [(1.0, Mapping()), *self.mappings]
        fades = np.log([fades for fades, _ in known])
        place = float(np.interp(np.log(max(fades_a_block, 1.0)), fades, np.arange(len(known))))
        low = int(place)
        return [(share, known[low + above][1]) for above, share in ((0, low + 1 - place), (1, place - low)) if share > 0]

    def _probit_line(self) -> tuple[np.ndarray, np.ndarray]:
        """Knots in dB and probits, those of the continuation last."""
        from scipy.optimize import isotonic_regression  # here, for naming a channel needs no solver

        weights = np.ones(self.rates.size) if self.num_blocks is None else self.num_blocks
        rates = np.array(isotonic_regression(self.rates, weights=weights, increasing=False).x)
        all_wrong = np.flatnonzero(rates >= 1)
        if all_wrong.size:
            rates[all_wrong[-1]] -= 0.5 / (1000 if self.num_blocks is None else int(self.num_blocks[all_wrong[-1]]))
        kept = (rates > 0) & (rates < 1)
        at, probit = self.esno_db[kept], scipy.special.ndtri(rates[kept])
        if at.size < 2:
            raise ValueError(f"a table needs 2 points with an error rate between 0 and 1, {self.use} has {at.size}")
        last = at >= at[-1] - max(_SLOPE_DB, at[-1] - at[-2]) - 1e-9
        slope = min(0.0, float(np.polyfit(at[last] - at[-1], probit[last], 1)[0]))
        return np.append(at, at[-1] + EXTRAPOLATED_DB), np.append(probit, probit[-1] + EXTRAPOLATED_DB * slope)


def write_table(table: BlockErrorTable, path: Path) -> None:
    """JSON, with counts; a table without counts was not measured here and is not written."""
    if table.block_errors is None or table.num_blocks is None:
        raise ValueError(f"only tables with counts are written, {table.use} has none")
    document = {"format": FORMAT, "use": asdict(table.use) | {"settings": dict(table.use.settings)}, "origin": dict(table.origin),
                "esno_db": table.esno_db.tolist(), "block_errors": table.block_errors.tolist(),
                "num_blocks": table.num_blocks.tolist(),
                "mappings": [{"fades_a_block": fades} | asdict(mapping) for fades, mapping in table.mappings]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_table(path: Path) -> BlockErrorTable:
    """A table as `write_table` left it; a file that is none is a ValueError that says what is wrong with it."""
    try:
        stamp = path.stat()
        return _read(path, stamp.st_mtime_ns, stamp.st_size)
    except OSError as error:
        raise ValueError(f"table must name a readable table of block errors, got {str(path)!r} ({error.strerror})") from error


def digest(path: Path) -> str:
    """SHA-256 of the file."""
    return sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=None)
def shipped_tables() -> tuple[Path, ...]:
    """Files of the tables that come with the project, made by `channel-sim train bler-table`."""
    folder = Path(str(files("channel_sim").joinpath("bler_tables")))
    return tuple(sorted(folder.glob("*.json")))


@lru_cache(maxsize=64)
def _read(path: Path, modified_ns: int, size: int) -> BlockErrorTable:
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, not {FORMAT!r}")
        use = document["use"]
        settings = tuple(sorted(use.pop("settings").items()))
        esno_db = np.array(document["esno_db"], np.float64)
        errors, blocks = (np.array(document[name], np.int64) for name in ("block_errors", "num_blocks"))
        if not (esno_db.shape == errors.shape == blocks.shape and np.all(np.diff(esno_db) > 0)):
            raise ValueError("esno_db must increase, with one count of block_errors and num_blocks each")
        if not np.all((0 <= errors) & (errors <= blocks) & (blocks > 0)):
            raise ValueError("block_errors must lie between 0 and num_blocks")
        mappings = tuple((float(one.pop("fades_a_block")), Mapping(**one)) for one in document["mappings"])
        code = CodeUse(**use, settings=settings)
        return BlockErrorTable(code, esno_db, errors / blocks, errors, blocks, mappings, document["origin"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        said = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"table must name a table of block errors, {str(path)!r} is none: {said}; write it again with "
                         "channel-sim train bler-table") from error
