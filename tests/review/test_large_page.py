"""The page at 1,000,000 cells, and the way from an unlabelled set through the page to a training."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fixtures.review_pages import ServedSet, until, wait_text

from fastcell.cli.fit import main as fit
from fastcell.cli.info import main as info
from fastcell.cli.split import main as split
from fastcell.dataset.manifest import Manifest
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.pack import pack
from fastcell.packing.records import ShardResult
from fastcell.simulator.synth import synthesize
from fastcell.storage.staging import staging

Serve, Open = Callable[..., ServedSet], Callable[..., Any]
STORED, COPIES = 2_000, 500


def repeated(base, out):
    """A set of 1,000,000 rows: the one shard of `base` under 500 names."""
    rng = np.random.default_rng(0)
    keys, results = base.column("key").tolist(), []
    with staging(out) as folder:
        for number in range(COPIES):
            name = f"shard-{number:06d}.tar"
            os.link(base.shard_path(0), folder / name)
            rows = base.table
            columns = {
                "key": pa.array([f"{number:03d}/{key}" for key in keys]),
                "shard": pa.array([name] * len(rows)),
                "pixel_hash": pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(16), len(rows), [None, pa.py_buffer(rng.bytes(16 * len(rows)))]
                ),
            }
            for column, values in columns.items():
                rows = rows.set_column(rows.schema.get_field_index(column), column, values)
            size = base.info.shards[0]["bytes"]
            results.append(ShardResult(name, size, rows, base.quarantine().slice(0, 0)))
        sides = np.tile(base.split(), COPIES)
        return finish_dataset(folder, out, results, replace(base.info, shards=[], name="many"), {"default": sides})


def all_drawn(page):
    """Wait until every cell in sight has its picture and its words."""
    until(
        page,
        """() => { const cells = [...document.querySelectorAll('.tile:not([hidden])')];
          return cells.length && cells.every((one) => one.querySelector('.said').textContent
            && one.querySelector('.picture').style.backgroundImage.startsWith('url')); }""",
    )


@pytest.mark.slow
def test_a_million_cells(tmp_path, serve_set, open_tab):
    data = repeated(synthesize(tmp_path / "stored", STORED, 0, shard_cells=STORED, jobs=1), tmp_path / "many")
    keys, names = data.column("key"), data.column("class")
    num = len(data)
    assert num == 1_000_000
    page = open_tab(serve_set(data).url)
    assert page.inner_text("#count") == "1,000,000 cells"
    all_drawn(page)

    for key in ("End", "PageUp", "PageUp"):  # by keys: every cell can be reached, also where the page is too tall
        page.keyboard.press(key)
        all_drawn(page)
    page.keyboard.press("End")
    wait_text(page, "#status", keys[-1])
    assert f"cell-{num - 1}" in page.evaluate("[...document.querySelectorAll('.tile:not([hidden])')].map((x) => x.id)")
    page.keyboard.press("ArrowLeft")
    wait_text(page, "#status", keys[-2])
    page.keyboard.press("Home")
    wait_text(page, "#status", keys[0])
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e9")  # by the scroll bar, to the end
    page.locator(f"#cell-{num - 1}").wait_for()
    page.mouse.move(700, 400)
    for step in (-3_000, -3_000, 900):  # by the wheel: no row is left out or shown twice
        page.mouse.wheel(0, step)
        page.wait_for_timeout(250)
        shown = page.evaluate("[...document.querySelectorAll('.tile:not([hidden])')].map((x) => +x.id.slice(5))")
        assert sorted(shown) == list(range(min(shown), max(shown) + 1))
    all_drawn(page)
    assert page.locator(".tile").count() < 300

    chosen = data.info.classes[1]
    page.locator("#histograms li", has_text=chosen).first.locator("input").check()
    wait_text(page, "#count", f"{int((names == chosen).sum()):,} of 1,000,000 cells")
    all_drawn(page)

    page.locator("#scroller").focus()
    rows = np.flatnonzero(names == chosen)[:500]
    page.keyboard.press("Home")
    for _ in range(499):
        page.keyboard.press("Shift+ArrowRight")
    wait_text(page, "#status", "500 chosen")
    page.keyboard.press("1")
    wait_text(page, "#message", "500 cells marked")
    now = Manifest.open(data.path)
    assert (now.column("class")[rows] == data.info.classes[0]).all()
    assert (np.delete(now.column("class"), rows) == np.delete(names, rows)).all()
    page.reload()
    wait_text(page, "#progress", "labelled 500 of 1,000,000")
    wait_text(page, "#count", f"{int((names == chosen).sum()) - 500:,} of 1,000,000 cells")
    page.keyboard.press("z")
    wait_text(page, "#message", "500 cells")
    assert (Manifest.open(data.path).column("class") == names).all()


@pytest.mark.slow
def test_from_nothing_to_a_training(trained_data, tmp_path, serve_set, open_tab, capsys):
    """Classes typed in, cells labelled in the page, then the commands that its help prints, and a set packed of it."""
    known = Manifest.open(trained_data)
    data = strip_classes(known, tmp_path / "cells")
    page = open_tab(serve_set(data).url)
    wanted = known.column("class")[:80]
    names = sorted(set(wanted))
    until(page, "document.querySelector('#cell-0 .said').textContent === '(no class)'")
    for name in names:
        page.keyboard.press("c")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        wait_text(page, "#palette", name)
        page.keyboard.press("z")
        page.keyboard.press("Home")
    for name in wanted:
        page.keyboard.press(str(names.index(name) + 1))
    wait_text(page, "#progress", "labelled 80 of 200")
    assert Manifest.open(data.path).column("class")[:80].tolist() == wanted.tolist()
    page.keyboard.press("?")
    commands = page.inner_text("#help-body pre").splitlines()
    assert commands == [f"fastcell split {data.path}", f"fastcell fit {data.path}"]
    assert split([str(data.path), "--name", "labelled", "--no-near", "--jobs", "1"]) == 0
    light = ["--data.image_size=16", "--data.threads=1", "--trainer.max_steps=2", "--trainer.max_epochs=-1"]
    places = [f"--data.path={data.path}", "--data.split_name=labelled", f"--runs={tmp_path / 'runs'}"]
    assert fit(["--preset=fast", *places, *light]) == 0
    assert info([str(data.path)]) == 0
    assert "labels by hand: 80 cells (80 had none" in capsys.readouterr().out
    pack(data.path, tmp_path / "again", jobs=1)
    written = Manifest.open(tmp_path / "again")
    found = dict(zip(written.column("key").tolist(), written.column("class").tolist(), strict=True))
    keys = data.column("key").tolist()
    assert [found[key] for key in keys[:80]] == wanted.tolist()
    assert {found[key] for key in keys[80:]} == {None}


def strip_classes(data, out):
    """The same cells without classes."""
    with staging(out) as folder:
        results = []
        edges = np.searchsorted(data.shard_index, np.arange(len(data.info.shards) + 1))
        for number, shard in enumerate(data.info.shards):
            os.link(data.shard_path(number), folder / data.shard_path(number).name)
            rows = data.table.slice(int(edges[number]), int(edges[number + 1] - edges[number]))
            place = rows.schema.get_field_index("class")
            rows = rows.set_column(place, rows.schema.field(place), pa.nulls(len(rows), rows.schema.field(place).type))
            results.append(
                ShardResult(data.shard_path(number).name, shard["bytes"], rows, data.quarantine().slice(0, 0))
            )
        info_ = replace(data.info, shards=[], classes=[])
        return finish_dataset(folder, out, results, info_, {"default": data.split()})
