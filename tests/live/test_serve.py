"""A whole server in this process: addresses, signals at any time, and what is left behind."""

import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.live_servers import GatedNetwork, frame_of, some_cells
from fixtures.unpacked_files import fixed_classifier

from fastcell.errors import ArgumentError
from fastcell.live.client import Client, ServerGone
from fastcell.live.live_classifier import LiveClassifier
from fastcell.live.protocol import AnswerStatus, Welcome, answer_dtype, client_greeting
from fastcell.live.serve import ServeOptions, check_addresses, serve_cells


def test_a_signal_ends_the_server_after_the_last_answers(tmp_path):
    network = GatedNetwork()
    network.gate.release(100)  # to prepare
    classifier = fixed_classifier()
    classifier.backend = network
    path = str(tmp_path / "s")
    said = []
    found = []

    def visit():
        while len(said) < 3:
            time.sleep(0.005)
        while network.gate.acquire(blocking=False):
            pass
        with Client(path) as client:
            client.send(some_cells(30))
            found.append(gc.get_freeze_count() > 0)
            with urllib.request.urlopen(f"{said[0].split()[1]}health", timeout=20) as answer:
                found.append(answer.status)
            while "fastcell_cells_received_total 30\n" not in read(f"{said[0].split()[1]}metrics"):
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)  # a second one changes nothing
            network.open.set()
            found.append(client.receive(30).ids.tolist())
            with pytest.raises(ServerGone, match="the server has ended"):
                client.predict(some_cells(1))

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.getswitchinterval()
    thread = threading.Thread(target=visit)
    thread.start()
    options = ServeOptions(path, port=0, http_port=0, drop_log=tmp_path / "dropped.csv")
    counts = serve_cells(LiveClassifier(classifier), options, {}, said.append)
    thread.join()
    assert found == [True, 200, list(range(30))]
    assert not gc.get_freeze_count()
    assert [line.split()[0] for line in said] == ["http", "stream", "stream"]
    assert (counts.received, counts.answered, counts.dropped, counts.abandoned) == (30, 30, 0, 0)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), sys.getswitchinterval()) == before
    assert not Path(path).exists()
    assert not (tmp_path / "dropped.csv").exists()


def read(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def test_a_signal_while_the_server_starts_ends_it(tmp_path):
    class Signalling(LiveClassifier):
        def prepare(self):
            os.kill(os.getpid(), signal.SIGTERM)
            super().prepare()

    options = ServeOptions(str(tmp_path / "s"), drop_log=tmp_path / "dropped.csv")
    counts = serve_cells(Signalling(fixed_classifier()), options, {}, lambda line: None)
    assert counts.received == 0


def test_all_sockets_are_closed_where_one_cannot_be_had(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        options = ServeOptions(None, port=port, http_port=taken.getsockname()[1])
        with pytest.raises(ArgumentError, match="--http must be free"):
            serve_cells(LiveClassifier(fixed_classifier()), options, {}, lambda line: None)
        socket.create_server(("127.0.0.1", port)).close()


def test_addresses_are_checked_without_a_socket_that_a_client_could_reach(tmp_path, monkeypatch):
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as other:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "listen", None)
            check_addresses(ServeOptions(str(path), port=0, http_port=0))
            assert not path.exists()
            for wrong in ({"port": taken.getsockname()[1]}, {"http_port": taken.getsockname()[1]}, {"port": 70000}):
                with pytest.raises(ArgumentError, match=f"--{next(iter(wrong)).partition('_')[0]} must be"):
                    check_addresses(ServeOptions(str(path), **wrong))
        other.bind(str(path))
        check_addresses(ServeOptions(str(path)))  # the file that a killed server left
        assert path.exists()
        other.listen()
        with pytest.raises(ArgumentError, match="--socket must be free"):
            check_addresses(ServeOptions(str(path)))


def test_the_limit_of_open_files_is_raised(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = []

    class Looking(LiveClassifier):
        def prepare(self):
            found.append(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.kill(os.getpid(), signal.SIGTERM)

    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        options = ServeOptions(str(tmp_path / "s"), drop_log=tmp_path / "dropped.csv")
        serve_cells(Looking(fixed_classifier()), options, {}, lambda line: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [min(1 << 16, hard)]


def test_other_addresses_get_a_token(tmp_path):
    said = []

    def visit():
        while len(said) < 2:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=visit)
    thread.start()
    options = ServeOptions(None, host="0.0.0.0", port=0, drop_log=tmp_path / "d.csv")
    serve_cells(LiveClassifier(fixed_classifier()), options, {}, said.append)
    thread.join()
    assert said[1].startswith("token   ")
    assert len(said[1].split()[1]) >= 32


def test_standard_input_is_served_and_its_end_ends_the_server(tmp_path, monkeypatch):
    cells = some_cells(40)
    (tmp_path / "in").write_bytes(client_greeting() + b"".join(frame_of(cell, 5 + n) for n, cell in enumerate(cells)))
    options = ServeOptions(None, stdin=True, drop_log=tmp_path / "d.csv")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sink))
        counts = serve_cells(LiveClassifier(fixed_classifier()), options, {}, lambda line: None)
    assert (counts.received, counts.answered) == (40, 40)
    data = (tmp_path / "out").read_bytes()
    welcome = Welcome.from_bytes(data)
    assert welcome is not None
    rows = np.frombuffer(data[welcome[1] :], answer_dtype(2))
    assert rows["id"].tolist() == list(range(5, 45))
    np.testing.assert_allclose(rows["p"], fixed_classifier().predict(cells).probabilities, atol=1e-6)


def test_a_signal_ends_a_server_whose_standard_input_stays_open(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.live.connection.LINGER_S", 0.2)
    reading, writing = os.pipe()
    os.write(writing, client_greeting() + frame_of(some_cells(1)[0], 9))
    options = ServeOptions(None, stdin=True, drop_log=tmp_path / "d.csv")
    with open(reading, "rb") as source, open(tmp_path / "out", "wb") as sink:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sink))
        answer = answer_dtype(2).itemsize

        def end():
            limit = time.monotonic() + 60
            while (tmp_path / "out").stat().st_size <= answer and time.monotonic() < limit:  # a greeting and an answer
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=end)
        thread.start()
        counts = serve_cells(LiveClassifier(fixed_classifier()), options, {}, lambda line: None)
        thread.join()
        os.close(writing)
        time.sleep(0.05)  # the thread that reads ends with the pipe
    assert counts.answered == 1
    data = (tmp_path / "out").read_bytes()
    assert data[-40 + 4] == AnswerStatus.END
