import json

import numpy as np
import pytest

from fastcell.audit.unlike_training import find_unlike
from fastcell.cli.audit import main as audit
from fastcell.dataset.manifest import Manifest
from fastcell.runs.checkpoint import read_checkpoint, save_checkpoint
from fastcell.runs.run_folder import scored_checkpoint


@pytest.fixture(scope="module")
def new_day(trained_data, tmp_path_factory):
    """Cells of the training set in two recordings without classes, the second twice as bright in the middle."""
    import cv2

    from fastcell.cli.pack import main as pack
    from fastcell.sources.load_cells import load_cells

    folder = tmp_path_factory.mktemp("day")
    for number, image in enumerate(load_cells(trained_data).images[:120]):
        place = folder / "images" / ("monday" if number < 60 else "tuesday")
        place.mkdir(parents=True, exist_ok=True)
        if number >= 60:
            image = cv2.GaussianBlur(image, (0, 0), 6)
        cv2.imwrite(str(place / f"{number:03d}.png"), image)
    words = [str(folder / "images"), str(folder / "cells"), "--pattern", "{group}/{name}", "--split", "none"]
    assert pack([*words, "--jobs", "1"]) == 0
    return folder / "cells"


def test_another_day_is_compared_with_the_training_cells_of_a_run(trained_run, new_day, tmp_path, capsys):
    out = tmp_path / "audit"
    assert audit([str(new_day), str(trained_run), "--out", str(out), "--permutations", "50", "--jobs", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "[problem] cells unlike those of the run's training" in said
    assert "Above chance in tuesday 60 of 60" in said
    assert "smoother in" in said
    assert "not tested: no cell of this data set is among the predictions in the run folder" in said
    findings = {found["key"]: found for found in json.loads((out / "audit.json").read_text())["findings"]}
    details = findings["unlike_training"]["details"]
    assert details["cells"] == 120
    assert details["recordings"] == [{"name": "tuesday", "unlike": 60, "cells": 60}]
    shifts = {feature["name"]: feature for feature in details["features"]}
    assert shifts["noise_0"]["shift"] < -0.5
    assert shifts["noise_0"]["below"] > 0.2


def test_the_runs_own_cells_are_not_above_chance(trained_run, trained_data):
    found = find_unlike(Manifest.open(trained_data), trained_run, np.arange(200), jobs=1)
    assert found.verdict == "ok"
    assert found.details["unlike"] < 30
    assert found.notes[0].startswith("fewer than 40 validation cells: the limits come from training cells")


def test_a_run_without_statistics_is_skipped(trained_run, trained_data, tmp_path):
    manifest = Manifest.open(trained_data)
    content = read_checkpoint(scored_checkpoint(trained_run))
    del content["fastcell_unlike"]
    save_checkpoint(content, tmp_path / "last.ckpt")
    found = find_unlike(manifest, tmp_path, np.arange(20))
    assert found.verdict == "skipped"
    assert "has no statistics of training cells" in found.notes[0]
    (tmp_path / "last.ckpt").unlink()
    assert "has no checkpoint" in find_unlike(manifest, tmp_path, np.arange(20)).notes[0]
