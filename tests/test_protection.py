"""Laws of protection: what parity restores, what it costs, and what is counted on the way."""

import numpy as np
import pytest

from channel_sim.arq import Arq
from channel_sim.bits import BinaryErasure, BinarySymmetric
from channel_sim.checks import RequestError
from channel_sim.interleaving import air_order
from channel_sim.keys import Key
from channel_sim.losses import GilbertElliott, Ideal, PacketLoss, PacketLossChannel
from channel_sim.parity import ReedSolomon
from channel_sim.protection import NoProtection, Repeat
from channel_sim.types import Packets, Tokens
from sources.coder import FixedLength
from tests.laws import assert_rate
from tests.test_losses import packets_of


class LosesRows(PacketLossChannel):
    """Loses the rows that it is told to."""

    rows: tuple[int, ...] = ()

    def lost_packets(self, num_packets, key):
        return np.isin(np.arange(num_packets), self.rows)


def coded_text(num_tokens: int, packet_bits: int = 80, header_bits: int = 32, seed: int = 1) -> Packets:
    """Bytes in packets, first token and count in their headers; the last packet is shorter."""
    tokens = Tokens(Key(seed).integers(256, num_tokens).astype(np.int32), 256)
    return FixedLength(packet_bits=packet_bits, header_bits=header_bits).encode([tokens])[0][0]


def send(protection, packets, channel, key=Key(1)):
    return protection.send([packets], channel, [key])[0]


def assert_delivered(packets, reception, rows):
    """`rows` of the reception are exactly what was sent, header included."""
    width = min(reception.llr.shape[1], packets.bits.shape[1])
    assert not reception.lost[rows].any() and reception.crc_ok[rows].all()
    assert np.array_equal(reception.hard_bits[rows, :width], packets.bits[rows, :width])
    assert not reception.hard_bits[rows, width:].any() and not packets.bits[rows, width:].any()
    assert np.all(np.abs(reception.llr[rows]) == 50)
    assert np.array_equal(reception.header[rows], packets.header[rows])


@pytest.mark.parametrize("header_bits", [0, 32])
@pytest.mark.parametrize("num_tokens", [1, 15, 160, 2570, 70_000])
def test_parity_replaces_as_many_packets_as_there_is_parity(num_tokens, header_bits):
    """Catches wrong blocks, wrong sizes and headers that do not come back: lose n - k packets of each full block."""
    packets = coded_text(num_tokens, header_bits=header_bits)
    protection = ReedSolomon(n=20, k=16)
    sent = send(protection, packets, Ideal()).ledger.transmissions
    lost = tuple(row for row in range(sent) if row % 20 in (0, 3, 7, 19)) if packets.num_packets % 16 == 0 else (0,)
    assert_delivered(packets, send(protection, packets, LosesRows(rows=lost)).reception, slice(None))


def test_a_block_with_too_few_packets_keeps_those_that_arrived():
    """Catches an all-or-nothing decoder, lost packets that leak, and harm done to the block beside."""
    packets = coded_text(160 * 2)
    reception = send(ReedSolomon(n=20, k=16), packets, LosesRows(rows=(1, 2, 3, 4, 5, 20, 38))).reception
    assert np.flatnonzero(reception.lost).tolist() == [1, 2, 3, 4, 5]
    assert not reception.llr[1:6].any() and np.all(reception.header[1:6] == -1)
    assert_delivered(packets, reception, ~reception.lost)


def test_packets_of_any_size_come_back():
    """Catches padding that is not taken off again: payloads of 0 to 37 bits, each one lost in turn."""
    sizes = [37, 0, 5, 8, 16, 31, 1]
    packets = packets_of(sizes, header_bits=8)
    for row in range(7):
        delivery = send(ReedSolomon(n=8, k=7), packets, LosesRows(rows=(row,)))
        assert_delivered(packets, delivery.reception, slice(None))
    assert delivery.ledger.parity_bits == 40 + 0  # 37 bits in whole bytes; no tokens, so no header field to cover


@pytest.mark.parametrize("num_packets, data, parity", [
    (16, [16], [4]), (32, [16, 16], [4, 4]), (20, [10, 10], [3, 2]), (17, [9, 8], [3, 2]), (5, [5], [2]), (33, [11] * 3, [3] * 3),
])
def test_blocks_are_balanced_and_parity_is_in_proportion(num_packets, data, parity):
    """Catches a runt block and parity charged at full for a shortened one."""
    packets = packets_of([64] * num_packets)
    blocks = ReedSolomon(n=20, k=16)._blocks(packets, Ideal())
    assert [block.num_data for block in blocks] == data and [block.num_parity for block in blocks] == parity
    assert [block.first for block in blocks] == np.cumsum([0, *data[:-1]]).tolist()


def test_block_failure_and_residual_loss_follow_the_closed_form():
    """Catches a decoder that is better or worse than MDS: (10, 8) at 10 % loss fails .0701908 and leaves .0225 a packet."""
    packets = packets_of([16] * 8)
    keys = [Key(2).child(trial) for trial in range(10_000)]
    deliveries = ReedSolomon(n=10, k=8).send([packets] * len(keys), PacketLoss(loss_rate=0.1), keys)
    # a block fails unseen if only parity is lost beyond repair, so count one packet: systematic residual loss
    residual = sum(int(one.reception.lost[3]) for one in deliveries)
    assert_rate(residual, len(keys), 0.0225159)
    too_many = sum(one.counts["packet_loss_rate"][0] > 2 for one in deliveries)
    assert_rate(too_many, len(keys), 0.0701908)


def test_everything_is_charged():
    """Catches parity, its headers or its CRCs sent for nothing."""
    packets = coded_text(157)  # 16 packets, the last of 7 bytes
    ledger = send(ReedSolomon(n=20, k=16), packets, PacketLoss(crc="crc16")).ledger
    assert ledger.coded_bits == 157 * 8
    assert ledger.parity_bits == 4 * 8 * (10 + 2)  # two header fields of one byte
    assert (ledger.header_bits, ledger.crc_bits, ledger.transmissions) == (20 * 32, 20 * 16, 20)
    assert ledger.channel_uses == ledger.coded_bits + ledger.parity_bits + ledger.header_bits + ledger.crc_bits


@pytest.mark.parametrize("num_tokens", [8, 500, 4000])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3, 3.0, 40.0])
def test_target_uses_is_filled_and_never_passed(num_tokens, factor):
    """Catches an arm that spends more than its share, and one that leaves room for another parity packet."""
    packets, channel = coded_text(num_tokens), PacketLoss(loss_rate=0.3, crc="crc16")
    plain = send(NoProtection(), packets, channel).ledger
    target = int(plain.channel_uses * factor)
    delivery = send(ReedSolomon(target_uses=target), packets, channel)
    num_parity = delivery.ledger.transmissions - packets.num_packets
    parity_uses = 32 + 16 + 8 * (min(num_tokens, 10) + 2 * (1 if num_tokens < 256 else 2))
    assert delivery.ledger.parity_bits == num_parity * (parity_uses - 48)
    assert delivery.ledger.side_bits in (8, 16)
    if num_parity:
        assert delivery.ledger.channel_uses <= target
    full = num_parity == 254 * packets.num_packets
    assert full or delivery.ledger.channel_uses + parity_uses + 8 > target
    assert_delivered(packets, delivery.reception, ~delivery.reception.lost)


def test_with_room_for_much_parity_nothing_stays_lost():
    """Catches parity that target_uses sends but never decodes with, in one block and in several."""
    for num_tokens in (500, 4000):
        packets = coded_text(num_tokens)
        target = 3 * send(NoProtection(), packets, Ideal()).ledger.channel_uses
        delivery = send(ReedSolomon(target_uses=target), packets, PacketLoss(loss_rate=0.3))
        assert delivery.counts["packet_loss_rate"][0] > 0
        assert_delivered(packets, delivery.reception, slice(None))


@pytest.mark.parametrize("channel", [
    BinarySymmetric(), BinarySymmetric(soft=True, crc="crc16"), BinaryErasure(), BinaryErasure(crc="crc16")], ids=repr)
def test_doubtful_deliveries_are_refused_with_the_cure(channel):
    """Catches parity over packets whose errors nobody knows of."""
    for refused in (lambda: ReedSolomon().check(channel), lambda: send(ReedSolomon(), coded_text(50), channel)):
        with pytest.raises(RequestError, match=f"reed_solomon.*{type(channel).__name__}.*crc16"):
            refused()
    NoProtection().check(channel)


def test_a_failed_crc_is_an_erasure():
    """Catches wrong bits fed to the decoder: with errors found, packets of a bsc come back whole or are known to be bad."""
    packets = coded_text(160)
    keys = [Key(3).child(trial) for trial in range(50)]
    channel = BinarySymmetric(flip_probability=0.001, crc="crc24a")
    deliveries = ReedSolomon(n=20, k=16).send([packets] * 50, channel, keys)
    plain = NoProtection().send([packets] * 50, channel, keys)
    repaired = 0
    for protected, bare in zip(deliveries, plain, strict=True):
        assert_delivered(packets, protected.reception, protected.reception.crc_ok)
        repaired += int(protected.reception.crc_ok.sum() - bare.reception.crc_ok.sum())
        assert protected.counts["undetected_error_rate"] == (0, 16)
    assert repaired > 30


def test_a_missed_error_is_counted_and_never_crashes():
    """Catches impossible headers made by bad rows, and wrong packets that pass for right ones."""
    packets = coded_text(160)
    keys = [Key(4).child(trial) for trial in range(200)]
    deliveries = ReedSolomon(n=20, k=16).send([packets] * 200, BinarySymmetric(flip_probability=0.002, crc="crc6"), keys)
    assert sum(one.counts["undetected_error_rate"][0] for one in deliveries) > 0
    for one in deliveries:
        assert one.reception.header.min() >= -1 and one.reception.header[:, 1:].max() <= 160


def test_no_protection_delivers_what_the_channel_does():
    """Catches counts that look at blanked bits, and a ledger of its own."""
    packets = packets_of([100] * 500)
    channel = BinarySymmetric(flip_probability=0.01, crc="crc16")
    delivery = send(NoProtection(), packets, channel, Key(5))
    observation = channel.transmit([packets], [Key(5)])[0]
    assert np.array_equal(delivery.reception.llr, channel.receive(observation).llr)
    assert delivery.ledger == observation.ledger
    assert delivery.counts["bit_error_rate"] == (observation.state.payload.sum(), 50_000)
    assert_rate(int(delivery.counts["bit_error_rate"][0]), 50_000, 0.01)
    assert delivery.counts["packet_loss_rate"] == delivery.counts["residual_packet_loss_rate"] == (0, 500)
    assert "block_error_rate" not in delivery.counts


def test_unchecked_errors_are_undetected_errors():
    """Catches hard errors without a CRC that are counted nowhere, and soft bits that are counted as trusted."""
    packets = packets_of([100] * 500)
    hard = send(NoProtection(), packets, BinarySymmetric(flip_probability=0.01)).counts["undetected_error_rate"]
    assert_rate(int(hard[0]), 500, 1 - 0.99**100)
    assert hard[1] == 500
    assert send(NoProtection(), packets, BinarySymmetric(flip_probability=0.01, soft=True)).counts["undetected_error_rate"][0] == 0


def test_an_erased_bit_is_no_error_and_no_decision():
    """Catches erasures counted as bit errors."""
    packets = packets_of([100] * 100)
    wrong, decided = send(NoProtection(), packets, BinaryErasure(erasure_probability=0.25)).counts["bit_error_rate"]
    assert wrong == 0
    assert_rate(int(decided), 10_000, 0.75)


@pytest.mark.parametrize("protection", [NoProtection(), ReedSolomon(), ReedSolomon(target_uses=3000)], ids=repr)
def test_an_item_does_not_depend_on_its_neighbours(protection):
    """Catches a batch that shares draws, and an item of no packets."""
    items = [coded_text(count) for count in (0, 33, 160, 500)]
    keys = [Key(6).child(item) for item in range(4)]
    channel = GilbertElliott(loss_rate=0.3)
    together = protection.send(items, channel, keys)
    for one, packets, key in zip(together, items, keys, strict=True):
        alone = protection.send([packets], channel, [key])[0]
        assert np.array_equal(one.reception.llr, alone.reception.llr)
        assert np.array_equal(one.reception.header, alone.reception.header)
        assert one.ledger == alone.ledger and one.counts == alone.counts


def test_impossible_codes_are_refused():
    """Catches k > n and codes past the field."""
    with pytest.raises(ValueError, match="k must be <= n=10, got 12"):
        ReedSolomon(n=10, k=12)
    with pytest.raises(ValueError, match="less than or equal to 255"):
        ReedSolomon(n=256, k=16)
