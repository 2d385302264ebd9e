"""Write class scores of Imaging FlowCytobot (IFCB) bins: one HDF5 file per bin, version v3 of WHOI's ifcb_classifier.

``<bin>_class.h5`` holds ``output_scores`` (n, K), ``output_classes`` (n,), ``class_labels`` (K,) and ``roi_numbers``
(n,), and an empty dataset ``metadata`` with the attributes ``version``, ``model_id``, ``timestamp`` and ``bin_id``.
Source: github.com/WHOIGit/ifcb_classifier. The files are read by github.com/WHOIGit/pyifcb and the IFCB dashboard.
pyifcb decodes class labels as ASCII, so other characters are written in ASCII; then the attribute
``class_names`` of ``metadata`` holds the names as they are, as JSON.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from pathlib import Path

import numpy as np

from fastcell.errors import DataError
from fastcell.system.optional_packages import require

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


def write_class_scores(
    path: Path, bin_id: str, rois: np.ndarray, scores: np.ndarray, classes: list[str], model_id: str
) -> None:
    """Write the class scores of one bin.

    Args:
        path: file to be written.
        bin_id: name of the bin, e.g. ``D20130526T095207_IFCB013``.
        rois: (n,) int64, numbers of the classified regions of interest.
        scores: (n, K) float32, probabilities without NaN.
        classes: K names.
        model_id: identifier of the classifier.
    """
    h5py = require("h5py", "formats")
    wide = len(rois) and rois.max() > np.iinfo(np.uint16).max
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
        file.create_dataset("roi_numbers", data=rois.astype(np.uint32 if wide else np.uint16), **packed)
