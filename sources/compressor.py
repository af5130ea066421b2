"""Content in blocks that stand alone, each coded by whichever model makes it smallest, or stored."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.types import Item, Origin, Reconstruction
from sources.container import FIRST_MODEL, STORED, Block, Damaged
from sources.entropy import Lane, decode_lanes, encode_lanes
from sources.models.model import CausalModel

_SHARED = Key(0)  # tokenizers of bytes draw nothing


def encode_blocks(models: Sequence[CausalModel], contents: Sequence[bytes]) -> list[Block]:
    """A block of each content, which are coded side by side."""
    best = [Block(STORED, len(content), 0, content, zlib.crc32(content)) for content in contents]
    for number, model in enumerate(models):
        tokens = [_tokens(model, content) for content in contents]
        streams = encode_lanes(model, tokens)
        if not model.exact:
            _verify(model, tokens, streams)
        for which, stream in enumerate(streams):
            payload = np.packbits(stream).tobytes()
            if len(payload) < len(best[which].payload):
                stored = best[which]
                best[which] = Block(FIRST_MODEL + number, stored.num_bytes, tokens[which].size, payload, stored.content_crc)
    return best


def decode_blocks(models: Sequence[CausalModel], blocks: Sequence[Block | Damaged]) -> list[bytes | Damaged]:
    """The content of each block, or why there is none."""
    found: list[bytes | Damaged] = [one.payload if isinstance(one, Block) else one for one in blocks]
    for number, model in enumerate(models):
        mine = [which for which, one in enumerate(blocks) if isinstance(one, Block) and one.kind == FIRST_MODEL + number]
        lanes = {which: _lane(blocks[which]) for which in mine}
        decode_lanes(model, list(lanes.values()))
        for which, lane in lanes.items():
            found[which] = _content(model, lane.tokens)
    return [_checked(one, content) for one, content in zip(blocks, found, strict=True)]


def _verify(model: CausalModel, tokens: Sequence[np.ndarray], streams: Sequence[np.ndarray]) -> None:
    """Decode what was just coded under tables that nobody vouches for."""
    lanes = [Lane(stream, range(one.size), complete=True) for stream, one in zip(streams, tokens, strict=True)]
    decode_lanes(model, lanes)
    if any(not np.array_equal(lane.tokens, one) for lane, one in zip(lanes, tokens, strict=True)):
        raise RequestError("model must give the decoder the tables that it gave the encoder, and its floating-point ones came out "
                           "otherwise: use one thread, or an integer model")


def _lane(block: Block | Damaged) -> Lane:
    assert isinstance(block, Block)
    return Lane(np.unpackbits(np.frombuffer(block.payload, np.uint8)), range(block.num_tokens), complete=True)


def _checked(block: Block | Damaged, content: bytes | Damaged) -> bytes | Damaged:
    if isinstance(block, Damaged) or isinstance(content, Damaged):
        return block if isinstance(block, Damaged) else content
    if len(content) != block.num_bytes or zlib.crc32(content) != block.content_crc:
        return Damaged("it decodes to something else than what was coded", block.num_bytes)
    return content


def _tokens(model: CausalModel, content: bytes) -> np.ndarray:
    return model.tokenizer().encode(Item(content, "text", "content"), _SHARED).values


def _content(model: CausalModel, tokens: Sequence[int]) -> bytes:
    values = np.array(tokens, np.int32)
    received = Reconstruction(values=values, origin=np.full(values.size, Origin.RECEIVED, np.uint8),
                              confidence=np.ones(values.size, np.float32), vocab_size=model.vocab_size)
    content, _ = model.tokenizer().decode(received, _SHARED)
    assert isinstance(content, bytes)
    return content
