"""The data-volume study: all methods on the same cells, over shares of the training subset (the paper's Table II)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcell.compare.figures import draw_volumes
from fastcell.compare.result_tables import SCHEMES, Entry, PairedDifference, Place, Tables
from fastcell.compare.runner import FRAME, Study, method_name
from fastcell.compare.saved_results import Task
from fastcell.compare.split_schemes import Scheme
from fastcell.compare.write_tables import (
    basis_text,
    class_rows,
    class_table,
    difference_table,
    frame_words,
    time_table,
    volume_table,
    write_csv,
    write_rows,
)
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, invalid
from fastcell.splits.obstacles import usable_cells
from fastcell.system.text import list_names

MIN_CLASS_CELLS = 5
"""Minimum number of training cells that a volume must leave in every class and split."""
_TIMES = (
    "Median time to fit by volume, including the choice of parameters, validation and, for networks, reading of cells; "
    "and median time to classify one preprocessed cell of the test subset."
)


def check_volumes(text: str) -> list[float]:
    """Parse the volumes of ``--volumes`` and return them in increasing order.

    Raises:
        ArgumentError: A volume is not a share in (0, 1], or there is none.
    """
    try:
        volumes = sorted({float(word) for word in text.split(",") if word.strip()})
    except ValueError:
        volumes = []
    if not volumes or not all(0 < volume <= 1 for volume in volumes):
        raise invalid("--volumes", "shares of the training cells in (0, 1], with commas", text, "Write 0.01,0.1,1")
    return volumes


def leave_out_small_classes(
    manifest: Manifest, schemes: Sequence[Scheme], volume: float, allow_absent: bool = False
) -> tuple[list[Scheme], list[str]]:
    """Take the cells of classes with too few training cells out of all subsets of the schemes.

    Args:
        manifest: The data set.
        schemes: Its schemes.
        volume: The largest share of the training cells in the study.
        allow_absent: Also leave out classes that a split lacks altogether in training.

    Returns:
        The schemes, and a sentence for each class that is left out.

    Raises:
        ArgumentError: Fewer than two classes are left.
    """
    classes, usable = manifest.info.classes, usable_cells(manifest)
    fewest = np.full(len(classes), np.iinfo(np.int64).max)
    for scheme in schemes:
        for subsets in scheme.splits.values():
            rows = (subsets == "train") & usable & (manifest.class_codes >= 0)
            counts = np.bincount(manifest.cell_labels[rows], minlength=len(classes))
            fewest = np.minimum(fewest, np.where(counts > 0, np.maximum((counts * volume + 0.5).astype(int), 1), 0))
    there = np.bincount(manifest.cell_labels[(manifest.class_codes >= 0) & usable], minlength=len(classes)) > 0
    small = np.flatnonzero(there & (fewest < MIN_CLASS_CELLS) & ((fewest > 0) | allow_absent))
    if not len(small):
        return list(schemes), []
    names = list_names([f"{classes[label]} ({fewest[label]:,})" for label in small.tolist()])
    if there.sum() - len(small) < 2:
        rule, hint = (
            ("--volumes must leave", "larger --volumes, or")
            if volume < 1
            else ("--splits must have", "other --splits, or")
        )
        raise ArgumentError(
            f"{rule} {MIN_CLASS_CELLS} training cells in two or more classes, got fewer of {names}. Use {hint} a data "
            "set with more cells of them."
        )
    out = np.isin(manifest.labels, small)
    kept, notes = [], [f"Classes with fewer than {MIN_CLASS_CELLS} training cells are left out of all scores: {names}."]
    for scheme in schemes:
        splits = {name: np.where(out, "", subsets) for name, subsets in scheme.splits.items()}
        tested = {name: subsets for name, subsets in splits.items() if ((subsets == "test") & usable).any()}
        if len(tested) < len(splits):
            lost = len(splits) - len(tested)
            notes.append(f"{lost} of the {len(splits)} splits of {scheme.name} have no test cell of another class.")
        kept.append(replace(scheme, splits=tested))
    return kept, notes


def usable_volumes(study: Study, scheme: str, volumes: Sequence[float]) -> tuple[list[float], list[str]]:
    """Return the volumes that leave at least 5 training cells in every class and split, and one line per other volume.

    Args:
        study: The study.
        scheme: Name of the scheme.
        volumes: Shares of the training cells, in (0, 1].

    Raises:
        ArgumentError: No volume leaves 5 cells.
    """
    kept, notes = [], []
    manifest = study.manifest
    inside = np.any([subsets != "" for subsets in study.schemes[scheme].splits.values()], axis=0)
    there = np.unique(manifest.cell_labels[inside & (manifest.class_codes >= 0)])
    for volume in volumes:
        fewest, where = None, ""
        for split in study.schemes[scheme].splits:
            config = ViewConfig("train", split, volume if volume < 1 else None, labelled=True)
            counts = select(manifest, config).class_counts()[there]
            if fewest is None or counts.min() < fewest:
                fewest, where = int(counts.min()), f"{manifest.info.classes[there[counts.argmin()]]} in {split}"
        if fewest is None or fewest < MIN_CLASS_CELLS:
            notes.append(
                f"volume {volume:g} is left out: only {fewest} training cells of {where}, fewer than {MIN_CLASS_CELLS}"
            )
        else:
            kept.append(volume)
    if not kept:
        raise ArgumentError(
            f"--volumes must leave {MIN_CLASS_CELLS} training cells of every class, but no volume does in "
            f"{scheme}: {notes[-1]}. Use {'larger volumes, or ' if max(volumes) < 1 else ''}a data set with more cells "
            "of that class."
        )
    return kept, notes


def make_tasks(
    study: Study, methods: Sequence[str], volumes: Sequence[float], num_seeds: int, sizes: Sequence[int]
) -> tuple[list[Task], list[str]]:
    """Return the tasks of the study, and one line for each volume or method that is left out, with its reason.

    Args:
        study: The study.
        methods: Names of the methods.
        volumes: Shares of the training cells, in (0, 1].
        num_seeds: Number of seeds; the seeds are 0, 1, ...
        sizes: Sides of the images [px].

    Raises:
        ArgumentError: No task is left.
    """
    tasks, notes = [], []
    for scheme in study.schemes.values():
        kept, left_out = usable_volumes(study, scheme.name, volumes)
        notes += left_out
        for method in methods:
            for volume in kept:
                tasks_here = [
                    Task(method, scheme.name, split, volume, seed, size)
                    for size in sizes
                    for split in scheme.splits
                    for seed in range(num_seeds)
                ]
                most = max(len(study.parts(task)["train"]) for task in tasks_here)
                refusal = study.refusal(method, most)
                if refusal:
                    notes.append(f"{method_name(method)} is left out at volume {volume:g}: {refusal}")
                else:
                    tasks += tasks_here
    if not tasks:
        raise ArgumentError(f"--methods must leave at least one task, got none: {notes[-1]}.")
    return tasks, list(dict.fromkeys(notes))


def run_volumes(
    study: Study, methods: Sequence[str], volumes: Sequence[float], num_seeds: int
) -> tuple[list[str], list[Entry], list[PairedDifference]]:
    """Compute the table, write its files, and return its report as Markdown lines, its entries and differences.

    Args:
        study: The study.
        methods: Names of the methods.
        volumes: Shares of the training cells, in (0, 1].
        num_seeds: Number of seeds.
    """
    tasks, notes = make_tasks(study, methods, volumes, num_seeds, [study.recipe.image_size])
    for note in notes:
        study.say(note)
    tables = make_tables(study, study.run(tasks))
    entries = tables.entries()
    names = {method: method_name(method) for method in methods}
    lines: list[str] = []
    scores: list[Any] = []
    differences: list[PairedDifference] = []
    for scheme in study.schemes.values():
        mine = [entry for entry in entries if entry.scheme == scheme.name]
        places = largest_places(tables, scheme.name)
        lines += [f"## {scheme.text}", "", "### Accuracy by data volume", ""]
        lines += [*volume_table(mine, names), "", describe_entries(study, mine), ""]
        for part, text in (("valid", "validation subset"), ("test", "test subset")):
            of_part = [tables.class_scores(place, part) for place in places if was_scored(tables, place, part)]
            if of_part:
                scores += of_part
                lines += [f"### Scores by class, {text}, {volume_text(places)}", ""]
                lines += [*class_table(of_part, study.manifest.info.classes, names), ""]
        for volume in volumes:
            here = [place for place in tables.by_place if (place[0], place[3]) == (scheme.name, volume)]
            text = f"{scheme.name}, volume {volume:g}"
            differences += tables.differences(here, text, [method_name(place[1]) for place in here])
        last = tables.differences(places, "", [method_name(place[1]) for place in places])
        if last:
            lines += [f"### Test accuracy, paired on the same cells, {volume_text(places)}", ""]
            lines += [*difference_table(last), ""]
            lines += [line for words in frame_words(last, names.get(FRAME)) for line in (words, "")]
        lines += ["### Time", "", *time_table(mine, names), "", _TIMES, ""]
        stem = study.out_dir / f"accuracy_by_volume-{scheme.name}"
        tested = [entry for entry in mine if entry.part == "test"]
        title = f"Test accuracy by data volume: {study.manifest.info.name}, {scheme.text}"
        draw_volumes(tested, names, stem, title, describe_entries(study, mine))
        lines += [f"![accuracy by volume]({stem.name}.png)", ""]
    across = across_schemes(study, tables, methods)
    if across:
        differences += across
        lines += ["## The same cells with different splits", "", *difference_table(across), ""]
    if notes:
        lines += ["## Left out", "", *(f"- {note}" for note in notes), ""]
    write_rows(study.out_dir / "accuracy.csv", entries)
    write_csv(study.out_dir / "classes.csv", class_rows(scores, study.manifest.info.classes))
    write_rows(study.out_dir / "differences.csv", differences)
    return lines, entries, differences


def make_tables(study: Study, results: Sequence[Any]) -> Tables:
    """Return the tables of the results of a study."""
    return Tables(results, study.manifest.labels, study.manifest.info.classes, study.units, study.unit)


def largest_places(tables: Tables, scheme: str) -> list[Place]:
    """Return the place of each method of a scheme at the largest volume that all methods have."""
    mine = [place for place in tables.by_place if place[0] == scheme]
    methods = {place[1] for place in mine}
    shared = [v for v in {p[3] for p in mine} if {p[1] for p in mine if p[3] == v} == methods]
    volume = max(shared) if shared else max(place[3] for place in mine)
    return [place for place in mine if place[3] == volume]


def was_scored(tables: Tables, place: Place, part: str) -> bool:
    """Return whether any cell of a subset was scored."""
    return any(len(rows) for rows, _ in tables.called(place, part))


def across_schemes(study: Study, tables: Tables, methods: Sequence[str]) -> list[PairedDifference]:
    """Return the difference of each method between every later scheme and the first, on the cells that both test."""
    found = []
    names = list(study.schemes)
    for method in methods:
        places = {p[0]: p for name in names for p in largest_places(tables, name) if p[1] == method}
        for other in names[1:]:
            if names[0] in places and other in places:
                texts = [f"{method_name(method)}, {name}" for name in (other, names[0])]
                found += tables.differences([places[other], places[names[0]]], SCHEMES, texts)
    return found


def volume_text(places: Sequence[Place]) -> str:
    """Return the volume as text, for example ``volume 1``."""
    return f"volume {places[0][3]:g}" if places else ""


def describe_entries(study: Study, entries: Sequence[Entry]) -> str:
    """Return a caption text with n, seeds, splits and intervals of the figures."""
    first = next(entry for entry in entries if entry.part == "test")
    kind = "Synthetic test cells" if study.manifest.info.synthetic else "Test cells"
    seeds = f"{first.num_seeds} seed{'s' * (first.num_seeds > 1)}"
    spread = "mean ± deviation over seeds, " if first.num_seeds > 1 else ""
    splits = "" if first.num_splits == 1 else f" of {first.num_splits} splits pooled"
    return (
        f"{kind}: {first.num_cells:,}{splits}, {seeds}; {spread}95 % interval {basis_text(first)}. "
        f"Validation and test subsets are complete at every volume; "
        f"images of {first.image_size} × {first.image_size} px; preset {study.recipe.preset}."
    )
