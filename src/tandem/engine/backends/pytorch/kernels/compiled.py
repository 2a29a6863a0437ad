"""Loops for CPUs that PyTorch has no fast kernel for, compiled by numba on their first call.

They run on the calling thread without the interpreter lock. numba knows no bfloat16: such numbers
come as the integers that have their bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import structlog
from numba.core import cgutils
from numba.extending import intrinsic, overload

from tandem.engine.backends.pytorch.kernels.kept import keep_by_sources

log = structlog.get_logger(__name__)

Numbers = npt.NDArray[np.float32 | np.int16]
"""float32, or the bits of bfloat16."""

Kept = npt.NDArray[np.float32 | np.int16 | np.int8]
"""Keys or values in the cache: numbers, or int8 times a scale of each head of a token."""

_PLAIN = 16  # bits by which a float32 is longer than a bfloat16
_EXPONENT, _FRACTION, _QUIET = 0x7F800000, 0x007FFFFF, 0x00400000


def _can_be_kept() -> bool:
    """Whether numba finds a folder to keep its code in: beside this file, at home, or named."""
    keep_by_sources(Path(__file__).parent)
    try:
        numba.njit(cache=True)(lambda: None)
    except RuntimeError:
        log.warning("compiled_loops_not_kept", remedy="set NUMBA_CACHE_DIR to a writable folder")
        return False
    return True


#: Where nothing can be kept, each start compiles anew, which takes some seconds.
KEPT = _can_be_kept()
# numpy's division, for Python's has a check that keeps loops out of vector registers.
compile_loop = numba.njit(
    nogil=True, boundscheck=False, cache=KEPT, error_model="numpy", fastmath={"contract"}
)
#: A sum in an order that suits the registers; the same one for the same width.
compile_sum = numba.njit(
    nogil=True,
    boundscheck=False,
    cache=KEPT,
    error_model="numpy",
    fastmath={"contract", "reassoc"},
)


@compile_loop
def rounded(number: np.float32) -> np.int16:
    """bfloat16, to the nearest and even; what is not a number stays that."""
    bits = np.int64(np.float32(number).view(np.int32))
    if bits & _EXPONENT == _EXPONENT:
        bits |= _QUIET if bits & _FRACTION else 0
    else:
        bits += 0x7FFF + ((bits >> _PLAIN) & 1)
    return np.int16(bits >> _PLAIN)


def wide(number: np.float32 | np.int16 | np.int8) -> np.float32:
    """A float32, or one of the bits of a bfloat16, or of a whole number of 8 bits."""
    raise NotImplementedError("only compiled code calls this")


def narrow(number: np.float32, like: Numbers) -> np.float32 | np.int16:
    """What `wide` takes for a number of such an array."""
    raise NotImplementedError("only compiled code calls this")


@overload(wide)
def _compile_wide(number: Any) -> Any:  # noqa: ANN401 - a type of numba's
    def of_bits(number: Any) -> Any:  # noqa: ANN401
        return np.int32(np.int32(number) << _PLAIN).view(np.float32)

    def of_float(number: Any) -> Any:  # noqa: ANN401
        return number

    def of_integer(number: Any) -> Any:  # noqa: ANN401
        return np.float32(number)

    kinds = {numba.types.int16: of_bits, numba.types.int8: of_integer}
    return kinds.get(number, of_float)


@overload(narrow)
def _compile_narrow(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001 - numba asks by name
    def to_bits(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001
        return rounded(number)

    def to_float(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001
        return number

    return to_bits if like.dtype == numba.types.int16 else to_float


def _pointer(typing: object, address: Any) -> Any:  # noqa: ANN401, ARG001 - types of numba's
    def generate(_: object, builder: Any, __: object, given: Any) -> Any:  # noqa: ANN401
        return builder.inttoptr(given[0], cgutils.voidptr_t)

    return numba.types.voidptr(address), generate


as_pointer: Any = intrinsic(_pointer)  #: of an address, for `numba.carray`


@compile_sum
def _exp(number: np.float32) -> np.float32:
    """Within a unit of the last place for what is not above 0, and in vector registers.

    2 to a whole number, which is an exponent's bits, times the power series of what is left.
    """
    if number < np.float32(-87.0):  # what is not a number stays that
        number = np.float32(-87.0)
    whole = np.int32(number * np.float32(1.4426950408889634) - np.float32(0.5))
    # ln 2 in two parts: the first has few digits, so that its product is exact.
    rest = number - np.float32(whole) * np.float32(0.693359375)
    rest += np.float32(whole) * np.float32(2.12194440e-4)
    series = np.float32(1 / 5040) * rest + np.float32(1 / 720)
    series = series * rest + np.float32(1 / 120)
    series = series * rest + np.float32(1 / 24)
    series = series * rest + np.float32(1 / 6)
    series = series * rest + np.float32(1 / 2)
    series = series * rest + np.float32(1)
    series = series * rest + np.float32(1)
    power: np.float32 = np.int32((whole + 127) << 23).view(np.float32)
    return series * power


@compile_sum
def _sigmoid(number: np.float32) -> np.float32:
    shrunk = _exp(-abs(number))  # of the side on which it cannot overflow
    share: np.float32 = (np.float32(1) if number >= 0 else shrunk) / (np.float32(1) + shrunk)
    return share


@compile_sum
def rms_norm(
    states: Numbers, weight: npt.NDArray[np.float32], eps: np.float32, normalised: Numbers
) -> None:
    """RMSNorm of each row of (rows, width)."""
    width = states.shape[1]
    for row in range(len(states)):
        total = np.float32(0)
        for column in range(width):
            total += wide(states[row, column]) * wide(states[row, column])
        factor = np.float32(1) / np.sqrt(total / np.float32(width) + eps)
        for column in range(width):
            product = wide(states[row, column]) * factor * weight[column]
            normalised[row, column] = narrow(product, normalised)


@compile_loop
def add(states: Numbers, change: Numbers, scale: np.float32, sums: Numbers) -> None:
    """states + scale * change of (rows, width)."""
    rows, width = sums.shape
    for row in range(rows):
        for column in range(width):
            total = wide(states[row, column]) + scale * wide(change[row, column])
            sums[row, column] = narrow(total, sums)


@compile_sum
def swiglu(gates_and_ups: Numbers, gated: Numbers) -> None:
    """silu(gate) * up of each row; (rows, 2 * width) → (rows, width)."""
    rows, width = gated.shape
    for row in range(rows):
        for column in range(width):
            number = wide(gates_and_ups[row, column])
            product = number * _sigmoid(number) * wide(gates_and_ups[row, width + column])
            gated[row, column] = narrow(product, gated)


@compile_sum
def geglu(gates_and_ups: Numbers, gated: Numbers) -> None:
    """gelu(gate) * up of each row, by its approximation with tanh; shapes as for `swiglu`."""
    rows, width = gated.shape
    for row in range(rows):
        for column in range(width):
            number = wide(gates_and_ups[row, column])
            # 1 + tanh(x) is twice the sigmoid of 2 x.
            bent = number + np.float32(0.044715) * number * number * number
            share = _sigmoid(np.float32(1.5957691216057308) * bent)
            product = number * share * wide(gates_and_ups[row, width + column])
            gated[row, column] = narrow(product, gated)


@compile_sum
def rotate_and_cache(
    joined: Numbers,
    cosines: Numbers,
    sines: Numbers,
    slots: npt.NDArray[np.int64],
    keys: Kept,
    values: Kept,
    key_scales: npt.NDArray[np.float32],
    value_scales: npt.NDArray[np.float32],
    queries: Numbers,
) -> None:
    """Rotates queries, in halves, and writes rotated keys and plain values into their slots.

    `joined` is (rows, heads + 2 * kv_heads, head_dim): queries, keys, values. `queries` is
    (rows, heads, head_dim), `keys` and `values` (blocks, block_size, kv_heads, head_dim). Tables
    are (rows, rotary_dim): so many numbers of each head are rotated, those behind them are kept.
    Scales are (blocks, block_size, kv_heads), or nothing where the cache has numbers.
    """
    rows, heads, head_dim = queries.shape
    block_size, kv_heads = keys.shape[1], keys.shape[2]
    rotated = np.empty(head_dim, np.float32)
    for row in range(rows):
        block, offset = slots[row] // block_size, slots[row] % block_size
        for head in range(heads):
            _rotate(joined[row, head], cosines[row], sines[row], queries[row, head])
        for head in range(kv_heads):
            key, value = keys[block, offset, head], values[block, offset, head]
            new_key, new_value = joined[row, heads + head], joined[row, heads + kv_heads + head]
            if key_scales.size:
                _rotate(new_key, cosines[row], sines[row], rotated)
                key_scales[block, offset, head] = _in_eight_bits(rotated, key)
                value_scales[block, offset, head] = _in_eight_bits(new_value, value)
            else:
                _rotate(new_key, cosines[row], sines[row], key)
                for index in range(head_dim):
                    value[index] = narrow(wide(new_value[index]), value)


@compile_sum
def _rotate(head: Numbers, cosines: Numbers, sines: Numbers, rotated: Numbers) -> None:
    half = len(cosines) // 2
    for index in range(half):
        first, second = wide(head[index]), wide(head[half + index])
        cosine, sine = wide(cosines[index]), wide(sines[index])
        rotated[index] = narrow(first * cosine - second * sine, rotated)
        rotated[half + index] = narrow(second * cosine + first * sine, rotated)
    for index in range(2 * half, len(head)):
        rotated[index] = narrow(wide(head[index]), rotated)


@compile_sum
def _in_eight_bits(numbers: Numbers, integers: npt.NDArray[np.int8]) -> np.float32:
    """Writes whole numbers up to 127; their scale, which is none if one of the numbers is none."""
    largest, doubt = np.float32(0), np.float32(0)
    for index in range(len(numbers)):
        largest = max(largest, abs(wide(numbers[index])))
        doubt += wide(numbers[index]) * np.float32(0)
    inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
    for index in range(len(numbers)):
        integers[index] = np.int8(np.rint(wide(numbers[index]) * inverse))
    return largest / np.float32(127) + doubt


@compile_sum
def _score(
    query: npt.NDArray[np.float32],
    keys: Kept,
    scales: npt.NDArray[np.float32],
    kv_head: int,
    table: npt.NDArray[np.int64],
    span: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
) -> None:
    """Each visible position's product of query and key into `scores`, in place."""
    block_size, head_dim = keys.shape[1], keys.shape[3]
    for number in range(span[0] // block_size, (span[1] - 1) // block_size + 1):
        block, start = table[number], number * block_size
        for offset in range(max(span[0] - start, 0), min(span[1] - start, block_size)):
            score = np.float32(0)
            for index in range(head_dim):
                score += query[index] * wide(keys[block, offset, kv_head, index])
            if scales.size:
                score *= scales[block, offset, kv_head]
            scores[start + offset] = score


@compile_sum
def _cap(scores: npt.NDArray[np.float32], softcap: np.float32) -> None:
    """softcap * tanh(score / softcap) in place of each score."""
    for position in range(len(scores)):
        shrunk = _exp(np.float32(-2) * abs(scores[position]) / softcap)
        capped = softcap * (np.float32(1) - shrunk) / (np.float32(1) + shrunk)
        scores[position] = -capped if scores[position] < 0 else capped


@compile_sum
def _blend(
    scores: npt.NDArray[np.float32],
    values: Kept,
    scales: npt.NDArray[np.float32],
    kv_head: int,
    table: npt.NDArray[np.int64],
    span: npt.NDArray[np.int64],
    blended: npt.NDArray[np.float32],
) -> None:
    """The sum of the visible values, each by its score, into `blended`, in place.

    Of values that are longer it has the first numbers.
    """
    block_size = values.shape[1]
    blended[:] = 0
    for number in range(span[0] // block_size, (span[1] - 1) // block_size + 1):
        block, start = table[number], number * block_size
        for offset in range(max(span[0] - start, 0), min(span[1] - start, block_size)):
            score = scores[start + offset]
            if scales.size:
                score *= scales[block, offset, kv_head]
            for index in range(len(blended)):
                blended[index] += score * wide(values[block, offset, kv_head, index])


@compile_sum
def attend(
    queries: Numbers,
    keys: Kept,
    values: Kept,
    key_scales: npt.NDArray[np.float32],
    value_scales: npt.NDArray[np.float32],
    tables: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int64],
    attended: Numbers,
    scale: np.float32,
    softcap: np.float32,
    sinks: npt.NDArray[np.float32],
) -> None:
    """Attention of single tokens, each over its own blocks, which are read where they are.

    `queries` are (rows, heads, head_dim), `attended` (rows, heads, value_width), `keys` and
    `values` one layer's cache (blocks, block_size, kv_heads, head_dim), of whose values the first
    value_width numbers are read, with scales of (blocks, block_size, kv_heads) or
    nothing where that has numbers, `tables` (rows, blocks) the block ids, `spans`
    (rows, 2) the first and behind the last position that a row sees. Products of queries and keys
    are multiplied by `scale` and, unless `softcap` is 0, kept within it. `sinks`, one a head or
    none at all, take part in the softmax beside them.
    """
    rows, heads, head_dim = queries.shape
    fold = heads // keys.shape[2]
    scores = np.empty(tables.shape[1] * keys.shape[1], np.float32)
    query, blended = np.empty(head_dim, np.float32), np.empty(attended.shape[2], np.float32)
    for row in range(rows):
        visible = scores[spans[row, 0] : spans[row, 1]]
        for head in range(heads):
            for index in range(head_dim):
                query[index] = wide(queries[row, head, index]) * scale
            _score(query, keys, key_scales, head // fold, tables[row], spans[row], scores)
            if softcap:
                _cap(visible, softcap)
            largest = visible[0]
            for position in range(len(visible)):
                largest = max(largest, visible[position])
            total = np.float32(0)
            if len(sinks):
                largest = max(largest, sinks[head])
                total = _exp(sinks[head] - largest)
            for position in range(len(visible)):
                visible[position] = _exp(visible[position] - largest)
                total += visible[position]
            _blend(scores, values, value_scales, head // fold, tables[row], spans[row], blended)
            for index in range(len(blended)):
                attended[row, head, index] = narrow(blended[index] / total, attended)
