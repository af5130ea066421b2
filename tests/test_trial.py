"""What goes past coder and decoder: the shape of the content, told once, charged once, there where the content is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from channel_sim.keys import Key
from channel_sim.stages import Decoder, Tokenizer
from channel_sim.trial import Chain, run, send
from channel_sim.types import Evidence, Item, Origin, Reconstruction, Tokens, hard_decision
from tests.chains import ROOT, chain_of, tables_with

SHAPE = (8, 6, 2)


class Shaped(Tokenizer):
    """Bytes to be laid out as a picture that only its shape tells; a lost one is 0."""

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, item: Item, key: Key) -> Tokens:
        assert isinstance(item.content, bytes)
        return Tokens(np.frombuffer(item.content, np.uint8), 256, content_shape=SHAPE)

    def decode(self, reconstruction: Reconstruction, key: Key) -> tuple[np.ndarray, np.ndarray]:
        content = np.where(reconstruction.lost, 0, reconstruction.values).astype(np.uint8)
        return content.reshape(reconstruction.content_shape), reconstruction.lost.reshape(reconstruction.content_shape)


class Blends(Decoder):
    """Guesses 1 with a confidence that grows along the item, and says so in all ways it has."""

    def restore(self, evidence: list[Evidence], keys: list[Key]) -> list[Reconstruction]:
        return [self._restored(one) for one in evidence]

    def _restored(self, evidence: Evidence) -> Reconstruction:
        unknown = ~evidence.known
        weights = np.zeros((unknown.sum(), 256), np.float32)
        weights[:, 1] = 1
        confidence = np.where(unknown, np.linspace(0, 1, unknown.size), 1)
        origin = np.where(unknown, Origin.CONCEALED, Origin.RECEIVED).astype(np.uint8)
        return Reconstruction(np.where(unknown, 1, evidence.values), origin,
                              confidence, 256, blend=weights, draws=np.ones((2, unknown.sum()), np.int32))


def chain(decoder: str = "most_frequent", **tables: dict[str, object]) -> Chain:
    return replace(chain_of(tables_with("decoders", decoder) | tables), tokenizer=Shaped())


@pytest.mark.parametrize("exchanges", [0, 1])
def test_the_shape_of_the_content_reaches_the_end_and_nothing_between_touches_it(exchanges: int):
    """Catches a shape that a coder, a decoder or an exchange with the channel drops on the way."""
    soft = {"channel": {"name": "bsc", "flip_probability": 0.05, "soft": True}, "receiver": {"num_exchanges": exchanges}}
    shaped = chain(**soft)
    outcomes = run(shaped, send(shaped, [0, 1], ROOT), 0, ROOT)
    plain = run(replace(shaped, tokenizer=chain_of(tables_with("decoders", "most_frequent")).tokenizer),
                send(shaped, [0, 1], ROOT), 0, ROOT)
    for one, other in zip(outcomes, plain, strict=True):
        assert one.received.evidence.content_shape == one.received.reconstruction.content_shape == SHAPE
        assert isinstance(one.received.content, np.ndarray) and one.received.content.shape == SHAPE
        assert one.received.content.tobytes() == other.received.content


def test_the_shape_of_the_content_is_charged_once_and_where_there_is_none_nothing():
    """Catches side information that is free, and text that pays for a shape it has not."""
    with_shape, without = chain(), chain_of(tables_with("decoders", "most_frequent"))
    (told,), (untold,) = send(with_shape, [0], ROOT), send(without, [0], ROOT)
    assert told.preamble.num_bits == untold.preamble.num_bits + 8 * len(SHAPE)
    charged = [run(one, send(one, [0], ROOT), 0, ROOT)[0].ledger.preamble_bits for one in (with_shape, without)]
    assert charged[0] == charged[1] + 8 * len(SHAPE)


def test_what_is_given_up_keeps_its_row_and_all_records_stay_sound():
    """Catches a receiver that gives up doubtful tokens and thereby breaks weights and draws, or moves their rows."""
    doubting = replace(chain(receiver={"abstain_below": 0.5}), decoder=Blends())
    given_up = 0
    for one in run(doubting, send(doubting, range(4), ROOT), 0, ROOT):
        restored = one.received.reconstruction
        given_up += int(restored.lost.sum())
        num_rows = int(np.sum(restored.origin != Origin.RECEIVED))
        assert restored.blend.shape == (num_rows, 256) and restored.draws.shape == (2, num_rows)
        assert not np.any(restored.values[restored.lost]) and not np.any(restored.confidence[restored.lost])
    assert given_up > 0


def test_a_hard_decision_of_the_evidence_can_be_decoded():
    """Catches what arrived, shown beside what was restored, without its shape."""
    shaped = chain()
    (one,) = run(shaped, send(shaped, [0], ROOT), 0, ROOT)
    content, missing = shaped.tokenizer.decode(hard_decision(one.received.evidence), Key(0))
    assert content.shape == missing.shape == SHAPE
