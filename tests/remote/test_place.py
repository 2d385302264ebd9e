import errno
import io
import pickle
import socket
import time

import pytest

from fastcell.errors import ArgumentError, DataError, FastcellError
from fastcell.remote import place as place_module
from fastcell.remote.place import RemotePlace, Version, digest_of


@pytest.fixture
def at(web_store):
    (web_store.folder / "a.tar").write_bytes(bytes(range(256)) * 10)
    return RemotePlace(f"{web_store.url}/a.tar")


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts, which take no time."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def test_version_follows_the_content(at, web_store):
    first = at.version()
    assert first.size == 2560
    (web_store.folder / "a.tar").write_bytes(b"x" * 2560)
    assert at.version() != first
    assert at.version().size == 2560


def test_ranges_come_in_the_order_asked_for(at):
    assert at.read_ranges([(256, 259), (0, 2), (2559, 2560)]) == [b"\x00\x01\x02", b"\x00\x01", b"\xff"]
    assert at.read_ranges([]) == []
    assert at.read() == bytes(range(256)) * 10


def test_ranges_of_a_server_that_knows_none(at, web_store):
    """The whole object is sent once, for all ranges together."""
    web_store.ranges = False
    assert at.read_ranges([(256, 259), (10, 12), (0, 1)]) == [b"\x00\x01\x02", b"\x0a\x0b", b"\x00"]
    assert web_store.faults.bytes_of("a.tar") == 1
    assert at.sends_ranges is False


class Full(io.BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_whole_object_is_copied_piece_by_piece(at, web_store, tmp_path, waits, monkeypatch):
    monkeypatch.setattr(place_module, "_PIECE_BYTES", 1000)
    steps = []
    with open(tmp_path / "copy", "ab") as file:
        file.write(b"what an interrupted download has left")
        web_store.faults.every = 4
        for _ in range(2):  # the third and the fourth request ask for the second copy
            at.copy_whole(file, 2560, lambda: steps.append(file.tell()))
        assert (tmp_path / "copy").stat().st_size == 2560
        web_store.faults.every = 0
        assert len(steps) >= 3
        assert waits
        at.copy_whole(file, 2000)
    assert (tmp_path / "copy").read_bytes() == (bytes(range(256)) * 10)[:2000]
    waits.clear()
    with pytest.raises(OSError, match="No space left"):
        at.copy_whole(Full(), 2560)
    assert waits == []
    with open(tmp_path / "copy", "ab") as file, pytest.raises(DataError, match=r"2,560 bytes were sent, 3,000 were"):
        at.copy_whole(file, 3000)
    assert len(waits) == place_module.TRIES - 1


def test_the_user_is_told_of_repeated_failures(at, web_store, waits, caplog):
    web_store.faults.every = 1
    with pytest.raises(DataError, match="status 503"):
        at.version()
    assert [record.getMessage() for record in caplog.records] == [
        f"{at.address} cannot be read (status 503 Service Unavailable): it is tried again"
    ]


def test_a_request_is_not_repeated_for_ever(at, web_store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(place_module.time, "sleep", lambda _: now.append(now[-1] + 200))
    monkeypatch.setattr(place_module.time, "monotonic", lambda: now[-1])
    web_store.faults.every = 1
    with pytest.raises(DataError, match="status 503"):
        at.version()
    assert len(now) == 3


def test_requests_are_repeated(at, web_store, waits):
    web_store.faults.every = 2
    for _ in range(4):
        assert at.read_ranges([(start, start + 1) for start in range(9)]) == [bytes([start]) for start in range(9)]
    assert waits
    assert at.version().size == 2560


def test_waits_grow(at, web_store, waits):
    web_store.faults.every = 1
    with pytest.raises(DataError, match=r"a\.tar cannot be read \(status 503.*\)\. Check the address"):
        at.version()
    assert len(waits) == place_module.TRIES - 1
    limits = [0.25 * 2**number for number in range(len(waits))]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))


def test_missing_object_is_no_failure(at, waits):
    with pytest.raises(FileNotFoundError, match=r"b\.tar"):
        at.below("../b.tar").version()
    with pytest.raises(FileNotFoundError, match=r"b\.tar"):
        at.below("../b.tar").read_ranges([(0, 1)])
    assert waits == []


def test_names_of_a_page(web_store):
    (web_store.folder / "sub").mkdir()
    (web_store.folder / "x.tar").write_bytes(b"x")
    place = RemotePlace(web_store.url)
    assert place.names() == {"x.tar": Version(None, "")}
    assert place.names("sub") == {}
    web_store.lists = False
    assert place.names() is None


def test_an_object_holds_no_names(tmp_path):
    RemotePlace("memory://of-objects/x").write(__file__)
    assert list(RemotePlace("memory://of-objects").names() or {}) == ["x"]
    assert RemotePlace("memory://of-objects/x").names() == {}
    RemotePlace("memory://of-objects").check_writable(tmp_path)
    assert list(RemotePlace("memory://of-objects").names() or {}) == ["x"]
    assert not list(tmp_path.iterdir())
    RemotePlace("memory://of-objects/x").remove()


def test_a_store_that_lets_nothing_be_removed_can_be_written(tmp_path, monkeypatch):
    import fsspec

    def refuse(self, path):
        raise PermissionError("no right to delete")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "rm_file", refuse)
    for _ in range(2):
        RemotePlace("memory://of-rights").check_writable(tmp_path)
    assert list(RemotePlace("memory://of-rights").names() or {}) == [".probe"]
    monkeypatch.undo()
    RemotePlace("memory://of-rights/.probe").remove()


def test_names_of_other_stores():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/of-names/cells/a.tar", b"12345")
    memory.pipe("/of-names/cells/splits/b.parquet", b"1")
    place = RemotePlace("memory://of-names/cells")
    found = place.names()
    assert found is not None
    assert {name: version.size for name, version in found.items()} == {"a.tar": 5}
    assert found["a.tar"].stamp
    assert list(place.names("splits") or {}) == ["b.parquet"]
    assert place.names("nothing") == {}
    memory.rm("/of-names", recursive=True)


def test_write_and_remove(tmp_path):
    (tmp_path / "x").write_bytes(b"here")
    place = RemotePlace("memory://of-writing/x")
    place.write(str(tmp_path / "x"))
    assert place.read() == b"here"
    place.remove()
    place.remove()
    with pytest.raises(FileNotFoundError):
        place.version()


def test_pickled_place_connects_again(at):
    size = at.version().size
    again = pickle.loads(pickle.dumps(at))
    assert again == at
    assert again.version().size == size


def test_server_that_is_not_there(waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=f"http://127.0.0.1:{port}/x cannot be read"):
        RemotePlace(f"http://127.0.0.1:{port}/x").version()


def test_unknown_scheme():
    with pytest.raises(ArgumentError, match="address must be one whose scheme is known, got 'nonsense://x/y'"):
        RemotePlace("nonsense://x/y").connect()


def test_missing_package(monkeypatch):
    import fsspec.core

    def refuse(*arguments, **options):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(FastcellError, match="gs:// needs the package gcsfs.*pip install gcsfs") as error:
        RemotePlace("gs://bucket/x").connect()
    assert "\n" not in str(error.value)
    with pytest.raises(FastcellError, match="s3:// needs the package s3fs.*Install it: .*(s3fs|remote)"):
        RemotePlace("s3://bucket/x").connect()


def test_digest_tells_texts_apart():
    assert digest_of("a", "bc") != digest_of("ab", "c")
    assert len(digest_of("a")) == 32
