"""Learning while coding: exact round trips, real bits against ideal ones, laws that only a learner finds, and what loss costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from channel_sim import memo
from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Packets, Preamble, Tokens
from scenarios.scenario import load
from sources.online import Online, arithmetic, rules
from sources.online.learner import DECISIONS, RULE_WINDOW, fresh
from sources.online.stream import Reader, Writer, learn
from sources.text import python_docs
from tests.test_masked_coder import reception

KEY = Key(41)
DOCS = np.frombuffer(python_docs(), np.uint8)


def text(num_bytes: int, first: int = 0) -> Tokens:
    return Tokens(DOCS[first:first + num_bytes].astype(np.int32), 256)


def bits(values: np.ndarray) -> Tokens:
    return Tokens(values.astype(np.int32), 2)


def parity_of(lags: tuple[int, ...], num_symbols: int, innovations: float = 0.0) -> np.ndarray:
    """X_n = the parity of X_(n - lag) and of a Bernoulli innovation, from random bits."""
    symbols = KEY.child("start", *lags).integers(2, num_symbols)
    noise = KEY.child("noise", *lags).uniform(num_symbols) < innovations
    for place in range(max(lags), num_symbols):
        symbols[place] = (sum(symbols[place - lag] for lag in lags) + noise[place]) % 2
    return symbols


def inputs() -> list[Tokens]:
    """A hundred: every vocabulary and length, random, constant, periodic, and real text."""
    tokens = []
    for which in range(80):
        key = KEY.child("input", which)
        vocab_size = (2, 3, 4, 5, 16, 17, 256, 300, 20_000, 256)[which % 10]
        size = int(key.child("size").integers((3, 40, 300)[which % 3], 1)[0])
        period = (1, 5, size)[which // 3 % 3]
        values = np.resize(key.integers(vocab_size, max(1, min(period, size))), size)
        tokens.append(Tokens(values.astype(np.int32), vocab_size))
    return tokens + [text(40 * which, 5000 * which) for which in range(20)]


def coded(coder: Online, items: list[Tokens]) -> list[tuple[Packets, Preamble]]:
    return coder.encode(items)


def heard(coder: Online, packets: Packets, preamble: Preamble, **fields) -> tuple[np.ndarray, np.ndarray]:
    evidence = coder.receive([reception(packets, **fields)], [preamble])[0]
    return evidence.known, evidence.values


@pytest.mark.parametrize("fields", [
    {}, {"lanes": 3}, {"packet_bits": 700, "restart": 2}, {"packet_bits": 600, "restart": 1, "lanes": 2},
    {"packet_bits": None}, {"packet_bits": 5, "header_bits": 0}], ids=str)
def test_what_is_sent_is_received(fields: dict):
    """Catches an end that learns otherwise than the other, and lanes, runs or vocabularies with an edge that is forgotten."""
    coder, items = Online(**fields), inputs()[::1 if fields.get("lanes") == 3 or not fields else 7]
    for tokens, (packets, preamble) in zip(items, coded(coder, items), strict=True):
        known, values = heard(coder, packets, preamble)
        assert known.all() and np.array_equal(values, tokens.values)
        assert packets.num_packets == preamble.num_packets


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch):
    """Catches lanes that share a learner, and streams that depend on how many run at a time."""
    coder, tokens = Online(lanes=5), text(4000)
    many = coded(coder, [tokens])[0]
    monkeypatch.setattr("sources.online.coder.os.sched_getaffinity", lambda process: {0})
    one = coded(coder, [tokens])[0]
    assert np.array_equal(one[0].bits, many[0].bits) and one[1] == many[1]
    assert np.array_equal(heard(coder, *many)[1], tokens.values)


@pytest.mark.parametrize("tokens", [text(3000), bits(KEY.uniform(20_000) < 0.1), text(1)], ids=["text", "bits", "one"])
def test_real_bits_are_the_ideal_ones(tokens: Tokens):
    """Catches an arithmetic coder that codes under another probability than is learned from, and one that seals badly."""
    for packet_bits in (None, 64):
        packets, _ = coded(Online(packet_bits=packet_bits), [tokens])[0]
        assert packets.ideal_bits is not None and abs(packets.num_bits.sum() - packets.ideal_bits) <= 8


def test_a_coin_costs_its_entropy():
    """Catches mixers that pay for their many inputs; the law is -log2 of the coin's own probabilities, within 2 % and a start."""
    coin = KEY.child("coin").uniform(30_000) < 0.1
    packets, _ = coded(Online(packet_bits=None), [bits(coin)])[0]
    entropy = -(coin.sum() * np.log2(0.1) + (~coin).sum() * np.log2(0.9))
    assert 0.99 * entropy < packets.num_bits.sum() < 1.02 * entropy + 60


@pytest.mark.parametrize("lags", [(1, 20), (1, 30), (2, 23, 31)])
def test_rules_of_distant_lags_are_found(lags: tuple[int, ...]):
    """Catches a search that passes over sets of lags: 8,000 symbols cost a bit each until one is found."""
    packets, _ = coded(Online(packet_bits=None), [bits(parity_of(lags, 8000))])[0]
    assert packets.num_bits.sum() < 1500


def test_a_law_seen_through_noise_costs_little_more_than_the_noise():
    """Catches a closed loop that never locks: from what was observed alone, parity costs h((1 - .8^3) / 2) = .80 bits a symbol."""
    seen = parity_of((1, 10), 16_000) ^ (KEY.child("seen").uniform(16_000) < 0.1)
    packets, _ = coded(Online(packet_bits=None), [bits(seen)])[0]
    assert packets.num_bits.sum() < 16_000 * 0.52


def test_noise_is_not_compressed():
    """Negative control: what is found in random bits is an error of the coder; 43,744 sets of lags must find nothing in them."""
    noise = KEY.child("random").integers(2, 8000)
    packets, _ = coded(Online(packet_bits=None), [bits(noise)])[0]
    assert 8000 - 30 < packets.num_bits.sum() < 8000 * 1.02


@pytest.mark.parametrize("mask_lags", [(5,), (3, 64), (1, 17, 40)])
def test_the_search_finds_the_planted_set(mask_lags: tuple[int, ...]):
    """Catches columns that are off by one, and sets of one or two lags that the loops leave out."""
    learner = fresh(4096, 1, 4)
    symbols, follows = KEY.child("planted").integers(2, 3000), KEY.child("follows").uniform(3000) < 0.8
    for place in range(64, 3000):
        if follows[place]:
            symbols[place] = (sum(symbols[place - lag] for lag in mask_lags) + 1) % 2
    learner.decisions[:3000] = symbols
    learner.scalars[DECISIONS] = 3000
    assert learner.decisions.size == 2 * RULE_WINDOW
    rules.search(learner)
    mask, sign = learner.rules[0, rules.MASK], learner.rules[0, rules.SIGN]
    assert {lag for lag in range(1, 65) if int(mask) >> (lag - 1) & 1} == set(mask_lags) and sign == 1


def test_tables_are_those_of_the_closed_form():
    """Catches a table that drifts as it is built: logistic function within half a step, and its inverse."""
    x = np.arange(-arithmetic.LIMIT, arithmetic.LIMIT + 1)
    exact = 65536 / (1 + np.exp(-x / arithmetic.UNIT))
    assert np.abs(arithmetic.SQUASH[1:] - exact).max() < 0.5001 + 1  # clipped to 65,535 at most
    middle = slice(6000, 59_000)
    probability = np.arange(65536)[middle] / 65536
    wanted = arithmetic.UNIT * np.log(probability / (1 - probability))
    assert np.abs(arithmetic.STRETCH[middle] - wanted).max() <= 1


def test_a_stream_laid_aside_goes_on_as_if_nothing_had_been(tmp_path: Path):
    """Catches state that is not saved, at either end."""
    tokens = text(3000).values
    whole = Writer(fresh(3000, 8, 4))
    whole.write(tokens)
    writer = Writer(fresh(3000, 8, 4))
    for first, stop in ((0, 1), (1, 1000), (1000, 3000)):
        writer.write(tokens[first:stop])
        writer.save(tmp_path / "writer")
        writer = Writer.load(tmp_path / "writer")
    assert np.array_equal(writer.stream(), whole.stream())
    reader, pieces = Reader(fresh(3000, 8, 4), whole.stream(), complete=True), []
    for count in (1, 1234, 3000 - 1235):
        pieces.append(reader.read(count))
        reader.save(tmp_path / "reader")
        reader = Reader.load(tmp_path / "reader")
    assert np.array_equal(np.concatenate(pieces), tokens) and reader.sound
    with pytest.raises(RequestError, match="laid aside"):
        Reader.load(tmp_path / "writer")


def test_after_a_gap_nothing_is_known_of_the_run():
    """Catches a decoder that goes on past a gap, one that gives up tokens before it, and a restart that does not restart."""
    tokens = text(3000)
    for fields, sure in (({}, False), ({"restart": 3}, True), ({"lanes": 2}, True)):
        coder = Online(packet_bits=1024, **fields)
        packets, preamble = coded(coder, [tokens])[0]
        lost = np.zeros(packets.num_packets, bool)
        lost[1] = True
        known, values = heard(coder, packets, preamble, lost=lost)
        assert np.array_equal(values[known], tokens.values[known])
        context = packets.context
        assert context is not None
        for packet in range(packets.num_packets):
            needed = range(*context[packet])
            assert known[packets.positions(packet)].all() == (packet != 1 and 1 not in needed)
            assert known[packets.positions(packet)].any() == known[packets.positions(packet)].all()
        assert known[-1] == sure


@pytest.mark.parametrize("fields", [{}, {"lanes": 3}, {"restart": 2}])
def test_damage_never_raises_or_hangs(fields: dict):
    """Catches a decoder that trusts its bits; without a CRC every flipped bit gives a declared wrong decode or unknown tokens."""
    coder, tokens = Online(packet_bits=300, **fields), Tokens(text(400).values, 256)
    packets, preamble = coded(coder, [tokens])[0]
    for trial in range(40):
        flips = KEY.child("flips", trial).uniform(*packets.bits.shape) < (0.01, 0.5)[trial % 2]
        known, values = heard(coder, packets, preamble, bits=packets.bits ^ flips, crc_checked=False)
        assert known.size == 400 and not values[~known].any() and values.max() < 256
    failed = np.zeros(packets.num_packets, bool)
    assert not heard(coder, packets, preamble, crc_ok=failed)[0].any()


def test_no_token_is_outside_the_vocabulary():
    """Catches values past a vocabulary that is no power of two, out of damaged packets."""
    tokens = Tokens(KEY.child("three").integers(3, 300).astype(np.int32), 3)
    coder = Online(packet_bits=100)
    packets, preamble = coded(coder, [tokens])[0]
    for trial in range(20):
        noise = KEY.child("noise", trial).integers(2, *packets.bits.shape).astype(np.uint8)
        assert heard(coder, packets, preamble, bits=noise, crc_checked=False)[1].max() < 3


def test_data_shared_beforehand_are_worth_something(tmp_path: Path):
    """Catches priming that one end forgets, or that is not heard at all; its digest is stated."""
    (tmp_path / "shared.txt").write_bytes(DOCS[:20_000].tobytes())
    primed, tokens = Online(primed=str(tmp_path / "shared.txt")), text(1000, 30_000)
    packets, preamble = coded(primed, [tokens])[0]
    alone, _ = coded(Online(), [tokens])[0]
    assert packets.num_bits.sum() < 0.75 * alone.num_bits.sum()
    assert np.array_equal(heard(primed, packets, preamble)[1], tokens.values)
    assert len(primed.digests()["primed"]) == 64 and (primed.shared_bytes, Online().shared_bytes) == (20_000, 0)
    with pytest.raises(ValueError, match="vocabulary of 2"):
        coded(primed, [bits(np.zeros(9))])
    with pytest.raises(RequestError, match="coder.primed"):
        coded(Online(primed=str(tmp_path / "none.txt")), [tokens])


@pytest.mark.parametrize(("name", "key"), [("online", "primed"), ("compressor", "dictionary")])
def test_shared_data_lie_beside_the_scenario(tmp_path: Path, name: str, key: str):
    """Catches scenarios that find what both ends hold beforehand from one working directory alone."""
    (tmp_path / "shared.txt").write_bytes(b"hello" * 10)
    method = ', method = "zlib"' if name == "compressor" else ""
    (tmp_path / "a.toml").write_text('question = "?"\nitems = 1\n[source]\nname = "text"\n[[arm]]\nlabel = "a"\n'
                                     f'coder = {{ name = "{name}", {key} = "shared.txt"{method} }}\n')
    assert load(tmp_path / "a.toml").tasks[0].chain.coder.shared_bytes == 50


def test_a_learner_that_only_reads_is_one_that_codes():
    """Catches priming that learns otherwise than coding."""
    tokens = text(500).values
    reading, writer = fresh(500, 8, 4), Writer(fresh(500, 8, 4))
    learn(reading, tokens)
    writer.write(tokens)
    assert all(np.array_equal(one, other) for one, other in zip(reading, writer.learner, strict=True))


def test_short_items_need_small_tables():
    """Catches tables that do not go by the length of the stream, and a bound that is not kept."""
    assert sum(table.nbytes for table in fresh(1000, 8, 4)) < 4 << 20
    largest = fresh(1 << 40, 8, 4)
    assert sum(table.nbytes for table in largest) < 120 << 20


def test_requests_that_cannot_be_met_are_named():
    """Catches headers too short for what they must hold, and restarts that count packets without a size."""
    with pytest.raises(ValueError, match="header_bits must be >= 20"):
        coded(Online(restart=1, packet_bits=300, header_bits=19), [text(600)])
    with pytest.raises(ValueError, match="packet_bits must be given"):
        Online(restart=1, packet_bits=None)
    with pytest.raises(ValueError, match="dearest token"):
        coded(Online(restart=1, packet_bits=2), [text(600)])


@pytest.mark.parametrize("fields", [{}, {"lanes": 2}, {"restart": 1, "packet_bits": 640}])
def test_a_memo_changes_nothing(fields: dict):
    """Catches streams or tokens that are remembered under a name that says too little of what they depend on."""
    def outcomes() -> list[tuple[bytes, ...]]:
        found = []
        for more in ({}, fields):
            coder = Online(**more)
            packets, preamble = coded(coder, [text(600)])[0]
            lost = np.arange(packets.num_packets) == 2
            for evidence in coder.receive([reception(packets), reception(packets, lost)], [preamble] * 2):
                arrays = (packets.bits, packets.bounds, evidence.known, evidence.values)
                found.append(tuple(array.tobytes() for array in arrays))
        return found

    alone = outcomes()
    with memo.attach(None) as memory:
        assert outcomes() == alone and outcomes() == alone and memory.num_hits


def test_golden():
    """Catches streams that change without a new `revision`: a file of yesterday must be read tomorrow."""
    packets, _ = coded(Online(packet_bits=None), [Tokens(np.arange(64, dtype=np.int32) * 7 % 50, 64)])[0]
    assert np.packbits(packets.bits[0]).tobytes().hex().startswith("fed67a90e59ebcc959523f2496cdeb95") and Online.revision == 2
