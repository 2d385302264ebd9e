"""Serve an application with uvicorn until SIGTERM or Ctrl-C, in the main thread or in a thread beside it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable

from fastcell.errors import FastcellError
from fastcell.system.optional_packages import require
from fastcell.system.signals import handle_signals
from fastcell.web.listener import address_of, is_loopback
from fastcell.web.request_guard import MOST_BODY_BYTES, AsgiApp, RequestGuard

EXTRA = "serve"
"""Optional dependency group with the packages of a server."""

_END_S = 5


def new_token() -> str:
    """Return a new secret for a server."""
    return secrets.token_urlsafe(24)


class WebServer:
    """An application with access checks on a listening socket.

    Args:
        app: ASGI application, such as one of Starlette; it may have a lifespan.
        listener: listening socket, from `fastcell.web.listener.open_listener`; closed at the end.
        token: secret that requests must contain; None for no token.
        once: the link with the token works in one browser only.
        most_body_bytes: limit of the size of a request.

    Raises:
        FastcellError: starlette or uvicorn is not installed.
        ValueError: a socket other than a loopback one is served without a token.

    Attributes:
        url: address of the first page, with the token if there is one.
    """

    def __init__(
        self,
        app: AsgiApp,
        listener: socket.socket,
        *,
        token: str | None = None,
        once: bool = False,
        most_body_bytes: int = MOST_BODY_BYTES,
    ) -> None:
        require("starlette", EXTRA)
        uvicorn = require("uvicorn", EXTRA)
        elsewhere = not is_loopback(listener)
        if elsewhere and token is None:
            raise ValueError("a server that other machines reach needs a token")
        self.url = f"http://{address_of(listener)}/" + (f"?token={token}" if token else "")
        guarded = RequestGuard(app, any_host=elsewhere, token=token, once=once, most_body_bytes=most_body_bytes)
        config = uvicorn.Config(
            guarded,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_END_S,
        )
        self._listener = listener
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # uvicorn would raise them again at the end
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self, announce: Callable[[], object]) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; requests in progress get 5 s, or none after a second signal.

        Call it in the main thread. The handlers of both signals are restored at the end.

        Args:
            announce: called once both signals end the server, to print its address.

        Raises:
            FastcellError: the application did not start.
        """
        with handle_signals(self._end):
            announce()
            self._serve()
        self._check()

    def start(self) -> None:
        """Serve in a thread until `stop`; the socket accepts connections immediately."""
        self._thread = threading.Thread(target=self._serve, name="web server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the server; after `start`, wait until its thread has ended.

        Raises:
            FastcellError: the application did not start.
        """
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
            self._check()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except SystemExit as error:  # of the lifespan
            self._error = error
        finally:
            self._listener.close()

    def _check(self) -> None:
        if self._error is not None:
            raise FastcellError("the web server did not start. The lines above name the reason.")

    def _end(self) -> None:
        """End after the requests in progress, the second time at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
