"""Training of the denoiser of 32x32 pictures, from pictures to weights that ship: what `channel-sim train diffusion` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.models import diffusion
from sources.models.diffusion import LEVELS_A_KNOT, NUM_GROUPS, NUM_KNOTS, Denoiser, LearnedDenoiser, features, given, groups
from sources.models.diffusion_network import SIDE, Architecture, network
from sources.models.diffusion_prior import NUM_LEVELS, UNIT, GaussianPrior, fitted_prior, quantised
from sources.models.stored import save_weights
from sources.training.image_cards import held_out, page, training_facts
from sources.training.image_data import Collection, crops, read_collections
from sources.training.images import Product
from sources.training.schedule import Progress
from sources.training.text import thinned
from sources.training.trainer import DrawnSettings, Trainer, training_key

_FITTED_PICTURES = 4096
_MEASURED_PICTURES = 120
_MIDDLE_LEVELS = (92, 168)  # SNR 2^-.5 to 2^9, some .1 to 2 bits a pixel; half of the pictures are drawn from there
_LOWEST_LEVEL = 40  # below it next to nothing is told of a picture
_FACTOR_UNIT = 2.0**-7
MEASURED_LEVELS = tuple(range(64, NUM_LEVELS, 16))


class DiffusionSettings(Architecture, DrawnSettings):
    """Settings of a denoiser's training."""

    batch: int = Field(32, ge=1, description="pictures of an update, each at a noise level of its own")
    pictures_a_level: int = Field(640, ge=1, description="crops of the part set aside by which what is left is measured at a level")
    start: str | None = Field(None, description="weights to start from, of a training of the same sizes; default: drawn ones")
    memory: float = Field(0.998, ge=0, lt=1, description="part that an update leaves of the running means of weights, which ship")

    def architecture(self) -> Architecture:
        return Architecture(**{name: getattr(self, name) for name in Architecture.model_fields})


def train_diffusion(config: Path | DiffusionSettings, data: Sequence[Path], out: Path, *, resume: bool = False,
                    progress: Progress | None = None) -> str:
    """Train a denoiser of 32x32 RGB pictures and return its model card.

    `data`: pictures, folders of them, or stacks uint8 [n, H, W, 3], of 32 pixels a side or more; updates take them in turn. Files
    and errors as in `train_vq_image`.
    """
    settings = config if isinstance(config, DiffusionSettings) else DiffusionSettings.read(config)
    return _DiffusionProduct(DiffusionTrainer, settings, data, out).make(resume, progress)


class DiffusionTrainer(Trainer):
    """The training: crops of one collection an update, the collections in turn, each with its own noise at its own level.

    What is predicted is the error of the Gaussian prior's estimate, over what that prior expects of it: about 1 at every level, so
    that a loss below 1 is what the network adds to a Gaussian model.
    """

    settings: DiffusionSettings

    def __init__(self, settings: DiffusionSettings, collections: Sequence[Collection]) -> None:
        self.settings, self.collections, self.architecture = settings, collections, settings.architecture()
        key = training_key(settings)
        share = -(-_FITTED_PICTURES // len(collections))
        self.prior = fitted_prior(np.concatenate(
            [one.crops(key.child("prior", place), share, SIDE) for place, one in enumerate(collections)]))
        model = network(self.architecture, settings.precision, settings.memory)
        super().__init__(settings, model, self._initial(key.child("weights")), "mse")
        self._measured = [self._examples(*one) for one in self.measured()]

    def _initial(self, key: Key) -> dict[str, np.ndarray]:
        if self.settings.start is None:
            return self.architecture.initial(key)
        weights = LearnedDenoiser(path=self.settings.start).denoiser().trained()
        if {name: one.shape for name, one in weights.items()} != self.architecture.shapes():
            raise RequestError(f"start must be weights of the sizes that are set ({self.architecture}), got "
                               f"{self.settings.start!r}; set its sizes, or leave start out")
        return weights

    def batch(self, key: Key, number: int) -> tuple[Any, ...]:
        count = self.settings.batch
        pictures = self.collections[number % len(self.collections)].crops(key, count, SIDE)
        place = (np.arange(count) + key.child("level").uniform(count)) / count  # spread evenly over a batch
        first, last = _MIDDLE_LEVELS
        anywhere = _LOWEST_LEVEL + place * (NUM_LEVELS - _LOWEST_LEVEL)
        levels = np.where(key.child("middle").uniform(count) < 0.5, first + place * (last - first), anywhere)
        return self._examples(pictures, levels.astype(np.int64), key.child("noise"))

    def held_out(self) -> float:
        """Mean squared error over what the Gaussian prior expects, of the running means of weights; over levels and collections."""
        return float(np.mean([np.square(np.asarray(self.model.predict_on_batch(inputs)) - targets).mean()
                              for inputs, targets in self._measured]))

    def measured(self) -> list[tuple[np.ndarray, np.ndarray, Key]]:
        """(pictures float32 [n, 32, 32, 3], levels [n], key of the noise) of the part of each collection set aside."""
        levels = np.resize(MEASURED_LEVELS, _MEASURED_PICTURES)
        return [(crops(one.aside, self.key.child("measure", place), len(levels), SIDE), levels, self.key.child("noise", place))
                for place, one in enumerate(self.collections)]

    def _examples(self, pictures: np.ndarray, levels: np.ndarray, key: Key) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """((what the network is given, features of the levels), what it is to say), from the integers that run."""
        told = given(self.prior, noisy_pictures(self.prior, pictures, levels, key), levels)
        left = (pictures - told.estimate * UNIT) / self.prior.rms[levels, None, None, None]
        return (told.factors * np.float32(_FACTOR_UNIT), features(levels) * np.float32(_FACTOR_UNIT)), left.astype(np.float32)


class _DiffusionProduct(Product):
    trainer: DiffusionTrainer

    def read(self, data: Sequence[Path], settings: DiffusionSettings) -> list[Collection]:
        found = read_collections(data, halve=settings.halve, set_aside_every=settings.set_aside_every)
        for one in found:
            small = sum(min(picture.shape[:2]) < SIDE for picture in one.pictures + one.aside)
            if small:
                raise RequestError(f"--data must hold no picture of less than {SIDE} pixels a side, got {small} in {one.name!r}; "
                                   "take them away, or set halve = false")
        return found

    def export(self, finished: bool) -> str:
        trainer = self.trainer
        means = {name: trainer.best[f"mean_{name}"] for name in trainer.architecture.shapes()}
        config = self.description(architecture=trainer.architecture.model_dump(), integer_error=None, denoising=[])
        if trainer.settings.start is not None:
            config["start_sha256"] = LearnedDenoiser(path=trainer.settings.start).digests()["path"]
            config["settings"]["start"] = Path(trainer.settings.start).name
        weights = diffusion.stored(means, trainer.prior)
        if finished:
            denoiser = Denoiser(weights)
            config["integer_error"] = round(self._error(denoiser), 5)
            config["denoising"] = denoising(denoiser, trainer.measured())
            measured = left(denoiser, trainer.collections, trainer.key.child("left"), trainer.settings.pictures_a_level)
            weights = diffusion.stored(means, trainer.prior, measured)
        save_weights(self.out, weights, config, diffusion.FORMAT)
        text = card(config)
        self.out.with_suffix(".md").write_text(text, encoding="utf-8")
        return text

    def _error(self, denoiser: Denoiser) -> float:
        """What `held_out` is, from the integers that were exported."""
        prior, errors = denoiser.prior, []
        for pictures, levels, key in self.trainer.measured():
            means = denoiser.means(noisy_pictures(prior, pictures, levels, key), levels)
            errors.append(np.square((means * UNIT - pictures) / prior.rms[levels, None, None, None]).mean())
        return float(np.mean(errors))


def left(denoiser: Denoiser, collections: Sequence[Collection], key: Key, count: int) -> np.ndarray:
    """float64 [NUM_KNOTS, NUM_GROUPS]: squared error of coefficients over what the prior expects, of crops of the part set aside.

    As many crops of each collection, `count` in all, at every level that is measured, from the first on that tells anything. A
    group that no coefficient is in at a level takes the value of the nearest levels at which there is one; 1 where there is none.
    """
    share = -(-count // len(collections))
    prior, found = denoiser.prior, np.full((NUM_KNOTS, NUM_GROUPS), np.nan)
    for knot in range(NUM_KNOTS):
        level, place = knot * LEVELS_A_KNOT, key.child("knot", knot)
        if not prior.precisions(level).any():
            continue
        pictures = np.concatenate([crops(one.aside, place.child("crops", number), share, SIDE)
                                   for number, one in enumerate(collections)])
        relative = squared_errors(denoiser, pictures, level, place.child("noise")).mean(axis=0) / prior.remaining(level)
        group = groups(prior, level)
        for one in np.unique(group):
            found[knot, one] = relative[group == one].mean()
    knots = np.arange(NUM_KNOTS)
    for column in found.T:
        known = ~np.isnan(column)
        column[:] = np.interp(knots, knots[known], column[known]) if known.any() else 1.0
    return found


def squared_errors(denoiser: Denoiser, pictures: np.ndarray, level: int, key: Key) -> np.ndarray:
    """float64 [n, 32, 32, 3]: (x_i - mean_i)^2 of coefficients, of pictures float [n, 32, 32, 3] from -1 to 1 in fresh noise."""
    means = denoiser.means(noisy_pictures(denoiser.prior, pictures, np.full(len(pictures), level), key), level)
    return np.square(denoiser.prior.transformed(np.rint(pictures / UNIT) - means) * UNIT)


def denoising(denoiser: Denoiser, sets: Sequence[tuple[np.ndarray, np.ndarray, Key]]) -> list[dict[str, float]]:
    """A row for each level: PSNR in dB of means and of the Gaussian prior's estimates, cut to what pixels can be."""
    pictures = np.concatenate([one for one, _, _ in sets])
    levels = np.concatenate([one for _, one, _ in sets])
    noisy = np.concatenate([noisy_pictures(denoiser.prior, *one) for one in sets])
    found = {"network_db": denoiser.means(noisy, levels), "gaussian_db": denoiser.prior.estimate(noisy, levels).pixels}
    errors = {name: np.square(np.clip(one * UNIT, -1, 1) - pictures).mean(axis=(1, 2, 3)) for name, one in found.items()}
    return [{"level": int(level), **{name: round(float(10 * np.log10(4 / one[levels == level].mean())), 2)
                                     for name, one in errors.items()}} for level in np.unique(levels)]


def card(config: dict[str, Any]) -> str:
    """The model card of a training, from its .json."""
    architecture = Architecture(**config["architecture"])
    weights = sum(int(np.prod(shape)) for shape in architecture.shapes().values())
    cut = "" if config["integer_error"] is None else ", cut to pixels' range"
    measured = held_out(config, "integer_error") + cut
    facts = {
        "what": f"posterior mean of {SIDE}x{SIDE} RGB pixels in water-filled noise, of {NUM_LEVELS} levels; "
                f"{weights:,} weights in 8 bits, running means over updates",
        **training_facts(config, f"{config['settings']['batch']} pictures"),
        **({"started from": f"weights of an earlier training, SHA-256 `{config['start_sha256']}`"} if "start_sha256" in config
           else {}),
        "squared error, that which a Gaussian prior expects being 1": f"{measured}; crops of the part set aside",
        "not for": "other sizes but in tiles that know nothing of one another; the mean of what is plausible is not what was",
    }
    rows = [f"| {one['updates']:,} | {one['cpu_seconds']:,.0f} | {one['training']:.4f} | {one['held_out']:.4f} |"
            for one in thinned(config["curve"])]
    heads = "| updates | CPU seconds | training, loss | set aside |"
    text = page("denoiser of pictures", facts, [heads, "|---|---|---|---|", *rows], "diffusion", config)
    table = [f"| {one['level']} | {one['level'] / 8 - 12:g} | {one['network_db']:.2f} | {one['gaussian_db']:.2f} |"
             for one in config["denoising"]]
    if not table:
        return text
    heads = "| level | log2 of SNR | this network | its Gaussian prior alone |"
    return "\n".join([text, "## PSNR in dB on the part set aside, by the integers that run", "", heads, "|---|---|---|---|",
                      *table, ""])


def noisy_pictures(prior: GaussianPrior, pictures: np.ndarray, levels: np.ndarray, key: Key) -> np.ndarray:
    """z int32, unit 2^-12: coefficients of pictures float [n, 32, 32, 3] from -1 to 1 with noise of the `levels` [n]."""
    precisions = prior.precisions(levels)
    noisy = np.sqrt(precisions) * prior.transformed(np.rint(pictures / UNIT)) * UNIT + key.normal(*pictures.shape)
    return quantised(noisy / np.sqrt(1 + precisions))
