"""Sounds: files against libsndfile and the standard library, synthetic strings against their law, tokenizers against G.711."""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Reconstruction
from scenarios.transmit import transmit
from sources.audio import Audio
from sources.plucked_strings import PluckedStrings, plucked
from sources.sound_file import quantised, resampled, wav_bytes
from sources.tokenizers import MuLaw, Pcm
from tests.chains import chain_of

KEY = Key(8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def noise(num_samples: int, *channels: int) -> np.ndarray:
    """int16 [n] or [n, channels], all values alike."""
    return (KEY.child("noise").integers(65536, num_samples, *channels) - 32768).astype(np.int16)


def all_items(source: Audio) -> list[np.ndarray]:
    assert source.num_items is not None
    items = source.items(range(source.num_items), [KEY] * source.num_items)
    return [item.content for item in items if isinstance(item.content, np.ndarray)]


def saved(path: Path, samples: np.ndarray, rate: int = 8000, subtype: str | None = None) -> str:
    soundfile.write(path, samples, rate, subtype)
    return str(path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_16_bits_come_as_they_are(tmp_path: Path, name: str):
    """Catches a scale of 32767, dither, and bytes in the wrong order: every value there is, written by another library."""
    (content,) = all_items(Audio(path=saved(tmp_path / name, EVERY_SAMPLE)))
    assert content.dtype == np.int16 and np.array_equal(content, EVERY_SAMPLE)
    if name.endswith(".wav"):
        with wave.open(str(tmp_path / name)) as file:
            assert np.array_equal(content, np.frombuffer(file.readframes(65536), "<i2"))


def test_8_bits_are_the_upper_byte(tmp_path: Path):
    """Catches signed bytes, and rounding to the nearest: of all samples the upper byte plus 128; files of 8 bits as they are."""
    (content,) = all_items(Audio(path=saved(tmp_path / "a.wav", EVERY_SAMPLE), sample_bits=8))
    assert content.dtype == np.uint8 and np.array_equal(content, np.arange(256).repeat(256))
    (tmp_path / "b.wav").write_bytes(wav_bytes(np.arange(256).astype(np.uint8), 8000))
    (of_8_bits,) = all_items(Audio(path=str(tmp_path / "b.wav"), sample_bits=8))
    assert np.array_equal(of_8_bits, np.arange(256))
    (of_16,) = all_items(Audio(path=str(tmp_path / "b.wav")))
    assert np.array_equal(of_16, 256 * (np.arange(256) - 128))


def test_24_bits_and_floats_are_rounded_and_cut_off(tmp_path: Path):
    """Catches deep samples that are truncated, floats read as whole numbers, and loud ones that wrap round."""
    deep = np.array([0, 128, 384, 129, -128, -129, 8388607, -8388608])  # in 24 bits, 256 to a step of 16
    path = saved(tmp_path / "deep.wav", (deep * 256).astype(np.int32), subtype="PCM_24")
    (content,) = all_items(Audio(path=path))
    assert content.tolist() == [0, 0, 2, 1, 0, -1, 32767, -32768]  # of two as near the even one
    loud = np.array([0.5, -0.5, 1.0, 1.5, -1.5, 1 / 65536])
    (content,) = all_items(Audio(path=saved(tmp_path / "float.wav", loud, subtype="DOUBLE")))
    assert content.tolist() == [16384, -16384, 32767, 32767, -32768, 0]


def test_channels_are_mixed_to_their_mean(tmp_path: Path):
    """Catches the left channel alone, a sum that overflows, and channels taken one after the other."""
    stereo = np.array([[100, 200], [32767, 32767], [-32768, -32766], [1, 2], [1, 4]], np.int16)
    (content,) = all_items(Audio(path=saved(tmp_path / "s.wav", stereo)))
    assert content.tolist() == [150, 32767, -32767, 2, 2]
    three = noise(50, 3)
    (content,) = all_items(Audio(path=saved(tmp_path / "t.wav", three)))
    assert np.array_equal(content, np.rint(three.astype(np.float64).mean(axis=1)))


def test_ogg_is_read(tmp_path: Path):
    """Catches a length taken from packets: a lossy file has as many samples as went in, and sounds like them."""
    (tone,) = PluckedStrings(item_samples=5000).items([0], [KEY])
    (content,) = all_items(Audio(path=saved(tmp_path / "a.ogg", np.asarray(tone.content))))
    assert content.shape == (5000,) and np.corrcoef(content, np.asarray(tone.content))[0, 1] > 0.9


@pytest.mark.parametrize("rate, new_rate", [(8000, 16000), (44100, 16000), (16000, 11025)])
def test_resampling_keeps_a_tone_and_its_length(tmp_path: Path, rate: int, new_rate: int):
    """Catches rates swapped, and aliases: a tone of 1 kHz stays one of its strength, one past the new band goes."""
    time, new_time = np.arange(rate // 2) / rate, np.arange(math.ceil(rate // 2 * new_rate / rate)) / new_rate
    path = saved(tmp_path / "tone.wav", np.rint(16000 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16), rate)
    source = Audio(path=path, sample_rate=new_rate)
    (content,) = all_items(source)
    inner = slice(len(new_time) // 8, -len(new_time) // 8)
    assert content.shape == new_time.shape and source.rate_of(0) == new_rate
    assert np.abs(content - 16000 * np.sin(2 * np.pi * 1000 * new_time))[inner].max() < 100
    if new_rate < rate:
        high = resampled(np.sin(2 * np.pi * 0.49 * rate * time), rate, new_rate)
        assert np.abs(high[inner]).max() < 0.01


def test_items_tile_each_file(tmp_path: Path):
    """Catches tails that are dropped or counted but empty, items over two files, and seconds at the wrong rate."""
    (tmp_path / "b").mkdir()
    parts = {"a.wav": noise(10), "b/z.flac": noise(4)[::-1], "c.wav": noise(3)}
    for name, samples in parts.items():
        saved(tmp_path / name, samples, 8000 if name == "a.wav" else 4000)
    for other in ("notes.txt", ".hidden.wav", "b/.wav"):
        (tmp_path / other).write_text("no sound")
    source = Audio(path=str(tmp_path), item_samples=4)
    items = source.items(range(5), [KEY] * 5)
    assert source.num_items == 5 and [np.asarray(item.content).size for item in items] == [4, 4, 2, 4, 3]
    assert np.array_equal(np.concatenate([np.asarray(item.content) for item in items]), np.concatenate(list(parts.values())))
    assert [item.name for item in items] == ["a.wav[0:4]", "a.wav[4:8]", "a.wav[8:10]", "b/z.flac", "c.wav"]
    assert [source.rate_of(i) for i in range(5)] == [8000, 8000, 8000, 4000, 4000] and items[0].modality == "sound"
    assert [content.size for content in all_items(Audio(path=str(tmp_path), item_seconds=0.001))] == [8, 2, 4, 3]
    assert [content.size for content in all_items(Audio(path=str(tmp_path)))] == [10, 4, 3]
    again = pickle.loads(pickle.dumps(source)).items([3], [KEY])[0]
    assert np.array_equal(again.content, items[3].content)
    for index in (-1, 5):
        with pytest.raises(RequestError, match="there are 5 items"):
            source.items([index], [KEY])


def test_one_sample_is_a_sound(tmp_path: Path):
    """Catches a length of nothing after resampling, and filters that need more."""
    path = saved(tmp_path / "one.wav", np.array([1234], np.int16), 16000)
    assert [content.tolist() for content in all_items(Audio(path=path))] == [[1234]]
    assert [content.size for content in all_items(Audio(path=path, sample_rate=8000, sample_bits=8))] == [1]


def broken(samples: np.ndarray) -> dict[str, bytes]:
    """Files that are none, by what is wrong with them."""
    whole = wav_bytes(samples, 8000)
    flac, floats = io.BytesIO(), io.BytesIO()
    soundfile.write(flac, samples, 8000, format="FLAC")
    soundfile.write(floats, np.array([0.1, np.nan]), 8000, "DOUBLE", format="WAV")
    return {"empty file": b"", "no samples": wav_bytes(samples[:0], 8000), "half a head": whole[:20], "text": b"RIFF of nothing",
            "no such format": whole[:20] + struct.pack("<H", 9999) + whole[22:],
            "cut off": flac.getvalue()[:len(flac.getvalue()) // 2], "no number": floats.getvalue()}


@pytest.mark.parametrize("fault", list(broken(noise(9))))
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_broken_files_are_refused_by_name(tmp_path: Path, fault: str, suffix: str):
    """Catches tracebacks out of libsndfile, silence in place of what is missing, and items of no samples."""
    path = tmp_path / f"voice{suffix}"
    path.write_bytes(broken(noise(20_000))[fault])
    with pytest.raises(RequestError, match="source.path: .*voice") as caught:
        all_items(Audio(path=str(path)))
    assert ";" in str(caught.value) and "\n" not in str(caught.value)


def test_a_wav_cut_short_is_what_is_left_of_it(tmp_path: Path):
    """Catches a recording that ended in the middle read as noise: the head of a WAV may tell of more than there is."""
    samples = noise(1000)
    (tmp_path / "cut.wav").write_bytes(wav_bytes(samples, 8000)[:-501])
    (content,) = all_items(Audio(path=str(tmp_path / "cut.wav")))
    assert np.array_equal(content, samples[:749])


@pytest.mark.parametrize("make, says", [
    (lambda path: Audio(path=str(path / "missing.wav")).num_items, "must be a sound or a folder that can be read"),
    (lambda path: Audio(path=str(path)).num_items, "at least one sound.*name a folder with sounds"),
    (lambda path: Audio(path="x", item_seconds=1, item_samples=3), "item_samples must be left out"),
    (lambda path: Audio(path="x", sample_bits=12), "sample_bits"), (lambda path: Audio(path="x", item_samples=0), "item_samples"),
    (lambda path: PluckedStrings(sample_rate=44100), "sample_rate"),
])
def test_bad_requests_are_named(tmp_path: Path, make, says: str):
    """Catches tracebacks for what a user can mistype."""
    with pytest.raises(ValueError, match=says):
        make(tmp_path)


def test_changed_file_is_read_again(tmp_path: Path):
    """Catches a cache that outlives the file, in the samples and in the digest."""
    source = Audio(path=saved(tmp_path / "a.wav", np.array([1, 2], np.int16)))
    before, digests = all_items(source), source.digests()
    saved(tmp_path / "a.wav", np.array([3, 4], np.int16))
    os.utime(tmp_path / "a.wav", ns=(1, 1))
    assert before[0].tolist() == [1, 2] and all_items(source)[0].tolist() == [3, 4] and source.digests() != digests


def test_wav_bytes_are_read_by_others():
    """Catches a head that other programs do not take, for both depths."""
    for samples, subtype in ((noise(77), "PCM_16"), (np.arange(256).astype(np.uint8), "PCM_U8")):
        file = io.BytesIO(wav_bytes(samples, 11025))
        assert soundfile.info(file).subtype == subtype
        file.seek(0)
        read, rate = soundfile.read(file, dtype="float64")
        assert rate == 11025 and np.array_equal(quantised(read, 8 * samples.itemsize), samples)


@pytest.mark.parametrize("fields", [{}, {"sample_rate": 16000}, {"sample_bits": 8}])
def test_strings_are_prefix_stable_and_their_own(fields: dict[str, int]):
    """Catches draws that depend on the length, items that feel their neighbours, and sounds that clip or are all but silent."""
    long = PluckedStrings(item_seconds=2, **fields).items([0, 1], [KEY.child(0), KEY.child(1)])
    (short,) = PluckedStrings(item_samples=5001, **fields).items([1], [KEY.child(1)])
    music = np.asarray(long[1].content)
    assert np.array_equal(np.asarray(short.content), music[:5001]) and not np.array_equal(long[0].content, music)
    assert music.size == 2 * fields.get("sample_rate", 8000) and PluckedStrings().items([0], [KEY])[0].content.size == 2048
    wide = (music.astype(np.float64) - (128 if fields.get("sample_bits") == 8 else 0)) / 2 ** (fields.get("sample_bits", 16) - 1)
    assert 0.02 < np.sqrt(np.mean(wide**2)) < 0.5 and np.abs(wide).max() < 1


@pytest.mark.parametrize("period", [20, 37])
def test_a_string_has_the_pitch_and_the_decay_of_its_law(period: int):
    """Catches a loop that is a sample too long, or loses too much: frequency 1 / (N + 1/2), cos(π f) lost each time round."""
    sound = plucked(2 * KEY.uniform(period) - 1, 16384)
    frequency = 1 / (period + 0.5)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 1 << 17))
    around = np.abs(np.fft.rfftfreq(1 << 17) - frequency) < 0.3 * frequency
    assert np.fft.rfftfreq(1 << 17)[around][np.argmax(spectrum[around])] == pytest.approx(frequency, abs=3e-5)
    tone = np.exp(-2j * np.pi * frequency * np.arange(sound.size))
    rounds = 200
    step = round(rounds * (period + 0.5))
    first, later = (abs(np.sum(sound[at:at + step] * tone[at:at + step])) for at in (1000, 1000 + step))
    assert later / first == pytest.approx(math.cos(math.pi * frequency) ** rounds, rel=0.05)


def test_first_samples_are_what_they_were():
    """Golden: catches sounds that change without a new `revision`."""
    (item,) = PluckedStrings(item_samples=6).items([0], [Key(1)])
    assert np.asarray(item.content).tolist() == [2612, -8004, -6274, 8536, -6152, -10112] and item.name == "PluckedStrings[0]"
    assert PluckedStrings().revision == 1


def passed(tokenizer: Pcm | MuLaw, samples: np.ndarray, lost: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Through the tokenizer and back, the tokens at `lost` lost on the way."""
    tokens = tokenizer.encode(Item(samples, "sound", "x"), KEY)
    origin = np.zeros(tokens.values.size, np.uint8)
    origin[list(lost)] = 3
    return tokenizer.decode(Reconstruction(np.where(origin, 0, tokens.values), origin, (origin == 0).astype(np.float32), 256), KEY)


def test_pcm_is_lossless_and_little_endian():
    """Catches bytes in the wrong order, signs lost, and half of a sample taken for all of it."""
    tokens = Pcm().encode(Item(np.array([1, -2, 0x1234], np.int16), "sound", "x"), KEY)
    assert tokens.values.tolist() == [1, 0, 254, 255, 0x34, 0x12]
    for samples, bits in ((EVERY_SAMPLE, 16), (np.arange(256).astype(np.uint8), 8), (noise(1), 16), (noise(0), 16)):
        content, missing = passed(Pcm(sample_bits=bits), samples)
        assert content.dtype == samples.dtype and np.array_equal(content, samples) and not missing.any()
    content, missing = passed(Pcm(), np.array([500, 600, 700, 800], np.int16), lost=(1, 4, 6, 7))
    assert content.tolist() == [0, 600, 0, 0] and missing.tolist() == [True, False, True, True]
    content, missing = passed(Pcm(sample_bits=8), np.array([1, 2, 3], np.uint8), lost=(1,))
    assert content.tolist() == [1, 128, 3] and missing.tolist() == [False, True, False]


def test_mu_law_is_that_of_the_standard():
    """Catches bits not turned round, a rounding of its own, and signs swapped: libsndfile codes and decodes every sample alike."""
    raw = io.BytesIO()
    soundfile.write(raw, EVERY_SAMPLE, 8000, "ULAW", format="RAW")
    codes = np.frombuffer(raw.getvalue(), np.uint8)
    assert np.array_equal(MuLaw().encode(Item(EVERY_SAMPLE, "sound", "x"), KEY).values, codes)
    raw.seek(0)
    decoded, _ = soundfile.read(raw, dtype="int16", samplerate=8000, channels=1, format="RAW", subtype="ULAW")
    content, missing = passed(MuLaw(), EVERY_SAMPLE)
    assert content.dtype == np.int16 and np.array_equal(content, decoded) and not missing.any()
    content, missing = passed(MuLaw(), EVERY_SAMPLE[::5000], lost=(2, 3))
    assert content[2] == content[3] == 0 and missing.sum() == 2


def test_mu_law_keeps_the_values_of_table_2():
    """Catches a bias left in: ends of the standard's segments, 14 bits, as its tables 2a and 2b print them."""
    segment_ends = [31, 95, 223, 479, 991, 2015, 4063, 8159]
    table = {0: 0, 1: 2, 15: 30, 16: 33, 31: 93, 32: 99, 127: 8031}
    levels = np.unique(passed(MuLaw(), EVERY_SAMPLE)[0])[127:] // 4
    assert levels.size == 128 and all(levels[step] == value for step, value in table.items())
    for end in segment_ends[:-1]:
        below, above = passed(MuLaw(), np.array([4 * end - 1, 4 * end], np.int16))[0] // 4
        assert below < end < above


@pytest.mark.parametrize("tokenizer, item, says", [
    (Pcm(), Item(b"abc", "text", "x"), "takes sources of sounds, got 'text'"),
    (MuLaw(), Item(np.zeros(3, np.uint8), "symbols", "x"), "takes sources of sounds, got 'symbols'"),
    (MuLaw(), Item(np.zeros(3, np.uint8), "sound", "x"), "takes samples of 16 bits, got 8.*set source.sample_bits = 16"),
    (Pcm(sample_bits=8), Item(np.zeros(3, np.int16), "sound", "x"), "set source.sample_bits = 8, or the tokenizer's own"),
])
def test_tokenizers_refuse_what_is_not_theirs(tokenizer: Pcm | MuLaw, item: Item, says: str):
    """Catches pictures and symbols sent as sound, and depths that do not fit."""
    with pytest.raises(RequestError, match=says):
        tokenizer.encode(item, KEY)


def test_the_depth_of_the_source_is_that_of_its_tokenizer():
    """Catches a chain of 8 bits that must name its depth twice, and a default that overrules what is named."""
    tables = {"question": "?", "items": 1, "arm": [{"label": "a"}], "source": {"name": "plucked_strings", "sample_bits": 8}}
    assert chain_of(tables).tokenizer == Pcm(sample_bits=8)
    assert chain_of(tables | {"source": {"name": "plucked_strings"}}).tokenizer == Pcm()
    assert chain_of(tables | {"tokenizer": {"name": "pcm", "sample_bits": 16}}).tokenizer == Pcm()


def test_a_users_own_sound_comes_out_as_one(tmp_path: Path):
    """Catches a WAV file sent as bytes, pieces that are not put together again, and a rate that changes on the way."""
    own = tmp_path / "voice.flac"
    sound = np.asarray(PluckedStrings(item_samples=2500).items([0], [KEY])[0].content)
    saved(own, np.stack([sound, sound], axis=1), 8000)
    (tmp_path / "calls.toml").write_text("""
        question = "?"
        source = { name = "plucked_strings", item_samples = 1000 }
        coder = { name = "fixed_length", packet_bits = 320 }
        arm = [{ label = "clean", channel = { name = "ideal" } },
               { label = "8 bits", source = { sample_bits = 8 }, channel = { name = "ideal" } },
               { label = "lossy", channel = { name = "packet_loss", loss_rate = 0.2 }, decoder = { name = "interpolate" } }]
    """)
    page = transmit(own, str(tmp_path / "calls.toml"), tmp_path / "out", {})
    assert "voice.flac" in page.read_text()
    read = {name: soundfile.read(tmp_path / "out" / f"{name}.wav", dtype="int16") for name in (
        "clean/arrived", "clean/restored", "8-bits/restored", "lossy/arrived", "lossy/restored")}
    assert all(rate == 8000 and samples.shape == sound.shape for samples, rate in read.values())
    assert np.array_equal(read["clean/arrived"][0], sound) and np.array_equal(read["clean/restored"][0], sound)
    assert np.array_equal(read["8-bits/restored"][0] >> 8, sound >> 8)
    silent = (read["lossy/arrived"][0] == 0) & (sound != 0)
    assert 0.05 < silent.mean() < 0.5 and np.mean(read["lossy/restored"][0][silent] == 0) < 0.2
    (tmp_path / "note.txt").write_text("no sound")
    with pytest.raises(RequestError, match="note.txt.* cannot be read as a sound"):
        transmit(tmp_path / "note.txt", str(tmp_path / "calls.toml"), tmp_path / "out", {})
