"""Neural models in the coder and the compressor: streams that come back, alike for any lanes and threads; wrong files refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Tokens
from scenarios import catalogue
from scenarios.cli import main
from scenarios.scenario import load
from sources.bpe import Bpe
from sources.coder import Entropy
from sources.compressor import decode_blocks, encode_blocks
from sources.container import Damaged, Layout, Reader, Writer
from sources.entropy import encode_lanes
from sources.models import ngram
from sources.models.neural import FORMAT, Recurrent
from sources.text import python_docs
from tests.chains import untrained
from tests.test_coder import received

CONTEXTS = ("independent", "chained", "restart:3")
ENGLISH = b"It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Recurrent:
    return Recurrent(path=untrained(folder / "tiny.safetensors", vocab_size=256, tokenizer="bytes"))


@pytest.fixture(scope="module")
def tiny_bpe(folder: Path) -> Recurrent:
    return Recurrent(path=untrained(folder / "tiny-bpe.safetensors", vocab_size=1024, tokenizer="bpe"))


def tokens(model: Recurrent, num_tokens: int, label: int = 0) -> Tokens:
    return Tokens(Key(2).child(label).integers(model.vocab_size, num_tokens).astype(np.int32), model.vocab_size)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("num_tokens", [0, 1, 2, 17, 150])
def test_what_is_coded_comes_back(num_tokens: int, context: str, tiny: Recurrent, tiny_bpe: Recurrent):
    """Catches a model out of step: encoded in blocks, decoded step by step in lanes, from the state that its context allows."""
    for model in (tiny, tiny_bpe):
        coder = Entropy(model=model, context=context, packet_bits=200, header_bits=64)
        sent = tokens(model, num_tokens)
        (packets, preamble), = coder.encode([sent])
        evidence, = coder.receive([received(packets)], [preamble])
        assert evidence.known.all() and np.array_equal(evidence.values, sent.values)
        assert preamble.choices == ()


def test_the_past_counts(tiny: Recurrent):
    """The control of the test above: a network that forgets its past would come back too. Its tables depend on a token far back."""
    tables = [tiny.tables(tiny.start(1), np.array([first, 1, 2, 3, 4]))[0][-1] for first in (65, 66)]
    assert np.any(tables[0] != tables[1])


def test_a_batch_of_64_is_64_batches_of_one(tiny_bpe: Recurrent):
    """Catches streams that feel how many are coded at once, or in which order."""
    coder = Entropy(model=tiny_bpe, packet_bits=300, header_bits=64)
    many = [tokens(tiny_bpe, 1 + 7 * one % 40, one) for one in range(64)]
    together = coder.encode(many)
    received_together = coder.receive([received(packets) for packets, _ in together], [preamble for _, preamble in together])
    for one, (packets, preamble), evidence in zip(many, together, received_together, strict=True):
        (alone, _), = coder.encode([one])
        np.testing.assert_array_equal(packets.bits, alone.bits)
        assert np.array_equal(evidence.values, one.values) and evidence.known.all()
    values = [one.values for one in many]
    streams = encode_lanes(tiny_bpe, values)
    for value, stream in list(zip(values, streams, strict=True))[::9]:
        np.testing.assert_array_equal(encode_lanes(tiny_bpe, [value])[0], stream)


STREAMS = """
import hashlib, sys
from sources.entropy import encode_lanes
from sources.models.neural import Recurrent
from tests.test_neural import tokens
model = Recurrent(path=sys.argv[1])
streams = encode_lanes(model, [tokens(model, 30, one).values for one in range(8)])
print(hashlib.sha256(b"".join(stream.tobytes() for stream in streams)).hexdigest())
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_do_not_show_in_a_stream(threads: str, tiny_bpe: Recurrent):
    """Catches sums in another order: the stream of a process with so many threads is the stream that is made here."""
    streams = encode_lanes(tiny_bpe, [tokens(tiny_bpe, 30, one).values for one in range(8)])
    here = hashlib.sha256(b"".join(stream.tobytes() for stream in streams)).hexdigest()
    environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    program = [sys.executable, "-W", "ignore", "-c", STREAMS, str(tiny_bpe.path)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_digests_are_of_the_weights(tiny: Recurrent, tiny_bpe: Recurrent, tmp_path: Path):
    """Catches containers that only the folder they were made in can read, and models of other weights that pass for the same."""
    assert tiny.path is not None
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"copy{suffix}").write_bytes(Path(tiny.path).with_suffix(suffix).read_bytes())
    copy = Recurrent(path=str(tmp_path / "copy.safetensors"))
    assert copy.coding_digest() == tiny.coding_digest() != tiny_bpe.coding_digest()
    assert copy.digests() == {"path": hashlib.sha256(Path(tiny.path).read_bytes()).hexdigest()}


def _without_config(file: Path) -> None:
    file.with_suffix(".json").unlink()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _of_another_format(file: Path) -> None:
    file.with_suffix(".json").write_text(json.dumps({"format": "something 1"}))


def _tensors_left_out(file: Path) -> None:
    from safetensors.numpy import save

    packed = save({"head": np.zeros((2, 2), np.int8)})
    file.write_bytes(packed)
    config = {"format": FORMAT, "weights_sha256": hashlib.sha256(packed).hexdigest(), "tokenizer": {"name": "bytes"}}
    file.with_suffix(".json").write_text(json.dumps(config))


@pytest.mark.parametrize("spoil", [_without_config, _cut, _of_another_format, _tensors_left_out])
def test_wrong_files_are_refused_in_one_line(spoil: Callable[[Path], None], tmp_path: Path):
    """Catches tracebacks, and weights that are not what their .json says."""
    file = Path(untrained(tmp_path / "spoilt.safetensors", vocab_size=256, tokenizer="bytes"))
    spoil(file)
    with pytest.raises(RequestError, match="model.path must be weights of a recurrent model") as error:
        Recurrent(path=str(file)).vocab_size
    assert "\n" not in str(error.value)


def test_a_recurrent_model_without_a_path_is_refused():
    """Catches a search for weights of no name."""
    with pytest.raises(RequestError, match="model.path of a recurrent model must be given"):
        Recurrent().vocab_size


def test_a_path_says_which_model_it_is(tiny: Recurrent, tmp_path: Path):
    """Catches weights of one kind that are read as another, in a scenario as on the command line."""
    assert catalogue.model_table(str(tiny.path), "it") == {"name": "recurrent", "path": tiny.path}
    assert catalogue.model_table(str(ngram.SHIPPED), "it") == {"name": "ngram", "path": str(ngram.SHIPPED)}
    tables = {"question": "?", "items": 1, "source": {"name": "text", "item_bytes": 64}, "arm": [{"label": "a"}],
              "coder": {"name": "entropy", "model": str(tiny.path)}}
    coder = load(tables).tasks[0].chain.coder
    assert isinstance(coder, Entropy) and coder.model == tiny
    with pytest.raises(RequestError, match="with their .json beside them"):
        catalogue.model_table(str(tmp_path / "missing.safetensors"), "it")
    file = Path(untrained(tmp_path / "odd.safetensors", vocab_size=256, tokenizer="bytes"))
    _of_another_format(file)
    with pytest.raises(RequestError, match="must be of a format that is read here.*got 'something 1'"):
        catalogue.model_table(str(file), "it")


def test_the_tokenizer_is_the_one_it_was_trained_on(tiny: Recurrent, tiny_bpe: Recurrent):
    """Catches bytes fed to a network of byte pairs."""
    assert isinstance(tiny_bpe.tokenizer(), Bpe) and tiny_bpe.tokenizer().vocab_size == tiny_bpe.vocab_size
    assert tiny.tokenizer().vocab_size == 256


LAYOUT = Layout(first_bytes=30, block_bytes=40)


def container(models: list[Recurrent], content: bytes) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream, LAYOUT, [(str(number), model.coding_digest()[:8]) for number, model in enumerate(models)])
    cuts = [0, *range(LAYOUT.first_bytes, len(content), LAYOUT.block_bytes), len(content)]
    for block in encode_blocks(models, [content[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]):
        writer.write(block)
    writer.close()
    return stream.getvalue()


def read(models: list[Recurrent], octets: bytes) -> list[bytes | Damaged]:
    return decode_blocks(models, list(Reader(io.BytesIO(octets), "it")))


def coded(models: list[Recurrent], content: bytes) -> bytes:
    """A container whose blocks are coded by the first model, not stored, though untrained weights find nothing probable."""
    favoured = container(models, content)
    assert any(block.kind > 1 for block in encode_blocks(models, [content[:30]])), "nothing was coded"
    return favoured


def likely(model: Recurrent, num_bytes: int) -> bytes:
    """Bytes that the model itself finds likely, so that they are coded rather than stored."""
    uniforms, state, octets = Key(9).uniform(num_bytes), model.start(1), bytearray()
    for uniform in uniforms:
        cumulative = np.cumsum(model.frequencies(state)[0])
        octets.append(int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")))
        state = model.advance(state, np.array(octets[-1:]))
    return bytes(octets)


@pytest.mark.slow
def test_every_single_bit_of_a_neural_container_matters_or_harms_nothing(tiny: Recurrent):
    """Catches silent damage: with any bit turned over, every block is exact or named, and at most one of them is lost."""
    whole = coded([tiny], likely(tiny, 70))
    expected = read([tiny], whole)
    assert b"".join(one for one in expected if isinstance(one, bytes)) == likely(tiny, 70)
    for bit in range(8 * len(whole)):
        octets = bytearray(whole)
        octets[bit // 8] ^= 1 << bit % 8
        try:
            contents = read([tiny], bytes(octets))
        except RequestError:
            continue
        wrong = [one for one, right in zip(contents, expected, strict=True) if one != right]
        assert len(wrong) <= 1 and all(isinstance(one, Damaged) for one in wrong), bit


def test_files_come_back_by_the_path_of_weights(tiny_bpe: Recurrent, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a command that knows the shipped models alone."""
    mine, packed, back = (tmp_path / name for name in ("mine", "packed", "back"))
    mine.write_bytes(ENGLISH * 20)
    assert main(["compress", str(mine), "--out", str(packed), "--model", str(tiny_bpe.path)]) == 0
    assert main(["decompress", str(packed), "--out", str(back), "--model", str(tiny_bpe.path)]) == 0
    assert back.read_bytes() == mine.read_bytes()
    assert main(["decompress", str(packed), "--out", str(back)]) == 2
    assert "give their path with --model" in capsys.readouterr().err


def adversarial(number: int) -> bytes:
    """Content of kind `number` % 10, of a length from 0 to some 300 bytes."""
    key = Key(12).child(number)
    size = int(key.child("size").integers(300, 1)[0]) * (number % 25 > 0)
    noise = key.child("noise").integers(256, size).astype(np.uint8).tobytes()
    text = python_docs()[97 * number:97 * number + size]
    kinds = (noise, text, bytes(size), b"\xff" * size, text.swapcase(), bytes(range(256))[:size], text[::-1],
             text[:size // 2] + noise[:size // 2], "ÄöΩ字🙂".encode() * (size // 14), noise[:1] * size)
    return kinds[number % 10]


@pytest.mark.slow
def test_a_thousand_inputs_come_back(tiny: Recurrent, tiny_bpe: Recurrent):
    """Catches what no one thought of: random, adversarial and empty inputs under both neural models and the n-gram."""
    models = [tiny_bpe, tiny, ngram.NGram()]
    contents = [adversarial(number) for number in range(1000)]
    assert sum(not content for content in contents) >= 40
    for model in models:
        for first in range(0, 1000, 200):
            some = contents[first:first + 200]
            assert decode_blocks([model], encode_blocks([model], some)) == some
