"""Summarize the contents of a data set as tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from fastcell.dataset.decode import ENCODINGS
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.corrected_labels import describe_labels
from fastcell.dataset.parquet import PART_ROWS
from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.dataset.rows.count_codes import count_codes
from fastcell.dataset.schema import SPLITS
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation, Draw, draw
from fastcell.ops.constants import FitName
from fastcell.ops.matrices import matrices
from fastcell.plots import figure_files
from fastcell.storage.places import check_output_folder
from fastcell.system.text import join_lines, largest_rows, printable

CONTACT_SHEET_COLUMNS = 8
MOST_SHEET_CLASSES = 24
AUGMENTATIONS = ("original", "flip", "translation", "rotation", "blur", "noise")


@dataclass(frozen=True)
class TrainingLook:
    """Preparation of the training cells in a run, for the figures of its data.

    Attributes:
        balance: ``none``, ``oversample`` or ``weights``.
        augmentation: random changes; `Augmentation.none()` if there were none.
        image_size: side of the square images [px].
        fit: way to fit a cell into the square.
        subsample: share or number of the training cells; None for all.
        seed: seed of balance and subsample.
        quality: whether cells that verdicts.csv drops were left out.
        balance_cap: largest mean number of repeats of a cell; None for no limit.
        of: what trained: ``run`` or ``comparison``.
    """

    balance: str
    augmentation: Augmentation
    image_size: int
    fit: FitName
    subsample: int | float | None = None
    seed: int = 0
    quality: bool = True
    balance_cap: float | None = None
    of: str = "run"

    def describe(self) -> str:
        """Return a sentence on balance, image size and augmentation."""
        ways = {
            "none": "classes as they are",
            "oversample": "rare classes repeated"
            + ("" if self.balance_cap is None else f" up to {self.balance_cap:g} times"),
            "weights": "classes as they are, weighted in the loss",
        }
        augmented = f"augmented by {_listed_changes(self.augmentation)}"
        if self.augmentation.is_none:
            augmented = "without augmentation"
        return (
            f"This {self.of} trained with {ways.get(self.balance, self.balance)}, images of {self.image_size} x "
            f"{self.image_size} px ({self.fit}), {augmented}."
        )


def _listed_changes(changes: Augmentation) -> str:
    """Return the changes of an augmentation as text, e.g. ``mirroring left to right, rotation up to 10°``."""
    blurred, noisy = (f"{100 * share:g} %" for share in (changes.blur_probability, changes.noise_probability))
    texts = {
        "flip_horizontal": "mirroring left to right",
        "flip_vertical": "mirroring top to bottom",
        "rotation_deg": f"rotation up to {changes.rotation_deg:g}°",
        "translation": f"shifts up to {100 * changes.translation:g} % of the side",
        "scale": f"magnification or reduction by a factor of up to {1 + changes.scale:g}",
        "blur_sigma": f"blur up to {changes.blur_sigma:g} px in {blurred} of the cells",
        "noise_std": f"noise up to {changes.noise_std:g} grey levels in {noisy} of the cells",
    }
    shares = {"blur_sigma": changes.blur_probability, "noise_std": changes.noise_probability}
    return ", ".join(text for name, text in texts.items() if getattr(changes, name) and shares.get(name, 1))


def describe_contents(manifest: Manifest, split_name: str = "default") -> str:
    """Return a text summary: cell counts by class, collection and subset, sizes, bytes, quarantine and quality.

    Args:
        manifest: Manifest of the data set.
        split_name: Split that groups the counts by subset.

    Raises:
        ArgumentError: The data set has no split `split_name`, unless that is ``default``.
    """
    info = manifest.info
    kind = f"synthetic ({info.generator})" if info.synthetic else "recorded"
    megabytes = f"{sum(shard['bytes'] for shard in info.shards) / 1e6:,.1f} MB in {manifest.place}"
    num_cells = f"{len(manifest):,} cell{'s' * (len(manifest) != 1)}"
    num_shards = f"{len(info.shards):,} shard{'' if len(info.shards) == 1 else 's'}"
    lines = [
        f"{info.name}: {num_cells}, {kind}, layout {info.layout}, {num_shards}, {megabytes}",
        *describe_sizes(manifest),
        "",
    ]
    names = manifest.split_names()
    if split_name not in names and split_name != "default":
        raise ArgumentError(f"--split-name must be one of {', '.join(names) or '(none)'}, got {split_name!r}.")
    subsets = manifest.split_codes(split_name) if split_name in names else np.full(len(manifest), -1, np.int8)
    lines += _counts(manifest, subsets)
    lines.append(f"splits: {', '.join(names) or 'none'} (shown: {split_name if split_name in names else 'none'})")
    if manifest.groups is not None:
        groups = len(manifest.groups.names)
        torn = num_groups_in_several_subsets(manifest, subsets)
        lines.append(f"groups: {groups:,}, {torn:,} of them in more than one subset")
    names = manifest.feature_names()
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        lines.append(f"features: {len(names):,} of the instrument ({shown})")
    lines += _quarantine(manifest)
    lines += describe_quality(manifest)
    lines += describe_labels(manifest.marked, manifest.recorded_classes())
    return join_lines(lines)


def draw_figures(
    manifest: Manifest, folder: Path, split_name: str = "default", seed: int = 0, look: TrainingLook | None = None
) -> list[Path]:
    """Draw contact sheet, class counts and augmentation (the forms of the paper's Figures 1, 2 and 4).

    Args:
        manifest: Manifest of the data set.
        folder: Folder for the PNG files; created if it does not exist.
        split_name: Split whose training subset is balanced in the figure of class counts.
        seed: Random seed of the choice of cells.
        look: Balance, augmentation and image size of a run; None to show all available changes.

    Returns:
        Paths of the PNG files. Beside each PNG are a PDF and a CSV with the shown cells or counts.

    Raises:
        DataError: A shown cell cannot be read.
    """
    from fastcell.plots import basic_figures

    check_output_folder("--figures", folder, parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    title = manifest.info.name
    if manifest.info.synthetic and "synthetic" not in title.lower():
        title += " (synthetic)"
    of_class = {name: rows for name, rows in _rows_by_class(manifest).items() if len(rows)}
    largest = sorted(of_class, key=lambda name: -len(of_class[name]))[:MOST_SHEET_CLASSES]
    chosen = {
        name: rng.permutation(rows)[:CONTACT_SHEET_COLUMNS] for name, rows in of_class.items() if name in set(largest)
    }
    pictures = {name: list(read_cells(manifest, rows)) for name, rows in chosen.items()}
    sheet = basic_figures.contact_sheet(pictures, f"{title}: raw cells, one scale", CONTACT_SHEET_COLUMNS)
    caption = (
        f"Raw cells, up to {CONTACT_SHEET_COLUMNS} of each class drawn at random out of {len(manifest):,} in all, at "
        "one scale, in their own proportions, grey levels as recorded."
    )
    if len(of_class) > len(chosen):
        caption += f" The {len(chosen)} largest of {len(of_class):,} classes."
    figure_files.save_figure(sheet, folder / "contact_sheet", _shown(manifest, chosen), caption)
    written = [folder / "contact_sheet.png"]
    if look is None or not look.augmentation.is_none:
        first = {name: rows[:1] for name, rows in chosen.items()}
        figure, caption = _augmentation_sheet(title, pictures, look, seed)
        figure_files.save_figure(figure, folder / "augmentation", _shown(manifest, first), caption)
        written.append(folder / "augmentation.png")
    if split_name in manifest.split_names() and manifest.info.classes:
        try:
            before, after = _training_counts(manifest, split_name, look)
        except ArgumentError:
            return written  # the split has no labelled training subset
        written.append(folder / "class_counts.png")
        stem = folder / "class_counts"
        basic_figures.draw_class_counts(before, after, stem, f"{title}: training cells by class, {split_name}")
    return written


def _training_counts(
    manifest: Manifest, split_name: str, look: TrainingLook | None
) -> tuple[dict[str, int], dict[str, int] | None]:
    """Return the training cells by class, and the rows after balancing; None if the run repeated no cell."""
    base = ViewConfig("train", split_name, labelled=True)
    if look is not None:
        base = replace(base, subsample=look.subsample, seed=look.seed, quality=look.quality)
    balance, cap = ("oversample", None) if look is None else (look.balance, look.balance_cap)
    views = [base, replace(base, balance=balance, balance_cap=cap)] if balance == "oversample" else [base]
    counts = [
        dict(zip(manifest.info.classes, select(manifest, view).class_counts().tolist(), strict=True)) for view in views
    ]
    return counts[0], counts[1] if len(counts) > 1 else None


def _augmentation_sheet(
    title: str, pictures: Mapping[str, list[np.ndarray]], look: TrainingLook | None, seed: int
) -> tuple[Figure, str]:
    """Return the figure of augmented cells and its caption: draws of the run, or one kind of change at a time."""
    from fastcell.plots import basic_figures

    if look is None:
        augmented = {name: _augment(cells[0], seed) for name, cells in pictures.items()}
        text = f"{title}: augmentation, 128 x 128"
        caption = (
            "The first cell of each class, changed by one kind of augmentation at a time, strongly, so that it can be "
            "seen."
        )
        return basic_figures.contact_sheet(augmented, text, len(AUGMENTATIONS), AUGMENTATIONS), caption
    number, size = len(AUGMENTATIONS), look.image_size
    changes = draw(look.augmentation, seed, 0, np.arange(number))
    drawn = {name: _transformed(cells[0], changes, size, look.fit) for name, cells in pictures.items()}
    caption = f"The first cell of each class, with {number} random draws of the augmentation. {look.describe()}"
    sheet = basic_figures.contact_sheet(drawn, f"{title}: augmentation of this {look.of}, {size} x {size}", number)
    return sheet, caption


def _shown(manifest: Manifest, rows: Mapping[str, np.ndarray]) -> pa.Table:
    """Return a table of the cells on a sheet, with the row of the sheet for each."""
    ids = np.concatenate([np.empty(0, np.int64), *rows.values()])
    names = np.repeat(list(rows), [len(one) for one in rows.values()])
    return pa.table(
        {"row": names.astype(str), "cell_id": ids, "key": manifest.select_cells(["key"], ids).column("key")}
    )


def _rows_by_class(manifest: Manifest) -> dict[str, np.ndarray]:
    rows = {name: np.flatnonzero(manifest.class_codes == label) for label, name in enumerate(manifest.info.classes)}
    rows["(unlabelled)"] = np.flatnonzero(manifest.class_codes < 0)
    return rows


def _augment(cell: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return one picture (128, 128) uint8 per name in `AUGMENTATIONS`, with strengths large enough to be visible."""
    num, size = len(AUGMENTATIONS), 128

    def only(name: str, value: float) -> np.ndarray:
        return np.array([value if name == shown else 0.0 for shown in AUGMENTATIONS])

    changes = Draw(
        flip_horizontal=only("flip", 1) > 0,
        flip_vertical=np.zeros(num, bool),
        rotation_rad=only("rotation", np.deg2rad(25)),
        shift_x=only("translation", 0.12),
        shift_y=only("translation", -0.08),
        scale=np.ones(num),
        blur_sigma=only("blur", 3).astype(np.float32),
        noise_std=only("noise", 12).astype(np.float32),
        noise_seed=np.full(num, seed, np.uint64),
    )
    return _transformed(cell, changes, size, "stretch")


def _transformed(cell: np.ndarray, changes: Draw, size: int, fit: FitName) -> list[np.ndarray]:
    """Return pictures (size, size) uint8 of one cell after each of the changes."""
    from fastcell.ops.cpu.transform import transform_pool

    num, (height, width) = len(changes), cell.shape
    heights, widths = np.full(num, height, np.int32), np.full(num, width, np.int32)
    out = np.empty((num, 1, size, size), np.float32)
    border = np.full(num, np.nan if fit == "stretch" else float(np.median(cell)), np.float32)
    transform_pool(
        np.ascontiguousarray(cell).ravel(),
        np.zeros(num, np.int64),
        heights,
        widths,
        matrices(heights, widths, size, fit, changes),
        border,
        changes.blur_sigma,
        changes.noise_std,
        changes.noise_seed,
        out,
        "divide",
    )
    return list(np.clip(out[:, 0] * cell.mean(), 0, 255).astype(np.uint8))


def describe_sizes(manifest: Manifest) -> list[str]:
    """Return text lines on pixels and micrometres, bits and encodings, and bytes; no lines if the data set is empty."""
    if not len(manifest):
        return []
    heights, widths = manifest.column("height"), manifest.column("width")
    pairs = (np.array_split(sides, len(sides) // PART_ROWS + 1) for sides in (heights, widths))
    pixels = sum(int(np.dot(height.astype(np.int64), width)) for height, width in zip(*pairs, strict=True))
    stored = zip(ENCODINGS, count_codes((manifest.encoding_codes, len(ENCODINGS))).tolist(), strict=False)
    kinds = ", ".join(f"{name} {count:,}" for name, count in sorted(stored) if count)
    depths = "/".join(str(depth) for depth in np.unique(manifest.column("depth")))
    window = (
        "" if manifest.info.window is None else f", window {manifest.info.window[0]:g}..{manifest.info.window[1]:g}"
    )
    um = manifest.column("um_per_px")
    low, high = np.fmin.reduce(um), np.fmax.reduce(um)  # NaN if no value is known
    scale = "um/px unknown" if np.isnan(low) else f"{low:g}..{high:g} um/px"
    return [
        f"height {heights.min()}..{heights.max()} px, width {widths.min()}..{widths.max()} px, {scale}",
        f"{depths} bit{window}, stored as {kinds}",
        (
            f"mean stored size of a cell {manifest.column('bytes').sum() / len(manifest):,.0f} bytes, "
            f"all decoded cells {pixels / 1e6:,.1f} MB"
        ),
    ]


def count_rows(manifest: Manifest, subsets: np.ndarray | None) -> list[list[str]]:
    """Return a table of cell counts: a header, then class x collection in rows and subsets in columns, totals last.

    Args:
        manifest: Manifest of the data set.
        subsets: (N,) int8, index of each cell's subset in `SPLITS`, -1 for none; None for totals alone.
    """
    if subsets is None:
        return [[*row[:2], row[-1]] for row in count_rows(manifest, np.full(len(manifest), -1, np.int8))]
    collections, known = CellGroups.of_column(manifest.table.column("collection")), len(SPLITS)
    totals = count_codes((subsets, known))
    columns = [*SPLITS, "no subset"][: known + bool(totals[-1])]
    rows: list[list[str]] = [["class", "collection", *columns, "total"]]
    for label, name in [*enumerate(manifest.info.classes), (-1, "(unlabelled)")]:
        mine = manifest.class_codes == label
        counts = count_codes((collections.codes[mine], len(collections.names)), (subsets[mine], known))
        for place in np.flatnonzero(np.roll(counts.any(axis=1), 1)) - 1:  # cells without a collection come first
            numbers = counts[place].tolist()
            collection = "-" if place < 0 else collections.names[place]
            rows.append([name, collection, *(f"{n:,}" for n in [*numbers[: len(columns)], sum(numbers)])])
    rows.append(["total", "", *(f"{number:,}" for number in [*totals[: len(columns)].tolist(), len(manifest)])])
    return rows


def _counts(manifest: Manifest, subsets: np.ndarray) -> list[str]:
    rows = [list(map(printable, row)) for row in count_rows(manifest, subsets)]
    shares = "".join(
        f"  {name} {int(total.replace(',', '')) / max(1, len(manifest)):.1%}"
        for name, total in zip(rows[0][2:-1], rows[-1][2:-1], strict=True)
    )
    rows = [rows[0], *_largest(rows[1:-1]), rows[-1]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(text.ljust(widths[i]) if i < 2 else text.rjust(widths[i]) for i, text in enumerate(row)).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return [*lines, f"shares:{shares}"]


def _largest(rows: list[list[str]]) -> list[list[str]]:
    """Return the rows of `count_rows` with the most cells, and one row that adds up the others."""
    counts = np.array([[int(text.replace(",", "")) for text in row[2:]] for row in rows], np.int64)
    shown, others = largest_rows(counts[:, -1].tolist() if rows else [])
    added = [f"{len(others):,} smaller rows", "", *(f"{count:,}" for count in counts[others].sum(axis=0))]
    return [*(rows[place] for place in shown), *([added] if others else [])]


def num_groups_in_several_subsets(manifest: Manifest, subsets: np.ndarray) -> int:
    """Return the number of groups with cells in more than one subset. The manifest must have groups.

    Args:
        manifest: Manifest of the data set.
        subsets: (N,) int8, index of each cell's subset in `SPLITS`, -1 for none.
    """
    assert manifest.groups is not None
    counts = count_codes((manifest.groups.codes, len(manifest.groups.names)), (subsets, len(SPLITS)))
    return int(((counts[:-1, :-1] > 0).sum(axis=1) > 1).sum())


def count_quarantined(manifest: Manifest) -> dict[tuple[str, str], int]:
    """Return the number of cells in quarantine by class and reason, sorted."""
    rows = manifest.quarantine().select(["class", "reason"]).to_pylist()
    return dict(sorted(Counter((row["class"] or "(unlabelled)", row["reason"]) for row in rows).items()))


def _quarantine(manifest: Manifest) -> list[str]:
    counts = count_quarantined(manifest)
    if not counts:
        return ["quarantine: empty"]
    shown, others = largest_rows(list(counts.values()))
    return [
        f"quarantine: {sum(counts.values()):,} cell{'s' * (sum(counts.values()) != 1)}",
        *(f"  {name}: {reason}: {count:,}" for (name, reason), count in [list(counts.items())[i] for i in shown]),
        *([f"  and {len(others):,} more combinations of class and reason"] if others else []),
    ]


def describe_quality(manifest: Manifest) -> list[str]:
    """Return one line on quality control if it was run or the data set has verdicts; otherwise no line."""
    poor, bits = manifest.num_poor(), manifest.verdict_bits()
    parts = [] if bits is None else np.array_split(bits, len(bits) // PART_ROWS + 1)
    dropped = 0 if bits is None else len(manifest) - sum(np.count_nonzero(np.unpackbits(part)) for part in parts)
    applied = f"verdicts.csv drops {dropped:,}" if (manifest.path / "verdicts.csv").exists() else "no verdicts.csv yet"
    if poor is None:
        return [f"quality: not checked, {applied}"] if dropped else []
    return [f"quality: {poor:,} of {len(manifest):,} cells found poor ({poor / max(1, len(manifest)):.1%}), {applied}"]
