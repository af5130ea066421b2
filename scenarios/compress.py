"""`channel-sim compress` and `decompress`: the generative source coder as a file compressor."""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from channel_sim.checks import RequestError
from scenarios import catalogue
from scenarios.arguments import count
from scenarios.executors import spawning
from scenarios.progress import Progress
from sources.compressor import decode_blocks, encode_blocks
from sources.container import DIGEST_BYTES, Damaged, Layout, Reader, Writer
from sources.models.model import CausalModel

AUTO = ("text-small", "ngram")
LAYOUT = Layout(first_bytes=1 << 10, block_bytes=1 << 14)
BLOCKS_AT_ONCE = 32  # so that a megabyte keeps two processes busy


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """`command(name, function, text)` makes a sub-command."""
    compress = command("compress", _compress, "compress a file with a generative model")
    compress.add_argument("file", type=Path)
    compress.add_argument("--model", default="auto",
                          help=f"a model's name, or the path of trained weights; auto (default): by block, of {', '.join(AUTO)}")
    decompress = command("decompress", _decompress, "the file that compress was given")
    decompress.add_argument("file", type=Path)
    decompress.add_argument("--model", action="append", default=[], metavar="PATH",
                            help="weights that the file was compressed with, if they are not among the shipped ones")
    decompress.add_argument("--salvage", action="store_true", help="write what is intact of a damaged file, and zeros for the rest")
    for parser in (compress, decompress):
        parser.add_argument("--out", type=Path, required=True, help="file to write")
        parser.add_argument("--workers", type=count, default=1, help="processes (default 1); the result does not depend on it")


def _compress(options: argparse.Namespace) -> int:
    names = AUTO if options.model == "auto" else (options.model,)
    models = [_model(name, "--model") for name in names]
    described = [(Path(name).name, model.coding_digest()[:DIGEST_BYTES]) for name, model in zip(names, models, strict=True)]
    with _opened(options.file) as source, _written(options.out) as target, Progress(f"compress {options.file.name}") as progress:
        total, done = os.fstat(source.fileno()).st_size, 0
        writer = Writer(target, LAYOUT, described)
        contents = _cut(source)
        for blocks in _in_turn(partial(encode_blocks, models), _batches(contents), options.workers):
            for block in blocks:
                writer.write(block)
                done += block.num_bytes
            progress(done, total)
        writer.close()
        print(f"{options.out}: {target.tell():,} bytes for {done:,}, {8 * target.tell() / max(done, 1):.3f} bits per byte")
    return 0


def _decompress(options: argparse.Namespace) -> int:
    with _opened(options.file) as source:
        reader = Reader(source, str(options.file))
        models = [_model_of(name, digest, options) for name, digest in reader.models]
        damaged: list[str] = []
        with _written(options.out) as target, Progress(f"decompress {options.file.name}") as progress:
            for contents in _in_turn(partial(decode_blocks, models), _batches(reader), options.workers):
                for content in contents:
                    target.write(_or_zeros(content, target.tell(), damaged))
                target.flush()  # who reads along sees every batch as it comes
                progress(target.tell(), reader.num_bytes or target.tell())
            if not reader.ended:
                damaged.append("its end is missing")
            if damaged and not options.salvage:
                raise RequestError(f"{options.file}: damaged: {'; '.join(damaged)}; --salvage writes the rest")
    for one in damaged:
        print(f"{options.file}: damaged: {one}")
    return 1 if damaged else 0


def _or_zeros(content: bytes | Damaged, start: int, damaged: list[str]) -> bytes:
    if isinstance(content, bytes):
        return content
    damaged.append(f"bytes {start:,} to {start + content.num_bytes:,} ({content.reason})")
    return bytes(content.num_bytes)


def _model_of(name: str, digest: bytes, options: argparse.Namespace) -> CausalModel:
    """The model that a container names, wherever it lies here; another one would decode to nonsense."""
    known = [given for given in options.model if Path(given).name == name] or [name]
    if known[0].endswith(".safetensors") and not Path(known[0]).exists():
        raise RequestError(f"{options.file}: was compressed with weights called {name!r}; give their path with --model")
    model = _model(known[0], f"{options.file}: its model")
    if model.coding_digest()[:DIGEST_BYTES] != digest:
        raise RequestError(f"{options.file}: was compressed with a model {name!r} of digest {digest.hex()}, and this one is "
                           f"{model.coding_digest()[:DIGEST_BYTES].hex()}; give the right weights with --model PATH")
    return model


def _model(name: str, where: str) -> CausalModel:
    model = catalogue.build("models", catalogue.model_table(name, where), where)
    assert isinstance(model, CausalModel)
    try:
        model.tokenizer()
    except ValueError as error:
        raise RequestError(f"{where}: {error}") from error
    return model


def _cut(source: BinaryIO) -> Iterator[bytes]:
    for size in LAYOUT.sizes():
        if not (content := source.read(size)):
            return
        yield content


def _batches(things: Iterable[Any]) -> Iterator[list[Any]]:
    """The first alone, so that something is there at once; the others by as many as are coded side by side."""
    left = iter(things)
    size = 1
    while batch := list(islice(left, size)):
        yield batch
        size = BLOCKS_AT_ONCE


def _in_turn(function: Callable[[Sequence[Any]], Any], batches: Iterator[Any], workers: int) -> Iterator[Any]:
    """`function` of each batch, in order; no more of them are held than are worked at."""
    if workers == 1:
        yield from map(function, batches)
        return
    with ProcessPoolExecutor(workers, mp_context=spawning(workers)) as pool:
        waiting = deque(pool.submit(function, batch) for batch in islice(batches, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, batch) for batch in islice(batches, 1))


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise RequestError(f"{error.filename or file}: {error.strerror}; nothing was written") from error


@contextmanager
def _written(out: Path) -> Iterator[BinaryIO]:
    """A file that appears when it is whole; nothing stands there before."""
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
