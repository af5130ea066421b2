"""What a masked model saves and conceals in pictures: `python -m benchmarks.image_contexts FOLDER [--parts PART ...]`.

FOLDER holds lossless_png/ and bsds500_val/, which no model was trained on, and bsds500_train/. BSDS pictures are halved in size, to
leave nothing of their JPEG blocks. Tiles are of 32 × 32 pixels, `--tiles` of each picture at random places. `--tokenizer rvq_image`
measures that and its model. Parts:

savings     real bits of `masked_entropy` against those of the same packets under a table of how often tokens are (order 0), fitted
            to bsds500_train, or, to its greatest favour, to the very tokens that it codes; contexts × rounds, tiles and pictures
resilience  each context: bits per pixel with preamble, without headers, and PSNR at loss of whole packets, with `mean_embedding`
decoders    PSNR of each decoder behind independent packets; and squared error against what decodes where nothing is lost, which is
            what theory says of draws and means
lossless    the same at 30 % loss of 64 packets, of the lossless pictures at full size
told        at 30 % loss, and if each lost cell were told the true tokens of all others: the most that they could bring
speed       CPU and wall seconds of a picture of 512 × 512

Intervals are ±1.96 standard errors over pictures, whose tiles are taken together. Savings are of payload bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import SerializeAsAny

from benchmarks.concealment import interval
from channel_sim import memo
from channel_sim.fidelity import psnr_db, squared_error
from channel_sim.keys import Key
from channel_sim.losses import PacketLoss
from channel_sim.stages import Decoder
from channel_sim.types import Evidence, Item, Packets, Preamble, Tokens
from decoders.inpainting import Biharmonic, Interpolate
from decoders.masked_image import MaskedImage
from decoders.neighbour_mean import NeighbourMean
from decoders.none import NoDecoder
from sources.images import Images
from sources.masked_coder import MaskedEntropy
from sources.models.masked_grid import ImageMaskedRvq, ImageMaskedSmall, MaskedGrid
from sources.models.model import MaskedModel
from sources.vq_image import RvqImage, VqImage

ROOT = Key(7)
SIDE, NUM_PACKETS = 32, 8
CONTEXTS = ("independent", "mdc:2", "layered", "chained")
ROUNDS = (1, 4, 16)
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.5)
Result = TypeVar("Result")


class Sample(NamedTuple):
    """A tile or a picture; `picture` numbers what it was cut from."""

    picture: int
    item: Item
    tokens: Tokens


class OrderZero(MaskedModel):
    """Every token by how often it is, whatever is around it; the first and the second of a cell each by its own counts."""

    counts: tuple[tuple[float, ...], ...]

    @property
    def vocab_size(self) -> int:
        return len(self.counts[0])

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        tables = np.stack([_table(one, 1 << self.frequency_bits) for one in self.counts])
        return [tables[places % len(tables)] for places in asked]


@lru_cache(maxsize=8)
def _table(counts: tuple[float, ...], total: int) -> np.ndarray:
    shares = np.array(counts) / sum(counts)
    table = 1 + np.floor(shares * (total - len(counts))).astype(np.int64)
    table[shares.argmax()] += total - table.sum()
    return table


SHIPPED: dict[str, tuple[VqImage, MaskedGrid]] = {"vq_image": (VqImage(), ImageMaskedSmall()),
                                                  "rvq_image": (RvqImage(), ImageMaskedRvq())}
"""Tokenizers and the models of their tokens."""


def add_pair(parser: argparse.ArgumentParser, tokenizer: str = "vq_image") -> None:
    """The options that `chosen_pair` reads."""
    parser.add_argument("--tokenizer", choices=SHIPPED, default=tokenizer)
    parser.add_argument("--model", help="weights of another masked model of its tokens")


def chosen_pair(options: argparse.Namespace) -> tuple[VqImage, MaskedGrid]:
    """The tokenizer and the model that `--tokenizer` and `--model` name."""
    tokenizer, model = SHIPPED[options.tokenizer]
    return tokenizer, MaskedGrid(path=options.model) if options.model else model


def depth(tokens: Tokens) -> int:
    """Tokens of a cell."""
    return tokens.grid[2] if len(tokens.grid) == 3 else 1


def whole(path: Path, scale: float | None, limit: int | None = None) -> list[Item]:
    source = Images(path=str(path), scale=scale)
    indices = range(min(source.num_items or 0, limit or source.num_items or 0))
    return source.items(indices, [ROOT] * len(indices))


def tiles(tokenizer: VqImage, pictures: Sequence[Item], per_picture: int) -> list[Sample]:
    found = []
    for picture, item in enumerate(pictures):
        assert isinstance(item.content, np.ndarray)
        room = np.array(item.content.shape[:2]) - SIDE + 1
        for top, left in (ROOT.child("tiles", item.name).uniform(per_picture, 2) * room).astype(int).tolist():
            cut = replace(item, content=item.content[top:top + SIDE, left:left + SIDE].copy())
            found.append(Sample(picture, cut, tokenizer.encode(cut, ROOT)))
    return found


def of_pictures(samples: Sequence[Sample], values: Sequence[float] | np.ndarray) -> np.ndarray:
    """float64 [pictures]: sums over the tiles of each."""
    return np.bincount([one.picture for one in samples], np.asarray(values, np.float64))


def with_error(samples: Sequence[Sample], values: Sequence[float] | np.ndarray) -> str:
    """The mean with its interval."""
    mean, half = interval(of_pictures(samples, values), of_pictures(samples, [1.0] * len(samples)))
    return f"{mean:7.3f} ± {half:.3f}"


def fitted(tokens: Sequence[Tokens], floor: float) -> OrderZero:
    values, size = np.concatenate([one.values.reshape(-1, depth(one)) for one in tokens]), tokens[0].vocab_size
    return OrderZero(counts=tuple(tuple((np.bincount(stage, minlength=size) + floor).tolist()) for stage in values.T))


def show_savings(title: str, samples: Sequence[Sample], model: MaskedModel, rivals: dict[str, OrderZero],
                 rounds: Sequence[int]) -> None:
    def bits(coder: MaskedEntropy) -> np.ndarray:
        return of_pictures(samples, [int(packets.num_bits.sum()) for packets, _ in coder.encode([one.tokens for one in samples])])

    count = of_pictures(samples, [one.tokens.values.size for one in samples])
    print(f"{title}: {len(samples)} of {count.size} pictures, {int(count.sum())} tokens in {NUM_PACKETS} packets each")
    of_rivals = {label: bits(MaskedEntropy(model=rival, num_packets=NUM_PACKETS)) for label, rival in rivals.items()}
    for label, own in of_rivals.items():
        print(f"  {label:34s} {interval(own, count)[0]:.3f} bits a token")
    for context in CONTEXTS:
        for turns in rounds:
            own = bits(MaskedEntropy(model=model, num_packets=NUM_PACKETS, context=context, rounds=turns))
            saved = [interval(rival - own, rival) for rival in of_rivals.values()]
            cells = "   ".join(f"{100 * share:5.1f} ± {100 * half:.1f} %" for share, half in saved)
            print(f"  {context:12s} {turns:3d} rounds {interval(own, count)[0]:7.3f} bits a token, saved {cells}", flush=True)


def heard(coder: MaskedEntropy, coded: Sequence[tuple[Packets, Preamble]], loss_rate: float) -> list[Evidence]:
    channel, packets = PacketLoss(loss_rate=loss_rate), [one for one, _ in coded]
    sent = channel.transmit(packets, [ROOT.child("channel", i) for i in range(len(packets))])
    return coder.receive([channel.receive(one) for one in sent], [preamble for _, preamble in coded])


def restored(tokenizer: VqImage, decoder: Decoder, sample: Sample, evidence: Evidence, number: int) -> np.ndarray:
    key = ROOT.child("decoder", number)
    found, = decoder.restore([evidence], [key])
    content, missing = tokenizer.decode(replace(found, content_shape=sample.tokens.content_shape), ROOT)
    mended = decoder.mend(content, missing, key)
    assert isinstance(mended, np.ndarray)
    return mended


def psnrs(samples: Sequence[Sample], pictures: Sequence[np.ndarray]) -> np.ndarray:
    """float64, of each sample, dB."""
    return np.array([psnr_db(squared_error(np.asarray(one.item.content), picture) / picture.size)
                     for one, picture in zip(samples, pictures, strict=True)])


def show_resilience(tokenizer: VqImage, samples: Sequence[Sample], model: MaskedModel, rounds: int) -> None:
    print(f"resilience: {len(samples)} tiles, {NUM_PACKETS} packets, {rounds} rounds, mean_embedding; bits per pixel, PSNR (dB) at "
          f"{', '.join(f'{loss:.0%}' for loss in LOSSES)} packet loss")
    decoder = MaskedImage(model=model)
    for context in CONTEXTS:
        coder = MaskedEntropy(model=model, num_packets=NUM_PACKETS, context=context, rounds=rounds, header_bits=0)
        coded = coder.encode([one.tokens for one in samples])
        per_pixel = [(int(packets.num_bits.sum()) + preamble.num_bits) / SIDE**2 for packets, preamble in coded]
        cells = []
        for loss in LOSSES:
            evidence = heard(coder, coded, loss)
            pictures = [restored(tokenizer, decoder, *pair, i) for i, pair in enumerate(zip(samples, evidence, strict=True))]
            cells.append(with_error(samples, psnrs(samples, pictures)))
        print(f"  {context:12s} {with_error(samples, per_pixel)} bpp  {'  '.join(cells)}", flush=True)


def show_decoders(title: str, tokenizer: VqImage, samples: Sequence[Sample], model: MaskedModel, num_packets: int,
                  losses: Sequence[float]) -> None:
    decoders: dict[str, Decoder] = {
        "none": NoDecoder(), "neighbour_mean": NeighbourMean(), "interpolate": Interpolate(), "biharmonic": Biharmonic(),
        "mean_embedding": MaskedImage(model=model), "mean_pixels": MaskedImage(model=model, estimate="mean_pixels"),
        "map, 1 round": MaskedImage(model=model, estimate="map", num_rounds=1), "map": MaskedImage(model=model, estimate="map"),
        "sample": MaskedImage(model=model, estimate="sample")}
    coder = MaskedEntropy(model=model, num_packets=num_packets, rounds=1)
    coded = coder.encode([one.tokens for one in samples])
    for loss in losses:
        evidence = heard(coder, coded, loss)
        print(f"{title}, {loss:.0%} of {num_packets} packets lost: PSNR (dB), dB below mean_embedding; squared error against what "
              "decodes without loss")
        unhurt = [restored(tokenizer, NoDecoder(), one, _all_known(one.tokens), i) for i, one in enumerate(samples)]
        shown = {label: [restored(tokenizer, decoder, one, two, i) for i, (one, two) in enumerate(zip(samples, evidence))]
                 for label, decoder in decoders.items()}
        best = psnrs(samples, shown["mean_embedding"])
        for label, pictures in shown.items():
            own = psnrs(samples, pictures)
            behind = with_error(samples, best - own)
            errors = with_error(samples, [squared_error(one, two) / one.size for one, two in zip(unhurt, pictures)])
            print(f"  {label:15s} {with_error(samples, own)}   {behind}   {errors}", flush=True)


class Told(MaskedModel):
    """Of each place asked what `model` says, given the true tokens of all other cells; no receiver has it."""

    model: SerializeAsAny[MaskedModel]
    truth: tuple[int, ...]

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    def frequencies(self, messages: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([self._alone(message, place) for place in places]) for message, places in zip(messages, asked)]

    def _alone(self, message: np.ndarray, place: int) -> np.ndarray:
        others = np.array(self.truth, np.int32).reshape(message.shape)
        cells = others.reshape(message.shape[0] * message.shape[1], -1)
        cells[place // cells.shape[1]] = -1
        return self.model.frequencies([others], [np.array([place])])[0]


def show_told(tokenizer: VqImage, samples: Sequence[Sample], model: MaskedModel) -> None:
    coder = MaskedEntropy(model=model, num_packets=NUM_PACKETS, rounds=1)
    evidence = heard(coder, coder.encode([one.tokens for one in samples]), 0.3)
    print("told: 30 % lost, PSNR (dB), dB above neighbour_mean")
    shown: dict[str, list[np.ndarray]] = {"neighbour_mean": [], "mean_embedding": [], "mean_embedding, told": []}
    for i, (sample, one) in enumerate(zip(samples, evidence, strict=True)):
        truth = tuple(sample.tokens.values.tolist())
        for decoder, pictures in zip((NeighbourMean(), MaskedImage(model=model), MaskedImage(model=Told(model=model, truth=truth))),
                                     shown.values(), strict=True):
            pictures.append(restored(tokenizer, decoder, sample, one, i))
    base = psnrs(samples, shown["neighbour_mean"])
    for label, pictures in shown.items():
        own = psnrs(samples, pictures)
        print(f"  {label:21s} {with_error(samples, own)}   {with_error(samples, own - base)}", flush=True)


def _all_known(tokens: Tokens) -> Evidence:
    return Evidence(np.ones(tokens.values.size, bool), tokens.values, tokens.vocab_size, tokens.grid)


def timed(label: str, action: Callable[[], Result]) -> Result:
    cpu, wall = time.process_time(), time.perf_counter()
    result = action()
    print(f"  {label:44s} {time.process_time() - cpu:6.2f} s CPU, {time.perf_counter() - wall:6.2f} s", flush=True)
    return result


def show_speed(tokenizer: VqImage, item: Item, model: MaskedModel) -> None:
    print(f"speed: {item.name}")
    tokens = tokenizer.encode(item, ROOT)
    MaskedEntropy(model=model).encode([tokens])  # compile and load
    timed("pixels to tokens", lambda: tokenizer.encode(item, ROOT))
    for context, rounds in (("independent", 1), ("chained", 2), ("chained", 4), ("chained", 16)):
        coder = MaskedEntropy(model=model, num_packets=NUM_PACKETS, context=context, rounds=rounds)
        coded = timed(f"masked_entropy encodes, {context}, {rounds} rounds", lambda: coder.encode([tokens]))
        evidence, = timed("    and decodes, nothing lost", lambda: heard(coder, coded, 0.0))
    coder = MaskedEntropy(model=model, num_packets=64, rounds=1)
    evidence, = heard(coder, coder.encode([tokens]), 0.3)
    sample = Sample(0, item, tokens)
    for estimate in ("mean_embedding", "sample"):
        decoder = MaskedImage(model=model, estimate=estimate)
        timed(f"{estimate} conceals 30 %, tokens to pixels", lambda: restored(tokenizer, decoder, sample, evidence, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["savings", "resilience", "decoders", "lossless", "told", "speed"])
    parser.add_argument("--tiles", type=int, default=1, help="of each picture")
    parser.add_argument("--pictures", type=int, default=4, help="whole ones, of bsds500_val")
    parser.add_argument("--rounds", type=int, default=4, help="in resilience")
    add_pair(parser)
    options = parser.parse_args()
    tokenizer, model = chosen_pair(options)
    halved = whole(options.folder / "bsds500_val", 0.5)
    lossless = whole(options.folder / "lossless_png", None)
    samples = tiles(tokenizer, lossless + halved, options.tiles)
    some = [Sample(i, one, tokenizer.encode(one, ROOT)) for i, one in enumerate(halved[:options.pictures])]
    if "savings" in options.parts:
        training = [tokenizer.encode(one, ROOT) for one in whole(options.folder / "bsds500_train", 0.5, limit=100)]
        for title, chosen, rounds in (("tiles", samples, ROUNDS), ("pictures", some, ROUNDS[:2])):
            rivals = {"order 0, training tokens": fitted(training, 0.5),
                      "order 0, the very tokens": fitted([one.tokens for one in chosen], 1e-9)}
            show_savings(title, chosen, model, rivals, rounds)
    if "resilience" in options.parts:
        with memo.attach(None):
            show_resilience(tokenizer, samples, model, options.rounds)
    if "decoders" in options.parts:
        show_decoders("tiles", tokenizer, samples, model, NUM_PACKETS, (0.1, 0.3, 0.5))
        show_decoders("pictures", tokenizer, some, model, 64, (0.3,))
    if "lossless" in options.parts:
        full = [Sample(i, one, tokenizer.encode(one, ROOT)) for i, one in enumerate(lossless)]
        show_decoders("lossless pictures", tokenizer, full, model, 64, (0.3,))
    if "told" in options.parts:
        show_told(tokenizer, samples, model)
    if "speed" in options.parts:
        whole_picture, = Images(path=str(options.folder / "lossless_png" / "astronaut.png")).items([0], [ROOT])
        show_speed(tokenizer, whole_picture, model)


if __name__ == "__main__":
    main()
