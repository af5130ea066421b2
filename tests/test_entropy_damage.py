"""Entropy-coded packets past the channel: losses, damage and headers that lie end in unknown or wrong tokens, never in an error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from channel_sim.types import CERTAIN_LLR, Evidence, Packets, Reception, Tokens
from sources.coder import Entropy
from sources.models.model import CausalModel
from sources.models.uniform import Uniform
from tests.test_coder import random_tokens, received
from tests.test_entropy import CONTEXTS, Order2, RunningSum, drawn_from, got, sent


def with_bits(packets: Packets, bits: np.ndarray) -> Reception:
    llr = np.where(bits, CERTAIN_LLR, -CERTAIN_LLR).astype(np.float32)
    return replace(received(packets), llr=llr)


@pytest.mark.parametrize("context, first_needed", [("independent", [0, 1, 2, 3, 4]), ("chained", [0, 0, 0, 0, 0]),
                                                   ("restart:3", [0, 0, 0, 3, 3]), ("mdc:2", [0, 1, 0, 1, 0])])
def test_a_loss_takes_what_needs_the_lost_packet(context: str, first_needed: list[int]):
    """Catches a packet decoded without its context, and one given up although its context is there."""
    coder = Entropy(model=Uniform(), context=context, packet_bits=84)
    tokens = random_tokens(50, 256)
    packets, preamble = sent(coder, tokens)
    assert packets.context is not None
    step = 2 if context == "mdc:2" else 1
    assert packets.context.tolist() == [[first, packet, step] for packet, first in enumerate(first_needed)]
    for lost in [(0,), (1,), (2,), (4,), (1, 3), (0, 1, 2, 3, 4)]:
        evidence = got(coder, received(packets, lost), preamble)
        for packet, needed in enumerate(packets.context):
            usable = not set(lost) & {*range(*needed), packet}
            assert np.all(evidence.known[packets.positions(packet)] == usable)
        assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("model", [Order2(), RunningSum()], ids=repr)
def test_every_corrupted_byte_is_survived(model: CausalModel, context: str):
    """Catches a crash or a hang; some damage is noticed, where sealing the wrong tokens again gives other bits."""
    coder = Entropy(model=model, context=context, packet_bits=128)
    tokens = drawn_from(model, 300)
    packets, preamble = sent(coder, tokens)
    noticed = trials = 0
    for packet in range(3):
        for byte in range(packets.num_bits[packet] // 8):
            for error in (0xFF, 0x01, 0x80):
                bits = packets.bits.copy()
                bits[packet, 8 * byte:8 * byte + 8] ^= np.unpackbits(np.array([error], np.uint8))
                evidence = got(coder, with_bits(packets, bits), preamble)
                noticed += not evidence.known[packets.positions(packet)].any()
                trials += 1
                assert not np.array_equal(evidence.values, tokens.values)
                assert_right(evidence, tokens, before=packets.bounds[packet])
    assert noticed > trials / 10


def assert_right(evidence: Evidence, tokens: Tokens, *, before: int) -> None:
    known = np.flatnonzero(evidence.known[:before])
    assert np.array_equal(evidence.values[known], tokens.values[known])


def test_truncated_and_padded_packets():
    """Catches a decoder that needs the packet's length, and one that fails at a packet cut short."""
    coder = Entropy(model=Order2(), packet_bits=128)
    tokens = drawn_from(Order2(), 200)
    packets, preamble = sent(coder, tokens)
    for width in (0, 1, 40, 127):
        evidence = got(coder, with_bits(packets, packets.bits[:, :width]), preamble)
        right = [packet for packet in range(packets.num_packets) if packets.num_bits[packet] <= width]
        assert all(evidence.known[packets.positions(packet)].all() for packet in right)
    padded = np.concatenate([packets.bits, np.zeros((packets.num_packets, 77), np.uint8)], axis=1)
    assert got(coder, with_bits(packets, padded), preamble).known.all()
    padded[1, -1] = 1  # more than was sent: not this coder's packet
    assert not got(coder, with_bits(packets, padded), preamble).known[packets.positions(1)].any()


@pytest.mark.parametrize("context", ["independent", "restart:3", "mdc:2"])
def test_headers_that_lie(context: str):
    """Catches an index error, a hang, and tokens written twice, for headers that can't be true of their slot."""
    coder = Entropy(model=Uniform(), context=context, packet_bits=84)
    tokens = random_tokens(50, 256)
    packets, preamble = sent(coder, tokens)
    clean = received(packets)
    top = 2**31 - 1
    for slot in range(packets.num_packets):
        for column, lies in [(0, (-1, 9, top)), (1, (-1, -top, 3, 49, 50, top)), (2, (-1, 0, -top, 51, top))]:
            for lie in lies:
                header = clean.header.copy()
                header[slot, column] = lie
                evidence = got(coder, replace(clean, header=header), preamble)
                assert not evidence.known[packets.positions(slot)].all()
                assert_right(evidence, tokens, before=packets.bounds[slot])


@pytest.mark.parametrize("packet_bits", [8, 512, None])
def test_one_run_needs_no_header(packet_bits: int | None):
    """Catches headers charged or trusted where slot and preamble say it all, and a chain that pays for every cut."""
    coder = Entropy(model=Order2(), context="chained", packet_bits=packet_bits, header_bits=0)
    tokens = drawn_from(Order2(), 500)
    packets, preamble = sent(coder, tokens)
    assert packets.ideal_bits is not None and packets.num_bits.sum() <= packets.ideal_bits + 2
    for lost in range(packets.num_packets):
        reception = received(packets, (lost,))
        header = np.where(reception.lost[:, None], -1, [[7, 7, 7]]).astype(np.int32)
        evidence = got(coder, replace(reception, header=header), preamble)
        assert evidence.known.sum() == packets.bounds[lost]  # all that the packets before have settled
        assert np.array_equal(evidence.values[evidence.known], tokens.values[evidence.known])
    assert np.array_equal(got(coder, received(packets), preamble).values, tokens.values)


def test_what_makes_a_packet_usable():
    """Catches an erased bit read as 0, a failed CRC ignored, and soft bits refused where their signs are right."""
    coder = Entropy(model=Order2(), packet_bits=128)
    tokens = drawn_from(Order2(), 100)
    packets, preamble = sent(coder, tokens)
    clean = received(packets)
    soft = got(coder, replace(clean, llr=clean.llr / 25), preamble)
    assert soft.known.all() and np.array_equal(soft.values, tokens.values)
    llr = clean.llr.copy()
    llr[1, 5] = 0
    first, second = packets.positions(0), packets.positions(1)
    erased = got(coder, replace(clean, llr=llr), preamble)
    assert erased.known[first].all() and not erased.known[second].any()
    failed = got(coder, replace(clean, crc_ok=np.arange(packets.num_packets) != 1, crc_checked=True), preamble)
    assert failed.known[first].all() and not failed.known[second].any()


def test_nothing_of_a_lost_packet_reaches_the_receiver():
    """Catches a way from the sender to the receiver past the channel: items that differ only in what was lost."""
    coder = Entropy(model=Uniform(), packet_bits=84)
    tokens = random_tokens(50, 256)
    other = tokens.values.copy()
    other[10:20] = 255 - other[10:20]
    (packets, preamble), (others, other_preamble) = coder.encode([tokens, Tokens(other, 256)])
    assert not np.array_equal(packets.bits[1], others.bits[1]) and preamble == other_preamble
    mine, theirs = received(packets, (1,)), received(others, (1,))
    assert all(np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in ("llr", "lost", "crc_ok", "header"))
    assert np.array_equal(got(coder, mine, preamble).values, got(coder, theirs, other_preamble).values)
