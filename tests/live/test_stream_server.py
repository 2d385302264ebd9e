"""The stream server with real sockets: order, values, limits, clients that break off or send garbage, a clean end."""

import csv
import os
import random
import resource
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fixtures.live_servers import GatedNetwork, frame_of, served, some_cells

from fastcell.errors import ArgumentError
from fastcell.live import connection as connection_module
from fastcell.live.client import ServerGone
from fastcell.live.protocol import ANSWER_BYTES, AnswerStatus, client_greeting, closing_message
from fastcell.live.stream_server import open_unix_listener


def until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.005)


def test_answers_are_those_of_the_classifier_in_order(tmp_path):
    cells = [cell for n in range(60) for cell in some_cells(1 + 9 * (n % 2), n, (9 + n % 5, 8 + n % 7))]
    with served(tmp_path, workers=3, min_confidence=0.6) as running, running.client() as client:
        found = client.predict(cells, ids=range(1000, 1000 + len(cells)), times=range(len(cells)))
        expected = running.live.classifier.predict(cells)
    assert found.ids.tolist() == list(range(1000, 1000 + len(cells)))
    assert found.rows["time"].tolist() == list(range(len(cells)))
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6, rtol=0)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.unsure.tolist() == (expected.confidence < 0.6).tolist()
    assert 0 < found.unsure.sum() < len(cells)
    assert (found.status == AnswerStatus.ANSWERED).all()
    assert running.metrics.answered == running.metrics.received == len(cells)


def test_16_bit_cells_need_a_window(tmp_path):
    deep = np.random.default_rng(0).integers(100, 3000, (5, 11, 12), dtype=np.uint16)
    mixed = [deep[0], some_cells(1)[0], *deep[1:]]
    with served(tmp_path) as running, running.client() as client:
        found = client.predict(mixed)
        assert found.status.tolist() == [2, 0, 2, 2, 2, 2]
        assert found.labels[0] == ""
        assert np.isnan(found.probabilities[0]).all()
        assert running.metrics.unusable == 5
    folder = tmp_path / "window"
    folder.mkdir()
    with served(folder, window=(100, 3000)) as running, running.client() as client:
        found = client.predict(mixed)
        expected = running.live.classifier.predict(mixed, window=(100, 3000))
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6, rtol=0)


def test_many_clients_get_their_own_answers(tmp_path):
    wrong = []

    def ask(number):
        with running.client() as client:
            for turn in range(5):
                cells = some_cells(40, number * 10 + turn)
                found = client.predict(cells)
                expected = running.live.classifier.predict(cells).probabilities
                wrong.append(int((np.abs(found.probabilities - expected) > 1e-6).sum()))

    with served(tmp_path, workers=2, queue=64) as running:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == [0] * 30


def test_a_full_queue_drops_the_newest_in_their_place_and_lists_them(tmp_path):
    network = GatedNetwork()
    with served(tmp_path, network, queue=10, when_full="drop") as running, running.client() as client:
        cells = some_cells(30)
        client.send(cells[:1], [0])
        until(lambda: running.metrics.received == 1 and not running.batches.waiting)  # it is with the network
        client.send(cells[1:], range(1, 30))
        until(lambda: running.metrics.dropped == 19)
        network.open.set()
        found = client.receive(30)
    assert found.ids.tolist() == list(range(30))
    assert found.status.tolist() == [0] * 11 + [1] * 19
    assert (found.rows["class"][11:] == -1).all()
    assert running.metrics.received == 30
    with open(running.log) as file:
        rows = list(csv.DictReader(file))
    assert [(row["first_id"], row["last_id"], row["cells"], row["reason"]) for row in rows] == [
        ("11", "29", "19", "queue full")
    ]


def test_a_full_queue_makes_senders_wait_and_drops_nothing(tmp_path):
    network = GatedNetwork()
    with served(tmp_path, network, queue=10, when_full="wait") as running, running.client() as client:
        cells = some_cells(600, shape=(100, 100))
        sender = threading.Thread(target=client.send, args=(cells,))
        sender.start()
        until(lambda: running.batches.waiting == 10)
        time.sleep(0.1)
        assert running.batches.waiting <= 10
        network.open.set()
        sender.join(20)
        found = client.receive(600)
    assert found.ids.tolist() == list(range(600))
    assert (found.status == AnswerStatus.ANSWERED).all()
    assert not running.log.exists()


HOSTILE = {
    "garbage": os.urandom(5000),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "wrong version": b"FCELLS9\n\0\0",
    "long token": b"FCELLS1\n\xff\xff",
    "zero length": client_greeting() + bytes(64),
    "huge length": client_greeting() + b"\xff" * 64,
    "too large": client_greeting() + (28 + 60000 * 60000).to_bytes(4, "little") + b"\x60\xea\x60\xea\x08" + bytes(23),
    "good, then garbage": client_greeting() + frame_of(some_cells(1)[0]) + b"\xff" * 64,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_garbage_is_an_error_for_its_client_alone(tmp_path, name):
    with served(tmp_path) as running, running.client() as other:
        other.send(some_cells(3))
        hostile = running.raw()
        hostile.sendall(HOSTILE[name])
        data = b""
        while piece := hostile.recv(4096):
            data += piece
        hostile.close()
        at = data.find(b" must be")
        if at < 0:
            at = max(data.find(b" must have"), data.find(b" must start"))
        assert at > 0
        assert other.receive(3).ids.tolist() == [0, 1, 2]
        assert other.predict(some_cells(2)).status.tolist() == [0, 0]
        if name == "good, then garbage":
            welcome = 8 + 4 + 8 + 2 * 3
            answer = np.frombuffer(data[welcome : welcome + ANSWER_BYTES], "<u2")
            assert answer[2] == AnswerStatus.ANSWERED
    assert running.metrics.client_errors == 1


def test_a_stream_that_ends_inside_a_frame_is_an_error_after_its_answers(tmp_path):
    with served(tmp_path) as running:
        short = running.raw()
        short.sendall(client_greeting() + frame_of(some_cells(1)[0], 5) + frame_of(some_cells(1)[0], 6)[:-1])
        short.shutdown(socket.SHUT_WR)
        data = b""
        while piece := short.recv(4096):
            data += piece
        short.close()
    assert data.endswith(b"the stream ended inside a frame")
    assert running.metrics.answered == 1


def test_a_client_that_waits_within_a_frame_keeps_nobody_waiting(tmp_path):
    """Nor the end of the server, which answers what is whole and sends the last message."""
    cells = some_cells(3)
    with served(tmp_path) as running:
        slow = running.raw()
        slow.sendall(client_greeting() + frame_of(cells[0], 5) + frame_of(cells[1], 6)[:100])
        with running.client() as client:
            assert client.predict(cells).status.tolist() == [AnswerStatus.ANSWERED] * 3
        until(lambda: running.metrics.answered == 4)
        slow.sendall(frame_of(cells[1], 6)[100:] + frame_of(cells[2], 7)[:20])
        until(lambda: running.metrics.answered == 5)
        begin = time.monotonic()
        running.server.stop()
        data = b""
        while piece := slow.recv(4096):
            data += piece
        slow.close()
        running.thread.join(20)
        assert time.monotonic() - begin < 10
    assert len(data.removesuffix(closing_message(AnswerStatus.END))) < len(data)
    assert running.metrics.received == 5


def test_a_client_that_says_nothing_is_sent_away(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.live.stream_server.GREETING_S", 0.2)
    with served(tmp_path) as running, running.raw() as silent:
        assert b"no greeting came" in silent.recv(4096)


def test_a_client_without_the_token_is_sent_away(tmp_path):
    with served(tmp_path, token="secret") as running:
        with pytest.raises(ServerGone, match="the token is missing or wrong"):
            running.client()
        with pytest.raises(ServerGone, match="the token is missing or wrong"):
            running.client(token="secretly")
        with running.client(token="secret") as client:
            assert len(client.predict(some_cells(2))) == 2


def test_idle_connections_cost_nobody_anything(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1000
    if hard < 2 * wanted + 200:
        pytest.skip(f"{hard} open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * wanted + 200), hard))
    try:
        with served(tmp_path) as running:
            idle = [running.raw() for _ in range(wanted)]
            for connected in idle[: wanted // 2]:
                connected.sendall(client_greeting())
            until(lambda: running.metrics.clients == wanted)
            with running.client() as client:
                found = client.predict(some_cells(500))
                assert found.ids.tolist() == list(range(500))
                begin = time.thread_time()
                assert len(client.predict(some_cells(1))) == 1
                assert time.thread_time() - begin < 5
            for connected in idle:
                connected.close()
            until(lambda: running.metrics.clients == 0)
            assert running.metrics.client_errors == wanted // 2  # those that had not greeted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def listed(log):
    """Number of cells in a list of drops."""
    if not log.exists():
        return 0
    with open(log) as file:
        return sum(int(row["cells"]) for row in csv.DictReader(file))


def test_clients_that_break_off_at_any_moment_leave_the_others_alone(tmp_path):
    rng = random.Random(0)
    data = client_greeting() + b"".join(frame_of(cell, number) for number, cell in enumerate(some_cells(300)))
    with served(tmp_path, queue=100) as running, running.client() as steady:
        for turn in range(20):
            broken = running.raw()
            broken.sendall(data[: rng.randrange(len(data))])
            if rng.random() < 0.5:
                broken.recv(rng.randrange(1, 5000))
            steady.send(some_cells(20, turn), range(turn * 20, turn * 20 + 20))
            broken.close()
            assert steady.receive(20).ids.tolist() == list(range(turn * 20, turn * 20 + 20))
        until(lambda: running.metrics.clients == 1)
        counts = running.metrics
        until(lambda: running.batches.waiting == 0)
    assert counts.abandoned == listed(running.log)
    assert counts.answered + counts.abandoned == counts.received >= 400  # each cell once
    assert counts.dropped == 0


def test_a_client_that_never_reads_stops_itself_only(tmp_path, monkeypatch):
    monkeypatch.setattr(connection_module, "MOST_UNSENT_BYTES", 1 << 14)
    monkeypatch.setattr("fastcell.live.stream_server._SOCKET_BYTES", 1 << 14)
    with served(tmp_path) as running, running.client() as other:
        greedy = running.raw()
        greedy.setblocking(False)
        frame = client_greeting()
        sent = 0
        quiet = time.monotonic()
        while time.monotonic() - quiet < 0.5:
            try:
                sent += greedy.send(frame)
                frame = frame_of(some_cells(1, 0, (2, 2))[0]) * 100
                quiet = time.monotonic()
            except BlockingIOError:
                time.sleep(0.005)
            assert sent < 50 << 20
        (held,) = [one for one, _ in running.server._connections.values() if one.unsent]
        assert len(held.unsent) < 1 << 20
        assert len(other.predict(some_cells(3))) == 3
        greedy.close()


def test_wakes_of_workers_are_never_lost(tmp_path):
    """A wake between the two steps of clearing the last one must wake again."""
    with served(tmp_path) as running:
        running.server.stop()
        running.thread.join(20)
    first, second = socket.socketpair()
    server = running.server
    server._woken, server._waker = first, second

    class Between:
        """Socket whose reader is overtaken by a worker."""

        def recv(self, num):
            data = first.recv(num)
            server._wake()
            return data

    server._is_woken = False
    server._wake()
    server._woken = Between()
    server._clear()
    server._wake()
    first.setblocking(False)
    assert first.recv(64) == b"x"
    first.close()
    second.close()


def test_without_open_files_left_others_are_served_and_the_next_one_later(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    late.settimeout(20)
    with served(tmp_path) as running, running.client() as steady, late:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # accept needs one more
        try:
            late.connect(running.path)
            late.sendall(client_greeting())
            found = [steady.predict(some_cells(5, number)) for number in range(20)]
            assert running.metrics.clients == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert [len(one) for one in found] == [5] * 20
        assert late.recv(8) == b"FCELLS1\n"


def test_a_drain_lasts_as_long_as_batches_come(tmp_path, monkeypatch):
    """Its limit is a time without a batch, not the whole time; what is left then is listed."""
    monkeypatch.setattr("fastcell.live.stream_server.DRAIN_S", 0.3)
    network = GatedNetwork()
    with served(tmp_path, network) as running, running.client() as client:
        client.send(some_cells(20))
        until(lambda: running.metrics.received == 20)
        begin = time.monotonic()
        running.server.stop()
        while running.metrics.batches < 4:
            network.gate.release()
            time.sleep(0.15)
        assert running.thread.is_alive()
        running.thread.join(20)
        assert time.monotonic() - begin > 0.6
    assert running.metrics.answered + running.metrics.abandoned == 20
    with open(running.log) as file:
        assert {row["reason"] for row in csv.DictReader(file)} == {"server ended"}
    assert listed(running.log) == running.metrics.abandoned > 0


def test_the_end_of_the_server_brings_the_last_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(connection_module, "LINGER_S", 0.2)
    network = GatedNetwork()
    with served(tmp_path, network) as running:
        client = running.client()
        client.send(some_cells(50))
        until(lambda: running.metrics.received == 50)
        running.server.stop()
        time.sleep(0.05)
        network.open.set()
        found = client.receive(50)
        assert found.ids.tolist() == list(range(50))
        running.thread.join(20)
        with pytest.raises(ServerGone, match="the server has ended; 1 frames have no answer") as ended:
            client.predict(some_cells(1), ids=[77])
        assert ended.value.unanswered == [77]
        client.close()


def test_a_socket_path_in_use_is_an_error_and_a_left_one_is_replaced(tmp_path):
    path = str(tmp_path / "s")
    listener = open_unix_listener(path)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with pytest.raises(ArgumentError, match="--socket must be free"):
        open_unix_listener(path)
    listener.close()
    open_unix_listener(path).close()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="--socket"):
        open_unix_listener(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ArgumentError, match="--socket"):
        open_unix_listener(str(tmp_path / ("x" * 200)))
