"""Headers that every tar program reads; and the tars of other programs, walked to the byte."""

import gzip
import io
import subprocess
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.dataset import tar
from fastcell.errors import DataError

LONG = "folder-" + "x" * 120 + "/" + "name " * 30 + "é.jpg"
NASTY = ["a.jpg", "./b.jpg", "deep/er/c.jpg", "with space.jpg", "zwölf.jpg", "細胞.jpg", LONG]


def write(path, members, tar_format=tarfile.USTAR_FORMAT, **headers):
    with tarfile.open(path, "w", format=tar_format, pax_headers=headers or None) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def contents(path):
    data = path.read_bytes()
    return [(member.name, data[member.offset : member.offset + member.size]) for member in tar.walk_members(path)]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=24)


@given(NAMES, st.binary(max_size=1500))
@settings(max_examples=60)
def test_header_is_read_back_by_tarfile(name, data):
    name = "n" + name.strip("/") + "n"
    header = tar.make_header(name.encode(), len(data))
    assert len(header) == 512
    assert tar.checksum_holds(header)
    assert tar.header_size(header) == len(data)
    archive = io.BytesIO(header + data + tar.padding(len(data)) + tar.END)
    with tarfile.open(fileobj=archive, mode="r:") as file:
        (member,) = file.getmembers()
        assert (member.name, member.size, member.mtime, member.mode, member.uid) == (name, len(data), 0, 0o644, 0)
        assert member.isreg()
        assert file.extractfile(member).read() == data


@pytest.mark.parametrize(("name", "size"), [(b"", 1), (b"x" * 101, 1), (b"x", 8 << 30), (b"x", -1)])
def test_header_refuses_what_it_cannot_hold(name, size):
    with pytest.raises(ValueError, match="no ustar header"):
        tar.make_header(name, size)


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_python(tmp_path, tar_format):
    members = [(name, name.encode() * (number * 40)) for number, name in enumerate(NASTY)]
    path = write(tmp_path / "a.tar", members, tar_format)
    assert contents(path) == [(name.removeprefix("./"), data) for name, data in members]


def test_pax_global_header_and_prefix_names(tmp_path):
    name = "f" * 90 + "/" + "g" * 60 + ".jpg"  # beyond 100 bytes: ustar cuts it in two
    assert contents(write(tmp_path / "u.tar", [(name, b"1")])) == [(name, b"1")]
    path = write(tmp_path / "g.tar", [(name, b"1"), ("b", b"22")], tarfile.PAX_FORMAT, comment="made by hand")
    assert contents(path) == [(name, b"1"), ("b", b"22")]


@pytest.mark.parametrize("tar_format", ["gnu", "pax", "posix", "ustar", "oldgnu", "v7"])
def test_tars_of_gnu_tar(tmp_path, tar_format):
    folder = tmp_path / "cells"
    names = ["a.jpg", "G1/b c.jpg", "G1/細胞.jpg"]
    if tar_format not in ("ustar", "v7"):
        names.append("G1/" + "y" * 140 + ".jpg")
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([number]) * (500 * number + 1))
    path = tmp_path / "cells.tar"
    command = ["tar", f"--format={tar_format}", "--sort=name", "-cf", str(path), "-C", str(folder), "."]
    subprocess.run(command, check=True)
    assert sorted(contents(path)) == sorted((name, (folder / name).read_bytes()) for name in names)
    assert all(member.plain and member.offset % 512 == 0 for member in tar.walk_members(path))


def test_links_and_sparse_files_are_not_plain(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1" * 700)
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    (tmp_path / "c.jpg").symlink_to("a.jpg")
    with open(tmp_path / "d.jpg", "wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"x")
    for tar_format in ("gnu", "pax"):
        path = tmp_path / f"{tar_format}.tar"
        names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
        command = ["tar", f"--format={tar_format}", "--sparse", "-cf", str(path), "-C", str(tmp_path), *names]
        subprocess.run(command, check=True)
        assert [(member.name, member.plain) for member in tar.walk_members(path)] == [
            ("a.jpg", True),
            ("b.jpg", False),
            ("c.jpg", False),
            ("d.jpg", False),
        ]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    members = [("a.jpg", b"1" * 300), (LONG, b"2" * 600), ("é.cls", b"3")]
    folder = tmp_path_factory.mktemp("tars")
    formats = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    tars = [
        write(folder / f"{f}.tar", members if f else members[:1], f, **({"g": "h"} if f == 2 else {})) for f in formats
    ]
    return folder / "damaged.tar", [path.read_bytes() for path in tars]


@given(st.integers(0, 2), st.integers(0, 10**6), st.binary(min_size=1, max_size=40), st.booleans())
@settings(max_examples=200)
def test_damage_ends_in_a_message_or_in_members_within_the_file(healthy, which, place, noise, cut):
    path, tars = healthy
    data = tars[which]
    place %= len(data)
    data = data[:place] + (b"" if cut else noise + data[place + len(noise) :])
    path.write_bytes(data)
    try:
        members = list(tar.walk_members(path))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    assert all(0 < member.offset <= member.offset + member.size <= len(data) for member in members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "not a tar file: it has 0 bytes"),
        (lambda data: b"some text" * 200, "is not a tar file"),
        (gzip.compress, r"must be an uncompressed tar, got gzip compression"),
        (lambda data: data[:1024], "is truncated"),  # whole members, no end mark
        (lambda data: data[:700], "is truncated"),  # inside a member
        (lambda data: data[:1300], "is truncated"),  # inside a header
        (lambda data: data[:1024] + b"x" + data[1025:], "is damaged at byte 1,024"),
        (lambda data: data + data, "after its end mark"),
    ],
)
def test_tars_that_cannot_be_read(tmp_path, change, message):
    path = write(tmp_path / "a.tar", [("a.jpg", b"1" * 300), ("b.jpg", b"2" * 300)])
    assert len(contents(path)) == 2
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        list(tar.walk_members(path))
    assert str(path) in str(caught.value)


def forged(kind=b"0", name=b"a.png", size=b"00000001000\0", body=bytes(512)):
    """A tar of one header with any field and a checksum that holds, `body`, and the end mark."""
    header = bytearray(tar.make_header(name[:100], 512))
    header[124:136], header[156:157], header[148:156] = size, kind, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + body + tar.padding(len(body)) + tar.END


def extended(kind, body):
    """The same of an extension header in front of a member a.png of 512 bytes."""
    return forged(kind, size=b"%011o\0" % len(body), body=body)[: -len(tar.END)] + forged()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (forged(size=b"-0000001000\0"), "is damaged at byte 0"),  # -512: the walk stood still for ever
        (forged(size=b"-0000000001\0"), "is damaged at byte 0"),
        (forged(size=b"1_0\0\0\0\0\0\0\0\0\0"), "is damaged at byte 0"),
        (forged(size=b"\x80" + b"\xff" * 11), "is truncated"),
        (forged(b"K", size=b"\x80" + b"\xff" * 11), "is truncated"),  # a place that no seek takes
        (forged(b"L", size=b"17777777777\0"), "is truncated"),
        (extended(b"L", b"n" * 2_000_000), "has a name or header of 2,000,000 bytes"),
        (extended(b"L", b"n" * 5_000), "has a name of 5,000 bytes"),
        (extended(b"x", b"5014 size=" + b"9" * 5_003 + b"\n"), "damaged pax header"),  # more digits than int() takes
    ],
)
def test_headers_that_claim_too_much(tmp_path, data, message):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(tar.walk_members(tmp_path / "a.tar"))


def test_long_names_and_many_records_take_no_time(tmp_path):
    begin = time.perf_counter()
    (tmp_path / "a.tar").write_bytes(extended(b"L", b"./" * 500_000 + b"a.png"))
    with pytest.raises(DataError, match="has a name of"):
        list(tar.walk_members(tmp_path / "a.tar"))
    record = b"20 comment%06d=a\n\n\n"
    common = extended(b"g", b"".join(record.replace(b"%06d", b"%06d" % i)[:20] for i in range(40_000)))[: -len(tar.END)]
    (tmp_path / "b.tar").write_bytes(common + forged()[: -len(tar.END)] * 2_000 + tar.END)
    assert sum(1 for _ in tar.walk_members(tmp_path / "b.tar")) == 2_001
    assert time.perf_counter() - begin < 5


def test_names_end_at_a_zero_and_lose_their_front(tmp_path):
    (tmp_path / "a.tar").write_bytes(extended(b"L", b"././b.png\0rest"))
    assert [member.name for member in tar.walk_members(tmp_path / "a.tar")] == ["b.png"]
