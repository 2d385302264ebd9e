"""Prepare and run a study: compare methods on the same cells over volume, loss, resolution or order of splitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcell.errors import ArgumentError, invalid
from fastcell.storage.places import check_output_folder
from fastcell.storage.whole_files import write_json, write_text
from fastcell.system.messages import Say, say_nothing
from fastcell.system.text import printable

if TYPE_CHECKING:
    from fastcell.compare.runner import Study
    from fastcell.dataset.manifest import Manifest
    from fastcell.splits.obstacles import Obstacle

_MOST_REPEATS = 1_000
STUDIES = ("volume", "loss", "resolution", "leakage")
DEFAULT_METHODS = {
    "volume": "cnn,gao,svm,knn,frame",
    "loss": "cnn",
    "resolution": "cnn",
    "leakage": "cnn,svm,knn,frame",
}
DEFAULT_VOLUMES = {
    "volume": "0.001,0.005,0.01,0.05,0.1,0.5,1",  # the paper's seven, as rounded shares of its largest
    "loss": "1",
    "resolution": "0.01,0.1,1",
    "leakage": "1",
}


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study; ``study.json`` stores them as ``settings``.

    Attributes:
        study: Varied quantity, one of `STUDIES`.
        methods: Comma-separated names; None for `DEFAULT_METHODS`.
        volumes: Comma-separated shares of the training cells; None for `DEFAULT_VOLUMES`.
        seeds: Number of seeds; the seeds are 0, 1, ...
        splits: Comma-separated names, see `fastcell.compare.split_schemes.find_schemes`; None for its default.
        preset: Preset of the networks and of the images of all methods.
        select: Evaluated weights, best or last; None for the preset's choice.
        min_steps: Minimum number of optimizer steps at small volumes.
        pca: Number of principal components for SVM and kNN, or none.
        backend: Backend of SVM and kNN: auto, cuml, sklearnex or sklearn.
        jobs: Number of processes for SVM and kNN; 0 to choose it automatically.
        sizes: Comma-separated image sizes [px] of the resolution study.
        steps: Number of iterations of the loss study.
        copies: Images per cell of the largest class in the leakage study.
        folds: Number of folds of the leakage study.
        allow_absent: Continue even if class and recording cannot be told apart, or a subset lacks a class.
    """

    study: str = "volume"
    methods: str | None = None
    volumes: str | None = None
    seeds: int = 3
    splits: str | None = None
    preset: str = "demo"
    select: str | None = None
    min_steps: int = 600
    pca: str = "64"
    backend: str = "auto"
    jobs: int = 0
    sizes: str = "16,32,64,128"
    steps: int = 600
    copies: float = 1.3
    folds: int = 5
    allow_absent: bool = False


def open_study(
    data: str | None, out: str | Path, options: StudyOptions, changes: Sequence[str] = (), say: Say = say_nothing
) -> tuple[Any, list[str]]:
    """Prepare a study; arguments are checked before any long computation.

    Args:
        data: Folder of a packed data set; None for the synthetic default set.
        out: Folder for tables, figures and finished tasks; created if it does not exist.
        options: Options of the study.
        changes: Arguments of ``fastcell fit`` that change the preset, e.g. ``["--data.fit", "contain"]``.
        say: Callable that receives each message for the user.

    Returns:
        The study (`fastcell.compare.runner.Study`), and the names of its methods.

    Raises:
        ArgumentError: An argument is invalid, or scores would not be valid (`fastcell.splits.obstacles`).
    """
    _check_options(options)
    components = _components(options.pca)
    from fastcell.compare.baselines import find_backend
    from fastcell.compare.resolution_study import check_sizes
    from fastcell.compare.runner import Study, check_methods, units_of
    from fastcell.compare.split_schemes import SplitManifest, find_schemes, scheme_obstacles
    from fastcell.compare.volume_study import check_volumes, leave_out_small_classes
    from fastcell.dataset.manifest import Manifest
    from fastcell.simulator.synth import make_default_dataset
    from fastcell.splits.obstacles import cautions, find_obstacles, origins_of
    from fastcell.training.recipe import read_recipe

    methods = check_methods(options.methods or DEFAULT_METHODS[options.study])
    check_sizes(options.sizes)
    find_backend(options.backend)
    recipe = read_recipe(options.preset, changes, options.select)
    manifest = Manifest.open(data or make_default_dataset(verbose=True))
    _check_classes(manifest)
    obstacles: dict[str, list[Obstacle]] = {}
    whole = np.full(len(manifest), "train")  # recordings of one class each, whatever the splits
    obstacles[""] = find_obstacles(manifest.labels, manifest.info.classes, [whole], origins_of(manifest))
    _refuse(obstacles, manifest, options)
    schemes = [] if options.study == "leakage" else find_schemes(manifest, options.splits)
    volume = max(check_volumes(options.volumes or DEFAULT_VOLUMES[options.study]))
    schemes, left_out = leave_out_small_classes(manifest, schemes, volume, options.allow_absent)
    if schemes:
        obstacles = scheme_obstacles(manifest, schemes)
    _refuse(obstacles, manifest, options)
    folder = Path(out)
    check_output_folder("--out", folder, parents=True).mkdir(parents=True, exist_ok=True)
    units, unit = units_of(manifest)
    study = Study(
        manifest=SplitManifest.of(manifest, {name: s for one in schemes for name, s in one.splits.items()}),
        schemes={scheme.name: scheme for scheme in schemes},
        recipe=recipe,
        out_dir=folder,
        units=units,
        unit=unit,
        components=components,
        backend=options.backend,
        min_steps=options.min_steps,
        jobs=options.jobs,
        notes=left_out,
        cautions=[f"{name}: {line}" if name else line for name, found in obstacles.items() for line in cautions(found)],
        say=say,
    )
    for line in [*study.cautions, *study.notes]:
        say(line)
    return study, methods


def _check_options(options: StudyOptions) -> None:
    for name, least in (("seeds", 1), ("steps", 1), ("folds", 2), ("jobs", 0), ("min_steps", 0)):
        if getattr(options, name) < least:
            raise invalid(f"--{name.replace('_', '-')}", f"{least} or more", getattr(options, name), "See --help")
    for name in ("seeds", "folds"):
        if getattr(options, name) > _MOST_REPEATS:
            raise invalid(f"--{name}", f"at most {_MOST_REPEATS:,}", getattr(options, name), "See --help")
    if options.study == "leakage" and options.splits is not None:
        raise invalid(
            "--splits", "absent with --study leakage", options.splits, "The study makes its own splits; see --folds"
        )


def _check_classes(manifest: Manifest) -> None:
    there = np.unique(manifest.cell_labels[manifest.class_codes >= 0])
    if not len(there):
        raise ArgumentError(
            f"{manifest.place} must have labels to compare methods on, got none. Pack it with a --pattern that has "
            "{class}."
        )
    if len(there) == 1:
        raise ArgumentError(
            f"{manifest.place} must have cells of two or more classes to compare methods on, got only class "
            f"{printable(manifest.info.classes[there[0]])}: every method is right. Pack it with cells of other classes."
        )


def _refuse(obstacles: Mapping[str, Sequence[Obstacle]], manifest: Manifest, options: StudyOptions) -> None:
    from fastcell.splits.obstacles import refuse_obstacles

    for name, found in obstacles.items():
        if not options.allow_absent:
            refuse_obstacles(found, f"splits {name!r} of {manifest.place}" if name else str(manifest.place))


def run_study(
    study: Any, methods: list[str], options: StudyOptions, changes: Sequence[str] = (), *, default_data: bool = False
) -> list[str]:
    """Run a study and write tables, figures, ``report.md`` and ``study.json`` to its folder.

    Tasks that an earlier run finished are not computed again.

    Args:
        study: Study from `open_study`.
        methods: Method names from `open_study`.
        options: Options given to `open_study`.
        changes: Changes given to `open_study`.
        default_data: Whether the data set is the synthetic default.

    Returns:
        The lines of the report.

    Raises:
        BusyError: Another process runs a study in the folder.
    """
    from fastcell.storage.locks import hold_run_folder

    with hold_run_folder(study.out_dir, "--out"):
        return _run(study, methods, options, changes, default_data)


def _run(
    study: Any, methods: list[str], options: StudyOptions, changes: Sequence[str], default_data: bool
) -> list[str]:
    from fastcell.compare.volume_study import check_volumes, run_volumes

    volumes = check_volumes(options.volumes or DEFAULT_VOLUMES[options.study])
    asked = {
        "source": None if default_data else study.manifest.whole_place,
        "source_cells": len(study.manifest),
        "changes": list(changes),
    }
    if options.study == "loss":
        from fastcell.compare.loss_study import run_losses

        lines = run_losses(study, options.seeds, options.steps)
    elif options.study == "resolution":
        from fastcell.compare.resolution_study import check_sizes, run_resolutions

        lines, _ = run_resolutions(study, methods, volumes, options.seeds, check_sizes(options.sizes))
    elif options.study == "leakage":
        from fastcell.compare.leakage_study import leakage_study, run_leakage

        study = leakage_study(study, options.copies, options.folds, 0)
        lines, _, _ = run_leakage(study, methods, volumes, options.seeds)
    else:
        lines, _, _ = run_volumes(study, methods, volumes, options.seeds)
    study.drop_images()
    return write_study_report(study, methods, asdict(options), lines, asked)


def _components(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise invalid("--pca", "a number of components, or none", text, "64 is the default")
    return int(text)


def write_study_report(
    study: Study, methods: list[str], settings: Mapping[str, Any], lines: list[str], asked: Mapping[str, Any]
) -> list[str]:
    """Write ``report.md`` and ``study.json`` to the study's folder.

    Args:
        study: The finished study; for leakage, the study on the augmented data set.
        methods: Names of the methods.
        settings: Options of the study, including `study` and `preset`; stored in ``study.json``.
        lines: Lines of the report.
        asked: `source`, path of the requested data set (None for the synthetic default); `source_cells`, its number of
            cells; and `changes`, the arguments that change the preset.

    Returns:
        The lines of the complete report, with its header.
    """
    from fastcell.system import environment_report

    kind = "synthetic cells" if study.manifest.info.synthetic else "cells"
    machine = {key: value for key, value in environment_report.describe_environment().items() if key != "cache_dir"}
    where = "; ".join(machine["gpus"]) or f"no GPU, {machine['cpu']}, {machine['num_cpus']} cores"
    header = [
        f"# {study.manifest.info.name}: study of {settings['study']}",
        "",
        f"{len(study.manifest):,} {kind}; preset {settings['preset']}; {where}; fastcell {machine['fastcell']}.",
        "",
        *(text for line in (*study.cautions, *study.notes) for text in (f"**{line}**", "")),
    ]
    report = [printable(line) for line in (*header, *lines)]
    write_text(study.out_dir / "report.md", "\n".join(report).rstrip() + "\n")
    write_json(
        study.out_dir / "study.json",
        {
            "study": settings["study"],
            "data": study.manifest.info.name,
            "path": study.manifest.whole_place,
            "methods": methods,
            **asked,
            "settings": dict(settings),
            "recipe": asdict(study.recipe),
            "schemes": {
                scheme.name: {"text": scheme.text, "splits": list(scheme.splits)} for scheme in study.schemes.values()
            },
            "cautions": study.cautions,
            "environment": machine,
        },
    )
    return report
