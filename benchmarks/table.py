"""Write the tables of the READMEs and of docs/ from ``benchmarks/results/``; ``--check`` says if they are up to date.

A table stands between ``<!-- table:BENCH -->`` and ``<!-- /table -->``, made from the newest result of that bench.

    python benchmarks/table.py [--check]
"""

import os
import re
import sys
from pathlib import Path

import score_tables
import speed_tables
from coverage_tables import coverages, widths
from markdown_lines import cpu_time, line, megabytes, number, seconds
from result_files import read_result, result_paths
from unlike_tables import unlike_tables

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
GROWTH_SHOWN = {
    "first open": "first opening on a machine",
    "open": "later openings",
    "select": "selection of the training cells",
    "start": "from the path to the first batch, imports not counted",
    "order, stream": "order of an epoch of the stream",
    "memory, libraries": "memory of a process alone after the imports",
    "memory, start": "memory of a process alone at the first batch, in addition",
    "two ranks, alone": "of each of two ranks, with pages of mapped files that the other has not read",
    "predictions": "table of predictions of all cells",
    "manifest": "manifest.parquet",
    "mapped files": "mapped files",
}
"""Rows of the table ``scale-summary``, with their titles."""
KINDS = {
    "slowest_ms": speed_tables.single_cells,
    "student_us": score_tables.students,
    "scored_by": score_tables.dropped,
    "installed_mb": speed_tables.sizes,
    "mb_per_million_cells": speed_tables.peaks,
    "zoomed_in": score_tables.recipes,
    "decision_shift": score_tables.shifts,
    "over_random": score_tables.choices,
    "num_labelled": score_tables.fine_tunings,
    "flagged": unlike_tables,
    "copy_share": speed_tables.kernels,
    "agreement": speed_tables.baselines,
    "from_cells": speed_tables.baseline_growth,
    "invented": score_tables.leaks,
    "accuracy": score_tables.scores,
    "way": score_tables.ways,
    "minute": speed_tables.minutes,
    "recall": score_tables.found,
    "copies": score_tables.copies,
    "expected": score_tables.audits,
    "coverage": coverages,
    "wider": widths,
    "replaced": score_tables.replaced,
    "peak_mb": speed_tables.costs,
    "stall": speed_tables.stalls,
    "paper": speed_tables.paper,
    "target": speed_tables.targets,
    "latency": speed_tables.latencies,
    "exponent": speed_tables.growth,
    "exit_code": score_tables.refusals,
    "measure": score_tables.answers,
    "network_us": speed_tables.backends,
    "stage_us": speed_tables.stages,
    "p999_ms": speed_tables.streams,
    "quantity": speed_tables.quantities,
    "read_us": speed_tables.block_paths,
    "apart": speed_tables.ranks,
}
"""Tables by a column of their results; the first one that a result has decides, and without any it holds rates."""
MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def render(text, results_dir, folder="benchmarks/results"):
    """Return ``text`` with every marked table made anew; a bench without results says so.

    Args:
        text: Markdown.
        results_dir: where the results are.
        folder: the same as links in ``text`` name it.
    """
    return MARKED.sub(lambda match: match[1] + table(match[2], results_dir, folder) + "\n" + match[3], text)


def table(bench, results_dir, folder="benchmarks/results"):
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
    kind = next((make for column, make in KINDS.items() if column in rows[0]), _rates)
    if kind in (score_tables.leaks, score_tables.scores) and "intervals" not in result["settings"]:
        first, *rest = kind(
            [{name: score_tables.without_interval(value) for name, value in row.items()} for row in rows]
        )
        note = "Without intervals: this result is of a version whose intervals were too narrow."
        lines = [first.replace(" (95 %)", ""), *rest, "", note]
    else:
        lines = kind(rows)
        if kind in (score_tables.leaks, score_tables.scores):
            lines += score_tables.few_groups(str(result["settings"]["intervals"]))
    absent = [f"Left out: {name} ({reason})." for name, reason in result.get("absent", {}).items()]
    return "\n".join([*lines, "", " ".join([_origin(result, f"{folder}/{path.name}"), *absent])])


def newest(bench, results_dir):
    """The result of `bench` that was written last."""
    files = result_paths(results_dir, f"{bench}-?pu-*")
    return max(files, key=lambda path: str(read_result(path)["date"]), default=None)


def _summary(results_dir, folder):
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
        lines.append(line([work, rates[0], rival, rates[1], f"{ratio:.2f}", f"[n, spread]({folder}/{path.name})"]))
    return lines


def _growth_summary(results_dir, folder):
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
    lines = [line(heads), "|---|" + "--:|" * 4]
    for name, title in GROWTH_SHOWN.items():
        row, was = rows[name], before.get(name)
        found = dict(zip(row["rows"], row["cpu"], strict=True))
        values = [found[first], found[last], row["at_computed"], None if was is None else was["cpu"][-1]]
        shown = ["" if value is None else f"{speed_tables.digits(value)} {row['unit']}" for value in values]
        lines.append(line([title, *shown]))
    return [*lines, "", _origin(result, f"{folder}/{path.name}")]


def _rates(rows):
    """Rates; columns that only some programs measure are there where any row has them."""
    extra = {title: show for title, (column, show) in MEASURED.items() if any(row.get(column) for row in rows)}
    titles = ["", "ratio (95 %)", "cells/s, median (range)", "CPU time per cell", *extra, ""]
    lines = [line(titles), "|---|" + "--:|" * (3 + len(extra)) + "---|"]
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}..{row['ratio_high']:.2f})"
        rate = "{} ({}..{})".format(*(number(row[name]) for name in ("cells_per_s", "low", "high")))
        values = [
            show(row[MEASURED[title][0]]) if row.get(MEASURED[title][0]) else "-" for title, show in extra.items()
        ]
        lines.append(line([row["contestant"], ratio, rate, cpu_time(row["cpu_us_per_cell"]), *values, row["what"]]))
    return lines


# Title of a column that is shown where a program measured it: field of the row, and how it reads.
MEASURED = {
    "data": ("data", str),
    "cores": ("threads", str),
    "first batch": ("first_batch_s", seconds),
    "first batch, fresh process": ("first_batch_cold_s", seconds),
    "memory, peak": ("peak_rss_mb", megabytes),
    "GPU memory": ("gpu_memory_mb", megabytes),
}


def _origin(result, path):
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


def main(argv):
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
