"""A small lossy chain around every entry of the catalogue, for the laws that all of them keep."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Component
from channel_sim.trial import Chain, Delivery, Received, Sent, receive
from scenarios import catalogue
from scenarios.scenario import JUDGE, STAGES, load
from sources.models import diffusion, fixed_point, masked, masked_grid, neighbourhood, neural
from sources.models.diffusion_network import Architecture as DiffusionArchitecture
from sources.models.diffusion_prior import fitted_prior
from sources.models.masked_grid_network import GridArchitecture
from sources.models.masked_network import MaskedArchitecture
from sources.models.neighbourhood_network import Architecture as NearArchitecture
from sources.models.recurrent import Architecture
from sources.models.stored import save_weights
from sources.models.vq_network import NumpyLayers, VqArchitecture
from sources.plucked_strings import PluckedStrings
from sources.sound_file import wav_bytes
from sources.vq_image import VqImage, save_network

APART = ("keras_hub",)
"""Needs a package that few have, and keeps the laws in a test of its own."""
ENTRIES = [(kind, name) for kind, classes in catalogue.CATALOGUE.items() for name in classes if name not in APART]
ROOT = Key(11)
TEXT = {"name": "text", "item_bytes": 96}
BITS = {"name": "markov", "flip_probability": 0.1, "num_symbols": 96}
NEEDED: dict[str, dict[str, Any]] = {
    "bytes_file": {"path": "some.bin"}, "images": {"path": "tiny.npz"}, "dna": {"path": "genome.fa", "item_bytes": 96},
    "audio": {"path": "music.wav", "item_samples": 96}, "plucked_strings": {"item_samples": 96},
    "gaussian_vector": {"num_dimensions": 48}, "laplace_vector": {"num_dimensions": 48},
    "loss_trace": {"path": "trace.txt"}, "receiver": {"abstain_below": 0.5},
    "from_coder": {"coder": {"name": "fixed_length"}},
    "ngram_of": {"train_bytes": 20_000, "max_megabytes": 0.02},
    "recurrent": {"path": "tiny.safetensors"}, "neighbourhood": {"path": "tiny-near.safetensors", "width": 12},
    "masked": {"path": "tiny-masked.safetensors"}, "denoiser": {"path": "tiny-denoiser.safetensors"},
    "vq_image": {"path": "tiny-vq.safetensors"}, "masked_grid": {"path": "tiny-grid.safetensors"},
    "compressor": {"method": "zlib", "packet_bits": 64},
    "coded_link": {"block_bits": 64, "esno_db": 0.0}, "bsc": {"flip_probability": 0.05, "crc": "crc16"},
}
"""What an entry must be told, or is told so that it has something to do; a link of any name is told an Es/N0."""
MODEL_OF = {"models": "coder", "masked_models": "decoder"}
"""Whose model an entry is."""
FOR_SYMBOLS = ("markov", "symbols", "bernoulli", "xor_k", "hmm_k", "from_coder")
OF_PICTURES = {"images": "pixels", "pixels": "pixels", "interpolate": "pixels", "biharmonic": "pixels"} | {
    name: name for name in ("jpeg", "webp", "avif", "jpeg2000", "png", "vq_image", "rvq_image", "diffc_image")} | {
    name: "vq_image" for name in ("masked_grid", "image-masked-small")} | {
    "image-masked-rvq": "rvq_image"} | {
    name: "diffc_image" for name in ("diffusion-small", "denoiser")}
"""Entry that has to do with pictures -> a tokenizer that it works with."""
OF_SOUNDS = {"audio": "pcm", "plucked_strings": "pcm", "pcm": "pcm", "mu_law": "mu_law", "autoregressive": "pcm"}
"""The same of sounds."""
OF_VECTORS = {"gaussian_vector": ("gaussian_vector", "diffc"), "diffc": ("gaussian_vector", "diffc"),
              "laplace_vector": ("laplace_vector", "diffc_laplace"), "diffc_laplace": ("laplace_vector", "diffc_laplace")}
"""Entry that has to do with vectors -> source and tokenizer."""


@cache
def files() -> Path:
    folder = Path(mkdtemp(prefix="channel-sim-tests-"))
    (folder / "trace.txt").write_text("0010110001" * 20)
    (folder / "some.bin").write_bytes(bytes(range(256)) * 40)
    (music,) = PluckedStrings(item_samples=800).items([0], [ROOT])
    (folder / "music.wav").write_bytes(wav_bytes(np.asarray(music.content), 8000))
    (folder / "genome.fa").write_text(">chr1\n" + "ACCGTTAG" * 120)
    rough = ROOT.child("pictures").integers(256, 8, 6, 6, 3).astype(np.uint8)
    np.savez(folder / "tiny.npz", images=rough.repeat(4, axis=1).repeat(4, axis=2), labels=np.arange(8) % 3)
    untrained(folder / "tiny.safetensors", vocab_size=256, tokenizer="bytes")
    untrained_near(folder / "tiny-near.safetensors")
    untrained_masked(folder / "tiny-masked.safetensors")
    untrained_denoiser(folder / "tiny-denoiser.safetensors")
    untrained_grid(folder / "tiny-grid.safetensors", untrained_vq(folder / "tiny-vq.safetensors"))
    return folder


def untrained(file: Path, *, vocab_size: int, tokenizer: str, hidden: int = 24) -> str:
    """Weights of a small recurrent model as drawn, but sure of itself, so that rates and streams depend on all it has seen."""
    weights = Architecture(vocab_size=vocab_size, embedding=8, hidden=hidden).initial(ROOT.child(tokenizer))
    weights["head"] *= 8
    save_weights(file, fixed_point.quantise(weights), {"tokenizer": {"name": tokenizer}}, neural.FORMAT)
    return str(file)


def untrained_near(file: Path, **sizes: int) -> str:
    """Weights of a small byte model of pictures as drawn, but sure of itself; its predictor is a mean of all neighbours."""
    architecture = NearArchitecture(**{"width": 8, "reach": 2, "hidden": 24, "merge": 16} | sizes)
    weights = architecture.initial(ROOT.child("near"))
    weights["head"] *= 4
    predictor = np.full(len(architecture.places), 4096 // len(architecture.places))
    save_weights(file, neighbourhood.stored(weights | {"predictor": predictor}, architecture), {"tokenizer": {"name": "bytes"}},
                 neighbourhood.FORMAT)
    return str(file)


def untrained_masked(file: Path) -> str:
    """Weights of a small masked model of bytes as drawn, but sure of itself."""
    weights = MaskedArchitecture(vocab_size=256, embedding=8, hidden=24, merge=16).initial(ROOT.child("masked"))
    weights["head"] *= 8
    save_weights(file, fixed_point.quantise(weights), {"tokenizer": {"name": "bytes"}}, masked.FORMAT)
    return str(file)


def untrained_denoiser(file: Path) -> None:
    """Weights of a small denoiser as drawn; its prior is that of pictures whose neighbours are alike."""
    sizes = DiffusionArchitecture(fine=8, wide=8, early_blocks=0, coarse_blocks=1, late_blocks=1)
    rough = ROOT.child("smooth").normal(64, 4, 4, 3).repeat(8, axis=1).repeat(8, axis=2)
    weights = diffusion.stored(sizes.initial(ROOT.child("denoiser")), fitted_prior(np.clip(rough / 2, -1, 1)))
    save_weights(file, weights, {}, diffusion.FORMAT)


def untrained_vq(file: Path, **sizes: Any) -> str:
    """Weights of a small picture tokenizer as drawn; its codes are vectors of a picture of noise, so that all are in use."""
    small = {"num_codes": 16, "code_length": 6, "channels": 8, "fine_channels": 4, "encoder_blocks": 1, "decoder_blocks": 1}
    architecture = VqArchitecture(**small | sizes)
    weights = architecture.initial(ROOT.child("vq"))
    noise = 2 * ROOT.child("noise").uniform(1, 16, 16, 3).astype(np.float32) - 1
    vectors = architecture.encoded(NumpyLayers(weights), noise).reshape(16, -1)
    codes = np.stack([vectors / 2**stage for stage in range(architecture.stages)])
    save_network(file, weights | {"codes": codes, "mean": codes.mean(axis=1)}, {"architecture": architecture.model_dump()})
    return str(file)


def untrained_grid(file: Path, tokenizer: str) -> str:
    """Weights of a small masked model of that tokenizer's tokens as drawn, but sure of itself."""
    of_tokens = VqImage(path=tokenizer)
    weights = GridArchitecture(vocab_size=16, stages=of_tokens.network().architecture.stages, embedding=8, channels=12, blocks=2,
                               merge=16).initial(ROOT.child("grid"))
    weights["head"] *= 8
    tokens = {"name": "vq_image", "tokens_sha256": of_tokens.tokens_digest}
    save_weights(file, fixed_point.quantise(weights), {"tokenizer": tokens}, masked_grid.FORMAT)
    return str(file)


def tables_with(kind: str, name: str) -> dict[str, Any]:
    """The scenario of one arm around the component `name`; three in ten packets are lost where it is not itself the channel."""
    own: dict[str, Any] = {"name": name} | NEEDED.get(name, {})
    if "path" in own:
        own["path"] = str(files() / own["path"])
    if "esno_db" in catalogue.CATALOGUE[kind][name].model_fields:
        own.setdefault("esno_db", 1.0)
    tables: dict[str, Any] = {"question": "?", "items": 8, "arm": [{"label": "a"}],
                              "source": BITS if any(word in name for word in FOR_SYMBOLS) else TEXT,
                              "channel": {"name": "packet_loss", "loss_rate": 0.3},
                              "coder": {"name": "fixed_length", "packet_bits": 64, "interleave": True}}
    if name == "exact_hidden_markov":
        tables["source"] = {"name": "hidden_markov", "num_symbols": 96}
    if name in ("text-small", "text-masked-small"):
        tables["tokenizer"] = {"name": "bpe"}
    if name in OF_PICTURES:
        tables |= {"source": {"name": "images", "path": str(files() / "tiny.npz")}, "tokenizer": {"name": OF_PICTURES[name]}}
    if name in OF_SOUNDS:
        tables |= {"source": {"name": "plucked_strings"} | NEEDED["plucked_strings"], "tokenizer": {"name": OF_SOUNDS[name]}}
    if name in OF_VECTORS:
        source, tokenizer = OF_VECTORS[name]
        tables |= {"source": {"name": source} | NEEDED[source], "tokenizer": {"name": tokenizer}}
    if name == "masked_grid":
        tables["tokenizer"]["path"] = str(files() / NEEDED["vq_image"]["path"])
    if kind == "models":
        tables["coder"] = {"name": "entropy", "packet_bits": 128, "model": own if len(own) > 1 else name}
    elif kind == "denoisers":
        tables["tokenizer"]["denoiser"] = own
    elif kind == "masked_models":
        tables["decoder"] = {"name": "masked_image" if name in OF_PICTURES else "masked_lm", "model": own}
    else:
        tables[stage_of(kind)] = own
    if name in ("masked_lm", "masked_image", "masked_entropy"):
        own["model"] = str(files() / NEEDED["masked"]["path"])
    if kind == "receivers":
        tables["decoder"] = {"name": "most_frequent"}
    return tables


def stage_of(kind: str) -> str:
    return next(stage for stage, plural in {**STAGES, JUDGE: "evaluators"}.items() if plural == kind)


def chain_of(tables: dict[str, Any]) -> Chain:
    return load(tables).tasks[0].chain


def chain_with(kind: str, name: str) -> Chain:
    return chain_of(tables_with(kind, name))


def component_of(chain: Chain, kind: str) -> Component:
    if kind == "denoisers":
        return chain.tokenizer.denoiser
    if kind in MODEL_OF:
        return getattr(chain, MODEL_OF[kind]).model
    return getattr(chain, stage_of(kind))


def deliver(chain: Chain, sent: list[Sent]) -> list[Delivery]:
    keys = [ROOT.child("item", one.index, "channel", 0) for one in sent]
    return chain.protection.send([one.packets for one in sent], chain.channel, keys)


def hear(chain: Chain, deliveries: list[Delivery], sent: list[Sent]) -> list[Received]:
    """The receiving half alone: receptions, preambles and receiver keys."""
    return receive(chain, [one.reception for one in deliveries], [one.preamble for one in sent],
                   [ROOT.child("item", one.index) for one in sent], 0)


def heard(received: list[Received]) -> list[tuple[bytes, ...]]:
    """All that the receiver makes of each item, as plain comparable values."""
    return [(one.reconstruction.values.tobytes(), one.reconstruction.origin.tobytes(), one.reconstruction.confidence.tobytes(),
             one.content if isinstance(one.content, bytes) else one.content.tobytes(), one.missing.tobytes()) for one in received]
