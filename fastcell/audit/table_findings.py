"""Findings from the manifest alone: class x recording, and copies of a cell in two subsets of a split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.audit.findings import Finding
from fastcell.audit.sample import names_of
from fastcell.dataset.manifest import Manifest
from fastcell.splits.copies.exact import Duplicates
from fastcell.stats.association import Association, associate
from fastcell.system.text import list_names


def table_finding(
    manifest: Manifest, column: str, what: str, permutations: int, rng: np.random.Generator
) -> tuple[Finding, Association | None]:
    """Measure the association of class and recording over all cells that verdicts keep.

    Args:
        manifest: the data set.
        column: ``group`` or ``collection``.
        what: name of the column in the report.
        permutations: number of permutations for the chance level.
        rng: generator for the permutations.

    Returns:
        The finding, and the association or None if it could not be measured.
    """
    key, title = f"class_by_{column}", f"class x {what}"
    names, classes = names_of(manifest, column), names_of(manifest, "class")
    keep = manifest.verdicts()
    if classes is None or names is None:
        lacking = "classes" if classes is None else f"{what}s"
        return Finding(key, title, verdict="skipped", notes=(f"the cells have no {lacking}.",)), None
    found = associate(classes[keep], names[keep], permutations, rng)
    if found is None:
        return Finding(key, title, verdict="skipped", notes=(f"fewer than two classes or two {what}s.",)), None
    single = found.single()
    strength = (
        f"Cramér's V {found.result.number:.2f}; the {what} alone "
        f"predicts the class with balanced accuracy {found.guess:.2f}."
    )
    details = {
        "classes": found.rows, "columns": found.columns, "table": found.table.tolist(),
        "guess": found.guess, "single": single,
    }  # fmt: skip
    base: dict[str, Any] = {"unit": "Cramér's V, bias-corrected", "effect": found.result.number, "details": details}
    if single:
        places = list_names([f"{name} only in {found.columns[int(_row(found, name).argmax())]}" for name in single])
        says = f"{places}: there, no test can separate class and {what}. {strength}"
        way = (
            f"record these classes in further {what}s; until then a score between them may measure the {what}, and "
            "must be reported as such"
        )
        made = Finding(
            key, title, result=found.result, verdict="problem", says={"else": says}, advice={"problem": way}, **base
        )
        return made, found
    if found.pure() == len(found.columns):
        says = f"Every {what} has one class, and every class occurs in several: {strength}"
        way = f"test on whole {what}s only; no {what} may be in two subsets of a split"
        made = Finding(key, title, result=found.result, verdict="ok", says={"else": says}, advice={"ok": way}, **base)
        return made, found
    way = (
        f"record every class in every {what} in equal proportions (`--data.balance` does so for classes only), report "
        f"scores by {what}"
    )
    made = Finding(
        key, title, result=found.result, thresholds=(0.3, 0.7),
        says={"else": f"Each class occurs in several {what}s. {strength}"},
        advice={"warning": way, "problem": way}, **base,
    )  # fmt: skip
    return made, found


def split_findings(manifest: Manifest) -> list[Finding]:
    """Return a finding for each split that has cells of one group in two or more subsets."""
    groups = names_of(manifest, "group")
    found = []
    for name in manifest.split_names():
        if groups is None:
            continue
        subsets = manifest.split(name)
        known = (groups != "") & (subsets != "")
        pairs = {(group, subset) for group, subset in zip(groups[known].tolist(), subsets[known].tolist(), strict=True)}
        num_subsets = Counter(group for group, _ in pairs)
        both = sorted(group for group, count in num_subsets.items() if count > 1)
        title = f"groups in two subsets of split {name!r}"
        if both:
            listed = list_names(both, 5)
            found.append(
                Finding(
                    f"split_{name}",
                    title,
                    verdict="problem",
                    details={"groups": both},
                    says={"else": f"{len(both)} groups are in two subsets: {listed}."},
                    advice={
                        "problem": "split by group: `fastcell pack` and `fastcell split` do so if groups are named"
                    },
                )
            )
    return found


def duplicate_finding(manifest: Manifest, copies: Duplicates) -> Finding:
    """Return the finding about copies of a cell in two subsets of a split or under two classes."""
    key, title = "duplicates", "copies of a cell across splits"
    blank = np.unique(copies.sets[copies.blank])
    across: dict[str, int] = {}
    for name in manifest.split_names():
        numbers = np.setdiff1d(copies.spanning(manifest.split(name)), blank)
        if len(numbers):
            across[name] = len(numbers)
    members = [cells for number, cells in enumerate(copies.members()) if number not in set(blank.tolist())]
    twofold = copies.under_two_classes(manifest.labels)
    num_cells, num_sets = sum(map(len, members)), len(members)
    near = "" if copies.near is not None else " The search covered exact copies only (pixels, flips, quarter turns)."
    says = f"{num_cells:,} cells in {num_sets:,} sets of copies.{near}"
    if across:
        places = ", ".join(f"{count:,} sets in {name!r}" for name, count in across.items())
        says += f" In two subsets of a split: {places}."
    if len(twofold):
        keys = manifest.select_cells(["key"], np.sort(twofold[0])).column("key").to_pylist()
        says += f" {len(twofold):,} of the sets hold different classes, e.g. {' and '.join(keys)}."
    if len(blank):
        says += f" {len(blank):,} sets of images of one grey level are not counted: empty frames."
    verdict = "problem" if across else "warning" if len(twofold) else "ok"
    large = " (large sets of near ones with `--merge-large` only)" if copies.near is not None else ""
    ways = [f"split again with `fastcell split`, which keeps copies in one subset{large}"] if across else []
    ways += ["look at the cells of two classes: one label of each is wrong"] if len(twofold) else []
    details = {
        "sets": num_sets, "cells": num_cells, "across": across, "two_classes": len(twofold), "blank": len(blank),
        "expected": 0,
    }  # fmt: skip
    return Finding(key, title, verdict=verdict, says={"else": says}, advice={verdict: "; ".join(ways)}, details=details)


def _row(found: Association, name: str) -> npt.NDArray[np.int64]:
    row: npt.NDArray[np.int64] = found.table[found.rows.index(name)]
    return row
