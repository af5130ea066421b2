"""The trainings of picture models: what an update sees, and what is measured on the part set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from channel_sim.keys import Key
from sources.models.fixed_point import one_blas_thread
from sources.models.masked_grid_network import GridArchitecture, GridSizes, grid_network, masks, spread
from sources.models.vq_network import KerasLayers, VqArchitecture, vq_network
from sources.training.checkpoints import as_array
from sources.training.image_data import FACTOR, Collection, crops
from sources.training.trainer import Settings, Trainer, training_key
from sources.vq_image import Network, VqImage, nearest

_REVIVED_EVERY = 50
_LEAST_USED = 0.03  # of a code's fair share; less than that is unused
_LAST_REVIVED = 0.8  # of the schedule: codes that are put elsewhere need time to settle
_MEASURED_BATCHES = 2
_MEASURED_SHARES = 16
_AROUND = 7
_LEAST_VARIANCE = 0.002  # of all codes, beside that around a cell


class VqSettings(VqArchitecture, Settings):
    """Settings of a picture tokenizer's training."""

    batch_pixels: int = Field(32768, ge=16, description="pixels of an update")

    def architecture(self) -> VqArchitecture:
        return VqArchitecture(**{name: getattr(self, name) for name in VqArchitecture.model_fields})


class GridSettings(GridSizes, Settings):
    """Settings of the training of a masked model of pictures' tokens."""

    crop: int = Field(128, ge=4, description="pixels of the side of a crop that is trained on; smaller pictures are taken whole")
    tokenizer: str | None = Field(None, description="weights of vq_image whose tokens are trained on; default: the shipped ones")
    batch_pixels: int = Field(65536, ge=16, description="pixels of an update, one cell for sixteen")
    mean_weight: float = Field(0.0, ge=0, description="in the loss, of the mean vector's squared error over the variance around")
    sides: int = Field(1, ge=1, le=6, description="kinds of crops, in turn: of `crop` pixels a side, of half as many, and so on")
    may_change: ClassVar[frozenset[str]] = Settings.may_change | {"mean_weight", "sides"}

    def architecture(self, stages: int, vocab_size: int) -> GridArchitecture:
        sizes = {name: getattr(self, name) for name in GridSizes.model_fields}
        return GridArchitecture(stages=stages, vocab_size=vocab_size, **sizes)


class VqTrainer(Trainer):
    """The tokenizer's training: every update takes crops of one collection, the collections in turn."""

    settings: VqSettings

    def __init__(self, settings: VqSettings, collections: Sequence[Collection]) -> None:
        self.collections, self.architecture = collections, settings.architecture()
        network = vq_network(self.architecture, settings.precision)
        super().__init__(settings, network, self.architecture.initial(training_key(settings).child("weights")), "mse")
        self._measured = _set_aside(collections, settings, self.key)

    def tend(self, number: int) -> None:
        if number % _REVIVED_EVERY == 0 and self.part_done < _LAST_REVIVED:
            self._revive(self.batch(self.key.child("revive", number), number)[0], self.key.child("code", number))

    def batch(self, key: Key, number: int) -> tuple[np.ndarray, ...]:
        collection = self.collections[number % len(self.collections)]
        pictures = collection.crops(key, *_size(collection, self.settings))
        return pictures, pictures

    def _revive(self, pictures: np.ndarray, key: Key) -> None:
        """Put every code that goes unused on a vector of these pictures, with its fair share of use."""
        from keras import ops

        codes, use, sums = (as_array(self.model.state[name]) for name in ("codes", "use", "sums"))
        vectors = as_array(self.architecture.encoded(self.model.layer, ops.convert_to_tensor(pictures))).reshape(-1, codes.shape[2])
        for stage, (of_stage, used, sum_of) in enumerate(zip(codes, use, sums)):
            share = max(float(used.sum()), 1.0) / used.size
            unused = np.flatnonzero(used < _LEAST_USED * share)
            of_stage[unused] = vectors[key.child(stage).integers(len(vectors), unused.size)]
            used[unused], sum_of[unused] = share, of_stage[unused] * share
            vectors = vectors - of_stage[nearest(of_stage[None], vectors[None])[0]]
        for name, values in (("codes", codes), ("use", use), ("sums", sums)):
            self.model.state[name].assign(values)

    def held_out(self) -> float:
        """Mean squared error, peak 1, averaged over the collections."""
        decoded = (np.clip(np.asarray(self.model.predict_on_batch(one)), -1, 1) for one in self._measured)
        return float(np.mean([np.square(one - whole).mean() / 4 for one, whole in zip(decoded, self._measured)]))


class GridTrainer(Trainer):
    """The masked model's training: crops as in the tokenizer's, as tokens, of which another share is masked in every crop."""

    settings: GridSettings

    def __init__(self, settings: GridSettings, collections: Sequence[Collection]) -> None:
        tokenizer = VqImage(path=settings.tokenizer)
        self.collections, self.tokenizer_digest = collections, tokenizer.tokens_digest
        self._network = tokenizer.network()
        self.architecture = settings.architecture(*self._network.codes.shape[:2])
        network = grid_network(self.architecture, settings.precision)
        super().__init__(settings, network, self._initial(training_key(settings).child("weights")),
                         mean_and_tokens(self._network.codes, settings.mean_weight))
        self._measured = [_tokens(self._network, one) for one in _set_aside(collections, settings, self.key)]

    def batch(self, key: Key, number: int) -> tuple[np.ndarray, ...]:
        turn, place = divmod(number, len(self.collections))
        halved, collection = turn % self.settings.sides, self.collections[place]
        tokens = _tokens(self._network, collection.crops(key, *_size(collection, self.settings, halved)))
        masked, weights = masks(key.child("masks"), *tokens.shape)
        return np.where(masked, self.architecture.mask, tokens), tokens, weights

    def held_out(self) -> float:
        return self.bits(lambda given: np.asarray(self.model.predict_on_batch(given)))

    def bits(self, logits: Callable[[np.ndarray], np.ndarray]) -> float:
        """Bits a token, averaged over the last 1/16 … 16/16 of the order in which cells are sent, and over the collections.

        It is about what coding in 16 rounds costs. Of several tokens a cell each is asked about with those before it known, also in
        the cells around, which is less than any order of coding pays. `logits` of tokens [n, h, w] (or [n, h, w, stages]), `mask`
        among them, are natural logarithms of probabilities up to a constant, [..., vocab_size].
        """
        costs = [self._nats(logits, tokens, stage) for tokens in self._measured for stage in range(self.architecture.stages)]
        return float(np.mean(costs) / np.log(2))

    def _nats(self, logits: Callable[[np.ndarray], np.ndarray], tokens: np.ndarray, stage: int) -> float:
        known = np.arange(len(tokens))[:, None, None] % _MEASURED_SHARES / _MEASURED_SHARES
        unknown = spread(tokens.shape[1:3]) >= known
        if tokens.ndim == 4:
            unknown = unknown[..., None] & (np.arange(tokens.shape[3]) >= stage)
        exact = logits(np.where(unknown, self.architecture.mask, tokens)).astype(np.float64)
        exact -= exact.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(exact, tokens[..., None], -1)[..., 0] - np.log(np.exp(exact).sum(axis=-1))
        if tokens.ndim == 4:
            unknown, chosen = unknown[..., stage], chosen[..., stage]
        return float(np.mean([-one[where].mean() for one, where in zip(chosen, unknown) if where.any()]))

    def _initial(self, key: Key) -> dict[str, np.ndarray]:
        """Tokens that look alike begin alike: the first numbers of a token's vector are those of its code."""
        initial, codes = self.architecture.initial(key), self._network.codes
        length = min(codes.shape[2], self.architecture.embedding)
        for rows, one in zip(np.split(initial["embedding"], len(codes)), codes):
            rows[:len(one), :length] = ((one - one.mean(axis=0)) / (2 * one.std()))[:, :length]
        return initial


def mean_and_tokens(codes: np.ndarray, weight: float) -> Callable[[Any, Any], Any]:
    """The loss of each token [n, h, w] or [n, h, w, stages] under logits [..., vocab_size]: -ln p, and `weight` times the squared
    distance of the mean code vector from the true one, in shares of the variance of cells around it.

    A posterior that spends its bits well may still have a mean that is off, most of all where a picture is smooth: there it is in
    small differences between codes that look alike.
    """
    from keras import ops

    stages, vocab_size, length = codes.shape
    least = _LEAST_VARIANCE * np.square(codes - codes.mean(axis=1, keepdims=True)).sum(axis=(0, 2)).mean()

    def loss(given: Any, logits: Any) -> Any:
        tokens, scores = ops.cast(given, "int32"), logits - ops.logsumexp(logits, axis=-1, keepdims=True)
        spent = -ops.sum(ops.one_hot(tokens, vocab_size, dtype="float32") * scores, axis=-1)
        if not weight:
            return spent
        shape = (*ops.shape(tokens)[:3], stages)
        rows = ops.reshape(tokens, shape) + vocab_size * ops.arange(stages, dtype="int32")
        true = ops.take(ops.convert_to_tensor(codes.reshape(-1, length)), rows, axis=0)
        mean = ops.einsum("nhwsv,svl->nhwsl", ops.exp(ops.reshape(scores, (*shape, vocab_size))), ops.convert_to_tensor(codes))
        off = ops.sum(ops.square(mean - true), axis=-1) / (_variance(ops.sum(true, axis=3)) + least)[..., None]
        return spent + weight * ops.reshape(off, ops.shape(tokens))

    return loss


def _variance(vectors: Any) -> Any:
    """[n, h, w] of [n, h, w, length]: the variance of the vectors in the `_AROUND` × `_AROUND` cells around each."""
    from keras import ops

    mean, of_squares = (ops.average_pool(one, _AROUND, 1, "same", "channels_last") for one in (vectors, ops.square(vectors)))
    return ops.relu(ops.sum(of_squares - ops.square(mean), axis=-1))


def _tokens(network: Network, pictures: np.ndarray) -> np.ndarray:
    """int32 [n, h/4, w/4] (or with [..., stages]) of float32 [n, h, w, 3]: a near tie may fall otherwise than in `VqImage`."""
    from keras import ops

    vectors = network.architecture.encoded(KerasLayers(network.layers.weights), ops.convert_to_tensor(pictures))
    count, height, width, _ = vectors.shape
    with one_blas_thread():  # the threads of the network's own are enough
        tokens = nearest(network.codes, ops.convert_to_numpy(vectors).reshape(count * height, width, -1))
    return tokens.reshape(count, height, *tokens.shape[1:])


def _size(collection: Collection, settings: VqSettings | GridSettings, halved: int = 0) -> tuple[int, int]:
    """(crops of an update, pixels of their side), which is `halved` so many times."""
    side = collection.side(max(FACTOR, settings.crop >> halved))
    return max(1, settings.batch_pixels // side ** 2), side


def _set_aside(collections: Sequence[Collection], settings: VqSettings | GridSettings, key: Key) -> list[np.ndarray]:
    """Crops of each collection to measure on, the same whenever it is measured."""
    sizes = [_size(one, settings) for one in collections]
    return [crops(one.aside, key.child("measure", place), _MEASURED_BATCHES * count, side)
            for place, (one, (count, side)) in enumerate(zip(collections, sizes))]
