"""The command ``fastcell explain``: what a network looks at, its calibration, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import OtherData, OutFolder, Run, Trust, check_least, check_seed, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.storage.places import check_output_folder
from fastcell.system.messages import print_line
from fastcell.system.text import printable

Part = Literal["network", "filters", "occlusion", "embedding", "calibration", "roc_pr", "reject", "errors"]


def explain(
    run: Run,
    *,
    data: OtherData = None,
    out: OutFolder = None,
    parts: list[Part] | None = None,
    cells: int = 100,
    positions: int = 32,
    embed: int = 1000,
    seed: int = 0,
    patch: Annotated[int | None, Spelled("PX")] = None,
    trust: Trust = None,
) -> int:
    """Draw what a trained network looks at, how well its probabilities are calibrated, and where it is wrong.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        data: data set of the cells to draw [default: data set of the run]
        out: folder for the figures [default: RUN/explain]
        parts: figures to draw, separated by commas [default: all]
        cells: number of cells with an occlusion map
        positions: number of positions of the occluding square along each axis
        embed: number of cells in the t-SNE plots
        seed: random seed of the choice of cells and of t-SNE
        patch: side of the occluding square [default: an eighth of the image]
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell explain runs/20260131-142501-donors-cellnet
        fastcell explain runs/20260131-142501-donors-cellnet --parts calibration,errors --out figures
    """
    check_least(1, cells=cells, embed=embed, positions=positions, **({} if patch is None else {"patch": patch}))
    check_seed("--seed", seed)
    from fastcell.explain.explanation import Explanation, draw_parts
    from fastcell.plots.figure_files import FigureFiles
    from fastcell.runs.open_run import open_run
    from fastcell.system import library_settings

    library_settings.prepare_torch()
    if out:
        check_output_folder("--out", out, parents=True)
    opened = open_run(Path(run), data, packages_of(trust))
    explanation = Explanation(
        opened,
        FigureFiles(Path(out) if out else opened.folder / "explain"),
        cells,
        positions,
        patch,
        embed,
        seed,
        say=print_line,
    )
    network = opened.model.network_name
    print_line(printable(f"{opened.folder}: {network}, {opened.checkpoint}, {explanation.about}"))
    draw_parts(explanation, list(get_args(Part)) if parts is None else list(parts))
    print_line(f"figures {printable(explanation.figures.folder)}")
    show_next(("report", opened.folder))
    return 0


main = entry(explain)
