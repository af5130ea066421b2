"""Laws of unequal loss protection: what comes through with how many packets, what it costs, and how shares are found."""

from itertools import chain, combinations, combinations_with_replacement

import numpy as np
import pytest
from scipy.stats import binom

from channel_sim.bits import BinarySymmetric
from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.losses import Ideal, PacketLoss
from channel_sim.parity import ReedSolomon
from channel_sim.priority import Priority
from channel_sim.theory.priority import best_layers, mean_quality
from tests.laws import assert_rate
from tests.test_losses import packets_of
from tests.test_protection import LosesRows, assert_delivered, coded_text, send


@pytest.mark.parametrize("n, k", [(1, 1), (8, 8), (10, 7), (20, 16), (255, 200)])
def test_one_layer_is_reed_solomon_byte_for_byte(n, k):
    """Catches another order of rows, another code, and rows of a block beyond repair that are thrown away."""
    packets, alike = coded_text(10 * k, header_bits=0), (Priority(n=n, needed=(k,)), ReedSolomon(n=n, k=k))
    sent = [protection.send([packets], Ideal(), [Key(1)])[0] for protection in alike]
    for trial in range(30):
        channel, key = PacketLoss(loss_rate=0.25, crc="crc16"), Key(2).child(trial)
        ours, theirs = (send(protection, packets, channel, key) for protection in alike)
        for field in ("llr", "lost", "crc_ok", "header"):
            assert np.array_equal(getattr(ours.reception, field), getattr(theirs.reception, field)), field
        assert ours.counts == theirs.counts and ours.card == theirs.card
        assert ours.ledger.side_bits == 8 and ours.ledger.channel_uses == theirs.ledger.channel_uses + 8
        for field in ("coded_bits", "parity_bits", "header_bits", "crc_bits", "padding_bits", "transmissions"):
            assert getattr(ours.ledger, field) == getattr(theirs.ledger, field), field
    assert sent[0].ledger.coded_bits == 80 * k


def test_what_is_on_the_air_is_what_reed_solomon_sends():
    """Catches parity that only its own decoder understands: the bits on the air, row by row."""
    on_air = []

    class Listens(PacketLoss):
        def transmit(self, packets, keys):
            on_air.append(packets[0].bits)
            return super().transmit(packets, keys)

    packets = coded_text(160, header_bits=0)
    for protection in (Priority(n=20, needed=(16,)), ReedSolomon(n=20, k=16)):
        send(protection, packets, Listens(loss_rate=0.1))
    assert np.array_equal(*on_air) and on_air[0].shape == (20, 80)


def test_every_pattern_of_losses_leaves_what_the_layers_say():
    """Catches layers solved with too few or refused with enough packets, and rows that are known and not kept: all 64 patterns
    of losses of 6 packets, each byte by the definition of a systematic code."""
    packets = packets_of([8] * (2 * 3 + 4 * 2 + 6 * 1))
    protection = Priority(n=6, needed=(2, 4, 6), shares=(3, 2, 1))
    row_of_byte = [(2, byte // 3) for byte in range(6)] + [(4, byte // 2) for byte in range(8)] + [(6, byte) for byte in range(6)]
    for lost in chain.from_iterable(combinations(range(6), count) for count in range(7)):
        reception = send(protection, packets, LosesRows(rows=lost)).reception
        expected = [6 - len(lost) >= needed or row not in lost for needed, row in row_of_byte]
        assert reception.lost.tolist() == [not known for known in expected], lost
        assert_delivered(packets, reception, ~reception.lost) if len(lost) < 6 else None


@pytest.mark.parametrize("loss_rate", [0.1, 0.4])
def test_layers_come_through_with_the_binomial_law(loss_rate):
    """Catches a layer that needs one packet more or less than it says: whole if and only if so many of 10 arrive."""
    packets, needed = packets_of([8] * (3 * 2 + 6 * 2 + 9 * 2)), (3, 6, 9)
    keys = [Key(3).child(trial) for trial in range(1_000)]
    deliveries = Priority(n=10, needed=needed, shares=(2, 2, 2)).send([packets] * len(keys), PacketLoss(loss_rate=loss_rate), keys)
    for layer, first, end in zip(needed, (0, 6, 18), (6, 18, 36), strict=True):
        whole = sum(not one.reception.lost[first:end].any() for one in deliveries)
        assert_rate(whole, len(keys), binom.sf(layer - 1, 10, 1 - loss_rate))
    ends = [int(np.argmax(np.append(one.reception.lost, True))) for one in deliveries]
    assert all(end >= 6 for end, one in zip(ends, deliveries, strict=True) if one.counts["packet_loss_rate"][0] <= 7)


@pytest.mark.parametrize("header_bits", [0, 32])
@pytest.mark.parametrize("num_tokens", [1, 15, 160, 2570])
@pytest.mark.parametrize("protection", [Priority(), Priority(n=9, needed=(2, 3, 9), shares=(0.1, 0.2, 5.0)),
                                        Priority(n=1, needed=(1,))], ids=repr)
def test_without_losses_all_comes_back(protection, num_tokens, header_bits):
    """Catches bytes that fall between two layers, packets too short by one, and headers that do not come back."""
    packets = coded_text(num_tokens, header_bits=header_bits)
    delivery = send(protection, packets, Ideal())
    assert_delivered(packets, delivery.reception, slice(None))
    packet_bits = (delivery.ledger.channel_uses - delivery.ledger.side_bits) // protection.n
    packet_bytes = (packet_bits - header_bits) // 8
    size = packets.num_packets * (min(num_tokens, 10) + (2 * (1 if num_tokens < 256 else 2) if header_bits else 0))
    assert protection.capacity(packet_bytes) >= size > protection.capacity(packet_bytes - 1)


def test_everything_is_charged():
    """Catches parity, padding, headers or side information sent for nothing: 60 bytes in layers of 4, 6 and 8 rows."""
    packets = coded_text(50)  # 5 packets of 10 bytes of text and 2 of first token and count
    ledger = send(Priority(n=8, needed=(4, 6, 8), shares=(1, 1, 2)), packets, PacketLoss(crc="crc16")).ledger
    packet_bytes, capacity = 10, 3 * 4 + 2 * 6 + 5 * 8  # edges ceil(2.5), ceil(5), 10; 9 bytes hold 56
    assert (ledger.coded_bits, ledger.parity_bits) == (400, 8 * (3 * 4 + 2 * 2))
    assert (ledger.header_bits, ledger.crc_bits, ledger.transmissions) == (8 * 32 + 5 * 16, 8 * 16, 8)
    assert ledger.padding_bits == 8 * (capacity - 60) and ledger.side_bits == 8
    assert ledger.channel_uses == ledger.energy == 8 * (8 * packet_bytes + 32 + 16) + 8


@pytest.mark.parametrize("header_bits", [0, 32])
@pytest.mark.parametrize("factor", [0.0, 0.2, 0.7, 1.0, 2.0])
def test_target_uses_is_filled_and_never_passed(factor, header_bits):
    """Catches an arm that spends more than its share, and one that leaves room for another byte of every packet."""
    packets, channel = coded_text(700, 8, header_bits=header_bits), PacketLoss(crc="crc16")
    whole = send(Priority(), packets, channel).ledger.channel_uses
    target = int(whole * factor)
    delivery = send(Priority(target_uses=target), packets, channel)
    uses = delivery.ledger.channel_uses
    assert uses <= target
    assert uses > target - 16 * 8 or uses == whole or target < 16 * (header_bits + 16)
    delivered = np.flatnonzero(~delivery.reception.lost)
    assert np.array_equal(delivered, np.arange(delivered.size))  # a prefix
    assert delivered.size == 700 if factor >= 1 else delivered.size < 700
    assert_delivered(packets, delivery.reception, delivered)


@pytest.mark.parametrize("target", [0, 5, 7])
def test_nothing_sent_costs_nothing(target):
    """Catches side information about packets of which none is sent, and a target that it alone exceeds."""
    ledger = send(Priority(target_uses=target), coded_text(50), PacketLoss(crc="crc16")).ledger
    assert ledger.transmissions == ledger.channel_uses == ledger.side_bits == ledger.energy == 0


def test_more_arrivals_never_shorten_the_prefix():
    """Catches layers out of order: over all counts of arrivals, the prefix of a stream of bytes."""
    packets, protection = coded_text(700, 8, header_bits=0), Priority(n=16, needed=(3, 7, 8, 12, 15), shares=(5, 1, 4, 2, 9))
    prefixes = []
    for arrived in range(17):
        order = np.argsort(Key(4).uniform(16))
        reception = send(protection, packets, LosesRows(rows=tuple(order[arrived:].tolist()))).reception
        prefixes.append(int(np.argmax(np.append(reception.lost, True))))
    assert prefixes == sorted(prefixes) and prefixes[-1] == 700 and len(set(prefixes)) >= 5


def test_a_missed_error_is_counted_and_never_crashes():
    """Catches impossible headers made by bad rows, and wrong packets that pass for right ones."""
    packets, keys = coded_text(160), [Key(6).child(trial) for trial in range(200)]
    deliveries = Priority().send([packets] * 200, BinarySymmetric(flip_probability=0.01, crc="crc6"), keys)
    assert sum(one.counts["undetected_error_rate"][0] for one in deliveries) > 0
    for one in deliveries:
        assert one.reception.header.min() >= -1 and one.reception.header[:, 1:].max() <= 160


@pytest.mark.parametrize("fields, complaint", [
    ({"n": 8, "needed": (4, 9)}, r"needed must rise .* n=8 at most, got \[4, 9\]: put what matters most first"),
    ({"needed": (8, 8)}, r"needed must rise .* got \[8, 8\]"), ({"needed": (0, 8)}, r"from 1 to n=16 at most, got \[0, 8\]"),
    ({"needed": (4, 8), "shares": (1.0,)}, r"shares must be as many as needed=\[4, 8\].* got \[1.0\]: give one for each layer"),
    ({"needed": (4, 8), "shares": (1.0, 0.0)}, r"above 0, got \[1.0, 0.0\]"), ({"needed": ()}, "needed"),
    ({"n": 256}, "less than or equal to 255")], ids=repr)
def test_impossible_profiles_are_refused(fields, complaint):
    """Catches layers in the wrong order, a share too few, and codes past the field."""
    with pytest.raises(ValueError, match=complaint):
        Priority(**fields)


def test_doubtful_deliveries_are_refused():
    """Catches parity over packets whose errors nobody knows of."""
    with pytest.raises(RequestError, match="priority.*BinarySymmetric delivers doubtful ones; give it a CRC"):
        Priority().check(BinarySymmetric())


def by_definition(quality, loss_rate, n, needed, shares):
    """Mean quality of the prefix, over all 2^n patterns of losses."""
    mean = 0.0
    for pattern in range(2**n):
        lost = [pattern >> packet & 1 for packet in range(n)]
        prefix, run = 0, lost.index(1) if any(lost) else n
        for layer, width in zip(needed, shares, strict=True):
            solved = n - sum(lost) >= layer
            prefix += width * (layer if solved else min(run, layer))
            if not solved and run < layer:
                break
        mean += loss_rate ** sum(lost) * (1 - loss_rate) ** (n - sum(lost)) * quality[prefix]
    return mean


def profiles(n, packet_bytes):
    """All layers that there can be, as (needed, shares)."""
    for of_bytes in combinations_with_replacement(range(1, n + 1), packet_bytes):
        needed = sorted(set(of_bytes))
        yield needed, [of_bytes.count(layer) for layer in needed]


@pytest.mark.parametrize("n, packet_bytes, loss_rate", [(4, 4, 0.1), (5, 3, 0.3), (6, 3, 0.5), (3, 1, 0.2)])
def test_the_best_layers_are_those_of_an_exhaustive_search(n, packet_bytes, loss_rate):
    """Catches layers out of order and a path that is not the best one's: all profiles, for concave, linear and ragged quality."""
    arrivals, size = binom.pmf(np.arange(n + 1), n, 1 - loss_rate), n * packet_bytes + 1
    for quality in (np.log2(1 + np.arange(size)), np.arange(size) * 1.0, np.cumsum(Key(7).child(n).uniform(size) ** 4)):
        needed, shares = best_layers(quality, arrivals, packet_bytes)
        best = max(by_definition(quality, loss_rate, n, *one) for one in profiles(n, packet_bytes))
        assert sum(shares) == packet_bytes
        assert by_definition(quality, loss_rate, n, needed, shares) == pytest.approx(best, abs=1e-12)
        assert mean_quality(quality, arrivals, needed, shares) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("loss_rate, needed", [(0.1, 13), (0.3, 9)])
def test_one_layer_is_worth_what_the_code_says(loss_rate, needed):
    """Catches rows counted twice: where only a whole layer is worth anything, k P(at least k of 16 arrive), best at these k."""
    arrivals, whole = binom.pmf(np.arange(17), 16, 1 - loss_rate), np.arange(17) * binom.sf(np.arange(17) - 1, 16, 1 - loss_rate)
    assert needed == np.argmax(whole)
    for layer in range(1, 17):
        quality = np.where(np.arange(16 * 20 + 1) >= layer * 20, layer, 0)
        assert mean_quality(quality, arrivals, [layer], [20]) == pytest.approx(whole[layer])


def test_what_layers_are_found_is_what_priority_sends():
    """Catches shares that mean something else to the protection: mean quality by its own losses, all 2^8 patterns."""
    arrivals, quality = binom.pmf(np.arange(9), 8, 0.8), np.sqrt(np.arange(8 * 6 + 1))
    needed, shares = best_layers(quality, arrivals, 6)
    protection = Priority(n=8, needed=needed, shares=tuple(map(float, shares)), target_uses=8 * 6 * 8 + 8)
    packets, mean = coded_text(48, 8, header_bits=0), 0.0
    for pattern in range(2**8):
        lost = tuple(packet for packet in range(8) if pattern >> packet & 1)
        missing = send(protection, packets, LosesRows(rows=lost)).reception.lost
        mean += 0.2 ** len(lost) * 0.8 ** (8 - len(lost)) * quality[int(np.argmax(np.append(missing, True)))]
    assert len(needed) > 1 and mean == pytest.approx(mean_quality(quality, arrivals, needed, shares))


def test_quality_that_ends_too_early_is_refused():
    """Catches an index past the end of the table instead of a reason."""
    with pytest.raises(ValueError, match="quality must reach 40 bytes, those of 4 packets of 10, got 39"):
        best_layers(np.arange(40.0), np.ones(5), 10)
