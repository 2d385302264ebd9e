"""The command ``fastcell export``: a classifier as an ONNX file that takes raw cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import data_of_run, show_next
from fastcell.cli.options import Run, Trust, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import FastcellError
from fastcell.system.messages import print_line
from fastcell.system.text import printable


def export(
    run: Run,
    out: Annotated[str, Spelled("OUT.onnx", also=("-o", "--out"))],
    *,
    data: Annotated[str | None, Spelled("DATA")] = None,
    check: int = 1_000,
    um_per_px: float | None = None,
    tta: bool = False,
    trust: Trust = None,
) -> int:
    """Write a classifier as one ONNX file with the preprocessing in it. The model takes the raw image of a cell, of any
    size, and returns the class probabilities. The file is kept only if its probabilities agree with those of torch.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        out: file to write
        data: data set to compare on [default: data set of the run, or simulated cells if it is gone]
        check: number of cells on which ONNX and torch are compared
        um_per_px: pixel size of the input images [um per pixel]; required for runs with --data.fit scale
        tta: average the probabilities over the four flips of every cell
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell export runs/20260131-142501-donors-cellnet cells.onnx
    """
    from fastcell.inference.onnx.export import export
    from fastcell.system import library_settings

    library_settings.quiet()
    file = Path(out)
    try:
        found, cells = export(
            Path(run),
            file,
            data=None if data is None else Path(data),
            num_cells=check,
            um_per_px=um_per_px,
            tta=tta,
            trust=packages_of(trust),
        )
    except MemoryError as error:
        raise FastcellError("the graph does not fit into memory. Take a smaller network.") from error
    same = f"{found.num_same:,} of {found.num_cells:,} of the same class"
    print_line(f"checked on {cells.origin}: largest difference from torch {found.probability:.1e}, {same}")
    print_line(f"{printable(file)}: {file.stat().st_size / 1e6:.1f} MB")
    show_next(("bench", *data_of_run(Path(run)), "--run", run))
    return 0


main = entry(export)
