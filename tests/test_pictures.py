"""Pictures and pieces of text in reports: what is shown is what came out, every picture once, and what was lost outlined."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import reports.viewer
from channel_sim.keys import Key
from channel_sim.losses import PacketLoss
from channel_sim.protection import NoProtection
from channel_sim.stages import Decoder, Source, Tokenizer
from channel_sim.trial import Chain, Outcome, run, send
from channel_sim.types import Item, Tokens
from decoders.most_frequent import MostFrequent
from decoders.none import NoDecoder
from reports.export import write_samples
from reports.html import write_report
from reports.marks import mark, original_text
from reports.pictures import MAX_SIDE, content_of, error_map, middle, outlines, pictured, png, read
from reports.summary import summarise
from reports.viewer import viewer
from scenarios.samples import sample
from scenarios.transmit import transmit
from sources.bpe import Bpe
from sources.fixed_length import FixedLength
from sources.text import Text
from tests.synthetic_results import picture_sample, picture_store

PICTURE = (40 + np.arange(6 * 8 * 3)).astype(np.uint8).reshape(6, 8, 3)


class Drawn(Source):
    """Noise, a picture an item."""

    modality: ClassVar[str] = "image"

    def items(self, indices, keys):
        return [Item((key.uniform(12, 16, 3) * 256).astype(np.uint8), "image", f"noise {index}")
                for index, key in zip(indices, keys, strict=True)]


class Raw(Tokenizer):
    """A token a sample of the picture; what is lost is mid-grey."""

    vocab_size: ClassVar[int] = 256

    def encode(self, item, key):
        return Tokens(item.content.ravel().astype(np.int32), 256, content_shape=item.content.shape)

    def decode(self, reconstruction, key):
        values = np.where(reconstruction.lost, 128, reconstruction.values).astype(np.uint8)
        shape = reconstruction.content_shape or (12, 16, 3)
        return values.reshape(shape), reconstruction.lost.reshape(shape).any(axis=2)


def outcome_of(source: Source, tokenizer: Tokenizer, decoder: Decoder, packet_bits: int) -> Outcome:
    chain = Chain(source, tokenizer, FixedLength(packet_bits=packet_bits, header_bits=0), NoProtection(), PacketLoss(loss_rate=0.3),
                  decoder)
    return run(chain, send(chain, [0], Key(5)), 0, Key(5))[0]


def record(outcome: Outcome, tokenizer: Tokenizer) -> dict[str, Any]:
    return sample(outcome, tokenizer, Key(5).child("item", 0, "shared"))


def test_a_picture_comes_back_from_its_record() -> None:
    """Catches colours swapped, a lossy format on the way, and 'arrived' that is what was restored."""
    for decoder, differs in ((NoDecoder(), False), (MostFrequent(), True)):
        outcome = outcome_of(Drawn(), Raw(), decoder, 8 * 48)
        one = record(outcome, Raw())
        assert np.array_equal(read(one["original"]), outcome.sent.item.content)
        assert np.array_equal(read(one["restored"]), outcome.received.content)
        lost = np.repeat(outcome.delivery.reception.lost, 16).reshape(12, 16)  # 48 samples, one row of 16 pixels, a packet
        assert lost.any() and np.array_equal(read(one["missing"])[..., 0] > 0, lost) and ("arrived" in one) == differs
        arrived = read(one["arrived"] if differs else one["restored"])
        assert (arrived[lost] == 128).all() and np.array_equal(arrived[~lost], outcome.sent.item.content[~lost])
        assert one["measured"]["psnr_db"] == outcome.measurement["psnr_db"] and 24 < one["measured"]["bits_per_pixel"] < 26


def test_an_error_map_is_white_where_nothing_is_wrong_and_nowhere_else() -> None:
    """Catches an error of one level that rounds to none, errors that cancel between colours, and a map turned inside out."""
    restored = PICTURE.copy()
    restored[0, 0, 1] += 1
    restored[1, 1] = PICTURE[1, 1].astype(int) + np.array([30, -30, 0])
    restored[2, 2] = PICTURE[2, 2] + 64
    grey = error_map(PICTURE, restored)[..., 0]
    assert grey[0, 0] == 238 and grey[1, 1] == 255 - 5 * 17 and grey[2, 2] == 0
    assert np.sum(grey != 255) == 3 and len(np.unique(error_map(PICTURE, 255 - PICTURE))) <= 16


def test_outlines_run_around_what_is_missing_and_hide_nothing_else() -> None:
    """Catches a line on pixels that did arrive, one between two lost neighbours, and none at the border of the picture."""
    missing = np.zeros((5, 6), bool)
    missing[1:3, 1:3] = missing[4, 5] = True
    line = outlines(missing)
    assert line.shape == (15, 18) and not line[~missing.repeat(3, axis=0).repeat(3, axis=1)].any()
    square = line[3:9, 3:9]
    assert square[0].all() and square[-1].all() and square[:, 0].all() and square[:, -1].all() and not square[1:-1, 1:-1].any()
    assert line[12:15, 15:18].sum() == 8  # a single pixel: all but its middle
    assert not outlines(np.zeros((3, 3), bool)).any()


def test_of_a_large_picture_the_middle_is_shown_and_stays_aligned() -> None:
    """Catches panes of different windows, and megabytes on the page for one photograph."""
    large = (Key(1).child("large").uniform(200, 300, 3) * 255).astype(np.uint8)
    restored, missing = large.copy(), np.zeros((200, 300, 1), np.uint8)
    restored[100, 150], missing[100, 150] = 0, 255
    shown = pictured({"original": png(large), "restored": png(restored), "arrived": png(restored), "missing": png(missing),
                      "origin": [[0, 5]], "measured": {}}, "arm")
    places = [np.argwhere(read(pane.uri).sum(axis=2) == 0) for pane in shown.panes]
    assert all((place == [72, 72]).all() for place in places) and (shown.width, shown.height) == (MAX_SIDE, MAX_SIDE)
    assert np.argwhere(read(shown.holes)[..., 0]).min() == 72 * 3 and middle(large).shape == (MAX_SIDE, MAX_SIDE, 3)


def test_captions_say_how_good_and_how_dear() -> None:
    """Catches a caption without PSNR or bits, and concealed tokens counted as received."""
    shown = pictured(picture_sample(1, 0.4, 0, 48), "arm")
    assert re.fullmatch(r"PSNR \d\d\.?\d? dB, 1\.5 bits a pixel; 144 tokens: \d+ received, \d+ concealed", shown.caption)
    assert [pane.name for pane in shown.panes] == ["As it arrived", "Restored", "Error"] and shown.holes
    assert pictured(picture_sample(2, 0.4, 0, 48), "arm").is_whole and not pictured(picture_sample(2, 0.4, 0, 48), "arm").holes


def test_a_page_holds_every_picture_once_and_all_that_it_needs(tmp_path: Path) -> None:
    """Catches the original in the page for every arm and point, and pictures that the slider would look for in vain."""
    with closing(picture_store(tmp_path / "r.sqlite")) as store:
        shown = viewer(store, summarise(store))
        page = write_report(store, tmp_path).read_text(encoding="utf-8")
        write_samples(store, tmp_path / "samples")
        (point, *_) = store.points()
        kept = dict(store.samples(point.task_id))[0]
    assert shown is not None and shown.kinds == {"image"}
    uris = re.findall(r'src="(data:image/png[^"]*)"', page)
    first = shown.shown.example.uris
    assert set(uris) == set(shown.pictures) and all(uris.count(uri) == 1 for uri in shown.pictures if uri not in first)
    asked = set(re.findall(r'data-picture="(\d+)"(?! alt="" src)', page))
    assert asked == {str(number) for number in shown.pictures.values()}
    assert page.count("<h4>Original</h4>") == 6 and "As the original, pixel by pixel" in page and "mark what did not" in page
    assert "text-decoration" in page and 'class="legend"' not in page
    file = tmp_path / "samples" / "original" / "item-0.png"
    assert file.read_bytes() == content_of(kept["original"]) and file.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "samples").rglob("item-0.arrived.png"))) == 3


def test_a_page_of_pictures_stays_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a page of 50 MB for a sweep over photographs."""
    monkeypatch.setattr(reports.viewer, "MAX_BYTES", 300_000)
    rates = [round(0.03 * k, 2) for k in range(1, 13)]
    with closing(picture_store(tmp_path / "r.sqlite", side=96, num_items=2, rates=rates)) as store:
        shown = viewer(store, summarise(store))
    assert shown is not None and shown.is_thinned and 2 <= len(shown.axes[0].values) < 12
    assert sum(map(len, shown.pictures)) < 1.3 * 300_000
    assert (shown.axes[0].values[0], shown.axes[0].values[-1]) == ("0.03", "0.36")


def test_tokens_of_any_length_are_shown_as_their_text() -> None:
    """Catches numbers in place of text, text that does not join to the item, and lost tokens without a gap."""
    outcome = outcome_of(Text(item_bytes=400), Bpe(), MostFrequent(), 40)
    one = record(outcome, Bpe())
    assert "".join(one["original"]).encode("latin-1") == outcome.sent.item.content
    assert "".join(one["restored"]).encode("latin-1") == outcome.received.content
    shown = mark(one, "arm")
    assert shown.num_tokens == outcome.sent.tokens.values.size == len(one["original"]) and "c" in "".join(shown.counts)
    assert original_text(one).encode() == outcome.sent.item.content
    nothing = mark(record(outcome_of(Text(item_bytes=400), Bpe(), NoDecoder(), 40), Bpe()), "arm")
    gaps = [run for run in nothing.runs if run.mark == "l"]
    assert gaps and all(set(run.text) == {"·"} for run in gaps) and sum(len(run.text) for run in gaps) == nothing.counts["l"]
    assert "".join(run.sent or run.text for run in nothing.runs).replace("↵\n", "\n").encode() == outcome.sent.item.content


@pytest.mark.parametrize("sent", [["ab", "c"], "11 12"])
def test_pieces_are_joined_and_numbers_are_not(sent) -> None:
    """Catches blanks between pieces of a word, and numbers that run into one another."""
    one = {"kind": "text", "item": "x", "original": sent, "restored": sent, "origin": [[0, 2]], "lost_packets": ""}
    assert original_text(one) == ("abc" if isinstance(sent, list) else "11 12") and mark(one, "arm").is_whole


def test_a_tokenizer_whose_tokens_are_no_text_shows_numbers() -> None:
    """Catches pieces that do not add up to the item, shown as if they did."""

    class Pairs(Tokenizer):
        vocab_size: ClassVar[int] = 65536

        def encode(self, item, key):
            return Tokens(np.frombuffer(item.content[::-1], "<u2").astype(np.int32), 65536)

        def decode(self, reconstruction, key):
            return reconstruction.values.astype("<u2").tobytes()[::-1], reconstruction.lost.repeat(2)

    one = record(outcome_of(Text(item_bytes=64), Pairs(), NoDecoder(), 64), Pairs())
    assert isinstance(one["original"], str) and all(part.isdigit() for part in one["original"].split(" "))


def test_a_lost_piece_is_what_the_tokenizer_makes_of_it() -> None:
    """Catches the text of token 0 in the samples folder where nothing was received."""
    outcome = outcome_of(Text(item_bytes=200), Bpe(), NoDecoder(), 40)
    one = record(outcome, Bpe())
    lost = outcome.received.reconstruction.lost
    assert lost.any() and {piece for piece, gone in zip(one["restored"], lost, strict=True) if gone} == {" "}


def test_a_file_sent_as_byte_pairs_is_shown_as_text(tmp_path: Path) -> None:
    """Catches a file refused because its tokens are no bytes, and a page of numbers."""
    (tmp_path / "letter.txt").write_text("The packets of this letter are lost now and then, and then again. " * 6, encoding="utf-8")
    (tmp_path / "pairs.toml").write_text('question = "?"\n[tokenizer]\nname = "bpe"\n[coder]\npacket_bits = 40\n[channel]\nname = '
                                         '"packet_loss"\nloss_rate = 0.3\n[[arm]]\nlabel = "a"\n', encoding="utf-8")
    page = transmit(tmp_path / "letter.txt", str(tmp_path / "pairs.toml"), tmp_path / "out", {}).read_text(encoding="utf-8")
    assert "<pre" in page and "packets of this letter" in page and '<i class="l" data-sent="' in page
    assert (tmp_path / "out" / "a" / "arrived.txt").read_bytes().count(b" letter ") >= 2
