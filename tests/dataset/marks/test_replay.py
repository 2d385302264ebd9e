import numpy as np

from fastcell.dataset.marks.journal import Mark
from fastcell.dataset.marks.replay import NO_CLASS, UNMARKED, MarkedCells

NOTHING = np.empty(0, np.int64)


def mark(cells, who="a", **said):
    return Mark.now(who, np.array(cells, np.int64), **said)


def test_the_last_mark_of_a_cell_holds():
    marks = [mark([0, 1, 2], label="A"), mark([1, 2], "b", label="B"), mark([2], label=""), mark([0], reset=True)]
    state = MarkedCells.after(marks, 5)
    assert state.names == ["A", "B"]
    assert state.labels.tolist() == [UNMARKED, 1, NO_CLASS, UNMARKED, UNMARKED]
    assert state.labelled_by.tolist() == [-1, 1, 2, -1, -1]
    assert [one.op for one in state.history(2)] == [marks[0].op, marks[1].op, marks[2].op]


def test_undo_takes_back_one_mark_and_keeps_later_ones():
    first, second = mark([0, 1], label="A"), mark([1], "b", label="B")
    state = MarkedCells.after([first, second], 3)
    touched = state.add([mark([], undo=first.op)])
    assert touched.tolist() == [0, 1]
    assert state.labels.tolist() == [UNMARKED, 1, UNMARKED]
    state.add([mark([], redo=first.op)])
    assert state.labels.tolist() == [0, 1, UNMARKED]


def test_each_person_undoes_their_own_marks_in_turn():
    one, other, two = mark([0], label="A"), mark([0], "b", label="B"), mark([1], label="C")
    state = MarkedCells.after([one, other, two], 3)
    assert state.last_of("a", undone=False) == two
    state.add([mark([], undo=two.op)])
    assert state.last_of("a", undone=False) == one
    assert state.last_of("a", undone=True) == two
    state.add([mark([], undo=one.op)])
    assert state.last_of("a", undone=True) == one
    assert state.last_of("a", undone=False) is None
    assert state.last_of("b", undone=False) == other
    state.add([mark([2], label="D")])
    assert state.last_of("a", undone=True) is None  # a new mark forgets what could be redone


def test_tags_unsure_and_verdicts():
    state = MarkedCells.after(
        [mark([0, 1], tag="x"), mark([1], untag="x"), mark([1, 2], unsure=True), mark([2], verdict="drop")], 3
    )
    assert state.tags["x"].tolist() == [True, False, False]
    assert state.unsure.tolist() == [False, True, True]
    assert state.verdicts.tolist() == [0, 0, 2]


def test_in_parts_as_at_once():
    rng = np.random.default_rng(0)
    marks = []
    for _ in range(200):
        aims = [one for one in marks if len(one.cells)]
        if aims and rng.random() < 0.3:
            aim = aims[rng.integers(len(aims))].op
            marks.append(mark([], **{str(rng.choice(["undo", "redo"])): aim}))
        else:
            marks.append(mark(rng.choice(30, 5).tolist(), label=str(rng.choice(["A", "B", ""]))))
    whole, parts = MarkedCells.after(marks, 30), MarkedCells(30)
    for first in range(0, 200, 7):
        parts.add(marks[first : first + 7])
    np.testing.assert_array_equal(whole.labels, parts.labels)
    # Another way: replay what holds, mark by mark.
    expected = np.full(30, UNMARKED)
    alive = {one.op: True for one in marks}
    for one in marks:
        if one.undo or one.redo:
            alive[one.undo or one.redo or ""] = bool(one.redo)
    for one in marks:
        if alive[one.op] and len(one.cells):
            expected[one.cells] = whole.names.index(one.label) if one.label else NO_CLASS
    np.testing.assert_array_equal(whole.labels, expected)


def test_a_name_of_nothing():
    state = MarkedCells.after([mark([], undo="never", classes=("Q", "R", "Q"))], 2)
    assert state.names == ["Q", "R"]
    assert not state.labelled.any()
    assert state.mark_named("never") is None
