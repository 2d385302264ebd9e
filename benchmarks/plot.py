"""Draw the newest result of a bench whose rows are rates: one bar each, with range, and the limits as lines.

The picture lies beside the result, as PNG of the same stem. Colour, hatching and the name tell who is who, so it reads
in grey print and for colour-blind readers. The numbers drawn are those of the result; git does not keep pictures.

    python benchmarks/plot.py [BENCH ...]      # all that can be drawn
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS_DIR
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from result_files import read_result, result_paths
from table import newest

from fastcell.plots.basic_figures import COLORS
from fastcell.plots.figure_files import save_png

LIMIT, OURS = "limit: ", ("fastcell", "stream + ", "bank + ")
# Who: colour, hatching.
KINDS = {"fastcell": (COLORS[0], ""), "others": (COLORS[5], "//"), "limits": ("#BBBBBB", "..")}


def main() -> None:
    """Draw the benches that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="*", help="names of results (all whose rows are rates)")
    parser.add_argument("--results", type=Path, default=RESULTS_DIR, help="folder of the results")
    options = parser.parse_args()
    for bench in options.bench or drawable(options.results):
        path = newest(bench, options.results)
        if path is None:
            raise SystemExit(f"There is no result of {bench!r} in {options.results}. Run its benchmark first.")
        result = read_result(path)
        if not is_rates(result):
            raise SystemExit(f"{path.name} holds no rates, which are what this program draws.")
        save_png(bars(result), path.with_suffix(".png"))
        print(f"wrote {path.with_suffix('.png')}")


def drawable(results_dir: Path) -> list[str]:
    """Names of all benches whose newest result is one of rates."""
    names = sorted({read_result(path)["bench"] for path in result_paths(results_dir)})
    paths = {name: newest(name, results_dir) for name in names}
    return [name for name, path in paths.items() if path is not None and is_rates(read_result(path))]


def is_rates(result: dict[str, Any]) -> bool:
    """Whether the rows are `harness.Row`, and not of `baselines.py`, whose rates are of other things each."""
    if not result["rows"] or "agreement" in result["rows"][0]:
        return False
    return {"contestant", "cells_per_s", "ratio", "low", "high"} <= result["rows"][0].keys()


def drawn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that are drawn: all, but of `kernel.py` the transform at its usual side and type, without the limits."""
    if "copy_share" not in rows[0]:
        return rows
    usual = {"kernel": "transform", "size": 128, "dtype": "float32"}
    return [row for row in rows if usual.items() <= row.items()]


def bars(result: dict[str, Any]) -> Figure:
    """Rates of a result as horizontal bars: median, range over the rounds, limits as lines through all bars."""
    rows = drawn(result["rows"])
    figure = Figure(figsize=(8.2, 1.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{result['bench']}: {result['data']}", fontsize=10, loc="left")
    top = right_end(rows)
    for place, row in enumerate(rows):
        color, hatch = KINDS[kind_of(row)]
        rate = row["cells_per_s"]
        style = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
        if rate > top:  # a limit far to the right of all that is compared: its bar is cut, its number is not
            axes.barh(place, 1.14 * top, 0.68, **style)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.text(1.11 * top, place, f"{rate:,.0f} \u2192", va="center", ha="right", fontsize=8, bbox=box)
            continue
        axes.barh(place, rate, 0.68, **style)
        high = min(row["high"], 1.1 * top)
        axes.errorbar(rate, place, xerr=[[rate - row["low"]], [high - rate]], color="black", capsize=2.5, linewidth=0.9)
        axes.text(high + 0.012 * top, place, f"{rate:,.0f}", va="center", fontsize=8)
    add_limits(axes, rows, top)
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * top)
    axes.set_xlabel(f"cells/s: median (bar) and range (line) of {rows[0]['num_rounds']} rounds in turns")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for kind in dict.fromkeys(map(kind_of, rows)):
        color, hatch = KINDS[kind]
        axes.bar(0, 0, color=color, hatch=hatch, edgecolor="white", label=kind)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=len(KINDS))
    figure.supxlabel(textwrap.fill(origin(result), 140), fontsize=7, x=0.01, ha="left")
    return figure


def right_end(rows: list[dict[str, Any]]) -> float:
    """Highest rate that is drawn to scale [cells/s]: of all, or half more than the best that is no limit."""
    best = max((row["high"] for row in rows if kind_of(row) != "limits"), default=0.0)
    return min(max(row["high"] for row in rows), 1.5 * best or np.inf)


def add_limits(axes: Axes, rows: list[dict[str, Any]], top: float) -> None:
    """A dashed line through all bars at each limit."""
    for row in rows:
        if kind_of(row) == "limits" and row["cells_per_s"] <= top:
            axes.axvline(row["cells_per_s"], color="#555555", linestyle="--", linewidth=0.8, zorder=0.5)


def kind_of(row: dict[str, Any]) -> str:
    """Key of `KINDS`."""
    name = row["contestant"]
    return "limits" if name.startswith(LIMIT) else "fastcell" if name.startswith(OURS) else "others"


def name_of(row: dict[str, Any]) -> str:
    """What stands beside a bar."""
    case = f": {row['stages']}, {row['data']}" if row.get("stages") else ""
    return f"{row['contestant']}{case}"


def origin(result: dict[str, Any]) -> str:
    """Machine, settings, commit and date in a line."""
    machine = result["environment"]
    device = "; ".join(machine["gpus"]) or f"no GPU, {machine['cpu']}"
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    cores = f"{machine['num_cpus']} core{'s' * (machine['num_cpus'] > 1)}"
    return f"{device}, {cores}; {settings}; commit {result['commit']}, {result['date'][:10]}."


if __name__ == "__main__":
    main()
