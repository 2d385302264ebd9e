"""Compiled copy of ragged cells into one contiguous array, without holding the interpreter lock."""

from __future__ import annotations

from fastcell.ops.cpu.compiled_loops import OPTIONS, entry
from fastcell.ops.cpu.llvm import array_at


@entry(**OPTIONS)
def copy_cells(addresses, sizes, target):  # type: ignore[no-untyped-def]
    """Copy B blocks of memory one after another.

    Args:
        addresses: (B,) int64, start address of each block; not checked.
        sizes: (B,) int64, size of each block [bytes].
        target: (>= sum of sizes,) uint8.
    """
    at = 0
    for b in range(len(addresses)):
        source = array_at(addresses[b], sizes[b], target)
        target[at : at + sizes[b]] = source
        at += sizes[b]
