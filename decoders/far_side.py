"""What the bytes after a hole say of those inside it, by the n-gram's contexts of at most three bytes: a look past the hole.

    heard_k(h) = sum over w of P(w | h) · heard_{k-1}(h w),        heard_0(h) = P(the next three bytes | h),

of a context h that ends where k more erased bytes come before the next that arrived; and heard_k(no context) = 1. P is by the plain
counts that begin a message. A context that is not on file has the law of the longest shorter one that is. It steers which paths
through a hole are kept; what they weigh is the whole model's to say. Contexts that differ from the bytes known before a place are
left out: no path is in one of them, and most holes are short.

Source: M. K. Pitt, N. Shephard, "Filtering via simulation: auxiliary particle filters", J. Am. Stat. Assoc. 94 (1999).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from sources.models.ngram import NGram
from sources.models.trie import SHARE_BITS, START_LEVELS

REACH = 24
"""So many erased bytes before the next that arrived are told of it."""
LONGEST = START_LEVELS - 1
LEAST = np.float32(1e-6)
"""Of what is said without context: three bytes of it are too little to rule anything out."""


class ShortLaw(NamedTuple):
    """The contexts of at most LONGEST bytes, shorter ones first, and the n-grams that begin with them.

    keys: int64 [contexts], a 1, then the bytes of each; ascending
    by_newest: int32 [contexts], in the order of their newest bytes; first_by_newest: int64 [257], where in it those of each begin
    first: int64 [contexts + 1], the n-grams of each; of an n-gram, symbols uint8, its newest byte; shares float32;
    following: int32, the longest context on file that it ends in
    context_of: int32, the context it begins with; by_symbol: int64, the n-grams in the order of their newest bytes
    first_by_symbol: int64 [257], where in it those of each byte begin
    rests: float32 [contexts], the share of `shorter`, int32 [contexts], the context without its oldest byte
    ending: int32 [257, 256], the longest context on file that ends in a byte (256 = none) and then another
    """

    keys: np.ndarray
    by_newest: np.ndarray
    first_by_newest: np.ndarray
    first: np.ndarray
    symbols: np.ndarray
    shares: np.ndarray
    following: np.ndarray
    context_of: np.ndarray
    by_symbol: np.ndarray
    first_by_symbol: np.ndarray
    rests: np.ndarray
    shorter: np.ndarray
    ending: np.ndarray


def short_law(model: NGram) -> ShortLaw:
    return _short_law(model, model.digests()["path"])


@lru_cache(maxsize=4)
def _short_law(model: NGram, digest: str) -> ShortLaw:
    trie = model.trie()
    table = trie.start_slots[trie.start_slots[:, 0] > 0]
    keys, words = table[np.argsort(table[:, 0])].T  # a 1 before the bytes: longer contexts have larger keys
    counts = ((words >> 23) & 255) + 1
    first = np.append(0, np.cumsum(counts))
    grams = trie.ngrams[(words >> 31).repeat(counts) + np.arange(first[-1]) - first[:-1].repeat(counts)]
    symbols = (grams >> 23).astype(np.uint8)
    lengths = sum((keys >= 1 << 8 * length).astype(np.int64) for length in range(1, LONGEST + 1))
    pairs = np.append(np.arange(1 << 16) + (1 << 16), np.arange(256) + 256)
    newest = np.where(keys > 1, keys & 255, -1)
    return ShortLaw(
        keys, by_newest=np.argsort(newest, kind="stable").astype(np.int32),
        first_by_newest=np.searchsorted(np.sort(newest), np.arange(257)), first=first, symbols=symbols,
        shares=(grams & 0x7FFFFF) / np.float32(1 << SHARE_BITS),
        following=_longest(keys, keys.repeat(counts) << 8 | symbols, lengths.repeat(counts) + 1),
        context_of=np.arange(keys.size, dtype=np.int32).repeat(counts), by_symbol=np.argsort(symbols, kind="stable"),
        first_by_symbol=np.searchsorted(np.sort(symbols), np.arange(257)), rests=(words & 0x7FFFFF) / np.float32(1 << SHARE_BITS),
        shorter=_longest(keys, keys, lengths - 1),
        ending=_longest(keys, pairs, np.where(pairs < 1 << 16, 1, 2)).reshape(257, 256))


def _longest(keys: np.ndarray, past: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int32: which of `keys` is the longest that the newest `lengths` bytes of each past end in."""
    found = np.zeros(past.size, np.int32)
    for length in range(1, LONGEST + 1):
        ends = past & (1 << 8 * length) - 1 | 1 << 8 * length
        at = np.minimum(np.searchsorted(keys, ends), keys.size - 1)
        found = np.where((lengths >= length) & (keys[at] == ends), at, found).astype(np.int32)
    return found


@njit(cache=True)
def hear(law: ShortLaw, values: np.ndarray, likelihoods: np.ndarray, end: int, heard: np.ndarray) -> None:
    """Fill heard float32 [most, contexts]: row k for an erased byte with k more before token `end`, which is known or soft.

    values: int32 [tokens], -1 = unknown; likelihoods: float64 [unknown tokens from `end` on, 256]. Of a row only the contexts that
    may be met there are filled.
    """
    latest = min(end + LONGEST, values.size)
    unknown = np.count_nonzero(values[end:latest] < 0)
    likelihood, alive = np.empty(256, np.float32), np.empty(law.keys.size, np.int32)
    before, after = np.ones(law.keys.size, np.float32), np.ones(law.keys.size, np.float32)
    for at in range(latest - 1, end - 1, -1):
        there = alive[:_alive(law, values, at, alive)]
        if values[at] >= 0:
            _step_back_known(law, values[at], there, after, before)
        else:
            unknown -= 1
            likelihood[:] = likelihoods[unknown]
            _step_back(law, likelihood, there, after, before)
        before, after = after, before
    likelihood[:] = 1
    for more in range(len(heard)):
        there = alive[:_alive(law, values, end - more, alive)]
        if more:
            _step_back(law, likelihood, there, heard[more - 1], heard[more])
        else:
            for context in there:
                heard[0, context] = after[context]


@njit(cache=True)
def _alive(law: ShortLaw, values: np.ndarray, at: int, alive: np.ndarray) -> int:
    """How many contexts agree with what is known of the bytes before token `at`; they come into `alive`, int32, in their order."""
    newest, middle, oldest = [values[at - back] if at >= back else np.int32(-1) for back in (1, 2, 3)]
    longest = np.searchsorted(law.keys, 1 << 24)
    alive[0], count = 0, 1
    if newest >= 0:
        for context in law.by_newest[law.first_by_newest[newest]:law.first_by_newest[newest + 1]]:
            if _agrees(law.keys[context], middle, oldest):
                alive[count], count = context, count + 1
        return count
    first = np.searchsorted(law.keys, (256 + oldest) << 16) if oldest >= 0 else longest
    last = np.searchsorted(law.keys, (257 + oldest) << 16) if oldest >= 0 else law.keys.size
    for context in range(1, longest):
        if _agrees(law.keys[context], middle, -1):
            alive[count], count = context, count + 1
    for context in range(first, last):
        if _agrees(law.keys[context], middle, -1):
            alive[count], count = context, count + 1
    return count


@njit(cache=True)
def _agrees(key: int, middle: int, oldest: int) -> bool:
    """Whether the second and third newest bytes of a context, if it has them, are these; -1 = any."""
    return ((middle < 0 or key < 1 << 16 or (key >> 8) & 255 == middle)
            and (oldest < 0 or key < 1 << 24 or (key >> 16) & 255 == oldest))


@njit(cache=True)
def _step_back(law: ShortLaw, likelihood: np.ndarray, alive: np.ndarray, after: np.ndarray, before: np.ndarray) -> None:
    """before[h] = sum over w of P(w | h) likelihood[w] after[h w], with 1 for no context; h of `alive`, shorter ones first."""
    uniform = np.float32(0)
    for symbol in range(256):
        uniform += likelihood[symbol] * after[law.ending[256, symbol]] / 256
    for context in alive:
        total = law.rests[context] * (before[law.shorter[context]] if context else uniform)
        for ngram in range(law.first[context], law.first[context + 1]):
            total += law.shares[ngram] * likelihood[law.symbols[ngram]] * after[law.following[ngram]]
        before[context] = total
    _against_none(alive, before)


@njit(cache=True)
def _step_back_known(law: ShortLaw, symbol: int, alive: np.ndarray, after: np.ndarray, before: np.ndarray) -> None:
    """As `_step_back` where one byte alone is likely: without looking at n-grams of others."""
    ngrams = law.by_symbol[law.first_by_symbol[symbol]:law.first_by_symbol[symbol + 1]]
    if alive.size > ngrams.size // 8:
        for context in alive:
            before[context] = 0
        for ngram in ngrams:
            before[law.context_of[ngram]] = law.shares[ngram] * after[law.following[ngram]]
    else:
        for context in alive:
            ngram = _ngram_of(law, context, symbol)
            before[context] = law.shares[ngram] * after[law.following[ngram]] if ngram >= 0 else 0
    before[0] += law.rests[0] * after[law.ending[256, symbol]] / 256
    for context in alive[1:]:
        before[context] += law.rests[context] * before[law.shorter[context]]
    _against_none(alive, before)


@njit(cache=True)
def _ngram_of(law: ShortLaw, context: int, symbol: int) -> int:
    """The n-gram of a context and the byte after it; -1 = not on file."""
    low, end = law.first[context], law.first[context + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if law.symbols[middle] < symbol:
            low = middle + 1
        else:
            high = middle
    return low if low < end and law.symbols[low] == symbol else -1


@njit(cache=True)
def _against_none(alive: np.ndarray, before: np.ndarray) -> None:
    none = before[0]
    for context in alive:
        before[context] = max(before[context] / none, LEAST)


@njit(cache=True)
def promise(law: ShortLaw, context: int, after: np.ndarray, promised: np.ndarray) -> None:
    """Into float64 [256], for each byte after a context (a 1, then its bytes), what is heard then: `after`, float32 [contexts]."""
    newest = context & 255 if context > 1 else 256
    for symbol in range(256):
        promised[symbol] = after[law.ending[newest, symbol]]
    if context >> 16:
        pair = law.ending[(context >> 8) & 255, newest]
        if law.shorter[pair]:  # of two bytes
            for ngram in range(law.first[pair], law.first[pair + 1]):
                promised[law.symbols[ngram]] = after[law.following[ngram]]
