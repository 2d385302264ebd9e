"""Prediction by replays of a CUDA graph: the answers of single batches, and those of the CPU for a few cells."""

import numpy as np
import pytest
import torch

from fastcell.inference.backends.pytorch import TorchNetwork
from fastcell.inference.classifier import Classifier
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.lightning_module import CellModule
from fastcell.models.replayed_forward import ReplayedForward

pytestmark = pytest.mark.gpu
GPU, CLASSES = torch.device("cuda", 0), ["a", "b", "c"]


def make_model(**settings):
    torch.manual_seed(4)
    return CellModule(classes=CLASSES, preprocessing=Preprocessing(image_size=64).to_dict(), **settings).eval()


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_replays_give_the_answers_of_single_batches(tta, half):
    model = make_model(tta=tta, channels_last=True).to(GPU)
    generator = torch.Generator(GPU).manual_seed(0)
    batches = [torch.rand(96, 1, 64, 64, device=GPU, generator=generator) * 2 for _ in range(8)]
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=half):
        replayed = ReplayedForward(model.features_and_probabilities, GPU)
        found = [replayed(images) for images in batches]
        assert replayed.is_captured
        for one, images in zip(found, batches, strict=True):
            for column, right in zip(one, model.features_and_probabilities(images), strict=True):
                torch.testing.assert_close(column, right, rtol=2e-2 if half else 1e-4, atol=1e-2 if half else 1e-5)


@pytest.mark.parametrize("tta", [False, True])
def test_a_few_cells_get_the_answers_of_the_cpu(tta):
    rng = np.random.default_rng(1)
    cells = [rng.integers(0, 256, rng.integers(20, 90, 2), np.uint8) for _ in range(20)]
    found = {}
    for device in (torch.device("cpu"), GPU):
        network = TorchNetwork(make_model(), device)
        classifier = Classifier(network, CLASSES, Preprocessing(image_size=64), "cross_entropy", threads=1, tta=tta)
        found[device.type] = [classifier.predict_proba(cells[first:]) for first in (0, 4, 19)]
    assert sorted(network._graphs._batches) == [(1, tta), (16, tta), (256, tta)]
    for one, two in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(two, one, atol=2e-3)
