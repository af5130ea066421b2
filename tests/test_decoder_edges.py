"""What a channel may do at worst, to every decoder of the catalogue; a new one is picked up from there."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.stages import Decoder
from channel_sim.types import CERTAIN_LLR, Evidence, Origin, Reception, Reconstruction, bits_for, token_bits
from scenarios import catalogue
from sources.models.markov import ExactMarkov
from sources.models.uniform import Uniform
from tests.chains import chain_with

NAMES = list(catalogue.CATALOGUE["decoders"])
TAKES_A_MODEL = ("lm_greedy", "bidirectional", "lm_beam", "posterior_sample")
GIVES_UP = ("none", "repeat_last", "neighbour_mean", "interpolate", "biharmonic", "autoregressive")
"""No prior: what nothing was received of is LOST; of `repeat_last` and `neighbour_mean` if nothing was received at all."""


def decoder_of(name: str) -> tuple[Decoder, int]:
    """(the decoder as a small chain has it, how many tokens there are)."""
    chain = chain_with("decoders", name)
    return chain.decoder, chain.tokenizer.vocab_size


def evidence(num_tokens: int, vocab_size: int, known: np.ndarray | None = None, llr: np.ndarray | None = None) -> Evidence:
    """Tokens 1, 1, … where known; soft where `llr` float32 [n, bits] is given; else erased."""
    sure = np.zeros(num_tokens, bool) if known is None else known
    return Evidence(sure, sure.astype(np.int32), vocab_size, bit_llr=llr)


def restored(decoder: Decoder, one: Evidence) -> Reconstruction:
    """Checked for what holds of any reconstruction beyond its own type's checks."""
    (found,) = decoder.restore([one], [Key(1)])
    assert found.values.size == one.num_tokens and found.grid == one.grid
    assert np.array_equal(found.values[one.known], one.values[one.known]) and np.all(found.confidence[one.known] == 1)
    assert np.array_equal(found.origin == Origin.RECEIVED, one.known)
    assert np.all(np.isfinite(found.confidence)) and np.all(found.values[found.lost] == 0)
    assert (found.posterior is not None) == decoder.states_posterior
    return found


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sent_and_one_token(name: str) -> None:
    """Catches shapes that need two tokens, and maxima over nothing."""
    decoder, vocab_size = decoder_of(name)
    assert restored(decoder, evidence(0, vocab_size)).values.size == 0
    assert restored(decoder, evidence(1, vocab_size, np.ones(1, bool))).values.tolist() == [1]
    lost = restored(decoder, evidence(1, vocab_size))
    assert lost.origin.tolist() == [Origin.LOST if name in GIVES_UP else Origin.CONCEALED]
    certain = np.where(token_bits(np.array([1]), vocab_size) > 0, np.float32(40), np.float32(-40))
    assert restored(decoder, evidence(1, vocab_size, llr=certain)).values.tolist() == [1]


@pytest.mark.parametrize("name", NAMES)
def test_everything_lost(name: str) -> None:
    """Catches a crash without a single token to hold on to, and a guess that is called sure."""
    decoder, vocab_size = decoder_of(name)
    found = restored(decoder, evidence(60, vocab_size))
    assert np.all(found.origin == (Origin.LOST if name in GIVES_UP else Origin.CONCEALED))
    assert found.confidence.mean() < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_all_soft(name: str) -> None:
    """Catches soft tokens booked as lost or received, and LLRs read with the wrong sign: nearly certain bits win."""
    decoder, vocab_size = decoder_of(name)
    values = Key(2).integers(2, 40)
    llr = np.where(token_bits(values, vocab_size) > 0, np.float32(30), np.float32(-30))
    found = restored(decoder, evidence(40, vocab_size, llr=llr * Key(3).uniform(40, bits_for(vocab_size)).astype(np.float32)))
    assert np.all(found.origin == Origin.INFERRED)
    found = restored(decoder, evidence(40, vocab_size, llr=CERTAIN_LLR * np.sign(llr)))
    assert np.array_equal(found.values, values)  # however improbable the prior calls them


@pytest.mark.parametrize("name", NAMES)
def test_certain_bits_against_the_model(name: str) -> None:
    """Catches 0 / 0 where what is certain is next to impossible under the prior, and known tokens overruled by it."""
    decoder, vocab_size = decoder_of(name)
    values = Key(4).integers(vocab_size, 80).astype(np.int32)
    llr = np.where(token_bits(values, vocab_size) > 0, np.float32(CERTAIN_LLR), np.float32(-CERTAIN_LLR))
    llr[10:20] = np.where(llr[10:20] > 0, np.finfo(np.float32).max, -np.finfo(np.float32).max)
    known = Key(5).uniform(80) < 0.3
    llr[known] = 0
    found = restored(decoder, Evidence(known, np.where(known, values, 0), vocab_size, bit_llr=llr))
    assert np.array_equal(found.values, values)


@pytest.mark.parametrize("name", [*TAKES_A_MODEL, "none", "most_frequent", "repeat_last", "dude"])
def test_certain_bits_that_name_no_token(name: str) -> None:
    """Catches an index past the vocabulary of six, and NaN where all tokens contradict: the next best token, or LOST."""
    decoder = catalogue.CATALOGUE["decoders"][name](**({"model": Uniform(vocab_size=6)} if name in TAKES_A_MODEL else {}))
    assert isinstance(decoder, Decoder)
    found = restored(decoder, evidence(5, 6, llr=np.full((5, 3), CERTAIN_LLR, np.float32)))
    # 111 is no token; 011 and 101 are the nearest
    assert np.all(found.lost) if name in GIVES_UP else np.all(np.isin(found.values, (3, 5)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_undefined_llrs_are_refused(bad: float) -> None:
    """Catches NaN that would spread through a decoder unseen: no decoder ever meets one."""
    with pytest.raises(ValueError, match="LLRs must be finite"):
        evidence(1, 2, llr=np.full((1, 1), bad, np.float32))
    with pytest.raises(ValueError, match="LLRs must be finite"):
        Reception(np.full((1, 8), bad, np.float32), np.zeros(1, bool), np.ones(1, bool), np.zeros((1, 3), np.int32))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cost_of_64_kb(name: str) -> None:
    """Catches time or memory that grows faster than the item: sixteen times the tokens, a tenth of them erased."""
    decoder, vocab_size = decoder_of(name)
    if name in TAKES_A_MODEL:  # the search is at test, not the network
        decoder, vocab_size = decoder.model_copy(update={"model": ExactMarkov(flip_probability=0.1)}), 2
    if name == "masked_lm":  # how many rounds it takes depends on what is in the item
        decoder = decoder.model_copy(update={"num_rounds": 1})
    seconds, peaks = [], []
    decoder.restore([evidence(64, vocab_size, Key(6).uniform(64) < 0.9)], [Key(0)])  # compile and load
    for num_tokens in (4096, 65536):
        one = evidence(num_tokens, vocab_size, Key(6).uniform(num_tokens) < 0.9)
        begin = time.process_time()
        restored(decoder, one)
        seconds.append(time.process_time() - begin)
        tracemalloc.start()
        restored(decoder, one)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert seconds[1] < 32 * seconds[0] + 1
    assert peaks[1] < 20 * peaks[0] + 1e6
