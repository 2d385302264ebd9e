"""The HTML of a page, in a headless Chromium: filters, tables, colours, print."""

import base64
import io
import re

import numpy as np
import pytest
from fixtures.report_pages import CLASSES, data_of, section_of
from PIL import Image

from fastcell.plots.picture_places import KEY, parse_picture_places


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


def names_of_cards(tab):
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
    def background(page):
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
    def levels(scheme, selector):
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
