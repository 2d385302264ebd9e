"""Files appear whole or not at all."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastcell
from fastcell.storage.whole_files import is_alive, remove_dead_files, replace_file, write_json, write_text


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text("old")

    def fail(file):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["dataset.json"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(file):
        assert file.parent == path.parent  # the same file system: the last step is one rename
        file.write_text("new")
        assert path.read_text() == "old"

    replace_file(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_rights_are_those_of_a_file_that_is_made_in_place(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_text_is_utf8_and_json_is_readable(tmp_path):
    write_text(tmp_path / "a.txt", "5 µm\n")
    assert (tmp_path / "a.txt").read_bytes() == b"5 \xc2\xb5m\n"
    write_json(tmp_path / "a.json", {"um": "5 µm", "shape": [1, 2]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "µm" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"um": "5 µm", "shape": [1, 2]}


DEAD_PROCESS = """
import os, sys
from pathlib import Path
from fastcell.storage.whole_files import make_scratch_folder, replace_file

def stop(file):
    file.write_text("half")
    (make_scratch_folder(file.parent) / "part").write_text("x")
    print("ready", flush=True)
    sys.stdin.read()

replace_file(Path(sys.argv[1]), stop)
"""


def start_writer(path):
    environment = dict(os.environ, PYTHONPATH=str(Path(fastcell.__file__).parents[1]))
    command = [sys.executable, "-c", DEAD_PROCESS, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_what_a_killed_process_was_writing_is_removed_by_the_next_and_what_lives_is_not(tmp_path):
    children = [start_writer(tmp_path / name) for name in ("a.txt", "b.txt")]
    try:
        hidden = sorted(os.listdir(tmp_path))
        assert len(hidden) == 4
        children[0].kill()
        children[0].wait()
        write_text(tmp_path / "c.txt", "x")  # this process has written nothing here so far
        left = set(os.listdir(tmp_path)) - {"c.txt"}
        assert left == {name for name in hidden if f"-{children[1].pid}-" in name}
        assert len(left) == 2
    finally:
        for child in children:
            child.kill()
            child.communicate()
    remove_dead_files(tmp_path)
    assert os.listdir(tmp_path) == ["c.txt"]


def test_files_of_another_machine_stay_for_a_day_and_other_names_stay(tmp_path):
    names = [".a.0123456789ab-1-00000000.partial", ".b.0123456789ab-1-00000000.partial", ".mine.partial", "x.partial"]
    for name in names:
        (tmp_path / name).write_text("x")
    day_ago = time.time() - 25 * 3600
    os.utime(tmp_path / names[1], (day_ago, day_ago))
    remove_dead_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([names[0], *names[2:]])


def test_a_process_that_has_ended_but_was_not_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)
    child.wait()
    assert is_alive(os.getpid())


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("ä" * 125 + ".json")  # 255 bytes
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
