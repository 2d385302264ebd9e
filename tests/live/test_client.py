"""The client of Python: what it sends, and what it says when the server is not there."""

import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from fixtures.live_servers import frame_of, served, some_cells

import fastcell
from fastcell.live.client import Client, ServerGone
from fastcell.live.protocol import MAGIC, Welcome, answer_dtype, client_greeting


def test_importing_the_client_loads_numpy_alone():
    code = (
        "import sys; from fastcell import Client; "
        "print([name for name in ('torch', 'numba', 'cv2', 'pyarrow', 'starlette', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert fastcell.Client is Client


@pytest.mark.parametrize("kind", ["array", "list", "strided", "16 bit"])
def test_the_bytes_sent_are_those_of_the_page(tmp_path, kind):
    cells = some_cells(6)
    if kind == "strided":
        cells = some_cells(6, shape=(40, 34))[:, ::2, ::2]
    if kind == "16 bit":
        cells = cells.astype(np.uint16) * 200
    expected = client_greeting() + b"".join(
        frame_of(np.ascontiguousarray(cell), 10 + n, 20 + n, 0.5) for n, cell in enumerate(cells)
    )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)
    got = []

    def serve():
        connected = listener.accept()[0]
        connected.sendall(Welcome(["a"], False, 1 << 20).to_bytes())
        while data := connected.recv(1 << 16):
            got.append(data)
        connected.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(str(tmp_path / "s")) as client:
        client.send(list(cells) if kind == "list" else cells, range(10, 16), times=range(20, 26), um_per_px=0.5)
        assert client.unanswered == list(range(10, 16))
        assert client.classes == ["a"]
    thread.join()
    listener.close()
    assert b"".join(got) == expected


@pytest.mark.parametrize(
    "cells", [[np.zeros((3, 4), np.float32)], [np.zeros((3, 4, 3), np.uint8)], np.zeros((1, 0, 5), np.uint8)]
)
def test_what_is_no_cell_is_not_sent(tmp_path, cells):
    with served(tmp_path) as running, running.client() as client:
        with pytest.raises(ValueError, match="a cell must"):
            client.send(cells)
        assert client.unanswered == []
        assert client.predict(some_cells(2)).ids.tolist() == [0, 1]


@pytest.mark.parametrize(
    "numbers",
    [
        {"ids": [5]},
        {"times": [1, 2, 3]},
        {"ids": [-1, 2]},
        {"ids": [0.5, 1]},
        {"ids": np.ones(2)},
        {"ids": [1 << 64, 0]},
    ],
)
def test_numbers_that_do_not_fit_are_not_sent(tmp_path, numbers):
    with served(tmp_path) as running, running.client() as client:
        with pytest.raises(ValueError, match="must be 2 whole numbers from 0 to"):
            client.send(some_cells(2), **numbers)
        assert client.unanswered == []
        found = client.predict(some_cells(2), ids=[(1 << 64) - 1, 0], times=np.array([1, 2], np.int32))
        assert found.ids.tolist() == [(1 << 64) - 1, 0]


@pytest.mark.parametrize(
    "greeting",
    [
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + (3).to_bytes(4, "little") + bytes(3),
        MAGIC + (8).to_bytes(4, "little") + b"\2\0" + bytes(6),
        MAGIC + (12).to_bytes(4, "little") + b"\1\0" + bytes(6) + b"\xff\xffab",
        MAGIC,
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_broken_greeting_is_named(greeting):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connected = listener.accept()[0]
        connected.recv(10)
        connected.sendall(greeting)
        connected.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ServerGone, match="refused the connection|instead of a greeting"):
        Client(f"127.0.0.1:{listener.getsockname()[1]}")
    thread.join()
    listener.close()


def test_a_missing_server_is_named(tmp_path):
    with pytest.raises(ServerGone, match="cannot be reached"):
        Client(str(tmp_path / "nothing"))
    with pytest.raises(ServerGone, match="127.0.0.1:1 cannot be reached"):
        Client("127.0.0.1:1")


def test_a_server_that_breaks_off_leaves_the_ids_without_an_answer(tmp_path):
    """The answers that came before are returned; what has none is named once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connected = listener.accept()[0]
        connected.sendall(Welcome(["a", "b"], False, 1 << 20).to_bytes())
        rows = np.zeros(3, answer_dtype(2))
        rows["length"], rows["id"] = 44, [5, 6, 7]
        connected.sendall(rows.tobytes()[:-10])  # the third one is cut
        connected.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with Client(f"127.0.0.1:{listener.getsockname()[1]}") as client:
        thread.join()
        client._waiting.extend([5, 6, 7, 8])  # as if they had been sent before
        assert client.receive(4).ids.tolist() == [5, 6]
        with pytest.raises(ServerGone, match="2 frames have no answer") as gone:
            client.receive(1)
        assert gone.value.unanswered == [7, 8]
    listener.close()


def test_frames_that_wait_forbid_a_prediction(tmp_path):
    with served(tmp_path) as running, running.client() as client:
        client.send(some_cells(2))
        with pytest.raises(ValueError, match="2 frames wait"):
            client.predict(some_cells(1))
        assert len(client.receive(2)) == 2


def test_finish_brings_all_answers(tmp_path):
    with served(tmp_path) as running, running.client() as client:
        client.send(some_cells(300))
        assert sum(map(len, client.finish())) == 300
        assert client.unanswered == []


def test_no_cells_have_no_answers(tmp_path):
    with served(tmp_path) as running, running.client() as client:
        found = client.predict(some_cells(0))
        assert len(found) == 0
        assert found.labels.tolist() == []
