"""The picture classifier: its integers against float and against brute force, its training, and what ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.models import classifier, weights_file
from sources.models.classifier_network import ClassifierArchitecture, centred, folded
from sources.training.classifier import Settings, read_labelled, train_classifier, varied

SMALL = ClassifierArchitecture(width=3, classes=4)
TINY = Settings(width=3, epochs=2, batch=16, set_aside_every=5)
SHIPPED = weights_file.FOLDER / "image-classifier-small.safetensors"


def drawn(architecture: ClassifierArchitecture, key: Key) -> dict[str, np.ndarray]:
    """Weights of the Keras model as if trained: normalisations that scale, shift and have seen other pictures."""
    weights = architecture.initial(key) | {"head/bias": key.child("bias").normal(architecture.classes).astype(np.float32)}
    for number, one in enumerate(architecture.convolutions):
        parts = {part: key.child(part, number).normal(one.outputs) * 0.2 for part in ("gamma", "beta", "mean", "variance")}
        weights |= {f"normal_{number}/gamma": 1 + parts["gamma"], f"normal_{number}/beta": parts["beta"],
                    f"normal_{number}/moving_mean": parts["mean"], f"normal_{number}/moving_variance": np.exp(parts["variance"])}
    return {name: value.astype(np.float32) for name, value in weights.items()}


def pictures(num: int, label: str = "pictures") -> np.ndarray:
    return Key(3).child(label).integers(256, num, 32, 32, 3).astype(np.uint8)


def by_enumeration(weights: dict[str, np.ndarray], picture: np.ndarray) -> tuple[list[int], list[int]]:
    """(sums of features, logits) in Python's own integers, window by window; logits in units of 16 places times 2^-(10 + bits)."""
    place = [[[(int(value) - 128) * 8 for value in pixel] for pixel in row] for row in picture]
    for number, (size, stride, pooled) in enumerate([(4, 2, False), (3, 1, True), (3, 1, False), (3, 1, True), (3, 1, False)]):
        matrix, bias = weights[f"convolution_{number}"].astype(object), weights[f"convolution_{number}_bias"]
        bits, side, inputs = int(weights[f"convolution_{number}_bits"]), len(place), matrix.shape[2]
        wide = np.zeros((side + 2, side + 2, inputs), object)
        wide[1:-1, 1:-1] = place
        after = np.empty(((side + 2 - size) // stride + 1,) * 2 + (matrix.shape[3],), object)
        for row, column, channel in np.ndindex(after.shape):
            window = wide[row * stride:row * stride + size, column * stride:column * stride + size]
            total = sum((window * matrix[..., channel]).ravel().tolist())
            whole, rest = divmod(total, 1 << bits)
            half = 1 << (bits - 1)
            rounded = whole + (rest > half or (rest == half and whole % 2 == 1))
            after[row, column, channel] = min(max(rounded + int(bias[channel]), 0), (1 << 15) - 1)
        if pooled:
            after = np.maximum.reduce([after[a::2, b::2] for a in (0, 1) for b in (0, 1)])
        place = after.tolist()
    sums = np.array(place, object).sum(axis=(0, 1))
    logits = sums @ weights["head"].astype(object) + weights["head_bias"].astype(object) * (16 << int(weights["head_bits"]))
    return sums.tolist(), logits.tolist()


def test_the_network_is_integer_arithmetic_to_the_last_bit():
    """Catches sums that float64 rounds, an overflow, another padding, stride or pooling, and rounding that is not to even."""
    weights = classifier.quantised(folded(drawn(SMALL, Key(1))))
    network = classifier.Network(weights)
    for picture in (*pictures(1), np.full((32, 32, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8)):
        sums, logits = by_enumeration(weights, picture)
        opinion = network.classify(picture)
        assert opinion.features.tolist() == [one / (16 << 10) for one in sums]
        assert opinion.label == int(np.argmax(logits))


def test_neither_company_nor_threads_change_an_opinion():
    """Catches results that feel other pictures, the order of calls or the threads of BLAS."""
    network = classifier.Network(classifier.quantised(folded(drawn(ClassifierArchitecture(width=16), Key(2)))))
    several = pictures(4)
    first = [network.classify(one) for one in several]
    with threadpool_limits(2):
        again = [network.classify(one) for one in several[::-1]][::-1]
    for one, other in zip(first, again, strict=True):
        assert one.label == other.label and one.features.tobytes() == other.features.tobytes()
    assert len({one.features.tobytes() for one in first}) == 4


@pytest.mark.sionna
def test_integers_say_what_the_trained_network_says():
    """Catches a fold of the normalisations, or a rounding of the weights, that changes what the network says."""
    from keras import ops

    architecture = ClassifierArchitecture(width=8, classes=10)
    weights = drawn(architecture, Key(4))
    model = architecture.build()
    for variable in model.variables:
        variable.assign(weights[variable.path])
    several = pictures(8)
    expected = ops.convert_to_numpy(model(centred(several), training=False))
    plain = folded(weights)
    network = classifier.Network(classifier.quantised(plain))
    for picture, logits in zip(several, expected, strict=True):
        opinion = network.classify(picture)
        found = opinion.features @ plain["head"] + plain["head_bias"]
        np.testing.assert_allclose(found, logits, atol=0.01 * np.ptp(expected))
        assert opinion.label == int(np.argmax(found))


def test_weights_are_rounded_to_sixteen_bits_and_no_coarser():
    """Catches a unit that overflows int16 or throws bits away."""
    plain = folded(drawn(SMALL, Key(5)))
    whole = classifier.quantised(plain)
    for name in ("convolution_0", "convolution_4", "head"):
        unit = 2.0 ** -int(whole[f"{name}_bits"])
        assert whole[name].dtype == np.int16 and 2**14 <= np.abs(whole[name].astype(int)).max() < 2**15
        assert np.abs(whole[name] * unit - plain[name]).max() <= unit


def test_a_varied_picture_is_shifted_flipped_and_nothing_else():
    """Catches a shift that wraps around, one that never reaches its limit, and a flip of the wrong axis."""
    several, key = pictures(200), Key(7)
    seen = varied(several, key, shift_pixels=2)
    wide = np.pad(several, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=128)
    kinds = set()
    for number, picture in enumerate(seen):
        matches = [(down, right, flipped) for down in range(5) for right in range(5) for flipped in (False, True)
                   if np.array_equal(picture, wide[number, down:down + 32, right:right + 32][:, ::-1 if flipped else 1])]
        assert len(matches) == 1
        kinds.update(matches)
    assert len(kinds) == 50


def stack(folder: Path, num: int = 80, **changed: np.ndarray) -> Path:
    """Pictures of two classes that are easy to tell: dark ones and light ones."""
    labels = Key(9).integers(2, num)
    shown = (pictures(num) // 2 + 128 * labels[:, None, None, None].astype(np.uint8)).astype(np.uint8)
    file = folder / "stack.npz"
    np.savez(file, **({"images": shown, "labels": labels} | changed))
    return file


@pytest.mark.sionna
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path):
    """Catches a checkpoint that forgets the optimiser, the order of pictures, the averages or the best weights so far."""
    data = stack(tmp_path)

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    train_classifier(TINY, data, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        train_classifier(TINY, data, tmp_path / "parts.safetensors", progress=interrupt)
    card = train_classifier(TINY, data, tmp_path / "parts.safetensors", resume=True, validation=data)
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()
    assert "bit for bit" in card and "stack.npz, on which nothing was trained or chosen" in card
    longer = TINY.model_copy(update={"epochs": 3})
    card = train_classifier(longer, data, tmp_path / "parts.safetensors", resume=True)
    assert "were 2 from epoch 0 on, 3 from epoch 2 on" in card
    with pytest.raises(RequestError, match="another seed"):
        train_classifier(longer.model_copy(update={"seed": 2}), data, tmp_path / "parts.safetensors", resume=True)


@pytest.mark.sionna
def test_a_training_learns_and_does_not_see_what_it_sets_aside(tmp_path: Path):
    """Catches gradients that do not reach the weights, and pictures that are both trained on and measured on."""
    from sources.training.classifier import Trainer

    data = read_labelled(stack(tmp_path, num=200), "--data")
    settings = TINY.model_copy(update={"epochs": 12, "learning_rate": 1e-2})
    trainer = Trainer(settings, data)
    both = {one.tobytes() for one in trainer.training.pictures} & {one.tobytes() for one in trainer.aside.pictures}
    assert not both and len(trainer.aside) == 40 and len(trainer.training) == 160
    for _ in range(settings.epochs):
        list(trainer.epoch())
    assert trainer.curve[-1].held_out_accuracy > 0.9 > trainer.curve[0].training_loss


@pytest.mark.parametrize(("changed", "said"), [
    ({"images": np.zeros((80, 16, 16, 3), np.uint8)}, r"images must be uint8 \[n, 32, 32, 3\], got uint8 \[80, 16, 16, 3\].*cut"),
    ({"images": np.zeros((80, 32, 32, 3), np.float32)}, "images must be uint8"),
    ({"labels": np.zeros(79, np.int64)}, r"labels must be one integer >= 0 a picture, got int64 \[79\].*number the classes"),
    ({"labels": np.full(80, -1)}, "number the classes from 0"),
    ({"labels": np.array([{}] * 80)}, "must be an .npz with images and labels.*numpy.savez"),
])
def test_data_that_cannot_be_trained_on_are_named(changed: dict[str, np.ndarray], said: str, tmp_path: Path):
    """Catches a traceback, or a training on something else than what was meant."""
    with pytest.raises(RequestError, match=f"--data.*{said}"):
        train_classifier(TINY, stack(tmp_path, **changed), tmp_path / "m.safetensors")
    with pytest.raises(RequestError, match="--data must be an .npz"):
        train_classifier(TINY, tmp_path / "none.npz", tmp_path / "m.safetensors")


def test_what_ships_is_small_and_says_what_it_is():
    """Catches weights above 2 MB, a card of other weights, and a measured figure that is not in the card."""
    config, card = weights_file.read_config(SHIPPED), SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    weights_file.read(SHIPPED, classifier.FORMAT)
    assert SHIPPED.stat().st_size <= 2_000_000
    assert {one["pictures"] for one in config["measured"]} >= {2000}
    for one in config["measured"]:
        assert f"{one['accuracy']:.4f} of {one['pictures']:,}" in card
    assert config["data"]["sha256"] in card and "licence" in card
    assert json.dumps(config["settings"]["licence"]).strip('"') in card
