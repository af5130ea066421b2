"""A pruned n-gram over bytes in memory: contexts in a hash table, the bytes seen after each, and their shares, all integers.

    P(w | h) = share(h, w) + rest(h) · P(w | h less its oldest byte),    P(w | no context at all) = 1 / 256

`share` and `rest` are multiples of 2^-22 that sum to 1 in every context; a context that is not on file has rest 1. Probabilities
are masses, multiples of 2^-40, so that the longest context on file decides and shorter ones fill in what it leaves open.

A message begins with fewer bytes than the model looks back. Kneser-Ney counts of short contexts say how a byte follows where longer
contexts fail, not how often it follows; so the first few contexts of a message have shares of their own, from plain counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

SHARE_BITS = 22
MASS_BITS = 40
DENSE_BITS = 30
SPREAD = (1 << 16) - 256
"""Of a coding table's 2^16, what is left to spread once every byte has 1."""
START_LEVELS = 4
"""Contexts of fewer bytes than this have shares of their own for the start of a message."""
DENSE_LENGTH = 2
"""After contexts of at most so many bytes all 256 probabilities are worked out beforehand: most n-grams of a table are theirs."""
_HASH = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2^64 over the golden ratio (Knuth, TAOCP 3, section 6.4)


class Streams(NamedTuple):
    """What is stored: the n-grams, shorter ones first, in the order of their bytes, oldest first; codes point into `levels`.

    sizes:        int64 [order], the n-grams of each length
    is_context:   uint8 0/1 [1 + n-grams shorter than order]: n-grams one byte longer begin with this one; the empty one first
    branches:     uint8 [contexts]: how many do, less 1
    symbols:      uint8 [n-grams], the newest byte of each, ascending within a context
    codes:        uint8 [n-grams], the discounted count of each
    rest_codes:   uint8 [contexts], the count that each context leaves to shorter ones
    start_codes, start_rest_codes: the same from plain counts, for contexts of fewer than START_LEVELS bytes
    levels:       int64 [at most 256], the count that a code stands for, up to one factor
    """

    sizes: np.ndarray
    is_context: np.ndarray
    branches: np.ndarray
    symbols: np.ndarray
    codes: np.ndarray
    rest_codes: np.ndarray
    start_codes: np.ndarray
    start_rest_codes: np.ndarray
    levels: np.ndarray


class Trie(NamedTuple):
    """What the kernels read. A look-up costs two cache misses: one for the context, one for its n-grams.

    slots:       int64 [2^k, 2], open addressing: key of a context (a 1, then its bytes, oldest first) and its word; key 0 = free
    start_slots: int64 [2^k, 2], the same for contexts that are all of a message so far
    ngrams:      int32 [n-grams], byte << 23 | share; ascending within a context; those of start_slots at the end
    dense_rows:  int32 [2^17], the row of `dense` for the key of a context of at most DENSE_LENGTH bytes; -1 = not on file
    dense:       int32 [rows, 256], all probabilities after these, with 2^30 for 1; row 0 is the uniform law
    context_length: how many bytes the longest context has

    The word of a context is first << 31 | (number of n-grams - 1) << 23 | rest, with 2^22 for 1 in shares and rests.
    """

    slots: np.ndarray
    start_slots: np.ndarray
    ngrams: np.ndarray
    dense_rows: np.ndarray
    dense: np.ndarray
    context_length: int


def build(streams: Streams) -> Trie:
    """The trie that the streams describe. ValueError where they do not fit together."""
    first = np.append(0, np.cumsum(streams.branches.astype(np.int64) + 1))
    num_start = streams.start_rest_codes.size
    lengths_fit = (streams.is_context.size == 1 + streams.sizes[:-1].sum() and streams.is_context.sum() == streams.branches.size
                   and first[-1] == streams.sizes.sum() == streams.symbols.size == streams.codes.size
                   and streams.rest_codes.size == streams.branches.size >= num_start > 0
                   and streams.start_codes.size == first[num_start])
    if not lengths_fit:
        raise ValueError("its streams do not fit together")
    keys = _context_keys(streams, first)
    words, ngrams = _pack_contexts(streams.levels[streams.codes], streams.levels[streams.rest_codes], streams.symbols, first, 0)
    start_words, start_ngrams = _pack_contexts(streams.levels[streams.start_codes], streams.levels[streams.start_rest_codes],
                                               streams.symbols[:first[num_start]], first[:num_start + 1], ngrams.size)
    short = int(np.searchsorted(keys, 1 << 8 * (DENSE_LENGTH + 1)))  # longer contexts have larger keys
    dense_rows = np.full(1 << 8 * DENSE_LENGTH + 1, -1, np.int32)
    dense_rows[keys[:short]] = np.arange(1, short + 1)
    return Trie(_hash_table(keys, words), _hash_table(keys[:num_start], start_words), np.append(ngrams, start_ngrams),
                dense_rows, _dense(keys[:short], words, ngrams, dense_rows), streams.sizes.size - 1)


def _context_keys(streams: Streams, first: np.ndarray) -> np.ndarray:
    """uint64 [contexts]: a 1, then the bytes of each context, oldest first."""
    keys: list[np.ndarray] = []
    gram_keys, grams, contexts = np.ones(1, np.uint64), 0, 0
    for size in streams.sizes.tolist():
        begin = 1 + grams - gram_keys.size if keys else 0
        found = gram_keys[streams.is_context[begin:begin + gram_keys.size] > 0]
        counts = np.diff(first[contexts:contexts + found.size + 1])
        if counts.sum() != size:
            raise ValueError("its levels do not fit together")
        keys.append(found)
        gram_keys = np.repeat(found, counts) << np.uint64(8) | streams.symbols[grams:grams + size]
        grams, contexts = grams + size, contexts + found.size
    return np.concatenate(keys)


def _pack_contexts(counts: np.ndarray, rest_counts: np.ndarray, symbols: np.ndarray, first: np.ndarray,
                   offset: int) -> tuple[np.ndarray, np.ndarray]:
    """(words int64 [contexts], ngrams int32 [n-grams]) from int64 counts; what rounding down leaves goes to the rest."""
    sizes = np.diff(first)
    totals = np.add.reduceat(counts, first[:-1]) + rest_counts
    shares = (counts << SHARE_BITS) // np.repeat(totals, sizes)
    rests = (1 << SHARE_BITS) - np.add.reduceat(shares, first[:-1])
    words = (first[:-1] + offset) << 31 | (sizes - 1) << 23 | rests
    return words, (symbols.astype(np.int32) << 23 | shares.astype(np.int32)).astype(np.int32)


@njit(cache=True)
def _hash_table(keys: np.ndarray, words: np.ndarray) -> np.ndarray:
    num_slots = 2
    while num_slots < 3 * keys.size // 2:
        num_slots *= 2
    slots = np.zeros((num_slots, 2), np.int64)
    for number in range(keys.size):
        slot = _slot(keys[number], num_slots)
        while slots[slot, 0]:
            slot = (slot + 1) & (num_slots - 1)
        slots[slot, 0], slots[slot, 1] = np.int64(keys[number]), words[number]
    return slots


@njit(cache=True)
def _slot(key: int, num_slots: int) -> int:
    return int((np.uint64(key) * _HASH) >> np.uint64(32)) & (num_slots - 1)


@njit(cache=True)
def _dense(keys: np.ndarray, words: np.ndarray, ngrams: np.ndarray, dense_rows: np.ndarray) -> np.ndarray:
    """`Trie.dense` for the short contexts `keys`: each from that of its suffix, which comes before it."""
    dense = np.empty((keys.size + 1, 256), np.int32)
    dense[0] = 1 << (DENSE_BITS - 8)
    for number in range(keys.size):
        key, length = np.int64(keys[number]), 0
        while key >> 8 * (length + 1):
            length += 1
        suffix = dense_rows[_key(key, length - 1)] if length else 0
        first, end, rest = _unpack(words[number])
        for symbol in range(256):
            dense[number + 1, symbol] = (rest * dense[suffix, symbol]) >> SHARE_BITS
        for ngram in ngrams[first:end]:
            dense[number + 1, ngram >> 23] += (ngram & 0x7FFFFF) << (DENSE_BITS - SHARE_BITS)
    return dense


@njit(cache=True)
def _key(past: int, length: int) -> int:
    """The key of the context that is the newest `length` bytes of `past`."""
    one = 1 << (8 * length)
    return (past & (one - 1)) | one


@njit(cache=True)
def _unpack(word: int) -> tuple[int, int, int]:
    """(first n-gram, one past the last, rest) of a context."""
    first = word >> 31
    return first, first + ((word >> 23) & 255) + 1, word & 0x7FFFFF


@njit(cache=True)
def _find(slots: np.ndarray, key: int) -> int:
    """The word of the context `key`, or -1."""
    slot = _slot(key, slots.shape[0])
    while slots[slot, 0]:
        if slots[slot, 0] == key:
            return slots[slot, 1]
        slot = (slot + 1) & (slots.shape[0] - 1)
    return -1


@njit(cache=True)
def find_contexts(trie: Trie, past: int, num_known: int, words: np.ndarray) -> tuple[int, int]:
    """(how many long contexts are on file, their words into `words`, shortest first; the row of `dense` below them).

    `past` holds the latest bytes, the newest lowest, of which `num_known` <= context_length are there.
    """
    if num_known < START_LEVELS:
        words[0] = _find(trie.start_slots, _key(past, num_known))
        if words[0] >= 0:
            return 1, trie.dense_rows[_key(past, min(num_known - 1, DENSE_LENGTH))] if num_known else 0
    row = 0
    for length in range(min(num_known, DENSE_LENGTH) + 1):
        longer = trie.dense_rows[_key(past, length)]
        if longer < 0:  # contexts are closed under leaving out the oldest byte
            return 0, row
        row = longer
    num_long = 0
    for length in range(DENSE_LENGTH + 1, num_known + 1):
        words[num_long] = _find(trie.slots, _key(past, length))
        if words[num_long] < 0:
            break
        num_long += 1
    return num_long, row


@njit(cache=True)
def byte_masses(trie: Trie, words: np.ndarray, num_long: int, row: int, masses: np.ndarray) -> None:
    """The masses of all 256 bytes after the contexts that `find_contexts` found, into `masses` int64 [256].

    They sum to 2^40, less some rounding down.
    """
    left = np.int64(1) << MASS_BITS
    masses[:] = 0
    for at in range(num_long - 1, -1, -1):
        first, end, rest = _unpack(words[at])
        for ngram in trie.ngrams[first:end]:
            masses[ngram >> 23] += (left * (ngram & 0x7FFFFF)) >> SHARE_BITS
        left = (left * rest) >> SHARE_BITS
    dense = trie.dense[row]
    for symbol in range(256):
        masses[symbol] += ((left >> 8) * dense[symbol]) >> (DENSE_BITS - 8)  # 32 by 30 bits: the product fits


@njit(cache=True)
def byte_mass(trie: Trie, words: np.ndarray, num_long: int, row: int, symbol: int) -> int:
    """The mass of one byte: that of `byte_masses`, without the other 255."""
    left, mass = np.int64(1) << MASS_BITS, np.int64(0)
    for at in range(num_long - 1, -1, -1):
        low, end, rest = _unpack(words[at])
        high = end
        while low < high:
            middle = (low + high) >> 1
            if trie.ngrams[middle] >> 23 < symbol:
                low = middle + 1
            else:
                high = middle
        if low < end and trie.ngrams[low] >> 23 == symbol:
            mass += (left * (trie.ngrams[low] & 0x7FFFFF)) >> SHARE_BITS
        left = (left * rest) >> SHARE_BITS
    return mass + (((left >> 8) * trie.dense[row, symbol]) >> (DENSE_BITS - 8))


@njit(cache=True)
def frequency_tables(trie: Trie, states: np.ndarray) -> np.ndarray:
    """int64 [lanes, 256] for contexts int32 [lanes, context_length], oldest first, -1 = none: each row sums to 2^16, no entry is 0.

    Every byte has 1; the rest is split by rounding the cumulative masses down, so the sum is exact whatever was rounded before.
    """
    tables = np.empty((states.shape[0], 256), np.int64)
    words, masses = np.empty(trie.context_length + 1, np.int64), np.empty(256, np.int64)
    for lane in range(states.shape[0]):
        past, num_known = latest_bytes(states[lane])
        num_long, row = find_contexts(trie, past, num_known, words)
        byte_masses(trie, words, num_long, row, masses)
        for symbol in range(1, 256):
            masses[symbol] += masses[symbol - 1]
        masses[255] = np.int64(1) << MASS_BITS
        for symbol in range(256):
            masses[symbol] = (masses[symbol] * SPREAD) >> MASS_BITS
        tables[lane, 0] = 1 + masses[0]
        for symbol in range(1, 256):
            tables[lane, symbol] = 1 + masses[symbol] - masses[symbol - 1]
    return tables


@njit(cache=True)
def latest_bytes(state: np.ndarray) -> tuple[int, int]:
    """(the bytes of a context in one number, the newest lowest; how many there are, back to the first -1)."""
    past, num_known = 0, 0
    while num_known < state.size and state[state.size - 1 - num_known] >= 0:
        past |= int(state[state.size - 1 - num_known]) << (8 * num_known)
        num_known += 1
    return past, num_known
