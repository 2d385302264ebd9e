"""The description of a data set comes back as it was written."""

import pytest

from fastcell.dataset.dataset_info import DatasetInfo, read_info
from fastcell.errors import DataError


def test_the_description_comes_back(tmp_path):
    shards = [{"name": "s.tar", "bytes": 4096, "num_cells": 2}]
    info = DatasetInfo("né", ["a", "b"], shards=shards, num_cells=2, window=[400.0, 1400.0], seed=3)
    (tmp_path / "dataset.json").write_text(info.to_json(), encoding="utf-8")
    assert read_info(tmp_path) == info


@pytest.mark.parametrize("text", ["{}", "[1]", "no JSON", '{"format_version": 1, "name": 3}'])
def test_what_is_no_description_is_named(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="dataset.json"):
        read_info(tmp_path)


def test_a_folder_without_one_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"no dataset.json in it\). Make one with `fastcell pack SRC"):
        read_info(tmp_path)


def test_a_similar_name_beside_is_suggested(tmp_path):
    for name in ("cells", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(DatasetInfo("x").to_json(), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_info(tmp_path / "cels")
    assert str(error.value).endswith(f"(no such folder). Did you mean {tmp_path / 'cells'}?")
    with pytest.raises(DataError, match="no such folder.*fastcell pack SRC"):
        read_info(tmp_path / "unlike-any")
