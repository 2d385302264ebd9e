"""Instruction sets of the processor that decide how fast a network runs in low precision."""

from __future__ import annotations

import functools
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")

NAMES = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16",
)  # fmt: skip
"""Instruction sets of AVX, AMX and NEON by their name in /proc/cpuinfo."""

HAS_BF16 = ("avx512_bf16", "amx_bf16", "bf16")


@functools.cache
def cpu_features() -> tuple[str, ...]:
    """Return those of `NAMES` that every core of this machine has; empty if the system does not report them."""
    try:
        return features_in(_CPU_INFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()


def features_in(text: str) -> tuple[str, ...]:
    """Return those of `NAMES` that every core in the text of a /proc/cpuinfo has, in the order of `NAMES`."""
    lines = [line.partition(":") for line in text.splitlines()]
    cores = [set(words.split()) for name, _, words in lines if name.strip() in ("flags", "Features")]
    return tuple(name for name in NAMES if cores and all(name in core for core in cores))
