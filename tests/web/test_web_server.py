"""A server that ends cleanly, in the main thread on a signal and in a thread when it is stopped."""

import os
import signal
import sys
import threading
import urllib.request
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fastcell.errors import FastcellError
from fastcell.web.listener import open_listener
from fastcell.web.web_server import WebServer, new_token


async def hello(request):
    return PlainTextResponse("hello")


def app(**options):
    return Starlette(routes=[Route("/", hello)], **options)


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_thread_serves_until_it_is_stopped():
    listener = open_listener()
    server = WebServer(app(), listener)
    server.start()
    assert server.url == f"http://127.0.0.1:{listener.getsockname()[1]}/"
    assert read(server.url) == "hello"
    server.stop()
    assert listener.fileno() == -1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_main_thread_without_an_error(number):
    server = WebServer(app(), open_listener())
    before = signal.getsignal(number)
    seen = []

    def visit():
        seen.append(read(server.url))
        os.kill(os.getpid(), number)

    visitor = threading.Thread(target=visit)
    server.run(visitor.start)
    visitor.join()
    assert seen == ["hello"]
    assert signal.getsignal(number) is before


def test_an_application_that_does_not_start_is_an_error():
    @asynccontextmanager
    async def fails(_):
        raise RuntimeError("no cells")
        yield

    server = WebServer(app(lifespan=fails), open_listener())
    with pytest.raises(FastcellError, match="did not start"):
        server.run(lambda: None)


def test_a_signal_between_the_address_and_the_first_request_ends_it():
    server = WebServer(app(), open_listener())
    server.run(lambda: os.kill(os.getpid(), signal.SIGINT))


def test_the_link_carries_a_token_that_differs_each_time():
    token = new_token()
    assert len(token) >= 32
    assert token != new_token()
    listener = open_listener()
    server = WebServer(app(), listener, token=token, once=True)
    assert server.url.endswith(f"/?token={token}")
    listener.close()


def test_other_machines_need_a_token():
    with open_listener("0.0.0.0") as listener:
        with pytest.raises(ValueError, match="needs a token"):
            WebServer(app(), listener)
        WebServer(app(), listener, token=new_token())


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    for name in list(sys.modules):
        if name.split(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with open_listener() as listener, pytest.raises(FastcellError, match=rf"{package} is not installed.*serve"):
        WebServer(lambda *_: None, listener)
