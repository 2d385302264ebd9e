"""Markdown tables of a result of ``unlike.py``."""

import math
import statistics
from typing import Any

CHOSEN = "image or network"
HARM = 0.10
NETWORKS = {
    "jurkat": "Jurkat",
    "tcell": "T cells",
    "synth": "simulated",
    "demo": "Jurkat, `demo`",
    "thorough": "Jurkat, `thorough`",
}
"""Titles; without a preset it is `fast`."""
Rows = list[dict[str, Any]]


def unlike_tables(rows):
    """Return all tables, each with a title."""
    tables = (_sets, _without_cells, _changes, _methods, _chosen, _left_out, _costs)
    return [line for make in tables for line in [*make(rows), ""]][:-1]


def _titles(rows):
    """Return the titles of the networks that are there."""
    there = {row["network"] for row in rows}
    return {name: title for name, title in NETWORKS.items() if name in there}


def _sets(rows):
    networks = _titles(rows)
    title = (
        "**Cells called unlike, by the training set of the network** (preset `fast` unless named; in parentheses: all "
    )
    title += "cells resized to the size of the network's own). No test cell was used for the statistics, the limits or "
    title += "the training of the network."
    found = {
        (row["network"], row["part"], row["case"]): row
        for row in rows
        if row["method"] == CHOSEN and row["part"] in ("same set", "other set", "other set resized")
    }
    cases = list(dict.fromkeys(case for _, part, case in found if part != "same set"))
    lines = [title, "", _line(["cells", *networks.values()]), "|---|" + "--:|" * len(networks)]
    own = [_range(found[network, "same set", "test cells"]) for network in networks]
    lines.append(_line(["test cells of the same set", *own]))
    for case in cases:
        values = []
        for network in networks:
            row, resized = (found.get((network, part, case)) for part in ("other set", "other set resized"))
            values.append("-" if row is None or resized is None else f"{_percent(row)} ({_percent(resized)})")
        lines.append(_line([case, *values]))
    return lines


def _without_cells(rows):
    found = {(row["network"], row["case"]): row for row in rows if row["part"] == "without cells"}
    if not found:
        return []
    networks = _titles(rows)
    title = (
        "**Images without a cell that `fit` makes from validation cells**, called unlike, by the training set of the "
    )
    lines = [f"{title}network.", "", _line(["images", *networks.values()]), "|---|" + "--:|" * len(networks)]
    for case in dict.fromkeys(case for _, case in found):
        lines.append(_line([case, *(_range(found[network, case]) for network in networks)]))
    return lines


def _changes(rows):
    methods = (CHOSEN, "image (shape or noise)", "network", "22 features of the raw cell")
    before = {row["network"]: row["accuracy"] for row in rows if row["part"] == "same set"}
    others = [name for name in ("demo", "thorough") if name in before]
    spans = [f"`fast` {before['jurkat']:.2f}", *(f"`{name}` {before[name]:.2f}" for name in others)]
    title = f"**Changed Jurkat test cells** (accuracy without a change: {', '.join(spans)}), network of `fast`; at the "
    title += f"right, accuracy and share of {CHOSEN} with the other networks."
    columns = ["change", "accuracy", *methods, "reason that most of these cells have"]
    columns += [NETWORKS[name] for name in others]
    lines = [title, "", _line(columns), "|---|" + "--:|" * (1 + len(methods)) + "---|" + "--:|" * len(others)]
    for part in ("change", "precision"):
        of_others = [_by_case(row for row in rows if (row["part"], row["network"]) == (part, name)) for name in others]
        mine = _by_case(row for row in rows if (row["part"], row["network"]) == (part, "jurkat"))
        for case, by_method in mine.items():
            name = case if part == "change" else f"network in {case}, images unchanged"
            accuracy = f"{by_method[CHOSEN]['accuracy']:.2f}"
            reason = by_method[CHOSEN].get("reason", "")
            beside = [f"{row['accuracy']:.2f}, {_percent(row)}" for row in (cases[case][CHOSEN] for cases in of_others)]
            lines.append(_line([name, accuracy, *(_percent(by_method[method]) for method in methods), reason, *beside]))
    return lines


def _methods(rows):
    title = "**What was tried**: shares of cells called unlike; harmful changes cost more than "
    title += f"{HARM:.2f} of accuracy."
    columns = ["method", *(f"test cells, {name}" for name in _titles(rows).values())]
    columns += ["other sets, mean (lowest)", "harmful changes, mean (lowest)"]
    lines = [title, "", _line(columns), "|---|" + "--:|" * (len(columns) - 1)]
    before = next(row["accuracy"] for row in rows if row["part"] == "same set" and row["network"] == "jurkat")
    tried = dict.fromkeys(row["method"] for row in rows if row["part"] == "same set")
    for method in tried:
        mine = [row for row in rows if row["method"] == method]
        own = [_percent(row) for row in mine if row["part"] == "same set"]
        jurkat = [row for row in mine if row["network"] == "jurkat"]
        other = [row["flagged"] for row in jurkat if row["part"] in ("other set", "other set resized")]
        harmful = [row["flagged"] for row in jurkat if row["part"] == "change" and row["accuracy"] < before - HARM]
        spans = [f"{statistics.mean(values):.0%} ({min(values):.0%})" for values in (other, harmful)]
        lines.append(_line([method, *own, *spans]))
    return lines


def _chosen(rows):
    found = [row for row in rows if row["part"] == "chosen without it"]
    methods = ", ".join(f"{name} ({num} times)" for name, num in _counted(row["method"] for row in found))
    lowest = sorted(found, key=lambda row: float(row["flagged"]))[:3]
    named = ", ".join(f"{row['case']} {_percent(row)}" for row in lowest)
    mean = statistics.mean(row["flagged"] for row in found)
    text = f"**Chosen without the scored cells**: for each of {len(found)} other sets and harmful changes, the method "
    text += (
        "with the largest mean share over all others was chosen, among those with at most 7 % of test cells. Chosen "
    )
    text += f"were {methods}. Mean share of the case left out {mean:.1%}; the lowest are {named}."
    return [text]


def _left_out(rows):
    title = (
        "**A class without training cells**: area under the ROC curve between its cells and test cells of the other "
    )
    title += "classes, by score (95 % interval)."
    cases = _by_case(row for row in rows if row["part"] == "class left out")
    methods = list(dict.fromkeys(row["method"] for row in rows if row["part"] == "class left out"))
    lines = [title, "", _line(["class", "cells", *methods]), "|---|" + "--:|" * (1 + len(methods))]
    for case, by_method in cases.items():
        areas = [
            f"{row['flagged']:.2f} ({row['lowest']:.2f}..{row['highest']:.2f})"
            for row in (by_method[method] for method in methods)
        ]
        lines.append(_line([case, f"{by_method[methods[0]]['cells']:,}", *areas]))
    return lines


def _costs(rows):
    lines = ["**Cost**: CPU time of a cell on one core, median (range).", "", _line(["", "µs"]), "|---|--:|"]
    for row in rows:
        if row["part"] == "cost":
            lines.append(_line([row["case"], f"{row['flagged']:.1f} ({row['lowest']:.1f}..{row['highest']:.1f})"]))
    return lines


def _by_case(rows):
    """Return rows by case and method."""
    found = {}
    for row in rows:
        found.setdefault(row["case"], {})[row["method"]] = row
    return found


def _counted(names):
    listed = list(names)
    return sorted(((name, listed.count(name)) for name in set(listed)), key=lambda pair: (-pair[1], pair[0]))


def _percent(row):
    return "-" if math.isnan(row["flagged"]) else f"{row['flagged']:.0%}"


def _range(row):
    return f"{row['flagged']:.1%} ({row['lowest']:.1%}..{row['highest']:.1%})"


def _line(values):
    return "| " + " | ".join(values) + " |"
