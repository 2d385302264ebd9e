"""The command ``fastcell verify``: integrity of a data set."""

from __future__ import annotations

from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import Data, EngineArguments
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line

DAMAGED = 1
"""Exit status where damage was found."""


def verify(
    data: Data,
    *,
    jobs: int | None = None,
    engine: EngineArguments,
    list_: Annotated[str | None, Spelled("FILE.csv", also=("-o", "--out"))] = None,
) -> int:
    """Check a data set: its tables, its shards, and the stored bytes of every cell against their hash in the manifest.

    Exit status: 0 if the data set is intact; 1 if damage is found; 2 for an error, such as a folder that is not a data
    set, or a manifest that cannot be read or contradicts itself.

    Args:
        data: folder made by pack, index or synth
        jobs: threads [default: one per CPU]; with --backend, workers [default: all]
        engine: see EngineArguments
        list_: CSV file to write, with cell_id, key, shard, class and reason of all corrupt cells

    Examples:
        fastcell verify cells
        fastcell verify cells --list corrupt.csv
    """
    listed = None if list_ is None else check_output_file("--list", list_)
    from fastcell.packing.verify import verify, write_list

    with engine.use(jobs, data) as num_jobs:
        verdict = verify(data, jobs=num_jobs, by_workers=engine.backend is not None, verbose=True)
    print_line(verdict.describe())
    if listed is not None:
        write_list(listed, verdict.losses)
    if verdict.whole:
        show_next(("info", data), ("fit", data))
    elif listed is None:
        show_next(("verify", data, "--list", "lost.csv"))
    return 0 if verdict.whole else DAMAGED


main = entry(verify)
