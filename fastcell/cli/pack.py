"""The command ``fastcell pack``: images of a source into shards, manifest and splits."""

from __future__ import annotations

import argparse
import re

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import (
    add_jobs_argument,
    add_layout_arguments,
    add_out_argument,
    add_split_arguments,
    add_um_per_px_argument,
    add_window_argument,
    grey_window,
    split_options,
)
from fastcell.cli.parser import CommandParser

FORMATS = {
    "rtdc": ".rtdc (RT-DC): events/image, features and pixel size; a file is a group",
    "ifcb": "IFCB bins: .adc + .roi, old and new style; a bin is a group",
    "tars": "WebDataset tars: image + .cls or .json",
    "lists": "the layout of the paper's data: Train.txt, Valid.txt, Test.txt, labels.txt",
    "tiff": "multi-page TIFF, OME-TIFF, ImageJ stacks: a page is a cell; montages with --tile",
    "images": "a folder of jpg, png, tif or npy images; class folders, or --pattern",
    "arrays": ".npy, .npz, .h5 (N, H, W), .mat (H x W x N): images, labels, groups, classes, features",
}
"""Name and help of each format of `fastcell.sources.registry`."""


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `pack`.
    """
    arguments = _parser().parse_args(argv)
    options = split_options(arguments)
    from fastcell.packing.pack import pack
    from fastcell.packing.summary import describe_dataset
    from fastcell.sources.registry import ReadOptions

    manifest = pack(
        arguments.src,
        arguments.out,
        pattern=arguments.pattern,
        read=ReadOptions(
            format=arguments.format,
            tile=arguments.tile,
            channel=arguments.channel,
            table=arguments.table,
            labels=arguments.labels,
            subtract_background=arguments.subtract_background,
        ),
        layout=arguments.layout,
        shard_cells=arguments.shard_cells,
        block_cells=arguments.block_cells,
        split=options,
        seed=arguments.seed,
        window=grey_window(arguments),
        um_per_px=arguments.um_per_px,
        collection=arguments.collection,
        name=arguments.name,
        jobs=arguments.jobs,
        strict=arguments.strict,
        verbose=True,
    )
    print(describe_dataset(manifest, options.shares if (manifest.split() != "").any() else None))
    show_next(("qc", arguments.out), ("fit", arguments.out))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell pack",
        "SRC OUT",
        description="Pack images of single cells into shards, manifest and splits.",
        epilog=_formats_help()
        + "\n\nBad images go to quarantine.parquet with a reason. After an interrupt or a crash the same command goes "
        "on from the shards that were finished. Exit status: 0, 2 for an error, 3 for bad images with --strict.",
    )
    parser.add_argument("src", metavar="SRC", help="file or folder of cells, see formats")
    add_out_argument(parser, "OUT", "folder to be made")
    parser.add_argument(
        "--pattern",
        metavar="P",
        help="where class, group and collection stand in a path, e.g. '{group}/{class}/{name}' or '{class}_{name}'; "
        "'{name}' for an unlabelled folder (default: {class}/{name}). A field ends at the first place where the rest "
        "fits: '{class}_{name}' reads S_phase_01.png as class S",
    )
    add_layout_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the global order (default: 0)")
    add_window_argument(parser)
    add_um_per_px_argument(parser)
    parser.add_argument("--collection", metavar="NAME", help="name of the recording")
    parser.add_argument("--name", help="name of the data set (default: that of SRC)")
    add_jobs_argument(parser, "worker processes")
    parser.add_argument("--strict", action="store_true", help="refuse bad images: exit 3 and make nothing")
    _add_reading_arguments(parser)
    add_split_arguments(parser)
    return parser


def _add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading")
    group.add_argument("--format", choices=FORMATS, help="of SRC (default: found by looking)")
    group.add_argument(
        "--table",
        metavar="FILE",
        help="CSV or Parquet: path, label, group, collection, um_per_px, split; other columns of numbers are features",
    )
    group.add_argument("--labels", metavar="FILE", help="one label per cell of an array: .npy, .csv or .txt")
    group.add_argument("--tile", type=_tile, metavar="HxW", help="tiles of a montage, e.g. 40x40")
    group.add_argument("--channel", type=int, metavar="C", help="of TIFF stacks with several channels, from 0")
    group.add_argument("--subtract-background", action="store_true", help="of .rtdc: image - image_bg")


def _formats_help() -> str:
    width = max(map(len, FORMATS))
    lines = [f"  {name:<{width}}  {text}" for name, text in FORMATS.items()]
    return "formats:\n" + "\n".join(lines)


def _tile(text: str) -> tuple[int, int]:
    """Return height and width [px] of ``40x40``."""
    match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be height x width in pixels, e.g. 40x40, got {text!r}")
    return int(match[1]), int(match[2])
