"""Page section on cells of a run that look unlike its training cells."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError
from fastcell.inference.measure_batches import MeasuredCells, measure_batches
from fastcell.inference.unlike.reasons import reasons
from fastcell.inference.unlike.training_cells import CHANCE, TrainingCells
from fastcell.report.page_elements import PageTable, Picture, Section, data_uri, percent
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.open_run import FinishedRun
from fastcell.stats.excess import above_chance
from fastcell.system.resources import num_cpus

MOST_CELLS = 2_000
"""Number of cells of the subset that are measured, evenly spaced. The network classifies them once more."""
_MOST_ROWS = 30
_SHOWN = 12
_ACROSS, _SIDE, _GAP = 6, 128, 4  # cells in a row of the picture; side of a cell, and space around it [px]
_PAGE_DPI = 150.0
_MEANING = (
    "A cell is marked as unlike the training cells if its image (brightness, size, shape, noise) or its activations "
    "before the last layer are farther from the training cells than 97.5 % of held-out cells. fastcell predict "
    "writes this as unlike_training, with unlike_score (above 1 for these cells) and unlike_reason. The class of such "
    "a cell may be right, but the scores above say little about it: look at the pictures, and compare the recordings "
    "below. In new data, a share far above the chance level means that focus, light, magnification or sample differ "
    "from those of the training."
)


def unlike_section(run: FinishedRun, part: str) -> Section:
    """Return the section: cells of a subset unlike the training cells, by recording and reason, and the most unlike.

    Args:
        run: The finished run.
        part: ``train``, ``valid`` or ``test``; a subset with labelled cells.
    """
    section = Section("unlike", "Cells unlike those of training")
    known = TrainingCells.from_checkpoint(read_checkpoint(run.folder / run.checkpoint))
    if known is None:
        section.paragraphs.append(
            "Not known: the checkpoint has no statistics of training cells. An older version wrote it, the run was not "
            "finished, or it had fewer than 30 training cells."
        )
        return section
    rows = run.rows(part)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_CELLS)).round().astype(np.int64)]
    cells = measure_batches(run.model, run.batches(rows), num_cpus())
    found = known.measure(cells.image, cells.network)
    unlike, texts = found.scores > 1, reasons(found)
    section.paragraphs += [_summary(unlike, part), _MEANING]
    if known.caution:
        section.paragraphs.append(f"{known.caution[:1].upper()}{known.caution[1:]}.")
    groups = run.manifest.groups
    if groups is not None and len(unlike):
        section.tables.append(_by_recording(unlike, groups[cells.cell_ids]))
    if unlike.any():
        section.tables.append(_by_reason(texts[unlike]))
        farthest = np.flatnonzero(unlike)[np.argsort(-found.scores[unlike], kind="stable")][:_SHOWN]
        _add_farthest(section, run, cells, farthest, found.scores, texts)
    return section


def _summary(unlike: np.ndarray, part: str) -> str:
    num, of = int(unlike.sum()), len(unlike)
    share = percent(num / max(of, 1), 1)
    return (
        f"{num:,} of {of:,} {SUBSET_NAMES[part]} cells ({share}) look unlike training cells. By chance, at most "
        f"{percent(CHANCE)} of cells like the training cells are marked."
    )


def _by_recording(unlike: np.ndarray, groups: np.ndarray) -> PageTable:
    """Return the table of recordings in descending order of their share of unlike cells."""
    names, place = np.unique(groups.astype(str), return_inverse=True)
    sizes, counts = np.bincount(place), np.bincount(place, unlike).astype(int)
    above = {name for name, _, _ in above_chance(unlike, groups.astype(str), CHANCE)}
    order = np.argsort(-counts / sizes, kind="stable")
    rows = [
        [
            str(names[i]) or "-",
            "above chance" if names[i] in above else "",
            f"{sizes[i]:,}",
            f"{counts[i]:,}",
            percent(counts[i] / sizes[i], 1),
        ]
        for i in order[:_MOST_ROWS]
    ]
    left_out = f"; {len(order) - _MOST_ROWS:,} recordings with lower shares are left out" * (len(order) > _MOST_ROWS)
    caption = f"By recording; above chance by a binomial test at 5 %, corrected for the number of recordings{left_out}"
    return PageTable(["recording", "", "cells", "unlike", "share"], rows, caption, 2)


def _by_reason(texts: np.ndarray) -> PageTable:
    reasons = Counter(texts.tolist()).most_common()
    rows = [[text, f"{num:,}"] for text, num in reasons[:_SHOWN]]
    others = sum(num for _, num in reasons[_SHOWN:])
    left_out = f"; other reasons of {others:,} of the cells are left out" * (others > 0)
    return PageTable(["reason", "cells"], rows, f"Reasons, the most frequent first{left_out}")


def _add_farthest(
    section: Section, run: FinishedRun, cells: MeasuredCells, places: np.ndarray, scores: np.ndarray, texts: np.ndarray
) -> None:
    """Add the picture and the table of the most unlike cells that can be read."""
    ids, classes = cells.cell_ids[places], run.model.classes
    keys = run.manifest.select_cells(["key"], ids).column("key").to_pylist()
    tiles, rows = [], []
    for place, cell_id, key in zip(places.tolist(), ids.tolist(), keys, strict=True):
        pixels = _pixels(run.manifest, cell_id)
        if pixels is None:
            continue
        tiles.append(_tile(pixels))
        called = classes[int(cells.probabilities[place].argmax())]
        score = f"{min(scores[place], 999):.2f}"
        rows.append([str(len(tiles)), str(key), classes[cells.labels[place]], called, texts[place], score])
    if not tiles:
        return
    header = ["number", "cell", "class", "predicted class", "reason", "score"]
    section.tables.append(PageTable(header, rows, "The most unlike cells, in the order of the picture", 5))
    sheet = _sheet(tiles)
    png = cv2.imencode(".png", sheet)[1].tobytes()
    alt = f"{len(tiles)} cells of the subset with the highest scores, row by row"
    inches = round(sheet.shape[1] / _PAGE_DPI, 1)
    section.pictures.append(
        Picture("The most unlike cells", data_uri(png), inches, "Row by row, by falling score", alt, True)
    )


def _pixels(manifest: Manifest, cell_id: int) -> np.ndarray | None:
    try:
        (pixels,) = read_cells(manifest, [cell_id])
    except DataError:
        return None
    return pixels


def _tile(pixels: np.ndarray) -> np.ndarray:
    """Return a cell (H, W) uint8 in a white square of `_SIDE` px, magnified or shrunk as a whole."""
    factor = _SIDE / max(pixels.shape)
    size = tuple(max(1, round(side * factor)) for side in pixels.shape[::-1])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = cv2.resize(pixels, size, interpolation=way)
    tile = np.full((_SIDE, _SIDE), 255, np.uint8)
    top, left = (_SIDE - small.shape[0]) // 2, (_SIDE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Return the tiles row by row on white, uint8."""
    step = _SIDE + _GAP
    across, down = min(len(tiles), _ACROSS), -(-len(tiles) // _ACROSS)
    sheet = np.full((down * step + _GAP, across * step + _GAP), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (_GAP + step * index for index in divmod(number, _ACROSS))
        sheet[top : top + _SIDE, left : left + _SIDE] = tile
    return sheet
