"""Iterating between prior and channel decoder: extrinsic both ways, in the right places, and refused where it has no meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.protection import NoProtection
from channel_sim.stages import Channel, Detection, Observation
from channel_sim.trial import Chain, Receiver, run, send
from channel_sim.types import Evidence, Origin, Packets, Preamble, Reconstruction, Tokens
from scenarios.catalogue import CATALOGUE
from scenarios.cli import main
from scenarios.scenario import load
from sources.fixed_length import FixedLength
from tests.chains import chain_with

CODERS = [FixedLength(packet_bits=24, interleave=False), FixedLength(packet_bits=40, interleave=True)]


def coded(coder: FixedLength) -> tuple[Tokens, Packets, Preamble]:
    tokens = Tokens(Key(1).integers(200, 21).astype(np.int32), 256)
    return (tokens, *coder.encode([tokens])[0])


def inferred(tokens: Tokens, posterior: np.ndarray) -> Reconstruction:
    num = tokens.values.size
    return Reconstruction(tokens.values, np.full(num, Origin.INFERRED, np.uint8), np.full(num, 0.5, np.float32), 256,
                          posterior=posterior.astype(np.float32))


@pytest.mark.parametrize("coder", CODERS, ids=["in order", "interleaved"])
def test_a_priori_bits_lie_where_the_packets_have_them(coder: FixedLength):
    """Catches a prior on another packet's bits: a posterior that knows the tokens must have the sign of every payload bit."""
    tokens, packets, preamble = coded(coder)
    posterior = np.full((21, 256), 0.1 / 255)
    posterior[np.arange(21), tokens.values] = 0.9
    nothing = Evidence(np.zeros(21, bool), np.zeros(21, np.int32), 256)
    prior = coder.a_priori(nothing, inferred(tokens, posterior), preamble)
    assert prior.shape == packets.bits.shape
    inside = np.arange(prior.shape[1]) < packets.num_bits[:, None]
    assert np.array_equal(prior[inside] > 0, packets.bits[inside] == 1) and not np.any(prior[~inside])


def test_a_priori_bits_are_extrinsic():
    """Catches evidence that is told again: brute force over tokens of two bits, by marginals of the posterior less the evidence."""
    coder = FixedLength(packet_bits=4)
    llr = np.array([[0.7, -1.2], [2.0, 0.3], [-0.4, 0.0]], np.float32)
    prior = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    likelihood = np.array([[np.exp(one[0] * (token >> 1) + one[1] * (token & 1)) for token in range(4)] for one in llr])
    posterior = prior * likelihood
    posterior /= posterior.sum(axis=1, keepdims=True)
    evidence = Evidence(np.zeros(3, bool), np.zeros(3, np.int32), 4, bit_llr=llr)
    told = Reconstruction(np.zeros(3, np.int32), np.full(3, Origin.INFERRED, np.uint8), np.ones(3, np.float32), 4,
                          posterior=posterior.astype(np.float32))
    found = coder.a_priori(evidence, told, Preamble(3, 2, (3,), (4,))).reshape(-1)[:6].reshape(3, 2)
    for row in range(3):
        for bit in (0, 1):
            ones = np.array([token >> 1 - bit & 1 for token in range(4)], bool)
            expected = np.log(posterior[row, ones].sum() / posterior[row, ~ones].sum()) - llr[row, bit]
            assert found[row, bit] == pytest.approx(expected, abs=1e-5)
    assert np.allclose(found[2], 0, atol=1e-6)  # a flat prior adds nothing


class Echo(Channel):
    """Hands back the prior as its LLRs; without one, weak LLRs of the truth."""

    def transmit(self, packets: Any, keys: Any) -> list[Observation]:
        return [Observation(one, np.zeros(one.num_packets, bool), None, self.charge(one)) for one in packets]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        bits = observation.packets.bits
        llr = (bits - 0.5).astype(np.float32) if a_priori is None else a_priori
        return Detection(llr, np.ones(len(bits), bool))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_prior_goes_on_the_air_in_the_order_of_the_air(depth: int):
    """Catches a prior that meets another packet's bits where packets are interleaved."""
    _, packets, _ = coded(CODERS[0])
    delivery, = NoProtection(interleave_depth=depth).send([packets], Echo(), [Key(2)])
    assert delivery.again is not None
    prior = (packets.bits * 4.0 - 2 + np.arange(packets.num_packets)[:, None] / 100).astype(np.float32)
    inside = np.arange(prior.shape[1]) < packets.num_bits[:, None]
    again = delivery.again(prior).reception.llr
    np.testing.assert_allclose(again[inside], prior[inside], rtol=1e-6)


@pytest.mark.parametrize("llr", [-40.0, 40.0])
def test_a_flat_prior_does_not_vote_against_bits_that_are_sure(llr: float):
    """Catches evidence beyond what a posterior can say that comes back with its sign turned."""
    evidence = Evidence(np.zeros(1, bool), np.zeros(1, np.int32), 2, bit_llr=np.array([[llr]], np.float32))
    posterior = np.array([[1 / (1 + np.exp(llr)), 1 / (1 + np.exp(-llr))]])
    told = Reconstruction(np.zeros(1, np.int32), np.full(1, Origin.INFERRED, np.uint8), np.ones(1, np.float32), 2,
                          posterior=posterior.astype(np.float32))
    assert FixedLength(packet_bits=1).a_priori(evidence, told, Preamble(1, 1, (1,), (2,))) == pytest.approx(0, abs=1e-3)


class Fickle(Channel):
    """The CRC of packet k fits the time that `fits_at` says and at no other; LLRs are 1 + the number of detections before."""

    def transmit(self, packets: Any, keys: Any) -> list[Observation]:
        return [Observation(one, np.zeros(one.num_packets, bool), [], self.charge(one)) for one in packets]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        time = len(observation.state)
        observation.state.append(a_priori)
        bits = observation.packets.bits
        return Detection(np.full(bits.shape, 1.0 + time, np.float32), np.arange(len(bits)) == time)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_packet_whose_crc_has_fitted_is_kept(depth: int):
    """Catches a packet that a prior saved and that is then decoded from scratch: fits must add up, and stay as they were."""
    _, packets, _ = coded(CODERS[0])
    delivery, = NoProtection(interleave_depth=depth).send([packets], Fickle(crc="crc16"), [Key(2)])
    fitted = [set(np.flatnonzero(delivery.reception.crc_ok))]
    for time in (1, 2):
        assert delivery.again is not None
        delivery = delivery.again(np.zeros(packets.bits.shape, np.float32))
        fitted.append(set(np.flatnonzero(delivery.reception.crc_ok)))
        assert fitted[-2] < fitted[-1] and len(fitted[-1]) == time + 1
    first, second, third = (list(new - old) for old, new in zip([set(), *fitted], fitted, strict=False))
    failed = ~delivery.reception.crc_ok
    assert [delivery.reception.llr[rows, 0].tolist() for rows in (first, second, third)] == [[1.0], [2.0], [3.0]]
    assert np.all(delivery.reception.llr[failed, 0] == 3)


def base(**tables: Any) -> dict[str, Any]:
    return {"question": "?", "source": {"name": "text", "item_bytes": 300}, "decoder": {"name": "ngram"},
            "channel": {"name": "bsc", "flip_probability": 0.05, "soft": True},
            "coder": {"name": "fixed_length", "packet_bits": 240, "header_bits": 0}, "arm": [{"label": "a"}]} | tables


def chain(**tables: Any) -> Chain:
    return load(base(**tables)).tasks[0].chain


WITHOUT_MEANING = [
    ({"coder": {"name": "entropy"}, "channel": {"name": "bsc", "crc": "none", "flip_probability": 0.05}}, "coder entropy"),
    ({"protection": {"name": "repeat"}, "channel": {"name": "packet_loss", "loss_rate": 0.5}}, "protection repeat"),
    ({"decoder": {"name": "none"}}, "decoder none"),
    ({"channel": {"name": "coded_link", "code": "polar", "block_bits": 100, "esno_db": 0}}, 'code = "polar" of channel coded_link'),
]


@pytest.mark.parametrize(("tables", "what"), WITHOUT_MEANING, ids=[what for _, what in WITHOUT_MEANING])
def test_exchanges_without_meaning_are_refused(tables: dict[str, Any], what: str, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]):
    """Catches what is refused only once it runs, with results half written, or a refusal without key, rule, value or cure."""
    chain(**tables)  # fine without exchanges
    asked = base(**tables, receiver={"num_exchanges": 2})
    with pytest.raises(RequestError, match=f"receiver.num_exchanges must be 0, got 2, with {what}.*use"):
        load(asked)
    lines = ['question = "?"', 'arm = [{label = "a"}]']
    lines += [f"{stage}.{key} = {str(value).lower() if isinstance(value, bool) else json.dumps(value)}"
              for stage, table in asked.items() if isinstance(table, dict) for key, value in table.items()]
    file, out = tmp_path / "asked.toml", tmp_path / "out"
    file.write_text("\n".join(lines))
    assert main(["run", str(file), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("name", sorted(CATALOGUE["decoders"]))
def test_decoders_that_state_no_posterior_say_so(name: str):
    """Catches a decoder that is let into exchanges and has nothing to give, or is kept out and has."""
    decoder = chain_with("decoders", name).decoder
    nothing = Evidence(np.zeros(4, bool), np.zeros(4, np.int32), chain_with("decoders", name).tokenizer.vocab_size)
    restored, = decoder.restore([nothing], [Key(1)])
    assert decoder.states_posterior == (restored.posterior is not None)


def test_a_channel_without_a_code_hears_nothing_new():
    """Catches a prior that comes back as evidence: where bits are independent, extrinsic means that nothing is added."""
    once, often = (replace(chain(), receiver=Receiver(num_exchanges=number)) for number in (0, 2))
    (first,), (second,) = (run(one, send(one, [0], Key(1)), 0, Key(1)) for one in (once, often))
    assert first.measurement.values["token_error_rate"] == second.measurement.values["token_error_rate"]
    np.testing.assert_array_equal(first.received.evidence.bit_llr, second.received.evidence.bit_llr)


@pytest.mark.sionna
def test_exchanges_mend_code_blocks_that_context_can_help():
    """Catches exchanges without gain: at the edge of the waterfall text must pull blocks through that failed alone."""
    link = {"name": "coded_link", "block_bits": 256, "ebno_db": 1.0, "on_crc_failure": "deliver"}
    arm = chain(channel=link)
    sent = send(arm, range(8), Key(3))
    counts = []
    for number in (0, 2):
        outcomes = run(replace(arm, receiver=Receiver(num_exchanges=number)), sent, 0, Key(3))
        counts.append(sum(one.delivery.counts["block_error_rate"][0] for one in outcomes))
    assert counts[0] >= 20 and counts[1] < 0.4 * counts[0]


class Told(Channel):
    """Says `llr` times the truth of every bit, and keeps what it is told."""

    llr: float
    heard: ClassVar[list[np.ndarray]] = []

    def transmit(self, packets: Any, keys: Any) -> list[Observation]:
        return [Observation(one, np.zeros(one.num_packets, bool), None, self.charge(one)) for one in packets]

    def detect(self, observation: Observation, a_priori: np.ndarray | None = None) -> Detection:
        bits = observation.packets.bits
        if a_priori is not None:
            self.heard.append(a_priori)
        return Detection(self.llr * (2 * bits.astype(np.float32) - 1), np.ones(len(bits), bool))


def test_what_is_sure_still_has_a_prior():
    """Catches a prior that is nothing where the evidence takes all that a posterior can say: the next decoding fell back."""
    arm = replace(chain(), channel=Told(llr=45.0), receiver=Receiver(num_exchanges=1))
    sent = send(arm, [0], Key(1))
    run(arm, sent, 0, Key(1))
    bits, prior = sent[0].packets.bits, Told.heard.pop()
    agrees = prior * (2.0 * bits - 1)  # positive where it is right
    assert np.median(agrees) > 2 and np.mean(agrees > 0) > 0.9


@pytest.mark.slow  # a trellis takes half a minute to compile
@pytest.mark.sionna
@pytest.mark.parametrize("code", ["convolutional", "turbo"])
@pytest.mark.parametrize("crc", ["crc16", "none"])
def test_every_code_with_soft_decisions_takes_part(code: str, crc: str):
    """Catches a code that is let into exchanges and makes nothing of them."""
    arm = chain(channel={"name": "coded_link", "code": code, "block_bits": 256, "ebno_db": 0.5, "crc": crc,
                         "on_crc_failure": "deliver"})
    sent = send(arm, range(3), Key(3))
    wrong = []
    for number in (0, 2):
        outcomes = run(replace(arm, receiver=Receiver(num_exchanges=number)), sent, 0, Key(3))
        wrong.append(sum(int((one.received.reconstruction.values != one.sent.tokens.values).sum()) for one in outcomes))
    assert wrong[0] >= 20 and wrong[1] < 0.4 * wrong[0]


@pytest.mark.sionna
@pytest.mark.parametrize(("ebno_db", "crc"), [(1.0, "crc16"), (1.4, "crc16"), (1.0, "none")])
def test_errors_do_not_rise_with_exchanges(ebno_db: float, crc: str):
    """Catches exchanges that lose what they had, with a CRC that tells what to keep or without, and priors told as evidence."""
    link = {"name": "coded_link", "block_bits": 256, "ebno_db": ebno_db, "on_crc_failure": "deliver", "crc": crc}
    arm = chain(source={"name": "text", "item_bytes": 240}, channel=link)
    sent = send(arm, range(24), Key(5))
    failed, wrong = [], []
    for number in (0, 1, 2, 3):
        outcomes = run(replace(arm, receiver=Receiver(num_exchanges=number)), sent, 0, Key(5))
        failed.append(sum(int(one.delivery.counts["block_error_rate"][0]) for one in outcomes))
        wrong.append(sum(int((one.received.reconstruction.values != one.sent.tokens.values).sum()) for one in outcomes))
    assert failed[0] >= 10 and wrong[0] >= 20
    assert failed == sorted(failed, reverse=True)
    assert all(later <= before + 2 * before ** 0.5 for before, later in pairwise(wrong)) and wrong[-1] < 0.3 * wrong[0]


@pytest.mark.sionna
def test_bits_that_nothing_checks_stay_without_the_prior():
    """Catches a prior that comes back as evidence where no CRC says whether a packet is right: it would count twice."""
    arm = chain(channel={"name": "coded_link", "code": "uncoded", "crc": "none", "esno_db": 3.0, "on_crc_failure": "deliver"})
    packets = send(arm, [0], Key(3))[0].packets
    (delivery,) = arm.protection.send([packets], arm.channel, [Key(4)])
    assert delivery.again is not None
    told = delivery.again(np.full(packets.bits.shape, 5.0, np.float32)).reception.llr
    np.testing.assert_allclose(told, delivery.reception.llr, atol=1e-4)
