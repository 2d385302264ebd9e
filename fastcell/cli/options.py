"""Options that several commands share: names, defaults, help and how their values are read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastcell.cli.parser import CommandParser
from fastcell.errors import invalid

if TYPE_CHECKING:
    from fastcell.splits.make_splits import SplitOptions

LAYOUTS = ("cell", "block")
PRESETS = ("demo", "paper", "fast")


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``DATA``: a data set that `fastcell` has made."""
    parser.add_argument("data", metavar="DATA", help="folder made by pack, index or synth")


def add_data_path_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, also ``--data.path``: another data set than that of a run."""
    parser.add_argument("--data", "--data.path", dest="data_path", metavar="DATA", help="data set (the one of the run)")


def add_out_argument(parser: CommandParser, metavar: str, text: str) -> None:
    """Add ``OUT``, a positional argument that may be given as ``-o`` or ``--out`` as well."""
    parser.add_argument("out", metavar=metavar, nargs="?", default=argparse.SUPPRESS, help=text)
    parser.add_argument("-o", "--out", metavar=metavar, help="the same as an option")
    parser.needed["out"] = metavar


def scored_run(path: str) -> Path:
    """Return the run folder that RUN names: a folder, or the checkpoint in it that was scored.

    Raises:
        ArgumentError: another checkpoint of the run, whose scores nobody knows.
    """
    run = Path(path)
    if run.suffix != ".ckpt" or not run.is_file():
        return run
    from fastcell.runs.run_folder import scored_checkpoint

    scored = scored_checkpoint(run.parent)
    if scored is None or scored.name != run.name:
        name = "none" if scored is None else scored.name
        raise invalid("RUN", f"the checkpoint that was scored ({name}) or its folder", path, f"Give {run.parent}")
    return run.parent


def add_jobs_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--jobs``, a number of `what` (threads, worker processes); None: one for each CPU."""
    parser.add_argument("--jobs", type=int, metavar="J", help=f"{what} (default: one for each CPU)")


def add_layout_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--layout``, ``--shard-cells`` and ``--block-cells``: how shards hold cells."""
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="cell", help="one cell or one block of raw cells per record"
    )
    parser.add_argument("--shard-cells", type=int, metavar="N", help="cells per shard (default: up to 10,000)")
    parser.add_argument("--block-cells", type=int, default=256, metavar="N", help="cells per block (default: 256)")


def add_window_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--window``; read it with `grey_window`."""
    parser.add_argument(
        "--window", type=float, nargs=2, metavar=("LO", "HI"), help="grey levels of 16-bit images for black and white"
    )


def grey_window(arguments: argparse.Namespace) -> tuple[float, float] | None:
    """Return the grey levels (low, high) that ``--window`` names, or None."""
    return None if arguments.window is None else (arguments.window[0], arguments.window[1])


def add_um_per_px_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--um-per-px``, the size of a pixel [um]."""
    parser.add_argument("--um-per-px", type=float, metavar="X", help="micrometres per pixel")


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--split``, ``--split-seed`` and ``--folds``; read them with `split_options`."""
    group = parser.add_argument_group("split")
    group.add_argument(
        "--split", default="65/15/20", metavar="TRAIN/VALID/TEST", help="shares in %%, or none (default: %(default)s)"
    )
    group.add_argument("--split-seed", type=int, default=0, metavar="S", help="seed of the splits (default: 0)")
    group.add_argument(
        "--folds",
        metavar="K|groups",
        help="also write the splits fold-0 ... for K-fold cross-validation; groups: each group once as the test side",
    )


def split_options(arguments: argparse.Namespace) -> SplitOptions:
    """Return what the arguments of `add_split_arguments` say.

    Raises:
        ArgumentError: a value breaks its rule.
    """
    from fastcell.splits.by_group import check_split_seed
    from fastcell.splits.make_splits import SplitOptions

    folds: int | Literal["groups"] | None = None
    if arguments.folds == "groups":
        folds = "groups"
    elif arguments.folds is not None:
        if not arguments.folds.isdecimal() or int(arguments.folds) < 2:
            rule = "a number >= 2 or the word groups"
            raise invalid("--folds", rule, arguments.folds, "Write for example --folds 5")
        folds = int(arguments.folds)
    return SplitOptions(parse_shares(arguments.split), check_split_seed(arguments.split_seed), folds)


def parse_shares(text: str) -> tuple[float, float, float] | None:
    """Return the shares, summing to 1, of ``"65/15/20"`` or ``"0.65/0.15/0.2"``; None for ``"none"``.

    Raises:
        ArgumentError: the text is neither.
    """
    if text.strip().lower() == "none":
        return None
    rule = "three shares train/valid/test that sum to 100 (or to 1), or none"
    try:
        numbers = [float(piece) for piece in text.split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    if len(numbers) != 3 or not (abs(total - 100) < 1e-6 or abs(total - 1) < 1e-6) or min(numbers) < 0:
        raise invalid("--split", rule, text, "Write for example --split 65/15/20")
    train, valid, test = (number / total for number in numbers)
    return train, valid, test


def check_least(arguments: argparse.Namespace, **least: int) -> None:
    """Check that numbers are not below their least values, e.g. ``cells=1``.

    Raises:
        ArgumentError: one is.
    """
    for name, bound in least.items():
        if getattr(arguments, name) < bound:
            raise invalid(f"--{name}", f"at least {bound}", getattr(arguments, name), "Leave it out for the default")
