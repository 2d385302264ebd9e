"""Files of a network: read back, and not used where a byte, the weights or the version differ."""

import shutil

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.inference.backends import network_files
from fastcell.inference.backends.network_files import NETWORK_FILE, NetworkDescription, NetworkFiles
from fastcell.loading.preprocessing import Preprocessing
from fastcell.storage.checked_json import read_checked_json, write_checked_json
from fastcell.storage.whole_files import file_hash


@pytest.fixture
def files(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    files = NetworkFiles(tmp_path / "best.ckpt")
    files.folder.mkdir(parents=True)
    (files.folder / NETWORK_FILE).write_bytes(b"graph")
    described = NetworkDescription(
        files.checkpoint_hash,
        "cellnet",
        ["a", "ß"],
        Preprocessing(64, window=(0.0, 900.0)),
        "mse",
        64,
        {"temperature": 1.5},
        {NETWORK_FILE: file_hash(files.folder / NETWORK_FILE)},
    )
    files.write(described, {"mean": np.arange(3.0)})
    return files


def test_what_is_written_is_read(files):
    found = NetworkFiles(files.checkpoint).read()
    assert found.classes == ["a", "ß"]
    assert found.preprocessing == Preprocessing(64, window=(0.0, 900.0))
    assert (found.loss, found.num_features, found.values) == ("mse", 64, {"temperature": 1.5})
    np.testing.assert_array_equal(files.arrays()["mean"], [0, 1, 2])
    assert files.has(NETWORK_FILE)
    assert not files.has("other.onnx")
    (files.folder / "other.onnx").write_bytes(b"8 bits")
    assert not files.has("other.onnx")
    files.add("other.onnx")
    assert files.has(NETWORK_FILE, "other.onnx")


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", ["graph", "weights", "format", "fastcell", "json", "classes", "bit", "arrays"])
def test_what_differs_is_not_used(files, harm):
    description = files.folder / network_files.DESCRIPTION_FILE
    if harm == "graph":
        (files.folder / NETWORK_FILE).write_bytes(b"grap")
    elif harm == "weights":
        files.checkpoint.write_bytes(b"others")
    elif harm == "arrays":
        flip_bit(files.folder / network_files.ARRAYS_FILE)
    elif harm == "bit":  # the temperature, 1.5, becomes 1.4
        description.write_text(description.read_text().replace("1.5", "1.4"))
    elif harm == "json":
        description.write_text("{")
    else:
        content = read_checked_json(description)
        content |= {"format": 99} if harm == "format" else {"fastcell": "0.0.0"} if harm == "fastcell" else {}
        if harm == "classes":
            del content["classes"]
        write_checked_json(description, content)
    assert not NetworkFiles(files.checkpoint).has(NETWORK_FILE)


def test_damaged_arrays_are_an_error(files):
    (files.folder / network_files.ARRAYS_FILE).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="cannot be read"):
        files.arrays()


def test_the_checkpoints_of_a_run_have_their_own_files(files):
    shutil.copy(files.checkpoint, files.checkpoint.with_name("last.ckpt"))
    assert NetworkFiles(files.checkpoint.with_name("last.ckpt")).read() is None
