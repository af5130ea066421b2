"""Training of picture models: it learns, it can be killed and go on, and what it writes runs."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item
from scenarios.catalogue import build
from scenarios.cli import main
from sources.models import weights_file
from sources.models.masked_grid import MaskedGrid
from sources.training import image_trainers
from sources.training.image_cards import grid_card, vq_card
from sources.training.image_data import LARGE, read_collections
from sources.training.image_trainers import GridSettings, GridTrainer, VqSettings, mean_and_tokens
from sources.training.images import train_image_masked, train_vq_image
from sources.vq_image import VqImage
from tests.chains import untrained_grid, untrained_vq

KEY = Key(4)
VQ = VqSettings(num_codes=16, code_length=4, channels=16, fine_channels=8, encoder_blocks=1, decoder_blocks=1, crop=16,
                batch_pixels=1024, learning_rate=0.005, updates=240, updates_per_checkpoint=80, set_aside_every=3)
GRID = GridSettings(embedding=8, channels=16, blocks=1, merge=16, crop=32, batch_pixels=16384, learning_rate=0.02, updates=60,
                    updates_per_checkpoint=20, set_aside_every=3)


def plain(number, side=32):
    """uint8 [number, side, side, 3]: plain pictures in one of four colours each, so that any token tells all the others."""
    colours = np.array([[230, 20, 20], [20, 230, 20], [20, 20, 230], [200, 200, 30]], np.uint8)
    return np.broadcast_to(colours[np.arange(number) % 4][:, None, None], (number, side, side, 3)).copy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A stack and a folder of pictures, weights of a tokenizer as drawn, and all that trainings write."""
    folder = tmp_path_factory.mktemp("pictures")
    np.save(folder / "stack.npy", plain(24))
    (folder / "files").mkdir()
    for number, one in enumerate(plain(8, 48)):
        Image.fromarray(one).save(folder / "files" / f"{number}.png")
    return folder


class Killed(Exception):
    pass


def killed_at(update):
    def progress(done, total):
        if done == update:
            raise Killed
    return progress


@pytest.fixture(scope="module")
def tokenizer(folder):
    """(weights file, card, what progress was told) of a tokenizer's training that was not interrupted."""
    seen = []
    made = train_vq_image(VQ, [folder / "stack.npy", folder / "files"], folder / "vq.safetensors",
                          progress=lambda done, total: seen.append((done, total)))
    return folder / "vq.safetensors", made, seen


@pytest.mark.sionna
def test_a_tokenizer_learns_and_what_it_writes_runs(tokenizer):
    """Catches a gradient that stops at the codes, codes that nobody uses, and weights that are not those measured."""
    out, made, seen = tokenizer
    config = json.loads(out.with_suffix(".json").read_text())
    curve = [one["held_out"] for one in config["curve"]]
    assert len(curve) == 3 and curve[-1] < min(0.03, 0.5 * curve[0]) and config["best"]["held_out"] == min(curve)
    assert seen == [(done, 240) for done in range(1, 241)]
    assert made == out.with_suffix(".md").read_text() and "stack.npy" in made and "| 240 |" in made
    model, whole = VqImage(path=str(out)), plain(4)
    decoded = [model.pixels(model.vectors(model.tokens(one))) for one in whole]
    assert np.mean([np.square(one - two).mean() for one, two in zip(decoded, whole)]) < 0.04 * 255 ** 2
    assert len({model.tokens(one).tobytes() for one in whole}) == 4
    errors = [10 ** (-value / 10) for value in config["psnr_db"].values()]
    assert 0.2 < np.mean(errors) / min(curve) < 5


PAIRS = VQ.model_copy(update={"stages": 2, "alone": True, "num_codes": 3, "code_length": 6, "updates": 60,
                              "updates_per_checkpoint": 30})


@pytest.fixture(scope="module")
def pairs(folder):
    """(weights file, card) of a tokenizer of two tokens a cell, coded alone: too few of the first for all four colours."""
    return folder / "pairs.safetensors", train_vq_image(PAIRS, [folder / "stack.npy"], folder / "pairs.safetensors")


@pytest.mark.sionna
def test_two_tokens_a_cell_are_learnt_and_tell_more_than_one(pairs):
    """Catches second tokens of which nothing is made, and a card that counts one token a cell or one code book."""
    out, made = pairs
    config = json.loads(out.with_suffix(".json").read_text())
    model, whole, stored = VqImage(path=str(out)), plain(4), load_file(out)
    weights = sum(one.size for name, one in stored.items() if name != "mean")
    told = f"2 of 3 a cell of 4 × 4, each of what those before it leave, cells coded alone; {weights:,} weights in 16 bits |"
    assert f"| what | pictures to tokens and back, {told}" in made and stored["codes"].shape == (2, 3, 6)
    assert 0 < config["order_0_bits"] <= 1.585
    assert len({model.tokens(one).tobytes() for one in whole}) == 4 > len({model.tokens(one)[..., 0].tobytes() for one in whole})
    codes, errors = model.network().codes, np.zeros(2)
    for one in whole:
        tokens = model.tokens(one)
        for few, vectors in enumerate((model.vectors(tokens), codes[0, tokens[..., 0]] + model.network().means[1])):
            errors[few] += np.square(model.pixels(vectors) - one).mean() / 4 / 255 ** 2
    assert errors[0] < 0.04 and errors[0] < 0.5 * errors[1]
    assert 0.2 < errors[0] * 10 ** (config["psnr_db"]["stack.npy"] / 10) < 5


@pytest.mark.sionna
def test_a_masked_model_of_two_tokens_a_cell_learns_and_what_it_writes_runs(folder, pairs):
    """Catches heads, embeddings or targets of the other stage; bits in which a second token has not heard the first, or of weights
    that lay there before; and a card that counts one token a cell.
    """
    settings = GRID.model_copy(update={"tokenizer": str(pairs[0]), "updates": 60})
    before = untrained_grid(folder / "grid-pairs.safetensors", untrained_vq(folder / "drawn.safetensors"))
    assert MaskedGrid(path=before).vocab_size == 16  # remembered until files are looked at again
    made = train_image_masked(settings, [folder / "stack.npy"], folder / "grid-pairs.safetensors")
    config = json.loads((folder / "grid-pairs.json").read_text())
    curve = [one["held_out"] for one in config["curve"]]
    assert min(curve) < 0.6 and abs(config["integer_bits"] / min(curve) - 1) < 0.1  # a bit and a half if nothing is known
    assert "; 3 tokens, 2 a cell, " in made and "| trained for | 60 updates of 2,048 tokens, " in made
    model, tokenizer = MaskedGrid(path=str(folder / "grid-pairs.safetensors")), VqImage(path=str(pairs[0]))
    assert model.tokenizer_digest == tokenizer.tokens_digest
    for one in plain(4):
        tokens = tokenizer.tokens(one)
        message = tokens.copy()
        message[3, 4] = -1
        table, = model.frequencies([message], [np.array([56, 57])])
        assert np.array_equal(table.argmax(axis=1), tokens[3, 4])


def test_bits_set_aside_are_those_of_masked_tokens_given_the_ones_before_them_in_their_cell():
    """Catches bits of tokens that the network was shown, and second tokens asked about without the first; reference: a network that
    copies what it sees, the first token of a cell also to the second, where the two are always equal: log2 of three for the first.
    """
    trainer = GridTrainer.__new__(GridTrainer)
    trainer.architecture = GRID.architecture(stages=2, vocab_size=3)
    tokens = np.repeat(KEY.integers(3, 32, 8, 8, 1), 2, axis=3).astype(np.int32)
    trainer._measured = [tokens]

    def copied(given):
        seen = np.where(given == 3, np.repeat(given[..., :1], 2, axis=3), given)
        seen[..., 0] = given[..., 0]
        return 50.0 * (seen[..., None] == np.arange(3)) * (seen < 3)[..., None]

    assert trainer.bits(copied) == pytest.approx(np.log2(3) / 2)
    assert trainer.bits(lambda given: 50.0 * (tokens[..., None] == np.arange(3))) == pytest.approx(0)


def test_crops_are_halved_in_turn_for_every_collection(monkeypatch):
    """Catches a collection that always has crops of one side, pictures cut below a cell's side, and updates of other sizes."""
    asked = []

    class Pictures:
        def __init__(self, smallest):
            self.smallest = smallest

        def side(self, most):
            return min(most, self.smallest)

        def crops(self, key, count, side):
            asked.append((count, side))
            return np.zeros((count, side // 4, side // 4), np.int32)

    monkeypatch.setattr(image_trainers, "_tokens", lambda network, pictures: pictures)
    trainer = GridTrainer.__new__(GridTrainer)
    trainer._network, trainer.architecture = None, GRID.architecture(stages=1, vocab_size=3)
    trainer.collections = [Pictures(8), Pictures(100)]
    trainer.settings = GRID.model_copy(update={"crop": 16, "batch_pixels": 1024, "sides": 4})
    for number in range(10):
        trainer.batch(KEY.child("update", number), number)
    assert asked[::2] == [(16, 8), (16, 8), (64, 4), (64, 4), (16, 8)]
    assert asked[1::2] == [(4, 16), (16, 8), (64, 4), (64, 4), (4, 16)]


def test_a_card_says_what_was_given_more_than_once():
    """Catches data listed twice, and shares that are not those of the updates."""
    config = json.loads((weights_file.FOLDER / "image-masked-small.json").read_text())
    first, second = config["data"]
    config["data"] = [first, second, second, second]
    card = grid_card(config)
    assert f"`{first['sha256']}`, in 1 of 4 updates; {second['name']}, " in card
    assert card.count(second["sha256"]) == 1 and f"`{second['sha256']}`, in 3 of 4 updates |" in card
    assert f"({first['set_aside']:,}, {second['set_aside']:,})" in card


@pytest.mark.sionna
def test_a_masked_model_learns_and_what_it_writes_runs(folder, tokenizer):
    """Catches targets that are not masked, integers measured on other masks, and a digest of another tokenizer."""
    settings = GRID.model_copy(update={"tokenizer": str(tokenizer[0])})
    made = train_image_masked(settings, [folder / "stack.npy"], folder / "grid.safetensors")
    config = json.loads((folder / "grid.json").read_text())
    curve = [one["held_out"] for one in config["curve"]]
    assert min(curve) < 2 and abs(config["integer_bits"] / min(curve) - 1) < 0.1  # four bits a token if nothing is known
    assert f"{config['integer_bits']:.4f} in the integers" in made
    model = build("masked_models", {"name": "masked_grid", "path": str(folder / "grid.safetensors")}, "scenario.model")
    assert model.tokenizer_digest == VqImage(path=str(tokenizer[0])).tokens_digest
    for one in plain(4):
        tokens = VqImage(path=str(tokenizer[0])).tokens(one)
        message = tokens.copy()
        message[3, 4] = -1
        table, = model.frequencies([message], [np.array([3 * 8 + 4])])
        assert table[0].argmax() == tokens[3, 4]


@pytest.mark.sionna
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2), (1, 8, 16, 2)])
def test_the_loss_is_bits_and_what_the_mean_vector_is_off(shape):
    """Catches a mean of the wrong stage's codes, a variance over other cells, and a weight on the bits; reference: loops."""
    from keras import ops

    key, stages = KEY.child("loss", *shape), shape[3] if len(shape) == 4 else 1
    tokens, logits = key.child("tokens").integers(5, *shape).astype(np.int32), key.child("logits").normal(*shape, 5)
    codes = key.child("codes").normal(stages, 5, 3).astype(np.float32)
    log_shares = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    apart = sum(np.square(one - one.mean(axis=0)).sum(axis=1).mean() for one in codes)
    entropy, off = np.zeros((*shape[:3], stages)), np.zeros((*shape[:3], stages))
    for crop, row, column, stage in np.ndindex(entropy.shape):
        own = log_shares[crop, row, column].reshape(stages, 5)[stage]
        token = tokens[crop, row, column].reshape(stages)[stage]
        around = tokens[crop, max(0, row - 3):row + 4, max(0, column - 3):column + 4].reshape(-1, stages)
        entropy[crop, row, column, stage] = -own[token]
        wrong = np.square(np.exp(own) @ codes[stage] - codes[stage][token]).sum()
        off[crop, row, column, stage] = wrong / (codes[np.arange(stages), around].sum(axis=1).var(axis=0).sum() + 0.002 * apart)
    for weight in (0.0, 1.5):
        found = ops.convert_to_numpy(mean_and_tokens(codes, weight)(tokens, ops.convert_to_tensor(logits.astype(np.float32))))
        assert found.shape == shape
        np.testing.assert_allclose(found, (entropy + weight * off).reshape(shape), rtol=1e-4)


@pytest.mark.parametrize(("name", "made"), [
    ("vq-image", vq_card), ("image-masked-small", grid_card), ("rvq-image", vq_card), ("image-masked-rvq", grid_card)])
def test_a_card_tells_the_best_weights_from_the_whole_training(name, made):
    """Catches a card that says the training ended where its best weights were, and a shipped one that is not of its weights."""
    config = json.loads((weights_file.FOLDER / f"{name}.json").read_text())
    card, best, last = (weights_file.FOLDER / f"{name}.md").read_text(), config["best"], config["curve"][-1]
    assert card == made(config) and best["updates"] <= last["updates"]
    assert f"| best at | {best['updates']:,} updates, {best['cpu_seconds']:,.0f} CPU seconds" in card
    assert f"| trained for | {last['updates']:,} updates of " in card and f", {last['cpu_seconds']:,.0f} CPU seconds |" in card


@pytest.mark.slow
@pytest.mark.sionna
@pytest.mark.parametrize("kind", ["vq", "grid", "vq, two a cell", "grid, two a cell"])
def test_killed_and_resumed_it_is_the_same_training(folder, tmp_path, kind):
    """Catches anything a checkpoint forgets: weights, codes and their means, moments, the number of the update, curve."""
    pairs: dict[str, Any] = {"stages": 2, "alone": True} if "two" in kind else {}
    drawn = untrained_vq(tmp_path / "drawn.safetensors", **pairs)
    settings = VQ.model_copy(update=pairs) if "vq" in kind else GRID.model_copy(update={"tokenizer": drawn})
    train = train_vq_image if "vq" in kind else train_image_masked
    data = [folder / "stack.npy", folder / "files"]
    train(settings, data, tmp_path / "whole.safetensors")
    out = tmp_path / "m.safetensors"
    with pytest.raises(Killed):
        train(settings, data, out, progress=killed_at(47))
    train(settings, data, out, resume=True)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    curves = [json.loads((tmp_path / name).read_text())["curve"] for name in ("whole.json", "m.json")]
    assert [(one["updates"], one["held_out"]) for one in curves[0]] == [(one["updates"], one["held_out"]) for one in curves[1]]
    with pytest.raises(RequestError, match="another channels"):
        train(settings.model_copy(update={"channels": 12}), data, out, resume=True)
    longer = train(settings.model_copy(update={"updates": settings.updates + 10}), data, out, resume=True)
    assert f"| {settings.updates} |" in longer and f"| {settings.updates + 10} |" in longer


def test_a_part_is_set_aside_and_large_pictures_are_halved(folder, tmp_path):
    """Catches pictures that are trained on and measured on, and a halving by leaving pixels out."""
    checks = (np.indices((LARGE, LARGE + 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for number in range(3):
        Image.fromarray(checks).save(tmp_path / f"{number}.png")
    for halve, shape in ((True, (LARGE // 2, LARGE // 2 + 32, 3)), (False, (LARGE, LARGE + 64, 3))):
        large, = read_collections([tmp_path], halve=halve, set_aside_every=2)
        assert {one.shape for one in large.pictures + large.aside} == {shape} and (len(large.pictures), len(large.aside)) == (1, 2)
    halved = read_collections([tmp_path], halve=True, set_aside_every=2)[0].pictures[0]
    assert 100 < halved.min() <= halved.max() < 155  # black and white pixels become grey, not one of them
    stack, = read_collections([folder / "stack.npy"], halve=True, set_aside_every=3)
    assert (len(stack.pictures), len(stack.aside)) == (16, 8) and stack.side(16) == 16 and stack.side(64) == 32


def test_crops_are_any_part_in_any_of_eight_ways(tmp_path):
    """Catches a corner that is never seen, and pictures turned where they should be mirrored."""
    ramp = np.stack(np.broadcast_arrays(np.arange(12)[:, None] * 20, np.arange(10)[None] * 20, 7), axis=2).astype(np.uint8)
    np.save(tmp_path / "two.npy", np.stack([ramp, ramp]))
    one, = read_collections([tmp_path / "two.npy"], halve=True, set_aside_every=2)
    drawn = np.round((one.crops(KEY, 600, 8) + 1) * 127.5).astype(np.uint8)
    corners = {tuple(crop[..., :2].reshape(-1, 2).min(axis=0)) for crop in drawn}
    assert corners == {(20 * i, 20 * j) for i in range(5) for j in range(3)}
    ways = {(tuple(crop[0, 0, :2] > crop[-1, -1, :2]), bool(crop[0, 0, 0] != crop[0, -1, 0])) for crop in drawn}
    assert len(ways) == 8


def test_wrong_requests_are_refused_with_the_cure(folder, tmp_path, capsys):
    """Catches tracebacks and hours of training that end in an error."""
    config = tmp_path / "config.toml"
    for train, text, complaint in ((train_vq_image, "chanels = 3", "chanels"), (train_vq_image, "num_codes = 1", "num_codes"),
                                   (train_vq_image, "crop =", "TOML"), (train_image_masked, "channels = 400", "255"),
                                   (train_image_masked, 'tokenizer = "none.safetensors"', "train vq-image")):
        config.write_text(text)
        with pytest.raises(RequestError, match=complaint):
            train(config, [folder / "stack.npy"], tmp_path / "m.safetensors")
    config.write_text("")
    for command in ("vq-image", "image-masked"):
        assert main(["train", command, "--config", str(config), "--data", str(tmp_path / "none"), "--out", "m.safetensors"]) == 2
        assert "--data must be" in capsys.readouterr().err
    with pytest.raises(RequestError, match="end in .safetensors"):
        train_vq_image(config, [folder / "stack.npy"], tmp_path / "m.bin")
    np.save(tmp_path / "one.npy", plain(1))
    with pytest.raises(RequestError, match="at least two pictures"):
        train_vq_image(config, [tmp_path / "one.npy"], tmp_path / "m.safetensors")


@pytest.mark.sionna
def test_from_the_command_line_it_goes_on_where_it_was_stopped(folder, tmp_path, capsys):
    """Catches options that don't reach the training, and a checkpoint that can't be found."""
    config = tmp_path / "config.toml"
    sizes = "num_codes = 8\nchannels = 4\nfine_channels = 4\ncode_length = 2\ndecoder_blocks = 0\nbatch_pixels = 1024\n"
    out = tmp_path / "own.safetensors"
    request = ["train", "vq-image", "--config", str(config), "--data", str(folder / "stack.npy"), "--data", str(folder / "files"),
               "--out", str(out)]
    for updates, more in ((2, []), (4, ["--resume"])):
        config.write_text(f"{sizes}updates = {updates}\n")
        assert main(request + more) == 0
        assert f"{updates} updates of 1,024 pixels" in capsys.readouterr().out
    model = build("tokenizers", {"name": "vq_image", "path": str(out)}, "scenario.tokenizer")
    assert model.encode(Item(plain(1)[0], "image", "it"), KEY).grid == (8, 8)
    out.with_suffix(".checkpoint").unlink()
    assert main(request + ["--resume"]) == 2 and "leave --resume out" in capsys.readouterr().err
