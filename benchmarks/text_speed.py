"""How fast the neural models of text decode: `python -m benchmarks.text_speed FILE [--model NAME|PATH] [--growing TOKENS]`.

Seconds of processor time, on one core unless said otherwise (set OMP_NUM_THREADS=1): a machine that does other work as well shows
in the wall clock alone. Step-wise decoding is what the receiver does: table, range decoder, next state, token by token.

The growing-prefix method is that of G. Delétang et al., "Language modeling is compression", ICLR 2024: to decode a token, the
network is run over all tokens before it and the last distribution is taken. It is measured here with a float network of the same
architecture and size in TensorFlow, as a graph with and without jit_compile, over all or the first TOKENS of the same message.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.types import Item
from scenarios import catalogue
from sources.entropy import Lane, decode_lanes, encode_lanes
from sources.models.model import CausalModel
from sources.models.recurrent import Architecture, network
from sources.training.text_lanes import messages

MESSAGE_BYTES = 1024
LANES = (1, 4, 16, 64, 256)
REPEATS = 3
FILE_BYTES = 1_000_000
WORKERS = 2
BUCKET = 64
COMMAND = "import sys; from scenarios.cli import main; sys.exit(main())"


def main() -> None:
    options = _options()
    model = catalogue.build("models", catalogue.model_table(options.model, "--model"), "--model")
    assert isinstance(model, CausalModel)
    text = options.file.read_bytes()
    print(f"{Path(options.model).stem}, {model.vocab_size} tokens; {options.file.name}; {_cores()} cores, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    speeds = _lanes(model, text)
    _files(options.file, options.model)
    if options.growing:
        _growing(model, text, options, speeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="text of a megabyte or more")
    parser.add_argument("--model", default="text-small", help="a name in the catalogue, or a path of weights")
    parser.add_argument("--growing", type=int, default=1 << 30, metavar="TOKENS",
                        help="tokens that the growing-prefix method decodes; 0 leaves it out; default: the whole message")
    parser.add_argument("--embedding", type=int, default=256, help="of the float network, for the growing-prefix method")
    parser.add_argument("--hidden", type=int, default=512, help="of the float network, for the growing-prefix method")
    return parser.parse_args()


def _lanes(model: CausalModel, text: bytes) -> dict[int, float]:
    """Tokens a second by number of lanes."""
    print(f"step-wise decoding of messages of {MESSAGE_BYTES} bytes, range decoder included, median of {REPEATS}:")
    speeds = {}
    for lanes in LANES:
        tokens = _tokens(model, messages(text, MESSAGE_BYTES, lanes))
        streams = encode_lanes(model, tokens)
        seconds = []
        for _ in range(REPEATS):
            waiting = [Lane(stream, range(one.size), complete=True) for stream, one in zip(streams, tokens, strict=True)]
            start = process_time()
            decode_lanes(model, waiting)
            seconds.append(process_time() - start)
            assert all(np.array_equal(lane.tokens, one) for lane, one in zip(waiting, tokens, strict=True))
        speeds[lanes] = sum(one.size for one in tokens) / float(np.median(seconds))
        print(f"  {lanes:>4} lanes {speeds[lanes]:>9,.0f} tokens/s", flush=True)
    return speeds


def _tokens(model: CausalModel, contents: Sequence[bytes]) -> list[np.ndarray]:
    return [model.tokenizer().encode(Item(content, "text", "message"), Key(0)).values for content in contents]


def _files(file: Path, model: str) -> None:
    """Compress and decompress as a user does: new processes, from the start of Python to the last byte."""
    with TemporaryDirectory() as folder:
        whole, packed, back = (Path(folder) / name for name in ("whole", "packed", "back"))
        whole.write_bytes(file.read_bytes()[:FILE_BYTES])
        given = ["--model", model]
        for command, source, target in (("compress", whole, packed), ("decompress", packed, back)):
            own = given if command == "compress" or Path(model).suffix else []
            wall, busy, first = _run([command, str(source), "--out", str(target), *own, "--workers", str(WORKERS)], target)
            print(f"{command} of {whole.stat().st_size:,} bytes, {WORKERS} workers: {wall:.1f} s on the wall, {busy:.1f} s of "
                  f"processor time in all; first bytes after {first:.2f} s", flush=True)
        assert back.read_bytes() == whole.read_bytes()
        print(f"  {8 * packed.stat().st_size / whole.stat().st_size:.3f} bits per byte in blocks of the container")
        one = Path(folder) / "one"
        own = given if Path(model).suffix else []
        wall, busy, _ = _run(["decompress", str(packed), "--out", str(one), *own], one, first_only=True)
        print(f"decompress by 1 worker: first bytes after {wall:.2f} s on the wall, {busy:.2f} s of processor time, of which "
              f"{_loading():.2f} s are the start of Python and imports", flush=True)


def _run(arguments: list[str], target: Path, *, first_only: bool = False) -> tuple[float, float, float]:
    """(seconds on the wall, of processor time of all its processes, until the first bytes of the target could be read)."""
    before, start, first = _children(), perf_counter(), float("nan")
    part = target.with_name(f"{target.name}.part")
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if first != first and part.exists() and part.stat().st_size:
            first = perf_counter() - start
            if first_only:
                process.terminate()
        sleep(0.005)
    assert first_only or process.returncode == 0
    return perf_counter() - start, _children() - before, first


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _loading() -> float:
    before = _children()
    subprocess.run([sys.executable, "-c", "import scenarios.cli, scenarios.compress"], check=True)
    return _children() - before


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _growing(model: CausalModel, text: bytes, options: argparse.Namespace, speeds: dict[int, float]) -> None:
    """The same message by the growing-prefix method, with random weights: its speed does not depend on them."""
    message = _tokens(model, messages(text, MESSAGE_BYTES, 1))[0]
    count = min(message.size, options.growing)
    tokens = np.concatenate([[model.vocab_size], message]).astype(np.int32)[None]
    ways = _float_networks(Architecture(vocab_size=model.vocab_size, embedding=options.embedding, hidden=options.hidden))
    half = count // 2
    tried = {name: _prefixes(call, tokens, range(half, half + 3)) for name, call in ways.items()}
    fastest = min(tried, key=lambda name: tried[name])
    seconds = _prefixes(ways[fastest], tokens, range(count))
    print(f"growing prefix, {count} tokens of one message, float network in TensorFlow ({fastest}, the faster of "
          f"{' and '.join(ways)}), one thread: {count / seconds:.1f} tokens/s")
    for lanes, speed in speeds.items():
        print(f"  step-wise at {lanes} lanes is {speed * seconds / count:,.0f} times as fast")


def _float_networks(architecture: Architecture) -> dict[str, Callable[[np.ndarray], Any]]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    floats = network(architecture, 1)
    floats(np.full((1, 1), architecture.start, np.int32))
    for name, value in architecture.initial(Key(1)).items():
        floats.weight[name].assign(value)
    return {"graph": tf.function(floats), "graph with jit_compile": tf.function(floats, jit_compile=True)}


def _prefixes(call: Callable[[np.ndarray], Any], tokens: np.ndarray, lengths: range) -> float:
    """Processor seconds to find the distribution after each prefix; range coding and tracing are left out, in its favour.

    A prefix is filled up to a multiple of BUCKET, which changes nothing before, so that few graphs are needed.
    """
    seconds, known = 0.0, set[int]()
    for length in lengths:
        filled = BUCKET * (length // BUCKET + 1)
        prefix = np.zeros((1, filled), np.int32)
        prefix[0, :length + 1] = tokens[0, :length + 1]
        if filled not in known:
            call(prefix)
            known.add(filled)
        start = process_time()
        logits = np.asarray(call(prefix))[0, length].astype(np.float64)
        table = np.exp(logits - logits.max())
        table /= table.sum()
        seconds += process_time() - start
    return seconds


if __name__ == "__main__":
    main()
