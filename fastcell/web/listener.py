"""Sockets on which a server listens, at a given or a free port, with clear errors if the port cannot be used."""

from __future__ import annotations

import errno
import ipaddress
import socket

from fastcell.errors import invalid

LOOPBACK = "127.0.0.1"

_BACKLOG = 1024


def open_listener(host: str = LOOPBACK, port: int = 0, option: str = "--port", listen: bool = True) -> socket.socket:
    """Return a listening TCP socket.

    Args:
        host: address or name of this machine.
        port: port, 0 to 65535; 0 for a free one.
        option: name of the option that gave the port, for messages.
        listen: False for a socket that only checks the port: nobody can connect to it.

    Raises:
        ArgumentError: the address does not belong to this machine, or the port cannot be used.
    """
    if not 0 <= port <= 65535:
        raise invalid(option, "from 0 to 65535", port, "0 takes a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise invalid("--host", "an address or a name of this machine", host, f"{LOOPBACK} is the usual one") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if listen:
            listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise invalid(option, "free", port, "Another program listens there; 0 takes a free one") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise invalid(option, "one that this user may take", port, "Take one above 1023") from None
        raise invalid("--host", "an address of this machine", host, f"{LOOPBACK} is the usual one") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only programs on this machine can connect."""
    return ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0]).is_loopback


def address_of(listener: socket.socket) -> str:
    """Return ``host:port`` of a socket in the form of a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
