"""The command ``fastcell split``: new splits of a data set, by group, with copies of a cell in one subset."""

from __future__ import annotations

from typing import Annotated

from fastcell.cli.next_steps import fit_step, show_next
from fastcell.cli.options import Data, SplitArguments
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line


def split(
    data: Data,
    *,
    group_by: Annotated[str | None, Spelled("WHAT")] = None,
    name: Annotated[str | None, Spelled("NAME")] = None,
    no_near: bool = False,
    merge_large: bool = False,
    allow_absent: bool = False,
    force: bool = False,
    jobs: int | None = None,
    splits: SplitArguments,
) -> int:
    """Make new splits of a data set: all cells of a group, and all copies of a cell, are in the same subset.

    Exact copies, including rotations by quarter turns and mirror images, are always found. Near copies (other angles,
    shifts, brightness, blur) are searched within each class and collection; the recall of the search is measured on
    artificial copies of the same cells. duplicates.parquet lists all copies. Train with --data.split_name NAME, or
    NAME-fold-0 and so on.

    Args:
        data: folder made by pack, index or synth
        group_by: property whose equal values stay in one subset: group, collection, a pattern on the keys such as
            '{group}/*/{name}', FILE:COLUMN of a CSV or Parquet file with cell_id or key, or none [default: group if the
            cells have groups, else none]
        name: name of the split [default: by-group, by-collection and so on]
        no_near: search for exact copies only
        merge_large: keep linked near copies together even if they are more than 20 cells and more than 1 % of a class
        allow_absent: continue even if a subset lacks a class, or class and recording cannot be told apart
        force: replace existing splits of that name
        jobs: processes and threads [default: one per CPU]
        splits: see SplitArguments

    Examples:
        fastcell split cells --group-by group
        fastcell split cells --name cv --folds 5
    """
    options = splits.read()
    from fastcell.splits.resplit import describe_resplit, resplit

    made = resplit(
        data,
        options,
        group_by=group_by,
        name=name,
        near=not no_near,
        merge_large=merge_large,
        allow_absent=allow_absent,
        force=force,
        jobs=jobs,
        verbose=True,
    )
    print_line(describe_resplit(made, options.shares or (0, 0, 0)))
    show_next(*fit_step(made.manifest, next(iter(made.splits))))
    return 0


main = entry(split)
