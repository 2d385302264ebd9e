"""Write class scores of Imaging FlowCytobot (IFCB) bins: one HDF5 file per bin, version v3 of WHOI's ifcb_classifier.

``<bin>_class.h5`` holds ``output_scores`` (n, K), ``output_classes`` (n,), ``class_labels`` (K,) and ``roi_numbers``
(n,), and an empty dataset ``metadata`` with the attributes ``version``, ``model_id``, ``timestamp`` and ``bin_id``.
Source: github.com/WHOIGit/ifcb_classifier. The files are read by github.com/WHOIGit/pyifcb and the IFCB dashboard.
Further datasets contain values for gating the same regions. Readers of version v3 ignore them: ``confidence``,
``unsure`` (0 or 1), ``reason``, and if the predictions have them ``unlike_training`` (0, 1, or -1 for unknown),
``unlike_score`` and ``unlike_reason``. ``output_classes`` is the most probable class, even for unsure regions. Regions
without a prediction are left out; ``left_out_roi_numbers`` and ``left_out_reason`` list them. pyifcb decodes class
labels as ASCII, so other characters are transliterated; the attribute ``class_names`` of ``metadata`` then holds the
original names as JSON.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.errors import DataError

_KEY = re.compile(
    r"(?:.*/)?(?P<bin>D\d{8}T\d{6}_IFCB\d{1,9}|IFCB\d{1,9}_\d{4}_\d{3}_\d{6})(?:\.\w+)?/(?P<roi>\d{1,18})"
)


def is_ifcb_key(key: str) -> bool:
    """Return True if the key is that of an IFCB region of interest: ``<bin>/<number>``."""
    return _KEY.fullmatch(key) is not None


def rois_by_bin(keys: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Group regions of interest by bin.

    Args:
        keys: keys of the cells, ``<bin>/<number>``.

    Returns:
        For each bin the rows in `keys` and the region numbers, both (n,) int64, in increasing order of the number.

    Raises:
        DataError: If a key is not from an IFCB bin, or two keys name the same region.
    """
    found: dict[str, dict[int, int]] = {}
    for row, key in enumerate(keys):
        match = _KEY.fullmatch(key)
        if match is None:
            raise DataError(
                f"cell {key!r} must be of an IFCB bin, with a key such as D20130526T095207_IFCB013/000002. "
                "Pack the bins' folder with fastcell pack and classify that."
            )
        numbers = found.setdefault(match["bin"], {})
        number = int(match["roi"])
        if number in numbers:
            raise DataError(
                f"cells {keys[numbers[number]]!r} and {key!r} are the same region of interest of one bin. "
                "Classify one copy of the bin."
            )
        numbers[number] = row
    bins = {}
    for name in sorted(found):
        numbers = found[name]
        order = sorted(numbers)
        bins[name] = (np.array([numbers[number] for number in order], np.int64), np.array(order, np.int64))
    return bins


def ascii_labels(classes: list[str]) -> list[str]:
    """Return a different ASCII label for each class: accents are dropped, other characters become their code, `u03bc`.

    ASCII names stay as they are.
    """
    labels: list[str] = []
    for name in sorted(classes, key=lambda name: not name.isascii()):
        stem = name if name.isascii() else "".join(map(_ascii, unicodedata.normalize("NFKD", name)))
        numbered = (f"{stem}_{number}" for number in range(2, len(classes) + 2))
        labels.append(next(label for label in (stem, *numbered) if label not in labels))
    label_of = dict(zip(sorted(classes, key=lambda name: not name.isascii()), labels, strict=True))
    return [label_of[name] for name in classes]


def _ascii(character: str) -> str:
    if unicodedata.combining(character):
        return ""
    folded = character if character.isascii() else character.casefold()
    return folded if folded.isascii() else f"u{ord(character):04x}"


@dataclass(frozen=True)
class BinScores:
    """Predictions for the n regions of one bin.

    Attributes:
        rois: (n,) int64, numbers of the regions.
        scores: (n, K) float32 probabilities; NaN for a region without a prediction.
        flags: columns of `fastcell.predictions.gate_columns.GateColumns.columns`, each (n,).
    """

    rois: np.ndarray
    scores: np.ndarray
    flags: dict[str, np.ndarray]


def write_class_scores(path: Path, bin_id: str, answers: BinScores, classes: list[str], model_id: str) -> None:
    """Write the class scores and flags of one bin.

    Args:
        path: file to be written.
        bin_id: name of the bin, e.g. ``D20130526T095207_IFCB013``.
        answers: scores and flags of the regions.
        classes: K names.
        model_id: identifier of the classifier.
    """
    import h5py

    there = ~np.isnan(answers.scores).any(axis=1)
    rois, scores = answers.rois[there], answers.scores[there]
    most = scores.argmax(axis=1) if len(rois) else np.empty(0, np.int64)
    packed = {"compression": "gzip"} if len(rois) else {}
    with h5py.File(path, "w") as file:
        metadata = file.create_dataset("metadata", data=h5py.Empty("f"))
        metadata.attrs["version"] = "v3"
        metadata.attrs["model_id"] = model_id
        metadata.attrs["timestamp"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        metadata.attrs["bin_id"] = bin_id
        file.create_dataset("output_classes", data=most.astype(np.uint16), **packed)
        file.create_dataset("output_scores", data=scores.astype(np.float32), **packed)
        labels = ascii_labels(classes)
        if labels != classes:
            metadata.attrs["class_names"] = json.dumps(classes, ensure_ascii=False)
        file.create_dataset("class_labels", data=[label.encode() for label in labels], dtype=h5py.string_dtype())
        file.create_dataset("roi_numbers", data=_roi_numbers(rois), **packed)
        for name, values in answers.flags.items():
            file.create_dataset(name, **_stored(name, values[there]), **packed)
        if not there.all():
            file.create_dataset("left_out_roi_numbers", data=_roi_numbers(answers.rois[~there]))
            if "reason" in answers.flags:
                file.create_dataset("left_out_reason", **_stored("reason", answers.flags["reason"][~there]))


def _roi_numbers(rois: np.ndarray) -> np.ndarray:
    wide = len(rois) and rois.max() > np.iinfo(np.uint16).max
    return rois.astype(np.uint32 if wide else np.uint16)


def _stored(name: str, values: np.ndarray) -> dict[str, Any]:
    """Return data and type of a dataset of flags: texts as UTF-8, 0 and 1 as int8 with -1 for unknown."""
    import h5py

    if values.dtype == object:
        return {"data": values.tolist(), "shape": (len(values),), "dtype": h5py.string_dtype()}
    if name in ("unsure", "unlike_training"):
        return {"data": np.nan_to_num(values, nan=-1).astype(np.int8)}
    return {"data": values.astype(np.float32)}
