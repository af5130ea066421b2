"""Tokens to packets and back, each at the length that a model's probability gives it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, SerializeAsAny, field_validator

from channel_sim import memo
from channel_sim.checks import require
from channel_sim.stages import Coder
from channel_sim.types import CERTAIN_LLR, Evidence, Packets, Preamble, Reception, Tokens
from sources.entropy import Run, Track, after, at_least_a_bit, decode_lanes, encode_run, ideal_bits, in_rows, settled_bits
from sources.models.model import CausalModel
from sources.received_runs import Book, ReceivedRun, Trial
from sources.repair import Damage

_ENDLESS = 1 << 31  # more packets than any item has
_LARGEST = 2**31 - 1
_FLOAT_TABLES = 1  # what the preamble says of a stream that is sure to be decoded only where it was made


class Entropy(Coder):
    """Range coding under a model's integer tables, cut into packets of at most `packet_bits`, as many tokens in each as fit.

        tokens ─▶ model's table of the next token, given the context ─▶ range coder, one stream a run ─▶ cut into packets

    `context` is the dial between efficiency and resilience: how many packets a run of model and coder lasts.
    independent: one; each packet is decodable by itself
    chained:     all; a packet needs all before it
    restart:k:   k; a packet needs those before it in its run, and a loss does no harm past the run
    mdc:k:       every k-th; k descriptions, each a run of the model over its own packets, which carry stretches of the item in
                 turn and are sealed one by one; a loss does no harm to the other descriptions

    A packet carries the tokens that are settled once it is there. Lengths are not told: a range decoder reads zeros past the end.
    The header tells the sequence number, the first token and the count, since losses hide how many tokens went before; nobody
    reads it, and header_bits = 0 will do, where there is one run alone (chained, or one packet) and the slot tells the rest.

    `repair` says what becomes of a packet that is damaged: a bit of it is unknown, or its CRC has failed.
    drop:   it is lost. Where bits are soft and no CRC checks them, the more probable ones are taken; wrong tokens that come of it
            pass for known, unless their run is seen to be none that this coder makes
    prefix: what it decodes to is kept up to where, with probability `keep_above`, no bit has been wrong (`sources.repair`); the
            rest of its run is lost. Soft bits that no CRC checks are treated alike
    list:   the `list_size` most probable error patterns are tried first. One that passes the CRC, is a stream that this coder
            makes, and is at least that probable beside all others is undone, and the packet counts as received
    Without a CRC every pattern is decoded, and likelihood and stream alone pick; a run of n doubtful packets is decoded n times.
    """

    revision: ClassVar[int] = 1
    assumptions: ClassVar[tuple[str, ...]] = (
        "Both ends of the entropy coder have the same model, its tables equal bit for bit; the model itself is not charged.",
        "Framing tells where a packet ends on the air, and is not charged beyond the packet's header and CRC.",
    )

    model: SerializeAsAny[CausalModel] | None = Field(None, description="the predictor; default: the shipped one that fits")
    packet_bits: int | None = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet at most; none = one packet")
    context: str = Field("independent", description="independent | chained | restart:k (afresh every k) | mdc:k (k in turn)")
    repair: Literal["drop", "prefix", "list"] = Field("drop", description="what becomes of a damaged packet")
    list_size: int = Field(256, ge=1, le=1 << 16, description="error patterns that repair = list tries")
    keep_above: float = Field(0.9, gt=0.5, lt=1, description="what a repair keeps is right with this probability at least")
    judge: SerializeAsAny[CausalModel] | None = Field(
        None, description="model that tells text from what a decoder out of step makes; none = the predictor, told the text before")
    header_bits: int = Field(32, ge=0, description="bits of a header, charged; holds sequence number, first token and count")

    @field_validator("context")
    @classmethod
    def _is_a_context(cls, context: str) -> str:
        require(re.fullmatch(r"independent|chained|(restart|mdc):[1-9][0-9]{0,8}", context) is not None,
                f"context must be independent, chained, or restart:k or mdc:k with k >= 1 packets, got {context!r}")
        return context

    @property
    def ignored_fields(self) -> frozenset[str]:
        unused = {"drop": {"list_size", "keep_above", "judge"}, "prefix": {"list_size"}}
        return frozenset(unused.get(self.repair, ()))

    def assumed(self) -> tuple[str, ...]:
        return self.assumptions + (self.model.assumed() if self.model is not None else ())

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        books = [Book(np.zeros(one.num_tokens, bool), np.zeros(one.num_tokens, np.int32)) for one in preambles]
        active = [(book, run) for book, pair in zip(books, zip(receptions, preambles, strict=True), strict=True)
                  for run in self._received_runs(*pair)]
        while active:
            heads = [run.head() for _, run in active]
            self._decode(heads)
            for (book, _), head in zip(active, heads, strict=True):
                book.enter(head)
            active = self._repair([Trial(book, run, head) for (book, run), head in zip(active, heads, strict=True)
                                   if run.suspect < len(run.bits)])
        vocab_size = self._model().vocab_size
        return [Evidence(book.known, book.values, vocab_size, one.grid) for book, one in zip(books, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        model = self._model()
        require(model.vocab_size == tokens.vocab_size,
                f"coder.model must know the vocabulary of {tokens.vocab_size} tokens, got one of {model.vocab_size}: name another")
        packets = self._packets(self._remembered_runs(model, tokens.values))
        self._check_header(packets.num_packets, tokens.values.size)
        preamble = Preamble(tokens.values.size, packets.num_packets, tokens.grid, () if model.exact else (_FLOAT_TABLES,))
        if not model.exact:
            self._verify(tokens, packets, preamble)
        return packets, preamble

    def _verify(self, tokens: Tokens, packets: Packets, preamble: Preamble) -> None:
        """Decode what was just coded under tables that nobody vouches for."""
        intact = np.ones(packets.num_packets, bool)
        llr = np.where(packets.bits, CERTAIN_LLR, -CERTAIN_LLR).astype(np.float32)
        tracks = [run.head() for run in self._received_runs(Reception(llr, ~intact, intact, packets.header), preamble)]
        decode_lanes(self._model(), tracks)
        book = Book(np.zeros(tokens.values.size, bool), np.zeros(tokens.values.size, np.int32))
        for track in tracks:
            book.enter(track)
        require(bool(book.known.all()) and np.array_equal(book.values, tokens.values),
                "coder.model must give the decoder the tables that it gave the encoder, and its floating-point ones came out "
                "otherwise: use one thread, or an integer model")

    def _remembered_runs(self, model: CausalModel, values: np.ndarray) -> list[CodedRun]:
        memory = memo.current()
        if memory is None:
            return self._encode_runs(model, values)
        name = memo.key("encoded", self._law, self.context, str(self.packet_bits), values.astype("<i4").tobytes())
        known = memory.get(name)
        if known is not None:
            return [CodedRun.from_json(run) for run in json.loads(known)]
        runs = self._encode_runs(model, values)
        memory.put(name, json.dumps([run.to_json() for run in runs]).encode())
        return runs

    def _encode_runs(self, model: CausalModel, values: np.ndarray) -> list[CodedRun]:
        runs, first = list[CodedRun](), 0
        states = list[np.ndarray]()  # of the descriptions begun so far
        while first < values.size:
            if self._num_descriptions:
                turn = len(runs) % self._num_descriptions
                if turn == len(states):
                    states.append(model.start(1))
                runs.append(self._encode_packet(Run(model, values[first:], states[turn])))
                states[turn] = after(model, values[first:first + runs[-1].counts[0]], states[turn])
            else:
                runs.append(self._encode_run(model, values[first:]))
            first += sum(runs[-1].counts)
        return runs

    def _encode_packet(self, run: Run) -> CodedRun:
        """As much of the run as one packet holds, sealed."""
        stream, count, ideal_bits = encode_run(run, self.packet_bits)
        self._holds(count)
        return CodedRun([at_least_a_bit(stream)], [count], ideal_bits)

    def _encode_run(self, model: CausalModel, values: np.ndarray) -> CodedRun:
        """As much of `values` as one run holds."""
        endless = self._packets_per_run == _ENDLESS
        most_bits = None if self.packet_bits is None or endless else self.packet_bits * self._packets_per_run
        stream, count, ideal_bits = encode_run(Run(model, values), most_bits)
        self._holds(count)
        width = self.packet_bits or stream.size
        # another run follows: then this one has all its packets, be it that zeros at its end need no bits
        num_packets = self._packets_per_run if count < values.size else -(-stream.size // max(width, 1))
        ends = [width * packet for packet in range(1, num_packets)]
        settled = settled_bits(Run(model, values[:count]), stream) if ends else np.zeros(0, np.int64)
        counts = np.searchsorted(settled, ends, side="right")
        pieces = [at_least_a_bit(piece) for piece in np.split(stream, ends)]
        return CodedRun(pieces, np.diff([0, *counts, count]).tolist(), ideal_bits)

    def _holds(self, count: int) -> None:
        require(count > 0,
                f"coder.packet_bits must hold the dearest token of the model, got {self.packet_bits}: raise it, 24 always do")

    def _packets(self, runs: Sequence[CodedRun]) -> Packets:
        pieces = [piece for run in runs for piece in run.pieces]
        numbers = np.arange(len(pieces))
        counts = np.array([count for run in runs for count in run.counts], np.int64)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        bits, num_bits = in_rows(pieces)
        return Packets(
            bits=bits,
            num_bits=num_bits,
            order=np.arange(bounds[-1]),
            bounds=bounds,
            header=np.stack([numbers, bounds[:-1], counts], axis=1),
            header_bits=self.header_bits,
            context=np.array([(run.start, slot, run.step) for slot, run in sorted(
                (slot, run) for run in self._runs(len(pieces)) for slot in run)]).reshape(-1, 3),
            ideal_bits=sum(run.ideal_bits for run in runs),
        )

    def _decode(self, tracks: Sequence[Track]) -> None:
        """Run the tracks to their ends. One that was decoded before, from the same bits under the same model, is not decoded again;
        what was encoded is no help, so an encoder and a decoder that disagree are seen to disagree.
        """
        memory = memo.current()
        if memory is None:
            decode_lanes(self._model(), tracks)
            return
        law, fresh = self._law, []
        for track in tracks:
            name = memo.key("decoded", law, track.content)
            found = memory.get(name)
            if found is None:
                fresh.append((name, track))
            else:
                track.recall(np.frombuffer(found, "<i4"))
        decode_lanes(self._model(), [track for _, track in fresh])
        for name, track in fresh:
            memory.put(name, track.outcome.astype("<i4").tobytes())

    def _runs(self, num_packets: int) -> list[range]:
        """The slots of each run of the model."""
        if self._num_descriptions:
            return [range(first, num_packets, self._num_descriptions) for first in range(min(self._num_descriptions, num_packets))]
        length = min(self._packets_per_run, max(num_packets, 1))
        return [range(first, min(first + length, num_packets)) for first in range(0, num_packets, length)]

    def _received_runs(self, reception: Reception, preamble: Preamble) -> list[ReceivedRun]:
        """Each run up to the first packet that is missing; where nothing is repaired, a damaged one is."""
        arrived, sound = ~reception.lost, self._sound(reception)
        claims = self._claims(reception, preamble, sound if self.repair == "drop" else arrived)
        list_size = self.list_size if self.repair == "list" else 1
        runs = []
        for slots in self._runs(len(claims)):
            usable = [(slot, claim) for slot, claim in takewhile(lambda one: one[1] is not None, ((i, claims[i]) for i in slots))]
            sealed = bool(self._num_descriptions) or len(slots) == 1
            rows = reception.hard_bits if sealed else _widened(reception.hard_bits, self.packet_bits or 0)
            runs.append(ReceivedRun(
                claims=[claim for _, claim in usable if claim is not None],
                bits=[rows[slot] for slot, _ in usable],
                damage=[None if sound[slot] else Damage.of(reception, slot, list_size) for slot, _ in usable],
                whole=len(usable) == len(slots),
                sealed=sealed,
                counted=not self._is_one_run(preamble.num_packets),
            ))
        return runs

    def _sound(self, reception: Reception) -> np.ndarray:
        """bool [num_packets]: taken as sent; where damage is repaired, not if soft bits are all there is to it."""
        decided = np.all(reception.llr != 0, axis=1)
        if self.repair != "drop":
            decided &= np.all(np.abs(reception.llr) >= CERTAIN_LLR, axis=1)
        return ~reception.lost & reception.crc_ok & (reception.crc_checked | decided)

    def _repair(self, trials: Sequence[Trial]) -> list[tuple[Book, ReceivedRun]]:
        """Try to repair the first suspect of each run; those where it could be done."""
        self._decode([track for trial in trials for track in (trial.as_decided, *trial.repairs)])
        done = []
        for trial in trials:
            gains = [self._gain(trial, track).sum() if trial.run.fits(track) else -np.inf for track in trial.repairs]
            gain, tokens = self._gain(trial, trial.as_decided), trial.tokens(trial.as_decided)
            probable, right = trial.damage.verdict(np.array(gains), self._settled(trial), np.append(0.0, gain.cumsum()))
            if probable.max(initial=0) >= self.keep_above:
                trial.run.accept(trial.damage.repairs[int(probable.argmax())])
                done.append((trial.book, trial.run))
            else:
                trial.book.enter_tokens(trial.position, tokens[:int((right >= self.keep_above).sum())])
        return done

    def _gain(self, trial: Trial, track: Track) -> np.ndarray:
        """float64, of each token of the suspect: ln p(token | text) / p(token | model), as the judge has it."""
        tokens, text = trial.tokens(track), trial.book.text_before(trial.position)
        if self.judge is None and not text.size:
            return np.zeros(tokens.size)  # it would see what the model saw
        judge = self.judge or self._model()
        by_model = ideal_bits(Run(self._model(), tokens, after(self._model(), trial.before)))
        return np.log(2) * (by_model - ideal_bits(Run(judge, tokens, after(judge, text))))

    def _settled(self, trial: Trial) -> np.ndarray:
        """int64, of each token of the suspect as decided: how many of its bits settle it."""
        lane, model = trial.as_decided.lanes[-1], self._model()
        if trial.run.sealed:
            return settled_bits(Run(model, trial.tokens(trial.as_decided), after(model, trial.before)), lane.stream)
        settled = settled_bits(Run(model, np.array(lane.tokens, np.int32)), lane.stream)
        return settled[len(trial.before):] - trial.run.suspect * (self.packet_bits or 0)

    def _claims(self, reception: Reception, preamble: Preamble, usable: np.ndarray) -> list[range | None]:
        """The token positions that each slot brings, by its header; None = not usable, or a header that can't be true there."""
        if self._is_one_run(preamble.num_packets):
            return [range(preamble.num_tokens) if arrived else None for arrived in usable]
        claims: list[range | None] = []
        end = 0
        for slot, (sequence, first, count) in enumerate(reception.header.tolist()):
            follows = first >= end if slot and claims[-1] is None else first == end
            sound = sequence == slot and follows and 0 <= count <= preamble.num_tokens - first
            claims.append(range(first, first + count) if usable[slot] and sound else None)
            end = first + count if claims[-1] is not None else end
        return claims

    def _model(self) -> CausalModel:
        if self.model is None:
            raise ValueError("coder.model must be given, got none: name one, or use a source that has a shipped one")
        return self.model

    @property
    def _law(self) -> str:
        """What tables and streams depend on."""
        return f"{self.revision} {memo.identity(self._model())}"

    @property
    def _packets_per_run(self) -> int:
        """At most: the last run may end sooner."""
        return {"independent": 1, "chained": _ENDLESS}.get(self.context) or int(self.context.removeprefix("restart:"))

    @property
    def _num_descriptions(self) -> int:
        """0: the item is one."""
        return int(self.context.removeprefix("mdc:")) if self.context.startswith("mdc:") else 0

    def _is_one_run(self, num_packets: int) -> bool:
        """Slots and preamble say all that a header would."""
        return num_packets <= 1 or self.context == "chained"

    def _check_header(self, num_packets: int, num_tokens: int) -> None:
        if self._is_one_run(num_packets):
            return
        sequence, position = (num_packets - 1).bit_length(), num_tokens.bit_length()
        needed = sequence + 2 * position
        require(self.header_bits >= needed,
                f"coder.header_bits must be >= {needed} to hold sequence number ({sequence}), first token and count ({position} "
                f"each) of {num_tokens} tokens in {num_packets} packets, got {self.header_bits}: raise it, or send shorter items")


class CodedRun(NamedTuple):
    """A run of model and coder, cut into packets: the bits and the number of tokens of each."""

    pieces: list[np.ndarray]
    counts: list[int]
    ideal_bits: float

    def to_json(self) -> Any:
        return [[(piece.size, np.packbits(piece).tobytes().hex()) for piece in self.pieces], self.counts, self.ideal_bits]

    @staticmethod
    def from_json(run: Any) -> CodedRun:
        pieces, counts, ideal_bits = run
        return CodedRun([np.unpackbits(np.frombuffer(bytes.fromhex(octets), np.uint8), count=size) for size, octets in pieces],
                        counts, ideal_bits)


def _widened(rows: np.ndarray, width: int) -> np.ndarray:
    """[len(rows), width]: cut, or filled with 0."""
    widened = np.zeros((len(rows), width), rows.dtype)
    shared = min(rows.shape[1], width)
    widened[:, :shared] = rows[:, :shared]
    return widened
