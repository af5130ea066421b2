"""Every file of a folder through the container and back: `python -m benchmarks.text_files FOLDER [--models NAME|PATH ...]`.

A file that does not come back, byte for byte, ends the run with status 1.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from pathlib import Path
from time import process_time

from scenarios import catalogue
from scenarios.compress import LAYOUT
from sources.compressor import decode_blocks, encode_blocks
from sources.container import DIGEST_BYTES, Reader, Writer
from sources.models.model import CausalModel


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["text-small", "ngram"], help="names in the catalogue or paths of weights")
    parser.add_argument("--below", type=int, default=1_000_000, help="bytes; files of as many or more are left out")
    options = parser.parse_args()
    models = [_model(name) for name in options.models]
    files = sorted(file for file in options.folder.rglob("*") if file.is_file() and file.stat().st_size < options.below)
    print(f"{len(files)} files below {options.below:,} bytes under {options.folder.name}; models {', '.join(options.models)}")
    sizes, wrong, start = defaultdict[str, list[int]](lambda: [0, 0, 0]), 0, process_time()
    for done, file in enumerate(files):
        if done % 50 == 0:  # an hour goes by
            print(f"{done} files, {sum(size for _, size, _ in sizes.values()):,} bytes, {process_time() - start:.0f} s", flush=True)
        content = file.read_bytes()
        packed = _packed(models, content)
        if _unpacked(models, packed) != content:
            wrong += 1
            print(f"{file}: does not come back", flush=True)
        for place, number in enumerate((1, len(content), len(packed))):
            sizes[file.suffix][place] += number
    for suffix, (count, before, after) in sorted(sizes.items()):
        print(f"  {suffix or '(none)':<8} {count:>6} files {before:>12,} bytes in, {after:>12,} out")
    print(f"{len(files) - wrong} of {len(files)} came back exactly, {process_time() - start:.0f} s of processor time")
    return int(wrong > 0)


def _model(name: str) -> CausalModel:
    model = catalogue.build("models", catalogue.model_table(name, "--models"), "--models")
    assert isinstance(model, CausalModel)
    return model


def _packed(models: list[CausalModel], content: bytes) -> bytes:
    stream, left, blocks = io.BytesIO(), io.BytesIO(content), []
    writer = Writer(stream, LAYOUT, [(str(number), model.coding_digest()[:DIGEST_BYTES]) for number, model in enumerate(models)])
    for size in LAYOUT.sizes():
        if not (block := left.read(size)):
            break
        blocks.append(block)
    for coded in encode_blocks(models, blocks):
        writer.write(coded)
    writer.close()
    return stream.getvalue()


def _unpacked(models: list[CausalModel], packed: bytes) -> bytes | None:
    contents = decode_blocks(models, list(Reader(io.BytesIO(packed), "it")))
    parts = [one for one in contents if isinstance(one, bytes)]
    return b"".join(parts) if len(parts) == len(contents) else None


if __name__ == "__main__":
    raise SystemExit(main())
