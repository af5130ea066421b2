"""Range coding of tokens under integer tables: the streams that packets of the entropy coder are cut from.

The coding itself is constriction's: 24-bit probabilities, a 64-bit state, 32-bit words. Here the words are cut to the bits that
need sending, and a model is run in step with the coder: over known tokens in blocks, over unknown ones in parallel lanes.

Source: G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", Video & Data Recording
Conference (1979); R. Bamler, "Understanding entropy coding with asymmetric numeral systems", arXiv 2201.01741 (2022).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np

from sources.models.fixed_point import one_blas_thread
from sources.models.model import CausalModel, FiniteContextModel, State

PRECISION_BITS = 24
_BLOCK_ENTRIES, _SHORTEST_BLOCK = 1 << 16, 16
_LANES = 64
_queue = constriction.stream.queue
_TABLE = constriction.stream.model.Categorical(perfect=False)


def coding_weights(frequencies: np.ndarray, frequency_bits: int) -> np.ndarray:
    """float64 [rows, vocab_size]: the weights from which constriction makes exactly the table `frequencies`.

    It rounds weights w of n symbols to cumulative counts i + floor(W_i (2^24 - n) / W_n), where W_i = w_0 + … + w_(i-1), so that
    no count is 0. With w = 2^(24 - frequency_bits) F - 1 all sums are integers and W_n = 2^24 - n: nothing is left to round.
    """
    return frequencies * float(1 << (PRECISION_BITS - frequency_bits)) - 1.0


def seal(encoder: Any) -> np.ndarray:
    """uint8: the fewest bits that, read with zeros after them, decode to what was encoded.

    The state names an interval [low, low + range); the bits are those of the number in it with the most trailing zeros, at most
    one more than -log2 of the range. They end in a 1, or are none.
    """
    num_words, (low_end, width) = encoder.pos()
    unit = 32 * num_words + 64  # bits after the point in which the interval is exact
    words = encoder.get_compressed()
    inside = int.from_bytes(words.astype(">u4").tobytes(), "big") << (unit - 32 * words.size)
    low = inside - (inside - low_end) % (1 << 64)  # the state keeps the last 64 bits of it
    if low == 0:
        return np.zeros(0, np.uint8)
    last = low + width - 1
    zeros = ((low - 1) ^ last).bit_length() - 1
    return _to_bits(last >> zeros, unit - zeros)


def unseal(bits: np.ndarray, tail: int = 0) -> Any:
    """A range decoder that reads `bits` and then zeros, or (tail = 1) ones for as long as any of `bits` is in its 64-bit state."""
    words = np.packbits(np.concatenate([bits, np.full(96 + -bits.size % 32, tail, np.uint8)])).view(">u4")
    return _queue.RangeDecoder(words.astype(np.uint32))


class Writer:
    """A stream on its way: tokens in pieces, each under tables that may depend on all before."""

    def __init__(self) -> None:
        self._encoder = _queue.RangeEncoder()

    def write(self, tokens: np.ndarray, weights: np.ndarray) -> None:
        """Append int32 [n] under float64 [n, vocab_size]."""
        self._encoder.encode(tokens, _TABLE, weights)

    def stream(self) -> np.ndarray:
        """uint8: what has been written so far, sealed."""
        return seal(self._encoder)


def in_rows(payloads: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [len(payloads), longest], int64 [len(payloads)]): payloads of any length as the rows of `Packets`, and the lengths."""
    num_bits = np.array([payload.size for payload in payloads], np.int64)
    bits = np.zeros((len(payloads), num_bits.max(initial=0)), np.uint8)
    for row, payload in zip(bits, payloads, strict=True):
        row[:payload.size] = payload
    return bits, num_bits


def at_least_a_bit(stream: np.ndarray) -> np.ndarray:
    """What never goes on the air could not be lost."""
    return stream if stream.size else np.zeros(1, np.uint8)


class Run:
    """A model run over `values`, from a fresh start or a `state` of one lane: their tables.

    They come block by block, so that a long message needs little memory.
    """

    def __init__(self, model: CausalModel, values: np.ndarray, state: State | None = None) -> None:
        self._model, self._ahead = model, np.ascontiguousarray(values, np.int32)
        self._state = model.start(1) if state is None else state
        self._longest = max(_SHORTEST_BLOCK, _BLOCK_ENTRIES // model.vocab_size)
        self._block = _SHORTEST_BLOCK
        self.values = self._ahead[:0]
        self.weights = np.zeros((0, model.vocab_size))
        self.ideal_bits = np.zeros(0)

    def look(self) -> int:
        """How many tokens are at hand, in `values`, `weights` and `ideal_bits`; 0 = all are taken."""
        if not self.values.size and self._ahead.size:
            self.values, self._ahead = self._ahead[:self._block], self._ahead[self._block:]
            frequencies, self._state = self._model.tables(self._state, self.values)
            total = 1 << self._model.frequency_bits
            assert np.all(frequencies.sum(axis=1) == total), "a coding table must sum to 2^frequency_bits"
            self.weights = coding_weights(frequencies, self._model.frequency_bits)
            self.ideal_bits = -np.log2(frequencies[np.arange(self.values.size), self.values] / total)
            # doubling: a run that ends with its packet has looked ahead no further than that packet is long
            self._block = min(2 * self._block, self._longest)
        return self.values.size

    def take(self, num_tokens: int) -> float:
        """Drop the first `num_tokens` at hand; their ideal bits."""
        ideal_bits = float(self.ideal_bits[:num_tokens].sum())
        self.values, self.weights = self.values[num_tokens:], self.weights[num_tokens:]
        self.ideal_bits = self.ideal_bits[num_tokens:]
        return ideal_bits


def after(model: CausalModel, tokens: np.ndarray, state: State | None = None) -> State:
    """The state of one lane after int32 [n] tokens, from a fresh start or another state."""
    state = model.start(1) if state is None else state
    for place in range(tokens.size):
        state = model.advance(state, tokens[place:place + 1])
    return state


def ideal_bits(run: Run) -> np.ndarray:
    """float64: -log2 p of each token of the run."""
    pieces = [np.zeros(0)]
    while at_hand := run.look():
        pieces.append(run.ideal_bits)
        run.take(at_hand)
    return np.concatenate(pieces)


def encode_run(run: Run, most_bits: int | None) -> tuple[np.ndarray, int, float]:
    """(stream, token count, ideal bits): as many tokens as certainly fit `most_bits`, or all of the run (None)."""
    encoder, count, ideal_bits = _queue.RangeEncoder(), 0, 0.0
    while at_hand := run.look():
        longer = _extended(encoder, run, at_hand)
        whole = _fits(longer, most_bits)
        if not whole:
            # intervals nest, so what does not fit never fits again with more tokens
            at_hand = bisect_left(range(1, at_hand), True, key=lambda more: not _fits(_extended(encoder, run, more), most_bits))
            longer = _extended(encoder, run, at_hand)
        encoder, count, ideal_bits = longer, count + at_hand, ideal_bits + run.take(at_hand)
        if not whole:
            break
    return seal(encoder), count, ideal_bits


def encode_lanes(model: CausalModel, messages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A stream for each of the messages int32 [n], coded whole and alone."""
    if isinstance(model, FiniteContextModel):
        return [encode_run(Run(model, message), None)[0] for message in messages]
    streams: dict[int, np.ndarray] = {}
    waiting = sorted(range(len(messages)), key=lambda which: messages[which].size)
    with one_blas_thread():
        for first in range(0, len(waiting), _LANES):
            together = waiting[first:first + _LANES]
            streams |= zip(together, _encode_together(model, [messages[which] for which in together]), strict=True)
    return [streams[which] for which in range(len(messages))]


def _encode_together(model: CausalModel, messages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Step by step: where a model goes from state to state, lanes are what can be done at once."""
    encoders, state = [_queue.RangeEncoder() for _ in messages], model.start(len(messages))
    longest = max(message.size for message in messages)
    ahead = np.stack([np.pad(message.astype(np.int32), (0, longest - message.size)) for message in messages])  # [lanes, longest]
    for position in range(longest):
        weights = coding_weights(model.frequencies(state), model.frequency_bits)
        for lane, message in enumerate(messages):
            if position < message.size:
                encoders[lane].encode(ahead[lane, position:position + 1], _TABLE, weights[lane:lane + 1])
        state = model.advance(state, ahead[:, position])
    return [seal(encoder) for encoder in encoders]


def settled_bits(run: Run, stream: np.ndarray) -> np.ndarray:
    """int64, of each token of the run: how many bits of its `stream` settle it and all before it.

    A token is settled if it is decoded alike whatever comes after those bits. What the stream does not settle at all has one bit
    more than there are.
    """
    octets = np.packbits(np.concatenate([stream, np.zeros(128, np.uint8)])).tobytes()
    encoder, settled = _queue.RangeEncoder(), list[int]()
    while run.look():
        encoder.encode(run.values[:1], _TABLE, run.weights[:1])
        run.take(1)
        num_words, (low, width) = encoder.pos()
        window = int.from_bytes(octets[4 * num_words:4 * num_words + 8].ljust(8, b"\0"), "big")
        inside = (window - low) % (1 << 64)  # the state keeps the last 64 bits of an interval
        needed = stream.size + 1 if inside >= width else 32 * num_words + 64 - _free_bits(window, inside, width - 1 - inside)
        settled.append(min(needed, stream.size + 1))
    return np.array(settled, np.int64)


def _free_bits(window: int, below: int, above: int) -> int:
    """How many of the last bits of `window` may change, all of them, without it moving by more than `below` or `above`."""
    return min(bisect_right(range(65), room, key=lambda count: bits & ((1 << count) - 1)) - 1
               for bits, room in ((window, below), (~window, above)))


def _agreed(decoders: Sequence[Any], weights: np.ndarray) -> np.ndarray | None:
    """int32 [1]: the next token, if all decoders find the same."""
    try:
        first, *others = [decoder.decode(_TABLE, weights) for decoder in decoders]
    except AssertionError:  # constriction's word for data that no encoder makes
        return None
    return first if all(other[0] == first[0] for other in others) else None


def _extended(encoder: Any, run: Run, num_tokens: int) -> Any:
    """A copy of the encoder with the next `num_tokens` of the run in it."""
    longer = encoder.clone()
    longer.encode(run.values[:num_tokens], _TABLE, run.weights[:num_tokens])
    return longer


def _fits(encoder: Any, most_bits: int | None) -> bool:
    if most_bits is None:
        return True
    num_words, (_, width) = encoder.pos()
    # an interval of at least 2^-most_bits holds a number of most_bits bits, wherever it lies
    return bool(width >> max(0, 32 * num_words + 64 - most_bits))


class Lane:
    """A stream, or the beginning of one, decoded token by token under the tables of one run of the model.

    stream:    uint8, and any number of zeros after it, if it is `complete`
    positions: where the tokens go; all of them if it is complete, at most those if it is not

    A beginning is decoded as far as it settles tokens. A complete stream that no encoder would have made is given up, all of it:
    that is seen where constriction meets a number outside every interval, or where sealing the tokens again gives other bits.
    """

    def __init__(self, stream: np.ndarray, positions: range, *, complete: bool) -> None:
        self.stream, self._complete, self.positions = stream, complete, positions
        self._decoders = [unseal(stream, tail) for tail in ((0,) if complete else (0, 1))]
        self._again = _queue.RangeEncoder()
        self.tokens: list[int] = []
        self.done = not positions

    @property
    def num_tokens(self) -> int:
        """To be decoded at most."""
        return len(self.positions)

    def step(self, weights: np.ndarray) -> int:
        """Decode one token under `weights` float64 [1, vocab_size]; 0 once the lane is done."""
        if self.done:
            return 0
        token = _agreed(self._decoders, weights)
        if token is None:
            self._finish(sound=not self._complete)
            return 0
        self.tokens.append(int(token[0]))
        if self._complete:
            self._again.encode(token, _TABLE, weights)
        if len(self.tokens) == len(self.positions):
            self._finish(sound=not self._complete or np.array_equal(seal(self._again), np.trim_zeros(self.stream, "b")))
        return int(token[0])

    @property
    def content(self) -> bytes:
        """All that the tokens depend on beside the model: the bits received since the run began, and how many tokens to expect."""
        stream = np.trim_zeros(self.stream, "b") if self._complete else self.stream
        return np.array([self._complete, len(self.positions), stream.size], "<i8").tobytes() + np.packbits(stream).tobytes()

    def recall(self, tokens: list[int]) -> None:
        """End with the tokens that a lane of the same content ended with, under the same model."""
        self.tokens, self.done = tokens, True

    def _finish(self, *, sound: bool) -> None:
        self.done = True
        if not sound:
            self.tokens.clear()


class Track:
    """Lanes that one run of the model goes through, one after another; each needs all tokens of those before it.

    It ends with the first lane that ends short of its positions.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._ahead = list(lanes)
        self._pass()

    @property
    def num_tokens(self) -> int:
        """To be decoded at most."""
        return sum(lane.num_tokens for lane in self.lanes)

    @property
    def done(self) -> bool:
        return not self._ahead

    def step(self, weights: np.ndarray) -> int:
        """Decode one token under `weights` float64 [1, vocab_size]; 0 once the track is done."""
        if self.done:
            return 0
        token = self._ahead[0].step(weights)
        self._pass()
        return token

    @property
    def content(self) -> bytes:
        """All that the tokens depend on beside the model."""
        return b"".join(lane.content for lane in self.lanes)

    @property
    def outcome(self) -> np.ndarray:
        """int32: how many tokens each lane ended with, and all of them."""
        counts = [len(lane.tokens) for lane in self.lanes]
        return np.array([*counts, *(token for lane in self.lanes for token in lane.tokens)], np.int32)

    def recall(self, outcome: np.ndarray) -> None:
        """End with the outcome of a track of the same content, under the same model."""
        counts, tokens = outcome[:len(self.lanes)], outcome[len(self.lanes):]
        for lane, end, count in zip(self.lanes, np.cumsum(counts), counts, strict=True):
            lane.recall(tokens[end - count:end].tolist())
        self._ahead.clear()

    def _pass(self) -> None:
        while self._ahead and self._ahead[0].done:
            lane = self._ahead.pop(0)
            if len(lane.tokens) < lane.num_tokens:
                self._ahead.clear()


def decode_lanes(model: CausalModel, lanes: Sequence[Lane | Track]) -> None:
    """Run the lanes, or tracks of them, to their ends, in parallel."""
    # those of like length together: one that is done still costs a row of every table
    waiting = sorted(lanes, key=lambda lane: lane.num_tokens)
    with one_blas_thread():
        for first in range(0, len(waiting), _LANES):
            _decode_together(model, waiting[first:first + _LANES])


def _decode_together(model: CausalModel, lanes: Sequence[Lane | Track]) -> None:
    state = model.start(len(lanes))
    while True:
        weights = coding_weights(model.frequencies(state), model.frequency_bits)
        tokens = [lane.step(weights[row:row + 1]) for row, lane in enumerate(lanes)]
        if all(lane.done for lane in lanes):
            return
        state = model.advance(state, np.array(tokens, np.int32))


def _to_bits(number: int, num_bits: int) -> np.ndarray:
    """uint8 [num_bits] of a number, most significant first."""
    num_bytes = -(-num_bits // 8)
    octets = np.frombuffer(number.to_bytes(num_bytes, "big"), np.uint8)
    return np.unpackbits(octets)[8 * num_bytes - num_bits:]
