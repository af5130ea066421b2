"""Text marked by where each token comes from: what a reader sees of one trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

from channel_sim.types import Origin
from reports.summary import significant

MAX_TOKENS = {"text": 1500, "bytes": 1500, "symbols": 480}
"""Tokens of a sample that are shown, by its kind: symbols change their mark at nearly every one."""
MAX_SLOTS = 480
MEANINGS = {
    "r": "received", "i": "inferred from noisy bits", "c": "concealed by the prior, right", "cx": "concealed, wrong", "l": "lost",
    "ix": "inferred, wrong", "rx": "received, but wrong: an undetected error",
}
"""Mark -> meaning. The first five are always in the legend, the others where they occur."""
_COUNTED = {"r": "received", "i": "inferred", "c": "concealed right", "cx": "concealed wrong", "l": "lost", "ix": "inferred wrong",
            "rx": "received wrong"}
_MARKS = {Origin.RECEIVED: "r", Origin.INFERRED: "i", Origin.CONCEALED: "c", Origin.LOST: "l"}


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one mark, as text; `sent` is what they were where that is not what came out, else ""."""

    mark: str
    text: str
    sent: str = ""


@dataclass(frozen=True)
class Timeline:
    """Losses in the order of the air: `bursts` of (first slot, length), of the first `MAX_SLOTS` slots."""

    bursts: tuple[tuple[int, int], ...]
    num_slots: int
    num_lost: int
    longest: int
    num_packets: int
    num_missing: int

    @property
    def num_shown(self) -> int:
        return min(self.num_slots, MAX_SLOTS)

    @property
    def caption(self) -> str:
        """'28 of 64 slots lost, at most 20 in a row; after protection 0 of 27 packets missing'."""
        same = (self.num_slots, self.num_lost) == (self.num_packets, self.num_missing)
        unit = "packets" if self.num_slots == self.num_packets else "slots"
        burst = f", at most {self.longest:,} in a row" if self.num_lost > 1 else ""
        cut = f" (the first {MAX_SLOTS} drawn)" if self.num_slots > MAX_SLOTS else ""
        left = "" if same else f"; of {self.num_packets:,} packets {self.num_missing:,} missing in the end"
        return f"{self.num_lost:,} of {self.num_slots:,} {unit} lost{burst}{cut}{left}"


@dataclass(frozen=True)
class Marked:
    """One restored sample: runs in order, what was counted over all its tokens, shown or not, and the losses that it met."""

    label: str
    runs: tuple[Run, ...]
    counts: dict[str, int]
    num_tokens: int
    num_shown: int
    timeline: Timeline | None
    measured: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return set(self.counts) <= {"r"}

    @property
    def caption(self) -> str:
        """'481 tokens: 451 received, 5 concealed right, 25 concealed wrong'."""
        cut = f" (the first {self.num_shown:,} shown)" if self.num_shown < self.num_tokens and not self.is_whole else ""
        counted = count_text({name: self.counts[kind] for kind, name in _COUNTED.items() if kind in self.counts})
        return "; ".join([f"{counted}{cut}", *self.measured])


def mark(sample: Mapping[str, Any], label: str) -> Marked:
    """A sample of the results file, ready to be shown."""
    original, restored = _tokens(sample, "original"), _tokens(sample, "restored")
    origins = [_MARKS[Origin(origin)] for origin, length in sample["origin"] for _ in range(length)]
    marks = [kind if kind == "l" or a == b else f"{kind}x" for kind, a, b in zip(origins, original, restored, strict=True)]
    counts = {kind: marks.count(kind) for kind in MEANINGS if kind in marks}
    shown = min(len(marks), MAX_TOKENS[sample["kind"]])
    runs = tuple(_runs(sample, original, restored, marks[:shown]))
    return Marked(label, runs, counts, len(marks), shown, timeline(sample), tuple(likelihood(sample)))


def likelihood(sample: Mapping[str, Any]) -> list[str]:
    """['log-likelihood −75 bits, 2.5 a token'] of what was written on where an item was cut off; [] of anything else."""
    bits = sample.get("measured", {}).get("sample_bits_per_token")
    if bits is None:
        return []
    number = sum(length for origin, length in sample["origin"] if origin == Origin.CONCEALED)
    return [f"log-likelihood −{significant(bits * number, 4)} bits, {significant(bits, 3)} a token"]


def count_text(counts: Mapping[str, int]) -> str:
    """'481 tokens: 451 received, 30 lost'."""
    total = f"{sum(counts.values()):,} tokens"
    return f"{total}, all received" if set(counts) <= {"received"} else \
        f"{total}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}"


def timeline(sample: Mapping[str, Any]) -> Timeline | None:
    """The losses that a sample of any kind met; None where nothing is known of losses on the air."""
    turns, missing = sample.get("lost_slots"), sample.get("lost_packets", "")
    if not turns:
        return None
    bursts, ends = turns[1::2], list(accumulate(turns))
    drawn = [(start, min(length, MAX_SLOTS - start)) for start, length in zip(ends[::2], bursts, strict=False) if start < MAX_SLOTS]
    return Timeline(tuple(drawn), ends[-1], sum(bursts), max(bursts, default=0), len(missing), missing.count("1"))


def original_text(sample: Mapping[str, Any]) -> str:
    """What was sent, as far as it is shown."""
    return _readable(_joined(sample, _tokens(sample, "original")[:MAX_TOKENS[sample["kind"]]]))


def legend(shown: Sequence[Marked]) -> list[tuple[str, str]]:
    """(mark, meaning) of what a reader needs to know."""
    occurring = {kind for one in shown for kind in one.counts}
    return [(kind, meaning) for number, (kind, meaning) in enumerate(MEANINGS.items()) if number < 5 or kind in occurring]


def _tokens(sample: Mapping[str, Any], which: str) -> Sequence[str]:
    """One string a token; numbers past one digit are written with spaces between them, strings of any length are a list."""
    text, expected = sample[which], sum(length for _, length in sample["origin"])
    return text if isinstance(text, list) or len(text) == expected else text.split(" ")


def _runs(sample: Mapping[str, Any], original: Sequence[str], restored: Sequence[str], marks: list[str]) -> Iterator[Run]:
    start = 0
    for kind, group in groupby(marks):
        stop = start + len(list(group))
        sent = _shown(sample, original[start:stop]) if kind == "l" or kind.endswith("x") else ""
        if kind == "r":
            yield Run(kind, _readable(_joined(sample, restored[start:stop])))
        else:
            yield Run(kind, "·" * (stop - start) if kind == "l" else _shown(sample, restored[start:stop]), sent)
        start = stop


def _shown(sample: Mapping[str, Any], tokens: Sequence[str]) -> str:
    """Text that has a mark: a line break of its own would show neither colour nor underline."""
    return _readable(_joined(sample, tokens)).replace("\n", "↵\n")


def _joined(sample: Mapping[str, Any], tokens: Sequence[str]) -> str:
    return (" " if isinstance(sample["original"], str) and any(len(token) != 1 for token in tokens) else "").join(tokens)


def _readable(text: str) -> str:
    """Bytes (one a character) as UTF-8 where they are, U+FFFD where not; control characters as their pictures."""
    try:
        text = text.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        pass  # a vocabulary past 256: characters as they are
    return "".join(_picture(letter) for letter in text)


def _picture(letter: str) -> str:
    if letter in "\n\t" or " " <= letter < "\x7f" or letter >= "\xa0":
        return letter
    return chr(0x2400 + ord(letter)) if letter < " " else "␡" if letter == "\x7f" else "�"
