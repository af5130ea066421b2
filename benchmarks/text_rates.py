"""Bits per byte of short messages, every byte counted: `python -m benchmarks.text_rates FILE [--train TRAIN] [--models PATH ...]`.

What is counted: a compressor's whole output for one message, its header and checksum included, without its dictionary, priming
text or model, which both ends hold. The project's own models go through coder `entropy`: one packet, its bits rounded up to bytes,
and the preamble as the ledger charges it (number of tokens and packets). Nothing is framed on either side: a message's
length on the air is taken as known, as that of a packet is.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item
from scenarios import catalogue
from sources.coder import Entropy
from sources.models.model import CausalModel
from sources.training.text_lanes import messages

MESSAGE_BYTES = 1024
ZSTD_DICTIONARY_BYTES, DICTIONARY_SAMPLES = 110 << 10, 8000
PIECE_BYTES = 1 << 16
# a window of 64 kB holds any message, and takes no time to clear
LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 16}]
PPMD_ORDERS = (4, 6)
PPMD_MEMORY, PPMD_PRIMED_MEMORY = 1 << 24, 1 << 29  # so much that its model is never thrown away
Coder = Callable[[bytes], int]  # content -> bytes


def main() -> None:
    options = _options()
    file = options.file.read_bytes()
    chosen = messages(file, MESSAGE_BYTES, options.messages)
    firsts = np.linspace(0, len(file) - MESSAGE_BYTES, len(chosen)).astype(int)
    print(f"{options.file.name}: {len(chosen)} messages of {MESSAGE_BYTES} bytes, from byte {firsts[0]:,} to {firsts[-1]:,} in "
          "even steps; each coded alone; mean and 95 % interval over messages")
    primed = _primed(options.train.read_bytes(), options.prime_bytes) if options.train else {}
    coders = _classical() | primed | _models(options.models)
    for name, coder in coders.items():
        if isinstance(coder, str):
            print(f"{name:<58} left out: {coder}", flush=True)
            continue
        rates = np.array([8 * coder(message) / len(message) for message in chosen])
        half = 1.96 * rates.std(ddof=1) / len(rates) ** 0.5 if len(rates) > 1 else float("nan")
        print(f"{name:<58} {rates.mean():6.3f} ± {half:.3f} bits per byte", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="text that no model was trained on")
    parser.add_argument("--train", type=Path, help="text for the dictionary and for priming; the models' own training text")
    parser.add_argument("--messages", type=int, default=200, help="how many, at most")
    parser.add_argument("--prime-bytes", type=int, default=4 << 20, help="training text that PPMd codes beforehand")
    parser.add_argument("--models", nargs="*", default=["ngram", "text-byte-small", "text-small"],
                        help="names in the catalogue or paths of weights")
    return parser.parse_args()


def _classical() -> dict[str, Coder | str]:
    """Nothing known beforehand."""
    coders: dict[str, Coder | str] = {
        "zlib -9": lambda message: len(zlib.compress(message, 9)),
        "bz2 -9": lambda message: len(bz2.compress(message, 9)),
        "xz -9e": lambda message: len(lzma.compress(message, filters=LZMA)),
        "xz -9e, raw LZMA2": lambda message: len(lzma.compress(message, lzma.FORMAT_RAW, filters=LZMA)),
    }
    try:
        import zstandard

        coders["zstd -19"] = lambda message: len(zstandard.ZstdCompressor(level=19).compress(message))
    except ImportError as error:
        coders["zstd -19"] = str(error)
    try:
        import brotli

        coders["brotli -11 (its built-in dictionary of 120 kB)"] = lambda message: len(brotli.compress(message, quality=11))
    except ImportError as error:
        coders["brotli -11"] = str(error)
    for order in PPMD_ORDERS:
        coders[f"PPMd variant H, order {order}"] = _ppmd(order)
    return coders


def _ppmd(order: int) -> Coder | str:
    try:
        import pyppmd
    except ImportError as error:
        return str(error)

    def compressed(message: bytes) -> int:
        encoder = pyppmd.Ppmd7Encoder(order, PPMD_MEMORY)
        return len(encoder.encode(message)) + len(encoder.flush(False))

    return compressed


def _primed(train: bytes, prime_bytes: int) -> dict[str, Coder | str]:
    """Both ends know the training text, or what was made of it."""
    name = f"zstd -19, dictionary of {ZSTD_DICTIONARY_BYTES >> 10} kB trained on TRAIN"
    coders: dict[str, Coder | str] = {}
    try:
        import zstandard

        samples = messages(train, MESSAGE_BYTES, DICTIONARY_SAMPLES)
        dictionary = zstandard.train_dictionary(ZSTD_DICTIONARY_BYTES, [*samples], level=19)
        # the shortest frame: without content size and dictionary number
        compressor = zstandard.ZstdCompressor(level=19, dict_data=dictionary, write_content_size=False, write_dict_id=False)
        coders[name] = lambda message: len(compressor.compress(message))
    except ImportError as error:
        coders[name] = str(error)
    for order in PPMD_ORDERS:
        coders[f"PPMd variant H, order {order}, after {prime_bytes >> 20} MiB of TRAIN"] = _primed_ppmd(order, train, prime_bytes)
    return coders


def _primed_ppmd(order: int, train: bytes, prime_bytes: int) -> Coder | str:
    """Bytes that a message adds to the stream of training text: its own share, in PPMd's favour, since ending a stream costs 4."""
    try:
        import pyppmd
    except ImportError as error:
        return str(error)
    encoder = pyppmd.Ppmd7Encoder(order, PPMD_PRIMED_MEMORY)
    for piece in messages(train, PIECE_BYTES, prime_bytes // PIECE_BYTES):
        encoder.encode(piece)
    without = _in_a_fork(lambda: len(encoder.flush(False)))
    return lambda message: _in_a_fork(lambda: len(encoder.encode(message)) + len(encoder.flush(False))) - without


def _in_a_fork(count: Callable[[], int]) -> int:
    """`count()` in a copy of this process: an encoder of PPMd can be copied in no other way."""
    readable, writable = os.pipe()
    if not (child := os.fork()):
        os.write(writable, count().to_bytes(8, "little"))
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as stream:
        found = stream.read(8)
    os.waitpid(child, 0)
    if len(found) < 8:
        raise ChildProcessError("a copy of this process ended before it had counted")
    return int.from_bytes(found, "little")


def _models(names: list[str]) -> dict[str, Coder | str]:
    """The project's own; what they were trained on stands in their model cards."""
    coders: dict[str, Coder | str] = {}
    for name in names:
        try:
            table = catalogue.model_table(name, "--models")
            model = catalogue.build("models", table, "--models")
            assert isinstance(model, CausalModel)
            size = f"{Path(str(table['path'])).stat().st_size / 1e6:.1f} MB, " if "path" in table else ""
            coders[f"{Path(name).stem} ({size}{model.vocab_size} tokens)"] = _own(model)
        except RequestError as error:
            coders[name] = str(error)
    return coders


def _own(model: CausalModel) -> Coder:
    coder, tokenizer = Entropy(model=model, packet_bits=None, header_bits=0), model.tokenizer()

    def compressed(message: bytes) -> int:
        tokens = tokenizer.encode(Item(message, "text", "message"), Key(0))
        (packets, preamble), = coder.encode([tokens])
        return -(-int(packets.num_bits.sum()) // 8) + len(preamble.to_bytes())

    return compressed


if __name__ == "__main__":
    main()
