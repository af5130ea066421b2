"""What picture tokens are worth: `python -m benchmarks.image_tokens FOLDER [--parts PART ...]`.

FOLDER holds lossless_png/ and bsds500_val/, which no model was trained on, and bsds500_train/. BSDS pictures are halved in size, to
leave nothing of their JPEG blocks. Tiles are of 32 × 32 pixels, `--tiles` of each picture at random places. `--tokenizer rvq_image`
measures that and its model. Parts:

quality  PSNR of what the tokenizer decodes if nothing is lost, whole pictures and tiles; how many codes are in use
bits     ideal bits a token of the masked model's tables where the last 1/16 … 16/16 in the order of sending are unknown, and the
         mean over these, against how often tokens are (order 0) in training pictures and in the very tokens measured
erased   PSNR where cells are erased one by one: no decoder, the neighbours' mean, the most probable token, the mean vector
jpeg     PSNR of JPEG without a head, `headerless`, at the rate of the entropy-coded tokens of a tile, whose bits are real
speed    CPU and wall seconds of the first lossless picture

Intervals are ±1.96 standard errors over pictures, whose tiles are taken together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.image_contexts import (
    ROOT,
    SIDE,
    Sample,
    add_pair,
    chosen_pair,
    depth,
    fitted,
    psnrs,
    restored,
    tiles,
    timed,
    whole,
    with_error,
)
from channel_sim.fidelity import psnr_db
from channel_sim.stages import Decoder, Tokenizer
from channel_sim.types import Evidence, Item, Tokens, hard_decision
from decoders.masked_image import MaskedImage
from decoders.neighbour_mean import NeighbourMean
from decoders.none import NoDecoder
from sources.codecs import Jpeg
from sources.masked_coder import MaskedEntropy
from sources.models.model import MaskedModel
from sources.packet_order import in_order, low_discrepancy, parted
from sources.vq_image import VqImage

NUM_SHARES = 16
SHOWN = (1, 2, 4, 8, 12, 16)
ERASED = (0.1, 0.3, 0.5)
QUALITIES = (1, 2, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75)


def show_quality(title: str, tokenizer: VqImage, samples: Sequence[Sample]) -> None:
    decoded = [_decoded(tokenizer, one) for one in samples]
    squares = sum(float(np.square(np.asarray(one.item.content) - two.astype(float)).sum()) for one, two in zip(samples, decoded))
    of_mean = psnr_db(squares / sum(one.size for one in decoded))
    values = np.concatenate([one.tokens.values.reshape(-1, depth(one.tokens)) for one in samples])
    used = [np.bincount(stage, minlength=tokenizer.vocab_size) for stage in values.T]
    in_use = ", ".join(f"{np.count_nonzero(one)} of {one.size} codes in use, perplexity {2 ** _entropy(one):.0f}" for one in used)
    print(f"{title}, {len(samples)}: PSNR {with_error(samples, psnrs(samples, decoded))} dB, {of_mean:.3f} dB of the mean squared "
          f"error; {in_use}", flush=True)


def show_bits(title: str, model: MaskedModel, samples: Sequence[Sample], training: Sequence[Sample]) -> None:
    shares = {unknown: np.array([_bits(model, one, unknown) for one in samples]) for unknown in range(1, NUM_SHARES + 1)}
    stages = depth(samples[0].tokens)
    cells = np.array([one.tokens.values.size // stages for one in samples])
    mean = np.mean([bits / (stages * np.ceil(cells * unknown / NUM_SHARES)) for unknown, bits in shares.items()], axis=0)
    print(f"{title}, {len(samples)}: ideal bits a token")
    for label, tokens in (("training pictures", training), ("the very tokens", samples)):
        rival = fitted([one.tokens for one in tokens], 0.5 if tokens is training else 1e-9)
        tables, = rival.frequencies([samples[0].tokens.values], [np.arange(depth(samples[0].tokens))])
        costs = [-np.log2(tables[np.arange(one.tokens.values.size) % stages, one.tokens.values] / tables[0].sum()).mean()
                 for one in samples]
        saved = 100 * (1 - mean.sum() / np.sum(costs))
        print(f"  order 0 of {label:20s}{with_error(samples, costs)}, {saved:.1f} % saved in the mean")
    for unknown in SHOWN:
        per_token = shares[unknown] / (stages * np.ceil(cells * unknown / NUM_SHARES))
        print(f"  masked model, {unknown:2d}/{NUM_SHARES} unknown        {with_error(samples, per_token)}")
    print(f"  mean over 1/16 … 16/16          {with_error(samples, mean)}", flush=True)


def show_erased(tokenizer: VqImage, model: MaskedModel, samples: Sequence[Sample]) -> None:
    decoders: dict[str, Decoder] = {"none": NoDecoder(), "neighbour_mean": NeighbourMean(),
                                    "most probable": MaskedImage(model=model, estimate="map", num_rounds=1),
                                    "mean vector": MaskedImage(model=model)}
    for share in ERASED:
        print(f"{len(samples)} tiles, {share:.0%} of the cells erased one by one: PSNR (dB), dB above neighbour_mean")
        evidence = [_evidence(one, share) for one in samples]
        found = {}
        for label, decoder in decoders.items():
            pictures = [restored(tokenizer, decoder, *pair, i) for i, pair in enumerate(zip(samples, evidence))]
            found[label] = psnrs(samples, pictures)
        for label, own in found.items():
            print(f"  {label:15s} {with_error(samples, own)}   {with_error(samples, own - found['neighbour_mean'])}", flush=True)


def show_jpeg(tokenizer: VqImage, model: MaskedModel, samples: Sequence[Sample]) -> None:
    coder = MaskedEntropy(model=model, num_packets=1, rounds=NUM_SHARES)
    coded = [int(packets.num_bits.sum()) for packets, _ in coder.encode([one.tokens for one in samples])]
    decoded = [_decoded(tokenizer, one) for one in samples]
    rate, ours = np.mean(coded) / SIDE ** 2, psnrs(samples, decoded)
    rates, heights = [], []
    for quality in QUALITIES:
        codec = Jpeg(quality=quality, headerless=True)
        files = [Sample(one.picture, one.item, codec.encode(one.item, ROOT)) for one in samples]
        rates.append(np.mean([8 * one.tokens.values.size for one in files]) / SIDE ** 2)
        heights.append(psnrs(files, [_decoded(codec, one) for one in files]))
    # each tile's PSNR between the two qualities whose mean rates surround that of the tokens
    theirs = np.array([np.interp(rate, rates, one) for one in np.transpose(heights)])
    print(f"{len(samples)} tiles, {rate:.3f} bits per pixel in {NUM_SHARES} rounds: tokens {with_error(samples, ours)} dB, JPEG "
          f"without a head {with_error(samples, theirs)} dB at that mean rate, difference {with_error(samples, ours - theirs)} dB")


def show_speed(tokenizer: VqImage, model: MaskedModel, item: Item) -> None:
    picture = Sample(0, item, tokenizer.encode(item, ROOT))
    _bits(model, picture, NUM_SHARES)  # compile and load
    timed("pixels to tokens", lambda: tokenizer.encode(item, ROOT))
    timed("tokens to pixels", lambda: _decoded(tokenizer, picture))
    timed(f"tables of all tokens in {NUM_SHARES} rounds", lambda: _rounds(model, picture.tokens))


def _rounds(model: MaskedModel, tokens: Tokens) -> None:
    message = np.full(tokens.grid, -1, np.int32)
    for places in parted(in_order(tokens.grid), NUM_SHARES):
        model.frequencies([message], [places])
        message.ravel()[places] = tokens.values[places]


def _bits(model: MaskedModel, sample: Sample, unknown: int) -> float:
    """Ideal bits of the last `unknown` / 16 of the cells in the order of sending, given the others; second tokens given all first
    ones, which is less than any order of coding pays.
    """
    order, values, stages = low_discrepancy(sample.tokens.grid[:2]), sample.tokens.values, depth(sample.tokens)
    cells = order[order.size - int(np.ceil(order.size * unknown / NUM_SHARES)):]
    message, bits = values.copy(), 0.0
    message.reshape(-1, stages)[cells] = -1
    for stage in range(stages):
        asked = stages * cells + stage
        table, = model.frequencies([message.reshape(sample.tokens.grid)], [asked])
        bits -= float(np.log2(table[np.arange(asked.size), values[asked]] / (1 << model.frequency_bits)).sum())
        message[asked] = values[asked]
    return bits


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _decoded(tokenizer: Tokenizer, sample: Sample) -> np.ndarray:
    """The picture, nothing lost."""
    received = replace(hard_decision(_evidence(sample, 0.0)), content_shape=sample.tokens.content_shape)
    return np.asarray(tokenizer.decode(received, ROOT)[0])


def _evidence(sample: Sample, erased: float) -> Evidence:
    """Each cell is erased with that probability; the same ones for every decoder."""
    tokens, stages = sample.tokens, depth(sample.tokens)
    known = np.repeat(ROOT.child("erased", sample.item.name).uniform(tokens.values.size // stages) >= erased, stages)
    return Evidence(known, np.where(known, tokens.values, 0), tokens.vocab_size, tokens.grid)


def _whole_samples(tokenizer: VqImage, folder: Path, scale: float | None, limit: int | None = None) -> list[Sample]:
    return [Sample(i, one, tokenizer.encode(one, ROOT)) for i, one in enumerate(whole(folder, scale, limit))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["quality", "bits", "erased", "jpeg", "speed"])
    parser.add_argument("--tiles", type=int, default=2, help="of each picture")
    parser.add_argument("--pictures", type=int, default=20, help="whole BSDS pictures at most")
    add_pair(parser)
    options = parser.parse_args()
    tokenizer, model = chosen_pair(options)
    lossless = _whole_samples(tokenizer, options.folder / "lossless_png", None)
    halved = _whole_samples(tokenizer, options.folder / "bsds500_val", 0.5, options.pictures)
    pictures = whole(options.folder / "lossless_png", None) + whole(options.folder / "bsds500_val", 0.5)
    chosen = tiles(tokenizer, pictures, options.tiles)
    if "quality" in options.parts:
        for title, samples in (("lossless pictures", lossless), ("BSDS pictures, halved", halved), ("tiles of both", chosen)):
            show_quality(title, tokenizer, samples)
    if "bits" in options.parts:
        training = _whole_samples(tokenizer, options.folder / "bsds500_train", 0.5, 100)
        for title, samples in (("tiles", chosen), ("BSDS pictures, halved", halved)):
            show_bits(title, model, samples, training)
    if "erased" in options.parts:
        show_erased(tokenizer, model, chosen)
    if "jpeg" in options.parts:
        show_jpeg(tokenizer, model, chosen)
    if "speed" in options.parts:
        show_speed(tokenizer, model, whole(options.folder / "lossless_png", None, 1)[0])


if __name__ == "__main__":
    main()
