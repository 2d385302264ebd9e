import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.remote import object_cache
from fastcell.remote.object_cache import ObjectCache, Stopped
from fastcell.remote.place import RemotePlace


def put(store, name, size, seed=0):
    data = bytes((seed + number) % 251 for number in range(size))
    (store.folder / name).write_bytes(data)
    return RemotePlace(f"{store.url}/{name}")


def content(cache, place):
    handle = cache.open(place, place.version())
    try:
        return os.read(handle, 1 << 20)
    finally:
        os.close(handle)


def test_an_object_is_downloaded_once(web_store, cache):
    place = put(web_store, "a.tar", 1000)
    assert content(cache, place) == content(cache, place) == (web_store.folder / "a.tar").read_bytes()
    assert web_store.faults.bytes_of("a.tar") == 1
    assert cache.path_of(place, place.version()).name == "a.tar"


def test_a_new_version_is_another_object(web_store, cache):
    place = put(web_store, "a.tar", 1000)
    content(cache, place)
    put(web_store, "a.tar", 1000, seed=9)
    assert content(cache, place) == (web_store.folder / "a.tar").read_bytes()


def test_an_empty_object(web_store, cache):
    assert content(cache, put(web_store, "a.tar", 0)) == b""


def test_least_recently_used_objects_go(web_store, tmp_path):
    cache = ObjectCache(tmp_path / "c", 2500)
    places = [put(web_store, f"{name}.tar", 1000, seed) for seed, name in enumerate("abc")]
    for place in (places[0], places[1], places[0]):
        content(cache, place)
        time.sleep(0.02)
    content(cache, places[2])
    there = [cache.path_of(place, place.version()).exists() for place in places]
    assert there == [True, False, True]
    assert sum(path.stat().st_size for path in (tmp_path / "c" / "objects").rglob("*.tar")) <= 2500


def test_tables_go_with_the_objects_unless_a_process_uses_them(web_store, tmp_path):
    cache = ObjectCache(tmp_path / "c", 2500)
    folders = [cache.folder / "sets" / name for name in ("used", "old", "older")]
    for age, folder in enumerate(folders):
        (folder / "splits").mkdir(parents=True)
        (folder / "splits" / "default.parquet").write_bytes(bytes(900))
        (folder / ".in_use").touch()
        os.utime(folder / ".in_use", (1e9 - age, 1e9 - age))
    code = "import sys, pathlib; from fastcell.remote.object_cache import ObjectCache\n"
    code += (
        "ObjectCache(pathlib.Path(sys.argv[1]), 1).hold_tables(pathlib.Path(sys.argv[2])); print('there', flush=True)\n"
    )
    code += "sys.stdin.read()"
    command = [sys.executable, "-c", code, str(cache.folder), str(folders[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        os.utime(folders[0] / ".in_use", (1, 1))  # the oldest of all
        cache.make_room()  # 1,800 bytes are in nobody's use
        assert [folder.exists() for folder in folders] == [True, True, True]
        content(cache, put(web_store, "a.tar", 1000))
        assert [folder.exists() for folder in folders] == [True, True, False]
        content(cache, put(web_store, "b.tar", 1500))
        assert [folder.exists() for folder in folders] == [True, False, False]
        other.communicate()
    content(cache, put(web_store, "c.tar", 1000))
    assert not folders[0].exists()


def test_tables_in_use_are_held_again(tmp_path):
    cache = ObjectCache(tmp_path / "c", 1)
    folder = cache.folder / "sets" / "cells"
    for _ in range(2):
        cache.hold_tables(folder)
        (folder / "dataset.json").write_bytes(bytes(100))
        cache.make_room()
        assert (folder / "dataset.json").exists()
    shutil.rmtree(folder)  # by hand
    cache.hold_tables(folder)
    (folder / "dataset.json").write_bytes(bytes(100))
    cache.make_room()
    assert (folder / "dataset.json").exists()


def test_a_lock_that_cannot_be_had_leaves_no_file_open(tmp_path, monkeypatch):
    def refuse(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(object_cache.fcntl, "flock", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ArgumentError, match=r"cache must be a folder that can be written, got .*no locks available"):
        ObjectCache(tmp_path / "c", 1).hold_tables(tmp_path / "c" / "sets" / "cells")
    assert os.listdir("/proc/self/fd") == before


def test_a_download_that_begins_is_not_removed(web_store, tmp_path, monkeypatch):
    """Another process makes room between the reservation of an object and its first byte."""
    cache, begun = ObjectCache(tmp_path / "c", 1500), []
    places = [put(web_store, f"{name}.tar", 1000, seed) for seed, name in enumerate("ab")]
    download = ObjectCache._download

    def download_other_first(self, *what):
        if not begun:
            begun.append(what)
            path = cache.path_of(places[1], places[1].version())
            self._reserve(path, 1000)
            download(self, places[1], places[1].version(), path, None)
        download(self, *what)

    monkeypatch.setattr(ObjectCache, "_download", download_other_first)
    assert content(cache, places[0]) == (web_store.folder / "a.tar").read_bytes()


def test_a_cache_that_is_removed_by_hand(web_store, cache, monkeypatch):
    place, removed = put(web_store, "a.tar", 1000), []
    download = ObjectCache._download

    def download_after_removal(self, *what):
        if not removed:
            removed.append(shutil.rmtree(cache.folder))
        download(self, *what)

    monkeypatch.setattr(ObjectCache, "_download", download_after_removal)
    assert content(cache, place) == (web_store.folder / "a.tar").read_bytes()
    assert removed


def test_a_removed_object_stays_readable(web_store, tmp_path):
    cache = ObjectCache(tmp_path / "c", 1500)
    first = put(web_store, "a.tar", 1000)
    handle = cache.open(first, first.version())
    content(cache, put(web_store, "b.tar", 1000, 5))
    assert not cache.path_of(first, first.version()).exists()
    assert os.read(handle, 2000) == (web_store.folder / "a.tar").read_bytes()
    os.close(handle)


def test_an_object_larger_than_the_cache(web_store, tmp_path):
    place = put(web_store, "a.tar", 5000)
    with pytest.raises(ArgumentError, match=r"cache_gib must be enough for http.*a\.tar.*Allow at least"):
        ObjectCache(tmp_path / "c", 4000).fetch(place, place.version())


def test_an_interrupted_download_goes_on(web_store, cache, monkeypatch):
    monkeypatch.setattr(object_cache, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(object_cache, "_AT_ONCE", 1)
    place = put(web_store, "a.tar", 1000)
    stop = threading.Event()
    read = RemotePlace.read_ranges

    def read_and_stop(self, ranges):
        if ranges[0][0] == 300:
            stop.set()
        return read(self, ranges)

    monkeypatch.setattr(RemotePlace, "read_ranges", read_and_stop)
    with pytest.raises(Stopped):
        cache.fetch(place, place.version(), stop)
    assert not cache.path_of(place, place.version()).exists()
    web_store.faults.requests.clear()
    assert content(cache, place) == (web_store.folder / "a.tar").read_bytes()
    assert min(int(wanted[6:].split("-")[0]) for _, _, wanted in web_store.faults.requests if wanted) == 400


def test_servers_that_send_no_ranges(web_store, cache, monkeypatch):
    """The first object is sent whole to find that out, and once more; each other one once."""
    monkeypatch.setattr(object_cache, "_CHUNK_BYTES", 100)
    web_store.ranges = False
    places = [put(web_store, f"{name}.tar", 1000, seed) for seed, name in enumerate("ab")]
    for place, requests in zip(places, (2, 1), strict=True):
        name = place.address.rsplit("/", 1)[1]
        assert content(cache, place) == (web_store.folder / name).read_bytes()
        assert web_store.faults.bytes_of(name) <= requests
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        cache.fetch(put(web_store, "c.tar", 1000), RemotePlace(f"{web_store.url}/c.tar").version(), stop)
    assert web_store.faults.bytes_of("c.tar") == 0


def test_threads_share_one_download(web_store, cache):
    place = put(web_store, "a.tar", 2000)
    web_store.faults.bytes_per_s = 20_000
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: content(cache, place), range(4)))
    assert set(found) == {(web_store.folder / "a.tar").read_bytes()}
    assert web_store.faults.bytes_of("a.tar") == 1


@pytest.mark.slow
def test_processes_share_one_download(web_store, cache):
    place = put(web_store, "a.tar", 200_000)
    web_store.faults.bytes_per_s = 100_000
    code = (
        "import sys; from pathlib import Path; from fastcell.remote.object_cache import ObjectCache\n"
        "from fastcell.remote.place import RemotePlace\n"
        "place = RemotePlace(sys.argv[1]); cache = ObjectCache(Path(sys.argv[2]), 1 << 30)\n"
        "print(cache.fetch(place, place.version()).stat().st_size)"
    )
    command = [sys.executable, "-c", code, place.address, str(cache.folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["200000\n"] * 3
    assert web_store.faults.bytes_of("a.tar") == 1


@pytest.mark.slow
def test_a_killed_download_goes_on(web_store, cache):
    place = put(web_store, "a.tar", 500_000)
    web_store.faults.bytes_per_s = 200_000
    code = (
        "import sys; from pathlib import Path; from fastcell.remote import object_cache\n"
        "from fastcell.remote.place import RemotePlace\n"
        "object_cache._CHUNK_BYTES, object_cache._AT_ONCE = 50_000, 1\n"
        "place = RemotePlace(sys.argv[1]); cache = object_cache.ObjectCache(Path(sys.argv[2]), 1 << 30)\n"
        "cache.fetch(place, place.version())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, place.address, str(cache.folder)])
    part = cache.path_of(place, place.version()).parent / "part"
    while not (part.exists() and part.stat().st_size >= 100_000):
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    done = part.stat().st_size
    web_store.faults.bytes_per_s = None
    web_store.faults.requests.clear()
    assert content(cache, place) == (web_store.folder / "a.tar").read_bytes()
    assert [wanted for _, _, wanted in web_store.faults.requests if wanted] == [f"bytes={done}-499999"]


def test_an_object_that_changes_during_the_download(web_store, cache, monkeypatch):
    place = put(web_store, "a.tar", 1000)
    version = place.version()
    read = RemotePlace.read_ranges

    def read_and_change(self, ranges):
        got = read(self, ranges)
        put(web_store, "a.tar", 1000, seed=7)
        return got

    monkeypatch.setattr(RemotePlace, "read_ranges", read_and_change)
    with pytest.raises(DataError, match=r"a\.tar has changed since the data set was opened"):
        cache.fetch(place, version)
    monkeypatch.undo()
    assert content(cache, place) == (web_store.folder / "a.tar").read_bytes()


def test_an_object_that_vanishes(web_store, cache):
    place = put(web_store, "a.tar", 1000)
    version = place.version()
    (web_store.folder / "a.tar").unlink()
    with pytest.raises(DataError, match=r"a\.tar has vanished since the data set was opened"):
        cache.fetch(place, version)


def test_forget_keeps_a_newer_file(web_store, cache):
    place = put(web_store, "a.tar", 10)
    path = cache.fetch(place, place.version())
    cache.forget(place, place.version(), (0, 0))
    assert path.exists()
    cache.forget(place, place.version(), (path.stat().st_ino, path.stat().st_mtime_ns))
    assert not path.exists()


def test_a_place_that_cannot_be_written(web_store, tmp_path):
    (tmp_path / "file").write_text("")
    place = put(web_store, "a.tar", 10)
    with pytest.raises(ArgumentError, match="cache must be a folder that can be written, got .*file"):
        ObjectCache(tmp_path / "file", 1000).fetch(place, place.version())


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(tmp_path))
    assert ObjectCache.of() == ObjectCache(tmp_path / "remote", 64 << 30)
    monkeypatch.setenv("FASTCELL_CACHE_GIB", "0.5")
    assert ObjectCache.of(tmp_path / "x") == ObjectCache(tmp_path / "x", 1 << 29)
    assert ObjectCache.of(tmp_path / "x", 2).most_bytes == 2 << 30
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("FASTCELL_CACHE_GIB", wrong)
        with pytest.raises(ArgumentError, match="FASTCELL_CACHE_GIB must be a positive number"):
            ObjectCache.of()
    with pytest.raises(ArgumentError, match="cache_gib must be a positive number"):
        ObjectCache.of(gib=0)
