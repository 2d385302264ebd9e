"""The page of comparisons without a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.dataset.class_balance import resolve_balance
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError
from fastcell.report import run_sections
from fastcell.report.compare_sections import read_study
from fastcell.report.data_card import data_section, splits_section
from fastcell.report.data_summary import TrainingLook
from fastcell.report.page import Page, PageOptions
from fastcell.report.page_elements import Section
from fastcell.training.recipe import Recipe


def study_page(folders: list[Path], options: PageOptions) -> Page:
    """Return a page of comparisons without a run; it describes their data set if that is still available."""
    values = read_study(folders[0])
    manifest, reason = _data_of(values, options.data_path)
    names = ", ".join(map(str, values.get("methods", [])))
    if len(folders) == 1:
        page = Page(f"Comparison on {values.get('data', folders[0].name)}", f"Methods: {names}.")
    else:
        page = Page(f"{len(folders)} comparisons", f"Data and environment are those of the first one, {folders[0]}.")
    if manifest is None:
        page.lead += f" {reason}"
    else:
        split_name = next(iter(_split_names(values)), "default")
        page.synthetic = manifest.info.synthetic
        page.facts = [("data", manifest.info.name), ("cells", f"{len(manifest):,}")]
        page.sections = [
            data_section(manifest, split_name, options.seed, study_look(values, manifest)),
            _study_splits(values, manifest, split_name),
        ]
    files = ", ".join(str(folder / "study.json") for folder in folders)
    again = Section("again", "Repeat this run", [f"The settings are in {files}."])
    page.sections += [run_sections.environment_section(values.get("environment", {})), again]
    return page


def _data_of(values: Mapping[str, Any], given: str | None) -> tuple[Manifest | None, str]:
    """Return the data set of a comparison, or None and the reason why it is unavailable.

    A path in `given` is used without a check against the comparison.
    """
    if given is not None:
        return Manifest.open(given), ""
    if values.get("study") == "leakage" and "changes" in values and "source" not in values:
        return None, "Its data set was the synthetic default."  # "path" is that of the augmented images
    path = values.get("source", values.get("path"))
    if path is None:
        return None, "study.json does not name the data set. Name it with --data."
    try:
        manifest = Manifest.open(path)
    except (DataError, OSError) as error:
        return None, f"Its data set cannot be read: {error} If it has moved, name it with --data."
    if len(manifest) != values.get("source_cells", len(manifest)):
        return (None, f"{path} now holds another set of {len(manifest):,} cells. Name the original one with --data.")
    return manifest, ""


def study_look(values: Mapping[str, Any], manifest: Manifest) -> TrainingLook | None:
    """Return balance, augmentation and image size of a comparison; None if its study.json does not tell them."""
    try:
        stored = values["recipe"]
        recipe = Recipe(str(stored["preset"]), data=dict(stored["data"]))
        labels = manifest.class_codes[manifest.class_codes >= 0]
        balance, cap = resolve_balance(recipe.balance, recipe.balance_cap, np.bincount(labels))
        fit = recipe.data.get("fit", "stretch")
        return TrainingLook(balance, recipe.augmentation, int(recipe.image_size), fit, balance_cap=cap, of="comparison")
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _study_splits(values: Mapping[str, Any], manifest: Manifest, split_name: str) -> Section:
    """Return the section on the splits of a comparison: splits of the data set, or splits that it made itself."""
    section = splits_section(manifest, split_name)
    if split_name not in manifest.split_names():
        told = [
            str(one["text"]) for one in values.get("schemes", {}).values() if isinstance(one, dict) and "text" in one
        ]
        section.paragraphs = [f"The comparison made its own splits: {'; '.join(told) or split_name}."]
    return section


def _split_names(values: Mapping[str, Any]) -> list[str]:
    names = [scheme.get("splits") for scheme in values.get("schemes", {}).values() if isinstance(scheme, dict)]
    return [str(name) for some in names if isinstance(some, list) for name in some]
