"""Damaged packets: likely errors by brute force, what is kept is as sure as said, and damage is data however it comes."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from channel_sim import memo
from channel_sim.bits import BinaryErasure, BinarySymmetric
from channel_sim.checks import RequestError
from channel_sim.crc import CrcName, crc
from channel_sim.keys import Key
from channel_sim.link import CodedLink
from channel_sim.stages import Channel
from channel_sim.types import CERTAIN_LLR, Evidence, Packets, ReceivedChecks, Reception, Tokens
from scenarios.scenario import load
from sources.coder import Entropy
from sources.entropy import Run, settled_bits, unseal
from sources.models.ngram import NGram
from sources.models.uniform import Uniform
from sources.repair import Damage, likely_flips
from sources.text import python_docs
from tests.laws import assert_rate
from tests.test_coder import random_tokens
from tests.test_entropy import CONTEXTS, FAMILY, Order2, drawn_from, got, sent

REPAIRS = ("prefix", "list")


def arrived(packets: Packets, llr: np.ndarray, *, crc_ok: np.ndarray | None = None, check: np.ndarray | None = None,
            name: CrcName = "crc16") -> Reception:
    """All packets with these LLRs [num_packets, max_bits], and CRCs of LLR `check`; none: as sent, and all but certain."""
    if check is None:
        check = 20.0 * (2.0 * np.array([crc(bits[:size], name) for bits, size in zip(packets.bits, packets.num_bits)]) - 1)
    payload = np.where(np.arange(llr.shape[1]) < packets.num_bits[:, None], llr, -CERTAIN_LLR).astype(np.float32)
    checks = ReceivedChecks(check.astype(np.float32), packets.num_bits, name)
    ok = np.array([np.array_equal(crc(row[:size] > 0, name), told > 0)
                   for row, size, told in zip(payload, packets.num_bits, check)]) if crc_ok is None else crc_ok
    return Reception(payload, np.zeros(packets.num_packets, bool), ok, packets.header, crc_checked=True, checks=checks)


def over(channel: Channel, packets: Packets, trial: int = 0) -> Reception:
    observation, = channel.transmit([packets], [Key(21).child("channel", trial)])
    return channel.receive(observation)


def signed(packets: Packets, reliability: float) -> np.ndarray:
    return reliability * (2.0 * packets.bits - 1)


def test_flips_come_in_the_order_of_their_sums():
    """Catches a set that is missing, doubled or out of turn; all 128 sets of 7 places, some of them alike."""
    reliability = np.array([2.0, 0.5, 0.5, 3.25, 0.0, 1.0, 2.0])
    marks = np.array([1, 2, 4, 8, 16, 32, 64])
    listed = list(likely_flips(reliability, marks))
    found = [tuple(sorted(flips.places)) for flips in listed]
    sums = [reliability[list(places)].sum() for places in found]
    assert found[0] == () and len(found) == len(set(found)) == 128
    assert np.all(np.diff(sums) >= -1e-12)
    np.testing.assert_allclose([flips.reliability for flips in listed], sums, atol=1e-12)
    assert [flips.mark for flips in listed] == [sum(1 << place for place in places) for places in found]


def test_few_flips_go_before_many_that_are_as_likely():
    """Catches a receiver of hard decisions that tries the first bits in all their combinations before it tries the last bit."""
    sizes = [len(flips.places) for flips in islice(likely_flips(np.zeros(50), np.zeros(50, int)), 60)]
    assert sizes == [0] + [1] * 50 + [2] * 9


@pytest.mark.parametrize("list_size", [1, 5, 40, 4000])
def test_what_the_channel_says_of_the_errors(list_size: int):
    """Catches mass that is lost, doubled or booked to another first error. The reference: all 2^13 error patterns, one by one."""
    num_bits: int = 7
    name: CrcName = "crc6"
    llr = 3 * Key(2).child("llr").normal(num_bits + 6)
    told = llr.astype(np.float32)[None]
    reception = Reception(told[:, :num_bits], np.zeros(1, bool), np.zeros(1, bool), np.zeros((1, 3), np.int32), crc_checked=True,
                          checks=ReceivedChecks(told[:, num_bits:], np.array([num_bits]), name))
    llr = told[0].astype(np.float64)
    right = 1 / (1 + np.exp(-np.abs(llr)))
    listed, elsewhere = [], np.zeros(num_bits + 1)
    every = map(np.array, product((0, 1), repeat=num_bits + 6))
    patterns = [(float(np.where(flips, 1 - right, right).prod()), flips) for flips in every]
    for rank, (probability, flips) in enumerate(sorted(patterns, key=lambda one: -one[0])):
        word = (llr > 0) ^ flips
        if rank >= list_size:
            elsewhere[np.flatnonzero([*flips[:num_bits], 1])[0]] += probability / 64
        elif np.array_equal(crc(word[:num_bits], name), word[num_bits:]):
            listed.append((word[:num_bits].tolist(), np.log(probability), np.flatnonzero([*flips[:num_bits], 1])[0]))
    damage = Damage.of(reception, 0, list_size)
    assert [payload.tolist() for payload in damage.repairs] == [payload for payload, _, _ in listed]
    np.testing.assert_allclose(damage.log_weights, [weight for _, weight, _ in listed])
    assert damage.first_wrong.tolist() == [first for _, _, first in listed]
    np.testing.assert_allclose(damage.elsewhere, elsewhere, rtol=1e-6, atol=1e-15)


def test_without_a_crc_a_token_is_right_if_its_bits_are():
    """(1 - q)^bits: catches a bit too many or too few before a token."""
    llr = np.full((1, 100), np.log(0.98 / 0.02), np.float32)
    reception = Reception(llr, np.zeros(1, bool), np.ones(1, bool), np.zeros((1, 3), np.int32))
    settled = np.array([3, 3, 50, 100, 101])
    for list_size in (1, 30):
        damage = Damage.of(reception, 0, list_size)
        probable, right = damage.verdict(np.zeros(len(damage.repairs)), settled, np.zeros(6))
        np.testing.assert_allclose(right, [0.98**3, 0.98**3, 0.98**50, 0.98**100, 0], rtol=1e-6)  # LLRs are float32
        assert probable[0] == pytest.approx(0.98**100, rel=1e-5)


@pytest.mark.parametrize("shift", [0, 1, 40])
def test_settled_bits_are_those_that_settle(shift: int):
    """By brute force: with the bits a token needs it is decoded whatever follows, with one fewer it is not."""
    model = Order2()
    values = drawn_from(model, 60 + shift).values
    packets, _ = sent(Entropy(model=model, packet_bits=None), Tokens(values, 256))
    stream = packets.bits[0]
    settled = settled_bits(Run(model, values), stream)
    tables = Run(model, values)
    tables.look()
    assert np.all(np.diff(settled) >= 0) and tables.weights.shape[0] >= 12
    for token in range(12):
        for fewer in (0, 1):
            kept = stream[:settled[token] - fewer]
            tails = [unseal(kept, tail) for tail in (0, 1)]
            assert _all_decode(tails, tables.weights[:token + 1], values[:token + 1]) == (not fewer)


def _all_decode(decoders: list[Any], weights: np.ndarray, values: np.ndarray) -> bool:
    try:
        return all(np.array_equal(decoder.decode(FAMILY, weights), values) for decoder in decoders)
    except AssertionError:
        return False


def test_what_a_decoder_out_of_step_makes_is_typical_of_its_model():
    """Its surprise is the model's own entropy: catches a claim that the model alone could tell. Text, the control, differs."""
    model, excess, control = NGram(), [], []
    docs = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    for trial in range(40):
        values = docs[9000 * trial:][:500]
        packets, preamble = sent(Entropy(model=model), Tokens(values, 256))
        stream = packets.bits[0].copy()
        stream[4] ^= 1
        lane = unseal(stream)
        tokens, state, differences = [], model.start(1), []
        for _ in range(100):
            table = model.frequencies(state)[0]
            weights = (table * 256.0 - 1)[None]
            tokens.append(lane.decode(FAMILY, weights)[0])
            differences.append(_excess(table, tokens[-1]))
            state = model.advance(state, np.array(tokens[-1:]))
        excess.append(np.mean(differences[30:]))
        tables, _ = model.tables(model.start(1), values[:100])
        control.append(np.mean([_excess(table, value) for table, value in zip(tables[30:], values[30:])]))
    means = [np.mean(one) / (np.std(one) / np.sqrt(len(one))) for one in (excess, control)]  # packets are independent
    assert abs(means[0]) < 4 < means[1]


def _excess(table: np.ndarray, token: int) -> float:
    """Surprise of a token less the entropy of its table, in bits."""
    probability = table / table.sum()
    return float(-np.log2(probability[token]) + probability @ np.log2(probability))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("flips", [1, 2])
def test_doubtful_bits_are_flipped_back(context: str, flips: int):
    """Catches a repair that is off by a bit, that stops at the first packet of a run, or loses what comes after it."""
    coder = Entropy(model=Order2(), packet_bits=128, context=context, repair="list")
    tokens = drawn_from(Order2(), 400)
    packets, preamble = sent(coder, tokens)
    llr = signed(packets, 12.0)
    for packet in range(packets.num_packets):
        wrong = np.argsort(Key(3).child("wrong", packet).uniform(int(packets.num_bits[packet])))[:flips + 2]
        llr[packet, wrong] *= 0.05
        llr[packet, wrong[:flips]] *= -0.5
    reception = arrived(packets, llr)
    assert not reception.crc_ok.any()
    evidence = got(coder, reception, preamble)
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
    assert not got(coder.model_copy(update={"repair": "drop"}), reception, preamble).known.any()


@pytest.mark.parametrize("repair", REPAIRS)
def test_a_crc_that_fails_by_itself_costs_nothing(repair: str):
    """Catches a payload dropped for a wrong bit of its check, and a header's error taken for the payload's."""
    coder = Entropy(model=Order2(), packet_bits=128, repair=repair)
    tokens = drawn_from(Order2(), 200)
    packets, preamble = sent(coder, tokens)
    clean = arrived(packets, signed(packets, 12.0))
    in_header = replace(clean, crc_ok=~clean.crc_ok)
    assert np.array_equal(got(coder, in_header, preamble).values, tokens.values)
    assert clean.checks is not None
    check = clean.checks.llr.copy()
    check[:, 3] *= -0.01
    evidence = got(coder.model_copy(update={"repair": "list"}), arrived(packets, signed(packets, 12.0), check=check), preamble)
    assert np.array_equal(evidence.values, tokens.values)


@pytest.mark.parametrize("context", CONTEXTS)
def test_erased_bits_are_found_by_the_crc(context: str):
    """Catches a bit of LLR 0 taken as 0, and certain bits doubted, where a channel erases."""
    coder = Entropy(model=Order2(), packet_bits=128, context=context, repair="list", list_size=256)
    tokens = drawn_from(Order2(), 300)
    packets, preamble = sent(coder, tokens)
    reception = over(BinaryErasure(erasure_probability=0.02, crc="crc24a"), packets)
    assert (~reception.crc_ok).sum() >= 3
    evidence = got(coder, reception, preamble)
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)


@pytest.mark.parametrize("crc_name", ["crc16", "none"])
@pytest.mark.parametrize("repair", REPAIRS)
def test_what_is_kept_is_as_sure_as_it_says(repair: str, crc_name: Any):
    """At most 1 packet in 10 keeps a wrong token, that is the promise of keep_above; tokens follow the model, bits the LLRs.

    The control: where four times as many bits are wrong as the LLRs say, the promise is broken.
    """
    coder = Entropy(model=Order2(), packet_bits=64, repair=repair, list_size=8, header_bits=64)
    tokens = drawn_from(Order2(), 5000)
    packets, preamble = sent(coder, tokens)
    shares = []
    for flip_probability in (0.01, 0.04):
        heard = over(BinarySymmetric(flip_probability=flip_probability, soft=True, crc=crc_name), packets)
        evidence = got(coder, with_reliability(heard, np.log(99)), preamble)
        wrong = evidence.known & (evidence.values != tokens.values)
        kept = [packets.positions(packet) for packet in np.flatnonzero(~heard.crc_ok | (crc_name == "none"))
                if evidence.known[packets.positions(packet)].any()]
        shares.append(np.mean([wrong[positions].any() for positions in kept]))
        assert len(kept) >= 30
    assert shares[0] < 0.1 + 3 * np.sqrt(0.09 / 30) and shares[1] > 0.15


def with_reliability(heard: Reception, reliability: float) -> Reception:
    """The same bits, each said to be this sure."""
    assert heard.checks is not None
    checks = replace(heard.checks, llr=(reliability * np.sign(heard.checks.llr)).astype(np.float32))
    llr = np.where(np.abs(heard.llr) < CERTAIN_LLR, reliability * np.sign(heard.llr), heard.llr).astype(np.float32)
    return replace(heard, llr=llr, checks=checks)


def test_a_prefix_ends_where_its_bits_become_doubtful():
    """1 - (1 - q)^bits of the last token kept is how often it is wrong: two-sided, so that keeping too little shows as well."""
    coder = Entropy(model=Order2(), packet_bits=64, repair="prefix", keep_above=0.8, header_bits=64)
    tokens = drawn_from(Order2(), 6000)
    packets, preamble = sent(coder, tokens)
    heard = over(BinarySymmetric(flip_probability=0.01, soft=True), packets)
    evidence = got(coder, heard, preamble)
    wrong = evidence.known & (evidence.values != tokens.values)
    kept = np.array([evidence.known[packets.positions(packet)].sum() for packet in range(packets.num_packets)])
    deceived = np.array([wrong[packets.positions(packet)].any() for packet in range(packets.num_packets)])
    ends = np.array([settled_bits(Run(Order2(), tokens.values[packets.positions(packet)]), packets.bits[packet, :size])[count - 1]
                     for packet, (size, count) in enumerate(zip(packets.num_bits, kept, strict=True))
                     if count and not deceived[packet]])
    assert 15 < ends.mean() and ends.max() <= 24  # .99^22 = .80; a wrong bit moves the ends
    assert_rate(int(deceived.sum()), int((kept > 0).sum()), expected=float(1 - 0.99 ** ends.mean()))


def test_a_judge_that_knows_better_finds_where_decoding_went_wrong():
    """Tokens of Order2 coded as if each came by itself: past the wrong bit they are noise to the judge.

    Catches a change point that is off, a judge told of other text, and a likelihood of the wrong sign. The control: a judge that
    knows no better finds nothing.
    """
    tokens = drawn_from(Order2(), 2000)
    blind = Entropy(model=Blind(), packet_bits=400, repair="prefix")
    packets, preamble = sent(blind, tokens)
    flipped = (Key(5).child("place").uniform(packets.num_packets) * packets.num_bits).astype(int)
    llr = signed(packets, 4.0)
    llr[np.arange(packets.num_packets), flipped] *= -1
    reception = arrived(packets, llr)
    settled = [settled_bits(Run(Blind(), tokens.values[packets.positions(packet)]), packets.bits[packet, :size])
               for packet, size in enumerate(packets.num_bits)]
    right = [np.searchsorted(bits, place, side="right") for bits, place in zip(settled, flipped, strict=True)]
    for judge in (Order2(), None):
        evidence = got(blind.model_copy(update={"judge": judge}), reception, preamble)
        kept = [int(evidence.known[packets.positions(packet)].sum()) for packet in range(packets.num_packets)]
        missing = np.array(right) - kept
        assert (np.abs(missing).mean() < 1.5 and np.abs(missing).max() <= 6) if judge else missing.mean() > 10


def test_a_judge_that_is_not_asked_is_not_loaded():
    """Catches weights that are read, or asked for, where damaged packets are dropped; where they are not, they must be there."""
    coder = {"name": "entropy", "judge": {"name": "recurrent", "path": "none.safetensors"}}
    tables = {"question": "?", "arm": [{"label": "a"}], "coder": coder}
    task = load(tables).tasks[0]
    assert "judge" not in task.resolved["coder"] and memo.identity(task.chain.coder)
    with pytest.raises(RequestError, match="arm 'a': coder.judge: model.path must be weights of a recurrent model"):
        load(tables | {"coder": coder | {"repair": "list"}})


class Blind(Order2):
    """The same tokens without context: nearly flat, but no power of two, so that a wrong bit is wrong for good."""

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        table = 200 + np.arange(self.vocab_size) % 97
        table[0] += (1 << 16) - table.sum()
        return np.tile(table, (len(state), 1))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("crc_known", [True, False])
def test_every_damage_is_survived(context: str, repair: str, crc_known: bool):
    """Catches a crash or a hang: noise, all zero, all erased, contradictory and certain bits, headers that lie, no checks told."""
    coder = Entropy(model=Order2(), packet_bits=60, context=context, repair=repair, list_size=6)
    tokens = drawn_from(Order2(), 100)
    packets, preamble = sent(coder, tokens)
    shape = packets.bits.shape
    noise = Key(6).child("noise").normal(*shape)
    for llr in (noise, np.zeros(shape), 50 * np.sign(noise), np.full(shape, -50.0), 49 * np.sign(noise), signed(packets, 1e-3)):
        for ok in (np.zeros(packets.num_packets, bool), np.arange(packets.num_packets) % 2 == 0):
            reception = arrived(packets, llr, crc_ok=ok)
            if not crc_known:
                reception = replace(reception, checks=None, crc_checked=False)
            evidence = got(coder, reception, preamble)
            assert evidence.known.shape == (100,)
    for lie in (-1, 3, 2**31 - 1):
        header = packets.header.copy()
        header[1] = lie
        assert got(coder, replace(reception, header=header), preamble).known.shape == (100,)


def test_noise_is_not_accepted():
    """Catches a CRC that fits by chance taken for proof, where the channel says next to nothing of the bits."""
    coder = Entropy(model=Uniform(vocab_size=2), packet_bits=40, repair="list", list_size=300, header_bits=64)
    tokens = random_tokens(2000, 2)
    packets, preamble = sent(coder, tokens)
    noise, check = Key(8).child("noise").normal(packets.num_packets, 40), Key(8).child("check").normal(packets.num_packets, 11)
    reception = arrived(packets, noise, check=check, name="crc11")
    found = [Damage.of(reception, slot, 300) for slot in range(packets.num_packets)]
    assert sum(len(one.repairs) for one in found) >= 3  # some do fit: 50 packets of 300 tries at 2^-11 are 7
    evidence = got(coder, reception, preamble)
    wrong = evidence.known & (evidence.values != tokens.values)
    assert wrong.mean() < 0.01


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("repair", REPAIRS)
def test_items_do_not_depend_on_their_neighbours(context: str, repair: str):
    """Catches a judge told of another item's text, and trials that end in another's book; with and without a memory."""
    coder = Entropy(model=Order2(), packet_bits=100, context=context, repair=repair, list_size=16, judge=NGram())
    items = [drawn_from(Order2(), 90 + 10 * item, "repair") for item in range(8)]
    coded = coder.encode(items)
    channel = BinarySymmetric(flip_probability=0.01, soft=True, crc="crc16")
    receptions = [over(channel, packets, trial) for trial, (packets, _) in enumerate(coded)]
    preambles = [preamble for _, preamble in coded]
    together = coder.receive(receptions, preambles)
    alone = [got(coder, *pair) for pair in zip(receptions, preambles, strict=True)]
    with memo.attach(None):
        remembered = [coder.receive(receptions, preambles) for _ in range(2)]
    assert sum(int((~reception.crc_ok).sum()) for reception in receptions) >= 10
    for others in (alone, *remembered):
        assert all(_same(*pair) for pair in zip(together, others, strict=True))


def _same(one: Evidence, other: Evidence) -> bool:
    return np.array_equal(one.known, other.known) and np.array_equal(one.values, other.values)


@pytest.mark.parametrize("channel", [
    BinarySymmetric(flip_probability=0.01, soft=True, crc="crc24a"), BinarySymmetric(flip_probability=0.01, crc="crc6"),
    CodedLink(code="uncoded", esno_db=7.0, crc="crc16", on_crc_failure="deliver"),
    pytest.param(CodedLink(code="ldpc", block_bits=140, esno_db=0.5, crc="crc11", on_crc_failure="deliver"),
                 marks=pytest.mark.sionna)], ids=repr)
def test_the_receiver_checks_what_the_channel_checked(channel: Channel):
    """Catches a CRC told of other bits, in another order, or at another place of the stream than the one that was checked."""
    packets, _ = sent(Entropy(model=Order2(), packet_bits=120, header_bits=0, context="chained"), drawn_from(Order2(), 1500))
    reception = over(channel, packets)
    checks = reception.checks
    assert checks is not None and checks.crc == channel.crc and 3 <= reception.crc_ok.sum() < packets.num_packets
    for slot in range(packets.num_packets):
        size = checks.num_bits[slot]
        assert size == packets.num_bits[slot]
        fits = np.array_equal(crc(reception.hard_bits[slot, :size], checks.crc), checks.llr[slot] > 0)
        assert fits == reception.crc_ok[slot]


def test_nothing_is_told_of_the_check_of_a_lost_packet():
    """Catches truth that travels with the CRC of what was erased."""
    packets, _ = sent(Entropy(model=Order2(), packet_bits=120, header_bits=0, context="chained"), drawn_from(Order2(), 1500))
    reception = over(CodedLink(code="uncoded", esno_db=6.0, crc="crc16", on_crc_failure="erase"), packets)
    checks = reception.checks
    assert checks is not None and reception.lost.any()
    assert not checks.llr[reception.lost].any() and not checks.num_bits[reception.lost].any()
