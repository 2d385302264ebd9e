"""Preprocessing checks its values and survives the checkpoint's plain types."""

from __future__ import annotations

from typing import Any

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.loading.preprocessing import Preprocessing


def test_to_dict_and_back() -> None:
    values = Preprocessing(64, "scale", "subtract", True, 0.5, (3, 4000), 16)
    assert values.to_dict() == {
        "image_size": 64,
        "fit": "scale",
        "normalization": "subtract",
        "antialias": True,
        "scale_um_per_px": 0.5,
        "window": [3.0, 4000.0],
        "depth": 16,
    }
    assert Preprocessing.from_dict(values.to_dict()) == values
    assert Preprocessing.from_dict({}) == Preprocessing()


@pytest.mark.parametrize(("change", "message"), [
    ({"image_size": 7}, "image_size must be a whole number from 8 to 1024, got 7"),
    ({"image_size": 128.0}, "image_size must be a whole number"),
    ({"fit": "crop"}, "fit must be one of stretch, contain, scale"),
    ({"normalization": "none"}, "normalization must be one of"),
    ({"scale_um_per_px": 0.0}, "scale_um_per_px must be positive"),
    ({"depth": True}, "depth must be 8 or 16"),
])  # fmt: skip
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Preprocessing(**change)


def test_entries_of_another_version_are_refused() -> None:
    with pytest.raises(DataError, match=r"unknown entries \['colour'\]. Use the version"):
        Preprocessing.from_dict({"colour": 3})
