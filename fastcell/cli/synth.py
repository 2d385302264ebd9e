"""The command ``fastcell synth``: simulated cells as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import Out, ShardArguments, SplitArguments
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line


def synth(
    out: Out,
    *,
    cells: int = 8_000,
    seed: int = 0,
    defects: Annotated[float, Spelled("SHARE")] = 0.05,
    name: Annotated[str | None, Spelled("TEXT")] = None,
    jobs: int | None = None,
    shards: ShardArguments,
    splits: SplitArguments,
) -> int:
    """Make a synthetic data set: simulated ATOM cells of four classes, with their true parameters in truth.parquet.

    The simulation is modelled on 30 real cells. Use the cells to try the program; results on them do not carry over to
    real cells. After an interrupt or a crash the same command resumes from the finished shards.

    Args:
        out: new folder of the data set, or s3://bucket/folder
        cells: number of cells
        seed: random seed of the cells and of their order
        defects: share of faulty images: empty, or with a cut, defocused, ghost or doublet cell
        name: name of the data set [default: Synthetic ATOM cells]
        jobs: worker processes [default: one per CPU]
        shards: see ShardArguments
        splits: see SplitArguments

    Examples:
        fastcell synth cells
        fastcell synth cells --cells 100000 --layout block
    """
    options = splits.read()
    from fastcell.dataset.manifest import Manifest
    from fastcell.packing.summary import describe_dataset
    from fastcell.remote.addresses import scheme_of
    from fastcell.remote.uploads import make_dataset_at
    from fastcell.simulator.synth import synthesize

    def make(folder: str) -> str:
        if scheme_of(out) is not None and (Path(folder) / "dataset.json").exists():  # its upload was interrupted
            return describe_dataset(Manifest.open(folder), options.shares)
        manifest = synthesize(
            folder,
            cells,
            seed,
            defects=defects,
            layout=shards.layout,
            shard_cells=shards.shard_cells,
            block_cells=shards.block_cells,
            split=options,
            name=name,
            jobs=jobs,
            verbose=True,
        )
        return describe_dataset(manifest, options.shares)

    print_line(make_dataset_at(out, repr((cells, seed, defects, name, shards, splits)), make, verbose=True))
    show_next(("info", out), ("fit", out))
    return 0


main = entry(synth)
