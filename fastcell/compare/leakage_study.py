"""The leakage study: how much the paper's order (augment, then split) inflates accuracy, on the same cells.

The cells are augmented once until all classes have the same number of images. The images are stored as a separate data
set, with the source cell of every image. Only the split differs: over images, so that copies of one cell are in several
subsets; over source cells; or over groups, if the data set has them. With each split every image is tested once, and
each training uses the same number of images. The leaky order exists only in this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastcell.compare.augmented_set import augmented_set
from fastcell.compare.figures import draw_bars
from fastcell.compare.result_tables import PROTOCOLS, Entry, PairedDifference, Place, Tables
from fastcell.compare.runner import FRAME, Study, method_name
from fastcell.compare.split_schemes import FEW_GROUPS, Scheme, SplitManifest, num_groups
from fastcell.compare.volume_study import largest_places, make_tables, make_tasks
from fastcell.compare.write_tables import (
    accuracy_text,
    basis_text,
    class_rows,
    difference_table,
    frame_words,
    table_word,
    write_csv,
    write_rows,
)
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import subset_names
from fastcell.splits.by_group import k_folds, leave_one_group_out
from fastcell.stats.scores import MEASURES

AUGMENT_FIRST, SPLIT_FIRST, GROUPS_FIRST = "augment-first", "split-first", "groups-first"


def protocols(images: Manifest, sources: np.ndarray, num_folds: int, seed: int) -> list[Scheme]:
    """Return schemes of folds over images, over source cells and, if there are at least 2 groups, over groups.

    Every image is in the test subset once per scheme.

    Args:
        images: The augmented data set.
        sources: (M,) int64, row of the source cell of each image.
        num_folds: Number of folds. A scheme over few groups has one fold per group instead.
        seed: Random seed of the folds.
    """
    labels = images.labels
    _, first, member = np.unique(sources, return_index=True, return_inverse=True)

    def spread(folds: list[np.ndarray], name: str) -> dict[str, np.ndarray]:
        return {f"{name}-{number}": subset_names(fold)[member] for number, fold in enumerate(folds)}

    leaky = k_folds(labels, None, num_folds, seed)
    schemes = [
        Scheme(
            AUGMENT_FIRST,
            "augmented, then split at random (the paper's order)",
            {f"{AUGMENT_FIRST}-{number}": subset_names(fold) for number, fold in enumerate(leaky)},
        ),
        Scheme(
            SPLIT_FIRST,
            "split at random, then augmented",
            spread(k_folds(labels[first], None, num_folds, seed), SPLIT_FIRST),
        ),
    ]
    groups = num_groups(images)
    if groups >= 2:
        assert images.groups is not None
        names = images.groups[first]
        if groups <= FEW_GROUPS:
            folds = leave_one_group_out(labels[first], names, seed)
        else:
            folds = k_folds(labels[first], names, num_folds, seed)
        text = "each group left out in turn" if groups <= FEW_GROUPS else "split by group"
        schemes.append(Scheme(GROUPS_FIRST, f"{text}, then augmented", spread(folds, GROUPS_FIRST)))
    return schemes


def leakage_study(study: Study, copies: float, num_folds: int, seed: int) -> Study:
    """Return the study on the augmented data set, with `protocols` as its schemes.

    Args:
        study: Study on the source cells.
        copies: Images per cell of the largest class, at least 1.
        num_folds: Number of folds per scheme.
        seed: Random seed of augmentation and folds.
    """
    images, sources = augmented_set(study.manifest, study.recipe, copies, seed, study.out_dir)
    schemes = protocols(images, sources, num_folds, seed)
    subsets = {name: split for scheme in schemes for name, split in scheme.splits.items()}
    recipe = replace(study.recipe, data={**study.recipe.data, "augment": False, "balance": "none", "fit": "stretch"})
    for name in ("scale_um_per_px", "depth"):  # the images are 8-bit squares already
        recipe.data.pop(name, None)
    source_units = study.units[sources]
    study.say(f"{len(images):,} images of {len(np.unique(sources)):,} cells in {images.path.name}")
    return replace(
        study,
        manifest=SplitManifest.of(images, subsets),
        schemes={scheme.name: scheme for scheme in schemes},
        recipe=recipe,
        units=source_units,
        unit="source cell" if study.unit == "cell" else study.unit,
        corrupt=set(),
        _images={},
        _prints={},
        _parts={},
        _preprocessing={},
    )


def run_leakage(
    study: Study, methods: Sequence[str], volumes: Sequence[float], num_seeds: int
) -> tuple[list[str], list[Entry], list[PairedDifference]]:
    """Compute all protocols, write the files, and return the report as Markdown lines, entries and differences.

    Args:
        study: Study from `leakage_study`.
        methods: Names of the methods.
        volumes: Shares of the training cells, in (0, 1]. Figure and text use the largest volume.
        num_seeds: Number of seeds.
    """
    tasks, notes = make_tasks(study, methods, volumes, num_seeds, [study.recipe.image_size])
    for note in notes:
        study.say(note)
    tables = make_tables(study, study.run(tasks))
    entries = tables.entries()
    places = {scheme: largest_places(tables, scheme) for scheme in study.schemes}
    names = {method: method_name(method) for method in methods}
    differences: list[PairedDifference] = []
    for method in methods:
        mine = [place for scheme in study.schemes for place in places[scheme] if place[1] == method]
        texts = [f"{names[method]}, {study.schemes[place[0]].name}" for place in mine]
        for first in range(len(mine) - 1):
            differences += tables.differences(mine[first : first + 2], PROTOCOLS, texts[first : first + 2])
    largest = max(place[3] for scheme in places.values() for place in scheme)
    tested = [entry for entry in entries if entry.part == "test" and entry.volume == largest]
    labels = study.manifest.labels
    chance = float(np.bincount(labels[labels >= 0]).max() / (labels >= 0).sum())
    lines = ["## Test accuracy by order of augmenting and splitting", ""]
    lines += _protocol_table(study, tested, names)
    lines += ["", _describe(study, tested), "", "### Differences, paired on the same images", ""]
    lines += [*difference_table(differences), ""]
    lines += ["### Recall by class", "", *_recall_table(study, tables, places, names), ""]
    if FRAME in methods:
        lines += [*_frame_text(tested, chance), ""]
        last = places[list(study.schemes)[-1]]
        words = frame_words(tables.differences(last, "", [names[place[1]] for place in last]), names[FRAME])
        lines += [line for text in words for line in (text, "")]
    stem = study.out_dir / "accuracy_by_protocol"
    schemes = {name: scheme.text for name, scheme in study.schemes.items()}
    title = f"Accuracy due to leakage: {study.manifest.info.name}"
    draw_bars(tested, names, schemes, chance, stem, title, _describe(study, tested))
    lines += [f"![]({stem.name}.png)", ""]
    if notes:
        lines += ["### Left out", "", *(f"- {note}" for note in notes), ""]
    scores = [tables.class_scores(place, "test") for mine in places.values() for place in mine]
    write_csv(study.out_dir / "classes.csv", class_rows(scores, study.manifest.info.classes))
    write_rows(study.out_dir / "accuracy.csv", entries)
    write_rows(study.out_dir / "differences.csv", differences)
    return lines, entries, differences


def _protocol_table(study: Study, tested: Sequence[Entry], names: dict[str, str]) -> list[str]:
    lines = [f"| method | {' | '.join(s.text for s in study.schemes.values())} |"]
    lines.append("|---|" + "--:|" * len(study.schemes))
    for method, name in names.items():
        row = {entry.scheme: accuracy_text(entry) for entry in tested if entry.method == method}
        lines.append(f"| {name} | {' | '.join(row.get(scheme, '') for scheme in study.schemes)} |")
    return lines


def _recall_table(study: Study, tables: Tables, places: dict[str, list[Place]], names: dict[str, str]) -> list[str]:
    """Return a Markdown table of recall by class and protocol.

    It shows which classes owe their accuracy to the order: those that consist of many copies of few cells.
    """
    classes = study.manifest.info.classes
    lines = [f"| method | order | {' | '.join(map(table_word, classes))} |", "|---|---|" + "--:|" * len(classes)]
    for method, name in names.items():
        for scheme in study.schemes.values():
            for place in places[scheme.name]:
                if place[1] == method:
                    recall = tables.class_scores(place, "test").values[MEASURES.index("recall")]
                    texts = ["-" if np.isnan(value) else f"{value:.3f}" for value in recall]
                    lines.append(f"| {name} | {scheme.text} | {' | '.join(texts)} |")
    return lines


def _frame_text(tested: Sequence[Entry], chance: float) -> list[str]:
    """Return a text on how well the background alone predicts the classes."""
    honest = [entry for entry in tested if entry.method == FRAME][-1]
    known = (
        "the background separates the classes" if honest.low > chance else "the background is not better than chance"
    )
    text = (
        f"A kNN on only the outer frame of the images reaches {accuracy_text(honest)} with the "
        f"strictest of these splits. Always predicting the largest class gives {chance:.3f}: {known}."
    )
    return [text]


def _describe(study: Study, tested: Sequence[Entry]) -> str:
    first = tested[0]
    kind = "synthetic cells" if study.manifest.info.synthetic else "cells"
    return (
        f"{first.num_cells:,} images of {kind}, each tested once; folds {first.num_splits}, "
        f"about {first.num_train:,.0f} training images each; {first.num_seeds} seed{'s' * (first.num_seeds > 1)}; bars "
        f"and brackets: 95 % interval {basis_text(first)}. "
        f"Images of {first.image_size} × {first.image_size} px, preset {study.recipe.preset}, not augmented further."
    )
