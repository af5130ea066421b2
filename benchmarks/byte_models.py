"""What the byte models of pictures and sounds cost, beside the formats made for each, and how fast they are.

    python -m benchmarks.byte_models [--pictures PATH ...] [--scale S] [--sounds PATH ...] [--chunks N]
                                     [--image-model NAME|PATH] [--sound-model NAME|PATH]

Chunks of 2,048 bytes, grey tiles of 32 x 64 pixels or samples of 8 bits, lie in even steps over all that are whole; each is coded
alone and decoded again. In percent of the bytes, with 95 % intervals over chunks: the file, and the file without its head, which
is what the method makes of one byte of 0. Speed is tokens per second of processor time, with OMP_NUM_THREADS=1 of
one core: tables alone, coded one chunk at a time, coded step by step over 64 lanes, and decoded over 64 lanes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.stages import Coder, Source, Tokenizer
from channel_sim.types import Tokens
from scenarios import catalogue
from sources.entropy import Lane, Run, decode_lanes, encode_lanes, encode_run
from sources.models.model import CausalModel

CHUNK_BYTES, TILE = 2048, (32, 64)
LANES = 64


def main() -> None:
    options = _options()
    for path in options.pictures:
        table = {"name": "images", "path": path, "grey": True, "crop": "tile", "size": TILE, "scale": options.scale}
        _measure(path, table, {"name": "pixels"}, options.image_model, ("png", "webp"), options.chunks)
    for path in options.sounds:
        table = {"name": "audio", "path": path, "sample_bits": 8, "item_samples": CHUNK_BYTES}
        _measure(path, table, {"name": "pcm", "sample_bits": 8}, options.sound_model, ("flac",), options.chunks)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="*", default=[], help="pictures, or folders of them")
    parser.add_argument("--scale", type=float, help="factor on their sides; .5 takes the traces of JPEG away")
    parser.add_argument("--sounds", nargs="*", default=[], help="recordings, or folders of them")
    parser.add_argument("--chunks", type=int, default=256, help="chunks of each path at most")
    parser.add_argument("--image-model", default="image-byte-small")
    parser.add_argument("--sound-model", default="sound-byte-small")
    return parser.parse_args()


def _measure(path: str, source: dict[str, Any], tokenizer: dict[str, Any], model: str, formats: Sequence[str], most: int) -> None:
    tokens = _tokens(source, tokenizer, most)
    print(f"\n{path}: {len(tokens)} chunks; % of the bytes", flush=True)
    learned = catalogue.build("models", catalogue.model_table(model, "--model"), "--model")
    assert isinstance(learned, CausalModel)
    for method in formats:
        coder = catalogue.build("coders", {"name": "compressor", "method": method, "packet_bits": None, "header_bits": 0}, method)
        assert isinstance(coder, Coder)
        packets = [coder.encode([one])[0][0] for one in tokens]
        bits = np.array([one.num_bits.sum() for one in packets])
        print(f"  {method:<20} {_percent(bits)}, without head {_percent(bits - [one.head_bits for one in packets])}", flush=True)
    streams = encode_lanes(learned, [one.values for one in tokens])
    print(f"  {model:<20} {_percent(np.array([one.size for one in streams]))}, has no head", flush=True)
    _speeds(learned, [one.values for one in tokens[:LANES]])


def _tokens(source_table: dict[str, Any], tokenizer_table: dict[str, Any], most: int) -> list[Tokens]:
    source = catalogue.build("sources", source_table, "source")
    tokenizer = catalogue.build("tokenizers", tokenizer_table, "tokenizer")
    assert isinstance(source, Source) and isinstance(tokenizer, Tokenizer) and source.num_items is not None
    places = np.unique(np.linspace(0, source.num_items - 1, most).astype(int)).tolist()
    keys = [Key(0)] * len(places)
    tokens = [tokenizer.encode(item, key) for item, key in zip(source.items(places, keys), keys)]
    return [one for one in tokens if one.values.size == CHUNK_BYTES]


def _percent(bits: np.ndarray) -> str:
    rates = 100 * bits / (8 * CHUNK_BYTES)
    return f"{rates.mean():6.2f} ± {1.96 * rates.std(ddof=1) / rates.size ** 0.5:.2f}"


def _speeds(model: CausalModel, messages: list[np.ndarray]) -> None:
    num_tokens = sum(one.size for one in messages)

    def decode() -> None:
        lanes = [Lane(stream, range(CHUNK_BYTES), complete=True) for stream in streams]
        decode_lanes(model, lanes)
        assert all(np.array_equal(lane.tokens, one) for lane, one in zip(lanes, messages))

    streams = encode_lanes(model, messages)
    jobs: dict[str, Callable[[], object]] = {
        "tables": lambda: [model.tables(model.start(1), one) for one in messages],
        "encoded alone": lambda: [encode_run(Run(model, one), None) for one in messages],
        "encoded in lanes": lambda: encode_lanes(model, messages),
        "decoded in lanes": decode}
    for name, job in jobs.items():
        start = process_time()
        job()
        print(f"  {name:<20} {num_tokens / (process_time() - start):,.0f} tokens a CPU second, {len(messages)} chunks", flush=True)


if __name__ == "__main__":
    main()
