"""The coded link against closed forms: noise, fades, conventions, charges, CRC, and what it refuses."""

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

from channel_sim import link as link_module
from channel_sim.crc import crc
from channel_sim.interleaving import air_order
from channel_sim.keys import Key
from channel_sim.link import MAX_LLR, CodedLink
from channel_sim.types import Packets
from tests.laws import assert_rate
from tests.link_packets import DELIVER, Listener, random_packets, send


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> list[Listener]:
    """The propagations of all links of the test, last one last: what was on the air."""
    listeners: list[Listener] = []
    original = link_module._propagation_of

    def listening(*values: object) -> Listener:
        listeners.append(Listener(original(*values)))
        return listeners[-1]

    monkeypatch.setattr(link_module, "_propagation_of", listening)
    return listeners


def on_air(listeners: list[Listener]) -> np.ndarray:
    """complex128: the symbols that were sent, in their order on the air."""
    return np.concatenate([symbols for one in listeners for symbols in one.sent])


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
    bits = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6, "qam256": 8}[modulation]

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


@pytest.mark.parametrize(("modulation", "fading", "ebno_db"), [
    ("bpsk", "awgn", 4.0), ("qpsk", "awgn", 6.0), ("qam16", "awgn", 8.0), ("qam64", "awgn", 10.0),
    ("bpsk", "rayleigh_block", 10.0), ("qpsk", "rayleigh_block", 10.0), ("qam16", "rayleigh_block", 10.0),
    ("qam64", "rayleigh_block", 14.0), ("qam256", "awgn", 14.0), ("qam256", "rayleigh", 18.0), ("bpsk", "rayleigh", 10.0)])
def test_uncoded_bit_error_rate_is_the_closed_form(modulation: str, fading: str, ebno_db: float):
    """Catches a wrong noise power, Eb/N0, labelling, LLR sign, equaliser or fade. One random bit a symbol, one symbol a fade."""
    channel = CodedLink(code="uncoded", modulation=modulation, fading=fading, fading_block_symbols=1, ebno_db=ebno_db, **DELIVER)
    num_symbols = 200_000
    packets = random_packets([num_symbols * channel.bits_per_symbol])
    _, detection = send(channel, packets)
    wrong = ((detection.llr[0] > 0) != packets.bits[0]).reshape(num_symbols, -1)
    one_a_symbol = wrong[np.arange(num_symbols), Key(2).integers(channel.bits_per_symbol, num_symbols)]
    assert_rate(one_a_symbol.sum(), num_symbols, bit_error(modulation, fading, ebno_db))


def test_bits_that_are_not_uniform_are_sent_at_unit_energy(listener: list[Listener]):
    """Catches Es that depends on what is sent: all-zero bits alone would use one point of the constellation."""
    packets = random_packets([40_000])
    zeros = Packets(bits=np.zeros_like(packets.bits), num_bits=packets.num_bits, order=packets.order, bounds=packets.bounds,
                    header=packets.header)
    send(CodedLink(code="uncoded", modulation="qam16", esno_db=100, **DELIVER), zeros)
    energy = np.abs(on_air(listener)) ** 2
    assert abs(energy.mean() - 1) < 5 * energy.std() / np.sqrt(energy.size)


@pytest.mark.parametrize("modulation", ["bpsk", "qam64"])
def test_noise_has_variance_n0_in_two_equal_parts(modulation: str, listener: list[Listener]):
    """Catches N0/2 for N0, and real noise on BPSK."""
    send(CodedLink(code="uncoded", modulation=modulation, esno_db=3.0, **DELIVER), random_packets([120_000]))
    noise = np.concatenate([heard.symbols for one in listener for heard in one.heard]) - on_air(listener)
    for part in (noise.real, noise.imag):
        assert np.mean(part ** 2) == pytest.approx(10 ** -0.3 / 2, rel=5 * np.sqrt(2 / part.size))


def test_llr_is_ln_p1_over_p0(listener: list[Listener]):
    """Catches a flipped sign, a wrong scale and scrambling left in: for BPSK the LLR is -4 Re(y) / N0 with bit 0 at +1."""
    channel = CodedLink(code="uncoded", modulation="bpsk", esno_db=-3.0, **DELIVER)
    packets = random_packets([3000])
    _, detection = send(channel, packets)
    heard, = (heard for one in listener for heard in one.heard)
    scrambling = (on_air(listener).real < 0) ^ (packets.bits[0] == 1)
    assert 0.4 < scrambling.mean() < 0.6
    expected = -4 * heard.symbols.real / channel.no * np.where(scrambling, -1, 1)
    assert np.allclose(detection.llr[0], expected, atol=1e-4)


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


def test_a_link_is_never_certain():
    """Catches LLRs that would be taken as known bits: ±50 means certain."""
    observation, detection = send(CodedLink(code="uncoded", esno_db=100, **DELIVER), random_packets([500]))
    assert np.abs(detection.llr).max() == MAX_LLR
    assert not CodedLink(code="uncoded", esno_db=100, **DELIVER).receive(observation).certain.any()


@pytest.mark.parametrize("modulation", ["bpsk", "qpsk", "qam16", "qam64", "qam256"])
@pytest.mark.parametrize("code", ["uncoded", "ldpc"])
def test_uses_are_counted_exactly(code: str, modulation: str):
    """Catches lost roundings: an independent count, packet by packet, for every remainder."""
    channel = CodedLink(code=code, block_bits=48, code_rate=0.4, modulation=modulation, crc="crc16", esno_db=0)
    per_symbol = {"bpsk": 1, "qpsk": 2, "qam16": 4, "qam64": 6, "qam256": 8}[modulation]
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
def test_what_is_charged_is_what_is_sent(code: str, listener: list[Listener]):
    """Catches a ledger that disagrees with the waveform, and an item without packets or bits that crashes."""
    channel = CodedLink(code=code, block_bits=48, crc="crc6", esno_db=0)
    for sizes in ([], [0], [1], [47, 0, 200]):
        observation, detection = send(channel, random_packets(sizes, header_bits=5))
        sent = sum(symbols.size for one in listener for symbols in one.sent)
        assert sent == observation.ledger.channel_uses == observation.ledger.energy
        listener.clear()
        assert detection.llr.shape == (len(sizes), max(sizes, default=0)) and len(detection.crc_ok) == len(sizes)


@pytest.mark.sionna
def test_pilots_and_cyclic_prefix_are_charged_in_uses_and_energy():
    """Catches overheads of OFDM that are free: the slots that the symbols fill, counted apart."""
    channel = CodedLink(block_bits=96, fading="tdl_a", num_subcarriers=24, cyclic_prefix_samples=3, esno_db=20.0)
    observation, _ = send(channel, random_packets([80] * 7))
    slots = -(-7 * 96 // (12 * 24))  # a code block is 96 QPSK symbols; 12 of 14 OFDM symbols carry data
    ledger = observation.ledger
    assert (ledger.channel_uses, ledger.energy) == (slots * 14 * 27, slots * 14 * 27.0)
    assert (ledger.pilot_uses, ledger.cyclic_prefix_uses) == (slots * 2 * 24, slots * 14 * 3)
    assert ledger.filling_uses == slots * 12 * 24 - 7 * 96
    # one packet alone is charged its share of a slot, rounded up, and so is what is told beside the packets
    assert channel.channel_uses(np.array([96, 97, 0])).tolist() == [-(-96 * 14 * 27 // 288), -(-192 * 14 * 27 // 288), 0]
    assert channel.side_uses(48) == -(-48 * 14 * 27 // 288)


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_blocks_take_turns_on_the_air(depth: int, listener: list[Listener]):
    """Catches symbols that come back out of order, and an order on the air that is not that of the interleaver."""
    settings: dict[str, Any] = {"block_bits": 40, "fading": "rayleigh_block", "fading_block_symbols": 8, "esno_db": 60.0}
    packets = random_packets([24] * 10)
    send(CodedLink(**settings), packets)
    plain = on_air(listener)
    listener.clear()
    _, detection = send(CodedLink(interleave_blocks=depth, **settings), packets)
    assert detection.crc_ok.all() and np.array_equal((detection.llr > 0), packets.bits == 1)
    assert np.array_equal(on_air(listener), plain[air_order([40] * 10, depth)])


def test_interleaving_over_the_fade_gains_diversity():
    """Catches interleaving that leaves a block in one fade: over the gap of 10 dB below the mean, blocks of one fade are lost."""
    settings: dict[str, Any] = {"block_bits": 60, "fading": "rayleigh_block", "fading_block_symbols": 60, "esno_db": 10.0}
    packets = random_packets([44] * 2000)
    alone = send(CodedLink(**settings), packets)[1].block_errors
    spread = send(CodedLink(interleave_blocks=8, **settings), packets)[1].block_errors
    assert alone is not None and spread is not None and 4 * spread < alone and alone > 60


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


def test_the_snrs_that_an_item_met_are_handed_over():
    """Catches a channel card of another fade, unit or reference: Es|h|^2/N0 of every fading block, exponential about its mean."""
    channel = CodedLink(code="uncoded", fading="rayleigh_block", fading_block_symbols=10, esno_db=7.0, **DELIVER)
    snr_db = send(channel, random_packets([40_000]))[1].snr_db
    assert snr_db is not None and snr_db.shape == (2000,)
    assert_rate(int(np.sum(snr_db < 7 - 10 * np.log10(2))), 2000, 1 - np.exp(-0.5))
    quiet = send(CodedLink(code="uncoded", esno_db=7.0, **DELIVER), random_packets([400]))[1].snr_db
    assert quiet is not None and np.allclose(quiet, 7.0)


def mixed_items() -> list[Packets]:
    return [random_packets(sizes, header_bits=8, label=f"item {sum(sizes)}")
            for sizes in ([100] * 9, [37], [300, 0, 5], [64] * 20)]


def digest(channel: CodedLink, items: list[Packets], keys: list[Key]) -> list[str]:
    detections = [channel.detect(one) for one in channel.transmit(items, keys)]
    return [hashlib.sha256(one.llr.tobytes() + one.crc_ok.tobytes()).hexdigest() for one in detections]


def fading_ldpc() -> CodedLink:
    return CodedLink(block_bits=80, modulation="qam16", fading="rayleigh_block", fading_block_symbols=30, esno_db=9.0)


@pytest.mark.sionna
@pytest.mark.parametrize("make", [
    fading_ldpc, lambda: fading_ldpc().model_copy(update={"ldpc_backend": "sionna"}),
    lambda: CodedLink(code="uncoded", esno_db=3.0),
    lambda: CodedLink(code="polar", block_bits=60, esno_db=0.0, max_transmissions=3)], ids=["numba", "sionna", "uncoded", "polar"])
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


def test_sweep_points_and_arms_share_unit_noise_and_fades(listener: list[Listener]):
    """Catches draws that depend on the SNR, the code or the amount sent: common random numbers."""
    def unit(channel: CodedLink, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        listener.clear()
        channel.transmit([random_packets(sizes)], [Key(5)])
        heard, = (heard for one in listener for heard in one.heard)
        return (heard.symbols - on_air(listener)) / np.sqrt(heard.noise), heard.snr_db - channel.resolved_esno_db

    common: dict[str, Any] = {"fading": "rayleigh_block", "fading_block_symbols": 7}
    noise, fades = unit(CodedLink(code="uncoded", esno_db=0.0, **common), [1000])
    for other in (CodedLink(code="uncoded", esno_db=9.0, **common), CodedLink(esno_db=4.0, block_bits=100, **common)):
        other_noise, other_fades = unit(other, [600])
        size, blocks = min(noise.size, other_noise.size), min(fades.size, other_fades.size)
        assert np.allclose(noise[:size], other_noise[:size], atol=1e-9) and np.allclose(fades[:blocks], other_fades[:blocks])


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


@pytest.mark.parametrize(("keys", "meant"), [
    ({"code": "uncoded"}, set()),
    ({}, {"block_bits", "code_rate", "num_iterations", "ldpc_backend"}),
    ({"code": "polar", "fading": "rayleigh_block"},
     {"block_bits", "code_rate", "list_size", "interleave_blocks", "fading_block_symbols"}),
    ({"code": "convolutional", "fading": "rayleigh"}, {"block_bits", "code_rate"}),
    ({"code": "turbo", "fading": "rician_block"},
     {"block_bits", "code_rate", "num_iterations", "interleave_blocks", "fading_block_symbols", "rician_k_db"}),
    ({"code": "uncoded", "fading": "tdl_c"},
     {"delay_spread_ns", "carrier_ghz", "speed_kmh", "subcarrier_spacing_khz", "num_subcarriers", "cyclic_prefix_samples",
      "symbols_per_slot", "channel_knowledge"})])
def test_fields_without_meaning_are_ignored(keys: dict[str, Any], meant: set[str]):
    """Catches a field that names two tasks that are one, or one that is hidden though it changes numbers."""
    always = {"code", "crc", "modulation", "fading", "esno_db", "on_crc_failure", "max_transmissions"}
    channel = CodedLink(esno_db=3.0, **keys)
    assert set(CodedLink.model_fields) - channel.ignored_fields == always | meant


def test_assumptions_are_those_of_the_configuration():
    """Catches a report that claims perfect knowledge where it is estimated, or leaves out what was taken for granted."""
    known, multipath = CodedLink(esno_db=0.0), CodedLink(esno_db=0.0, fading="cdl_c")
    estimated = CodedLink(esno_db=0.0, fading="tdl_a", channel_knowledge="ls_lmmse", max_transmissions=2)
    assert any("knows the fades and the noise power exactly" in one for one in known.assumptions)
    assert any("knows the channel" in one and "charged all the same" in one for one in multipath.assumptions)
    text = " ".join(estimated.assumptions)
    assert "estimates the channel from pilots" in text and "Acknowledgements are free" in text and "knows the channel" not in text
    assert "Acknowledgements" not in " ".join(known.assumptions)


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
    ({"esno_db": 1.0, "modulation": "qam128"}, ("modulation", "qam256")),
    ({"esno_db": 1.0, "code": "reed_muller"}, ("code", "polar")),
    ({"esno_db": 1.0, "fading": "tdl_f"}, ("fading", "rayleigh_block")),
    ({"esno_db": 1.0, "fading": "tdl_a", "delay_spread_ns": -1.0}, ("delay_spread_ns", "0")),
    ({"esno_db": 1.0, "fading": "tdl_a", "delay_spread_ns": 5000.0}, ("cyclic_prefix_samples", "delay_spread_ns")),
    ({"esno_db": 1.0, "fading": "tdl_a", "speed_kmh": 1000.0, "carrier_ghz": 60.0}, ("speed_kmh", "subcarrier_spacing_khz")),
    ({"esno_db": 1.0, "code": "polar", "block_bits": 19}, ("block_bits", "20", "polar", "19")),
    ({"esno_db": 1.0, "code": "polar", "block_bits": 1014}, ("block_bits", "1013", "polar", "1014")),
    ({"esno_db": 1.0, "code": "polar", "code_rate": 0.4, "block_bits": 512}, ("code_rate", "0.4706", "polar")),
    ({"esno_db": 1.0, "code": "polar", "code_rate": 0.1, "block_bits": 40}, ("code_rate", "0.125", "polar")),
    ({"esno_db": 1.0, "code": "polar", "code_rate": 0.95, "block_bits": 40}, ("code_rate", "0.7843", "polar")),
    ({"esno_db": 1.0, "code": "polar", "on_crc_failure": "deliver"}, ("on_crc_failure", "polar", "erase")),
    ({"esno_db": 1.0, "code": "turbo", "block_bits": 8000}, ("block_bits", "6144", "turbo", "8000")),
    ({"esno_db": 1.0, "code": "turbo", "code_rate": 0.4}, ("code_rate", "0.5", "turbo", "0.4")),
    ({"esno_db": 1.0, "code": "convolutional", "code_rate": 0.75}, ("code_rate", "0.5", "convolutional", "0.75")),
    ({"esno_db": 1.0, "max_transmissions": 2, "on_crc_failure": "deliver", "crc": "none"}, ("max_transmissions", "2", "crc")),
    ({"esno_db": 1.0, "ldpc_backend": "cuda"}, ("ldpc_backend", "numba")),
    ({"esno_db": 1.0, "fading_block_symbols": 0}, ("fading_block_symbols",)),
    ({"esno_db": 1.0, "num_iterations": 0}, ("num_iterations",)),
    ({"esno_db": 1.0, "code": "polar", "list_size": 0}, ("list_size",)),
])
def test_what_cannot_be_is_refused_by_name(keys: dict[str, Any], words: tuple[str, ...]):
    """Catches a request that fails deep inside TensorFlow, or is silently changed."""
    with pytest.raises(ValidationError) as refusal:
        CodedLink(**keys)
    assert all(word in str(refusal.value) for word in words)


def test_tensorflow_is_loaded_only_when_used():
    """Catches a slow `channel-sim list`: naming, checking and charging a link need no TensorFlow."""
    script = ("import sys, numpy as np\nfrom channel_sim.link import CodedLink\n"
              "CodedLink(esno_db=3.0, code='polar', block_bits=64, fading='tdl_a').channel_uses(np.array([100]))\n"
              "sys.exit(any(name.startswith(('tensorflow', 'sionna', 'keras')) for name in sys.modules))")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
