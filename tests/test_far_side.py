"""What the bytes after a hole say of it: against enumeration, and what it is worth."""

from __future__ import annotations

from itertools import product

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Evidence
from decoders.far_side import LEAST, hear, promise, short_law
from decoders.lm_greedy import LmGreedy
from decoders.ngram import NGramRestorer
from sources.models.ngram import NGram
from sources.text import python_docs

LAW = short_law(NGram())
CONTEXTS = np.sort(NGram().trie().start_slots[NGram().trie().start_slots[:, 0] > 0, 0])


def row_of(past: bytes) -> int:
    """The longest context on file that `past` ends in."""
    for length in range(min(3, len(past)), -1, -1):
        key = int.from_bytes(b"\1" + past[len(past) - length:], "big")
        if key in CONTEXTS:
            return int(np.searchsorted(CONTEXTS, key))
    raise AssertionError("the empty context is on file")


def law_after(row: int) -> np.ndarray:
    """float64 [256]: P(byte | context)."""
    lower = law_after(LAW.shorter[row]) if row else np.full(256, 1 / 256)
    law = LAW.rests[row] * lower
    ngrams = slice(LAW.first[row], LAW.first[row + 1])
    law[LAW.symbols[ngrams]] += LAW.shares[ngrams]
    return law


def test_the_short_law_is_a_message_start() -> None:
    """Catches shares of other contexts: the model at the start of a message differs by what the context leaves to shorter ones."""
    model = NGram()
    for past in (b"", b"t", b"th", b"the", b" qu"):
        state = model.start(1)
        for value in past:
            state = model.advance(state, np.array([value]))
        row = row_of(past)
        law = law_after(row)
        assert abs(law.sum() - 1) < 1e-5
        assert np.abs(law - model.frequencies(state)[0] / 65536).max() <= LAW.rests[row] + 0.01


def test_what_is_heard_is_the_sum_over_all_ways() -> None:
    """Catches a step too many or too few, a context that loses the wrong end, and bytes after the hole not heard."""
    alone, both = (np.frombuffer(one, np.uint8).astype(np.int32) for one in (b"th?ing", b"th??ing"))
    alone[2], both[[2, 3]] = -1, -1
    heard = np.ones((2, LAW.rests.size), np.float32)
    hear(LAW, alone, np.zeros((0, 256)), 3, heard[:1])

    def ways(past: bytes, num_erased: int) -> float:
        total = 0.0
        for way in product(range(97, 123), repeat=num_erased):
            text = past + bytes(way) + b"ing"
            steps = range(len(past), len(text))
            total += float(np.prod([law_after(row_of(text[:at]))[text[at]] for at in steps]))
        return total

    promised = np.empty(256)
    promise(LAW, int.from_bytes(b"\1xth", "big"), heard[0], promised)
    none = ways(b"", 0)
    for byte in b"arou":
        np.testing.assert_allclose(promised[byte], ways(b"th" + bytes([byte]), 0) / none, rtol=0.01, atol=2e-6)
    hear(LAW, both, np.zeros((0, 256)), 4, heard)
    promise(LAW, int.from_bytes(b"\1th", "big"), heard[1], promised)
    first, second = (ways(b"th" + bytes([byte]), 1) for byte in b"ro")
    np.testing.assert_allclose(promised[ord("r")] / promised[ord("o")], first / second, rtol=0.1)  # other bytes than letters
    assert heard.min() >= LEAST and np.all(heard[:, 0] == 1)


def test_in_holes_the_far_side_counts() -> None:
    """Catches a promise that misleads, or is lost: eight bytes in a row, 1.5 times what the left side gives, spaces left out."""
    data = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    items = [data[at:at + 1024] for at in range(20_000, data.size - 1024, data.size // 10)]
    known = [np.convolve(Key(1).child(i).uniform(1024) < 1 / 80, np.ones(8))[:1024] == 0 for i in range(len(items))]
    evidence = [Evidence(one, np.where(one, values, 0), 256) for one, values in zip(known, items)]
    rates = []
    for decoder in (NGramRestorer(), LmGreedy(model=NGram())):
        found = decoder.restore(evidence, [Key(0)] * len(items))
        rates.append(np.mean(np.concatenate([(one.values == values)[~sure & (values != ord(" "))]
                                             for one, values, sure in zip(found, items, known)])))
    assert rates[0] > 1.5 * rates[1]


def test_a_hole_at_the_end_hears_nothing() -> None:
    """Catches a look past the item, and a hole told of what comes before it a second time."""
    values = np.array([116, -1, -1], np.int32)
    heard = np.ones((2, LAW.rests.size), np.float32)
    hear(LAW, values, np.zeros((0, 256)), 3, heard)
    np.testing.assert_allclose(heard, 1, rtol=1e-4)


def test_soft_bytes_after_a_hole_are_heard() -> None:
    """Catches likelihoods read in the wrong order: certain soft bytes say what known ones say."""
    values = np.frombuffer(b"th??ing", np.uint8).astype(np.int32)
    values[[2, 3]] = -1
    soft = np.where(np.arange(7) < 4, values, -1).astype(np.int32)
    one, two = np.ones((2, 2, LAW.rests.size), np.float32)
    hear(LAW, values, np.zeros((0, 256)), 4, one)
    hear(LAW, soft, np.eye(256)[[105, 110, 103]], 4, two)
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_bytes_known_before_a_hole_change_nothing_but_the_work() -> None:
    """Catches a context left out that a path may be in: where the bytes before the hole are known, the same is heard after them."""
    told = np.frombuffer(b"in th????e world", np.uint8).astype(np.int32)
    told[5:9], told[11] = -1, -1
    blind = told.copy()
    blind[:5] = -1
    after = np.ones((np.count_nonzero(told[9:] < 0), 256))
    one, two = np.ones((2, 4, LAW.rests.size), np.float32)
    hear(LAW, told, after, 9, one)
    hear(LAW, blind, after, 9, two)
    assert np.array_equal(one[0], two[0])  # three erased bytes and more before the place: any context
    for more, past in ((3, b"th?"), (2, b"h??")):
        for way in product(range(97, 123), repeat=past.count(b"?")):
            row = row_of(past.replace(b"?", b"") + bytes(way))
            assert one[more, row] == two[more, row]
    assert not np.array_equal(one[3], two[3])  # and what no path can be in was left alone
