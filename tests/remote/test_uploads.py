from pathlib import Path

import pytest

from fastcell.cli.main import main
from fastcell.errors import ArgumentError, DataError
from fastcell.remote.place import RemotePlace
from fastcell.remote.uploads import file_at, make_dataset_at


@pytest.fixture
def memory(tmp_cache):
    """File system of fsspec in memory, with an empty folder /up."""
    import fsspec

    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/up"):
        system.rm("/up", recursive=True)


def content(system, folder):
    return {path.removeprefix(f"{folder}/"): system.cat(path) for path in system.find(folder)}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_synth_and_pack_write_what_they_write_to_disk(memory, tmp_path, tmp_cache):
    assert main(["synth", str(tmp_path / "cells"), "--cells", "40", "--shard-cells", "10", "--jobs", "1"]) == 0
    assert main(["synth", "memory://up/cells", "--cells", "40", "--shard-cells", "10", "--jobs", "1"]) == 0
    assert content(memory, "/up/cells") == files(tmp_path / "cells")
    assert main(["pack", str(tmp_path / "cells"), str(tmp_path / "again"), "--jobs", "1", "--split", "none"]) == 0
    assert main(["pack", str(tmp_path / "cells"), "memory://up/again", "--jobs", "1", "--split", "none"]) == 0
    assert content(memory, "/up/again") == files(tmp_path / "again")
    assert not [path for path in (tmp_cache / "remote" / "uploads").rglob("*") if path.is_file()]
    assert main(["verify", "memory://up/again"]) == 0


def make(folder):
    """Write three files as a data set; say what was done."""
    path = Path(folder)
    if (path / "dataset.json").exists():
        return "found"
    path.mkdir()
    for name in ("a.tar", "b.tar", "dataset.json"):
        (path / name).write_text(name)
    return "made"


def test_an_interrupted_upload_goes_on(memory, monkeypatch):
    written = []
    write = RemotePlace.write

    def write_and_fail(self, source):
        if source.endswith("b.tar") and not monkeypatch.undone:
            raise DataError("the store is gone")
        written.append(source.rsplit("/", 1)[1])
        write(self, source)

    monkeypatch.undone = False
    monkeypatch.setattr(RemotePlace, "write", write_and_fail)
    with pytest.raises(DataError, match="the store is gone"):
        make_dataset_at("memory://up/cells", "job", make)
    assert not memory.exists("/up/cells/dataset.json")  # half of it is no data set
    monkeypatch.undone = True
    written.clear()
    assert make_dataset_at("memory://up/cells", "job", make) == "found"
    assert [name for name in written if not name.startswith(".probe")] == ["b.tar", "dataset.json"]
    assert content(memory, "/up/cells") == {name: name.encode() for name in ("a.tar", "b.tar", "dataset.json")}


def test_another_job_begins_anew(memory, monkeypatch):
    write = RemotePlace.write

    def fail(place, source):
        if source.endswith(".tar"):
            raise DataError("gone")
        write(place, source)

    with monkeypatch.context() as patch:
        patch.setattr(RemotePlace, "write", fail)
        with pytest.raises(DataError):
            make_dataset_at("memory://up/cells", "job", make)
    assert make_dataset_at("memory://up/cells", "other job", make) == "made"


def test_a_data_set_is_not_replaced(memory):
    make_dataset_at("memory://up/cells", "job", make)
    with pytest.raises(ArgumentError, match="OUT must be a place without a data set, got 'memory://up/cells'"):
        make_dataset_at("memory://up/cells", "job", make)


def test_a_web_server_takes_nothing(tmp_cache):
    with pytest.raises(ArgumentError, match="OUT must be a place that can be written, got 'http://host/cells'"):
        make_dataset_at("http://host/cells", "job", make)
    with (
        pytest.raises(ArgumentError, match="--out must be a place that can be written"),
        file_at("--out", "http://h/x"),
    ):
        pass


def test_a_folder_of_this_machine_is_used_as_it_is(tmp_path):
    assert make_dataset_at(str(tmp_path / "cells"), "job", make) == "made"
    with file_at("--out", str(tmp_path / "x.csv")) as path:
        assert path == str(tmp_path / "x.csv")


def test_a_file_is_uploaded_at_the_end(memory, tmp_cache):
    with file_at("--out", "memory://up/x.csv") as path:
        Path(path).write_text("cells")
        assert not memory.exists("/up/x.csv")
    assert memory.cat("/up/x.csv") == b"cells"
    assert not Path(path).exists()


def test_predictions_are_those_on_disk(memory, trained_run, trained_data, tmp_path, capsys):
    words = ["predict", str(trained_run), str(trained_data), "--data.threads=1"]
    assert main([*words, "--out", str(tmp_path / "p.csv")]) == 0
    capsys.readouterr()
    assert main([*words, "--out", "memory://up/p.csv"]) == 0
    said = capsys.readouterr().out
    assert "cells/s, memory://up/p.csv\n" in said
    assert "uploads" not in said
    assert memory.cat("/up/p.csv") == (tmp_path / "p.csv").read_bytes()


def test_a_bucket_that_is_not_there(s3_store, tmp_cache):
    """It is found before the work."""
    message = r"s3://none.* cannot be written \(no such bucket or folder\)"
    with pytest.raises(DataError, match=message):
        make_dataset_at("s3://none/cells", "job", lambda folder: pytest.fail("the work has begun"))
    with pytest.raises(DataError, match=message), file_at("--out", "s3://none/x.csv"):
        pytest.fail("the work has begun")


def test_a_file_that_cannot_be_uploaded_is_kept(memory, tmp_cache, monkeypatch):
    with pytest.raises(DataError, match=r"cannot be written.*The file is kept as .*x\.csv\.") as error:
        write_and_lose_the_store(monkeypatch)
    path = Path(str(error.value).rpartition("kept as ")[2].rstrip("."))
    assert path.read_text() == "cells"


def write_and_lose_the_store(monkeypatch):
    with file_at("--out", "memory://up/x.csv") as path:
        Path(path).write_text("cells")
        monkeypatch.setattr(RemotePlace, "write", refuse)


def refuse(place, source):
    raise DataError(f"{place.address} cannot be written (status 507).")


@pytest.mark.slow
def test_s3_holds_what_is_packed_to_disk(s3_store, tmp_path, tmp_cache):
    s3_store.faults.every = 5
    arguments = ["--cells", "60", "--shard-cells", "10", "--jobs", "1", "--layout", "block"]
    assert main(["synth", str(tmp_path / "cells"), *arguments]) == 0
    assert main(["synth", f"{s3_store.url}/some/cells", *arguments]) == 0
    s3_store.faults.every = 0
    assert s3_store.names("some/cells") == files(tmp_path / "cells")
    assert main(["verify", f"{s3_store.url}/some/cells"]) == 0
