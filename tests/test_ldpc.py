"""The LDPC decoder in numba: right by brute force, the same as Sionna's in what it restores, and the same for every batch."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product

import numpy as np
import pytest

from benchmarks.ldpc import FORMATS as BENCHMARKED
from benchmarks.ldpc import Comparison, Pair, gap_db
from channel_sim import ldpc
from channel_sim.keys import Key
from channel_sim.sionna_blocks import load

HAMMING = np.array([[1, 1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1, 0], [0, 1, 1, 1, 0, 0, 1]])
TREE = np.array([[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]])
"""Bits 2 and 4 join three checks in a row, without a cycle: belief propagation is exact."""


def graph(matrix: np.ndarray, received: list[int] | None = None) -> ldpc.Graph:
    """All bits are information bits; `received` names those that were sent, in order."""
    sent = list(range(matrix.shape[1])) if received is None else received
    sources = np.array([sent.index(bit) if bit in sent else -1 for bit in range(matrix.shape[1])])
    starts = np.concatenate([[0], np.cumsum(matrix.sum(1))])
    arrays = [one.astype(np.int32) for one in (starts, np.nonzero(matrix)[1], sources)]
    return ldpc.Graph(matrix.shape[1], len(sent), *arrays)


@lru_cache(maxsize=1)
def cyclic() -> tuple[np.ndarray, ldpc.Graph]:
    """A quasi-cyclic matrix like 5G's (3 x 8 circulants of 16, dual diagonal), and its graph with 16 bits that were not sent."""
    matrix = np.zeros((48, 128), int)
    shifts = (Key(5).uniform(3, 8) * 16).astype(int)
    for i, j in product(range(3), range(8)):
        if j < 5 or i in (j - 5, j - 4):
            shift = shifts[i, j] if j < 5 else 0
            matrix[16 * i + np.arange(16), 16 * j + (np.arange(16) + shift) % 16] = 1
    return matrix, graph(matrix, list(range(16, 128)))


def code_words(matrix: np.ndarray) -> np.ndarray:
    words = np.array(list(product((0, 1), repeat=matrix.shape[1])))
    return words[~(words @ matrix.T % 2).any(1)]


def noisy(num_blocks: int, num_bits: int, mean: float = 2.0, label: str = "llr") -> np.ndarray:
    """LLRs of the all-zero word through Gaussian noise, which makes some of them wrong."""
    return (np.sqrt(2 * mean) * Key(3).child(label).normal(num_blocks, num_bits) - mean).astype(np.float32)


def exact_posterior(llr: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    words = code_words(matrix)
    weights = np.exp(llr.astype(float) @ words.T)  # [num_blocks, words]
    return np.log(weights @ words) - np.log(weights @ (1 - words))


def test_a_tree_gives_the_posterior_of_a_sum_over_all_code_words():
    """Catches a wrong sign, a message that comes back to its sender, a prior that is not used, an LLR of the wrong sense."""
    channel, prior = noisy(200, 7), noisy(200, 7, label="prior")
    for parts in ((channel, None), (channel, prior), (np.zeros_like(channel), prior)):
        expected = exact_posterior(parts[0] + (0 if parts[1] is None else parts[1]), TREE)
        got = ldpc.decode(*parts, graph=graph(TREE), num_iterations=5, early_stop=False)
        # one message for all but the least reliable bit keeps its own share, and the correction is off by up to .02
        close = np.abs(got - expected) < 0.1 + 0.3 * np.abs(expected)
        assert close.mean() > 0.95 and ((got > 0) == (expected > 0))[np.abs(expected) > 0.5].all()


def test_the_least_reliable_bit_of_a_check_hears_the_others_exactly():
    """Catches a wrong correction or an offset: 2 artanh of the product of tanh, and the bound of a bit nobody else vouches for."""
    others = np.abs(noisy(500, 3, label="others")) + 0.01
    llr = np.concatenate([np.zeros((500, 1)), others], 1).astype(np.float32)
    got = ldpc.decode(llr, graph=graph(np.ones((1, 4), int)), num_iterations=1, early_stop=False)[:, 0]
    assert np.allclose(np.abs(got), 2 * np.arctanh(np.tanh(others / 2).prod(1)), atol=0.04)
    assert (got > 0).all()  # three likely ones ask for a fourth
    alone = ldpc.decode(np.float32([[5.0]]), graph=graph(np.ones((1, 1), int)), num_iterations=1)
    assert alone[0, 0] < -10  # the bound less what was received the other way


def test_one_wrong_bit_of_a_hamming_code_is_corrected():
    """Catches a decoder that answers with its input: maximum likelihood by search over all 16 code words."""
    words = code_words(HAMMING)
    for word, wrong in product(words, range(7)):
        llr = np.where(word, 4.0, -4.0).astype(np.float32)
        llr[wrong] *= -0.5
        best = words[np.argmax(words @ llr)]
        assert np.array_equal(best, word)
        assert np.array_equal(ldpc.decode(llr[None], graph=graph(HAMMING))[0] > 0, best == 1)


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_block_is_decoded_alike_in_every_batch_order_and_thread(early_stop):
    """Catches a lane that keeps what its last block left, a stop that takes the neighbours along, and shared state."""
    code = cyclic()[1]
    llr, prior = noisy(101, code.code_bits, 4.0), noisy(101, code.info_bits, 0.3, "prior")

    def decode(rows):
        return ldpc.decode(llr[rows], prior[rows], graph=code, num_iterations=12, early_stop=early_stop)

    together, order = decode(slice(None)), np.argsort(Key(4).uniform(101))
    assert np.array_equal(together, np.concatenate([decode(slice(i, i + 1)) for i in range(101)]))
    assert np.array_equal(together[order], decode(order))
    assert np.array_equal(together, np.concatenate([decode(slice(i, i + 23)) for i in range(0, 101, 23)]))
    with ThreadPoolExecutor(4) as threads:
        assert np.array_equal(together, np.concatenate(list(threads.map(decode, np.array_split(np.arange(101), 9)))))
    assert len({row.tobytes() for row in together}) == 101  # no two results are the same by accident


def test_early_stop_ends_with_the_first_code_word():
    """Catches a stop before all checks hold or after: the result is that of a fixed run of just as many iterations."""
    matrix, code = cyclic()
    llr, zeros = noisy(200, code.code_bits, 5.0), np.zeros((200, code.info_bits), np.float32)
    structure = (code.row_starts, code.columns, code.sources)
    posterior, taken = ldpc.decode_blocks(llr, zeros, *structure, 12, True)
    assert len(set(taken)) > 4 and taken.max() == 12
    for count in range(1, 13):
        fixed = ldpc.decode_blocks(llr, zeros, *structure, count, False)[0]
        satisfied = ~((fixed > 0) @ matrix.T % 2).any(1)
        assert not satisfied[taken > count].any()
        assert satisfied[(taken == count) & (taken < 12)].all()
        assert np.array_equal(posterior[taken == count], fixed[taken == count])


def test_the_code_word_that_was_sent_does_not_matter():
    """Catches zeros counted as zero bits and signs of zeros: flipping LLRs along a code word flips the result, bit for bit."""
    matrix, code = cyclic()
    word = np.zeros(128, int)
    word[:80] = Key(6).integers(2, 80)
    for row in range(48):  # the dual diagonal: a check at a time gives one more bit
        word[80 + row] = (matrix[row, :80 + row] @ word[:80 + row]) % 2
    assert not (matrix @ word % 2).any() and word.any()
    signs = (1 - 2 * word).astype(np.float32)
    llr = noisy(64, code.code_bits, 5.0)
    llr[:, 40:60] = 0  # an erased stretch on top of what was not sent
    plain, flipped = ldpc.decode(llr, graph=code), ldpc.decode(llr * signs[16:], graph=code)
    assert np.array_equal(plain * signs, flipped)


def test_no_prior_is_a_prior_of_zeros_and_a_perfect_prior_leaves_no_error():
    """Catches bits that take no prior, among them those that were never sent."""
    code = cyclic()[1]
    llr = 3 * Key(9).normal(300, code.code_bits).astype(np.float32)  # as good as no channel
    none, zeros = ldpc.decode(llr, graph=code), ldpc.decode(llr, np.zeros((300, 128), np.float32), graph=code)
    assert np.array_equal(none, zeros) and (none > 0).any(1).mean() > 0.9
    assert not (ldpc.decode(llr, np.full((300, 128), -50, np.float32), graph=code) > 0).any()


def test_values_stay_numbers_over_a_thousand_iterations_and_for_certain_inputs():
    """Catches messages that grow until infinity less infinity."""
    code = cyclic()[1]
    llr = noisy(20, code.code_bits, 1.0)
    llr[0], llr[1, ::2] = -np.inf, np.inf
    posterior = ldpc.decode(llr, graph=code, num_iterations=1000, early_stop=False)
    assert np.isfinite(posterior).all() and (posterior[0] < -50).all()


def test_wrong_input_is_refused_by_name():
    """Catches LLRs that are silently read past their end, or not a number."""
    code = graph(HAMMING)
    with pytest.raises(ValueError, match="channel_llr must have shape"):
        ldpc.decode(np.zeros((2, 6), np.float32), graph=code)
    with pytest.raises(ValueError, match="a_priori must have shape"):
        ldpc.decode(np.zeros((2, 7), np.float32), np.zeros((1, 7), np.float32), graph=code)
    with pytest.raises(ValueError, match="channel_llr must be numbers"):
        ldpc.decode(np.full((2, 7), np.nan, np.float32), graph=code)
    with pytest.raises(ValueError, match="num_iterations must be >= 1"):
        ldpc.decode(np.zeros((2, 7), np.float32), graph=code, num_iterations=0)
    assert ldpc.decode(np.zeros((0, 7), np.float32), graph=code).shape == (0, 7)


def test_the_gap_between_two_decoders_is_found_again():
    """Catches a gap of the wrong sign or scale: two lines in log BLER, .1 dB apart, whose place is known."""
    def wrong(ebno_db, place):
        rate = 10 ** (-2 - 4 * (ebno_db - place))
        return Key(7).child(int(100 * place)).uniform(20_000) < rate  # the same uniforms at both Eb/N0

    comparisons = [Comparison(ebno, wrong(ebno, 1.0), wrong(ebno, 1.1)) for ebno in (0.9, 1.1)]
    gap, low, high = gap_db(comparisons)
    assert low < 0.1 < high and low < gap < high and high - low < 0.1
    swapped = [Comparison(one.ebno_db, one.numba_wrong, one.sionna_wrong) for one in comparisons]
    assert gap_db(swapped)[0] == pytest.approx(-gap)


FORMATS = [(12, 60, 1), (20, 24, 2), (64, 128, 2), (100, 450, 6), (292, 324, 1), (293, 330, 2), (512, 1024, 2), (512, 2560, 2),
           (700, 1400, 4), (1000, 3000, 8), (1024, 1280, 4)]
LONG_FORMATS = [(3840, 19200, 2), (3824, 7648, 2), (3900, 4500, 6), (8448, 25344, 2), (8448, 9408, 8), (8448, 16896, 4)]


def assert_restores_all(info_bits, code_bits, bits_per_symbol):
    """From LLRs that are all right, and from a channel of any quality with a perfect prior."""
    tensorflow, phy = load()
    encoder = phy.fec.ldpc.LDPC5GEncoder(info_bits, code_bits, num_bits_per_symbol=bits_per_symbol)
    bits = Key(8).integers(2, 5, info_bits)
    word = encoder(tensorflow.constant(bits, tensorflow.float32)).numpy()
    code = ldpc.graph_of(info_bits, code_bits, bits_per_symbol)
    llr = (2 * word - 1) * (1 + 9 * Key(8).child("size").uniform(*word.shape))
    assert np.array_equal(ldpc.decode(llr, graph=code) > 0, bits == 1)
    for esno_db in (-20, -10, 0):
        mean = 4 * 10 ** (esno_db / 10)
        llr = mean * (2 * word - 1) + np.sqrt(2 * mean) * Key(8).child("noise").normal(*word.shape)
        assert np.array_equal(ldpc.decode(llr, 50.0 * (2 * bits - 1), graph=code) > 0, bits == 1)


@pytest.mark.sionna
@pytest.mark.parametrize("info_bits, code_bits, bits_per_symbol", FORMATS)
def test_what_sionna_encodes_is_restored(info_bits, code_bits, bits_per_symbol):
    """Catches a wrong filler, puncturing, interleaver or pruning, in both base graphs and at rates from 1/5 to 9/10."""
    assert_restores_all(info_bits, code_bits, bits_per_symbol)


@pytest.mark.sionna
@pytest.mark.slow
@pytest.mark.parametrize("info_bits, code_bits, bits_per_symbol", LONG_FORMATS)
def test_what_sionna_encodes_is_restored_in_long_blocks(info_bits, code_bits, bits_per_symbol):
    """Catches an index that overflows, and the last lifting sizes of both base graphs."""
    assert_restores_all(info_bits, code_bits, bits_per_symbol)


@pytest.mark.sionna
@pytest.mark.slow
@pytest.mark.parametrize("info_bits, code_bits", [(512, 1024), (256, 1280), (400, 444)])
def test_the_block_error_rate_is_that_of_boxplus_phi(info_bits, code_bits):
    """Catches a check rule that falls behind belief propagation (plain min-sum: up to 1 dB; normalised: .4 dB at rate 1/5)."""
    pair = Pair(info_bits, code_bits, 250)
    ebno_db = BENCHMARKED[info_bits, code_bits]
    same = [pair.compare(one, 8000, ldpc.layered_iterations(20)) for one in ebno_db]
    gap, low, high = gap_db(same)
    assert -0.05 < gap < 0.05 and low > -0.1 and high < 0.1
    # as many iterations as Sionna's are better, not worse
    assert gap_db([pair.compare(one, 4000, 20) for one in ebno_db])[2] < 0.05
