"""A backend in Lightning's processes: what it does to the options of the trainer, and the probabilities it gives."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastcell.cli.backend_of_ranks import use_backend
from fastcell.errors import ArgumentError
from fastcell.inference.backends.choice import open_prepared
from fastcell.inference.network_answers import probabilities_of
from fastcell.runs.checkpoint import load_classifier


def options(files, backend, precision, accelerator="auto"):
    return SimpleNamespace(
        trainer=SimpleNamespace(accelerator=accelerator, devices=2, precision=None),
        data=SimpleNamespace(path=None, threads=1),
        ckpt_path=str(files.checkpoint),
        backend=backend,
        precision=precision,
        engine=None,
        scheduler=None,
        tta=False,
        trust=None,
    )


@pytest.mark.parametrize("count", [1, 65, 100])
def test_probabilities_are_those_of_the_backend_alone(prepared_files, count):
    config = options(prepared_files, "openvino", "int8")
    model = load_classifier(prepared_files.checkpoint)
    use_backend(config, model)
    assert config.trainer.accelerator == "cpu"
    images = np.random.default_rng(0).uniform(0.7, 1.3, (130, 1, 32, 32)).astype(np.float32)
    expected = probabilities_of("cross_entropy", open_prepared(prepared_files, "openvino", "int8")[0].run(images)[0])
    found = model.predict_probabilities(torch.from_numpy(images[:count]))
    np.testing.assert_array_equal(found.numpy(), expected[:count])


def test_options_of_torch_and_contradictions(prepared_files):
    config = options(prepared_files, "torch", "bf16")
    use_backend(config, load_classifier(prepared_files.checkpoint))
    assert (config.trainer.precision, config.trainer.accelerator) == ("bf16-mixed", "auto")
    with pytest.raises(ArgumentError, match="--trainer.accelerator must be cpu with --backend openvino, got 'gpu'"):
        use_backend(options(prepared_files, "openvino", "int8", "gpu"), load_classifier(prepared_files.checkpoint))
