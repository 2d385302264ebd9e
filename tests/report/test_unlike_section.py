"""The section on cells unlike those of training: shares, recordings, reasons and pictures."""

import base64
import re

import cv2
import numpy as np
import pytest
import torch

from fastcell.report import unlike_section as module
from fastcell.report.unlike_section import unlike_section
from fastcell.runs.checkpoint import read_checkpoint, save_checkpoint
from fastcell.runs.open_run import open_run
from fastcell.runs.run_folder import scored_checkpoint


@pytest.fixture
def copied_run(trained_run, tmp_path):
    """Return a function that copies the run with other limits; None takes the statistics away."""

    def copy(limit):
        for name in ("config.yaml", "environment.json", "metrics.json"):
            (tmp_path / name).write_bytes((trained_run / name).read_bytes())
        content = read_checkpoint(scored_checkpoint(trained_run))
        if limit is None:
            del content["fastcell_unlike"]
        else:
            content["fastcell_unlike"]["limits"] = torch.full((3,), limit, dtype=torch.float64)
        save_checkpoint(content, tmp_path / scored_checkpoint(trained_run).name)
        return tmp_path

    return copy


def test_every_cell_above_its_limits(copied_run):
    run = open_run(copied_run(1e-9))
    section = unlike_section(run, "test")
    num = len(run.rows("test"))
    assert section.paragraphs[0].startswith(f"{num} of {num} test cells (100.0\u00a0%) look unlike training cells.")
    assert "writes this as unlike_training" in section.paragraphs[1]
    assert section.paragraphs[2].startswith("Fewer than 40 validation cells: the limits come from training cells")
    recordings, why, farthest = section.tables
    groups = run.manifest.groups[run.rows("test")]
    names, sizes = np.unique(groups, return_counts=True)
    assert {row[0]: row[3] for row in recordings.rows} == dict(zip(names.tolist(), map(str, sizes), strict=True))
    left_out = re.search(r"; other reasons of ([\d,]+) of the cells are left out$", why.caption)
    assert sum(int(row[1]) for row in why.rows) + (int(left_out[1]) if left_out else 0) == num
    assert [row[0] for row in farthest.rows] == [str(number) for number in range(1, 13)]
    keys = run.manifest.table.column("key").to_pylist()
    place = {key: number for number, key in enumerate(keys)}
    for _, key, true, called, reason, score in farthest.rows:
        assert true == run.model.classes[run.labels[place[key]]]
        assert called in run.model.classes
        assert reason
        assert score == "999.00"
    (picture,) = section.pictures
    png = base64.b64decode(re.sub("^data:image/png;base64,", "", picture.source))
    sheet = cv2.imdecode(np.frombuffer(png, np.uint8), 0)
    assert sheet.shape == (2 * 132 + 4, 6 * 132 + 4)


def test_no_cell_above_its_limits(copied_run):
    section = unlike_section(open_run(copied_run(1e9)), "valid")
    assert section.paragraphs[0].startswith("0 of 30 validation cells (0.0\u00a0%)")
    assert [row[3] for row in section.tables[0].rows] == ["0"] * len(section.tables[0].rows)
    assert len(section.tables) == 1
    assert section.pictures == []


def test_a_checkpoint_without_statistics(copied_run):
    section = unlike_section(open_run(copied_run(None)), "test")
    assert section.paragraphs[0].startswith("Not known: the checkpoint has no statistics")
    assert section.tables == []


def test_cells_that_cannot_be_read_are_left_out_of_the_picture(copied_run, monkeypatch):
    read = module._pixels
    seen = []

    def every_second(manifest, cell_id):
        seen.append(cell_id)
        return read(manifest, cell_id) if len(seen) % 2 else None

    monkeypatch.setattr(module, "_pixels", every_second)
    section = unlike_section(open_run(copied_run(1e-9)), "test")
    assert len(section.tables[2].rows) == 6
    monkeypatch.setattr(module, "_pixels", lambda *_: None)
    section = unlike_section(open_run(copied_run(1e-9)), "test")
    assert len(section.tables) == 2
    assert section.pictures == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (128, 128), (40, 20)])
def test_a_tile_keeps_the_shape_of_its_cell(shape):
    tile = module._tile(np.zeros(shape, np.uint8))
    assert tile.shape == (128, 128)
    rows, columns = ((tile < 255).any(axis=axis).sum() for axis in (1, 0))
    factor = 128 / max(shape)
    assert (rows, columns) == (max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor)))
