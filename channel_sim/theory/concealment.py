"""Optimal concealment of a symmetric binary Markov source whose symbols are erased."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import entr

from channel_sim.checks import require
from channel_sim.theory.capacity import binary_entropy
from channel_sim.theory.domains import require_at_least, require_probability


def markov_map_error(flip_probability: float, erasure_probability: float, sides: Literal[0, 1, 2] = 2) -> float:
    """Error of the symbol-wise MAP estimate of an erased symbol; symmetric binary Markov source, independent erasures.

    sides: 2, both neighbours known as they arrived: p / (1 - λ e²); 1, the past alone: p / (1 - λ e); 0, no model: ½;
    with λ = 1 - 2p, and 1 - p for p above ½. At distance j the state has flipped with f_j = (1 - λ^j) / 2; between known
    symbols at distances j and k the MAP errs with min(f_j, f_k), and the nearest is at distance > j with e^j, e^2j.

    Source: derived here from the Markov property; the estimate itself is symbol-wise MAP, L. Bahl, J. Cocke, F. Jelinek, J. Raviv,
    "Optimal decoding of linear codes for minimizing symbol error rate", IEEE Trans. Inf. Theory 20 (1974).
    """
    require(sides in (0, 1, 2), f"sides must be 0, 1 or 2, got {sides}")
    _require_markov(flip_probability, erasure_probability)
    if sides == 0:
        return 0.5
    flip = min(flip_probability, 1 - flip_probability)
    return flip / (1 - (1 - 2 * flip) * erasure_probability**sides)


def markov_burst_map_error(flip_probability: float, length: int) -> float:
    """Mean error of the symbol-wise MAP estimate inside a gap of `length` erased symbols whose two ends are known.

    The mean over the gap of min(f_j, f_{length + 1 - j}), f_j = (1 - λ^j) / 2. Source: derived here, as `markov_map_error`.
    """
    require_probability("flip_probability", flip_probability)
    require_at_least("length", 1, length)
    flip = min(flip_probability, 1 - flip_probability)
    distance = np.arange(1, length + 1)
    nearest = np.minimum(distance, length + 1 - distance)
    return float(np.mean((1 - (1 - 2 * flip) ** nearest) / 2))


def markov_missing_information(flip_probability: float, erasure_probability: float) -> float:
    """H(X | Y) / n in bits a symbol: what is still missing of a symmetric binary Markov source after independent erasures.

    A gap of k symbols between known ones misses (k + 1) h(p) - h(f_{k+1}): h(p) - (1 - e)² Σ_k e^k h(f_{k+1}).

    Source: derived here by the chain rule of entropy, T. M. Cover, J. A. Thomas, "Elements of Information Theory" (2006),
    theorem 2.5.1.
    """
    _require_markov(flip_probability, erasure_probability)
    if erasure_probability == 0:
        return 0.0
    num_terms = int(np.ceil(np.log(1e-18) / np.log(erasure_probability))) + 1
    gap = np.arange(num_terms)
    flipped = (1 - (1 - 2 * flip_probability) ** (gap + 1)) / 2
    ends = erasure_probability**gap @ (entr(flipped) + entr(1 - flipped)) / np.log(2)
    return float(binary_entropy(flip_probability) - (1 - erasure_probability) ** 2 * ends)


def markov_break_even(flip_probability: float) -> float:
    """Erasure probability 1 - h(p) below which an entropy code and ideal parity, at one use a symbol, leave no error.

    Source: separation of source and channel coding, T. M. Cover, J. A. Thomas, "Elements of Information Theory" (2006),
    theorem 7.13.1.
    """
    return 1 - binary_entropy(flip_probability)


def _require_markov(flip_probability: float, erasure_probability: float) -> None:
    require_probability("flip_probability", flip_probability)
    require(0 <= erasure_probability < 1, f"erasure_probability must lie in [0, 1), got {erasure_probability}")
