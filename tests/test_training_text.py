"""Training of text models: it learns, it can be killed and go on, and what it writes runs."""

import json

import numpy as np
import pytest

from channel_sim.checks import RequestError
from scenarios.catalogue import build
from scenarios.cli import main
from sources.bpe import train_bpe
from sources.training.recurrent import Settings
from sources.training.text import train_text

TINY = Settings(tokenizer="bytes", embedding=4, hidden=12, lanes=4, window=16, message_bytes=64, learning_rate=0.02, updates=40,
                updates_per_checkpoint=10)


DATA = b"abcdefgh" * 500


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.txt"
    file.write_bytes(DATA)
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(weights file, card, what progress was told) of a training that was not interrupted."""
    folder, seen = tmp_path_factory.mktemp("whole"), []
    (folder / "data.txt").write_bytes(DATA)
    out = folder / "made" / "m.safetensors"
    made = train_text(TINY, folder / "data.txt", out, progress=lambda done, total: seen.append((done, total)))
    return out, made, seen


class Killed(Exception):
    pass


def killed_at(update):
    def progress(done, total):
        if done == update:
            raise Killed
    return progress


@pytest.mark.sionna
def test_it_learns_and_what_it_writes_runs(whole):
    """Catches a gradient or a schedule that doesn't learn, weights that are not those measured, and a card without its numbers."""
    out, made, seen = whole
    config = json.loads(out.with_suffix(".json").read_text())
    curve = [one["held_out_bits_per_byte"] for one in config["curve"]]
    assert len(curve) == 5 and curve[0] > 7 and curve[-1] < 3.2  # three bits a letter if only the letters are known
    assert config["best"]["held_out_bits_per_byte"] == min(curve) and seen == [(done, 40) for done in range(1, 41)]
    assert abs(config["integer_bits_per_byte"] / min(curve) - 1) < 0.05
    assert f"{config['integer_bits_per_byte']:.4f} in the integers" in made == out.with_suffix(".md").read_text()
    model = build("models", {"name": "recurrent", "path": str(out)}, "scenario.model")
    tables, _ = model.tables(model.start(1), np.frombuffer(b"abcdefgh" * 8, np.uint8))
    bits = -np.log2(tables[np.arange(64), np.frombuffer(b"abcdefgh" * 8, np.uint8)] / 65536).mean()
    assert bits < 4


@pytest.mark.sionna
def test_killed_and_resumed_it_is_the_same_training(whole, data, tmp_path):
    """Catches anything a checkpoint forgets: weights, moments, carried state, place in the data, curve."""
    out = tmp_path / "m.safetensors"
    with pytest.raises(Killed):
        train_text(TINY, data, out, progress=killed_at(27))
    train_text(TINY, data, out, resume=True)
    assert out.read_bytes() == whole[0].read_bytes()
    curves = [json.loads(one.with_suffix(".json").read_text())["curve"] for one in (whole[0], out)]
    assert [one["training_bits_per_token"] for one in curves[0]] == [one["training_bits_per_token"] for one in curves[1]]
    with pytest.raises(RequestError, match="another hidden"):
        train_text(TINY.model_copy(update={"hidden": 13}), data, out, resume=True)


BOTH = TINY.model_copy(update={"reads": "both sides", "merge": 12, "updates": 150, "updates_per_checkpoint": 50})


@pytest.mark.sionna
def test_a_masked_model_learns_and_what_it_writes_runs(data, tmp_path):
    """Catches an export of one direction alone, integers measured on other masks, and a hole that is filled from one side."""
    made = train_text(BOTH, data, tmp_path / "m.safetensors")
    config = json.loads((tmp_path / "m.json").read_text())
    curve = [one["held_out_bits_per_byte"] for one in config["curve"]]
    assert curve[0] > 7 and min(curve) < 1.5 and abs(config["integer_bits_per_byte"] / min(curve) - 1) < 0.05
    assert "masked text model" in made and "given all others" in made
    model = build("masked_models", {"name": "masked", "path": str(tmp_path / "m.safetensors")}, "scenario.model")
    values = np.frombuffer(b"abcdefgh" * 8, np.uint8).astype(np.int32)
    for known in (np.arange(64) < 26, np.arange(64) > 26):
        table, = model.frequencies([np.where(known, values, -1)], [np.array([26])])
        assert table[0].argmax() == ord("c") and table[0].max() > 0.3 * 65536


@pytest.mark.slow
@pytest.mark.sionna
def test_a_masked_training_goes_on_as_if_it_had_not_been_killed(data, tmp_path):
    """Catches masks that depend on when the training was started."""
    for name in ("whole", "m"):
        out = tmp_path / f"{name}.safetensors"
        if name == "m":
            with pytest.raises(Killed):
                train_text(BOTH, data, out, progress=killed_at(77))
        train_text(BOTH, data, out, resume=name == "m")
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.sionna
def test_a_finished_training_goes_on_with_more_updates(data, tmp_path):
    """Catches a schedule that can't be lengthened, and a curve that begins anew."""
    train_text(TINY, data, tmp_path / "m.safetensors")
    longer = train_text(TINY.model_copy(update={"updates": 50}), data, tmp_path / "m.safetensors", resume=True)
    assert "| 0 |" in longer and "| 40 |" in longer and "| 50 |" in longer


@pytest.mark.sionna
def test_the_best_weights_are_kept(data, tmp_path):
    """Catches a product that holds the last weights instead of the best: here training is broken on purpose at the end."""
    from sources.training.recurrent import Trainer

    trainer = Trainer(TINY, data.read_bytes())
    for _ in range(30):
        trainer.update()
    assert trainer.measure()
    best = trainer.weights()
    trainer.model.weight["head"].assign(10 * best["head"])
    assert not trainer.measure() and np.array_equal(trainer.best["head"], best["head"])
    assert trainer.curve[1].held_out_bits_per_byte > trainer.curve[0].held_out_bits_per_byte


@pytest.mark.sionna
def test_a_users_own_vocabulary_travels_with_the_weights(data, tmp_path, capsys):
    """Catches weights that mean other tokens than the vocabulary they were trained on; from the command line, as a user would."""
    train_bpe(data, tmp_path / "own.json", vocab_size=260)
    sizes = "embedding = 4\nhidden = 6\nlanes = 2\nwindow = 8\nmessage_bytes = 64\nupdates = 2\n"
    (tmp_path / "config.toml").write_text(f'vocabulary = "{tmp_path / "own.json"}"\n{sizes}')
    out = tmp_path / "m.safetensors"
    assert main(["train", "text", "--config", str(tmp_path / "config.toml"), "--data", str(data), "--out", str(out)]) == 0
    (tmp_path / "own.json").unlink()
    model = build("models", {"name": "recurrent", "path": str(out)}, "scenario.model")
    assert model.vocab_size == 260 and model.tokenizer().vocab_size == 260
    assert "Model card" in capsys.readouterr().out


def test_wrong_requests_are_refused_with_the_cure(data, tmp_path, capsys):
    """Catches tracebacks and hours of training that end in an error."""
    config = tmp_path / "config.toml"
    for text, complaint in (("hiden = 3", "hiden"), ("hidden = 0", "hidden"), ("hidden =", "TOML"), ("hidden = 4000", "1040"),
                            ("merge = 300", 'merge: means nothing with reads = "past", got 300: leave it out'),
                            ('tokenizer = "bytes"\nvocabulary = "x.json"', 'vocabulary: means nothing with tokenizer = "bytes"')):
        config.write_text(text)
        with pytest.raises(RequestError, match=complaint):
            train_text(config, data, tmp_path / "m.safetensors")
    config.write_text("")
    assert main(["train", "text", "--config", str(tmp_path / "none.toml"), "--data", str(data)]) == 2
    assert main(["train", "text", "--config", str(config), "--data", str(tmp_path / "none"), "--out", "m.safetensors"]) == 2
    assert "--data" in capsys.readouterr().err
    with pytest.raises(RequestError, match="end in .safetensors"):
        train_text(config, data, tmp_path / "m.bin")
    (tmp_path / "short.txt").write_bytes(b"short")
    with pytest.raises(RequestError, match="ten messages"):
        train_text(config, tmp_path / "short.txt", tmp_path / "m.safetensors")


@pytest.mark.sionna
def test_a_missing_or_damaged_checkpoint_is_named(data, tmp_path):
    """Catches a training that starts anew where the user asked to go on."""
    for content in (None, b"", b"\x00" * 64):
        if content is not None:
            (tmp_path / "m.checkpoint").write_bytes(content)
        with pytest.raises(RequestError, match="m.checkpoint.*leave --resume out"):
            train_text(TINY, data, tmp_path / "m.safetensors", resume=True)


def test_the_rate_rises_at_once_and_falls_to_nothing():
    """Catches a rate that starts at 0, passes its highest, or is not at the end of its cosine when the training is."""
    settings = Settings(learning_rate=0.004, warm_up=0.1)
    rates = [settings.rate(done) for done in (0, 0.05, 0.1, 0.5, 0.75, 1)]
    assert 0 < rates[0] < 0.0001 and 0.0019 < rates[1] < 0.0021 and max(rates) == rates[2] < 0.004
    assert np.allclose(rates[3:], [0.002, 0.004 * (1 - 0.5**0.5) / 2, 0], rtol=1e-12, atol=1e-18)


@pytest.mark.sionna
def test_the_clock_can_end_the_schedule(data, tmp_path):
    """Catches a schedule by the clock that never ends or never begins."""
    settings = TINY.model_copy(update={"minutes": 0.02, "updates_per_checkpoint": 5})
    train_text(settings, data, tmp_path / "m.safetensors")
    curve = json.loads((tmp_path / "m.json").read_text())["curve"]
    assert "| repeatable | not bit for bit" in (tmp_path / "m.md").read_text()
    assert curve[-1]["updates"] > 0 and curve[-1]["seconds"] >= 1.2
