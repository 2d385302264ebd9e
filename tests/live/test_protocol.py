"""Bytes of the stream protocol: what docs/guides/live.md states, in any pieces, and what is refused."""

import struct

import numpy as np
import pytest
from fixtures.live_servers import frame_of, some_cells

from fastcell.live.protocol import (
    HEADER_DTYPE,
    MAGIC,
    AnswerStatus,
    FrameReader,
    Frames,
    ProtocolError,
    Welcome,
    answer_dtype,
    client_greeting,
    closing_message,
    empty_answers,
    read_client_greeting,
)


def read_all(data, sizes):
    """Feed bytes in pieces of these sizes, again and again."""
    reader, place, turn = FrameReader(), 0, 0
    cells = []
    ids = []
    times = []
    pitch = []
    while place < len(data):
        size = sizes[turn % len(sizes)]
        found, wrong = reader.feed(data[place : place + size])
        for frames in found:
            cells += list(frames.cells)
            ids += frames.ids.tolist()
            times += frames.times.tolist()
            pitch += frames.um_per_px.tolist()
        if wrong:
            return cells, ids, times, pitch, wrong
        place, turn = place + size, turn + 1
    assert not reader.waiting
    return cells, ids, times, pitch, None


@pytest.mark.parametrize("sizes", [[1], [7, 1000], [32], [1 << 20]])
def test_frames_of_all_sizes_come_out_as_they_went_in(sizes):
    rng = np.random.default_rng(1)
    sent = [*some_cells(9)]
    sent += [rng.integers(0, 65536, (3 + number, 9), dtype=np.uint16) for number in range(3)]
    sent += [*some_cells(3, 2), *rng.integers(0, 65536, (6, 5, 4), dtype=np.uint16), some_cells(1, 3, (1, 1))[0]]
    numbers = [(1 << 64) - 1 - number for number in range(len(sent))]
    data = b"".join(frame_of(cell, number, number // 3, 0.5) for cell, number in zip(sent, numbers, strict=True))
    cells, ids, times, pitch, wrong = read_all(data, sizes)
    assert wrong is None
    assert ids == numbers
    assert times == [number // 3 for number in numbers]
    assert pitch == [0.5] * len(sent)
    for found, cell in zip(cells, sent, strict=True):
        assert found.dtype == cell.dtype
        np.testing.assert_array_equal(found, cell)


def test_the_bytes_of_a_frame_are_those_of_the_page():
    cell = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    data = frame_of(cell, 7, 8, 0.25)
    assert data == (
        struct.pack("<I", 40) + struct.pack("<HH", 3, 2) + bytes([16, 0, 0, 0]) + struct.pack("<f", 0.25)
        + struct.pack("<QQ", 7, 8) + bytes([1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0])
    )  # fmt: skip
    head = np.frombuffer(data[:32], HEADER_DTYPE)[0]
    assert (head["length"], head["width"], head["height"], head["bits"], head["id"], head["time"]) == (
        40,
        3,
        2,
        16,
        7,
        8,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 12}, "bits must be 8 or 16, got 12"),
        ({"width": 0}, "width and height must be at least 1, got 0 x 5"),
        ({"height": 0}, "width and height must be at least 1"),
        ({"length": 47}, "length must be 48 for 4 x 5 pixels of 8 bits, got 47"),
        ({"length": 0}, "length must be 48"),
        ({"length": 0xFFFFFFFF}, "length must be 48"),
        ({"zero": 1}, "bytes 9 to 11 must be 0"),
        ({"zeros": 256}, "bytes 9 to 11 must be 0"),
        ({"width": 65535, "height": 65535, "length": 28 + 65535 * 65535}, "a frame must have at most"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 9])
def test_a_wrong_header_is_named_and_the_frames_before_it_are_kept(change, words, before):
    head = np.frombuffer(frame_of(some_cells(1, 0, (5, 4))[0])[:32], HEADER_DTYPE).copy()
    for name, value in change.items():
        head[name] = value
    good = b"".join(frame_of(cell, number) for number, cell in enumerate(some_cells(before, 0, (5, 4))))
    found, wrong = FrameReader().feed(good + head.tobytes() + bytes(20))
    assert wrong is not None
    assert words in wrong
    assert [number for frames in found for number in frames.ids.tolist()] == list(range(before))


def test_a_pitch_that_is_no_length_is_unknown():
    cells = some_cells(6)
    values = [0.0, -1.0, float("nan"), float("inf"), 0.5, 2.0]
    data = b"".join(frame_of(cell, 0, 0, value) for cell, value in zip(cells, values, strict=True))
    (frames,), _ = FrameReader().feed(data)
    np.testing.assert_array_equal(frames.um_per_px, np.array([np.nan] * 4 + [0.5, 2.0], np.float32))


def test_a_part_of_frames_has_their_values():
    (frames,), _ = FrameReader().feed(b"".join(frame_of(cell, 5 + n) for n, cell in enumerate(some_cells(8))))
    part = frames.part(2, 5)
    assert isinstance(part, Frames)
    assert part.ids.tolist() == [7, 8, 9]
    np.testing.assert_array_equal(part.cells, some_cells(8)[2:5])


@pytest.mark.parametrize("classes", [["a", "b"], ["Größe", ""], ["x" * 300] * 40])
def test_the_greeting_of_the_server_is_read_in_any_pieces(classes):
    welcome = Welcome(classes, True, 12345)
    data = welcome.to_bytes()
    for end in range(0, len(data), max(1, len(data) // 50)):
        assert Welcome.from_bytes(data[:end]) is None
    assert Welcome.from_bytes(data + b"more") == (welcome, len(data))
    assert data[:8] == b"FCELLS1\n"
    assert struct.unpack_from("<IHHI", data, 8) == (len(data) - 12, len(classes), 1, 12345)


def test_another_server_is_no_server():
    with pytest.raises(ProtocolError, match="must greet"):
        Welcome.from_bytes(b"HTTP/1.1 400")


def test_the_greeting_of_a_client_is_read_in_any_pieces():
    data = client_greeting("schlüssel")
    for end in range(len(data)):
        assert read_client_greeting(data[:end]) is None
    assert read_client_greeting(data + b"frames") == ("schlüssel", len(data))
    assert client_greeting() == MAGIC + b"\0\0"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"FCELLS2\n\0\0", b"\0", MAGIC + b"\xff\xff"])
def test_other_bytes_are_no_greeting(data):
    with pytest.raises(ProtocolError):
        read_client_greeting(data)


def test_answers_have_the_bytes_of_the_page():
    (frames,), _ = FrameReader().feed(frame_of(some_cells(1)[0], 9, 10))
    answer = empty_answers(frames, 3, AnswerStatus.DROPPED)
    answer["flags"], answer["unlike_score"], answer["spent_us"], answer["queue"], answer["p"] = 3, 1.5, 6, 7, 0.5
    assert answer.tobytes() == struct.pack("<IHHQQifII3f", 48, 1, 3, 9, 10, -1, 1.5, 6, 7, 0.5, 0.5, 0.5)
    assert answer_dtype(3).itemsize == 52


def test_a_last_message_has_the_header_of_an_answer_and_a_text():
    data = closing_message(AnswerStatus.ERROR, "größer")
    length, status = struct.unpack_from("<IH", data)
    assert (length, status) == (len(data) - 4, 3)
    assert data[40:].decode() == "größer"
