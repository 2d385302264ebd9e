"""The resolution study: accuracy over image size and data volume (the image-quality study announced in the paper).

The image size is the side of the square that each cell is mapped to; all methods get the same squares. Cells, splits
and subsamples are the same at every size.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcell.compare.figures import draw_resolutions
from fastcell.compare.result_tables import Entry
from fastcell.compare.runner import Study, method_name
from fastcell.compare.volume_study import describe_entries, make_tables, make_tasks
from fastcell.compare.write_tables import accuracy_text, write_rows
from fastcell.errors import invalid


def check_sizes(text: str) -> list[int]:
    """Parse the image sizes of ``--sizes`` and return them [px] in increasing order.

    Raises:
        ArgumentError: A size is not a whole number from 8 to 1024, or there is none.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and 8 <= int(word) <= 1024 for word in words):
        raise invalid("--sizes", "sides from 8 to 1024 pixels, with commas", text, "Write 16,32,64,128")
    return sorted({int(word) for word in words})


def run_resolutions(
    study: Study, methods: Sequence[str], volumes: Sequence[float], num_seeds: int, sizes: Sequence[int]
) -> tuple[list[str], list[Entry]]:
    """Compute the table, write its files, and return its report as Markdown lines, and its entries.

    Args:
        study: The study.
        methods: Names of the methods.
        volumes: Shares of the training cells, in (0, 1].
        num_seeds: Number of seeds.
        sizes: Sides of the images [px].
    """
    tasks, notes = make_tasks(study, methods, volumes, num_seeds, sizes)
    for note in notes:
        study.say(note)
    entries = make_tables(study, study.run(tasks)).entries()
    lines: list[str] = []
    for scheme in study.schemes.values():
        for method in methods:
            mine = [e for e in entries if (e.scheme, e.method, e.part) == (scheme.name, method, "test")]
            if not mine:
                continue
            stem = study.out_dir / f"accuracy_by_resolution-{scheme.name}-{method}"
            title = f"{method_name(method)}, test accuracy by image size and data volume:\n{study.manifest.info.name}"
            draw_resolutions(mine, stem, title, describe_entries(study, mine).replace(_size_text(mine[0]), ""))
            lines += [f"## {method_name(method)}, {scheme.text}", "", *resolution_table(mine), ""]
            lines += [describe_entries(study, mine).replace(_size_text(mine[0]), ""), "", f"![]({stem.name}.png)", ""]
    if notes:
        lines += ["## Left out", "", *(f"- {note}" for note in notes), ""]
    write_rows(study.out_dir / "accuracy.csv", entries)
    return lines, entries


def resolution_table(entries: Sequence[Entry]) -> list[str]:
    """Return a Markdown table of accuracies, with image sizes in rows and volumes in columns."""
    volumes = sorted({entry.volume for entry in entries})
    cells = {entry.volume: f"{entry.num_train:,.0f} ({entry.volume:.3g})" for entry in entries}
    lines = [f"| image size | {' | '.join(cells[v] for v in volumes)} |", "|---|" + "--:|" * len(volumes)]
    for size in sorted({entry.image_size for entry in entries}, reverse=True):
        row = {entry.volume: accuracy_text(entry) for entry in entries if entry.image_size == size}
        lines.append(f"| {size} × {size} px | {' | '.join(row.get(volume, '') for volume in volumes)} |")
    return lines


def _size_text(entry: Entry) -> str:
    return f" images of {entry.image_size} × {entry.image_size} px;"
