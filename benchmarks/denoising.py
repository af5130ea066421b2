"""What the learned denoiser is worth: `python -m benchmarks.denoising --train DATA… --measure DATA… [--pictures N]`.

DATA are pictures, folders of them or stacks, as in `channel-sim train diffusion`; crops are taken as in training, of what is
measured on too. By noise level, PSNR in dB of the mean of squared errors over all pixels, for

    network   the shipped denoiser (or --weights), in the integers that run
    Gaussian  the posterior mean of a Gaussian of any covariance (3,072 dimensions), fitted to 40,000 crops of the training data, in
              all eight ways that they can be turned and mirrored
    prior     the Gaussian that the network starts from, independent in a cosine transform

and what the network is ahead of the Gaussian by, with a 95 % interval by the bootstrap over pictures. All are told the same: the
coefficients above the water, as noisy as the level says. "left" is the squared error of those coefficients over what the
weights' file expects to be left of them. Then speed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time

import numpy as np

from channel_sim.keys import Key
from sources.models.diffusion import Denoiser, DiffusionSmall
from sources.models.diffusion_network import SIDE
from sources.models.diffusion_prior import UNIT, GaussianPrior
from sources.training.diffusion import MEASURED_LEVELS, noisy_pictures
from sources.training.image_data import crops, read_collections

KEY = Key(1).child("denoising")
FITTED, DRAWS, AT_ONCE = 40_000, 1000, 2000


class Covariance:
    """A Gaussian of pictures' coefficients, by its mean and its covariance; in the coefficients of `prior`."""

    def __init__(self, train: list[Path], prior: GaussianPrior) -> None:
        total, outer = np.zeros(SIDE * SIDE * 3), np.zeros((SIDE * SIDE * 3,) * 2, np.float32)
        collections = read_collections(train, halve=True, set_aside_every=20)
        rounds = FITTED // AT_ONCE
        for number in range(rounds):
            collection = collections[number % len(collections)]
            some = crops(collection.pictures, KEY.child("fit", number), AT_ONCE, SIDE).reshape(AT_ONCE, -1)
            total += some.sum(axis=0)
            outer += some.T @ some
        mean = _symmetric(total / FITTED)
        pixels = _symmetric_matrix(outer / FITTED) - np.outer(mean, mean)
        half = _coefficients(prior, pixels)
        self._prior, self.mean = prior, _coefficients(prior, mean[None])[0]
        self.covariance = _coefficients(prior, half.T)

    def means(self, noisy: np.ndarray, level: int) -> np.ndarray:
        """Pixels [n, 32, 32, 3], from -1 to 1, of z in units of 1."""
        precisions = self._prior.precisions(level).ravel()
        told = np.flatnonzero(precisions)
        precision = precisions[told]
        beside = noisy.reshape(len(noisy), -1)[:, told] * np.sqrt((1 + precision) / precision) - self.mean[told]
        known = self.covariance[np.ix_(told, told)] + np.diag(1 / precision)
        found = self.mean + np.linalg.solve(known, beside.T).T @ self.covariance[told]
        whole = np.clip(np.rint(found / UNIT), -1 << 18, 1 << 18)
        return self._prior.restored(whole.reshape(-1, SIDE, SIDE, 3)) * UNIT


def _coefficients(prior: GaussianPrior, rows: np.ndarray) -> np.ndarray:
    """float64, of rows that are pictures one by one; fine enough for a covariance."""
    fine = 2.0**-24
    return np.concatenate([prior.transformed(np.rint(some.reshape(-1, SIDE, SIDE, 3) / fine)).reshape(len(some), -1) * fine
                           for some in np.array_split(rows, -(-len(rows) // 512))])


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
    denoiser = DiffusionSmall(path=weights).denoiser()
    covariance = Covariance(train, denoiser.prior)
    for path in measure:
        collection, = read_collections([path], halve=True, set_aside_every=20)
        shown = crops(collection.pictures + collection.aside, KEY.child("crops"), pictures, SIDE)
        print(f"\n{path.name}, {pictures} crops of {len(collection.pictures + collection.aside)} pictures; PSNR in dB")
        print(f"{'level':>6}{'log2 SNR':>10}{'told':>6}{'network':>9}{'Gaussian':>10}{'prior':>8}{'left':>6}  ahead by")
        for level in MEASURED_LEVELS:
            print(_row(denoiser, covariance, shown, level), flush=True)
    noisy = noisy_pictures(denoiser.prior, np.resize(shown, (64, SIDE, SIDE, 3)), np.full(64, 128), KEY.child("noise"))
    print("\nCPU ms a picture and level, by pictures at once:", end="")
    for batch in (1, 8, 64):
        start = process_time()
        for first in range(0, len(noisy), batch):
            denoiser.means(noisy[first:first + batch], 128)
        print(f" {batch}: {1000 * (process_time() - start) / len(noisy):.1f}", end="")
    print()


def _row(denoiser: Denoiser, covariance: Covariance, shown: np.ndarray, level: int) -> str:
    prior, levels = denoiser.prior, np.full(len(shown), level)
    noisy = noisy_pictures(prior, shown, levels, KEY.child("noise"))
    means = denoiser.means(noisy, level)
    found = [means * UNIT, covariance.means(noisy * UNIT, level), prior.estimate(noisy, levels).pixels * UNIT]
    errors = np.stack([np.square(np.clip(one, -1, 1) - shown).mean(axis=(1, 2, 3)) for one in found])
    psnr = 10 * np.log10(4 / errors.mean(axis=1))
    drawn = errors[:2, KEY.child("bootstrap").integers(len(shown), DRAWS, len(shown))].mean(axis=2)
    low, high = np.quantile(10 * np.log10(drawn[1] / drawn[0]), (0.025, 0.975))
    told = prior.precisions(level) > 0
    missed = np.square(prior.transformed(np.rint(shown / UNIT) - means) * UNIT).mean(axis=0)
    left = (missed / denoiser.residual_variances(level))[told].mean()
    return (f"{level:>6}{level / 8 - 12:>10g}{told.sum():>6}{psnr[0]:>9.2f}{psnr[1]:>10.2f}{psnr[2]:>8.2f}{left:>6.2f}  "
            f"{psnr[0] - psnr[1]:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--train", type=Path, nargs="+", required=True)
    arguments.add_argument("--measure", type=Path, nargs="+", required=True)
    arguments.add_argument("--pictures", type=int, default=128)
    arguments.add_argument("--weights")
    options = arguments.parse_args()
    main(options.train, options.measure, options.pictures, options.weights)
