"""The command ``fastcell watch``: the cells of a folder or file that is being written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import after_predict, show_next
from fastcell.cli.options import LiveArguments, Out, ReadingArguments, Run, check_least
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import invalid
from fastcell.system.messages import print_line
from fastcell.system.text import join_lines


def watch(
    run: Run,
    folder: Annotated[str, Spelled("FOLDER")],
    out: Out,
    *,
    until_idle: float | None = None,
    poll: float = 1.0,
    opening: LiveArguments = LiveArguments(),  # noqa: B008, immutable
    pattern: Annotated[str | None, Spelled("P")] = None,
    um_per_px: float | None = None,
    reading: ReadingArguments = ReadingArguments(),  # noqa: B008, immutable
    threads: int | None = None,
) -> int:
    """Classify the cells of a folder of images, an .rtdc file or a folder of IFCB bins while an instrument writes it.
    Each cell is classified once, incomplete files are tried again later, and the final table is the same as from
    fastcell predict. The command ends with SIGTERM, Ctrl-C or --until-idle; after a crash the same command resumes.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        folder: folder or file that is being written
        out: table to write at the end: .csv, .parquet or .fcs
        until_idle: end after this time without changes [s] [default: end at SIGTERM or Ctrl-C]
        poll: interval between two checks for new cells [s]
        opening: classification
        pattern: position of class and group in the paths, as of pack, such as '{group}/{name}'
        um_per_px: pixel size of cells whose file does not give one [um per pixel]
        reading: reading
        threads: threads of the preprocessing [default: all cores]

    Examples:
        fastcell watch runs/20260131-142501-donors-cellnet /data/today --out today.parquet
        fastcell watch runs/20260131-142501-donors-cellnet now.rtdc --out now.csv --until-idle 60
    """
    if threads is not None:
        check_least(1, threads=threads)
    for name, value in (("--until_idle", until_idle), ("--poll", poll)):
        if value is not None and not 0 < value < 1e7:
            raise invalid(name, "above 0", value, "It is a time in seconds")
    if not Path(folder).exists():
        raise invalid("FOLDER", "a folder or file that exists", folder, "Watch the folder in which it will appear")
    from fastcell.inference.source_cells import open_cells
    from fastcell.live.watch import WatchTask
    from fastcell.live.watch import watch as watch_source
    from fastcell.packing.records import check_levels
    from fastcell.predictions.from_source import closing_lines
    from fastcell.predictions.table import check_output
    from fastcell.runs.run_folder import find_checkpoint
    from fastcell.sources.image_folder import Pattern
    from fastcell.system import library_settings

    check_levels(None, um_per_px)
    if pattern is not None:
        Pattern(pattern, needs_name=False)  # raises; later, errors are taken for those of an incomplete source
    library_settings.quiet()
    target = check_output(out)
    options = reading.read(pattern)
    live = opening.open(run, threads, print_line)
    depth, checkpoint = live.classifier.preprocessing.depth, find_checkpoint(Path(run))
    task = WatchTask(
        live.classifier,
        lambda: open_cells(folder, read=options, window=live.window, um_per_px=um_per_px, depth=depth),
        Path(folder),
        target,
        checkpoint,
        live.min_confidence,
        until_idle,
        poll,
    )
    print_line(f"watching {join_lines([folder])}; Ctrl-C or SIGTERM ends with the table")
    start = time.monotonic()
    predictions = watch_source(task, print_line)
    print_line(join_lines(closing_lines(predictions, time.monotonic() - start)))
    show_next(*after_predict(target, checkpoint))
    return 0


main = entry(watch)
