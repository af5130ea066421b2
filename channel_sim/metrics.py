"""What is measured. Every metric is a ratio of sums over trials, so that items of any length weigh in by what they hold.

A metric with a transform is a function of that ratio: the PSNR of the mean squared error is no mean of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from channel_sim import fidelity
from channel_sim.chrf import chrf
from channel_sim.ledger import Ledger
from channel_sim.types import Content, Evidence, Item, Origin, Packets, Reconstruction, Tokens

Number = float | np.integer | np.floating | np.bool_
_PROBABILITY_FLOOR = 2.0**-30
CALIBRATION_BINS = 10
"""Equal bins of confidence; the last one holds 1 as well."""
GIGABYTE_BITS = 8_000_000_000
"""Of the data that an adjusted rate spreads a model over."""
_CONFIDENT = np.float32(0.9)  # in the precision of a confidence
OF_EVALUATORS = ("task_accuracy", "clean_task_accuracy", "task_agreement", "kid", "kid_of_originals")
"""Measured only where a scenario has an evaluator."""
_FIDELITY = ("psnr_db", "psnr_of_mean_mse_db", "ssim", "ms_ssim", "si_sdr_db", "exact_item_rate", "undecodable_rate")
_WHITE_SPACE = np.frombuffer(b" \t\n\r\f\v", np.uint8)

TRANSFORMS: Mapping[str, Callable[[float], float]] = {"psnr_db": fidelity.psnr_db, "sdr_db": fidelity.sdr_db}
"""Name -> function of a ratio of sums: monotone, and finite for every ratio >= 0."""


@dataclass(frozen=True)
class Metric:
    """How a metric is read: its unit, which way is better, and what it says.

    counts:    of a metric of unit "1", what its numerator is. "share": of the denominator, an item's value lies in [0, 1];
               "errors": errors, of which there may be more than the denominator says; "none": nothing that is counted
    within:    the metric that counts the only chances this one has: where it has none, 0 is a fact and not a limit
    transform: the function of the ratio of sums that the metric is, by its name in `TRANSFORMS`; "" for the ratio itself
    """

    unit: str
    better: Literal["lower", "higher", "neither"]
    description: str
    counts: Literal["share", "errors", "none"] = "share"
    within: str = ""
    transform: Literal["", "psnr_db", "sdr_db"] = ""

    def value(self, ratio: float) -> float:
        """The metric from its ratio of sums."""
        return TRANSFORMS[self.transform](ratio) if self.transform else ratio


CATALOGUE: dict[str, Metric] = {
    "token_error_rate": Metric("1", "lower", "tokens wrong or given up, of all tokens"),
    "lost_token_rate": Metric("1", "lower", "tokens given up, of all tokens"),
    "concealed_fraction": Metric("1", "neither", "erased tokens that the decoder filled in, rightly or not, of all erased", "none"),
    "recovered_fraction": Metric("1", "higher", "erased tokens restored exactly, of all erased tokens",
                                 within="concealed_fraction"),
    "recovered_fraction_nonspace": Metric("1", "higher", "the same over erased bytes that are not white space",
                                          within="concealed_fraction"),
    "invented_fraction": Metric("1", "lower", "tokens that the prior filled in wrongly, of all tokens",
                                within="concealed_fraction"),
    "byte_error_rate": Metric("1", "lower", "bytes wrong of all; by edit distance where a token is not a byte", "errors"),
    "character_error_rate": Metric("1", "lower", "edit distance in characters, of all characters", "errors"),
    "word_error_rate": Metric("1", "lower", "edit distance in words (split at white space), of all words", "errors"),
    "chrf": Metric("1", "higher", "character n-gram F2 score of order 6, mean over items"),
    "psnr_db": Metric("dB", "higher", "peak signal-to-noise ratio of an image, peak 255, at most 60 dB, mean over items"),
    "psnr_of_mean_mse_db": Metric("dB", "higher", "PSNR of the mean squared error of all images, peak 255, at most 60 dB",
                                  transform="psnr_db"),
    "ssim": Metric("1", "higher", "structural similarity, Gaussian window of 11 pixels, of each colour, mean over items", "none"),
    "ms_ssim": Metric("1", "higher", "the same over five scales; for sides of 161 pixels or more", "none"),
    "si_sdr_db": Metric("dB", "higher", "scale-invariant signal-to-distortion ratio of a sound, within ±60 dB, mean over items"),
    "mse": Metric("1", "lower", "squared error of a vector, per dimension", "none"),
    "sdr_db": Metric("dB", "higher", "signal-to-distortion ratio of vectors of unit variance, -10 log10 of all their mse, up to 60",
                     transform="sdr_db"),
    "exact_item_rate": Metric("1", "higher", "pictures or sounds restored without any error, of all"),
    "undecodable_rate": Metric("1", "lower", "pictures or sounds of which nothing could be decoded, of all"),
    "task_accuracy": Metric("1", "higher", "restored pictures whose class the evaluator tells rightly, of those with a label"),
    "clean_task_accuracy": Metric("1", "higher", "the same of the pictures as they were sent: what the evaluator itself can do"),
    "task_agreement": Metric("1", "higher", "restored pictures that the evaluator puts into the class of their original, of all"),
    "kid": Metric("1", "lower", "kernel distance of restored pictures from originals, in the evaluator's features", "none"),
    "kid_of_originals": Metric("1", "neither", "the same of one half of the originals from the other: what 0 looks like", "none"),
    "packet_loss_rate": Metric("1", "neither", "packets that the channel lost, of all that were sent, parity included"),
    "packet_error_rate": Metric("1", "lower", "packets lost or with a wrong bit after FEC, of all that were sent"),
    "residual_packet_loss_rate": Metric("1", "lower", "the coder's packets still missing after protection"),
    "delay_packets": Metric("packet", "lower", "packet times that a delivered packet was late, beside sending in order and alone"),
    "undetected_error_rate": Metric("1", "lower", "packets trusted though their bits are wrong, of all delivered"),
    "desync_rate": Metric("1", "lower", "packets that decoded to wrong tokens taken as known, of all packets"),
    "bit_error_rate": Metric("1", "lower", "payload bits wrong in hard decision, of all that were decided"),
    "block_error_rate": Metric("1", "lower", "code blocks with a wrong information bit"),
    "bits_per_token": Metric("bit", "lower", "payload, header and preamble bits that the coder sent, per token"),
    "bits_per_byte": Metric("bit", "lower", "payload, header and preamble bits that the coder sent, per byte of the item"),
    "compression_rate": Metric(
        "1", "lower", "payload bits, less the head that all files of the coder have, of the source's bits", "none"),
    "adjusted_rate": Metric("1", "lower", "the same, with weights and dictionary spread over 1 GB of the source", "none"),
    "bits_per_pixel": Metric("bit", "lower", "payload, header and preamble bits that the coder sent, per pixel of the image"),
    "bits_per_dimension": Metric("bit", "lower", "payload, header and preamble bits that the coder sent, per dimension"),
    "ideal_bits_per_token": Metric("bit", "neither", "-log2 P under the tables that coded, per token; not a rate that was sent"),
    "channel_uses_per_sample": Metric("use", "lower", "channel uses, all overhead charged, per source sample (a colour component)"),
    "channel_uses_per_pixel": Metric("use", "lower", "channel uses, all overhead charged, per pixel of the image"),
    "concealment_nll_bits": Metric("bit", "lower", "-log2 posterior of the true token, floored at 2^-30, per erased token"),
    "sample_bits_per_token": Metric(
        "bit", "neither", "-log2 of the confidence in restored tokens, floored at 2^-30, per token: of a continuation that was "
        "drawn token by token, less its log-likelihood under the model that drew it"),
    "brier": Metric("1", "lower", "mean squared error of the confidence in restored tokens"),
    "posterior_brier": Metric("1", "lower", "Brier score of the whole posterior, 0 to 2, per erased token", "none"),
    "expected_calibration_error": Metric(
        "1", "lower", "|confidence - share right| of restored tokens in ten equal bins of confidence, item by item: few tokens an "
        "item raise it", "none"),
    "overconfidence": Metric("1", "neither", "mean confidence in restored tokens less the share of them that is right", "none"),
    "confident_error_rate": Metric("1", "lower", "tokens restored wrongly with a confidence of 0.9 or more, of all restored"),
    "risk_coverage_area": Metric("1", "lower", "mean error rate of the most confident restored tokens, over all coverages"),
}


@dataclass
class Measurement:
    """values: metric -> (numerator, denominator); reasons: metric -> why it is not defined. Every metric is in one of them.

    calibration: [bin, restored tokens, those that are right, sum of their confidence] of every bin of confidence that holds one;
                 None where no token was restored
    """

    values: dict[str, tuple[float, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    calibration: list[list[float]] | None = None

    def ratio(self, metric: str, numerator: Number, denominator: Number, otherwise: str) -> None:
        """Book a ratio; a denominator of 0 is 'not defined', with the reason `otherwise`, never 0."""
        if denominator:
            self.values[metric] = (float(numerator), float(denominator))
        else:
            self.reasons[metric] = otherwise

    def update(self, other: Measurement) -> None:
        """Book all that `other` says; what it has values of is defined, whatever was said before."""
        self.values |= other.values
        self.reasons = {metric: why for metric, why in (self.reasons | other.reasons).items() if metric not in self.values}

    def __getitem__(self, metric: str) -> float | None:
        """The metric's value; None where it is not defined."""
        if metric not in self.values:
            return None
        return value_of(metric, *self.values[metric])


def value_of(metric: str, numerator: float, denominator: float) -> float | None:
    """A metric from its sums, transformed where it is; None where there is nothing to divide by. Unknown metrics are ratios.

    >>> value_of("token_error_rate", 1, 4), value_of("psnr_of_mean_mse_db", 0, 4), value_of("chrf", 0, 0)
    (0.25, 60.0, None)
    """
    if not denominator:
        return None
    ratio = numerator / denominator
    return CATALOGUE[metric].value(ratio) if metric in CATALOGUE else ratio


@dataclass(frozen=True, eq=False)
class Truth:
    """What was sent, known to the measuring side alone."""

    item: Item
    tokens: Tokens
    packets: Packets


def measure(truth: Truth, evidence: Evidence, reconstruction: Reconstruction, content: Content, ledger: Ledger,
            counts: dict[str, tuple[float, float]], missing: np.ndarray | None = None) -> Measurement:
    """All metrics of one trial. `counts` are what channel and protection counted themselves.

    missing: what the tokenizer could not decode, bool of any shape; an item of which everything is missing is undecodable
    """
    book = Measurement()
    for metric, pair in counts.items():
        book.ratio(metric, *pair, otherwise="nothing to count")
    _tokens(book, truth, evidence, reconstruction)
    _confidence(book, truth, evidence, reconstruction)
    _bytes(book, truth, content)
    _fidelity(book, truth.item, content, missing)
    _text(book, truth.item, content)
    _rates(book, truth, ledger)
    for metric in CATALOGUE.keys() - book.values.keys() - book.reasons.keys():
        book.reasons[metric] = "this chain has no such thing to count"
    return book


def _tokens(book: Measurement, truth: Truth, evidence: Evidence, reconstruction: Reconstruction) -> None:
    values, erased, lost = truth.tokens.values, evidence.erased, reconstruction.lost
    right = (reconstruction.values == values) & ~lost
    book.ratio("token_error_rate", np.sum(~right), values.size, "the item has no tokens")
    book.ratio("lost_token_rate", np.sum(lost), values.size, "the item has no tokens")
    invented = (reconstruction.origin == Origin.CONCEALED) & ~right
    book.ratio("invented_fraction", np.sum(invented), values.size, "the item has no tokens")
    filled = erased & ((reconstruction.origin == Origin.CONCEALED) | (reconstruction.origin == Origin.INFERRED))
    book.ratio("concealed_fraction", np.sum(filled), np.sum(erased), "no token was erased")
    book.ratio("recovered_fraction", np.sum(right & erased), np.sum(erased), "no token was erased")
    if truth.item.modality == "text" and truth.tokens.vocab_size == 256:
        visible = erased & ~np.isin(values, _WHITE_SPACE)
        book.ratio("recovered_fraction_nonspace", np.sum(right & visible), np.sum(visible), "no byte but white space was erased")
    if truth.packets.ideal_bits is not None or truth.packets.context is not None:
        wrong = evidence.known & (evidence.values != values)
        packet_of = np.repeat(np.arange(truth.packets.num_packets), np.diff(truth.packets.bounds))
        astray = np.unique(packet_of[wrong[truth.packets.order]]).size
        book.ratio("desync_rate", astray, truth.packets.num_packets, "no packet was sent")
    else:
        book.reasons["desync_rate"] = "a fixed-length code cannot lose step"


def _confidence(book: Measurement, truth: Truth, evidence: Evidence, reconstruction: Reconstruction) -> None:
    restored = (reconstruction.origin == Origin.INFERRED) | (reconstruction.origin == Origin.CONCEALED)
    right = (reconstruction.values == truth.tokens.values)[restored]
    confidence = reconstruction.confidence[restored].astype(np.float64)
    book.ratio("sample_bits_per_token", -np.log2(np.maximum(confidence, _PROBABILITY_FLOOR)).sum(), right.size,
               "no token was restored")
    book.ratio("brier", np.sum((confidence - right) ** 2), right.size, "no token was restored")
    book.ratio("risk_coverage_area", risk_coverage_area(confidence, right), min(right.size, 1), "no token was restored")
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    book.calibration = _calibration(bins, confidence, right) or None
    gaps = float(np.abs(np.bincount(bins, confidence - right, minlength=1)).sum())
    book.ratio("expected_calibration_error", gaps, right.size, "no token was restored")
    book.ratio("overconfidence", np.sum(confidence - right), right.size, "no token was restored")
    book.ratio("confident_error_rate", np.sum((confidence >= _CONFIDENT) & ~right), right.size, "no token was restored")
    if reconstruction.posterior is None:
        book.reasons |= dict.fromkeys(("concealment_nll_bits", "posterior_brier"), "the decoder states no posterior")
        return
    unknown = reconstruction.origin != Origin.RECEIVED
    of_truth = reconstruction.posterior[np.arange(unknown.sum()), truth.tokens.values[unknown]].astype(np.float64)
    nll = -np.log2(np.maximum(of_truth, _PROBABILITY_FLOOR))[evidence.erased[unknown]]
    book.ratio("concealment_nll_bits", nll.sum(), nll.size, "no token was erased")
    book.ratio("posterior_brier", _brier(reconstruction.posterior, of_truth)[evidence.erased[unknown]].sum(), nll.size,
               "no token was erased")


def _brier(posterior: np.ndarray, of_truth: np.ndarray) -> np.ndarray:
    """float64 [n]: squared distance of each posterior [n, vocab] from the truth, to which it gives `of_truth`.

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78 (1950), eq. 2.
    """
    return np.einsum("nv,nv->n", posterior, posterior, dtype=np.float64) - 2 * of_truth + 1


def _calibration(bins: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> list[list[float]]:
    """As in `Measurement`; the ECE is Σ over bins of |Σ confidence - number right|, of all tokens.

    Source: M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015, eq. 3.
    """
    tokens, hits, sums = (np.bincount(bins, weights, CALIBRATION_BINS) for weights in (None, right, confidence))
    return [[int(one), int(tokens[one]), int(hits[one]), round(float(sums[one]), 6)] for one in np.flatnonzero(tokens)]


def risk_coverage_area(confidence: np.ndarray, right: np.ndarray) -> float:
    if not right.size:
        return 0.0
    # tokens of equal confidence count as if in random order: where they stand in the item must not matter
    _, level, num_tied = np.unique(-confidence, return_inverse=True, return_counts=True)
    risk = np.bincount(level, ~right) / num_tied
    return float(np.mean(np.cumsum(risk[np.sort(level)]) / np.arange(1, right.size + 1)))


def _bytes(book: Measurement, truth: Truth, content: Content) -> None:
    sent = truth.item.content
    if not isinstance(sent, bytes) or not isinstance(content, bytes):
        book.reasons["byte_error_rate"] = "the item is not made of bytes"
        return
    # one rule a chain: a tokenizer that can change the length must not be counted by position where the length happens to agree
    if len(content) == len(sent) and _token_is_byte(truth):
        errors = int(np.sum(np.frombuffer(content, np.uint8) != np.frombuffer(sent, np.uint8)))
    else:
        errors = Levenshtein.distance(sent, content)
    book.ratio("byte_error_rate", errors, len(sent), "the item is empty")


def _token_is_byte(truth: Truth) -> bool:
    assert isinstance(truth.item.content, bytes)
    tokens = truth.tokens
    return tokens.vocab_size == 256 and np.array_equal(tokens.values, np.frombuffer(truth.item.content, np.uint8))


def _fidelity(book: Measurement, item: Item, content: Content, missing: np.ndarray | None) -> None:
    """Pictures uint8 [H, W, C], sounds int16 or uint8 [n]; another shape is undecodable: grey or silence stands for it."""
    sent = item.content
    picture = _is_picture(sent)
    _vector(book, item, content)
    if not isinstance(sent, np.ndarray) or not (picture or item.modality == "sound"):
        book.reasons |= dict.fromkeys(_FIDELITY, "the item is neither a picture nor a sound")
        return
    if not sent.size:
        book.reasons |= dict.fromkeys(_FIDELITY, "the item is empty")
        return
    same = isinstance(content, np.ndarray) and content.shape == sent.shape and content.dtype == sent.dtype
    constant = fidelity.MID_GREY if picture else fidelity.silence(sent)
    restored = np.asarray(content) if same else np.full_like(sent, constant)
    nothing = not same or (missing is not None and missing.size > 0 and bool(np.all(missing)))
    book.ratio("undecodable_rate", nothing, 1, "")
    book.ratio("exact_item_rate", np.array_equal(sent, restored), 1, "")
    (_picture if picture else _sound)(book, sent, restored)


def _vector(book: Measurement, item: Item, content: Content) -> None:
    """Vectors of floats [n]; another shape counts as zeros."""
    sent = item.content
    if item.modality != "vector" or not isinstance(sent, np.ndarray):
        book.reasons |= dict.fromkeys(("mse", "sdr_db"), "the item is not a vector")
        return
    same = isinstance(content, np.ndarray) and content.shape == sent.shape
    restored = np.asarray(content, np.float64) if same else np.zeros(sent.shape)
    for metric in ("mse", "sdr_db"):
        book.ratio(metric, np.sum((sent.astype(np.float64) - restored) ** 2), sent.size, "the item is empty")


def _picture(book: Measurement, sent: np.ndarray, restored: np.ndarray) -> None:
    error = fidelity.squared_error(sent, restored)
    book.ratio("psnr_db", fidelity.psnr_db(error / sent.size), 1, "")
    book.ratio("psnr_of_mean_mse_db", error, sent.size, "")
    for metric, score, fewest in (("ssim", fidelity.ssim(sent, restored), fidelity.WINDOW_PIXELS),
                                  ("ms_ssim", fidelity.ms_ssim(sent, restored), fidelity.FEWEST_MS_PIXELS)):
        book.ratio(metric, score or 0.0, score is not None, f"a side of the picture is below {fewest} pixels")
    book.reasons["si_sdr_db"] = "the item is not a sound"


def _sound(book: Measurement, sent: np.ndarray, restored: np.ndarray) -> None:
    silence = fidelity.silence(sent)
    ratio = fidelity.si_sdr_db(sent.astype(np.float64) - silence, restored.astype(np.float64) - silence)
    book.ratio("si_sdr_db", ratio or 0.0, ratio is not None, "the sound that was sent is silence")
    book.reasons |= dict.fromkeys(("psnr_db", "psnr_of_mean_mse_db", "ssim", "ms_ssim"), "the item is not a picture")


def _is_picture(content: Content) -> bool:
    return isinstance(content, np.ndarray) and content.dtype == np.uint8 and content.ndim == 3


def _text(book: Measurement, item: Item, content: Content) -> None:
    if item.modality != "text" or not isinstance(item.content, bytes) or not isinstance(content, bytes):
        book.reasons |= dict.fromkeys(("character_error_rate", "word_error_rate", "chrf", "recovered_fraction_nonspace"),
                                      "the item is not text")
        return
    sent, restored = item.content.decode("utf-8", "replace"), content.decode("utf-8", "replace")
    book.ratio("character_error_rate", Levenshtein.distance(sent, restored), len(sent), "the item is empty")
    words = sent.split()
    book.ratio("word_error_rate", Levenshtein.distance(words, restored.split()), len(words), "the item has no words")
    book.ratio("chrf", chrf(sent, restored), min(len(words), 1), "the item has no words")


def _rates(book: Measurement, truth: Truth, ledger: Ledger) -> None:
    sent = ledger.coded_bits + ledger.header_bits + ledger.preamble_bits
    num_tokens = truth.tokens.values.size
    book.ratio("bits_per_token", sent, num_tokens, "the item has no tokens")
    if isinstance(truth.item.content, bytes):
        book.ratio("bits_per_byte", sent, len(truth.item.content), "the item is empty")
    else:
        book.reasons["bits_per_byte"] = "the item is not made of bytes"
    dimensions = len(truth.item.content) if truth.item.modality == "vector" else 0
    book.ratio("bits_per_dimension", sent, dimensions, "the item is not a vector")
    _published_rates(book, truth, ledger)
    if truth.packets.ideal_bits is None:
        book.reasons["ideal_bits_per_token"] = "no model coded the tokens"
    else:
        book.ratio("ideal_bits_per_token", truth.packets.ideal_bits, num_tokens, "the item has no tokens")
    if isinstance(truth.item.content, np.ndarray) and _is_picture(truth.item.content):
        num_pixels = truth.item.content.shape[0] * truth.item.content.shape[1]
        book.ratio("bits_per_pixel", sent, num_pixels, "the item is empty")
        book.ratio("channel_uses_per_pixel", ledger.channel_uses, num_pixels, "the item is empty")
    else:
        book.reasons |= dict.fromkeys(("bits_per_pixel", "channel_uses_per_pixel"), "the item is not a picture")
    book.ratio("channel_uses_per_sample", ledger.channel_uses, ledger.source_symbols, "the item has no samples")


def _published_rates(book: Measurement, truth: Truth, ledger: Ledger) -> None:
    """What is charged in Source, where one head is paid for all chunks together: here none, as 1 GB would make it nothing.

    Source: G. Delétang et al., "Language modeling is compression", ICLR 2024, section 3.1 and table 1.
    """
    raw, bits = _source_bits(truth), ledger.coded_bits - ledger.head_bits
    book.ratio("compression_rate", bits, raw, "the item is empty")
    book.ratio("adjusted_rate", bits + (ledger.head_bits + ledger.shared_bits) * raw / GIGABYTE_BITS, raw, "the item is empty")


def _source_bits(truth: Truth) -> int:
    """Bits of the item as it was: of symbols, those of their alphabet."""
    content = truth.item.content
    if isinstance(content, bytes):
        return 8 * len(content)
    return truth.tokens.values.size * truth.tokens.bits_per_token if truth.item.modality == "symbols" else 8 * content.nbytes
