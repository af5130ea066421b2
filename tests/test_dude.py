"""Universal denoising against the window-limited optimum of a known source, in closed form and by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.types import Evidence, Origin
from decoders.dude import Dude
from sources.synthetic import Markov


def chain(flip_probability: float, num_symbols: int, key: Key) -> np.ndarray:
    return Markov(flip_probability=flip_probability, num_symbols=num_symbols).items([0], [key])[0].content.astype(np.int32)


def window_optimum(flip: float, erased: float, noise: float, reach: int) -> float:
    """Error of the best guess of a symbol from `reach` received symbols on each side and its own: by enumeration.

    The own symbol is erased where erased > 0, as are neighbours with that chance; else all pass a binary symmetric channel.
    """
    width, error = 2 * reach + 1, 0.0
    joint: dict[tuple[int, ...], np.ndarray] = {}
    for sent in product((0, 1), repeat=width):
        flips = sum(a != b for a, b in zip(sent, sent[1:]))
        chance = 0.5 * flip**flips * (1 - flip) ** (width - 1 - flips)
        heard = [[(2, erased), (symbol, 1 - erased)] if erased else [(symbol, 1 - noise), (1 - symbol, noise)] for symbol in sent]
        if erased:
            heard[reach] = [(2, 1.0)]
        for way in product(*heard):
            seen = joint.setdefault(tuple(symbol for symbol, _ in way), np.zeros(2))
            seen[sent[reach]] += chance * np.prod([part for _, part in way])
    for weights in joint.values():
        error += weights.min()
    return error


@pytest.mark.parametrize("flip_probability, erasure_probability", [(0.1, 0.3), (0.2, 0.5)])
def test_erasures_of_a_markov_source(flip_probability: float, erasure_probability: float) -> None:
    """Catches contexts that are off by one or one-sided: the error is the optimum of three neighbours a side, within 3 %."""
    n, reach = 300_000, 3
    symbols, known = chain(flip_probability, n, Key(1)), Key(2).uniform(n) >= erasure_probability
    (found,) = Dude(context_tokens=reach).restore([Evidence(known, np.where(known, symbols, 0), 2)], [Key(0)])
    error = np.mean(found.values[~known] != symbols[~known])
    optimum = window_optimum(flip_probability, erasure_probability, 0.0, reach)
    two_sided = flip_probability / (1 - (1 - 2 * flip_probability) * erasure_probability**2)
    assert two_sided < optimum < two_sided + 0.5 * erasure_probability ** (2 * reach)
    assert error == pytest.approx(optimum, rel=0.03)
    assert 1 - found.confidence[~known].mean() == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize("flip_probability, noise", [(0.05, 0.1), (0.2, 0.2)])
def test_flipped_bits_of_a_markov_source(flip_probability: float, noise: float) -> None:
    """Catches counts that are not taken back through the channel, and its inverse the wrong way round.

    All LLRs have one size, so the channel is the binary symmetric one of the paper; negative control: the optimum without
    neighbours is `noise`.
    """
    n, reach = 300_000, 3
    symbols = chain(flip_probability, n, Key(3))
    seen = symbols ^ (Key(4).uniform(n) < noise)
    llr = (np.log((1 - noise) / noise) * (2 * seen - 1)).astype(np.float32)[:, None]
    (found,) = Dude(context_tokens=reach).restore([Evidence(np.zeros(n, bool), np.zeros(n, np.int32), 2, bit_llr=llr)], [Key(0)])
    error, optimum = np.mean(found.values != symbols), window_optimum(flip_probability, 0.0, noise, reach)
    assert optimum < 0.95 * noise
    assert error == pytest.approx(optimum, rel=0.03)


def test_a_larger_alphabet_through_its_bits() -> None:
    """Catches bits taken back in the wrong order: a sticky chain over five symbols, each of its three bits flipped with .05."""
    n, noise = 60_000, 0.05
    moves = Key(5).uniform(n) < 0.1
    symbols = np.zeros(n, np.int32)
    for at, (move, new) in enumerate(zip(moves, Key(6).integers(5, n))):
        symbols[at] = new if move or at == 0 else symbols[at - 1]
    bits = (symbols[:, None] >> np.arange(3)[::-1]) & 1
    seen = bits ^ (Key(7).uniform(n, 3) < noise)
    llr = (np.log((1 - noise) / noise) * (2.0 * seen - 1)).astype(np.float32)
    (found,) = Dude().restore([Evidence(np.zeros(n, bool), np.zeros(n, np.int32), 5, bit_llr=llr)], [Key(0)])
    hard = np.mean((seen != bits).any(axis=1))
    assert np.mean(found.values != symbols) < 0.35 * hard


def test_text_mends_itself() -> None:
    """Catches a rule that learns nothing from the item: of a text that repeats, lost bytes come back."""
    values = np.frombuffer(b"the cat sat on the mat and the rat sat on the hat; " * 20, np.uint8).astype(np.int32)
    known = Key(8).uniform(values.size) >= 0.1
    evidence = [Evidence(known, np.where(known, values, 0), 256)]
    found = [Dude(context_tokens=reach).restore(evidence, [Key(0)])[0] for reach in (0, 1, 2)]
    right = [np.mean((one.values == values)[~known]) for one in found]
    assert right[0] < 0.3 < right[1] < right[2] and right[2] > 0.6


def test_what_a_channel_may_deliver() -> None:
    """Catches empty arrays, certainties that overflow, coins for bits, and tokens that are not in the vocabulary."""
    nothing = np.zeros(0, bool)
    loud = np.array([[3e38, -3e38, 50.0], [1e-9, -1e-9, 1e-9], [50.0, 50.0, 50.0]], np.float32)  # 7 is no token of five
    cases = [Evidence(nothing, nothing.astype(np.int32), 5), Evidence(np.zeros(1, bool), np.zeros(1, np.int32), 5),
             Evidence(np.zeros(3, bool), np.zeros(3, np.int32), 5, bit_llr=loud),
             Evidence(np.zeros(65536, bool), np.zeros(65536, np.int32), 5),
             Evidence(np.ones(3, bool), np.array([4, 0, 2], np.int32), 5)]
    empty, single, odd, lost, whole = Dude().restore(cases, [Key(0)] * 5)
    assert empty.values.size == 0 and single.origin[0] == Origin.CONCEALED and single.confidence[0] == pytest.approx(0.2)
    assert odd.values[0] == 4 and np.all(np.isfinite(odd.confidence)) and odd.values.max() < 5
    assert np.allclose(lost.confidence, 0.2) and whole.values.tolist() == [4, 0, 2] and np.all(whole.confidence == 1)


def test_items_do_not_touch_each_other() -> None:
    """Catches counts that leak from one item into the next."""
    values = [Key(9).child(i).integers(4, 200).astype(np.int32) for i in range(3)]
    known = [Key(10).child(i).uniform(200) >= 0.3 for i in range(3)]
    evidence = [Evidence(k, np.where(k, v, 0), 4) for k, v in zip(known, values)]
    for one, together in zip(evidence, Dude().restore(evidence, [Key(0)] * 3)):
        (alone,) = Dude().restore([one], [Key(0)])
        assert alone.posterior is not None and together.posterior is not None
        assert np.array_equal(alone.posterior, together.posterior)
