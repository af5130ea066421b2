"""Fixed-length coding: round trips, layout, and what is known after losses and soft bits."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import CERTAIN_LLR, Packets, Reception, Tokens
from sources.fixed_length import FixedLength

SIZES = (0, 1, 2, 63, 64, 65, 1000)


def random_tokens(num_tokens: int, vocab_size: int, label: str = "tokens") -> Tokens:
    return Tokens(Key(7).child(label, num_tokens).integers(vocab_size, num_tokens).astype(np.int32), vocab_size)


def received(packets: Packets, lost: tuple[int, ...] = (), crc_ok: bool = True) -> Reception:
    """What an error-free channel delivers, less the packets in `lost`; as wide as the longest that arrived."""
    gone = np.isin(np.arange(packets.num_packets), lost)
    width = int(packets.num_bits[~gone].max(initial=0))
    llr = np.where(gone[:, None], 0, np.where(packets.bits[:, :width], CERTAIN_LLR, -CERTAIN_LLR)).astype(np.float32)
    return Reception(llr=llr, lost=gone, crc_ok=~gone & crc_ok, header=np.where(gone[:, None], -1, packets.header).astype(np.int32))


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize("vocab_size", [2, 5, 256, 70_000])
@pytest.mark.parametrize("num_tokens", SIZES)
def test_round_trip(num_tokens: int, vocab_size: int, interleave: bool):
    """Catches lost, doubled or shifted tokens, bit order, and the empty and the one-token item."""
    tokens = random_tokens(num_tokens, vocab_size)
    coder = FixedLength(packet_bits=100, interleave=interleave)
    (packets, preamble), = coder.encode([tokens])
    evidence, = coder.receive([received(packets)], [preamble])
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
    assert evidence.bit_llr is None and evidence.vocab_size == vocab_size
    assert packets.num_bits.sum() == num_tokens * tokens.bits_per_token
    assert np.all(packets.num_bits <= 100)


def test_bits_are_most_significant_first():
    """Catches a swapped bit order, which a round trip can't see."""
    (packets, _), = FixedLength(packet_bits=8).encode([Tokens(np.array([0b10000011], np.int32), 256)])
    assert packets.bits.tolist() == [[1, 0, 0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("num_tokens", SIZES)
def test_interleaving_tiles_and_spreads(num_tokens: int):
    """Catches neighbours in one packet, and packets that differ in size by more than a token."""
    (packets, _), = FixedLength(packet_bits=64, interleave=True).encode([random_tokens(num_tokens, 256)])
    assert np.array_equal(np.sort(packets.order), np.arange(num_tokens))
    for packet in range(packets.num_packets):
        positions = packets.positions(packet)
        assert np.all(np.diff(positions) == packets.num_packets)
        assert 1 <= positions.size <= 8
        assert packets.header[packet].tolist() == [packet, positions[0], positions.size]


@pytest.mark.parametrize("num_packets", [8, 16, 64, 125, 255])
def test_a_burst_of_packets_leaves_isolated_holes(num_packets: int):
    """Catches interleavers that hand a burst of packets to a run of neighbouring tokens."""
    (packets, _), = FixedLength(packet_bits=64, interleave=True).encode([random_tokens(8 * num_packets, 256)])
    for first in range(num_packets - 2):
        lost = np.sort(np.concatenate([packets.positions(packet) for packet in range(first, first + 3)]))
        assert np.diff(lost).min() >= 2


@pytest.mark.parametrize("interleave", [False, True])
def test_a_lost_packet_erases_its_tokens_and_no_others(interleave: bool):
    """Catches a receiver that fills rows in the order of arrival, and one that needs the longest packet."""
    tokens = random_tokens(100, 256)
    coder = FixedLength(packet_bits=128, interleave=interleave)
    (packets, preamble), = coder.encode([tokens])
    for lost in [(0,), (3,), (6,), (0, 1, 2, 3, 4, 5), tuple(range(7))]:
        evidence, = coder.receive([received(packets, lost)], [preamble])
        gone = np.concatenate([packets.positions(packet) for packet in lost])
        assert np.array_equal(np.flatnonzero(~evidence.known), np.sort(gone))
        assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])
        assert evidence.bit_llr is None and evidence.erased[gone].all()


@pytest.mark.parametrize("interleave", [False, True])
def test_soft_bits_reach_their_token(interleave: bool):
    """Catches LLRs of one token given to another, and a known token that still carries LLRs."""
    coder = FixedLength(packet_bits=24, interleave=interleave)
    (packets, preamble), = coder.encode([random_tokens(10, 256)])
    clean = received(packets)
    llr = clean.llr.copy()
    llr[1, 8:16] = np.arange(1, 9)
    evidence, = coder.receive([Reception(llr, clean.lost, clean.crc_ok, clean.header)], [preamble])
    soft = packets.positions(1)[1]
    assert evidence.bit_llr is not None
    assert np.flatnonzero(~evidence.known).tolist() == [soft]
    assert evidence.bit_llr[soft].tolist() == list(range(1, 9))
    assert not np.any(np.delete(evidence.bit_llr, soft, axis=0))


def test_a_checked_packet_is_known_and_a_failed_one_is_soft():
    """Catches soft bits that stay soft although the CRC is right, and certain-looking bits trusted although it is not."""
    coder = FixedLength(packet_bits=16)
    tokens = random_tokens(4, 256)
    (packets, preamble), = coder.encode([tokens])
    llr = np.where(packets.bits, 3.0, -3.0).astype(np.float32)
    checked = Reception(llr, np.zeros(2, bool), np.array([True, False]), packets.header, crc_checked=True)
    evidence, = coder.receive([checked], [preamble])
    assert evidence.known.tolist() == [True, True, False, False]
    assert evidence.values.tolist() == [*tokens.values[:2], 0, 0]
    assert evidence.bit_llr is not None and np.array_equal(evidence.bit_llr[2:], llr[1].reshape(2, 8))
    failed, = coder.receive([received(packets, crc_ok=False)], [preamble])
    assert not failed.known.any() and failed.bit_llr is not None


def test_certain_bits_that_are_no_token_become_unknown():
    """Catches a value outside the vocabulary in the evidence, and soft bits made of it."""
    coder = FixedLength(packet_bits=9)
    (packets, preamble), = coder.encode([Tokens(np.array([4, 0, 1], np.int32), 5)])
    clean = received(packets)
    llr = clean.llr.copy()
    llr[0, :3] = CERTAIN_LLR  # 7 of 5
    evidence, = coder.receive([Reception(llr, clean.lost, clean.crc_ok, clean.header)], [preamble])
    assert evidence.known.tolist() == [False, True, True] and evidence.bit_llr is None


def test_a_row_that_is_too_short_or_too_long_is_no_error():
    """Catches an index error where a channel delivers another width than the sender's."""
    coder = FixedLength(packet_bits=32)
    tokens = random_tokens(8, 256)
    (packets, preamble), = coder.encode([tokens])
    clean = received(packets)
    for width in (0, 1, 12, 31, 40):
        llr = np.zeros((2, width), np.float32)
        llr[:, :32] = clean.llr[:, :width]
        evidence, = coder.receive([Reception(llr, clean.lost, clean.crc_ok, clean.header)], [preamble])
        assert evidence.known.sum() == 2 * (min(width, 32) // 8)
        assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])


def test_items_do_not_depend_on_their_neighbours():
    """Catches a batch that shares its width, its packet number or its soft bits."""
    coder = FixedLength(packet_bits=40, interleave=True)
    items = [random_tokens(size, 256, "batch") for size in SIZES]
    together = coder.encode(items)
    alone = [coder.encode([item])[0] for item in items]
    receptions = [received(packets, (1,)) for packets, _ in together]
    evidence = coder.receive(receptions, [preamble for _, preamble in together])
    for pair, single, reception, one in zip(together, alone, receptions, evidence, strict=True):
        assert np.array_equal(pair[0].bits, single[0].bits) and pair[1] == single[1]
        by_itself, = coder.receive([reception], [pair[1]])
        assert np.array_equal(by_itself.values, one.values) and np.array_equal(by_itself.known, one.known)


def test_vocabulary_that_the_scenario_tells_costs_no_preamble():
    """Catches a vocabulary sent twice, and one that silently differs from the tokens'."""
    (_, told), = FixedLength(vocab_size=256).encode([random_tokens(9, 256)])
    (_, sent), = FixedLength().encode([random_tokens(9, 256)])
    assert (told.choices, sent.choices) == ((), (256,)) and told.num_bits == sent.num_bits - 16
    with pytest.raises(ValueError, match="vocab_size must be that of the tokens, 256, got 2"):
        FixedLength(vocab_size=2).encode([random_tokens(9, 256)])


def test_a_packet_that_holds_no_token_is_refused():
    """Catches a division by zero where a cure could be named."""
    with pytest.raises(ValueError, match="packet_bits must be >= 8.*got 7"):
        FixedLength(packet_bits=7).encode([random_tokens(9, 256)])
