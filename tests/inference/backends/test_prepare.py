"""Prepare a run: what is written, what is compared and what is chosen."""

import numpy as np
import pytest

from fastcell.errors import FastcellError
from fastcell.inference.backends import prepare as module
from fastcell.inference.backends.agreement import Agreement
from fastcell.inference.backends.choice import Compared, read_choice
from fastcell.inference.backends.network_files import CHOICE_FILE
from fastcell.inference.backends.prepare import Preparation, choose


@pytest.fixture
def preparation(prepared_files):
    yield Preparation(prepared_files.checkpoint)
    (prepared_files.folder / CHOICE_FILE).unlink(missing_ok=True)


def test_what_is_prepared_is_not_written_again(preparation):
    times = {path.name: path.stat().st_mtime_ns for path in preparation.files.folder.iterdir()}
    assert set(times) >= {"network.json", "network.onnx", "openvino-int8.xml", "openvino-int8.bin", "arrays.npz"}
    said = []
    preparation._say = said.append
    preparation.prepare("openvino", "int8")
    preparation.prepare("onnxruntime", "fp32")
    assert {path.name: path.stat().st_mtime_ns for path in preparation.files.folder.iterdir()} == times
    assert said == []


def test_the_agreement_in_32_bits_is_whole(preparation):
    found = preparation.agreement("openvino", "fp32")
    assert found.num_cells == len(preparation.run.rows("valid")) == found.num_same
    assert found.largest < 1e-4


def test_too_few_validation_cells_leave_torch(preparation):
    found = choose(preparation, "auto", "int8")
    assert found.chosen == ("torch", "fp32")
    speeds = [one.us_per_cell for one in found.compared]
    assert speeds == sorted(speeds)
    assert {one.title for one in found.compared} == {"openvino int8", "onnxruntime int8", "torch fp32"}
    for one in found.compared[: [one.program for one in found.compared].index("torch")]:
        assert not one.agreement.agrees


def test_the_fastest_backend_that_agrees_is_chosen(preparation, monkeypatch):
    """Speeds and agreements of a run with more cells."""
    good, bad = (Agreement(5000, same, 0.0, -0.002, 0.002, "cell", 0.1) for same in (4990, 4900))
    speeds = {("openvino", "int8"): 20.0, ("openvino", "bf16"): 30.0, ("onnxruntime", "fp32"): 60.0}
    agreements = {("openvino", "int8"): bad, ("openvino", "bf16"): good}
    monkeypatch.setattr(
        preparation, "measure", lambda wanted: [Compared(*key, speeds.get(key, 99.0)) for key in reversed(wanted)]
    )
    monkeypatch.setattr(preparation, "agreement", lambda *key: agreements.get(key, good))
    monkeypatch.setattr(module, "_is_useful", lambda program, precision: True)
    found = choose(preparation)
    assert found.chosen == ("openvino", "bf16")
    assert [one.agreement for one in found.compared[:3]] == [bad, good, None]
    assert read_choice(preparation.files).chosen == ("openvino", "bf16")
    named = choose(preparation, "openvino", "int8")
    assert named.chosen == ("openvino", "fp32")
    assert read_choice(preparation.files).chosen == ("openvino", "bf16")


def test_images_are_those_of_labelled_cells_of_the_subset(preparation):
    images, rows = preparation.images_of("train", 20)
    assert (images.shape, images.dtype) == ((20, 1, 32, 32), np.float32)
    assert set(rows.tolist()) <= set(preparation.run.rows("train").tolist())
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 1, atol=1e-4)


def test_a_folder_that_cannot_be_written_is_named(prepared_files, tmp_path):
    (tmp_path / "best.ckpt").write_bytes(prepared_files.checkpoint.read_bytes())
    (tmp_path / "backends").write_text("a file in the way")
    with pytest.raises(FastcellError, match="must be writable: it holds the network for --backend openvino"):
        Preparation(tmp_path / "best.ckpt").prepare("openvino", "fp32")
