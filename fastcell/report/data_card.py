"""The data card: example cells, their sizes and counts, the cells in quarantine, and the splits."""

from __future__ import annotations

import numpy as np

from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.count_codes import count_codes
from fastcell.dataset.schema import SPLITS
from fastcell.errors import DataError
from fastcell.report.data_summary import (
    TrainingLook,
    count_quarantined,
    count_rows,
    describe_quality,
    describe_sizes,
    draw_figures,
    num_groups_in_several_subsets,
)
from fastcell.report.page_elements import PageTable, Section, embed_png, percent
from fastcell.splits.obstacles import cautions, split_obstacles
from fastcell.storage.whole_files import scratch_folder

_MOST_GROUPS = 40  # rows of the table of groups
_TITLES = {
    "contact_sheet": "Cells as recorded",
    "class_counts": "Training cells by class",
    "augmentation": "Augmentation",
}


def data_section(manifest: Manifest, split_name: str, seed: int, look: TrainingLook | None = None) -> Section:
    """Return the section that describes the data set.

    Args:
        manifest: Manifest of the data set.
        split_name: Split that groups the cell counts by subset. If the data set lacks it, counts have no subsets.
        seed: Random seed of the choice of cells on the contact sheet.
        look: Balance, augmentation and image size of the run on the page; None without a run.
    """
    info = manifest.info
    kind = f"Synthetic cells, made by {info.generator}" if info.synthetic else "Recorded cells"
    layouts = {"cell": "one record per cell", "block": "several hundred cells per record"}
    size = f"{len(manifest):,} cells in {len(info.shards):,} shards, {layouts.get(info.layout, info.layout)}"
    maker = info.created_by or "another program"
    told = cautions(split_obstacles(manifest, split_name)) if split_name in manifest.split_names() else []
    section = Section("data", "Data", [*told, f"{kind}: {info.name}. {size}. Packed by {maker}."])
    section.paragraphs += [f"{line[:1].upper()}{line[1:]}." for line in describe_sizes(manifest)]
    subsets = _subsets(manifest, split_name)
    header, *rows = count_rows(manifest, subsets)
    caption = "Cells by class and collection" if subsets is None else "Cells by class, collection and subset"
    section.tables.append(PageTable(header, rows[:-1], caption, 2, rows[-1:]))
    quarantined = count_quarantined(manifest)
    if quarantined:
        bad = [[name, reason, f"{count:,}"] for (name, reason), count in quarantined.items()]
        total = [["total", "", f"{sum(quarantined.values()):,}"]]
        caption = "Quarantine: images that were not packed"
        section.tables.append(PageTable(["class", "reason", "cells"], bad, caption, 2, total))
    else:
        section.paragraphs.append("Quarantine: empty; every image was packed.")
    section.tables.append(_provenance(manifest))
    section.paragraphs += [f"{line[:1].upper()}{line[1:]}." for line in describe_quality(manifest)]
    section.paragraphs += [] if look is None else [look.describe()]
    with scratch_folder() as scratch:
        try:
            for path in draw_figures(manifest, scratch, split_name, seed, look):
                section.pictures.append(embed_png(path, _TITLES[path.stem]))
        except DataError as error:  # a cell of the contact sheet is corrupt
            section.paragraphs.append(f"The cells could not be drawn: {error}")
    return section


def _provenance(manifest: Manifest) -> PageTable:
    """Return the table of source, licence, command and version, with a hint for each missing entry."""
    info = manifest.info
    missing = "not given (fastcell pack --{0} TEXT)"
    rows = [
        ["source", info.source or missing.format("source")],
        ["licence", info.licence or missing.format("licence")],
        ["packed by", info.command or "not recorded: by another command, or by an earlier version"],
        ["version of the data set", version_id(manifest)],
    ]
    return PageTable(["", ""], rows, "Where the data come from", 2)


def splits_section(manifest: Manifest, split_name: str) -> Section:
    """Return the section that counts cells by subset and group, and states whether each group is within one subset.

    Args:
        manifest: Manifest of the data set.
        split_name: Split to describe.
    """
    section = Section("splits", "Splits and groups")
    if split_name not in manifest.split_names():
        section.paragraphs.append(f"The data set has no split {split_name}.")
        return section
    subsets, groups = manifest.split_codes(split_name), manifest.groups
    sizes = count_codes((subsets, len(SPLITS))).tolist()
    shares = ", ".join(f"{part} {percent(size / len(manifest), 1)}" for part, size in zip(SPLITS, sizes, strict=False))
    section.paragraphs.append(f"Split {split_name}: {shares} of {len(manifest):,} cells.")
    if groups is None or not groups.names:
        section.paragraphs.append(
            "The cells have no groups (donors, recordings, files), so cells of one source may be in two subsets. "
            "A test score then applies to cells of the same sources, not to cells of a new source."
        )
        return section
    counts = count_codes((groups.codes, len(groups.names)), (subsets, len(SPLITS)))
    torn, num_alone = num_groups_in_several_subsets(manifest, subsets), int(counts[-1, :-1].sum())
    section.paragraphs.append(f"{len(groups.names):,} groups, {_about_groups(torn, num_alone)}")
    names = ["(none)", *groups.names] if counts[-1].any() else groups.names
    counts = np.roll(counts, 1, axis=0)[-len(names) :, :-1]
    shown = np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST_GROUPS]
    rows = [[names[i], *(f"{count:,}" for count in counts[i])] for i in shown.tolist()]
    caption = "Cells of each group by subset"
    if len(names) > _MOST_GROUPS:
        caption += f", the {_MOST_GROUPS} largest of {len(names):,} groups"
    section.tables.append(PageTable(["group", *SPLITS], rows, caption))
    return section


def _about_groups(num_torn: int, num_alone: int) -> str:
    """Return a text on what the test score means with groups in several subsets, or with cells without a group."""
    if num_torn:
        return f"{num_torn:,} of them in more than one subset: cells of known groups may raise the test score."
    if num_alone:
        return (
            f"each in one subset only. But {num_alone:,} cells have no group: their sources may be in several subsets."
        )
    return "each in one subset only: every test cell belongs to a group without training cells."


def _subsets(manifest: Manifest, split_name: str) -> np.ndarray | None:
    return manifest.split_codes(split_name) if split_name in manifest.split_names() else None
