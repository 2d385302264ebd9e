"""The journal of a watched source: answers by key and pixels, read again after a kill, torn pieces left out."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from fixtures.live_servers import some_cells

from fastcell.inference.network_answers import ChunkAnswers
from fastcell.inference.unlike.reasons import UnlikeScores
from fastcell.live.watch_journal import WatchJournal, cell_hash


def answers(num, seed, scored):
    rng = np.random.default_rng(seed)
    unlike = UnlikeScores(rng.random(num).astype(np.float32), rng.integers(-2, 9, (num, 2)).astype(np.int16))
    return ChunkAnswers(rng.random((num, 3), dtype=np.float32), unlike if scored else None)


@pytest.mark.parametrize("scored", [True, False])
def test_answers_are_read_again_bit_by_bit(tmp_path, scored):
    journal = WatchJournal(tmp_path, 3, scored)
    first, second = answers(4, 0, scored), answers(2, 1, scored)
    journal.add(["a", "b/é", "c", "d"], [bytes([n]) * 16 for n in range(4)], first)
    journal.add(["e", "a"], [bytes([9]) * 16, bytes([7]) * 16], second)
    for one in (journal, WatchJournal(tmp_path, 3, scored)):
        assert len(one) == 5
        assert "b/é" in one
        assert "x" not in one
        assert one.find("a", bytes(16)) == -1  # its pixels have changed
        places = [one.find("b/é", bytes([1]) * 16), one.find("e", bytes([9]) * 16), one.find("a", bytes([7]) * 16)]
        found = one.at(places)
        expected = np.stack([first.probabilities[1], *second.probabilities])
        np.testing.assert_array_equal(found.probabilities, expected)
        assert (found.unlike is not None) == scored
        if found.unlike is not None and first.unlike is not None and second.unlike is not None:
            np.testing.assert_array_equal(found.unlike.scores, [first.unlike.scores[1], *second.unlike.scores])
            np.testing.assert_array_equal(found.unlike.off, [first.unlike.off[1], *second.unlike.off])


def test_a_torn_piece_counts_as_none_and_its_number_is_free(tmp_path):
    journal = WatchJournal(tmp_path, 3, True)
    for number in range(3):
        journal.add([str(number)], [bytes(16)], answers(1, number, True))
    path = sorted(tmp_path.glob("*.saved"))[1]
    path.write_bytes(path.read_bytes()[:-9])
    again = WatchJournal(tmp_path, 3, True)
    assert [str(n) in again for n in range(3)] == [True, False, True]
    again.add(["1"], [bytes(16)], answers(1, 1, True))
    assert len(WatchJournal(tmp_path, 3, True)) == 3


def test_many_small_pieces_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.live.watch_journal._MOST_SMALL", 4)
    monkeypatch.setattr("fastcell.live.watch_journal._LEAST_LARGE", 4)
    journal = WatchJournal(tmp_path, 3, True)
    given = [answers(1, number, True) for number in range(10)]
    counts = []
    for number, one in enumerate(given):
        journal.add([str(number)], [bytes([number]) * 16], one)
        counts.append(len(list(tmp_path.iterdir())))
    assert counts == [1, 2, 3, 1, 2, 3, 4, 2, 3, 4]
    for one in (journal, WatchJournal(tmp_path, 3, True)):
        found = one.at([one.find(str(number), bytes([number]) * 16) for number in range(10)])
        np.testing.assert_array_equal(found.probabilities, np.concatenate([one.probabilities for one in given]))


def test_a_kill_while_pieces_become_one_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.live.watch_journal._MOST_SMALL", 4)
    journal = WatchJournal(tmp_path, 3, False)
    given = [answers(2, number, False) for number in range(4)]
    unlink = Path.unlink

    def killed(path):
        unlink(path)
        raise SystemExit

    monkeypatch.setattr(Path, "unlink", killed)
    for number, one in enumerate(given):
        with pytest.raises(SystemExit) if number == 3 else nullcontext():
            journal.add([f"{number}a", f"{number}b"], [bytes([number]) * 16] * 2, one)
    monkeypatch.undo()
    again = WatchJournal(tmp_path, 3, False)
    assert len(again) == 8
    found = again.at([again.find(f"{number}{x}", bytes([number]) * 16) for number in range(4) for x in "ab"])
    np.testing.assert_array_equal(found.probabilities, np.concatenate([one.probabilities for one in given]))


def test_the_hash_is_of_all_that_an_answer_depends_on():
    cell = some_cells(1)[0]
    assert cell_hash(cell, 0.5, None) == cell_hash(np.asfortranarray(cell), 0.5, None)
    others = [cell.T, cell.astype(np.uint16), cell[:-1], cell ^ (np.arange(cell.size).reshape(cell.shape) == 5)]
    hashes = {cell_hash(cell, 0.5, None), cell_hash(cell, 0.25, None), cell_hash(cell, 0.5, (0, 9))}
    assert len(hashes | {cell_hash(one, 0.5, None) for one in others}) == 7
