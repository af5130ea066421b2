"""Entropy coding: exact tables, shortest streams, round trips at the rates of the tables, and requests that are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import constriction
import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens
from sources.coder import Entropy
from sources.entropy import coding_weights, seal, unseal
from sources.models.markov import ExactMarkov
from sources.models.model import CausalModel, FiniteContextModel
from sources.models.ngram import NGram
from sources.models.uniform import Uniform
from sources.text import python_docs
from tests.test_coder import random_tokens, received

CONTEXTS = ("independent", "chained", "restart:3", "mdc:2")
FAMILY = constriction.stream.model.Categorical(perfect=False)


class Order2(FiniteContextModel):
    """Skewed tables that depend on both of the last two tokens."""

    vocab_size: int = 256

    @property
    def context_length(self) -> int:
        return 2

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        favourite = (7 * state[:, :1] + 3 * state[:, 1:] + 11) % self.vocab_size
        rank = (np.arange(self.vocab_size) - favourite) % self.vocab_size  # [lanes, vocab]
        table = np.maximum(20_000 >> np.minimum(rank, 20), 1)
        table[:, :1] += (1 << 16) - table.sum(axis=1, keepdims=True)
        return table


class RunningSum(CausalModel):
    """A model whose state is no context: the sum of all tokens modulo 16, one number a lane."""

    vocab_size: int = 16

    def start(self, num_lanes: int) -> np.ndarray:
        return np.zeros(num_lanes, np.int64)

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return (state + tokens) % 16

    def frequencies(self, state: np.ndarray) -> np.ndarray:
        table = np.full((len(state), 16), 1024)
        table[np.arange(len(state)), state] += (1 << 16) - 16 * 1024
        return table


MODELS: tuple[CausalModel, ...] = (Order2(), RunningSum(), Uniform(vocab_size=5), Uniform(vocab_size=2000),
                                   ExactMarkov(flip_probability=0.01, alphabet_size=2))


def drawn_from(model: CausalModel, num_tokens: int, label: str = "drawn") -> Tokens:
    """Tokens with the model's own law."""
    uniforms = Key(3).child(label, num_tokens).uniform(num_tokens)
    state, values = model.start(1), np.zeros(num_tokens, np.int32)
    for position, uniform in enumerate(uniforms):
        cumulative = np.cumsum(model.frequencies(state)[0])
        values[position] = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
        state = model.advance(state, values[position:position + 1])
    return Tokens(values, model.vocab_size)


def sent(coder: Entropy, tokens: Tokens) -> tuple[Packets, Preamble]:
    (packets, preamble), = coder.encode([tokens])
    return packets, preamble


def got(coder: Entropy, reception: Reception, preamble: Preamble) -> Evidence:
    evidence, = coder.receive([reception], [preamble])
    return evidence


def random_tables(num_rows: int, vocab_size: int, frequency_bits: int) -> np.ndarray:
    """int64, from nearly flat to nearly one-hot."""
    uniforms = Key(5).child("tables").uniform(num_rows, vocab_size)
    weights = uniforms ** (1.0 + 40 * np.arange(num_rows)[:, None] / num_rows)
    tables = 1 + np.floor(weights / weights.sum(axis=1, keepdims=True) * ((1 << frequency_bits) - vocab_size)).astype(np.int64)
    tables[np.arange(num_rows), np.arange(num_rows) % vocab_size] += (1 << frequency_bits) - tables.sum(axis=1)
    return tables


@pytest.mark.parametrize("vocab_size, frequency_bits", [(2, 16), (3, 16), (256, 16), (1024, 16), (30_000, 22)])
def test_the_table_that_is_reported_is_the_table_that_codes(vocab_size: int, frequency_bits: int):
    """Catches any rounding between F and the coder's interval. The reference is the definition of the range coder, in integers."""
    tables = random_tables(100, vocab_size, frequency_bits)
    weights = coding_weights(tables, frequency_bits)
    symbols = Key(6).child("symbols").integers(vocab_size, 100)
    symbols[:2] = 0, vocab_size - 1
    for row, symbol in enumerate(symbols):
        encoder = constriction.stream.queue.RangeEncoder()
        _, (low, width) = encoder.pos()
        encoder.encode(np.array([symbol], np.int32), FAMILY, weights[row:row + 1])
        counts = tables[row] << (24 - frequency_bits)
        scale = width >> 24
        low, width = low + scale * int(counts[:symbol].sum()), scale * int(counts[symbol])
        if width < 1 << 32:
            low, width = low << 32, width << 32
        assert encoder.pos()[1] == (low % (1 << 64), width)


def test_another_table_does_not_decode():
    """The control of the test above: two entries changed places, or one count moved, and the message is lost."""
    tables = random_tables(400, 256, 16)
    symbols = np.argmax(tables, axis=1).astype(np.int32)
    symbols[::2] = Key(6).child("control").integers(256, 200)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols, FAMILY, coding_weights(tables, 16))
    bits = seal(encoder)
    assert np.array_equal(unseal(bits).decode(FAMILY, coding_weights(tables, 16)), symbols)
    moved = tables.copy()
    moved[:, 0] += 1
    moved[np.arange(400), np.argmax(tables[:, 1:], axis=1) + 1] -= 1
    for wrong in (np.roll(tables, 1, axis=1), moved):
        try:
            assert not np.array_equal(unseal(bits).decode(FAMILY, coding_weights(wrong, 16)), symbols)
        except AssertionError as error:
            assert "invalid" in str(error)


def test_sealing_is_shortest():
    """Catches a bit too many: by brute force no shorter string, with zeros after it, decodes to the message."""
    for message in range(60):
        num_tokens = 1 + message % 5
        weights = coding_weights(random_tables(60, 4, 16)[message:message + num_tokens], 16)
        symbols = Key(8).child(message).integers(4, len(weights)).astype(np.int32)
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(symbols, FAMILY, weights)
        bits = seal(encoder)
        assert np.array_equal(unseal(bits).decode(FAMILY, weights), symbols)
        shorter = bits.size - 1
        for number in range(1 << shorter if 0 <= shorter <= 9 else 0):
            candidate = np.array([number >> place & 1 for place in range(shorter)][::-1], np.uint8)
            assert not _decodes_to(candidate, weights, symbols)


def _decodes_to(bits: np.ndarray, weights: np.ndarray, symbols: np.ndarray) -> bool:
    try:
        return np.array_equal(unseal(bits).decode(FAMILY, weights), symbols)
    except AssertionError:
        return False


@pytest.mark.parametrize("packet_bits", [24, 100, 512, None])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_round_trip(model: CausalModel, context: str, packet_bits: int | None):
    """Catches a model out of step with the coder at block and packet ends, and tokens the model finds improbable."""
    coder = Entropy(model=model, context=context, packet_bits=packet_bits, header_bits=64)
    for num_tokens in (0, 1, 2, 15, 16, 17, 300):
        for tokens in (drawn_from(model, num_tokens), random_tokens(num_tokens, model.vocab_size)):
            packets, preamble = sent(coder, tokens)
            evidence = got(coder, received(packets), preamble)
            assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
            assert evidence.bit_llr is None and evidence.vocab_size == model.vocab_size
            assert packet_bits is None or np.all(packets.num_bits <= packet_bits)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_rates_are_those_of_the_tables(model: CausalModel, context: str):
    """Catches a rate that is not real: within a bit a packet, and what a 64-bit state rounds, of -log2 P stepped through here."""
    tokens = drawn_from(model, 3000)
    packets, _ = sent(Entropy(model=model, context=context, header_bits=64), tokens)
    ideal = packet_ideals(model, tokens, packets)
    assert packets.ideal_bits == pytest.approx(sum(ideal), rel=1e-9)
    assert packets.num_bits.sum() <= sum(ideal) + packets.num_packets + 4e-4 * tokens.values.size
    assert packets.num_bits.sum() >= sum(ideal) - 4 * packets.num_packets  # saving k bits takes luck of 2^-k


def packet_ideals(model: CausalModel, tokens: Tokens, packets: Packets) -> list[float]:
    """-log2 P of each packet's tokens, one step at a time from where its context starts."""
    assert packets.context is not None
    ideals = []
    for packet in range(packets.num_packets):
        state = model.start(1)
        needed = [position for other in range(*packets.context[packet]) for position in packets.positions(other)]
        ideals.append(0.0)
        for position in [*needed, *packets.positions(packet)]:
            table = model.frequencies(state)[0]
            if position >= packets.bounds[packet]:
                ideals[-1] -= np.log2(table[tokens.values[position]] / table.sum())
            state = model.advance(state, tokens.values[position:position + 1])
    return ideals


@pytest.mark.parametrize("context", CONTEXTS)
def test_packets_are_full(context: str):
    """Catches packets cut short: with one more token none would have fitted."""
    tokens = drawn_from(Order2(), 2000)
    packets, _ = sent(Entropy(model=Order2(), context=context, packet_bits=200), tokens)
    ideal = packet_ideals(Order2(), tokens, packets)
    dearest = 16.0
    assert packets.num_packets > 5
    assert all(cost > 200 - dearest for cost in ideal[:-1])
    assert np.mean(ideal[:-1]) > 197  # a token costs about 2 bits


def test_a_chain_costs_its_entropy_rate():
    """h(.1) = .468996 bit a symbol: catches a coder whose ideal is its own invention."""
    model = ExactMarkov(flip_probability=0.1, alphabet_size=2)
    packets, _ = sent(Entropy(model=model, packet_bits=None), drawn_from(model, 20_000))
    spread = np.sqrt(20_000 * 0.09) * np.log2(9)  # of the number of flips, each log2(9) bits dearer than staying
    assert abs(packets.num_bits[0] - 20_000 * 0.468996) < 5 * spread


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_cut_stream_settles_all_it_can(model: CausalModel):
    """Catches tokens booked to a later packet than needed, or to one that can't have settled them."""
    tokens = drawn_from(model, 400)
    packets, _ = sent(Entropy(model=model, context="chained", packet_bits=16), tokens)
    spent = np.cumsum(packet_ideals(model, tokens, packets))
    sent_bits = np.cumsum(packets.num_bits)
    assert np.all(spent[:-1] <= sent_bits[:-1] + 0.01)
    assert np.mean(sent_bits[:-1] - spent[:-1]) < 9  # half a token of 11 bits, and 2 bits for the stream to settle it


def test_no_packet_is_empty():
    """Catches a certain message that costs nothing, and so arrives over any channel."""
    coder = Entropy(model=ExactMarkov(flip_probability=0.0, alphabet_size=2), header_bits=0)
    packets, preamble = sent(coder, Tokens(np.zeros(9, np.int32), 2))
    assert packets.num_bits.tolist() == [1] and got(coder, received(packets), preamble).known.all()


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("model", [Order2(), RunningSum()], ids=repr)
def test_items_do_not_depend_on_their_neighbours(model: CausalModel, context: str):
    """Catches lanes that leak into one another, across items, lengths, losses and threads."""
    coder = Entropy(model=model, context=context, packet_bits=64)
    items = [drawn_from(model, 10 * size, "batch") for size in range(10)] * 7
    alone = [sent(coder, item) for item in items[:10]]
    together = coder.encode(items)
    with ThreadPoolExecutor(2) as pool:
        threaded = [pair for pairs in pool.map(coder.encode, (items[:35], items[35:])) for pair in pairs]
    for index, ((packets, preamble), (others, _)) in enumerate(zip(together, threaded, strict=True)):
        single, its_preamble = alone[index % 10]
        assert np.array_equal(packets.bits, single.bits) and np.array_equal(packets.header, single.header)
        assert np.array_equal(packets.bits, others.bits) and preamble == its_preamble
    receptions = [received(packets, (index % 3,)) for index, (packets, _) in enumerate(together)]
    preambles = [preamble for _, preamble in together]
    for reception, preamble, evidence in zip(receptions, preambles, coder.receive(receptions, preambles), strict=True):
        by_itself = got(coder, reception, preamble)
        assert np.array_equal(evidence.values, by_itself.values) and np.array_equal(evidence.known, by_itself.known)


def test_header_bits_must_hold_the_header():
    """Catches a header charged less than it says: 5 packets of 50 tokens need 3 + 6 + 6 bits."""
    tokens = random_tokens(50, 256)
    sent(Entropy(model=Uniform(), packet_bits=84, header_bits=15), tokens)
    with pytest.raises(ValueError, match=r"coder.header_bits must be >= 15 .*50 tokens in 5 packets, got 14: raise it"):
        sent(Entropy(model=Uniform(), packet_bits=84, header_bits=14), tokens)


def test_more_descriptions_than_packets():
    """Catches a state held for each of a billion descriptions that never begin."""
    coder = Entropy(model=Order2(), context="mdc:999999999", packet_bits=128)
    tokens = drawn_from(Order2(), 300)
    packets, preamble = sent(coder, tokens)
    alone, _ = sent(Entropy(model=Order2(), packet_bits=128), tokens)
    assert packets.num_packets > 1 and np.array_equal(packets.bits, alone.bits)
    assert np.array_equal(got(coder, received(packets), preamble).values, tokens.values)


@pytest.mark.parametrize("context", ["", "chain", "restart", "restart:0", "restart:-1", "restart:1.5", "restart: 2", "chained\n",
                                     "mdc", "mdc:0"])
def test_contexts_that_are_none(context: str):
    """Catches a misspelt context taken for another."""
    with pytest.raises(ValueError, match="context must be independent, chained, or restart:k or mdc:k"):
        Entropy(model=Uniform(), context=context)


def test_impossible_requests_are_named():
    """Catches an error that names neither key nor cure."""
    with pytest.raises(ValueError, match="coder.model must be given.*name one"):
        sent(Entropy(), random_tokens(3, 256))
    with pytest.raises(ValueError, match="coder.model must know the vocabulary of 256 tokens, got one of 2: name another"):
        sent(Entropy(model=Uniform(vocab_size=2)), random_tokens(3, 256))
    with pytest.raises(ValueError, match="coder.packet_bits must hold the dearest token of the model, got 8: raise it"):
        sent(Entropy(model=Uniform(), packet_bits=8), random_tokens(3, 256))


def test_improbable_tokens_fit_the_shortest_packet():
    """Catches a packet that can hold no token: the dearest costs 22 bits."""
    model = Uniform(vocab_size=1 << 20)
    coder = Entropy(model=model, packet_bits=24)
    packets, preamble = sent(coder, random_tokens(4, 1 << 20))
    assert packets.num_packets == 4 and got(coder, received(packets), preamble).known.all()


@pytest.mark.parametrize("num_tokens", [1 << 16, pytest.param(1 << 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [Order2(), NGram()], ids=repr)
def test_a_long_message_in_one_packet(model: CausalModel, num_tokens: int):
    """Within .5 % + 64 bits of the ideal of the tables that code; catches tables of the whole message held at once."""
    coder = Entropy(model=model, packet_bits=None)
    tokens = text_tokens(num_tokens)
    packets, preamble = sent(coder, tokens)
    assert packets.ideal_bits is not None
    assert packets.ideal_bits - 8 <= packets.num_bits[0] <= 1.005 * packets.ideal_bits + 64
    assert np.array_equal(got(coder, received(packets), preamble).values, tokens.values)


@pytest.mark.parametrize("context", CONTEXTS)
def test_text_is_coded_alike_alone_in_a_batch_and_in_threads(context: str):
    """Catches n-gram tables that depend on the number of lanes or on another thread."""
    coder = Entropy(model=NGram(), context=context)
    text = text_tokens(64 * 512).values.reshape(64, 512)
    items = [Tokens(row, 256) for row in text]
    together = coder.encode(items)
    with ThreadPoolExecutor(2) as pool:
        alone = [pair for (pair,) in pool.map(lambda item: coder.encode([item]), items)]
    for (packets, preamble), (single, its_preamble) in zip(together, alone, strict=True):
        assert np.array_equal(packets.bits, single.bits) and np.array_equal(packets.header, single.header)
        assert preamble == its_preamble
    evidence = coder.receive([received(packets) for packets, _ in together], [preamble for _, preamble in together])
    assert np.array_equal([one.values for one in evidence], text)


def text_tokens(num_tokens: int) -> Tokens:
    """English, from the documentation that every Python carries; over and over if need be."""
    return Tokens(np.resize(np.frombuffer(python_docs(), np.uint8), num_tokens).astype(np.int32), 256)
