"""Zeros that fill a packet's last code block: sent, charged, and known to the decoder, which shortens the code."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim.link import CodedLink
from tests.link_packets import DELIVER, random_packets, send

NUM_PACKETS = 60


def link(code: str, esno_db: float) -> CodedLink:
    return CodedLink(code=code, block_bits=256, code_rate=0.5, modulation="bpsk", esno_db=esno_db, ldpc_backend="numba", **DELIVER)


@pytest.mark.sionna
def test_known_zeros_make_a_stronger_code():
    """Catches padding that the decoder takes for unknown: half a block of it makes rate 1/2 into 128/384, at -2.5 dB Es/N0 on the
    other side of the waterfall (binary-input capacity there is .44 bit a use, less what 512 uses cost).
    """
    full, half = (send(link("ldpc", -2.5), random_packets([bits] * NUM_PACKETS))[1] for bits in (256, 128))
    assert full.num_blocks == half.num_blocks == NUM_PACKETS
    assert full.block_errors is not None and full.block_errors > 0.9 * NUM_PACKETS
    assert half.block_errors is not None and half.block_errors < 0.1 * NUM_PACKETS


@pytest.mark.sionna
def test_padding_helps_no_other_packet_and_is_no_payload():
    """Catches zeros that are believed at the wrong place: short packets between full ones, of which none may change."""
    channel = link("ldpc", -0.5)
    alone = send(channel, random_packets([256] * 8))[1]
    mixed = send(channel, random_packets([256, 100] * 4))[1]
    assert np.array_equal(alone.llr[0], mixed.llr[0])
    sent = random_packets([256, 100] * 4)
    wrong = (mixed.llr > 0) != (sent.bits == 1)
    assert not wrong[1::2, :100].any() and not mixed.llr[1::2, 100:].any()


@pytest.mark.sionna
def test_padding_stays_known_beside_a_prior():
    """Catches a prior of the payload that takes the place of what is known of the padding."""
    channel = link("ldpc", -2.5)
    packets = random_packets([128] * NUM_PACKETS)
    observation, first = send(channel, packets)
    again = channel.detect(observation, np.zeros_like(first.llr))
    assert first.block_errors is not None and again.block_errors == first.block_errors
