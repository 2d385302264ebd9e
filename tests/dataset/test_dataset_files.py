"""Files of a data set by name, in a folder; those at addresses are tested with the data sets there."""

import os
from collections.abc import Callable

import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError

Make = Callable[..., Manifest]


def test_files_of_a_folder(make_dataset):
    made = make_dataset(20)
    assert not made.is_at_address
    assert (made.place, made.whole_place) == (str(made.path), str(made.path.absolute()))
    assert made.place_of("dataset.json") == str(made.path / "dataset.json")
    assert made.shard_path(1) == made.path / made.info.shards[1]["name"]
    name = made.info.shards[2]["name"]
    number = made.open_shard(name)
    try:
        assert os.fstat(number).st_size == made.shard_sizes[name] == (made.path / name).stat().st_size
    finally:
        os.close(number)
    assert made.has_shards()
    for shard in made.info.shards:
        (made.path / shard["name"]).unlink()
    assert not made.has_shards()
    with pytest.raises(FileNotFoundError):
        made.open_shard(name)


def test_a_folder_that_cannot_be_written(make_dataset):
    made = make_dataset(5)
    made.check_writable()
    made.written("verdicts.csv")  # nothing to bring anywhere
    made.path.rename(made.path.with_name("moved"))
    made.path.write_text("a file")
    with pytest.raises(ArgumentError, match="DATA"):
        made.check_writable()
