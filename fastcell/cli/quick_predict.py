"""``fastcell predict`` with a prepared backend: one process that imports neither torch nor Lightning.

This module understands only the options that are needed. With any other option or an invalid value, Lightning's command
line runs the command, and reports errors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from fastcell.cli.next_steps import after_predict, show_next
from fastcell.cli.options import packages_of
from fastcell.cli.signature import folded
from fastcell.dataset.corrupt_cells import ON_BAD_CELL
from fastcell.dataset.schema import SPLITS
from fastcell.inference.backends.choice import open_prepared, read_choice, resolve
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.inference.backends.programs import BackendChoice, PrecisionChoice
from fastcell.remote.addresses import scheme_of
from fastcell.runs.run_folder import find_checkpoint
from fastcell.system import library_settings, resources
from fastcell.system.messages import print_line

if TYPE_CHECKING:
    from fastcell.inference.backends.interface import NetworkBackend
    from fastcell.remote.object_cache import ObjectCache

_SHORT = {"-o": "--out", "--data": "--data.path"}
_NUMBERS = {"--data.eval_batch_size": range(1, 1 << 20), "--data.threads": range(1025)}
_FRACTIONS = ("--data.cache_gib",)
_SHARES = ("--min_confidence", "--accuracy")
_ALLOWED: dict[str, tuple[str, ...] | None] = {
    "--ckpt_path": None,
    "--data.path": None,
    "--out": None,
    "--data.split_name": None,
    "--data.predict_split": SPLITS,
    "--data.eval_batch_size": None,
    "--data.threads": None,
    "--data.cache": None,
    "--data.cache_gib": None,
    "--data.on_bad_cell": ON_BAD_CELL,
    "--tta": ("true", "false"),
    **dict.fromkeys(_SHARES),
    "--backend": get_args(BackendChoice),
    "--precision": get_args(PrecisionChoice),
    "--engine": ("loky", "dask"),
    "--scheduler": None,
    "--trust": None,
    "--trainer.accelerator": ("auto", "cpu"),
    "--trainer.devices": ("auto", "1"),
}
"""Options that are understood, with their allowed values; None for any value."""


def predict_quickly(words: Sequence[str]) -> list[str] | None:
    """Run the command if a backend without torch can do it.

    Args:
        words: arguments of ``fastcell predict``.

    Returns:
        None if the command was run; else the arguments for Lightning's command line, with the chosen backend.

    Raises:
        FastcellError: the command fails.
    """
    values = understood(words)
    if values is None:
        return list(words)
    if scheme_of(values["--data.path"]) is None and not (Path(values["--data.path"]) / "dataset.json").is_file():
        return list(words)
    backend = values.get("--backend")
    if resources.has_gpu() and backend is None and values.get("--trainer.accelerator") != "cpu":
        return list(words)
    checkpoint = find_checkpoint(Path(values["--ckpt_path"]))
    if not checkpoint.is_file():
        return list(words)
    trust = packages_of(values.get("--trust"))
    program, precision = resolve(checkpoint, backend, values.get("--precision", "auto"), say=print_line, trust=trust)
    if program == "torch" and not {"--backend", "--precision"} & set(values):
        return list(words)
    if program == "torch":
        return [*words, "--backend=torch", f"--precision={precision}"]
    _predict(values, checkpoint, program, precision)
    return None


def understood(words: Sequence[str]) -> dict[str, str] | None:
    """Return the values of the options by name; None if an option is not understood, or RUN, DATA or OUT is missing."""
    values: dict[str, str] = {}
    positional: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            positional.append(word)
            continue
        name, sign, value = word.partition("=")
        name = folded(name) if name.startswith("--") else name
        name = _SHORT.get(name, name)
        if name not in _ALLOWED:
            return None
        if not sign:
            if name == "--tta" and (not rest or rest[0] not in ("true", "false")):
                value = "true"
            elif not rest or rest[0].startswith("-"):
                return None
            else:
                value = rest.pop(0)
        values[name] = value
    unnamed = [name for name in ("--ckpt_path", "--data.path") if name not in values]
    if len(positional) != len(unnamed) or not values.get("--out", "").endswith((".csv", ".parquet", ".fcs")):
        return None
    values |= dict(zip(unnamed, positional, strict=True))
    for name, value in values.items():
        allowed = _ALLOWED[name]
        if allowed is not None and value not in allowed:
            return None
        if name in _NUMBERS and not (value.isdecimal() and int(value) in _NUMBERS[name]):
            return None
        if name in (*_SHARES, *_FRACTIONS) and _number(value) is None:
            return None
    return values


def _cache(values: dict[str, str]) -> ObjectCache:
    from fastcell.remote.object_cache import ObjectCache

    gib = values.get("--data.cache_gib")
    return ObjectCache.of(values.get("--data.cache"), None if gib is None else float(gib))


def _number(text: str | None) -> float | None:
    """Return a text as a number; None if it is not a number."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _predict(values: dict[str, str], checkpoint: Path, program: str, precision: str) -> None:
    from fastcell.dataset.manifest import Manifest
    from fastcell.inference.beside_weights import join_content
    from fastcell.predictions.answer_limits import answer_limits
    from fastcell.predictions.table import check_output
    from fastcell.predictions.without_trainer import PredictionTask, predict_without_trainer

    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    out = check_output(values["--out"])
    threads = int(values.get("--data.threads", "0")) or resources.num_cpus()
    files = NetworkFiles(checkpoint)
    backend, network = open_prepared(files, program, precision, threads)
    if not {"--engine", "--scheduler"} & set(values):
        threading.Thread(target=_open_session, args=(backend, network.preprocessing.image_size)).start()
    cache = _cache(values)
    task = PredictionTask(
        Manifest.open(values["--data.path"], cache),
        checkpoint,
        out,
        values.get("--data.split_name", "default"),
        values.get("--data.predict_split"),  # type: ignore[arg-type]
        int(values.get("--data.eval_batch_size", "256")),
        threads,
        values["--tta"] == "true" if "--tta" in values else network.tta,
        values.get("--data.on_bad_cell", "replace"),
        "--engine" in values,
        cache,
    )
    print_line(describe_backend(files, program, precision))
    least, accuracy = (_number(values.get(name)) for name in _SHARES)
    limits = answer_limits(join_content(network.values, files.arrays()), network.classes, least, accuracy)
    jobs = threads if "--data.threads" in values else None
    with _engine(values, jobs):
        predict_without_trainer(task, backend, network, limits)
    show_next(*after_predict(out, checkpoint))


def _open_session(backend: NetworkBackend, size: int) -> None:
    """Compile the network, which the first batch does, while another thread opens the data set.

    An error here is raised again by the first batch.
    """
    with suppress(Exception):
        backend.run(np.zeros((2, 1, size, size), np.float32))


def _engine(values: dict[str, str], jobs: int | None) -> AbstractContextManager[object]:
    if not {"--engine", "--scheduler"} & set(values):
        return nullcontext()
    from fastcell.system.engines import use_engine

    reads = [values["--data.path"], values["--ckpt_path"]]
    return use_engine(values.get("--engine"), values.get("--scheduler"), jobs, "--engine", reads)  # type: ignore[arg-type]


def describe_backend(files: NetworkFiles, program: str, precision: str) -> str:
    """Return a line with the backend and its recorded agreement with torch."""
    choice = read_choice(files)
    found = None if choice is None else choice.find(program, precision)
    if found is None or found.agreement is None:
        return f"backend {program} {precision}; its agreement with torch is not known, --backend auto finds it"
    return f"backend {program} {precision}: {found.agreement.describe()}"
