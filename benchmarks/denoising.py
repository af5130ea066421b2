"""What the learned denoiser is worth: `python -m benchmarks.denoising --train DATA… --measure DATA… [--pictures N]`.

DATA are pictures, folders of them or stacks, as in `channel-sim train diffusion`; crops are taken as in training, of what is
measured on too. By noise level, PSNR in dB of the mean of squared errors over all pixels, for

    network   the shipped denoiser (or --weights), in the integers that run
    Gaussian  the posterior mean of a Gaussian of any covariance (3,072 dimensions), fitted to 40,000 crops of the training data, in
              all eight ways that they can be turned and mirrored
    prior     the Gaussian that the network starts from, independent in a cosine transform
    z/alpha   the noisy picture, cut to what pixels can be

and what the network is ahead of the Gaussian by, with a 95 % interval by the bootstrap over pictures. Then speed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time

import numpy as np

from channel_sim.keys import Key
from sources.models.diffusion import UNIT, DiffusionSmall, amplitudes
from sources.models.diffusion_network import SIDE
from sources.training_diffusion import MEASURED_LEVELS, noisy_pictures
from sources.training_pictures import crops, read_collections

KEY = Key(1).child("denoising")
FITTED, DRAWS, AT_ONCE = 40_000, 1000, 2000


class Covariance:
    """A Gaussian of pictures, by its mean and the axes of its covariance."""

    def __init__(self, train: list[Path]) -> None:
        total, outer = np.zeros(SIDE * SIDE * 3), np.zeros((SIDE * SIDE * 3,) * 2, np.float32)
        collections = read_collections(train, halve=True, set_aside_every=20)
        rounds = FITTED // AT_ONCE
        for number in range(rounds):
            collection = collections[number % len(collections)]
            some = crops(collection.pictures, KEY.child("fit", number), AT_ONCE, SIDE).reshape(AT_ONCE, -1)
            total += some.sum(axis=0)
            outer += some.T @ some
        self.mean = _symmetric(total / FITTED)
        power, self.axes = np.linalg.eigh(_symmetric_matrix(outer / FITTED) - np.outer(self.mean, self.mean).astype(np.float32))
        self.power = np.maximum(power, 0)

    def means(self, noisy: np.ndarray, level: int) -> np.ndarray:
        """[n, 32, 32, 3] of noisy pictures like it."""
        alpha, sigma = amplitudes(level)
        flat = noisy.reshape(len(noisy), -1) - alpha * self.mean
        shrunk = (flat @ self.axes) * (alpha * self.power / (alpha * alpha * self.power + sigma * sigma))
        return (shrunk @ self.axes.T + self.mean).reshape(noisy.shape)


def _ways() -> list[np.ndarray]:
    """Where the numbers of a picture come from in each of the eight ways."""
    places = np.arange(SIDE * SIDE * 3).reshape(SIDE, SIDE, 3)
    turned = [np.rot90(places, quarter) for quarter in range(4)]
    return [one.ravel() for one in (*turned, *(one[:, ::-1] for one in turned))]


def _symmetric(vector: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([vector[way] for way in _ways()], axis=0))


def _symmetric_matrix(matrix: np.ndarray) -> np.ndarray:
    total = np.zeros_like(matrix)
    for way in _ways():
        total += matrix[np.ix_(way, way)]
    return total / 8


def main(train: list[Path], measure: list[Path], pictures: int, weights: str | None) -> None:
    denoiser, covariance = DiffusionSmall(path=weights).denoiser(), Covariance(train)
    for path in measure:
        collection, = read_collections([path], halve=True, set_aside_every=20)
        shown = crops(collection.pictures + collection.aside, KEY.child("crops"), pictures, SIDE)
        print(f"\n{path.name}, {pictures} crops of {len(collection.pictures + collection.aside)} pictures; PSNR in dB")
        print(f"{'level':>6}{'log2 SNR':>10}{'network':>9}{'Gaussian':>10}{'prior':>8}{'z/alpha':>9}  ahead by")
        for level in MEASURED_LEVELS:
            levels = np.full(pictures, level)
            noisy = noisy_pictures(shown, levels, KEY.child("noise"))
            found = [denoiser.means(noisy, level) * UNIT, covariance.means(noisy * UNIT, level),
                     denoiser.prior.estimate(noisy, levels) * UNIT, noisy * UNIT / amplitudes(level).alpha]
            errors = np.stack([np.square(np.clip(one, -1, 1) - shown).mean(axis=(1, 2, 3)) for one in found])
            psnr = 10 * np.log10(4 / errors.mean(axis=1))
            drawn = errors[:2, KEY.child("bootstrap").integers(pictures, DRAWS, pictures)].mean(axis=2)
            low, high = np.quantile(10 * np.log10(drawn[1] / drawn[0]), (0.025, 0.975))
            print(f"{level:>6}{level / 8 - 12:>10g}{psnr[0]:>9.2f}{psnr[1]:>10.2f}{psnr[2]:>8.2f}{psnr[3]:>9.2f}  "
                  f"{psnr[0] - psnr[1]:.2f} [{low:.2f}, {high:.2f}]", flush=True)
    print("\nCPU ms a picture and level, by pictures at once:", end="")
    noisy = np.resize(noisy, (64, SIDE, SIDE, 3))
    for batch in (1, 8, 64):
        start = process_time()
        for first in range(0, len(noisy), batch):
            denoiser.means(noisy[first:first + batch], 128)
        print(f" {batch}: {1000 * (process_time() - start) / len(noisy):.1f}", end="")
    print()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--train", type=Path, nargs="+", required=True)
    arguments.add_argument("--measure", type=Path, nargs="+", required=True)
    arguments.add_argument("--pictures", type=int, default=128)
    arguments.add_argument("--weights")
    options = arguments.parse_args()
    main(options.train, options.measure, options.pictures, options.weights)
