"""Every coder on equal chunks of every kind of data: table 1 of Delétang et al. (2024), with real bits that were decoded again.

    python -m benchmarks.lossless --text FILE [TRAIN] --images FOLDER [TRAIN] --sound FOLDER [TRAIN]
        [--dna FILE [TRAIN]] [--chunks N] [--chunk-bytes B] [--coders NAME ...]

TRAIN is what dictionaries are made of and PPMd codes beforehand: data of the same kind that no chunk is taken from. Random bytes
are always there. Pictures are grey tiles of sqrt(B/2) x sqrt(2B) pixels, sounds have samples of 8 bits. Chunks lie in even steps
over all that are whole, and each is coded alone; B = 0 takes the first picture and recording whole, and 1 MB of the others. The
published rate is payload without the file's head, of the chunk's bits; the adjusted one adds weights, vocabulary or dictionary over
1 GB; the rate on a link has heads and preamble, and no model. 95 % intervals over chunks.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.losses import Ideal
from channel_sim.protection import NoProtection
from channel_sim.stages import Coder, Source, Tokenizer
from channel_sim.trial import Chain, encode, run
from channel_sim.types import Item
from decoders.none import NoDecoder
from scenarios import catalogue
from sources.models.model import CausalModel
from sources.tokenizers import BytesTokenizer, Pixels

KEY = Key(1)
STREAM_BYTES = 1_000_000
DICTIONARY_BYTES, DICTIONARY_SAMPLES = 110 << 10, 4000
CLASSICAL = {"gzip": "gzip", "zlib": "zlib", "LZMA2 (xz)": "lzma", "LZMA2, raw": "lzma_raw", "bz2": "bz2", "zstd": "zstd",
             "brotli": "brotli", "PPMd": "ppmd", "PNG": "png", "WebP": "webp", "FLAC": "flac"}
LEARNED = ("ngram", "text-small", "text-byte-small", "image-byte-small", "sound-byte-small")
PUBLISHED = {"text": {"gzip": 48.1, "LZMA2 (xz)": 50.0, "PNG": 80.6, "FLAC": 88.9},
             "pictures": {"gzip": 68.6, "LZMA2 (xz)": 62.4, "PNG, rows of 32": 61.7, "FLAC": 60.9},
             "speech": {"gzip": 38.5, "LZMA2 (xz)": 38.2, "PNG": 37.6, "FLAC": 30.3},
             "random": {"gzip": 100.1, "LZMA2 (xz)": 100.0, "PNG": 103.2, "FLAC": 107.2}}


class Column(NamedTuple):
    """Chunks of one kind of data, the tokenizer that shows their shape, and files made of data of the same kind."""

    items: list[Item]
    tokenizer: Tokenizer
    dictionary: str | None = None
    primer: str | None = None


class Row(NamedTuple):
    """Rates of one coder in percent: [chunks] as published and as on a link, and what both ends share over 1 GB."""

    published: np.ndarray
    on_a_link: np.ndarray
    shared_percent: float

    def __str__(self) -> str:
        return (f"{_mean(self.published)}  adjusted {self.published.mean() + self.shared_percent:6.2f}  "
                f"on a link {self.on_a_link.mean():6.2f}")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        columns = dict(_columns(options, Path(folder)))
        for kind, column in columns.items():
            sizes = [len(_content(item)) for item in column.items]
            print(f"\n{kind}: {len(sizes)} chunks of {min(sizes):,} to {max(sizes):,} bytes, from {column.items[0].name} to "
                  f"{column.items[-1].name}; % of the bytes", flush=True)
            _judge(kind, dict(_rows(column, options.coders)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in ("text", "images", "sound", "dna"):
        parser.add_argument(f"--{kind}", nargs="+", default=[], help="data that nothing was trained on, and some for dictionaries")
    parser.add_argument("--chunks", type=int, default=100, help="chunks of each kind at most")
    parser.add_argument("--chunk-bytes", type=int, default=2048, help="bytes of a chunk; 0 = the whole stream")
    parser.add_argument("--prime-bytes", type=int, default=1 << 20, help="bytes of TRAIN that PPMd codes beforehand")
    parser.add_argument("--coders", nargs="*", help="only these")
    return parser.parse_args()


def _columns(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Column]]:
    size = options.chunk_bytes
    for kind, paths in (("text", options.text), ("pictures", options.images), ("speech", options.sound), ("DNA", options.dna)):
        if paths:
            source, tokenizer = _source(kind, paths[0], size)
            column = Column(_chunks(source, options.chunks if size else 1, size), tokenizer)
            yield kind, column if len(paths) == 1 else _with_shared(column, kind, paths[1], options.prime_bytes, folder)
    source, tokenizer = _source("random", "", size)
    count = options.chunks if size else 1
    yield "random", Column(source.items(range(count), _keys(count)), tokenizer)


def _source(kind: str, path: str, size: int) -> tuple[Source, Tokenizer]:
    height = isqrt(size // 2)
    tables: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "text": ({"name": "text", "path": path, "item_bytes": size or STREAM_BYTES}, {"name": "bytes"}),
        "pictures": ({"name": "images", "path": path, "grey": True} | (
            {"crop": "tile", "size": (height, 2 * height)} if size else {}), {"name": "pixels"}),
        "speech": ({"name": "audio", "path": path, "sample_bits": 8} | ({"item_samples": size} if size else {}),
                   {"name": "pcm", "sample_bits": 8}),
        "DNA": ({"name": "dna", "path": path, "item_bytes": size or STREAM_BYTES}, {"name": "bytes"}),
        "random": ({"name": "random_bytes", "num_bytes": size or STREAM_BYTES}, {"name": "bytes"}),
    }
    source, tokenizer = (catalogue.build(stage, table, kind) for stage, table in
                         zip(("sources", "tokenizers"), tables[kind], strict=True))
    assert isinstance(source, Source) and isinstance(tokenizer, Tokenizer)
    return source, tokenizer


def _chunks(source: Source, most: int, size: int) -> list[Item]:
    """In even steps over all; those that are shorter, at the end of a file, give way to the ones before."""
    assert source.num_items is not None
    places = np.unique(np.linspace(0, max(0, source.num_items - 2), most).astype(int))
    items = source.items(places.tolist(), _keys(places.size))
    return [item for item in items if not size or len(_content(item)) == size]


def _keys(count: int) -> list[Key]:
    return [KEY.child("item", index) for index in range(count)]


def _content(item: Item) -> bytes:
    return item.content if isinstance(item.content, bytes) else item.content.tobytes()


def _with_shared(column: Column, kind: str, path: str, prime_bytes: int, folder: Path) -> Column:
    """The column with a zstd dictionary, and a primer for PPMd, of chunks in even steps over the data at `path`."""
    size = len(_content(column.items[0])) if len(column.items) > 1 else 2048
    samples = [_content(one) for one in _chunks(_source(kind, path, size)[0], DICTIONARY_SAMPLES, size)]
    dictionary, primer = folder / f"{kind}.zdict", folder / f"{kind}.primer"
    dictionary.write_bytes(zstandard.train_dictionary(DICTIONARY_BYTES, samples, level=19).as_bytes())
    spread = np.unique(np.linspace(0, len(samples) - 1, prime_bytes // size).astype(int))
    primer.write_bytes(b"".join(samples[one] for one in spread))
    return column._replace(dictionary=str(dictionary), primer=str(primer))


def _rows(column: Column, chosen: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    for label, (tokenizer, table) in _coders(column).items():
        if chosen and label not in chosen:
            continue
        try:
            row = _row(column, tokenizer, table)
        except RequestError as error:
            print(f"  {label:<24} left out: {str(error)[:90]}", flush=True)
            continue
        print(f"  {label:<24} {row}", flush=True)
        yield label, row


def _coders(column: Column) -> dict[str, tuple[Tokenizer | None, dict[str, Any]]]:
    """Label -> (tokenizer, None for the model's own; table of the coder). All tokenizers but the column's are given bytes."""
    coders: dict[str, tuple[Tokenizer | None, dict[str, Any]]] = {
        label: (column.tokenizer, {"name": "compressor", "method": method}) for label, method in CLASSICAL.items()}
    if isinstance(column.tokenizer, Pixels):
        coders["PNG, rows of 32"] = BytesTokenizer(), {"name": "compressor", "method": "png"}
    if column.dictionary:
        coders["zstd, dictionary"] = column.tokenizer, {"name": "compressor", "method": "zstd", "dictionary": column.dictionary}
        coders["PPMd, primed"] = column.tokenizer, {"name": "compressor", "method": "ppmd", "dictionary": column.primer}
    coders["online"] = column.tokenizer, {"name": "online"}
    return coders | {name: (None, {"name": "entropy", "model": name}) for name in LEARNED}


def _row(column: Column, tokenizer: Tokenizer | None, table: Mapping[str, Any]) -> Row:
    coder = catalogue.build("coders", {**table, "packet_bits": None, "header_bits": 0}, "coder")
    assert isinstance(coder, Coder)
    if tokenizer is None:
        model = getattr(coder, "model", None)
        assert isinstance(model, CausalModel)
        tokenizer = model.tokenizer()
    items = column.items if tokenizer is column.tokenizer else [Item(_content(item), "bytes", item.name) for item in column.items]
    chain = Chain(_source("random", "", 1)[0], tokenizer, coder, NoProtection(), Ideal(), NoDecoder())
    keys = _keys(len(items))
    sent = encode(chain, items, range(len(items)), keys)
    outcomes = run(chain, sent, 0, KEY)
    wrong = [one.sent.item.name for one in outcomes if not np.array_equal(one.received.evidence.values, one.sent.tokens.values)
             or not one.received.evidence.known.all()]
    assert not wrong, f"not decoded as encoded: {wrong}"
    size = np.array([8 * len(_content(item)) for item in items])
    charged = np.array([(one.ledger.coded_bits, one.ledger.head_bits, one.ledger.preamble_bits) for one in outcomes])
    return Row(100 * (charged[:, 0] - charged[:, 1]) / size, 100 * (charged[:, 0] + charged[:, 2]) / size,
               100 * (outcomes[0].ledger.shared_bits / 8 + outcomes[0].ledger.head_bits / 8) / 1e9)


def _judge(kind: str, rows: Mapping[str, Row]) -> None:
    """Whether coders stand in the order published for this kind of data, and learned ones before the others; chunk by chunk."""
    for one, other in combinations([name for name in PUBLISHED.get(kind, {}) if name in rows], 2):
        if kind == "random":
            continue
        better, worse = sorted((one, other), key=PUBLISHED[kind].__getitem__)
        gap = rows[worse].published - rows[better].published
        published = PUBLISHED[kind][worse] - PUBLISHED[kind][better]
        print(f"  published: {better} before {worse} by {published:.1f}; here by {_mean(gap)}", flush=True)
    first = [min((name for name in names if name in rows), key=lambda name: rows[name].published.mean(), default="")
             for names in (LEARNED, CLASSICAL)]
    if all(first):
        gap = rows[first[1]].published - rows[first[0]].published
        print(f"  the best learned, {first[0]}, before the best classical, {first[1]}, by {_mean(gap)}", flush=True)


def _mean(rates: np.ndarray) -> str:
    """With its 95 % interval, where there is more than one."""
    return f"{rates.mean():6.2f}" + (f" ±{1.96 * rates.std(ddof=1) / rates.size ** .5:5.2f}" if rates.size > 1 else "")


if __name__ == "__main__":
    main()
