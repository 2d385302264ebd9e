"""Tables of coverage for `table.py`: least and mean coverage by number of groups, and what falls below the target."""

import math
import statistics

TARGET, MOST_FALSE, MOST_WIDER = 0.93, 0.06, 1.1


def coverages(rows):
    groups = sorted({row["groups"] for row in rows})
    if groups == [0]:
        return _coverages_by_cell(rows)
    few = {row["groups"] for row in rows if row["assumed"]}
    heads = ["by cell" if not num else f"{num}{'*' * (num in few)} group{'s' * (num > 1)}" for num in groups]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(groups)}"]
    for score, method in dict.fromkeys((row["score"], row["method"]) for row in rows):
        mine = [row for row in rows if (row["score"], row["method"]) == (score, method)]
        name = score if method == "interval" else f"*{score}, {method}*"
        texts = [_coverage([row for row in mine if row["groups"] == num]) for num in groups]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    lines += ["", "\\* relies on an assumed spread between groups."] if few else []
    return [*lines, *_against_target(rows)]


def widths(rows):
    """Median width / that of the trial (largest ratio in a setting), by score and number of groups."""
    groups = sorted({row["groups"] for row in rows})
    heads = ["by cell" if not num else f"{num} group{'s' * (num > 1)}" for num in groups]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(groups)}"]
    for score in dict.fromkeys(row["score"] for row in rows):
        mine = {row["groups"]: row for row in rows if row["score"] == score}
        texts = [
            f"{row['width']:.3f} / {row['trial']:.3f} ({row['wider']:.3f})" if (row := mine.get(num)) else "-"
            for num in groups
        ]
        lines.append(f"| {score} | {' | '.join(texts)} |")
    worst = max(rows, key=lambda row: row["wider"])
    wide = [row for row in rows if f"{row['wider']:.3f}" > f"{MOST_WIDER:.3f}"]
    num = sum(row["settings"] for row in rows)
    where = f"{worst['score']}, {_groups(worst)}, {worst['where']}"
    said = f"Widest beside the trial: {worst['wider']:.3f} times ({where}), of {num:,} settings; at most {MOST_WIDER}"
    return [*lines, "", f"{said} is the target.{f' Above it: {len(wide)} entries.' if wide else ''}"]


def _coverages_by_cell(rows):
    cells = list(dict.fromkeys(row["cells"] for row in rows))
    lines = [f"| cells | {' | '.join(cells)} |", f"|---|{'--:|' * len(cells)}"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        texts = [_coverage([row for row in mine if row["cells"] == num]) for num in cells]
        lines.append(f"| {method} | {' | '.join(texts)} |")
    return [*lines, *_against_target(rows)]


def _coverage(rows):
    """Least / mean coverage (median width), or largest / mean share of verdicts."""
    if not rows:
        return "-"
    shares = [row["coverage"] for row in rows]
    mean = statistics.mean(shares)
    if "verdicts" in rows[0]["score"]:
        return f"{max(shares):.3f} / {mean:.3f}"
    return f"{min(shares):.3f} / {mean:.3f} ({statistics.median(row['width'] for row in rows):.2f})"


def _against_target(rows):
    """Return sentences: settings whose coverage is below the target less two standard errors, and false verdicts."""
    ours = [row for row in rows if row["method"] == "interval"]
    covered = [row for row in ours if "verdicts" not in row["score"]]
    lines = []
    if covered:
        low = [row for row in covered if row["coverage"] < _least(row)]
        least = min(covered, key=lambda row: row["coverage"])
        where = f"{least['score']}, {_groups(least)}, cells: {least['cells']}"
        where += "" if "deviation" in least["score"] else f", deviation {least['deviation']:g}"
        where += "" if least["truth"] is None else f", truth {least['truth']:.3g}"
        bound = f"{TARGET} less two standard errors ({_least(least):.3f})"
        below = "no setting is" if not low else f"{len(low)} of {len(covered)} settings are"
        lines += ["", f"Least coverage: {least['coverage']:.3f} ({where}). Below {bound}: {below}."]
        if low:
            lines[-1] += f" These settings by score: {'; '.join(_shares_below(covered, low))}."
    false = [row["coverage"] for row in ours if row["score"].startswith("false verdicts")]
    if false:
        said = f"Most false verdicts: {max(false):.3f}, in {len(false)} settings; at most {MOST_FALSE} is the target."
        lines += ["", said]
    return lines


def _least(row):
    return TARGET - (2 * math.sqrt(TARGET * (1 - TARGET) / row["sets"]) if row["sets"] else 0.0)


def _groups(row):
    num = row["groups"]
    return f"{num} group{'s' * (num > 1)}" if num else "by cell"


def _shares_below(covered, low):
    counts = []
    for score in dict.fromkeys(row["score"] for row in low):
        num, of = (sum(row["score"] == score for row in some) for some in (low, covered))
        counts.append(f"{score}, {num} of {of}")
    return counts
