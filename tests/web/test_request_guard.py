"""Requests that a guarded application gets, and those that it never sees."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fastcell.web.request_guard import CONTENT_POLICY, RequestGuard, host_name


async def size(request):
    return PlainTextResponse(str(len(await request.body())), headers={"Cache-Control": "max-age=60"})


def client(base="http://127.0.0.1:8000", **options):
    app = Starlette(routes=[Route("/{path:path}", size, methods=["GET", "POST"])])
    return TestClient(RequestGuard(app, **options), base_url=base, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:9", "localhost."])
def test_loopback_names_are_answered(host):
    answer = client().get("/", headers={"Host": host})
    assert (answer.status_code, answer.text) == (200, "0")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "[::1].evil.example", "", "evil.example:80"]
)
def test_a_rebound_name_is_refused(host):
    assert client().get("/", headers={"Host": host}).status_code == 421


def test_two_hosts_are_refused():
    assert client().get("/", headers=[("Host", "localhost"), ("Host", "evil.example")]).status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://127.0.0.1:8001", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_is_refused(origin, status):
    assert client().post("/", headers={"Origin": origin}).status_code == status


def test_every_answer_has_the_policy_and_keeps_its_own_headers():
    for answer in (client().get("/"), client().get("/", headers={"Host": "evil"}), client(token="t").get("/")):
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client().get("/").headers.get_list("cache-control") == ["max-age=60"]


def test_a_token_opens_by_header():
    guarded = client(token="secret")
    assert guarded.get("/").status_code == 401
    assert guarded.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/", headers={"Authorization": "Bearer sécret".encode()}).status_code == 401
    assert guarded.get("/", headers={"Authorization": "bearer secret"}).status_code == 200


def test_a_link_leads_to_its_page_and_leaves_a_cookie_of_its_port():
    guarded = client(token="secret")
    answer = guarded.get("/page?cell=7&token=secret")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/page?cell=7"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith("fastcell_8000=")
    assert "secret" not in answer.headers["set-cookie"]
    assert guarded.get("/page?cell=7").status_code == 200
    stranger = client(token="secret")
    assert stranger.get("/", headers={"Cookie": "fastcell_8000=secret"}).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/"])
def test_a_link_never_leads_elsewhere(path):
    answer = client(token="secret").get(f"http://127.0.0.1:8000{path}?token=secret")
    assert answer.headers["location"].startswith("/evil.example")


def test_a_link_of_one_browser_is_used_up():
    guarded = client(token="secret", once=True)
    assert guarded.get("/", headers={"Authorization": "Bearer secret"}).status_code == 401
    assert guarded.get("/?token=secret").status_code == 303
    assert guarded.get("/").status_code == 200
    guarded.cookies.clear()
    answer = guarded.get("/?token=secret")
    assert answer.status_code == 401
    assert "used before" in answer.text


def test_a_link_opens_nothing_for_a_post():
    assert client(token="secret").post("/?token=secret").status_code == 401


def test_other_addresses_take_any_host_with_the_token():
    guarded = client("http://cytometer:9000", any_host=True, token="secret")
    assert guarded.get("/").status_code == 401
    assert guarded.get("/", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_large_body_is_refused_with_and_without_its_length():
    guarded = client(most_body_bytes=10)
    assert guarded.post("/", content=b"0123456789").text == "10"
    assert guarded.post("/", content=b"0123456789a").status_code == 413
    assert guarded.post("/", content=iter([b"012345", b"6789"])).text == "10"
    assert guarded.post("/", content=iter([b"012345", b"6789a"])).status_code == 413


@pytest.mark.parametrize(
    ("host", "name"), [("A.b:1", "a.b"), ("[::1]:2", "[::1]"), ("[::1", ""), ("a:b", ""), ("x.", "x")]
)
def test_the_name_of_a_host_has_no_port(host, name):
    assert host_name(host) == name
