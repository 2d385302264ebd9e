"""Every contestant of the loader benchmark makes the reference's images, from all cells, in a process of its own."""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"
CELLS = 40
OWN_MODES = [
    ("stream-fused", "jpeg"),
    ("stream-fused", "png"),
    ("stream-fused", "raw"),
    ("stream-fused", "block"),
    ("stream-dali", "jpeg"),
    ("stream-fused-dali", "jpeg"),
    ("stream-fused-threads", "jpeg"),
    ("bank-fused", "block"),
    ("bank-dali", "square"),
    ("webdataset-opencv", "jpeg"),
    ("webdataset-pillow", "jpeg"),
    ("dali", "jpeg"),
    ("memmap", "square"),
    ("tensor", "square"),
]


@pytest.fixture(scope="module")
def loader():
    sys.path.insert(0, str(BENCHMARKS_DIR))
    yield importlib.import_module("loader")
    sys.path.remove(str(BENCHMARKS_DIR))


@pytest.fixture(scope="module")
def data(loader, tmp_path_factory):
    made = loader.Data(tmp_path_factory.mktemp("data"), CELLS)
    made.manifest("jpeg")
    return made


def make_options(loader, data, form, **changed):
    serve = importlib.import_module("serve")
    folder = data.folder / "own" / form
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    values = {"threads": 1, "batch": 16, "size": 128, "device": device, "augment": False, **changed}
    return serve.Options(data.manifest(form).path, folder, **values)


@pytest.mark.parametrize(("mode", "form"), OWN_MODES)
def test_a_way_makes_the_images_of_all_cells(loader, data, mode, form):
    way = importlib.import_module("loader_ways").WAYS[mode](make_options(loader, data, form))
    way.prepare()
    way.open()
    seen = {}
    for images, rows in way.in_order():
        assert images.shape[1:] == (1, 128, 128)
        assert images.dtype == torch.float32
        seen |= dict(zip(np.asarray(rows).tolist(), images.numpy().copy(), strict=True))
    assert sorted(seen) == list(range(CELLS))
    rows = data.jpeg_rows(form)
    references = data.references(rows)
    mean = data.manifest("jpeg").column("mean_intensity")[rows]
    difference = np.abs(np.stack([seen[row] for row in range(CELLS)]) - references) * mean[:, None, None, None]
    assert difference.max() < (0.05 if form == "square" else 3)
    assert difference.mean() < 0.5


@pytest.mark.parametrize("mode", ["limit-read", "limit-decode", "limit-decode-own", "limit-copy", "limit-write"])
def test_limits_go_through_all_cells(loader, data, mode):
    way = importlib.import_module("loader_ways").WAYS[mode](make_options(loader, data, "jpeg"))
    way.open()
    assert way.epoch(0) == (48 if mode == "limit-write" else CELLS)  # whole batches are written


def options_of(loader):
    return argparse.Namespace(cells=CELLS, threads=1, device="cpu", only=None, rounds=1)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_worker_takes_its_turns_and_stands_still_between_them(loader, data):
    entry = loader.Entry("", "tensor", "square", worst=0.05, average=0.01)
    worker = loader.start("tensor", entry, data, options_of(loader))
    try:
        assert 50 < worker.peak_rss_mb < 3000
        assert 0 < worker.first_batch_cold_s < 60
        done = worker()
        assert done.cells == CELLS
        assert 0 < done.first_batch_s <= done.seconds
        assert done.cpu_seconds > 0
        assert done.peak_rss_mb == worker.peak_rss_mb
        until = time.monotonic() + 20
        while state_of(worker.process.pid) != "T" and time.monotonic() < until:
            time.sleep(0.01)
        assert state_of(worker.process.pid) == "T"
        row = loader.contestant("tensor", entry, worker, options_of(loader))
        assert (row.data, row.threads, row.first_batch_cold_s) == (
            "128 x 128, raw in blocks",
            1,
            worker.first_batch_cold_s,
        )
    finally:
        worker.close()
    assert not Path(f"/proc/{worker.process.pid}").exists()


def test_other_images_are_not_timed(loader, data):
    worker_error = importlib.import_module("worker").WorkerError
    strict = loader.Entry("", "stream-fused", "jpeg", worst=0.01)
    with pytest.raises(worker_error, match="its images differ by up to"):
        loader.start("ours", strict, data, options_of(loader))


def test_a_stopped_worker_ends_with_the_benchmark(loader, tmp_path):
    echo = tmp_path / "echo.py"
    echo.write_text(
        "import sys\nprint('{\"packages\": {}}', flush=True)\nfor _ in sys.stdin:\n    print('{}', flush=True)\n"
    )
    script = (
        "import os, sys; from pathlib import Path; from worker import Worker\n"
        "worker = Worker([sys.executable, sys.argv[1]], Path(sys.argv[1] + '.log'))\n"
        "worker.ask('go'); print(worker.process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    path = os.pathsep.join([str(BENCHMARKS_DIR), str(BENCHMARKS_DIR.parent)])
    command = [sys.executable, "-c", script, str(echo)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    until = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}/exe").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{int(done.stdout)}/exe").exists()


@pytest.mark.slow
def test_lost_cells_are_not_timed(loader, data):
    worker_error = importlib.import_module("worker").WorkerError
    options = options_of(loader)
    options.cells = CELLS + 1
    with pytest.raises(worker_error, match=f"gave {CELLS} of {CELLS + 1} cells"):
        loader.start("tensor", loader.Entry("", "tensor", "square"), data, options)


def test_an_absent_peer_says_why(loader, data, monkeypatch, tmp_path):
    worker_error = importlib.import_module("worker").WorkerError
    monkeypatch.delenv("FASTCELL_PEERS_PYTHON", raising=False)
    entry = loader.Entry("", "spdl", program=loader.PEERS)
    monkeypatch.setitem(loader.MODULES, "spdl", "no_such_module")
    with pytest.raises(worker_error, match="not installed here, and FASTCELL_PEERS_PYTHON names no Python"):
        loader.start("SPDL", entry, data, options_of(loader))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named spdl' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("FASTCELL_PEERS_PYTHON", str(python))
    with pytest.raises(worker_error, match="status 1: No module named spdl"):
        loader.start("SPDL", entry, data, options_of(loader))


def test_every_entry_names_a_mode_that_is_there(loader):
    ways = importlib.import_module("loader_ways").WAYS
    spec = importlib.util.spec_from_file_location("streaming_worker", BENCHMARKS_DIR / loader.PEERS)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    source = (BENCHMARKS_DIR / loader.FFCV).read_text()
    ffcv = source[source.index("MODES = (") :].partition(")")[0]
    assert loader.MODULES.keys() >= peers.WAYS.keys()
    for tables in (*loader.PARTS.values(), loader.by_threads(2)):
        for bench, table in tables.items():
            assert set(loader.REFERENCES[bench]) <= table.keys()
            assert bench in loader.TITLES
            for name, entry in table.items():
                there = {loader.OWN: ways, loader.PEERS: peers.WAYS, loader.FFCV: ffcv}[entry.program]
                assert entry.mode in there, name
                assert entry.data in loader.DATA, name


def test_each_of_the_part_threads_is_held_to_its_cores(loader, data):
    table = loader.by_threads(6)["loader-threads"]
    assert [entry.threads for name, entry in table.items() if name.startswith("DALI alone")] == [1, 2, 4]
    before = os.sched_getaffinity(0)
    worker = loader.start("stream", table["fastcell, stream + fused, 1 core"], data, options_of(loader))
    try:
        assert os.sched_getaffinity(worker.process.pid) == {max(before)}
        assert os.sched_getaffinity(0) == before
        assert worker().cells == CELLS
    finally:
        worker.close()


@pytest.mark.slow
def test_a_run_writes_its_tables(loader, data, monkeypatch, tmp_path):
    harness = importlib.import_module("harness")
    save = harness.Result.save
    monkeypatch.setattr(harness.Result, "save", lambda self: save(self, tmp_path))
    monkeypatch.delenv("FASTCELL_FFCV_PYTHON", raising=False)
    options = options_of(loader)
    options.only = ["uint8 tensor", "FFCV"]
    loader.run(loader.PARTS["memory"], data, options)
    names = sorted(path.name.split("-cpu-")[0].split("-gpu-")[0] for path in tmp_path.glob("loader-*.json*"))
    assert names == ["loader-memory", "loader-memory-affine"]
    table = importlib.import_module("table")
    text = table.table("loader-memory", tmp_path)
    assert "| uint8 tensor | 1.00 (1.00..1.00) |" in text
    assert "| limit: write |" in text
    assert "first batch, fresh process" in text
    assert "Left out: FFCV, raw in memory (not installed here, and FASTCELL_FFCV_PYTHON names no Python" in text


@pytest.mark.parametrize("mode", ["webdataset-opencv", "dali"])
def test_what_only_the_comparison_needs_is_not_in_the_first_epoch(loader, data, mode):
    way = importlib.import_module("loader_ways").WAYS[mode](make_options(loader, data, "jpeg"))
    way.prepare()
    manifest = way.__dict__.pop("manifest", None)
    assert (manifest is not None) == (mode == "dali")  # which reads index files, written before
    way.open()
    next(iter(way.epoch(0)))
    assert "manifest" not in way.__dict__


def test_a_benchmark_that_is_asked_to_end_does_not_wait_for_its_worker(loader, tmp_path):
    silent = tmp_path / "silent.py"
    silent.write_text("import time\nprint('{\"packages\": {}}', flush=True)\ntime.sleep(100)\n")
    script = (
        "import signal, sys; from pathlib import Path; from worker import Worker\n"
        "signal.signal(signal.SIGALRM, lambda *_: sys.exit(143)); signal.alarm(1)\n"
        "Worker([sys.executable, sys.argv[1]], Path(sys.argv[1] + '.log')).ask('go')\n"
    )
    path = os.pathsep.join([str(BENCHMARKS_DIR), str(BENCHMARKS_DIR.parent)])
    command = [sys.executable, "-c", script, str(silent)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=60)
    assert done.returncode == 143
