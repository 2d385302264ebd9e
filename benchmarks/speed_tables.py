"""Tables of `table.py` about time, memory and size."""

from markdown_lines import advantage, line, megabytes, simple_table

from fastcell.inference.backends.agreement import LEAST_SAME

BASELINE_SHOWN = {"features": (64,), "num_train": (1000, 8000, 20000)}
"""Rows that the tables of the baselines show; the result holds all."""


def stalls(rows):
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


def block_paths(rows):
    return simple_table(
        rows,
        ("cells", "{cells}, {num_cells:,}"),
        ("read and compare", "{read_us:.2f} µs"),
        ("answers to a file", "{table_us:.2f} µs"),
        ("two cores", "{two_cores:,.0f} cells/s"),
        ("by the clock", "{wall:,.0f} cells/s"),
    )


def ranks(rows):
    return simple_table(
        rows,
        ("processes", "{ranks}", "--:"),
        ("device", "{device}", "---"),
        ("cells/s", "{cells_per_s:,.0f}"),
        ("steps", "{steps}"),
        ("apart", "{apart:.1e}"),
        ("validation loss", "{loss:.4f}"),
    )


def paper(rows):
    lines = [
        "| | iterations run | cells/s in training steps | in validation | the command, whole | all 3,000 iterations |"
    ]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        how = "calculated from those run, no measurement" if row["is_calculated"] else "measured"
        told = f"{row['cells_per_s']:,.0f} | {row['validate_s']:,.1f} s | {row['measured_s']:,.1f} s"
        lines.append(f"| {row['paper']} | {row['iterations']:,} | {told} | {row['whole_s']:,.1f} s, {how} |")
    return lines


def targets(rows):
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


def latencies(rows):
    lines = ["| | p50 [µs] (95 %) | p99 [µs] (95 %) | p99.9 [µs] (95 %) | slowest [µs] | calls | |"]
    lines.append("|---|--:|--:|--:|--:|--:|---|")
    for row in rows:
        parts = " | ".join(
            f"{row[f'{name}_us']:,.0f} ({row[f'{name}_low']:,.0f}..{row[f'{name}_high']:,.0f})"
            for name in ("p50", "p99", "p999")
        )
        lines.append(f"| {row['latency']} | {parts} | {row['max_us']:,.0f} | {row['num_calls']:,} | {row['what']} |")
    return lines


def kernels(rows):
    cases = {}
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
            f"| {advantage(row.get('torch'))} | {advantage(row.get('DALI'))} |"
        )
    return lines


def peaks(rows):
    """Peak memory of packing few and many cells."""
    sizes = [f"{rows[0][name]:,} cells" for name in ("small_cells", "large_cells")]
    lines = [line(["", "pixels of a cell", *sizes, "each further cell"]), "|---|" + "--:|" * 4]
    for row in rows:
        peaks = [megabytes(row[name]) for name in ("small_mb", "large_mb")]
        each = f"{row['mb_per_million_cells'] / 1000:.1f} kB"
        lines.append(line([row["contestant"], f"{row['cell_bytes']:,} bytes", *peaks, each]))
    return lines


def baselines(rows):
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


def baseline_growth(rows):
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


def growth(rows):
    sizes = " | ".join(f"{size:,}" for size in rows[0]["rows"])
    computed = [f"{rows[0]['computed_rows']:,} (computed)"] if "computed_rows" in rows[0] else []
    heads = [sizes, *computed, "exponent (95 %)", "one row adds"]
    lines = [f"| rows: | {' | '.join(heads)} | |", f"|---|{'--:|' * (len(rows[0]['rows']) + len(heads) - 1)}---|"]
    for row in rows:
        found = dict(zip(row["rows"], row["values"], strict=True))
        measured = [*map(found.get, rows[0]["rows"]), *([row["at_computed"]] if computed else [])]
        values = " | ".join(map(digits, measured))
        low, high = row["exponent_low"], row["exponent_high"]
        exponent = f"{row['exponent']:.2f}" + ("" if low is None else f" ({low:.2f}..{high:.2f})")
        each = f"{row['per_row']:,.0f} {'ns' if row['unit'] == 's' else 'B'}"
        lines.append(f"| {row['quantity']} [{row['unit']}] | {values} | {exponent} | {each} | {row['what']} |")
    return lines


def digits(value):
    """Return three digits of a number, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def costs(rows):
    return simple_table(
        rows, ("", "{what}"), ("CPU time [s]", "{seconds:.2f}"), ("memory, peak [MB]", "{peak_mb:,.0f}")
    )


def backends(rows):
    """A line for each network and size, a column for each backend: time, and agreement beside it."""
    names = list(dict.fromkeys(row["backend"] for row in rows))
    runs = list(dict.fromkeys((row["cells"], row["network"], row["size"]) for row in rows))
    found = {(row["cells"], row["network"], row["size"], row["backend"]): row for row in rows}
    lines = [line(["cells", "compared", "network", *names]), "|---|--:|---|" + "--:|" * len(names)]
    for cells, network, size in runs:
        each = [found.get((cells, network, size, name)) for name in names]
        compared = max(row["compared"] for row in each if row is not None)
        values = ["" if row is None else backend(row) for row in each]
        lines.append(line([cells, f"{compared:,}", f"{network}, {size} px", *values]))
    return lines


def backend(row):
    if not row["compared"]:
        return f"{row['network_us']:,.1f}"
    same = row["same"] / row["compared"]
    shown = f"**{same:.1%}**" if same >= LEAST_SAME else f"{same:.1%}"
    return f"{row['network_us']:,.1f}, {shown}"


def stages(rows):
    """A line for each stage, a column for each kind of cells."""
    cells = list(dict.fromkeys(row["cells"] for row in rows))
    found = {(row["cells"], row["stage"]): row for row in rows}
    lines = [line(["us a cell", *cells]), "|---|" + "--:|" * len(cells)]
    clock = "whole command, two threads, by the clock"
    for stage in dict.fromkeys(row["stage"] for row in rows):
        values = [found.get((each, stage)) for each in cells]
        if stage != clock:
            lines.append(line([stage, *("-" if row is None else f"{row['stage_us']:.2f}" for row in values)]))
    for stage, title in {
        "whole command": "cells/s on two cores, by processor time",
        clock: f"cells/s, {clock.removeprefix('whole command, ')}",
    }.items():
        rates = [found.get((each, stage)) for each in cells]
        if any(rates):
            lines.append(line([title, *("-" if row is None else f"{row['two_cores']:,.0f}" for row in rates)]))
    return lines


def sizes(rows):
    """A line for each large package of an installation."""
    return simple_table(rows, ("package", "{package}"), ("extra", "{extra}", "---"), ("size", "{installed_mb:,.0f} MB"))


def quantities(rows):
    """A line for each quantity: median, smallest and largest round."""
    lines = [line(["", "median", "smallest to largest", "n"]), "|---|--:|--:|--:|"]
    for row in rows:
        value, low, high = (f"{row[name]:,.{0 if row['value'] >= 100 else 2}f}" for name in ("value", "low", "high"))
        title = f"{row['quantity']}: {row['what']}"
        lines.append(line([title, f"{value} {row['unit']}", f"{low} to {high}", str(row["num_rounds"])]))
    return lines


def single_cells(rows):
    """A line for each network and backend: how long one cell takes."""
    lines = ["| network | backend | calls | p50 [ms] | p99 [ms] | p99.9 [ms] | slowest [ms] | CPU [ms] |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        values = (row[name] for name in ("p50_ms", "p99_ms", "p999_ms", "slowest_ms", "cpu_ms"))
        times = " | ".join("-" if value is None else f"{value:,.2f}" for value in values)
        lines.append(f"| {row['network']} | {row['backend']} | {row['num_calls']:,} | {times} |")
    return lines


def streams(rows):
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
    lines = [line([*names, "CPU a cell", "wait for a core [s/s]"]), "|---|---|" + "--:|" * 9]
    for row in rows:
        title = {"0": "one by one", "highest": f"{row['rate']:,.0f}, the highest without a drop in 8 s"}
        wanted = title.get(row["wanted"], f"{row['rate']:,.0f}")
        values = [f"{row[name]:,.2f}" for name in ("p50_ms", "p99_ms", "p999_ms", "quiet_p99_ms")]
        dropped = f"{row['dropped']:,} of {row['sent']:,}"
        memory = f"{row['early_mib']:,.0f}, {row['end_mib']:,.0f} MiB"
        cost = [memory, f"{row['server_us']:,.0f} us", f"{row['waited']:.2f}"]
        begins = ", drops begin" if row["wanted"] == "drops begin" else ""
        lines.append(line([row["network"], wanted + begins, f"{row['seconds']:,.0f} s", *values, dropped, *cost]))
    return lines


def minutes(rows):
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
