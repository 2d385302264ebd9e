"""Schemes that divide the cells into training, validation and test subsets, in one split or in several folds.

The test cells of all splits of a scheme are pooled, so no cell may be tested twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import subset_codes, subset_names
from fastcell.dataset.rows.subset_codes import SubsetCodes
from fastcell.errors import ArgumentError, did_you_mean, invalid
from fastcell.splits.by_group import MAX_GROUP_FOLDS, k_folds, leave_one_group_out
from fastcell.splits.obstacles import Obstacle, find_obstacles, origins_of, usable_cells

FEW_GROUPS = 10
DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class SplitManifest(Manifest):
    """A manifest with additional splits that are not stored in its folder.

    Attributes:
        subsets: Subset of each cell, (N,) str, by name of the split, in the form of `Manifest.split`.
    """

    subsets: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, subsets: Mapping[str, np.ndarray]) -> SplitManifest:
        """Return a manifest with these splits in addition to its own."""
        return cls.like(manifest, subsets=dict(subsets))

    def packed_split(self, name: str = "default") -> SubsetCodes:
        if name not in self.subsets:
            return super().packed_split(name)
        return SubsetCodes(subset_codes(self.subsets[name]))

    def split_names(self) -> list[str]:
        return sorted({*self.subsets, *super().split_names()})


@dataclass(frozen=True)
class Scheme:
    """One way to divide the cells.

    Attributes:
        name: Short name of letters, digits and dashes.
        text: Description for captions.
        splits: Subset of each cell, (N,) str, by name of the split.
    """

    name: str
    text: str
    splits: dict[str, np.ndarray]


def find_schemes(manifest: Manifest, asked: str | None, seed: int = 0) -> list[Scheme]:
    """Return the schemes that ``--splits`` requests.

    Args:
        manifest: Manifest of the data set.
        asked: Comma-separated names: ``groups`` (each group once as the test subset), ``random`` (folds that ignore
            groups, as many folds as groups if there are 2 to 10, otherwise 5), ``folds`` (all ``fold-*`` splits of the
            data set), and names of its splits, which are pooled. None selects ``groups`` if there are 2 to 10 of them,
            otherwise ``default``.
        seed: Random seed of new splits.

    Raises:
        ArgumentError: A name is unknown, a cell is tested twice, or the groups do not allow the scheme.
    """
    groups = num_groups(manifest)
    if asked is None:
        asked = "groups" if 2 <= groups <= FEW_GROUPS else "default"
    words = list(dict.fromkeys(word.strip() for word in asked.split(",") if word.strip()))
    there = manifest.split_names()
    schemes, named = [], []
    for word in words:
        if word == "groups":
            schemes.append(by_groups(manifest, seed))
        elif word == "random":
            schemes.append(at_random(manifest, groups if 2 <= groups <= FEW_GROUPS else DEFAULT_FOLDS, seed))
        elif word == "folds":
            folds = [name for name in there if name.startswith("fold-")]
            if not folds:
                raise invalid(
                    "--splits",
                    "a scheme of the data set: it has no folds",
                    word,
                    "Pack it with --folds 5, or use random",
                )
            subsets = {name: manifest.split(name) for name in folds}
            schemes.append(Scheme("folds", f"{len(folds)} folds, test cells pooled", subsets))
        elif word in there:
            named.append(word)
        else:
            rule = f"among groups, random, folds, {', '.join(there)}"
            meant = did_you_mean(word, ["groups", "random", "folds", *there])
            raise invalid("--splits", rule, word, f"{meant} List them with `fastcell info {manifest.place}`".strip())
    if named:
        text = f"split {named[0]}" if len(named) == 1 else f"splits {', '.join(named)}, test cells pooled"
        schemes.append(Scheme("-".join(named), text, {name: manifest.split(name) for name in named}))
    if not schemes:
        raise invalid("--splits", "at least one name", asked, "Leave it out for the default")
    for scheme in schemes:
        check_pooled(scheme)
    return schemes


def scheme_obstacles(manifest: Manifest, schemes: Sequence[Scheme]) -> dict[str, list[Obstacle]]:
    """Return the obstacles of each scheme by name, see `fastcell.splits.obstacles`; its test cells are pooled.

    That ``random`` puts cells of one group into several subsets is not an obstacle: its purpose is to show the effect.
    """
    usable, origins = usable_cells(manifest), origins_of(manifest)
    found = {}
    for scheme in schemes:
        splits = [np.where(usable, subsets, "") for subsets in scheme.splits.values()]
        found[scheme.name] = find_obstacles(
            manifest.labels, manifest.info.classes, splits, origins, torn_on_purpose=scheme.name == "random"
        )
    return found


def num_groups(manifest: Manifest) -> int:
    """Return the number of groups of the labelled cells; 0 if a labelled cell has no group."""
    if manifest.groups is None:
        return 0
    names = np.unique(manifest.groups[manifest.class_codes >= 0])
    return 0 if "" in names else len(names)


def by_groups(manifest: Manifest, seed: int = 0) -> Scheme:
    """Return a scheme in which each group is once the test subset.

    Raises:
        ArgumentError: A labelled cell has no group, or the number of groups is not 2 to 200.
    """
    groups = num_groups(manifest)
    if not 2 <= groups <= MAX_GROUP_FOLDS:
        raise ArgumentError(
            f"--splits groups must have 2 to {MAX_GROUP_FOLDS} groups and every labelled cell in one, got {groups} "
            "such groups. Pack the data with {group} in the --pattern, or use random or folds."
        )
    assert manifest.groups is not None
    labelled = manifest.class_codes >= 0
    folds = leave_one_group_out(manifest.cell_labels[labelled], manifest.groups[labelled], seed)
    return Scheme("groups", f"one of {len(folds)} groups left out in turn", _spread(folds, labelled, "group"))


def at_random(manifest: Manifest, num_folds: int, seed: int = 0) -> Scheme:
    """Return a scheme of random folds that ignore groups."""
    labelled = manifest.class_codes >= 0
    folds = k_folds(manifest.cell_labels[labelled], None, num_folds, seed)
    return Scheme("random", f"{num_folds} random folds, groups ignored", _spread(folds, labelled, "random"))


def check_pooled(scheme: Scheme) -> None:
    """Check that no cell is in the test subset of two splits.

    Raises:
        ArgumentError: A cell is in the test subset of two splits.
    """
    times = np.sum([subsets == "test" for subsets in scheme.splits.values()], axis=0)
    if (times > 1).any():
        raise invalid(
            "--splits",
            "splits that share no test cell",
            ", ".join(scheme.splits),
            "Name one of them, or folds, or groups",
        )


def _spread(folds: list[np.ndarray], labelled: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Return the subsets of all cells from those of the labelled cells; unlabelled cells get ""."""
    spread = {}
    for number, fold in enumerate(folds):
        subsets = np.full(len(labelled), "", "<U5")
        subsets[labelled] = subset_names(fold)
        spread[f"{name}-{number}"] = subsets
    return spread
