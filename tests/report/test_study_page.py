"""The page of comparisons without a run."""

import json
import shutil

from fixtures.report_pages import section_of

from fastcell.cli.report import main


def test_page_of_a_comparison_alone_looks_at_its_data(made, tmp_path, capsys):
    out = tmp_path / "study.html"
    assert main([str(made / "study"), "-o", str(out)]) == 0
    assert "wrote" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert "120" in section_of(page, "data")
    assert "This comparison trained with classes as they are, images of 16 x 16 px" in section_of(page, "data")
    assert "no subset" not in section_of(page, "data")
    own = "The comparison made its own splits: one of 6 groups left out in turn; 6 random folds, groups ignored."
    assert own in section_of(page, "splits")
    assert 'id="cell-data"' not in page
    assert "--splits groups,random" in section_of(page, "again")


def test_page_of_a_comparison_whose_data_are_gone_or_others(made, tmp_path):
    shutil.copytree(made / "study", tmp_path / "study")
    path, out = tmp_path / "study" / "study.json", tmp_path / "study.html"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "source": str(tmp_path / "gone")}))
    assert main([str(tmp_path / "study"), "-o", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "Its data set cannot be read" in page
    assert '<section id="data">' not in page
    path.write_text(json.dumps({**values, "source_cells": 121}))
    assert main([str(tmp_path / "study"), "-o", str(out)]) == 0
    assert "now holds another set of 120 cells" in out.read_text(encoding="utf-8")
    assert main([str(tmp_path / "study"), "--data.path", str(made / "cells"), "-o", str(out)]) == 0
    assert '<section id="data">' in out.read_text(encoding="utf-8")
