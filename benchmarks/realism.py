"""Which estimate of lost tokens looks real: `python -m benchmarks.realism STACK.npz [NUMBER] [--rounds R ...] [--losses P ...]`.

The first NUMBER (default 200) pictures of 32 × 32 pixels of a stack as tokens of `--tokenizer`, each cell lost alone; restored by
decoders of tokens, `sample` in each of so many rounds. Of each: PSNR of the mean squared error, the error against what decodes
where nothing is lost (theory: a draw has twice that of the mean), KID from the originals, and by how much nearer it is to them
than `mean_embedding`, picture by picture. Intervals are bootstraps over pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.image_contexts import ROOT, Sample, add_pair, chosen_pair, depth, restored
from channel_sim.fidelity import psnr_db, squared_error
from channel_sim.losses import PacketLoss
from channel_sim.stages import Decoder
from channel_sim.types import Evidence
from decoders.masked_image import MaskedImage
from decoders.neighbour_mean import NeighbourMean
from decoders.none import NoDecoder
from reports.realism import kernel_distance, nearer_by
from reports.statistics import Estimate
from sources.images import Images
from sources.models.classifier import ImageClassifierSmall
from sources.vq_image import VqImage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stack", type=Path)
    parser.add_argument("number", type=int, nargs="?", default=200)
    parser.add_argument("--rounds", type=int, nargs="+", default=[8])
    parser.add_argument("--losses", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    add_pair(parser)
    options = parser.parse_args()
    tokenizer, model = chosen_pair(options)
    items = Images(path=str(options.stack)).items(range(options.number), [ROOT] * options.number)
    samples = [Sample(i, item, tokenizer.encode(item, ROOT)) for i, item in enumerate(items)]
    decoders: dict[str, Decoder] = {"mean_embedding": MaskedImage(model=model), "neighbour_mean": NeighbourMean(),
                                    "map": MaskedImage(model=model, estimate="map")}
    decoders |= {f"sample, {rounds} rounds": MaskedImage(model=model, estimate="sample", num_rounds=rounds)
                 for rounds in options.rounds}
    unhurt = _pictures(tokenizer, NoDecoder(), samples, _heard(samples, 0.0))
    print(f"{len(samples)} pictures of {options.stack.name}; nothing lost: KID {_shown(_distance(samples, unhurt))}")
    for loss in options.losses:
        print(f"{loss:.0%} lost\n{'':20s}  PSNR, dB    error, of the mean's    KID    nearer than mean_embedding by")
        shown = {label: _pictures(tokenizer, decoder, samples, _heard(samples, loss)) for label, decoder in decoders.items()}
        mean = _features(samples, shown["mean_embedding"])
        added = _error(unhurt, shown["mean_embedding"])
        for label, pictures in shown.items():
            psnr = psnr_db(_error([np.asarray(one.item.content) for one in samples], pictures))
            lead = nearer_by(mean[:, 0], _features(samples, pictures)[:, 1], mean[:, 1])
            print(f"{label:20s}  {psnr:8.2f}  {_error(unhurt, pictures) / added:8.2f}  {_shown(_distance(samples, pictures))}  "
                  f"{_shown(lead)}", flush=True)


def _heard(samples: Sequence[Sample], loss: float) -> list[Evidence]:
    """Every cell in a packet of its own."""
    channel, found = PacketLoss(loss_rate=loss), []
    for place, (_, _, tokens) in enumerate(samples):
        cells = channel.lost_packets(tokens.values.size // depth(tokens), ROOT.child("channel", place))
        known = ~np.repeat(cells, depth(tokens))
        found.append(Evidence(known, np.where(known, tokens.values, 0), tokens.vocab_size, tokens.grid))
    return found


def _pictures(tokenizer: VqImage, decoder: Decoder, samples: Sequence[Sample], evidence: Sequence[Evidence]) -> list[np.ndarray]:
    return [restored(tokenizer, decoder, *pair, place) for place, pair in enumerate(zip(samples, evidence, strict=True))]


def _features(samples: Sequence[Sample], pictures: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [pictures, 2, features]: of the originals, and of what became of them."""
    judge = ImageClassifierSmall()
    found = [judge.features(one.item, picture) for one, picture in zip(samples, pictures, strict=True)]
    return np.stack([one for one in found if one is not None])


def _distance(samples: Sequence[Sample], pictures: Sequence[np.ndarray]) -> Estimate | None:
    features = _features(samples, pictures)
    return kernel_distance(features[:, 0], features[:, 1], np.arange(len(features)))


def _error(pictures: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    return float(np.mean([squared_error(*pair) / pair[0].size for pair in zip(pictures, others, strict=True)]))


def _shown(found: Estimate | None) -> str:
    assert found is not None
    return f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


if __name__ == "__main__":
    main()
