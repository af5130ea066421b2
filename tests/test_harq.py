"""Retransmission with chase combining: what it gains, and what it is charged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from channel_sim import codes
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from tests.link_packets import Listener, random_packets, send

pytestmark = pytest.mark.sionna


def failures(channel: CodedLink, num_packets: int, key: Key = Key(1)) -> int:
    return int((~send(channel, random_packets([channel.block_bits - 16] * num_packets), key)[1].crc_ok).sum())


def test_a_packet_is_sent_again_only_after_it_failed():
    """Catches packets that are repeated without need: those that fail once are the same as without HARQ, and the last round too."""
    packets = random_packets([100, 300, 0, 80] * 50, header_bits=8)
    once = CodedLink(block_bits=128, ebno_db=1.0)
    again = once.model_copy(update={"max_transmissions": 3})
    failed = ~send(once, packets)[1].crc_ok
    observation, detection = send(again, packets)
    assert 20 < failed.sum() < 180
    assert not (~detection.crc_ok & ~failed).any() and (~detection.crc_ok).sum() < failed.sum() / 2
    assert observation.ledger.transmissions >= packets.num_packets + failed.sum()


def test_every_use_of_every_transmission_is_charged(monkeypatch: pytest.MonkeyPatch):
    """Catches retransmissions that are free: symbols on the air, counted; and bits, packet by packet."""
    from channel_sim import link
    original, listeners = link._propagation_of, []

    def listening(*values: object) -> Listener:
        listeners.append(Listener(original(*values)))
        return listeners[-1]

    monkeypatch.setattr(link, "_propagation_of", listening)
    packets = random_packets([100, 300, 0, 80] * 30, header_bits=8)
    observation, _ = send(CodedLink(block_bits=128, ebno_db=-1.0, max_transmissions=4, fading="rayleigh_block"), packets)
    sent = [symbols.size for one in listeners for symbols in one.sent]
    ledger = observation.ledger
    assert 2 < len(sent) <= 4 and ledger.channel_uses == ledger.energy == sum(sent)
    assert ledger.transmissions > packets.num_packets
    assert ledger.header_bits == 8 * ledger.transmissions and ledger.crc_bits == 16 * ledger.transmissions
    assert ledger.coded_bits == int(packets.num_bits.sum()) and ledger.repeated_bits > 0
    bits = ledger.coded_bits + ledger.repeated_bits + ledger.header_bits + ledger.crc_bits + ledger.padding_bits
    assert bits * 2 / 2 == ledger.channel_uses  # rate 1/2 on QPSK: one information bit a use
    snr_db = send(CodedLink(block_bits=128, ebno_db=-1.0, max_transmissions=4, fading="rayleigh_block"), packets)[1].snr_db
    assert snr_db is not None and snr_db.size == sum(-(-size // 64) for size in sent)


def test_two_copies_are_worth_three_decibels():
    """Catches LLRs that are replaced, averaged or weighted wrongly: at s, two copies fail as often as one at s + 3.01 dB.

    The first copy is far too weak to be decoded, so that all packets are sent twice.
    """
    single = CodedLink(block_bits=64, ebno_db=2.0, ldpc_backend="numba")
    weaker_db = single.resolved_esno_db - 10 * np.log10(2)
    double = CodedLink(block_bits=64, esno_db=weaker_db, ldpc_backend="numba", max_transmissions=2)
    assert failures(double.model_copy(update={"max_transmissions": 1}), 400) > 360
    combined, fresh = failures(double, 3000), failures(single, 3000, Key(2))
    control = failures(single.model_copy(update={"ebno_db": 1.2}), 3000, Key(2))
    assert fisher_exact([[combined, 3000 - combined], [fresh, 3000 - fresh]]).pvalue > 1e-4
    assert fisher_exact([[combined, 3000 - combined], [control, 3000 - control]]).pvalue < 1e-6  # 0.8 dB would show


def test_llrs_of_copies_add_up():
    """Catches combining that loses a copy: what is decoded after two rounds is the sum of what two links of one round heard."""
    packets = random_packets([48] * 40)
    channel = CodedLink(block_bits=64, esno_db=-9.0, max_transmissions=2)
    once = channel.model_copy(update={"max_transmissions": 1})
    first, = once.transmit([packets], [Key(1)])
    both, = channel.transmit([packets], [Key(1)])
    failed = ~once.detect(first).crc_ok
    assert failed.all()
    words = codes.encode(once._information_rows(packets), once.frame)
    scrambling = Key(1).child("scrambling").integers(2, words.size).astype(np.uint8).reshape(words.shape)
    second, _ = once._carry(words, scrambling, Key(1).child("transmission", 1))
    assert np.array_equal(both.state.llr, first.state.llr + second)
    assert np.array_equal(both.state.posterior, codes.decode(first.state.llr + second, None, once.frame))


def test_retransmissions_meet_fades_of_their_own():
    """Catches a second copy in the fade of the first: in fades of a whole packet, all copies of a lost packet would be lost."""
    settings = {"block_bits": 64, "fading": "rayleigh_block", "fading_block_symbols": 64, "esno_db": 10.0}
    once, twice = CodedLink(**settings), CodedLink(**settings, max_transmissions=2)
    assert failures(once, 2000) > 120 and failures(twice, 2000) < 25


def test_one_transmission_is_the_link_without_harq():
    """Catches a retransmission that changes what was there: equal LLRs, charges and fades."""
    packets = random_packets([48] * 40)
    plain, plain_detection = send(CodedLink(block_bits=64, esno_db=20.0), packets)
    harq, harq_detection = send(CodedLink(block_bits=64, esno_db=20.0, max_transmissions=5), packets)
    assert plain.ledger == harq.ledger and np.array_equal(plain_detection.llr, harq_detection.llr)
