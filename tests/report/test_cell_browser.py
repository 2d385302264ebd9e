"""The cell browser: which cells are shown, and what the script gets of them."""

import base64

import cv2
import numpy as np

from fastcell.inference.probabilities import Outputs
from fastcell.report import cell_browser
from fastcell.report.cell_browser import browser_data, cell_box, choose_cells


def outputs(labels, chances):
    num = len(labels)
    return Outputs(np.arange(num), np.array(labels), np.array(chances, np.float32), None)


def test_errors_come_first_and_leave_room_for_right_ones():
    wrong = [[0.4 - i / 100, 0.6 + i / 100] for i in range(20)]  # of class 0, called 1, more and more confident
    cells = outputs([0] * 40, wrong + [[0.9, 0.1]] * 20)
    places = choose_cells(cells, 10, seed=0)
    assert places[:8].tolist() == [19, 18, 17, 16, 15, 14, 13, 12]
    assert (places[8:] >= 20).all()
    assert len(places) == 10
    assert sorted(choose_cells(cells, 100, seed=0).tolist()) == list(range(40))
    few = outputs([0] * 10, wrong[:1] + [[0.9, 0.1]] * 9)
    assert (choose_cells(few, 5, seed=0) == 0).sum() == 1
    assert len(choose_cells(few, 5, seed=0)) == 5
    assert len(choose_cells(cells, 0, seed=0)) == 0


def test_data_of_the_script(make_dataset, tagged):
    manifest = make_dataset(6)
    probabilities = np.array([[0.1, 0.7, 0.2], [0.25, 0.25, 0.5], [1 / 3, 2 / 3, 0]], np.float32)
    cells = Outputs(np.array([1, 2, 4]), np.array([1, 2, 1]), probabilities, np.array(["g1", "", "g2"]))
    found = browser_data(manifest, cells, ["A", "B", "C"], np.array([2, 0]))
    assert found["classes"] == ["A", "B", "C"]
    assert found["num_lost"] == 0
    first, second = found["cells"]
    keys = manifest.column("key")
    assert (first["key"], first["group"], first["true"], first["called"]) == (keys[4], "g2", 1, 1)
    assert (second["key"], second["group"], second["true"], second["called"]) == (keys[1], "g1", 1, 1)
    assert first["p"] == [0.3333, 0.6667, 0.0]
    pixels = tagged(4)
    assert (first["height"], first["width"]) == pixels.shape
    png = np.frombuffer(base64.b64decode(first["image"].partition(",")[2]), np.uint8)
    assert np.array_equal(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), pixels)
    alone = browser_data(manifest, Outputs(*cells_without_groups(cells)), ["A", "B", "C"], np.array([0]))
    assert alone["cells"][0]["group"] == ""


def cells_without_groups(cells):
    return cells.cell_ids, cells.labels, cells.probabilities, None


def test_large_cells_are_shrunk_and_their_size_is_told(make_set, monkeypatch):
    large = np.zeros((400, 100), np.uint8)
    large[:200] = 200
    manifest = make_set(1)
    monkeypatch.setattr(cell_browser, "read_cells", lambda manifest, rows: [large])
    cells = outputs([0], [[1.0]])
    (cell,) = browser_data(manifest, cells, ["A"], np.array([0]))["cells"]
    assert (cell["height"], cell["width"]) == (400, 100)
    png = np.frombuffer(base64.b64decode(cell["image"].partition(",")[2]), np.uint8)
    shown = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    assert shown.shape == (160, 40)
    assert (shown[:79].min(), shown[81:].max()) == (200, 0)


def test_the_seed_chooses_the_right_ones():
    cells = outputs([0] * 100, [[0.9, 0.1]] * 100)
    assert choose_cells(cells, 10, seed=1).tolist() == choose_cells(cells, 10, seed=1).tolist()
    assert choose_cells(cells, 10, seed=1).tolist() != choose_cells(cells, 10, seed=2).tolist()


def test_a_card_shows_the_cell_where_it_is_small_in_its_frame():
    frame = np.full((60, 80), 90, np.uint8)
    frame[20:32, 50:66] = 200
    rows, columns = cell_box(frame)
    assert (rows.start <= 20, rows.stop >= 32) == (True, True)
    assert (columns.start <= 50, columns.stop >= 66) == (True, True)
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 0.2 * frame.size
    assert cell_box(np.full((60, 80), 90, np.uint8)) is None  # nothing stands out
    frame[5:55, 5:75] = 200
    assert cell_box(frame) is None  # it fills its frame
    assert cell_box(np.zeros((5, 5), np.uint8)) is None
