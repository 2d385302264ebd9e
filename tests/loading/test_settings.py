"""Checks of what a user may set, and the dtype of the images."""

from types import SimpleNamespace

import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.loading.settings import (
    LoaderSettings,
    check_settings,
    evaluation_batch,
    image_dtype,
    num_local_processes,
    settings_on,
)

GOOD = {
    "batch_size": 4,
    "eval_batch_size": 4,
    "dtype": "auto",
    "transform": "auto",
    "decoder": "auto",
    "store": "auto",
    "bank_gib": None,
    "on_bad_cell": "replace",
    "threads": 0,
    "initial_fill": 0,
    "seed": None,
}


def test_good_settings_pass():
    check_settings(GOOD)
    check_settings({**GOOD, "eval_batch_size": None})
    check_settings({**GOOD, "dtype": "bfloat16", "store": "bank", "bank_gib": 0.0, "others": None})


@pytest.mark.parametrize(("name", "value", "rule"), [
    ("batch_size", True, "a positive whole number"),
    ("batch_size", None, "a positive whole number"),
    ("eval_batch_size", 0, "a positive whole number"),
    ("dtype", "int8", "auto or one of float32, bfloat16, float16"),
    ("transform", "cuda", "one of auto, fused, dali"),
    ("decoder", "cuda", "one of auto, dali, threads"),
    ("store", "disk", "one of auto, stream, bank"),
    ("bank_gib", float("nan"), "0 or more"),
    ("on_bad_cell", "skip", "one of replace, error"),
    ("threads", -1, "0 or more"),
    ("initial_fill", -1, "0 or more"),
    ("seed", -1, r"a whole number from 0 to 2\^63 - 1"),
    ("seed", 2**63, r"a whole number from 0 to 2\^63 - 1"),
])  # fmt: skip
def test_bad_settings_are_named(name, value, rule):
    with pytest.raises(ArgumentError, match=f"{name} must be {rule}, got "):
        check_settings({**GOOD, name: value})


@pytest.mark.parametrize(("dtype", "precision", "device", "want"), [
    ("float16", "32-true", "cpu", torch.float16),
    ("auto", "32-true", "cpu", torch.float32),
    ("auto", "bf16-true", "cpu", torch.bfloat16),
    ("auto", "bf16-mixed", "cpu", torch.float32),
    ("auto", "bf16-mixed", "cuda", torch.bfloat16),
    ("auto", "16-mixed", "cuda", torch.float16),
    ("auto", "64-true", "cuda", torch.float32),
])  # fmt: skip
def test_auto_follows_the_precision(dtype, precision, device, want):
    assert image_dtype(dtype, precision, torch.device(device)) == want


def test_number_of_the_gpu():
    assert LoaderSettings().device_id is None
    assert LoaderSettings(device=torch.device("cuda")).device_id == 0
    assert LoaderSettings(device=torch.device("cuda", 3)).device_id == 3


def test_settings_without_a_trainer_are_of_the_cpu():
    found = settings_on(None, 7, {**GOOD, "threads": 3, "initial_fill": 5})
    assert found == LoaderSettings(seed=7, threads=3, initial_fill=5)
    assert settings_on(None, 7, GOOD).threads >= 1
    assert num_local_processes(None) == 1


@pytest.mark.parametrize(
    ("gib", "size", "expected"), [(139, 128, 4096), (80, 64, 4096), (8, 128, 512), (24, 128, 2048), (16, 512, 256)]
)
def test_evaluation_batches_fit_the_memory_of_a_gpu(monkeypatch, gib, size, expected):
    """An eighth of 8 GiB holds 682 images of 128 pixels at 96 bytes a pixel; 512 is a power of 2."""
    properties = SimpleNamespace(total_memory=gib << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert evaluation_batch(torch.device("cuda", 0), size) == expected
    assert evaluation_batch(torch.device("cpu"), size) == 256
