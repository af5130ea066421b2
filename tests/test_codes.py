"""Codes against Sionna's own blocks on equal LLRs, and what a prior does to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from channel_sim import codes
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.sionna_blocks import CodeName, FrameFormat, encoder, ldpc_decoder, load
from tests.link_packets import inside, random_packets, send

pytestmark = pytest.mark.sionna
FORMATS: dict[str, dict[str, Any]] = {
    "ldpc, sionna": {"code": "ldpc", "block_bits": 120, "ldpc_backend": "sionna"},
    "ldpc, numba": {"code": "ldpc", "block_bits": 120, "ldpc_backend": "numba"},
    "polar": {"code": "polar", "block_bits": 50, "code_rate": 0.4},
    "convolutional": {"code": "convolutional", "block_bits": 50},
    "turbo": {"code": "turbo", "block_bits": 50, "num_iterations": 8},
}
SOFT = [name for name in FORMATS if name != "polar"]


def frame_of(name: str, bits_per_symbol: int = 2) -> FrameFormat:
    return codes.frame_of(**({"code_rate": 0.5} | FORMATS[name]), bits_per_symbol=bits_per_symbol)


def noisy(name: str, num_blocks: int, noise: float, bits_per_symbol: int = 2) -> tuple[FrameFormat, np.ndarray, np.ndarray]:
    """(format, uint8 [num_blocks, info_bits] sent, float32 [num_blocks, code_bits] LLRs of antipodal bits in Gaussian noise)."""
    frame = frame_of(name, bits_per_symbol)
    info = Key(8).integers(2, num_blocks, frame.info_bits).astype(np.uint8)
    received = 2.0 * codes.encode(info, frame) - 1 + noise * Key(9).normal(num_blocks, frame.code_bits)
    return frame, info, (2 / noise ** 2 * received).astype(np.float32)


def sionnas(frame: FrameFormat, llr: np.ndarray) -> np.ndarray:
    """float32 [num_blocks, info_bits] by Sionna's block as its users call it: eager, the whole batch at once."""
    tf, phy = load()
    block = encoder(frame)
    decoder = {
        "ldpc": lambda: ldpc_decoder(frame),
        "polar": lambda: phy.fec.polar.Polar5GDecoder(block, dec_type="hybSCL", list_size=frame.list_size),
        "convolutional": lambda: phy.fec.conv.BCJRDecoder(gen_poly=block.gen_poly, hard_out=False),
        "turbo": lambda: phy.fec.turbo.TurboDecoder(block, num_iter=frame.num_iterations, hard_out=False),
    }[frame.code]()
    if frame.code == "polar":  # the list in NumPy: compiling it takes a minute
        decoder._polar_dec = phy.fec.polar.PolarSCLDecoder(
            block.frozen_pos, block.n_polar, crc_degree=block.enc_crc.crc_degree, list_size=frame.list_size, cpu_only=True)
    return decoder(tf.constant(llr)).numpy()


@pytest.mark.parametrize("name", ["ldpc, sionna", "convolutional", "turbo"])
def test_soft_decisions_are_those_of_sionnas_own_blocks(name: str):
    """Catches what compiling, filling up and cutting into calls could change; the noise leaves some blocks wrong."""
    frame, info, llr = noisy(name, 70, 0.75)
    ours, theirs = codes.decode(llr, None, frame), sionnas(frame, llr)
    wrong = ((ours > 0) != info).any(axis=1)
    assert 0 < wrong.sum() < 70 and np.array_equal(ours > 0, theirs > 0)
    # a block that does not settle magnifies the last bits from iteration to iteration
    assert np.allclose(ours[~wrong], theirs[~wrong], atol=0.05)


@pytest.mark.parametrize(("block_bits", "code_rate", "list_size", "noise"), [
    (50, 0.4, 8, 0.95), (40, 0.25, 4, 1.2), (100, 0.7, 8, 0.6), (30, 0.125, 1, 1.4), (100, 100 / 270, 2, 0.9)])
def test_polar_lists_decide_as_sionnas(block_bits: int, code_rate: float, list_size: int, noise: float):
    """Catches a wrong path metric, frozen set, rate matching (punctured, shortened, repeated), CRC or choice of path."""
    frame = codes.frame_of("polar", block_bits, code_rate, 1, list_size=list_size)
    info = Key(8).integers(2, 40, block_bits).astype(np.uint8)
    sent = codes.encode(info, frame)
    assert np.array_equal(sent, encoder(frame)(info.astype(np.float32)).numpy())
    llr = (2 / noise ** 2 * (2.0 * sent - 1 + noise * Key(9).normal(40, frame.code_bits))).astype(np.float32)
    ours, theirs = codes.decode(llr, None, frame), sionnas(frame, llr)
    assert np.array_equal(ours > 0, theirs > 0)
    assert 0 < ((ours > 0) != info).any(axis=1).sum() < 40


@pytest.mark.parametrize("name", SOFT)
def test_no_prior_is_the_plain_decoder_bit_for_bit(name: str):
    """Catches a second path through the decoder that rounds differently."""
    frame, _, llr = noisy(name, 70, 0.75)
    assert np.array_equal(codes.decode(llr, None, frame), codes.decode(llr, np.zeros((70, frame.info_bits), np.float32), frame))


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("noise", [0.05, 3.0])
def test_perfect_priors_leave_no_error(name: str, noise: float):
    """Catches information bits that no prior reaches (5G never sends the first 2Z), in noise that drowns the rest."""
    frame, info, llr = noisy(name, 40, noise)
    prior = np.where(info == 1, 50, -50).astype(np.float32)
    posterior = codes.decode(llr, prior, frame)
    assert np.array_equal(posterior > 0, info == 1)
    if noise > 1:
        assert ((codes.decode(llr, None, frame) > 0) != info).any(axis=1).all()


@pytest.mark.parametrize("name", SOFT)
def test_what_a_decoder_adds_to_the_prior_does_not_count_it_twice(name: str):
    """Catches a posterior that holds its prior more or less than once: where nothing was heard, posterior - prior is nothing."""
    frame, _, llr = noisy(name, 40, 0.75)
    prior = (6 * Key(3).normal(40, frame.info_bits)).astype(np.float32)
    extrinsic = codes.decode(0 * llr, prior, frame) - prior
    # the code joins bits by parity alone, whose bits are unknown here
    assert np.median(np.abs(extrinsic)) < 1e-3


@pytest.mark.parametrize("name", SOFT)
def test_a_prior_helps_where_the_channel_does_not_suffice(name: str):
    """Catches a prior of the wrong sign or place: known bits halve the errors of the others, unlike those of another block."""
    frame, info, llr = noisy(name, 400, 1.05)
    half = (np.arange(frame.info_bits) % 2 == 0) * np.where(info == 1, 20, -20)
    others = np.arange(frame.info_bits) % 2 == 1

    def wrong(prior: np.ndarray | None) -> int:
        return int(((codes.decode(llr, prior, frame) > 0) != info)[:, others].sum())

    plain = wrong(None)
    assert plain > 100 and 2 * wrong(half.astype(np.float32)) < plain < wrong(np.roll(half, 1, axis=0).astype(np.float32))


def test_the_link_tells_what_channel_and_code_say_where_the_crc_fails():
    """Catches a prior that is handed back to where it came from, and posteriors of decoded packets without it."""
    channel = CodedLink(block_bits=80, ebno_db=0.0, on_crc_failure="deliver")
    packets = random_packets([60] * 200, header_bits=4)
    observation, _ = send(channel, packets)
    prior = (2 * packets.bits - 1.0 + 1.4 * Key(2).normal(200, 60)).astype(np.float32)  # LLRs that tell the truth in the mean
    detection = channel.detect(observation, prior)
    rows = np.pad(prior, ((0, 0), (4, 16)))  # header and CRC have none
    posterior = codes.decode(observation.state.llr, rows, channel.frame)
    expected = np.where(detection.crc_ok[:, None], posterior, posterior - rows)[:, 4:64]
    assert 0 < detection.crc_ok.sum() < 200 and np.array_equal(detection.llr, np.clip(expected, -49, 49))


def test_a_prior_is_refused_by_name_where_decisions_are_hard():
    """Catches a prior that is silently ignored."""
    channel = CodedLink(code="polar", block_bits=40, esno_db=5.0)
    observation, _ = send(channel, random_packets([8]))
    with pytest.raises(ValueError, match='num_exchanges must be 0 for code = "polar"'):
        channel.detect(observation, np.zeros((1, 8), np.float32))


@pytest.mark.parametrize(("code", "block_bits", "code_rate", "modulation"), [
    ("ldpc", 12, 0.9, "qam64"), ("ldpc", 20, 0.2, "qam16"), ("ldpc", 292, 0.9, "bpsk"), ("ldpc", 1280, 0.2, "qpsk"),
    ("ldpc", 300, 948 / 1024, "qpsk"), ("polar", 20, 0.125, "qam256"), ("polar", 20, 20 / 31, "bpsk"),
    ("polar", 1013, 0.98, "qam64"),
    ("polar", 136, 0.125, "qpsk"), ("convolutional", 13, 0.5, "qam256"), ("turbo", 40, 0.5, "qam64"), ("turbo", 41, 0.5, "qam256"),
    pytest.param("ldpc", 8448, 1 / 3, "qpsk", marks=pytest.mark.slow),
    pytest.param("ldpc", 3825, 1 / 3, "qam64", marks=pytest.mark.slow),
    pytest.param("convolutional", 8448, 0.5, "qpsk", marks=pytest.mark.slow),
    pytest.param("turbo", 6144, 0.5, "qpsk", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ldpc_backend", ["sionna", "numba"])
def test_every_admitted_code_is_error_free_without_noise(code: CodeName, block_bits: int, code_rate: float, modulation: Any,
                                                         ldpc_backend: Any):
    """Catches rates that Sionna refuses, prints about, prunes to nothing, or cannot decode at all, and lost or shifted bits."""
    if code != "ldpc" and ldpc_backend == "sionna":
        pytest.skip("one decoder alone")
    channel = CodedLink(code=code, block_bits=block_bits, code_rate=code_rate, modulation=modulation, esno_db=60, crc="crc6",
                        ldpc_backend=ldpc_backend)
    packets = random_packets([block_bits - 6, 2 * block_bits - 6, 1, 0])
    observation, detection = send(channel, packets)
    assert np.array_equal((detection.llr > 0)[inside(packets)], packets.bits[inside(packets)] == 1)
    assert detection.crc_ok.all() and (detection.num_blocks, detection.block_errors) == (5, 0)
    assert not channel.receive(observation).lost.any()


def test_admitted_rates_are_those_of_the_base_graphs():
    """Catches limits of the wrong base graph."""
    assert [float(rate) for rate in codes.rates("ldpc", 3824)] == [0.2, 948 / 1024]
    assert [float(rate) for rate in codes.rates("ldpc", 3825)] == [1 / 3, 948 / 1024]


def test_auto_is_numba_where_no_gpu_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Catches a backend that is named and not taken."""
    for gpu, expected in ((False, True), (True, False)):
        monkeypatch.setattr(codes.sionna_blocks, "sees_gpu", lambda seen=gpu: seen)
        assert CodedLink(esno_db=0.0).frame.in_numba == expected
        assert CodedLink(esno_db=0.0, ldpc_backend="numba").frame.in_numba
        assert not CodedLink(esno_db=0.0, ldpc_backend="sionna").frame.in_numba


def test_what_is_hard_is_never_delivered_as_soft():
    """Catches hard decisions with made-up LLRs outside packets whose CRC fits."""
    channel = CodedLink(code="polar", block_bits=60, ebno_db=1.0)
    observation, detection = send(channel, random_packets([44] * 100))
    reception = channel.receive(observation)
    assert 0 < reception.lost.sum() < 100 and reception.certain[~reception.lost].all() and not reception.llr[reception.lost].any()
    assert np.array_equal(reception.lost, ~detection.crc_ok)
