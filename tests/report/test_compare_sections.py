"""A comparison on a page: its tables and pictures as HTML, and the command that repeats it."""

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.report.compare_sections import _html, is_study, read_study, repeat_command, study_section, title_of

REPORT = """# Methods by volume of data

Read **this** first.

## Accuracy

| method | 1 |
|---|---|
| kNN | 0.75 |

![Accuracy by volume](volume.png)

### More

![outside](../other.png)
"""


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"study": "volume", "data": "cells", "environment": {"gpus": []}}))
    (folder / "report.md").write_text(REPORT)
    cv2.imwrite(str(folder / "volume.png"), np.zeros((30, 300), np.uint8))
    return folder


def test_markdown_of_others_is_text():
    made = _html("# Title\n\n| a | b |\n|---|---|\n| <script>x</script> | ![y](http://z) [u](http://v) |\n")
    assert "<script" not in made
    assert "<img" not in made
    assert "<a" not in made
    assert "Title" not in made


def test_headings_go_below_those_of_the_page_and_tables_sort():
    made = _html("text\n\n# First\n\n## Second\n\n### Third\n\n| a |\n|---|\n| 1 |\n")
    assert "<h3>First</h3>" in made
    assert "<h3>Second</h3>" in made
    assert "<h4>Third</h4>" in made
    assert '<table class="sortable">' in made
    assert "<h3>First</h3>" in _html("# First\n", is_start=False)


def test_section_has_text_and_pictures_in_their_order(study):
    section, values = study_section(study, 2)
    assert section.anchor == "study-2"
    assert section.title == "Methods by volume of data: cells"
    assert values["data"] == "cells"
    html = section.html
    places = [html.index(part) for part in ("<strong>this</strong>", "<td>kNN</td>", "<img src=", "<h4>More</h4>")]
    assert places == sorted(places)
    assert html.count("<img src=") == 1
    assert 'alt="Accuracy by volume"' in html
    assert '<figure class="picture plot" style="--inches: 2.0">' in html
    assert "![outside](../other.png)" in html  # a file elsewhere is not read
    assert "Methods by volume of data" not in html  # the section's own heading


def test_wide_pictures_take_the_width_of_the_page(study):
    cv2.imwrite(str(study / "volume.png"), np.zeros((30, 1200), np.uint8))
    assert 'class="picture plot wide-picture" style="--inches: 8.0"' in study_section(study, 1)[0].html


def test_a_comparison_without_its_report_is_refused(study):
    (study / "report.md").unlink()
    with pytest.raises(DataError, match=r"must have the report\.md of a finished comparison.*command to its end\.$"):
        study_section(study, 1)


def test_study_json_is_checked(study):
    assert is_study(study)
    assert not is_study(study.parent)
    assert read_study(study)["study"] == "volume"
    (study / "study.json").write_text(json.dumps({"environment": {"gpus": "none"}}))
    with pytest.raises(DataError, match=r"study\.json must have a list under 'gpus', got 'none'"):
        read_study(study)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"study": "loss", "data": "T cells"}, "Losses by iteration: T cells"),
        ({"study": "mine"}, "mine: folder"),
        ({}, "Methods by volume of data: folder"),
    ],
)
def test_titles(values, title):
    assert title_of(values, Path("some/folder")) == title


def test_the_command_repeats_what_was_asked_for():
    settings = {"study": "volume", "min_steps": 5, "splits": None}
    changes = ["--data.image_size", 16]
    values = {"source": "my cells", "settings": settings, "changes": changes}
    command = repeat_command(values)
    assert command == "fastcell compare 'my cells' --study volume --min-steps 5 --data.image_size 16"
    assert shlex.split(command)[2] == "my cells"
    assert repeat_command({"settings": {}, "changes": []}) == "fastcell compare"  # the synthetic default
    assert repeat_command({"path": "/old", "source": "x"}) == "fastcell compare /old"  # an older version
    assert repeat_command({}) == "fastcell compare DATA"


def test_an_empty_comparison_says_so(study):
    assert study_section(study, 1)[0].paragraphs == []
    (study / "report.md").write_text("# Methods by volume of data\n\n8 cells; preset demo.\n\n| method |\n|---|\n")
    (said,) = study_section(study, 1)[0].paragraphs
    assert said.startswith("This comparison is empty: it has no score of any method")
