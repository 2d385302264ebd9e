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
from fastcell.predictions.table import Predictions, with_features, without_formulas, write_csv_or_parquet
from fastcell.predictions.to_fcs import write_fcs
from fastcell.runs.prediction_columns import event_numbers
from fastcell.storage.places import check_output_file, check_output_folder
from fastcell.storage.staging import put_in_place, staging
from fastcell.storage.whole_files import replace_file
from fastcell.system.text import one_name, printable

NO_PREDICTION = -1.0
"""Class number and probabilities that an FCS file holds for a cell without a prediction."""

CONVERTED_ENDINGS = (".csv", ".parquet", ".fcs", ".h5", ".rtdc")


def convert(
    predictions: Predictions,
    out: Path,
    *,
    data: Path | None = None,
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
        spreadsheet: make texts that a spreadsheet would compute harmless (CSV only), see
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
            raise invalid(name, f"left out: it has an effect on {where} alone", str(value), "Leave it out")
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
        raise ArgumentError("--data goes with .csv, .parquet and .fcs: the others have no place for features.")
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
    """Write an FCS file: one event per row, with the parameters event, class, confidence, p_<class> and the features.

    If the predictions have them, unlike_training (0 or 1) and unlike_score follow the confidence; -1 is unknown.

    `event` is the number of the cell in its file (`fastcell.runs.prediction_columns`), exact up to 16,777,216. A cell
    without a prediction has -1 as class, confidence and probabilities. An unknown feature value is stored as 0, and the
    keyword ``FASTCELL_UNKNOWN`` in the text segment counts these values for each feature.

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
    columns: dict[str, np.ndarray] = {"event": events, "class": predictions.called().astype(np.float32)}
    columns["confidence"] = np.nan_to_num(scores.max(axis=1, initial=-np.inf), nan=NO_PREDICTION)
    ranges = {"class": (NO_PREDICTION, float(len(classes))), "confidence": (0.0, 1.0)}
    columns |= _unlike_parameters(predictions)
    ranges |= {"unlike_training": (NO_PREDICTION, 1.0)} if "unlike_training" in columns else {}
    for number, name in enumerate(classes):
        columns[f"p_{name}"] = np.nan_to_num(scores[:, number], nan=NO_PREDICTION)
        ranges[f"p_{name}"] = (0.0, 1.0)
    unknown = {}
    for name in features:
        values = table.column(name).to_numpy(zero_copy_only=False).astype(np.float32)
        known = np.isfinite(values)
        if not known.all():
            unknown[name] = int((~known).sum())
        columns[name] = np.where(known, values, np.float32(0))
    keywords = {
        "FASTCELL_VERSION": __version__,
        "FASTCELL_CLASSES": json.dumps(classes, ensure_ascii=False),
        "FASTCELL_NO_PREDICTION": f"{NO_PREDICTION:g}",
    }
    if unknown:
        keywords["FASTCELL_UNKNOWN"] = json.dumps(unknown, ensure_ascii=False)
    replace_file(out, lambda file: write_fcs(file, columns, ranges, keywords))
    num_unsure = int(predictions.unsure.sum())
    none = int((columns["class"] < 0).sum()) - num_unsure
    lines = [f"{printable(out)}: {len(predictions):,} events, {len(columns)} parameters"]
    if none:
        lines.append(f"events without a prediction, with -1 in class and probabilities: {none:,}")
    if num_unsure:
        lines.append(f"events of unsure cells, with -1 in class: {num_unsure:,}")
    lines += [f"events without feature {printable(name)}, with 0 in it: {count:,}" for name, count in unknown.items()]
    return lines


def _unlike_parameters(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return unlike_training (0 or 1) and unlike_score, -1 where unknown; nothing if no cell has them."""
    table = predictions.table
    if "unlike_score" not in table.column_names or table.column("unlike_score").null_count == len(table):
        return {}
    scores = table.column("unlike_score").to_numpy(zero_copy_only=False).astype(np.float32)
    flags = np.where(np.isnan(scores), NO_PREDICTION, predictions.unlike_training).astype(np.float32)
    return {"unlike_training": flags, "unlike_score": np.nan_to_num(scores, nan=NO_PREDICTION)}


def _write_ifcb(predictions: Predictions, out: Path, model_id: str) -> list[str]:
    bins = to_ifcb.rois_by_bin(predictions.keys)
    if out.suffix and len(bins) > 1:
        raise invalid("OUT", f"a folder for {len(bins):,} bins", str(out), "Leave the ending out")
    scores, num_left_out = predictions.probabilities, 0
    with nullcontext(out) if out.suffix else _new_folder(out) as place:
        for name, (rows, rois) in bins.items():
            there = ~np.isnan(scores[rows]).any(axis=1)
            num_left_out += int((~there).sum())
            parts = (name, rois[there], scores[rows[there]], predictions.classes, model_id)
            path = place if out.suffix else place / f"{name}_class.h5"
            replace_file(path, lambda file, parts=parts: to_ifcb.write_class_scores(file, *parts))  # type: ignore[misc]
    lines = [f"{printable(out)}: {len(predictions) - num_left_out:,} regions of interest in {len(bins):,} bins"]
    labels = to_ifcb.ascii_labels(predictions.classes)
    other = [
        f"{printable(name)} is {label}"
        for name, label in zip(predictions.classes, labels, strict=True)
        if name != label
    ]
    if other:
        lines.append(f"class labels in ASCII, as pyifcb reads them: {', '.join(other)}")
    return lines + ([f"{num_left_out:,} without a prediction are left out"] if num_left_out else [])


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
    scores = predictions.probabilities
    num_events = num_scored = 0
    with nullcontext(out) if out.suffix else _new_folder(out) as place:
        for name, (rows, events) in files.items():
            path = place if out.suffix else place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            num_events += to_rtdc.write_scores(sources[name], path, events, scores[rows], classes, tags)
            num_scored += int((~np.isnan(scores[rows]).any(axis=1)).sum())
    named = ", ".join(f"ml_score_{tag} {printable(name)}" for tag, name in zip(tags, classes, strict=True))
    scored = f"{num_scored:,} of {num_events:,} events with scores"
    return [f"{printable(out)}: {len(files):,} file{'s' * (len(files) != 1)}, {scored}", named]


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
