"""ONNX Runtime: logits and features of torch, the same in any batch."""

import numpy as np
import pytest
import torch

from fastcell.inference.backends.choice import open_prepared
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.runs.checkpoint import load_classifier


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("int8", 0.7)])
def test_outputs_of_torch_in_any_batch(prepared_files, precision, tolerance):
    images = np.random.default_rng(0).uniform(0.7, 1.3, (130, 1, 32, 32)).astype(np.float32)
    expected = TorchNetwork(load_classifier(prepared_files.checkpoint), torch.device("cpu")).run(images)
    network, _ = open_prepared(prepared_files, "onnxruntime", precision)
    assert (network.name, network.precision) == ("onnxruntime", precision)
    found = network.run(images)
    for one, right in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (right.shape, np.float32)
        np.testing.assert_allclose(one, right, atol=tolerance, rtol=tolerance)
    for begin, end in ((0, 2), (3, 70), (60, 130)):
        np.testing.assert_array_equal(network.run(images[begin:end])[0], found[0][begin:end])
    assert [part.shape for part in network.run(images[:0])] == [(0, 4), (0, 64)]
