"""Training of byte models of pictures and sounds, from data to weights that ship: what `channel-sim train bytes` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from sources.audio import Audio
from sources.models import neighbourhood
from sources.models.neighbourhood_network import MIDDLE, PREDICTOR_BITS, Architecture, given, layout, network
from sources.models.stored import save_weights
from sources.training.checkpoints import as_array
from sources.training.image_cards import held_out, page, training_facts
from sources.training.image_data import Collection, read_collections
from sources.training.images import Product
from sources.training.schedule import Progress
from sources.training.text import thinned
from sources.training.trainer import DrawnSettings, Trainer, training_key

_FITTED_CHUNKS = 256
_FITTINGS = 8
_MEASURED_CHUNKS = 64
_DRAWN_FROM_CHUNK = 128  # bytes that an update takes of each chunk


class NeighbourhoodSettings(Architecture, DrawnSettings):
    """Settings of a byte model's training."""

    chunk_bytes: int = Field(2048, ge=2, description="bytes of a part that is coded alone; in a picture whole rows of `width`")
    batch: int = Field(4096, ge=1, description="bytes of an update")

    def architecture(self) -> Architecture:
        return Architecture(**{name: getattr(self, name) for name in Architecture.model_fields})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a chunk: (rows, width) of a picture, (samples,) of a sound."""
        return (max(1, self.chunk_bytes // self.width), self.width) if self.width else (self.chunk_bytes,)


def train_bytes(config: Path | NeighbourhoodSettings, data: Sequence[Path], out: Path, *, resume: bool = False,
                progress: Progress | None = None) -> str:
    """Train a byte model and return its model card.

    `data`: pictures, folders of them or stacks, made grey; with `width` = 0 sounds or folders of them, mixed to one channel of 8
    bits; updates take them in turn. Files and errors as in `train_vq_image`.
    """
    settings = config if isinstance(config, NeighbourhoodSettings) else NeighbourhoodSettings.read(config)
    return _NeighbourhoodProduct(NeighbourhoodTrainer, settings, data, out).make(resume, progress)


def chunks(passages: Sequence[np.ndarray], key: Key, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [count, bytes]: parts of that shape of pictures [H, W] or sounds [n], each passage as often as it is large.

    Pictures are mirrored and turned in any of the eight ways, where they are large enough lying down; of half of the sounds the
    sign is changed.
    """
    size = np.cumsum([one.size for one in passages])
    which = np.searchsorted(size, key.child("passage").uniform(count) * size[-1], side="right")
    ways, places = key.child("way").integers(8, count), key.child("place").uniform(count, len(shape))
    taken = np.empty((count, *shape), np.uint8)
    for row, number, way, place in zip(taken, which, ways, places):
        one = passages[number]
        if len(shape) == 2:
            one = one.T if way >= 4 and one.shape[0] >= shape[1] and one.shape[1] >= shape[0] else one
            one = one[::-1 if way & 1 else 1, ::-1 if way & 2 else 1]
        first = [int(part * (whole - side + 1)) for part, whole, side in zip(place, one.shape, shape)]
        row[:] = one[tuple(slice(start, start + side) for start, side in zip(first, shape))]
        if len(shape) == 1 and way & 1:
            row[:] = 255 - row
    return taken.reshape(count, -1)


class NeighbourhoodTrainer(Trainer):
    """The training: every update takes chunks of one collection, the collections in turn, and some bytes of each."""

    settings: NeighbourhoodSettings

    def __init__(self, settings: NeighbourhoodSettings, collections: Sequence[Collection]) -> None:
        import keras

        self.collections, self.architecture = collections, settings.architecture()
        self._layout = layout(tuple((up, right) for up, right in self.architecture.places.tolist()), settings.width)
        super().__init__(settings, network(self.architecture, settings.precision),
                         self.architecture.initial(training_key(settings).child("weights")),
                         keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.measured = [chunks(one.aside, self.key.child("aside", place), _MEASURED_CHUNKS, settings.shape)
                         for place, one in enumerate(collections)]
        self.model.state["predictor"].assign(self._fitted(self.key.child("predictor")))
        self.best = self.weights()

    def batch(self, key: Key, number: int) -> tuple[np.ndarray, ...]:
        size = self.settings.shape
        drawn = min(_DRAWN_FROM_CHUNK, self.settings.batch, int(np.prod(size)))
        parts = self._chunks(key, number, -(-self.settings.batch // drawn))
        return self._examples(parts, key.child("position").integers(parts.shape[1], len(parts), drawn))

    def held_out(self) -> float:
        """Bits a byte of chunks of the part set aside, averaged over the collections."""
        costs = []
        for parts in self.measured:
            everywhere = np.broadcast_to(np.arange(parts.shape[1]), (1, parts.shape[1]))
            for part in parts:
                inputs, targets = self._examples(part[None], everywhere)
                logits = np.asarray(self.model.predict_on_batch(inputs)).astype(np.float64)
                logits -= logits.max(axis=1, keepdims=True)
                costs.append(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(targets.size), targets]))
        return float(np.mean(costs) / np.log(2))

    def _chunks(self, key: Key, number: int, count: int) -> np.ndarray:
        return chunks(self.collections[number % len(self.collections)].pictures, key, count, self.settings.shape)

    def _neighbours(self, parts: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(neighbours [n, places], inside [n, places], bytes [n]) at `positions` [chunks, m] of parts [chunks, bytes]."""
        near = self._layout
        padded = np.pad(parts, ((0, 0), (near.reach, 0)), constant_values=MIDDLE)
        rows = near.row(positions)
        there = positions[..., None] + near.reach - near.distance[rows]
        neighbours = padded[np.arange(len(parts))[:, None, None], there]
        num_places = neighbours.shape[-1]
        values = np.take_along_axis(parts, positions, axis=1)
        return neighbours.reshape(-1, num_places), near.inside[rows].reshape(-1, num_places), values.reshape(-1)

    def _examples(self, parts: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(what the network is given, what is left of each byte int32 [n])"""
        neighbours, inside, values = self._neighbours(parts, positions)
        predictor = as_array(self.model.state["predictor"]).astype(np.int32)
        factors, base = given(neighbours, inside, predictor, self.settings.fine)
        return factors, (values - base) & 255

    def _fitted(self, key: Key) -> np.ndarray:
        """float32 [places], whole numbers: the linear predictor of least absolute error, by reweighted least squares."""
        pieces = []
        for number in range(len(self.collections)):
            parts = self._chunks(key.child("chunks", number), number, _FITTED_CHUNKS)
            positions = key.child("position", number).integers(parts.shape[1], len(parts), min(256, parts.shape[1]))
            neighbours, _, values = self._neighbours(parts, positions)
            pieces.append((neighbours.astype(np.float64) - MIDDLE, values.astype(np.float64) - MIDDLE))
        past, value = (np.concatenate(one) for one in zip(*pieces))
        weights, coefficients = np.ones(value.size), np.zeros(past.shape[1])
        for _ in range(_FITTINGS):
            products = past.T @ (past * weights[:, None])
            ridge = 1e-6 * (1 + np.trace(products)) * np.eye(past.shape[1])
            coefficients = np.linalg.solve(products + ridge, past.T @ (value * weights))
            weights = 1 / (1 + np.abs(value - past @ coefficients))
        return np.round(coefficients * 2.0**PREDICTOR_BITS).astype(np.float32)


class _NeighbourhoodProduct(Product):
    trainer: NeighbourhoodTrainer

    def read(self, data: Sequence[Path], settings: NeighbourhoodSettings) -> list[Collection]:
        self.unit = "pictures" if settings.width else "sounds"
        found = _grey(data, settings) if settings.width else [_sounds(Path(one), settings.set_aside_every) for one in data]
        for one in found:
            small = sum(any(side < least for side, least in zip(passage.shape, settings.shape))
                        for passage in one.pictures + one.aside)
            if small:
                raise RequestError(f"--data must hold no {self.unit} smaller than a chunk, {settings.shape}, got {small} in "
                                   f"{one.name!r}; lower chunk_bytes or width, or take them away")
        return found

    def export(self, finished: bool) -> str:
        trainer = self.trainer
        config = self.description(architecture=trainer.architecture.model_dump(), tokenizer={"name": "bytes"}, integer_bits=None)
        weights = neighbourhood.stored(trainer.best, trainer.architecture)
        save_weights(self.out, weights, config, neighbourhood.FORMAT)
        if finished:
            config["integer_bits"] = round(self._integer_bits(), 5)
            save_weights(self.out, weights, config, neighbourhood.FORMAT)
        text = card(config)
        self.out.with_suffix(".md").write_text(text, encoding="utf-8")
        return text

    def _integer_bits(self) -> float:
        """What `held_out` is, from the integers that were exported."""
        model = neighbourhood.Neighbourhood(path=str(self.out))
        parts = np.concatenate(self.trainer.measured)
        chances = [model.tables(model.start(1), part)[0][np.arange(part.size), part] for part in parts]
        return float(model.frequency_bits - np.log2(np.concatenate(chances)).mean())


def card(config: dict[str, Any]) -> str:
    """The model card of a training, from its .json."""
    architecture = Architecture(**config["architecture"])
    weights = sum(int(np.prod(shape)) for shape in architecture.shapes().values())
    unit = "pictures" if architecture.width else "sounds"
    rows_of = f"{unit} of {architecture.width} bytes a row" if architecture.width else unit
    measured = held_out(config, "integer_bits")
    facts = {
        "what": f"p(byte) given {len(architecture.places)} bytes near it that came before, in {rows_of}; {weights:,} weights in 8 "
                "bits",
        **training_facts(config, f"{config['settings']['batch']:,} bytes", unit),
        "bits a byte": f"{measured}; chunks of {config['settings']['chunk_bytes']:,} bytes of the part set aside",
        "not for": "other kinds of bytes, which can be coded and cost more than they need",
    }
    rows = [f"| {one['updates']:,} | {one['cpu_seconds']:,.0f} | {one['training'] / np.log(2):.3f} | {one['held_out']:.4f} |"
            for one in thinned(config["curve"])]
    heads = "| updates | CPU seconds | training, bits a byte | set aside, bits a byte |"
    return page(f"byte model of {unit}", facts, [heads, "|---|---|---|---|", *rows], "bytes", config)


def _grey(data: Sequence[Path], settings: NeighbourhoodSettings) -> list[Collection]:
    def luma(pictures: list[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(Image.fromarray(one).convert("L")) for one in pictures]

    found = read_collections(data, halve=settings.halve, set_aside_every=settings.set_aside_every)
    return [Collection(one.name, one.sha256, luma(one.pictures), luma(one.aside)) for one in found]


def _sounds(path: Path, set_aside_every: int) -> Collection:
    try:
        source = Audio(path=str(path), sample_bits=8)
        sounds = [np.asarray(item.content) for item in source.items(range(source.num_items), [Key(0)] * source.num_items)]
        digest = source.digests()["path"]
    except RequestError as error:
        raise RequestError(str(error).replace("source.path", "--data")) from error
    if len(sounds) < 2:
        raise RequestError(f"--data must hold at least two sounds, one of them to be set aside, got {len(sounds)} in "
                           f"{str(path)!r}; name more data, or cut it into files")
    aside = sounds[::set_aside_every]
    return Collection(path.name, digest, [one for place, one in enumerate(sounds) if place % set_aside_every], aside)
