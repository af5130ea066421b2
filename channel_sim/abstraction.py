"""The link without its bits: which code blocks fail, drawn from their error rate at the SNR that they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from channel_sim import block_errors
from channel_sim.block_errors import BlockErrorTable, CodeUse, read_table, shipped_tables
from channel_sim.checks import RequestError
from channel_sim.crc import CrcName
from channel_sim.effective_snr import effective_snr_db
from channel_sim.fading import Flat, FlatLaw
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.link import CodedLink
from channel_sim.link_law import LinkLaw, flat_snr_shares
from channel_sim.sionna_tables import ITERATIONS, digest_of_files, sionna_table
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.types import CERTAIN_LLR, Packets


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of an item's code blocks.

    failed: bool [num_blocks]
    snr_db: float64 [num_fades], Es|h|^2/N0 of each fade
    """

    failed: np.ndarray
    snr_db: np.ndarray


class BlerTable(Channel):
    """The coded link at packet level: blocks fail by the error rate that a table gives for the SNR they met; no bit is decoded.

        fades of the item ─▶ effective SNR of each code block ─▶ table ─▶ P(block fails) ─▶ uniform < P ─▶ packets lost

    A packet takes the code blocks, and costs the uses, energy, CRC and padding, that it would with `coded_link` of the same
    keys, and meets the same fades: so block fading loses packets in bursts. It is lost if any of its blocks fails.
    Over AWGN a point more than 1 dB past the table's last is refused; a fade that good counts at the rate 1 dB past it.
    """

    source: ClassVar[str] = (
        "K. Brueninghaus et al., PIMRC 2005; L. Wan, S. Tsai, M. Almgren, WCNC 2006 (mutual-information effective SNR)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "Block failures are drawn, given the fades, from a table of bit-exact runs over AWGN; what they look like inside is not "
        "modelled. Blocks that meet several fades count with the SNR of equal mean mutual information, "
        "fitted to bit-exact runs over Rayleigh fading where the table has such a fit.",
        "Every block failure is detected and loses its packet; headers are charged and intact unless the packet is lost.",
        "The receiver knows the fades and the noise power exactly, and is synchronised; no pilots are sent or charged.",
        "Past its last point a table is extrapolated by 1 dB and then held: error floors below it are not seen.",
    )

    code: Literal["ldpc", "polar", "convolutional", "turbo"] = Field("ldpc", description="as in coded_link")
    block_bits: int = Field(512, ge=1, description="information bits of a code block, CRC included")
    code_rate: float = Field(0.5, gt=0, lt=1, description="information bits per coded bit")
    num_iterations: int = Field(20, ge=1, le=1000, description="iterations of the LDPC or turbo decoder")
    ldpc_backend: Literal["numba", "sionna"] = Field("numba", description="LDPC decoder that the table is of")
    list_size: int = Field(8, ge=1, le=64, description="paths of the polar decoder")
    crc: CrcName = Field("crc16", description="one CRC a packet, over header and payload, charged; none is not possible")
    modulation: Literal["bpsk", "qpsk", "qam16", "qam64", "qam256"] = Field("qpsk", description="Gray-labelled constellation")
    fading: FlatLaw = Field("awgn", description="flat fading, as in coded_link")
    fading_block_symbols: int = Field(64, ge=1, description="symbols of one fading block; ignored for awgn and rayleigh")
    rician_k_db: float = Field(6.0, ge=-60, le=60, description="line of sight over the rest, power ratio in dB; of rician_block")
    esno_db: float | None = Field(None, ge=-60, le=100, description="Es/N0 in dB, mean over fades; or give ebno_db")
    ebno_db: float | None = Field(None, ge=-60, le=100, description="Eb/N0 in dB of the code alone; or give esno_db")
    table: str = Field("project", description="project: those shipped; sionna: those of Sionna SYS; or a file of train bler-table")

    @model_validator(mode="after")
    def _has_a_table_there(self) -> Self:
        if self.crc == "none":
            raise ValueError('crc must be one, got "none": without it no packet is known to have failed; choose crc = "crc16"')
        table = _table_of(self)
        if self.fading == "awgn" and self.esno > table.end_db:
            raise ValueError(
                f"esno_db must be at most {table.end_db:.4g} over awgn, got {self.esno:.4g}: the table of {table.use} ends at "
                f"{table.last_db:.4g} dB with a block error rate of {float(table.probability(table.last_db)):.2g}; measure further "
                "with channel-sim train bler-table --lowest-rate")
        return self

    @property
    def ignored_fields(self) -> frozenset[str]:
        ignored = self.link.ignored_fields & {"esno_db", "ebno_db", "num_iterations", "ldpc_backend", "list_size"}
        if self.fading in ("awgn", "rayleigh"):
            ignored |= {"fading_block_symbols"}
        return ignored if self.fading == "rician_block" else ignored | {"rician_k_db"}

    def digests(self) -> dict[str, str]:
        return {"table": digest_of_files() if self.table == "sionna" else block_errors.digest(_path_of(self))}

    @property
    def link(self) -> CodedLink:
        """The bit-exact link of the same code, over AWGN: what is charged, and what is to be looked up."""
        return _link_of(self)

    @property
    def esno(self) -> float:
        """Es/N0 in dB, mean over fades, whichever of the two was given."""
        return self.link.resolved_esno_db

    @property
    def erasure_only(self) -> bool:
        return True

    def link_law(self) -> LinkLaw:
        return replace(self.link.link_law(), snr_shares=flat_snr_shares(self.fading, self.esno, self.rician_k_db))

    def block_error_probability(self, esno_db: np.ndarray | float) -> np.ndarray:
        """float64: of a code block at Es/N0 in dB over AWGN."""
        return _table_of(self).probability(esno_db)

    def side_uses(self, num_bits: int) -> int:
        return self.link.side_uses(num_bits)

    def channel_uses(self, num_bits: np.ndarray) -> np.ndarray:
        return self.link.channel_uses(num_bits)

    def charge(self, packets: Packets) -> Ledger:
        return self.link.charge(packets)

    def transmit(self, packets: Sequence[Packets], keys: Sequence[Key]) -> list[Observation]:
        return [self._transmit(one, key) for one, key in zip(packets, keys, strict=True)]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        """What arrives is certain, so a prior adds nothing."""
        outcome, bits = observation.state, observation.packets.bits
        llr = bits.astype(np.float32)
        llr *= 2 * CERTAIN_LLR
        llr -= CERTAIN_LLR
        return Detection(llr, ~observation.lost, num_blocks=outcome.failed.size, block_errors=int(outcome.failed.sum()),
                         snr_db=outcome.snr_db)

    def effective_snr_db(self, snr_db: np.ndarray, num_blocks: int) -> np.ndarray:
        """float64 [num_blocks]: what counts for each code block of an item whose fades had `snr_db` float64 [num_fades]."""
        if self.fading == "awgn":
            return np.repeat(snr_db, num_blocks)
        block_symbols, effective_db = _use_of(self).code_bits // self.link.bits_per_symbol, np.zeros(num_blocks)
        for share, mapping in _table_of(self).shares(block_symbols / self._symbols_a_fade):
            effective_db += share * effective_snr_db(
                snr_db, symbols_a_fade=self._symbols_a_fade, symbols_a_block=block_symbols, num_blocks=num_blocks,
                bits_per_symbol=self.link.bits_per_symbol, mapping=mapping)
        return effective_db

    @property
    def _symbols_a_fade(self) -> int:
        return 1 if self.fading == "rayleigh" else self.fading_block_symbols

    def _transmit(self, packets: Packets, key: Key) -> Observation:
        block_symbols = _use_of(self).code_bits // self.link.bits_per_symbol
        num_blocks = -(-self.bits_on_air(packets) // self.block_bits)  # [num_packets]
        first = np.cumsum(num_blocks) - num_blocks
        total = int(num_blocks.sum())
        fades = Flat(self.fading, self._symbols_a_fade, self.rician_k_db).fades(total * block_symbols, key)
        snr_db = self.esno + 20 * np.log10(np.abs(fades))
        error_rate = self.block_error_probability(self.effective_snr_db(snr_db, total))
        failed = key.child("block errors").uniform(total) < error_rate
        lost = np.logical_or.reduceat(failed, first) if total else np.zeros(0, np.bool_)
        return Observation(packets, lost, Outcome(failed, snr_db), self.charge(packets))


def code_use(link: CodedLink) -> CodeUse:
    """What of a link its block error rate over AWGN depends on, beside the SNR."""
    settings = {name: getattr(link, name) for name in ("list_size", "num_iterations") if name not in link.ignored_fields}
    if link.code == "ldpc":
        # their schedules differ: 20 iterations of the one are worth more than 20 of the other
        settings["ldpc_backend"] = "numba" if link.frame.in_numba else "sionna"
    return CodeUse(link.code, link.block_bits, link.frame.code_bits, link.modulation, tuple(sorted(settings.items())))


@lru_cache(maxsize=256)
def _link_of(channel: BlerTable) -> CodedLink:
    """Refusals of the link are those of the abstraction."""
    shared = ("code", "block_bits", "code_rate", "num_iterations", "ldpc_backend", "list_size", "crc", "modulation", "esno_db",
              "ebno_db")
    try:
        return CodedLink(**{name: getattr(channel, name) for name in shared})
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


@lru_cache(maxsize=256)
def _path_of(channel: BlerTable) -> Path:
    if channel.table != "project":
        return Path(channel.table)
    use, held = _use_of(channel), []
    for path in shipped_tables():
        held.append(read_table(path).use)
        if held[-1] == use:
            return path
    raise ValueError(f'table = "project" has no {use}; it has {"; ".join(map(str, held)) or "none"}: make one with '
                     "channel-sim train bler-table and name its file")


@lru_cache(maxsize=256)
def _use_of(channel: BlerTable) -> CodeUse:
    return code_use(channel.link)


def _table_of(channel: BlerTable) -> BlockErrorTable:
    if channel.table == "sionna":
        if (channel.code, channel.num_iterations) != ("ldpc", ITERATIONS):
            raise RequestError(f'table = "sionna" has code = "ldpc" with num_iterations = {ITERATIONS} only, '
                               f'got "{channel.code}" with {channel.num_iterations}')
        return _sionna_table(channel.block_bits, channel.code_rate, _use_of(channel).code_bits, channel.modulation)
    table, use = read_table(_path_of(channel)), _use_of(channel)
    if table.use != use:
        raise ValueError(f"table must be of {use}, {channel.table!r} is of {table.use}: name another file, or set the keys to it")
    return table


_sionna_table = lru_cache(maxsize=64)(sionna_table)
