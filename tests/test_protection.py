"""Laws of protection: what parity restores, what it costs, and what is counted on the way."""

import numpy as np
import pytest

from channel_sim import arq
from channel_sim.arq import Arq
from channel_sim.bits import BinaryErasure, BinarySymmetric
from channel_sim.checks import RequestError
from channel_sim.interleaving import air_order
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.losses import GilbertElliott, Ideal, PacketLoss, PacketLossChannel
from channel_sim.parity import ReedSolomon
from channel_sim.priority import Priority
from channel_sim.protection import NoProtection, Repeat
from channel_sim.types import Packets, Tokens
from sources.fixed_length import FixedLength
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


@pytest.mark.parametrize("channel, cure", [
    (BinarySymmetric(), "crc16.*soft = false, or choose"),
    (BinarySymmetric(soft=True, crc="crc16"), "crc16.*soft = false, or choose"),
    (BinaryErasure(), "ones; choose a channel"), (BinaryErasure(crc="crc16"), "ones; choose a channel"),
    (CodedLink(esno_db=0.0, on_crc_failure="deliver"), 'crc16"\\) with on_crc_failure = "erase", or choose')], ids=repr)
def test_doubtful_deliveries_are_refused_with_the_cure(channel, cure):
    """Catches parity over packets whose errors nobody knows of, and a cure by a key that the channel lacks."""
    for refused in (lambda: ReedSolomon().check(channel), lambda: send(ReedSolomon(), coded_text(50), channel)):
        with pytest.raises(RequestError, match=f"reed_solomon.*{type(channel).__name__}.*{cure}"):
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


def chain_of(loss_rate: float, mean_burst: float) -> np.ndarray:
    """Gilbert's chain [from, to] over (arrives, lost)."""
    to_lost, to_arrive = loss_rate / (1 - loss_rate) / mean_burst, 1 / mean_burst
    return np.array([[1 - to_lost, to_lost], [to_arrive, 1 - to_arrive]])


@pytest.mark.parametrize("copies, depth", [(2, 1), (2, 5), (3, 1), (3, 4)])
def test_copies_leave_what_the_chain_says(copies, depth):
    """Catches copies that are not `depth` places apart, and a receiver that needs all of them: exactly, from the chain."""
    protection, packets = Repeat(copies=copies, interleave_depth=depth), packets_of([8] * 20)
    bursts, single = GilbertElliott(loss_rate=0.3, mean_burst_packets=4.0), PacketLoss(loss_rate=0.3)
    keys = [Key(7).child(trial) for trial in range(2_000)]
    step = np.linalg.matrix_power(chain_of(0.3, 4.0), depth)
    for channel, expected in ((bursts, 0.3 * step[1, 1] ** (copies - 1)), (single, 0.3**copies)):
        missing = sum(int(one.reception.lost[7]) for one in protection.send([packets] * len(keys), channel, keys))
        assert_rate(missing, len(keys), expected)


def test_copies_are_sent_as_the_docstring_draws_them():
    """Catches another order on the air."""
    assert (air_order([2] * 4, 1) // 2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (air_order([2] * 4, 2) // 2).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert (air_order([2] * 4, 4) // 2).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (air_order([2] * 3, 9) // 2).tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8, 50])
@pytest.mark.parametrize("sizes", [[], [3], [4] * 7, [20, 20, 19, 19, 19], [2] * 16, [5, 4]])
def test_rows_of_a_block_lie_depth_places_apart(sizes, depth):
    """Catches a row that is sent twice or never, and neighbours that stay neighbours where there are blocks enough."""
    order = air_order(sizes, depth)
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    places, first = np.argsort(order), 0
    apart = min(depth, len(sizes))
    for size in sizes:
        gaps = np.diff(places[first:first + size])
        assert np.all(gaps >= apart - (max(sizes) - min(sizes)) * apart)
        if len(set(sizes)) == 1 and size > 1:
            assert gaps.min() >= apart
        first += size


@pytest.mark.parametrize("protection", [NoProtection(interleave_depth=4), ReedSolomon(n=10, k=8, interleave_depth=3),
                                        Repeat(copies=2, interleave_depth=3), Arq(max_transmissions=3)], ids=repr)
@pytest.mark.parametrize("header_bits", [0, 32])
def test_what_arrives_by_another_order_is_what_was_sent(protection, header_bits):
    """Catches packets that come back at another one's place, and lost ones that leak."""
    packets = coded_text(333, header_bits=header_bits)
    for trial in range(20):
        for channel in (GilbertElliott(loss_rate=0.3), BinarySymmetric(flip_probability=0.002, crc="crc24a")):
            reception = send(protection, packets, channel, Key(8).child(trial)).reception
            assert_delivered(packets, reception, reception.crc_ok)
            assert not reception.llr[reception.lost].any() and np.all(reception.header[reception.lost] == -1)
    assert_delivered(packets, send(protection, packets, Ideal()).reception, slice(None))


def test_interleaving_turns_one_burst_into_single_losses():
    """Catches a depth that changes nothing: a burst of 6 on the air takes 2 of each of 3 blocks, which parity replaces."""
    packets, burst = coded_text(240), LosesRows(rows=tuple(range(6, 12)))
    assert send(ReedSolomon(n=10, k=8), packets, burst).reception.lost.any()
    assert not send(ReedSolomon(n=10, k=8, interleave_depth=3), packets, burst).reception.lost.any()
    lost = send(NoProtection(interleave_depth=4), packets_of([8] * 16), LosesRows(rows=(4, 5, 6, 7))).reception.lost
    assert np.flatnonzero(lost).tolist() == [1, 5, 9, 13]


def test_interleaved_parity_leaves_what_the_chain_says():
    """Catches a wrong distance on the air: packet 0 of a (4, 3) block is missing with the chain's steps of 5 places."""
    keys, packets = [Key(9).child(trial) for trial in range(2_500)], packets_of([8] * 15)
    step = np.linalg.matrix_power(chain_of(0.2, 3.0), 5)
    missing = 0.0
    for pattern in range(16):  # of the block's four rows, the first of them lost and any other too
        lost = [pattern >> row & 1 for row in range(4)]
        if lost[0] and sum(lost) > 1:
            missing += 0.2 * np.prod([step[a, b] for a, b in zip(lost, lost[1:], strict=False)])
    deliveries = ReedSolomon(n=4, k=3, interleave_depth=5).send(
        [packets] * len(keys), GilbertElliott(loss_rate=0.2, mean_burst_packets=3.0), keys)
    assert_rate(sum(int(one.reception.lost[0]) for one in deliveries), len(keys), missing)


@pytest.mark.parametrize("feedback_loss", [0.0, 0.25])
@pytest.mark.parametrize("channel", [PacketLoss(loss_rate=0.3), BinarySymmetric(flip_probability=0.0105, crc="crc16")], ids=repr)
def test_retransmission_follows_the_closed_form(channel, feedback_loss):
    """Catches a round too many or too few and lost feedback that costs nothing: p^m missing, (1 - c^m) / (1 - c) sent."""
    loss = 0.3 if isinstance(channel, PacketLoss) else 1 - (1 - 0.0105) ** 32  # 16 bits of payload and the CRC
    keys, packets, rounds = [Key(10).child(trial) for trial in range(2_000)], packets_of([16] * 3), 3
    deliveries = Arq(max_transmissions=rounds, feedback_loss_rate=feedback_loss).send([packets] * len(keys), channel, keys)
    assert_rate(sum(int(one.reception.lost[1]) for one in deliveries), len(keys), loss**rounds)
    again = 1 - (1 - loss) * (1 - feedback_loss)
    # every round's packets are a binomial share of the round before
    sent = np.array([one.ledger.transmissions for one in deliveries])
    expected = 3 * (1 - again**rounds) / (1 - again)
    assert abs(sent.mean() - expected) < 5 * sent.std() / np.sqrt(sent.size)
    assert abs(sent.mean() - 3 * (1 - loss**rounds) / (1 - loss)) > 10 * sent.std() / np.sqrt(sent.size) or not feedback_loss


def test_everything_that_is_sent_again_is_charged():
    """Catches retransmissions, copies or their headers and CRCs for nothing."""
    packets = coded_text(157)  # 16 packets, the last of 7 bytes
    for delivery, again in ((send(Arq(max_transmissions=2), packets, LosesRows(rows=(0, 3, 15), crc="crc16")), 3),
                            (send(Repeat(copies=3), packets, PacketLoss(crc="crc16")), 32)):
        ledger = delivery.ledger
        assert (ledger.coded_bits, ledger.parity_bits) == (157 * 8, 0)
        assert ledger.repeated_bits == (2 * 80 + 56 if again == 3 else 2 * 157 * 8)
        assert (ledger.transmissions, ledger.header_bits, ledger.crc_bits) == (16 + again, (16 + again) * 32, (16 + again) * 16)
        assert ledger.channel_uses == ledger.energy == (
            ledger.coded_bits + ledger.repeated_bits + ledger.header_bits + ledger.crc_bits)


def test_no_packet_is_sent_past_its_deadline():
    """Catches a deadline counted in rounds: packet 1 is missed at place 1 and would be sent again at place 8, packet 6 at 9."""
    packets, lossy = packets_of([8] * 8), LosesRows(rows=(1, 6))
    for deadline, missing in ((7, []), (6, [1]), (1, [1, 6]), (2, [1]), (None, [])):
        delivery = send(Arq(max_transmissions=2, deadline=deadline), packets, lossy)
        assert np.flatnonzero(delivery.reception.lost).tolist() == missing, deadline
        assert delivery.ledger.transmissions == 10 - len(missing)


def test_a_burst_goes_on_into_the_next_round():
    """Catches losses that begin anew with every round: four packets, of which the first lies as far from its second
    transmission as losses say."""
    keys, packets = [Key(11).child(trial) for trial in range(3_000)], packets_of([8])
    deliveries = Arq(max_transmissions=2).send([packets] * len(keys), GilbertElliott(loss_rate=0.3, mean_burst_packets=4.0), keys)
    assert_rate(sum(int(one.reception.lost[0]) for one in deliveries), len(keys), 0.3 * 0.75)


def test_what_is_late_is_counted_in_packet_times():
    """Catches a delay that is not that of the packet which completes the picture."""
    packets = packets_of([8] * 4)
    cases = [(NoProtection(), (), (0, 4)), (NoProtection(), (1,), (0, 3)),
             (NoProtection(interleave_depth=2), (), (0 + 1 - 1 + 0, 4)),  # 0 2 1 3: one packet a place later, one earlier
             (Repeat(copies=2), (), (0 + 1 + 2 + 3, 4)), (Repeat(copies=2), (0,), (1 + 1 + 2 + 3, 4)),
             (ReedSolomon(n=6, k=4), (1,), (4 - 1, 4)),  # the fourth packet to arrive is at place 4
             (Arq(max_transmissions=2), (1, 2), (4 - 1 + 5 - 2, 4))]
    for protection, lost, delay in cases:
        assert send(protection, packets, LosesRows(rows=lost)).counts["delay_packets"] == delay, (protection, lost)


@pytest.mark.parametrize("protection", [NoProtection(interleave_depth=3), ReedSolomon(interleave_depth=2), Repeat(copies=3),
                                        Arq(feedback_loss_rate=0.2, deadline=40), Priority(), Priority(target_uses=3000)], ids=repr)
@pytest.mark.parametrize("channel", [GilbertElliott(loss_rate=0.3), GilbertElliott(loss_rate=0.3, slot_bits=30),
                                     BinarySymmetric(flip_probability=0.002, crc="crc16")], ids=repr)
def test_a_protected_item_does_not_depend_on_its_neighbours(protection, channel):
    """Catches a round or draws that items share, and an item of no packets."""
    items, keys = [coded_text(count) for count in (0, 33, 160, 500)], [Key(12).child(item) for item in range(4)]
    for one, packets, key in zip(protection.send(items, channel, keys), items, keys, strict=True):
        alone = protection.send([packets], channel, [key])[0]
        assert np.array_equal(one.reception.llr, alone.reception.llr) and one.ledger == alone.ledger
        assert one.counts == alone.counts and one.card == alone.card


def test_copies_and_retransmission_refuse_doubtful_packets():
    """Catches a receiver that takes a wrong packet for a right one."""
    for protection in (Repeat(), Arq()):
        with pytest.raises(RequestError, match="BinarySymmetric delivers doubtful ones; give it a CRC"):
            protection.check(BinarySymmetric())


def test_rounds_end_with_the_last_packet(monkeypatch):
    """Catches rounds of nothing: with no packet missing one round is sent, however many there may be."""
    sent = []
    monkeypatch.setattr(arq, "_transmit", lambda *of, send=arq._transmit: sent.append(of) or send(*of))
    assert send(Arq(max_transmissions=1000), coded_text(50), Ideal()).ledger.repeated_bits == 0 and len(sent) == 1
    with pytest.raises(ValueError, match="max_transmissions"):
        Arq(max_transmissions=10**9)
