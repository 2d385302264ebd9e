"""The command ``fastcell export``: a classifier as an ONNX file for raw cells, or as a folder with a model card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import data_of_run, show_next
from fastcell.cli.options import Run, Trust, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import FastcellError, invalid
from fastcell.system.messages import print_line
from fastcell.system.text import printable

_ENDING = re.compile(r"\.[A-Za-z]+\d?")


def export(
    run: Run,
    out: Annotated[str, Spelled("OUT", also=("-o", "--out"))],
    *,
    data: Annotated[str | None, Spelled("DATA")] = None,
    check: int = 1_000,
    licence: str = "",
    um_per_px: float | None = None,
    tta: bool | None = None,
    trust: Trust = None,
) -> int:
    """Write a classifier for other programs or other people. If OUT ends in .onnx, it is a single ONNX file that
    includes the preprocessing: raw images in, class probabilities out. Otherwise OUT is a folder with the weights as
    safetensors, their description and a model card; fastcell predict and fastcell.load can open it. The result is kept
    only if its probabilities agree with those of the run.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        out: file to write, with the ending .onnx, or a new folder
        data: data set to compare on and to describe [default: data set of the run, or simulated cells if it is gone]
        check: number of cells on which the result and the run are compared
        licence: licence of the weights, such as cc-by-4.0, for the model card
        um_per_px: pixel size of the input images of an ONNX file [um per pixel]; required for runs with --data.fit
            scale
        tta: average the probabilities of an ONNX file over the four flips of every cell, as a run with --model.tta does
            anyway
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell export runs/20260131-142501-donors-cellnet cells.onnx
        fastcell export runs/20260131-142501-donors-cellnet donors-model --licence cc-by-4.0
    """
    from fastcell.system import library_settings

    library_settings.quiet()
    place = Path(out)
    try:
        if place.suffix == ".onnx":
            if licence:
                raise invalid("--licence", "left out for an ONNX file, which has no card", licence, "Leave it out")
            _to_onnx(Path(run), place, data, check, um_per_px, tta, packages_of(trust))
        else:
            _to_folder(Path(run), place, data, check, licence, um_per_px, tta, packages_of(trust))
    except MemoryError as error:
        raise FastcellError("the graph does not fit into memory. Take a smaller network.") from error
    return 0


def _to_onnx(
    run: Path,
    file: Path,
    data: str | Path | None,
    check: int,
    um_per_px: float | None,
    tta: bool | None,
    trust: list[str],
) -> None:
    from fastcell.inference.onnx.export import export

    found, cells = export(run, file, data=data, num_cells=check, um_per_px=um_per_px, tta=tta, trust=trust)
    same = f"{found.num_same:,} of {found.num_cells:,} of the same class"
    print_line(f"checked on {cells.origin}: largest difference from torch {found.probability:.1e}, {same}")
    print_line(f"{printable(file)}: {file.stat().st_size / 1e6:.1f} MB")
    show_next(("bench", *data_of_run(run), "--run", run))


def _to_folder(
    run: Path,
    folder: Path,
    data: str | Path | None,
    check: int,
    licence: str,
    um_per_px: float | None,
    tta: bool | None,
    trust: list[str],
) -> None:
    if _ENDING.fullmatch(folder.suffix) and not folder.is_dir():
        rule = "a file name that ends in .onnx, or a new folder"
        raise invalid("OUT", rule, str(folder), "A folder holds model.safetensors, config.json and README.md")
    for name, given in (("--um-per-px", um_per_px), ("--tta", tta)):
        if given is not None:
            hint = "Give it to fastcell predict, or to fastcell.load"
            raise invalid(name, "left out for a folder, which keeps the run as it is", given, hint)
    from fastcell.inference.sharing.share import share

    found = share(run, folder, data=data, num_cells=check, licence=licence, trust=trust)
    print_line(f"checked on {found.origin}: largest difference from the run {found.largest:.1e}")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print_line(f"{printable(folder)}: model.safetensors, config.json and README.md, {size / 1e6:.1f} MB")
    words = data_of_run(run)
    show_next(("predict", folder, *words, "--out", "predictions.parquet") if words else ("bench", "--run", folder))


main = entry(export)
