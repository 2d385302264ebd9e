"""Types and groups of options that several commands share, and conversion of their values."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_args

from fastcell.cli.signature import Spelled
from fastcell.errors import invalid

if TYPE_CHECKING:
    from fastcell.live.live_classifier import LiveClassifier
    from fastcell.sources.registry import ReadOptions
    from fastcell.splits.make_splits import SplitOptions
    from fastcell.system.messages import Say

Data = Annotated[str, Spelled("DATA")]
DataOrDefault = Annotated[str | None, Spelled("DATA")]
OtherData = Annotated[str | None, Spelled("DATA", former=("--data.path",))]
"""Data set to use instead of that of a run."""
Run = Annotated[str, Spelled("RUN")]
Out = Annotated[str, Spelled("OUT", also=("-o", "--out"))]
OutFile = Annotated[str | None, Spelled("FILE", also=("-o",))]
OutFolder = Annotated[str | None, Spelled("DIR", also=("-o",))]
File = Annotated[str | None, Spelled("FILE")]
Trust = Annotated[str | None, Spelled("PACKAGES")]
"""Packages whose code a run with a user-defined network may import."""
Window = Annotated[tuple[float, float] | None, Spelled("LO HI")]
Preset = Literal["demo", "paper", "fast", "thorough"]
Layout = Literal["cell", "block"]

PRESETS: tuple[str, ...] = get_args(Preset)


Format = Literal["rtdc", "ifcb", "tars", "lists", "tiff", "images", "arrays"] | str
"""Format of the files; an installed package may add others, by the ending of their files."""


class ReadingArguments(NamedTuple):
    """Options for reading SRC.

    Attributes:
        format: format of the files [default: detected]
        table: CSV or Parquet file with the columns path, label, group, collection, um_per_px, split; further columns of
            numbers become features
        labels: file with one label per cell of an array: .npy, .csv or .txt
        tile: height and width of the tiles of a montage [px], e.g. 40x40
        channel: channel to read from TIFF files that hold several channels: its number, counted from 0, or its name in
            OME-TIFF
        pages: meaning of the pages of a TIFF file that does not declare it: one cell each, or the channels of one cell
        subtract_background: subtract image_bg from the images of .rtdc files
    """

    format: Format | None = None
    table: File = None
    labels: File = None
    tile: Annotated[str | None, Spelled("HxW")] = None
    channel: Annotated[int | str | None, Spelled("C")] = None
    pages: Literal["cells", "channels"] | None = None
    subtract_background: bool = False

    def read(self, pattern: str | None = None) -> ReadOptions:
        """Return the options for reading a source.

        Raises:
            ArgumentError: the tile does not have the form 40x40.
        """
        from fastcell.sources.registry import ReadOptions

        values = self._asdict() | {"tile": None if self.tile is None else _tile(self.tile), "pattern": pattern}
        return ReadOptions(**values)


class LiveArguments(NamedTuple):
    """Options for opening a run for cells as they come.

    Attributes:
        min_confidence: minimum confidence of a prediction, 0 to 1; cells with less are unsure
        accuracy: accuracy to reach, such as 0.95; sets the minimum confidence so that predictions for validation cells
            have this accuracy
        window: grey levels of 16-bit cells that become black and white [default: those of the run]
        backend: program that runs the network; auto: the fastest that agrees with torch [default: earlier choice of
            auto for this run, else torch]
        precision: arithmetic of the network
        trust: packages whose code the network of the run may import, separated by commas
    """

    min_confidence: float | None = None
    accuracy: float | None = None
    window: Window = None
    backend: Literal["auto", "torch", "onnxruntime", "openvino"] | None = None
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    trust: Trust = None

    def open(self, run: str, threads: int | None, say: Say) -> LiveClassifier:
        """Open a run, and say which limits its answers have.

        Args:
            run: run folder or checkpoint.
            threads: threads of the preprocessing and the network; None for all cores.
            say: function that receives the lines for the user.

        Raises:
            ArgumentError: an option breaks its rule.
            DataError: the checkpoint is missing or damaged.
        """
        from fastcell.live.live_classifier import open_live
        from fastcell.packing.records import check_levels

        check_levels(self.window, None)
        values = self._asdict() | {"trust": packages_of(self.trust)}
        live, limits = open_live(run, threads=threads, **values)
        for line in limits.lines:
            say(line)
        return live


class EngineArguments(NamedTuple):
    """Where the shards are worked on.

    Attributes:
        backend: workers: loky, processes of this machine; dask, those of a cluster
        scheduler: address of the Dask scheduler, tcp://HOST:8786 [default: workers here]
    """

    backend: Literal["loky", "dask"] | None = None
    scheduler: Annotated[str | None, Spelled("ADDRESS")] = None

    def use(self, jobs: int | None, reads: str, writes: Path | None = None) -> AbstractContextManager[int | None]:
        """Return a context in which tasks run on the engine; it gives the number of jobs for the command.

        Args:
            jobs: number of tasks at a time.
            reads: path or address that the workers read.
            writes: folder that they write into.
        """
        from fastcell.system.engines import use_engine

        return use_engine(self.backend, self.scheduler, jobs, reads=[reads], writes=writes)


class ShardArguments(NamedTuple):
    """Arrangement of the cells in shards.

    Attributes:
        layout: content of a record: one cell, or one block of raw cells
        shard_cells: cells per shard [default: at most 10,000]
        block_cells: cells per block, with --layout block [default: 256]
    """

    layout: Layout = "cell"
    shard_cells: int | None = None
    block_cells: int | None = None


class SplitArguments(NamedTuple):
    """Assignment of the cells to training, validation and test subset.

    Attributes:
        split: shares of the three subsets in %, or none for no split
        split_seed: random seed of the splits
        folds: also write the splits fold-0, fold-1, ... for cross-validation with K folds, or with one fold per group
    """

    split: Annotated[str, Spelled("TRAIN/VALID/TEST")] = "65/15/20"
    split_seed: int = 0
    folds: Annotated[str | None, Spelled("K|groups")] = None

    def read(self) -> SplitOptions:
        """Return the options of a split.

        Raises:
            ArgumentError: a value breaks its rule.
        """
        from fastcell.splits.by_group import check_split_seed
        from fastcell.splits.make_splits import SplitOptions

        folds: int | Literal["groups"] | None = None
        if self.folds == "groups":
            folds = "groups"
        elif self.folds is not None:
            if not self.folds.isdecimal() or int(self.folds) < 2:
                rule = "a number >= 2 or the word groups"
                raise invalid("--folds", rule, self.folds, "Write for example --folds 5")
            folds = int(self.folds)
        return SplitOptions(parse_shares(self.split), check_split_seed(self.split_seed), folds)


def scored_run(path: str) -> Path:
    """Return the run folder that RUN names: a folder, or the checkpoint in it that was scored.

    Raises:
        ArgumentError: RUN is another checkpoint of the run, which has no scores.
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


def packages_of(trust: str | None) -> list[str]:
    """Return the names of packages with commas between them as a list; empty for None."""
    return [name.strip() for name in (trust or "").split(",") if name.strip()]


def parse_shares(text: str) -> tuple[float, float, float] | None:
    """Return the shares, summing to 1, of ``"65/15/20"`` or ``"0.65/0.15/0.2"``; None for ``"none"``.

    Raises:
        ArgumentError: the text has another form.
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


MOST_THREADS = 1024
MOST_SEED = 2**32 - 1
"""Largest seed of scikit-learn and Lightning."""


def check_seed(name: str, seed: int) -> None:
    """Check a seed that is given to scikit-learn or Lightning.

    Raises:
        ArgumentError: it is not in [0, 2^32).
    """
    if not 0 <= seed <= MOST_SEED:
        raise invalid(name, f"a whole number from 0 to {MOST_SEED:,}", seed, "Give another seed")


def check_least(least: int, **values: int) -> None:
    """Check that numbers are not below their least value, e.g. ``check_least(1, cells=cells)``.

    Raises:
        ArgumentError: a number is below its least value.
    """
    for name, value in values.items():
        if value < least:
            raise invalid(f"--{name}", f"at least {least}", value, "Leave it out for the default")


def _tile(text: str) -> tuple[int, int]:
    """Return height and width [px] of ``40x40``.

    Raises:
        ArgumentError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text.strip().lower())
    if match is None:
        raise invalid("--tile", "height x width in pixels", text, "Write for example --tile 40x40")
    return int(match[1]), int(match[2])
