"""How like two texts are in their pieces, whatever stands where."""

from __future__ import annotations

import numpy as np

_ORDER, _BETA = 6, 2.0
_CHARACTER_BITS = 21  # of a Unicode code point


def chrf(reference: str, hypothesis: str) -> float:
    """Character n-gram F-score of order 6 with beta = 2, white space left out, in [0, 1].

    Source: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015, eq. 1.
    """
    sent, restored = _characters(reference), _characters(hypothesis)
    precisions, recalls = [], []
    grams = np.concatenate([sent, restored])
    for order in range(1, min(_ORDER, sent.size, restored.size) + 1):
        # a number for each n-gram that occurs in either text: equal n-grams, equal numbers
        distinct, number = np.unique(grams, return_inverse=True)
        num_sent, num_restored = sent.size - order + 1, restored.size - order + 1
        counts = [np.bincount(part, minlength=distinct.size) for part in (number[:num_sent], number[num_sent:])]
        matches = int(np.minimum(*counts).sum())
        precisions.append(matches / num_restored)
        recalls.append(matches / num_sent)
        longer = [part[:-1] << _CHARACTER_BITS | characters[order:]
                  for part, characters in ((number[:num_sent], sent), (number[num_sent:], restored))]
        grams = np.concatenate(longer)
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    return (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _characters(text: str) -> np.ndarray:
    """int64: the code points of a text, white space left out."""
    return np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
