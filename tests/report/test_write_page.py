"""Pages of runs and comparisons, and what cannot be written."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from fixtures.report_pages import section_of

from fastcell.cli import compare as compare_command
from fastcell.cli.parser import parse_words
from fastcell.cli.report import main
from fastcell.cli.signature import read_command
from fastcell.errors import ArgumentError, DataError


def test_comparison_is_a_section(made, text):
    study = section_of(text, "study-1")
    report = (made / "study" / "report.md").read_text()
    cells = [line.split("|")[1:-1] for line in report.splitlines() if line.startswith("| kNN")]
    assert cells
    for value in cells[0]:
        assert value.strip().strip("*") in re.sub(r"<[^>]+>", "", study)
    assert '<table class="sortable">' in study
    assert study.count("<img src=") == len(list((made / "study").glob("*.png")))
    assert study.count("<h2>") == 1


def test_command_of_a_comparison_repeats_it(made):
    study = json.loads((made / "study" / "study.json").read_text())
    page = (made / "run" / "report.html").read_text(encoding="utf-8")
    (command,) = re.findall(r"fastcell compare [^<]+", section_of(page, "again"))
    words = shlex.split(html.unescape(command))
    assert words[2] == str(made / "cells")
    options = parse_words(read_command(compare_command.compare), words[2:])
    assert options.pop("changes") == ["--data.image_size", "16"]
    settings = {name: value for name, value in options.items() if name not in ("data", "out")}
    assert settings == study["settings"]


@pytest.mark.parametrize(
    ("folder", "name", "values"),
    [
        ("run", "metrics.json", {"cells_per_s": [1]}),
        ("run", "metrics.json", {"seconds": {"train": "long"}}),
        ("run", "environment.json", {"packages": "many"}),
        ("run", "explain/explain.json", {"captions": {"filters": 1}}),
        ("study", "study.json", {"settings": 5}),
        ("study", "study.json", {"schemes": []}),
        ("study", "study.json", {"environment": {"gpus": 3}}),
    ],
)
def test_damaged_files_are_named(made, tmp_path, folder, name, values):
    shutil.copytree(made / folder, tmp_path / folder)
    (tmp_path / folder / name).write_text(json.dumps(values))
    with pytest.raises(DataError, match=rf"{Path(name).name} must have an? .* Remove it, or write it again"):
        main([str(tmp_path / folder), "--no-explain", "-o", str(tmp_path / "page.html")])
    (tmp_path / folder / name).write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=rf"{Path(name).name} must be JSON"):
        main([str(tmp_path / folder), "--no-explain", "-o", str(tmp_path / "page.html")])


def test_wrong_arguments_name_the_way_out(made, tmp_path):
    with pytest.raises(ArgumentError, match="--out must be a file, got"):
        main([str(made / "run"), "-o", str(tmp_path)])
    with pytest.raises(ArgumentError, match="a file in an existing folder"):
        main([str(made / "run"), "-o", str(tmp_path / "none" / "page.html")])
    with pytest.raises(ArgumentError, match="one run of fastcell fit"):
        main([str(made / "run"), str(made / "cells")])
    with pytest.raises(ArgumentError, match="no such folder"):
        main([str(tmp_path / "nowhere"), "-o", str(tmp_path / "page.html")])
    with pytest.raises(ArgumentError, match="--cells must be at least 0"):
        main([str(made / "run"), "--cells", "-1"])
    with pytest.raises(ArgumentError, match="--bench must be a file"):
        main([str(made / "run"), "--bench", str(tmp_path / "none.json")])
    (tmp_path / "study").mkdir()
    shutil.copy(made / "study" / "study.json", tmp_path / "study")
    with pytest.raises(DataError, match="Run the same fastcell compare command to its end"):
        main([str(made / "run"), str(tmp_path / "study"), "-o", str(tmp_path / "page.html"), "--no-explain"])
    assert not (tmp_path / "page.html").exists()
