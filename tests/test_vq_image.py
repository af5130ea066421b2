"""The picture tokenizer: any size, the same tokens in any company, blends and draws, what is lost, and the weights that ship."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from sources import vq_image
from sources.images import Images
from sources.models import weights_file
from sources.models.vq_network import VqArchitecture, scaled
from sources.vq_image import RvqImage, VqImage
from tests.chains import untrained_vq

KEY = Key(5)


SIZES = {"one of 6": {}, "two of 48, alone": {"stages": 2, "alone": True, "code_length": 48},
         "three of 60, alone": {"stages": 3, "alone": True, "code_length": 60}, "two of 6": {"stages": 2}}


@cache
def as_drawn(name):
    """A tokenizer of random weights: how many tokens a cell, of vectors of what length."""
    return VqImage(path=untrained_vq(Path(mkdtemp(prefix="vq-")) / "tiny.safetensors", **SIZES[name]))


@pytest.fixture(params=SIZES)
def tiny(request):
    return as_drawn(request.param)


@pytest.fixture(params=["two of 48, alone", "three of 60, alone"])
def alone(request):
    return as_drawn(request.param)


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
    stages = tiny.network().architecture.stages
    assert tokens.grid[:2] == (-(-shape[0] // 4), -(-shape[1] // 4)) and tokens.content_shape == shape
    assert tokens.grid[2:] == ((stages,) if stages > 1 else ()) and tokens.values.size == np.prod(tokens.grid)
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


def greedy(codes, vector):
    """The nearest code of each stage to what those before it leave: distances taken in full, in double precision, one by one."""
    chosen, left = [], vector.astype(np.float64)
    for of_stage in codes.astype(np.float64):
        far = [np.square(left - code).sum() for code in of_stage]
        chosen.append(int(np.argmin(far)))
        left = left - of_stage[chosen[-1]]
    return chosen


def test_the_nearest_code_of_what_is_left_is_chosen(tiny):
    """Catches a farthest or an off-by-one code, and stages in another order or blind to those before them."""
    whole = picture(24, 24)
    network = tiny.network()
    vectors = network.architecture.encoded(network.layers, whole[None].astype(np.float32) / np.float32(127.5) - 1)[0]
    chosen = np.array([[greedy(network.codes, vector) for vector in row] for row in vectors])
    assert np.array_equal(tiny.tokens(whole).reshape(chosen.shape), chosen)
    assert all(np.unique(of_stage).size > 2 for of_stage in np.moveaxis(chosen, 2, 0))


def test_a_cell_alone_is_mapped_linearly(alone):
    """Catches pixels of a cell in another order and a scale forgotten; by hand, pixel by pixel as two folds leave them."""
    network, cell = alone.network(), picture(4, 4, label="cell")
    matrix, bias = network.layers.weights["encode_cell"][0, 0].astype(np.float64), network.layers.weights["encode_cell_bias"]
    vector = bias.astype(np.float64)
    for row, column, colour in np.ndindex(cell.shape):
        fine = 3 * (2 * (row % 2) + column % 2) + colour
        vector = vector + (cell[row, column, colour] / 127.5 - 1) * matrix[12 * (2 * (row // 2) + column // 2) + fine]
    assert alone.tokens(cell).ravel().tolist() == greedy(network.codes, vector)


def others_changed(tokenizer):
    """How many tokens of a cell change with the pixels around it, 200 times."""
    count = 0
    for number in range(200):
        one, other = (picture(12, 12, label=label) for label in ("one", number))
        other[4:8, 4:8] = one[4:8, 4:8]
        count += int(np.sum(tokenizer.tokens(one)[1, 1] != tokenizer.tokens(other)[1, 1]))
    return count


def test_tokens_of_a_cell_alone_tell_of_no_pixel_outside(alone):
    """Catches an encoder that looks around, which takes out of the tokens what neighbours share; negative control: one that does.
    """
    assert others_changed(alone) == 0
    assert others_changed(as_drawn("two of 6")) > 20


def test_what_is_decoded_is_the_sum_of_the_codes(tiny):
    """Catches a stage left out or looked up in another's code book; reference: sums one cell at a time."""
    tokens, codes = tiny.encode(Item(picture(20, 28), "image", "it"), KEY), tiny.network().codes
    vectors = np.zeros((5, 7, codes.shape[2]), np.float32)
    for row, column, stage in np.ndindex(5, 7, len(codes)):
        vectors[row, column] += codes[stage, tokens.values[(7 * row + column) * len(codes) + stage]]
    assert np.array_equal(tiny.decode(received(tiny, tokens), KEY)[0], np.round(tiny.pixels(vectors)))
    assert np.array_equal(tiny.vectors(tokens.values.reshape(tokens.grid)), vectors)


def test_a_token_lost_is_the_mean_of_its_stage_and_leaves_the_others_of_its_cell(tiny):
    """Catches a cell given up for one token, a mean of another stage, and a cell that passes for whole."""
    tokens, network = tiny.encode(Item(picture(24, 24), "image", "it"), KEY), tiny.network()
    stages = len(network.codes)
    for stage in range(stages):
        origin = np.zeros(tokens.values.size, np.uint8)
        origin[9 * stages + stage] = Origin.LOST
        content, missing = tiny.decode(received(tiny, tokens, origin=origin), KEY)
        vectors = tiny.vectors(tokens.values.reshape(tokens.grid)).reshape(36, -1)
        kept = [network.codes[other, tokens.values[9 * stages + other]] for other in range(stages) if other != stage]
        vectors[9] = sum(kept) + network.means[stage]
        assert np.abs(content - tiny.pixels(vectors.reshape(6, 6, -1))).max() <= 0.501
        assert missing.sum() == 16 and missing[4:8, 12:16].all()


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
        row, column = divmod(place // len(tiny.network().codes), 11)
        expected[4 * row:4 * row + 4, 4 * column:4 * column + 4] = True
    assert np.array_equal(missing, expected[:30, :41])


def test_blends_mix_vectors_and_draws_mix_pictures(tiny):
    """Catches a blend of pixels, draws whose vectors are mixed, rows in another order, and rounding before the mean."""
    tokens = tiny.encode(Item(picture(24, 24), "image", "it"), KEY)
    unknown = np.array([2, 9, 20])
    origin = np.zeros(tokens.values.size, np.uint8)
    origin[unknown] = Origin.CONCEALED
    codes, one_hot = tiny.network().codes, np.eye(tiny.vocab_size, dtype=np.float32)
    stage, own = unknown % len(codes), np.arange(tokens.values.size) % len(codes)

    def decoded(of_unknown):
        """Pixels of the tokens, but the vectors given where they are unknown."""
        vectors = codes[own, tokens.values]
        vectors[unknown] = of_unknown
        return tiny.pixels(vectors.reshape(6, 6, len(codes), -1).sum(axis=2))

    plain = tiny.decode(received(tiny, tokens), KEY)[0]
    assert np.array_equal(tiny.decode(received(tiny, tokens, origin=origin, blend=one_hot[tokens.values[unknown]]), KEY)[0], plain)
    mixed = tiny.decode(received(tiny, tokens, origin=origin, blend=(one_hot[[1, 2, 3]] + one_hot[[4, 4, 4]]) / 2), KEY)[0]
    assert np.array_equal(mixed, np.round(decoded((codes[stage, [1, 2, 3]] + codes[stage, 4]) / 2)))
    draws = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.int32)
    averaged = tiny.decode(received(tiny, tokens, origin=origin, draws=draws), KEY)[0]
    assert np.abs(averaged - np.mean([decoded(codes[stage, draw]) for draw in draws], axis=0)).max() <= 0.501
    assert not np.array_equal(averaged, plain) and not np.array_equal(mixed, plain)


def test_the_digest_of_tokens_is_of_what_tokens_follow_from(alone, tmp_path):
    """Catches a decoder trained anew that refuses its masked model, and an encoder or a code book trained anew that does not."""
    network = alone.network()
    held = {**network.layers.weights, "codes": network.codes, "mean": network.means}

    def changed(name):
        file = tmp_path / f"{name}.safetensors"
        weights = {**held, name: held[name] + np.float32(0.25)} if name else held
        vq_image.save_network(file, weights, {"architecture": network.architecture.model_dump()})
        return VqImage(path=str(file)).tokens_digest

    assert all(changed(name) == alone.tokens_digest for name in ("", "decode_cell", "decode_pixels_bias", "mean"))
    assert len({alone.tokens_digest, *map(changed, ("encode_cell", "encode_cell_bias", "codes"))}) == 4


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
    network = tiny.network()
    held = {**network.layers.weights, "codes": network.codes, "mean": network.means}
    one_more = network.architecture.model_dump() | {"stages": len(network.codes) + 1}
    vq_image.save_network(tmp_path / "w.safetensors", held, {"architecture": one_more})
    with pytest.raises(RequestError, match="train vq-image"):
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


@pytest.mark.parametrize(("tokenizer", "decibels"), [(VqImage(), 24.5), (RvqImage(), 27)])
def test_the_shipped_weights_are_worth_their_bits(tokenizer, decibels):
    """Catches weights of another network, a scale that is lost in storing them, and a code book of which little is used."""
    content = shipped_picture()
    tokens = tokenizer.encode(Item(content, "image", "it"), KEY)
    decoded, _ = tokenizer.decode(received(tokenizer, tokens), KEY)
    psnr = 10 * np.log10(255 ** 2 / np.mean((decoded.astype(float) - content) ** 2))
    assert psnr > decibels and tokenizer.vocab_size == 512
    assert all(np.unique(of_stage).size > 300 for of_stage in tokens.values.reshape(64 * 64, -1).T)


def test_a_tokenizer_and_a_masked_model_of_it_are_small():
    """Catches weights in numbers wider than they need."""
    for pair in (("vq-image", "image-masked-small"), ("rvq-image", "image-masked-rvq")):
        assert sum((weights_file.FOLDER / f"{name}.safetensors").stat().st_size for name in pair) <= 8_000_000


@pytest.mark.parametrize("tokenizer", [VqImage(), RvqImage()])
def test_a_cell_is_heard_nearby_alone(tokenizer):
    """Catches a decoder whose picture far from a lost packet changes with it."""
    content = shipped_picture()
    tokens = tokenizer.encode(Item(content, "image", "it"), KEY)
    changed = tokens.values.copy()
    changed[0] = (changed[0] + 200) % 512
    before, after = (tokenizer.decode(received(tokenizer, tokens, values=values), KEY)[0] for values in (tokens.values, changed))
    differs = np.argwhere((before != after).any(axis=2))
    assert differs.size and differs.max() < 4 * 9


@pytest.mark.sionna
@pytest.mark.parametrize("sizes", [{}, {"stages": 2, "alone": True}], ids=["one", "two, alone"])
def test_numpy_runs_the_network_that_keras_trains(tmp_path, sizes):
    """Catches a fold, a kernel or an order of channels that differs between the two, and other codes than are trained."""
    from keras import ops

    from sources.models.vq_network import KerasLayers, NumpyLayers, vq_network

    architecture = VqArchitecture(num_codes=4, code_length=5, channels=8, fine_channels=6, encoder_blocks=1, **sizes)
    weights = {name: one.astype(np.float16).astype(np.float32) for name, one in architecture.initial(KEY).items()}
    given, vectors = KEY.child("x").normal(1, 24, 16, 3).astype(np.float32), KEY.child("z").normal(1, 6, 4, 5).astype(np.float32)
    ours, theirs = NumpyLayers(weights), KerasLayers(weights)
    for function, values in ((architecture.encoded, given), (architecture.decoded, vectors)):
        expected = ops.convert_to_numpy(function(theirs, ops.convert_to_tensor(values)))
        assert np.abs(function(ours, values) - expected).max() < 1e-4 * np.abs(expected).max()
    codes = KEY.child("codes").normal(architecture.stages, 4, 5).astype(np.float16).astype(np.float32)
    codes = codes / 2 ** np.arange(architecture.stages, dtype=np.float32)[:, None, None]
    vq_image.save_network(tmp_path / "w.safetensors", {**weights, "codes": codes, "mean": codes.mean(axis=1)},
                          {"architecture": architecture.model_dump()})
    stored, trained, whole = VqImage(path=str(tmp_path / "w.safetensors")), vq_network(architecture), picture(24, 16)
    for name, value in {**weights, "codes": codes}.items():
        (trained.state if name == "codes" else trained.weight)[name].assign(value)
    through = np.asarray(trained(scaled(whole)[None]))[0]
    assert np.abs(stored.pixels(stored.vectors(stored.tokens(whole))) - np.clip(127.5 * through + 127.5, 0, 255)).max() < 0.01


@pytest.mark.sionna
def test_codes_become_the_means_of_what_is_nearest_to_them():
    """Catches stages that learn from each other's vectors; reference: the running means by loops over two stages."""
    from sources.models.vq_network import vq_network

    architecture = VqArchitecture(num_codes=4, stages=2, alone=True, code_length=5, channels=4, fine_channels=4, decoder_blocks=0)
    network, weights = vq_network(architecture), architecture.initial(KEY)
    start = {"codes": KEY.child("codes").normal(2, 4, 5).astype(np.float32), "use": np.full((2, 4), 3.0, np.float32)}
    start["sums"] = start["codes"] * 3
    for name, value in weights.items():
        network.weight[name].assign(value)
    for name, value in start.items():
        network.state[name].assign(value)
    whole = scaled(picture(16, 16))
    network(whole[None], training=True)
    use, sums = 0.99 * start["use"], 0.99 * start["sums"]
    for row, column in np.ndindex(4, 4):
        cell = whole[4 * row:4 * row + 4, 4 * column:4 * column + 4]
        folded = cell.reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4).ravel()
        left = folded @ weights["encode_cell"][0, 0]
        for stage, token in enumerate(greedy(start["codes"], left)):
            use[stage, token] += 0.01
            sums[stage, token] += 0.01 * left
            left = left - start["codes"][stage, token]
    for name, expected in (("use", use), ("sums", sums), ("codes", sums / use[..., None])):
        np.testing.assert_allclose(np.asarray(network.state[name]), expected, atol=1e-5)
