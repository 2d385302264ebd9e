"""Model cards in the format of the Hugging Face Hub: Markdown with a YAML header.

Names of classes, data sets and files may contain anything: they are escaped in the text, and quoted in the header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fastcell.dataset.schema import SPLITS, SUBSET_NAMES
from fastcell.inference.sharing.described_data import DescribedData
from fastcell.inference.sharing.licences import licence_fields
from fastcell.loading.preprocessing import Preprocessing
from fastcell.runs.shared_model import CARD_FILE, SHARED_CONFIG_FILE, SHARED_WEIGHTS_FILE
from fastcell.stats.scores import describe_unit, is_defined
from fastcell.system.text import printable

TAGS = ("cytometry", "imaging-flow-cytometry", "single-cell", "microscopy", "biology")
_MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "one_vs_rest_accuracy": "one against the rest accuracy",
}
_OF_A_CLASS = ("precision", "recall", "f_score")
_LEVEL = 0.95


@dataclass(frozen=True)
class CardFacts:
    """Content of a model card.

    Attributes:
        title: data set, network and date.
        folder: name of the shared folder.
        network: short name of the network.
        package: package whose code the network needs; empty if it needs none.
        num_parameters: number of its parameters.
        classes: class names.
        preprocessing: preprocessing of its images.
        licence: licence of the weights; empty if none is given.
        version: version of fastcell that writes the card.
        data: description of the data set; None if the data set is missing.
        training: settings of the training by name.
        subset: subset of the scores, ``test`` or ``valid``; empty without scores.
        scores: scores of that subset, as in metrics.json; may be empty.
        cautions: sentences on the scores.
        temperature: temperature of the probabilities; None if they are not calibrated.
        finds_unlike: whether the model reports cells unlike the training cells.
    """

    title: str
    folder: str
    network: str
    package: str
    num_parameters: int
    classes: Sequence[str]
    preprocessing: Preprocessing
    licence: str
    version: str
    data: DescribedData | None
    training: Mapping[str, str]
    subset: str
    scores: Mapping[str, Any]
    cautions: Sequence[str]
    temperature: float | None
    finds_unlike: bool


def write_card(facts: CardFacts) -> str:
    """Return the text of the model card."""
    head = yaml.safe_dump(_head(facts), sort_keys=False, allow_unicode=True, width=1 << 20)
    sections = (
        _about(facts),
        _uses(facts),
        _start(facts),
        _data(facts),
        _training(facts),
        _scores(facts),
        _files(facts),
    )
    return f"---\n{head}---\n\n" + "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def markdown(text: object) -> str:
    """Return a text as one line, escaped so that Markdown and HTML show it unchanged."""
    return re.sub(r"([\\`*_\[\]<>|&~$#])", r"\\\1", printable(text))


def _head(facts: CardFacts) -> dict[str, Any]:
    return {
        **licence_fields(facts.licence),
        "library_name": "fastcell",
        "pipeline_tag": "image-classification",
        "tags": [*TAGS],
        "model-index": [{"name": printable(facts.title), "results": _results(facts)}],
    }


def _results(facts: CardFacts) -> list[dict[str, Any]]:
    """Return the entry of the model index: the data set, and each score with its interval."""
    data, metrics = facts.data, []
    for name, title in _MEASURES.items():
        score = _score(facts.scores, name)
        if score is None:
            continue
        value, low, high = score
        arguments: dict[str, Any] = {"num_cells": facts.scores.get("num_cells")}
        if low is not None and high is not None:
            by = facts.scores[name].get("by")
            arguments |= {
                "interval": _LEVEL,
                "low": round(low, 6),
                "high": round(high, 6),
                "by": printable(by or "cell"),
            }
        metrics.append(
            {"type": name, "value": round(value, 6), "name": f"{title} {_interval(score)}", "args": arguments}
        )
    if not metrics:
        return []
    name = "unknown" if data is None else printable(data.name)
    dataset = {"type": _slug(name), "name": name, "split": facts.subset}
    dataset |= {} if data is None or data.is_that_of_training is False else {"revision": data.version}
    return [
        {
            "task": {"type": "image-classification", "name": "Image Classification"},
            "dataset": dataset,
            "metrics": metrics,
        }
    ]


def _about(facts: CardFacts) -> list[str]:
    side = facts.preprocessing.image_size
    rows = [
        ("input", f"one grey image of a cell, any height and width; {_describe(facts.preprocessing)}"),
        ("output", f"probability of each of {len(facts.classes)} classes: {', '.join(map(markdown, facts.classes))}"),
        ("network", f"{markdown(facts.network)}, {facts.num_parameters:,} parameters, images of {side} x {side} px"),
        ("calibration", _calibration(facts)),
        ("cells unlike those of training", "reported for each cell" if facts.finds_unlike else "not reported"),
        (
            "licence of the weights",
            markdown(facts.licence) or "none given: ask the author before you use or pass them on",
        ),
        ("written by", f"fastcell {markdown(facts.version)}"),
    ]
    return [
        f"# {markdown(facts.title)}",
        "",
        "Classifier of single-cell images, trained with fastcell.",
        "",
        *_table(("", ""), rows),
    ]


def _describe(preprocessing: Preprocessing) -> str:
    words = [f"fit {preprocessing.fit}", f"intensity normalisation {preprocessing.normalization}"]
    if preprocessing.scale_um_per_px is not None:
        words.append(f"{preprocessing.scale_um_per_px:g} um per pixel")
    if preprocessing.window is not None:
        low, high = preprocessing.window
        words.append(f"16-bit grey levels {low:g} to {high:g} become black and white")
    return ", ".join([*words, f"{preprocessing.depth} bit"])


def _calibration(facts: CardFacts) -> str:
    if facts.temperature is None or facts.temperature == 1:
        return "none: probabilities are those of the network"
    return f"temperature {facts.temperature:.3f}, fitted on validation cells"


def _uses(facts: CardFacts) -> list[str]:
    where = "the data set below" if facts.data is not None else "the cells of its training"
    unlike = (
        "The column `unlike_training` reports cells that look unlike those of training; do not use their answers."
        if facts.finds_unlike
        else "Cells that look unlike those of training are not reported: look at a sample of new cells first."
    )
    return [
        "## Intended use and limits",
        "",
        f"- Intended for images of single cells from the instrument, staining and preparation of {where}.",
        "- Every cell gets one of the classes above, also a cell of none of them, debris or an empty frame.",
        f"- {unlike}",
        "- Another instrument, magnification, donor or preparation may lower the scores below. Label some of the new",
        "  cells and score the model on them.",
        "- Not validated for diagnosis or any decision about a patient.",
        *(f"- {markdown(line)}" for line in facts.cautions),
    ]


def _start(facts: CardFacts) -> list[str]:
    folder, trust, option = markdown_code(facts.folder), "", ""
    lines = []
    if facts.package:
        trust, option = f", trust=[{facts.package!r}]", f" --trust {facts.package}"
        lines = [f"The network is code of the package `{facts.package}`, which must be installed and trusted.", ""]
    return [
        "## How to use it",
        "",
        *lines,
        "```python",
        "import fastcell",
        "",
        f"classifier = fastcell.load({folder!r}{trust})",
        "answers = classifier.predict(images)  # arrays, image files, a folder, a recording or a packed data set",
        "answers.labels, answers.probabilities",
        "```",
        "",
        "```",
        f"fastcell predict {_shell(folder)} NEW_IMAGES --out predictions.parquet{option}",
        "```",
    ]


def markdown_code(text: str) -> str:
    """Return a text for a code block: one line without backticks."""
    return printable(text).replace("`", "")


def _shell(word: str) -> str:
    return word if re.fullmatch(r"[\w.,/+-]+", word) else "FOLDER"


def _data(facts: CardFacts) -> list[str]:
    data = facts.data
    lines = ["## Data", ""]
    if data is None:
        return [*lines, "The data set of the training was not at hand when this card was written."]
    if data.is_that_of_training is False:
        lines += [
            "Its training cells differ from those of the run: the data set has changed since, or is a different one.",
            "",
        ]
    rows = [
        ("name", markdown(data.name)),
        ("source", markdown(data.source) or "not given"),
        ("licence", markdown(data.licence) or "not given"),
        ("version of the data set", data.version),
        ("kind", markdown(data.origin)),
        ("images", data.sizes),
    ]
    header = ("labelled cells", *(SUBSET_NAMES[subset] for subset in SPLITS), "total")
    counts = [
        (markdown(name), *(f"{count:,}" for count in row), f"{sum(row):,}")
        for name, row in zip(data.classes, data.counts.tolist(), strict=True)
    ]
    sums = data.counts.sum(axis=0).tolist()
    counts.append(("total", *(f"{count:,}" for count in sums), f"{sum(sums):,}"))
    if data.groups is not None:
        counts.append(("groups (donors, recordings, files)", *(f"{count:,}" for count in data.groups), ""))
    return [*lines, *_table(("", ""), rows), "", *_table(header, counts)]


def _training(facts: CardFacts) -> list[str]:
    rows = [(markdown(name), markdown(value)) for name, value in facts.training.items()]
    known = _table(("setting", "value"), rows) if rows else ["The settings of the training are not known."]
    return ["## Training", "", *known]


def _scores(facts: CardFacts) -> list[str]:
    lines = ["## Scores", ""]
    rows = [
        (title, *_cells(facts.scores, name))
        for name, title in _MEASURES.items()
        if _score(facts.scores, name) is not None
    ]
    if not rows:
        return [*lines, "The weights were not scored on labelled cells."]
    unit = markdown(describe_unit(dict(facts.scores)))
    subset = SUBSET_NAMES.get(facts.subset, facts.subset)
    lines += [f"Of the {subset} cells, {unit}.", "", *_table(("score", "value", "95 % interval"), rows)]
    classes = facts.scores.get("classes")
    if isinstance(classes, dict) and all(isinstance(values, dict) for values in classes.values()):
        of_classes = [
            (
                markdown(name),
                str(values.get("num_cells", "")),
                *(" ".join(_cells(values, each)).rstrip() for each in _OF_A_CLASS),
            )
            for name, values in classes.items()
        ]
        header = ("class", "cells", *(f"{name.replace('_', ' ')} (95 % interval)" for name in _OF_A_CLASS))
        lines += ["", *_table(header, of_classes)]
    return lines


def _files(facts: CardFacts) -> list[str]:
    return [
        "## Files",
        "",
        f"- `{SHARED_WEIGHTS_FILE}`: weights and statistics of the training cells; its metadata hold the description.",
        f"- `{SHARED_CONFIG_FILE}`: the description, and the hash of the weights. `fastcell.load` checks both.",
        f"- `{CARD_FILE}`: this card. fastcell never reads it.",
        "",
        "Nothing in this folder is executed when it is loaded.",
    ]


def _score(scores: Mapping[str, Any], name: str) -> tuple[float, float | None, float | None] | None:
    values = scores.get(name)
    if not isinstance(values, Mapping) or not isinstance(values.get("value"), int | float):
        return None
    low, high = (values.get(end) if isinstance(values.get(end), int | float) else None for end in ("low", "high"))
    return float(values["value"]), low, high


def _interval(score: tuple[float, float | None, float | None]) -> str:
    _, low, high = score
    return "(no interval)" if low is None or high is None else f"({low:.3f} to {high:.3f})"


def _cells(scores: Mapping[str, Any], name: str) -> tuple[str, str]:
    score = _score(scores, name)
    if score is not None and not is_defined(scores[name]):
        return "-", ""
    return ("", "") if score is None else (f"{score[0]:.3f}", _interval(score))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unknown"
