"""Sounds on a page: every sample as it was, drawn by what is in it, losses in their place in time, one copy of each file."""

import base64
import io
import wave
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from channel_sim.keys import Key
from channel_sim.losses import PacketLoss
from channel_sim.protection import NoProtection
from channel_sim.store import Store
from channel_sim.trial import Chain, run, send
from decoders.none import NoDecoder
from reports.export import write_samples
from reports.html import write_report, write_transmission
from reports.pictures import content_of
from reports.sounds import about_original, original_sound, read, sounded, spectrogram, waveform
from reports.summary import summarise
from reports.viewer import MAX_BYTES, viewer
from scenarios.samples import MOST_SAMPLES, sample
from sources.fixed_length import FixedLength
from sources.plucked_strings import PluckedStrings
from sources.tokenizers import Pcm
from tests.synthetic_results import _wav, sound_sample, sound_store


def record_of(bits: int, num_samples: int) -> tuple[dict[str, Any], Any]:
    """A sample of plucked strings over packets of 80 samples, and the trial that it is of."""
    source = PluckedStrings(sample_bits=bits, item_samples=num_samples)  # type: ignore[arg-type]
    chain = Chain(source, Pcm(sample_bits=bits), FixedLength(packet_bits=80 * bits, header_bits=0),  # type: ignore[arg-type]
                  NoProtection(), PacketLoss(loss_rate=0.3), NoDecoder())
    (outcome,) = run(chain, send(chain, [0], Key(5)), 0, Key(5))
    return sample(outcome, chain.tokenizer, Key(5).child("item", 0, "shared"), source), outcome


@pytest.mark.parametrize("bits", [8, 16])
def test_a_sound_comes_back_from_its_record(bits: int) -> None:
    """Catches a wrong depth, byte order, offset or rate, losses shifted by a sample, and a metric of another trial."""
    record, outcome = record_of(bits, 4000)
    with wave.open(io.BytesIO(content_of(record["original"]))) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels(), file.getnframes()) == (8000, bits // 8, 1, 4000)
    sent, came = outcome.sent.item.content, outcome.received.content
    for which, samples in (("original", sent), ("restored", came)):
        about_zero = (samples.astype(float) - (128 if bits == 8 else 0)) / 2 ** (bits - 1)
        assert np.array_equal(read(record[which]), about_zero)
    lost = np.repeat([one == "1" for one in record["lost_packets"]], 80)
    turned = np.repeat(np.arange(len(record["missing"])) % 2 == 1, record["missing"])
    assert np.array_equal(turned, lost) and lost.any() and "arrived" not in record
    assert record["measured"]["si_sdr_db"] == outcome.measurement["si_sdr_db"] and record["sample_rate"] == 8000


def test_of_a_long_sound_the_beginning_is_kept_and_it_is_said() -> None:
    """Catches megabytes in a page, and an excerpt that passes for all of it."""
    record, _ = record_of(8, MOST_SAMPLES + 8000)
    assert read(record["original"]).size == sum(record["missing"]) == MOST_SAMPLES
    assert about_original(record) == "PluckedStrings[0]: 5.1 s, the first 4.1 s of which, 8 bits, 8 kHz"
    assert about_original(record_of(16, 4000)[0]) == "PluckedStrings[0]: 0.5 s, 16 bits, 8 kHz"


@pytest.mark.parametrize(("hertz", "amplitude"), [(1000, 1.0), (2500, 0.1), (125, 0.01)])
def test_a_tone_is_a_line_at_its_frequency(hertz: float, amplitude: float) -> None:
    """Catches an axis upside down, a window of another length, and power that is amplitude: a tenth is 20 dB less."""
    tone = amplitude * np.sin(2 * np.pi * hertz * np.arange(8000) / 8000)
    power = spectrogram(tone)
    column = power[:, power.shape[1] // 2]
    assert power.shape == (128, 400) and 127 - column.argmax() == round(hertz / 8000 * 256)
    assert 10 * np.log10(column.max()) == pytest.approx(20 * np.log10(amplitude / 2), abs=0.1)
    assert power.shape[1] == waveform(tone).shape[1]


def test_a_click_stands_where_it_is_in_waveform_and_spectrogram() -> None:
    """Catches time axes that part, or that are cut at an end: a single sample among zeros, at places that do not divide."""
    for place in (0, 1, 4321, 9998):
        samples = np.zeros(9999)
        samples[place] = 1.0
        drawn = waveform(samples)
        column = place // 25
        assert drawn[0].nonzero()[0].tolist() == [column] and drawn[20].all()
        assert abs(int(spectrogram(samples).sum(axis=0).argmax()) - column) <= 1


def test_losses_are_marked_where_they_were_and_however_short() -> None:
    """Catches marks at the wrong time, and a single lost sample that falls between two columns."""
    missing = np.zeros(20_000, bool)
    missing[[0, 7777, 19_999]] = True
    missing[12_000:13_000] = True
    files = [_wav(np.full(20_000, level, np.int16), 16) for level in (1000, 500)]
    record = {"kind": "sound", "item": "x", "original": files[0], "restored": files[1], "sample_rate": 8000, "origin": [[0, 1]],
              "num_samples": 20_000, "missing": [0, 1, 7776, 1, 4222, 1000, 6999, 1]}
    with Image.open(io.BytesIO(content_of(sounded(record, "arm").holes))) as file:
        marked = np.asarray(file).any(axis=0)
    assert marked.tolist() == [bool(missing[50 * k:50 * k + 50].any()) for k in range(400)]
    assert file.size == (400, sounded(record, "arm").height)


def test_what_is_quieter_is_lighter_on_one_scale_for_all() -> None:
    """Catches a spectrogram that is scaled to itself, which would hide that half of the sound is gone."""
    loud, quiet = (_wav((level * np.sin(np.arange(8000))).astype(np.int16), 16) for level in (20_000, 20))
    record = {"kind": "sound", "item": "x", "original": loud, "restored": quiet, "sample_rate": 8000, "origin": [[0, 1]],
              "num_samples": 8000, "missing": [8000]}
    pictures = []
    for pane in (original_sound(record), sounded(record, "arm").panes[0]):
        with Image.open(io.BytesIO(content_of(pane.uri))) as file:
            pictures.append(np.asarray(file.convert("L"))[-128:])
    assert pictures[0].min() == 0 and pictures[1].min() == 187  # 60 of 80 dB: 11 of 15 steps
    assert sounded(record, "arm").holes == ""


def test_silence_and_single_samples_can_be_drawn() -> None:
    """Catches a logarithm of nothing, and a window longer than the sound."""
    for samples in (np.zeros(5000), np.zeros(1), np.ones(3)):
        uri = _wav((1000 * samples).astype(np.int16), 16)
        record = {"kind": "sound", "item": "x", "original": uri, "restored": _wav(np.full(samples.size, 7), 16),
                  "sample_rate": 8000, "origin": [[0, 1]], "num_samples": samples.size, "missing": [samples.size]}
        assert original_sound(record).sound == uri and len(sounded(record, "arm").panes) == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(sound_store(tmp_path_factory.mktemp("sounds") / "r.sqlite")) as store:
        yield store


def test_a_page_holds_every_sound_once_and_all_that_it_needs(store: Store, tmp_path: Path) -> None:
    """Catches the original in the page for every arm and point, players without a name, and a policy that keeps them silent."""
    shown, page = viewer(store, summarise(store)), write_report(store, tmp_path).read_text(encoding="utf-8")
    assert shown is not None and shown.kinds == {"sound"}
    sounds = [uri for uri in shown.pictures if uri.startswith("data:audio/wav")]
    first = shown.shown.example.uris
    assert len(sounds) == 2 * (1 + 2 * 2)  # with silence a sound is as it arrived
    assert all(page.count(uri) == 1 or uri in first for uri in shown.pictures) and all(uri in page for uri in first)
    assert page.count("<audio ") == page.count("aria-label=\"Original: ") + page.count("aria-label=\"As it arrived: ") \
        + page.count("aria-label=\"Restored: ") and "media-src data:" in page
    assert "SI-SDR 12.5 dB, 8 bits a token" in page and "As the original, sample by sample." in page
    assert "Hann windows of 256 samples" in page and "80 dB below it" in page
    write_samples(store, tmp_path / "samples")
    kept = dict(store.samples(store.points()[2].task_id))[0]
    folder = tmp_path / "samples" / "lines" / "loss-rate-0.05"
    assert (folder / "item-0.arrived.wav").read_bytes() == content_of(kept["arrived"])
    assert (tmp_path / "samples" / "original" / "item-0.wav").read_bytes() == content_of(kept["original"])


def test_a_page_of_sounds_stays_within_its_bounds(tmp_path: Path) -> None:
    """Catches players of ten points by twenty in one file: the slider is thinned out instead."""
    rates = [round(0.02 * (k + 1), 2) for k in range(20)]
    with closing(sound_store(tmp_path / "r.sqlite", rates=rates)) as store:
        shown = viewer(store, summarise(store))
    assert shown is not None and shown.is_thinned and shown.axes[0].values[-1] == "0.4"
    assert 500_000 < sum(map(len, shown.pictures)) < MAX_BYTES


def test_a_transmission_page_plays_as_well(tmp_path: Path) -> None:
    """Catches a page of one file that knows text and pictures only."""
    arms = [{"label": f"arm {arm}", "facts": {}, "samples": [sound_sample(arm, 0.2, 0, 4000)]} for arm in range(3)]
    page = write_transmission(tmp_path / "t.html", "a.wav", arms, {}).read_text(encoding="utf-8")
    assert page.count("<audio ") == 1 + 1 + 2 and "full length" not in page and "mark what did not arrive" in page


def test_eight_bits_sound_as_sixteen_do(tmp_path: Path) -> None:
    """Catches 8-bit files read as signed, which play as noise."""
    deep, shallow = (read(sound_sample(0, 0.2, 0, 4000, bits=bits)["original"]) for bits in (16, 8))
    assert np.abs(deep - shallow).max() < 1 / 127
    assert base64.b64decode(sound_sample(0, 0.2, 0, 4000, bits=8)["original"].partition(",")[2])[34] == 8
