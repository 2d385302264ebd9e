"""Transform and network of a few cells together: the answers of both apart, and what is captured on a GPU."""

import threading

import numpy as np
import pytest
import torch
from fixtures.host_waits import no_host_waits

from fastcell.inference.backends import graphed_cells
from fastcell.inference.backends.graphed_cells import GraphedCells, capacity, fits
from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.classifier import Classifier
from fastcell.inference.grey_cells import GreyCells, grey_cells
from fastcell.inference.network_answers import FLIPS
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule

CPU = torch.device("cpu")


def make_network(**preprocessing):
    torch.manual_seed(2)
    values = Preprocessing(**{"image_size": 32, **preprocessing})
    module = CellModule(classes=["a", "b", "c"], preprocessing=values.to_dict())
    return TorchNetwork(module, CPU), values


def draw_cells(num, preprocessing, seed=0, most=60):
    rng = np.random.default_rng(seed)
    cells = [rng.integers(0, 256, rng.integers(5, most, 2), np.uint8) for _ in range(num)]
    return grey_cells(cells, preprocessing, None)


@pytest.mark.parametrize("num", [1, 2, 16, 17])
@pytest.mark.parametrize(
    "settings", [{}, {"fit": "contain", "antialias": True}, {"fit": "scale", "scale_um_per_px": 0.5}]
)
def test_answers_are_those_of_transform_and_network_apart(num, settings):
    network, preprocessing = make_network(**settings)
    graphs = GraphedCells(network._forward, preprocessing, CPU)
    pitch = np.where(np.arange(num) % 2, 0.4, np.nan) if preprocessing.fit == "scale" else None
    for seed in range(2):  # the second call finds the memory of the first
        cells = draw_cells(num, preprocessing, seed)
        found = graphs.run(cells, pitch)
        images = cells.images(preprocessing, pitch, 1)
        np.testing.assert_allclose(found.images, images, rtol=1e-6, atol=1e-6)
        logits, features = network.run(images)
        assert len(found.logits) == 1
        np.testing.assert_allclose(found.logits[0], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.features, features, rtol=1e-4, atol=1e-5)
        of_flips = graphs.run(cells, pitch, tta=True)
        np.testing.assert_allclose(of_flips.features, features, rtol=1e-4, atol=1e-5)
        for logits, axes in zip(of_flips.logits, FLIPS, strict=True):
            wanted = network.run(np.ascontiguousarray(np.flip(images, axes)) if axes else images)[0]
            np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
    first = graphs.run(draw_cells(num, preprocessing, 0), pitch)
    kept = first.logits[0].copy()
    graphs.run(draw_cells(num, preprocessing, 5), pitch)
    assert np.array_equal(first.logits[0], kept)  # answers are copies


def test_too_many_and_too_large_cells_have_no_graph():
    network, preprocessing = make_network()
    graphs = GraphedCells(network._forward, preprocessing, CPU)
    assert graphs.run(draw_cells(257, preprocessing, most=8), None) is None
    whole = GreyCells(np.zeros(capacity(1), np.uint8), np.int32([256]), np.int32([256]), None)
    assert capacity(1) == 256 * 256
    assert graphs.run(whole, None) is None  # no room for a cell of one pixel behind it
    assert graphs.run(GreyCells(whole.pixels[:65280], np.int32([255]), np.int32([256]), None), None) is not None
    assert not fits(Preprocessing(image_size=100))
    assert fits(preprocessing)


def test_the_work_of_a_graph_has_no_wait_of_the_host():
    network, preprocessing = make_network()
    graphs = GraphedCells(network._forward, preprocessing, CPU)
    for tta in (False, True):
        graphs.run(draw_cells(3, preprocessing), None, tta)
        with no_host_waits() as names:
            graphs._batches[16, tta]._work()
        assert names.count("fastcell::transform") == 1
        assert names.count("aten::flip") == 3 * tta


def test_threads_take_turns():
    network, preprocessing = make_network()
    graphs = GraphedCells(network._forward, preprocessing, CPU)
    cells = [draw_cells(1, preprocessing, seed) for seed in range(24)]
    expected = [graphs.run(one, None).logits[0] for one in cells]
    found = [None] * len(cells)

    def work(part):
        for number in range(part, len(cells), 4):
            found[number] = graphs.run(cells[number], None).logits[0]

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_classifier_takes_the_graph_where_its_backend_has_one(monkeypatch):
    network, preprocessing = make_network()
    plain = Classifier(network, ["a", "b", "c"], preprocessing, "cross_entropy", threads=1)
    rng = np.random.default_rng(3)
    cells = [rng.integers(0, 256, (20, 30), np.uint8) for _ in range(5)]
    expected = plain.predict_proba(cells)
    assert network.run_cells(grey_cells(cells, preprocessing, None), None) is None  # a CPU has no graph
    flipped = Classifier(network, ["a", "b", "c"], preprocessing, "cross_entropy", threads=1, tta=True)
    expected_of_flips = flipped.predict_proba(cells)
    assert np.abs(expected_of_flips - expected).max() > 1e-5
    network._graphs = GraphedCells(network._forward, preprocessing, CPU)
    monkeypatch.setattr(network, "run", None)
    np.testing.assert_allclose(plain.predict_proba(cells), expected, atol=1e-6)
    np.testing.assert_allclose(flipped.predict_proba(cells), expected_of_flips, atol=1e-6)
    assert list(network._graphs._batches) == [(16, False), (16, True)]


def test_on_a_gpu_the_work_is_captured_once_and_replayed(monkeypatch):
    """With streams and graphs of torch.cuda that note what they are asked, and a batch that believes in a GPU."""
    events = []

    class Stream:
        def __init__(self, device=None, name="side"):
            self.name = name

        def wait_stream(self, other):
            events.append(f"{self.name} waits for {other.name}")

        def synchronize(self):
            events.append("synchronize")

    class On:
        def __init__(self, *what, **how):
            self.is_capture = bool(how)
            if how:
                assert how["capture_error_mode"] == "thread_local"

        def __enter__(self):
            events.append("capture" if self.is_capture else "on side")

        def __exit__(self, *_): ...

    class Graph:
        def replay(self):
            events.append("replay")

    network, preprocessing = make_network()
    batch = graphed_cells._Batch(1, torch.uint8, network._forward, preprocessing, CPU)
    work = batch._work
    batch._work = lambda: (events.append("work"), work())
    batch._device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(name="main"))
    monkeypatch.setattr(torch.cuda, "stream", On)
    monkeypatch.setattr(torch.cuda, "graph", On)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    cells = draw_cells(1, preprocessing)
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: torch.zeros(shape, dtype=dtype))
    for _ in range(3):
        batch.run(cells, None)
    beside = ["side waits for main", "on side", *["work"] * 3, "main waits for side"]
    assert events == [*beside, "capture", "work", *["replay", "synchronize"] * 3]
