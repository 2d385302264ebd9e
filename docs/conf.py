"""The site of the manual: `./run docs` builds it from README.md, docs/ and the pages beside the code, into site/.

The folder of sources is the checkout, so that links between pages are those that a forge shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from made_pages import COMMANDS_FOLDER, contents, public_names, write_command_pages  # noqa: E402

from fastcell import __version__  # noqa: E402

project = "fastcell"
author = "the fastcell authors"
release = __version__
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**.md",
    "benchmarks/**.md",
    "examples/README.md",
    "fastcell/README.md",
    "kernels/README.md",
]
exclude_patterns = [".*", "site", "runs", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a page that a program writes may begin a second part with a title
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"fastcell {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "

FORWARD = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">Manual</a>\n'
)


def fill(_: Any, name: str, source: list[str]) -> None:
    """Add what only the site has: the tree of contents, a page for each command, the public names."""
    if name == root_doc:
        source[0] += contents(source[0])
    elif name == "docs/reference/commands":
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{COMMANDS_FOLDER}/*\n```\n"
    elif name == "docs/reference/api":
        source[0] += public_names()


def of_others(_: Any, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out members that other libraries add to a class."""
    return True if kind == "class" and not getattr(member, "__module__", "fastcell").startswith("fastcell") else None


def finish(app: Any, error: Exception | None) -> None:
    """Write a page at the top of the site that leads to the manual."""
    if error is None:
        (Path(app.outdir) / "index.html").write_text(FORWARD, encoding="utf-8")


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("builder-inited", lambda app: write_command_pages(ROOT / "docs" / "reference" / COMMANDS_FOLDER))
    app.connect("source-read", fill)
    app.connect("autodoc-skip-member", of_others)
    app.connect("build-finished", finish)
