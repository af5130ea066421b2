"""What the shipped classifier makes of damaged pictures: `python -m benchmarks.classifier PICTURES.npz [NUMBER]`.

PICTURES.npz holds `images` uint8 [n, 32, 32, 3] and `labels` [n] of CIFAR-10 that were not trained on; all of them are judged for
the clean accuracy, the first NUMBER (default 500) after each damage. Accuracy and agreement have Clopper-Pearson's interval, KID
the bootstrap's; the first line of the table is the distance of one half of the originals from the other.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from channel_sim.fidelity import psnr_db
from channel_sim.keys import Key
from decoders.inpainting import Biharmonic, Interpolate
from reports.realism import kernel_distance
from reports.statistics import clopper_pearson
from sources.models import weights_file
from sources.models.classifier import FORMAT, Network, Opinion
from sources.training.classifier import read_labelled

Damage = Callable[[np.ndarray, Key], np.ndarray]


def jpeg(quality: int) -> Damage:
    def damaged(picture: np.ndarray, key: Key) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))
    return damaged


def noise(deviation: float) -> Damage:
    return lambda picture, key: np.clip(np.rint(picture + deviation * key.normal(*picture.shape)), 0, 255).astype(np.uint8)


def blur(radius: float) -> Damage:
    return lambda picture, key: np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def holes(decoder: Interpolate | Biharmonic | None) -> Damage:
    """Three in ten cells of 4x4 pixels are lost: mid-grey, or mended."""
    def damaged(picture: np.ndarray, key: Key) -> np.ndarray:
        missing = (key.uniform(8, 8) < 0.3).repeat(4, axis=0).repeat(4, axis=1)
        grey = np.where(missing[..., None], np.uint8(128), picture)
        return grey if decoder is None else np.asarray(decoder.mend(grey, missing, key))
    return damaged


DAMAGES: dict[str, Damage] = {
    "JPEG, quality 75": jpeg(75), "JPEG, quality 25": jpeg(25), "JPEG, quality 5": jpeg(5), "noise, deviation 10": noise(10),
    "noise, deviation 25": noise(25), "blur, radius 1": blur(1.0), "30 % of 4x4 cells grey": holes(None),
    "30 % of 4x4 cells, interpolate": holes(Interpolate()), "30 % of 4x4 cells, biharmonic": holes(Biharmonic()),
}


def main(path: Path, number: int) -> None:
    data = read_labelled(path, "PICTURES.npz")
    network = Network(_weights())
    network.classify(data.pictures[0])
    start = time.process_time()
    clean = [network.classify(one) for one in data.pictures]
    seconds = (time.process_time() - start) / len(clean)
    print(f"{len(clean)} pictures: accuracy {_share(_labels(clean) == data.labels)}; {1e3 * seconds:.1f} ms of CPU each")
    pictures, labels, clean = data.pictures[:number], data.labels[:number], clean[:number]
    print(f"\nthe first {len(clean)}\n\n| damage | PSNR, dB | accuracy | agreement | KID |\n|---|---|---|---|---|")
    half = len(clean) // 2
    print(f"| none: one half from the other | | | | {_distance(_features(clean[:half]), _features(clean[half:2 * half]))} |")
    print(f"| none | | {_share(_labels(clean) == labels)} | 1 | 0 |")
    for name, damage in DAMAGES.items():
        seen = [damage(picture, Key(1).child(name, place)) for place, picture in enumerate(pictures)]
        judged = [network.classify(one) for one in seen]
        error = np.mean([psnr_db(float(np.mean((one.astype(float) - other) ** 2))) for one, other in zip(pictures, seen)])
        print(f"| {name} | {error:.1f} | {_share(_labels(judged) == labels)} | {_share(_labels(judged) == _labels(clean))} | "
              f"{_distance(_features(clean), _features(judged))} |", flush=True)


def _weights() -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return load(weights_file.read(weights_file.FOLDER / "image-classifier-small.safetensors", FORMAT)[0])


def _labels(opinions: list[Opinion]) -> np.ndarray:
    return np.array([one.label for one in opinions])


def _features(opinions: list[Opinion]) -> np.ndarray:
    return np.stack([one.features for one in opinions])


def _share(right: np.ndarray) -> str:
    low, high = clopper_pearson(int(right.sum()), right.size)
    return f"{right.mean():.3f} ({low:.3f} to {high:.3f})"


def _distance(originals: np.ndarray, restored: np.ndarray) -> str:
    found = kernel_distance(originals, restored, np.arange(len(originals)))
    assert found is not None
    return f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500)
