"""Methods have names, units are groups or cells, and a finished study is written as a report and as JSON."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fastcell.compare.runner import Study, check_methods, is_network, method_name, units_of, write_study_report
from fastcell.compare.split_schemes import Scheme, SplitManifest
from fastcell.errors import ArgumentError
from fastcell.training.recipe import read_recipe


def test_methods_are_known_and_named():
    assert check_methods(" svm,knn ,svm,frame,cellnet") == ["svm", "knn", "frame", "cellnet"]
    assert [method_name(name) for name in ("cnn", "frame", "resnet18")] == ["CNN", "frame alone (kNN)", "resnet18"]
    assert [is_network(name) for name in ("cnn", "cellnet", "svm", "frame")] == [True, True, False, False]
    with pytest.raises(ArgumentError, match="--methods must be among cnn, gao, svm, knn, frame"):
        check_methods("svm,forest")
    with pytest.raises(ArgumentError, match="--methods must be at least one name"):
        check_methods(" , ")


def test_units_are_groups_and_loose_cells_each_their_own():
    class Cells(SimpleNamespace):
        def __len__(self):
            return 5

    units, word = units_of(Cells(groups=np.array(["b", "a", "", "b", ""])))
    assert word == "group"
    assert len(set(units.tolist())) == 4
    assert units[0] == units[3]
    units, word = units_of(Cells(groups=None))
    assert (units.tolist(), word) == ([0, 1, 2, 3, 4], "cell")


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
        "environment",
    ]  # fmt: skip
    assert values["settings"] == settings
    assert values["schemes"] == {"mine": {"text": "split mine", "splits": ["mine"]}}
    assert values["path"] == str(manifest.path)
    assert "cache_dir" not in values["environment"]
