"""The byte model of pictures and sounds: where its neighbours lie, its integers, its streams, and its training."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Tokens
from scenarios.catalogue import build
from scenarios.cli import main
from scenarios.scenario import load
from sources.classical import Compressor
from sources.coder import Entropy
from sources.images import Images
from sources.models import neighbourhood, weights_file
from sources.models.fixed_point import tanh_table
from sources.models.neighbourhood import Neighbourhood
from sources.models.neighbourhood_network import Architecture, layout
from sources.plucked_strings import PluckedStrings
from sources.sound_file import wav_bytes
from sources.text import python_docs
from sources.training.neighbourhood import NeighbourhoodSettings, card, chunks, train_bytes
from tests.chains import untrained_near
from tests.test_coder import received

KEY = Key(21)
PICTURES = Architecture(width=7, reach=2)
SOUNDS = Architecture(width=0, reach=5)


def model_of(folder: Path, **sizes: int) -> Neighbourhood:
    return Neighbourhood(path=untrained_near(folder / "near.safetensors", **sizes))


def drawn(num_bytes: int, label: str = "bytes") -> np.ndarray:
    return KEY.child(label, num_bytes).integers(256, num_bytes).astype(np.int32)


def stepwise(model: Neighbourhood, lanes: np.ndarray) -> np.ndarray:
    """int64 [lanes, n, 256]: the table of every byte of each lane, one step after another."""
    state, tables = model.start(len(lanes)), []
    for column in lanes.T:
        tables.append(model.frequencies(state))
        state = model.advance(state, column)
    return np.stack(tables, axis=1)


@pytest.mark.parametrize("architecture", [PICTURES, SOUNDS])
def test_neighbours_are_where_they_are_said_to_be(architecture):
    """Catches a neighbour taken across the end of a row, one that is not past, and a border that is not the nearest known place."""
    places, width = architecture.places.tolist(), architecture.width or 1000
    near = layout(tuple(map(tuple, places)), architecture.width)
    for position in range(5 * 7):
        row, column = divmod(position, width)
        for place, (up, right) in enumerate(places):
            there = (row - up, column + right)
            inside = there[0] >= 0 and 0 <= there[1] < width
            past = [divmod(other, width) for other in range(position)]
            distance = near.distance[near.row(np.array(position)), place]
            assert near.inside[near.row(np.array(position)), place] == inside
            assert distance >= 1
            if inside:
                assert divmod(position - distance, width) == there
            elif past:
                clipped = max(0, there[0]), min(max(there[1], 0), width - 1)
                steps = [abs(one[0] - clipped[0]) + abs(one[1] - clipped[1]) for one in past]
                found = past.index(divmod(position - distance, width))
                assert steps[found] == min(steps)


@pytest.mark.parametrize(("width", "reach"), [(5, 2), (0, 4)])
def test_tables_are_those_of_the_equations(tmp_path, width, reach):
    """Catches a sum that is rounded, a table that is not rolled back by the prediction, and a shifted bias; reference: integers
    of Python, byte by byte, up to the probabilities, which are compared with the exact power of two."""
    model = model_of(tmp_path, width=width, reach=reach, hidden=6, merge=4)
    network, values = model.loaded().network, drawn(23)
    tables, _ = model.tables(model.start(1), values)
    near, tanh = layout(network.places, width), tanh_table()
    for position, table in enumerate(tables):
        row = int(near.row(np.array(position)))
        around = [int(values[position - back]) if back <= position else 128 for back in near.distance[row].tolist()]
        total = (128 << 12) + sum((one - 128) * int(part) for one, part in zip(around, network.predictor))
        total = min(max(total, 0), 255 << 12)
        base = (total + 2048) >> 12
        given = [one - base for one in around] + [(one - base) * network.fine for one in around]
        given += [127 * int(one) for one in near.inside[row]] + [(total - (base << 12)) >> 4, base - 128]
        factors = [min(max(one, -127), 127) for one in given]
        for layer in (network.first, network.second):
            sums = product(layer, factors)
            levels = [int(tanh[min(max(one, -8192), 8192) + 8192]) for one in sums]
            factors = [min(max((one + 64) >> 7, -127), 127) for one in levels]
        logits = np.array(product(network.head, factors)) / 1024
        expected = np.roll(2.0 ** (logits - logits.max()), base)
        missed = table - 1 - expected / expected.sum() * (2**16 - 256)
        likeliest = missed[expected.argmax()]  # it has what the others' rounding down leaves
        assert 0 <= likeliest < 257 and np.all(np.abs(np.delete(missed, expected.argmax())) < 1.5)


def product(layer, factors):
    """Pre-activations or logits, in Python's own integers."""
    rows = layer.matrix.astype(int).tolist()
    sums = [sum(factor * row[column] for factor, row in zip(factors, rows)) for column in range(len(layer.bias))]
    scaled = [(one * int(scale) + (1 << 23)) >> 24 for one, scale in zip(sums, layer.scale)]
    return [min(max(one, -65536), 65536) + int(bias) for one, bias in zip(scaled, layer.bias)]


@pytest.mark.parametrize(("width", "reach"), [(8, 2), (0, 9)])
def test_lanes_steps_and_threads_give_the_same_tables(tmp_path, width, reach):
    """Catches a table that feels the number of lanes, its neighbours, the threads of BLAS, or whether bytes come one by one."""
    model = model_of(tmp_path, width=width, reach=reach, hidden=200, merge=100)
    lanes = drawn(16 * 45).reshape(16, 45)
    alone = np.concatenate([stepwise(model, one[None]) for one in lanes])
    assert np.array_equal(np.concatenate([stepwise(model, lanes[first:first + 4]) for first in range(0, 16, 4)]), alone)
    with threadpool_limits(2):
        assert np.array_equal(stepwise(model, lanes), alone)
    for one, tables in zip(lanes, alone):
        state, pieces = model.start(1), []
        for piece in np.split(one, [1, 1, 12, 30]):
            found, state = model.tables(state, piece)
            pieces.append(found)
        assert np.array_equal(np.concatenate(pieces), tables)
    assert np.array_equal(state, after(model, lanes[-1:]))
    assert np.all(alone.sum(axis=2) == 1 << model.frequency_bits) and alone.min() >= 1


def after(model, lanes):
    state = model.start(len(lanes))
    for column in lanes.T:
        state = model.advance(state, column)
    return state


@pytest.mark.parametrize("width", [8, 0])
def test_a_hundred_messages_come_back(tmp_path, width):
    """Catches a decoder that goes another way than the encoder: any length, any bytes, a loss between, other company, a thread."""
    model = model_of(tmp_path, width=width)
    lengths = [0, 1, 2, 5, 7, 8, 9, 63, 64, 65] + KEY.child("lengths").integers(150, 90).tolist()
    messages = [drawn(length, f"message {number}") for number, length in enumerate(lengths)]
    for number in range(20, 60):
        messages[number] = np.frombuffer(b"It was a bright cold day in April, " * 5, np.uint8)[number - 20:][:lengths[number]]
    tokens = [Tokens(one.astype(np.int32), 256) for one in messages]
    coder = Entropy(model=model, packet_bits=256, context="restart:2")
    packets, preambles = zip(*coder.encode(tokens))

    def decoded():
        return coder.receive([received(one) for one in packets], list(preambles))

    with ThreadPoolExecutor(1) as pool:
        for evidence in (decoded(), pool.submit(decoded).result()):
            for one, found in zip(messages, evidence, strict=True):
                assert found.known.all() and np.array_equal(found.values, one)
    few = coder.receive([received(packets[9])], [preambles[9]])
    assert np.array_equal(few[0].values, messages[9])


def test_rows_are_as_wide_as_the_model_is_told(tmp_path):
    """Catches a width that is ignored, and one that changes more than where neighbours lie."""
    file = untrained_near(tmp_path / "near.safetensors", width=8)
    values = drawn(40)
    told = Neighbourhood(path=file, width=11)
    expected = [model.tables(model.start(1), values)[0] for model in (Neighbourhood(path=file), Neighbourhood(path=file, width=8))]
    found = told.tables(told.start(1), values)[0]
    assert np.array_equal(*expected) and not np.array_equal(found, expected[0])
    trained = told.loaded().network._replace(width=11)
    near = layout(trained.places, 11)
    padded = np.concatenate([np.full(near.reach, 128), values])
    around = np.stack([padded[place + near.reach - near.distance[near.row(np.array(place))]] for place in range(40)])
    inside = np.stack([near.inside[near.row(np.array(place))] for place in range(40)])
    assert np.array_equal(found, trained.frequencies(around, inside, told.frequency_bits))


def test_what_does_not_fit_is_refused(tmp_path):
    """Catches a width for sounds, tokens that are no bytes, and weights of another kind that are read all the same."""
    sounds = Neighbourhood(path=untrained_near(tmp_path / "near.safetensors", width=0), width=64)
    with pytest.raises(RequestError, match="model.width must be left out: the model is one of sounds"):
        sounds.start(1)
    pairs = {"question": "?", "items": 1, "source": {"name": "text", "item_bytes": 96}, "tokenizer": {"name": "bpe"},
             "coder": {"name": "entropy", "model": str(tmp_path / "near.safetensors")}, "arm": [{"label": "a"}]}
    with pytest.raises(RequestError, match="neighbourhood knows 256 tokens, the tokenizer bpe makes 1024"):
        load(pairs)
    other = tmp_path / "other.safetensors"
    other.write_bytes((tmp_path / "near.safetensors").read_bytes())
    described = (tmp_path / "near.json").read_text()
    other.with_suffix(".json").write_text(described.replace(neighbourhood.FORMAT, "another"))
    with pytest.raises(RequestError, match="make them with channel-sim train bytes"):
        Neighbourhood(path=str(other)).start(1)


def test_it_runs_without_a_framework(tmp_path):
    """Catches a model that loads TensorFlow or Keras to code with."""
    file = untrained_near(tmp_path / "near.safetensors")
    program = ("import sys; from sources.models.neighbourhood import Neighbourhood; "
               f"model = Neighbourhood(path={file!r}); model.tables(model.start(1), [1, 2, 3]); "
               "print(sorted({'tensorflow', 'keras', 'torch', 'jax'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_chunks_are_parts_of_what_there_is():
    """Catches a chunk across two passages, a picture never turned or mirrored, and small passages drawn as often as large ones."""
    ramp = np.add.outer(16 * np.arange(12), np.arange(14)).astype(np.uint8)
    found = chunks([ramp], KEY, 200, (3, 4)).reshape(200, 3, 4).astype(int)
    down, right = found[:, 1, 0] - found[:, 0, 0], found[:, 0, 1] - found[:, 0, 0]
    assert {(int(one), int(two)) for one, two in zip(down, right)} == {
        (sign * one, other * two) for one, two in ((16, 1), (1, 16)) for sign in (-1, 1) for other in (-1, 1)}
    sounds = chunks([np.full(30, 100, np.uint8), np.full(270, 200, np.uint8)], KEY, 1000, (8,))
    assert {int(one) for one in np.unique(sounds)} == {100, 155, 200, 55} and np.all(sounds == sounds[:, :1])
    assert 50 < np.isin(sounds[:, 0], (100, 155)).sum() < 150


def ideal_bits(name: str, chunk: np.ndarray) -> float:
    model = build("models", {"name": name}, "scenario.model")
    assert isinstance(model, Neighbourhood)
    tables, _ = model.tables(model.start(1), chunk)
    return float(np.sum(model.frequency_bits - np.log2(tables[np.arange(chunk.size), chunk])))


def test_shipped_weights_code_photographs_in_less_than_webp():
    """Catches weights that are not those of the card, or other rows than a picture's; reference: WebP, lossless, but for a head."""
    source = Images(size=(32, 64), crop="tile", grey=True)
    tiles = [one.content[..., 0] for one in source.items(range(0, 600, 75), [KEY] * 8)]
    sizes = []
    for tile in (np.zeros((1, 1), np.uint8), *tiles):
        file = BytesIO()
        Image.fromarray(tile).save(file, "WEBP", lossless=True, quality=100, method=6)
        sizes.append(8 * len(file.getvalue()))
    ours = sum(ideal_bits("image-byte-small", tile.ravel().astype(np.int32)) for tile in tiles)
    assert ours < 0.97 * (sum(sizes[1:]) - len(tiles) * sizes[0])


def test_shipped_weights_code_syllables_in_less_than_flac():
    """Catches weights that are not those of the card; reference: FLAC, but for a head, on a resonance that swells and fades."""
    chunks_of = []
    for number in range(6):
        noise, sound = KEY.child("voice", number).normal(2048), np.zeros(2048)
        for place in range(2, 2048):
            loudness = 1.5 * np.sin(np.pi * place / 1024) ** 2
            sound[place] = 1.7 * sound[place - 1] - 0.85 * sound[place - 2] + loudness * noise[place]
        chunks_of.append((128 + np.round(sound)).clip(0, 255).astype(np.int32))
    flac = Compressor(method="flac", packet_bits=None, header_bits=0)
    packets = [flac.encode([Tokens(one, 256)])[0][0] for one in chunks_of]
    theirs = sum(int(one.num_bits.sum()) - one.head_bits for one in packets)
    assert sum(ideal_bits("sound-byte-small", one) for one in chunks_of) < theirs


@pytest.mark.parametrize("name", ["image-byte-small", "sound-byte-small"])
def test_every_modality_comes_back_from_what_ships(name):
    """Catches bytes that the tables of a model leave no room for, and a stream that is longer than its tables say."""
    tile = Images(size=(32, 64), crop="tile", grey=True).items([3], [KEY])[0].content
    string = PluckedStrings(item_samples=700, sample_bits=8).items([0], [KEY])[0].content
    kinds = [np.asarray(tile).ravel(), np.asarray(string), drawn(700), np.zeros(300), np.full(300, 255), np.arange(600) % 2 * 255,
             np.frombuffer(python_docs()[:700], np.uint8), np.frombuffer(b"ACGTTGCA" * 80, np.uint8)]
    tokens = [Tokens(one.astype(np.int32), 256) for one in kinds]
    coder = Entropy(model=build("models", {"name": name}, "scenario.model"), packet_bits=None, header_bits=0)
    packets, preambles = zip(*coder.encode(tokens))
    for one, made, found in zip(tokens, packets, coder.receive([received(one) for one in packets], list(preambles)), strict=True):
        assert found.known.all() and np.array_equal(found.values, one.values)
        assert made.num_bits.sum() < ideal_bits(name, one.values) + 2


@pytest.mark.parametrize("name", ["image-byte-small", "sound-byte-small"])
def test_what_ships_is_small_and_its_card_is_that_of_its_weights(name):
    """Catches a card of another training, weights that outgrow the package, and data whose licence is not told."""
    config = json.loads((weights_file.FOLDER / f"{name}.json").read_text())
    text = (weights_file.FOLDER / f"{name}.md").read_text()
    assert text == card(config) and f"{config['integer_bits']:.4f} in the integers" in text and "not stated" not in text
    assert abs(config["integer_bits"] / config["best"]["held_out"] - 1) < 0.01
    assert (weights_file.FOLDER / f"{name}.safetensors").stat().st_size < 200_000


TINY = {"chunk_bytes": 64, "width": 8, "reach": 1, "hidden": 12, "merge": 8, "batch": 256, "learning_rate": 0.02, "updates": 90,
        "updates_per_checkpoint": 30, "set_aside_every": 4}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures that are ramps with a little noise, and sounds of a known autoregression."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "pictures").mkdir()
    (folder / "sounds").mkdir()
    for number in range(8):
        key = KEY.child("made", number)
        ramp = 40 + 3 * np.arange(24)[:, None] + 2 * np.arange(24) + key.child("picture").integers(3, 24, 24)
        Image.fromarray(ramp.astype(np.uint8)).save(folder / "pictures" / f"{number}.png")
        sound, noise = np.zeros(4000), 4 * key.child("sound").normal(4000)
        for place in range(2, 4000):
            sound[place] = 1.6 * sound[place - 1] - 0.8 * sound[place - 2] + noise[place]
        whole = np.clip(256 * np.round(sound), -32768, 32767).astype(np.int16)
        (folder / "sounds" / f"{number}.wav").write_bytes(wav_bytes(whole, 8000))
    return folder


@pytest.mark.sionna
def test_it_learns_what_pictures_hold_and_goes_on_where_it_was_killed(folder):
    """Catches a gradient that does nothing, integers that are not the network's, and a resumed training that is another one."""
    settings = NeighbourhoodSettings(**TINY)
    made = train_bytes(settings, [folder / "pictures"], folder / "whole.safetensors")
    config = json.loads((folder / "whole.json").read_text())
    bits = [one["held_out"] for one in config["curve"]]
    # a difference of ramps with noise of 0, 1, 2: three uniform ones left of each byte, at least log2 3 bits
    assert np.log2(3) < bits[-1] < 3.2 and bits[-1] < bits[0]
    assert abs(config["integer_bits"] / min(bits) - 1) < 0.03
    assert made == (folder / "whole.md").read_text() == card(config) and "8 pictures" not in made and "6 pictures" in made

    def kill(done, total):
        if done == 45:
            raise Killed

    with pytest.raises(Killed):
        train_bytes(settings, [folder / "pictures"], folder / "parts.safetensors", progress=kill)
    train_bytes(settings, [folder / "pictures"], folder / "parts.safetensors", resume=True)
    assert (folder / "parts.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()


@pytest.mark.sionna
def test_the_predictor_of_an_autoregression_is_found(folder):
    """Catches a predictor that is fitted to other places or in other units; reference: the coefficients the sounds were made by."""
    (folder / "sound.toml").write_text("width = 0\nreach = 3\nchunk_bytes = 256\nhidden = 8\nmerge = 8\nupdates = 4\n")
    assert main(["train", "bytes", "--config", str(folder / "sound.toml"), "--data", str(folder / "sounds"), "--out",
                 str(folder / "sound.safetensors")]) == 0
    model = build("models", {"name": "neighbourhood", "path": str(folder / "sound.safetensors")}, "scenario.model")
    assert isinstance(model, Neighbourhood)
    assert np.allclose(model.loaded().network.predictor / 4096, [1.6, -0.8, 0], atol=0.05)


@pytest.mark.parametrize(("change", "data", "message"), [
    ({"width": 32}, "pictures", "no pictures smaller than a chunk"),
    ({"width": 0, "reach": 3, "chunk_bytes": 9999}, "sounds", "no sounds smaller than a chunk"),
    ({"width": 0}, "pictures", "--data"), ({}, "nothing", "--data")])
def test_data_that_can_not_be_trained_on_is_named(folder, change, data, message):
    """Catches an array error from deep inside, and sounds that are read as pictures."""
    with pytest.raises(RequestError, match=message):
        train_bytes(NeighbourhoodSettings(**TINY | change), [folder / data], folder / "refused.safetensors")
