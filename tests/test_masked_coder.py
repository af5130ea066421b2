"""The coder over masked models: exact round trips, real bits against ideal ones, and which losses cost which packets."""

from __future__ import annotations

import numpy as np
import pytest

from channel_sim import memo
from channel_sim.keys import Key
from channel_sim.types import CERTAIN_LLR, Packets, Preamble, Reception, Tokens
from sources.masked_coder import MaskedEntropy
from sources.packet_order import in_order, in_packets, low_discrepancy, parted
from tests.grid_models import Neighbours, neighbours

GRIDS = [(0,), (0, 4), (1, 1), (1, 9), (40,), (7, 5), (8, 8), (3, 4, 5), (5, 6, 2), (2, 1, 2), (0, 4, 2), (3, 4, 0)]
CONTEXTS = ["independent", "layered", "layered:3", "mdc:1", "mdc:2", "mdc:3", "chained"]


def field(grid: tuple[int, ...], label: int = 0) -> Tokens:
    """Patches of one token, 4 cells wide, one cell in ten another: tokens of which neighbours tell something."""
    key = Key(3).child(label)
    patches = key.child("patches").integers(5, *(-(-side // 4) for side in grid))
    for axis, side in enumerate(grid):
        patches = patches.repeat(4, axis=axis).take(np.arange(side), axis=axis)
    values = np.where(key.child("odd").uniform(*grid) < 0.1, key.child("noise").integers(5, *grid), patches)
    return Tokens(values.astype(np.int32).ravel(), 5, grid)


def coder(**fields) -> MaskedEntropy:
    return MaskedEntropy(**{"model": Neighbours(), "num_packets": 6} | fields)


def reception(packets: Packets, lost: np.ndarray | None = None, bits: np.ndarray | None = None, **fields) -> Reception:
    """Certain bits, of which whole packets may be lost or changed."""
    lost = np.zeros(packets.num_packets, bool) if lost is None else lost
    width = int(packets.num_bits[~lost].max(initial=0))
    sent = packets.bits if bits is None else bits
    llr = np.where(sent[:, :width] > 0, CERTAIN_LLR, -CERTAIN_LLR).astype(np.float32)
    llr[lost] = 0
    fields = {"crc_ok": ~lost, "crc_checked": True} | fields
    return Reception(llr, lost, header=np.where(lost[:, None], -1, packets.header), **fields)


@pytest.mark.parametrize("rounds", [1, 4, 1000])
@pytest.mark.parametrize("context", CONTEXTS)
def test_what_is_sent_is_received(context: str, rounds: int):
    """Catches ends that ask the model different questions, and grids, contexts or rounds with an edge that is forgotten."""
    one = coder(context=context, rounds=rounds)
    items = [field(grid, label) for label, grid in enumerate(GRIDS)]
    coded = one.encode(items)
    heard = one.receive([reception(packets) for packets, _ in coded], [preamble for _, preamble in coded])
    for tokens, evidence, (packets, preamble) in zip(items, heard, coded, strict=True):
        assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)
        assert evidence.grid == preamble.grid == tokens.grid and evidence.vocab_size == 5
        num_cells = int(np.prod(grid[:2])) if (grid := tokens.grid)[-1] else 0
        assert packets.num_packets == preamble.num_packets == min(6, num_cells)


@pytest.mark.parametrize("num_packets", [1, 3, 7, 200])
def test_packets_carry_equal_numbers_of_tokens(num_packets: int):
    """Catches a last packet that is nearly empty, an empty one, and tokens that no packet or two carry."""
    tokens = field((7, 5))
    (packets, _), = coder(num_packets=num_packets).encode([tokens])
    counts = np.diff(packets.bounds)
    assert counts.size == min(num_packets, 35) and counts.max() - counts.min() <= 1 and counts.sum() == 35
    assert np.array_equal(packets.header, np.stack([np.arange(counts.size), packets.order[packets.bounds[:-1]], counts], axis=1))


@pytest.mark.parametrize("grid", [(7, 5, 2), (1, 6, 3), (4, 4, 1), (7, 5), (40,), (2, 3, 2, 2), (0, 4, 2), (3, 4, 0)])
@pytest.mark.parametrize("num_packets", [1, 3, 6, 200])
def test_the_tokens_of_a_cell_go_together_first_ones_first(grid: tuple[int, ...], num_packets: int):
    """Catches cells torn apart, of which a loss leaves a token that means nothing by itself; second tokens before first ones; and
    another order than that of grids of one token a cell. Reference: the order of the cells, and each stage of a packet by loops.
    """
    size, stages = int(np.prod(grid)), int(np.prod(grid[2:]))
    found, cells = in_packets(grid, num_packets), parted(low_discrepancy(grid[:2]), num_packets) if size else []
    expected = [[int(cell) * stages + stage for stage in range(stages) for cell in some] for some in cells]
    assert [places.tolist() for places in found] == expected
    assert sorted(place for places in expected for place in places) == list(range(size))
    assert in_order(grid).tolist() == [place for places in in_packets(grid, 1) for place in places] and in_order(grid).size == size
    if stages == 1:
        assert in_order(grid).tolist() == low_discrepancy(grid).tolist()


@pytest.mark.parametrize("context", CONTEXTS)
def test_real_bits_are_the_ideal_ones_and_at_most_two_more_a_packet(context: str):
    """Catches a rate reported under tables other than those that code, and bits that no decoder needs. Bounds: a stream has at
    most 2 bits more than -log2 P, as the tables are exact in 24 bits; less only by the zeros at its end, which framing tells."""
    for label, grid in enumerate([(8, 8), (16, 24), (90,)]):
        (packets, _), = coder(context=context).encode([field(grid, label)])
        excess = packets.num_bits.sum() - packets.ideal_bits
        assert -3 * packets.num_packets < excess <= 2 * packets.num_packets


CONTEXT_OF_SIX = {
    "independent": [[]] * 6,
    "chained": [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]],
    "layered": [[], [0], [0], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]],
    "layered:2": [[], [], [], [0, 1, 2], [0, 1, 2], [0, 1, 2]],
    "layered:3": [[], [], [0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3]],
    "mdc:2": [[], [], [0], [1], [0, 2], [1, 3]],
}
"""Which packets each of six needs, by the words of the docstring."""


def by_hand(tokens: Tokens, packets: Packets, context: list[list[int]], rounds: int) -> float:
    """Ideal bits, one token at a time, with the law of `Neighbours` written out again."""
    bits = 0.0
    for packet, needed in enumerate(context):
        heard = {int(place) for other in needed for place in packets.positions(other)}
        own = packets.positions(packet)
        for turn in range(rounds):
            group = own[turn * own.size // rounds:(turn + 1) * own.size // rounds].tolist()
            for place in group:
                beside = [tokens.values[other] for other in neighbours(tokens.grid, place) if other in heard]
                weights = 1 + 20 * np.bincount(beside, minlength=5)
                bits -= np.log2(weights[tokens.values[place]] / weights.sum())
            heard |= set(group)
    return bits


@pytest.mark.parametrize("rounds", [1, 3, 100])
@pytest.mark.parametrize("context", list(CONTEXT_OF_SIX))
def test_a_token_is_coded_given_its_context_and_earlier_rounds_and_nothing_else(context: str, rounds: int):
    """Catches context that is not told, or told too early; reference: the rule by hand, up to the rounding of tables to 2^-16."""
    tokens = field((8, 8))
    (packets, _), = coder(context=context, rounds=rounds).encode([tokens])
    assert packets.ideal_bits == pytest.approx(by_hand(tokens, packets, CONTEXT_OF_SIX[context], rounds), rel=1e-3)
    named = [list(range(*one)) for one in packets.context.tolist()]
    assert named == CONTEXT_OF_SIX[context]
    of_pairs = field((4, 5, 2))
    (packets, _), = coder(context=context, rounds=rounds).encode([of_pairs])
    assert packets.ideal_bits == pytest.approx(by_hand(of_pairs, packets, CONTEXT_OF_SIX[context], rounds), rel=1e-3)


@pytest.mark.parametrize("grid", [(7, 5), (4, 3, 2)])
@pytest.mark.parametrize("context", list(CONTEXT_OF_SIX))
def test_a_packet_is_usable_if_it_and_all_its_context_arrived(context: str, grid: tuple[int, ...]):
    """Catches losses that reach too far or not far enough, or leave half a cell; all 64 patterns of six packets, against the rule
    by hand.
    """
    tokens, one = field(grid), coder(context=context)
    (packets, preamble), = one.encode([tokens])
    patterns = [np.array([number >> packet & 1 for packet in range(6)], bool) for number in range(64)]
    heard = one.receive([reception(packets, lost) for lost in patterns], [preamble] * 64)
    for lost, evidence in zip(patterns, heard, strict=True):
        usable: list[bool] = []
        for packet, needed in enumerate(CONTEXT_OF_SIX[context]):
            usable.append(not lost[packet] and all(usable[other] for other in needed))
        known = np.zeros(tokens.values.size, bool)
        known[np.concatenate([np.zeros(0, int), *(packets.positions(packet) for packet in np.flatnonzero(usable))])] = True
        assert np.array_equal(evidence.known, known)
        assert np.array_equal(evidence.values, np.where(known, tokens.values, 0)) and evidence.bit_llr is None
        if len(grid) == 3:
            assert np.array_equal(*evidence.known.reshape(-1, 2).T)


def test_context_and_rounds_save_bits():
    """Catches a dial that turns nothing: on tokens that resemble their neighbours more context is fewer bits."""
    tokens = field((24, 24))
    bits = {context: coder(context=context).encode([tokens])[0][0].ideal_bits for context in CONTEXT_OF_SIX}
    assert bits["chained"] < bits["layered"] < bits["independent"] and bits["chained"] < bits["mdc:2"] < bits["independent"]
    by_rounds = [coder(num_packets=1, rounds=rounds).encode([tokens])[0][0].ideal_bits for rounds in (1, 4, 16)]
    assert by_rounds[0] == pytest.approx(tokens.values.size * np.log2(5), rel=1e-3) and np.all(np.diff(by_rounds) < -5)


@pytest.mark.parametrize("context", ["independent", "layered:3", "chained"])
def test_company_does_not_show(context: str):
    """Catches items that feel their neighbours or the size of the batch, in either direction, and when some are lost."""
    one, items = coder(context=context, rounds=3), [field(grid, label) for label, grid in enumerate(GRIDS * 2)]
    coded = one.encode(items)
    losses = [Key(4).child(i).uniform(packets.num_packets) < 0.2 for i, (packets, _) in enumerate(coded)]
    receptions = [reception(packets, lost) for (packets, _), lost in zip(coded, losses, strict=True)]
    together = one.receive(receptions, [preamble for _, preamble in coded])
    for tokens, (packets, preamble), heard, evidence in zip(items, coded, receptions, together, strict=True):
        (alone, _), = one.encode([tokens])
        assert np.array_equal(alone.bits, packets.bits) and alone.ideal_bits == packets.ideal_bits
        found, = one.receive([heard], [preamble])
        assert np.array_equal(found.values, evidence.values) and np.array_equal(found.known, evidence.known)


@pytest.mark.parametrize("grid", [(8, 8), (5, 8, 2)])
@pytest.mark.parametrize("context", ["independent", "chained"])
def test_corruption_without_a_crc_is_wrong_tokens_or_lost_ones(context: str, grid: tuple[int, ...]):
    """Catches crashes, hangs and tokens that do not exist: every byte of every payload is changed, cut off or overwritten."""
    tokens, one = field(grid), coder(context=context, num_packets=2)
    (packets, preamble), = one.encode([tokens])
    changed, hurt = [], []
    for packet in range(2):
        for first in range(0, int(packets.num_bits[packet]), 8):
            inside = np.arange(packets.bits.shape[1])
            for bits in (packets.bits[packet] ^ (inside // 8 == first // 8), packets.bits[packet] * (inside < first),
                         np.where(inside < first, packets.bits[packet], 1)):
                changed.append(packets.bits.copy())
                changed[-1][packet] = bits * (inside < packets.num_bits[packet])
                hurt.append(packet)
    heard = one.receive([reception(packets, bits=bits, crc_checked=False) for bits in changed], [preamble] * len(changed))
    for evidence, packet, bits in zip(heard, hurt, changed, strict=True):
        kept = evidence.known[packets.positions(1 - packet)]
        assert kept.all() if context == "independent" or packet == 1 else kept.all() or not kept.any()
        if not np.array_equal(bits, packets.bits):
            assert not (evidence.known.all() and np.array_equal(evidence.values, tokens.values)), "another stream, other tokens"
    assert any(not evidence.known.all() for evidence in heard) and any(evidence.known.all() for evidence in heard)


def test_what_is_known_to_be_damaged_is_dropped():
    """Catches a failed CRC that is decoded, a bit of which nothing is known taken for a zero, and soft bits that are refused."""
    tokens, one = field((8, 8)), coder()
    (packets, preamble), = one.encode([tokens])
    failed = np.arange(6) == 2
    silent = reception(packets)
    llr = silent.llr.copy()
    llr[2, 3] = 0
    for damaged in (reception(packets, crc_ok=~failed), Reception(llr, silent.lost, silent.crc_ok, silent.header)):
        evidence, = one.receive([damaged], [preamble])
        assert np.array_equal(np.flatnonzero(~evidence.known), np.sort(packets.positions(2)))
    soft = Reception(silent.llr / 25, silent.lost, silent.crc_ok, silent.header)
    evidence, = one.receive([soft], [preamble])
    assert evidence.known.all() and np.array_equal(evidence.values, tokens.values)


def test_memory_changes_no_bit_and_spares_the_model():
    """Catches results by a key that leaves something out, and a memory of what was encoded that the decoder reads."""
    items = [field((7, 5)), field((5, 7)), field((35,)), field((7, 5, 1))]
    variants = [dict(context=context, rounds=rounds, num_packets=num_packets)
                for context in ("independent", "mdc:2", "chained") for rounds in (1, 4) for num_packets in (3, 6)]

    def everything() -> list[bytes]:
        found = []
        for fields in variants:
            coded = coder(**fields).encode(items)
            lost = [np.arange(packets.num_packets) == 1 for packets, _ in coded]
            heard = coder(**fields).receive([reception(packets, one) for (packets, _), one in zip(coded, lost)],
                                            [preamble for _, preamble in coded])
            found += [packets.bits.tobytes() + np.float64(packets.ideal_bits).tobytes() for packets, _ in coded]
            found += [evidence.values.tobytes() + evidence.known.tobytes() for evidence in heard]
        return found

    fresh = everything()
    with memo.attach(None) as memory:
        assert everything() == fresh
        misses = memory.num_misses
        assert everything() == fresh and memory.num_misses == misses > 0


def test_the_order_is_that_of_the_published_sequence():
    """Catches another sequence, or one that depends on a machine's rounding; reference: Roberts's constants in float64."""
    published = {1: [0.6180339887498949], 2: [0.7548776662466927, 0.5698402909980532],
                 3: [0.8191725133961645, 0.6710436067037892, 0.5497004779019702]}
    for grid in ((40,), (7, 5), (16, 24), (3, 4, 5), (1, 9)):
        sides = [side for side in grid if side > 1]
        expected: list[int] = []
        for k in range(20 * int(np.prod(grid))):
            cell = [int((0.5 + k * step) % 1 * side) for step, side in zip(published[len(sides)], sides, strict=True)]
            place = int(np.ravel_multi_index(cell, sides))
            expected += [place] * (place not in expected)
        assert low_discrepancy(grid).tolist() == expected
        assert sorted(expected) == list(range(int(np.prod(grid))))


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (64, 64), (80, 120)])
def test_a_lost_packet_leaves_holes_apart(grid: tuple[int, ...]):
    """Catches an order that clusters: tokens of a packet side by side, against as many places drawn at random."""
    def touching(places: np.ndarray) -> int:
        lost = np.zeros(grid, bool)
        lost.ravel()[places] = True
        return int((lost[1:] & lost[:-1]).sum() + (lost[:, 1:] & lost[:, :-1]).sum())

    own = sum(touching(packet) for packet in parted(low_discrepancy(grid), 8))
    drawn = sum(touching(packet) for packet in parted(np.argsort(Key(5).uniform(int(np.prod(grid)))), 8))
    assert own <= 0.25 * drawn


@pytest.mark.parametrize(("fields", "message"), [
    ({"context": "layered:0"}, "context must be .* got 'layered:0'"), ({"context": "restart:3"}, "got 'restart:3'"),
    ({"context": "mdc"}, "got 'mdc'"), ({"num_packets": 0}, "num_packets"), ({"rounds": 0}, "rounds")])
def test_wrong_fields_are_refused(fields: dict[str, object], message: str):
    """Catches a dial that silently means something else."""
    with pytest.raises(ValueError, match=message):
        coder(**fields)


def test_a_model_of_other_tokens_is_refused_with_the_cure():
    """Catches streams under tables of another vocabulary."""
    with pytest.raises(ValueError, match="vocabulary of 5 tokens, got one of 7: name one that fits"):
        coder(model=Neighbours(vocab_size=7)).encode([field((3, 3))])
    with pytest.raises(ValueError, match="coder.model must be given, got none"):
        MaskedEntropy().encode([field((3, 3))])


def test_everything_is_charged():
    """Catches headers and preambles that are sent for nothing: a grid costs its sides, a sequence nothing beyond its length."""
    (packets, preamble), (_, flat) = coder(header_bits=24).encode([field((7, 5)), field((35,))])
    assert packets.header_bits == 24 and preamble == Preamble(35, 6, (7, 5))
    assert preamble.num_bits == 8 * 4 and flat.num_bits == 8 * 2
    (packets, preamble), = coder().encode([field((7, 5, 2))])
    assert preamble == Preamble(70, 6, (7, 5, 2)) and preamble.num_bits == 8 * 5 and preamble.to_bytes() == bytes([70, 6, 7, 5, 2])
    assert np.array_equal(packets.header[:, 1], [low_discrepancy((7, 5))[35 * slot // 6] * 2 for slot in range(6)])
