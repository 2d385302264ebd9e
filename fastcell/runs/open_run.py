"""Open a finished run: its network and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.cell_labels import CellLabels
from fastcell.dataset.views import View, ViewConfig, select
from fastcell.errors import DIVERGED_HINT, ArgumentError, DataError, DivergedError, invalid
from fastcell.loading.batch import Batch
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.settings import LoaderSettings
from fastcell.models.lightning_module import CellModule
from fastcell.runs.checkpoint import load_classifier
from fastcell.runs.run_folder import CONFIG_FILE, check_run_format, run_title, scored_checkpoint
from fastcell.storage.places import local_path
from fastcell.system import resources
from fastcell.system.text import list_names

_BATCH = 256
_MOST_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class FinishedRun:
    """Run folder of ``fastcell fit`` with its network and its data set.

    Attributes:
        folder: the run folder.
        checkpoint: file name of the scored weights.
        model: the model, in evaluation mode, on `device`.
        manifest: manifest of the data set.
        split_name: name of the split used in training.
        quality: True if the run excluded cells according to verdicts.csv.
        settings: section `data` of config.yaml.
        outputs: probabilities by subset, cached by `fastcell.inference.probabilities.part_outputs`.
    """

    folder: Path
    checkpoint: str
    model: CellModule
    manifest: Manifest
    split_name: str
    quality: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def seed(self) -> int | None:
        """Random seed of the run, which determined its initial weights; None if config.yaml has no seed."""
        seed = yaml.safe_load((self.folder / CONFIG_FILE).read_text(encoding="utf-8")).get("seed_everything")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.model.device

    @property
    def title(self) -> str:
        """Title of the run: data set, network and date."""
        return run_title(self.folder, self.manifest.info.name, self.model.network_name)

    @property
    def network(self) -> nn.Module:
        """The layers used for evaluation, with averaged weights if there are any."""
        return self.model.network if self.model.average is None else self.model.average.module

    @cached_property
    def labels(self) -> CellLabels:
        """Label of every cell of the manifest by cell_id, index into the network's classes; -1 without a label."""
        numbers = [self.model.classes.index(name) for name in self.manifest.info.classes]
        return CellLabels(self.manifest.class_codes, np.array([*numbers, -1], np.int64))

    def rows(self, part: str) -> np.ndarray:
        """Return the cell_ids of the labelled cells of a subset of the split, (n,) int64; may be empty."""
        try:
            view = select(self.manifest, ViewConfig(part, self.split_name, quality=self.quality, labelled=True))
        except ArgumentError:
            return np.empty(0, np.int64)
        return view.rows

    def num_trained(self) -> int:
        """Return the number of training cells: the labelled cells of the training subset, or a subsample of them."""
        return int(self.trained_counts().sum())

    def trained_counts(self) -> np.ndarray:
        """Return the training cells of each class of the data set, (K,) int64."""
        return np.bincount(self.manifest.cell_labels[self._trained_rows()], minlength=len(self.manifest.info.classes))

    def _trained_rows(self) -> np.ndarray:
        share = self.settings.get("subsample")
        if not isinstance(share, int | float):
            return self.rows("train")
        if isinstance(share, float) and share > 1 and share.is_integer():
            share = int(share)  # as the command line parses a number
        view = ViewConfig("train", self.split_name, share, quality=self.quality, labelled=True)
        try:
            return select(self.manifest, view).rows
        except ArgumentError:  # another data set with fewer cells
            return self.rows("train")

    def batches(self, rows: np.ndarray) -> Iterator[Batch]:
        """Yield batches of cells (n,) int64, by increasing id, preprocessed as in training.

        Padding and corrupt cells have weight 0.
        """
        share = evaluation_share(len(rows), min(_BATCH, max(1, len(rows))))
        config = LoaderSettings(device=self.device, threads=resources.num_cpus())
        yield from CellLoader(
            View(self.manifest, np.sort(rows)),
            share,
            Preprocessing.from_dict(dict(self.model.preprocessing)),
            config,
            labels=self.labels,
            corrupt_cells=CorruptCells(self.manifest, "replace"),
        )


def open_run(folder: Path, data_path: str | None = None, trust: Sequence[str] = ()) -> FinishedRun:
    """Open a run folder and load its network, on a GPU if available.

    Args:
        folder: folder of a finished run of ``fastcell fit``, or a checkpoint in it.
        data_path: data set; None for the path stored in the run.
        trust: packages whose code a run with a user-defined network may import.

    Raises:
        ArgumentError: `folder` is not a run folder, or needs code of a package that is not in `trust`.
        DivergedError: a weight is NaN or infinite.
        DataError: its files are damaged, or the data set is missing or has other classes.
    """
    chosen = folder if folder.is_file() and (folder.parent / CONFIG_FILE).is_file() else None
    folder = folder if chosen is None else folder.parent
    settings = read_data_settings(folder)
    checkpoint = scored_checkpoint(folder) if chosen is None else chosen
    if checkpoint is None:
        raise DataError(
            f"{folder} must have a checkpoint (best.ckpt or last.ckpt), got none. Let the run go on, or start anew."
        )
    model = load_classifier(checkpoint, trust)
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise DivergedError(
            f"the weights of {str(checkpoint)!r} are not finite: training has diverged. {DIVERGED_HINT}."
        )
    path = data_path if data_path is not None else settings.get("path")
    try:
        data = CellDataModule(path, **_cache_of(settings))
        manifest = data.manifest
    except DataError as error:
        if data_path is not None:
            raise
        raise DataError(
            f"the data set of {folder}, {str(path)!r}, must be there to look at its cells, but: {error} "
            "If it has moved, say where it is: --data.path DATA."
        ) from None
    data.use_preprocessing(Preprocessing.from_dict(dict(model.preprocessing)), model.classes)
    check_classes(model, data)
    split_name = str(settings.get("split_name", "default"))
    manifest.packed_split(split_name)  # raises here if the split does not exist
    device = torch.device("cuda") if resources.has_gpu() else torch.device("cpu")
    return FinishedRun(
        folder,
        checkpoint.name,
        model.to(device).eval(),
        manifest,
        split_name,
        bool(settings.get("quality", True)),
        settings,
    )


def _cache_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the cache of a run whose data set is at an address; the default one if the folder is not there."""
    folder = settings.get("cache")
    if not isinstance(folder, str) or not Path(folder).is_dir():
        return {}
    return {"cache": folder, "cache_gib": settings.get("cache_gib")}


def read_data_settings(folder: Path) -> dict[str, Any]:
    """Return the section `data` of a run's config.yaml.

    Raises:
        ArgumentError: `folder` is not a run folder.
        DataError: the file is damaged, or a newer version wrote the run.
    """
    path = local_path("RUN", folder) / CONFIG_FILE
    if not path.is_file():
        what = "no config.yaml in it" if folder.is_dir() else "no such folder"
        hint = "fastcell fit prints it at its end, such as runs/20260131-142501-donors-cellnet"
        raise invalid("RUN", "the folder of a run of fastcell fit", f"{folder} ({what})", hint)
    check_run_format(folder)
    try:
        if path.stat().st_size > _MOST_CONFIG_BYTES:
            raise ValueError("it is too large")
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
        if not isinstance(settings, dict) or not isinstance(settings.get("path"), str | None):
            raise TypeError("its section data is of another kind")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a file written by fastcell fit ({reason}). Take another run.") from None
    return settings


def check_classes(model: CellModule, data: CellDataModule) -> None:
    """Check that the model knows every class of the data.

    Raises:
        DataError: the data has a class that the model does not know.
    """
    unknown = [name for name in data.info.classes if name not in model.classes]
    if unknown:
        raise DataError(
            f"classes of {data.path} must be among the checkpoint's ({list_names(model.classes)}), got also "
            f"{list_names(unknown)}. Take a checkpoint that was trained on them, or use fastcell predict."
        )
