"""The page in Chromium: gallery, order and filters, gate, marks, undo, several tabs, keys, names of strangers."""

import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.review_pages import ServedSet, until, wait_text

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark, append_marks
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.storage.staging import staging

Serve, Open = Callable[..., ServedSet], Callable[..., Any]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(2)</script>",
    "javascript:alert(3)",
    "</style><b>bold",
    "a&amp;b ${alert(4)} {{7*7}}",
]


def tile(page, place):
    return page.locator(f"#cell-{place}")


def classes_shown(page, num):
    """Classes of the first cells, as the gallery shows them."""
    until(page, f"document.querySelector('#cell-{num - 1} .said').textContent !== ''")
    return [tile(page, place).locator(".said").inner_text() for place in range(num)]


def labels(data):
    """Classes as they hold on disk now."""
    return Manifest.open(data.path).column("class").tolist()


def test_gallery_filter_order_and_address(planted, serve_set, open_tab):
    data = planted(900)
    page = open_tab(serve_set(data).url)
    assert page.inner_text("#count") == "900 cells"
    assert classes_shown(page, 3) == ["left", "right", "top"]
    until(page, "document.querySelector('#cell-1 .picture').style.backgroundImage !== 'none'")
    page.wait_for_timeout(50)
    shown = cv2.imdecode(np.frombuffer(tile(page, 1).locator(".picture").screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    _, width = shown.shape
    middle = shown[shown.shape[0] // 2]
    assert middle[int(0.9 * width)] > middle[int(0.2 * width)] + 60  # a cell of this class is bright on the right

    page.keyboard.press("End")
    tile(page, 899).wait_for()
    assert page.locator(".tile").count() < 300
    wait_text(page, "#status", "cell-0899.npy")

    page.locator("#histograms li", has_text="left").locator("input").check()
    wait_text(page, "#count", "300 of 900 cells")
    assert classes_shown(page, 3) == ["left"] * 3
    page.fill("#key", "cell-000")
    page.keyboard.press("Enter")
    wait_text(page, "#count", "4 of 900 cells")
    page.select_option("#sort", "cell_id")
    page.click("#sort-turn")
    wait_text(page, "#cell-0 .words", "cell-0009.npy")
    address = page.url
    page.reload()
    wait_text(page, "#cell-0 .words", "cell-0009.npy")
    assert page.url == address
    page.go_back()
    wait_text(page, "#cell-0 .words", "cell-0000.npy")
    page.click("text=All cells")
    wait_text(page, "#count", "900 cells")


def test_marks_undo_and_tabs(planted, serve_set, open_tab):
    data = planted(60)
    served = serve_set(data)
    page = open_tab(served.url)
    other = open_tab(served.url.split("?")[0], beside=page)
    assert classes_shown(page, 3) == classes_shown(other, 3) == ["left", "right", "top"]

    page.keyboard.press("2")
    page.keyboard.press("x")
    page.keyboard.press("u")
    wait_text(other, "#cell-0 .said", "right")
    wait_text(other, "#cell-1 .badges", "✕")
    wait_text(other, "#cell-2 .badges", "?")
    wait_text(page, "#progress", "labelled 1 of 60, unsure 1, dropped 1")
    assert labels(data)[0] == "right"
    assert np.flatnonzero(~Manifest.open(data.path).verdicts()).tolist() == [1]

    for left in ("labelled 1 of 60, dropped 1", "labelled 1 of 60", "labelled 0 of 60"):
        page.keyboard.press("z")
        until(page, "text => document.querySelector('#progress').textContent === text", left)
    wait_text(other, "#cell-0 .said", "left")
    page.keyboard.press("z")
    wait_text(page, "#message", "Nothing to undo")
    page.keyboard.press("y")
    wait_text(page, "#message", "again: class right")
    assert labels(data)[0] == "right"
    assert Manifest.open(data.path).verdicts().all()

    # Another person, with a server of their own: the last mark of a cell holds, and undo takes back one's own marks.
    append_marks(data.path, data.table, lambda: [Mark.now("ben", np.array([0, 5]), label="top")])
    wait_text(page, "#cell-0 .said", "top")
    page.keyboard.press("z")
    wait_text(page, "#message", "taken back: class right")
    assert [labels(data)[cell] for cell in (0, 5)] == ["top", "top"]
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    wait_text(page, "#large-body", "ben")
    assert "class right (taken back)" in page.inner_text("#large-body")


def test_selection_lasso_and_classes_by_name(planted, serve_set, open_tab):
    data = planted(60)
    page = open_tab(serve_set(data).url)
    classes_shown(page, 6)
    tile(page, 1).click()
    tile(page, 4).click(modifiers=["Shift"])
    tile(page, 2).click(modifiers=["Control"])
    wait_text(page, "#status", "3 chosen")
    page.keyboard.press("c")
    page.fill("#ask-text", "mitotic")
    page.keyboard.press("Enter")
    wait_text(page, "#message", "3 cells marked")
    assert [place for place, name in enumerate(labels(data)) if name == "mitotic"] == [1, 3, 4]
    page.locator("#palette button", has_text="4 mitotic").wait_for()

    page.select_option("#plane-x", "cell_id")
    page.select_option("#plane-y", "mean_intensity")
    page.wait_for_timeout(300)
    box = page.locator("#plane").bounding_box()
    left, right, top, bottom = box["x"] + box["width"] / 2, box["x"] + box["width"], box["y"], box["y"] + box["height"]
    corners = [(left, top + 1), (right - 2, top + 1), (right - 2, bottom - 2), (left, bottom - 2)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    wait_text(page, "#count", "30 of 60 cells")
    page.locator("#scroller").focus()
    page.keyboard.press("a")
    page.keyboard.press("x")
    wait_text(page, "#message", "30 cells marked")
    assert np.flatnonzero(~Manifest.open(data.path).verdicts()).tolist() == list(range(30, 60))
    page.reload()
    wait_text(page, "#count", "30 of 60 cells")  # the gate stands in the address


def test_names_of_strangers_are_text(tmp_path, serve_set, open_tab):
    rng = np.random.default_rng(0)
    records = [
        Record(
            f"{name}/{number}", rng.integers(0, 255, (9, 9)).astype(np.uint8), "raw", HOSTILE[(number + 1) % 5], name
        )
        for number, name in enumerate(HOSTILE * 2)
    ]
    with staging(tmp_path / "set") as folder:
        result = write_cell_shard(folder / "shard-000000.tar", records, None, HOSTILE)
        info = DatasetInfo(HOSTILE[0], list(HOSTILE))
        data = finish_dataset(folder, tmp_path / "set", [result], info, {"default": np.full(10, "train")})
    page = open_tab(serve_set(data).url)
    classes_shown(page, 10)
    found = {(tile(page, place).locator(".said").inner_text()) for place in range(10)}
    assert found == set(HOSTILE)
    page.keyboard.press("1")
    page.keyboard.press("t")
    page.fill("#ask-text", HOSTILE[1])
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    wait_text(page, "#large-body", HOSTILE[0])
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.keyboard.press("Escape")
    page.fill("#who", HOSTILE[3])
    page.locator("#scroller").focus()
    page.keyboard.press("3")
    page.wait_for_timeout(300)
    assert page.locator("#gallery img, script:not([src]), b, header img, aside img").count() == 0
    assert page.inner_text("#name").startswith(HOSTILE[0])


def test_whole_loop_by_keys(make_dataset, serve_set, open_tab):
    data = make_dataset(30, labelled=False)
    page = open_tab(serve_set(data).url)
    until(page, "document.activeElement.id === 'scroller'")
    until(page, "document.querySelector('#cell-0 .said').textContent === '(no class)'")
    press, write = page.keyboard.press, page.keyboard.type

    for name in ("one", "two"):  # classes from nothing
        press("c")
        write(name)
        press("Enter")
        wait_text(page, "#palette", name)
    press("1")
    press("ArrowDown")
    press("Shift+ArrowRight")
    press("Shift+ArrowRight")
    press("2")
    wait_text(page, "#message", "cells marked")
    press("Home")
    press("k")
    press("x")
    press("u")
    press("t")
    write("odd one")
    press("Enter")
    wait_text(page, "#cell-3 .words", "#odd one")
    press("z")
    wait_text(page, "#message", "taken back: tag odd one")
    press("y")
    wait_text(page, "#message", "again: tag odd one")

    press("Enter")  # one cell large, and on to the next
    page.locator("#large[open]").wait_for()
    first = page.inner_text("#large h2")
    press("ArrowRight")
    until(page, "first => document.querySelector('#large h2').textContent !== first", first)
    press("1")
    press("Escape")
    press("f")
    assert page.evaluate("document.activeElement.closest('#side') !== null")
    press("Escape")
    assert page.evaluate("document.activeElement.id") == "scroller"
    press("g")
    for key in ("Shift+ArrowLeft", "Enter", "Shift+ArrowUp", "Enter", "Shift+ArrowRight", "Enter", "c"):
        press(key)
    until(page, "location.hash.includes('gate')")
    press("Escape")
    press("s")
    assert page.evaluate("document.activeElement.id") == "sort"
    press("Escape")
    press("d")
    press("b")
    press("+")
    page.locator("#terms button", has_text="All cells").press("Enter")
    press("Escape")
    press("n")
    wait_text(page, "#terms", "cells that were named")
    press("?")
    assert re.search(r"fastcell split .*\nfastcell fit ", page.inner_text("#help-body"))
    press("Escape")
    assert {name for name in labels(data) if name} == {"one", "two"}


LUMINANCE = """
() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const text = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!text || !node.checkVisibility() || node.tagName === 'OPTION') continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    found.push([node.tagName + '.' + node.className, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(theme, planted, serve_set, open_tab):
    page = open_tab(serve_set(planted(60)).url, color_scheme=theme)
    classes_shown(page, 3)
    page.keyboard.press("x")
    tile(page, 4).click(modifiers=["Control"])
    page.wait_for_timeout(100)
    found = page.evaluate(LUMINANCE)
    page.keyboard.press("Enter")
    page.locator("#large h2").wait_for()
    found += page.evaluate(LUMINANCE)
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    found += page.evaluate(LUMINANCE)
    assert len(found) > 80
    assert [one for one in found if one[1] < 4.5] == []  # WCAG 2.2, level AA, 1.4.3


def test_no_part_is_wider_than_a_phone(planted, serve_set, open_tab):
    page = open_tab(serve_set(planted(60)).url, viewport={"width": 390, "height": 800})
    classes_shown(page, 3)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert tile(page, 0).bounding_box()["y"] < 400
    page.click("#filters")
    page.locator("#histograms li").first.wait_for()
