"""``fastcell distill`` from Python: train a small, fast network that learns from a trained one."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastcell.cli.fit_from_python import setting_as_text
from fastcell.cli.lightning_command import run as run_with_lightning
from fastcell.dataset.manifest import Manifest
from fastcell.loading.preprocessing import Preprocessing
from fastcell.models.soft_losses import SHARE, TEMPERATURE, check_distillation
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.open_run import read_data_settings
from fastcell.runs.run_folder import CONFIG_FILE, DISTILLATION_FILE, find_checkpoint
from fastcell.splits.obstacles import refuse_obstacles, split_obstacles
from fastcell.storage.places import check_output_folder
from fastcell.storage.whole_files import write_json
from fastcell.system.messages import print_line
from fastcell.training.distillation.candidates import (
    CANDIDATES,
    TimedCandidate,
    check_candidate,
    choose_candidate,
    fastest_program,
    read_budget,
    time_candidates,
)
from fastcell.training.distillation.student_scores import StudentScores, score_student
from fastcell.training.recipe import read_recipe

LENGTH = 3
"""Length of a student's training, as a multiple of the epochs or steps of the preset."""


class DistilledRun(NamedTuple):
    """A student network and its scores.

    Attributes:
        run: run folder of the student, for `fastcell.load` and the commands.
        chosen: chosen network and image size, with its time.
        scores: scores of student and teacher, as in distillation.json of the run.
    """

    run: Path
    chosen: TimedCandidate
    scores: StudentScores


def distill(
    teacher: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    budget: str = "10us",
    out: str | os.PathLike[str] = "runs",
    preset: str = "fast",
    temperature: float = TEMPERATURE,
    share: float = SHARE,
    settings: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
    allow_absent: bool = False,
    verbose: bool = True,
) -> DistilledRun:
    """Train a small network with the class probabilities of a trained one, like ``fastcell distill``.

    Args:
        teacher: run of ``fastcell fit``.
        data: packed data set; None for the data set of the teacher.
        budget: processor time of the student per cell in one thread, such as ``10us``, without the preprocessing.
        out: parent folder of the new run folder.
        preset: settings of the training.
        temperature: temperature of the compared probabilities.
        share: weight of the teacher in the loss.
        settings: further options of ``fastcell fit`` without dashes, such as ``{"trainer.max_epochs": 5}``;
            ``model.network`` and ``data.image_size`` restrict the choice.
        trust: packages whose code the teacher may import.
        allow_absent: train even if the scores cannot be meaningful; each score is then printed with a caution.
        verbose: print the output of the command.

    Raises:
        ArgumentError: the budget is too small for any student, or another argument breaks its rule.
        FastcellError: the errors of ``fastcell fit``.
    """
    check_distillation(temperature, share, "--")
    allowed = read_budget(budget)
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
        checkpoint = find_checkpoint(Path(teacher))
        model = load_classifier(checkpoint, trust)
        preprocessing = Preprocessing.from_dict(dict(model.preprocessing))
        check_candidate(preprocessing)
        of_teacher = read_data_settings(checkpoint.parent) if (checkpoint.parent / CONFIG_FILE).is_file() else {}
        options = {"path": of_teacher.get("path") if data is None else os.fspath(data)}
        options |= {name: of_teacher[name] for name in ("split_name", "quality") if name in of_teacher}
        check_output_folder("--out", out, parents=True)
        if options["path"] is not None:
            _check_data(Manifest.open(options["path"]), options, allow_absent)  # before the candidates are timed
        given = dict(settings or {})
        timed = time_candidates(preprocessing, len(model.classes), _candidates(given))
        chosen = choose_candidate(timed, allowed)
        print_line(_describe(timed, chosen, allowed))
        options |= _images_of(preprocessing, chosen.image_size)
        words = {f"data.{name}": value for name, value in options.items() if value is not None}
        words |= {"model.network": chosen.network, "teacher": str(checkpoint), "teacher_temperature": temperature}
        words |= {"teacher_share": share, "preset": preset, "runs": os.fspath(out)}
        words |= _length(preset, given)
        words |= {"trust": ",".join(trust)} if trust else {}
        words |= {"allow_absent": True} if allow_absent else {}
        arguments = [f"--{name}={setting_as_text(value)}" for name, value in {**words, **given}.items()]
        found = run_with_lightning("fit", arguments)
        assert found is not None
        backends = list(dict.fromkeys([("torch", "fp32"), fastest_program()]))
        scores = score_student(found, checkpoint, backends, trust=trust)
        budget_us = {"budget_us": allowed, "candidates": [one._asdict() for one in timed]}
        write_json(found / DISTILLATION_FILE, {"teacher": str(checkpoint), **budget_us, **scores.to_json()})
        print_line(f"\n{scores.part} subset, {scores.num_cells:,} cells\n{scores.describe()}")
    return DistilledRun(found, chosen, scores)


def _check_data(manifest: Manifest, options: Mapping[str, Any], allow_absent: bool) -> None:
    """Check the split that the student is trained on, as fit does after the candidates have been timed.

    Raises:
        ArgumentError: class and recording cannot be told apart, or a subset lacks a class.
    """
    split = options.get("split_name", "default")
    if not allow_absent and split in manifest.split_names():
        obstacles = split_obstacles(manifest, split, options.get("quality", True))
        refuse_obstacles(obstacles, f"split {split!r} of {manifest.place}")


def _candidates(given: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the candidates for the student: networks and image sizes, restricted by the settings."""
    network, size = given.get("model.network"), given.get("data.image_size")
    networks = dict.fromkeys(name for name, _ in CANDIDATES) if network is None else [str(network)]
    sizes = dict.fromkeys(side for _, side in CANDIDATES) if size is None else [int(size)]
    if network is None and size is None:
        return list(CANDIDATES)
    return [(name, side) for name in networks for side in sizes]


def _images_of(teacher: Preprocessing, image_size: int) -> dict[str, Any]:
    """Return the image settings with which images of another size show the same part of a cell as the teacher's."""
    scale = teacher.scale_um_per_px
    return {
        "image_size": image_size,
        "fit": teacher.fit,
        "normalization": teacher.normalization,
        "antialias": teacher.antialias,
        "depth": teacher.depth,
        "scale_um_per_px": None if scale is None else scale * teacher.image_size / image_size,
    }


def _length(preset: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Return the setting of the training length, a multiple of the preset's, unless the settings give a length."""
    names = ("max_epochs", "max_steps")
    if any(f"trainer.{name}" in given for name in names):
        return {}
    recipe = read_recipe(preset)
    lengths = {name: int(recipe.trainer.get(name, -1)) for name in names}
    return {f"trainer.{name}": LENGTH * value for name, value in lengths.items() if value > 0}


def _describe(timed: Sequence[TimedCandidate], chosen: TimedCandidate, budget_us: float) -> str:
    """Return lines with the times of the candidates and the choice."""
    lines = [f"time of a cell in one thread, {chosen.program} {chosen.precision}, preprocessing not counted:"]
    for one in sorted(timed, key=lambda one: one.us_per_cell):
        mark = " <- within the budget" if one == chosen else ""
        lines.append(f"  {one.network} at {one.image_size} px: {one.us_per_cell:.1f} us{mark}")
    return "\n".join([*lines, f"budget {budget_us:g} us: {chosen.network} at {chosen.image_size} px"])
