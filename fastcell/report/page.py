"""A page: its content, and its HTML, which opens from disk and needs no other file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fastcell import __version__
from fastcell.report.page_elements import Section
from fastcell.system.messages import Say, say_nothing
from fastcell.system.text import printable, printable_lines

NUM_BROWSER_CELLS = 600
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PageOptions:
    """Options of a page.

    Attributes:
        data_path: Path of the data set; None for the data set of the run.
        num_cells: Maximum number of cells in the browser; errors come first.
        bench: File written by ``fastcell bench --out``; None to leave out the timed parts.
        explain: Draw network figures that are missing or out of date.
        seed: Random seed of the choice of cells.
        allow_absent: Write the page even if the scores cannot be meaningful, with a caution above them.
        say: Callable that receives each message for the user.
        trust: Packages whose code a run with a user-defined network may import.
    """

    data_path: str | None = None
    num_cells: int = NUM_BROWSER_CELLS
    bench: Path | None = None
    explain: bool = True
    seed: int = 0
    allow_absent: bool = False
    say: Say = say_nothing
    trust: Sequence[str] = ()


@dataclass
class Page:
    """Content of a page.

    Attributes:
        title: Title of the page.
        lead: The main result, in one or two sentences.
        facts: Name and value of the main facts, shown first.
        sections: Sections in their order on the page.
        browser: Data of the cell browser, see `fastcell.report.cell_browser`; None for no browser.
        browser_text: Description of the cells in the browser.
        browser_command: Command that shows these cells in the page of `fastcell review`.
        confusion: (K, K) counts of the browser's subset, rows = true class; None without browser or of many classes.
        place_of_studies: Index in `sections` before which comparisons are inserted.
        synthetic: Whether the cells are simulated.
        cautions: Limitations of the scores, shown above them.
    """

    title: str
    lead: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    browser: dict[str, object] | None = None
    browser_text: str = ""
    browser_command: str = ""
    confusion: list[list[int]] | None = None
    place_of_studies: int = 0
    synthetic: bool = False
    cautions: list[str] = field(default_factory=list)


def render_page(page: Page) -> str:
    """Return the page as HTML that contains its style, script and pictures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=for_page
    )
    templates.filters["lines"] = _lines
    return templates.get_template("report.html").render(
        page=page,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "cell_browser.js").read_text(encoding="utf-8"),
        version=__version__,
        date=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
    )


def for_page(value: Any) -> Any:
    """Return a value for the page, without characters in names that would reverse or hide text."""
    if isinstance(value, Mapping):
        return {name: for_page(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_page(each) for each in value]
    return printable(value) if type(value) is str else value  # markup comes from this program


def _lines(text: str) -> Markup:
    """Return a text of several lines, such as commands, for the page."""
    return Markup("{}").format(printable_lines(text))
