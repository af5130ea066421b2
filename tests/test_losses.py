"""Laws of the packet-loss processes."""

import hashlib
import os
import pickle

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.loss_law import chain_law, trace_law
from channel_sim.loss_trace import LossTrace, read_trace
from channel_sim.losses import GilbertElliott, Ideal, PacketLoss, PacketLossChannel, ThreeState, published_statistics
from channel_sim.types import Packets
from tests.laws import assert_rate

GENERAL = GilbertElliott(loss_rate=0.2, mean_burst_packets=2.5, loss_in_good=0.05, loss_in_bad=0.8)
PROCESSES = [
    PacketLoss(loss_rate=0.1),
    GilbertElliott(loss_rate=0.1, mean_burst_packets=4.0),
    GilbertElliott(loss_rate=0.4, mean_burst_packets=1.2),
    GENERAL,
    ThreeState(pattern="EP6"),
    ThreeState(stay_good=0.95, lost_to_good=0.1, stay_lost=0.5, stay_gap=0.7),
]
EPISODES = PROCESSES[-1]
PUBLISHED = {"EP1": (0.002076, 6.50), "EP2": (0.03105, 1.59), "EP3": (0.0645, 5.0), "EP4": (0.1383, 1.69), "EP5": (0.2143, 10.0),
             "EP6": (0.3240, 2.71)}
RUN_INSTEAD = {"EP2": (0.0310, 1.59), "EP3": (0.0588, 1.25), "EP5": (0.200, 2.5)}


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
def test_every_packet_is_lost_at_loss_rate(channel):
    """Catches a non-stationary start (packet 0) and a wrong transition (later packets)."""
    losses = np.array([channel.lost_packets(30, Key(1).child("trial", i)) for i in range(20_000)])
    for packet in (0, 1, 29):
        assert_rate(losses[:, packet].sum(), len(losses), expected=channel.loss_rate)


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


@pytest.mark.parametrize("channel", PROCESSES[1:4], ids=repr)
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


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_the_published_statistics_are_those_of_the_published_parameters(pattern):
    """Catches a mistyped probability of EP1 to EP6: loss rate and mean burst as they are published."""
    loss, burst = published_statistics(pattern)
    assert loss == pytest.approx(PUBLISHED[pattern][0], rel=2e-3) and burst == pytest.approx(PUBLISHED[pattern][1], abs=0.006)


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_a_named_chain_has_the_published_statistics_or_says_that_it_cannot(pattern):
    """Catches a chain that is no probability and runs in silence as another one; checked on what is drawn."""
    channel = ThreeState(pattern=pattern)
    loss, burst = RUN_INSTEAD.get(pattern, PUBLISHED[pattern])
    assert np.all(channel.transitions >= 0) and channel.transitions.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert channel.loss_rate == pytest.approx(loss, rel=2e-3) and channel.mean_burst_packets == pytest.approx(burst, abs=0.006)
    assert any(pattern in sentence for sentence in channel.assumed()) == (pattern in RUN_INSTEAD)
    first = [channel.lost_packets(3, Key(12).child(i))[2] for i in range(5_000)]
    assert_rate(sum(first), len(first), channel.loss_rate)


def test_bursts_and_gaps_of_the_three_state_chain_are_the_mixtures_it_promises():
    """Catches exchanged states: runs of losses are geometric, runs of arrivals a mixture of a long and a short geometric law."""
    lost = EPISODES.lost_packets(400_000, Key(13))
    bursts, gaps = runs(lost), runs(~lost)
    for length in (1, 2, 4):
        assert_rate(int(np.sum(bursts == length)), bursts.size, 0.5 ** length)
        expected = 0.2 * 0.95 ** (length - 1) * 0.05 + 0.8 * 0.7 ** (length - 1) * 0.3
        assert_rate(int(np.sum(gaps == length)), gaps.size, expected)


@pytest.mark.parametrize("channel", [*PROCESSES, ThreeState(pattern="EP4"), ThreeState(pattern="EP3")], ids=repr)
def test_a_channel_states_its_own_law(channel):
    """Catches a law of another process: loss, P(loss | loss) and autocorrelation of one pair a trial, two-sided, and bursts."""
    law, lag = channel.loss_law(), 4
    assert law.loss_rate == pytest.approx(channel.loss_rate, rel=1e-9)
    draws = np.array([channel.lost_packets(lag + 1, Key(14).child(i)) for i in range(12_000)])
    assert_rate(int(draws[:, 0].sum()), len(draws), law.loss_rate)
    for shift in (1, lag):
        joint = law.loss_rate**2 + law.autocorrelation[shift - 1] * law.loss_rate * (1 - law.loss_rate)
        assert_rate(int(np.sum(draws[:, 0] & draws[:, shift])), len(draws), joint)
    assert law.loss_given_loss == pytest.approx(joint_at(law, 1) / law.loss_rate, rel=1e-9)
    lengths = runs(channel.lost_packets(200_000, Key(15)))
    for length in (1, 3):
        assert_rate(int(np.sum(lengths == length)), lengths.size, law.bursts[length - 1])


def joint_at(law, lag):
    return law.loss_rate**2 + law.autocorrelation[lag - 1] * law.loss_rate * (1 - law.loss_rate)


def test_a_law_of_another_chain_is_noticed():
    """The negative control: the pairs of one chain do not pass for those of another with the same loss rate and mean burst."""
    draws = np.array([EPISODES.lost_packets(3, Key(16).child(i)) for i in range(20_000)])
    gilbert = GilbertElliott(loss_rate=EPISODES.loss_rate, mean_burst_packets=2.0).loss_law()
    with pytest.raises(AssertionError):
        assert_rate(int(np.sum(draws[:, 0] & draws[:, 2])), len(draws), joint_at(gilbert, 2))


def test_laws_agree_with_brute_force():
    """Catches an error in the matrix algebra: all 2^7 loss patterns of a hidden chain, each with its probability."""
    chain, loss = np.array([[0.8, 0.15, 0.05], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6]]), np.array([0.02, 0.9, 0.4])
    law = np.linalg.matrix_power(chain, 200)[0]
    probability = {}
    for pattern in range(2**7):
        lost = [pattern >> slot & 1 for slot in range(7)]
        state = law.copy()
        for slot, one in enumerate(lost):
            state = (state if slot == 0 else state @ chain) * (loss if one else 1 - loss)
        probability[tuple(lost)] = state.sum()
    stated = chain_law(chain, loss)
    share = lambda holds: sum(value for lost, value in probability.items() if holds(lost))  # noqa: E731
    rate = share(lambda lost: lost[0])
    begins = share(lambda lost: lost[:2] == (0, 1))
    assert stated.loss_rate == pytest.approx(rate) and stated.mean_burst == pytest.approx(rate / begins)
    for lag in (1, 5):
        assert joint_at(stated, lag) == pytest.approx(share(lambda lost: lost[0] and lost[lag]))
    for length in (1, 2, 5):
        assert stated.bursts[length - 1] == pytest.approx(share(lambda lost: lost[:length + 2] == (0, *[1] * length, 0)) / begins)


@pytest.mark.parametrize("fields", [dict(lost_to_good=0.8, stay_lost=0.8), dict(stay_good=1.0), dict(stay_gap=-0.1),
                                    dict(pattern="EP7")])
def test_impossible_three_state_chains_are_refused(fields):
    """Catches the published mistake: probabilities out of one state that add up to more than 1."""
    with pytest.raises(ValueError, match=r"lost_to_good \+ stay_lost must be <= 1|less than|greater than|EP1"):
        ThreeState(**fields)


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


def test_a_cut_trace_shows_only_stretches_that_were_measured(tmp_path):
    """Catches a stretch across the seam, phases that are left out, and an item that is longer than its stretch."""
    path = tmp_path / "trace.txt"
    path.write_text("0110001011")
    channel, seen = LossTrace(path=str(path), cut_slots=4), set()
    for trial in range(300):
        lost = "".join(map(str, channel.lost_packets(4, Key(17).child(trial)).astype(int)))
        assert lost in "0110001011"
        seen.add(lost)
        assert np.array_equal(channel.lost_packets(2, Key(17).child(trial)), channel.lost_packets(4, Key(17).child(trial))[:2])
    assert seen == {"0110001011"[phase:phase + 4] for phase in range(7)}
    with pytest.raises(ValueError, match="cut_slots must be >= the 5 slots of an item, got 4"):
        channel.lost_packets(5, Key(0))
    with pytest.raises(ValueError, match="cut_slots must be <= the 10 slots"):
        LossTrace(path=str(path), cut_slots=11)


@pytest.mark.parametrize("text", ["0110001011", "1100110101", "1000", "0001", "10", "0000", "1111", "1" * 9 + "0"])
def test_the_law_of_a_trace_is_what_is_counted_in_it(tmp_path, text):
    """Catches a burst across the seam that is counted twice, or cut in two: brute force over the trace read round."""
    (tmp_path / "trace.txt").write_text(text)
    law, lost = LossTrace(path=str(tmp_path / "trace.txt")).loss_law(), [digit == "1" for digit in text]
    assert law.loss_rate == pytest.approx(sum(lost) / len(lost))
    starts = [place for place in range(len(lost)) if lost[place] and not lost[place - 1]]
    lengths = [next(run for run in range(1, 99) if not lost[(start + run) % len(lost)]) for start in starts]
    if not lengths:
        assert law.mean_burst is None and not law.bursts
        return
    assert law.mean_burst == pytest.approx(np.mean(lengths))
    assert law.bursts[:12] == pytest.approx([lengths.count(length) / len(lengths) for length in range(1, 13)])
    for lag in (1, 2, 8):
        pairs = np.corrcoef(lost, np.roll(lost, -lag))[0, 1]
        assert law.autocorrelation[lag - 1] == pytest.approx(pairs)


def test_the_trace_that_is_read_is_the_one_on_file(tmp_path):
    """Catches a trace that stays in memory after its file was changed."""
    path = tmp_path / "trace.txt"
    path.write_text("0011")
    assert read_trace(str(path)).tolist() == [False, False, True, True] == trace_law_input(str(path))
    path.write_text("01")
    os.utime(path, ns=(1, 1))
    assert read_trace(str(path)).tolist() == [False, True]


def trace_law_input(path):
    """What `trace_law` is given: it must not depend on who asks."""
    assert trace_law(read_trace(path)).mean_burst == 2
    return read_trace(path).tolist()


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
