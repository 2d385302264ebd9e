"""Answers of the server by value, and what it refuses: strangers, other sites, odd requests."""

import http.client
import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from fixtures.review_pages import ServedSet

from fastcell.review.review_app import PAGE_DIR
from fastcell.web.request_guard import CONTENT_POLICY

Serve = Callable[..., ServedSet]


class Visitor:
    """A browser's requests: the cookie of the link, the same origin."""

    def __init__(self, url):
        self.host = urlsplit(url).netloc
        status, headers, _ = self.get(f"/?{urlsplit(url).query}")
        self.cookie = headers.get("set-cookie", "").partition(";")[0]
        assert status == 303

    def send(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=20)
        given = {"cookie": getattr(self, "cookie", "")} | {name.replace("_", "-"): v for name, v in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def get(self, path, **headers):
        return self.send("GET", path, **headers)

    def ask(self, name, **values):
        status, _, body = self.send(
            "POST", f"/api/{name}", json.dumps(values).encode(), content_type="application/json"
        )
        return json.loads(body) | ({} if status == 200 else {"status": status})


@pytest.fixture
def visitor(planted, serve_set):
    return Visitor(serve_set(planted(200)).url)


def test_page_and_its_policy(visitor):
    status, headers, body = visitor.get("/")
    assert status == 200
    assert headers["content-security-policy"] == CONTENT_POLICY
    page = body.decode()
    assert "unsafe" not in headers["content-security-policy"]
    assert not re.search(r"https?:", page)
    for name in re.findall(r'(?:src|href)="/([\w.]+)"', page):
        assert visitor.get(f"/{name}")[0] == 200
    modules = re.findall(r'rel="modulepreload" href="/([\w.]+)"', page)
    assert sorted([*modules, "review.js"]) == sorted(path.name for path in PAGE_DIR.glob("*.js"))
    for name in [*modules, "review.js"]:
        status, headers, body = visitor.get(f"/{name}")
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/javascript")
        assert not re.search(rb"innerHTML|insertAdjacentHTML|document\.write|eval\(|https?:", body)
    assert visitor.get("/review_app.py")[0] == visitor.get("/../review_set.py")[0] == 404


def test_strangers_and_other_sites_are_refused(planted, serve_set):
    served = serve_set(planted(20))
    visitor = Visitor(served.url)
    body = json.dumps({"cells": "0", "who": "eve", "said": {"label": "top"}}).encode()
    kind = {"content_type": "application/json"}
    refused = [
        visitor.send("POST", "/api/mark", body, **kind, origin="http://evil.example"),
        visitor.send("POST", "/api/mark", body, **kind, host="evil.example"),
        visitor.send("POST", "/api/mark", body, **kind, cookie="fastcell_80=x"),
        visitor.send("POST", "/api/mark", body, content_type="text/plain"),
        visitor.send("GET", f"/?{urlsplit(served.url).query}", cookie=""),  # the link was used
        visitor.send("GET", "/sheet/a/0?size=64", cookie=""),
        visitor.send("GET", "/marks.csv", cookie=""),
    ]
    assert [answer[0] for answer in refused] == [403, 421, 401, 400, 401, 401, 401]
    assert served.data.marking.follow() == 0


def test_views_rows_and_pictures(visitor):
    found = visitor.ask("view", terms=[{"column": "class", "is": ["right"]}], sort="-cell_id")
    assert found["count"] == 67
    rows = visitor.ask("rows", view=found["view"], first=0, count=3)
    assert rows["id"] == [199, 196, 193]
    assert visitor.ask("ids", view=found["view"], first=0, last=1)["cells"] == "196,199"
    assert visitor.ask("place", view=found["view"], cell=193) == {"place": 2}
    assert visitor.ask("place", view=found["view"], cell=0) == {"place": -1}
    status, headers, body = visitor.get(f"/sheet/{found['view']}/1?size=64&stretch=0&common=0")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert cv2.imdecode(np.frombuffer(body, np.uint8), 0).shape == (64, 512)  # the last 3 of 67 cells
    status, headers, body = visitor.get("/cell/5.png")
    assert cv2.imdecode(np.frombuffer(body, np.uint8), -1).shape == (12, 16)
    for path in (
        "/sheet/none/0?size=64",
        f"/sheet/{found['view']}/9?size=64",
        f"/sheet/{found['view']}/0?size=65",
        f"/sheet/{found['view']}/0?size=1e9",
        f"/sheet/{found['view']}/{10**30}?size=64",
        "/cell/200.png",
        f"/cell/{10**30}.png",
        "/cell/-1.png",
    ):
        assert visitor.get(path)[0] == 404, path
    histograms = visitor.ask("histograms", view=found["view"], columns=["class"])
    assert dict(zip(histograms["class"]["names"], histograms["class"]["view"], strict=True))["right"] == 67
    status, _, body = visitor.send(
        "POST",
        "/api/points",
        json.dumps({"view": found["view"], "x": "cell_id", "y": "height"}).encode(),
        content_type="application/json",
    )
    assert (status, int(np.frombuffer(body, "<u4", 1)[0])) == (200, 67)


def test_marks_and_changes(visitor):
    before = visitor.ask("set")["sequence"]
    found = visitor.ask("mark", cells="3-5", who="anna", said={"label": "new"})
    assert (found["marked"], found["classes"]) == (3, ["left", "right", "top", "new"])
    changes = visitor.ask("changes", since=before)
    assert (changes["sequence"], changes["cells"]) == (found["sequence"], [3, 4, 5])
    view = visitor.ask("view", terms=[{"column": "class", "is": ["new"]}])
    assert view["count"] == 3
    assert visitor.ask("mark", cells={"view": view["view"]}, who="anna", said={"tag": "odd"})["marked"] == 3
    assert visitor.ask("back", who="ben", redo=False)["marked"] == 0
    back = visitor.ask("back", who="anna", redo=False)
    assert (back["marked"], back["said"]) == (3, "tag odd")
    assert visitor.ask("classes", names=["later"], who="anna")["classes"][-1] == "later"
    assert visitor.ask("progress")["labelled"] == 3
    assert visitor.ask("cell", cell=4)["history"][0]["who"] == "anna"
    lines = visitor.get("/marks.csv")[2].decode().splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", visitor.ask("next", num=20, how="mixture")["cells"])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("view", {"terms": "class"}),
        ("view", {"terms": [{"column": "nothing", "is": []}]}),
        ("view", {"terms": [], "sort": "nothing"}),
        ("view", {"terms": [{"gate": ["cell_id", "height"], "points": [[0, 0]]}]}),
        ("rows", {"cells": "0-500"}),
        ("rows", {"view": "x", "first": -1, "count": 5}),
        ("cell", {"cell": 200}),
        ("cell", {"cell": "1"}),
        ("cell", {"cell": True}),
        ("occlusion", {"cell": 1}),
        ("mark", {"cells": "0", "who": "anna", "said": {}}),
        ("mark", {"cells": "0", "who": "", "said": {"label": "a"}}),
        ("mark", {"cells": "", "who": "anna", "said": {"label": "a"}}),
        ("mark", {"cells": "0", "who": "anna", "said": "label"}),
        ("classes", {"names": [], "who": "anna"}),
        ("classes", {"names": ["a\u202e"], "who": "anna"}),
        ("next", {"num": 0}),
        ("next", {"num": 5, "how": "best"}),
        ("changes", {"since": -1}),
        ("histograms", {"view": "x", "columns": []}),
    ],
)
def test_odd_requests_get_an_error_in_words(name, values, visitor):
    found = visitor.ask(name, **values)
    assert found["status"] in (400, 410)
    assert len(found["error"]) > 10
    assert "Traceback" not in found["error"]


def test_what_is_no_json_is_refused(visitor):
    for body in (b"{", b"[]", b"\xff", b"[" * 100_000):
        status, _, text = visitor.send("POST", "/api/view", body, content_type="application/json")
        assert (status, json.loads(text)["error"]) == (400, "a request must be a JSON object.")


def test_a_full_disk_is_told(planted, serve_set, monkeypatch):
    served = serve_set(planted(20))
    visitor = Visitor(served.url)

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastcell.dataset.marks.journal._write_all", full)
    found = visitor.ask("mark", cells="0", who="anna", said={"label": "top"})
    assert (found["status"], "No space left" in found["error"]) == (507, True)
    monkeypatch.undo()
    assert visitor.ask("progress")["labelled"] == 0
    assert visitor.ask("mark", cells="0", who="anna", said={"label": "top"})["marked"] == 1
