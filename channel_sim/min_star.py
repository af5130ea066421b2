"""Layered min* decoding (min-sum with its correction) of any parity-check code, sixteen blocks in the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
LARGEST = np.float32(20.0)
"""Bound of what enters a check, Sionna's llr_max: what loops of checks tell themselves must not outweigh a good prior."""
LARGEST_INPUT = np.float32(128.0)
CERTAIN_PRIOR = np.float32(50.0)
UNSHAKEN = np.float32(1024.0)
"""What a certain prior enters as: more than all checks of a bit together can say against it (30 of them, 20 each)."""


class _LanesType(types.Type):
    """`LANES` float32 that LLVM keeps in vector registers: numba's own loops over 16 lanes are 6 times slower."""

    def __init__(self) -> None:
        super().__init__(name=f"float32 x {LANES}")


_lanes = _LanesType()
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _lane_by_lane(num_arguments: int, build: Callable[..., Any]) -> Any:
    """A function of vectors in compiled code; `build(builder, *vectors)` emits its instructions."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return build(builder, *arguments)

    @intrinsic
    def unary(_typing: Any, x: Any) -> Any:
        return _lanes(_lanes), emit

    @intrinsic
    def binary(_typing: Any, x: Any, y: Any) -> Any:
        return _lanes(_lanes, _lanes), emit

    @intrinsic
    def quaternary(_typing: Any, x: Any, y: Any, z: Any, w: Any) -> Any:
        return _lanes(_lanes, _lanes, _lanes, _lanes), emit

    return {1: unary, 2: binary, 4: quaternary}[num_arguments]


def _correction(builder: Any, x: Any) -> Any:
    """ln(1 + e^-x), x >= 0, as ln 2 (1 - x / (8 ln 2))^4: right at 0 to the first derivative, nowhere .02 off."""
    rest = builder.fsub(_constant(1.0), builder.fmul(x, _constant(1 / (8 * log(2)))))
    rest = builder.select(builder.fcmp_ordered(">", rest, _constant(0.0)), rest, _constant(0.0))
    square = builder.fmul(rest, rest)
    return builder.fmul(_constant(log(2)), builder.fmul(square, square))


def _box_plus(builder: Any, x: Any, y: Any) -> Any:
    """2 artanh(tanh(x/2) tanh(y/2)) of x, y >= 0: min(x, y) + ln(1 + e^-(x+y)) - ln(1 + e^-|x-y|), and never below 0."""
    least = builder.select(builder.fcmp_ordered("<", x, y), x, y)
    apart = _masked(0x7FFFFFFF)(builder, builder.fsub(x, y))
    value = builder.fadd(least, builder.fsub(_correction(builder, builder.fadd(x, y)), _correction(builder, apart)))
    return builder.select(builder.fcmp_ordered(">", value, _constant(0.0)), value, _constant(0.0))


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)


def _on_bits(operation: str) -> Callable[..., Any]:
    def build(builder: Any, x: Any, y: Any) -> Any:
        bits = getattr(builder, operation)(builder.bitcast(x, _INTEGERS), builder.bitcast(y, _INTEGERS))
        return builder.bitcast(bits, _FLOATS)

    return build


def _masked(mask: int) -> Callable[..., Any]:
    def build(builder: Any, x: Any) -> Any:
        return builder.bitcast(builder.and_(builder.bitcast(x, _INTEGERS), ir.Constant(_INTEGERS, [mask] * LANES)), _FLOATS)

    return build


_add = _lane_by_lane(2, lambda builder, x, y: builder.fadd(x, y))
_subtract = _lane_by_lane(2, lambda builder, x, y: builder.fsub(x, y))
_combine = _lane_by_lane(2, _box_plus)
_smaller = _lane_by_lane(2, lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))
_larger = _lane_by_lane(2, lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))
_exclusive_or = _lane_by_lane(2, _on_bits("xor"))
_bitwise_or = _lane_by_lane(2, _on_bits("or_"))
_bitwise_and = _lane_by_lane(2, _on_bits("and_"))
_magnitude = _lane_by_lane(1, _masked(0x7FFFFFFF))
_sign_bit = _lane_by_lane(1, _masked(0x80000000))
_if_equal = _lane_by_lane(4, lambda builder, x, y, then, other: builder.select(builder.fcmp_ordered("==", x, y), then, other))


def _row_pointer(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array)
    shape, strides = cgutils.unpack_tuple(builder, data.shape, 2), cgutils.unpack_tuple(builder, data.strides, 2)
    first = cgutils.get_item_pointer2(context, builder, data.data, shape, strides, "C", [row, ir.Constant(row.type, 0)])
    return builder.bitcast(first, _FLOATS.as_pointer())


@intrinsic
def _load(_typing: Any, array: Any, row: Any) -> Any:
    """Row `row` of a C-contiguous float32 [rows, LANES]."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        vector = builder.load(_row_pointer(context, builder, signature.args[0], arguments[0], index))
        vector.align = 4
        return vector

    return _lanes(array, row), emit


@intrinsic
def _store(_typing: Any, array: Any, row: Any, vector: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.intp)
        stored = builder.store(arguments[2], _row_pointer(context, builder, signature.args[0], arguments[0], index))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, row, vector), emit


@intrinsic
def _fill(_typing: Any, value: Any) -> Any:
    """All lanes equal to a float32."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = ir.Constant(_FLOATS, ir.Undefined)
        for lane in range(LANES):
            vector = builder.insert_element(vector, arguments[0], ir.Constant(ir.IntType(32), lane))
        return vector

    return _lanes(types.float32), emit


@njit(cache=True, nogil=True)
def decode_blocks(channel: np.ndarray, a_priori: np.ndarray, row_starts: np.ndarray, columns: np.ndarray, sources: np.ndarray,
                  num_iterations: int, early_stop: bool) -> tuple[np.ndarray, np.ndarray]:
    """Posterior LLR float32 [num_blocks, k] of the first k bits of each code word, and int32 [num_blocks] iterations taken.

    channel:    float32 [num_blocks, n], ln P(1)/P(0)
    a_priori:   float32 [num_blocks, k], ln P(1)/P(0), added to the channel's of the first k bits
    row_starts: int32 [num_checks + 1], where the bits of each check start in `columns`
    columns:    int32 [num_edges], the bits that take part
    sources:    int32 [num_bits], the place of each bit of the code word in `channel`, or -1 where nothing was received

    A lane takes the next block as soon as its own is done. Lanes never mix, so a block's result does not depend on its lane,
    its neighbours or when it came. `early_stop` ends a block after the first iteration that leaves all checks satisfied and no
    bit that takes part in one undecided.

    Source: D. E. Hocevar, "A reduced complexity decoder architecture via layered decoding of LDPC codes", SiPS 2004;
    C. Jones et al., "Approximate-MIN* constraint node updating for LDPC code decoding", MILCOM 2003.
    """
    num_blocks, num_info = a_priori.shape
    posterior, iterations = np.empty((num_blocks, num_info), np.float32), np.zeros(num_blocks, np.int32)
    totals, messages = np.zeros((sources.size, LANES), np.float32), np.zeros((columns.size, LANES), np.float32)
    remembered = np.zeros((1, LANES), np.int32)  # all bits set in lanes whose messages belong to the block that is there now
    failed = np.zeros((2, LANES), np.float32)
    heaviest = np.max(np.diff(row_starts)) if row_starts.size > 1 else 0
    extrinsic = np.empty((heaviest, LANES), np.float32)
    blocks = np.full(LANES, -1, np.int64)
    coming, in_work = 0, 0
    while coming < num_blocks or in_work > 0:
        for lane in range(LANES):
            if blocks[lane] < 0 and coming < num_blocks:
                blocks[lane] = coming
                remembered[0, lane] = 0
                _enter(totals, lane, channel[coming], a_priori[coming], sources)
                coming += 1
                in_work += 1
        _iterate(totals, messages, remembered.view(np.float32), row_starts, columns, extrinsic)
        if early_stop:
            _check(totals, row_starts, columns, failed)
        for lane in range(LANES):
            block = blocks[lane]
            if block < 0:
                continue
            remembered[0, lane] = -1
            iterations[block] += 1
            satisfied = early_stop and failed.view(np.int32)[0, lane] >= 0 and failed[1, lane] > 0
            if satisfied or iterations[block] == num_iterations:
                for bit in range(num_info):
                    posterior[block, bit] = np.float32(0) - totals[bit, lane]
                blocks[lane] = -1
                in_work -= 1
    return posterior, iterations


@njit(cache=True, nogil=True)
def _enter(totals: np.ndarray, lane: int, channel: np.ndarray, a_priori: np.ndarray, sources: np.ndarray) -> None:
    """Put what is known of a block into its lane: ln P(0)/P(1), whose signs multiply in a check."""
    for bit in range(sources.size):
        llr = np.float32(0) if sources[bit] < 0 else channel[sources[bit]]
        bound = LARGEST_INPUT
        if bit < a_priori.size:
            llr += a_priori[bit]
            if abs(a_priori[bit]) >= CERTAIN_PRIOR:
                llr, bound = a_priori[bit] * UNSHAKEN, UNSHAKEN
        # from zero, never -llr: a zero must not have a sign
        totals[bit, lane] = np.float32(0) - min(max(llr, -bound), bound)


@njit(cache=True, nogil=True)
def _iterate(totals: np.ndarray, messages: np.ndarray, remembered: np.ndarray, row_starts: np.ndarray, columns: np.ndarray,
             extrinsic: np.ndarray) -> None:
    """One pass over all checks, each of which starts from what those before it left.

    The bit with the smallest magnitude hears the others, exactly; all the rest hear one message, which has all bits in it.
    """
    kept = _load(remembered, 0)
    for row in range(row_starts.size - 1):
        first, last = row_starts[row], row_starts[row + 1]
        smallest = others = _fill(LARGEST)
        signs = _fill(np.float32(0))
        for edge in range(first, last):
            value = _subtract(_load(totals, columns[edge]), _bitwise_and(_load(messages, edge), kept))
            _store(extrinsic, edge - first, value)
            size = _magnitude(value)
            others = _combine(others, _larger(smallest, size))  # of all but the smallest so far
            smallest = _smaller(smallest, size)
            signs = _exclusive_or(signs, value)
        together = _combine(others, smallest)
        for edge in range(first, last):
            value = _load(extrinsic, edge - first)
            size = _if_equal(_magnitude(value), smallest, others, together)
            message = _exclusive_or(size, _sign_bit(_exclusive_or(signs, value)))
            _store(messages, edge, message)
            _store(totals, columns[edge], _add(value, message))


@njit(cache=True, nogil=True)
def _check(totals: np.ndarray, row_starts: np.ndarray, columns: np.ndarray, failed: np.ndarray) -> None:
    """failed[0]: sign bit set in lanes with an unsatisfied check; failed[1]: 0 in lanes where a bit of a check is undecided."""
    unsatisfied = _fill(np.float32(0))
    least = _fill(LARGEST_INPUT)
    for row in range(row_starts.size - 1):
        parity = _fill(np.float32(0))
        for edge in range(row_starts[row], row_starts[row + 1]):
            total = _load(totals, columns[edge])
            parity = _exclusive_or(parity, total)
            least = _smaller(least, _magnitude(total))
        unsatisfied = _bitwise_or(unsatisfied, parity)
    _store(failed, 0, unsatisfied)
    _store(failed, 1, least)
