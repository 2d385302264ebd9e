"""Older formats are read, newer ones are refused with the version to install."""

from pathlib import Path

import pytest

from fastcell import __version__
from fastcell.errors import DataError
from fastcell.storage.formats import FORMATS, check_format


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_read(name):
    for number in (None, *range(FORMATS[name].oldest, FORMATS[name].number + 1)):
        check_format(name, number, "file")


@pytest.mark.parametrize("name", FORMATS)
def test_newer_formats_name_the_version(name):
    newer = FORMATS[name].number + 1
    with pytest.raises(
        DataError, match=f"^file: {name} format must be .*, got {newer}. Install fastcell 9.2 or a later"
    ):
        check_format(name, newer, "file", "9.2")
    for unknown in (None, "", 5, "a\nb", "x" * 41):
        with pytest.raises(
            DataError, match=f"Install the version of fastcell that wrote it or a later .*; this is {__version__}"
        ):
            check_format(name, newer, "file", unknown)


def test_the_documentation_has_every_format():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "runs-and-formats.md").read_text(encoding="utf-8")
    for name, found in FORMATS.items():
        assert f"| {name} | {found.number} | {found.place} | {found.older} |" in text


@pytest.mark.parametrize("number", [0, -1, True, "1", 1.0, [1]])
def test_what_is_no_number(number):
    with pytest.raises(DataError, match="is damaged, or too old"):
        check_format("run", number, "file")
