"""What flows through the chain: every invariant refuses its breach, and the arithmetic on bits agrees with a brute force."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import product
from typing import Any

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import (
    CERTAIN_LLR,
    Evidence,
    Origin,
    Packets,
    Preamble,
    Reception,
    Reconstruction,
    Tokens,
    bits_for,
    bits_to_tokens,
    hard_decision,
    token_bits,
)


def tokens(**changes: Any) -> Tokens:
    return Tokens(**{"values": np.array([0, 2, 1], np.int32), "vocab_size": 3} | changes)


def packets(**changes: Any) -> Packets:
    """Two packets of a three-token item of one bit a token; the second is the shorter one."""
    fields = {"bits": [[1, 0], [1, 0]], "num_bits": [2, 1], "order": [2, 0, 1], "bounds": [0, 2, 3],
              "header": [[0, 2, 2], [1, 1, 1]]}
    given = {name: np.array(value) for name, value in fields.items()}
    return Packets(**given | {"bits": given["bits"].astype(np.uint8)} | changes)


def reception(**changes: Any) -> Reception:
    """Three slots: one certain, one soft, one lost."""
    fields = {"llr": np.array([[50, -50], [3, -0.5], [0, 0]], np.float32), "lost": np.array([False, False, True]),
              "crc_ok": np.array([True, True, False]), "header": np.array([[0, 0, 1], [1, 1, 1], [-1, -1, -1]])}
    return Reception(**fields | changes)


def evidence(**changes: Any) -> Evidence:
    """Vocabulary of 3: a known token, a soft one, one erased, one of which a single bit is known."""
    fields = {"known": np.array([True, False, False, False]), "values": np.array([2, 0, 0, 0]), "vocab_size": 3,
              "bit_llr": np.array([[0, 0], [-1.5, 0.25], [0, 0], [2, 0]], np.float32)}
    return Evidence(**fields | changes)


def reconstruction(**changes: Any) -> Reconstruction:
    fields = {"values": np.array([2, 1, 0, 0]), "origin": np.array([0, 1, 2, 3], np.uint8),
              "confidence": np.array([1, 0.5, 0.25, 0], np.float32), "vocab_size": 3, "posterior": np.full((3, 3), 1 / 3)}
    return Reconstruction(**fields | changes)


RECORDS: list[Callable[..., Any]] = [tokens, packets, reception, evidence, reconstruction]


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_frozen_and_their_arrays_read_only(record):
    """Catches a decoder or channel that overwrites what another stage still holds."""
    one = record()
    for name, value in vars(one).items():
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, value)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0


@pytest.mark.parametrize("view", [lambda a: a[:], lambda a: a.reshape(3, 1)[:, 0], lambda a: np.broadcast_to(a, (3,)),
                                  lambda a: np.frombuffer(a.data, np.int32)])
def test_a_record_does_not_change_with_the_array_it_was_made_of(view):
    """Catches freezing a view, through which the owner of the memory still writes; read-only views are no exception."""
    owner = np.array([0, 2, 1], np.int32)
    one = Tokens(view(owner), 3)
    owner[:] = 0
    assert one.values.tolist() == [0, 2, 1]


def test_an_array_of_the_right_type_is_taken_without_a_copy():
    """Catches needless copies of LLRs, and negative control of the test above: an owner is frozen itself."""
    values = np.array([0, 1], np.int32)
    assert Tokens(values, 2).values is values
    assert Tokens(Tokens(values, 2).values[:1], 2).values.base is values, "a view of frozen memory needs no copy"


def test_numbers_are_cast_but_never_wrapped():
    """Catches 2^32 + 1 that passes as token 1, and fractions that pass as tokens."""
    assert Tokens(np.array([0, 1], np.int64), 2).values.dtype == np.int32
    assert evidence(bit_llr=np.ones((4, 2), np.float64)).bit_llr.dtype == np.float32
    for values in ([2**32 + 1], [-2**32], [0.5], ["1"]):
        with pytest.raises(ValueError, match="Tokens.values must|values of Tokens.values"):
            Tokens(np.array(values), 2)


@pytest.mark.parametrize("record, changes, rule", [
    (tokens, {"values": np.array([0, 3])}, "must lie in"),
    (tokens, {"values": np.array([-1, 0])}, "must lie in"),
    (tokens, {"values": np.zeros((3, 1), np.int32)}, "1 dimensions"),
    (tokens, {"vocab_size": 1, "values": np.zeros(1, np.int32)}, "vocab_size"),
    (tokens, {"grid": (2, 2)}, "does not hold 3 tokens"),
    (tokens, {"grid": (-1, -3)}, "does not hold 3 tokens"),
    (tokens, {"content_shape": (4, -1, 3)}, "content_shape"),
    (packets, {"bits": np.array([[1, 2], [1, 0]], np.uint8)}, "0 or 1"),
    (packets, {"bits": np.array([[1, 0], [1, 1]], np.uint8)}, "past num_bits"),
    (packets, {"num_bits": np.array([3, 1])}, "fit the rows"),
    (packets, {"num_bits": np.array([2, -1])}, "fit the rows"),
    (packets, {"num_bits": np.array([2])}, "shape"),
    (packets, {"order": np.array([0, 0, 1])}, "tile"),
    (packets, {"order": np.array([1, 2, 3])}, "tile"),
    (packets, {"order": np.array([0, 1])}, "bounds"),
    (packets, {"bounds": np.array([1, 2, 3])}, "bounds"),
    (packets, {"bounds": np.array([0, 4, 3])}, "bounds"),
    (packets, {"bounds": np.array([0, 2, 2])}, "bounds"),
    (packets, {"bounds": np.array([0, 3])}, "shape"),
    (packets, {"header": np.array([[0, 2, 2], [1, 1, 2]])}, "token count"),
    (packets, {"header": np.zeros((2, 2), int)}, "shape"),
    (packets, {"header_bits": -1}, "header_bits"),
    (packets, {"context": np.array([[0, 0], [0, 3]])}, "context"),
    (packets, {"context": np.array([[0, 0], [1, 0]])}, "context"),
    (packets, {"context": np.array([0, 1])}, "shape"),
    (packets, {"importance": np.ones(3)}, "shape"),
    (reception, {"llr": np.array([[1, 1], [1, 1], [0, 1]], np.float32)}, "lost packet must be 0"),
    (reception, {"llr": np.array([[1, np.nan], [1, 1], [0, 0]], np.float32)}, "finite"),
    (reception, {"llr": np.array([[1, np.inf], [1, 1], [0, 0]], np.float32)}, "finite"),
    (reception, {"llr": np.array([[1, -50.1], [1, 1], [0, 0]], np.float32)}, "<= 50"),
    (reception, {"llr": np.zeros(3, np.float32)}, "2 dimensions"),
    (reception, {"lost": np.array([False, True])}, "shape"),
    (reception, {"lost": np.array([0, 0, 1])}, "must be bool"),
    (reception, {"crc_ok": np.array([True, True, True])}, "no CRC"),
    (reception, {"header": np.array([[0, 0, 1], [1, 1, 1], [2, 2, 1]])}, "no header"),
    (evidence, {"values": np.array([2, 1, 0, 0])}, "unknown tokens must be 0"),
    (evidence, {"values": np.array([3, 0, 0, 0])}, "must lie in"),
    (evidence, {"values": np.array([-1, 0, 0, 0])}, "must lie in"),
    (evidence, {"values": np.array([2, 0, 0])}, "shape"),
    (evidence, {"bit_llr": np.zeros((4, 3), np.float32)}, "shape"),
    (evidence, {"bit_llr": np.full((4, 2), np.inf, np.float32)}, "finite"),
    (evidence, {"grid": (3, 2)}, "does not hold"),
    (evidence, {"content_shape": (-1,)}, "content_shape"),
    (reconstruction, {"values": np.array([3, 0, 0, 0])}, "must lie in"),
    (reconstruction, {"values": np.array([-1, 0, 0, 0])}, "must lie in"),
    (reconstruction, {"origin": np.array([0, 1, 2, 4], np.uint8)}, "origin"),
    (reconstruction, {"origin": np.array([0, 1, 2], np.uint8)}, "shape"),
    (reconstruction, {"confidence": np.array([1, 1.1, 0, 0], np.float32)}, "confidence"),
    (reconstruction, {"confidence": np.array([1, -0.1, 0, 0], np.float32)}, "confidence"),
    (reconstruction, {"confidence": np.array([1, np.nan, 0, 0], np.float32)}, "confidence"),
    (reconstruction, {"posterior": np.full((4, 3), 1 / 3)}, "shape"),
    (reconstruction, {"posterior": np.full((3, 3), 0.5)}, "probabilities"),
    (reconstruction, {"posterior": np.tile([1.5, -0.5, 0], (3, 1))}, "probabilities"),
    (reconstruction, {"posterior": np.full((3, 3), np.nan)}, "probabilities"),
    (reconstruction, {"grid": (5,)}, "does not hold"),
    (reconstruction, {"content_shape": (-1,)}, "content_shape"),
    (reconstruction, {"blend": np.full((4, 3), 1 / 3)}, "shape"),
    (reconstruction, {"blend": np.full((3, 2), 1 / 2)}, "shape"),
    (reconstruction, {"blend": np.full((3, 3), 0.5)}, "blend must be probabilities"),
    (reconstruction, {"blend": np.tile([1.5, -0.5, 0], (3, 1))}, "blend must be probabilities"),
    (reconstruction, {"draws": np.zeros(3, int)}, "2 dimensions"),
    (reconstruction, {"draws": np.zeros((2, 4), int)}, "rows? of 3 tokens"),
    (reconstruction, {"draws": np.zeros((0, 3), int)}, "at least one row"),
    (reconstruction, {"draws": np.array([[0, 1, 3]])}, "must lie in"),
    (reconstruction, {"draws": np.array([[0, 1, -1]])}, "must lie in"),
    (reconstruction, {"draws": np.full((2, 3), 0.5)}, "int32"),
])
def test_every_invariant_refuses_its_breach(record, changes, rule):
    """Catches an impossible record that flows on and ends as a wrong number in a report."""
    record()  # sound without the change
    with pytest.raises(ValueError, match=rule):
        record(**changes)


def test_what_is_empty_is_sound():
    """Catches a reduction over nothing: an item without tokens, packets or bits is a normal item."""
    none, no_bits = np.zeros(0, np.int32), np.zeros((0, 0), np.uint8)
    assert Tokens(none, 2).grid == (0,)
    assert Packets(no_bits, none, none, np.zeros(1, np.int32), np.zeros((0, 3), np.int32)).num_packets == 0
    nothing = Reception(np.zeros((2, 0)), np.ones(2, bool), np.zeros(2, bool), np.full((2, 3), -1))
    assert nothing.certain.shape == nothing.hard_bits.shape == (2, 0)
    one = hard_decision(Evidence(none.astype(bool), none, 256, bit_llr=np.zeros((0, 8), np.float32)))
    assert one.values.size == 0 and one.grid == (0,)


def test_the_grid_of_a_sequence_is_its_length_and_that_of_an_image_is_kept():
    """Catches a lattice that is flattened on its way from tokens to reconstruction."""
    assert tokens().grid == (3,) and evidence().grid == (4,) and reconstruction().grid == (4,)
    assert hard_decision(evidence(grid=(2, 2))).grid == (2, 2)


def test_a_hard_decision_keeps_the_shape_of_the_content():
    """Catches what arrived being shown without any restoring, which then cannot be decoded."""
    assert hard_decision(evidence(content_shape=(2, 5, 3))).content_shape == (2, 5, 3)


def test_what_stands_in_for_values_has_a_row_a_token_that_was_not_received():
    """Catches weights or draws for all tokens, and negative control of the refusals: sound ones are taken as they are."""
    weights, draws = np.full((3, 3), 1 / 3, np.float32), np.array([[0, 1, 2], [2, 2, 0]], np.int32)
    one = reconstruction(blend=weights, draws=draws)
    assert one.blend is weights and one.draws is draws
    all_received = {"origin": np.zeros(4, np.uint8), "posterior": None}
    nothing = reconstruction(**all_received, blend=np.zeros((0, 3), np.float32), draws=np.zeros((5, 0), np.int32))
    assert nothing.draws.shape == (5, 0)


def test_positions_of_the_packets_are_the_order_cut_at_the_bounds():
    """Catches an off-by-one between bounds and packets, and sorting the positions of an interleaved packet."""
    assert [packets().positions(k).tolist() for k in range(2)] == [[2, 0], [1]]


@pytest.mark.parametrize("vocab_size, width", [(2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (1000, 10), (1024, 10)])
def test_a_token_takes_the_least_bits_that_hold_the_vocabulary(vocab_size, width):
    """Catches log2 rounded the wrong way at powers of two."""
    assert bits_for(vocab_size) == width == tokens(values=np.zeros(1, np.int32), vocab_size=vocab_size).bits_per_token


@pytest.mark.parametrize("vocab_size", [2, 3, 256, 1000])
def test_tokens_come_back_from_their_bits_most_significant_first(vocab_size):
    """Catches least-significant-bit-first and a lost top bit; Python's own binary numerals are the reference."""
    values = np.arange(vocab_size)
    bits = token_bits(values, vocab_size)
    assert ["".join(map(str, row)) for row in bits] == [f"{value:0{bits_for(vocab_size)}b}" for value in values]
    assert bits.dtype == np.uint8 and np.array_equal(bits_to_tokens(bits), values)
    assert np.array_equal(bits_to_tokens(bits.astype(bool)), values)


def test_bits_may_say_what_is_no_token():
    """Catches clipping into the vocabulary: what decided wrongly must be seen to be wrong."""
    assert bits_to_tokens(np.ones((1, 2), np.uint8)).tolist() == [3]


def decode_leb128(data: bytes) -> list[int]:
    """Unsigned little-endian base 128, as in DWARF 5, section 7.6."""
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value, shift = 0, 0
    assert shift == 0, "the last number is cut off"
    return numbers


@pytest.mark.parametrize("preamble, numbers", [
    (Preamble(0, 0), [0, 0]),
    (Preamble(127, 128), [127, 128]),
    (Preamble(624485, 2**40, choices=(16383, 16384)), [624485, 2**40, 16383, 16384]),
    (Preamble(6, 1, grid=(2, 3), choices=(5,)), [6, 1, 2, 3, 5]),
    (Preamble(6, 1, grid=(6,)), [6, 1]),
    (Preamble(6, 1, grid=(2, 3), content_shape=(8, 300, 3), choices=(5,)), [6, 1, 2, 3, 8, 300, 3, 5]),
    (Preamble(0, 0, grid=(0, 3)), [0, 0, 0, 3]),
])
def test_a_preamble_is_sent_as_its_numbers(preamble, numbers):
    """Catches a wrong continuation bit, a forgotten number, and bits that are charged but not sent (or the reverse)."""
    assert decode_leb128(preamble.to_bytes()) == numbers
    assert preamble.num_bits == 8 * len(preamble.to_bytes())


def test_leb128_of_the_standard():
    """Catches big-endian digits, which the decoder above would share: 624485 is e5 8e 26."""
    assert Preamble(624485, 0).to_bytes() == b"\xe5\x8e\x26\x00"


@pytest.mark.parametrize("given", [{"num_tokens": -1}, {"num_packets": -1}, {"choices": (3, -1)}, {"grid": (2, 2)},
                                   {"content_shape": (-1,)}])
def test_a_preamble_of_impossible_numbers_is_refused(given):
    """Catches an endless loop: a negative number has no last base-128 digit."""
    with pytest.raises(ValueError, match="must be >= 0|does not hold"):
        Preamble(**{"num_tokens": 1, "num_packets": 1} | given)


def test_certain_means_checked_by_a_crc_or_certain_themselves():
    """Catches soft bits trusted without a CRC, a failed CRC trusted for its LLRs, and a lost packet trusted at all."""
    unchecked, checked = reception(), reception(crc_checked=True)
    assert unchecked.certain.tolist() == [[True, True], [False, False], [False, False]]
    assert checked.certain.tolist() == [[True, True], [True, True], [False, False]]
    failed = reception(crc_checked=True, crc_ok=np.array([False, True, False]))
    assert failed.certain.tolist() == [[False, False], [True, True], [False, False]]


def test_almost_certain_is_not_certain():
    """Catches a threshold below 50."""
    llr = np.array([[np.nextafter(np.float32(CERTAIN_LLR), np.float32(0)), -CERTAIN_LLR]], np.float32)
    one = Reception(llr, np.zeros(1, bool), np.ones(1, bool), np.zeros((1, 3), int))
    assert one.certain.tolist() == [[False, True]] and one.num_packets == 1


def test_hard_bits_follow_the_sign_and_an_unknown_bit_reads_0():
    """Catches the opposite LLR convention."""
    assert reception().hard_bits.tolist() == [[1, 0], [1, 0], [0, 0]] and reception().hard_bits.dtype == np.uint8


def test_erased_means_nothing_was_received():
    """Catches a partly known token, or a known one without soft bits, counted as erased."""
    assert evidence().erased.tolist() == [False, False, True, False]
    assert evidence(bit_llr=None).erased.tolist() == [False, True, True, True]
    assert evidence().num_tokens == 4


def test_log_likelihood_is_the_product_over_the_bits():
    """Catches a sign, bit order or row mix-up: against p(y | bit) multiplied out for every token, up to a factor a row."""
    llr = 3 * Key(1).normal(5, 3)
    one = Evidence(np.zeros(5, bool), np.zeros(5, np.int32), 6, bit_llr=llr)
    likelihood = np.zeros((5, 6))
    for position, token in product(range(5), range(6)):
        p_one = 1 / (1 + np.exp(-llr[position].astype(np.float32).astype(np.float64)))
        likelihood[position, token] = np.prod([p if bit == "1" else 1 - p for p, bit in zip(p_one, f"{token:03b}", strict=True)])
    positions = np.array([4, 0, 2])
    ours = np.exp(one.log_likelihood(positions))
    expected = likelihood[positions]
    assert ours / ours.sum(axis=1, keepdims=True) == pytest.approx(expected / expected.sum(axis=1, keepdims=True), rel=1e-12)


def test_log_likelihood_of_known_and_erased_tokens():
    """Catches a known token that leaks to others, and an erased one that prefers any."""
    table = evidence().log_likelihood(np.arange(4))
    assert table[0].tolist() == [-1e9, -1e9, 0] and table[2].tolist() == [0, 0, 0]
    assert table[3].tolist() == [0, 0, 2], "only the known top bit speaks"
    assert evidence(bit_llr=None).log_likelihood(np.array([1, 0])).tolist() == [[0, 0, 0], [-1e9, -1e9, 0]]


def test_hard_decision_decides_what_can_be_decided_and_gives_up_the_rest():
    """Catches a guess at an unknown bit, a decision outside the vocabulary, and a confidence that is not P(all bits right)."""
    llr = np.array([[0, 0], [-1.5, 0.25], [0, 0], [2, 0], [4, 1], [3, -2]])
    one = hard_decision(Evidence(np.arange(6) == 0, np.array([2, 0, 0, 0, 0, 0]), 3, bit_llr=llr))
    assert one.origin.tolist() == [Origin.RECEIVED, Origin.INFERRED, Origin.LOST, Origin.LOST, Origin.LOST, Origin.INFERRED]
    assert one.values.tolist() == [2, 1, 0, 0, 0, 2] and one.lost.tolist() == [o == Origin.LOST for o in one.origin]
    sure = [1 / ((1 + np.exp(-abs(a))) * (1 + np.exp(-abs(b)))) for a, b in llr]
    assert one.confidence == pytest.approx([1, sure[1], 0, 0, 0, sure[5]], rel=1e-6)


def test_confidence_of_a_hard_decision_is_calibrated():
    """Catches an LLR taken as log2 or halved: tokens sent as BPSK over Gaussian noise are right as often as is said."""
    num_tokens, noise_power = 20_000, 0.5
    bits = (Key(2).child("bits").uniform(num_tokens, 2) < 0.5).astype(int)
    received = (2 * bits - 1) + np.sqrt(noise_power) * Key(2).child("noise").normal(num_tokens, 2)
    unknown = np.zeros(num_tokens, bool)
    soft = np.clip(2 * received / noise_power, -CERTAIN_LLR, CERTAIN_LLR)
    one = hard_decision(Evidence(unknown, unknown.astype(int), 4, bit_llr=soft))
    right = one.values == bits_to_tokens(bits)
    assert calibration_error(right, one.confidence) < 5
    halved = hard_decision(Evidence(unknown, unknown.astype(int), 4, bit_llr=soft / 2))
    assert calibration_error(right, halved.confidence) > 20, "negative control"


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """How far the number of right decisions is from what their confidences say, in standard deviations."""
    said = confidence.astype(np.float64)
    return float(abs(np.sum(right - said)) / np.sqrt(np.sum(said * (1 - said))))
