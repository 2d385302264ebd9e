"""Make new splits of a packed data set, by group, with copies of a cell in one subset."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.corrected_labels import note_labels
from fastcell.dataset.rows.split_table import write_split
from fastcell.errors import invalid
from fastcell.splits.by_group import SUBSETS
from fastcell.splits.copies.exact import Duplicates, exact_sets, read_duplicates
from fastcell.splits.copies.near import near_copies
from fastcell.splits.describe import describe_copies, describe_splits, large_sets
from fastcell.splits.leakproof import Splits, copies_of, make_leakproof_splits
from fastcell.splits.linked_groups import LinkedCells, link_groups
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.obstacles import (
    Obstacle,
    describe_few_groups,
    find_obstacles,
    origins_of,
    refuse_obstacles,
)
from fastcell.splits.read_groups import Grouping, read_grouping
from fastcell.storage.places import check_output_folder
from fastcell.system.messages import explained, printer
from fastcell.system.text import join_lines
from fastcell.system.worker_processes import check_jobs

MOST_CELLS_UNASKED = 20
"""Linked near copies are kept together up to this number of cells, even if they are more than 1 % of a class."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}")


@dataclass(frozen=True)
class Resplit:
    """Result of `resplit`.

    Attributes:
        manifest: manifest of the data set.
        splits: subsets by name, as written, (N,) int8 each, index into `SUBSETS`, -1 for none.
        grouping: the requested groups.
        linked: groups and sets of copies after linking, as kept together.
        duplicates: the copies that were found.
        apart: numbers of the sets that were found but not kept together because of their size.
        notes: notes for the user, one sentence each.
    """

    manifest: Manifest
    splits: Splits
    grouping: Grouping
    linked: LinkedCells
    duplicates: Duplicates
    apart: tuple[int, ...]
    notes: tuple[str, ...]


def resplit(
    path: str | os.PathLike[str],
    options: SplitOptions | None = None,
    *,
    group_by: str | None = None,
    name: str | None = None,
    near: bool = True,
    merge_large: bool = False,
    allow_absent: bool = False,
    force: bool = False,
    jobs: int | None = None,
    verbose: bool = False,
) -> Resplit:
    """Make the split NAME, and with folds NAME-fold-0 ..., for a packed or indexed data set.

    Args:
        path: folder of the data set.
        options: shares, seed and folds; None: 65/15/20.
        group_by: property whose equal values stay in one subset, see `fastcell.splits.read_groups.read_grouping`.
        name: name of the split; None: `by-group`, `by-collection`, ...
        near: also search for near copies. The result of an earlier search in duplicates.parquet is reused.
        merge_large: keep near copies together even if more than 20 linked cells make up more than 1 % of a class.
        allow_absent: continue even if a class has too few groups, a subset lacks a class, or class and recording cannot
            be told apart.
        force: replace existing splits of this name.
        jobs: number of processes and threads; None: one for each CPU.
        verbose: print progress to stderr.

    Raises:
        ArgumentError: an argument is invalid, a split of this name exists, there are too few groups, in total or of a
            class, or the scores of the split would be meaningless (see `fastcell.splits.obstacles`).
        DataError: the folder holds no data set, the data set is damaged, or the file with groups is damaged.
    """
    options, say = options or SplitOptions(), printer(verbose)
    check_jobs(jobs)
    if options.shares is None:
        raise invalid("--split", "shares of train, valid and test", "none", "Write for example --split 65/15/20")
    manifest = Manifest.open(path)
    grouping = read_grouping(manifest, group_by)
    title = _check_name(f"by-{grouping.short}" if name is None else name, name is None)
    stale = _check_free(manifest, title, force)
    manifest.check_writable()
    check_output_folder("DATA", manifest.path / "splits")
    if not allow_absent:  # check before the slow search, and again after it with the groups linked by copies
        if options.shares[0] > 0:
            whole = _obstacles(manifest, grouping, [np.full(len(manifest), SUBSETS.index("train"), np.int8)])
            few = "" if grouping.groups is None else describe_few_groups(grouping.groups.different, options.shares)
            refuse_obstacles(whole, f"split {title!r}", few and f"with --group-by none, {few}")
        _check_classes(manifest, link_groups(grouping.groups, np.full(len(manifest), -1)), options)
    say(f"searching for copies among {len(manifest):,} cell{'s' * (len(manifest) != 1)}")
    exact = exact_sets(manifest, jobs=jobs)
    found = _find_near(manifest, exact, jobs, say) if near else exact
    apart = () if merge_large else _too_large(manifest, found, exact)
    copies = copies_of(found, exact, len(manifest), apart)
    keys = manifest.table.column("key")
    linked = link_groups(grouping.groups, np.where(copies.blank, -1, copies.sets))
    if not allow_absent:
        _check_classes(manifest, linked, options)
    made, notes = make_leakproof_splits(
        manifest.labels, grouping.groups, options, copies, lambda cell: keys[cell].as_py(), strict=True
    )
    if not allow_absent:
        default, *folds = made.values()
        for some in ([default], folds):
            if some:
                refuse_obstacles(_obstacles(manifest, grouping, some), f"split {title!r}")
    splits = {title if part == "default" else _fold_prefix(title) + part: subsets for part, subsets in made.items()}
    there = None if near else read_duplicates(manifest)
    with explained(f"{manifest.place} cannot be written"):
        if there is None or there.near is None:  # keep the result of an earlier search for near copies
            manifest.written(found.write(manifest).name)
        for file in stale:
            manifest.remove(f"splits/{file}")
        for part, subsets in splits.items():
            write_split(manifest.path, part, subsets)
            manifest.written(f"splits/{part}.parquet")
    return Resplit(manifest, splits, grouping, linked, found, apart, (*grouping.notes, *notes))


def _obstacles(manifest: Manifest, grouping: Grouping, splits: list[np.ndarray]) -> list[Obstacle]:
    """Return the obstacles of splits, for the requested groups and for those of the manifest."""
    origins = origins_of(manifest)
    if grouping.groups is not None:
        origins |= {"group" if grouping.short == "pattern" else grouping.short: grouping.groups}
    return find_obstacles(manifest.class_codes, manifest.info.classes, splits, origins)


def describe_resplit(made: Resplit, shares: Sequence[float]) -> str:
    """Return the text to print: copies, recall, large sets, classes and groups by subset, folds, notes."""
    lines = describe_copies(made.manifest, made.duplicates, made.apart)
    lines += ["", *describe_splits(made.manifest, made.splits, made.linked, made.grouping, shares)]
    by_hand = note_labels(made.manifest.marked)
    lines += [f"note: {note}" for note in (*made.notes, *([by_hand] if by_hand else []))]
    return join_lines(lines)


def _find_near(manifest: Manifest, exact: Duplicates, jobs: int | None, say: Callable[[str], None]) -> Duplicates:
    there = read_duplicates(manifest)
    if there is not None and there.near is not None and there.num_cells == len(manifest):
        say("near copies are read from duplicates.parquet; remove it to search again")
        return there
    return near_copies(manifest, exact=exact, jobs=jobs, say=say)


def _too_large(manifest: Manifest, found: Duplicates, exact: Duplicates) -> tuple[int, ...]:
    """Return the sets that are not kept together by default: large sets that contain near copies."""
    one, members = exact.of_cells(len(manifest)), found.members()
    return tuple(
        number
        for number in large_sets(manifest, found)
        if len(members[number]) > MOST_CELLS_UNASKED and not _is_one(one[members[number]])
    )


def _is_one(exact: np.ndarray) -> bool:
    """Return True if all cells are in one exact set, given their sets (m,), -1 for none."""
    return bool(exact[0] >= 0 and (exact == exact[0]).all())


def _check_name(name: str, made_up: bool) -> str:
    if made_up:
        name = re.sub(r"[^A-Za-z0-9_.\-]+", "-", name)[:80]
    if not _NAME.fullmatch(name):
        rule = "1 to 80 letters, digits, '-', '_' and '.', with a letter or digit first"
        raise invalid("--name", rule, name, "Choose another name")
    return name


def _check_free(manifest: Manifest, title: str, force: bool) -> list[str]:
    """Return the names of the files of existing splits of this name, including folds, that are to be replaced.

    Raises:
        ArgumentError: such splits exist and `force` is False.
    """
    own = re.compile(f"{re.escape(title)}|{re.escape(_fold_prefix(title))}fold-\\d+")
    taken = [name for name in manifest.split_names() if own.fullmatch(name)]
    if taken and not force:
        hint = "Choose another --name, or give --force to replace it and its folds"
        raise invalid("--name", "the name of a new split", title, hint)
    return [f"{name}.parquet" for name in taken]


def _fold_prefix(title: str) -> str:
    return "" if title == "default" else f"{title}-"


def _check_classes(manifest: Manifest, linked: LinkedCells, options: SplitOptions) -> None:
    """Check that each class has at least as many groups as there are subsets or folds.

    Raises:
        ArgumentError: a class has fewer groups.
    """
    subsets = [subset for subset, share in zip(SUBSETS, options.shares or (), strict=True) if share > 0]
    needed, what = len(subsets), f"the subsets {', '.join(subsets)}"
    if isinstance(options.folds, int) and options.folds > needed:
        needed, what = options.folds, f"{options.folds} folds"
    for number, name in enumerate(manifest.info.classes):
        of_class = linked.groups.subset(manifest.class_codes == number)
        groups = of_class.names
        if not groups or (of_class.codes < 0).any() or len(groups) >= needed:
            continue
        fewer = f"--folds {len(groups)}" if "folds" in what and len(groups) > 1 else "--split 80/0/20 for two subsets"
        listed = ", ".join(groups[:5])
        go_on = f"or give --allow-absent for subsets without {name}"
        if len(linked.groups.different) < needed:  # not enough in all classes together
            go_on = "or ignore the groups (--group-by none)"
        raise invalid(
            "--group-by",
            f"such that each class has at least {needed} groups, for {what}",
            f"{len(groups)} of class {name} ({listed})",
            f"Ask for fewer ({fewer}), use smaller groups, {go_on}",
        )
