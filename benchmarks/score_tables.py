"""Tables of `table.py` about scores, and about what searches and audits find."""

import re

from markdown_lines import interval, line, points, simple_table, verdict

from fastcell.stats.intervals import FEW_GROUPS


def scores(rows):
    has_splits = any(row.get("other_splits") for row in rows)
    titles = ["", "accuracy (95 %)", "balanced accuracy (95 %)", "CNN minus this, paired (95 %)"]
    titles += ["other splits minus these, paired (95 %)"] * has_splits
    lines = [line([*titles, "fit [s]"]), "|---|" + "--:|" * len(titles)]
    for row in rows:
        values = [interval(row["accuracy"]), interval(row["balanced_accuracy"])]
        for gain in [row["gain"], *[row.get("other_splits")] * has_splits]:
            values.append("-" if gain is None else verdict(gain))
        lines.append(line([row["method"], *values, f"{row['fit_s']:.0f}"]))
    return lines


def few_groups(intervals):
    """Return what differences between methods mean if there are too few groups for a verdict."""
    by_group = re.match(r"by group \(([\d,]+)\)", intervals)
    if by_group is None or (num := int(by_group[1].replace(",", ""))) >= FEW_GROUPS:
        return []
    text = (
        f"With {num} groups no difference can be significant (the smallest possible p is {2 ** (1 - num):.3g}); an "
        "interval that excludes 0 does so only by the assumed spread between groups."
    )
    return ["", text]


def leaks(rows):
    titles = ["", "set", "order", "accuracy (95 %)", "the order above minus this, paired (95 %)"]
    lines = [line([*titles, "recall of the rare class (95 %)"]), "|---|---|---|--:|--:|--:|"]
    for row in rows:
        invented = "-" if row["invented"] is None else interval(row["invented"], signed=True)
        values = [interval(row["accuracy"]), invented, interval(row["rare_recall"])]
        lines.append(line([row["method"], row["data"], row["protocol"], *values]))
    one = rows[0]
    lines += ["", f"{one['num_images']:,} images; calling one class always is right for {one['chance']:.3f}."]
    return lines


def ways(rows):
    lines = ["| | accuracy, mean and deviation over seeds | by seed | training, cells/s |", "|---|--:|---|--:|"]
    for row in rows:
        seeds = ", ".join(f"{value:.3f}" for value in row["accuracies"])
        spread = f"{row['accuracy_mean']:.3f} ± {row['accuracy_std']:.3f}"
        lines.append(f"| {row['way']} | {spread} | {seeds} | {row['cells_per_s']:,.0f} |")
    return lines


def found(rows):
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


def copies(rows):
    lines = ["| cells | what | found | share (95 %) |", "|---|---|--:|--:|"]
    for row in rows:
        share = f"{row['found'] / row['of']:.4f} ({max(row['low'], 0):.4f}..{row['high']:.4f})"
        lines.append(f"| {row['data']} | {row['copies']} | {row['found']:,} of {row['of']:,} | {share} |")
    return lines


def audits(rows):
    lines = ["| sets | what | asked | alarms, in sets | other alarms |", "|---|---|---|--:|---|"]
    for row in rows:
        others = ", ".join(f"{name} {count}" for name, count in row["other_alarms"].items()) or "-"
        asked = row["expected"] or "none expected"
        lines.append(f"| {row['kind']} | {row['what']} | {asked} | {row['found']} of {row['sets']} | {others} |")
    return lines


def refusals(rows):
    """Exit codes of commands, and test accuracies of what was trained, before and now."""
    lines = ["| | exit code before | now | test accuracy before | now |", "|---|--:|--:|--:|--:|"]
    names = ("exit_code_before", "exit_code", "test_accuracy_before", "test_accuracy")
    for row in rows:
        texts = ["-" if row[name] is None else f"{row[name]:.{3 * name.startswith('test')}f}" for name in names]
        lines.append(line([f"`{row['command']}`", *texts]))
    return lines


def answers(rows):
    """Return a line a case and a column a measure, or a line a number where few cases share their measures."""
    cases, measures = (list(dict.fromkeys(row[name] for row in rows)) for name in ("case", "measure"))
    found = {(row["case"], row["measure"]): row for row in rows}
    if len(cases) * len(measures) <= 2 * len(rows):
        lines = [line(["", *measures]), "|---|" + "--:|" * len(measures)]
        return [*lines, *(line([case, *(answer(found.get((case, name))) for name in measures)]) for case in cases)]
    told = (line([row["case"], row["measure"], answer(row), row["note"] or "-"]) for row in rows)
    return ["| | | | |", "|---|---|--:|---|", *told]


def answer(row):
    if row is None:
        return "-"
    return f"{row['value']:.0f}" if row["measure"] == "exit code" else f"{row['value']:.3f}"


def recipes(rows):
    """Trials of `recipes.py`: scores, and what they gain on `fast` on the same cells; no text twice in a column."""
    titles = ["", "what differs", "folds", "accuracy (p)", "balanced (p)", "loss", "zoom 1.25 / 0.8", "CPU a fold"]
    lines = [line(titles), "|---|---|" + "--:|" * (len(titles) - 2)]
    for row, above in zip(rows, [{"why": ""}, *rows], strict=False):
        zoomed = "-" if row["zoomed_in"] is None else f"{row['zoomed_in']:.3f} / {row['zoomed_out']:.3f}"
        scores = [
            f"{row[name]:.3f} {row[f'{name}_gain']:+.3f} ({row[f'p_{name}']:.2g})" for name in ("accuracy", "balanced")
        ]
        start = [row["trial"], "" if row["why"] == above["why"] else row["why"], str(row["folds"])]
        loss = f"{row['loss']:.3f}" + (f" {row['loss_gain']:+.3f}" if "loss_gain" in row else "")
        lines.append(line([*start, *scores, loss, zoomed, f"{row['cpu_s']:.0f} s"]))
    return lines


def shifts(rows):
    """Scores of `recipes.py` by the shift of the decision, with the recall of each class."""
    classes = list(rows[0]["recalls"])
    titles = ["", "folds", "shift", "accuracy", "balanced", *(f"recall of {name}" for name in classes)]
    lines = [line(titles), "|---|" + "--:|" * (len(titles) - 1)]
    for row in rows:
        values = [f"{value:.3f}" for value in (row["accuracy"], row["balanced"])]
        recalls = [f"{row['recalls'][name]:.2f}" for name in classes]
        lines.append(line([row["trial"], str(row["folds"]), f"{row['decision_shift']:.2f}", *values, *recalls]))
    for row in rows:
        if row.get("never"):
            counts = ", ".join(f"{name} {num:,}" for name, num in row["never"].items())
            text = f"Cells that no seed of {row['trial']} classifies correctly at shift {row['decision_shift']:g}"
            lines += ["", f"{text}: {counts}."]
    return lines


def fine_tunings(rows):
    """Ways of training of `fine_tuning.py`: accuracy, and what it gains on training from scratch."""
    titles = ["cells", "start", "accuracy", "balanced", "gain (95 %)", "better donors", "p, donors", "p, cells"]
    lines = [line(titles), "|--:|---|" + "--:|" * (len(titles) - 2)]
    for row in rows:
        start = [str(row["num_labelled"]), row["way"], f"{row['accuracy']:.3f}", f"{row['balanced_accuracy']:.3f}"]
        gain = row["difference"]
        if gain is None:
            lines.append(line([*start, "-", "-", "-", "-"]))
            continue
        interval = f"{gain['value']:+.3f} ({gain['low']:+.3f}..{gain['high']:+.3f})"
        tests = [f"{row['donors_better']} of 4", f"{row['p_donors']:.3g}", f"{row['p_cells']:.2g}"]
        lines.append(line([*start, interval, *tests]))
    return lines


def dropped(rows):
    """A line for each set of real cells: what quality control would drop."""
    return simple_table(
        rows,
        ("set", "{real}"),
        ("cells", "{num_cells:,}"),
        ("scored by", "{scored_by}", "---"),
        ("dropped", "{dropped:,}"),
        ("likeliest fault", "{reasons}", "---"),
        ("largest share of a class", "{most}", "---"),
    )


def students(rows):
    """A line for each student and backend; differences from the teacher in points."""
    titles = ["cells", "n", "student", "trained", "backend", "us a cell", "teacher", "student", "accuracy, points"]
    lines = [line([*titles, "balanced, points", "calibration error"]), "|---|--:|---|---|---|" + "--:|" * 6]
    for row in rows:
        start = [row["cells"], f"{row['num_cells']:,}", row["student"], row["trained"], row["backend"]]
        scores = [f"{row['student_us']:.1f}", f"{row['teacher_accuracy']:.3f}", f"{row['accuracy']:.3f}"]
        differences = [points(row[name]) for name in ("difference", "balanced_difference")]
        lines.append(line([*start, *scores, *differences, f"{row['calibration_error']:.3f}"]))
    return lines


def choices(rows):
    """Balanced accuracy by number of labels and way of choosing, with the difference to random; every second step."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    found = {(row["embedding"], row["labels"], row["way"]): row for row in rows}
    lines = [line(["embedding", "labels", *ways]), "|---|--:|" + "--:|" * len(ways)]
    for embedding in dict.fromkeys(row["embedding"] for row in rows):
        for labels in list(dict.fromkeys(row["labels"] for row in rows))[1::2]:
            cells = []
            for way in ways:
                row = found[embedding, labels, way]
                gain = "" if row["over_random"] is None else f", {interval(row['over_random'], signed=True)}"
                cells.append(
                    (f"{row['balanced_accuracy']['value']:.3f}" if gain else interval(row["balanced_accuracy"])) + gain
                )
            lines.append(line([embedding, str(labels), *cells]))
    return lines


def replaced(rows):
    columns = ("", "{example}"), ("percentile bootstrap", "{replaced}"), ("now", "{interval}", "---")
    return simple_table(rows, *columns)


def without_interval(value):
    """Return a score without its interval, any other value as it is."""
    return {**value, "low": None, "high": None} if isinstance(value, dict) and "low" in value else value
