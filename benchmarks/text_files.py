"""Every file of a folder through the container and back: `python -m benchmarks.text_files FOLDER [--models NAME|PATH ...]`.

A file that does not come back, byte for byte, ends the run with status 1.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from time import process_time

from scenarios import catalogue
from scenarios.compress import LAYOUT
from sources.compressor import decode_blocks, encode_blocks
from sources.container import DIGEST_BYTES, Block, Reader, Writer
from sources.models.model import CausalModel

BLOCKS_AT_ONCE = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["text-small", "ngram"], help="names in the catalogue or paths of weights")
    parser.add_argument("--below", type=int, default=1_000_000, help="bytes; files of as many or more are left out")
    options = parser.parse_args()
    models = [_model(name) for name in options.models]
    files = sorted((file for file in options.folder.rglob("*") if file.is_file() and file.stat().st_size < options.below),
                   key=lambda file: (file.stat().st_size, file))
    print(f"{len(files)} files below {options.below:,} bytes under {options.folder.name}; models {', '.join(options.models)}")
    sizes, wrong, start = defaultdict[str, list[int]](lambda: [0, 0, 0]), 0, process_time()
    for together in _batches(files):
        for file, before, after, came_back in _round_trips(models, together):
            if not came_back:
                wrong += 1
                print(f"{file}: does not come back", flush=True)
            for place, number in enumerate((1, before, after)):
                sizes[file.suffix][place] += number
        done, through, _ = (sum(column) for column in zip(*sizes.values(), strict=True))
        print(f"{done} files, {through:,} bytes, {process_time() - start:.0f} s", flush=True)  # an hour goes by
    for suffix, (count, before, after) in sorted(sizes.items()):
        print(f"  {suffix or '(none)':<8} {count:>6} files {before:>12,} bytes in, {after:>12,} out")
    print(f"{len(files) - wrong} of {len(files)} came back exactly, {process_time() - start:.0f} s of processor time")
    return int(wrong > 0)


def _batches(files: list[Path]) -> Iterator[list[Path]]:
    """Files whose blocks keep the lanes of a model busy: they are coded side by side."""
    together, num_blocks = list[Path](), 0
    for file in files:
        together.append(file)
        num_blocks += len(_cut(file.read_bytes()))
        if num_blocks >= BLOCKS_AT_ONCE:
            yield together
            together, num_blocks = [], 0
    if together:
        yield together


def _round_trips(models: list[CausalModel], files: list[Path]) -> Iterator[tuple[Path, int, int, bool]]:
    """(file, its bytes, bytes of its container, whether it came back) of each."""
    contents = [file.read_bytes() for file in files]
    cuts = [_cut(content) for content in contents]
    coded = iter(encode_blocks(models, [block for cut in cuts for block in cut]))
    packed = [_container(models, list(islice(coded, len(cut)))) for cut in cuts]
    read = [list(Reader(io.BytesIO(one), "it")) for one in packed]
    decoded = iter(decode_blocks(models, [block for blocks in read for block in blocks]))
    for file, content, one, blocks in zip(files, contents, packed, read, strict=True):
        parts = list(islice(decoded, len(blocks)))
        came_back = b"".join(part for part in parts if isinstance(part, bytes)) == content
        yield file, len(content), len(one), came_back and all(isinstance(part, bytes) for part in parts)


def _cut(content: bytes) -> list[bytes]:
    left = io.BytesIO(content)
    return list(takewhile(len, (left.read(size) for size in LAYOUT.sizes())))


def _container(models: list[CausalModel], blocks: list[Block]) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream, LAYOUT, [(str(number), model.coding_digest()[:DIGEST_BYTES]) for number, model in enumerate(models)])
    for block in blocks:
        writer.write(block)
    writer.close()
    return stream.getvalue()


def _model(name: str) -> CausalModel:
    model = catalogue.build("models", catalogue.model_table(name, "--models"), "--models")
    assert isinstance(model, CausalModel)
    return model


if __name__ == "__main__":
    raise SystemExit(main())
