"""One client of the server, with a socket pair instead of the server: greetings, order, last messages."""

import socket

import numpy as np
import pytest
from fixtures.live_servers import frame_of, some_cells

from fastcell.live import connection as module
from fastcell.live.cell_block import CellBlock
from fastcell.live.connection import Connection
from fastcell.live.protocol import AnswerStatus, client_greeting

SCRATCH = memoryview(bytearray(1 << 16))


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    yield Connection(ours, "test", b"WELCOME", "secret"), theirs
    ours.close()
    theirs.close()


def greet(connection, theirs, more=b""):
    theirs.sendall(client_greeting("secret") + more)
    assert connection.receive(SCRATCH) is None
    connection.flush()
    assert theirs.recv(7) == b"WELCOME"


def test_frames_behind_the_greeting_are_held_with_their_time(pair):
    connection, theirs = pair
    greet(connection, theirs, b"".join(frame_of(cell, 3 + n) for n, cell in enumerate(some_cells(2))))
    ((frames, arrived),) = connection.held
    assert frames.ids.tolist() == [3, 4]
    assert arrived > 0
    assert not connection.reads  # before these have found their place


@pytest.mark.parametrize("data", [client_greeting(), client_greeting("wrong"), b"GET / HTTP/1.1\r\n"])
def test_a_wrong_greeting_is_named(pair, data):
    connection, theirs = pair
    theirs.sendall(data)
    wrong = connection.receive(SCRATCH)
    assert wrong is not None
    connection.end(AnswerStatus.ERROR, wrong)
    connection.flush()
    assert wrong.encode() in theirs.recv(4096)
    assert theirs.recv(1) == b""
    assert connection.reads  # what the client still sends is thrown away
    theirs.sendall(b"more" * 100)
    assert connection.receive(SCRATCH) is None
    assert not connection.over
    theirs.close()
    connection.receive(SCRATCH)
    assert connection.over


def test_answers_leave_in_the_order_of_the_frames(pair):
    connection, theirs = pair
    greet(connection, theirs, frame_of(some_cells(1)[0], 1) + frame_of(some_cells(1, 1, (3, 3))[0], 2))
    (frames, _) = connection.held.popleft()
    first, second = (CellBlock(frames.part(n, n + 1), 2, 0.0, lambda block: None) for n in range(2))
    connection.pending.extend([first, second])
    second.left = 0
    connection.end(AnswerStatus.END)
    assert connection.collect() == []
    connection.flush()
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    first.left = 0
    assert connection.collect() == [first, second]
    connection.flush()
    data = theirs.recv(4096)
    assert [int.from_bytes(data[place + 8 : place + 16], "little") for place in (0, 48)] == [1, 2]
    assert data[96 + 4] == AnswerStatus.END
    assert len(data) == 96 + 40
    assert connection.settled


def test_unread_answers_stop_the_reading(pair, monkeypatch):
    connection, theirs = pair
    greet(connection, theirs)
    assert connection.reads
    monkeypatch.setattr(module, "MOST_UNSENT_BYTES", 10)
    connection.unsent += bytes(10)
    assert not connection.reads


def test_a_client_that_left_abandons_its_frames(pair):
    connection, theirs = pair
    greet(connection, theirs, b"".join(frame_of(cell, 5 + n) for n, cell in enumerate(some_cells(4))))
    frames, arrived = connection.held.popleft()
    block = CellBlock(frames.part(0, 2), 2, arrived, lambda block: None)
    connection.pending.append(block)
    connection.held.append((frames.part(2, 4), arrived))
    theirs.close()
    connection.unsent += bytes(1 << 20)
    connection.flush()
    assert connection.broken
    assert connection.over
    dropped = CellBlock(frames, 2, arrived, lambda block: None)
    dropped.drop()
    connection.pending.append(dropped)  # has been counted and listed as dropped
    np.testing.assert_array_equal(connection.unanswered(), [5, 6, 7, 8])
    assert block.abandoned
    assert len(connection.unanswered()) == 0
