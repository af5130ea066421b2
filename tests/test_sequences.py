"""Sequences with long memory against their rules; DNA files against their letters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.sequences import Dna
from sources.synthetic import HmmK, RandomBytes, SymbolSource, XorK
from tests.laws import assert_rate

RULES = [XorK(k=7), XorK(k=20, lags=(1, 7)), XorK(k=9, lags=()), HmmK(k=7), XorK(k=5, flip_probability=0.1)]


def draw(source: SymbolSource, num_items: int = 1) -> np.ndarray:
    """uint8 [num_items, num_symbols]"""
    return np.stack([item.content for item in source.items(range(num_items), [Key(7).child("item", i) for i in range(num_items)])])


def innovations(symbols: np.ndarray, k: int, lags: tuple[int, ...]) -> np.ndarray:
    """uint8 [num_items, num_symbols - k]: where the rule, written out, does not hold."""
    num_symbols = symbols.shape[1]
    return np.bitwise_xor.reduce([symbols[:, k - lag:num_symbols - lag] for lag in (0, *lags, k)])


@pytest.mark.parametrize("source", RULES, ids=repr)
def test_symbols_are_a_prefix_of_a_longer_item(source: SymbolSource):
    """Catches draws that depend on the length of the item, and a start that does not fit a short one."""
    for short in (1, 3, 60):
        fields = source.model_dump()
        shorter, longer = (type(source)(**(fields | {"num_symbols": n})) for n in (short, 100))
        assert np.array_equal(draw(shorter, 3), draw(longer, 3)[:, :short])


@pytest.mark.parametrize("k, lags", [(2, (1,)), (20, (1,)), (30, (1,)), (24, (1, 7)), (5, ())])
def test_the_rule_holds_from_the_kth_symbol_on(k: int, lags: tuple[int, ...]):
    """Catches a delay that is off by one: the rule is written out here lag by lag. Another delay must not fit."""
    symbols = draw(XorK(k=k, lags=lags, num_symbols=4000), 2)
    assert not innovations(symbols, k, lags).any()
    assert innovations(symbols, k + 1, lags).mean() > 0.3 or k == 2  # period 3 at k = 2


def test_period_is_that_of_the_polynomial():
    """Catches a docstring whose periods are not those of the rule: short ones are what a dictionary coder finds."""
    symbols = draw(XorK(k=10, num_symbols=3000))[0]
    periods = [shift for shift in range(1, 1024) if np.array_equal(symbols[:-shift], symbols[shift:])]
    assert periods[0] == 889


def test_the_start_is_fair_and_independent():
    """Catches a start that is always the same, or whose symbols hang together."""
    starts = draw(XorK(k=4, num_symbols=4), 20_000)
    assert_rate(np.sum(starts @ [8, 4, 2, 1] == 0), 20_000, 1 / 16)  # all zero too: as likely as any other
    for position in range(4):
        assert_rate(starts[:, position].sum(), 20_000, 0.5)


def test_innovations_come_at_their_rate_and_alone():
    """Catches innovations that do not enter the recursion, and ones that touch the start."""
    source = XorK(k=20, flip_probability=0.1, num_symbols=60_020)
    flipped = innovations(draw(source), 20, (1,))[0]
    assert_rate(flipped.sum(), flipped.size, 0.1)
    assert_rate((flipped[1:] & flipped[:-1])[::2].sum(), flipped.size // 2, 0.01)
    assert np.array_equal(draw(source)[:, :20], draw(XorK(k=20, num_symbols=20)))


def test_hmm_k_is_xor_k_seen_through_a_channel():
    """Catches observation errors that enter the rule, and errors drawn with the sequence's own numbers."""
    hidden, seen = (draw(kind(k=20, num_symbols=40_000))[0] for kind in (XorK, HmmK))
    errors = hidden ^ seen
    assert_rate(errors.sum(), errors.size, 0.1)
    assert_rate((errors & hidden).sum(), hidden.sum(), 0.1)
    # three errors of rate 0.1 meet in what is seen: (1 - 0.8^3) / 2, taken where they do not overlap
    broken = innovations(seen[None], 20, (1,))[0][::22]
    assert_rate(broken.sum(), broken.size, (1 - 0.8**3) / 2)


@pytest.mark.parametrize("source, symbols", [(XorK(k=5), "010000111110101001100010"), (HmmK(k=5), "110000111110101001100011")])
def test_first_symbols_are_what_they_were(source: SymbolSource, symbols: str):
    """Golden: catches draws that change without a new `revision`."""
    assert "".join(map(str, draw(source)[0, :24])) == symbols and source.revision == 1


def test_random_bytes_are_uniform_and_prefix_stable():
    """Catches an alphabet cut short, and draws that depend on the length."""
    (item,) = RandomBytes(num_bytes=65_536).items([3], [Key(2)])
    assert item.modality == "bytes" and item.name == "RandomBytes[3]" and isinstance(item.content, bytes)
    counts = np.bincount(np.frombuffer(item.content, np.uint8), minlength=256)
    for value in (0, 127, 128, 255):
        assert_rate(counts[value], 65_536, 1 / 256)
    chi_squared = float(np.sum((counts - 256) ** 2) / 256)
    assert abs(chi_squared - 255) < 5 * math.sqrt(2 * 255)
    assert RandomBytes(num_bytes=9).items([3], [Key(2)])[0].content == item.content[:9] and RandomBytes().num_bytes == 2048
    assert RandomBytes(num_bytes=9).items([3], [Key(4)])[0].content != item.content[:9]


def test_impossible_rules_are_refused():
    """Catches lags that the start does not reach, doubled ones (which cancel), and empty items."""
    for fields in ({"k": 1}, {"k": 5, "lags": (5,)}, {"lags": (1, 1)}, {"lags": (0,)}, {"flip_probability": 0.6},
                   {"num_symbols": 0}):
        with pytest.raises(ValueError):
            XorK(**fields)
    with pytest.raises(ValueError):
        RandomBytes(num_bytes=0)


def letters(tmp_path: Path, data: bytes, **fields: str) -> bytes:
    """All items of a file of these bytes, joined."""
    (tmp_path / "genome.fa").write_bytes(data)
    source = Dna(path=str(tmp_path / "genome.fa"), item_bytes=3, **fields)
    assert source.num_items is not None
    items = source.items(range(source.num_items), [Key(i) for i in range(source.num_items)])
    assert all(item.modality == "bytes" for item in items) and len(items[0].content) <= 3
    return b"".join(item.content for item in items if isinstance(item.content, bytes))


@pytest.mark.parametrize("data", [b"ACGTTGCA", b"acgtTGca\n", b">chr1 some ACGT words\nACGT\nTG\n\nCA\n",
                                  b"; note\r\nAC GT\r\nTGCA\r\n", b">one\nACGT\n>two\nTGCA"])
def test_letters_are_the_sequence_alone(tmp_path: Path, data: bytes):
    """Catches header words, line ends and lower case that are taken for bases, and separators between records."""
    assert letters(tmp_path, data) == b"ACGTTGCA"


def test_other_letters_are_refused_kept_or_dropped(tmp_path: Path):
    """Catches N that is silently a base, or silently gone; a header's letters do not count."""
    data = b">chrN with RYN\nACNN\nnGTu-\n"
    assert letters(tmp_path, data, other="keep") == b"ACNNNGTU-"
    assert letters(tmp_path, data, other="drop") == b"ACGT"
    with pytest.raises(RequestError, match="genome.fa.*'N' in line 2 .*5 such letters.*; set other"):
        letters(tmp_path, data)


@pytest.mark.parametrize("data, says", [
    (b">h\nAC1T\n", "'1' in line 2 is no letter"), (b"\x1f\x8b\x08packed", "line 1 is no letter.*unpacked"),
    (b"ACGT>late header\n", "'>' in line 1"), (b">header alone\n", "holds no base"), (b"", "at least one byte"),
    (b"ACG\xc3\xa4\n", "line 1 is no letter"),
])
@pytest.mark.parametrize("other", ["refuse", "keep", "drop"])
def test_what_is_no_dna_is_refused_by_name(tmp_path: Path, data: bytes, says: str, other: str):
    """Catches digits, packed files and text taken for bases, and a file without any base that gives empty items."""
    with pytest.raises(RequestError, match=says) as caught:
        letters(tmp_path, data, other=other)
    assert "genome.fa" in str(caught.value) and ";" in str(caught.value)


def test_digest_is_that_of_the_letters(tmp_path: Path):
    """Catches a digest that misses `other`, which changes what is sent."""
    (tmp_path / "g").write_bytes(b">h\nACGNT\n")
    digests = {str(Dna(path=str(tmp_path / "g"), other=other).digests()) for other in ("keep", "drop")}  # type: ignore[arg-type]
    assert len(digests) == 2
