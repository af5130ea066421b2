"""How much protection each part of a progressive stream should have: `python -m benchmarks.prefix_protection FOLDER [PICTURES]`.

For every tokenizer that a `--scenario` sends in layers of protection `priority`: what a prefix of its stream is worth, measured
with the pictures in FOLDER in place of the scenario's own, which are those that its report is drawn from; and the layers that
`channel_sim.theory.priority` finds best for what arrives at each point of the sweep, and at all of them alike. Beside them the best
single layer, which is Reed-Solomon with one code rate. Prints `needed`, `shares`, bytes of the stream and mean PSNR in dB. The same
for the image codecs of the scenario, whose files are of use only as a whole: the best k of n.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import binom

from channel_sim.fidelity import psnr_db, squared_error
from channel_sim.keys import Key
from channel_sim.losses import PacketLoss
from channel_sim.priority import Priority
from channel_sim.protection import NoProtection
from channel_sim.stages import Channel, Protection, Tokenizer
from channel_sim.theory.priority import best_layers, mean_quality
from channel_sim.types import Item, Origin, Packets, Reconstruction
from scenarios.scenario import Task, load
from sources.codecs import LossyCodec

PREFIXES = (0, 1 / 64, 1 / 32, 3 / 64, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)
DRAWS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", type=int, nargs="?", default=16)
    parser.add_argument("--scenario", default="diffc_progressive_link")
    options = parser.parse_args()
    tasks = [task for task in load(options.scenario).tasks if _has_layers(task.chain.protection)]
    streams: dict[Tokenizer, list[Task]] = {}
    for task in tasks:
        streams.setdefault(task.chain.tokenizer, []).append(task)
    for tokenizer, of_stream in streams.items():
        n, packet_bytes = _size(of_stream[0])
        quality = _quality(of_stream[0], options.folder, options.pictures, n * packet_bytes)
        print(f"{type(tokenizer).__name__}, {n} packets of {packet_bytes} bytes; {options.pictures} of {options.folder.name}")
        print("  dB by bytes: " + ", ".join(f"{length} {quality[length]:.2f}" for length in _lengths(n * packet_bytes)))
        first_arm = [task for task in of_stream if task.arm == of_stream[0].arm]
        arrivals = {f"{task.sweep}": _arrivals(task.chain.channel, n, 8 * packet_bytes) for task in first_arm}
        arrivals["all alike"] = np.mean(list(arrivals.values()), axis=0)
        for name, of_point in arrivals.items():
            _print(name, quality, of_point, packet_bytes)
        for codec in {type(task.chain.tokenizer): task for task in load(options.scenario).tasks}.values():
            if isinstance(codec.chain.tokenizer, LossyCodec):
                _print_codec(codec, options.folder, options.pictures, packet_bytes, arrivals)


def _has_layers(protection: Protection) -> bool:
    return isinstance(protection, Priority) and len(protection.needed) > 1


def _size(task: Task) -> tuple[int, int]:
    """(packets, bytes of each) that the scenario's protection sends."""
    protection, channel = task.chain.protection, task.chain.channel
    assert isinstance(protection, Priority) and protection.target_uses is not None
    sizes = np.arange(1, 1 << 12)
    uses = protection.n * channel.channel_uses(8 * sizes + channel.crc_bits) + channel.side_uses(8)
    return protection.n, int(sizes[uses <= protection.target_uses].max())


def _quality(task: Task, folder: Path, num_pictures: int, num_bytes: int) -> np.ndarray:
    """float64 [num_bytes + 1]: mean PSNR of a picture from its first bytes, straight lines between `PREFIXES`."""
    lengths = _lengths(num_bytes)
    found = [_psnr_of_prefixes(task.chain.tokenizer, item, key, lengths) for item, key in _items(task, folder, num_pictures)]
    return np.interp(np.arange(num_bytes + 1), lengths, np.mean(found, axis=0))


def _items(task: Task, folder: Path, num_pictures: int) -> list[tuple[Item, Key]]:
    keys = [Key(1).child("item", index) for index in range(num_pictures)]
    return list(zip(task.chain.source.model_copy(update={"path": str(folder)}).items(range(num_pictures), keys), keys, strict=True))


def _lengths(num_bytes: int) -> np.ndarray:
    return np.rint(np.multiply(PREFIXES, num_bytes)).astype(int)


def _psnr_of_prefixes(tokenizer: Tokenizer, item: Item, key: Key, lengths: Iterable[int]) -> list[float]:
    """dB, of a picture from so many bytes of its stream."""
    tokens, found = tokenizer.encode(item, key), list[float]()
    for length in lengths:
        lost = np.arange(tokens.values.size) >= length
        received = Reconstruction(values=np.where(lost, 0, tokens.values), confidence=1.0 - lost, vocab_size=tokens.vocab_size,
                                  origin=np.where(lost, Origin.LOST, Origin.RECEIVED).astype(np.uint8),
                                  content_shape=tokens.content_shape)
        shown, _ = tokenizer.decode(received, key)
        assert isinstance(shown, np.ndarray) and isinstance(item.content, np.ndarray)
        found.append(psnr_db(squared_error(item.content, shown) / shown.size))
    return found


def _arrivals(channel: Channel, n: int, packet_bits: int) -> np.ndarray:
    """float64 [n + 1], P(exactly m of n packets arrive): of independent losses in closed form, else from draws of the channel."""
    if isinstance(channel, PacketLoss):
        return np.asarray(binom.pmf(np.arange(n + 1), n, 1 - channel.loss_rate))
    blank = Packets(bits=np.zeros((n, packet_bits), np.uint8), num_bits=np.full(n, packet_bits, np.int32),
                    order=np.zeros(0, np.int32), bounds=np.zeros(n + 1, np.int32), header=np.zeros((n, 3), np.int32))
    keys = [Key(1).child("arrival", draw) for draw in range(DRAWS)]
    lost = [int(one.reception.lost.sum()) for one in NoProtection().send([blank] * DRAWS, channel, keys)]
    return np.bincount(n - np.array(lost), minlength=n + 1) / DRAWS


def _print(name: str, quality: np.ndarray, arrivals: np.ndarray, packet_bytes: int) -> None:
    n = arrivals.size - 1
    single = [mean_quality(quality, arrivals, [needed], [packet_bytes]) for needed in range(1, n + 1)]
    needed, shares = best_layers(quality, arrivals, packet_bytes)
    print(f"  {name}: needed = {list(needed)}, shares = {list(shares)}, {np.dot(needed, shares)} bytes, "
          f"{mean_quality(quality, arrivals, needed, shares):.2f} dB; one layer of {np.argmax(single) + 1}: {max(single):.2f} dB; "
          f"nothing lost: {quality[-1]:.2f} dB")


def _print_codec(task: Task, folder: Path, num_pictures: int, packet_bytes: int, arrivals: Mapping[str, np.ndarray]) -> None:
    """The best k of a codec whose files fill k packets: what is not decodable is mid-grey."""
    n = next(iter(arrivals.values())).size - 1
    items = _items(task, folder, num_pictures)
    codecs = [task.chain.tokenizer.model_copy(update={"target_bytes": k * packet_bytes}) for k in range(1, n + 1)]
    whole = np.array([np.mean([_psnr_of_prefixes(codec, item, key, [1 << 16])[0] for item, key in items]) for codec in codecs])
    grey = np.mean([_psnr_of_prefixes(codecs[0], item, key, [0])[0] for item, key in items])
    print(f"{type(task.chain.tokenizer).__name__}, dB with nothing lost by k: "
          + ", ".join(f"{k} {one:.2f}" for k, one in enumerate(whole, 1)))
    for name, of_point in arrivals.items():
        enough = 1 - np.cumsum(of_point)[:-1]
        found = grey + enough * (whole - grey)
        print(f"  {name}: any {found.argmax() + 1} of {n}, {found.max():.2f} dB", flush=True)


if __name__ == "__main__":
    main()
