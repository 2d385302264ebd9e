"""Zeros outside of the heap: right, writable, and without memory until they are written."""

from pathlib import Path

import numpy as np
import pytest

from fastcell.system.own_memory import own_zeros


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64])
def test_zeros_can_be_written(dtype):
    values = own_zeros(5, dtype)
    assert values.dtype == dtype
    assert values.tolist() == [0] * 5
    values[3] = 1
    assert values.tolist() == [0, 0, 0, 1, 0]
    assert len(own_zeros(0, dtype)) == 0


def test_reading_takes_no_memory_and_freed_arrays_none():
    def held():
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["RssAnon"].split()[0]) * 1024

    before = held()
    values = own_zeros(1 << 26, bool)
    assert not values[:: 1 << 12].any()
    assert held() - before < 1 << 24
    values[:] = True
    assert held() - before > 1 << 25
    del values
    assert held() - before < 1 << 24
