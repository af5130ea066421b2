"""The learned denoiser: exact integers in any company, the law of its Gaussian prior, what it learns, and how it goes on."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.fft import dctn, idctn
from threadpoolctl import threadpool_limits

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from scenarios.cli import main
from sources.images import Images
from sources.models import diffusion, fixed_point, weights_file
from sources.models.diffusion import NUM_GROUPS, NUM_KNOTS, Denoiser, DiffusionSmall, LearnedDenoiser, groups
from sources.models.diffusion_network import Architecture, folded, unfolded
from sources.models.diffusion_prior import FIRST_TOLD, LARGEST, NUM_LEVELS, UNIT, GaussianPrior, fitted_prior, quantised, snr
from sources.models.vq_network import NumpyLayers
from sources.training.diffusion import DiffusionSettings, card, left, noisy_pictures, squared_errors, train_diffusion
from sources.training.image_data import Collection

KEY = Key(10)
SMALL = Architecture(fine=12, wide=16, early_blocks=1, coarse_blocks=1, late_blocks=1)
TRAINED = DiffusionSettings(**SMALL.model_dump(), batch=8, updates=12, updates_per_checkpoint=6, set_aside_every=3, memory=0.9,
                            pictures_a_level=4)
COLOUR_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def smooth(key: Key, count: int) -> np.ndarray:
    """float64 [count, 32, 32, 3] from -1 to 1: the power of a coefficient falls with its frequency, as pictures have it."""
    frequency = np.hypot(*np.mgrid[:32, :32])[..., None]
    return np.clip(idctn(key.normal(count, 32, 32, 3) * 4 / (1 + frequency) ** 1.5, axes=(1, 2), norm="ortho"), -1, 1)


@pytest.fixture(scope="module")
def drawn() -> Denoiser:
    """A small denoiser whose weights are as drawn, but loud, so that its answer depends on all of them."""
    weights = SMALL.initial(KEY.child("weights"))
    weights["pixels"] *= 5
    weights |= {name: KEY.child(name).normal(*weights[name].shape) * 0.2 for name in weights if name.endswith("_bias")}
    return Denoiser(diffusion.stored(weights, fitted_prior(smooth(KEY.child("fit"), 64))))


def photographs(count: int) -> np.ndarray:
    """float64 [count, 32, 32, 3]: parts of photographs that nothing was trained on."""
    source = Images(size=32, crop="tile", scale=0.25)
    chosen = np.linspace(0, source.num_items - 1, count).astype(int)
    return np.stack([np.asarray(item.content) for item in source.items(chosen, [KEY] * count)]) / 127.5 - 1


def coefficients(pictures: np.ndarray) -> np.ndarray:
    """float64 of [n, 32, 32, 3], by SciPy's cosine transform."""
    return dctn(pictures, axes=(1, 2), norm="ortho") @ COLOUR_AXES.T


def pixels(spectra: np.ndarray) -> np.ndarray:
    """The inverse of `coefficients`."""
    return idctn(spectra @ COLOUR_AXES, axes=(1, 2), norm="ortho")


@pytest.fixture(scope="module")
def prior() -> GaussianPrior:
    return fitted_prior(smooth(KEY.child("fit"), 64))


def test_levels_are_eighths_of_an_octave():
    """Catches levels that jump where the octave does, and z that is cut where pictures still are."""
    np.testing.assert_allclose(snr(np.arange(NUM_LEVELS)), 2.0 ** (np.arange(NUM_LEVELS) / 8 - 12), rtol=1e-14)
    assert np.array_equal(quantised(np.array([0.5, -1e9, 3e-4, 55.4])), [2048, -LARGEST, 1, 226918])  # white: 32 sqrt(3) = 55.4


def test_what_is_told_of_is_left_at_the_water(prior):
    """Catches precisions of another rule: every coefficient told of is left with 1 / snr, the others with all that they vary.

    A component's turn comes where its variance is FIRST_TOLD times the water, and its precision never falls again.
    """
    before = np.zeros((32, 32, 3))
    for level in range(NUM_LEVELS):
        precisions, water = prior.precisions(level), 2.0 ** (12 - level / 8)
        told = precisions > 0
        np.testing.assert_allclose(1 / (1 / prior.variances + precisions), np.where(told, water, prior.variances), rtol=1e-9)
        np.testing.assert_allclose(prior.remaining(level), np.where(told, water, prior.variances), rtol=1e-9)
        assert np.array_equal(told, prior.variances >= FIRST_TOLD * water * (1 - 1e-12)) and np.all(precisions >= before)
        before = precisions
    assert not prior.precisions(0).any() and told.mean() > 0.9
    assert np.array_equal(prior.precisions(np.array([100, 208]))[1], prior.precisions(208))


def test_coefficients_are_those_of_the_orthonormal_transform_and_go_back(prior):
    """Catches a transform that is not orthonormal, colours in the wrong order, and an inverse that is none."""
    whole = np.rint(smooth(KEY.child("other"), 6) / UNIT)
    found = prior.transformed(whole)
    assert np.abs(found - coefficients(whole)).max() < 12 and np.abs(prior.restored(found) - whole).max() < 8
    assert np.abs(found - prior.means)[:, 0, 0].max() > 1000  # of integers: three units in a thousand of 2^-12 are roundings


def test_a_prior_is_the_gaussian_posterior_of_cosine_coefficients(prior):
    """Catches gains of the wrong amplitude, a mean that is scaled as the picture is not, and what is untold of that has a say.

    The reference is SciPy's transform and the posterior mean of independent Gaussians, in floating point.
    """
    pictures = smooth(KEY.child("other"), 6)
    mean = coefficients(np.broadcast_to(prior.mean * UNIT, (1, 32, 32, 3)))[0]
    power = np.square(coefficients(smooth(KEY.child("fit"), 64)) - mean).mean(0)
    np.testing.assert_allclose(prior.variances, power, rtol=0.05, atol=1e-6)  # of fits, each coefficient in units of 2^-12
    levels = np.array([0, 60, 100, 140, 180, 208])
    noisy = noisy_pictures(prior, pictures, levels, KEY.child("noise"))
    precisions = np.stack([prior.precisions(level) for level in levels])
    told = noisy * UNIT * np.sqrt(precisions * (1 + precisions))  # y, the sum of what was told, weighted by precision
    posterior = (told + mean / prior.variances) / (precisions + 1 / prior.variances)
    expected = pixels(posterior)
    found = prior.estimate(noisy, levels)
    assert np.abs(found.pixels * UNIT - expected).max() < 8 * UNIT
    assert np.abs(found.pixels[3] * UNIT - expected[4]).max() > 60 * UNIT
    white = coefficients(found.white * UNIT)[precisions > 0]
    assert abs(np.square(white).mean() - 1) < 0.15 and np.abs(found.white[0]).max() == 0
    assert np.array_equal(prior.estimate(np.where(precisions > 0, noisy, 12345), levels).white, found.white)


def test_a_prior_expects_the_error_it_makes(prior):
    """Catches an rms of the wrong level or of coefficients where pixels are meant; the negative control is an octave off."""
    for level in (90, 130, 170):
        spectra = KEY.child("draw", level).normal(150, 32, 32, 3) * np.sqrt(prior.variances)
        pictures = pixels(spectra) + prior.mean * UNIT
        levels = np.full(150, level)
        estimate = prior.estimate(noisy_pictures(prior, pictures, levels, KEY.child("noise", level)), levels).pixels * UNIT
        measured = np.sqrt(np.square(estimate - pictures).mean())
        assert abs(measured / prior.rms[level] - 1) < 0.02
        assert abs(measured / prior.rms[level + 8] - 1) > 0.04


def test_folds_are_those_of_the_picture_tokenizer_and_unfold():
    """Catches rows and columns of a square that change places between training, running and going back."""
    some = KEY.child("fold").normal(3, 6, 4, 5)
    assert np.array_equal(folded(some)[:1], NumpyLayers({}).folded(some[:1])) and np.array_equal(unfolded(folded(some)), some)


def test_means_are_the_same_whatever_the_company_and_the_threads(drawn):
    """Catches sums that depend on the batch, its order or the number of threads, at every level and far outside its range."""
    levels = np.linspace(0, NUM_LEVELS - 1, 19).astype(int)
    noisy = quantised(KEY.child("z").normal(19, 32, 32, 3))
    noisy[::6] = np.where(noisy[::6] > 0, LARGEST, -LARGEST)
    noisy[1::6] = LARGEST
    together = drawn.means(noisy, levels)
    assert together.dtype == np.int32 and np.abs(together).max() == 4096
    alone = np.concatenate([drawn.means(one[None], int(level)) for one, level in zip(noisy, levels)])
    assert np.array_equal(together, alone) and np.array_equal(together[::-1], drawn.means(noisy[::-1], levels[::-1]))
    for threads in (1, 2):
        with threadpool_limits(threads):
            parts = [drawn.means(noisy[some], levels[some]) for some in (slice(7), slice(7, None))]
            assert np.array_equal(together, np.concatenate(parts))
    assert drawn.means(noisy[:0], 3).shape == (0, 32, 32, 3)


class Plain:
    """The network once more, in Python's own way: 64-bit integers, sums of shifted places, one picture."""

    def __init__(self, weights: fixed_point.Weights) -> None:
        self.weights = weights

    def sums(self, name: str, given: np.ndarray) -> np.ndarray:
        matrix, scale = self.weights[name].astype(np.int64), self.weights[f"{name}_scale"].astype(np.int64)
        side = 3 if len(matrix) == 9 * given.shape[2] else 1
        height, width, _ = given.shape
        padded = np.pad(given, ((side // 2,) * 2, (side // 2,) * 2, (0, 0)))
        total = np.zeros((height, width, matrix.shape[1]), np.int64)
        for place, kernel in enumerate(matrix.reshape(side * side, given.shape[2], -1)):
            total += padded[place // side:place // side + height, place % side:place % side + width] @ kernel
        return np.clip((total * scale + 2**23) >> 24, -2**16, 2**16) + self.weights[f"{name}_bias"]

    def answer(self, factors: np.ndarray, features: np.ndarray, blocks: dict[str, int]) -> np.ndarray:
        told = self.sums("level", features.reshape(1, 1, -1).astype(np.int64))[0, 0]
        place = skipped = self.sums("near", folded(factors[None])[0].astype(np.int64))
        for name, channels in blocks.items():
            if name == "coarse_0":
                skipped, place = place, self.sums("down", folded(self.cut(place)[None])[0])
            if name == "late_0":
                place = skipped + unfolded(self.sums("up", self.cut(place))[None])[0]
            level, told = told[:channels], told[channels:]
            place = place + self.sums(f"{name}_outer", np.maximum(self.cut(self.sums(f"{name}_inner", self.cut(place)) + level), 0))
        return unfolded(self.sums("pixels", self.cut(place))[None])[0]

    @staticmethod
    def cut(place: np.ndarray) -> np.ndarray:
        return np.clip((place + 4) >> 3, -127, 127)


@pytest.mark.parametrize("sizes", [SMALL, Architecture(fine=115, wide=115, early_blocks=1, coarse_blocks=1, late_blocks=1)])
def test_sums_are_exact_even_the_longest(sizes):
    """Catches products that float32 does not hold exactly, at the largest sizes and weights too, and roundings out of place."""
    weights = sizes.initial(KEY.child("exact"))
    if sizes.fine == 115:  # signs of the weights alone: every product is 127 * 127 or nearly
        weights = {name: np.sign(one) * 0.02 if one.ndim == 2 else one + 0.3 for name, one in weights.items()}
    whole = diffusion.stored(weights, fitted_prior(smooth(KEY.child("fit"), 8)))
    denoiser, level = Denoiser(whole), np.array([170])
    noisy = noisy_pictures(denoiser.prior, smooth(KEY.child("z"), 1), level, KEY.child("noise"))
    told = diffusion.given(denoiser.prior, noisy, level)
    answer = Plain(whole).answer(told.factors[0], diffusion.features(level)[0], denoiser.architecture.blocks)
    scale = denoiser.prior.rms[170] * 2.0**-10 / UNIT
    expected = np.clip(told.estimate[0] + np.rint(answer * scale), -4096, 4096)
    found = denoiser.means(noisy, 170)[0]
    assert np.array_equal(found, expected) and np.abs(answer).max() > 30
    for name, one in denoiser.trained().items():  # rounded to 8 bits
        assert one.shape == weights[name].shape and np.abs(one - weights[name]).max() < np.abs(weights[name]).max() / 200 + 1e-3


def test_what_ships_beats_its_prior_and_knows_its_level():
    """Catches weights of another network, a level that is not heard, and a table of what is left that is not theirs.

    Photographs that nothing was trained on. What is left of coefficients that are told of is within a quarter of what is expected;
    the negative control is what the prior expects, which is more.
    """
    denoiser, pictures = DiffusionSmall().denoiser(), photographs(24)
    for level in (112, 128, 160):
        levels = np.full(len(pictures), level)
        noisy = noisy_pictures(denoiser.prior, pictures, levels, KEY.child("noise", level))
        right, prior = denoiser.means(noisy, level), denoiser.prior.estimate(noisy, levels).pixels
        shuffled = denoiser.means(noisy, levels + 24 * (-1) ** np.arange(len(levels)))
        error, of_prior, of_shuffled = (np.square(one * UNIT - pictures).mean() for one in (right, prior, shuffled))
        assert error < 0.92 * of_prior and error < 0.4 * of_shuffled
        missed = np.square(denoiser.prior.transformed(np.rint(pictures / UNIT) - right) * UNIT).mean(axis=0)
        told = denoiser.prior.precisions(level) > 0
        assert 0.75 < np.mean((missed / denoiser.residual_variances(level))[told]) < 1.25
        assert np.mean((missed / denoiser.prior.remaining(level))[told]) < 0.75


def folder_of(pictures: np.ndarray) -> Collection:
    """Pictures from -1 to 1, all of them set aside."""
    return Collection("some", "", [], list(np.rint((pictures + 1) * 127.5).astype(np.uint8)))


def test_what_is_left_is_what_was_measured(drawn):
    """Catches factors of another level, group or colour, and levels between that are no mixture of their neighbours.

    The network here is noise, so that much more is left than the prior expects. The measured table is held against other pictures
    of the same law, group by group; the negative control is a table that says nothing.
    """
    other = left(drawn, [folder_of(smooth(KEY.child("aside"), 40))], KEY.child("left"), 32)
    assert other.shape == (NUM_KNOTS, NUM_GROUPS) and np.all(other > 0)
    weights = SMALL.initial(KEY.child("weights"))
    measured = Denoiser(diffusion.stored(drawn.trained(), drawn.prior, other))
    assert weights.keys() == drawn.trained().keys()
    for level in (160, 180, 200):
        errors = squared_errors(measured, smooth(KEY.child("new"), 32), level, KEY.child("fresh", level)).mean(axis=0)
        group = groups(drawn.prior, level)
        large = [one for one in np.unique(group) if np.sum(group == one) >= 60]
        assert len(large) >= 4
        for denoiser, agrees in ((measured, True), (drawn, False)):
            expected = denoiser.residual_variances(level)
            ratios = np.array([np.mean(errors[group == one] / expected[group == one]) for one in large])
            assert np.all(np.abs(np.log2(ratios)) < 0.15) == agrees
    halfway = measured.residual_variances(180)
    np.testing.assert_allclose(halfway / drawn.prior.remaining(180), (other[22] / 2 + other[23] / 2)[groups(drawn.prior, 180)],
                               rtol=1e-6)


def test_other_shapes_and_other_files_are_refused(tmp_path, drawn):
    """Catches tracebacks where a picture of another size, another model's weights or a damaged file are given."""
    with pytest.raises(RequestError, match="tiles"):
        drawn.means(np.zeros((1, 16, 32, 3), np.int32), 5)
    with pytest.raises(RequestError, match="denoiser.path of a denoiser must be given.*train diffusion"):
        LearnedDenoiser().denoiser()
    with pytest.raises(RequestError, match="denoiser.path must be weights of a denoiser.*train diffusion"):
        LearnedDenoiser(path=str(tmp_path / "none.safetensors")).denoiser()
    with pytest.raises(RequestError, match="not of format"):
        LearnedDenoiser(path=str(weights_file.FOLDER / "vq-image.safetensors")).denoiser()
    shipped = weights_file.FOLDER / "diffusion-small.safetensors"
    (tmp_path / "d.json").write_bytes(shipped.with_suffix(".json").read_bytes())
    (tmp_path / "d.safetensors").write_bytes(shipped.read_bytes()[:-1] + b"\x55")
    with pytest.raises(RequestError, match="SHA-256"):
        LearnedDenoiser(path=str(tmp_path / "d.safetensors")).digests()


def test_small_pictures_and_wrong_keys_are_refused(tmp_path, capsys):
    """Catches hours of training that end in an error."""
    np.save(tmp_path / "small.npy", np.zeros((4, 24, 40, 3), np.uint8))
    (tmp_path / "c.toml").write_text("fine = 116")
    request = ["train", "diffusion", "--config", str(tmp_path / "c.toml"), "--data", str(tmp_path / "small.npy"), "--out",
               str(tmp_path / "d.safetensors")]
    assert main(request) == 2 and "fine" in capsys.readouterr().err
    (tmp_path / "c.toml").write_text("")
    assert main(request) == 2 and "32 pixels a side" in capsys.readouterr().err


def test_the_card_is_that_of_its_weights():
    """Catches a card that was not made anew with the weights, and a table that is not of every level measured."""
    config = json.loads((weights_file.FOLDER / "diffusion-small.json").read_text())
    assert (weights_file.FOLDER / "diffusion-small.md").read_text() == card(config)
    assert (weights_file.FOLDER / "diffusion-small.safetensors").stat().st_size < 3e6
    by_level = {row["level"]: row for row in config["denoising"]}
    assert all(by_level[level]["network_db"] > by_level[level]["gaussian_db"] + 0.4 for level in by_level if 112 <= level <= 176)


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """A training that was not interrupted: its data, its weights and its trainer."""
    folder = tmp_path_factory.mktemp("diffusion")
    pictures = np.rint((smooth(KEY.child("train"), 24) + 1) * 127.5).astype(np.uint8)
    np.save(folder / "stack.npy", pictures)
    train_diffusion(TRAINED, [folder / "stack.npy"], folder / "whole.safetensors")
    yield {"data": [folder / "stack.npy"], "out": folder / "whole.safetensors", "folder": folder}


@pytest.mark.slow
@pytest.mark.sionna
def test_killed_and_resumed_it_is_the_same_training(trained):
    """Catches anything a checkpoint forgets: weights and their means, moments, the number of the update, curve."""
    def die(done: int, total: int) -> None:
        if done == 8:
            raise Killed

    out = trained["folder"] / "again.safetensors"
    with pytest.raises(Killed):
        train_diffusion(TRAINED, trained["data"], out, progress=die)
    train_diffusion(TRAINED, trained["data"], out, resume=True)
    assert out.read_bytes() == trained["out"].read_bytes()
    curves = [json.loads(one.with_suffix(".json").read_text())["curve"] for one in (out, trained["out"])]
    assert [(one["updates"], one["held_out"]) for one in curves[0]] == [(one["updates"], one["held_out"]) for one in curves[1]]
    with pytest.raises(RequestError, match="another fine"):
        train_diffusion(TRAINED.model_copy(update={"fine": 8}), trained["data"], out, resume=True)


@pytest.mark.slow
@pytest.mark.sionna
def test_another_training_goes_on_from_its_weights(trained):
    """Catches a start that is drawn all the same, and weights of other sizes that are taken."""
    from sources.training.diffusion import DiffusionTrainer

    settings = TRAINED.model_copy(update={"start": str(trained["out"])})
    collection = folder_of(smooth(KEY.child("train"), 6))
    collection = Collection("some", "", collection.aside, collection.aside)
    found = DiffusionTrainer(settings, [collection]).weights()
    for name, one in LearnedDenoiser(path=str(trained["out"])).denoiser().trained().items():
        assert np.array_equal(found[name], one)
    with pytest.raises(RequestError, match="start must be weights of the sizes that are set.*'"):
        DiffusionTrainer(settings.model_copy(update={"fine": 16}), [collection])


@pytest.mark.slow
@pytest.mark.sionna
def test_running_means_are_those_of_the_weights(tmp_path):
    """Catches means that lag by more than they should, that start from 0, and a training that is measured by other weights."""
    from sources.training.diffusion import DiffusionTrainer
    from sources.training.image_data import Collection

    pictures = list(np.rint((smooth(KEY.child("train"), 6) + 1) * 127.5).astype(np.uint8))
    trainer = DiffusionTrainer(TRAINED, [Collection("some", "", pictures, pictures)])
    mean = np.zeros(())
    for number in range(12):
        before, memory = trainer.weights()["near"], min(TRAINED.memory, number / (number + 9))
        mean = memory * mean + (1 - memory) * before
        trainer.update()
    np.testing.assert_allclose(trainer.weights()["mean_near"], mean, rtol=1e-5, atol=1e-7)
    assert np.abs(mean - trainer.weights()["near"]).max() > 1e-4
    held_out = trainer.held_out()
    for name in SMALL.shapes():
        trainer.model.weight[name].assign(0 * trainer.model.weight[name])
    assert trainer.held_out() == held_out


@pytest.mark.slow
@pytest.mark.sionna
def test_integers_lose_little_to_the_network_that_was_trained():
    """Catches integers of another unit, a rounding that costs, and equations that differ: the shipped weights in Keras."""
    import safetensors.numpy

    from sources.models.diffusion_network import network

    file = weights_file.FOLDER / "diffusion-small.safetensors"
    whole, denoiser, pictures = safetensors.numpy.load(file.read_bytes()), DiffusionSmall().denoiser(), photographs(24)
    model = network(denoiser.architecture)
    for name, shape in denoiser.architecture.shapes().items():
        plain = whole[name] * 2.0**-10
        if not name.endswith("_bias"):
            plain = whole[name] * whole[f"{name}_scale"] * 2.0**(7 - 10 - 24)
        model.state[f"mean_{name}"].assign(plain.reshape(shape))
    for level in (60, 120, 180, 208):
        levels = np.full(len(pictures), level)
        noisy = noisy_pictures(denoiser.prior, pictures, levels, KEY.child("noise", level))
        told = diffusion.given(denoiser.prior, noisy, levels)
        answer = np.asarray(model.predict_on_batch((told.factors / 128, diffusion.features(levels) / 128)))
        exact = np.clip(told.estimate * UNIT + answer * denoiser.prior.rms[level], -1, 1)
        errors = [np.square(one - pictures).mean() for one in (exact, denoiser.means(noisy, level) * UNIT)]
        assert abs(10 * np.log10(errors[1] / errors[0])) < 0.02
