"""Labels are read as they are meant, taught by cross-validation, and what they teach is said with its error."""

import numpy as np
import pytest

from fastcell.errors import DataError
from fastcell.quality.features import FEATURES
from fastcell.quality.hand_labels import LEAST_LABELS, HandLabels, can_learn, learn, read_hand_labels


def labelled(defects, chosen, words=("good", "bad")):
    kinds = np.where(defects[chosen] == "none", words[0], words[1] if words[1] else defects[chosen])
    return HandLabels(np.asarray(chosen), kinds.astype(object))


def test_words(fresh, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("cell_id,label\n3,good\n1, BAD\n2,Keep\n5,drop\n4,out of focus\n")
    found = read_hand_labels(path, fresh)
    assert found.cell_ids.tolist() == [3, 1, 2, 5, 4]
    assert found.kinds.tolist() == ["good", "bad", "good", "bad", "out of focus"]
    assert found.bad.tolist() == [False, True, False, True, True]
    key = fresh.table.column("key")[6].as_py()
    path.write_text(f"key,verdict,reason,score\n{key},drop,cut,0.4\n")
    assert (read_hand_labels(path, fresh).cell_ids.tolist(), read_hand_labels(path, fresh).kinds.tolist()) == (
        [6],
        ["cut"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell_id\n1\n", "must have a column label"),
        ("cell_id,label\n1,good\n2,\n", "label must be good, bad or a reason, got '' in line 3"),
        ("cell_id,label\n1,good\n2,1\n", "label must be good, bad or a reason, got '1' in line 3"),
        ("cell_id,label\n1,OK\n", "label must be good, bad or a reason, got 'ok' in line 2"),
        ("cell_id,verdict\n1,good\n", "verdict must be keep or drop, got 'good' in line 2"),
        ("cell_id,label\n1,good\n1,bad\n", "line 3 names cell '1' again"),
    ],
)
def test_bad_labels_are_refused(fresh, tmp_path, text, message):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_hand_labels(tmp_path / "l.csv", fresh)


def test_labels_teach_what_the_rest_is(measured, defects):
    chosen = np.arange(300)
    labels = labelled(defects, chosen, ("good", None))
    learned = learn(labels, measured, np.zeros((len(measured), 1)), 0.1)
    rest = np.arange(300, 600)
    bad = defects[rest] != "none"
    drop = learned.scores[rest] >= learned.threshold.score
    assert drop[bad].mean() > 0.9
    assert drop[~bad].mean() < 0.1
    named = np.isin(learned.reasons[rest][bad], np.unique(defects))
    assert (learned.reasons[rest][bad] == defects[rest][bad])[named].mean() > 0.8
    assert (learned.num_bad, learned.num_good) == (int(labels.bad.sum()), int((~labels.bad).sum()))


def test_what_the_simulated_cells_do_not_know_is_learned_from_labels(measured):
    # Good is whatever is wider than half of the cells in pixels: seen in `elongation` and the like at best, not in a
    # model of defects; so labels that nothing in the features tells are known by a poor cross-validation.
    noise = np.random.default_rng(0).random(len(measured)) < 0.5
    labels = HandLabels(np.arange(400), np.where(noise[:400], "good", "bad").astype(object))
    learned = learn(labels, measured, np.zeros((len(measured), 1)), 0.05)
    assert learned.bad_passed / learned.num_bad <= 0.05
    assert learned.good_dropped / learned.num_good > 0.7, (
        "where nothing tells them apart, few bad passed is many dropped"
    )


def test_an_unreadable_cell_has_no_score(measured, defects):
    broken = measured.copy()
    broken[[5, 590]] = np.nan
    learned = learn(labelled(defects, np.arange(300)), broken, np.zeros((len(measured), 1)), 0.1)
    assert np.flatnonzero(np.isnan(learned.scores)).tolist() == [5, 590]
    assert learned.num_bad + learned.num_good == 299


def test_rare_kinds_are_taken_together(measured, defects):
    kinds = labelled(defects, np.arange(300)).kinds
    bad = np.flatnonzero(kinds == "bad")
    kinds[bad[:30]], kinds[bad[30:33]], kinds[bad[33:]] = "cut", "odd", "cut"
    learned = learn(HandLabels(np.arange(300), kinds), measured, np.zeros((len(measured), 1)), 0.1)
    assert set(learned.reasons) == {"cut"}


def test_too_few_are_told(measured, defects):
    good, bad = np.flatnonzero(defects == "none"), np.flatnonzero(defects != "none")
    assert can_learn(labelled(defects, np.r_[good[:LEAST_LABELS], bad[:LEAST_LABELS]]), measured)
    assert not can_learn(labelled(defects, np.r_[good[: LEAST_LABELS - 1], bad[:LEAST_LABELS]]), measured)
    broken = measured.copy()
    broken[good[0], FEATURES.index("focus")] = np.nan
    assert not can_learn(labelled(defects, np.r_[good[:LEAST_LABELS], bad[:LEAST_LABELS]]), broken)
