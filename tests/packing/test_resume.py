"""pack, index and synth, killed at any moment: a rerun makes the bytes of an unbroken run, and no more than is left."""

import errno
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastcell.cli import main as cli
from fastcell.errors import DataError
from fastcell.packing import read_tars, write_shards
from fastcell.packing.index import index
from fastcell.packing.pack import SourceRecords, pack
from fastcell.simulator import synth
from fastcell.simulator.synth import make_default_dataset, synthesize
from fastcell.sources import registry
from fastcell.storage.staging import open_staging

COMMANDS = ["pack", "pack-block", "index", "synth"]


def draw(seed, side):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    return cv2.imencode(".png", cv2.blur(noise, (3, 3)))[1].tobytes()


def write_images(root, num, side):
    data = [draw(i, side) for i in range(min(num, 20))]
    for i in range(num):
        path = root / f"c{i % 3}" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[i % len(data)])
    return root


def write_tars(root, images, num):
    root.mkdir()
    paths = sorted(images.rglob("*.png"), key=lambda path: path.name)
    for i, part in enumerate(np.array_split(np.arange(len(paths)), num)):
        with tarfile.open(root / f"t-{i:03d}.tar", "w") as file:
            for number in part:
                file.add(paths[number], f"{paths[number].parent.name}/{paths[number].name}")
    return root


def snapshot(folder):
    """Every file below `folder`, hidden ones too, but for the tars that were given."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("t-")
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """300 images that take some ms each."""
    return write_images(tmp_path_factory.mktemp("resume") / "images", 300, 400)


@pytest.fixture(scope="module")
def packed(images, tmp_path_factory):
    """The files of an unbroken run over `images`."""
    return snapshot(pack(images, tmp_path_factory.mktemp("unbroken") / "out", shard_cells=15, jobs=1).path)


class Program:
    """A command as a process of its own; workers that outlive it go at the end."""

    def __init__(self, name, images, root):
        self.name, self.images, self.root = name, images, root
        self.groups = []

    def words(self, out):
        if self.name == "synth":
            return ["synth", str(out), "--cells", "2400", "--shard-cells", "120", "--jobs", "1"]
        if self.name == "index":
            if not out.exists():
                write_tars(out, self.images, 20)
            return ["index", str(out), "--pattern", "{class}/{name}", "--name", "x", "--jobs", "1"]
        layout = ["--layout", "block", "--block-cells", "5", "--jobs", "1"] if "block" in self.name else ["--jobs", "2"]
        return ["pack", str(self.images), str(out), "--shard-cells", "15", *layout]

    def start(self, out):
        environment = dict(os.environ, PYTHONPATH=str(Path(cli.__file__).parents[2]))
        child = subprocess.Popen(
            [sys.executable, "-m", "fastcell", *self.words(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.groups.append(child.pid)
        return child

    def run(self, out):
        child = self.start(out)
        err = child.communicate(timeout=120)[1]
        assert child.returncode == 0, err
        return err

    def end(self):
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def saved(self, out):
        return [path for folder in (out, out.parent) for path in folder.glob(".*.partial/run-*/saved/*.saved")]


@contextmanager
def program(name, images, root):
    started = Program(name, images, root)
    try:
        yield started
    finally:
        started.end()


def inodes(command, out):
    """Finished tars that lie hidden, with what tells one file from another."""
    found = {}
    for path in command.saved(out):
        tar = path.parents[1] / "data" / path.stem
        if tar.exists():
            found[path.stem] = tar.stat().st_ino
    return found


def kill_again_and_again(command, root, seed, num):
    start = time.monotonic()
    command.run(root / "unbroken")
    whole_s = time.monotonic() - start
    expected = snapshot(root / "unbroken")
    rng = np.random.default_rng(seed)
    out = root / "out"
    for _ in range(num):
        child = command.start(out)
        time.sleep(rng.uniform(0.2, 0.9) * whole_s)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        for pipe in (child.stdout, child.stderr):  # workers that outlive it hold the other end
            assert pipe is not None
            pipe.close()
        if (out / "dataset.json").exists():
            break
    if (out / "dataset.json").exists():  # killed when all was done: nothing is left but to say so
        child = command.start(out)
        assert re.search(r"It contains a data set|Give --overwrite", child.communicate(timeout=60)[1])
        assert child.returncode == 2
    else:
        num_saved, kept = len(command.saved(out)), inodes(command, out)
        err = command.run(out)
        # Workers that outlived the kill may have finished more in the meantime.
        found = re.search(r"has finished (\d+) ", err)
        assert num_saved <= (int(found[1]) if found else 0)
        assert {name: (out / name).stat().st_ino for name in kept} == kept
    assert snapshot(out) == expected
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["out", "unbroken"]


@pytest.mark.parametrize(
    ("name", "num"),
    [("pack", 2), pytest.param("pack-block", 2, marks=pytest.mark.slow), ("index", 1), ("synth", 1)],
)
def test_killed_runs_end_in_the_same_bytes(images, tmp_path, name, num):
    with program(name, images, tmp_path) as command:
        kill_again_and_again(command, tmp_path, seed=1, num=num)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_terminated_run_stops_at_once_and_keeps_what_is_finished(images, packed, tmp_path, number):
    with program("pack", images, tmp_path) as command:
        child = command.start(tmp_path / "out")
        wait_for(lambda: len(command.saved(tmp_path / "out")) >= 2)
        child.send_signal(number)
        start = time.monotonic()
        err = child.communicate(timeout=30)[1]
        assert time.monotonic() - start < 15  # at once, on a busy machine too
        assert child.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
        *_, kept, last = err.splitlines()
        assert kept == (
            f"kept {len(command.saved(tmp_path / 'out'))} finished shards: the same command resumes from there"
        )
        assert last == f"fastcell: error: {'terminated' if number == signal.SIGTERM else 'interrupted'}."
        assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
        command.run(tmp_path / "out")
    assert snapshot(tmp_path / "out") == packed


@pytest.mark.parametrize("name", ["pack", pytest.param("index", marks=pytest.mark.slow)])
def test_second_run_at_once_is_refused(images, packed, tmp_path, name):
    out = tmp_path / "out"
    with program(name, images, tmp_path) as command:
        first = command.start(out)
        wait_for(lambda: len(command.saved(out)) >= 1)
        first.send_signal(signal.SIGSTOP)  # so that it is still there when the second one comes
        second = command.start(out)
        err = second.communicate(timeout=60)[1]
        first.send_signal(signal.SIGCONT)
        assert second.returncode == 2
        assert f"which another run (process {first.pid} on " in err.splitlines()[-1]
        assert first.wait(60) == 0
        first.communicate()
        if name == "index":
            command.run(tmp_path / "alone")
    assert snapshot(out) == (snapshot(tmp_path / "alone") if name == "index" else packed)


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def stopped_after(monkeypatch, module, name, num, error):
    """The function that makes a piece raises `error` when it is called for the piece `num`, counted from 0."""
    make, calls = getattr(module, name), []

    def stop(*arguments):
        calls.append(1)
        if len(calls) > num:
            raise error
        return make(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        yield


@contextmanager
def counted(monkeypatch, module, name):
    make, calls = getattr(module, name), []
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *arguments: (calls.append(arguments), make(*arguments))[1])
        yield calls


@pytest.fixture
def small(tmp_path):
    return write_images(tmp_path / "small", 60, 12)


@pytest.fixture
def half_packed(small, tmp_path, monkeypatch):
    """OUT of a run over `small` that was interrupted with 3 of its 6 shards finished."""
    with (
        stopped_after(monkeypatch, write_shards, "_write_anew", 3, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
    ):
        pack(small, tmp_path / "out", shard_cells=10, jobs=1)
    return tmp_path / "out"


def test_only_what_is_left_is_packed(small, half_packed, monkeypatch):
    with counted(monkeypatch, write_shards, "_write_anew") as calls:
        pack(small, half_packed, shard_cells=10, jobs=1, name="another name")
    assert len(calls) == 3
    expected = snapshot(pack(small, half_packed.with_name("new"), shard_cells=10, name="another name").path)
    assert snapshot(half_packed) == expected


def test_changed_image_has_its_shard_packed_again(small, half_packed, monkeypatch):
    first = small / "c0" / "0000.png"
    first.write_bytes(draw(999, 14))
    with counted(monkeypatch, write_shards, "_write_anew") as calls:
        pack(small, half_packed, shard_cells=10, jobs=1)
    order = np.random.default_rng([0, 0xCE11]).permutation(60)
    place = int(np.flatnonzero(order == 0)[0])
    assert len(calls) == (4 if place < 30 else 3)
    assert snapshot(half_packed) == snapshot(pack(small, half_packed.with_name("new"), shard_cells=10).path)


@pytest.mark.parametrize(
    ("change", "differing"), [({"seed": 5}, "seed"), ({"um_per_px": 0.5}, "arguments"), ({"shard_cells": 12}, "shard")]
)
def test_changed_argument_starts_afresh(small, half_packed, capsys, monkeypatch, change, differing):
    arguments = {"shard_cells": 10, "jobs": 1, **change}
    with counted(monkeypatch, write_shards, "_write_anew") as calls:
        pack(small, half_packed, verbose=True, **arguments)
    assert len(calls) == (5 if "shard_cells" in change else 6)
    err = capsys.readouterr().err
    assert f"an interrupted run with different {differing}" in err
    assert "removed 3 finished shards of an interrupted run with different" in err
    new = pack(small, half_packed.with_name("new"), **arguments)
    assert snapshot(half_packed) == snapshot(new.path)


def test_image_more_starts_afresh(small, half_packed, capsys):
    (small / "c0" / "more.png").write_bytes(draw(7, 9))
    pack(small, half_packed, shard_cells=10, jobs=1, verbose=True)
    assert "of an interrupted run with different listing" in capsys.readouterr().err
    assert snapshot(half_packed) == snapshot(pack(small, half_packed.with_name("new"), shard_cells=10).path)


def test_full_disk_keeps_what_is_finished(small, tmp_path, monkeypatch, capsys):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        stopped_after(monkeypatch, write_shards, "_write_anew", 4, full),
        pytest.raises(DataError, match="cannot be written: No space left"),
    ):
        pack(small, tmp_path / "out", shard_cells=10, jobs=1, verbose=True)
    assert "kept 4 finished shards" in capsys.readouterr().err
    with counted(monkeypatch, write_shards, "_write_anew") as calls:
        pack(small, tmp_path / "out", shard_cells=10, jobs=1)
    assert len(calls) == 2


def test_orphaned_worker_changes_nothing(small, half_packed):
    """A worker of the killed run goes on with its own paths while and after the next run works."""
    (run_dir,) = half_packed.parent.glob(".out.partial/run-*")
    source = registry.open_source(small)
    items = source.scan().items[:7]
    task = write_shards.ShardTask(
        str(run_dir / "data" / "shard-000004.tar"),
        str(run_dir / "saved"),
        [("", items)],
        SourceRecords(source, None, 1.0),
        "cell",
        ["c0", "c1", "c2"],
    )
    with open_staging(half_packed), pytest.raises(FileNotFoundError):
        write_shards.write_shard(task)
    pack(small, half_packed, shard_cells=10, jobs=1)
    with pytest.raises(FileNotFoundError):
        write_shards.write_shard(task)
    assert snapshot(half_packed) == snapshot(pack(small, half_packed.with_name("new"), shard_cells=10).path)
    assert sorted(os.listdir(half_packed.parent)) == ["new", "out", "small"]


def test_index_reads_the_tars_that_are_left(small, tmp_path, monkeypatch):
    monkeypatch.setattr(read_tars, "_PART_CELLS", 4)
    tars = write_tars(tmp_path / "tars", small, 6)
    with (
        stopped_after(monkeypatch, read_tars, "_read_part", 10, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
    ):
        index(tars, pattern="{class}/{name}", name="cells", jobs=1)
    assert sorted(os.listdir(tars)) == [".index.partial", *(f"t-{i:03d}.tar" for i in range(6))]
    with (
        counted(monkeypatch, read_tars, "_read_part") as calls,
        counted(monkeypatch, read_tars, "list_samples") as listed,
    ):
        index(tars, pattern="{class}/{name}", name="cells", jobs=1)
    assert len(calls) == 8
    assert len(listed) == 3
    (tmp_path / "again").mkdir()
    again = write_tars(tmp_path / "again" / "tars", small, 6)
    index(again, pattern="{class}/{name}", name="cells", jobs=1)
    assert snapshot(tars) == snapshot(again)


def test_index_reads_a_changed_tar_again(small, tmp_path, monkeypatch):
    tars = write_tars(tmp_path / "tars", small, 6)
    with (
        stopped_after(monkeypatch, read_tars, "_read_part", 3, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
    ):
        index(tars, out=tmp_path / "out", jobs=1)
    (tars / "t-001.tar").write_bytes((tars / "t-005.tar").read_bytes())
    with counted(monkeypatch, read_tars, "_read_part") as calls:
        index(tars, out=tmp_path / "out", jobs=1)
    assert len(calls) == 4
    assert snapshot(tmp_path / "out") == snapshot(index(tars, out=tmp_path / "new", jobs=1).path)
    assert sorted(os.listdir(tmp_path)) == ["new", "out", "small", "tars"]


def test_replaced_manifest_stays_until_the_new_one_is_whole(small, tmp_path, monkeypatch):
    tars = write_tars(tmp_path / "tars", small, 6)
    before = snapshot(index(tars, jobs=1).path)
    with (
        stopped_after(monkeypatch, read_tars, "_read_part", 5, KeyboardInterrupt()),
        pytest.raises(KeyboardInterrupt),
    ):
        index(tars, um_per_px=0.5, overwrite=True, jobs=1)
    assert before.items() <= snapshot(tars).items()
    assert index(tars, um_per_px=0.5, overwrite=True, jobs=1).info.um_per_px == 0.5


def test_synth_goes_on(tmp_path, monkeypatch):
    for layout in ("cell", "block"):
        arguments = {"layout": layout, "shard_cells": 20, "block_cells": 10 if layout == "block" else None, "jobs": 1}
        out = tmp_path / layout
        with (
            stopped_after(monkeypatch, write_shards, "_write_anew", 3, KeyboardInterrupt()),
            pytest.raises(KeyboardInterrupt),
        ):
            synthesize(out, 120, **arguments)
        new = synthesize(tmp_path / f"new-{layout}", 120, **arguments)
        with counted(monkeypatch, write_shards, "_write_anew") as calls:
            synthesize(out, 120, **arguments)
        assert len(calls) == len(list(new.path.glob("shard-*.tar"))) - 3
        assert snapshot(out) == snapshot(new.path)


def test_default_set_waits_for_the_run_that_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synth, "DEFAULT_CELLS", 40)
    monkeypatch.setattr(synth, "_POLL_S", 0.02)
    makers = []
    make = synthesize

    def short(folder, verbose=False):
        made = make(folder, 40, jobs=1)
        makers.append(folder)
        return made

    monkeypatch.setattr(synth, "synthesize", short)
    folder = tmp_path / f"{simulator_name()}-40-cells-seed-0-format-1"
    found = []
    with open_staging(folder):
        waiting = threading.Thread(target=lambda: found.append(make_default_dataset(tmp_path, verbose=True)))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        assert found == []
    waiting.join(30)
    assert found == makers == [folder]
    assert capsys.readouterr().err.count("waiting: ") == 1


def simulator_name():
    from fastcell.simulator.simulate import GENERATOR

    return GENERATOR.replace(" ", "-")


STEPS = """
import contextlib, importlib, os, re, shutil, signal, sys
from pathlib import Path
from fastcell.packing import read_tars
from fastcell.packing.index import index
from fastcell.packing.pack import pack
from fastcell.errors import ArgumentError

name, source, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
out, imported = root / "out", root.with_name("imported")
read_tars._PART_CELLS = 10

def work():
    if name.startswith("index"):
        index(out, pattern="{class}/{name}", jobs=1, overwrite=name == "index", name="x")
    else:
        block = {"layout": "block", "block_cells": 10} if name == "block" else {}
        pack(source, out, shard_cells=20, jobs=1, **block)

def snapshot():
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.name.startswith("t-")}

def fresh():
    shutil.rmtree(out, ignore_errors=True)
    if name.startswith("index"):
        shutil.copytree(source, out)
    elif name == "mounted":
        out.mkdir()

def in_child(kill_at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [kill_at]
    def counted(call):
        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)
        return step
    for call in ("rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "ftruncate"):
        setattr(os, call, counted(getattr(os, call)))
    try:
        work()
        imported.write_text("\\n".join(sys.modules))
    except ArgumentError as error:
        os._exit(0 if re.search("It contains a data set|Give --overwrite", str(error)) else 1)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

if name == "mounted":
    os.path.ismount = lambda path: str(path) == str(out)
fresh()
assert in_child(10**9) == 0
expected = snapshot()
for module in imported.read_text().splitlines():  # once here, not in each of the children that follow
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
steps = 0
while True:
    fresh()
    status = in_child(steps)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, (steps, status)
    assert in_child(10**9) == 0, steps
    assert snapshot() == expected, steps
    assert os.listdir(root) == ["out"], (steps, os.listdir(root))
    steps += 1
print(steps)
"""


@pytest.mark.parametrize(
    "name",
    [
        "pack",
        pytest.param("block", marks=pytest.mark.slow),
        pytest.param("mounted", marks=pytest.mark.slow),
        pytest.param("index", marks=pytest.mark.slow),
        "index without --overwrite",
    ],
)
def test_killed_before_each_step_in_the_file_system(small, tmp_path, name):
    """SIGKILL before the first, the second, ... of all renames, removals, new folders and syncs of a run."""
    source = write_tars(tmp_path / "tars", small, 3) if name.startswith("index") else small
    (tmp_path / "root").mkdir()
    environment = dict(os.environ, PYTHONPATH=str(Path(cli.__file__).parents[2]))
    words = [sys.executable, "-c", STEPS, name, str(source), str(tmp_path / "root")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
