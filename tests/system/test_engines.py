import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastcell import __version__
from fastcell.cli.main import main
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.system.engines import use_engine
from fastcell.system.worker_processes import run_tasks


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folder of 60 images of two classes."""
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp("images") / "images"
    rng = np.random.default_rng(0)
    for number in range(60):
        path = folder / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (20, 30)).astype(np.uint8))
    return folder


@pytest.fixture
def cluster():
    """Address of a Dask scheduler with two workers of this machine, and the cluster."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address, cluster


def test_no_engine_is_the_way_of_the_command():
    with use_engine(None, None, 3) as jobs:
        assert jobs == 3


def test_a_scheduler_is_of_dask():
    with (
        pytest.raises(ArgumentError, match="--scheduler must be given with --backend dask, got 'tcp://x:1'"),
        use_engine("loky", "tcp://x:1", None),
    ):
        pass


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_scheduler_that_is_not_there(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("fastcell.system.engines._TIMEOUT_S", 0.3)
    with (
        pytest.raises(ArgumentError, match=f"--scheduler must be a Dask scheduler, got '{address}'"),
        use_engine("dask", address, None),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "reason"), [(None, "timed out"), (b"", "it closes the connection"), (b"HTTP", ".*")]
)
def test_a_server_that_is_no_scheduler(answer, reason, monkeypatch):
    """One that says nothing, one that closes the connection, and one that speaks another language."""
    pytest.importorskip("distributed")
    monkeypatch.setattr("fastcell.system.engines._TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=serve, args=(server, answer), daemon=True).start()
        rule = f"--scheduler must be a Dask scheduler, got '{address}' \\({reason}\\)"
        with pytest.raises(ArgumentError, match=rule), use_engine("dask", address, None):
            pass


def serve(server, answer):
    connections = []
    while True:
        try:
            connections.append(server.accept()[0])
        except OSError:
            return
        if answer is not None:
            connections[-1].sendall(answer * 100)
            connections.pop().close()


def test_a_client_that_failed_is_gone_at_once(monkeypatch):
    """Collected later, while another client starts, it would wait for the lock of that one for ever."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("fastcell.system.engines._TIMEOUT_S", 0.3)
    gc.collect()
    with pytest.raises(ArgumentError), use_engine("dask", "nonsense", None):
        pass
    assert not [one for one in gc.get_objects() if type(one) is distributed.Client]


def killed_once(task):
    """Return the square of a number; the first call for 2 kills its process."""
    folder, number = task
    if number == 2 and not Path(folder, "killed").exists():
        Path(folder, "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.slow
def test_tasks_of_a_killed_process_are_done_again(tmp_path):
    with use_engine("loky", None, 2):
        assert list(run_tasks(killed_once, [(str(tmp_path), number) for number in range(6)], None)) == [
            0,
            1,
            4,
            9,
            16,
            25,
        ]
    assert (tmp_path / "killed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["cell", "block"])
def test_engines_give_the_files_of_one_process(images, tmp_path, layout, cluster, capsys):
    words = ["pack", str(images), "--shard-cells", "10", "--layout", layout]
    words += ["--block-cells", "5"] if layout == "block" else []
    ways = {
        "alone": ["--jobs", "1"],
        "loky": ["--backend", "loky", "--jobs", "2"],
        "dask": ["--backend", "dask", "--scheduler", cluster[0]],
    }
    for name, way in ways.items():
        out = tmp_path / name / "cells"
        out.parent.mkdir()
        assert main([*words[:2], str(out), *words[2:], *way]) == 0
        capsys.readouterr()
        assert main(["verify", str(out), *way]) == 0
        assert "whole: 60 cells" in capsys.readouterr().out
        assert main(["qc", str(out), *way]) == 0
    assert files(tmp_path / "loky") == files(tmp_path / "alone")
    assert files(tmp_path / "dask") == files(tmp_path / "alone")
    path = Manifest.open(tmp_path / "dask" / "cells").shard_path(1)
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    found = []
    for way in ways.values():
        assert main(["verify", str(path.parent), *way]) == 1
        found.append(capsys.readouterr().out.split("damaged, ")[0])
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_a_killed_worker_costs_only_time(images, tmp_path, cluster):
    words = [str(images), "--shard-cells", "2"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "dask").mkdir()
    assert main(["pack", words[0], str(tmp_path / "alone" / "cells"), *words[1:], "--jobs", "1"]) == 0
    address, running = cluster
    out = tmp_path / "dask" / "cells"
    victim = next(iter(running.workers.values())).pid

    def kill_at_work():
        while not list(out.parent.rglob("*.saved")):
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_at_work, daemon=True)
    killer.start()
    assert main(["pack", words[0], str(out), *words[1:], "--backend", "dask", "--scheduler", address]) == 0
    killer.join(10)
    assert not killer.is_alive()
    assert files(tmp_path / "dask") == files(tmp_path / "alone")


@pytest.mark.slow
def test_workers_have_one_thread():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        pytest.raises(ArgumentError, match="whose workers have one thread each.*--nthreads 1"),
        use_engine("dask", cluster.scheduler_address, None),
    ):
        pass


@pytest.mark.slow
def test_workers_that_cannot_do_the_work(cluster, tmp_path, monkeypatch):
    """Workers of another version, and workers that do not see a file of this machine."""
    address = cluster[0]
    with use_engine("dask", address, None, reads=[tmp_path, "s3://bucket/cells"], writes=tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    own = os.dup2(os.open(tmp_path, os.O_RDONLY), 900)
    try:
        rule = f"--scheduler must be one whose workers see /dev/fd/{own}, got '{address}: tcp://.* sees none'"
        with pytest.raises(ArgumentError, match=rule), use_engine("dask", address, None, reads=[f"/dev/fd/{own}"]):
            pass
        rule = "whose workers see /proc/self/fdinfo, got .* sees another'"
        with pytest.raises(ArgumentError, match=rule), use_engine("dask", address, None, reads=["/proc/self/fdinfo"]):
            pass
    finally:
        os.close(own)
    monkeypatch.setattr("fastcell.system.engines.__version__", "9.9")
    rule = f"whose workers have fastcell 9.9, got '{address} with {__version__} on tcp://.*Install the same version"
    with pytest.raises(ArgumentError, match=rule), use_engine("dask", address, None):
        pass


@pytest.mark.slow
def test_scheduler_and_workers_of_their_own(images, tmp_path):
    """The processes that the manual starts by hand."""
    pytest.importorskip("distributed")
    file = ["--scheduler-file", str(tmp_path / "file.json"), "--no-dashboard"]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *file]
    scheduler = subprocess.Popen(command)
    while not (tmp_path / "file.json").exists():
        assert scheduler.poll() is None
        time.sleep(0.05)
    address = json.loads((tmp_path / "file.json").read_text())["address"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [subprocess.Popen(command) for _ in range(2)]
    try:
        way = ["--backend", "dask", "--scheduler", address]
        assert main(["pack", str(images), str(tmp_path / "cells"), "--shard-cells", "20", *way]) == 0
        assert main(["verify", str(tmp_path / "cells"), *way]) == 0
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait()
