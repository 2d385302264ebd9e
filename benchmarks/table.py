"""Write the tables of both READMEs from ``benchmarks/results/``; with ``--check``, say whether they are up to date.

A table stands between ``<!-- table:BENCH -->`` and ``<!-- /table -->``, made from the newest result of that bench.

    python benchmarks/table.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

BENCHMARKS_DIR = Path(__file__).resolve().parent
README = BENCHMARKS_DIR.parent / "README.md"
READMES = (README, BENCHMARKS_DIR / "README.md")
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
    files = sorted(results_dir.glob(f"{bench}-?pu-*.json"), key=lambda path: json.loads(path.read_text())["date"])
    if not files:
        return f"No result of `{bench}` yet."
    result = json.loads(files[-1].read_text())
    rows = result["rows"]
    kinds = {"accuracy": _scores, "way": _ways, "minute": _minutes, "recall": _found}
    kinds |= {"copies": _copies, "expected": _audits}
    kind = next((make for column, make in kinds.items() if column in rows[0]), _rates)
    lines = kind(rows)
    return "\n".join([*lines, "", _origin(result, f"{folder}/{files[-1].name}")])


def _rates(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| | ratio (95 %) | cells/s, median (range) | CPU time per cell | |", "|---|--:|--:|--:|---|"]
    for row in rows:
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}..{row['ratio_high']:.2f})"
        rate = f"{row['cells_per_s']:,.0f} ({row['low']:,.0f}..{row['high']:,.0f})"
        lines.append(f"| {row['contestant']} | {ratio} | {rate} | {row['cpu_us_per_cell']:.0f} µs | {row['what']} |")
    return lines


def _scores(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | accuracy (95 %) | balanced accuracy (95 %) | CNN minus this, paired (95 %) | fit [s] |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        gain = "-" if row["gain"] is None else _interval(row["gain"], signed=True)
        scores = f"{_interval(row['accuracy'])} | {_interval(row['balanced_accuracy'])}"
        lines.append(f"| {row['method']} | {scores} | {gain} | {row['fit_s']:.0f} |")
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


def _interval(entry: dict[str, float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{entry['value']:{sign}.3f} ({entry['low']:{sign}.3f}..{entry['high']:{sign}.3f})"


def _origin(result: dict[str, Any], path: str) -> str:
    machine = result["environment"]
    packages = {key: value for key, value in machine["packages"].items() if key.startswith(("torch", "nvidia-dali"))}
    versions = ", ".join(f"{key} {packages[key]}" for key in sorted(packages) if key != "torchmetrics")
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    device = "; ".join(machine["gpus"]) or f"no GPU, {machine['cpu']}, {machine['num_cpus']} cores"
    return (
        f"{result['data']}; {settings}. {device}; {versions}; commit {result['commit']}, {result['date'][:10]}: "
        f"[{path.rpartition('/')[2]}]({path})."
    )


def main(argv: list[str]) -> int:
    """Rewrite the READMEs, or check them; returns the exit code."""
    status = 0
    for path in READMES:
        before = path.read_text(encoding="utf-8")
        after = render(before, BENCHMARKS_DIR / "results", "benchmarks/results" if path == README else "results")
        if argv != ["--check"]:
            path.write_text(after, encoding="utf-8")
        elif before != after:
            print(f"{path} differs from benchmarks/results. Run `python benchmarks/table.py`.", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
