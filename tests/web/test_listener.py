"""Listening sockets: free ports, taken ports, addresses of other machines."""

import socket

import pytest

from fastcell.errors import ArgumentError
from fastcell.web.listener import address_of, is_loopback, open_listener


def test_a_free_port_of_the_loopback_address_takes_connections():
    with open_listener() as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert port > 1023
        assert address_of(listener) == f"127.0.0.1:{port}"
        assert is_loopback(listener)
        socket.create_connection((host, port), timeout=5).close()


def test_a_taken_port_is_named():
    with open_listener() as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"--port must be free, got {port}. Another program listens there"):
            open_listener(port=port)


def test_a_given_port_is_taken_again_after_its_server_ended():
    with open_listener() as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        accepted = listener.accept()[0]
    accepted.close()  # the server's side closes first: the port stays in TIME_WAIT
    client.close()
    open_listener(port=port).close()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_named(port):
    with pytest.raises(ArgumentError, match=f"--port must be from 0 to 65535, got {port}"):
        open_listener(port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70, ""])
def test_an_address_of_no_machine_or_another_machine_is_named(host):
    with pytest.raises(ArgumentError, match="--host must be an address"):
        open_listener(host)


def test_all_addresses_are_not_the_loopback_one():
    with open_listener("0.0.0.0") as listener:
        assert not is_loopback(listener)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_an_ipv6_address_stands_in_brackets():
    try:
        listener = open_listener("::1")
    except ArgumentError:
        pytest.skip("no IPv6 loopback address on this machine")
    with listener:
        assert address_of(listener).startswith("[::1]:")
        assert is_loopback(listener)
