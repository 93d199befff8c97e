"""Instructions for the ranking kernels: comparing 64 scores at a time, and making room in a list."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic as _intrinsic

# Numba does not annotate these.
cgutils: Any = _cgutils
intrinsic: Any = _intrinsic

STRIDE = 64

_FLOAT = ir.FloatType()
_MASK = ir.IntType(STRIDE)
_BIT = ir.IntType(1)
_BYTE_POINTER = ir.IntType(8).as_pointer()
_SCORES = ir.VectorType(_FLOAT, STRIDE)


@intrinsic
def reaching(typing_context, row, start, threshold):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return a mask, uint64: bit f is set if ``row[start + f] >= threshold``, for the 64 values of f."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.gep(_data(context, builder, signature, arguments, 0), [arguments[1]])
        scores = builder.load(builder.bitcast(place, _SCORES.as_pointer()), align=4)
        first = builder.insert_element(ir.Constant(_SCORES, ir.Undefined), arguments[2], ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), STRIDE), [0] * STRIDE)
        spread = builder.shuffle_vector(first, first, everywhere)
        return builder.bitcast(builder.fcmp_ordered(">=", scores, spread), _MASK)

    return types.uint64(row, types.int64, types.float32), generate


@intrinsic
def lowest(typing_context, mask):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return the number of the lowest bit that is set in a mask, uint64, that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(_BIT, 1))

    return types.int64(types.uint64), generate


@intrinsic
def ones(typing_context, mask):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Return the number of bits that are set in a mask, uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def make_room(typing_context, row, place, last):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Move ``row[place:last]``, of 4 bytes each, one place up."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = builder.gep(_data(context, builder, signature, arguments, 0), [arguments[1]])
        target = builder.gep(source, [ir.IntType(64)(1)])
        length = builder.mul(builder.sub(arguments[2], arguments[1]), ir.IntType(64)(4))
        kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _BYTE_POINTER, ir.IntType(64), _BIT])
        move = cgutils.get_or_insert_function(builder.module, kind, "llvm.memmove.p0.p0.i64")
        pointers = [builder.bitcast(pointer, _BYTE_POINTER) for pointer in (target, source)]
        builder.call(move, [*pointers, length, ir.Constant(_BIT, 0)])
        return context.get_dummy_value()

    return types.void(row, types.int64, types.int64), generate


def _data(context: Any, builder: Any, signature: Any, arguments: Any, number: int) -> Any:
    """Return the pointer to the first element of an array argument."""
    return context.make_array(signature.args[number])(context, builder, arguments[number]).data
