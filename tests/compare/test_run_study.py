"""A study is written as a report and as JSON."""

import json

import numpy as np
import pytest

from fastcell.compare.run_study import StudyOptions, open_study, write_study_report
from fastcell.compare.runner import Study
from fastcell.compare.split_schemes import Scheme, SplitManifest
from fastcell.errors import ArgumentError
from fastcell.training.recipe import read_recipe


def test_report_and_settings_are_written(make_set, tmp_path):
    manifest = make_set(6)
    split = np.full(6, "test")
    study = Study(
        manifest=SplitManifest.of(manifest, {"mine": split}),
        schemes={"mine": Scheme("mine", "split mine", {"mine": split})},
        recipe=read_recipe("demo", [], None),
        out_dir=tmp_path / "out",
        units=np.arange(6),
    )
    study.out_dir.mkdir()
    settings = {"study": "volume", "preset": "demo", "seeds": 3}
    asked = {"source": None, "source_cells": 6, "changes": []}
    lines = write_study_report(study, ["knn"], settings, ["## A table", ""], asked)
    text = (study.out_dir / "report.md").read_text()
    assert text == "\n".join(lines).rstrip() + "\n"
    assert text.startswith("# cells: study of volume\n\n6 cells; preset demo; ")
    assert text.endswith("\n\n## A table\n")
    values = json.loads((study.out_dir / "study.json").read_text())
    assert list(values) == [
        "study", "data", "path", "methods", "source", "source_cells", "changes", "settings", "recipe", "schemes",
        "cautions", "environment",
    ]  # fmt: skip
    assert values["settings"] == settings
    assert values["schemes"] == {"mine": {"text": "split mine", "splits": ["mine"]}}
    assert values["path"] == str(manifest.path)
    assert "cache_dir" not in values["environment"]


@pytest.mark.parametrize("name", ["seeds", "folds"])
def test_numbers_without_end_are_refused(name, tmp_path):
    with pytest.raises(ArgumentError, match=f"--{name} must be at most 1,000, got 1000000000000"):
        open_study(None, tmp_path, StudyOptions(**{name: 10**12}))


def test_one_class_is_no_comparison(planted, tmp_path):
    manifest = planted(30, groups=0, names=["left"] * 30)
    with pytest.raises(ArgumentError, match="two or more classes to compare methods on, got only class left: every"):
        open_study(manifest.path, tmp_path / "out", StudyOptions(allow_absent=True))
    assert not (tmp_path / "out").exists()
