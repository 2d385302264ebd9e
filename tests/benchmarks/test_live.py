"""Latency of a server: the server that is measured is the one that was started."""

import socket

import pytest


def test_a_socket_of_another_server_is_not_measured(program, trained_run, tmp_path, capfd):
    live = program("live")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "live.sock"))
        other.listen()
        with pytest.raises(SystemExit, match="the server did not start"):
            live.Server(str(trained_run), [], tmp_path, None)
    assert "--socket must be free" in capfd.readouterr().err
