"""HTTP: answers by value, the page, OpenAPI, health, metrics, and requests that cannot be answered."""

import csv
import io

import cv2
import numpy as np
import pytest
from fixtures.live_servers import GatedNetwork, served, some_cells
from starlette.testclient import TestClient

from fastcell.inference.open_classifier import load
from fastcell.live.drop_log import DropLog
from fastcell.live.http_app import HttpService
from fastcell.live.live_classifier import open_live
from fastcell.live.live_metrics import LiveMetrics
from fastcell.live.micro_batches import MicroBatches


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def client_of(running, when_full="wait"):
    service = HttpService(running.live, running.batches, running.metrics, running.drops, when_full, {"run": "<b>x</b>"})
    return TestClient(service.app())


@pytest.fixture
def running(tmp_path):
    with served(tmp_path, min_confidence=0.7) as one:
        yield one


def test_an_array_is_answered_in_order(running):
    cells = some_cells(300)
    expected = running.live.classifier.predict(cells)
    answer = client_of(running).post("/classify", content=npy(cells))
    assert answer.status_code == 200
    assert answer.json()["classes"] == ["a", "b"]
    rows = answer.json()["cells"]
    assert [row["key"] for row in rows] == [str(number) for number in range(300)]
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected.probabilities, atol=1e-6)
    unsure = expected.confidence < 0.7
    assert 0 < unsure.sum() < 300
    assert [row["unsure"] for row in rows] == unsure.tolist()
    assert [row["class"] for row in rows] == np.where(unsure, "unsure", expected.labels).tolist()
    assert {row["reason"] for row in rows} == {None, "confidence below 0.7"}


def test_files_of_a_form_keep_their_order_and_names(running):
    cells = some_cells(3)
    files = [("cells", (f"{n}.png", cv2.imencode(".png", cell)[1].tobytes())) for n, cell in enumerate(cells)]
    files.insert(1, ("cells", ("bad.png", b"nothing")))
    files.append(("more", ("two.npy", npy(some_cells(2, 7)))))
    rows = client_of(running).post("/classify", files=files).json()["cells"]
    assert [row["key"] for row in rows] == ["0.png", "bad.png", "1.png", "2.png", "two.npy/0", "two.npy/1"]
    assert [row["class"] is None for row in rows] == [False, True, False, False, False, False]
    assert rows[1]["reason"] == "not an image"
    expected = running.live.classifier.predict([*cells, *some_cells(2, 7)]).probabilities
    found = [row["probabilities"] for row in rows if row["class"] is not None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_names_reach_a_terminal_as_escapes(running):
    name = "\u202e\x85\x7f.png"
    answer = client_of(running).post("/classify", files=[("cells", (name, b"nothing"))])
    assert answer.json()["cells"][0]["key"] == name
    assert answer.text.isprintable()


def test_a_table_is_answered_where_it_is_asked_for(running):
    answer = client_of(running).post("/classify", content=npy(some_cells(4)), headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    expected = running.live.classifier.predict(some_cells(4)).probabilities
    np.testing.assert_allclose([[float(row["p_a"]), float(row["p_b"])] for row in rows], expected, atol=1e-6)
    assert rows[0]["unlike_training"] == ""
    assert rows[0]["unsure"] in ("true", "false")


def test_16_bit_cells_without_a_window_have_a_reason(running):
    (row,) = client_of(running).post("/classify", content=npy(np.full((1, 9, 9), 999, np.uint16))).json()["cells"]
    assert row["class"] is None
    assert row["reason"] == "16 bit, and there is no window of grey levels"


@pytest.mark.parametrize("body", [b"", npy(np.zeros((2, 3, 4), np.float32)), npy(np.zeros((10_001, 1, 1), np.uint8))])
def test_a_body_without_cells_or_with_too_many_is_an_error(running, body):
    answer = client_of(running).post("/classify", content=body)
    assert answer.status_code == 400
    assert " must " in answer.json()["error"]


@pytest.mark.parametrize("query", ["um_per_px=x", "um_per_px=0", "um_per_px=nan", "um_per_px=-1", "um_per_px=inf"])
def test_a_pitch_that_is_no_length_is_an_error(running, query):
    assert client_of(running).post(f"/classify?{query}", content=npy(some_cells(1))).status_code == 400


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"--a\r\ngarbage"),
        ("multipart/form-data; boundary=a", b"--a--\r\n"),
    ],
)
def test_a_damaged_form_is_an_error(running, kind, body):
    answer = client_of(running).post("/classify", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400


def test_a_full_queue_is_said_where_cells_are_dropped(tmp_path):
    with served(tmp_path, GatedNetwork(), queue=5) as running:
        answer = client_of(running, "drop").post("/classify", content=npy(some_cells(6)))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert running.metrics.dropped == 6
        with open(running.log) as file:
            (row,) = csv.DictReader(file)
        assert (row["client"], row["first_id"], row["last_id"], row["cells"]) == ("http", "0", "5", "6")


def test_page_description_health_and_metrics(running):
    client = client_of(running)
    client.post("/classify", content=npy(some_cells(5)))
    page = client.get("/").text
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    assert "POST /classify" in page
    api = client.get("/openapi.json").json()
    assert api["openapi"] == "3.1.0"
    assert set(api["paths"]) == {"/classify", "/health", "/metrics", "/openapi.json"}
    health = client.get("/health").json()
    assert (health["status"], health["classes"], health["waiting"]) == ("ok", ["a", "b"], 0)
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "fastcell_cells_answered_total 5\n" in metrics.text


def test_answers_are_described_field_by_field(running):
    client = client_of(running)
    schema = client.get("/openapi.json").json()["paths"]["/classify"]["post"]["responses"]["200"]
    cells = schema["content"]["application/json"]["schema"]["properties"]["cells"]["items"]["properties"]
    (row,) = client.post("/classify", content=npy(some_cells(1))).json()["cells"]
    assert list(row) == list(cells)


def test_unlike_cells_are_flagged_as_by_predict(trained_run, tmp_path):
    live, _ = open_live(str(trained_run), threads=1)
    metrics = LiveMetrics(live.classes, 1.0)
    batches = MicroBatches(live.answer, len(live.classes), metrics, most_waiting=999, max_latency_s=1.0)
    cells = some_cells(30, shape=(40, 35))
    expected = load(trained_run, threads=1).predict(cells).to_table()
    client = TestClient(HttpService(live, batches, metrics, DropLog(tmp_path / "d.csv"), "wait", {}).app())
    rows = client.post("/classify", content=npy(cells)).json()["cells"]
    batches.close()
    assert [row["unlike_training"] for row in rows] == expected.column("unlike_training").to_pylist()
    assert [row["unlike_reason"] for row in rows] == expected.column("unlike_reason").to_pylist()
    assert [row["class"] for row in rows] == expected.column("class").to_pylist()
    assert any(row["unlike_training"] for row in rows)
