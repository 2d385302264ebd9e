"""Arguments of ``fit`` that must not change when a run is resumed, and those that may change.

`ARGUMENTS` holds every argument. Arguments that affect the result must stay unchanged: data, preprocessing, network,
loss, optimisation, precision, store and seed. A run with a constant learning rate may get more epochs or steps. With
any other schedule, the learning rate of each step depends on the length of the run, so the steps already taken would
not fit a new length, and a new length is refused. Allowed changes are recorded in config.yaml with their date.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastcell.errors import ArgumentError

MUST, MAY, MORE = "must be that of the run", "may change", "may grow, with a constant learning rate"

_WORDS = {
    MUST: """
        seed_everything trainer.precision trainer.callbacks trainer.fast_dev_run trainer.min_epochs trainer.min_steps
        trainer.limit_train_batches trainer.limit_val_batches trainer.limit_test_batches trainer.overfit_batches
        trainer.val_check_interval trainer.check_val_every_n_epoch trainer.enable_checkpointing
        trainer.accumulate_grad_batches trainer.gradient_clip_val trainer.gradient_clip_algorithm
        trainer.use_distributed_sampler trainer.barebones trainer.plugins trainer.sync_batchnorm
        trainer.reload_dataloaders_every_n_epochs
        model.network model.input_norm model.init model.loss model.metrics model.label_smoothing model.optimizer
        model.learning_rate model.weight_decay model.betas model.schedule model.warmup
        model.final_learning_rate model.ema_decay model.tta model.decision_shift model.steps_per_call
        model.part_learning_rates data.batch_augmentation
        data.split_name data.batch_size data.eval_batch_size data.image_size data.fit data.scale_um_per_px
        data.normalization data.antialias data.augment data.augmentation data.balance data.balance_cap
        data.subsample data.quality
        data.store data.transform data.decoder data.depth data.dtype data.initial_fill data.seed
        preset ckpt_path start_from freeze teacher teacher_temperature teacher_share select""",
    MORE: "trainer.max_epochs trainer.max_steps",
    MAY: """
        trainer.accelerator trainer.strategy trainer.devices trainer.num_nodes trainer.logger trainer.max_time
        trainer.limit_predict_batches trainer.num_sanity_val_steps trainer.log_every_n_steps
        trainer.enable_progress_bar trainer.enable_model_summary trainer.deterministic trainer.benchmark
        trainer.inference_mode trainer.profiler trainer.detect_anomaly trainer.default_root_dir
        trainer.enable_autolog_hparams trainer.model_registry
        model.channels_last model.compile_network model.cuda_graph
        data.path data.predict_split data.bank_gib data.threads data.cache data.cache_gib data.on_bad_cell
        runs resume checkpoint_every_steps checkpoint_every_minutes trust allow_absent""",
}
ARGUMENTS = {name: rule for rule, words in _WORDS.items() for name in words.split()}
"""Rule of each argument of ``fit``, by its name without dashes: `MUST`, `MORE` or `MAY`."""

AUTO: dict[str, tuple[Any, ...]] = {
    "data.store": ("auto",),
    "data.transform": ("auto",),
    "data.decoder": ("auto",),
    "data.eval_batch_size": (None,),
    "model.steps_per_call": (None,),
    "trainer.precision": (None, "auto"),
}
"""Arguments whose value can be chosen automatically, and the values that request this choice. It is no change to give
the value that was chosen in the run, or to request the automatic choice by another of these values.
"""

LATER: dict[str, Any] = {
    "data.balance_cap": None,
    "data.batch_augmentation": None,
    "freeze": None,
    "model.decision_shift": 0.0,
    "model.metrics": None,
    "model.part_learning_rates": None,
    "start_from": None,
    "teacher": None,
    "teacher_share": 0.7,
    "teacher_temperature": 2.0,
}
"""Arguments that runs of earlier versions lack, with the value that was in effect in those runs."""

_NESTED = {"data.augmentation"}
_OF_A_PLACE = {"preset", "ckpt_path", "start_from", "teacher"}


class Change(NamedTuple):
    """An argument whose value differs from that of the run."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {_text(self.before)} -> {_text(self.now)}"


def rule_of(name: str) -> str:
    """Return the rule of an argument, or of the argument that contains a dotted name.

    Raises:
        KeyError: the argument has no rule.
    """
    while name not in ARGUMENTS:
        if "." not in name:
            raise KeyError(name)
        name = name.rpartition(".")[0]
    return ARGUMENTS[name]


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name, without those that are not arguments of ``fit``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and (name in _NESTED or not _has_rule(name)):
            found |= flat_settings(value, f"{name}.")
        elif _has_rule(name):
            found[name] = value
    return found


def settings_of_point(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a resume point stores: all settings that must not change, except paths and names."""
    return {name: value for name, value in settings.items() if rule_of(name) != MAY and name not in _OF_A_PLACE}


def check_settings_of_run(
    before: Mapping[str, Any], now: Mapping[str, Any], resolved: Mapping[str, Any] | None = None
) -> list[Change]:
    """Check the settings with which a run is to be resumed.

    Args:
        before: settings of the run by dotted name. An argument is missing if the version that wrote them did not have
            it. It is then compared with the value in `LATER`, or not at all.
        now: requested settings.
        resolved: values that were chosen in the run for the settings in `AUTO`.

    Returns:
        The allowed changes, in the order of `now`.

    Raises:
        ArgumentError: a setting differs that must not differ. The message gives its name and both values.
    """
    before = {**LATER, **before}
    changes = [
        Change(name, before[name], value)
        for name, value in now.items()
        if name in before and before[name] != value and name != "resume"
    ]
    for change in changes:
        rule = rule_of(change.name)
        if rule == MUST and not _is_choice(change, resolved or {}):
            raise ArgumentError(
                f"--{change.name} of a resumed run must be {_text(change.before)} as in the run, got "
                f"{_text(change.now)}. Leave it out, or start a new run."
            )
        if rule == MORE:
            _check_growth(change, before)
    return changes


def _is_choice(change: Change, resolved: Mapping[str, Any]) -> bool:
    """Return True if one value requests the automatic choice, and the other requests it too or is the chosen value."""
    if change.name not in AUTO:
        return False
    chosen, is_open = resolved.get(change.name), AUTO[change.name]
    return chosen is not None and all(value in (*is_open, chosen) for value in (change.before, change.now))


def _check_growth(change: Change, before: Mapping[str, Any]) -> None:
    if not _at_least(change.now, change.before):
        raise ArgumentError(
            f"--{change.name} of a resumed run must be at least {_text(change.before)} as in the run, got "
            f"{_text(change.now)}. Leave it out, or start a new run."
        )
    schedule, warmup = before.get("model.schedule", "constant"), before.get("model.warmup") or 0.0
    if schedule != "constant" or warmup:
        why = f"{schedule}" + (f" with warmup {warmup:g}" if warmup else "")
        raise ArgumentError(
            f"--{change.name} of a resumed run must be {_text(change.before)} as in the run, got "
            f"{_text(change.now)}: its learning rate ({why}) is planned over the whole run, and the steps that were "
            "taken would be those of another. Start a new run of that length."
        )


def _at_least(now: Any, before: Any) -> bool:
    """Return whether a limit is at least another one; -1 and null mean no limit."""
    no_limit = (None, -1)
    if now in no_limit:
        return True
    return before not in no_limit and now >= before


def _has_rule(name: str) -> bool:
    try:
        rule_of(name)
    except KeyError:
        return False
    return True


def _text(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
