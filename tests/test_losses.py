"""Laws of the packet-loss processes."""

import hashlib
import pickle

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import GilbertElliott, Ideal, LossTrace, PacketLoss, PacketLossChannel
from channel_sim.types import Packets
from tests.laws import assert_rate

GENERAL = GilbertElliott(loss_rate=0.2, mean_burst_packets=2.5, loss_in_good=0.05, loss_in_bad=0.8)
PROCESSES = [
    PacketLoss(loss_rate=0.1),
    GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0),
    GilbertElliott(loss_rate=0.4, mean_burst_packets=1.2),
    GENERAL,
]


def packets_of(num_bits: list[int], header_bits: int = 0) -> Packets:
    """Packets without tokens, of the given payload sizes."""
    count = len(num_bits)
    bits = (np.arange(count)[:, None] + np.arange(max(num_bits, default=0))) % 2 * (
        np.arange(max(num_bits, default=0)) < np.array(num_bits, int)[:, None])
    return Packets(bits=bits.astype(np.uint8), num_bits=np.array(num_bits, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(count + 1, np.int32), header=np.zeros((count, 3), np.int32), header_bits=header_bits)


def runs(lost: np.ndarray) -> np.ndarray:
    """Lengths of the runs of lost slots, less those cut by either end."""
    edges = np.flatnonzero(np.diff(lost.astype(int)))
    lengths = np.diff(edges)
    return lengths[::2] if not lost[0] else lengths[1::2]


@pytest.mark.parametrize("channel", PROCESSES, ids=repr)
@pytest.mark.parametrize("packet", [0, 1, 29])
def test_every_packet_is_lost_at_loss_rate(channel, packet):
    """Catches a non-stationary start (packet 0) and a wrong transition (later packets)."""
    losses = [channel.lost_packets(packet + 1, Key(1).child("trial", i))[packet] for i in range(20_000)]
    assert_rate(sum(losses), len(losses), expected=channel.loss_rate)


@pytest.mark.parametrize("channel", PROCESSES[1:], ids=repr)
def test_the_mean_run_of_lost_slots_is_mean_burst_packets(channel):
    """Catches 1/r, the sojourn in the bad state, booked as the mean loss run where both states lose."""
    lengths = runs(channel.lost_packets(400_000, Key(2)))
    # runs are renewals only in Gilbert's chain, but nearly independent: 5 standard errors
    assert abs(lengths.mean() - channel.mean_burst_packets) < 5 * lengths.std() / np.sqrt(lengths.size)


def test_bursts_of_gilberts_chain_are_geometric():
    """Catches a burst law of the right mean and the wrong shape: P(burst = k) = (1 - r)^(k-1) r."""
    lengths = runs(GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0).lost_packets(400_000, Key(3)))
    for length in (1, 2, 5):
        assert_rate(int(np.sum(lengths == length)), lengths.size, expected=0.75 ** (length - 1) * 0.25)


@pytest.mark.parametrize("channel", PROCESSES[1:], ids=repr)
def test_losses_are_correlated_as_the_chain_says(channel):
    """Catches a chain of another memory: P(lost, and m slots later lost) = L² + λ^m (L - g)(b - L), one pair a trial."""
    to_bad, to_good = channel.transitions
    variance = (channel.loss_rate - channel.loss_in_good) * (channel.loss_in_bad - channel.loss_rate)
    for lag in (1, 3):
        draws = [channel.lost_packets(lag + 1, Key(4).child(i)) for i in range(20_000)]
        expected = channel.loss_rate**2 + (1 - to_bad - to_good) ** lag * variance
        assert_rate(sum(int(lost[0] and lost[lag]) for lost in draws), len(draws), expected)


def test_gilbert_parameters_are_the_published_ones():
    """Catches an exchanged good and bad: P = L / ((1 - L) B), r = 1/B."""
    assert GilbertElliott(loss_rate=0.2, mean_burst_packets=5).transitions == pytest.approx((0.05, 0.2), rel=1e-12)


def test_elliott_parameters_solve_loss_and_burst():
    """Catches an error in the closed form: the mean run from the chain itself, by linear algebra."""
    to_bad, to_good = GENERAL.transitions
    chain = np.array([[1 - to_bad, to_bad], [to_good, 1 - to_good]])
    loss = np.array([GENERAL.loss_in_good, GENERAL.loss_in_bad])
    stationary = np.array([to_good, to_bad]) / (to_good + to_bad)
    assert stationary @ loss == pytest.approx(GENERAL.loss_rate, rel=1e-12)
    begins = (stationary * (1 - loss)) @ chain * loss  # a loss right after an arrival, by state
    run = begins @ np.linalg.inv(np.eye(2) - chain * loss) @ np.ones(2) / begins.sum()
    assert run == pytest.approx(GENERAL.mean_burst_packets, rel=1e-12)


@pytest.mark.parametrize("channel", PROCESSES, ids=repr)
def test_draws_are_prefix_stable(channel):
    """Catches draws whose beginning depends on how many are asked for."""
    long = channel.lost_packets(1000, Key(5))
    for size in (0, 1, 7, 999):
        assert np.array_equal(channel.lost_packets(size, Key(5)), long[:size])


def test_losses_are_nested_in_loss_rate():
    """Catches thresholds that do not share their draws: what is lost at a low rate is lost at every higher one."""
    for low, high in [(0.01, 0.05), (0.05, 0.2), (0.2, 0.6)]:
        for of in (lambda rate: PacketLoss(loss_rate=rate), lambda rate: GilbertElliott(loss_rate=rate, mean_burst_packets=3.0),
                   lambda rate: GilbertElliott(loss_rate=rate, mean_burst_packets=3.0, loss_in_bad=0.9)):
            fewer, more = (of(rate).lost_packets(20_000, Key(6)) for rate in (low, high))
            assert np.all(more[fewer]) and more.sum() > fewer.sum()


@pytest.mark.parametrize("fields, rule", [
    (dict(loss_rate=0.8, mean_burst_packets=3.0), "mean_burst_packets must be >= 4"),
    (dict(loss_rate=0.1, mean_burst_packets=0.5), "greater than or equal to 1"),
    (dict(loss_rate=1.0), "less than 1"),
    (dict(loss_rate=0.1, loss_in_good=0.2), "loss_rate must lie between"),
    (dict(loss_rate=0.9, loss_in_bad=0.8), "loss_rate must lie between"),
    (dict(loss_rate=0.2, mean_burst_packets=9.0, loss_in_bad=0.5), "mean_burst_packets must be >= 1.* and < 2 "),
    (dict(loss_rat=0.2), "Extra inputs"),
])
def test_impossible_parameters_are_refused_with_the_rule(fields, rule):
    """Catches a chain whose transitions are no probabilities."""
    with pytest.raises(ValueError, match=rule):
        GilbertElliott(**fields)


def test_every_accepted_chain_is_a_probability():
    """Catches a rule that lets an impossible chain through, and one that refuses a possible one at the very bound."""
    for loss_rate in (0.05, 0.3, 0.5, 0.7, 0.9):
        shortest = max(1.0, loss_rate / (1 - loss_rate))
        for burst in (shortest, 1.5 * shortest, 100.0):
            to_bad, to_good = GilbertElliott(loss_rate=loss_rate, mean_burst_packets=burst).transitions
            assert 0 < to_bad <= 1 and 0 < to_good <= 1
            assert to_bad / (to_bad + to_good) == pytest.approx(loss_rate)


def test_a_sweep_may_begin_at_no_loss():
    """Catches a division by zero at loss_rate = 0."""
    for channel in (PacketLoss(loss_rate=0), GilbertElliott(loss_rate=0), Ideal()):
        assert not channel.lost_packets(1000, Key(7)).any()


class EverySeventh(PacketLossChannel):
    """Slots 3, 10, 17, … are lost."""

    def lost_packets(self, num_packets, key):
        return np.arange(num_packets) % 7 == 3


@pytest.mark.parametrize("header_bits, crc", [(0, "none"), (5, "crc6")])
def test_a_packet_is_lost_if_any_slot_it_touches_is(header_bits, crc):
    """Catches off-by-one slots and overhead left out: brute force over the bits on the air."""
    sizes = [1, 30, 10, 0, 9, 11, 64, 3, 200, 0]
    channel, packets = EverySeventh(slot_bits=10, crc=crc), packets_of(sizes, header_bits)
    lost = channel.transmit([packets], [Key(0)])[0].lost
    bit = 0
    for packet, size in enumerate(sizes):
        length = size + header_bits + channel.crc_bits
        slots = {position // 10 for position in range(bit, bit + length)}
        assert lost[packet] == any(slot % 7 == 3 for slot in slots)
        bit += length


def test_two_packetisations_meet_the_same_burst():
    """Catches losses that step a packet where slots are bits: big packets are lost iff one of their halves is."""
    channel = GilbertElliott(loss_rate=0.2, mean_burst_packets=3.0, slot_bits=64)
    small, big = packets_of([128] * 100), packets_of([256] * 50)
    halves, wholes = (channel.transmit([one], [Key(8)])[0].lost for one in (small, big))
    assert np.array_equal(wholes, halves.reshape(50, 2).any(axis=1)) and wholes.any()


def test_what_arrives_is_certain_and_what_is_lost_is_blank():
    """Catches LLRs of the wrong sign and lost packets that leak their bits."""
    packets = packets_of([4, 9, 6] * 20)
    channel = PacketLoss(loss_rate=0.3)
    reception = channel.receive(channel.transmit([packets], [Key(9)])[0])
    assert 0 < reception.lost.sum() < 60
    arrived = ~reception.lost
    assert np.array_equal(reception.hard_bits[arrived], packets.bits[arrived][:, :reception.llr.shape[1]])
    assert np.all(np.abs(reception.llr[arrived]) == 50) and not reception.llr[~arrived].any()


def test_no_packets_and_items_apart():
    """Catches an empty item and a batch whose items share a draw."""
    channel = GilbertElliott(slot_bits=8)
    first, empty, second = channel.transmit([packets_of([64] * 50), packets_of([]), packets_of([64] * 50)],
                                            [Key(1), Key(2), Key(3)])
    assert empty.lost.size == 0 and not np.array_equal(first.lost, second.lost)
    assert np.array_equal(second.lost, channel.transmit([packets_of([64] * 50)], [Key(3)])[0].lost)


def test_a_loss_trace_is_played_cyclically_from_a_drawn_phase(tmp_path):
    """Catches a phase that is always 0, white space read as losses, and a trace that ends."""
    path = tmp_path / "trace.txt"
    path.write_text("0 1 1\n0\t0 0\n")
    channel, trace = LossTrace(path=str(path)), [0, 1, 1, 0, 0, 0]
    phases = set()
    for trial in range(200):
        lost = channel.lost_packets(20, Key(10).child(trial)).astype(int).tolist()
        fits = [phase for phase in range(6) if lost == [trace[(phase + slot) % 6] for slot in range(20)]]
        assert len(fits) == 1
        phases.add(fits[0])
    assert phases == set(range(6))
    assert channel.loss_rate == pytest.approx(2 / 6)
    first = [channel.lost_packets(1, Key(11).child(trial))[0] for trial in range(20_000)]
    assert_rate(sum(first), len(first), 2 / 6)


def test_a_trace_is_known_by_its_content(tmp_path):
    """Catches a digest of the path, and a component that cannot go to a worker."""
    path = tmp_path / "trace.txt"
    path.write_text("0110")
    channel = LossTrace(path=str(path))
    assert channel.digests() == {"path": hashlib.sha256(b"0110").hexdigest()}
    assert pickle.loads(pickle.dumps(channel)) == channel


@pytest.mark.parametrize("content, rule", [("", "is empty"), (" \n", "is empty"), ("0102", "holds '2'"), (None, "No such file")])
def test_a_bad_trace_is_refused_with_path_rule_and_cure(tmp_path, content, rule):
    """Catches foreign files that are read as losses, and errors that do not say which file."""
    path = tmp_path / "trace.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rule) as error:
        LossTrace(path=str(path))
    assert str(path) in str(error.value)
