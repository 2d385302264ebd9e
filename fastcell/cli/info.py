"""The command ``fastcell info``: contents of a data set, as tables and, on request, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import fit_step, show_next
from fastcell.cli.options import Data, check_least
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.storage.places import check_output_folder
from fastcell.system.messages import print_line
from fastcell.system.text import printable


def info(
    data: Data,
    *,
    figures: Annotated[str | None, Spelled("DIR", also=("-o", "--out"))] = None,
    split_name: Annotated[str, Spelled("NAME")] = "default",
    seed: int = 0,
) -> int:
    """Show the contents of a data set as tables and, on request, as figures.

    Args:
        data: folder made by pack, index or synth
        figures: folder for figures (PNG)
        split_name: split of the data set to describe
        seed: random seed of the cells on the contact sheet

    Examples:
        fastcell info cells
        fastcell info cells --figures figures
    """
    check_least(0, seed=seed)
    from fastcell.dataset.manifest import Manifest
    from fastcell.report.data_summary import describe_contents, draw_figures

    manifest = Manifest.open(data)
    if figures:
        check_output_folder("--figures", figures, parents=True)
    print_line(describe_contents(manifest, split_name))
    if figures:
        for path in draw_figures(manifest, Path(figures), split_name, seed):
            print_line(f"wrote {printable(path)}")
    show_next(("audit", manifest.place), *fit_step(manifest))
    return 0


main = entry(info)
