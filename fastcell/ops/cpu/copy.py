"""Compiled copy of ragged cells into one contiguous array, without holding the interpreter lock."""

from __future__ import annotations

from fastcell.ops.cpu.compiled_loops import WITHOUT_ARRAYS, entry
from fastcell.ops.cpu.llvm import array_at


@entry(**WITHOUT_ARRAYS)
def copy_cells(addresses, sizes, target):  # type: ignore[no-untyped-def]
    """Copy B blocks of memory one after another.

    Args:
        addresses: (B,) int64, start address of each block; not checked.
        sizes: (B,) int64, size of each block [bytes].
        target: (>= sum of sizes,) uint8.
    """
    at = 0
    for b in range(len(addresses)):
        size = sizes[b]
        source, part = array_at(addresses[b], size, target), target[at : at + size]
        for i in range(size):  # an assignment of arrays takes 2 s to compile, for the message of its error
            part[i] = source[i]
        at += size
