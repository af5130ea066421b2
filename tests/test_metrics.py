"""What is measured: every metric on cases worked by hand, against other implementations, and where it is not defined."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from channel_sim.chrf import chrf
from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.metrics import CATALOGUE, TRANSFORMS, Measurement, Truth, measure, value_of
from channel_sim.types import Content, Evidence, Item, Origin, Packets, Reconstruction, Tokens

LEDGER = Ledger(source_symbols=5, token_bits=40, coded_bits=40, preamble_bits=16, header_bits=32, crc_bits=48, parity_bits=80,
                channel_uses=216)
COUNTS = {"packet_loss_rate": (1.0, 4.0), "residual_packet_loss_rate": (1.0, 3.0), "undetected_error_rate": (0.0, 2.0),
          "bit_error_rate": (0.0, 0.0), "block_error_rate": (2.0, 8.0)}


def packets_of(num_tokens: int, order: Any = None, ideal_bits: float | None = None) -> Packets:
    """Two packets of empty payload that share the tokens; only which packet carries which token matters here."""
    order, half = np.arange(num_tokens) if order is None else np.array(order), num_tokens // 2
    header, bounds = np.array([[0, 0, half], [1, half, num_tokens - half]]), np.array([0, half, num_tokens])
    return Packets(np.zeros((2, 0), np.uint8), np.zeros(2, int), order, bounds, header, ideal_bits=ideal_bits)


def truth_of(content: Content, vocab_size: int = 256, modality: str = "text", **packets: Any) -> Truth:
    values = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
    return Truth(Item(content, modality, "x"), Tokens(values.astype(np.int32), vocab_size), packets_of(values.size, **packets))


def received(truth: Truth) -> tuple[Evidence, Reconstruction]:
    """Everything arrived."""
    values, vocab_size = truth.tokens.values, truth.tokens.vocab_size
    evidence = Evidence(np.ones(values.size, bool), values, vocab_size)
    return evidence, Reconstruction(values, np.zeros(values.size, np.uint8), np.ones(values.size), vocab_size)


def of_text(sent: bytes, restored: bytes) -> Measurement:
    """What is measured of `restored` content, whatever the tokens were."""
    truth = truth_of(sent)
    return measure(truth, *received(truth), restored, LEDGER, {})


def worked_example(posterior: bool = True) -> Measurement:
    """'ab cd': a received, b inferred from soft bits, the space restored, c restored wrongly, d given up (with the right value)."""
    truth = truth_of(b"ab cd")
    llr = np.zeros((5, 8), np.float32)
    llr[1] = 3
    evidence = Evidence(np.arange(5) == 0, np.array([97, 0, 0, 0, 0]), 256, bit_llr=llr)
    origin = np.array([Origin.RECEIVED, Origin.INFERRED, Origin.CONCEALED, Origin.CONCEALED, Origin.LOST], np.uint8)
    table = np.zeros((4, 256))
    table[0, 98], table[0, 99] = 0.125, 0.875  # of a soft token: no business of concealment
    table[1, 32], table[1, 33] = 0.5, 0.5
    table[2, 99], table[2, 120] = 0.25, 0.75
    table[3, 0] = 1
    one = Reconstruction(np.frombuffer(b"ab xd", np.uint8), origin, np.array([1, 0.9, 0.6, 0.5, 0]), 256,
                         posterior=table if posterior else None)
    return measure(truth, evidence, one, b"ab x\x00", LEDGER, COUNTS)


@pytest.mark.parametrize("metric, numerator, denominator", [
    ("token_error_rate", 2, 5),  # the given up token counts, though its value is right
    ("lost_token_rate", 1, 5),
    ("concealed_fraction", 2, 3),  # given up is not filled in
    ("recovered_fraction", 1, 3),
    ("recovered_fraction_nonspace", 0, 2),
    ("invented_fraction", 1, 5),
    ("byte_error_rate", 2, 5),
    ("character_error_rate", 2, 5),
    ("word_error_rate", 1, 2),
    ("packet_loss_rate", 1, 4),
    ("residual_packet_loss_rate", 1, 3),
    ("undetected_error_rate", 0, 2),
    ("block_error_rate", 2, 8),
    ("bits_per_token", 88, 5),
    ("bits_per_byte", 88, 5),
    ("channel_uses_per_sample", 216, 5),
    ("concealment_nll_bits", 1 + 2 + 30, 3),  # a truth that was held impossible costs the floor
    ("brier", 0.1**2 + 0.4**2 + 0.5**2, 3),
    ("posterior_brier", (0.5**2 + 0.5**2) + (0.75**2 + 0.75**2) + (1 + 1), 3),
    ("risk_coverage_area", (0 + 0 + 1 / 3) / 3, 1),
    ("expected_calibration_error", 0.1 + 0.4 + 0.5, 3),
    ("overconfidence", 0.9 + 0.6 + 0.5 - 2, 3),
    ("confident_error_rate", 0, 3),
])
def test_worked_example(metric, numerator, denominator):
    """Catches a metric whose numerator or denominator counts something else than it says."""
    book = worked_example()
    assert book.values[metric] == pytest.approx((numerator, denominator), rel=1e-6)
    assert book[metric] == pytest.approx(numerator / denominator, rel=1e-6)


@pytest.mark.parametrize("metric, reason", [
    ("bit_error_rate", "nothing to count"),
    ("desync_rate", "fixed-length"),
    ("ideal_bits_per_token", "no model"),
])
def test_worked_example_leaves_the_rest_undefined_with_a_reason(metric, reason):
    """Catches 0 in place of 'not defined'."""
    assert worked_example()[metric] is None and reason in worked_example().reasons[metric]


def cases() -> dict[str, Measurement]:
    """Chains of all kinds."""
    symbols = truth_of(np.array([0, 1, 1], np.uint8), 2, "symbols")
    empty, spaces, binary = truth_of(b""), truth_of(b" \n"), truth_of(b"\xff\xfe", modality="bytes")
    coded = truth_of(b"ab", ideal_bits=3.5)
    return {"worked": worked_example(), "no posterior": worked_example(posterior=False),
            "symbols": measure(symbols, *received(symbols), symbols.item.content, LEDGER, {}),
            "empty": measure(empty, *received(empty), b"", Ledger(), {}),
            "spaces": measure(spaces, *received(spaces), b"  ", LEDGER, {}),
            "bytes": measure(binary, *received(binary), b"\xff\xfe", LEDGER, {}),
            "entropy-coded": measure(coded, *received(coded), b"ab", LEDGER, {})}


@pytest.mark.parametrize("name", cases())
def test_every_metric_is_a_number_or_has_a_reason_and_never_both(name):
    """Catches a metric that is forgotten for some kind of item, one outside the catalogue, and a reason beside a number."""
    book = cases()[name]
    assert book.values.keys() | book.reasons.keys() == CATALOGUE.keys()
    assert not book.values.keys() & book.reasons.keys() and all(book.reasons.values())
    assert all(denominator > 0 and np.isfinite(numerator) for numerator, denominator in book.values.values())


@pytest.mark.parametrize("name, metrics, reason", [
    ("no posterior", ["concealment_nll_bits", "posterior_brier"], "no posterior"),
    ("empty", ["token_error_rate", "lost_token_rate", "invented_fraction", "bits_per_token"], "no tokens"),
    ("empty", ["byte_error_rate", "bits_per_byte", "character_error_rate"], "empty"),
    ("empty", ["channel_uses_per_sample"], "no samples"),
    ("empty", ["word_error_rate", "chrf"], "no words"),
    ("spaces", ["word_error_rate", "chrf"], "no words"),
    ("spaces", ["recovered_fraction"], "no token was erased"),
    ("spaces", ["recovered_fraction_nonspace"], "no byte but white space"),
    ("spaces", ["brier", "risk_coverage_area"], "no token was restored"),
    ("symbols", ["byte_error_rate", "bits_per_byte"], "not made of bytes"),
    ("symbols", ["character_error_rate", "word_error_rate", "chrf", "recovered_fraction_nonspace"], "not text"),
    ("bytes", ["character_error_rate", "word_error_rate", "chrf", "recovered_fraction_nonspace"], "not text"),
    ("symbols", ["packet_loss_rate", "block_error_rate", "bit_error_rate"], "no such thing"),
])
def test_what_is_undefined_says_why(name, metrics, reason):
    """Catches a division by nothing booked as 0 or 1."""
    for metric in metrics:
        assert cases()[name][metric] is None and reason in cases()[name].reasons[metric]


def test_no_posterior_and_nothing_erased_are_different_reasons():
    """Catches blaming the decoder when there was nothing to conceal."""
    truth = truth_of(b"ab")
    evidence, one = received(truth)
    stated = Reconstruction(one.values, one.origin, one.confidence, 256, posterior=np.zeros((0, 256)))
    assert "no token was erased" in measure(truth, evidence, stated, b"ab", LEDGER, {}).reasons["concealment_nll_bits"]


def test_a_received_but_wrong_token_is_an_error_that_nobody_invented():
    """Catches undetected channel errors blamed on the prior, or missed because their origin is RECEIVED."""
    truth = truth_of(b"ab")
    wrong = Reconstruction(np.array([97, 99]), np.zeros(2, np.uint8), np.ones(2), 256)
    book = measure(truth, received(truth)[0], wrong, b"ac", LEDGER, {})
    assert (book["token_error_rate"], book["invented_fraction"], book["recovered_fraction"]) == (0.5, 0, None)


@pytest.mark.parametrize("wrong, packets", [([], 0), ([0], 1), ([0, 2], 1), ([0, 1], 2), ([1, 3], 1)])
def test_desync_counts_packets_whose_known_tokens_are_wrong(wrong, packets):
    """Catches counting tokens instead of packets, positions in place of sending order, and unknown tokens taken for wrong."""
    truth = truth_of(b"abcd", order=[0, 2, 1, 3], ideal_bits=20.0)
    known, astray = np.ones(4, bool), np.isin(np.arange(4), wrong)
    evidence = Evidence(known, truth.tokens.values + astray, 256)
    book = measure(truth, evidence, received(truth)[1], b"abcd", LEDGER, {})
    assert book.values["desync_rate"] == (packets, 2) and book["ideal_bits_per_token"] == 5
    unknown = Evidence(~astray, np.where(astray, 0, truth.tokens.values), 256)
    assert measure(truth, unknown, received(truth)[1], b"abcd", LEDGER, {}).values["desync_rate"] == (0, 2)


def edit_distance(a: Any, b: Any) -> int:
    """Levenshtein's distance by the textbook recursion, row by row.

    Source: R. A. Wagner, M. J. Fischer, "The string-to-string correction problem", J. ACM 21 (1974).
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def damaged(text: str, key: Key, rate: float = 0.15) -> str:
    """`text` with characters replaced, dropped and inserted."""
    what, other = key.child("what").uniform(len(text)), key.child("other").integers(len(text), len(text))
    out = []
    for position, character in enumerate(text):
        if what[position] > rate:
            out.append(character)
        elif what[position] > rate / 3:
            out.append(text[other[position]] * (1 + (what[position] > 2 * rate / 3)))
    return "".join(out)


TEXT = "The channel is noisy; la línea está rota.  Die Übertragung läuft weiter,\nword by word — 你好 — and so on."


@pytest.mark.parametrize("case", range(20))
def test_character_and_word_errors_are_edit_distances(case):
    """Catches positional counting, bytes in place of characters, and words split at single blanks."""
    restored = damaged(TEXT, Key(1).child(case))
    book = of_text(TEXT.encode(), restored.encode())
    assert book.values["character_error_rate"] == (edit_distance(TEXT, restored), len(TEXT))
    assert book.values["word_error_rate"] == (edit_distance(TEXT.split(), restored.split()), len(TEXT.split()))
    if len(restored.encode()) != len(TEXT.encode()):
        assert book.values["byte_error_rate"] == (edit_distance(TEXT.encode(), restored.encode()), len(TEXT.encode()))


def test_byte_errors_are_positional_where_lengths_agree():
    """Catches an edit distance that forgives a shift: 'abcd' for 'bcda' has four wrong bytes, but two edits."""
    book = of_text(b"abcd", b"bcda")
    assert book.values["byte_error_rate"] == (4, 4) and book.values["character_error_rate"] == (2, 4)
    assert of_text(b"abcd", b"bcd").values["byte_error_rate"] == (1, 4)
    assert of_text(b"abcd", b"").values["byte_error_rate"] == (4, 4)


def test_a_chain_counts_bytes_in_one_way():
    """Catches a codec's output counted by position in the trials where its length happens to agree, and by edits in the others."""
    tokens = Tokens(np.array([120, 156, 1, 0]), 256)  # of a compressed file: as many as the item has bytes, by chance
    truth = Truth(Item(b"abcd", "text", "x"), tokens, packets_of(4))
    for restored, edits in ((b"bcda", 2), (b"bcd", 1), (b"abcd", 0)):
        assert measure(truth, *received(truth), restored, LEDGER, {}).values["byte_error_rate"] == (edits, 4)


def test_more_words_than_there_were_are_more_errors_than_words():
    """Catches an error rate cut at 1: two words became five."""
    assert of_text(b"ab cd", b"ab x y z cd").values["word_error_rate"] == (3, 2)


def test_bytes_that_are_no_utf_8_are_characters_too():
    """Catches a decoding error on a damaged multi-byte character; each broken part is one wrong character."""
    book = of_text("aé".encode(), b"a\xc3?")
    assert book.values["character_error_rate"] == (edit_distance("aé", "a\ufffd?"), 2)


SACREBLEU = CHRF(char_order=6, word_order=0, beta=2)


@pytest.mark.parametrize("case", range(20))
def test_chrf_is_that_of_sacrebleu(case):
    """Catches precision and recall swapped (beta = 2 weighs recall), and white space counted."""
    restored = damaged(TEXT, Key(2).child(case), rate=0.05 * (case + 1))
    theirs = SACREBLEU.sentence_score(restored, [TEXT]).score / 100
    assert chrf(TEXT, restored) == pytest.approx(theirs, abs=1e-9)
    assert of_text(TEXT.encode(), restored.encode())["chrf"] == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("sent, restored", [("abc", "abc"), ("abc", "xyz"), ("a", "a"), ("ab", "abcdefgh"), ("abcdefgh", "ab"),
                                            ("a b", "ab"), ("aaaa", "aa"), ("abc", "")])
def test_chrf_of_short_texts_is_that_of_sacrebleu(sent, restored):
    """Catches orders that a short text does not have entering the mean, and n-grams matched more often than they occur."""
    assert chrf(sent, restored) == pytest.approx(SACREBLEU.sentence_score(restored, [sent]).score / 100, abs=1e-9)


def test_negative_control_chrf_with_swapped_texts_differs():
    """The comparison must tell which text is the reference."""
    assert abs(chrf("abcdefgh", "ab") - SACREBLEU.sentence_score("abcdefgh", ["ab"]).score / 100) > 0.01


def confidence_metrics(confidence: list[float], right: list[bool]) -> Measurement:
    truth = truth_of(np.zeros(len(right), np.uint8), 2, "symbols")
    evidence = Evidence(np.zeros(len(right), bool), np.zeros(len(right), int), 2)
    one = Reconstruction(1 - np.array(right, int), np.full(len(right), Origin.CONCEALED, np.uint8), np.array(confidence), 2)
    return measure(truth, evidence, one, truth.item.content, LEDGER, {})


def risk_coverage_area(confidence: list[float], right: list[bool]) -> float:
    """Mean over all orders of the tied tokens; the most confident first."""
    ranked = [order for order in permutations(range(len(right)))
              if all(confidence[a] >= confidence[b] for a, b in zip(order, order[1:]))]
    sizes = range(1, len(right) + 1)
    return float(np.mean([[np.mean([not right[i] for i in order[:size]]) for size in sizes] for order in ranked]))


@pytest.mark.parametrize("confidence, right", [
    ([0.9, 0.5, 0.7], [True, False, False]),
    ([0.5] * 4, [True, True, False, False]),
    ([0.5] * 4, [False, False, True, True]),
    ([0.25, 0.75, 0.25, 0.75, 0.5], [True, False, False, True, True]),
    ([0.3], [False]),
])
def test_risk_coverage_area_does_not_see_where_tied_tokens_stand(confidence, right):
    """Catches ranking the least confident first, and ties ranked by position, which made equal decoders differ."""
    assert confidence_metrics(confidence, right)["risk_coverage_area"] == pytest.approx(risk_coverage_area(confidence, right))


def test_confidence_that_is_earned_is_rewarded():
    """Catches a score that a wrong confidence improves: brier is least at the true probability (.8: .16), the area when ranked."""
    right = [True] * 4 + [False]
    scores = {c: confidence_metrics([c] * 5, right)["brier"] for c in (0.6, 0.8, 1.0)}
    assert min(scores, key=scores.get) == 0.8 and scores[0.8] == pytest.approx(0.16) and scores[1.0] == pytest.approx(0.2)
    ranked, reversed_ = [0.9, 0.8, 0.7, 0.6, 0.1], [0.1, 0.2, 0.3, 0.4, 0.9]
    areas = [confidence_metrics(confidence, right)["risk_coverage_area"] for confidence in (ranked, [0.5] * 5, reversed_)]
    assert areas[0] < areas[1] < areas[2] and areas[1] == pytest.approx(0.2)


def test_calibration_compares_bin_by_bin():
    """Catches gaps that cancel between bins, and the confidence 1 falling out of the last bin."""
    errors = {c: confidence_metrics([c] * 5, [True] * 4 + [False])["expected_calibration_error"] for c in (0.8, 1.0)}
    assert errors[0.8] == pytest.approx(0, abs=1e-6) and errors[1.0] == pytest.approx(0.2)
    assert confidence_metrics([0.25, 0.75], [True, False])["expected_calibration_error"] == pytest.approx(0.75)


def test_confident_errors_are_wrong_and_sure_at_once():
    """Catches doubtful errors counted, right ones counted, and a confidence of .9 that float32 rounds below the threshold."""
    book = confidence_metrics([0.9, 0.99, 0.89, 0.95, 0.3], [False, False, False, True, True])
    assert book.values["confident_error_rate"] == (2, 5)


def test_overconfidence_adds_up_over_items_and_has_a_sign():
    """Catches an absolute value, under which a decoder that is right as often as it says, but never in one item, looks wrong."""
    sure, unsure = confidence_metrics([0.75] * 2, [False, True]), confidence_metrics([0.75] * 2, [True, True])
    assert (sure["overconfidence"], unsure["overconfidence"]) == (0.25, -0.25)


def test_received_and_lost_tokens_have_no_part_in_confidence():
    """Catches certain tokens that make a doubtful decoder look calibrated, and given up ones that make it look bad."""
    truth = truth_of(b"abc")
    evidence = Evidence(np.arange(3) == 0, np.array([97, 0, 0]), 256)
    one = Reconstruction(np.array([97, 98, 0]), np.array([0, 2, 3], np.uint8), np.array([1, 0.5, 0]), 256)
    book = measure(truth, evidence, one, b"ab\x00", LEDGER, {})
    assert book.values["brier"] == (0.25, 1) and book.values["risk_coverage_area"] == (0, 1)


def test_ledgers_add_up_field_by_field():
    """Catches a field that a sum forgets, so that a charge is lost."""
    names = list(Ledger().to_dict())
    one, other = Ledger(*range(1, len(names) + 1)), Ledger(*range(100, 100 + len(names)))
    assert list((one + other).to_dict().values()) == [101 + 2 * i for i in range(len(names))]
    assert one + Ledger() == one


def test_what_the_catalogue_refers_to_is_there():
    """Catches a misspelt metric of chances, and a transform that nobody wrote or that is not finite."""
    for metric in CATALOGUE.values():
        assert metric.within in ("", *CATALOGUE) and metric.transform in ("", *TRANSFORMS)
        assert metric.unit and metric.description
        assert np.all(np.isfinite([metric.value(ratio) for ratio in (0.0, 1e-300, 1.0, 1e300)]))


def test_a_value_is_its_transformed_ratio():
    """Catches trials.csv and Python records that hold a mean squared error under the name of a PSNR."""
    assert value_of("psnr_of_mean_mse_db", 650.25, 10) == pytest.approx(30)
    assert value_of("psnr_of_mean_mse_db", 0, 0) is None and value_of("bit_error_rate", 1, 8) == value_of("my_own", 1, 8) == 0.125
