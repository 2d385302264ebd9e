"""Convert predictions, with the features of the cells, to the file formats of other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastcell import __version__
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError, invalid
from fastcell.predictions import to_ifcb, to_rtdc
from fastcell.predictions.gate_columns import gate_columns
from fastcell.predictions.table import Predictions, with_features, without_formulas, write_csv_or_parquet
from fastcell.predictions.to_fcs import write_fcs
from fastcell.runs.prediction_columns import event_numbers
from fastcell.storage.places import check_output_file, check_output_folder
from fastcell.storage.staging import put_in_place, staging
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import MOST_PRINTED_ROWS, list_names, one_name, printable

NO_PREDICTION = -1.0
"""Value of class and probabilities in an FCS file for a cell without a prediction."""

REASON_KEYWORDS = {"reason": "FASTCELL_REASONS", "unlike_reason": "FASTCELL_UNLIKE_REASONS"}
"""Keywords of an FCS file with the texts of the codes 1, 2, ... of a parameter."""

MOST_EXACT_EVENT = 1 << 24
"""Largest event number up to which a 32-bit float, as in an FCS file, represents all numbers exactly."""

CONVERTED_ENDINGS = (".csv", ".parquet", ".fcs", ".h5", ".rtdc")


def convert(
    predictions: Predictions,
    out: Path,
    *,
    data: str | Path | None = None,
    rtdc_source: Path | None = None,
    tags: list[str] | None = None,
    model_id: str = "fastcell",
    spreadsheet: bool = False,
) -> list[str]:
    """Convert predictions to the format given by the ending of `out`.

    Args:
        predictions: predictions to be converted.
        out: path of the output. ``.csv``, ``.parquet`` and ``.fcs`` hold one row or event per row of the table, in the
            same order. ``.h5`` requires that all cells are from one IFCB bin, ``.rtdc`` that they are from one RT-DC
            file. Any other path is a folder that receives one file per IFCB bin or RT-DC file; it must be new or empty.
        data: data set whose features are added to the predictions (CSV, Parquet and FCS only).
        rtdc_source: the RT-DC file, or the folder of RT-DC files, that was packed.
        tags: names of the RT-DC features, three characters per class; None to derive them from the class names.
        model_id: identifier of the classifier, stored in IFCB files.
        spreadsheet: escape texts that a spreadsheet would take for formulas (CSV only), see
            `fastcell.predictions.table.without_formulas`.

    Returns:
        Messages for the user, one per line.

    Raises:
        ArgumentError: If an argument does not fit the cells.
        DataError: If a file cannot be read or does not hold the cells.
    """
    if out.suffix and out.suffix not in CONVERTED_ENDINGS:
        raise invalid(
            "OUT", f"a name that ends in {', '.join(CONVERTED_ENDINGS)}, or a folder", str(out), "Change the ending"
        )
    if spreadsheet and out.suffix != ".csv":
        raise invalid("--spreadsheet", "given for a .csv file", str(out), "Leave it out for other formats")
    first = predictions.keys[0] if len(predictions) else ""
    as_rtdc = out.suffix in (".rtdc", "") and to_rtdc.is_rtdc_key(first)
    as_ifcb = out.suffix in (".h5", "") and to_ifcb.is_ifcb_key(first)
    for name, value, has_effect, where in (
        ("--rtdc-source", rtdc_source, as_rtdc, "copies of RT-DC files"),
        ("--scores", tags and ",".join(tags), as_rtdc, "copies of RT-DC files"),
        ("--model-id", None if model_id == "fastcell" else model_id, as_ifcb, "files of IFCB bins"),
    ):
        if value is not None and not has_effect and len(predictions):
            raise invalid(name, f"left out: it affects {where} only", str(value), "Leave it out")
    if out.suffix:
        check_output_file("OUT", out, predictions.path)
    else:
        check_output_folder("OUT", out)
    if out.suffix in (".csv", ".parquet", ".fcs"):
        table, features = (predictions.table, []) if data is None else with_features(predictions, Manifest.open(data))
        if out.suffix != ".fcs":
            write_csv_or_parquet(out, without_formulas(table) if spreadsheet else table)
            return [f"{printable(out)}: {table.num_rows:,} rows, {len(features)} features"]
        return write_events(out, predictions, table, features)
    if not len(predictions):
        raise DataError(f"{predictions.path} has no row: there is nothing to write. Classify some cells first.")
    if data is not None:
        raise ArgumentError(
            "--data can be given for .csv, .parquet and .fcs only: other formats have no place for features."
        )
    if as_rtdc:
        return _write_rtdc(predictions, out, rtdc_source, tags)
    if as_ifcb:
        return _write_ifcb(predictions, out, model_id)
    raise DataError(
        f"{out} needs cells of IFCB bins (.h5) or of RT-DC files (.rtdc), got {first!r}. "
        "Give OUT the ending .csv, .parquet or .fcs."
    )


def write_predictions(out: Path, table: pa.Table, classes: list[str], manifest: Manifest) -> list[str]:
    """Write a new table of predictions as .csv, .parquet or .fcs, by the ending; FCS includes the cells' features.

    Args:
        out: file to be written.
        table: table made by `fastcell.predictions.table.prediction_table`.
        classes: K names, in the order of the columns.
        manifest: manifest of the data set, for the features.

    Returns:
        Messages for the user, one per line.
    """
    if out.suffix != ".fcs":
        write_csv_or_parquet(out, table)
        return []
    predictions = Predictions(table, classes, out)
    return write_events(out, predictions, *with_features(predictions, manifest))[1:]


def write_events(out: Path, predictions: Predictions, table: pa.Table, features: list[str]) -> list[str]:
    """Write an FCS file: one event per row, with the parameters event, class, flags, p_<class> and the features.

    `event` is the number of the cell in its file (`fastcell.runs.prediction_columns`). The flags are those of
    `fastcell.predictions.gate_columns`: confidence, unsure (0 or 1) and reason, and unlike_training (0 or 1),
    unlike_score and unlike_reason if the table has them. The reasons are codes: 0 is none, k is the k-th text of the
    keyword ``FASTCELL_REASONS`` or ``FASTCELL_UNLIKE_REASONS``. -1 is unknown: a cell without a prediction has it as
    class, confidence, unsure and probabilities, an unsure cell as class. An unknown feature value is stored as 0, and
    the keyword ``FASTCELL_UNKNOWN`` in the text segment counts these values for each feature.

    Args:
        out: file to be written.
        predictions: classes and probabilities of the events.
        table: N rows in the same order, with the columns of features.
        features: names of these columns.

    Returns:
        Messages for the user, one per line.
    """
    scores = predictions.probabilities
    classes = predictions.classes
    events = event_numbers(predictions.table.column("key"), np.arange(len(predictions)))
    gates = gate_columns(predictions)
    columns: dict[str, np.ndarray] = {"event": events, "class": predictions.called().astype(np.float32)}
    columns |= {name: np.nan_to_num(values, nan=NO_PREDICTION) for name, values in gates.numbers().items()}
    ranges = {"class": (NO_PREDICTION, float(len(classes))), "confidence": (0.0, 1.0)}
    ranges |= {name: (NO_PREDICTION, 1.0) for name in ("unsure", "unlike_training") if name in columns}
    for number, name in enumerate(classes):
        columns[f"p_{name}"] = np.nan_to_num(scores[:, number], nan=NO_PREDICTION)
        ranges[f"p_{name}"] = (0.0, 1.0)
    unknown = {}
    for name in features:
        values = table.column(name).to_numpy(zero_copy_only=False).astype(np.float32)
        known = np.isfinite(values)
        title = f"feature_{name}" if name in columns else name
        if not known.all():
            unknown[title] = int((~known).sum())
        columns[title] = np.where(known, values, np.float32(0))
    keywords = {
        "FASTCELL_VERSION": __version__,
        "FASTCELL_CLASSES": json.dumps(classes, ensure_ascii=False),
        "FASTCELL_NO_PREDICTION": f"{NO_PREDICTION:g}",
    }
    for name, texts in gates.texts().items():
        keywords[REASON_KEYWORDS[name]] = json.dumps(texts, ensure_ascii=False)
    if unknown:
        keywords["FASTCELL_UNKNOWN"] = json.dumps(unknown, ensure_ascii=False)
    replace_file(out, lambda file: write_fcs(file, columns, ranges, keywords))
    lines = [f"{printable(out)}: {len(predictions):,} events, {len(columns)} parameters"]
    lines += _missing_in_events(predictions, columns)
    lines += [f"events without feature {printable(name)}, with 0 in it: {count:,}" for name, count in unknown.items()]
    return lines


def _missing_in_events(predictions: Predictions, columns: dict[str, np.ndarray]) -> list[str]:
    """Return lines about values of an FCS file that are unknown or inexact."""
    num_unsure = int(predictions.unsure.sum())
    none = int((columns["class"] < 0).sum()) - num_unsure
    lines = []
    if none:
        lines.append(f"events without a prediction, with -1 in class and probabilities: {none:,}")
    if num_unsure:
        lines.append(f"events of unsure cells, with -1 in class: {num_unsure:,}")
    if len(predictions) and int(columns["event"].max()) > MOST_EXACT_EVENT:
        lines.append(f"event numbers above {MOST_EXACT_EVENT:,} are rounded; events have the order of the table")
    return lines


def _write_ifcb(predictions: Predictions, out: Path, model_id: str) -> list[str]:
    bins = to_ifcb.rois_by_bin(predictions.keys)
    if out.suffix and len(bins) > 1:
        raise invalid("OUT", f"a folder for {len(bins):,} bins", str(out), "Leave the ending out")
    scores, flags = predictions.probabilities, gate_columns(predictions).columns()
    with nullcontext(out) if out.suffix else _new_folder(out) as place:
        for name, (rows, rois) in bins.items():
            of_bin = to_ifcb.BinScores(rois, scores[rows], {key: values[rows] for key, values in flags.items()})
            path = place if out.suffix else place / f"{name}_class.h5"
            replace_file(
                path,
                lambda file, name=name, of_bin=of_bin: to_ifcb.write_class_scores(  # type: ignore[misc]
                    file, name, of_bin, predictions.classes, model_id
                ),
            )
    num_left_out = int(np.isnan(scores).any(axis=1).sum())
    lines = [f"{printable(out)}: {len(predictions) - num_left_out:,} regions of interest in {len(bins):,} bins"]
    labels = to_ifcb.ascii_labels(predictions.classes)
    other = [
        f"{printable(name)} is {label}"
        for name, label in zip(predictions.classes, labels, strict=True)
        if name != label
    ]
    if other:
        lines.append(f"class labels in ASCII, as pyifcb reads them: {list_names(other, MOST_PRINTED_ROWS)}")
    if num_left_out:
        lines.append(f"{num_left_out:,} without a prediction are left out; left_out_roi_numbers lists them")
    return lines


def _write_rtdc(predictions: Predictions, out: Path, source: Path | None, tags: list[str] | None) -> list[str]:
    if source is None:
        raise invalid(
            "--rtdc-source", "given for a copy of RT-DC files", None, "Name the file or folder that was packed"
        )
    files = to_rtdc.events_by_file(predictions.keys)
    if out.suffix and len(files) > 1:
        raise invalid("OUT", f"a folder for {len(files):,} RT-DC files", str(out), "Leave the ending out")
    classes = predictions.classes
    tags = to_rtdc.score_tags(classes) if tags is None else to_rtdc.check_tags(tags, classes)
    sources = {name: _source_of(name, source, len(files)) for name in files}
    missing = [path for path in sources.values() if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]} is not there. Name with --rtdc-source the file or folder that was packed.")
    scores, gates = predictions.probabilities, gate_columns(predictions)
    flags, texts = gates.numbers(), gates.texts()
    num_events = num_scored = 0
    placed: dict[str, list[str]] = {}
    with nullcontext(out) if out.suffix else _new_folder(out) as place:
        for name, (rows, events) in files.items():
            path = place if out.suffix else place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            of_file = to_rtdc.EventScores(
                events, scores[rows], {key: values[rows] for key, values in flags.items()}, texts
            )
            written = to_rtdc.write_scores(sources[name], path, of_file, classes, tags)
            num_events += written.num_events
            num_scored += int((~np.isnan(scores[rows]).any(axis=1)).sum())
            placed.setdefault(to_rtdc.describe_flags(written.flags, flags), []).append(name)
    pairs = [f"ml_score_{tag} {printable(name)}" for tag, name in zip(tags, classes, strict=True)]
    named = list_names(pairs, MOST_PRINTED_ROWS)
    scored = f"{num_scored:,} of {num_events:,} events with scores"
    lines = [f"{printable(out)}: {len(files):,} file{'s' * (len(files) != 1)}, {scored}", named]
    if len(placed) == 1:
        return [*lines, *placed]
    return lines + [f"{text} in {', '.join(map(printable, names))}" for text, names in placed.items()]


def _source_of(name: str, source: Path, num_files: int) -> Path:
    if source.is_dir():
        if (source / name).exists() or name.isascii():
            return source / name
        same = (path for path in source.rglob("*") if one_name(path.relative_to(source).as_posix()) == name)
        return next(same, source / name)
    if num_files > 1 or one_name(source.name) != name.split("/")[-1]:
        raise invalid("--rtdc-source", f"the file or folder that {name} was packed from", str(source), "Check the path")
    return source


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `out` when all files are written; if writing fails, delete it."""
    with staging(out) as folder:
        yield folder
        put_in_place(folder, out.absolute())
