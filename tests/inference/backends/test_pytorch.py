"""The network run by torch."""

import multiprocessing

import numpy as np
import pytest
import torch

from fastcell.errors import FastcellError
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.models.lightning_module import CellModule


def make_network():
    torch.manual_seed(0)
    module = CellModule(network="cellnet", classes=["a", "b"], preprocessing={"image_size": 16})
    return TorchNetwork(module, torch.device("cpu"))


def test_logits_of_the_module():
    network, images = make_network(), np.random.default_rng(0).random((5, 1, 16, 16), np.float32)
    logits, features = network.run(images)
    with torch.inference_mode():
        expected = network.module.features_and_logits(torch.from_numpy(images))
    np.testing.assert_array_equal(features, expected[0].numpy())
    np.testing.assert_array_equal(logits, expected[1].numpy())
    assert features.shape == (5, 64)


def _run(network, images, out):
    out.put(network.run(images)[0])


def test_a_forked_process_computes_the_same():
    network, images = make_network(), np.random.default_rng(0).random((300, 1, 16, 16), np.float32)
    expected = network.run(images)[0]  # starts the threads of OpenMP, which the child does not have
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_run, args=(network, images, out))
    child.start()
    found = out.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_fork_cannot_take_a_gpu_along(monkeypatch):
    network = make_network()
    network.device, network._process = torch.device("cuda"), -1
    with pytest.raises(FastcellError, match="cannot run in a forked process"):
        network.run(np.zeros((1, 1, 16, 16), np.float32))
