"""A finished cell is found by its key alone, and whatever else lies there is no result."""

import json
import random

import numpy as np
import pytest

from fastcell.compare.saved_results import Task, load_result, make_key, make_result, save_result

TASK = Task("knn", "default", "default", 0.1, 2, 16)
PARTS = {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([3, 4, 5])}
CALLED = {"train": np.array([0, 1]), "valid": np.array([1]), "test": np.array([0, 0, 2])}


@pytest.fixture
def result():
    return make_result(TASK, PARTS, CALLED, 1.5, 0.003, {"backend": "sklearn"})


def test_what_is_saved_is_found(tmp_path, result):
    key = make_key(TASK, PARTS, {"a": 1})
    save_result(tmp_path, key, result)
    found = load_result(tmp_path, key, TASK)
    rows, called = found.of("test")
    assert (rows.tolist(), called.tolist()) == ([3, 4, 5], [0, 0, 2])
    assert found.of("valid")[0].tolist() == [2]
    assert (found.fit_s, found.predict_us, found.details) == (1.5, pytest.approx(1000), {"backend": "sklearn"})
    assert (tmp_path / "knn-16px-default-default-0.1-seed2.parquet").exists()


def test_a_key_tells_all_that_a_result_depends_on():
    other = {**PARTS, "valid": np.array([6])}
    keys = {
        make_key(TASK, PARTS, {"a": 1}),
        make_key(TASK, PARTS, {"a": 2}),
        make_key(TASK, other, {"a": 1}),
        make_key(Task("svm", *list(vars(TASK).values())[1:]), PARTS, {"a": 1}),
        make_key(Task("knn", "default", "default", 0.1, 3, 16), PARTS, {"a": 1}),
    }
    assert len(keys) == 5
    assert make_key(TASK, dict(reversed(PARTS.items())), {"a": 1}) in keys


def test_damage_inside_is_found(tmp_path, result):
    """Bits that flip and pages that are zeroed, at 200 places: no result, or the same."""
    save_result(tmp_path, "key", result)
    path, rng, lost = tmp_path / f"{TASK.name}.parquet", random.Random(0), 0
    data = path.read_bytes()
    for number in range(200):
        hurt = bytearray(data)
        place = rng.randrange(len(data))
        hurt[place : place + number % 2 * 64 + 1] = bytes(number % 2 * 64) + bytes([hurt[place] ^ 1 << number % 8])
        path.write_bytes(hurt)
        found = load_result(tmp_path, "key", TASK)
        if found is None:
            lost += 1
            continue
        assert (found.rows.tolist(), found.part.tolist(), found.predicted.tolist()) == (
            result.rows.tolist(),
            result.part.tolist(),
            result.predicted.tolist(),
        )
        assert (found.fit_s, found.predict_us, found.details) == (result.fit_s, result.predict_us, result.details)
    assert 100 < lost < 200


@pytest.mark.parametrize("damage", ["key", "torn", "foreign", "folder", "absent"])
def test_anything_else_is_made_anew(tmp_path, result, damage):
    path = tmp_path / f"{TASK.name}.parquet"
    if damage != "absent":
        save_result(tmp_path, "key", result)
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "foreign":
        path.write_text(json.dumps({"key": "key"}))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    assert load_result(tmp_path, "other" if damage == "key" else "key", TASK) is None
