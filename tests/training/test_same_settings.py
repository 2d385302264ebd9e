"""Every argument of fit has a rule for a run that goes on."""

from __future__ import annotations

import re
import tarfile
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastcell.cli.lightning_command import full_parser
from fastcell.errors import ArgumentError
from fastcell.training.same_settings import (
    ARGUMENTS,
    AUTO,
    LATER,
    MAY,
    MORE,
    MUST,
    Change,
    check_settings_of_run,
    flat_settings,
    rule_of,
    settings_of_point,
)

NO_SETTINGS = {"help", "config", "print_config", "trainer", "model", "data", "data.augmentation"}
LINKED = {"model.classes", "model.preprocessing", "model.freeze", "data.steps_per_call"}
"""Arguments that others or the data set decide: not settable in fit."""
OTHERS = {
    "seed_everything": 7,
    "trainer.callbacks": [{"class_path": "pytorch_lightning.callbacks.Timer"}],
    "trainer.plugins": [{"class_path": "fastcell.runs.checkpoint.AtomicCheckpointIO"}],
    "trainer.gradient_clip_algorithm": "norm",
    "trainer.precision": "64-true",
    "trainer.logger": False,
    "trainer.accelerator": "cpu",
    "trainer.max_time": "00:00:10:00",
    "model.network": "gao",
    "model.optimizer": "adam",
    "model.betas": [0.8, 0.99],
    "data.path": "elsewhere",
    "data.split_name": "other",
    "data.subsample": 0.5,
    "preset": "paper",
    "runs": "elsewhere",
    "resume": "elsewhere",
    "ckpt_path": "elsewhere/last.ckpt",
    "trainer.strategy": "ddp",
    "trainer.devices": 2,
    "trainer.profiler": "simple",
    "trainer.default_root_dir": "elsewhere",
    "trainer.model_registry": "name",
    "trainer.max_epochs": 99,
    "trainer.max_steps": 99,
}
"""Another value of arguments whose type does not give one."""
PARSER = full_parser("fit")


def settable() -> list[str]:
    """Names of all arguments of fit, from its parser."""
    names = [action.dest for action in PARSER._actions]
    return [name for name in names if not name.endswith("help") and name not in NO_SETTINGS | LINKED]


def other_value(name: str) -> Any:
    """A value of the argument that is not its default, of the right type."""
    if name in OTHERS:
        return OTHERS[name]
    (action,) = [action for action in PARSER._actions if action.dest == name]
    hints = typing.get_args(action._typehint) or (action._typehint,)
    choices = [value for hint in [action._typehint, *hints] for value in typing.get_args(hint) if value is not None]
    if typing.get_origin(action._typehint) is typing.Literal:
        choices = list(typing.get_args(action._typehint))
    choices = [value for value in choices if isinstance(value, str | int) and value != action.default]
    if choices and not isinstance(choices[0], type):
        return choices[0]
    if bool in hints:
        return not action.default
    return (action.default or 0) + 3


@pytest.fixture(scope="module")
def settings():
    """Settings of a run as its config.yaml has them."""
    text = PARSER.dump(PARSER.get_defaults(), skip_unset=False)
    return flat_settings(yaml.safe_load(text)) | {"model.schedule": "constant", "model.warmup": 0.0}


def test_the_table_is_that_of_the_parser():
    assert {rule_of(name) for name in settable()} == {MUST, MAY, MORE}
    unknown = set(ARGUMENTS) - set(settable()) - {"data.augmentation"}
    assert not unknown


@pytest.mark.parametrize("name", settable())
def test_a_changed_argument(name, settings):
    """Refused by name with both values, or a change that config.yaml gets. An argument without a rule fails here."""
    rule = rule_of(name)
    assert name in settings
    value = other_value(name)
    assert value != settings[name], "no other value was found: add one to OTHERS"
    now = {**settings, name: value}
    if rule == MUST:
        with pytest.raises(ArgumentError) as caught:
            check_settings_of_run(settings, now)
        assert str(caught.value).startswith(f"--{name} of a resumed run must be ")
        assert str(caught.value).count("\n") == 0
        return
    before = {**settings, "trainer.max_epochs": 4, "trainer.max_steps": 8}
    now = {**before, name: value}
    assert check_settings_of_run(before, now) == ([] if name == "resume" else [Change(name, before[name], value)])


@pytest.mark.parametrize("name", settable())
def test_equal_settings_are_no_change(name, settings):
    assert check_settings_of_run(settings, dict(settings)) == []
    without = {key: value for key, value in settings.items() if key != name}
    assert check_settings_of_run(without, settings) == []  # an older version did not have it


@pytest.mark.parametrize("name", sorted(LATER))
def test_a_run_of_an_earlier_version_gets_no_argument_that_it_lacked(name, settings):
    """As ``--freeze features`` behind half of the training."""
    assert settings[name] == LATER[name]
    without = {key: value for key, value in settings.items() if key not in LATER}
    value = OTHERS.get(name, {"data.balance_cap": 4.0, "freeze": "features"}.get(name, "x"))
    before = "null" if LATER[name] is None else LATER[name]
    with pytest.raises(ArgumentError, match=f"--{name} of a resumed run must be {before} as in the run"):
        check_settings_of_run(without, {**settings, name: value})


def test_each_argument_that_old_runs_lack_has_its_value():
    with tarfile.open(Path(__file__).parents[1] / "frozen" / "old" / "made.tar.xz") as archive:
        file = archive.extractfile("finished/config.yaml")
        assert file is not None
        old = flat_settings(yaml.safe_load(file.read()))
    lacking = {name for name in settable() if name not in old and rule_of(name) == MUST}
    assert lacking - {"data.augmentation"} == set(LATER)


@pytest.mark.parametrize(
    ("schedule", "before", "now", "message"),
    [
        ("constant", 4, 8, None),
        ("constant", 4, -1, None),
        ("constant", 8, 4, "must be at least 8 as in the run, got 4"),
        ("constant", -1, 4, "must be at least -1 as in the run, got 4"),
        ("cosine", 4, 8, "must be 4 as in the run, got 8: its learning rate .cosine. is planned over the whole run"),
        ("one_cycle", 4, 8, "its learning rate .one_cycle. is planned"),
        ("warmup", 4, 8, "its learning rate .constant with warmup 0.2. is planned"),
    ],
)
@pytest.mark.parametrize("name", ["trainer.max_epochs", "trainer.max_steps"])
def test_a_longer_run(name, schedule, before, now, message, settings):
    run = {**settings, name: before, "model.schedule": schedule.replace("warmup", "constant")}
    run["model.warmup"] = 0.2 if schedule == "warmup" else 0.0
    if message is None:
        assert check_settings_of_run(run, {**run, name: now}) == [Change(name, before, now)]
    else:
        with pytest.raises(ArgumentError, match=message):
            check_settings_of_run(run, {**run, name: now})


@pytest.mark.parametrize(
    ("name", "chosen", "other"),
    [
        ("data.store", "bank", "stream"),
        ("data.transform", "fused", "dali"),
        ("data.decoder", "threads", "dali"),
        ("data.eval_batch_size", 4096, 256),
        ("model.steps_per_call", 10, 1),
        ("trainer.precision", "32-true", "bf16-mixed"),
    ],
)
def test_the_choice_of_the_machine_may_be_written_down(name, chosen, other, settings):
    assert settings[name] in AUTO[name]
    now = {**settings, name: chosen}
    for is_open in AUTO[name]:
        left = {**settings, name: is_open}
        assert check_settings_of_run(left, now, {name: chosen}) == [Change(name, is_open, chosen)]
        assert check_settings_of_run(now, left, {name: chosen}) == [Change(name, chosen, is_open)]
        if left != settings:  # left to the machine in another way
            assert check_settings_of_run(left, settings, {name: chosen}) == [Change(name, is_open, settings[name])]
    for resolved in ({name: chosen}, {}):
        with pytest.raises(ArgumentError, match=f"--{name} of a resumed run must be"):
            check_settings_of_run(settings, {**settings, name: other}, resolved)


def test_a_point_holds_what_must_not_change_and_no_paths(settings):
    held = settings_of_point(settings)
    assert {"model.learning_rate", "data.augmentation.noise_std", "trainer.max_epochs"} < set(held)
    assert not {"data.path", "runs", "ckpt_path", "trainer.default_root_dir", "data.threads"} & set(held)


def test_the_documentation_has_every_argument_under_its_rule():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "runs-and-formats.md").read_text(encoding="utf-8")
    parts = re.split(r"\*\*(Must be that of the run|May grow, with a constant learning rate|May change):\*\*", text)
    told = {
        rule.lower(): set(re.findall(r"`([a-z_.]+)`", body.partition(".\n")[0].partition(". A run")[0]))
        for rule, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    for rule in (MUST, MAY, MORE):
        assert told[rule] == {name for name, its in ARGUMENTS.items() if its == rule}


def test_parts_of_arguments_and_foreign_names():
    values = {
        "trainer": {"logger": {"class_path": "x"}, "unknown": 1},
        "data": {"augmentation": {"scale": 0.1}},
        "a": 2,
    }
    assert flat_settings(values) == {"trainer.logger": {"class_path": "x"}, "data.augmentation.scale": 0.1}
    with pytest.raises(KeyError, match="unheard"):
        rule_of("unheard.of")
