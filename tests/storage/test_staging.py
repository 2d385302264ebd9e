"""The hidden folder of a run: locked, kept for the next run where that helps, gone otherwise."""

import errno
import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest

from fastcell.errors import ArgumentError, BusyError, DataError, StrictError
from fastcell.storage.saved_pieces import save_pieces
from fastcell.storage.staging import open_staging, open_staging_in, put_in_place, staging

TABLE = pa.table({"a": [1, 2, 3]})


def finish(stage, name):
    (stage.data_dir / name).write_text(name)
    save_pieces(stage.saved_dir / f"{name}.saved", {"stamp": "x"}, [TABLE])


def leave(out, job, *names, error=None):
    """An interrupted run that has finished `names`."""
    error = error or KeyboardInterrupt()

    def run():
        with open_staging(out) as stage:
            stage.begin(job)
            for name in names:
                finish(stage, name)
            (stage.data_dir / "half.tar").write_text("half")
            raise error

    with pytest.raises(type(error)):
        run()


def test_same_job_finds_what_is_finished_and_nothing_else(tmp_path):
    said = []
    leave(tmp_path / "out", {"seed": 1}, "a.tar", "b.tar")
    assert os.listdir(tmp_path) == [".out.partial"]
    with open_staging(tmp_path / "out", said.append) as stage:
        stage.begin({"seed": 1})
        assert sorted(os.listdir(stage.data_dir)) == ["a.tar", "b.tar"]
        assert stage.num_saved == 2
        put_in_place(stage.data_dir, tmp_path / "out")
    assert said == ["resuming: an interrupted run has finished 2 shards"]
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(tmp_path / "out")) == ["a.tar", "b.tar"]


def test_other_job_starts_afresh_and_says_what_differs(tmp_path):
    said = []
    leave(tmp_path / "out", {"seed": 1, "layout": "cell"}, "a.tar", "b.tar")
    with open_staging(tmp_path / "out", said.append) as stage:
        stage.begin({"seed": 2, "layout": "cell"})
        assert os.listdir(stage.data_dir) == os.listdir(stage.saved_dir) == []
    assert said == ["starting from the beginning: removed 2 finished shards of an interrupted run with different seed"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (KeyboardInterrupt(), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (ArgumentError("window"), False),
        (StrictError("bad"), False),
        (DataError("no usable cell"), False),
    ],
)
def test_what_a_rerun_can_use_is_kept(tmp_path, error, kept):
    leave(tmp_path / "out", {}, "a.tar", error=error)
    assert bool(os.listdir(tmp_path)) == kept
    leave(tmp_path / "other", {}, error=error)
    assert not (tmp_path / ".other.partial").exists()


def test_error_before_the_job_is_known_leaves_the_last_run_alone(tmp_path):
    leave(tmp_path / "out", {"seed": 1}, "a.tar")
    with pytest.raises(ArgumentError, match="typing error"), open_staging(tmp_path / "out"):
        raise ArgumentError("typing error")
    with open_staging(tmp_path / "out") as stage:
        stage.begin({"seed": 1})
        assert stage.num_saved == 1


def test_second_run_is_refused_and_harms_nothing(tmp_path):
    out = tmp_path / "out"
    with open_staging(out) as stage:
        stage.begin({})
        finish(stage, "a.tar")
        message = rf"OUT must be free.*process {os.getpid()} on {socket.gethostname()}, since 2.*Wait for it"
        with pytest.raises(BusyError, match=message), open_staging(out):
            pass
        assert (stage.data_dir / "a.tar").exists()
        put_in_place(stage.data_dir, out)
    assert os.listdir(out) == ["a.tar"]


def test_files_of_an_orphan_do_not_get_in(tmp_path):
    leave(tmp_path / "out", {}, "a.tar")
    (run_dir,) = (tmp_path / ".out.partial").glob("run-*")
    with open(run_dir / "data" / "b.tar", "xb") as orphan, open_staging(tmp_path / "out") as stage:
        stage.begin({})
        with pytest.raises(FileNotFoundError):
            save_pieces(run_dir / "saved" / "b.tar.saved", {"stamp": "x"}, [TABLE])
        finish(stage, "b.tar")
        orphan.write(b"late")
        orphan.flush()
        put_in_place(stage.data_dir, tmp_path / "out")
    assert (tmp_path / "out" / "b.tar").read_text() == "b.tar"


def test_run_killed_after_its_work_is_cleared_away(tmp_path):
    leave(tmp_path / "out", {}, "a.tar")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text("{}")
    with pytest.raises(ArgumentError, match="It contains a data set"), open_staging(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("num_placed", range(4))
def test_mounted_volume_filled_in_part(tmp_path, monkeypatch, num_placed):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: True)
    rename, calls = Path.rename, []

    def interrupt(self, target):
        if target.parent == out:
            calls.append(target)
            if len(calls) > num_placed:
                raise KeyboardInterrupt
        return rename(self, target)

    def run():
        with open_staging(out) as stage:
            stage.begin({})
            for name in ("a.tar", "b.tar"):
                if not (stage.data_dir / name).exists():
                    finish(stage, name)
            (stage.data_dir / "splits").mkdir()
            (stage.data_dir / "splits" / "default").write_text("x")
            (stage.data_dir / "dataset.json").write_text("{}")
            put_in_place(stage.data_dir, out)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (out / "dataset.json").exists()
    run()
    assert sorted(os.listdir(out)) == ["a.tar", "b.tar", "dataset.json", "splits"]
    assert os.listdir(out / "splits") == ["default"]


def test_folder_with_other_things_in_it(tmp_path):
    (tmp_path / "a.tar").write_text("mine")
    with open_staging_in(tmp_path) as stage:
        stage.begin({})
        (stage.data_dir / "dataset.json").write_text("{}")
        with pytest.raises(BusyError), open_staging_in(tmp_path):
            pass
        put_in_place(stage.data_dir, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "dataset.json"]


def test_run_killed_after_it_has_filled_a_folder_is_cleared_away(tmp_path):
    def run():
        with open_staging_in(tmp_path) as stage:
            stage.begin({})
            finish(stage, "a")
            (stage.data_dir / "dataset.json").write_text("{}")
            put_in_place(stage.data_dir, tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert ".index.partial" in os.listdir(tmp_path)
    with pytest.raises(ArgumentError, match="is there"), open_staging_in(tmp_path):
        raise ArgumentError("the manifest is there")
    assert sorted(os.listdir(tmp_path)) == ["a", "dataset.json"]


def test_what_a_dead_run_of_another_output_left_unfinished_is_removed(tmp_path):
    for name in ("empty", "useful", "lives", "other"):
        folder = tmp_path / f".{name}.partial"
        (folder / "run-01234567" / "saved").mkdir(parents=True)
        (folder / "lock").write_text("{}")
    save_pieces(tmp_path / ".useful.partial/run-01234567/saved/a.saved", {"stamp": "x"}, [TABLE])
    (tmp_path / ".other.partial" / "my file").write_text("mine")
    with open_staging(tmp_path / "lives"), open_staging(tmp_path / "new"):
        assert sorted(os.listdir(tmp_path)) == [
            ".lives.partial",
            ".new.partial",
            ".other.partial",
            ".useful.partial",
        ]


def test_an_output_may_have_the_longest_name_of_the_file_system(tmp_path):
    out = tmp_path / ("ä" * 127)
    leave(out, {"seed": 1}, "a.tar")
    with open_staging(out) as stage:
        stage.begin({"seed": 1})
        assert stage.num_saved == 1
        put_in_place(stage.data_dir, out)
    assert os.listdir(tmp_path) == [out.name]


def test_places_that_are_taken(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    for name, what in (("file", "It is a file"), ("full", "It contains other files")):
        with pytest.raises(ArgumentError, match=f"OUT must be a new or empty folder.*{what}"), staging(tmp_path / name):
            pass
    assert (tmp_path / "full" / "notes.txt").read_text() == "x"


def test_the_second_of_two_runs_leaves_the_first_ones_alone(tmp_path):
    out = tmp_path / "out"
    with staging(out) as folder:
        out.mkdir()
        (out / "first.txt").write_text("mine")
        with pytest.raises(ArgumentError, match=r"OUT must be .*Another run filled it"):
            put_in_place(folder, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "first.txt").read_text() == "mine"
