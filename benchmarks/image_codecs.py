"""Classical image codecs at equal bytes: quality, what heads cost, what is left after losses, and time.

    python -m benchmarks.image_codecs [PICTURES]

PICTURES is a path of source images, `scikit-image` if left out. Tiles of 32 x 32 pixels get 192 bytes each, pictures halved in size
half a bit a pixel; a picture of which no file fits counts as grey. Losses are of packets of 64 bytes, 5 % each by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

from channel_sim.fidelity import psnr_db, squared_error
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction, Tokens
from decoders.inpainting import Biharmonic, Interpolate
from sources.codecs import Avif, Jpeg, Jpeg2000, LossyCodec, Webp
from sources.images import Images

NUM_TILES, TILE_BYTES = 120, 192
PACKET_BYTES, LOSS_RATE = 64, 0.05
KEY = Key(1)


def main(path: str) -> None:
    """Print a table for tiles and one for pictures, and what mending costs."""
    tiles = Images(path=path, size=32, crop="tile")
    spread = np.linspace(0, tiles.num_items - 1, NUM_TILES).astype(int)
    _table("tiles of 32 x 32, 192 bytes", tiles.items(spread, [KEY] * NUM_TILES), restart_interval=1)
    halved = Images(path=path, scale=0.5)
    pictures = halved.items(range(halved.num_items), [KEY] * halved.num_items)
    _table("pictures halved, 0.5 bits a pixel", pictures, restart_interval=8)
    _mending()


def _table(title: str, items: Sequence[Item], restart_interval: int) -> None:
    print(f"\n{title}: codec, heads sent, PSNR dB, pictures that do not fit, ms to encode, ms to decode; "
          "with losses: pixels missing, PSNR dB, PSNR dB interpolated")
    for kind in (Jpeg, Webp, Avif, Jpeg2000):
        for bare in (False, True):
            _row(items, kind, {"headerless": bare})
    _row(items, Jpeg, {"headerless": True, "restart_interval": restart_interval})
    _row(items, Jpeg2000, {"headerless": True, "num_layers": 4})


def _row(items: Sequence[Item], kind: type[LossyCodec], fields: dict[str, int | bool]) -> None:
    sent, clocks = [], [time.process_time()]
    codecs = [kind(target_bytes=_budget(item), over_budget="drop", **fields) for item in items]  # type: ignore[arg-type]
    for codec, item in zip(codecs, items, strict=True):
        sent.append(codec.encode(item, KEY))
    clocks.append(time.process_time())
    whole = [codec.decode(_received(tokens, 0.0, k), KEY) for k, (codec, tokens) in enumerate(zip(codecs, sent, strict=True))]
    clocks.append(time.process_time())
    holed = [codec.decode(_received(tokens, LOSS_RATE, k), KEY) for k, (codec, tokens) in enumerate(zip(codecs, sent, strict=True))]
    mended = [Interpolate().mend(content, missing, KEY) for content, missing in holed]
    encoding, decoding = 1000 * np.diff(clocks) / len(items)
    unfit = sum(tokens.values.size == 0 for tokens in sent)
    more = {name: value for name, value in fields.items() if name != "headerless"} or ""
    heads = "no " if fields["headerless"] else "yes"
    print(f"{kind.__name__.lower():9s} {heads} {more} | {_psnr(items, [one for one, _ in whole]):.2f} | {unfit}/{len(items)} | "
          f"{encoding:.1f} | {decoding:.2f} | {np.mean([one.mean() for _, one in holed]):.3f} | "
          f"{_psnr(items, [one for one, _ in holed]):.2f} | {_psnr(items, mended):.2f}", flush=True)


def _budget(item: Item) -> int:
    assert isinstance(item.content, np.ndarray)
    height, width, _ = item.content.shape
    return TILE_BYTES if height * width == 1024 else height * width // 16


def _received(tokens: Tokens, loss_rate: float, number: int) -> Reconstruction:
    size = tokens.values.size
    packets = KEY.child("loss", number).uniform(1 + size // PACKET_BYTES) < loss_rate
    lost = packets.repeat(PACKET_BYTES)[:size]
    origin = np.where(lost, Origin.LOST, Origin.RECEIVED).astype(np.uint8)
    return Reconstruction(np.where(lost, 0, tokens.values), origin, 1.0 - lost, 256, content_shape=tokens.content_shape)


def _mending() -> None:
    """CPU seconds of mending one picture of 512 x 512 pixels."""
    (item,) = Images().items([0], [KEY])
    cells = (KEY.child("cells").uniform(128, 128) < 0.5).repeat(4, axis=0).repeat(4, axis=1)
    print()
    for name, missing in (("half of all cells of 4 x 4", cells), ("one half in one piece", np.arange(512)[:, None] >= [256] * 512)):
        for decoder in (Interpolate(), Biharmonic()):
            start = time.process_time()
            decoder.mend(item.content, missing, KEY)
            print(f"{type(decoder).__name__.lower()}, {name} missing: {time.process_time() - start:.1f} s", flush=True)


def _psnr(items: Sequence[Item], contents: Sequence[np.ndarray]) -> float:
    """Of the mean squared error over all samples."""
    errors = [squared_error(item.content, content) for item, content in zip(items, contents, strict=True)]
    return psnr_db(sum(errors) / sum(content.size for content in contents))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "scikit-image")
