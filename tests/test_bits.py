"""Laws of the binary channels."""

import numpy as np
import pytest

from channel_sim.bits import BinaryErasure, BinarySymmetric
from channel_sim.crc import crc
from channel_sim.keys import Key
from channel_sim.types import Packets
from tests.laws import assert_rate
from tests.test_losses import packets_of

CHANNELS = [BinarySymmetric(flip_probability=0.1), BinarySymmetric(flip_probability=0.1, soft=True),
            BinaryErasure(erasure_probability=0.1)]


def observe(channel, packets, key=Key(1)):
    observation = channel.transmit([packets], [key])[0]
    return observation, channel.detect(observation), channel.receive(observation)


def inside(packets: Packets) -> np.ndarray:
    return np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]


def test_bits_flip_at_flip_probability():
    """Catches a wrong rate and hits that go by the packet: one bit position at a time, and all of them."""
    packets = packets_of([100] * 2000)
    _, detection, reception = observe(BinarySymmetric(flip_probability=0.03), packets)
    wrong = (detection.llr > 0) != packets.bits
    for position in (0, 50, 99):
        assert_rate(int(wrong[:, position].sum()), 2000, 0.03)
    assert_rate(int(wrong.sum()), wrong.size, 0.03)
    assert not reception.lost.any() and reception.crc_ok.all() and not reception.crc_checked


def test_bits_are_erased_at_erasure_probability():
    """Catches erased bits that keep a sign and other bits that are not certain and right."""
    packets = packets_of([100, 37] * 1000)
    _, detection, reception = observe(BinaryErasure(erasure_probability=0.2), packets)
    erased = (detection.llr == 0) & inside(packets)
    assert_rate(int(erased.sum()), int(packets.num_bits.sum()), 0.2)
    kept = inside(packets) & ~erased
    assert np.array_equal((reception.llr > 0)[kept], packets.bits[kept] == 1) and np.all(np.abs(reception.llr[kept]) == 50)


def test_soft_decisions_carry_the_channels_own_reliability():
    """Catches the wrong sign or base of ±ln((1-q)/q), and certainty that is not there."""
    packets = packets_of([64] * 10)
    _, hard, _ = observe(BinarySymmetric(flip_probability=0.1), packets)
    _, soft, reception = observe(BinarySymmetric(flip_probability=0.1, soft=True), packets)
    assert np.array_equal(np.sign(hard.llr), np.sign(soft.llr))
    assert np.allclose(np.abs(soft.llr), np.log(9)) and not reception.certain.any()
    _, useless, _ = observe(BinarySymmetric(flip_probability=0.5, soft=True), packets)
    assert not useless.llr.any()


def test_a_stated_reliability_changes_no_flip():
    """Catches a receiver whose belief moves the channel, or is not heard; and a belief where bits are taken as certain."""
    packets = packets_of([64] * 10)
    _, true, _ = observe(BinarySymmetric(flip_probability=0.1, soft=True), packets)
    _, stated, _ = observe(BinarySymmetric(flip_probability=0.1, soft=True, stated_flip_probability=0.2), packets)
    assert np.array_equal(np.sign(true.llr), np.sign(stated.llr)) and np.allclose(np.abs(stated.llr), np.log(4))
    with pytest.raises(ValueError, match="stated_flip_probability needs soft = true"):
        BinarySymmetric(stated_flip_probability=0.2)
    with pytest.raises(ValueError, match="stated_flip_probability\n.*less than 0.5"):  # no bit would say anything
        BinarySymmetric(soft=True, stated_flip_probability=0.5)


@pytest.mark.parametrize("name", ["crc6", "crc16", "crc24a"])
def test_the_crc_is_that_of_the_received_bits(name):
    """Catches an error in the linear short cut: check the received payload against its received, flipped CRC."""
    channel = BinarySymmetric(flip_probability=0.01, crc=name)
    packets = packets_of([40, 8, 100] * 100)
    observation, detection, reception = observe(channel, packets)
    for row in range(300):
        size = packets.num_bits[row]
        check = crc(packets.bits[row, :size], name) ^ observation.state.check[row]
        received = (detection.llr[row, :size] > 0).astype(np.uint8)
        assert detection.crc_ok[row] == np.array_equal(crc(received, name), check)
    assert not reception.lost.any() and reception.crc_checked and 0 < (~reception.crc_ok).sum() < 300
    assert np.array_equal(reception.header, packets.header)


def test_a_short_crc_misses_its_share_of_errors():
    """Catches a CRC that knows the truth: crc6 misses 2^-6 of random-like errors."""
    packets = packets_of([200] * 20_000)
    observation, detection, _ = observe(BinarySymmetric(flip_probability=0.5, crc="crc6"), packets)
    assert_rate(int(detection.crc_ok.sum()), 20_000, 2.0**-6)


def test_a_crc_with_a_missing_bit_cannot_be_checked():
    """Catches a pass granted to packets with holes, and holes in the CRC itself that are overlooked."""
    packets = packets_of([1] * 20_000)
    _, detection, reception = observe(BinaryErasure(erasure_probability=0.02, crc="crc6"), packets)
    assert_rate(int(reception.crc_ok.sum()), 20_000, 0.98**7)
    assert not reception.crc_ok[detection.llr[:, 0] == 0].any()
    _, unchecked, _ = observe(BinaryErasure(erasure_probability=0.02), packets)
    assert unchecked.crc_ok.all()


def test_hits_are_nested_in_their_probability():
    """Catches draws that are not shared between the points of a sweep, and between the two channels."""
    packets = packets_of([500] * 10)
    few = observe(BinarySymmetric(flip_probability=0.05), packets)[0].state.payload
    more = observe(BinarySymmetric(flip_probability=0.3), packets)[0].state.payload
    erased = observe(BinaryErasure(erasure_probability=0.3), packets)[0].state.payload
    assert np.all(more[few]) and np.array_equal(more, erased)


def test_hits_belong_to_the_time_on_the_air():
    """Catches hits that depend on how bits are cut into packets, or on what comes after."""
    channel = BinarySymmetric(flip_probability=0.2)
    small, big, longer = packets_of([64] * 20), packets_of([128] * 10), packets_of([64] * 40)
    hits = [observe(channel, one)[0].state.payload.ravel() for one in (small, big, longer)]
    assert np.array_equal(hits[0], hits[1]) and np.array_equal(hits[0], hits[2][:hits[0].size])


def test_headers_and_crcs_take_their_time_on_the_air():
    """Catches hits assigned to the wrong bit where header and CRC lie between payloads: brute force."""
    channel, packets = BinarySymmetric(flip_probability=0.3, crc="crc6"), packets_of([5, 0, 17, 3], header_bits=4)
    state = observe(channel, packets, Key(5))[0].state
    uniform = Key(5).child("bit noise").uniform(4 * 4 + 25 + 4 * 6)
    bit = 0
    for row, size in enumerate([5, 0, 17, 3]):
        bit += 4
        assert np.array_equal(state.payload[row], np.append(uniform[bit:bit + size] < 0.3, np.zeros(17 - size, bool)))
        assert np.array_equal(state.check[row], uniform[bit + size:bit + size + 6] < 0.3)
        bit += size + 6


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
def test_an_empty_item_and_items_apart(channel):
    """Catches an item of no packets, and a batch whose items share a draw."""
    full = packets_of([50] * 10)
    first, empty, second = channel.transmit([full, packets_of([]), full], [Key(1), Key(2), Key(3)])
    assert channel.receive(empty).num_packets == 0
    assert not np.array_equal(first.state.payload, second.state.payload)
    assert np.array_equal(second.state.payload, channel.transmit([full], [Key(3)])[0].state.payload)


@pytest.mark.parametrize("cls, field, value", [
    (BinarySymmetric, "flip_probability", 0.6),
    (BinarySymmetric, "flip_probability", 0),
    (BinaryErasure, "erasure_probability", 1),
    (BinaryErasure, "erasure_probability", -1),
])
def test_impossible_probabilities_are_refused(cls, field, value):
    """Catches a channel whose LLRs have the wrong sign or are infinite."""
    with pytest.raises(ValueError, match=field):
        cls(**{field: value})
