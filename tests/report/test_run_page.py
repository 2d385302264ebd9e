"""The page of a real run: numbers, cells, figures and commands."""

import base64
import datetime
import html
import json
import re
import shlex
import shutil

import cv2
import numpy as np
import pytest
import yaml
from fixtures.report_pages import CLASSES, data_of, section_of

from fastcell.cli import main as cli
from fastcell.cli.report import main
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import DataError, FastcellError
from fastcell.inference.probabilities import Outputs
from fastcell.report.cell_browser import browser_data
from fastcell.report.page_elements import percent
from fastcell.report.run_sections import what_bound
from fastcell.review.cell_query import parse_query


def outputs(labels, chances):
    num = len(labels)
    return Outputs(np.arange(num), np.array(labels), np.array(chances, np.float32), None)


def test_page_has_the_numbers_of_the_run(made, text):
    metrics = json.loads((made / "run" / "metrics.json").read_text())
    test = metrics["test"]
    accuracy = test["accuracy"]
    scores = section_of(text, "scores")
    assert f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})" in scores
    recall = test["classes"]["plain"]["recall"]
    assert f"{recall['value']:.3f} ({recall['low']:.3f} to {recall['high']:.3f})" in scores
    assert f"{percent(accuracy['value'], 1)} of {test['num_cells']} test cells correctly" in text.replace("\n", " ")
    assert f'<td>train</td><td class="number">{metrics["cells_per_s"]["train"]:,.0f}</td>' in section_of(text, "speed")
    assert what_bound(metrics["train_waited_s"] / metrics["seconds"]["train"]) in section_of(text, "speed")


def test_many_classes_have_no_matrix_on_the_page(made, text, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.report.run_page.MOST_NAMED_CLASSES", len(CLASSES) - 1)
    assert main([str(made / "run"), "-o", str(tmp_path / "page.html"), "--no-explain", "--cells", "4"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<table id="confusion">' in text
    assert '<table id="confusion">' not in page
    assert "Cells by true and predicted class are in confusion.csv of the run" in page


def test_page_is_titled_by_data_network_and_date(made, text):
    """The cells were in a folder `source`, whose name says nothing; the run folder was renamed."""
    name = json.loads((made / "cells" / "dataset.json").read_text())["name"]
    assert name in (*made.parts, "cells")  # names of temporary folders say nothing either
    started = json.loads((made / "run" / "environment.json").read_text())["started"]
    date = datetime.datetime.fromisoformat(started).astimezone()
    title = f"{name}, cellnet, {date:%Y-%m-%d %H:%M}"
    assert f"<title>{title}</title>" in text
    assert f"<h1>{title}</h1>" in text


def test_page_tells_of_data_groups_and_quarantine(made, text):
    data, splits = section_of(text, "data"), section_of(text, "splits")
    manifest = Manifest.open(made / "cells")
    reason = manifest.quarantine().column("reason")[0].as_py()
    assert f'<td>plain</td><td>{reason}</td><td class="number">1</td>' in data
    assert f"{len(manifest):,}</td></tr></tfoot>" in data
    sides = manifest.split()
    for group in np.unique(manifest.groups[:]):
        counts = [int(((manifest.groups[:] == group) & (sides == side)).sum()) for side in ("train", "valid", "test")]
        numbers = "".join(f'<td class="number">{count}</td>' for count in counts)
        assert f"<td>{group}</td>{numbers}" in splits
    assert "6 groups, each in one subset only" in splits


def test_page_prints_the_command_that_shows_its_errors(made, text):
    (command,) = re.findall(r"fastcell review [^<]+", html.unescape(section_of(text, "cells")))
    name, verb, data, run, select, query = shlex.split(command)
    assert (name, verb, data, run, select) == (
        "fastcell", "review", str((made / "cells").absolute()), str((made / "run").absolute()), "--select",
    )  # fmt: skip
    assert parse_query(query)["terms"] == [{"column": "subset", "is": ["test"]}, {"column": "agrees", "is": ["no"]}]


def test_browser_shows_the_stored_pixels(made, text):
    manifest = Manifest.open(made / "cells")
    cells = data_of(text)["cells"]
    test = np.flatnonzero(manifest.split() == "test")
    assert sorted(cell["key"] for cell in cells) == sorted(manifest.column("key")[test].tolist())
    rows = {key: row for row, key in enumerate(manifest.column("key").tolist())}
    for cell in cells:
        row = rows[cell["key"]]
        assert cell["true"] == manifest.labels[row]
        assert cell["group"] == manifest.groups[row]
        assert cell["called"] == int(np.argmax(cell["p"]))
        assert sum(cell["p"]) == pytest.approx(1, abs=1e-3)
        png = np.frombuffer(base64.b64decode(cell["image"].partition(",")[2]), np.uint8)
        (stored,) = read_cells(manifest, [row])
        np.testing.assert_array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), stored)


def test_commands_of_a_run_name_data_and_split(made, text, monkeypatch, capsys):
    (commands,) = re.findall(r"<code>(fastcell fit [^<]+)</code>", section_of(text, "again"))
    fit, test, *_ = (shlex.split(html.unescape(line)) for line in commands.splitlines())
    assert fit == ["fastcell", "fit", "--config", "run/config.yaml", "--data.path", str(made / "cells")]
    capsys.readouterr()
    monkeypatch.chdir(made)
    assert cli.main([*test[1:], "--trainer.accelerator", "cpu"]) == 0
    accuracy = json.loads((made / "run" / "metrics.json").read_text())["test"]["accuracy"]
    assert re.search(rf"^accuracy +{accuracy['value']:.3f} ", capsys.readouterr().out, re.MULTILINE)


def test_split_and_subsample_of_the_run_are_told(made, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    shutil.copytree(made / "cells", tmp_path / "cells")
    splits = tmp_path / "cells" / "splits"
    shutil.copy(splits / "default.parquet", splits / "other one.parquet")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"] |= {"path": "../cells", "split_name": "other one", "subsample": 10, "quality": False}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(run)
    assert main([".", "--no-explain"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "was trained on 10 cells of" in page
    again = html.unescape(section_of(page, "again"))
    assert "in the folder that contains run" in again
    assert "--data.split_name 'other one' --data.quality false" in again


def test_figures_of_the_network_that_cannot_be_written_or_are_gone(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    (run / "explain" / "filters.png").unlink()
    assert main([str(run), "--no-explain"]) == 0
    look = section_of((run / "report.html").read_text(encoding="utf-8"), "look")
    assert "Filters of the first convolutions" not in look
    assert "<h3>The network</h3>" in look
    shutil.rmtree(run / "explain")
    (run / "explain").write_text("in the way")
    with pytest.raises(FastcellError, match="--no-explain writes the page without them"):
        main([str(run)])


def test_explanation_is_drawn_once(made, capsys):
    before = (made / "run" / "explain" / "explain.json").stat().st_mtime_ns
    assert main([str(made / "run")]) == 0
    assert "occlusion:" not in capsys.readouterr().out
    assert (made / "run" / "explain" / "explain.json").stat().st_mtime_ns == before
    assert main([str(made / "run"), str(made / "study")]) == 0  # as the other tests expect it


def test_explanation_of_other_weights_is_not_shown(made, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    checkpoint = run / json.loads((run / "metrics.json").read_text())["checkpoint"]
    checkpoint.touch()
    assert main([str(run), "--no-explain"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "There are no figures. Draw them with fastcell explain." in section_of(page, "look")
    assert "<h3>Calibration</h3>" not in page


def test_cells_that_cannot_be_read_are_counted(made, tmp_path):
    shutil.copytree(made / "cells", tmp_path / "cells")
    manifest = Manifest.open(tmp_path / "cells")
    chances = np.full((3, 2), 0.5)
    offset = int(manifest.column("offset")[1])
    with open(manifest.shard_path(int(manifest.shard_index[1])), "r+b") as file:
        file.seek(offset + 20)
        file.write(b"\xff\x00\xff")
    found = browser_data(manifest, outputs([0, 1, 0], chances), CLASSES, np.arange(3))
    assert found["num_lost"] == 1
    assert len(found["cells"]) == 2


def test_benchmark_of_the_machine_is_taken_in(made, tmp_path):
    rows = [{"part": "read", "what": "stored bytes", "cells_per_s": 1234.0, "low": 1000.0, "high": 1500.0}]
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"rows": rows, "conclusions": ["Classifying: decoding binds."]}))
    out = tmp_path / "page.html"
    assert main([str(made / "run"), "--bench", str(bench), "--no-explain", "-o", str(out)]) == 0
    speed = section_of(out.read_text(encoding="utf-8"), "speed")
    assert "Classifying: decoding binds." in speed
    assert "1,000 to 1,500" in speed
    bench.write_text('{"rows": [{"part": "read"}]}')
    with pytest.raises(DataError, match="--bench must be a file written by fastcell bench --out"):
        main([str(made / "run"), "--bench", str(bench), "--no-explain", "-o", str(out)])
