"""Pictures to tokens and back: a convolutional network, and a code book of what its cells can look like."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.types import Item, Origin, Reconstruction, Tokens
from sources.models import weights_file
from sources.models.fixed_point import one_blas_thread
from sources.models.vq_network import FACTOR, NumpyLayers, VqArchitecture, scaled

FORMAT = "channel-sim vq-image 1"


class Network(NamedTuple):
    """What a weights file holds; codes float32 [stages, num_codes, code_length], their means in use float32 [stages, code_length].

    tokens_digest: SHA-256 of what the tokens depend on, which is not what decodes them
    """

    digest: str
    tokens_digest: str
    architecture: VqArchitecture
    layers: NumpyLayers
    codes: np.ndarray
    means: np.ndarray


class VqImage(Tokenizer):
    """One token a cell of 4 × 4 pixels: the nearest vector of a code book to what a convolutional network makes of the cell.

        picture ─edges repeated to whole cells─▶ network ─▶ vectors [h, w, code_length] ─nearest code─▶ tokens [h, w]
        picture ◀──────────cut to size────────── network ◀─ vectors [h, w, code_length] ◀─code book────────────┘

    Any size; a grey picture is coded as three equal colours, whose mean is what is decoded. A token that `blend` speaks of is
    decoded from the weighted mean of the code vectors; with `draws` the picture is the mean of what each draw decodes to. A lost
    token is decoded from the mean code vector, and its cell is missing; the cells around it, which the network hears with it,
    suffer a little. Every picture is worked on alone and on one thread, so its tokens and pixels depend on no other and on no
    number of threads. Another machine may round sums in floating point another way: a vector that lies as near to two codes may
    then get the other token, which concerns the sender alone, and a pixel may differ by 1.

    Source: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017.
    """

    revision: ClassVar[int] = 1
    source: ClassVar[str] = "A. van den Oord, O. Vinyals, K. Kavukcuoglu, NeurIPS 2017"
    shipped: ClassVar[str] = "vq-image"

    path: str | None = Field(None, description="weights from channel-sim train vq-image; default: the shipped ones")

    @property
    def vocab_size(self) -> int:
        return self.network().architecture.num_codes

    def digests(self) -> dict[str, str]:
        return {"path": self.network().digest}

    @property
    def shared_bytes(self) -> int:
        return self.file.stat().st_size

    @property
    def file(self) -> Path:
        """Where the weights lie."""
        return weights_file.FOLDER / f"{self.shipped}.safetensors" if self.path is None else Path(self.path)

    @property
    def tokens_digest(self) -> str:
        """SHA-256 of the weights that tokens follow from: the encoder's, and the code book."""
        return self.network().tokens_digest

    def network(self) -> Network:
        """The weights, read once as long as the file stays the same."""
        file = self.file
        try:
            return _load(file, file.stat().st_mtime_ns)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RequestError("tokenizer.path must be weights of a picture tokenizer with their .json beside them, got "
                               f"{str(file)!r} ({error}); make them with channel-sim train vq-image") from error

    def encode(self, item: Item, key: Key) -> Tokens:
        picture = item.content
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
            raise ValueError(f"a picture tokenizer takes sources of pictures, grey or RGB, got {item.modality!r} ({item.name}); "
                             "use source images, or another tokenizer")
        tokens = self.tokens(picture)
        return Tokens(tokens.ravel(), self.vocab_size, tokens.shape, picture.shape)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [H, W, C], missing bool [H, W])."""
        height, width, num_colours = reconstruction.content_shape
        vectors = self._vectors(reconstruction)
        decoded = (self.pixels(one.reshape(*reconstruction.grid[:2], -1)) for one in vectors)
        pixels: np.ndarray = sum(decoded, np.zeros(1, np.float32)) / np.float32(len(vectors))
        pixels = pixels[:height, :width]
        if num_colours == 1:
            pixels = pixels.mean(axis=2, keepdims=True)
        lost = reconstruction.lost.reshape(*reconstruction.grid[:2], -1).any(axis=2)
        missing = np.kron(lost, np.ones((FACTOR, FACTOR), np.bool_))
        return np.clip(np.round(pixels), 0, 255).astype(np.uint8), missing[:height, :width]

    def tokens(self, picture: np.ndarray) -> np.ndarray:
        """int32 [ceil(H / 4), ceil(W / 4)] (or with [..., stages]) of uint8 [H, W, 1 or 3]."""
        network = self.network()
        beyond = [(0, -side % FACTOR) for side in picture.shape[:2]]
        whole = np.pad(np.broadcast_to(picture, (*picture.shape[:2], 3)), (*beyond, (0, 0)), mode="edge")
        with one_blas_thread():
            return nearest(network.codes, network.architecture.encoded(network.layers, scaled(whole)[None])[0])

    def vectors(self, tokens: np.ndarray) -> np.ndarray:
        """float32 [h, w, code_length]: the code vectors of the tokens of each cell, summed."""
        codes = self.network().codes
        return codes[np.arange(len(codes)), tokens.reshape(*tokens.shape[:2], -1)].sum(axis=2)

    def pixels(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [4h, 4w, 3] from 0 to 255 of code vectors float32 [h, w, code_length]."""
        network = self.network()
        with one_blas_thread():
            return np.clip((network.architecture.decoded(network.layers, vectors[None])[0] + 1) * np.float32(127.5), 0, 255)

    def _vectors(self, reconstruction: Reconstruction) -> list[np.ndarray]:
        """float32 [n, code_length] of each picture whose mean is the content: one, or one a draw."""
        codes, restored = self.network().codes, reconstruction.origin != Origin.RECEIVED
        stage = np.arange(restored.size) % len(codes)
        vectors = codes[stage, reconstruction.values]
        if reconstruction.draws is not None:
            alternatives = [_replaced(vectors, restored, codes[stage[restored], draw]) for draw in reconstruction.draws]
        elif reconstruction.blend is not None:
            alternatives = [_replaced(vectors, restored, _mixed(codes, stage[restored], reconstruction.blend))]
        else:
            alternatives = [vectors]
        lost = reconstruction.lost
        whole = [_replaced(one, lost, self.network().means[stage[lost]]) for one in alternatives]
        return [one.reshape(-1, len(codes), codes.shape[2]).sum(axis=1) for one in whole]


class RvqImage(VqImage):
    """Two tokens a cell of 4 × 4 pixels, the second of what the first leaves; both tell of the pixels of their own cell alone.

    The network of `vq_image` looks around a cell, so its tokens say once what cells share, and a lost cell is hard to guess. Here
    each cell is mapped linearly by itself and what neighbours share stays in the tokens: a masked model finds it, to code with and
    to conceal with. Decoding looks around. The grid is [h, w, 2], and coder `masked_entropy` sends the tokens of a cell in one
    packet; all else as in `vq_image`. Weights of `path` may have other numbers of tokens.

    Source: B.-H. Juang, A. H. Gray, "Multiple stage vector quantization for speech coding", ICASSP 1982; for pictures D. Lee,
    C. Kim, S. Kim, M. Cho, W.-S. Han, "Autoregressive image generation using residual quantization", CVPR 2022.
    """

    source: ClassVar[str] = "B.-H. Juang, A. H. Gray, ICASSP 1982; D. Lee et al., CVPR 2022"
    shipped: ClassVar[str] = "rvq-image"


def save_network(file: Path, weights: dict[str, np.ndarray], config: dict[str, Any]) -> None:
    """Write the weights of `VqArchitecture.shapes`, codes and their mean, in 16-bit floats."""
    packed = save({name: np.ascontiguousarray(one.astype(np.float16)) for name, one in weights.items()})
    weights_file.write(file, packed, FORMAT, config)


@lru_cache(maxsize=4)
def _load(file: Path, modified_ns: int) -> Network:
    data, digest, config = weights_file.read(file, FORMAT)
    weights = {name: one.astype(np.float32) for name, one in load(data).items()}
    told = hashlib.sha256()
    for name in sorted(weights):
        if name.startswith("encode_") or name == "codes":
            told.update(name.encode() + weights[name].tobytes())
    architecture, layers = VqArchitecture(**config["architecture"]), NumpyLayers(weights)
    codes = weights["codes"].reshape(architecture.stages, architecture.num_codes, architecture.code_length)
    return Network(digest, told.hexdigest(), architecture, layers, codes, weights["mean"].reshape(len(codes), -1))


def nearest(codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """int32 tokens [h, w], or [h, w, stages] if they are several, of vectors float32 [h, w, code_length]."""
    left, tokens = vectors.reshape(-1, vectors.shape[2]), []
    for of_stage in codes:
        tokens.append((np.square(of_stage).sum(axis=1) - 2 * (left @ of_stage.T)).argmin(axis=1).astype(np.int32))
        left = left - of_stage[tokens[-1]]
    return np.stack(tokens, axis=-1).reshape(*vectors.shape[:2], *codes.shape[:1] * (len(codes) > 1))


def _mixed(codes: np.ndarray, stage: np.ndarray, blend: np.ndarray) -> np.ndarray:
    """float32 [tokens, code_length]: the codes of each token's stage, weighted by its row."""
    mixed = np.empty((len(stage), codes.shape[2]), np.float32)
    with one_blas_thread():
        for number, of_stage in enumerate(codes):
            mixed[stage == number] = blend[stage == number] @ of_stage
    return mixed


def _replaced(vectors: np.ndarray, where: np.ndarray, by: np.ndarray) -> np.ndarray:
    changed = vectors.copy()
    changed[where] = by
    return changed
