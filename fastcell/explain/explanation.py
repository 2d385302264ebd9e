"""Draw the figures that explain a trained network, and write their captions and numbers to explain.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import FastcellError
from fastcell.explain import cell_figures, network_figures, score_figures
from fastcell.explain.embedding import embed_in_plane, find_taps, layer_outputs
from fastcell.explain.layers import trace_layers
from fastcell.explain.occlusion import POSITIONS, occlusion_maps
from fastcell.inference.confidence import LEAST_VALID, Confidence, fit_confidence
from fastcell.inference.probabilities import Outputs, num_called_otherwise, part_outputs
from fastcell.models.networks.cellnet import CellNet
from fastcell.models.networks.gao import GaoNet
from fastcell.plots.figure_files import FigureFiles
from fastcell.runs.checkpoint import read_checkpoint
from fastcell.runs.open_run import FinishedRun
from fastcell.stats import calibration, operating_curves
from fastcell.stats.intervals import group_note, no_interval, unit_numbers
from fastcell.storage.whole_files import write_json
from fastcell.system.messages import Say, say_nothing
from fastcell.system.text import printable

NUM_OCCLUDED, NUM_EMBEDDED = 100, 1000


class _LeftOut(Exception):  # noqa: N818, nothing is wrong
    """Signal that a figure cannot be drawn for this run; the message is the reason."""


def draw_parts(explanation: Explanation, parts: Sequence[str]) -> dict[str, Any]:
    """Draw the requested parts, report each on one line, and write explain.json beside the figures.

    Args:
        explanation: Run to explain; receives the results.
        parts: Keys of `EXPLANATION_PARTS`, in drawing order.

    Returns:
        The content of explain.json.
    """
    for part in parts:
        since = time.perf_counter()
        try:
            said = EXPLANATION_PARTS[part](explanation)
        except _LeftOut as reason:
            explanation.left_out[part] = str(reason)
            explanation.say(printable(f"{part}: left out, {reason}"))
            continue
        seconds = time.perf_counter() - since
        explanation.seconds[part] = round(seconds, 3)
        explanation.say(printable(f"{part}: {said} ({seconds:.1f} s)"))
    summary = explanation.summary()
    write_json(explanation.figures.folder / "explain.json", summary)
    return summary


def describe_cells(run: FinishedRun, part: str) -> str:
    """Return a caption text that describes the cells of one subset: number, subset and data set.

    Args:
        run: The finished run.
        part: Subset: train, valid or test.
    """
    info = run.manifest.info
    synthetic = " (synthetic)" if info.synthetic and "synthetic" not in info.name.lower() else ""
    return f"{len(run.rows(part)):,} {SUBSET_NAMES[part]} cells of {printable(info.name)}{synthetic}"


@dataclass
class Explanation:
    """A run, the folder of its figures, and the results so far.

    Attributes:
        run: The finished run.
        figures: Collection and folder that receive the figures.
        num_occluded: Number of cells with an occlusion map.
        positions: Number of places along each axis of an occlusion map.
        patch: Side of the covered square [px]; None for an eighth of the image's side.
        num_embedded: Number of cells in the t-SNE plots.
        seed: Seed of every random choice.
        say: Callable that receives each message for the user.
        numbers: Entries for explain.json, by part.
        left_out: Reason for each part that could not be drawn.
        seconds: Time that each part took [s].
    """

    run: FinishedRun
    figures: FigureFiles
    num_occluded: int = NUM_OCCLUDED
    positions: int = POSITIONS
    patch: int | None = None
    num_embedded: int = NUM_EMBEDDED
    seed: int = 0
    say: Say = say_nothing
    numbers: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def part(self) -> str:
        """Subset whose cells are examined: the first of test, valid and train that has labelled cells.

        Raises:
            FastcellError: No subset of the split has labelled cells.
        """
        for part in ("test", "valid", "train"):
            if len(self.run.rows(part)):
                return part
        raise FastcellError(
            f"{self.run.manifest.place} must have labelled cells in split {self.run.split_name!r}, got none. "
            "Give another data set with --data."
        )

    @cached_property
    def outputs(self) -> Outputs:
        """Network outputs for the cells of `part`."""
        outputs = part_outputs(self.run, self.part)
        assert outputs is not None
        changed = num_called_otherwise(self.run, outputs)
        if changed:
            self.say(
                f"the predicted class of {changed:,} cells differs from predictions.parquet: "
                "the data or the version has changed"
            )
        return outputs

    @property
    def about(self) -> str:
        """Caption text that describes the examined cells."""
        return describe_cells(self.run, self.part)

    def sample(self, num: int, by_class: bool) -> np.ndarray:
        """Return at most `num` randomly drawn cell_ids of `part`, sorted.

        Args:
            num: Maximum number of cells.
            by_class: Draw from each class in turn, so that small classes are represented too.
        """
        rng = np.random.default_rng(self.seed)
        rows = rng.permutation(self.run.rows(self.part))
        if by_class:
            labels = self.run.labels[rows]
            turn = np.empty(len(rows), np.int64)
            for label in np.unique(labels):
                turn[labels == label] = np.arange((labels == label).sum())
            rows = rows[np.argsort(turn, kind="stable")]
        return np.sort(rows[:num])

    def summary(self) -> dict[str, Any]:
        """Return the content of explain.json."""
        return {
            "run": self.run.folder.name,
            "checkpoint": self.run.checkpoint,
            "cells": self.about,
            "part": self.part,
            "captions": self.figures.captions,
            "left_out": self.left_out,
            "seconds": self.seconds,
            **self.numbers,
        }


def _network(it: Explanation) -> str:
    layers = _our_layers(it)
    size = int(it.run.model.preprocessing["image_size"])
    network_figures.draw_network(it.figures, it.run.model.network_name, layers, size, it.run.model.classes)
    return f"{len(layers)} layers"


def _our_layers(it: Explanation) -> Any:
    network = it.run.network
    if not any(isinstance(module, CellNet | GaoNet) for module in network.modules()):
        raise _LeftOut(f"{it.run.model.network_name} has too many layers for a drawing")
    return trace_layers(network, int(it.run.model.preprocessing["image_size"]))


def _filters(it: Explanation) -> str:
    convolutions = network_figures.first_convolutions(it.run.network)
    if not convolutions:
        raise _LeftOut(f"{it.run.model.network_name} has no convolution")
    model, seed = it.run.model, it.run.seed
    start = None
    if seed is not None:
        size = int(model.preprocessing["image_size"])
        init = model.hparams["init"]
        network = network_figures.start_weights(model.hparams["network"], len(model.classes), size, init, seed)
        start = network_figures.first_convolutions(network)
    network_figures.draw_filters(it.figures, model.network_name, convolutions, start)
    return ", ".join(f"{name} {' x '.join(map(str, weights.shape))}" for name, weights in convolutions)


def _occlusion(it: Explanation) -> str:
    rows = it.sample(it.num_occluded, by_class=True)
    images, labels, cell_ids = _images(it, rows)
    size = images.shape[-1]
    positions = min(it.positions, size)
    loss = it.run.model.hparams["loss"]
    maps = occlusion_maps(it.run.network, images, labels, loss, positions, it.patch)
    patch = it.patch or max(1, size // 8)
    about = f"{len(images)} cells of {it.about}; square of {patch} x {patch} px in {size} x {size}, filled with the "
    about += f"median of the image's border, {positions} x {positions} places."
    # Shuffle, so that the drawn examples of a class are not simply its first cells in the data set.
    order = np.random.default_rng(it.seed).permutation(len(images))
    shown = type(maps)(maps.covered[order], maps.plain[order])
    pictures, numbers = images[:, 0].cpu().numpy()[order], labels.cpu().numpy()[order]
    cell_figures.draw_occlusion(it.figures, pictures, shown, numbers, cell_ids[order], it.run.model.classes, about)
    return f"{len(images)} cells x {positions} x {positions} places"


def _images(it: Explanation, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return images (n, 1, S, S) and labels (n,) on the network's device, and cell_ids (n,), without corrupt cells."""
    parts = []
    for batch in it.run.batches(rows):
        counts = batch.weight > 0
        parts.append((batch.images[counts], batch.labels[counts], batch.cell_ids[counts].cpu()))
    images, labels, cell_ids = (torch.cat(column) for column in zip(*parts, strict=True))
    return images, labels, cell_ids.numpy()


def _embedding(it: Explanation) -> str:
    where = find_taps(it.run.network)
    if not where:
        raise _LeftOut(f"{it.run.model.network_name} has no fully connected layer")
    rows = it.sample(it.num_embedded, by_class=False)
    images, labels, _ = _images(it, rows)
    if len(images) < 10:
        raise _LeftOut(f"10 cells are needed, the subset has {len(images)}")
    numbers = labels.cpu().numpy()
    outputs = layer_outputs(it.run.network, where, images.split(256))
    layers = [embed_in_plane(tap.name, values, numbers, it.seed) for tap, values in zip(where, outputs, strict=True)]
    about = f"{len(images):,} cells of {it.about}"
    cell_figures.draw_embeddings(it.figures, layers, numbers, it.run.model.classes, about)
    it.numbers["embedding"] = {layer.name: {"neighbours_of_own_class": layer.agreement} for layer in layers}
    return ", ".join(f"{layer.name} {layer.agreement:.2f}" for layer in layers)


def _calibration(it: Explanation) -> str:
    cells = it.outputs
    log_p = calibration.log_probabilities(cells.probabilities)
    before = calibration.rescale(log_p, 1.0)
    kept = _kept_confidence(it) if it.part == "test" else None
    num_valid = 0 if kept is None else len(kept.right)
    errors = [calibration.error_interval(before, cells.labels, cells.groups)]
    curves = {"as trained": (calibration.reliability(before, cells.labels), errors[0])}
    numbers: dict[str, Any] = {"before": errors[0].as_json()}
    numbers["nll_before"] = calibration.negative_log_likelihood(log_p, cells.labels)
    numbers["by_chance"] = calibration.error_by_chance(before, seed=it.seed)[0]
    numbers["interval_by"] = errors[0].by
    if kept is None:
        about, said = it.about, "no temperature, because there is no validation subset beside a test subset"
        it.left_out["temperature"] = said
    elif num_valid < LEAST_VALID:
        said = f"no temperature, because it takes {LEAST_VALID} validation cells, and there are {num_valid:,}"
        about, it.left_out["temperature"] = it.about, said
    else:
        temperature = kept.temperature
        after = calibration.rescale(log_p, temperature)
        errors.append(calibration.error_interval(after, cells.labels, cells.groups))
        curves[f"temperature {temperature:.3f}"] = (calibration.reliability(after, cells.labels), errors[1])
        change = no_interval(errors[1].value - errors[0].value, "both errors are of the same cells")
        numbers |= {"temperature": temperature, "after": errors[1].as_json(), "change": change.as_json()}
        numbers["nll_after"] = calibration.negative_log_likelihood(log_p, cells.labels, temperature)
        about = f"{it.about}; temperature fitted on {num_valid:,} validation cells"
        said = f"at temperature {temperature:.3f} {errors[1].describe()}"
        saved = {"temperature": temperature, "num_cells": num_valid, "checkpoint": it.run.checkpoint}
        saved |= {"split_name": it.run.split_name, "use": "probabilities = softmax(log(p) / temperature)"}
        write_json(it.run.folder / "temperature.json", saved)
    about += f"; by chance, a calibrated network has an error of {numbers['by_chance']:.3f} on this number of cells"
    score_figures.draw_calibration(it.figures, curves, f"{about}; intervals {_basis(cells)}")
    it.numbers["calibration"] = numbers
    return f"error {errors[0].describe()}, {said}"


def _kept_confidence(it: Explanation) -> Confidence | None:
    """Return the calibration that predict applies, or one fitted here for a checkpoint of an older version.

    None if there are no validation cells.
    """
    kept = Confidence.from_checkpoint(read_checkpoint(it.run.folder / it.run.checkpoint))
    if kept is not None:
        return kept
    valid = part_outputs(it.run, "valid")
    return None if valid is None else fit_confidence(valid.probabilities, valid.labels, None)


def _basis(cells: Outputs) -> str:
    """Return the unit of the intervals of these cells."""
    if cells.groups is None:
        return "by cell"
    num = int(unit_numbers(cells.groups).max(initial=-1)) + 1
    return f"by {'group' if num > 1 else 'cell'} ({group_note(num) or f'{num:,} groups'})"


def _renamed(entry: dict[str, Any], value: str) -> dict[str, Any]:
    """Return an entry with another key for its value."""
    return {value if key == "value" else key: number for key, number in entry.items()}


def _roc_pr(it: Explanation) -> str:
    cells, classes = it.outputs, it.run.model.classes
    curves = {}
    for label, name in enumerate(classes):
        probabilities, is_class = cells.probabilities[:, label], cells.labels == label
        curve = operating_curves.class_curve(probabilities, is_class, cells.groups)
        if curve is not None:
            curves[name] = curve
    if not curves:
        raise _LeftOut("the subset has cells of one class only")
    missing = [name for name in classes if name not in curves]
    about = f"{it.about}; n: cells of the class, intervals: 95 %, {_basis(cells)}"
    if missing:
        about += f"; no cells of {', '.join(missing)}"
    score_figures.draw_class_curves(it.figures, curves, about)
    it.numbers["classes"] = {
        name: {
            "num_positive": curve.num_positive,
            **_renamed(curve.area.as_json(), "area"),
            "average_precision": curve.average_precision.value,
            "average_precision_interval": curve.average_precision.as_json(),
        }
        for name, curve in curves.items()
    }
    return ", ".join(f"{name} {curve.area.value:.3f}" for name, curve in curves.items())


def _reject(it: Explanation) -> str:
    cells = it.outputs
    curve = operating_curves.reject_curve(cells.probabilities, cells.labels, cells.groups)
    about = f"{it.about}, 95 % interval {_basis(cells)}"
    score_figures.draw_reject(it.figures, curve, about)
    goals, surely = (
        {str(goal): operating_curves.coverage_at(curve, goal, lower) for goal in score_figures.GOALS}
        for lower in (False, True)
    )
    it.numbers["reject"] = {
        "accuracy": float(curve.accuracy[-1]),
        "coverage_at_accuracy": goals,
        "coverage_at_lower_end": surely,
    }
    return score_figures.describe_goals(curve).rstrip(".").lower()


def _errors(it: Explanation) -> str:
    cells = it.outputs
    errors = cell_figures.ConfidentErrors(cells.probabilities, cells.labels)
    if not len(errors.rows):
        raise _LeftOut(f"none of {len(cells):,} cells is misclassified")
    ids = cells.cell_ids[errors.rows]
    pictures = list(read_cells(it.run.manifest, ids))
    keys = it.run.manifest.select_cells(["key"], cells.cell_ids).column("key").to_numpy()
    cell_figures.draw_errors(
        it.figures, errors, pictures, cells.probabilities, cells.labels, keys, it.run.model.classes, it.about
    )
    return f"{int(errors.num_wrong.sum()):,} of {len(cells):,} cells misclassified, {len(errors.rows)} shown"


EXPLANATION_PARTS: dict[str, Callable[[Explanation], str]] = {
    "network": _network,
    "filters": _filters,
    "occlusion": _occlusion,
    "embedding": _embedding,
    "calibration": _calibration,
    "roc_pr": _roc_pr,
    "reject": _reject,
    "errors": _errors,
}
