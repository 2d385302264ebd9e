"""Page sections of comparisons: the tables of their report.md, sortable, and their figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from fastcell.errors import DataError
from fastcell.report.page_elements import Picture, Section, embed_png
from fastcell.report.run_sections import ENVIRONMENT, STUDY, check_kinds, read_json

TITLES = {
    "volume": "Methods by volume of data",
    "loss": "Losses by iteration",
    "resolution": "Accuracy by image size and volume",
    "leakage": "Accuracy due to leakage",
}
_PICTURE = re.compile(r"^!\[([^\]\n]*)\]\(([\w.+-]+\.png)\)$", re.MULTILINE)  # in report.md, a PNG in its folder
_MOST_REPORT_BYTES = 8 << 20


def read_study(folder: Path) -> dict[str, Any]:
    """Read the study.json of a comparison.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / "study.json"
    values = read_json(path, STUDY)
    check_kinds(values.get("environment", {}), ENVIRONMENT, path)
    return values


def repeat_command(values: Mapping[str, Any]) -> str:
    """Return the `fastcell compare` command, quoted for a shell, that repeats a comparison.

    Comparisons of older versions did not store all arguments; their command contains the known ones.
    """
    words = ["fastcell", "compare"]
    if "changes" not in values:  # older versions did not store the arguments
        words.append(str(values.get("path", "DATA")))
    elif "source" in values:  # without it, the comparison used the synthetic default
        words.append(values["source"])
    for name, value in values.get("settings", {}).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        elif value is not None:
            words += [option, str(value)]
    return shlex.join([*words, *map(str, values.get("changes", []))])


def is_study(folder: Path) -> bool:
    """Return whether `fastcell compare` wrote this folder."""
    return (folder / "study.json").is_file()


def study_section(folder: Path, number: int) -> tuple[Section, dict[str, Any]]:
    """Return the page section of one comparison.

    Args:
        folder: Output folder of `fastcell compare`.
        number: Number of the section, for its anchor.

    Returns:
        The section, and the content of study.json.

    Raises:
        DataError: study.json is damaged, a figure cannot be read, or report.md cannot be read, for example because the
            comparison is not finished.
    """
    values = read_study(folder)
    report = folder / "report.md"
    try:
        if report.stat().st_size > _MOST_REPORT_BYTES:
            raise OSError(f"it has more than {_MOST_REPORT_BYTES >> 20} MiB")
        text = report.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{folder} must have the report.md of a finished comparison, but: {error}. "
            "Run the same fastcell compare command to its end."
        ) from None
    parts = []
    for index, piece in enumerate(_PICTURE.split(text)):
        if index % 3 == 0:
            parts.append(_html(piece, is_start=index == 0))
        elif index % 3 == 1:  # title of a picture; its file name is the next piece
            title = piece
        else:
            parts.append(_figure(embed_png(folder / piece, title or Path(piece).stem)))
    section = Section(f"study-{number}", title_of(values, folder), html="\n".join(parts))
    if not re.search(r"^\|.*\d", text, re.MULTILINE):
        section.paragraphs.append(
            "This comparison is empty: it has no score of any method, because volumes and classes left nothing to "
            "compute. Run fastcell compare again with more cells or other methods."
        )
    return section, values


def title_of(values: Mapping[str, Any], folder: Path) -> str:
    """Return the heading of a comparison."""
    kind = str(values.get("study", "volume"))
    return f"{TITLES.get(kind, kind)}: {values.get('data', folder.name)}"


def _figure(picture: Picture) -> str:
    image = Markup('<img src="{}" alt="{}">').format(picture.source, picture.alt)
    return Markup('<figure class="{}" style="--inches: {}">{}</figure>').format(
        picture.css_class, picture.inches, image
    )


def _html(text: str, is_start: bool = True) -> str:
    """Convert Markdown to HTML with tables; headings get levels 3 and 4, below the section's heading.

    Raw HTML, links and pictures stay text.

    Args:
        text: Markdown.
        is_start: Drop a heading at the start, because the section already has that title.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["image", "link", "autolink", "reference"])
    tokens = parser.parse(text)
    for index, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h3" if token.tag in ("h1", "h2") else "h4"
        if token.type == "heading_open" and index == 0 and is_start:
            token.hidden = tokens[index + 2].hidden = True
            tokens[index + 1].hidden, tokens[index + 1].children = True, []
        if token.type == "table_open":
            token.attrSet("class", "sortable")
    return str(parser.renderer.render(tokens, parser.options, {}))
