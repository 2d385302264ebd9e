"""The page on the formats is what the code says; FASTCELL_FREEZE=1 writes it."""

import os
from pathlib import Path

from fastcell.packing.format_page import describe_formats, format_page
from fastcell.sources.registry import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"


def test_the_page_is_up_to_date():
    if os.environ.get("FASTCELL_FREEZE"):
        PAGE.write_text(format_page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == format_page()


def test_every_format_and_option_is_told():
    page = format_page()
    for name, kind in FORMATS.items():
        assert f"| `{name}` | {kind.help} | {kind.read} | {kind.unread} |" in page
        assert f"  {name:<7} {kind.help}\n" in describe_formats()
    assert "| `--channel` | error | error | yes | yes | yes | yes | error |" in page
    assert "| `--block-cells` | layout block |" in page
    assert max(map(len, describe_formats().splitlines())) <= 110
