"""The network as ONNX: inputs and outputs by name, free of notes of this machine, of any batch size."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from fastcell.inference.backends.network_files import NETWORK_FILE


def test_the_graph_has_one_input_and_two_outputs_for_any_batch(prepared_files):
    path = prepared_files.folder / NETWORK_FILE
    session = onnxruntime.InferenceSession(str(path))
    assert [value.name for value in session.get_inputs()] == ["images"]
    assert [value.name for value in session.get_outputs()] == ["logits", "features"]
    for count in (1, 3):
        logits, features = session.run(None, {"images": np.ones((count, 1, 32, 32), np.float32)})
        assert (logits.shape, features.shape) == ((count, 4), (count, 64))
    assert all(not node.metadata_props and not node.doc_string for node in onnx.load(path).graph.node)
