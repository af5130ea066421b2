"""Samples: what is kept of a trial to be looked at, and what a page makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.losses import CutOff, GilbertElliott, PacketLoss
from channel_sim.parity import ReedSolomon
from channel_sim.priority import Priority
from channel_sim.protection import NoProtection
from channel_sim.store import Point, Store, Trial
from channel_sim.trial import Chain, run, send
from decoders.ngram import NGramRestorer
from decoders.none import NoDecoder
from reports.html import write_report
from reports.marks import Run, legend, likelihood, mark
from reports.summary import summarise
from reports.viewer import viewer
from scenarios.samples import sample
from sources.codecs import Webp
from sources.fixed_length import FixedLength
from sources.images import Images
from sources.text import Text
from sources.tokenizers import BytesTokenizer
from tests.synthetic_results import ARMS, meta, synthetic_store, turns


def test_marks_tell_right_from_wrong_and_received_from_restored() -> None:
    """Catches a wrong guess shown as right, and an undetected error shown as received."""
    shown = mark({"kind": "bytes", "item": "x", "original": "abcdef", "restored": "aXcXe\0", "lost_packets": "011",
                  "origin": [[0, 2], [2, 2], [1, 1], [3, 1]]}, "arm")
    assert shown.runs == (Run("r", "a"), Run("rx", "X", "b"), Run("c", "c"), Run("cx", "X", "d"), Run("i", "e"), Run("l", "·", "f"))
    assert shown.counts == {"r": 1, "i": 1, "c": 1, "cx": 1, "l": 1, "rx": 1}
    assert shown.caption == ("6 tokens: 1 received, 1 inferred, 1 concealed right, 1 concealed wrong, 1 lost, 1 received wrong")
    assert [kind for kind, _ in legend([shown])] == ["r", "i", "c", "cx", "l", "rx"]


def test_bytes_are_shown_as_text_and_damage_as_damage() -> None:
    """Catches mojibake, control characters sent to a terminal's reader, and a restored line break that nobody can see."""
    original = "é\n\x07".encode().decode("latin-1")
    shown = mark({"kind": "text", "item": "x", "original": original, "restored": "\xc3a\n\x07", "lost_packets": "",
                  "origin": [[0, 1], [2, 2], [0, 1]]}, "arm")
    assert shown.runs == (Run("r", "\ufffd"), Run("cx", "a", "\ufffd"), Run("c", "↵\n"), Run("r", "␇"))


def test_symbols_past_ten_are_numbers_with_spaces() -> None:
    """Catches one mark a character where a token is several."""
    shown = mark({"kind": "symbols", "item": "x", "original": "11 12 13", "restored": "11 10 0", "lost_packets": "",
                  "origin": [[0, 1], [2, 1], [3, 1]]}, "arm")
    assert shown.runs == (Run("r", "11"), Run("cx", "10", "12"), Run("l", "·", "13")) and shown.num_tokens == 3


def test_a_long_sample_is_cut_and_says_so() -> None:
    """Catches a page of megabytes, and counts of the cut part only."""
    shown = mark({"kind": "symbols", "item": "x", "original": "0" * 10_000, "restored": "0" * 9_999 + "1", "lost_packets": "",
                  "origin": [[0, 9_999], [2, 1]]}, "arm")
    assert sum(len(run.text) for run in shown.runs) == shown.num_shown == 480 and shown.counts["cx"] == 1
    assert shown.caption == "10,000 tokens: 9,999 received, 1 concealed wrong (the first 480 shown)"


@pytest.mark.parametrize("lost", ["", "0", "1", "0011", "1100", "0110111000", "1" * 7, "01" * 300, "0" * 470 + "1" * 30 + "01"])
def test_a_time_line_draws_every_loss_in_its_place(lost: str) -> None:
    """Catches bursts shifted by one, a first slot that is lost and forgotten, and a burst across the cut."""
    line = mark({"kind": "text", "item": "x", "original": "a", "restored": "a", "origin": [[0, 1]], "lost_packets": lost,
                 "lost_slots": turns([one == "1" for one in lost])}, "arm").timeline
    assert line is not None
    drawn = ["0"] * line.num_shown
    for first, length in line.bursts:
        drawn[first:first + length] = "1" * length
    assert "".join(drawn) == lost[:480] and len(drawn) == min(480, len(lost))
    assert (line.num_slots, line.num_lost) == (len(lost), lost.count("1"))
    assert line.longest == max(map(len, lost.split("0")))


def test_a_time_line_tells_the_air_from_what_protection_left() -> None:
    """Catches a repaired loss that is not shown, and one number for both."""
    line = mark({"kind": "text", "item": "x", "original": "a", "restored": "a", "origin": [[0, 1]], "lost_packets": "000",
                 "lost_slots": [2, 3, 1]}, "arm").timeline
    assert line is not None and line.caption == "3 of 6 slots lost, at most 3 in a row; of 3 packets 0 missing in the end"


def test_losses_of_a_burst_stand_where_they_were_on_the_air() -> None:
    """Catches a sample that keeps what protection left instead of what the channel did, against the channel's own draw."""
    channel = GilbertElliott(loss_rate=0.4, mean_burst_packets=4.0)
    chain = Chain(Text(item_bytes=256), BytesTokenizer(), FixedLength(packet_bits=64, interleave=True),
                  ReedSolomon(n=12, k=4), channel, NoDecoder())
    (outcome,) = run(chain, send(chain, [0], Key(5)), 0, Key(5))
    sampled = sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared"))
    num_sent = sum(sampled["lost_slots"])
    lost = channel.lost_packets(num_sent, Key(5).child("item", 0).child("channel", 0).child("loss slots"))
    assert num_sent == 96 and sampled["lost_slots"] == turns(lost.tolist()) and lost.any()
    assert len(sampled["lost_packets"]) == 32


def test_of_an_item_without_a_file_there_is_a_sample() -> None:
    """Catches a trial that fails for its sample: a codec that has no file within its bytes sends no token at all."""
    chain = Chain(Images(size=16, crop="centre"), Webp(target_bytes=1, over_budget="drop"), FixedLength(), NoProtection(),
                  PacketLoss(), NoDecoder())
    (outcome,) = run(chain, send(chain, [0], Key(5)), 0, Key(5))
    assert outcome.sent.tokens.values.size == 0
    assert sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared"))["lost_packets"] == ""


def test_of_an_item_that_nothing_is_sent_for_there_is_a_page(tmp_path: Path) -> None:
    """Catches time lines as long as a part of the longest, where the longest is 0 packets: the report ended in an error."""
    chain = Chain(Text(item_bytes=40), BytesTokenizer(), FixedLength(packet_bits=8, header_bits=0),
                  Priority(target_uses=0), PacketLoss(), NoDecoder())
    (outcome,) = run(chain, send(chain, [0], Key(5)), 0, Key(5))
    assert outcome.ledger.transmissions == 0
    store = Store.create(tmp_path / "results.sqlite", meta({}) | {"name": "silent", "arms": [], "show": ["token_error_rate"]})
    store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {}}, [])
    store.add([Trial("t", 0, 0, {"token_error_rate": (20.0, 40.0)}, {}, outcome.ledger.to_dict())],
              [("t", 0, sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared")))])
    page = write_report(store, tmp_path)
    store.close()
    assert "0 of 0 slots lost; of 40 packets 40 missing" in page.read_text()


def test_a_page_carries_what_it_can_and_keeps_the_ends_of_a_sweep(tmp_path: Path) -> None:
    """Catches a page of 40 MB for a sweep of 200 points, and one that shows its middle only."""
    rates = [round(0.001 * (index + 1), 4) for index in range(200)]
    store = synthetic_store(tmp_path / "results.sqlite", num_items=1, sweep={"channel.loss_rate": rates})
    shown = viewer(store, summarise(store))
    store.close()
    assert shown is not None and shown.is_thinned and shown.num_items == 1
    (axis,) = shown.axes
    assert (axis.values[0], axis.values[-1]) == ("0.001", "0.2") and 20 <= len(axis.values) * len(ARMS) <= 200
    assert 1 + len(shown.others) == len(axis.values)


def test_a_sweep_over_two_keys_has_two_sliders(tmp_path: Path) -> None:
    """Catches points that no position of the sliders reaches, and a slider whose values are another's."""
    store = synthetic_store(tmp_path / "results.sqlite", num_items=2,
                            sweep={"channel.loss_rate": [0.1, 0.2], "channel.mean_burst_packets": [1.5, 3.0, 6.0]})
    shown = viewer(store, summarise(store))
    store.close()
    assert shown is not None and [axis.values for axis in shown.axes] == [("0.1", "0.2"), ("1.5", "3.0", "6.0")]
    where = {view.key: view.where for view in (shown.shown, *shown.others)}
    assert len(where) == 12 and where["1-0-2"] == "loss rate 0.1, mean burst 6.0 packets"
    assert shown.shown.key == "-".join(["0", *(str(axis.start) for axis in shown.axes)])


def test_samples_of_an_older_file_are_still_shown(tmp_path: Path) -> None:
    """Catches a page that needs what an earlier version did not write."""
    store = Store.create(tmp_path / "results.sqlite", {})
    store.set_plan([Point(0, 0, "a", {}, "t")], {"t": {}}, [])
    store.add([], [("t", 0, {"kind": "bytes", "item": "x", "original": "ab", "restored": "a\0", "origin": [[0, 1], [3, 1]],
                             "lost_packets": "01"})])
    page = write_report(store, tmp_path).read_text(encoding="utf-8")
    store.close()
    assert "2 tokens: 1 received, 1 lost" in page


def test_what_goes_on_from_a_cut_says_how_likely_it_is() -> None:
    """Catches a log-likelihood that is not that of the continuation, and one for tokens that were restored in the middle."""
    chain = Chain(Text(item_bytes=128), BytesTokenizer(), FixedLength(packet_bits=8, header_bits=0), NoProtection(),
                  CutOff(kept_fraction=0.75), NGramRestorer())
    (outcome,) = run(chain, send(chain, [0], Key(5)), 0, Key(5))
    sampled = sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared"))
    bits = -np.log2(outcome.received.reconstruction.confidence[96:].astype(np.float64)).sum()
    assert sampled["origin"] == [[0, 96], [2, 32]]
    assert sampled["measured"]["sample_bits_per_token"] == pytest.approx(bits / 32, rel=1e-5)
    assert mark(sampled, "arm").caption.endswith(f"; log-likelihood −{bits:.4g} bits, {bits / 32:.3g} a token")
    assert likelihood(sampled | {"measured": {}}) == []
    holes = replace(chain, channel=PacketLoss(loss_rate=0.5))
    (outcome,) = run(holes, send(holes, [0], Key(5)), 0, Key(5))
    assert "measured" not in sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared"))
