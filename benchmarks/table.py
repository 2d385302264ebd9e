"""Write the tables of the READMEs and of docs/ from ``benchmarks/results/``; ``--check`` says if they are up to date.

A table stands between ``<!-- table:BENCH -->`` and ``<!-- /table -->``, made from the newest result of that bench.

    python benchmarks/table.py [--check]
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coverage_tables import coverages, widths
from result_files import read_result, result_paths
from unlike_tables import unlike_tables

from fastcell.inference.backends.agreement import LEAST_SAME
from fastcell.stats.intervals import FEW_GROUPS

BENCHMARKS_DIR = Path(__file__).resolve().parent
ROOT = BENCHMARKS_DIR.parent
PAGES = (ROOT / "README.md", BENCHMARKS_DIR / "README.md", *sorted((ROOT / "docs").rglob("[!_]*.md")))
SUMMARY = (
    ("decoded cells in memory, flips and affine map", "loader-memory-affine", "FFCV, raw in memory, affine"),
    ("decoded cells in memory, no augmentation", "loader-memory", "FFCV, raw in memory"),
    ("JPEG files, decoded in every epoch", "loader", "webdataset + OpenCV"),
    ("the same", "loader", "FFCV, JPEG"),
)
"""Rows of the table ``summary``: the work, the bench, and the contestant that fastcell is set beside."""
MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def render(text: str, results_dir: Path, folder: str = "benchmarks/results") -> str:
    """Return ``text`` with every marked table made anew; a bench without results says so.

    Args:
        text: Markdown.
        results_dir: where the results are.
        folder: the same as links in ``text`` name it.
    """
    return MARKED.sub(lambda match: match[1] + table(match[2], results_dir, folder) + "\n" + match[3], text)


def table(bench: str, results_dir: Path, folder: str = "benchmarks/results") -> str:
    """Render the newest result of ``bench`` as Markdown, with machine, versions, n and spread below it."""
    if bench == "summary":
        return "\n".join(_summary(results_dir, folder))
    if bench == "scale-summary":
        return "\n".join(_growth_summary(results_dir, folder))
    path = newest(bench, results_dir)
    if path is None:
        return f"No result of `{bench}` yet."
    result = read_result(path)
    rows = result["rows"]
    kinds = {"copy_share": _kernels, "agreement": _baselines, "from_cells": _baseline_growth}
    kinds |= {"invented": _leaks, "accuracy": _scores, "way": _ways, "minute": _minutes, "recall": _found}
    kinds |= {"copies": _copies, "expected": _audits}
    kinds |= {"coverage": coverages, "wider": widths, "replaced": _replaced, "peak_mb": _costs}
    kinds |= {"stall": _stalls, "paper": _paper, "target": _targets, "latency": _latencies, "exponent": _growth}
    kinds |= {"exit_code": _refusals, "measure": _answers}
    kinds |= {"network_us": _backends, "stage_us": _stages, "p999_ms": _streams}
    kinds = {"num_labelled": _fine_tunings, "flagged": unlike_tables, **kinds}
    kinds = {"over_random": _choices, **kinds, "quantity": _quantities}
    kinds |= {"read_us": _block_paths, "apart": _ranks}
    kinds = {
        "slowest_ms": _single_cells,
        "student_us": _students,
        "scored_by": _dropped,
        "installed_mb": _sizes,
        "mb_per_million_cells": _peaks,
        "zoomed_in": _recipes,
        "decision_shift": _shifts,
        **kinds,
    }
    kind = next((make for column, make in kinds.items() if column in rows[0]), _rates)
    if kind in (_leaks, _scores) and "intervals" not in result["settings"]:
        first, *rest = kind([{name: _without_interval(value) for name, value in row.items()} for row in rows])
        note = "Without intervals: this result is of a version whose intervals were too narrow."
        lines = [first.replace(" (95 %)", ""), *rest, "", note]
    else:
        lines = kind(rows)
        if kind in (_leaks, _scores):
            lines += _few_groups(str(result["settings"]["intervals"]))
    absent = [f"Without {name}: {reason}." for name, reason in result.get("absent", {}).items()]
    return "\n".join([*lines, "", " ".join([_origin(result, f"{folder}/{path.name}"), *absent])])


def newest(bench: str, results_dir: Path) -> Path | None:
    """The result of `bench` that was written last."""
    files = result_paths(results_dir, f"{bench}-?pu-*")
    return max(files, key=lambda path: str(read_result(path)["date"]), default=None)


def _summary(results_dir: Path, folder: str) -> list[str]:
    """One line a comparison: the first contestant of fastcell beside one other, from the newest result of its bench."""
    lines = ["| one core | fastcell, cells/s | beside | cells/s | ratio | |", "|---|--:|---|--:|--:|---|"]
    for work, bench, rival in SUMMARY:
        path = newest(bench, results_dir)
        if path is None:
            continue
        rows = read_result(path)["rows"]
        ours = next(row for row in rows if row["contestant"].startswith("fastcell"))
        theirs = next(row for row in rows if row["contestant"] == rival)
        ratio = ours["ratio"] / theirs["ratio"]
        rates = [f"{row['cells_per_s']:,.0f}" for row in (ours, theirs)]
        lines.append(_line([work, rates[0], rival, rates[1], f"{ratio:.2f}", f"[n, spread]({folder}/{path.name})"]))
    return lines


def _rates(rows: list[dict[str, Any]]) -> list[str]:
    """Rates; columns that only some programs measure are there where any row has them."""
    extra = {title: show for title, (column, show) in MEASURED.items() if any(row.get(column) for row in rows)}
    titles = ["", "ratio (95 %)", "cells/s, median (range)", "CPU time per cell", *extra, ""]
    lines = [_line(titles), "|---|" + "--:|" * (3 + len(extra)) + "---|"]
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}..{row['ratio_high']:.2f})"
        rate = "{} ({}..{})".format(*(_number(row[name]) for name in ("cells_per_s", "low", "high")))
        values = [
            show(row[MEASURED[title][0]]) if row.get(MEASURED[title][0]) else "-" for title, show in extra.items()
        ]
        lines.append(_line([row["contestant"], ratio, rate, _cpu_time(row["cpu_us_per_cell"]), *values, row["what"]]))
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


def _cpu_time(us: float) -> str:
    return f"{us:.0f} µs" if us < 10_000 else f"{us / 1e6:.2f} s"


def _line(cells: list[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


# Title of a column that is shown where a program measured it: field of the row, and how it reads.
MEASURED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "data": ("data", str),
    "cores": ("threads", str),
    "first batch": ("first_batch_s", _seconds),
    "first batch, fresh process": ("first_batch_cold_s", _seconds),
    "memory, peak": ("peak_rss_mb", _megabytes),
    "GPU memory": ("gpu_memory_mb", _megabytes),
}


def _scores(rows: list[dict[str, Any]]) -> list[str]:
    has_splits = any(row.get("other_splits") for row in rows)
    titles = ["", "accuracy (95 %)", "balanced accuracy (95 %)", "CNN minus this, paired (95 %)"]
    titles += ["other splits minus these, paired (95 %)"] * has_splits
    lines = [_line([*titles, "fit [s]"]), "|---|" + "--:|" * len(titles)]
    for row in rows:
        values = [_interval(row["accuracy"]), _interval(row["balanced_accuracy"])]
        for gain in [row["gain"], *[row.get("other_splits")] * has_splits]:
            values.append("-" if gain is None else _verdict(gain))
        lines.append(_line([row["method"], *values, f"{row['fit_s']:.0f}"]))
    return lines


def _few_groups(intervals: str) -> list[str]:
    """Return what differences between methods mean if there are too few groups for a verdict."""
    by_group = re.match(r"by group \(([\d,]+)\)", intervals)
    if by_group is None or (num := int(by_group[1].replace(",", ""))) >= FEW_GROUPS:
        return []
    text = (
        f"No difference of {num} groups can be significant (the least p is {2 ** (1 - num):.3g}): where its interval "
        "excludes 0, it does so by an assumed spread between groups."
    )
    return ["", text]


def _leaks(rows: list[dict[str, Any]]) -> list[str]:
    titles = ["", "set", "order", "accuracy (95 %)", "the order above minus this, paired (95 %)"]
    lines = [_line([*titles, "recall of the rare class (95 %)"]), "|---|---|---|--:|--:|--:|"]
    for row in rows:
        invented = "-" if row["invented"] is None else _interval(row["invented"], signed=True)
        values = [_interval(row["accuracy"]), invented, _interval(row["rare_recall"])]
        lines.append(_line([row["method"], row["data"], row["protocol"], *values]))
    one = rows[0]
    lines += ["", f"{one['num_images']:,} images; calling one class always is right for {one['chance']:.3f}."]
    return lines


def _ways(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | accuracy, mean and deviation over seeds | by seed | training, cells/s |", "|---|--:|---|--:|"]
    for row in rows:
        seeds = ", ".join(f"{value:.3f}" for value in row["accuracies"])
        spread = f"{row['accuracy_mean']:.3f} ± {row['accuracy_std']:.3f}"
        lines.append(f"| {row['way']} | {spread} | {seeds} | {row['cells_per_s']:,.0f} |")
    return lines


def _minutes(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| minute | resident size | open files | threads | training, cells/s | training, cells per CPU second |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["minute"] in (1, 2) or row["minute"] % 5 == 0:
            counts = f"{row['open_files']:.0f} | {row['threads']:.0f}"
            rates = f"{row['cells_per_s']:,.0f} | {row['cells_per_cpu_s']:,.0f}"
            lines.append(f"| {row['minute']} | {row['resident_mb']:,.0f} MB | {counts} | {rates} |")
    return lines


def _found(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| simulated fault | cells | found where 95 % of good cells are kept | found at the command's threshold |",
        "|---|--:|--:|--:|",
    ]
    for row in rows:
        kind = "none: good cells dropped" if row["kind"] == "none" else row["kind"]
        recall = f"{row['recall']:.4f} ({row['low']:.4f}..{row['high']:.4f})"
        even = f"{row['found_even']:.4f} ({row['even_low']:.4f}..{row['even_high']:.4f})"
        lines.append(f"| {kind}, {row['faults']} | {row['num']:,} | {recall} | {even} |")
    return lines


def _copies(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| cells | what | found | share (95 %) |", "|---|---|--:|--:|"]
    for row in rows:
        share = f"{row['found'] / row['of']:.4f} ({max(row['low'], 0):.4f}..{row['high']:.4f})"
        lines.append(f"| {row['data']} | {row['copies']} | {row['found']:,} of {row['of']:,} | {share} |")
    return lines


def _audits(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| sets | what | asked | alarms, in sets | other alarms |", "|---|---|---|--:|---|"]
    for row in rows:
        others = ", ".join(f"{name} {count}" for name, count in row["other_alarms"].items()) or "-"
        asked = row["expected"] or "none expected"
        lines.append(f"| {row['kind']} | {row['what']} | {asked} | {row['found']} of {row['sets']} | {others} |")
    return lines


def _kernels(rows: list[dict[str, Any]]) -> list[str]:
    cases: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        case = tuple(row[column] for column in ("kernel", "stages", "data", "size", "dtype"))
        cases.setdefault(case, {})[row["contestant"]] = row
    lines = [
        "| kernel | cells | image | cells/s, median (range) | GB/s | of a copy's | x torch (95 %) | x DALI (95 %) |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for (kernel, stages, data, size, dtype), row in cases.items():
        limit = "fastcell" not in row
        ours = next(iter(row.values())) if limit else row["fastcell"]
        name = f"{ours['contestant']} | - | -" if limit else f"{kernel}: {stages} | {data} | {size} px, {dtype}"
        rate = "-" if limit else f"{ours['cells_per_s']:,.0f} ({ours['low']:,.0f}..{ours['high']:,.0f})"
        lines.append(
            f"| {name} | {rate} | {ours['gb_per_s']:.1f} | {ours['copy_share']:.0%} "
            f"| {_advantage(row.get('torch'))} | {_advantage(row.get('DALI'))} |"
        )
    return lines


def _peaks(rows: list[dict[str, Any]]) -> list[str]:
    """Peak memory of packing few and many cells."""
    sizes = [f"{rows[0][name]:,} cells" for name in ("small_cells", "large_cells")]
    lines = [_line(["", "pixels of a cell", *sizes, "each further cell"]), "|---|" + "--:|" * 4]
    for row in rows:
        peaks = [_megabytes(row[name]) for name in ("small_mb", "large_mb")]
        each = f"{row['mb_per_million_cells'] / 1000:.1f} kB"
        lines.append(_line([row["contestant"], f"{row['cell_bytes']:,} bytes", *peaks, each]))
    return lines


BASELINE_SHOWN = {"features": (64,), "num_train": (1000, 8000, 20000)}
"""Rows that the tables of the baselines show; the result holds all."""


def _baselines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| step | library | cells | components | time [s] | x scikit-learn (95 %) | accuracy | same class |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if any(row[name] not in shown for name, shown in BASELINE_SHOWN.items()):
            continue
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}..{row['ratio_high']:.2f})"
        scores = [("-" if row[column] is None else f"{row[column]:.3f}") for column in ("accuracy", "agreement")]
        lines.append(
            f"| {row['method']}, {row['step']} | {row['backend']} | {row['num_train']:,} | {row['features']} "
            f"| {row['seconds']:.3g} | {ratio} | {' | '.join(scores)} |"
        )
    return lines


def _baseline_growth(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| step | library | components | time grows with the cells to the power of (between neighbours) | cells |",
        "|---|---|--:|--:|--:|",
    ]
    for row in rows:
        if row["features"] not in BASELINE_SHOWN["features"]:
            continue
        exponent = f"{row['exponent']:.2f} ({row['low']:.2f}..{row['high']:.2f})"
        step, cells = f"{row['method']}, {row['step']}", f"{row['from_cells']:,} to {row['to_cells']:,}"
        lines.append(f"| {step} | {row['backend']} | {row['features']} | {exponent} | {cells} |")
    return lines


def _advantage(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['advantage']:.2f} ({row['advantage_low']:.2f}..{row['advantage_high']:.2f})"


def _stalls(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | share of its time that is the loader's (95 %) | cells/s, median (range) | CPU time per cell | |"]
    lines.append("|---|--:|--:|--:|---|")
    for row in rows:
        stall = f"{row['stall']:.0%} ({row['stall_low']:.0%}..{row['stall_high']:.0%})"
        if row.get("transform_share"):
            stall += f"; transform {row['transform_share']:.0%}"
        rate = f"{row['cells_per_s']:,.0f} ({row['low']:,.0f}..{row['high']:,.0f})"
        stall = "-" if row["contestant"].startswith("headspace") else stall
        lines.append(f"| {row['contestant']} | {stall} | {rate} | {row['cpu_us_per_cell']:,.0f} µs | {row['what']} |")
    return lines


def _block_paths(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| cells | read and compare | answers to a file | two cores | by the clock |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        times = f"{row['read_us']:.2f} µs | {row['table_us']:.2f} µs"
        rates = f"{row['two_cores']:,.0f} cells/s | {row['wall']:,.0f} cells/s"
        lines.append(f"| {row['cells']}, {row['num_cells']:,} | {times} | {rates} |")
    return lines


def _ranks(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| processes | device | cells/s | steps | apart | validation loss |", "|--:|---|--:|--:|--:|--:|"]
    for row in rows:
        told = f"{row['device']} | {row['cells_per_s']:,.0f} | {row['steps']} | {row['apart']:.1e} | {row['loss']:.4f}"
        lines.append(f"| {row['ranks']} | {told} |")
    return lines


def _paper(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | iterations run | cells/s in training steps | in validation | the command, whole | all 3,000 iterations |"
    ]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        how = "calculated from those run, no measurement" if row["is_calculated"] else "measured"
        told = f"{row['cells_per_s']:,.0f} | {row['validate_s']:,.1f} s | {row['measured_s']:,.1f} s"
        lines.append(f"| {row['paper']} | {row['iterations']:,} | {told} | {row['whole_s']:,.1f} s, {how} |")
    return lines


def _targets(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | asked of validation | training cells | reached, by seed | best, by seed | time, mean and deviation |"]
    lines.append("|---|--:|--:|---|---|--:|")
    for row in rows:
        seconds = ", ".join("no" if value is None else f"{value:,.1f} s" for value in row["seconds"])
        best = ", ".join(f"{value:.4f}" for value in row["best"])
        mean = "not reached" if row["mean_s"] is None else f"{row['mean_s']:,.1f} s"
        mean += "" if row["std_s"] is None else f" ± {row['std_s']:,.1f} s"
        told = f"{row['target']:.1%} | {row['cells']:,} | {seconds} | {best} | {mean}"
        lines.append(f"| {row['recipe']} | {told} |")
    return lines


def _latencies(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | p50 [µs] (95 %) | p99 [µs] (95 %) | p99.9 [µs] (95 %) | slowest [µs] | calls | |"]
    lines.append("|---|--:|--:|--:|--:|--:|---|")
    for row in rows:
        parts = " | ".join(
            f"{row[f'{name}_us']:,.0f} ({row[f'{name}_low']:,.0f}..{row[f'{name}_high']:,.0f})"
            for name in ("p50", "p99", "p999")
        )
        lines.append(f"| {row['latency']} | {parts} | {row['max_us']:,.0f} | {row['num_calls']:,} | {row['what']} |")
    return lines


def _growth(rows: list[dict[str, Any]]) -> list[str]:
    sizes = " | ".join(f"{size:,}" for size in rows[0]["rows"])
    computed = [f"{rows[0]['computed_rows']:,} (computed)"] if "computed_rows" in rows[0] else []
    heads = [sizes, *computed, "exponent (95 %)", "one row adds"]
    lines = [f"| rows: | {' | '.join(heads)} | |", f"|---|{'--:|' * (len(rows[0]['rows']) + len(heads) - 1)}---|"]
    for row in rows:
        found = dict(zip(row["rows"], row["values"], strict=True))
        measured = [*map(found.get, rows[0]["rows"]), *([row["at_computed"]] if computed else [])]
        values = " | ".join(map(_digits, measured))
        low, high = row["exponent_low"], row["exponent_high"]
        exponent = f"{row['exponent']:.2f}" + ("" if low is None else f" ({low:.2f}..{high:.2f})")
        each = f"{row['per_row']:,.0f} {'ns' if row['unit'] == 's' else 'B'}"
        lines.append(f"| {row['quantity']} [{row['unit']}] | {values} | {exponent} | {each} | {row['what']} |")
    return lines


def _digits(value: float | None) -> str:
    """Return three digits of a number, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _growth_summary(results_dir: Path, folder: str) -> list[str]:
    """Return the smallest and the largest size of `scale`, what is computed from them, and the earlier version."""
    path = newest("scale", results_dir)
    result = None if path is None else read_result(path)
    if path is None or result is None or "computed_rows" not in result["rows"][0]:
        return ["No result of `scale` yet."]
    rows = {row["quantity"]: row for row in result["rows"]}
    first, *_, last = rows["open"]["rows"]
    before = {name.removesuffix(", before"): row for name, row in rows.items() if name.endswith(", before")}
    most = max((row["rows"][-1] for row in before.values()), default=last)
    heads = ["cells", f"{first:,}", f"{last:,}", f"{rows['open']['computed_rows']:,}, computed", f"{most:,}, before"]
    lines = [_line(heads), "|---|" + "--:|" * 4]
    for name, title in GROWTH_SHOWN.items():
        row, was = rows[name], before.get(name)
        found = dict(zip(row["rows"], row["cpu"], strict=True))
        values = [found[first], found[last], row["at_computed"], None if was is None else was["cpu"][-1]]
        shown = ["" if value is None else f"{_digits(value)} {row['unit']}" for value in values]
        lines.append(_line([title, *shown]))
    return [*lines, "", _origin(result, f"{folder}/{path.name}")]


GROWTH_SHOWN = {
    "first open": "first opening on a machine",
    "open": "later openings",
    "select": "selection of the training cells",
    "start": "from the path to the first batch, imports not counted",
    "order, stream": "order of an epoch of the stream",
    "memory, libraries": "memory of a process alone after the imports",
    "memory, start": "memory of a process alone at the first batch, in addition",
    "two ranks, alone": "the same, of each of two ranks",
    "predictions": "table of predictions of all cells",
    "manifest": "manifest.parquet",
    "mapped files": "mapped files",
}
"""Rows of the table ``scale-summary``, with their titles."""


def _costs(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | CPU time [s] | memory, peak [MB] |", "|---|--:|--:|"]
    return [*lines, *(f"| {row['what']} | {row['seconds']:.2f} | {row['peak_mb']:,.0f} |" for row in rows)]


def _replaced(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | percentile bootstrap | now |", "|---|--:|---|"]
    return [*lines, *(f"| {row['example']} | {row['replaced']} | {row['interval']} |" for row in rows)]


def _refusals(rows: list[dict[str, Any]]) -> list[str]:
    """Exit codes of commands, and test accuracies of what was trained, before and now."""
    lines = ["| | exit code before | now | test accuracy before | now |", "|---|--:|--:|--:|--:|"]
    names = ("exit_code_before", "exit_code", "test_accuracy_before", "test_accuracy")
    for row in rows:
        texts = ["-" if row[name] is None else f"{row[name]:.{3 * name.startswith('test')}f}" for name in names]
        lines.append(_line([f"`{row['command']}`", *texts]))
    return lines


def _answers(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line a case and a column a measure, or a line a number where few cases share their measures."""
    cases, measures = (list(dict.fromkeys(row[name] for row in rows)) for name in ("case", "measure"))
    found = {(row["case"], row["measure"]): row for row in rows}
    if len(cases) * len(measures) <= 2 * len(rows):
        lines = [_line(["", *measures]), "|---|" + "--:|" * len(measures)]
        return [*lines, *(_line([case, *(_answer(found.get((case, name))) for name in measures)]) for case in cases)]
    told = (_line([row["case"], row["measure"], _answer(row), row["note"] or "-"]) for row in rows)
    return ["| | | | |", "|---|---|--:|---|", *told]


def _answer(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['value']:.0f}" if row["measure"] == "exit code" else f"{row['value']:.3f}"


def _recipes(rows: list[dict[str, Any]]) -> list[str]:
    """Trials of `recipes.py`: scores, and what they gain on `fast` on the same cells."""
    titles = ["", "what differs", "folds", "accuracy (p)", "balanced (p)", "loss", "zoom 1.25 / 0.8", "CPU a fold"]
    lines = [_line(titles), "|---|---|" + "--:|" * (len(titles) - 2)]
    for row in rows:
        zoomed = "-" if row["zoomed_in"] is None else f"{row['zoomed_in']:.3f} / {row['zoomed_out']:.3f}"
        scores = [
            f"{row[name]:.3f} {row[f'{name}_gain']:+.3f} ({row[f'p_{name}']:.2g})" for name in ("accuracy", "balanced")
        ]
        start = [row["trial"], row["why"], str(row["folds"])]
        loss = f"{row['loss']:.3f}" + (f" {row['loss_gain']:+.3f}" if "loss_gain" in row else "")
        lines.append(_line([*start, *scores, loss, zoomed, f"{row['cpu_s']:.0f} s"]))
    return lines


def _shifts(rows: list[dict[str, Any]]) -> list[str]:
    """Scores of `recipes.py` by the shift of the decision, with the recall of each class."""
    classes = list(rows[0]["recalls"])
    titles = ["", "folds", "shift", "accuracy", "balanced", *(f"recall of {name}" for name in classes)]
    lines = [_line(titles), "|---|" + "--:|" * (len(titles) - 1)]
    for row in rows:
        values = [f"{value:.3f}" for value in (row["accuracy"], row["balanced"])]
        recalls = [f"{row['recalls'][name]:.2f}" for name in classes]
        lines.append(_line([row["trial"], str(row["folds"]), f"{row['decision_shift']:.2f}", *values, *recalls]))
    for row in rows:
        if row.get("never"):
            counts = ", ".join(f"{name} {num:,}" for name, num in row["never"].items())
            lines += ["", f"Not found by any seed of {row['trial']}, shift {row['decision_shift']:g}: {counts}."]
    return lines


def _fine_tunings(rows: list[dict[str, Any]]) -> list[str]:
    """Ways of training of `fine_tuning.py`: accuracy, and what it gains on training from scratch."""
    titles = ["cells", "start", "accuracy", "balanced", "gain (95 %)", "better donors", "p, donors", "p, cells"]
    lines = [_line(titles), "|--:|---|" + "--:|" * (len(titles) - 2)]
    for row in rows:
        start = [str(row["num_labelled"]), row["way"], f"{row['accuracy']:.3f}", f"{row['balanced_accuracy']:.3f}"]
        gain = row["difference"]
        if gain is None:
            lines.append(_line([*start, "-", "-", "-", "-"]))
            continue
        interval = f"{gain['value']:+.3f} ({gain['low']:+.3f}..{gain['high']:+.3f})"
        tests = [f"{row['donors_better']} of 4", f"{row['p_donors']:.3g}", f"{row['p_cells']:.2g}"]
        lines.append(_line([*start, interval, *tests]))
    return lines


def _backends(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each network and size, a column for each backend: time, and agreement beside it."""
    names = list(dict.fromkeys(row["backend"] for row in rows))
    runs = list(dict.fromkeys((row["cells"], row["network"], row["size"]) for row in rows))
    found = {(row["cells"], row["network"], row["size"], row["backend"]): row for row in rows}
    lines = [_line(["cells", "compared", "network", *names]), "|---|--:|---|" + "--:|" * len(names)]
    for cells, network, size in runs:
        each = [found.get((cells, network, size, name)) for name in names]
        compared = max(row["compared"] for row in each if row is not None)
        values = ["" if row is None else _backend(row) for row in each]
        lines.append(_line([cells, f"{compared:,}", f"{network}, {size} px", *values]))
    return lines


def _backend(row: dict[str, Any]) -> str:
    if not row["compared"]:
        return f"{row['network_us']:,.1f}"
    same = row["same"] / row["compared"]
    shown = f"**{same:.1%}**" if same >= LEAST_SAME else f"{same:.1%}"
    return f"{row['network_us']:,.1f}, {shown}"


def _stages(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each stage, a column for each kind of cells."""
    cells = list(dict.fromkeys(row["cells"] for row in rows))
    found = {(row["cells"], row["stage"]): row for row in rows}
    lines = [_line(["us a cell", *cells]), "|---|" + "--:|" * len(cells)]
    clock = "whole command, two threads, by the clock"
    for stage in dict.fromkeys(row["stage"] for row in rows):
        values = [found.get((each, stage)) for each in cells]
        if stage != clock:
            lines.append(_line([stage, *("-" if row is None else f"{row['stage_us']:.2f}" for row in values)]))
    for stage, title in {
        "whole command": "cells/s on two cores, by processor time",
        clock: f"cells/s, {clock.removeprefix('whole command, ')}",
    }.items():
        rates = [found.get((each, stage)) for each in cells]
        if any(rates):
            lines.append(_line([title, *("-" if row is None else f"{row['two_cores']:,.0f}" for row in rates)]))
    return lines


def _dropped(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each set of real cells: what quality control would drop."""
    lines = [_line(["set", "cells", "scored by", "dropped", "likeliest fault", "largest share of a class"])]
    lines.append("|---|--:|---|--:|---|---|")
    for row in rows:
        numbers = [f"{row['num_cells']:,}", row["scored_by"], f"{row['dropped']:,}"]
        lines.append(_line([row["real"], *numbers, row["reasons"], row["most"]]))
    return lines


def _sizes(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each large package of an installation."""
    lines = [_line(["package", "extra", "size"]), "|---|---|--:|"]
    return [*lines, *(_line([row["package"], row["extra"], _megabytes(row["installed_mb"])]) for row in rows)]


def _students(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each student and backend; differences from the teacher in points."""
    titles = ["cells", "n", "student", "trained", "backend", "us a cell", "teacher", "student", "accuracy, points"]
    lines = [_line([*titles, "balanced, points", "calibration error"]), "|---|--:|---|---|---|" + "--:|" * 6]
    for row in rows:
        start = [row["cells"], f"{row['num_cells']:,}", row["student"], row["trained"], row["backend"]]
        scores = [f"{row['student_us']:.1f}", f"{row['teacher_accuracy']:.3f}", f"{row['accuracy']:.3f}"]
        differences = [_points(row[name]) for name in ("difference", "balanced_difference")]
        lines.append(_line([*start, *scores, *differences, f"{row['calibration_error']:.3f}"]))
    return lines


def _points(entry: dict[str, Any]) -> str:
    value, low, high = (100 * entry[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f}..{high:+.1f})"


def _choices(rows: list[dict[str, Any]]) -> list[str]:
    """Balanced accuracy by number of labels and way of choosing, with the difference to random; every second step."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    found = {(row["embedding"], row["labels"], row["way"]): row for row in rows}
    lines = [_line(["embedding", "labels", *ways]), "|---|--:|" + "--:|" * len(ways)]
    for embedding in dict.fromkeys(row["embedding"] for row in rows):
        for labels in list(dict.fromkeys(row["labels"] for row in rows))[1::2]:
            cells = []
            for way in ways:
                row = found[embedding, labels, way]
                gain = "" if row["over_random"] is None else f", {_interval(row['over_random'], signed=True)}"
                cells.append(
                    (f"{row['balanced_accuracy']['value']:.3f}" if gain else _interval(row["balanced_accuracy"])) + gain
                )
            lines.append(_line([embedding, str(labels), *cells]))
    return lines


def _quantities(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each quantity: median, smallest and largest round."""
    lines = [_line(["", "median", "smallest to largest", "n"]), "|---|--:|--:|--:|"]
    for row in rows:
        value, low, high = (f"{row[name]:,.{0 if row['value'] >= 100 else 2}f}" for name in ("value", "low", "high"))
        title = f"{row['quantity']}: {row['what']}"
        lines.append(_line([title, f"{value} {row['unit']}", f"{low} to {high}", str(row["num_rounds"])]))
    return lines


def _single_cells(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each network and backend: how long one cell takes."""
    lines = ["| network | backend | calls | p50 [ms] | p99 [ms] | p99.9 [ms] | slowest [ms] | CPU [ms] |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        values = (row[name] for name in ("p50_ms", "p99_ms", "p999_ms", "slowest_ms", "cpu_ms"))
        times = " | ".join("-" if value is None else f"{value:,.2f}" for value in values)
        lines.append(f"| {row['network']} | {row['backend']} | {row['num_calls']:,} | {times} |")
    return lines


def _streams(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each network and rate of cells."""
    names = [
        "network",
        "cells/s",
        "for",
        "p50 [ms]",
        "p99 [ms]",
        "p99.9 [ms]",
        "p99 in the quietest 5 s [ms]",
        "dropped",
        "memory after 5 s, at the end",
    ]
    lines = [_line([*names, "CPU a cell", "wait for a core [s/s]"]), "|---|---|" + "--:|" * 9]
    for row in rows:
        title = {"0": "one by one", "highest": f"{row['rate']:,.0f}, the highest without a drop in 8 s"}
        wanted = title.get(row["wanted"], f"{row['rate']:,.0f}")
        values = [f"{row[name]:,.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "quiet_p99_ms")]
        dropped = f"{row['dropped']:,} of {row['sent']:,}"
        memory = f"{row['early_mib']:,.0f}, {row['end_mib']:,.0f} MiB"
        cost = [memory, f"{row['server_us']:,.0f} us", f"{row['waited']:.2f}"]
        begins = ", drops begin" if row["wanted"] == "drops begin" else ""
        lines.append(_line([row["network"], wanted + begins, f"{row['seconds']:,.0f} s", *values, dropped, *cost]))
    return lines


def _interval(entry: dict[str, Any], signed: bool = False) -> str:
    sign = "+" if signed else ""
    bounds = "" if entry["low"] is None else f" ({entry['low']:{sign}.3f}..{entry['high']:{sign}.3f})"
    return f"{entry['value']:{sign}.3f}{bounds}"


def _verdict(difference: dict[str, Any]) -> str:
    """Return a difference with its interval and, where the result has one, the verdict in words."""
    verdict = difference.get("verdict")
    return _interval(difference, signed=True) + (f"; {verdict}" if verdict else "")


def _without_interval(value: Any) -> Any:
    """Return a score without its interval, any other value as it is."""
    return {**value, "low": None, "high": None} if isinstance(value, dict) and "low" in value else value


def _origin(result: dict[str, Any], path: str) -> str:
    machine = result["environment"]
    packages = {key: value for key, value in machine["packages"].items() if key.startswith(("torch", "nvidia-dali"))}
    packages |= result.get("packages", {})
    versions = ", ".join(f"{key} {packages[key]}" for key in sorted(packages) if key != "torchmetrics")
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    cores = f"{machine['num_cpus']} core{'s' * (machine['num_cpus'] > 1)}"
    device = f"{'; '.join(machine['gpus']) or 'no GPU'}, {machine['cpu']}, {cores}"
    if "load_average_start" in machine:
        load = [machine[f"load_average_{when}"][0] for when in ("start", "end")]
        device += f", load {load[0]:.1f} at the start and {load[1]:.1f} at the end"
    what = "; ".join(filter(None, (result["data"], settings)))
    return f"{what}. {device}; {versions}; commit {result['commit']}, {result['date'][:10]}: [result]({path})."


def main(argv: list[str]) -> int:
    """Rewrite the pages, or check them; returns the exit code."""
    status = 0
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        folder = os.path.relpath(BENCHMARKS_DIR / "results", path.parent)
        after = render(before, BENCHMARKS_DIR / "results", folder)
        if argv != ["--check"]:
            path.write_text(after, encoding="utf-8")
        elif before != after:
            print(f"{path} differs from benchmarks/results. Run `python benchmarks/table.py`.", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
