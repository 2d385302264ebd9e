"""Folders of saved estimators that are damaged."""

import json

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.training.estimator import CellClassifier
from fastcell.training.estimators.saved_estimator import ESTIMATOR_FILE, load_estimator, save_estimator


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 255, (8, 9, 9)).astype(np.uint8)
    model = CellClassifier(image_size=8, epochs=1, batch_size=4, threads=1, random_state=0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_estimator(model.fit(images, ["a", "b"] * 4), folder)
    return folder


@pytest.mark.parametrize(
    "change", [{"classes": ["a"]}, {"classes": None}, {"arguments": {"nonsense": 1}}, {"dtype": "?!"}]
)
def test_values_of_strangers_are_refused(saved, tmp_path, change):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    load_estimator(CellClassifier, tmp_path)
    values = json.loads((tmp_path / ESTIMATOR_FILE).read_text())
    (tmp_path / ESTIMATOR_FILE).write_text(json.dumps(values | change))
    with pytest.raises(DataError):
        load_estimator(CellClassifier, tmp_path)


def test_damaged_weights_are_found(saved, tmp_path):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "last.ckpt").write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be read"):
        load_estimator(CellClassifier, tmp_path)
