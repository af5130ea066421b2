"""Text marked by where each token comes from: what a reader sees of one trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from channel_sim.types import Origin

MAX_TOKENS = 1500
MAX_PACKETS = 240
MEANINGS = {
    "r": "received", "i": "inferred from noisy bits", "c": "concealed by the prior, right", "cx": "concealed, wrong", "l": "lost",
    "ix": "inferred, wrong", "rx": "received, but wrong: an undetected error",
}
"""Mark -> meaning. The first five are always in the legend, the others where they occur."""
_COUNTED = {"i": "inferred", "c": "concealed right", "cx": "concealed wrong", "l": "lost", "ix": "inferred wrong",
            "rx": "received wrong"}
_MARKS = {Origin.RECEIVED: "r", Origin.INFERRED: "i", Origin.CONCEALED: "c", Origin.LOST: "l"}


@dataclass(frozen=True)
class Marked:
    """One restored sample: `runs` of (mark, text) in order, and what was counted over all its tokens, shown or not.

    counts: mark -> tokens; packets: "0010…", 1 = lost, or "" where there are too many to draw
    """

    label: str
    runs: tuple[tuple[str, str], ...]
    counts: dict[str, int]
    num_tokens: int
    num_packets: int
    num_lost_packets: int
    packets: str

    @property
    def is_cut(self) -> bool:
        return self.num_tokens > MAX_TOKENS

    @property
    def is_whole(self) -> bool:
        return set(self.counts) <= {"r"}

    @property
    def caption(self) -> str:
        """'1 of 16 packets lost; 481 tokens: 5 concealed right, 25 concealed wrong'."""
        parts = [f"{self.counts[kind]:,} {name}" for kind, name in _COUNTED.items() if kind in self.counts]
        tokens = f"{self.num_tokens:,} tokens{': ' if parts else ', all received'}{', '.join(parts)}"
        cut = f" (the first {MAX_TOKENS:,} shown)" if self.is_cut else ""
        return f"{self.num_lost_packets:,} of {self.num_packets:,} packets lost; {tokens}{cut}"


def mark(sample: dict[str, Any], label: str) -> Marked:
    """A sample of the results file, ready to be shown."""
    original, restored = _tokens(sample, "original"), _tokens(sample, "restored")
    origins = [_MARKS[Origin(origin)] for origin, length in sample["origin"] for _ in range(length)]
    marks = [kind if kind == "l" or a == b else f"{kind}x" for kind, a, b in zip(origins, original, restored, strict=True)]
    counts = {kind: marks.count(kind) for kind in MEANINGS if kind in marks}
    lost = sample.get("lost_packets", "")
    runs = tuple(_runs(sample, restored[:MAX_TOKENS], marks[:MAX_TOKENS]))
    return Marked(label, runs, counts, len(marks), len(lost), lost.count("1"), lost if len(lost) <= MAX_PACKETS else "")


def original_text(sample: dict[str, Any]) -> str:
    """What was sent, as far as it is shown."""
    return _readable(_joined(sample, _tokens(sample, "original")[:MAX_TOKENS]))


def legend(shown: Sequence[Marked]) -> list[tuple[str, str]]:
    """(mark, meaning) of what a reader needs to know."""
    occurring = {kind for one in shown for kind in one.counts}
    return [(kind, meaning) for number, (kind, meaning) in enumerate(MEANINGS.items()) if number < 5 or kind in occurring]


def _tokens(sample: dict[str, Any], which: str) -> Sequence[str]:
    """One string a token; numbers past one digit are written with spaces between them."""
    text, expected = sample[which], sum(length for _, length in sample["origin"])
    return text if len(text) == expected else text.split(" ")


def _runs(sample: dict[str, Any], restored: Sequence[str], marks: list[str]) -> Iterator[tuple[str, str]]:
    start = 0
    for kind, group in groupby(marks):
        stop = start + len(list(group))
        text = "·" * (stop - start) if kind == "l" else _readable(_joined(sample, restored[start:stop]))
        # a restored line break would show neither colour nor underline
        yield kind, text if kind == "r" else text.replace("\n", "↵\n")
        start = stop


def _joined(sample: dict[str, Any], tokens: Sequence[str]) -> str:
    return ("" if all(len(token) == 1 for token in tokens) else " ").join(tokens)


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
