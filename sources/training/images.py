"""Training of the picture models, from pictures to weights that ship: what `channel-sim train vq-image` and `image-masked` do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from channel_sim.checks import RequestError
from sources import vq_image
from sources.models import fixed_point, masked_grid
from sources.models.stored import save_weights
from sources.models.trained import forget
from sources.training.image_cards import grid_card, vq_card
from sources.training.image_data import Collection, read_collections
from sources.training.image_trainers import GridSettings, GridTrainer, VqSettings, VqTrainer
from sources.training.schedule import Progress, conduct
from sources.training.trainer import Trainer

_MOST_MEASURED = 256


def train_vq_image(config: Path | VqSettings, data: Sequence[Path], out: Path, *, resume: bool = False,
                   progress: Progress | None = None) -> str:
    """Train a picture tokenizer and return its model card.

    `data`: pictures, folders of them, or stacks uint8 [n, H, W, 3]; updates take them in turn. Writes `out` (.safetensors), its
    settings and learning curve (.json) and its model card (.md) whenever the part of the data set aside comes out better than ever
    before; and a checkpoint (.checkpoint), from which `resume` goes on, also after the end with more `updates` or `minutes`.
    RequestError where a setting is impossible or the data can't be read.
    """
    settings = config if isinstance(config, VqSettings) else VqSettings.read(config)
    return _VqProduct(VqTrainer, settings, data, out).make(resume, progress)


def train_image_masked(config: Path | GridSettings, data: Sequence[Path], out: Path, *, resume: bool = False,
                       progress: Progress | None = None) -> str:
    """Train a masked model of a picture tokenizer's tokens and return its model card; files and errors as in `train_vq_image`."""
    settings = config if isinstance(config, GridSettings) else GridSettings.read(config)
    return _GridProduct(GridTrainer, settings, data, out).make(resume, progress)


class Product(ABC):
    """A training and the files that come of it; unit: what the data are counted in."""

    packages: ClassVar[tuple[str, ...]] = ("channel-sim", "keras", "numpy", "pillow")
    unit: str = "pictures"

    def __init__(self, trainer: Callable[..., Any], settings: Any, data: Sequence[Path], out: Path) -> None:
        self.out, self._checkpoint = Path(out), Path(out).with_suffix(".checkpoint")
        if self.out.suffix != ".safetensors":
            raise RequestError(f"--out must end in .safetensors, got {str(out)!r}; settings and model card are written beside it")
        self.collections = self.read(data, settings)
        self.trainer: Trainer = trainer(settings, self.collections)

    def read(self, data: Sequence[Path], settings: Any) -> list[Collection]:
        """What the paths hold."""
        return read_collections(data, halve=settings.halve, set_aside_every=settings.set_aside_every)

    @abstractmethod
    def export(self, finished: bool) -> str:
        """Write the best weights, settings and card; the card. What was exported is measured anew once it is finished."""

    def make(self, resume: bool, progress: Progress | None) -> str:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            return self._make(resume, progress)
        except OSError as error:
            raise RequestError(f"--out must be a file that can be written, got {str(self.out)!r} ({error.strerror})") from error

    def _make(self, resume: bool, progress: Progress | None) -> str:
        trainer = self.trainer
        if resume:
            trainer.load(self._checkpoint)
        else:
            trainer.save(self._checkpoint)
        conduct(trainer, self._checkpoint, lambda: self.export(finished=False), progress)
        return self.export(finished=True)

    def description(self, **facts: Any) -> dict[str, Any]:
        """What stands in the .json beside the weights."""
        trainer = self.trainer
        data = [{"name": one.name, self.unit: len(one.pictures), "set_aside": len(one.aside), "sha256": one.sha256}
                for one in self.collections]
        return {
            **facts, "settings": trainer.settings.model_dump(), "data": data, "licence": trainer.settings.licence,
            "best": asdict(min(trainer.curve, key=lambda one: one.held_out)), "curve": [asdict(one) for one in trainer.curve],
            "versions": {one: version(one) for one in self.packages},
        }


class _VqProduct(Product):
    trainer: VqTrainer

    def export(self, finished: bool) -> str:
        weights = dict(self.trainer.best)
        use = weights.pop("use")
        del weights["sums"]
        share = use / use.sum(axis=1, keepdims=True)
        weights["mean"] = np.einsum("sc,scl->sl", share, weights["codes"])
        bits = float(-(share * np.log2(np.maximum(share, 1e-12))).sum(axis=1).mean())
        config = self.description(architecture=self.trainer.architecture.model_dump(), order_0_bits=round(bits, 3))
        vq_image.save_network(self.out, weights, config)
        if finished:
            config["psnr_db"] = {one.name: round(self._psnr_db(one.aside), 2) for one in self.collections}
            vq_image.save_network(self.out, weights, config)
        card = vq_card(config)
        self.out.with_suffix(".md").write_text(card, encoding="utf-8")
        return card

    def _psnr_db(self, pictures: Sequence[np.ndarray]) -> float:
        """Of the mean squared error over whole pictures, as whoever uses the weights decodes them."""
        tokenizer = vq_image.VqImage(path=str(self.out))
        squares, pixels = 0.0, 0
        for one in pictures[:_MOST_MEASURED]:
            decoded = tokenizer.pixels(tokenizer.vectors(tokenizer.tokens(one)))[:one.shape[0], :one.shape[1]]
            squares += float(np.square(np.round(decoded) - one).sum())
            pixels += one.size
        return float(10 * np.log10(255 ** 2 * pixels / max(squares, 1e-9)))


class _GridProduct(Product):
    trainer: GridTrainer

    def export(self, finished: bool) -> str:
        trainer = self.trainer
        config = self.description(architecture=trainer.architecture.model_dump(),
                                  tokenizer={"name": "vq_image", "tokens_sha256": trainer.tokenizer_digest}, integer_bits=None)
        weights = fixed_point.quantise(trainer.best)
        save_weights(self.out, weights, config, masked_grid.FORMAT)
        if finished:
            config["integer_bits"] = round(trainer.bits(self._logits), 5)
            save_weights(self.out, weights, config, masked_grid.FORMAT)
        card = grid_card(config)
        self.out.with_suffix(".md").write_text(card, encoding="utf-8")
        return card

    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        """float64 [..., vocab_size] of tokens with masks, from the integers that were exported; 0 where nothing is asked."""
        forget()  # what lay there before
        model = masked_grid.MaskedGrid(path=str(self.out))
        messages = list(np.where(tokens == self.trainer.architecture.mask, -1, tokens))
        asked = [np.flatnonzero(one < 0) for one in messages]
        found = np.zeros((len(tokens), tokens[0].size, model.vocab_size))
        for row, places, table in zip(found, asked, model.frequencies(messages, asked)):
            row[places] = np.log(table)
        return found.reshape(*tokens.shape, -1)
