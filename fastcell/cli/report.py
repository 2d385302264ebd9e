"""The command ``fastcell report``: one HTML page of a run and of comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastcell.cli.next_steps import Word, data_of_run, existing_data, show_next
from fastcell.cli.options import File, OtherData, OutFile, Run, Trust, check_least, check_seed, packages_of, scored_run
from fastcell.cli.parser import entry
from fastcell.errors import invalid
from fastcell.system.messages import print_line
from fastcell.system.text import printable


def report(
    *runs: Run,
    out: OutFile = None,
    data: OtherData = None,
    cells: int = 600,
    bench: File = None,
    no_explain: bool = False,
    allow_absent: bool = False,
    seed: int = 0,
    trust: Trust = None,
) -> int:
    """Write one self-contained HTML page about a run: data, settings, scores, figures, a browser of cells and errors,
    speed, environment, and the commands that reproduce the run. Comparisons become sections of the page.

    Args:
        runs: run folder of fastcell fit, folders of fastcell compare, or both
        out: file of the page [default: report.html in the first folder]
        data: data set of the cells to show [default: data set of the run]
        cells: number of cells in the browser, misclassified cells first
        bench: file of fastcell bench --out, which adds the speed of each part of the machine
        no_explain: draw no figures of the network; existing ones in RUN/explain are used
        allow_absent: write the page even if a subset lacks a class, or class and recording cannot be told apart; it
            then carries a warning
        seed: random seed of the choice of cells
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell report runs/20260131-142501-donors-cellnet
        fastcell report runs/20260131-142501-donors-cellnet comparison --out page.html
    """
    check_least(0, cells=cells)
    check_seed("--seed", seed)
    if bench and not Path(bench).is_file():
        raise invalid("--bench", "a file that fastcell bench --out wrote", bench, "Leave it out for none")
    from fastcell.report.page import PageOptions
    from fastcell.report.write_page import write_page
    from fastcell.system import library_settings

    library_settings.prepare_torch()
    folders = [scored_run(path) for path in runs]
    page = write_page(
        folders,
        Path(out) if out else None,
        PageOptions(
            data,
            cells,
            Path(bench) if bench else None,
            not no_explain,
            seed,
            allow_absent,
            print_line,
            packages_of(trust),
        ),
    )
    print_line(f"wrote {printable(page)} ({page.stat().st_size / 1e6:,.1f} MB)")
    show_next(*_next_of(folders, data))
    return 0


def _next_of(folders: list[Path], data: str | None) -> Iterator[tuple[Word, ...]]:
    """Yield the commands that may follow a page of these folders."""
    from fastcell.report.compare_sections import is_study, read_study

    run = next((folder for folder in folders if (folder / "config.yaml").is_file()), None)
    if run is None:
        source = read_study(folders[0]).get("source") if is_study(folders[0]) else None
        yield ("fit", *existing_data(data or source))
        return
    paths = existing_data(data) or data_of_run(run)
    for path in paths:
        yield ("review", path, run, "--select", "agrees=no sort=-confidence")
        yield ("predict", run, path, "--out", "predictions.parquet")
    if not paths:
        yield ("export", run, run / "cells.onnx")


main = entry(report)
