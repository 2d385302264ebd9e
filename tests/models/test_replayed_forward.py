"""A network for batches of one shape: what is captured, replayed and copied, and what if it cannot be captured."""

import logging

import pytest
import torch
from fixtures.host_waits import no_host_waits
from fixtures.small_models import Batches, make_batch, make_model, make_trainer

from fastcell.models.replayed_forward import ReplayedForward

GPU = torch.device("cuda", 0)


class FakeCuda:
    """Streams and graphs that note what they are asked. A graph runs again on replay what was run in its capture."""

    def __init__(self, monkeypatch, can_capture=True):
        self.events, self.work, self.can_capture = [], None, can_capture
        fake = self

        class Stream:
            def __init__(self, device=None, name="side"):
                self.name = name

            def wait_stream(self, other):
                fake.events.append(f"{self.name} waits for {other.name}")

        class On:
            def __init__(self, *what, **how):
                self.is_capture = bool(how)
                if how:
                    assert how["capture_error_mode"] == "thread_local"

            def __enter__(self):
                fake.events.append("capture" if self.is_capture else "on side")
                if self.is_capture and not fake.can_capture:
                    raise RuntimeError("operation not permitted when stream is capturing\nand more")

            def __exit__(self, *_): ...

        class Graph:
            def replay(self):
                fake.events.append("replay")
                fake.work()

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(name="main"))
        monkeypatch.setattr(torch.cuda, "stream", On)
        monkeypatch.setattr(torch.cuda, "graph", On)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)


def make_forward(model):
    """Return the network of a model as it would be captured: results of later runs go into the same memory."""
    kept = {}

    def forward(images):
        found = model.features_and_probabilities(images)
        place = kept.setdefault(images.data_ptr(), found)
        for there, one in zip(place, found, strict=True):
            there.copy_(one)
        return place

    return forward


@pytest.mark.parametrize("tta", [False, True])
def test_batches_of_one_shape_are_replayed_after_a_warm_up(monkeypatch, tta):
    model = make_model(tta=tta).eval()
    fake = FakeCuda(monkeypatch)
    batches = [make_batch(seed).images for seed in range(7)]
    with torch.inference_mode():
        expected = [model.features_and_probabilities(images) for images in batches]
        forward = make_forward(model)
        replayed = ReplayedForward(forward, GPU)
        fake.work = lambda: forward(replayed._images)
        found = [replayed(images) for images in batches]
        other = replayed(batches[0][:5].clone())
    beside = ["side waits for main", "on side", "main waits for side"]
    assert fake.events == [*beside * 3, "capture", *["replay"] * 4]  # nothing for the batch of another shape
    assert replayed.is_captured
    for one, wanted in zip([*found, other], [*expected, [column[:5] for column in expected[0]]], strict=True):
        for column, right in zip(one, wanted, strict=True):
            torch.testing.assert_close(column, right)


def test_a_network_that_cannot_be_captured_runs_batch_by_batch(monkeypatch, caplog):
    model = make_model().eval()
    fake = FakeCuda(monkeypatch, can_capture=False)
    with torch.inference_mode(), caplog.at_level(logging.INFO, "fastcell"):
        replayed = ReplayedForward(model.features_and_probabilities, GPU)
        for seed in range(6):
            images = make_batch(seed).images
            for column, right in zip(replayed(images), model.features_and_probabilities(images), strict=True):
                torch.testing.assert_close(column, right)
    assert fake.events.count("capture") == 1
    assert not replayed.is_captured
    assert "one by one" in caplog.text
    assert "operation not permitted when stream is capturing" in caplog.text
    assert "and more" not in caplog.text


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_no_operation_makes_the_host_wait(tta, precision):
    model, images = make_model(tta=tta, input_norm=True).eval(), make_batch().images
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision is not None)
    with torch.inference_mode(), half, no_host_waits() as names:
        model.features_and_probabilities(images)
    assert names.count("aten::flip") == 3 * tta


def test_prediction_runs_the_network_through_it_and_frees_it(tmp_path):
    model, batches, seen = make_model(), [make_batch(seed) for seed in range(3)], []
    step = type(model).predict_step

    def watched(batch, batch_idx):
        seen.append(model._replayed)
        return step(model, batch, batch_idx)

    model.predict_step = watched
    found = make_trainer(tmp_path).predict(model, Batches(*batches))
    assert [type(one) for one in seen] == [ReplayedForward] * 3
    assert seen[0] is seen[2]
    assert model._replayed is None
    model.eval()
    for one, batch in zip(found, batches, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(one.probabilities, model.features_and_probabilities(batch.images)[1])
