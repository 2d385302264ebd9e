"""Facts about cells for the page: a few facts of many cells, and all facts of one cell."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcell.dataset.marks.journal import Mark
from fastcell.dataset.marks.replay import UNMARKED
from fastcell.review.near_cells import RecordingOrder, nearest
from fastcell.review.review_set import ReviewSet

_REACH, _NEAREST = 4, 12
_MOST_HISTORY = 50


def rows_of(data: ReviewSet, cell_ids: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return facts of cells, a list for each fact, in the order of the cells.

    Args:
        data: the data set.
        cell_ids: (n,) cell_ids.
    """
    columns = data.columns
    table = data.manifest.select_cells(["key", "group", "height", "width", "um_per_px"], cell_ids)
    found: dict[str, list[Any]] = {name: table.column(name).to_pylist() for name in ("key", "group", "height", "width")}
    pitch = table.column("um_per_px").to_numpy()
    found["um_per_px"] = [None if np.isnan(value) else round(float(value), 6) for value in pitch]
    found["id"] = cell_ids.tolist()
    for name in ("class", "fault", "called", "subset"):
        if name in columns.category_names():
            column = columns.category(name)
            found[name] = [column.names[code] for code in column.codes[cell_ids].tolist()]
    for name in ("confidence", "quality"):
        if name in columns.number_names():
            found[name] = numbers_or_none(columns.numbers(name)[cell_ids])
    marked = columns.marked
    found["by_hand"] = (marked.labels[cell_ids] != UNMARKED).tolist()
    found["unsure"] = marked.unsure[cell_ids].tolist()
    found["drop"] = columns.drop[cell_ids].tolist()
    if "unlike" in columns.category_names():
        found["unlike"] = (columns.category("unlike").codes[cell_ids] == 2).tolist()
    tags = {name: has[cell_ids] for name, has in marked.tags.items()}
    found["tags"] = [[name for name, has in tags.items() if has[place]] for place in range(len(cell_ids))]
    return found


class CellFacts:
    """All facts about single cells of a data set.

    Args:
        data: the data set.
    """

    def __init__(self, data: ReviewSet) -> None:
        self._data = data
        self._order: RecordingOrder | None = None
        self._lock = threading.Lock()

    def order(self) -> RecordingOrder:
        """Return the order of the cells in time, made at the first call."""
        with self._lock:
            if self._order is None:
                self._order = RecordingOrder(self._data.manifest)
            return self._order

    def of(self, cell: int) -> dict[str, Any]:
        """Return facts, probabilities, features with their rank, neighbours and history of a cell."""
        data, columns = self._data, self._data.columns
        facts: dict[str, Any] = {name: values[0] for name, values in rows_of(data, np.array([cell])).items()}
        categories = {name: columns.category(name) for name in columns.category_names()}
        facts["categories"] = {name: column.names[int(column.codes[cell])] for name, column in categories.items()}
        numbers = []
        for name in columns.number_names():
            values = columns.numbers(name)
            value = float(values[cell])
            if np.isfinite(value) and not name.startswith("p_"):
                known = values[np.isfinite(values)]
                numbers.append([name, value, float((known < value).mean())])
        facts["numbers"] = numbers
        if columns.answers is not None:
            shares = columns.answers.probabilities[cell].tolist()
            facts["probabilities"] = [
                [name, share] for name, share in zip(columns.answers.classes, shares, strict=True) if share == share
            ]
        facts["in_time"] = self.order().around(cell, _REACH).tolist()
        embedding = data.job.result
        facts["near"] = [] if embedding is None else nearest(embedding.values, cell, _NEAREST).tolist()
        marks = columns.marked
        facts["history"] = [
            {"at": mark.at, "who": mark.who, "said": words_of(mark), "undone": mark.op in marks.undone}
            for mark in marks.history(cell)[-_MOST_HISTORY:]
        ]
        return facts

    def occlusion(self, cell: int, positions: int) -> dict[str, Any] | None:
        """Return the decrease of the probability of the predicted class when a square of the cell is covered.

        Args:
            cell: cell_id.
            positions: squares along each axis.

        Returns:
            ``covered``, the probability at each place row by row, ``plain``, that of the whole image, and ``name`` of
            the class; None if the cell cannot be read.
        """
        import torch

        from fastcell.explain.occlusion import occlusion_maps
        from fastcell.inference.grey_cells import grey_cells
        from fastcell.runs.checkpoint import load_classifier
        from fastcell.runs.run_folder import find_checkpoint

        data = self._data
        assert data.options.run is not None
        (pixels,) = data.thumbnails.cells(np.array([cell]))
        if pixels is None:
            return None
        classifier = data.job.classifier()
        pitch = data.manifest.column("um_per_px")[[cell]]
        images = grey_cells([pixels], classifier.preprocessing, None).images(classifier.preprocessing, pitch, 1)
        label = int(classifier.classify_images(images).probabilities[0].argmax())
        module = load_classifier(find_checkpoint(data.options.run), data.options.trust).eval()
        network = module.network if module.average is None else module.average.module
        found = occlusion_maps(
            network, torch.from_numpy(images), torch.tensor([label]), classifier.loss, min(positions, images.shape[-1])
        )
        values = np.round(found.covered[0].astype(np.float64), 4).tolist()
        return {"covered": values, "plain": float(found.plain[0]), "name": classifier.classes[label]}


def words_of(mark: Mark) -> str:
    """Return the content of a mark in words."""
    words = []
    if mark.label is not None:
        words.append(f"class {mark.label}" if mark.label else "no class")
    if mark.reset:
        words.append("class as recorded")
    if mark.verdict is not None:
        words.append(mark.verdict or "no verdict")
    if mark.unsure is not None:
        words.append("unsure" if mark.unsure else "sure")
    words += [f"tag {mark.tag}"] if mark.tag else []
    words += [f"without tag {mark.untag}"] if mark.untag else []
    return ", ".join(words)


def numbers_or_none(values: npt.NDArray[np.float32]) -> list[float | None]:
    """Return numbers with 4 significant digits; None for one that is not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.tolist()]
