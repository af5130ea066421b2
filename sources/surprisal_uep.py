"""Unequal error protection by surprisal: what a model finds hard to predict is sent, what it finds easy is left to the prior."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import comb
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, SerializeAsAny

from channel_sim.checks import require
from channel_sim.keys import Key
from channel_sim.stages import Coder
from channel_sim.types import Evidence, Packets, Preamble, Reception, Tokens, bits_for, bits_to_tokens, token_bits
from sources.entropy import Run, in_rows
from sources.fixed_length import spread
from sources.models.model import CausalModel

_LARGEST = 2**31 - 1
_SHARED_MAP = Key(0).child("surprisal_uep")  # of selection "random": both ends draw it, so that it need not be sent


class SurprisalUep(Coder):
    """The tokens of highest surprisal as their fixed-length code words, with a map that says which they are; the others unsent.

        tokens ─▶ classes of j mod num_packets ─▶ most surprising `sent_fraction` of each ─▶ packet: [map | code words]

    Unequal protection at its extreme: whatever stands behind the packets (parity, copies, a lower code rate) protects what is
    sent, and nothing what is not, which the decoder must infer. Surprisal is -log2 P(token | all before it) at the sender; the
    receiver needs no model for this coder. A packet carries the tokens of one class, as with an interleaved `fixed_length`, and
    the map of its own class, so a lost packet takes its map along and no other packet suffers; the map is protected as its
    tokens are, and charged as they are. Every class of L tokens sends m = round(L sent_fraction), at least one, and its map is
    the number of the chosen set among all C(L, m), in ceil(log2 C(L, m)) bits.

    `selection` "random" is the control: a set that both ends draw alike, which costs no map; at equal channel uses it sends more.

    A packet is dropped if a bit of it is unknown, its CRC has failed, or its map is the number of no set. Where bits are soft and
    no CRC checks them, the more probable ones are taken; wrong tokens that come of it pass for known. What a decoder could still
    learn from a token's not being sent, that it was none of the surprising ones, is not used.

    Source: for the map T. M. Cover, "Enumerative source encoding", IEEE Trans. Inf. Theory 19 (1973), section II.
    """

    source: ClassVar[str] = "T. M. Cover, IEEE Trans. Inf. Theory 19 (1973) 73-77"
    assumptions: ClassVar[tuple[str, ...]] = (
        "Packets of surprisal_uep are known by their slot; interleaving spans and so delays the whole item.",
    )

    model: SerializeAsAny[CausalModel] | None = Field(None, description="what finds tokens surprising; default: the one that fits")
    sent_fraction: float = Field(0.5, gt=0, le=1, description="fraction of the tokens that is sent")
    selection: Literal["surprisal", "random"] = Field("surprisal", description="which are sent; random ones need no map")
    packet_bits: int = Field(512, ge=1, le=_LARGEST, description="payload bits of a packet at most, its map included")
    header_bits: int = Field(32, ge=0, description="bits of a packet's header, charged")

    def encode(self, tokens: Sequence[Tokens]) -> list[tuple[Packets, Preamble]]:
        return [self._encode(one) for one in tokens]

    def receive(self, receptions: Sequence[Reception], preambles: Sequence[Preamble]) -> list[Evidence]:
        return [self._receive(*pair) for pair in zip(receptions, preambles, strict=True)]

    def _encode(self, tokens: Tokens) -> tuple[Packets, Preamble]:
        require(self._vocab_size == tokens.vocab_size,
                f"coder.model must know the vocabulary of {tokens.vocab_size} tokens, got one of {self._vocab_size}: name another")
        classes = _classes(tokens.values.size, self._num_packets(tokens.values.size))
        worth = self._worth(tokens.values)
        payloads = [self._payload(number, tokens.values[one], worth[one]) for number, one in enumerate(classes)]
        bits, num_bits = in_rows(payloads)
        counts = np.array([one.size for one in classes], np.int64)
        firsts = np.array([one[0] for one in classes], np.int64)
        packets = Packets(
            bits=bits,
            num_bits=num_bits,
            order=np.concatenate([np.zeros(0, np.int64), *classes]),
            bounds=np.concatenate([[0], np.cumsum(counts)]),
            header=np.stack([np.arange(len(classes)), firsts, counts], axis=1),
            header_bits=self.header_bits,
        )
        return packets, Preamble(tokens.values.size, len(classes), tokens.grid)

    def _payload(self, number: int, values: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """uint8: map and code words of class `number`."""
        size, num_sent = values.size, self._num_sent(values.size)
        sent = np.sort(np.argsort(-worth, kind="stable")[:num_sent]) if self._sends_map else _shared_set(number, size, num_sent)
        width = self._map_bits(size)
        index = np.array([int(digit) for digit in format(set_number(sent.tolist()), f"0{width}b")] if width else [], np.uint8)
        return np.concatenate([index, token_bits(values[sent], self._vocab_size).ravel()])

    def _receive(self, reception: Reception, preamble: Preamble) -> Evidence:
        known, values = np.zeros(preamble.num_tokens, bool), np.zeros(preamble.num_tokens, np.int32)
        decided = reception.crc_checked | np.all(reception.llr != 0, axis=1)
        usable = ~reception.lost & reception.crc_ok & decided
        classes = _classes(preamble.num_tokens, preamble.num_packets)
        for number in np.flatnonzero(usable).tolist():
            sent, words = self._read(number, classes[number].size, reception.hard_bits[number])
            is_token = words < self._vocab_size
            places = classes[number][sent][is_token]
            known[places], values[places] = True, words[is_token]
        return Evidence(known, values, self._vocab_size, preamble.grid)

    def _read(self, number: int, size: int, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places in class `number`, their code words as numbers), both empty where the map is that of no set."""
        num_sent, width, word = self._num_sent(size), self._map_bits(size), bits_for(self._vocab_size)
        if self._sends_map:
            index = int("0" + "".join(map(str, bits[:width].tolist())), 2)
            if index >= comb(size, num_sent):
                return np.zeros(0, np.int64), np.zeros(0, np.int32)
            sent = np.array(numbered_set(index, size, num_sent), np.int64)
        else:
            sent = _shared_set(number, size, num_sent)
        return sent, bits_to_tokens(bits[width:width + num_sent * word].reshape(num_sent, word))

    def _worth(self, values: np.ndarray) -> np.ndarray:
        """float64 [n]: bits of surprisal of each token given all before it; not asked for where a random set is sent."""
        if not self._sends_map:
            return np.zeros(values.size)
        assert self.model is not None
        run, bits = Run(self.model, values), [np.zeros(0)]
        while at_hand := run.look():
            bits.append(run.ideal_bits)
            run.take(at_hand)
        return np.concatenate(bits)

    @property
    def _sends_map(self) -> bool:
        return self.selection == "surprisal"

    @property
    def _vocab_size(self) -> int:
        if self.model is None:
            raise ValueError("coder.model must be given, got none: name one, or use a source with a shipped one")
        return self.model.vocab_size

    def _num_packets(self, num_tokens: int) -> int:
        """The fewest whose classes fit `packet_bits`."""
        if num_tokens == 0:
            return 0
        least = self._payload_bits(1)
        require(self.packet_bits >= least,
                f"coder.packet_bits must be >= {least}, the bits of a token, got {self.packet_bits}: raise it")
        largest = bisect_right(range(1, num_tokens + 1), self.packet_bits, key=self._payload_bits)
        return -(-num_tokens // largest)

    def _payload_bits(self, size: int) -> int:
        """Of a class of `size` tokens; it never falls with `size`."""
        return self._map_bits(size) + self._num_sent(size) * bits_for(self._vocab_size)

    def _num_sent(self, size: int) -> int:
        return max(1, round(size * self.sent_fraction))

    def _map_bits(self, size: int) -> int:
        return (comb(size, self._num_sent(size)) - 1).bit_length() if self._sends_map else 0


def set_number(members: Sequence[int]) -> int:
    """The number of a set of m places, rising, among all sets of m: Σ C(members[i], i + 1).

    >>> [set_number(pair) for pair in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))]
    [0, 1, 2, 3, 4, 5]
    """
    return sum(comb(member, rank) for rank, member in enumerate(members, start=1))


def numbered_set(number: int, size: int, num_members: int) -> list[int]:
    """The set of `num_members` of `size` places, rising, that `set_number` gives `number` < C(size, num_members)."""
    members, place = [], size
    for rank in range(num_members, 0, -1):
        place -= 1
        while comb(place, rank) > number:
            place -= 1
        number -= comb(place, rank)
        members.append(place)
    return members[::-1]


def _shared_set(number: int, size: int, num_members: int) -> np.ndarray:
    """int64, rising: the set of class `number` that both ends draw."""
    return np.sort(np.argsort(_SHARED_MAP.child(number).uniform(size), kind="stable")[:num_members])


def _classes(num_tokens: int, num_packets: int) -> list[np.ndarray]:
    """int64 each, rising: the token positions of each packet."""
    return [np.arange(first, num_tokens, num_packets) for first in spread(num_packets).tolist()] if num_packets else []
