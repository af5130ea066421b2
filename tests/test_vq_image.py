"""The picture tokenizer: any size, the same tokens in any company, blends and draws, what is lost, and the weights that ship."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from sources import vq_image
from sources.images import Images
from sources.models import weights_file
from sources.models.vq_network import VqArchitecture
from sources.vq_image import VqImage
from tests.chains import untrained_vq

KEY = Key(5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return VqImage(path=untrained_vq(tmp_path_factory.mktemp("vq") / "tiny.safetensors"))


def picture(height, width, colours=3, label="picture"):
    """Smooth, so that neighbouring pixels are alike."""
    down, right = np.mgrid[:height, :width][..., np.newaxis]
    phases = 6 * KEY.child(label).uniform(colours)
    return (127 + 120 * np.sin(down / 7 + right / 11 + phases)).astype(np.uint8)


def received(tokenizer, tokens, **changes):
    """What a decoder hands over: everything received but for the fields given."""
    count = tokens.values.size
    fields = {"values": tokens.values, "origin": np.zeros(count, np.uint8), "confidence": np.ones(count, np.float32)} | changes
    return Reconstruction(vocab_size=tokenizer.vocab_size, grid=tokens.grid, content_shape=tokens.content_shape, **fields)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 5, 1), (4, 4, 3), (33, 18, 3), (32, 32, 1)])
def test_any_size_comes_back_in_its_own_shape(tiny, shape):
    """Catches a grid that drops what is over, and a grey picture that comes back in colours."""
    tokens = tiny.encode(Item(picture(*shape), "image", "it"), KEY)
    assert tokens.grid == (-(-shape[0] // 4), -(-shape[1] // 4)) and tokens.content_shape == shape
    content, missing = tiny.decode(received(tiny, tokens), KEY)
    assert content.shape == shape and content.dtype == np.uint8 and missing.shape == shape[:2] and not missing.any()


def test_a_grey_picture_is_three_equal_colours(tiny):
    """Catches a grey picture coded as one colour of a colour picture; the reference repeats the channel by hand."""
    grey = picture(20, 24, 1)
    of_grey, of_colours = (tiny.encode(Item(one, "image", "it"), KEY) for one in (grey, np.repeat(grey, 3, axis=2)))
    assert np.array_equal(of_grey.values, of_colours.values)
    decoded, _ = tiny.decode(received(tiny, of_grey), KEY)
    in_colours = tiny.pixels(tiny.vectors(of_grey.values.reshape(of_grey.grid)))
    assert np.abs(decoded[..., 0] - in_colours.mean(axis=2)).max() <= 0.5001


def test_tokens_and_pixels_depend_on_no_other_picture_and_no_number_of_threads(tiny):
    """Catches state that one picture leaves to the next, and sums that are split among threads."""
    pictures = [picture(40, 56, label=number) for number in range(4)]
    alone = [tiny.encode(Item(one, "image", "it"), KEY).values for one in pictures]
    first = None
    for threads in (1, 2):
        with threadpool_limits(threads):
            again = [tiny.encode(Item(one, "image", "it"), KEY) for one in reversed(pictures)][::-1]
            decoded = [tiny.decode(received(tiny, one), KEY)[0] for one in again]
        assert all(np.array_equal(one.values, before) for one, before in zip(again, alone))
        first = first or decoded
        assert all(np.array_equal(one, other) for one, other in zip(decoded, first))


def test_the_nearest_code_is_chosen(tiny):
    """Catches a farthest or an off-by-one code: distances are taken in full, in double precision."""
    whole = picture(24, 24)
    network = tiny.network()
    vectors = network.architecture.encoded(network.layers, whole[None].astype(np.float32) / np.float32(127.5) - 1)[0]
    far = np.square(vectors[:, :, None].astype(np.float64) - network.codes[0]).sum(axis=3)
    assert np.array_equal(tiny.tokens(whole), far.argmin(axis=2)) and np.unique(far.argmin(axis=2)).size > 4


def test_a_lost_token_is_a_missing_cell_whose_value_nobody_reads(tiny):
    """Catches a mask of the wrong cells or scale, and a lost token whose value, blend or draw leaks into the picture."""
    tokens = tiny.encode(Item(picture(30, 41), "image", "it"), KEY)
    origin = np.zeros(tokens.values.size, np.uint8)
    origin[[0, 17, tokens.values.size - 1]] = [Origin.LOST, Origin.LOST, Origin.LOST]
    blend = np.eye(tiny.vocab_size, dtype=np.float32)[[3, 4, 5]]
    pictures = []
    for changes in ({}, {"values": np.where(origin > 0, 7, tokens.values).astype(np.int32)}, {"blend": blend},
                    {"draws": np.array([[1, 2, 3], [4, 5, 6]], np.int32)}):
        content, missing = tiny.decode(received(tiny, tokens, origin=origin, **changes), KEY)
        pictures.append(content)
    assert all(np.array_equal(one, pictures[0]) for one in pictures)
    expected = np.zeros((32, 44), bool)
    for place in (0, 17, tokens.values.size - 1):
        row, column = divmod(place, 11)
        expected[4 * row:4 * row + 4, 4 * column:4 * column + 4] = True
    assert np.array_equal(missing, expected[:30, :41])


def test_blends_mix_vectors_and_draws_mix_pictures(tiny):
    """Catches a blend of pixels, draws whose vectors are mixed, rows in another order, and rounding before the mean."""
    tokens = tiny.encode(Item(picture(24, 24), "image", "it"), KEY)
    unknown = np.array([2, 9, 20])
    origin = np.zeros(tokens.values.size, np.uint8)
    origin[unknown] = Origin.CONCEALED
    codes, one_hot = tiny.network().codes[0], np.eye(tiny.vocab_size, dtype=np.float32)
    plain = tiny.decode(received(tiny, tokens), KEY)[0]
    assert np.array_equal(tiny.decode(received(tiny, tokens, origin=origin, blend=one_hot[tokens.values[unknown]]), KEY)[0], plain)
    mixed = tiny.decode(received(tiny, tokens, origin=origin, blend=(one_hot[[1, 2, 3]] + one_hot[[4, 4, 4]]) / 2), KEY)[0]
    vectors = codes[tokens.values]
    vectors[unknown] = (codes[[1, 2, 3]] + codes[4]) / 2
    assert np.array_equal(mixed, np.round(tiny.pixels(vectors.reshape(6, 6, -1))))
    draws = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.int32)
    averaged = tiny.decode(received(tiny, tokens, origin=origin, draws=draws), KEY)[0]
    decoded = []
    for draw in draws:
        vectors[unknown] = codes[draw]
        decoded.append(tiny.pixels(vectors.reshape(6, 6, -1)))
    assert np.abs(averaged - np.mean(decoded, axis=0)).max() <= 0.501
    assert not np.array_equal(averaged, plain) and not np.array_equal(mixed, plain)


def test_what_is_no_picture_or_no_weights_is_refused_with_the_cure(tmp_path, tiny):
    """Catches text fed to a picture network, and a traceback where weights are missing or damaged."""
    with pytest.raises(ValueError, match="use source images"):
        tiny.encode(Item(b"text", "text", "it"), KEY)
    with pytest.raises(ValueError, match="grey or RGB"):
        tiny.encode(Item(np.zeros((4, 4, 4), np.uint8), "image", "it"), KEY)
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    for path in ("nowhere.safetensors", str(tmp_path / "w.safetensors")):
        with pytest.raises(RequestError, match="train vq-image"):
            VqImage(path=path).vocab_size
    (tmp_path / "w.json").write_text((weights_file.FOLDER / "vq-image.json").read_text())
    with pytest.raises(RequestError, match="SHA-256"):
        VqImage(path=str(tmp_path / "w.safetensors")).vocab_size


def test_tokens_need_neither_keras_nor_tensorflow():
    """Catches an import that makes every run wait for seconds."""
    code = ("import sys, numpy as np; from sources.vq_image import VqImage; VqImage().tokens(np.zeros((8, 8, 3), np.uint8)); "
            "print(not {'keras', 'tensorflow'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True"


@cache
def shipped_picture():
    """A photograph that nothing was trained on, halved: uint8 [256, 256, 3]."""
    return Images(scale=0.5).items([0], [KEY])[0].content


def test_the_shipped_weights_are_worth_their_bits():
    """Catches weights of another network, a scale that is lost in storing them, and a code book of which little is used."""
    tokenizer, content = VqImage(), shipped_picture()
    tokens = tokenizer.encode(Item(content, "image", "it"), KEY)
    decoded, _ = tokenizer.decode(received(tokenizer, tokens), KEY)
    psnr = 10 * np.log10(255 ** 2 / np.mean((decoded.astype(float) - content) ** 2))
    assert psnr > 24.5 and np.unique(tokens.values).size > 300 and tokenizer.vocab_size == 512
    held = [weights_file.FOLDER / f"{name}.safetensors" for name in ("vq-image", "image-masked-small")]
    assert sum(file.stat().st_size for file in held) <= 8_000_000


def test_a_cell_is_heard_nearby_alone():
    """Catches a decoder whose picture far from a lost packet changes with it."""
    tokenizer, content = VqImage(), shipped_picture()
    tokens = tokenizer.encode(Item(content, "image", "it"), KEY)
    changed = tokens.values.copy()
    changed[0] = (changed[0] + 200) % 512
    before, after = (tokenizer.decode(received(tokenizer, tokens, values=values), KEY)[0] for values in (tokens.values, changed))
    differs = np.argwhere((before != after).any(axis=2))
    assert differs.size and differs.max() < 4 * 9


@pytest.mark.sionna
def test_numpy_runs_the_network_that_keras_trains(tmp_path):
    """Catches a fold, a kernel or an order of channels that differs between the two."""
    from keras import ops

    from sources.models.vq_network import KerasLayers, NumpyLayers

    architecture = VqArchitecture(num_codes=4, code_length=5, channels=8, fine_channels=6, encoder_blocks=1, decoder_blocks=2)
    weights = architecture.initial(KEY)
    given, vectors = KEY.child("x").normal(1, 24, 16, 3).astype(np.float32), KEY.child("z").normal(1, 6, 4, 5).astype(np.float32)
    ours, theirs = NumpyLayers(weights), KerasLayers(weights)
    for function, values in ((architecture.encoded, given), (architecture.decoded, vectors)):
        expected = ops.convert_to_numpy(function(theirs, ops.convert_to_tensor(values)))
        assert np.abs(function(ours, values) - expected).max() < 1e-4 * np.abs(expected).max()
    vq_image.save_network(tmp_path / "w.safetensors", {**weights, "codes": vectors[0, 0], "mean": vectors[0, 0, 0]},
                          {"architecture": architecture.model_dump()})
    stored = VqImage(path=str(tmp_path / "w.safetensors")).network()
    assert np.abs(stored.layers.weights["encode_fine"] - weights["encode_fine"]).max() < 1e-3
