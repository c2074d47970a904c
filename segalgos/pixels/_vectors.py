"""What a kernel does to many numbers by one instruction, written for LLVM.

Numba turns a loop that collects comparisons in the bits of a number into many instructions; said
as a comparison of vectors, it is the one that every processor has.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["add_where", "count_below", "fetch", "first_of", "where_below"]

BIT, BYTE, INT, LONG = (ir.IntType(size) for size in (1, 8, 32, 64))


def _address(context, builder, array_type, array, index):
    """Address of an element of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _many(builder, address, element, n):
    """Pointer to `n` elements from an address on."""
    return builder.bitcast(address, ir.VectorType(element, n).as_pointer())


def _load(builder, pointer, size):
    vector = builder.load(pointer)
    vector.align = size
    return vector


def _repeated(builder, value, n):
    """A vector of `n` times a value."""
    vector = ir.Constant(ir.VectorType(value.type, n), ir.Undefined)
    vector = builder.insert_element(vector, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(INT, n), [0] * n))


@intrinsic
def where_below(typing_context, codes, first, limit):
    """Compare 64 codes with a limit.

    Parameters
    ----------
    codes : (n,) int8, contiguous
    first : uintp
        Where the 64 begin.
    limit : int8

    Returns
    -------
    uint64
        Bit i tells whether ``codes[first + i] < limit``.
    """

    def generate(context, builder, signature, values):
        address = _address(context, builder, signature.args[0], *values[:2])
        here = _load(builder, _many(builder, address, BYTE, 64), 1)
        below = builder.icmp_signed("<", here, _repeated(builder, values[2], 64))
        return builder.bitcast(below, LONG)

    return types.uint64(codes, types.uintp, types.int8), generate


@intrinsic
def count_below(typing_context, edges, first, value):
    """Count those below a value among 16.

    Parameters
    ----------
    edges : (n,) float32, contiguous
    first : uintp
        Where the 16 begin.
    value : float32

    Returns
    -------
    uintp
    """

    def generate(context, builder, signature, values):
        address = _address(context, builder, signature.args[0], *values[:2])
        here = _load(builder, _many(builder, address, ir.FloatType(), 16), 4)
        below = builder.fcmp_ordered("<", here, _repeated(builder, values[2], 16))
        return builder.ctpop(builder.zext(builder.bitcast(below, ir.IntType(16)), LONG))

    return types.uintp(edges, types.uintp, types.float32), generate


@intrinsic
def add_where(typing_context, counts, first, mask):
    """Add 1 to some of 64 counts.

    Parameters
    ----------
    counts : (n,) uint8, contiguous, added to
    first : uintp
        Where the 64 begin.
    mask : uint64
        Bit i tells whether ``counts[first + i]`` is one of them.
    """

    def generate(context, builder, signature, values):
        address = _address(context, builder, signature.args[0], *values[:2])
        pointer = _many(builder, address, BYTE, 64)
        ones = builder.bitcast(values[2], ir.VectorType(BIT, 64))
        ones = builder.zext(ones, ir.VectorType(BYTE, 64))
        builder.store(builder.add(_load(builder, pointer, 1), ones), pointer).align = 1
        return context.get_dummy_value()

    return types.void(counts, types.uintp, types.uint64), generate


@intrinsic
def first_of(typing_context, mask):
    """Find the lowest bit that is set.

    Parameters
    ----------
    mask : uint64
        Not 0.

    Returns
    -------
    uint64
    """

    def generate(context, builder, signature, values):
        return builder.cttz(values[0], ir.Constant(BIT, 1))

    return types.uint64(types.uint64), generate


@intrinsic
def fetch(typing_context, array, index):
    """Ask for an element's cache line, to have it near when it is read.

    Parameters
    ----------
    array : (n,) ndarray, contiguous
    index : uintp
    """

    def generate(context, builder, signature, values):
        address = _address(context, builder, signature.args[0], *values)
        pointer = builder.bitcast(address, BYTE.as_pointer())
        signature = ir.FunctionType(ir.VoidType(), [pointer.type, INT, INT, INT])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], signature)
        to_read, second_level, data = (ir.Constant(INT, i) for i in (0, 2, 1))
        builder.call(prefetch, [pointer, to_read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.uintp), generate
