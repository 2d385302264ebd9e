"""Start the page's server with its first query."""

from __future__ import annotations

import getpass
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.cell_ranges import write_ranges
from fastcell.dataset.tables.read_table import read_text_columns
from fastcell.errors import invalid
from fastcell.quality.verdicts_file import find_cells
from fastcell.review.cell_query import CellQuery, parse_query
from fastcell.review.review_app import ReviewApp
from fastcell.review.review_set import ReviewOptions, ReviewSet
from fastcell.system.messages import Say
from fastcell.web.listener import open_listener
from fastcell.web.web_server import WebServer, new_token

_MOST_NAME = 40


def serve_page(manifest: Manifest, options: ReviewOptions, port: int, classes: Sequence[str], say: Say) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        manifest: the data set.
        options: run, split, person and query.
        port: port on the loopback address; 0 for a free one.
        classes: names of further classes that can be chosen.
        say: function that receives the lines with the address.

    Raises:
        ArgumentError: the port cannot be used, the query names a missing column, or a class cannot be stored.
        DataError: marks or verdicts of the data set are damaged.
        FastcellError: starlette or uvicorn is not installed.
    """
    data = ReviewSet(manifest, options)
    try:
        if options.query["terms"] or options.query["sort"]:
            CellQuery(options.query["terms"], options.query["sort"]).rows(data.columns)
        new = [name for name in classes if name not in data.columns.classes]
        if new:
            data.marking.name_classes(new, options.who)
        listener = open_listener(port=port)
        number = listener.getsockname()[1]
        app = ReviewApp(data)
        threading.Thread(target=app.warm_up, daemon=True).start()  # while the user opens the address
        server = WebServer(app.application(), listener, token=new_token(), once=True)
        server.run(lambda: say("\n".join(_first_lines(server.url, number))))
    finally:
        data.close()


def _first_lines(url: str, port: int) -> list[str]:
    return [
        f"open {url}",
        "The address works in one browser on this machine. From another machine, tunnel the port first:",
        f"  ssh -L {port}:localhost:{port} THIS-MACHINE",
        "Ctrl-C ends the server; every mark is on disk as soon as the page shows it.",
    ]


def first_query(select: str | None, manifest: Manifest) -> dict[str, Any]:
    """Return the first query of the page.

    Args:
        select: a table with the column cell_id or key, a query of words, or None for all cells.
        manifest: the data set.

    Raises:
        ArgumentError: it is neither.
        DataError: the table is damaged, or names a missing cell.
    """
    if select is None:
        return {"terms": [], "sort": ""}
    path = Path(select)
    if not path.is_file():
        if path.suffix in (".csv", ".parquet"):
            raise invalid("--select", "a table that is there, or a query", select, "Check the path")
        return parse_query(select)
    cells = find_cells(read_text_columns(path, ("cell_id", "key")), manifest, path)
    return {"terms": [{"cells": write_ranges(cells)}], "sort": ""}


def this_person() -> str:
    """Return the name of the user of this process."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"user {os.getuid()}"
    return name[:_MOST_NAME] if name.strip() and name.isprintable() else "somebody"
