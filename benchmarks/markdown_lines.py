"""Markdown of `table.py`: lines of tables, and how numbers read."""


def number(value):
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"


def cpu_time(us):
    return f"{us:.0f} µs" if us < 10_000 else f"{us / 1e6:.2f} s"


def line(cells):
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def seconds(value):
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def megabytes(value):
    return f"{value:,.0f} MB"


def interval(entry, signed=False):
    sign = "+" if signed else ""
    bounds = "" if entry["low"] is None else f" ({entry['low']:{sign}.3f}..{entry['high']:{sign}.3f})"
    return f"{entry['value']:{sign}.3f}{bounds}"


def verdict(difference):
    """Return a difference with its interval and, where the result has one, the verdict in words."""
    verdict = difference.get("verdict")
    return interval(difference, signed=True) + (f"; {verdict}" if verdict else "")


def points(entry):
    value, low, high = (100 * entry[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f}..{high:+.1f})"


def advantage(row):
    if row is None:
        return "-"
    return f"{row['advantage']:.2f} ({row['advantage_low']:.2f}..{row['advantage_high']:.2f})"


def simple_table(rows, *columns):
    """Return a table of a line a row.

    Args:
        rows: dictionaries.
        columns: title and template of `str.format` of each; "---" behind for text in another column than the first.
    """
    aligned = [more[0] if more else "--:" if number else "---" for number, (_, _, *more) in enumerate(columns)]
    lines = [line([title for title, *_ in columns]), f"|{'|'.join(aligned)}|"]
    return [*lines, *(line([template.format(**row) for _, template, *_ in columns]) for row in rows)]
