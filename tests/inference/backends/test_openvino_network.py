"""OpenVINO: logits and features of torch, the same for any batch, thread and process."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch

from fastcell.errors import FastcellError
from fastcell.inference.backends.choice import open_prepared
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.runs.checkpoint import load_classifier
from fastcell.system.cpu_features import HAS_BF16, cpu_features

TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.5}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0.7, 1.3, (150, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(prepared_files, images):
    return TorchNetwork(load_classifier(prepared_files.checkpoint), torch.device("cpu")).run(images)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_logits_and_features_are_those_of_torch(prepared_files, images, expected, precision):
    if precision == "bf16" and not any(name in cpu_features() for name in HAS_BF16):
        pytest.skip("this processor has no bf16")
    network, description = open_prepared(prepared_files, "openvino", precision)
    assert (network.name, network.precision, description.num_features) == ("openvino", precision, 64)
    for found, right in zip(network.run(images), expected, strict=True):
        assert (found.shape, found.dtype) == (right.shape, np.float32)
        np.testing.assert_allclose(found, right, atol=TOLERANCE[precision], rtol=TOLERANCE[precision])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_cell_has_the_same_bits_in_any_batch(prepared_files, images, precision):
    network, _ = open_prepared(prepared_files, "openvino", precision)
    logits, features = network.run(images)
    for begin, end in ((0, 2), (3, 70), (60, 150), (1, 65)):
        some = network.run(images[begin:end])
        np.testing.assert_array_equal(some[0], logits[begin:end])
        np.testing.assert_array_equal(some[1], features[begin:end])
    alone = network.run(images[7:8])
    np.testing.assert_allclose(alone[0], logits[7:8], atol=1e-4)
    assert [part.shape for part in network.run(images[:0])] == [(0, 4), (0, 64)]


def test_threads_get_their_own_answers(prepared_files, images):
    network, _ = open_prepared(prepared_files, "openvino", "fp32", threads=3)
    expected = network.run(images)[0]
    found = {}

    def work(number):
        order = np.roll(np.arange(len(images)), number)
        found[number] = [network.run(images[order])[0] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        for answer in answers:
            np.testing.assert_array_equal(answer, np.roll(expected, number, axis=0))


def _run(network, images, out):
    try:
        network.run(images)
    except FastcellError as error:
        out.put(str(error))


def test_a_forked_process_is_told_so_and_does_not_hang(prepared_files, images):
    network, _ = open_prepared(prepared_files, "openvino", "fp32", threads=2)
    network.run(images)
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    child = context.Process(target=_run, args=(network, images, out))
    child.start()
    found = out.get(timeout=60)
    child.join(timeout=60)
    assert "cannot run in a forked process" in found
