"""The command: export, errors, and a server that ends on a signal, or is killed while it is marked."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from fixtures.golden_files import run_command
from fixtures.review_pages import until, wait_text

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark, append_marks
from fastcell.web.web_server import WebServer


def test_export(planted, tmp_path, capsys):
    data = planted(20)
    append_marks(data.path, data.table, lambda: [Mark.now("anna", np.array([3]), label="top", tag="odd")])
    out = tmp_path / "marks.csv"
    status, text, _ = run_command(["review", str(data.path), "--export", str(out)], capsys)
    assert status == 0
    assert "1 cells" not in text
    assert "(1 cell)" in text
    assert "next: fastcell fit" in text
    assert out.read_text().splitlines()[1].startswith("3,")
    before = (data.path / "manifest.parquet").read_bytes()
    status, _, _ = run_command(["review", str(data.path), "--export", str(data.path / "manifest.parquet")], capsys)
    assert status == 2
    assert (data.path / "manifest.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--export", "marks.xlsx"], ".csv or .parquet"),
        (["--export", "a.csv", "--classes", "a"], "--export must be given alone"),
        (["--select", "nothing=1"], "column must be one of the tables"),
        (["--select", "sort=nothing"], "column must be one of the tables"),
        (["--select", "nothing.csv"], "Check the path"),
        (["--select", "quality"], "--select must be a file or a query"),
        (["--classes", "a\u202eb"], "class must be"),
        (["--who", ""], "who must be"),
        (["--port", "70000"], "--port"),
        (["no-run"], "no-run"),
        (["--split-name", "other"], "other"),
    ],
)
def test_slips(words, says, planted, capsys, monkeypatch):
    data = planted(20)
    monkeypatch.setattr(WebServer, "run", lambda server: pytest.fail("the page is served"))
    monkeypatch.chdir(data.path.parent)
    status, _, error = run_command(["review", str(data.path), *words], capsys)
    assert (status, "Traceback" in error) == (2, False)
    assert says in error
    assert not (data.path / "marks.jsonl").exists()


@contextmanager
def started(data, *words):
    command = [sys.executable, "-m", "fastcell", "review", str(data), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


@pytest.mark.slow
def test_ends_on_a_signal_and_says_what_is_next(planted):
    data = planted(20)
    with started(data.path, "--classes", "one,two") as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}", url)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=30) == 0
    assert "ssh -L" in out
    assert "next: fastcell fit" in out
    assert json.loads((data.path / "marks.jsonl").read_text().splitlines()[1])["classes"] == ["one", "two"]


@pytest.mark.slow
def test_kill_loses_nothing_that_was_acknowledged(planted, chromium):
    """A page marks as fast as it can; the server is killed at a random moment, several times."""
    data = planted(600)
    shown = {}
    for turn in range(3):
        with started(data.path) as (process, url):
            page = chromium.new_page()
            answers = []
            page.on("response", lambda answer, found=answers: found.append(answer))
            page.goto(url)
            until(page, "() => document.querySelector('#cell-3 .said')?.textContent")
            for _ in range(200 * turn):
                page.keyboard.press("ArrowRight")
            for number in range(20 + 15 * turn):
                page.keyboard.press(str(number % 3 + 1))
            until(page, "() => /labelled [1-9]/.test(document.querySelector('#progress').textContent)")
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=20)
            wait_text(page, "#message", "The server does not answer. Marks that were not confirmed are not stored.")
            for answer in answers:
                if not (answer.ok and answer.url.endswith("/api/mark")):
                    continue
                asked = json.loads(answer.request.post_data)
                shown[int(asked["cells"])] = asked["said"]["label"]
            page.close()
        assert len(shown) > 0
        now = Manifest.open(data.path)
        names = now.column("class")
        assert {cell: names[cell] for cell in shown} == shown
