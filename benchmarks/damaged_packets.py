"""What repairing damaged entropy-coded packets saves: `python -m benchmarks.damaged_packets TABLE FILE [ITEMS]`.

Messages spread evenly over the file, coded with CRC-16 and headers of 32 bits, under the shipped n-gram where no model is named.

links:     share of the tokens that are known, and of those known the share that is wrong, after messages of 1,024 bytes went over
           a link that damages packets; lists are of 1,024 error patterns
unchecked: the same without a CRC that would pick among the patterns; lists are of 32
bit:       tokens of a message of 4,096 bytes that one wrong bit costs, anywhere in its payload, on a channel that says how likely
           a bit is wrong and not which
contexts:  bits a token of messages of 2,048 bytes, without CRC and header

95 % intervals are +-1.96 standard errors over messages; the wrong tokens, few and together, are also told as a count of
packets with Clopper-Pearson's interval.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.bits import BinarySymmetric
from channel_sim.crc import CrcName, crc
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.stages import Channel
from channel_sim.types import CERTAIN_LLR, Evidence, Packets, Preamble, ReceivedChecks, Reception, Tokens
from reports.statistics import clopper_pearson
from sources.coder import Entropy
from sources.models.mixture import TextByteMixed
from sources.models.neural import TextByteSmall
from sources.models.ngram import NGram

Coded = Sequence[tuple[Packets, Preamble]]
REPAIRS: dict[str, dict[str, Any]] = {
    "drop": {"repair": "drop"},
    "prefix": {"repair": "prefix"},
    "prefix, judge": {"repair": "prefix", "judge": TextByteMixed()},
    "list": {"repair": "list", "list_size": 1024},
    "list, judge": {"repair": "list", "list_size": 1024, "judge": TextByteMixed()},
}


def messages(path: Path, num_items: int, item_bytes: int) -> list[Tokens]:
    data = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int32)
    starts = np.linspace(0, data.size - item_bytes, num_items).astype(int)
    return [Tokens(data[start:start + item_bytes], 256) for start in starts]


def bpsk(esno_db: float, crc_name: CrcName = "crc16") -> CodedLink:
    return CodedLink(code="uncoded", modulation="bpsk", esno_db=esno_db, crc=crc_name, on_crc_failure="deliver")


def over_links(items: Sequence[Tokens]) -> None:
    edge = CodedLink(code="ldpc", block_bits=560, code_rate=0.5, modulation="qpsk", esno_db=0.75, on_crc_failure="deliver")
    _over(items, REPAIRS, [
        *((f"BPSK, Es/N0 {esno_db:g} dB", bpsk(esno_db), "independent") for esno_db in (4.0, 5.0, 6.0, 7.0)),
        *(("BPSK, Es/N0 6 dB", bpsk(6.0), context) for context in ("restart:4", "mdc:2", "chained")),
        *((f"bsc {flip:g}", BinarySymmetric(flip_probability=flip, soft=True, crc="crc16"), "independent")
          for flip in (0.0005, 0.002, 0.008)),
        ("LDPC 1/2, QPSK, Es/N0 .75 dB", edge, "independent"),
    ])


def without_crc(items: Sequence[Tokens]) -> None:
    fewer = {name: {**fields, "list_size": 32} for name, fields in REPAIRS.items()}
    _over(items, fewer, [("BPSK, Es/N0 7 dB, no CRC", bpsk(7.0, "none"), "independent")])


def _over(items: Sequence[Tokens], repairs: dict[str, dict[str, Any]], settings: Sequence[tuple[str, Channel, str]]) -> None:
    """settings: (name, channel, context of the coder)."""
    print(f"{'channel':<30}{'context':<13}{'repair':<19}{'known, %':>14}{'wrong of known, %':>19}{'packets astray':>25}")
    for name, channel, context in settings:
        coder = Entropy(model=NGram(), context=context)
        coded = coder.encode(items)
        keys = [Key(1).child("item", index) for index in range(len(items))]
        observed = channel.transmit([packets for packets, _ in coded], keys)
        receptions = [channel.receive(one) for one in observed]
        for repair, fields in repairs.items():
            evidence = coder.model_copy(update=fields).receive(receptions, [preamble for _, preamble in coded])
            print(f"{name:<30}{context:<13}{repair:<19}{_kept(items, coded, evidence)}", flush=True)


def _kept(items: Sequence[Tokens], coded: Coded, evidence: Sequence[Evidence]) -> str:
    known = np.array([one.known.mean() for one in evidence])
    wrong = [one.known & (one.values != tokens.values) for one, tokens in zip(evidence, items, strict=True)]
    astray = [bad[packets.positions(packet)].any() for bad, (packets, _) in zip(wrong, coded, strict=True)
              for packet in range(packets.num_packets)]
    low, high = clopper_pearson(int(sum(astray)), len(astray))
    share = sum(bad.sum() for bad in wrong) / max(1, sum(one.known.sum() for one in evidence))
    return (f"{_mean(100 * known):>14}{100 * share:>19.3f}"
            f"{f'{sum(astray)} of {len(astray)}, {100 * low:.2f}-{100 * high:.2f} %':>25}")


def one_wrong_bit(items: Sequence[Tokens]) -> None:
    print(f"{'context':<13}{'packet_bits':>11}{'bits/token':>12}", *(f"{name:>18}" for name in REPAIRS))
    for context in ("independent", "restart:4", "restart:16", "mdc:4", "chained"):
        for packet_bits in (128, 512):
            coder = Entropy(model=NGram(), context=context, packet_bits=packet_bits, header_bits=64)
            coded = coder.encode(items)
            receptions = [_with_a_wrong_bit(packets, Key(2).child("item", index)) for index, (packets, _) in enumerate(coded)]
            rate = sum(packets.num_bits.sum() for packets, _ in coded) / sum(one.values.size for one in items)
            lost = []
            for fields in REPAIRS.values():
                evidence = coder.model_copy(update=fields).receive(receptions, [preamble for _, preamble in coded])
                lost.append(np.array([np.sum(~one.known | (one.values != tokens.values))
                                      for one, tokens in zip(evidence, items, strict=True)]))
            print(f"{context:<13}{packet_bits:>11}{rate:>12.3f}", *(f"{_mean(one):>18}" for one in lost), flush=True)


def _with_a_wrong_bit(packets: Packets, key: Key, flip_probability: float = 1e-3) -> Reception:
    sure = np.log(1 / flip_probability - 1)
    checks = np.array([crc(bits[:size], "crc16") for bits, size in zip(packets.bits, packets.num_bits, strict=True)])
    inside = np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]
    llr = np.where(inside, sure, CERTAIN_LLR) * (2.0 * packets.bits - 1)
    packet, place = np.argwhere(inside)[int(key.uniform(1)[0] * inside.sum())]
    llr[packet, place] *= -1
    told = ReceivedChecks((sure * (2.0 * checks - 1)).astype(np.float32), packets.num_bits, "crc16")
    return Reception(llr.astype(np.float32), np.zeros(packets.num_packets, bool), np.arange(packets.num_packets) != packet,
                     packets.header, crc_checked=True, checks=told)


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():.1f} +- {1.96 * values.std(ddof=1) / np.sqrt(values.size):.1f}"


def contexts(items: Sequence[Tokens]) -> None:
    for name, model in {"ngram": NGram(), "text-byte-small": TextByteSmall()}.items():
        for context in ("chained", "mdc:2", "mdc:4", "independent"):
            coded = Entropy(model=model, context=context, header_bits=64).encode(items)
            rates = np.array([packets.num_bits.sum() / one.values.size for (packets, _), one in zip(coded, items, strict=True)])
            print(f"{name:<17}{context:<13}{rates.mean():.3f} +- {1.96 * rates.std(ddof=1) / np.sqrt(rates.size):.3f}", flush=True)


TABLES = {"links": (over_links, 1024), "unchecked": (without_crc, 1024), "bit": (one_wrong_bit, 4096), "contexts": (contexts, 2048)}


if __name__ == "__main__":
    table, item_bytes = TABLES[sys.argv[1]]
    table(messages(Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 20, item_bytes))
