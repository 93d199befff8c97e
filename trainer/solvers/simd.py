"""Instructions for the CPU kernels: products of eight gathered rows at a time, prefetching, counting.

Numba compiles loops well, but reduces each dot product separately and cannot prefetch. These intrinsics emit
LLVM's portable vectors instead: eight rows share the loads of the dense vector, one tree of shuffles reduces
all eight sums, and LLVM translates them to the processor's instructions. They cover the columns of whole
vectors, a multiple of `LANES`; the caller handles the remaining few.

The gathered rows are of float32, or of numbers of half precision (IEEE 754 binary16), of which Numba's
kernels know only the bits: int16.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic as _intrinsic

# Numba does not annotate these.
cgutils: Any = _cgutils
intrinsic: Any = _intrinsic

_LINE_BYTES = 64

LANES = 16
ROWS = 8
OUTER = 4

_FLOAT = ir.FloatType()
_HALF = ir.HalfType()
_BITS = ir.IntType(16)
_INDEX = ir.IntType(64)
_BYTE_POINTER = ir.IntType(8).as_pointer()
_FLAG = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_HALVES = ir.VectorType(_HALF, LANES)
_FAST = ("fast",)


@intrinsic
def dot_rows(typing_context, matrix, rows, start, vector, out, at):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Set ``out[at + k] = matrix[rows[start + k]] . vector`` for the 8 values of k."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        pointers = values.row_pointers(0, 1, 2)
        dense, results = values.data(3), values.data(4)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(ROWS)]
        with values.each_vector(0, ir.Constant(_INDEX, 0)) as offset:
            shared = _load(builder, dense, offset)
            for pointer, total in zip(pointers, sums, strict=True):
                product = builder.fmul(values.vector(0, pointer, offset), shared, flags=_FAST)
                builder.store(builder.fadd(builder.load(total), product, flags=_FAST), total)
        reduced = _reduce(builder, [builder.load(total) for total in sums])
        target = builder.gep(results, [values.integer(5)])
        builder.store(reduced, builder.bitcast(target, reduced.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(matrix, rows, start, vector, out, at), generate


@intrinsic
def add_rows(typing_context, matrix, rows, start, coefficients, at, out, first):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Add ``sum_k coefficients[at + k] matrix[rows[start + k]]`` to ``out``, from column ``first`` on.

    ``first`` is a multiple of `LANES`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        pointers = values.row_pointers(0, 1, 2)
        scalars, result = values.data(3), values.data(5)
        place = values.integer(4)
        spread = []
        for k in range(ROWS):
            scalar = builder.load(builder.gep(scalars, [builder.add(place, ir.Constant(_INDEX, k))]))
            spread.append(_spread(builder, scalar))
        with values.each_vector(0, values.integer(6)) as offset:
            halves = [_load(builder, result, offset), ir.Constant(_VECTOR, None)]
            for k, (pointer, scalar) in enumerate(zip(pointers, spread, strict=True)):
                product = builder.fmul(values.vector(0, pointer, offset), scalar, flags=_FAST)
                halves[k % 2] = builder.fadd(halves[k % 2], product, flags=_FAST)
            _store(builder, builder.fadd(*halves, flags=_FAST), result, offset)
        return context.get_dummy_value()

    return types.void(matrix, rows, start, coefficients, at, out, first), generate


@intrinsic
def add_outer(typing_context, matrix, rows, start, stop, weights, first, at, out):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Add ``sum_k weights[k] m[first + i] m[at + j]`` to ``out[first + i, at + j]``, m = ``matrix[rows[k]]``.

    For the 4 values of i, the 16 of j, and k from ``start`` up to ``stop``. So few sums stay in registers,
    also in those of processors without AVX-512.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        begin, end, column, offset = (values.integer(number) for number in (2, 3, 5, 6))
        columns = [builder.add(column, ir.Constant(_INDEX, i)) for i in range(OUTER)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(OUTER)]
        with cgutils.for_range_slice(builder, begin, end, ir.Constant(_INDEX, 1), _INDEX) as (k, _):
            pointer = values.row_pointer(0, values.index(1, k))
            weight = builder.load(builder.gep(values.data(4), [k]))
            scaled = builder.fmul(_load(builder, pointer, offset), _spread(builder, weight), flags=_FAST)
            for place, total in zip(columns, sums, strict=True):
                factor = _spread(builder, builder.load(builder.gep(pointer, [place])))
                product = builder.fmul(factor, scaled, flags=_FAST)
                builder.store(builder.fadd(builder.load(total), product, flags=_FAST), total)
        for place, total in zip(columns, sums, strict=True):
            target = values.row_pointer(7, place)
            before = _load(builder, target, offset)
            _store(builder, builder.fadd(before, builder.load(total), flags=_FAST), target, offset)
        return context.get_dummy_value()

    return types.void(matrix, rows, start, stop, weights, first, at, out), generate


@intrinsic
def element(typing_context, matrix, row, column):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return ``matrix[row, column]``, float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        pointer = builder.gep(values.row_pointer(0, values.integer(1)), [values.integer(2)])
        if values.holds_halves(0):
            half = builder.load(builder.bitcast(pointer, _HALF.as_pointer()))
            return builder.fpext(half, _FLOAT)
        return builder.load(pointer)

    return types.float32(matrix, row, column), generate


@intrinsic
def half(typing_context, value):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return the bits, int16, of the number of half precision nearest to a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(builder.fptrunc(arguments[0], _HALF), _BITS)

    return types.int16(types.float32), generate


@intrinsic
def prefetch_row(typing_context, matrix, row):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Start loading ``matrix[row]`` into the nearest cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        pointer = values.row_pointer(0, values.integer(1))
        with values.each_vector(0, ir.Constant(_INDEX, 0)) as offset:
            _prefetch(builder, builder.gep(pointer, [offset]))
        return context.get_dummy_value()

    return types.void(matrix, row), generate


@intrinsic
def prefetch_entries(typing_context, array, first, stop):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Start loading ``array[first:stop]`` into the nearest cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = _Arguments(context, builder, signature, arguments)
        line = ir.Constant(_INDEX, _LINE_BYTES // (array.dtype.bitwidth // 8))
        places = cgutils.for_range_slice(builder, values.integer(1), values.integer(2), line, _INDEX)
        with places as (place, _):
            _prefetch(builder, builder.gep(values.data(0), [place]))
        return context.get_dummy_value()

    return types.void(array, first, stop), generate


@intrinsic
def take(typing_context, counter):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return ``counter[0]``, int64, and increment it: threads that share it get each number once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _Arguments(context, builder, signature, arguments).data(0)
        return builder.atomic_rmw("add", place, ir.Constant(_INDEX, 1), "monotonic")

    return types.int64(counter), generate


class _Arguments:
    """The arguments of an intrinsic as LLVM values."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self._builder = context, builder
        self._types, self._values = signature.args, arguments

    def data(self, number: int) -> Any:
        """Return the pointer to an array's first element."""
        return self._array(number).data

    def integer(self, number: int) -> Any:
        """Return an integer as 64 bits."""
        return self._context.cast(self._builder, self._values[number], self._types[number], types.int64)

    def row_pointer(self, matrix: int, row: Any) -> Any:
        """Return the pointer to the first element of a row; rows must be contiguous."""
        strides = cgutils.unpack_tuple(self._builder, self._array(matrix).strides, 2)
        size = ir.Constant(_INDEX, self._types[matrix].dtype.bitwidth // 8)
        elements = self._builder.sdiv(strides[0], size)
        return self._builder.gep(self.data(matrix), [self._builder.mul(row, elements)])

    def holds_halves(self, matrix: int) -> bool:
        """Return whether a matrix has numbers of half precision."""
        return bool(self._types[matrix].dtype == types.int16)

    def vector(self, matrix: int, pointer: Any, offset: Any) -> Any:
        """Return the floats of a vector in a row."""
        if not self.holds_halves(matrix):
            return _load(self._builder, pointer, offset)
        place = self._builder.bitcast(self._builder.gep(pointer, [offset]), _HALVES.as_pointer())
        return self._builder.fpext(self._builder.load(place, align=2), _VECTOR)

    def row_pointers(self, matrix: int, rows: int, start: int) -> list[Any]:
        """Return the pointers to the rows that 8 elements of an index array refer to."""
        first = self.integer(start)
        places = [self._builder.add(first, ir.Constant(_INDEX, k)) for k in range(ROWS)]
        return [self.row_pointer(matrix, self.index(rows, place)) for place in places]

    def index(self, rows: int, place: Any) -> Any:
        """Return an element of an index array as 64 bits."""
        index = self._builder.load(self._builder.gep(self.data(rows), [place]))
        return self._context.cast(self._builder, index, self._types[rows].dtype, types.int64)

    @contextlib.contextmanager
    def each_vector(self, matrix: int, first: Any) -> Iterator[Any]:
        """Emit the block as a loop over the offsets of the whole vectors in a row, from ``first``."""
        width = self._width(matrix)
        stop = self._builder.sub(width, self._builder.and_(width, ir.Constant(_INDEX, LANES - 1)))
        lanes = ir.Constant(_INDEX, LANES)
        with cgutils.for_range_slice(self._builder, first, stop, lanes, _INDEX) as (offset, _):
            yield offset

    def _array(self, number: int) -> Any:
        return self._context.make_array(self._types[number])(
            self._context, self._builder, self._values[number]
        )

    def _width(self, matrix: int) -> Any:
        return cgutils.unpack_tuple(self._builder, self._array(matrix).shape, 2)[1]


def _prefetch(builder: Any, pointer: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _FLAG, _FLAG, _FLAG])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, keep_near, data = (ir.Constant(_FLAG, number) for number in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(pointer, _BYTE_POINTER), read, keep_near, data])


def _load(builder: Any, pointer: Any, offset: Any) -> Any:
    place = builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer())
    return builder.load(place, align=4)


def _spread(builder: Any, scalar: Any) -> Any:
    """Return a vector with the scalar in each lane."""
    lane = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_FLAG, 0))
    return builder.shuffle_vector(lane, lane, _mask([0] * LANES))


def _store(builder: Any, vector: Any, pointer: Any, offset: Any) -> None:
    builder.store(vector, builder.bitcast(builder.gep(pointer, [offset]), _VECTOR.as_pointer()), align=4)


def _reduce(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector of the sums of 8 vectors' lanes.

    Each round adds the two halves of every group of lanes and packs two vectors into one, so that the number
    of vectors halves and the number of groups doubles; in the end 8 groups of two lanes remain.
    """
    group = LANES
    while len(vectors) > 1:
        half = group // 2
        low = [start + lane for start in range(0, 2 * LANES, group) for lane in range(half)]
        high = [lane + half for lane in low]
        vectors = [
            builder.fadd(
                builder.shuffle_vector(a, b, _mask(low)),
                builder.shuffle_vector(a, b, _mask(high)),
                flags=_FAST,
            )
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        group = half
    (last,) = vectors
    even = builder.shuffle_vector(last, last, _mask(list(range(0, LANES, 2))))
    odd = builder.shuffle_vector(last, last, _mask(list(range(1, LANES, 2))))
    return builder.fadd(even, odd, flags=_FAST)


def _mask(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_FLAG, len(lanes)), lanes)
