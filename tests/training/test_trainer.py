"""The trainer, and what auto means on this machine."""

from types import SimpleNamespace

import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.system import resources
from fastcell.training.trainer import (
    STEPS_PER_CALL,
    build_trainer,
    check_trains,
    choose_steps_per_call,
    machine_precision,
    resolve_settings,
)


def test_a_trainer_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = build_trainer(torch.device("cpu"), max_steps=7, max_epochs=-1)
    assert trainer.strategy.root_device == torch.device("cpu")
    assert (trainer.precision, trainer.max_steps, trainer.max_epochs) == ("32-true", 7, -1)
    assert trainer.loggers == []
    assert trainer.checkpoint_callback is None
    assert trainer.progress_bar_callback is None
    assert not any(tmp_path.iterdir())


def test_settings_replace_the_defaults():
    trainer = build_trainer(torch.device("cpu"), precision="bf16-mixed", gradient_clip_val=0.5)
    assert (trainer.precision, trainer.gradient_clip_val) == ("bf16-mixed", 0.5)


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_open_settings_are_filled_in(monkeypatch, bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    for has_gpu, expected in ((False, ("cpu", "32-true", True, None)), (True, ("gpu", precision, False, True))):
        monkeypatch.setattr(resources, "has_gpu", lambda answer=has_gpu: answer)
        settings = SimpleNamespace(accelerator="auto", precision=None, deterministic=None, benchmark=None)
        assert tuple(resolve_settings(settings).values()) == expected
        assert settings == SimpleNamespace(accelerator="auto", precision=None, deterministic=None, benchmark=None)
    given = SimpleNamespace(accelerator="cpu", precision="64-true", deterministic=False, benchmark=None)
    assert tuple(resolve_settings(given).values()) == ("cpu", "64-true", False, None)
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert machine_precision(False) == "32-true"


def test_a_run_that_goes_on_keeps_its_precision(monkeypatch):
    monkeypatch.setattr(resources, "has_gpu", lambda: False)
    settings = SimpleNamespace(accelerator="auto", precision=None, deterministic=None, benchmark=None)
    assert resolve_settings(settings, "bf16-mixed")["precision"] == "bf16-mixed"
    with pytest.raises(
        ArgumentError, match="precision of a resumed run must be one that a CPU supports, got '16-mixed'"
    ):
        resolve_settings(settings, "16-mixed")


def test_auto_times_a_cpu_once_and_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for has_gpu, before, expected, times in (
        (False, None, "chosen", 1),
        (False, "32-true", "32-true", 0),
        (True, None, "bf16-mixed", 0),
    ):
        monkeypatch.setattr(resources, "has_gpu", lambda answer=has_gpu: answer)
        settings = SimpleNamespace(accelerator="auto", precision="auto", deterministic=None, benchmark=None)
        timed = []
        found = resolve_settings(settings, before, lambda timed=timed: timed.append(1) or "chosen")
        assert (found["precision"], len(timed)) == (expected, times)


@pytest.mark.parametrize("name", ["max_epochs", "max_steps", "limit_train_batches"])
def test_a_run_without_steps_is_refused(name):
    limits = {"max_epochs": 1, "max_steps": -1, "limit_train_batches": None}
    check_trains(SimpleNamespace(**limits))
    for value in (0, 0.0):
        with pytest.raises(ArgumentError, match=f"--trainer.{name} must be above 0"):
            check_trains(SimpleNamespace(**{**limits, name: value}))
    if name != "limit_train_batches":
        with pytest.raises(ArgumentError, match=f"--trainer.{name} must be above 0, or -1 for no limit, got -2"):
            check_trains(SimpleNamespace(**{**limits, name: -2}))


@pytest.mark.parametrize(("deterministic", "given", "expected"), [(True, None, None), (None, False, False)])
def test_cudnn_times_no_algorithm_if_a_run_must_repeat_or_the_user_says_no(monkeypatch, deterministic, given, expected):
    settings = SimpleNamespace(accelerator="gpu", precision="32-true", deterministic=deterministic, benchmark=given)
    assert resolve_settings(settings)["benchmark"] is expected


GPU = {
    "accelerator": "gpu",
    "devices": 1,
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "fast_dev_run": False,
    "overfit_batches": 0.0,
    "callbacks": None,
    "limit_train_batches": None,
    "val_check_interval": None,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, STEPS_PER_CALL),
        ({"accelerator": "auto", "devices": "auto"}, STEPS_PER_CALL),
        ({"devices": [0]}, STEPS_PER_CALL),
        ({"val_check_interval": 0.25, "limit_train_batches": 0.5}, STEPS_PER_CALL),
        ({"val_check_interval": 100}, 1),
        ({"limit_train_batches": 50}, 1),
        ({"accumulate_grad_batches": 2}, 1),
        ({"gradient_clip_val": 0.5}, 1),
        ({"devices": 2}, 1),
        ({"devices": "auto", "num_nodes": 2}, 1),
        ({"overfit_batches": 3}, 1),
        ({"callbacks": [object()]}, 1),
        ({"fast_dev_run": True}, 1),
        ({"accelerator": "cpu"}, 1),
    ],
)
def test_one_gpu_makes_several_steps_in_a_call_where_nothing_counts_calls(monkeypatch, changes, expected):
    monkeypatch.setattr(resources, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_steps_per_call(SimpleNamespace(**{**GPU, **changes})) == expected


def test_several_gpus_and_a_cpu_make_one_step_in_a_call(monkeypatch):
    monkeypatch.setattr(resources, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_steps_per_call(SimpleNamespace(**{**GPU, "accelerator": "auto", "devices": "auto"})) == 1
    monkeypatch.setattr(resources, "has_gpu", lambda: False)
    assert choose_steps_per_call(SimpleNamespace(**{**GPU, "accelerator": "auto", "devices": "auto"})) == 1
