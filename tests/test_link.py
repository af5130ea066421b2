"""The coded link against closed forms, published block error rates and Sionna's own blocks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import norm

from channel_sim.crc import crc
from channel_sim.keys import Key
from channel_sim.link import CodedLink, ldpc_rates
from channel_sim.stages import Detection, Observation
from channel_sim.types import Packets
from tests.laws import assert_rate

DELIVER: dict[str, Any] = {"crc": "none", "on_crc_failure": "deliver"}


def random_packets(num_bits: list[int], header_bits: int = 0, label: str = "packets") -> Packets:
    """Packets of independent uniform bits, without tokens."""
    count, width = len(num_bits), max(num_bits, default=0)
    inside = np.arange(width) < np.array(num_bits, int)[:, None]
    bits = Key(3).child(label).integers(2, count, width) * inside
    return Packets(bits=bits.astype(np.uint8), num_bits=np.array(num_bits, np.int32), order=np.zeros(0, np.int32),
                   bounds=np.zeros(count + 1, np.int32), header=np.zeros((count, 3), np.int32), header_bits=header_bits)


def send(channel: CodedLink, packets: Packets, key: Key = Key(1)) -> tuple[Observation, Detection]:
    observation, = channel.transmit([packets], [key])
    return observation, channel.detect(observation)


def inside(packets: Packets) -> np.ndarray:
    return np.arange(packets.bits.shape[1]) < packets.num_bits[:, None]


def gray_qam_error(bits_per_symbol: int, esno: float) -> float:
    """Bit error probability of square Gray QAM by brute force: every level of a rail, every decision region, every bit."""
    bits = bits_per_symbol // 2
    levels = 2.0 * np.arange(2 ** bits) - (2 ** bits - 1)
    levels *= np.sqrt(0.5 / np.mean(levels ** 2))  # half of Es = 1 a rail
    labels = np.arange(levels.size) ^ (np.arange(levels.size) >> 1)
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    region = np.diff(norm.cdf((edges - levels[:, None]) * np.sqrt(2 * esno)), axis=1)  # [sent, decided]
    distance = np.array([[(a ^ b).bit_count() for b in labels.tolist()] for a in labels.tolist()])
    return float((region * distance).sum() / levels.size / bits)


def bit_error(modulation: str, fading: str, ebno_db: float) -> float:
    """Exact bit error probability of uncoded signalling."""
    bits = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6}[modulation]

    def error(ebno: float) -> float:
        return float(norm.sf(np.sqrt(2 * ebno))) if bits == 1 else gray_qam_error(bits, ebno * bits)

    mean = 10 ** (ebno_db / 10)
    return error(mean) if fading == "awgn" else quad(lambda gain: np.exp(-gain) * error(gain * mean), 0, 40, limit=200)[0]


def test_the_closed_forms_are_those_published():
    """Catches a wrong yardstick: values of REFERENCES, from tables of Q and from the Rayleigh formula."""
    published = {("bpsk", "awgn", 4): 0.0125008, ("qpsk", "awgn", 6): 2.38829e-3, ("qam16", "awgn", 4): 0.0586237,
                 ("qam16", "awgn", 8): 9.24721e-3, ("qam64", "awgn", 10): 0.0265327, ("qam64", "awgn", 14): 2.15400e-3,
                 ("bpsk", "rayleigh_block", 0): 0.146447, ("bpsk", "rayleigh_block", 10): 0.0232687}
    for case, expected in published.items():
        assert bit_error(*case) == pytest.approx(expected, rel=5e-6)


@pytest.mark.sionna
@pytest.mark.parametrize(("modulation", "fading", "ebno_db"), [
    ("bpsk", "awgn", 4.0), ("qpsk", "awgn", 6.0), ("qam16", "awgn", 8.0), ("qam64", "awgn", 10.0),
    ("bpsk", "rayleigh_block", 10.0), ("qpsk", "rayleigh_block", 10.0), ("qam16", "rayleigh_block", 10.0),
    ("qam64", "rayleigh_block", 14.0)])
def test_uncoded_bit_error_rate_is_the_closed_form(modulation: str, fading: str, ebno_db: float):
    """Catches a wrong noise power, Eb/N0, labelling, LLR sign, equaliser or fade. One random bit a symbol, one symbol a fade."""
    channel = CodedLink(code="uncoded", modulation=modulation, fading=fading, fading_block_symbols=1, ebno_db=ebno_db, **DELIVER)
    num_symbols = 200_000
    packets = random_packets([num_symbols * channel.bits_per_symbol])
    _, detection = send(channel, packets)
    wrong = ((detection.llr[0] > 0) != packets.bits[0]).reshape(num_symbols, -1)
    one_a_symbol = wrong[np.arange(num_symbols), Key(2).integers(channel.bits_per_symbol, num_symbols)]
    assert_rate(one_a_symbol.sum(), num_symbols, bit_error(modulation, fading, ebno_db))


@pytest.mark.sionna
def test_bits_that_are_not_uniform_are_sent_at_unit_energy():
    """Catches Es that depends on what is sent: all-zero bits alone would use one point of the constellation."""
    packets = random_packets([40_000])
    zeros = Packets(bits=np.zeros_like(packets.bits), num_bits=packets.num_bits, order=packets.order, bounds=packets.bounds,
                    header=packets.header)
    observation, _ = send(CodedLink(code="uncoded", modulation="qam16", esno_db=100, **DELIVER), zeros)
    energy = np.abs(observation.state.symbols) ** 2
    assert abs(energy.mean() - 1) < 5 * energy.std() / np.sqrt(energy.size)


@pytest.mark.sionna
@pytest.mark.parametrize("modulation", ["bpsk", "qam64"])
def test_noise_has_variance_n0_in_two_equal_parts(modulation: str):
    """Catches N0/2 for N0, and real noise on BPSK: the same key without noise gives what was sent."""
    packets = random_packets([120_000])
    noisy, _ = send(CodedLink(code="uncoded", modulation=modulation, esno_db=3.0, **DELIVER), packets)
    clean, _ = send(CodedLink(code="uncoded", modulation=modulation, esno_db=100.0, **DELIVER), packets)
    noise = noisy.state.symbols - clean.state.symbols
    for part in (noise.real, noise.imag):
        assert np.mean(part ** 2) == pytest.approx(10 ** -0.3 / 2, rel=5 * np.sqrt(2 / part.size))


@pytest.mark.sionna
def test_fades_are_constant_over_a_block_and_rayleigh_across():
    """Catches a wrong block length, E|h|^2 other than 1, and fades of a law other than CN(0, 1)."""
    channel = CodedLink(code="uncoded", modulation="bpsk", fading="rayleigh_block", fading_block_symbols=5, esno_db=0.0, **DELIVER)
    fades = send(channel, random_packets([49_998] * 3))[0].state.fades
    assert fades.size == 149_994
    blocks = fades[:149_990].reshape(-1, 5)
    assert np.all(blocks == blocks[:, :1]) and np.unique(blocks[:, 0]).size == len(blocks)
    power = np.abs(blocks[:, 0]) ** 2
    assert power.mean() == pytest.approx(1, rel=5 / np.sqrt(power.size))
    assert_rate(np.sum(power < 0.1), power.size, 1 - np.exp(-0.1))


@pytest.mark.sionna
def test_llr_is_ln_p1_over_p0():
    """Catches a flipped sign and a wrong scale: for BPSK over AWGN the LLR is -4 Re(y) / N0 with bit 0 at +1, before scrambling."""
    channel = CodedLink(code="uncoded", modulation="bpsk", esno_db=-3.0, **DELIVER)
    observation, detection = send(channel, random_packets([3000]))
    state = observation.state
    expected = -4 * state.symbols.real / channel.no * (1 - 2 * state.scrambling.astype(float))
    assert np.allclose(detection.llr[0], expected, atol=1e-4)


@pytest.mark.sionna
@pytest.mark.parametrize("modulation", ["qpsk", "qam16"])
def test_llrs_are_calibrated(modulation: str):
    """Catches over- and underconfidence: of bits with |LLR| near x, a share of 1/(1+e^x) is wrong."""
    channel = CodedLink(code="uncoded", modulation=modulation, esno_db=5.0, **DELIVER)
    packets = random_packets([400_000])
    llr = send(channel, packets)[1].llr[0]
    for low in (0.5, 1.5, 2.5):
        near = np.flatnonzero((np.abs(llr) > low) & (np.abs(llr) < low + 0.25))
        expected = float(np.mean(1 / (1 + np.exp(np.abs(llr[near])))))
        assert_rate(np.sum((llr[near] > 0) != packets.bits[0, near]), near.size, expected)


@pytest.mark.sionna
def test_a_link_is_never_certain():
    """Catches LLRs that would be taken as known bits: ±50 means certain."""
    observation, detection = send(CodedLink(code="uncoded", esno_db=100, **DELIVER), random_packets([500]))
    assert np.abs(detection.llr).max() == 49
    assert not CodedLink(code="uncoded", esno_db=100, **DELIVER).receive(observation).certain.any()


def bler(k: int, ebno_db: float, num_blocks: int) -> tuple[int, int]:
    channel = CodedLink(block_bits=k, code_rate=0.5, ebno_db=ebno_db, **DELIVER)
    _, detection = send(channel, random_packets([k] * num_blocks))
    assert detection.num_blocks == num_blocks and detection.block_errors is not None
    return detection.block_errors, num_blocks


@pytest.mark.sionna
def test_ldpc_block_error_rate_is_sionnas():
    """Catches any loss in the coded link: Sionna's published BP-20 figure, QPSK, AWGN, n = 1000, 1.5 dB."""
    assert_rate(*bler(500, 1.5, 3000), expected=7.443e-2)


@pytest.mark.slow
@pytest.mark.sionna
@pytest.mark.parametrize(("k", "ebno_db", "expected"), [(64, 2.0, 0.1547), (128, 2.5, 1.811e-2), (256, 2.0, 2.336e-2),
                                                        (500, 1.75, 1.885e-2), (2000, 1.5, 4.91e-3)])
def test_ldpc_block_error_rates_are_sionnas(k: int, ebno_db: float, expected: float):
    """Catches a loss that shows at one length only."""
    assert_rate(*bler(k, ebno_db, 20_000), expected=expected)


@pytest.mark.sionna
@pytest.mark.parametrize("modulation", ["bpsk", "qpsk", "qam64"])
def test_ldpc_decides_as_sionnas_own_blocks(modulation: str):
    """Catches what compiling, padding and batching could change: equal symbols, and Sionna's blocks as its users call them."""
    from channel_sim.sionna_blocks import load
    ebno_db = 8.0 if modulation == "qam64" else 4.0
    channel = CodedLink(block_bits=120, code_rate=0.5, modulation=modulation, ebno_db=ebno_db, **DELIVER)
    packets = random_packets([120] * 45)
    observation, detection = send(channel, packets)
    tf, phy = load()
    bits, state = channel.bits_per_symbol, observation.state
    encoder = phy.fec.ldpc.LDPC5GEncoder(120, 240, num_bits_per_symbol=bits)
    decoder = phy.fec.ldpc.LDPC5GDecoder(encoder, num_iter=20, hard_out=False)
    kind = "pam" if bits == 1 else "qam"
    demapper = phy.mapping.Demapper("app", kind, bits)
    llr = demapper(tf.constant(state.symbols.reshape(45, -1), tf.complex64), tf.constant(channel.no, tf.float32)).numpy()
    decoded = decoder(tf.constant(llr * (1.0 - 2.0 * state.scrambling.reshape(45, -1)), tf.float32)).numpy()
    assert np.array_equal(decoded > 0, detection.llr > 0)
    assert np.allclose(np.clip(decoded, -49, 49), detection.llr, atol=0.05)
    sent = encoder(tf.constant(packets.bits, tf.float32)).numpy().astype(np.uint8) ^ state.scrambling.reshape(45, -1)
    mapped = phy.mapping.Mapper(kind, bits)(tf.constant(sent, tf.float32)).numpy()
    noise = state.symbols.reshape(45, -1) - mapped
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(channel.no, rel=0.1)


@pytest.mark.sionna
@pytest.mark.parametrize(("block_bits", "code_rate", "modulation"), [
    (12, 0.9, "qam64"), (20, 0.2, "qam16"), (292, 0.9, "bpsk"), (1280, 0.2, "qpsk"), (300, 948 / 1024, "qpsk"),
    pytest.param(8448, 1 / 3, "qpsk", marks=pytest.mark.slow), pytest.param(3825, 1 / 3, "qam64", marks=pytest.mark.slow)])
def test_every_admitted_code_is_error_free_without_noise(block_bits: int, code_rate: float, modulation: str):
    """Catches rates that Sionna refuses, prints about, prunes to nothing, or cannot decode at all, and lost or shifted bits."""
    channel = CodedLink(block_bits=block_bits, code_rate=code_rate, modulation=modulation, esno_db=60, crc="crc6")
    packets = random_packets([block_bits - 6, 2 * block_bits - 6, 1, 0])
    observation, detection = send(channel, packets)
    assert np.array_equal((detection.llr > 0)[inside(packets)], packets.bits[inside(packets)] == 1)
    assert detection.crc_ok.all() and (detection.num_blocks, detection.block_errors) == (5, 0)
    assert observation.state.symbols.size == observation.ledger.channel_uses
    assert not channel.receive(observation).lost.any()


def test_admitted_rates_are_those_of_the_base_graphs():
    """Catches limits of the wrong base graph."""
    assert [float(rate) for rate in ldpc_rates(3824)] == [0.2, 948 / 1024]
    assert [float(rate) for rate in ldpc_rates(3825)] == [1 / 3, 948 / 1024]


@pytest.mark.parametrize("modulation", ["bpsk", "qpsk", "qam16", "qam64"])
@pytest.mark.parametrize("code", ["uncoded", "ldpc"])
def test_uses_are_counted_exactly(code: str, modulation: str):
    """Catches lost roundings: an independent count, packet by packet, for every remainder."""
    channel = CodedLink(code=code, block_bits=48, code_rate=0.4, modulation=modulation, crc="crc16", esno_db=0)
    per_symbol = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6}[modulation]
    sizes = list(range(0, 130))
    packets = random_packets(sizes, header_bits=7)
    uses = padding = 0
    for size in sizes:
        bits = 7 + size + 16
        unit, cost = (per_symbol, 1) if code == "uncoded" else (48, 120 // per_symbol)
        units = (bits + unit - 1) // unit
        uses, padding = uses + units * cost, padding + units * unit - bits
    ledger = channel.charge(packets)
    assert (ledger.channel_uses, ledger.padding_bits, ledger.energy) == (uses, padding, float(uses))
    assert (ledger.coded_bits, ledger.header_bits, ledger.crc_bits) == (sum(sizes), 7 * 130, 16 * 130)
    assert channel.channel_uses(np.array([0])) == 0


@pytest.mark.sionna
@pytest.mark.parametrize("code", ["uncoded", "ldpc"])
def test_what_is_charged_is_what_is_sent(code: str):
    """Catches a ledger that disagrees with the waveform, and an item without packets or bits that crashes."""
    channel = CodedLink(code=code, block_bits=48, crc="crc6", esno_db=0)
    for sizes in ([], [0], [1], [47, 0, 200]):
        observation, detection = send(channel, random_packets(sizes, header_bits=5))
        assert observation.state.symbols.size == observation.ledger.channel_uses == observation.ledger.energy
        assert detection.llr.shape == (len(sizes), max(sizes, default=0)) and len(detection.crc_ok) == len(sizes)


@pytest.mark.sionna
def test_erase_loses_what_failed_and_deliver_hands_it_over():
    """Catches failed packets that are trusted, and delivered LLRs that are blanked."""
    packets = random_packets([100] * 300, header_bits=16)
    erase = CodedLink(code="uncoded", esno_db=7.0, on_crc_failure="erase")
    deliver = CodedLink(code="uncoded", esno_db=7.0, on_crc_failure="deliver")
    (observation, detection), failed = send(erase, packets), ~send(erase, packets)[1].crc_ok
    assert 20 < failed.sum() < 280
    lost, kept = erase.receive(observation), deliver.receive(observation)
    assert np.array_equal(lost.lost, failed) and not lost.llr[failed].any() and erase.erases_on_crc_failure
    assert not kept.lost.any() and np.array_equal(kept.crc_ok, ~failed) and np.array_equal(kept.llr, detection.llr)
    assert not kept.certain[failed].any() and kept.certain[~failed].all()
    assert np.array_equal((lost.llr > 0)[~failed], packets.bits[~failed] == 1)


@pytest.mark.sionna
def test_a_crc_misses_its_share_of_random_errors():
    """Catches a CRC that is not checked on what was received: crc6 misses 2^-6 of random-like errors."""
    packets = random_packets([64] * 40_000)
    _, detection = send(CodedLink(code="uncoded", esno_db=-12.0, crc="crc6"), packets)
    wrong = ((detection.llr > 0) != packets.bits).any(axis=1)
    assert_rate((detection.crc_ok & wrong).sum(), int(wrong.sum()), 2.0 ** -6)


@pytest.mark.sionna
def test_a_failed_crc_is_a_wrong_block():
    """Catches block errors counted against anything but what was sent: one packet a block, header and CRC included."""
    packets = random_packets([468] * 400, header_bits=16)
    _, detection = send(CodedLink(block_bits=500, ebno_db=1.2), packets)
    wrong = ((detection.llr > 0) != packets.bits).any(axis=1)
    assert wrong.sum() > 20 and not (wrong & detection.crc_ok).any()
    assert (~detection.crc_ok).sum() == detection.block_errors
    assert crc(np.ones(3), "crc16").any()  # negative control: a check that is always zero would pass all of the above


def mixed_items() -> list[Packets]:
    return [random_packets(sizes, header_bits=8, label=f"item {sum(sizes)}")
            for sizes in ([100] * 9, [37], [300, 0, 5], [64] * 20)]


def digest(channel: CodedLink, items: list[Packets], keys: list[Key]) -> list[str]:
    detections = [channel.detect(one) for one in channel.transmit(items, keys)]
    return [hashlib.sha256(one.llr.tobytes() + one.crc_ok.tobytes()).hexdigest() for one in detections]


def fading_ldpc() -> CodedLink:
    return CodedLink(block_bits=80, modulation="qam16", fading="rayleigh_block", fading_block_symbols=30, esno_db=9.0)


@pytest.mark.sionna
@pytest.mark.parametrize("make", [fading_ldpc, lambda: CodedLink(code="uncoded", esno_db=3.0)], ids=["ldpc", "uncoded"])
def test_an_item_does_not_depend_on_its_neighbours(make: Callable[[], CodedLink]):
    """Catches items that share a compiled call, a shape or a draw: one batch of four is four batches of one, in any order."""
    items, keys = mixed_items(), [Key(1).child("item", index) for index in range(4)]
    together = digest(make(), items, keys)
    alone = [digest(make(), [item], [key])[0] for item, key in zip(items, keys, strict=True)]
    assert together == alone == digest(make(), items[::-1], keys[::-1])[::-1]


@pytest.mark.sionna
def test_an_item_does_not_depend_on_the_process_or_its_threads():
    """Catches sums that change with the number of threads, and state from earlier items."""
    script = ("from tests.test_link import *\n"
              "print(digest(fading_ldpc(), mixed_items()[2:3], [Key(1).child('item', 2)])[0])")
    limits = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    elsewhere = subprocess.run([sys.executable, "-c", script], env=os.environ | limits, capture_output=True, text=True, check=True)
    assert elsewhere.stdout.split() == digest(fading_ldpc(), mixed_items()[2:3], [Key(1).child("item", 2)])
    assert not elsewhere.stderr, "TensorFlow's start-up messages reached the user"


@pytest.mark.sionna
def test_sweep_points_and_arms_share_unit_noise_and_fades():
    """Catches draws that depend on the SNR, the code or the amount sent: common random numbers."""
    def unit(channel: CodedLink, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        clean = channel.model_copy(update={"esno_db": 100.0})
        packets, key = random_packets(sizes), Key(5)
        noisy, quiet = channel.transmit([packets], [key])[0].state, clean.transmit([packets], [key])[0].state
        return (noisy.symbols - quiet.symbols) / (np.sqrt(channel.no) - np.sqrt(clean.no)), noisy.fades

    common = {"fading": "rayleigh_block", "fading_block_symbols": 7}
    noise, fades = unit(CodedLink(code="uncoded", esno_db=0.0, **common), [1000])
    for other in (CodedLink(code="uncoded", esno_db=9.0, **common), CodedLink(esno_db=4.0, block_bits=100, **common)):
        other_noise, other_fades = unit(other, [600])
        size = min(noise.size, other_noise.size)
        assert np.allclose(noise[:size], other_noise[:size], atol=1e-9) and np.array_equal(fades[:size], other_fades[:size])


def test_ratios_are_those_of_the_code_alone():
    """Catches overheads in Eb/N0, and a rate that is not the one sent."""
    channel = CodedLink(block_bits=500, code_rate=0.5, modulation="qam16", ebno_db=3.0)
    assert channel.resolved_esno_db == pytest.approx(3 + 10 * np.log10(2)) and channel.resolved_ebno_db == 3.0
    assert channel.snr_db == channel.resolved_esno_db and channel.no == pytest.approx(10 ** -0.3 / 2)
    uncoded = CodedLink(code="uncoded", modulation="bpsk", esno_db=2.0)
    assert uncoded.resolved_ebno_db == 2.0 and uncoded.realised_code_rate == 1
    rounded = CodedLink(block_bits=100, code_rate=0.7, modulation="qam64", esno_db=0.0)
    assert rounded.realised_code_rate == pytest.approx(100 / 144)
    assert rounded.resolved_ebno_db == pytest.approx(-10 * np.log10(100 / 144 * 6))
    limited = CodedLink(block_bits=20, code_rate=0.2, modulation="qam64", esno_db=0.0)
    assert limited.realised_code_rate == pytest.approx(20 / 96)  # 102 bits would fall below 1/5


@pytest.mark.parametrize(("keys", "words"), [
    ({}, ("esno_db", "ebno_db", "none")),
    ({"esno_db": 1.0, "ebno_db": 1.0}, ("esno_db", "ebno_db", "both")),
    ({"esno_db": 1000.0}, ("esno_db",)),
    ({"esno_db": 1.0, "crc": "none"}, ("crc", "on_crc_failure", "deliver")),
    ({"esno_db": 1.0, "block_bits": 16}, ("block_bits", "16", "crc16")),
    ({"esno_db": 1.0, "block_bits": 11}, ("block_bits", "12")),
    ({"esno_db": 1.0, "block_bits": 8449}, ("block_bits", "8448")),
    ({"esno_db": 1.0, "code_rate": 0.19}, ("code_rate", "0.2", "0.19")),
    ({"esno_db": 1.0, "code_rate": 0.93}, ("code_rate", "0.9258", "0.93")),
    ({"esno_db": 1.0, "block_bits": 200, "code_rate": 0.91}, ("code_rate", "0.9", "0.91")),
    ({"esno_db": 1.0, "block_bits": 4000, "code_rate": 0.3}, ("code_rate", "0.3333", "0.3")),
    ({"esno_db": 1.0, "modulation": "qam256"}, ("modulation", "qam64")),
    ({"esno_db": 1.0, "code": "polar"}, ("code", "ldpc")),
    ({"esno_db": 1.0, "fading": "tdl_a"}, ("fading", "rayleigh_block")),
    ({"esno_db": 1.0, "fading_block_symbols": 0}, ("fading_block_symbols",)),
    ({"esno_db": 1.0, "num_iterations": 0}, ("num_iterations",)),
    ({"esno_db": 1.0, "list_size": 8}, ("list_size",)),
])
def test_what_cannot_be_is_refused_by_name(keys: dict[str, Any], words: tuple[str, ...]):
    """Catches a request that fails deep inside TensorFlow, or is silently changed."""
    with pytest.raises(ValidationError) as refusal:
        CodedLink(**keys)
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.sionna
def test_a_prior_is_refused_by_name():
    """Catches a prior that is silently ignored."""
    channel = CodedLink(code="uncoded", esno_db=0.0)
    observation, _ = send(channel, random_packets([8]))
    with pytest.raises(ValueError, match="num_exchanges"):
        channel.detect(observation, np.zeros((1, 8), np.float32))


def test_tensorflow_is_loaded_only_when_used():
    """Catches a slow `channel-sim list`: naming, checking and charging a link need no TensorFlow."""
    script = ("import sys, numpy as np\nfrom channel_sim.link import CodedLink\n"
              "CodedLink(esno_db=3.0).channel_uses(np.array([100]))\n"
              "sys.exit(any(name.startswith(('tensorflow', 'sionna', 'keras')) for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
