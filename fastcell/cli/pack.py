"""The command ``fastcell pack``: images of a source into shards, manifest and splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import EngineArguments, Out, ReadingArguments, ShardArguments, SplitArguments, Window
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line


def pack(
    src: str,
    out: Out,
    *,
    pattern: Annotated[str | None, Spelled("P")] = None,
    seed: int = 0,
    window: Window = None,
    um_per_px: float | None = None,
    collection: Annotated[str | None, Spelled("NAME")] = None,
    name: Annotated[str | None, Spelled("NAME")] = None,
    source: Annotated[str, Spelled("TEXT")] = "",
    licence: Annotated[str, Spelled("TEXT")] = "",
    jobs: int | None = None,
    allow_absent: bool = False,
    strict: bool = False,
    formats: Annotated[bool, Spelled(alone=True)] = False,
    engine: EngineArguments,
    reading: ReadingArguments,
    shards: ShardArguments,
    splits: SplitArguments,
) -> int:
    """Pack images of single cells into a data set: shards, manifest and splits.

    formats:
      rtdc    .rtdc (RT-DC): events/image, features and pixel size; a file is a group
      ifcb    IFCB bins: .adc + .roi, old and new style; a bin is a group
      tars    WebDataset tars: image + .cls or .json
      lists   the layout of the paper's data: Train.txt, Valid.txt, Test.txt, labels.txt
      tiff    multi-page TIFF, OME-TIFF, ImageJ stacks: a page is a cell; montages with --tile
      images  a folder of jpg, png, tif or npy images; class folders, or --pattern
      arrays  .npy, .npz, .h5 (N, H, W), .mat (H x W x N): images, labels, groups, classes, features

    Unusable images are listed in quarantine.parquet with the reason. After an interrupt or a crash the same command
    resumes from the finished shards. Exit status: 0; 2 for an error; with --strict, 3 for unusable images.

    Args:
        src: file or folder of cells, see formats
        out: new folder of the data set, or s3://bucket/folder
        pattern: form of the paths, with the places of class, group and collection, e.g. '{group}/{class}/{name}' or
            '{class}_{name}'; '{name}' for images without labels. A field ends at the first place where the rest
            matches: '{class}_{name}' reads S_phase_01.png as class S [default: '{class}/{name}']
        seed: random seed of the order of the cells
        window: for 16-bit images: the two grey levels that become black and white
        um_per_px: pixel size [um per pixel]
        collection: name of the recording
        name: name of the data set [default: from the path of SRC]
        source: origin of the cells: publication, address, laboratory
        licence: licence of the cells
        jobs: worker processes [default: one per CPU]
        allow_absent: continue although a subset lacks a class, or a recording gives it away
        strict: if an image is unusable, write nothing and exit with status 3
        formats: print what is read from each format and what is not, and exit
        engine: see EngineArguments
        reading: see ReadingArguments
        shards: see ShardArguments
        splits: see SplitArguments

    Examples:
        fastcell pack images cells
        fastcell pack recording.rtdc cells --collection 2026-01-31 --split none
    """
    if formats:
        from fastcell.packing.format_page import describe_formats

        print_line(describe_formats())
        return 0
    options = splits.read()
    read = reading.read()
    from fastcell.dataset.manifest import Manifest
    from fastcell.packing.pack import pack
    from fastcell.packing.summary import can_train, describe_dataset
    from fastcell.remote.addresses import scheme_of
    from fastcell.remote.uploads import make_dataset_at

    values = pattern, seed, window, um_per_px, collection, name, source, licence, allow_absent, strict
    job = repr((str(Path(src).absolute()), values, reading, shards, splits))

    def make(folder: str) -> tuple[str, bool]:
        if scheme_of(out) is not None and (Path(folder) / "dataset.json").exists():  # its upload was interrupted
            manifest = Manifest.open(folder)
        else:
            with engine.use(jobs, src, Path(folder).absolute().parent) as num_jobs:
                manifest = pack(
                    src,
                    folder,
                    pattern=pattern,
                    read=read,
                    layout=shards.layout,
                    shard_cells=shards.shard_cells,
                    block_cells=shards.block_cells,
                    split=options,
                    allow_absent=allow_absent,
                    seed=seed,
                    window=window,
                    um_per_px=um_per_px,
                    collection=collection,
                    name=name,
                    origin=source,
                    licence=licence,
                    jobs=num_jobs,
                    strict=strict,
                    verbose=True,
                )
        has_split = bool((manifest.split_codes() >= 0).any())
        return describe_dataset(manifest, options.shares if has_split else None), can_train(manifest)

    description, may_train = make_dataset_at(out, job, make, verbose=True)
    print_line(description)
    show_next(("qc", out), *([("fit", out)] if may_train else []))
    return 0


main = entry(pack)
