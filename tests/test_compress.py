"""The file compressor: exact or refused, whatever happens to the container."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from scenarios.cli import main
from sources.compressor import decode_blocks, encode_blocks
from sources.container import Block, Damaged, Layout, Reader, Writer
from sources.models.ngram import NGram
from sources.models.uniform import Uniform

ENGLISH = b"It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. " * 4
NOISE = Key(5).integers(256, 3000).astype(np.uint8).tobytes()
MODELS = [NGram(), Uniform(vocab_size=256)]
LAYOUT = Layout(first_bytes=50, block_bytes=120)


def container(content: bytes) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream, LAYOUT, [(type(model).__name__, model.coding_digest()[:8]) for model in MODELS])
    cuts = [0, *range(LAYOUT.first_bytes, len(content), LAYOUT.block_bytes), len(content)]
    for block in encode_blocks(MODELS, [content[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]):
        writer.write(block)
    writer.close()
    return stream.getvalue()


def read(octets: bytes) -> tuple[list[bytes | Damaged], Reader]:
    reader = Reader(io.BytesIO(octets), "it")
    return decode_blocks(MODELS, list(reader)), reader


@pytest.mark.parametrize("content", [b"", b"x", ENGLISH, NOISE, b"\0" * 500, bytes(range(256)) * 3], ids=len)
def test_what_was_written_is_read(content: bytes):
    """Catches lost blocks, lost tails and tokens that are not given back."""
    contents, reader = read(container(content))
    assert b"".join(one for one in contents if isinstance(one, bytes)) == content
    assert reader.num_bytes == len(content) and reader.ended


def test_text_is_compressed_and_noise_is_stored():
    """Catches a choice that is not by size: noise must cost nothing but its frame."""
    assert len(container(ENGLISH)) < 0.6 * len(ENGLISH)
    assert len(NOISE) < len(container(NOISE)) < len(NOISE) + 20 * (2 + len(NOISE) // LAYOUT.block_bytes) + 60


def test_every_single_bit_of_a_container_matters_or_harms_nothing():
    """Catches silent damage: with any bit turned over, every block is exact or named, and at most one of them is lost."""
    whole = container(ENGLISH[:260])
    expected, _ = read(whole)
    for bit in range(8 * len(whole)):
        octets = bytearray(whole)
        octets[bit // 8] ^= 1 << bit % 8
        try:
            contents, reader = read(bytes(octets))
        except RequestError:
            continue
        assert len(contents) == len(expected), bit
        wrong = [one for one, right in zip(contents, expected, strict=True) if one != right]
        assert len(wrong) <= 1 and all(isinstance(one, Damaged) for one in wrong), bit
        assert reader.ended


def test_a_container_cut_anywhere_is_seen_to_be_cut():
    """Catches a short file that passes for a whole one."""
    content = ENGLISH[:400]
    whole = container(content)
    expected, _ = read(whole)
    for length in range(len(whole)):
        try:
            contents, reader = read(whole[:length])
        except RequestError:
            continue
        intact = [one for one in contents if isinstance(one, bytes)]
        assert intact == expected[:len(intact)]
        assert not reader.ended or len(intact) == len(expected)


def test_blocks_that_change_places_are_named():
    """Catches blocks of equal length that are read in another order than they were written."""
    blocks = encode_blocks(MODELS, [NOISE[:50], NOISE[50:170], NOISE[170:290]])
    whole = container(NOISE[:290])
    first, second = (whole.index(block.payload) for block in blocks[1:])
    swapped = bytearray(whole)
    swapped[first:first + 120], swapped[second:second + 120] = whole[second:second + 120], whole[first:first + 120]
    contents, _ = read(bytes(swapped))
    assert [isinstance(one, Damaged) for one in contents] == [False, True, True]


def test_a_decoder_out_of_step_is_seen():
    """Catches content that is not compared with what was coded: a model of other tables must not pass."""
    blocks = encode_blocks([NGram()], [ENGLISH])
    (content,) = decode_blocks([Uniform(vocab_size=256)], blocks)
    assert isinstance(content, Damaged) and content.num_bytes == len(ENGLISH)


def test_a_block_does_not_depend_on_those_beside_it():
    """Catches lanes that influence one another."""
    contents = [ENGLISH[:100], NOISE[:80], ENGLISH[30:31], b""]
    alone: list[Block] = [block for content in contents for block in encode_blocks(MODELS, [content])]
    assert encode_blocks(MODELS, contents) == alone


def test_the_digest_of_a_model_is_of_its_tables_alone(tmp_path: Path):
    """Catches containers that only the folder they were made in can read."""
    import sources.models.ngram as ngram

    for suffix in (".safetensors", ".json"):
        (tmp_path / f"mine{suffix}").write_bytes(ngram.SHIPPED.with_suffix(suffix).read_bytes())
    assert NGram(path=str(tmp_path / "mine.safetensors")).coding_digest() == NGram().coding_digest()
    assert Uniform(vocab_size=256).coding_digest() != Uniform(vocab_size=255).coding_digest()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_files_come_back(workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches batches out of order, and a result that depends on the number of workers."""
    mine, packed, back = tmp_path / "mine.txt", tmp_path / "mine.chs", tmp_path / "back.txt"
    mine.write_bytes(ENGLISH * 45)  # two blocks
    assert main(["compress", str(mine), "--out", str(packed), "--workers", workers]) == 0
    assert "bits per byte" in capsys.readouterr().out
    assert packed.stat().st_size < 0.4 * mine.stat().st_size
    assert main(["decompress", str(packed), "--out", str(back), "--workers", workers]) == 0
    assert back.read_bytes() == mine.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.txt", "mine.chs", "mine.txt"]


def test_a_damaged_file_is_refused_or_salvaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches damage that is written over a good file, and intact blocks that are lost with it."""
    mine, packed, back = tmp_path / "mine.txt", tmp_path / "mine.chs", tmp_path / "back.txt"
    content = ENGLISH * 45
    mine.write_bytes(content)
    back.write_bytes(b"before")
    main(["compress", str(mine), "--out", str(packed), "--model", "ngram"])
    octets = bytearray(packed.read_bytes())
    octets[100] ^= 1  # in the first block, of 1024 bytes
    packed.write_bytes(octets)
    capsys.readouterr()
    assert main(["decompress", str(packed), "--out", str(back)]) == 2
    assert "damaged: bytes 0 to 1,024 (its CRC fails)" in capsys.readouterr().err
    assert back.read_bytes() == b"before"
    assert main(["decompress", str(packed), "--out", str(back), "--salvage"]) == 1
    assert back.read_bytes() == bytes(1024) + content[1024:]


@pytest.mark.parametrize(("octets", "message"), [
    (b"", "is not a channel-sim container"),
    (b"PK\3\4whatever", "is not a channel-sim container"),
    (b"chsm\x09", "of container version 9, and this channel-sim reads 1"),
    (b"chsm\x01\x80", "is damaged; nothing can be read"),
])
def test_foreign_files_are_refused(octets: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches tracebacks on files that are something else."""
    (tmp_path / "x").write_bytes(octets)
    assert main(["decompress", str(tmp_path / "x"), "--out", str(tmp_path / "y")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_another_model_is_refused_by_its_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches decoding with a model of the same name and other tables."""
    stream = io.BytesIO()
    Writer(stream, LAYOUT, [("ngram", b"12345678")]).close()
    (tmp_path / "x").write_bytes(stream.getvalue())
    assert main(["decompress", str(tmp_path / "x"), "--out", str(tmp_path / "y")]) == 2
    assert "was compressed with a model 'ngram' of digest 3132333435363738, and this one is" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["compress", "nowhere", "--out", "{}/x"], "nowhere: No such file or directory"),
    (["compress", "setup.cfg", "--out", "{}/no/x"], "No such file or directory; nothing was written"),
    (["compress", "setup.cfg", "--out", "{}/x", "--model", "ngrm"], "did you mean 'ngram'"),
    (["compress", "setup.cfg", "--out", "{}/x", "--model", "exact_markov"], "must predict bytes"),
])
def test_bad_requests_are_one_line(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches tracebacks on wrong paths and models."""
    assert main([one.format(tmp_path) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
