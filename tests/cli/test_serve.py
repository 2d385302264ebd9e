"""The command ``fastcell serve``, in this process and as one of its own: Python, C++, HTTP, stdin, signals, kills."""

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.live_servers import frame_of, some_cells
from fixtures.processes import living_after
from fixtures.unpacked_files import assert_equal_tables

from fastcell import Client, load
from fastcell.cli.main import main
from fastcell.live.client import ServerGone
from fastcell.live.protocol import Welcome, answer_dtype, client_greeting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "live.md"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "live_client.cpp"
SHAPE = (40, 35)


def run_with(words, visit, capsys):
    """Run the command in the main thread; `visit` gets its addresses in another one, then SIGTERM is sent."""
    failed = []
    text = []

    def watch():
        try:
            limit = time.monotonic() + 60
            while "stream " not in (so_far := "".join(text)):
                assert time.monotonic() < limit, so_far
                text.append(capsys.readouterr().out)
                time.sleep(0.01)
            lines = [line.split() for line in so_far.splitlines()]
            found = {line[0] + ("" if line[0] != "stream" or ":" in line[1] else "-unix"): line[1] for line in lines}
            visit(found)
        except BaseException as error:  # noqa: BLE001, raised in the main thread
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    status = main(["serve", *words])
    thread.join()
    if failed:
        raise failed[0]
    return status


@pytest.fixture
def expected(trained_run):
    return load(trained_run, threads=1).predict_proba


def test_all_clients_get_the_answers_of_predict(trained_run, tmp_path, capsys, expected):
    cells = some_cells(50, shape=SHAPE)
    wanted = expected(cells)
    classes = load(trained_run, threads=1).classes
    path = str(tmp_path / "s")
    scope = {}
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(compile(example, PAGE.name, "exec"), scope)
    of_page = expected(scope["images"])

    def visit(addresses):
        assert addresses["stream-unix"] == path
        for address in (path, addresses["stream"]):
            with Client(address) as client:
                found = client.predict(cells, um_per_px=0.5)
                assert client.classes == classes
                assert client.knows_training
            np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
        labels, probabilities, unsure, _ = scope["classify"](path)
        np.testing.assert_allclose(probabilities, of_page, atol=1e-6)
        assert labels.tolist() == [classes[number] for number in of_page.argmax(axis=1)]
        assert not unsure.any()
        body = io.BytesIO()
        np.save(body, cells)
        request = urllib.request.Request(f"{addresses['http']}classify", body.getvalue(), method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            rows = json.load(answer)["cells"]
        np.testing.assert_allclose([row["probabilities"] for row in rows], wanted, atol=1e-6)
        with urllib.request.urlopen(f"{addresses['http']}metrics", timeout=30) as answer:
            assert "fastcell_cells_answered_total 153\n" in answer.read().decode()

    words = [str(trained_run), "--socket", path, "--port", "0", "--http", "0", "--threads", "1"]
    assert run_with(words, visit, capsys) == 0
    assert not Path(path).exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)")
def test_the_example_in_cpp_gets_the_answers_of_predict(trained_run, tmp_path, capsys, expected):
    program, path, cells = tmp_path / "live_client", str(tmp_path / "s"), some_cells(50, shape=SHAPE)
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, EXAMPLE], check=True)
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    wanted, classes = expected(cells), load(trained_run, threads=1).classes

    def run(width, height, given):
        command = [program, path, str(width), str(height)]
        return subprocess.run(command, input=given, capture_output=True, check=False, timeout=60)

    def visit(addresses):
        done = run(SHAPE[1], SHAPE[0], cells.tobytes())
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.decode().splitlines()]
        assert [int(row[0]) for row in rows] == list(range(len(cells)))
        assert [row[1] for row in rows] == [classes[number] for number in wanted.argmax(axis=1)]
        np.testing.assert_allclose([float(row[2]) for row in rows], wanted.max(axis=1), atol=2e-6)
        none = run(3, 5, b"")
        assert (none.returncode, none.stdout) == (0, b"")
        large = run(4000, 4000, bytes(16_000_000))
        assert large.returncode == 1
        assert b"the server" in large.stderr

    assert run_with([str(trained_run), "--socket", path, "--http", "-1"], visit, capsys) == 0


def test_another_address_needs_the_token(trained_run, tmp_path, capsys):
    secret = tmp_path / "token"
    secret.write_text("a-long-secret\n")

    def visit(addresses):
        port = addresses["stream"].rpartition(":")[2]
        assert addresses["token"] == "a-long-secret"
        with pytest.raises(ServerGone, match="the token is missing or wrong"):
            Client(f"127.0.0.1:{port}")
        with Client(f"127.0.0.1:{port}", token="a-long-secret") as client:
            assert len(client.predict(some_cells(2))) == 2
        base = f"http://127.0.0.1:{addresses['http'].split(':')[2].partition('/')[0]}"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/health", timeout=30)
        assert refused.value.code == 401
        request = urllib.request.Request(f"{base}/health", headers={"Authorization": "Bearer a-long-secret"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["status"] == "ok"

    words = [str(trained_run), "--host", "0.0.0.0", "--port", "0", "--http", "0", "--token_file", str(secret)]
    assert run_with(words, visit, capsys) == 0


def test_unsure_cells_are_flagged(trained_run, capsys, expected):
    cells = some_cells(30, shape=SHAPE)
    confidence = expected(cells).max(axis=1)
    least = float(np.median(confidence))

    def visit(addresses):
        with Client(addresses["stream"]) as client:
            assert client.predict(cells).unsure.tolist() == (confidence < np.float32(least)).tolist()

    words = [str(trained_run), "--port", "0", "--http", "-1", "--min_confidence", repr(least)]
    assert run_with(words, visit, capsys) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--queue", "0"], "--queue must be"),
        (["--threads", "0"], "--threads must be"),
        (["--max_latency_ms", "0"], "--max_latency_ms must be above 0"),
        (["--http", "-2"], "--http must be"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["--host", "192.0.2.1"], "--host must be"),
        (["--when_full", "never"], "--when_full must be"),
        (["--port", "0", "--http", "-1", "--min_confidence", "2"], "--min_confidence must be"),
        (["--port", "0", "--http", "-1", "--window", "9", "3"], "--window must be two grey levels"),
    ],
)
def test_wrong_options_are_named(trained_run, words, message, capsys):
    assert main(["serve", str(trained_run), *words]) == 2
    assert message in capsys.readouterr().err.replace("-", "_").replace("__", "--", 1)


def test_a_short_token_and_a_taken_port_are_named_before_the_run_is_opened(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fastcell.live.live_classifier.open_live", None)
    (tmp_path / "token").write_text("short")
    assert main(["serve", str(trained_run), "--token_file", str(tmp_path / "token")]) == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(trained_run), "--port", str(taken.getsockname()[1])]) == 2
    err = capsys.readouterr().err
    assert "8 to 256" in err
    assert "Another program listens there" in err


def start(words, **options):
    return subprocess.Popen([sys.executable, "-m", "fastcell", "serve", *words], **options)


@pytest.mark.slow
def test_stdin_is_served_and_its_end_ends_the_command(trained_run, tmp_path, expected):
    cells = some_cells(40, shape=SHAPE)
    frames = tmp_path / "frames"
    frames.write_bytes(client_greeting() + b"".join(frame_of(cell, 5 + n) for n, cell in enumerate(cells)))
    with open(frames, "rb") as file:
        process = start([str(trained_run), "--stdin", "--threads", "1"], stdin=file, stdout=-1, stderr=-1)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = Welcome.from_bytes(out)
    assert found is not None
    rows = np.frombuffer(out[found[1] :], answer_dtype(len(found[0].classes)))
    assert rows["id"].tolist() == list(range(5, 45))
    np.testing.assert_allclose(rows["p"], expected(cells), atol=1e-6)
    assert b"40 cells received, 40 classified" in err


@pytest.mark.slow
def test_serve_and_watch_start_without_torch_and_answer_as_predict(prepared_run, tmp_path):
    cells = some_cells(60, shape=SHAPE)
    source, frames = tmp_path / "cells", tmp_path / "frames"
    source.mkdir()
    for number, cell in enumerate(cells):
        cv2.imwrite(str(source / f"{number:02d}.png"), cell)
    frames.write_bytes(client_greeting() + b"".join(frame_of(cell, number) for number, cell in enumerate(cells)))
    code = "import sys; from fastcell.cli.main import main; status = main(sys.argv[1:])\n"
    code += "assert not {'torch', 'lightning'} & set(sys.modules); sys.exit(status)"
    options = ["--backend", "openvino", "--precision", "int8", "--min_confidence", "0.6"]
    answers, table = tmp_path / "answers", tmp_path / "watched.parquet"
    with open(frames, "rb") as given, open(answers, "wb") as taken:
        command = [sys.executable, "-c", code, "serve", str(prepared_run), "--stdin", *options]
        subprocess.run(command, stdin=given, stdout=taken, check=True, timeout=120)
    command = [sys.executable, "-c", code, "watch", str(prepared_run), str(source), "--out", str(table), *options]
    subprocess.run([*command, "--until_idle", "0.5", "--poll", "0.1"], check=True, timeout=120)
    assert main(["predict", str(prepared_run), str(source), "--out", str(tmp_path / "p.parquet"), *options]) == 0
    expected = pq.read_table(tmp_path / "p.parquet")
    assert_equal_tables(pq.read_table(table), expected)
    expected = expected.sort_by("key")
    data = answers.read_bytes()
    welcome = Welcome.from_bytes(data)
    assert welcome is not None
    rows = np.frombuffer(data[welcome[1] :], answer_dtype(len(welcome[0].classes)))
    wanted = np.stack([expected.column(f"p_{name}").to_numpy() for name in welcome[0].classes], axis=1)
    np.testing.assert_allclose(rows["p"], wanted, atol=1e-5)  # batches of other sizes round otherwise
    assert (rows["flags"] & 1 > 0).tolist() == [name == "unsure" for name in expected.column("class").to_pylist()]
    assert (rows["flags"] & 2 > 0).tolist() == expected.column("unlike_training").to_pylist()


def wait_for(path, process):
    limit = time.monotonic() + 120
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(path))
                return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)


@pytest.mark.slow
def test_servers_killed_at_any_moment_lose_nothing_silently(trained_run, tmp_path, expected):
    """20 times: a client that sends what has no answer again ends with one answer for each cell."""
    cells = some_cells(3000, shape=SHAPE)
    rng = random.Random(0)
    answered = {}
    todo = list(range(len(cells)))
    path = tmp_path / "s"
    kills = 0
    words = [str(trained_run), "--socket", str(path), "--http", "-1", "--threads", "1"]
    while todo:
        process = start(words, stdout=-3, start_new_session=True)
        wait_for(path, process)
        ending = signal.SIGKILL if kills % 2 else signal.SIGTERM
        timer = threading.Timer(rng.uniform(0.0, 0.15), process.send_signal, [ending])
        if kills < 20:
            timer.start()
        try:
            with Client(str(path), timeout=60) as client:
                client.send(cells[todo], todo)
                while client.unanswered:
                    for row in client.receive().rows:
                        assert int(row["id"]) not in answered  # nothing twice
                        assert row["status"] == 0
                        answered[int(row["id"])] = row["p"].copy()
        except ServerGone:
            pass
        todo = [number for number in todo if number not in answered]
        kills += 1
        if kills <= 20:
            timer.join()
            assert process.wait(60) == (0 if ending == signal.SIGTERM else -9)
            assert living_after(process.pid, 20) == []
        else:
            process.terminate()
            assert process.wait(60) == 0
        if not todo and kills < 20:
            todo, answered = list(range(len(cells))), {}
    found = np.stack([answered[number] for number in range(len(cells))])
    np.testing.assert_allclose(found, expected(cells), atol=1e-6)


@pytest.mark.slow
def test_clients_killed_at_any_moment_leave_every_cell_counted(trained_run, tmp_path):
    """20 processes of clients are killed: received cells are answered, or listed as those of a lost client."""
    path, log = tmp_path / "s", tmp_path / "dropped.csv"
    words = [str(trained_run), "--socket", str(path), "--http", "0", "--threads", "1", "--drop_log", str(log)]
    process = start(words, stdout=-1)
    wait_for(path, process)
    code = (
        "import sys, numpy as np; from fastcell import Client; client = Client(sys.argv[1])\n"
        "cells = np.zeros((200, 40, 35), np.uint8); print('up', flush=True)\n"
        "while True: client.send(cells); client.receive()"
    )
    rng = random.Random(1)
    for _ in range(20):
        client = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=-1)
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        time.sleep(rng.uniform(0.0, 0.3))
        client.kill()
        client.wait()
    with Client(str(path)) as steady:
        assert (steady.predict(some_cells(100, shape=SHAPE)).status == 0).all()
    process.terminate()
    out = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 0
    (said,) = (line for line in out.splitlines() if "unusable" in line)
    counts = [int(word.replace(",", "")) for word in said.replace(";", " ").split() if word[0].isdigit()]
    received, classified, unusable, dropped, gone = counts[:5]
    assert (unusable, dropped) == (0, 0)
    assert received > 1000
    with open(log) as file:
        assert sum(int(row["cells"]) for row in csv.DictReader(file)) == gone
    assert classified + gone >= received  # cells that were with the network when their client left count twice
