"""Correction of p-values of several tests."""

import pytest

from fastcell.stats.multiple_testing import holm


def test_holm():
    assert holm([0.01, 0.04, float("nan"), 0.03]) == pytest.approx([0.03, 0.06, float("nan"), 0.06], nan_ok=True)
    assert holm([]) == []
