"""``fastcell report``: the page of a real run and of a real comparison, as files and in a headless Chromium."""

from __future__ import annotations

import base64
import datetime
import html
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from fastcell.cli import compare as compare_command
from fastcell.cli import main as cli
from fastcell.cli.parser import parse_words
from fastcell.cli.report import main
from fastcell.cli.signature import read_command
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError, FastcellError
from fastcell.inference.probabilities import Outputs
from fastcell.plots.picture_places import KEY, parse_picture_places
from fastcell.report.cell_browser import browser_data
from fastcell.report.page_elements import Picture, embed_png, percent
from fastcell.report.run_sections import what_bound
from fastcell.review.cell_query import parse_query

HOSTILE = "<b onmouseover=alert(1)>"
CLASSES = [HOSTILE, "plain"]
FEW = ["--data.image_size", "16", "--data.batch_size", "32", "--data.augment", "false"]


def draw_cells(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for group in range(6):
        for name in CLASSES:
            (folder / f"donor {group}" / name).mkdir(parents=True)
            for number in range(10):
                cell = rng.normal(100, 5, rng.integers(14, 24, 2))
                if name == HOSTILE and number:  # one in ten is beyond telling
                    cell[4:9, 4:9] += 100
                path = folder / f"donor {group}" / name / f"{number:03d}.png"
                cv2.imwrite(str(path), cell.clip(0, 255).astype(np.uint8))
    (folder / "donor 0" / "plain" / "broken.png").write_bytes(b"no picture")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with `cells`, the run `run`, the comparison `study` and the page `run/report.html` of both."""
    folder = tmp_path_factory.mktemp("page")
    draw_cells(folder / "source")
    pattern = "{group}/{class}/{name}"
    assert cli.main(["pack", str(folder / "source"), str(folder / "cells"), "--pattern", pattern]) == 0
    fit = ["fit", "--preset", "demo", "--data.path", str(folder / "cells"), "--runs", str(folder / "runs"), *FEW]
    assert cli.main([*fit, "--trainer.max_epochs", "4", "--trainer.accelerator", "cpu"]) == 0
    (run,) = (folder / "runs").iterdir()
    run.rename(folder / "run")
    compare = ["compare", str(folder / "cells"), "--methods", "knn", "--volumes", "1", "--seeds", "1"]
    splits = ["--splits", "groups,random", "--pca", "4", "--data.image_size", "16"]
    assert cli.main([*compare, *splits, "--out", str(folder / "study")]) == 0
    explain = ["explain", str(folder / "run"), "--cells=4", "--positions=4", "--embed=12"]
    assert cli.main(explain) == 0
    assert main([str(folder / "run"), str(folder / "study")]) == 0
    return folder


@pytest.fixture(scope="module")
def text(made):
    return (made / "run" / "report.html").read_text(encoding="utf-8")


def data_of(text: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="cell-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def section_of(text: str, anchor: str) -> str:
    (found,) = re.findall(rf'<section id="{anchor}">(.*?)</section>', text, re.DOTALL)
    return found


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
    for group in np.unique(manifest.groups):
        counts = [int(((manifest.groups == group) & (sides == side)).sum()) for side in ("train", "valid", "test")]
        numbers = "".join(f'<td class="number">{count}</td>' for count in counts)
        assert f"<td>{group}</td>{numbers}" in splits
    assert "6 groups, each in one subset only" in splits


def test_page_asks_for_nothing_beside_it(text):
    without_data = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", text)
    assert "default-src 'none'" in without_data
    markup = re.sub(r"<script>.*?</script>", "", without_data, flags=re.DOTALL)
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", markup)
    assert sources
    assert {source[:5] for source in sources if not source.startswith("#")} == {"data:"}
    assert not re.search(r"@import|url\(|https?://", without_data)


def test_names_of_classes_are_text(text):
    assert "<b onmouseover" not in text
    assert "&lt;b onmouseover" in section_of(text, "scores")
    assert data_of(text)["classes"] == CLASSES


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


def outputs(labels, chances):
    num = len(labels)
    return Outputs(np.arange(num), np.array(labels), np.array(chances, np.float32), None)


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


def test_pictures_of_others_are_refused(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="must be a picture drawn by fastcell"):
        embed_png(path, "title")
    cv2.imwrite(str(path), np.zeros((30, 300), np.uint8))
    picture = embed_png(path, "title", "caption")
    assert picture == Picture("title", picture.source, 2.0, "caption", "caption")


# In a browser


@pytest.fixture
def tab(chromium, made, text):
    """The page opened from the disk, and what it complains of and asks for."""
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(20_000)
    page.troubles = []
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: request.url.startswith("data:") or page.troubles.append(request.url))
    address = (made / "run" / "report.html").as_uri()
    page.goto(address)
    assert page.troubles == [address]
    page.troubles.clear()
    yield page
    assert page.troubles == []
    page.close()


def names_of_cards(tab) -> list[str]:
    return tab.locator(".card .key").all_inner_texts()


def test_browser_filters_by_true_and_called_class(tab, text):
    cells = data_of(text)["cells"]
    wrong = [cell for cell in cells if cell["true"] != cell["called"]]
    assert wrong
    assert sorted(names_of_cards(tab)) == sorted(cell["key"] for cell in wrong)
    tab.select_option("#kind", "")
    assert len(names_of_cards(tab)) == min(48, len(cells))
    for true in (0, 1):
        for called in (0, 1):
            tab.select_option("#true", str(true))
            tab.select_option("#called", str(called))
            expected = [cell for cell in cells if (cell["true"], cell["called"]) == (true, called)]
            assert sorted(names_of_cards(tab)) == sorted(cell["key"] for cell in expected)
            assert f"{len(expected)} cell" in tab.inner_text("#count")
    tab.click("#filters button[type=reset]")
    from playwright.sync_api import expect

    expect(tab.locator(".card")).to_have_count(len(wrong))


def test_browser_orders_by_confidence_and_searches(tab, text):
    cells = {cell["key"]: max(cell["p"]) for cell in data_of(text)["cells"]}
    tab.select_option("#kind", "")
    sure = [cells[key] for key in names_of_cards(tab)]
    assert sure == sorted(sure, reverse=True)
    tab.select_option("#order", "unsure")
    assert [cells[key] for key in names_of_cards(tab)] == sorted(sure)
    key = next(iter(cells))
    tab.fill("#search", key.upper())
    assert names_of_cards(tab) == [key]
    tab.fill("#search", "no such cell")
    assert names_of_cards(tab) == []


def test_number_of_the_confusion_matrix_shows_its_cells(tab, text):
    cells = data_of(text)["cells"]
    cell = next(cell for cell in cells if cell["true"] != cell["called"])
    same = [other["key"] for other in cells if (other["true"], other["called"]) == (cell["true"], cell["called"])]
    button = tab.locator(f'#confusion button[data-true="{cell["true"]}"][data-called="{cell["called"]}"]')
    assert button.inner_text() == str(len(same))  # every test cell is on the page
    button.click()
    assert sorted(names_of_cards(tab)) == sorted(same)


def test_cell_opens_with_all_probabilities(tab, text):
    cells = {cell["key"]: cell for cell in data_of(text)["cells"]}
    tab.locator(".card").first.click()
    cell = cells[tab.inner_text("#cell-name")]
    assert f"True class {CLASSES[cell['true']]}, predicted {CLASSES[cell['called']]}" in tab.inner_text("#cell-text")
    assert cell["group"] in tab.inner_text("#cell-text")
    shown = tab.locator("#cell-chances tr td:nth-child(2)").all_inner_texts()
    assert shown == [f"{p:.4f}" for p in sorted(cell["p"], reverse=True)]
    tab.locator("#cell button").click()
    assert not tab.locator("#cell").is_visible()


def test_tables_sort_by_number(tab):
    table = tab.locator("#splits table.sortable")
    column = table.locator("tbody td:nth-child(2)")
    table.locator("th button").nth(1).click()
    numbers = [int(text.replace(",", "")) for text in column.all_inner_texts()]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 1
    table.locator("th button").nth(1).click()
    assert [int(text) for text in column.all_inner_texts()] == sorted(numbers, reverse=True)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    table.locator("th button").first.click()
    groups = table.locator("tbody td:nth-child(1)").all_inner_texts()
    assert groups == [f"donor {number}" for number in range(6)]


def test_light_and_dark(chromium, tab, made):
    def background(page) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background(tab)
    tab.click("#theme")
    assert background(tab) != light
    assert tab.inner_text("#theme") == "Light"
    dark = chromium.new_page(color_scheme="dark")
    dark.goto((made / "run" / "report.html").as_uri())
    assert background(dark) == background(tab)
    dark.close()


def test_charts_are_dark_in_the_dark_and_cells_are_not_inverted(chromium, made):
    def levels(scheme: str, selector: str) -> np.ndarray:
        page = chromium.new_page(color_scheme=scheme)
        page.goto((made / "run" / "report.html").as_uri())
        shot = page.locator(selector).first.screenshot()
        page.close()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("L"), float)

    chart, in_dark = levels("light", "figure.plot img"), levels("dark", "figure.plot img")
    assert chart.mean() > 200
    assert in_dark.mean() < 80
    assert in_dark.max() > 180  # text and curves stand out
    cells, in_dark = levels("light", "figure.cells .sheet"), levels("dark", "figure.cells .sheet")
    page = (made / "run" / "report.html").read_text()
    png = base64.b64decode(re.search(r'class="picture cells.*?base64,([^"]+)"', page, re.DOTALL)[1])
    with Image.open(io.BytesIO(png)) as image:
        places = parse_picture_places(image.info[KEY])
    assert len(places) >= len(CLASSES)
    around = np.ones(cells.shape, bool)
    edge = 7.4  # padding and border of the picture [px]
    for place in places:
        rows, columns = (
            [round(edge + share * (size - 2 * edge)) for share in ends]
            for size, ends in zip(cells.shape, (place[1::2], place[::2]), strict=True)
        )
        inside = np.s_[rows[0] + 2 : rows[1] - 2, columns[0] + 2 : columns[1] - 2]
        assert np.abs(cells[inside] - in_dark[inside]).max() <= 2
        around[rows[0] - 2 : rows[1] + 2, columns[0] - 2 : columns[1] + 2] = False
    assert cells[around].mean() > 220
    assert in_dark[around].mean() < 60
    assert in_dark[around].max() > 180  # names of the rows


def test_print_leaves_controls_out_and_is_light(tab):
    tab.click("#theme")
    tab.emulate_media(media="print")
    assert not tab.locator("#gallery").is_visible()
    assert not tab.locator("nav").is_visible()
    assert tab.locator("#confusion").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    filters = tab.locator(".picture img").evaluate_all("images => images.map(image => getComputedStyle(image).filter)")
    assert set(filters) == {"none"}
    assert tab.pdf().startswith(b"%PDF")


def test_narrow_figures_share_a_row_in_print(tab):
    """Calibration and reject option stand side by side although a wide figure is between them in the page."""
    tab.set_viewport_size({"width": 700, "height": 1000})
    tab.emulate_media(media="print")
    narrow = tab.locator("#scores figure.picture:not(.wide-picture)")
    places = [narrow.nth(number).bounding_box() for number in range(narrow.count())]
    assert len(places) == 2
    assert places[0]["y"] == places[1]["y"]
    assert places[1]["x"] > places[0]["x"] + places[0]["width"]
    wide = tab.locator("#scores figure.wide-picture")
    assert wide.count() == 2
    assert all(wide.nth(number).bounding_box()["width"] > 690 for number in range(2))


def test_page_is_whole_without_scripts(chromium, made):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((made / "run" / "report.html").as_uri())
    assert page.locator("#scores table").count() == 3
    assert page.locator("noscript p").is_visible()
    assert not page.locator("#filters").is_visible()
    context.close()


def test_no_part_is_wider_than_a_phone(chromium, made):
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.goto((made / "run" / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
