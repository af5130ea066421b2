"""What the best linear guess makes of a lost cell: `python -m benchmarks.linear_concealment FOLDER [--tokenizer NAME] [--tiles N]`.

FOLDER holds lossless_png/ and bsds500_val/, which nothing was trained on, and bsds500_train/, whose pictures, halved in size, tell
the covariances of the code vectors of 5 × 5 cells. A lost cell's vector is guessed from those received in the 5 × 5 around it, with
the least mean squared error that is possible linearly: a Wiener filter for each pattern of loss, the mean where nothing came.
Tiles, packets and losses are those of `benchmarks.image_contexts`. PSNR in dB, and above the mean of the neighbours, tile by tile;
intervals are ±1.96 standard errors over pictures. It says how much neighbours tell, and how far a masked model is from a rival that
needs no network: what a tokenizer leaves to be guessed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.image_contexts import (
    NUM_PACKETS,
    ROOT,
    Sample,
    add_pair,
    chosen_pair,
    heard,
    psnrs,
    restored,
    tiles,
    whole,
    with_error,
)
from channel_sim.types import Evidence, Item
from decoders.inpainting import Interpolate
from decoders.masked_image import MaskedImage
from decoders.neighbour_mean import NeighbourMean
from sources.masked_coder import MaskedEntropy
from sources.vq_image import VqImage

AROUND = 2
WINDOWS_A_PICTURE = 200
RIDGE = 1e-3
LOSSES = (0.1, 0.3, 0.5)


class Field(NamedTuple):
    """Mean [code_length] and covariances [25, code_length, 25, code_length] of the vectors of 5 × 5 cells."""

    mean: np.ndarray
    covariances: np.ndarray


def fitted(tokenizer: VqImage, pictures: Sequence[Item]) -> Field:
    """Moments of windows at random places of these pictures."""
    side, windows = 2 * AROUND + 1, []
    for item in pictures:
        vectors = tokenizer.vectors(tokenizer.tokens(np.asarray(item.content)))
        room = np.array(vectors.shape[:2]) - side + 1
        for top, left in (ROOT.child("windows", item.name).uniform(WINDOWS_A_PICTURE, 2) * room).astype(int).tolist():
            windows.append(vectors[top:top + side, left:left + side].reshape(side**2, -1))
    found = np.array(windows, np.float64)
    mean = found.mean(axis=(0, 1))
    flat = (found - mean).reshape(len(found), -1)
    moments = flat.T @ flat / len(flat)
    moments += RIDGE * moments.diagonal().mean() * np.eye(len(moments))
    return Field(mean, moments.reshape(side**2, mean.size, side**2, mean.size))


def guessed(field: Field, vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float64 [h, w, code_length]: `vectors` where `known` [h, w], elsewhere the best linear guess from the known ones around."""
    found, (height, width), side = vectors.astype(np.float64), known.shape, 2 * AROUND + 1
    length, middle = field.mean.size, side**2 // 2
    for row, column in np.argwhere(~known):
        places = [(down, right) for down in range(max(0, row - AROUND), min(height, row + AROUND + 1))
                  for right in range(max(0, column - AROUND), min(width, column + AROUND + 1)) if known[down, right]]
        found[row, column] = field.mean
        if places:
            cells = [(down - row + AROUND) * side + right - column + AROUND for down, right in places]
            told = field.covariances[cells][:, :, cells].reshape(len(cells) * length, -1)
            heard_from = np.concatenate([vectors[place] - field.mean for place in places])
            found[row, column] += np.linalg.solve(told, heard_from) @ field.covariances[cells, :, middle].reshape(-1, length)
    return found


def concealed(tokenizer: VqImage, field: Field, sample: Sample, evidence: Evidence) -> np.ndarray:
    """uint8, the tile: the tokens' vectors with the linear guess in place of the lost."""
    height, width = sample.tokens.grid[:2]
    known = evidence.known.reshape(height, width, -1).all(axis=2)
    vectors = guessed(field, tokenizer.vectors(sample.tokens.values.reshape(sample.tokens.grid)), known)
    rows, columns = np.asarray(sample.item.content).shape[:2]
    return np.round(tokenizer.pixels(vectors.astype(np.float32))[:rows, :columns]).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    add_pair(parser, "rvq_image")
    parser.add_argument("--tiles", type=int, default=2, help="of each picture")
    options = parser.parse_args()
    tokenizer, model = chosen_pair(options)
    field = fitted(tokenizer, whole(options.folder / "bsds500_train", 0.5))
    pictures = whole(options.folder / "lossless_png", None) + whole(options.folder / "bsds500_val", 0.5)
    samples = tiles(tokenizer, pictures, options.tiles)
    coder = MaskedEntropy(model=model, num_packets=NUM_PACKETS, rounds=1)
    coded = coder.encode([one.tokens for one in samples])
    decoders = {"neighbour_mean": NeighbourMean(), "interpolate": Interpolate(), "masked_image": MaskedImage(model=model)}
    for loss in LOSSES:
        evidence = heard(coder, coded, loss)
        shown = {label: [restored(tokenizer, decoder, *pair, i) for i, pair in enumerate(zip(samples, evidence))]
                 for label, decoder in decoders.items()}
        shown["best linear guess"] = [concealed(tokenizer, field, *pair) for pair in zip(samples, evidence)]
        base = psnrs(samples, shown["neighbour_mean"])
        print(f"{options.tokenizer}, {len(samples)} tiles, {loss:.0%} of {NUM_PACKETS} packets lost")
        for label, found in shown.items():
            own = psnrs(samples, found)
            print(f"  {label:18s} {with_error(samples, own)}   {with_error(samples, own - base)}", flush=True)


if __name__ == "__main__":
    main()
