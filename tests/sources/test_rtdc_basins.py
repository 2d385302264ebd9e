"""Basins of RT-DC files: how they are described, and what is left when a description is wrong."""

import json

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.sources.hdf5 import opened
from fastcell.sources.rtdc_basins import (
    EventData,
    InternalBasin,
    describe_basins,
    internal_basins,
    locate,
    read_mapping,
)

h5py = pytest.importorskip("h5py")

GOOD = {
    "type": "internal",
    "format": "h5dataset",
    "features": ["image_bg"],
    "paths": ["basin_events"],
    "mapping": "basinmap0",
}


def write(path, *told):
    with h5py.File(path, "w") as file:
        file["events/deform"] = np.arange(3.0)
        file["events/basinmap0"] = np.array([1, 0, 1])
        file["events/basinmap1"] = np.array([0.5])
        file["basin_events/image_bg"] = np.zeros((2, 4, 5), np.uint8)
        for number, basin in enumerate(told):
            lines = (json.dumps(basin, indent=1) if isinstance(basin, dict) else basin).split("\n")
            file[f"basins/{number}"] = np.array([line.encode() for line in lines])
    return str(path)


def test_where_features_lie(tmp_path):
    with opened(write(tmp_path / "a.rtdc", GOOD)) as file:
        assert locate(file, "deform") == EventData("events/deform")
        assert locate(file, "image_bg") == EventData("basin_events/image_bg", "events/basinmap0")
        assert locate(file, "area") is None
        assert internal_basins(file) == [InternalBasin("basin_events", ("image_bg",), "events/basinmap0")]
        assert read_mapping(file, "events/basinmap0").tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "told",
    [
        "no JSON",
        "[1, 2]",
        {**GOOD, "type": "file"},
        {**GOOD, "format": "other"},
        {**GOOD, "features": None},
        {**GOOD, "paths": []},
        {**GOOD, "mapping": None},
    ],
)
def test_basins_that_are_no_internal_ones_are_passed_over(tmp_path, told):
    with opened(write(tmp_path / "a.rtdc", told)) as file:
        assert internal_basins(file) == []
        assert locate(file, "image_bg") is None


def test_messages(tmp_path):
    with opened(write(tmp_path / "a.rtdc")) as file:
        assert describe_basins(file) == ""
        for path in ("events/none", "events/basinmap1"):
            with pytest.raises(DataError, match=f"{path} must hold the row of each event in a basin"):
                read_mapping(file, path)
    with opened(write(tmp_path / "b.rtdc", {**GOOD, "type": "file"})) as file:
        assert "another file, a basin: pack that file" in describe_basins(file)
    with opened(write(tmp_path / "c.rtdc", {**GOOD, "format": "chopped"})) as file:
        assert "internal chopped" in describe_basins(file)
