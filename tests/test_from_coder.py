"""Compressors as generators: the identity ρ(b | x) = 2^(ℓ(x) − ℓ(xb)) on coders whose probabilities are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens
from decoders.posterior_sample import PosteriorSample
from scenarios.scenario import load
from sources.classical import Compressor
from sources.coder import Entropy
from sources.fixed_length import FixedLength
from sources.models.from_coder import FromCoder, shares
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel
from sources.models.ngram import NGram
from sources.models.placebos import NGramDna
from sources.text import python_docs
from tests.laws import assert_rate

WHOLE = 1 << 30
PASTS = [np.frombuffer(python_docs()[first:first + 24], np.uint8).astype(np.int32) for first in (1000, 20_000, 90_000)]
DYADIC = np.array([[1, 2, 3, 3], [3, 1, 2, 3], [2, 3, 3, 1], [2, 2, 2, 2]])
"""-log2 P(token | token before it) of a chain; the last row also of a first token."""


class PrefixCode(Coder):
    """A code word of -log2 p bits for every token of the dyadic chain: its lengths are its probabilities."""

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one.values) for one in tokens]

    def _encode(self, values: np.ndarray) -> tuple[Packets, Preamble]:
        length = int(DYADIC[np.append(3, values[:-1]), values].sum()) if values.size else 0
        packets = Packets(np.ones((1, length), np.uint8), np.array([length]), np.arange(values.size), np.array([0, values.size]),
                          np.array([[0, 0, values.size]]))
        return packets, Preamble(values.size, 1)

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        raise NotImplementedError


class Ideal(FromCoder):
    """Of -log2 P instead of whole bits, as the coder itself states it."""

    def bits(self, tokens: Sequence[Tokens]) -> np.ndarray:
        assert self.coder is not None
        return np.array([packets.ideal_bits for packets, _ in self.coder.encode(tokens)])


def after(model: CausalModel, past: np.ndarray) -> np.ndarray:
    """float64 [vocab_size]: p(token | past)."""
    state = model.start(1)
    for token in past:
        state = model.advance(state, np.array([token]))
    return model.frequencies(state)[0] / 2.0**model.frequency_bits


def largest_gap(model: CausalModel, other: CausalModel, past: np.ndarray) -> float:
    """Of two tables, in units of what rounding to 16 bits and the floor of 1 may do to them."""
    one, two = after(model, past), after(other, past)
    allowed = 2.0**-16 * (2 + model.vocab_size * two)
    allowed[one.argmax()] += model.vocab_size * 2.0**-16  # it takes what rounding leaves
    return float((np.abs(one - two) / allowed).max())


@pytest.mark.parametrize("past", [[], [0], [3, 2], [1, 1, 0, 2]])
def test_a_code_of_known_probabilities_generates_by_them(past: list[int]) -> None:
    """Catches lengths of the past counted in, a sign, and another base than 2: whole lengths, so only the table is rounded."""
    model = FromCoder(coder=PrefixCode(), vocab_size=4)
    expected = 2.0 ** -DYADIC[past[-1] if past else 3]
    assert np.abs(after(model, np.array(past, np.int32)) - expected).max() <= 4 * 2.0**-16


@pytest.mark.parametrize("past", PASTS)
def test_the_entropy_coder_of_ideal_lengths_generates_as_its_model(past: np.ndarray) -> None:
    """Catches any change of the identity on a real coder; the negative control is another coder's model, which must not fit."""
    ideal = Ideal(coder=Entropy(model=NGram(), packet_bits=WHOLE))
    assert largest_gap(ideal, NGram(), past) < 1
    assert largest_gap(ideal, NGramDna(), past) > 10


def test_the_entropy_coder_of_a_chain_generates_the_chain() -> None:
    """Catches an identity that holds for 256 tokens alone."""
    model = ExactMarkov(flip_probability=0.1)
    for past in ([], [1], [0, 1, 1]):
        assert largest_gap(Ideal(coder=Entropy(model=model), vocab_size=2), model, np.array(past, np.int32)) < 1


def test_whole_lengths_are_right_to_a_bit_and_seldom_shorter() -> None:
    """Catches lengths that are not the coder's own: a sealed range code takes at most a bit more than -log2 p, and seldom many less
    (about once in 2^k by k bits). What that costs is a fraction of what a model of nothing does."""
    real, ideal = (cls(coder=Entropy(model=NGram(), packet_bits=WHOLE)) for cls in (FromCoder, Ideal))
    excess = np.concatenate([real.lengths(past) - ideal.lengths(past) for past in PASTS])
    assert excess.max() <= 1.001 and np.mean(excess < -3) < 0.15
    true, drawn = (np.array([after(model, past) for past in PASTS]) for model in (NGram(), real))
    missed, by_chance = (float((true * np.log2(true / q)).sum()) / len(PASTS) for q in (drawn, np.full(256, 1 / 256)))
    assert missed < by_chance / 4


def test_a_sealed_range_code_writes_what_zeros_decode_to() -> None:
    """Catches a claim that real lengths of the entropy coder generate as its model: zeros at the end cost nothing, so a chain that
    flips one time in ten hardly flips, and the surprise it reports of itself is not the model's. The control draws by the model."""
    chain, known = ExactMarkov(flip_probability=0.1), np.arange(96) < 32
    evidence = [Evidence(known, np.zeros(known.size, np.int32), 2)] * 4
    surprise = {}
    for name, model in {"lengths": FromCoder(coder=Entropy(model=chain, packet_bits=WHOLE), vocab_size=2), "model": chain}.items():
        found = PosteriorSample(model=model).restore(evidence, [Key(item) for item in range(4)])
        surprise[name] = np.mean([-np.log2(one.confidence[32:]) for one in found])
    assert surprise["lengths"] < 0.15 and 0.3 < surprise["model"] < 0.65  # h(.1) = .469


def test_a_coder_that_models_nothing_generates_noise() -> None:
    """Negative control: tokens of fixed length are all alike."""
    assert np.all(after(FromCoder(coder=FixedLength()), PASTS[0]) == 1 / 256)


def test_lengths_in_bytes_differ_by_factors_of_256() -> None:
    """Catches bytes taken for bits: one token that saves a byte is as probable as 256 that do not."""
    lengths = np.full(256, 808.0)
    lengths[7] = 800
    table = shares(lengths, 1 << 16)
    assert table[7] / table.sum() == pytest.approx(256 / 511, rel=0.01)
    assert table.sum() == 1 << 16 and table.min() >= 1


def test_shares_of_lengths_far_apart_keep_the_floor() -> None:
    """Catches 0 where a code is very long, and an overflow: every token can be coded."""
    table = shares(np.array([0.0, 1e6, 39, 1]), 1 << 16)
    assert table.tolist() == [43690, 1, 1, 21844] and table.sum() == 1 << 16


def test_a_continuation_follows_the_code() -> None:
    """Catches draws that do not come by ρ: after token 0 the dyadic chain has 1/2, 1/4, 1/8, 1/8, and after that its own row."""
    draws, known = 2000, np.array([1, 0, 0], bool)
    decoder = PosteriorSample(model=FromCoder(coder=PrefixCode(), vocab_size=4))
    found = decoder.restore([Evidence(known, np.zeros(3, np.int32), 4)] * draws, [Key(1).child(i) for i in range(draws)])
    for token in range(4):
        assert_rate(sum(one.values[1] == token for one in found), draws, expected=2.0 ** -DYADIC[0, token])
    assert_rate(sum(one.values[2] == 3 for one in found), draws, float((2.0 ** -(DYADIC[0] + DYADIC[:, 3])).sum()))


def test_what_is_further_back_is_not_shown() -> None:
    """Catches a context that grows without end: with two tokens back, what was before them changes nothing, and the last does."""
    model = FromCoder(coder=Entropy(model=NGram(), packet_bits=WHOLE), context_tokens=3)
    one, other = (np.frombuffer(text, np.uint8).astype(np.int32) for text in (b"zqth", b"e th"))
    assert np.array_equal(after(model, one), after(model, other))
    assert not np.array_equal(after(model, one), after(model, one[:-1]))


@pytest.mark.parametrize("method", ["gzip", "png", "flac"])
def test_lengths_are_those_of_what_would_be_sent(method: str) -> None:
    """Catches a short way to lengths that is not the coder's: of files, the packets of one token after another."""
    coder = Compressor(method=method, packet_bits=64)
    tokens = [Tokens(np.append(PASTS[0], byte), 256) for byte in (0, 101, 255)]
    assert coder.coded_bits(tokens).tolist() == [packets.num_bits.sum() for packets, _ in coder.encode(tokens)]


def test_a_picture_is_shown_in_whole_rows() -> None:
    """Catches rows of another width, and pixels above that are not: rows that end in the pixel asked about."""
    shown = list[Tokens]()

    class Seen(FromCoder):
        def bits(self, tokens: Sequence[Tokens]) -> np.ndarray:
            shown.extend(tokens[:1])
            return np.zeros(len(tokens))

    model = Seen(coder=FixedLength(), vocab_size=2, row_tokens=4, context_tokens=10)
    for size in (2, 3, 9, 30):
        model.lengths(np.arange(size) % 2)
    assert [one.grid for one in shown] == [(3,), (1, 4, 1), (2, 4, 1), (2, 4, 1)]
    assert shown[2].values[:-1].tolist() == (np.arange(9) % 2)[-7:].tolist()


def scenario(model: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return {"question": "?", "items": 2, "arm": [{"label": "a"}], "source": {"name": "text", "item_bytes": 32},
            "decoder": {"name": "posterior_sample", "model": {"name": "from_coder"} | model}} | tables


def test_a_scenario_names_the_coder_in_a_table() -> None:
    """Catches keys of the inner coder that are not completed like those of any other, and a task id blind to them."""
    tasks = [load(scenario({"coder": {"name": "entropy"} | extra})).tasks[0] for extra in ({}, {"packet_bits": 64})]
    model = tasks[0].chain.decoder.model
    assert isinstance(model.coder, Entropy) and model.coder.model == NGram() and model.vocab_size == 256
    assert tasks[0].task_id != tasks[1].task_id
    assert tasks[0].resolved["decoder"]["model"]["coder"]["model"]["name"] == "ngram"


@pytest.mark.parametrize(("model", "says"), [
    ({}, r"decoder.model.coder.name: missing; allowed are fixed_length"),
    ({"coder": {"name": "entropi"}}, r"decoder.model.coder.name: no coder is called 'entropi'; did you mean 'entropy'"),
    ({"coder": {"name": "entropy", "bits": 3}}, r"decoder.model.coder.bits: entropy has no such key"),
    ({"coder": {"name": "entropy"}, "vocab_size": 2048}, r"decoder.model.vocab_size: .* less than or equal to 1024, got 2048"),
    ({"coder": {"name": "entropy"}, "context_tokens": 10**6}, r"decoder.model.context_tokens: .* 65536, got 1000000"),
])
def test_what_cannot_be_is_refused_by_key(model: dict[str, Any], says: str) -> None:
    """Catches a coder's mistake reported as another key's, and sizes that would never end."""
    with pytest.raises(RequestError, match=says):
        load(scenario(model))
