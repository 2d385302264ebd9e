"""Write the README's tables from ``benchmarks/results/``; with ``--check``, only say whether they are up to date.

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
MARKED = re.compile(r"(<!-- table:([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def render(text: str, results_dir: Path) -> str:
    """Return ``text`` with every marked table made anew; a bench without results says so."""
    return MARKED.sub(lambda match: match[1] + table(match[2], results_dir) + "\n" + match[3], text)


def table(bench: str, results_dir: Path) -> str:
    """Render the newest result of ``bench`` as Markdown, with machine, versions, n and spread below it."""
    files = sorted(results_dir.glob(f"{bench}-?pu-*.json"), key=lambda path: json.loads(path.read_text())["date"])
    if not files:
        return f"No result of `{bench}` yet."
    result = json.loads(files[-1].read_text())
    rows = result["rows"]
    kinds = {"accuracy": _scores, "way": _ways, "minute": _minutes, "recall": _found}
    kind = next((make for column, make in kinds.items() if column in rows[0]), _rates)
    lines = kind(rows)
    return "\n".join([*lines, "", _origin(result, files[-1].name)])


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


def _interval(entry: dict[str, float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{entry['value']:{sign}.3f} ({entry['low']:{sign}.3f}..{entry['high']:{sign}.3f})"


def _origin(result: dict[str, Any], name: str) -> str:
    machine = result["environment"]
    packages = {key: value for key, value in machine["packages"].items() if key.startswith(("torch", "nvidia-dali"))}
    versions = ", ".join(f"{key} {packages[key]}" for key in sorted(packages) if key != "torchmetrics")
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    device = "; ".join(machine["gpus"]) or f"no GPU, {machine['cpu']}, {machine['num_cpus']} cores"
    return (
        f"{result['data']}; {settings}. {device}; {versions}; commit {result['commit']}, {result['date'][:10]}: "
        f"[{name}](benchmarks/results/{name})."
    )


def main(argv: list[str]) -> int:
    """Rewrite the README, or check it; returns the exit code."""
    before = README.read_text(encoding="utf-8")
    after = render(before, BENCHMARKS_DIR / "results")
    if argv == ["--check"]:
        if before != after:
            print("README's tables differ from benchmarks/results. Run `python benchmarks/table.py`.", file=sys.stderr)
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
