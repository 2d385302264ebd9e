"""Page sections of a run: scores, network figures, speed and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.errors import DataError
from fastcell.inference.probabilities import Outputs
from fastcell.report.page_elements import PageTable, Picture, Section, embed_png, percent
from fastcell.runs.open_run import FinishedRun
from fastcell.stats.scores import MEASURES, class_notes, describe_unit, is_defined, summarize

# Shares of the training time spent waiting for cells: negligible below the first, limiting above the second.
_LITTLE, _MUCH = 0.1, 0.5
_FIGURES = {
    "calibration": "Calibration",
    "roc_pr": "Each class against the rest",
    "reject": "Accuracy of the most confident cells",
    "network": "The network",
    "filters": "Filters of the first convolutions",
    "occlusion": "Occlusion maps of single cells",
    "occlusion_mean": "Mean occlusion map of each class",
    "embedding": "Embedding of the layer outputs",
    "errors": "The most confident errors",
}
SCORE_FIGURES = ("calibration", "roc_pr", "reject")
_OVERALL = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "one_vs_rest_accuracy": "one against the rest (equation 6)",
}
_MOST_JSON_BYTES = 64 << 20
_NUMBERS, _TEXTS, _LINES = "an object of numbers", "an object of texts", "a list of texts"
_KINDS = {
    "a number": lambda value: _is_number(value),
    "a text": lambda value: isinstance(value, str),
    "a list": lambda value: isinstance(value, list),
    "an object": lambda value: isinstance(value, dict),
    _NUMBERS: lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    _LINES: lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value),
    _TEXTS: lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
}
ENVIRONMENT = {
    "memory_bytes": "a number",
    "gpus": "a list",
    "packages": "an object",
    "started_from": "an object",
    "teacher": "an object",
}
METRICS = {"cautions": _LINES, "cells_per_s": _NUMBERS, "seconds": _NUMBERS, "train_waited_s": "a number"}
EXPLAIN = {
    "checkpoint": "a text",
    "cells": "a text",
    "captions": _TEXTS,
    "left_out": _TEXTS,
    "seconds": _NUMBERS,
}
STUDY = {
    "study": "a text",
    "data": "a text",
    "path": "a text",
    "source": "a text",
    "source_cells": "a number",
    "methods": "a list",
    "changes": "a list",
    "settings": "an object",
    "schemes": "an object",
    "environment": "an object",
    "cautions": _LINES,
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, str], path: Path) -> None:
    """Check the types of the values that a page reads from a file. Missing and null values are allowed.

    Args:
        values: Content of the file.
        kinds: Required kind by name, one of the keys of `_KINDS`.
        path: Path of the file, for the error message.

    Raises:
        DataError: A value is of another kind.
    """
    for name, kind in kinds.items():
        value = values.get(name)
        if value is not None and not _KINDS[kind](value):
            raise DataError(
                f"{path} must have {kind} under {name!r}, got {str(value)[:60]!r}. Remove it, or write it again."
            )


def read_json(path: Path, kinds: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read a JSON object of a run, without its null values; return an empty dict if the file does not exist.

    Args:
        path: Path of the file.
        kinds: Required kinds of values, see `check_kinds`.

    Raises:
        DataError: The file exists but is not a JSON object, is too large, or holds a value of another kind.
    """
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ValueError(f"it has more than {_MOST_JSON_BYTES >> 20} MiB")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} must be JSON written by fastcell, but: {error}. Remove it, or write it again."
        ) from None
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold a JSON object, got a {type(values).__name__}. Remove it, or write it again.")
    check_kinds(values, kinds or {}, path)
    return {name: value for name, value in values.items() if value is not None}


def scores_section(run: FinishedRun, outputs: Mapping[str, Outputs]) -> tuple[Section, dict[str, Any]]:
    """Return the section with Tables III and IV of the paper for the given subsets, and with the training curves.

    Args:
        run: The finished run.
        outputs: Network outputs by subset.

    Returns:
        The section, and the scores by subset in the form of `fastcell.stats.scores.summarize`.
    """
    section = Section("scores", "Scores")
    classes = run.model.classes
    summaries = {
        part: summarize(cells.labels, cells.probabilities.argmax(axis=1), classes, cells.groups)
        for part, cells in outputs.items()
    }
    rows = []
    for part, summary in summaries.items():
        values: Any = summary
        rows.append([SUBSET_NAMES[part], f"{values['num_cells']:,}", *(_spread(values[name]) for name in _OVERALL)])
    caption = f"Scores over all classes, with 95 % intervals in brackets, {_unit(summaries)}"
    section.tables.append(PageTable(["subset", "cells", *_OVERALL.values()], rows, caption))
    for part, summary in summaries.items():
        section.tables.append(_by_class(part, summary))
    curves = run.folder / "curves.png"
    if curves.is_file():
        alt = "Loss and accuracy by iteration, training and validation subset"
        section.pictures.append(embed_png(curves, "Training", alt=alt))
    return section, summaries


def _by_class(part: str, summary: Mapping[str, Any]) -> PageTable:
    rows = [
        [name, f"{values['num_cells']:,}", *(_spread(values[measure]) for measure in MEASURES)]
        for name, values in summary["classes"].items()
    ]
    header = ["class", "cells", *(measure.replace("_", "-") for measure in MEASURES)]
    notes = "".join(f"; {name}: {note}" for name, note in class_notes(summary))
    return PageTable(header, rows, f"By class, {SUBSET_NAMES[part]} subset{notes}")


def _unit(summaries: Mapping[str, Any]) -> str:
    units = {part: describe_unit(summary) for part, summary in summaries.items()}
    if len(set(units.values())) == 1:
        return next(iter(units.values()))
    return "; ".join(f"{SUBSET_NAMES[part]}: {text}" for part, text in units.items())


def _spread(value: Mapping[str, Any]) -> str:
    if not is_defined(value):
        return "-"
    low, high = value["low"], value["high"]
    known = low is not None and high is not None and not np.isnan(low + high)
    return f"{value['value']:.3f}" + (f" ({low:.3f} to {high:.3f})" if known else "")


def explanation_pictures(folder: Path, summary: Mapping[str, Any], names: tuple[str, ...] | None) -> list[Picture]:
    """Return the figures of `fastcell explain` that exist.

    Args:
        folder: Folder of the figures.
        summary: Content of explain.json.
        names: Names of the wanted figures; None for all except the score figures.
    """
    captions: Mapping[str, str] = summary.get("captions", {})
    wanted = names if names is not None else [name for name in captions if name not in SCORE_FIGURES]
    return [
        embed_png(folder / f"{name}.png", _FIGURES.get(name, name), alt=captions[name])
        for name in wanted
        if name in captions and (folder / f"{name}.png").is_file()
    ]


def learnt_from(environment: Mapping[str, Any], hparams: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each setting, apart from the data, from which a network has learnt or which restricted its
    training.

    Args:
        environment: Contents of environment.json.
        hparams: Arguments of the model.
        settings: Section `data` of config.yaml.
    """
    lines = []
    if isinstance(start := environment.get("started_from"), dict):
        taken, anew = (len(start.get(name) or ()) for name in ("taken", "anew"))
        lines.append(f"Training started from the weights of {start.get('source')}: {taken} of {taken + anew} tensors.")
    if frozen := hparams.get("freeze"):
        lines.append(f"Parts that were not trained: {', '.join(map(str, frozen))}.")
    if rates := hparams.get("part_learning_rates"):
        listed = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        lines.append(f"Parts with a peak learning rate of their own: {listed}.")
    if isinstance(teacher := environment.get("teacher"), dict):
        share, temperature = (float(teacher.get(name) or 0) for name in ("share", "temperature"))
        lines.append(
            f"The probabilities of {teacher.get('source')} made {100 * share:g} % of the loss, at temperature "
            f"{temperature:g}."
        )
    if changes := settings.get("batch_augmentation"):
        name = changes.get("class_path") if isinstance(changes, dict) else changes
        lines.append(f"{name} changed each batch of training, beside the augmentation under Data.")
    return lines


def speed_section(metrics: Mapping[str, Any], bench: Mapping[str, Any], on_gpu: bool = False) -> Section:
    """Return the section with cells/s of each stage, the factor that limited training, and results of `fastcell bench`.

    Args:
        metrics: Content of metrics.json.
        bench: Content of the file written by `fastcell bench --out`; empty if there is none.
        on_gpu: Whether the run used a GPU.

    Raises:
        DataError: `bench` is not the output of `fastcell bench`.
    """
    section = Section("speed", "Speed")
    rates, seconds = metrics.get("cells_per_s", {}), metrics.get("seconds", {})
    rows = [[stage, f"{rate:,.0f}", f"{seconds.get(stage, 0):,.1f}"] for stage, rate in rates.items()]
    if rows:
        section.tables.append(PageTable(["stage", "cells/s", "seconds"], rows, "This run, loading included"))
    else:
        section.paragraphs.append("The run has no rates, because it did not finish.")
    waited, total = metrics.get("train_waited_s"), seconds.get("train", 0)
    if waited is not None and total:
        section.paragraphs.append(what_bound(waited / total, on_gpu))
    if bench:
        try:
            rows = [
                [row["part"], f"{row['cells_per_s']:,.0f}", f"{row['low']:,.0f} to {row['high']:,.0f}", row["what"]]
                for row in bench["rows"]
            ]
            section.paragraphs += [str(line) for line in bench.get("conclusions", [])]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"--bench must be a file written by fastcell bench --out, but: {error!r}. Write it again."
            ) from None
        header = ["part", "cells/s, median", "slowest to fastest round", "work"]
        section.tables.append(PageTable(header, rows, "fastcell bench: throughput of each part on this machine"))
    return section


def what_bound(share: float, on_gpu: bool = False) -> str:
    """Return a sentence that states whether the network or the loading of cells limited training.

    Args:
        share: Share of the training time, 0 to 1, during which the host waited for the next batch.
        on_gpu: Whether training ran on a GPU. A GPU continues to work while the host waits, so a large share does not
            prove that loading limited training.
    """
    waiting = f"Training waited for the next batch for {percent(share)} of its time"
    if share < _LITTLE:
        return f"{waiting}: the network limited the speed, not the loading of cells."
    if on_gpu:
        return (
            f"{waiting}, measured on the host. The GPU may have worked meanwhile: fastcell bench finds the bottleneck."
        )
    if share > _MUCH:
        return (
            f"{waiting}: loading cells limited the speed. fastcell bench finds the slowest step, and a faster layout."
        )
    return f"{waiting}: the network took most of the time, and the loading of cells a noticeable part."


def environment_section(environment: Mapping[str, Any]) -> Section:
    """Return the section with the machine and the versions of the packages."""
    section = Section("environment", "Environment")
    if not environment:
        section.paragraphs.append("The run has no environment.json.")
        return section
    commit = f", commit {str(environment['commit'])[:12]}" if environment.get("commit") else ""
    machine = {
        "fastcell": f"{environment.get('fastcell')}{commit}",
        "Python": environment.get("python"),
        "system": environment.get("platform"),
        "processor": f"{environment.get('cpu')}, {environment.get('num_cpus')} cores",
        "memory": f"{(environment.get('memory_bytes') or 0) / 2**30:,.1f} GiB",
        "GPU": "; ".join(map(str, environment.get("gpus") or [])) or "none",
        "CUDA of the driver": environment.get("driver_cuda") or "none",
    }
    rows = [[name, str(value)] for name, value in machine.items()]
    section.tables.append(PageTable(["", ""], rows, "Machine", 2))
    packages = [[name, str(version)] for name, version in (environment.get("packages") or {}).items()]
    section.tables.append(PageTable(["package", "version"], packages, "Versions", 2))
    return section
