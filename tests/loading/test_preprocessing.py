"""Preprocessing checks its values and survives the checkpoint's plain types."""

import json

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.loading.preprocessing import Preprocessing


def test_to_dict_and_back():
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
    assert Preprocessing.from_dict(json.loads(json.dumps(values.to_dict()))) == values
    assert Preprocessing.from_dict({}) == Preprocessing()


def test_the_defaults_are_the_papers():
    assert Preprocessing().to_dict() == {
        "image_size": 128, "fit": "stretch", "normalization": "divide", "antialias": False, "scale_um_per_px": None,
        "window": None, "depth": 8,
    }  # fmt: skip


def test_older_checkpoints_get_the_defaults_and_newer_ones_are_refused():
    assert Preprocessing.from_dict({"image_size": 64}) == Preprocessing(64)
    with pytest.raises(DataError, match=r"preprocessing has unknown entries \['blur'\]\. Use the version of fastcell"):
        Preprocessing.from_dict({"blur": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 7}, "image_size must be a whole number from 8 to 1024, got 7"),
        ({"image_size": 1025}, "image_size must be"),
        ({"image_size": 64.0}, "image_size must be"),
        ({"fit": "crop"}, "fit must be one of stretch, contain, scale, got 'crop'"),
        ({"normalization": "none"}, "normalization must be one of divide, subtract, standardize"),
        ({"scale_um_per_px": 0.0}, "scale_um_per_px must be positive"),
        ({"scale_um_per_px": float("nan")}, "scale_um_per_px must be positive"),
        ({"depth": 12}, "depth must be 8 or 16, got 12"),
        ({"depth": True}, "depth must be 8 or 16"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(ArgumentError, match=message):
        Preprocessing(**values)
