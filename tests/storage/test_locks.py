"""Locks: held by one process, dropped with it, and replaced by a claim if the file system knows none."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from fastcell.errors import ArgumentError, BusyError
from fastcell.storage.locks import hold_folder, hold_run_folder, release_folder
from fastcell.storage.staging import open_staging, staging


def test_a_folder_is_held_by_one_and_stays_or_goes(tmp_path):
    folder = tmp_path / "some" / "folder"
    handle = hold_folder(folder, "OUT")
    holder = json.loads((folder / "lock").read_text())
    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    with pytest.raises(BusyError, match=f"got 'again', which another run .process {os.getpid()} on "):
        hold_folder(folder, "again")
    release_folder(folder, handle, remove=False)
    assert os.listdir(folder) == ["lock"]
    handle = hold_folder(folder, "OUT")
    (folder / "left").touch()
    release_folder(folder, handle, remove=True)
    assert os.listdir(folder) == ["left"]


def test_a_run_folder_is_held_by_one(tmp_path):
    with hold_run_folder(tmp_path), pytest.raises(ArgumentError, match="--out must be a run that has stopped"):  # noqa: SIM117
        with hold_run_folder(tmp_path, "--out"):
            pass
    assert os.listdir(tmp_path) == []
    with hold_run_folder(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_a_file_system_that_makes_no_folders_is_an_error():
    """/proc answers that the folder does not exist, as if another run had just removed it."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    with pytest.raises(FileNotFoundError), staging(Path("/proc/fastcell-test")):
        pass


def test_a_claim_that_is_a_broken_link_is_an_error(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "claim").symlink_to(tmp_path / "missing")
    monkeypatch.setattr("fastcell.storage.locks._lock", lambda path: None)  # a file system without locks
    with pytest.raises(BusyError, match="or remove .*claim if that run is gone"):
        hold_folder(folder, "OUT")


def test_lock_goes_with_the_process(tmp_path):
    code = (
        "import sys, time\nfrom fastcell.storage.staging import open_staging\n"
        f"with open_staging({str(tmp_path / 'out')!r}) as stage:\n    print('here', flush=True)\n    time.sleep(60)"
    )
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        with pytest.raises(BusyError, match=f"process {child.pid} "), staging(tmp_path / "out"):
            pass
        child.kill()
    with staging(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def test_forked_child_does_not_hold_the_lock(tmp_path):
    with suppress(KeyboardInterrupt), open_staging(tmp_path / "out") as stage:
        stage.begin({})
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.1)
        raise KeyboardInterrupt
    try:
        with staging(tmp_path / "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_folder_that_another_run_is_removing(tmp_path, monkeypatch):
    """Between two looks at it the folder goes, and the lock file in a folder that stays."""
    folder, mkdir, acquire, gone = tmp_path / "folder", os.mkdir, FileLock.acquire, [0, 0]

    def make(path, *args):
        if path == folder and not gone[0]:
            gone[0] = 1
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        mkdir(path, *args)

    def take(lock, **options):
        if not gone[1]:
            gone[1] = 1
            raise Timeout(lock.lock_file)
        return acquire(lock, **options)

    monkeypatch.setattr(os, "mkdir", make)
    monkeypatch.setattr(FileLock, "acquire", take)
    release_folder(folder, hold_folder(folder, "OUT"), remove=True)
    assert gone == [1, 1]
    assert os.listdir(tmp_path) == []
    folder.write_text("a file")
    (tmp_path / "link").symlink_to("nowhere")
    for taken in (folder, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            hold_folder(taken, "OUT")


def test_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    out, claim = tmp_path / "out", tmp_path / ".out.partial" / "claim"
    with staging(out), pytest.raises(BusyError, match=f"process {os.getpid()} .* or remove .*claim"), staging(out):
        pass
    assert os.listdir(tmp_path) == []
    claim.parent.mkdir()
    claim.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01"}))
    with pytest.raises(BusyError, match="process 1 on elsewhere, since 2026-01-01"), staging(out):
        pass
    with subprocess.Popen(["true"]) as gone:
        pass
    claim.write_text(json.dumps({"pid": gone.pid, "host": socket.gethostname()}))
    with staging(out):
        pass
    assert os.listdir(tmp_path) == []
