"""Two-sided restoration with the n-gram: against brute force, on real text, with soft evidence, and on what a channel may do."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin, token_bits
from decoders.ngram import NGramRestorer
from sources.models.ngram import NGram
from sources.text import python_docs

SENTENCE = np.frombuffer(b"If the operand is a number, the result is the value of the expression.", np.uint8).astype(np.int32)


def docs_items(num_items: int, num_bytes: int = 1024) -> list[np.ndarray]:
    """int32 [num_bytes] each: slices of the Python documentation, evenly spread; the shipped model never saw it."""
    data = np.frombuffer(python_docs(), np.uint8).astype(np.int32)
    return [data[at:at + num_bytes] for at in range(0, data.size - num_bytes, data.size // num_items)][:num_items]


def erased(values: np.ndarray, known: np.ndarray) -> Evidence:
    return Evidence(known, np.where(known, values, 0), 256)


def randomly_erased(values: np.ndarray, rate: float, key: Key) -> Evidence:
    return erased(values, key.uniform(values.size) >= rate)


def antipodal(values: np.ndarray, ebno_db: float, key: Key) -> Evidence:
    """Every bit of every byte as ±1 in Gaussian noise."""
    signs, no = 2.0 * token_bits(values, 256) - 1, 10 ** (-ebno_db / 10)
    llr = 4 * (signs + np.sqrt(no / 2) * key.normal(*signs.shape)) / no
    return Evidence(np.zeros(values.size, bool), np.zeros(values.size, np.int32), 256, bit_llr=llr.astype(np.float32))


def restored_exactly(items: list[np.ndarray], evidence: list[Evidence], decoder: NGramRestorer) -> float:
    """The fraction of unknown bytes that come back right."""
    restored = decoder.restore(evidence, [Key(0)] * len(items))
    right = [(one.values == values)[~known.known] for one, values, known in zip(restored, items, evidence)]
    return float(np.concatenate(right).mean())


def log_probability(model: NGram, values: np.ndarray) -> float:
    tables, _ = model.tables(model.start(1), values)
    return float(np.log(tables[np.arange(values.size), values] / 65536).sum())


@pytest.mark.parametrize("gap", [0, 1, 40, SENTENCE.size - 1])
def test_one_lost_byte_is_the_conditional_of_the_model(gap: int) -> None:
    """Catches a backward pass that hears too little or too much, and a wrong start or end of a message."""
    known = np.ones(SENTENCE.size, bool)
    known[gap] = False
    (restored,) = NGramRestorer(num_paths=256).restore([erased(SENTENCE, known)], [Key(0)])
    logs = np.array([log_probability(NGram(), np.where(known, SENTENCE, byte)) for byte in range(256)])
    expected = np.exp(logs - logs.max())
    assert restored.posterior is not None
    np.testing.assert_allclose(restored.posterior[0], expected / expected.sum(), atol=0.01)


def test_soft_bytes_in_a_row_are_the_posterior_by_enumeration() -> None:
    """Catches evidence applied twice or to the wrong bits, paths that do not meet again, and edges without their forward weight."""
    gap = np.arange(11, 15)
    llr = np.zeros((SENTENCE.size, 8), np.float32)
    llr[gap] = np.where(token_bits(SENTENCE[gap], 256) > 0, 60.0, -60.0)
    llr[gap, -1], llr[gap, -4] = [0.5, -1.0, 2.0, 0.0], [0.0, 1.5, -0.5, 1.0]  # two open bits a byte: 4 candidates each
    known = np.ones(SENTENCE.size, bool)
    known[gap] = False
    evidence = Evidence(known, np.where(known, SENTENCE, 0), 256, bit_llr=llr)
    (restored,) = NGramRestorer().restore([evidence], [Key(0)])
    likelihood = evidence.log_likelihood(gap)
    candidates = [np.flatnonzero(row > row.max() - 20) for row in likelihood]
    expected, filled = np.zeros((4, 256)), SENTENCE.copy()
    for way in product(*candidates):
        filled[gap] = way
        weight = np.exp(log_probability(NGram(), filled) - log_probability(NGram(), SENTENCE)
                        + likelihood[range(4), way].sum() - likelihood.max(axis=1).sum())
        expected[range(4), way] += weight
    assert [len(one) for one in candidates] == [4] * 4 and restored.posterior is not None
    np.testing.assert_allclose(restored.posterior, expected / expected.sum(axis=1, keepdims=True), atol=0.01)


def test_isolated_losses_in_unknown_text_come_back() -> None:
    """Catches a decoder that is worse than its class: at least 70 % of 10 % lost bytes, on text never trained on."""
    items = docs_items(40)
    evidence = [randomly_erased(values, 0.1, Key(1).child(at)) for at, values in enumerate(items)]
    assert 0.80 < restored_exactly(items, evidence, NGramRestorer()) < 0.95


def test_both_sides_beat_the_left_one() -> None:
    """Catches a decoder that does not hear what comes after a gap; the left alone gives about half."""
    items = docs_items(20)
    evidence = [randomly_erased(values, 0.1, Key(2).child(at)) for at, values in enumerate(items)]
    model, right = NGram(), []
    for values, one in zip(items, evidence):
        state = model.start(1)
        for value, known in zip(values, one.known):
            guess = value if known else int(model.frequencies(state)[0].argmax())
            right += [] if known else [guess == value]
            state = model.advance(state, np.array([guess]))
    assert restored_exactly(items, evidence, NGramRestorer()) > np.mean(right) + 0.2


def test_soft_bits_are_used() -> None:
    """Catches evidence that is ignored: hard decision of uncoded bytes at Eb/N0 = 2 dB leaves .2635 wrong."""
    items = docs_items(6)
    evidence = [antipodal(values, 2.0, Key(3).child(at)) for at, values in enumerate(items)]
    decided = np.concatenate([(one.bit_llr > 0) == token_bits(values, 256) for one, values in zip(evidence, items)
                              if one.bit_llr is not None])
    assert np.mean(~decided.all(axis=1)) == pytest.approx(0.2635, abs=0.03)
    assert 1 - restored_exactly(items, evidence, NGramRestorer()) < 0.04


def test_confidence_means_what_it_says() -> None:
    """Catches a posterior that is surer than it is right (paths dropped) or that shuts out the truth."""
    items = docs_items(20)
    evidence = [randomly_erased(values, 0.2, Key(4).child(at)) for at, values in enumerate(items)]
    restored = NGramRestorer().restore(evidence, [Key(0)] * 20)
    confidence = np.concatenate([one.confidence[~known.known] for one, known in zip(restored, evidence)])
    right = [(one.values == values)[~known.known] for one, values, known in zip(restored, items, evidence)]
    assert confidence.mean() == pytest.approx(np.concatenate(right).mean(), abs=0.04)
    for one, values, known in zip(restored, items, evidence):
        assert one.posterior is not None and one.posterior.min() > 0
        np.testing.assert_allclose(one.posterior.sum(axis=1), 1, atol=1e-5)
        assert np.array_equal(one.posterior.argmax(axis=1), one.values[~known.known])


def test_items_do_not_touch_each_other() -> None:
    """Catches state left over from one item in the next."""
    items = docs_items(8, 300)
    evidence = [randomly_erased(values, 0.2, Key(5).child(at)) for at, values in enumerate(items[:4])]
    evidence += [antipodal(values, 3.0, Key(5).child(at)) for at, values in enumerate(items[4:])]
    together = NGramRestorer().restore(evidence, [Key(0)] * 8)
    for one, alone in zip(together, [NGramRestorer().restore([single], [Key(1)])[0] for single in evidence]):
        for name in ("values", "origin", "confidence", "posterior"):
            assert np.array_equal(getattr(one, name), getattr(alone, name))


def test_origins() -> None:
    """Catches soft bytes booked as invented, and lost ones as received."""
    known, llr = np.array([True, False, False]), np.zeros((3, 8), np.float32)
    llr[1] = 1.0
    (restored,) = NGramRestorer().restore([Evidence(known, np.array([65, 0, 0], np.int32), 256, bit_llr=llr)], [Key(0)])
    assert restored.origin.tolist() == [Origin.RECEIVED, Origin.INFERRED, Origin.CONCEALED]
    assert restored.values[0] == 65 and restored.confidence[0] == 1 and np.all(restored.confidence[1:] < 1)


@pytest.mark.parametrize("num_tokens", [0, 1, 1023, 1024, 1025, 3000])
def test_everything_lost(num_tokens: int) -> None:
    """Catches windows that do not tile the item, and a certainty that the paths kept are all there is."""
    values = np.zeros(num_tokens, np.int32)
    (restored,) = NGramRestorer().restore([erased(values, values > 0)], [Key(0)])
    assert restored.values.size == num_tokens and np.all(restored.origin == Origin.CONCEALED)
    assert np.all(restored.confidence < 0.5)


def test_nothing_lost() -> None:
    """Catches received bytes that are corrected."""
    values = Key(6).integers(256, 500).astype(np.int32)
    (restored,) = NGramRestorer().restore([erased(values, values >= 0)], [Key(0)])
    assert np.array_equal(restored.values, values) and restored.posterior is not None and restored.posterior.shape == (0, 256)


def test_bytes_that_no_text_has() -> None:
    """Catches a zero probability where certain evidence names what the model thinks impossible, and overflow of huge LLRs."""
    values = Key(7).integers(256, 200).astype(np.int32)
    for size in (50.0, 3e38):
        llr = np.where(token_bits(values, 256) > 0, size, -size).astype(np.float32)
        evidence = Evidence(np.zeros(200, bool), np.zeros(200, np.int32), 256, bit_llr=llr)
        (restored,) = NGramRestorer().restore([evidence], [Key(0)])
        assert np.array_equal(restored.values, values) and np.all(np.isfinite(restored.confidence))


def test_windows_leave_no_seam() -> None:
    """Catches states lost between windows: a gap at their border must come back as with a long look ahead."""
    values = docs_items(1, 2500)[0]
    known = np.ones(2500, bool)
    known[[1015, 1019, 1022, 1023, 1024, 1027, 2046, 2047, 2049]] = False
    short, long = (NGramRestorer(lookahead_bytes=ahead).restore([erased(values, known)], [Key(0)])[0] for ahead in (64, 1500))
    assert short.posterior is not None and long.posterior is not None
    np.testing.assert_allclose(short.posterior, long.posterior, atol=1e-4)


def test_a_long_hole_ends_in_time() -> None:
    """Catches a cost that grows faster than the hole."""
    decoder, seconds = NGramRestorer(), []
    for num_tokens in (64, 2048, 16384):
        lost = np.zeros(num_tokens, bool)
        start = time.process_time()
        decoder.restore([erased(np.zeros(num_tokens, np.int32), lost)], [Key(0)])
        seconds.append(time.process_time() - start)
    assert seconds[2] < 16 * seconds[1] + 1 and seconds[2] < 20


def test_shipped_weights_are_part_of_the_identity() -> None:
    """Catches results that stay on file when the shipped weights change."""
    assert NGramRestorer().digests() == {"model": NGram().digests()["path"]}
    assert NGramRestorer(model=NGram()).digests() == {}


def test_other_vocabularies_are_refused() -> None:
    """Catches tokens of another kind read as bytes."""
    with pytest.raises(RequestError, match="vocab_size 256.*got 4"):
        NGramRestorer().restore([Evidence(np.ones(2, bool), np.array([1, 3], np.int32), 4)], [Key(0)])
