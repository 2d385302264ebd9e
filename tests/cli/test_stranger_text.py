"""No command hands text of a data set, of a file name or of a run to the terminal as it stands."""

import ast
import os
import shutil
import signal
import socket
import tarfile
import threading
import time
import traceback
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import fastcell
from fastcell.cli.main import main
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError, FastcellError, StrictError
from fastcell.inference.classified_cells import ClassifiedCells
from fastcell.inference.classifier import Classifier
from fastcell.loading.preprocessing import Preprocessing
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.storage.staging import staging

PACKAGE = Path(fastcell.__file__).parent
NASTY = "\x1b]0;mine\x07\x1b[2J\x9b31m\r\nFORGED\tline\x08\x7f\u202e\u2066\u200b\u2028FORGED\x85 $\\frac{ | <b>%s {0}"
PATH = NASTY.replace("/", "").encode()[:150].decode("utf-8", "ignore")
CLASSES = [f"{NASTY}{letter}" for letter in "abc"]
SINKS = {"system/messages.py", "system/progress_line.py", "bench/measure.py", "cli/main.py"}
"""Modules that write to stdout or stderr: through `printable`, or texts of their own alone."""


@pytest.fixture(scope="module")
def nasty_set(tmp_path_factory):
    """Data set whose every name is hostile: folder, set, classes, keys, groups, collections, a split."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(120):
        pixels = (rng.integers(0, 60, (12, 16)) + 80 * (number % 3)).astype(np.uint8)
        group = f"{NASTY}{number // 3 % 5}"
        records.append(
            Record(f"{NASTY}{number}.npy", pixels, "raw", CLASSES[number % 3], group, f"{NASTY}{number % 2}")
        )
    sides = np.array(["train", "train", "train", "valid", "test"])[np.arange(120) // 3 % 5]
    out = tmp_path_factory.mktemp("nasty") / PATH
    with staging(out) as folder:
        shard = write_cell_shard(folder / "shard-000000.tar", records, None, CLASSES)
        info = DatasetInfo(NASTY, CLASSES, generator=NASTY)
        return finish_dataset(folder, out, [shard], info, {"default": sides, PATH: sides}).path


@pytest.fixture
def say(capfd):
    """Function that runs a command and returns what it wrote, which must be safe for a terminal."""

    def run(*words, status=0):
        capfd.readouterr()
        found = None
        with suppress(SystemExit):
            found = main([str(word) for word in words])
        out, err = capfd.readouterr()
        check_safe(out)
        check_safe(err)
        assert status is None or found == status, out + err
        return out + err

    return run


def check_safe(text):
    wrong = sorted({letter for letter in text if letter != "\n" and not letter.isprintable()})
    assert wrong == [], text
    assert [line for line in text.split("\n") if line.strip().startswith("FORGED")] == []


def test_tables_and_summaries(nasty_set, say, tmp_path):
    assert "\\x1b]0;mine\\x07" in say("info", nasty_set)
    assert "whole" in say("verify", nasty_set)
    assert "FORGED" in say("split", nasty_set, "--name", "x", "--no-near", "--jobs", "1")
    say("info", nasty_set, "--split-name", f"{NASTY}x", status=2)
    say("info", nasty_set / "none", status=2)
    say("verify", nasty_set, "--list", nasty_set / "none" / "x.csv", status=2)
    say("split", nasty_set, "--group-by", f"{NASTY}:{NASTY}", status=2)
    say("qc", nasty_set, "--verdicts", nasty_set / "none.csv", status=2)
    say(NASTY, status=2)
    for command in ("pack", "index", "synth", "info", "verify", "split", "qc", "report", "explain", "count", "convert"):
        say(command, NASTY, NASTY, f"--{NASTY}", status=2)
        say(command, nasty_set / "none", nasty_set / "none" / "none", status=None)


def test_damaged_cells_are_listed(nasty_set, say, tmp_path):
    manifest = Manifest.open(nasty_set)
    offsets = manifest.column("offset")[:3].tolist()
    broken = shutil.copytree(nasty_set, tmp_path / "broken")
    with open(broken / "shard-000000.tar", "r+b") as shard:
        for offset in offsets:
            shard.seek(offset + 100)
            shard.write(b"\xff\xfe\xfd")
    text = say("verify", broken, status=1)
    assert "3 of 120 cells corrupt" in text
    assert "\\x1b]0;mine" in text


def test_images_and_tars_of_strangers(say, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "images" / f"{PATH}{number % 2}" / f"{PATH}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rng.integers(0, 255, (9, 9)).astype(np.uint8))[1].tobytes())
    for number in range(3):
        (tmp_path / "images" / f"{PATH}0" / f"{PATH}bad{number}.png").write_bytes(b"no image")
    (tmp_path / "images" / f"{PATH}1" / f"{PATH}.xyz").write_bytes(b"?")
    no_text = os.fsencode(tmp_path / "images" / f"{PATH}1") + b"/\xff\x1b[1m.png"
    Path(os.fsdecode(no_text)).write_bytes(b"no image")
    say("pack", tmp_path / "images", tmp_path / "out", "--jobs", "1", "--pattern", "{name}", status=2)
    assert "quarantined" in say("pack", tmp_path / "images", tmp_path / PATH, "--jobs", "1")
    options = ["--pattern", "{group}/{name}", "--collection", NASTY, "--name", NASTY]
    say("pack", tmp_path / "images", tmp_path / "out", "--jobs", "1", *options)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "cells.tar", "w") as tar:
        for path in sorted((tmp_path / "images").rglob("*[0-9].png")):
            tar.add(path, f"{path.parent.name}/{path.name}")
    say("index", tmp_path / "tars", "--pattern", "{class}/{name}", "--jobs", "1")
    say("pack", tmp_path / "images", tmp_path / "out", "--jobs", "1", status=2)
    (tmp_path / "tars" / "cells.tar").rename(tmp_path / "tars" / f"{PATH}.tar")
    text = say("index", tmp_path / "tars", "--overwrite", "--pattern", "{class}/{name}", "--jobs", "1", status=2)
    assert "names of tars must have no control characters" in text


@pytest.mark.slow
def test_training_and_what_follows(nasty_set, say, tmp_path):
    small = ["--data.image_size=16", "--data.threads=1", "--trainer.max_steps=20", "--trainer.max_epochs=-1"]
    say("fit", nasty_set, "--preset=fast", f"--runs={tmp_path / PATH}", *small)
    (run,) = (tmp_path / PATH).iterdir()
    assert "FORGED" in say("predict", run, nasty_set, "--out", tmp_path / "p.parquet")
    for command in ("test", "validate"):
        say(command, run, "--out", tmp_path / f"{command}.csv")
    say("count", tmp_path / "p.parquet", run)
    say("convert", tmp_path / "p.parquet", tmp_path / f"{PATH}.fcs")
    say("convert", tmp_path / "p.parquet", tmp_path / "p.fcs", "--data", nasty_set)
    _watch_and_serve(run, say, tmp_path)
    say("export", run, tmp_path / "m.onnx", "--check", "20")
    say("explain", run, "--cells", "3", "--embed", "30", "--positions", "4")
    say("report", run, "--cells", "10")
    say("audit", nasty_set, run, "--permutations", "20", "--jobs", "1")
    say("qc", nasty_set, "--review", tmp_path / f"{PATH}r", "--jobs", "1", "--apply")
    say("info", nasty_set, "--figures", tmp_path / f"{PATH}f")
    methods = ["--methods", "knn", "--volumes", "1", "--seeds", "1", "--jobs", "1", "--splits", "default"]
    say("compare", nasty_set, "--out", tmp_path / f"{PATH}c", *methods)
    pages = [*tmp_path.rglob("*.html")]
    assert pages
    for path in [*tmp_path.rglob("*.txt"), *tmp_path.rglob("*.md")]:
        check_safe(path.read_text(encoding="utf-8"))
    for path in pages:  # in HTML a line break forges nothing, and a command keeps it between its quotes
        text = path.read_text(encoding="utf-8")
        assert {letter for letter in text if not letter.isprintable()} <= {"\n", "\xa0"}


def _watch_and_serve(run, say, folder):
    source = folder / f"{PATH}w"
    source.mkdir()
    cells = np.random.default_rng(0).integers(0, 255, (5, 12, 16)).astype(np.uint8)
    for number, cell in enumerate(cells):
        (source / f"{PATH}{number}.png").write_bytes(cv2.imencode(".png", cell)[1].tobytes())
    (source / f"{PATH}bad.png").write_bytes(b"no image")
    options = ["--until_idle", "0.3", "--poll", "0.1", "--threads", "1"]
    say("watch", run, source, "--out", folder / f"{PATH}w.csv", *options)
    path = folder / "s"
    pages = []

    def visit():
        limit = time.monotonic() + 100
        try:
            while not path.exists() and time.monotonic() < limit:
                time.sleep(0.05)
            with fastcell.Client(str(path)) as client:
                assert client.classes == CLASSES
                assert len(client.predict(cells)) == 5
            for name in ("", "openapi.json", "metrics", "health"):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=30) as answer:
                    pages.append(answer.read().decode())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    thread = threading.Thread(target=visit)
    thread.start()
    say("serve", run, "--socket", path, "--http", port, "--drop_log", folder / f"{PATH}d.csv")
    thread.join()
    assert len(pages) == 4
    assert "<b>" not in pages[0]
    for text in pages:
        check_safe(text.replace("\xa0", " "))


def test_what_python_shows_of_objects_and_errors(nasty_set):
    """The texts of a notebook and of a traceback."""
    answers = ClassifiedCells(CLASSES, np.eye(3, dtype=np.float32), keys=CLASSES, groups=CLASSES, reasons=CLASSES)
    classifier = Classifier(SimpleNamespace(name="torch", precision="fp32"), CLASSES, Preprocessing(16), "mse",
                            origin=NASTY, scores={"accuracy": {"value": 0.5}})  # fmt: skip
    for found in (answers, classifier, Manifest.open(nasty_set)):
        assert "\\x1b]0;mine" in repr(found)
        for text in (repr(found), found._repr_html_()):
            check_safe(text)
            assert "\n" not in text
    for kind in (FastcellError, ArgumentError, DataError, StrictError):
        check_safe(str(kind(f"class {NASTY} must be known.")))
        check_safe("".join(traceback.format_exception(kind(NASTY))))


def calls(tree):
    """Dotted names of all functions that a module calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_nothing_else_prints():
    """Everything else calls one of the functions that make text safe."""
    writers = {"print", "sys.stdout.write", "sys.stderr.write", "logging.StreamHandler", "traceback.print_exc"}
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if writers & set(calls(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found - SINKS == set()


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree):
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_figure_goes_through_the_function_that_makes_its_names_safe():
    """Titles, legends, ticks and labels: whatever text a figure has when it is saved."""
    savers = {
        (name, function.name): set(calls(function))
        for name, tree in modules()
        for function in functions(tree)
        if any(call.endswith((".savefig", ".print_png", ".print_figure")) for call in calls(function))
    }
    assert {name for name, _ in savers} == {"plots/figure_files.py"}
    assert all("show_names_plainly" in found for found in savers.values())


def test_every_page_goes_through_the_function_that_makes_text_safe():
    """HTML is written by one template, whose every value is made safe, and by `html_text`."""
    environments = [
        (name, {keyword.arg for keyword in node.keywords})
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Environment") and node.keywords
    ]
    assert environments == [("report/page.py", {"loader", "autoescape", "undefined", "finalize"})]
    escapers = {name for name, tree in modules() if {"html.escape", "escape", "markupsafe.escape"} & set(calls(tree))}
    assert escapers <= {"system/text.py"}
    for name, tree in modules():
        for function in functions(tree):
            if function.name == "_repr_html_":
                assert "html_text" in set(calls(function)), name


def test_every_error_for_the_user_has_a_safe_text():
    """Each exception is a `FastcellError`, whose text is made safe, or carries none to the user."""
    inner = {"BadCell", "NeedsWindow", "_Described", "_Terminated", "_LeftOut", "Stopped", "_Stopped"}
    known, others = {"FastcellError"}, set()
    classes = [node for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in range(4):
        known |= {node.name for node in classes if known & {ast.unparse(base).split(".")[-1] for base in node.bases}}
    for node in classes:
        bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
        if node.name not in known and any(base.endswith(("Error", "Exception", "Interrupt", "Exit")) for base in bases):
            others.add(node.name)
    assert others <= inner, others - inner
    raised = {
        ast.unparse(node.exc.func)
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and has_a_name(node.exc)
    }
    assert "SystemExit" not in raised
    assert "Exception" not in raised
    for node in classes:
        texts = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        assert node.name == "FastcellError" or node.name not in known or "__str__" not in texts, node.name


def has_a_name(call):
    """Whether the text of an error has values in it."""
    return any(isinstance(part, ast.FormattedValue) for part in ast.walk(call))
