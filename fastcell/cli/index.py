"""The command ``fastcell index``: the manifest of WebDataset tars that others wrote."""

from __future__ import annotations

from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import OutFolder, SplitArguments, Window
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line


def index(
    tars: Annotated[str, Spelled("TARS")],
    *,
    out: OutFolder = None,
    pattern: Annotated[str | None, Spelled("P")] = None,
    window: Window = None,
    um_per_px: float | None = None,
    name: Annotated[str | None, Spelled("NAME")] = None,
    jobs: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    splits: SplitArguments,
) -> int:
    """Make the manifest of existing WebDataset tars, which stay unchanged. For each cell, a tar holds the image
    KEY.jpg|jpeg|png|tif|tiff|npy and KEY.cls (class number or name) or KEY.json (class, group, collection).

    TARS is a folder, its address (s3://, https:// and others), or names of tars in the notation of webdataset:
    {000000..000123} for numbers, :: between names, pipe:COMMAND for the output of a command. classes.txt or labels.txt
    beside the tars names the classes, one per line. Unusable cells are listed in quarantine.parquet with the reason.
    After an interrupt or a crash the same command resumes from the tars that were read. Exit status: 0; 2 for an
    error; with --strict, 3 for unusable cells.

    Args:
        tars: folder of the tars, its address, or names of tars
        out: new folder for the manifest, or its address [default: beside the tars]
        pattern: form of the names inside the tars, with the places of class, group and collection, e.g.
            '{class}/{name}'; used for values that .cls and .json do not give
        window: for 16-bit images: the two grey levels that become black and white
        um_per_px: pixel size [um per pixel]
        name: name of the data set [default: from the path of TARS]
        jobs: worker processes [default: one per CPU]
        strict: if a cell is unusable, write nothing and exit with status 3
        overwrite: replace the manifest of an earlier index
        splits: see SplitArguments

    Examples:
        fastcell index tars --out cells
        fastcell index tars --pattern '{class}/{name}' --split 80/10/10
        fastcell index 's3://bucket/tars/cells-{000000..000123}.tar' --out cells
    """
    options = splits.read()
    from fastcell.packing.index import index
    from fastcell.packing.summary import can_train, describe_dataset

    manifest = index(
        tars,
        out=out,
        pattern=pattern,
        split=options,
        window=window,
        um_per_px=um_per_px,
        name=name,
        jobs=jobs,
        strict=strict,
        overwrite=overwrite,
        verbose=True,
    )
    print_line(describe_dataset(manifest, options.shares))
    made = out or manifest.place
    show_next(("qc", made), *([("fit", made)] if can_train(manifest) else []))
    return 0


main = entry(index)
