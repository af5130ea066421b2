"""What DiffC of pictures takes and gives: `python -m benchmarks.diffc_pictures PART… --pictures PATH`.

PATH is a path of source images; pictures are made small by `--scale` (.5) and cut into tiles of 32 x 32, `--tiles` (48) of which,
spread over all, are coded. Bits are those of the bytes sent. PSNR in dB is of the mean of squared errors over all tiles.

rates      at .25, .5 and 1 bit a pixel: what is decoded, beside JPEG (4:2:0) and WebP without their heads; what the denoised mean
           is ahead of JPEG by, of all tiles, of those JPEG has a file of, and tile by tile, with 95 % intervals by the bootstrap
           over photographs, which are few: a little narrow
levels     where the stream ends at a level: bits, PSNR of the mean, the flow and the sample, and what the flow is ahead of it by
prefixes   PSNR of the mean over the length of what came of one stream, with its 95 % interval by the bootstrap over photographs
settings   octaves a step, bits of the checksum, and search by chunk size: bits and ms to a level, PSNR at .5 bit a pixel
speed      CPU seconds for one tile at 1 bit a pixel, for 64, and for a picture of 512 x 512
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import numpy as np

from channel_sim.fidelity import psnr_db, squared_error
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.theory.gaussian import Reconstruction as Rule
from channel_sim.types import Item, Reconstruction
from sources.codecs import Jpeg, LossyCodec, Webp
from sources.diffusion.diffc_image import DiffcImage
from sources.images import Images

KEY = Key(1).child("diffc pictures")
RATES = (0.25, 0.5, 1.0)
RULES: tuple[Rule, ...] = ("mean", "flow", "ancestral")
DRAWS = 1000


def rates(tiles: Sequence[Item]) -> None:
    print(f"{'bits a pixel':<14}{'JPEG':>8}{'no file':>9}{'WebP':>8}{'no file':>9}{'mean':>8}{'flow':>8}{'sample':>8}")
    for rate in RATES:
        target: dict[str, Any] = {"target_bytes": int(rate * 128), "headerless": True, "over_budget": "drop"}
        arms: list[Tokenizer] = [Jpeg(**target), Webp(**target)]
        arms += [DiffcImage(target_bits_per_pixel=rate, reconstruction=rule) for rule in RULES]
        entries, by_tile, sent = list[str](), list[np.ndarray](), list[np.ndarray]()
        for arm in arms:
            streams = _streams(tiles, arm)
            by_tile.append(_errors(tiles, arm, streams))
            sent.append(np.array([stream.size > 0 for stream in streams]))
            entries.append(f"{psnr_db(float(by_tile[-1].mean())):>8.2f}")
            if isinstance(arm, LossyCodec):
                entries.append(f"{np.count_nonzero(~sent[-1]):>9}")
        print(f"{rate:<14g}{''.join(entries)}")
        _ahead(tiles, by_tile[2], by_tile[0], sent[0])


def _ahead(tiles: Sequence[Item], ours: np.ndarray, theirs: np.ndarray, sent: np.ndarray) -> None:
    """What the mean is ahead of JPEG by; errors of each tile, and whether JPEG has a file of it."""
    errors = np.stack([ours, theirs], axis=1)
    print(f"    mean ahead of JPEG, all tiles: {_gain(errors):.2f} [{_interval(tiles, errors, _gain)}]", flush=True)
    if 0 < np.count_nonzero(sent) < len(sent):
        of_sent = [tile for tile, has_file in zip(tiles, sent, strict=True) if has_file]
        mean, jpeg = (psnr_db(float(one.mean())) for one in errors[sent].T)
        print(f"    the {len(of_sent)} tiles that JPEG has a file of: {mean:.2f} against {jpeg:.2f}, {_gain(errors[sent]):.2f} "
              f"[{_interval(of_sent, errors[sent], _gain)}]; {theirs[~sent].sum() / theirs.sum():.0%} of its error is the others'")
    each = np.array([psnr_db(mine) - psnr_db(other) for mine, other in errors])
    of_photographs = ", ".join(f"{name} {group.mean():.1f}" for name, group in _photographs(tiles, each).items())
    print(f"    tile by tile: {each.mean():.2f} [{_interval(tiles, each)}]: {of_photographs}", flush=True)


def _gain(errors: np.ndarray) -> float:
    """dB, of mean errors [tile, (ours, theirs)]."""
    ours, theirs = errors.mean(axis=0)
    return psnr_db(float(ours)) - psnr_db(float(theirs))


def levels(tiles: Sequence[Item]) -> None:
    print(f"{'level':<8}{'bits a pixel':>13}{'mean':>8}{'flow':>8}{'sample':>8}   flow ahead of sample, tile by tile")
    for level in (112, 128, 144, 160, 176, 192, 208):
        streams = _streams(tiles, DiffcImage(level=level))
        by_tile = [_errors(tiles, DiffcImage(level=level, reconstruction=rule), streams) for rule in RULES]
        ahead = np.array([psnr_db(flow) - psnr_db(sample) for flow, sample in zip(by_tile[1], by_tile[2], strict=True)])
        print(f"{level:<8}{_bits(streams):>13.3f}" + "".join(f"{psnr_db(float(one.mean())):>8.2f}" for one in by_tile)
              + f"   {ahead.mean():.2f} [{_interval(tiles, ahead)}]", flush=True)


def prefixes(tiles: Sequence[Item]) -> None:
    coded = DiffcImage(target_bits_per_pixel=1.5, reconstruction="mean")
    streams = _streams(tiles, coded)
    print(f"{'bytes':<8}{'bits a pixel':>13}{'PSNR':>8}   mean over tiles")
    for length in range(0, 193, 16):
        by_tile = _errors(tiles, coded, [stream[:length] for stream in streams])
        each = np.array([psnr_db(one) for one in by_tile])
        print(f"{length:<8}{length / 128:>13.3f}{psnr_db(float(by_tile.mean())):>8.2f}   {each.mean():.2f} "
              f"[{_interval(tiles, each)}]", flush=True)


def settings(tiles: Sequence[Item]) -> None:
    print(f"{'setting':<34}{'bits a pixel':>13}{'ms':>7}{'mean':>8}{'at .5 bits':>12}   (to level 144, a tile)")
    for octaves in (1.0, 2.0, 3.0):
        _setting(tiles, f"dithered, steps of {octaves:g} octaves", {"octaves_per_step": octaves})
    for check_bits in (0, 8):
        _setting(tiles, f"dithered, checksums of {check_bits} bits", {"check_bits": check_bits})
    for search_bits in (6, 8, 11, 13):
        _setting(tiles, f"searches of 2^{search_bits}", {"coding": "poisson", "search_bits": search_bits})


def _setting(tiles: Sequence[Item], label: str, fields: dict[str, Any]) -> None:
    start = process_time()
    streams = _streams(tiles, DiffcImage(level=144, **fields))
    milliseconds = 1000 * (process_time() - start) / len(tiles)
    mean = _psnr(tiles, DiffcImage(level=144, reconstruction="mean", **fields), streams)
    half = DiffcImage(target_bits_per_pixel=0.5, reconstruction="mean", **fields)
    at_half = _psnr(tiles, half, _streams(tiles, half))
    print(f"{label:<34}{_bits(streams):>13.3f}{milliseconds:>7.0f}{mean:>8.2f}{at_half:>12.2f}", flush=True)


def speed(tiles: Sequence[Item]) -> None:
    side_by_side = [np.asarray(tiles[place % len(tiles)].content) for place in range(256)]
    whole = np.concatenate([np.concatenate(side_by_side[16 * row:16 * row + 16], axis=1) for row in range(16)])
    jobs = {"one tile": tiles[:1], "64 tiles": [tiles[place % len(tiles)] for place in range(64)],
            "512 x 512": [Item(whole, "image", "tiles side by side")]}
    print(f"{'1 bit a pixel':<16}" + "".join(f"{name:>18}" for name in ("encode s", "mean s", "flow s", "sample s")))
    _streams(tiles[:1], DiffcImage(target_bits_per_pixel=1.0))  # what is compiled and read once
    for name, items in jobs.items():
        clocks = [process_time()]
        streams = _streams(items, DiffcImage(target_bits_per_pixel=1.0))
        clocks.append(process_time())
        for rule in RULES:
            _errors(items, DiffcImage(target_bits_per_pixel=1.0, reconstruction=rule), streams)
            clocks.append(process_time())
        print(f"{name:<16}" + "".join(f"{one:>18.2f}" for one in np.diff(clocks)), flush=True)


def _key(tile: Item) -> Key:
    return KEY.child(tile.name)


def _streams(tiles: Sequence[Item], arm: Tokenizer) -> list[np.ndarray]:
    return [arm.encode(tile, _key(tile)).values for tile in tiles]


def _bits(streams: Sequence[np.ndarray]) -> float:
    """A pixel of a tile."""
    return 8 * float(np.mean([stream.size for stream in streams])) / 1024


def _errors(tiles: Sequence[Item], arm: Tokenizer, streams: Sequence[np.ndarray]) -> np.ndarray:
    """Mean squared error of each tile."""
    found = []
    for tile, stream in zip(tiles, streams, strict=True):
        pixels = np.asarray(tile.content)
        came = Reconstruction(stream.astype(np.int32), np.zeros(stream.size, np.uint8), np.ones(stream.size, np.float32), 256,
                              content_shape=pixels.shape)
        content, _ = arm.decode(came, _key(tile))
        found.append(squared_error(pixels, np.asarray(content)) / pixels.size)
    return np.array(found)


def _psnr(tiles: Sequence[Item], arm: Tokenizer, streams: Sequence[np.ndarray]) -> float:
    return psnr_db(float(_errors(tiles, arm, streams).mean()))


def _photographs(tiles: Sequence[Item], values: np.ndarray) -> dict[str, np.ndarray]:
    """The values of the tiles of each photograph."""
    names = np.array([tile.name.split("[")[0] for tile in tiles])
    return {str(name): values[names == name] for name in np.unique(names)}


def _interval(tiles: Sequence[Item], values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean) -> str:
    """Photographs are drawn anew, with all of their tiles."""
    groups = list(_photographs(tiles, values).values())
    chosen = KEY.child("bootstrap").integers(len(groups), DRAWS, len(groups))
    found = [statistic(np.concatenate([groups[one] for one in draw])) for draw in chosen]
    return "{:.2f}, {:.2f}".format(*np.quantile(found, [0.025, 0.975]))


PARTS: dict[str, Callable[[Sequence[Item]], None]] = {"rates": rates, "levels": levels, "prefixes": prefixes, "settings": settings,
                                                      "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS), default=list(PARTS))
    parser.add_argument("--pictures", required=True, help="a path of source images")
    parser.add_argument("--tiles", type=int, default=48)
    parser.add_argument("--scale", type=float, default=0.5)
    options = parser.parse_args()
    source = Images(path=options.pictures, size=32, crop="tile", scale=options.scale)
    chosen = np.linspace(0, source.num_items - 1, options.tiles).astype(int).tolist()
    tiles = source.items(chosen, [KEY] * len(chosen))
    for part in options.parts:
        PARTS[part](tiles)
        print()


if __name__ == "__main__":
    main()
