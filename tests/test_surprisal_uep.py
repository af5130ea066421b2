"""Unequal protection by surprisal: which tokens are sent, what the map costs, and what damage does to it."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, log2

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Preamble, Reception, Tokens
from sources.models.markov import ExactMarkov
from sources.models.ngram import NGram
from sources.models.uniform import Uniform
from sources.surprisal_uep import SurprisalUep, numbered_set, set_number
from sources.text import Text
from tests.test_coder import received

TEXT = Tokens(np.frombuffer(Text(item_bytes=700).items([3], [Key(1)])[0].content, np.uint8).astype(np.int32), 256)
MARKOV = ExactMarkov(flip_probability=0.1)


def uep(**fields: object) -> SurprisalUep:
    return SurprisalUep(**{"model": NGram(), "packet_bits": 128, "sent_fraction": 0.5} | fields)


@pytest.mark.parametrize(("size", "members"), [(6, 3), (7, 1), (5, 5), (8, 2)])
def test_sets_are_numbered_without_gaps(size: int, members: int):
    """Catches maps that collide or waste numbers: against all subsets, by brute force."""
    sets = [list(one) for one in combinations(range(size), members)]
    assert sorted(map(set_number, sets)) == list(range(comb(size, members)))
    assert all(numbered_set(set_number(one), size, members) == one for one in sets)


@pytest.mark.parametrize(("selection", "num_tokens"), list(product(["surprisal", "random"], [0, 1, 2, 17, 700])))
def test_what_is_sent_arrives_as_it_was(selection: str, num_tokens: int):
    """Catches misplaced tokens, and the empty and the one-token item."""
    tokens = Tokens(TEXT.values[:num_tokens], 256)
    (packets, preamble), = uep(selection=selection).encode([tokens])
    evidence, = uep(selection=selection).receive([received(packets)], [preamble])
    assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])
    assert abs(int(evidence.known.sum()) - num_tokens / 2) <= max(packets.num_packets, 1) / 2
    assert evidence.bit_llr is None and np.all(packets.num_bits <= 128)


def test_the_most_surprising_of_each_class_are_sent():
    """Catches a sign, or a surprisal that is not that of the token: on a Markov source flips alone are surprising."""
    values = (np.cumsum(Key(4).child("flips").uniform(900) < 0.1) % 2).astype(np.int32)
    (packets, preamble), = uep(model=MARKOV, sent_fraction=0.3).encode([Tokens(values, 2)])
    evidence, = uep(model=MARKOV, sent_fraction=0.3).receive([received(packets)], [preamble])
    flipped = np.flatnonzero(np.diff(values)) + 1
    assert evidence.known[flipped].all() and 0.25 < evidence.known.mean() < 0.35


def test_surprisal_finds_what_random_sets_do_not():
    """Catches a selection that is ignored: unsent bytes of text must be far better predicted than chosen blindly."""
    frequencies, _ = NGram().tables(NGram().start(1), TEXT.values)
    bits = NGram().frequency_bits - np.log2(frequencies[np.arange(TEXT.values.size), TEXT.values])
    unsent = {}
    for selection in ("surprisal", "random"):
        (packets, preamble), = uep(selection=selection).encode([TEXT])
        evidence, = uep(selection=selection).receive([received(packets)], [preamble])
        unsent[selection] = bits[~evidence.known].mean()
    assert unsent["surprisal"] < 0.5 < 1.5 < unsent["random"]


def test_the_map_is_charged():
    """Catches a map that travels for nothing: bits are those of the code words and of log2 C(L, m), rounded up, a packet."""
    (packets, _), = uep(packet_bits=200, sent_fraction=0.4).encode([TEXT])
    sizes = np.diff(packets.bounds)
    expected = [np.ceil(log2(comb(size, round(0.4 * size)))) + 8 * round(0.4 * size) for size in sizes.tolist()]
    assert packets.num_bits.tolist() == expected
    (random, _), = uep(packet_bits=200, sent_fraction=0.4, selection="random").encode([TEXT])
    assert abs(int(random.num_bits.sum()) - 8 * 0.4 * TEXT.values.size) <= 4 * random.num_packets


def test_a_lost_packet_takes_only_its_own_tokens():
    """Catches maps that other packets need."""
    (packets, preamble), = uep().encode([TEXT])
    whole, = uep().receive([received(packets)], [preamble])
    holed, = uep().receive([received(packets, lost=(0, 3))], [preamble])
    gone = np.concatenate([packets.positions(0), packets.positions(3)])
    assert not holed.known[gone].any()
    kept = np.setdiff1d(np.arange(TEXT.values.size), gone)
    assert np.array_equal(holed.known[kept], whole.known[kept]) and np.array_equal(holed.values[kept], whole.values[kept])


def test_every_damaged_byte_is_an_ordinary_wrong_decode_or_a_dropped_packet():
    """Catches a crash on a map that is the number of no set, and words outside the vocabulary."""
    coder = SurprisalUep(model=Uniform(vocab_size=200), packet_bits=64, sent_fraction=0.5)
    tokens = Tokens(Key(5).child("tokens").integers(200, 30).astype(np.int32), 200)
    (packets, preamble), = coder.encode([tokens])
    dropped = 0
    for packet, byte, value in product(range(packets.num_packets), range(8), (0, 255, 170)):
        reception = received(packets)
        llr = reception.llr.copy()
        patch = np.unpackbits(np.array([value], np.uint8))[:max(0, llr.shape[1] - 8 * byte)]
        llr[packet, 8 * byte:8 * byte + 8] = np.where(patch, 50, -50)
        damaged = Reception(llr=llr, lost=reception.lost, crc_ok=reception.crc_ok, header=reception.header)
        evidence, = coder.receive([damaged], [preamble])
        assert np.all(evidence.values < 200)
        dropped += not evidence.known[packets.positions(packet)].any()
    assert dropped > 0


def test_unknown_bits_and_failed_checks_drop_the_packet():
    """Catches zeros read where nothing is known."""
    (packets, preamble), = uep().encode([TEXT])
    whole = received(packets)
    llr = whole.llr.copy()
    llr[0, 5] = 0
    unsure = Reception(llr=llr, lost=whole.lost, crc_ok=whole.crc_ok, header=whole.header)
    failed, = uep().receive([received(packets, crc_ok=False)], [preamble])
    holed, = uep().receive([unsure], [preamble])
    assert not failed.known.any()
    assert not holed.known[packets.positions(0)].any() and holed.known[packets.positions(1)].any()


def test_nonsense_is_refused():
    """Catches packets that hold nothing, and models of another vocabulary."""
    with pytest.raises(ValueError, match="coder.packet_bits must be >= 8"):
        uep(packet_bits=7).encode([TEXT])
    with pytest.raises(ValueError, match="vocabulary"):
        uep(model=MARKOV).encode([TEXT])
    with pytest.raises(ValueError, match="coder.model must be given.*name one"):
        uep(model=None).encode([TEXT])
    assert uep().receive([Reception(np.zeros((0, 0), np.float32), *np.zeros((2, 0), bool), np.zeros((0, 3), np.int32))],
                         [Preamble(0, 0)])[0].num_tokens == 0
