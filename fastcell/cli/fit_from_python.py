"""``fastcell fit`` from Python: the same run, with typed scores at its end and after each epoch."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl

from fastcell.cli.lightning_command import run
from fastcell.errors import DataError
from fastcell.runs.run_folder import METRICS_FILE
from fastcell.storage.whole_files import read_json_file


class EpochScores(NamedTuple):
    """Scores at a validation pass of a training.

    Attributes:
        epoch: number of the epoch, from 0.
        step: optimizer steps done.
        train: latest ``loss`` and ``accuracy`` of training.
        valid: ``loss``, ``accuracy``, ``balanced_accuracy`` and own metrics of the validation subset.
    """

    epoch: int
    step: int
    train: dict[str, float]
    valid: dict[str, float]


class FitResult(NamedTuple):
    """A finished run.

    Attributes:
        run: run folder, for `fastcell.load` and the commands.
        scores: content of metrics.json; scores of the test subset with intervals are under ``test``.
        epochs: scores of each validation pass, in order.
    """

    run: Path
    scores: dict[str, Any]
    epochs: list[EpochScores]


def fit(
    data: str | os.PathLike[str],
    *,
    preset: str = "demo",
    out: str | os.PathLike[str] = "runs",
    settings: Mapping[str, Any] | None = None,
    on_epoch: Callable[[EpochScores], object] | None = None,
    verbose: bool = True,
) -> FitResult:
    """Train a classifier in a new run folder, like ``fastcell fit``, and return its scores.

    Args:
        data: packed data set.
        preset: ``demo``, ``paper``, ``fast`` or ``thorough``.
        out: parent folder of the new run folder.
        settings: further options by the names of the command line without dashes, such as
            ``{"model.network": "gao", "trainer.max_epochs": 5, "freeze": "features"}``.
        on_epoch: function called with the scores of each validation pass. An exception that it raises ends the training
            and is passed on; the run folder remains and can be resumed.
        verbose: print what the command prints.

    Raises:
        FastcellError: the errors of the command.

    Examples:
        >>> import fastcell  # doctest: +SKIP
        >>> result = fastcell.fit("cells", preset="fast", settings={"trainer.max_epochs": 3})  # doctest: +SKIP
        >>> result.epochs[-1].valid["balanced_accuracy"]  # doctest: +SKIP
        0.81
    """
    words = [f"--data.path={os.fspath(data)}", f"--preset={preset}", f"--runs={os.fspath(out)}"]
    words += [f"--{name}={setting_as_text(value)}" for name, value in (settings or {}).items()]
    if not verbose:
        words.append("--trainer.enable_progress_bar=false")
    record = _EpochRecord(on_epoch)
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
        folder = run("fit", words, [record])
    scores = None if folder is None else read_json_file(folder / METRICS_FILE)
    if folder is None or not isinstance(scores, dict):
        raise DataError(f"the run {folder} has no scores. Look at its messages (verbose=True).")
    return FitResult(folder, scores, record.epochs)


class _EpochRecord(pl.Callback):
    """Keep the scores of each validation pass, and pass them on."""

    def __init__(self, on_epoch: Callable[[EpochScores], object] | None) -> None:
        self.on_epoch = on_epoch
        self.epochs: list[EpochScores] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or (not trainer.validating and not trainer.training):
            return
        if trainer.state.fn != "fit":
            return
        valid = {
            name.removeprefix("valid_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("valid_")
        }
        train = dict(getattr(pl_module, "last_scores", {}))
        self.epochs.append(EpochScores(trainer.current_epoch, trainer.global_step, train, valid))
        if self.on_epoch is not None:
            self.on_epoch(self.epochs[-1])


def setting_as_text(value: Any) -> str:
    """Return a value in the form of the command line."""
    return value if isinstance(value, str) else json.dumps(value)
