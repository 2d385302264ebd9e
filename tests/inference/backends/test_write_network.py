"""The network as ONNX: inputs and outputs by name, free of notes of this machine, of any batch size."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fastcell.errors import DataError
from fastcell.inference.backends.network_files import NETWORK_FILE, NetworkFiles
from fastcell.inference.backends.write_network import write_network
from fastcell.inference.beside_weights import KEYS
from fastcell.runs.checkpoint import save_checkpoint


def test_the_graph_has_one_input_and_two_outputs_for_any_batch(prepared_files):
    path = prepared_files.folder / NETWORK_FILE
    session = onnxruntime.InferenceSession(str(path))
    assert [value.name for value in session.get_inputs()] == ["images"]
    assert [value.name for value in session.get_outputs()] == ["logits", "features"]
    for count in (1, 3):
        logits, features = session.run(None, {"images": np.ones((count, 1, 32, 32), np.float32)})
        assert (logits.shape, features.shape) == ((count, 4), (count, 64))
    assert all(not node.metadata_props and not node.doc_string for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["text", [1], {"temperature": None}])
def test_damaged_statistics_are_refused_before_a_file_is_written(prepared_files, tmp_path, key, value):
    checkpoint = shutil.copy(prepared_files.checkpoint, tmp_path / "best.ckpt")
    save_checkpoint({**torch.load(checkpoint, weights_only=True), key: value}, checkpoint)
    files = NetworkFiles(checkpoint)
    with pytest.raises(DataError, match="in the checkpoint (are|is) damaged"):
        write_network(files)
    assert not files.folder.exists()
