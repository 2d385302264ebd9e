"""Views: which cells of a data set are used, and how often. A view holds cell_ids, not copies of pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastcell.dataset.class_balance import check_balance, class_weights, oversample, resolve_balance
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import SPLITS
from fastcell.errors import ArgumentError, invalid


@dataclass(frozen=True, repr=False)
class SteadyManifest(Manifest):
    """A manifest whose splits and verdicts do not change after the first read, even if their files change.

    Attributes:
        source: manifest that reads the files.
        kept: values that were read, by name.
    """

    source: Manifest = field(kw_only=True)
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> SteadyManifest:
        """Return a steady manifest of the same data set and the same splits."""
        return cls(manifest.path, manifest.info, manifest.table, manifest.marked, manifest.remote, source=manifest)

    def split(self, name: str = "default") -> np.ndarray:
        key = f"split {name}"
        if key not in self.kept:
            self.kept[key] = self.source.split(name)
        return self.kept[key].copy()

    def split_names(self) -> list[str]:
        return self.source.split_names()

    def verdicts(self) -> np.ndarray:
        if "verdicts" not in self.kept:
            self.kept["verdicts"] = self.source.verdicts()
        return self.kept["verdicts"].copy()

    def reread(self) -> None:
        """Read the files again at the next call."""
        self.kept.clear()


@dataclass(frozen=True)
class ViewConfig:
    """Selection of cells from a manifest.

    Attributes:
        split: subset, ``train``, ``valid`` or ``test``; None for every cell.
        split_name: name of the split that defines the subset.
        subsample: None for all cells; a float in (0, 1] keeps that share of every class; an integer keeps that many
            cells, distributed over the classes in proportion to their size.
        balance: ``none``; ``oversample`` repeats cells of smaller classes until all classes have the same number of
            rows; ``weights`` keeps the cells and computes loss weights; ``auto`` oversamples classes of very different
            sizes (`fastcell.dataset.class_balance`).
        balance_cap: largest mean number of repeats of a cell, at least 1; None for no limit, or 10 with ``auto``.
        seed: seed of the subsample and of the choice of repeated cells.
        quality: leave out the cells that ``verdicts.csv`` drops.
        labelled: leave out cells without a class (for training and scores).

    Examples:
        >>> ViewConfig("train", subsample=0.5).seed
        0
        >>> ViewConfig("training")
        Traceback (most recent call last):
        ...
        fastcell.errors.ArgumentError: split must be one of train, valid, test, got 'training'. ...
    """

    split: str | None = None
    split_name: str = "default"
    subsample: int | float | None = None
    balance: str = "none"
    seed: int = 0
    quality: bool = True
    labelled: bool = False
    balance_cap: float | None = None

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise invalid("split", f"one of {', '.join(SPLITS)}", self.split, "Leave it out for every cell")
        check_balance(self.balance, self.balance_cap)
        if self.subsample is not None:
            share = isinstance(self.subsample, float)
            if isinstance(self.subsample, bool) or self.subsample <= 0 or (share and self.subsample > 1):
                raise invalid(
                    "subsample", "a share in (0, 1] or a number of cells", self.subsample, "Leave it out for all"
                )


@dataclass(frozen=True)
class View:
    """Selected rows of a manifest.

    Attributes:
        manifest: manifest of the data set.
        rows: (n,) int64, cell_ids in stored order; a cell that is used twice occurs twice.
        class_weights: (K,) float32, loss weights with mean 1 over the rows; None if all classes have equal weight.
    """

    manifest: Manifest
    rows: np.ndarray
    class_weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64, index into the data set's classes, -1 for a cell without a class."""
        return self.manifest.labels[self.rows]

    def class_counts(self) -> np.ndarray:
        """Return the number of rows per class, (K,) int64, including repeats."""
        labels = self.labels
        return np.bincount(labels[labels >= 0], minlength=len(self.manifest.info.classes))

    def cell_counts(self) -> np.ndarray:
        """Return the number of different cells per class, (K,) int64."""
        labels = self.manifest.labels[np.unique(self.rows)]
        return np.bincount(labels[labels >= 0], minlength=len(self.manifest.info.classes))

    def emphasis(self) -> np.ndarray | None:
        """Return the weight of a cell of each class in training, (K,) float32: mean number of repeats, or loss weight.

        None if all cells count equally.
        """
        if self.class_weights is not None:
            return self.class_weights
        rows, cells = self.class_counts(), self.cell_counts()
        if np.array_equal(rows, cells):
            return None
        return (rows / np.maximum(cells, 1)).astype(np.float32)


def select(manifest: Manifest, config: ViewConfig) -> View:
    """Select the cells that ``config`` describes. Quarantined cells are never selected.

    Raises:
        ArgumentError: the selection is empty, or `subsample` exceeds the number of cells.
    """
    keep = np.ones(len(manifest), dtype=bool)
    banned = manifest.quarantine().column("cell_id").drop_null().to_numpy()
    keep[banned] = False
    if config.split is not None:
        keep &= manifest.split(config.split_name) == config.split
    if config.quality:
        keep &= manifest.verdicts()
    if config.labelled:
        keep &= manifest.labels >= 0
    rows = np.flatnonzero(keep)
    if config.subsample is not None:
        rows = _subsample(rows, manifest.labels[rows], config.subsample, config.seed)
    if len(rows) == 0:
        what = "labelled cell" if config.labelled else "cell"
        where = "" if config.split is None else f" in the {config.split} subset of split {config.split_name!r}"
        raise ArgumentError(f"{manifest.place} has no {what}{where}. Look at it with `fastcell info {manifest.place}`.")
    labels, num_classes = manifest.labels[rows], len(manifest.info.classes)
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    balance, cap = resolve_balance(config.balance, config.balance_cap, counts)
    if balance == "oversample":
        return View(manifest, oversample(rows, labels, config.seed, cap))
    return View(manifest, rows, class_weights(labels, num_classes) if balance == "weights" else None)


def _subsample(rows: np.ndarray, labels: np.ndarray, amount: int | float, seed: int) -> np.ndarray:
    """Keep a share of every class (at least one cell each), or a number of cells distributed by largest remainder."""
    if not isinstance(amount, float) and amount > len(rows):
        raise invalid("subsample", f"at most {len(rows)}, the cells there are", amount, "Leave it out for all")
    names, counts = np.unique(labels, return_counts=True)
    wanted = counts * (amount if isinstance(amount, float) else amount / len(rows))
    if isinstance(amount, float):
        quota = np.maximum(np.floor(wanted + 0.5).astype(np.int64), 1)
    else:
        quota = np.floor(wanted).astype(np.int64)
        rest = int(amount) - int(quota.sum())
        quota[np.argsort(quota - wanted, kind="stable")[:rest]] += 1
    kept = [
        np.random.default_rng([seed, 1, int(name) + 1]).permutation(rows[labels == name])[:count]
        for name, count in zip(names, quota, strict=True)
    ]
    return np.sort(np.concatenate(kept))
