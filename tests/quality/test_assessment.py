"""A set is judged by what fits it, and the notes say by what."""

import numpy as np
import pyarrow as pa
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError
from fastcell.quality.assessment import UNREADABLE, assess, collections, held_out_counts
from fastcell.quality.features import FEATURES
from fastcell.quality.hand_labels import HandLabels
from fastcell.quality.simulated_model import load_model


def test_simulated_cells_are_judged_by_the_model(synthetic, measured, defects):
    found = assess(synthetic, measured)
    assert found.drop[defects != "none"].mean() > 0.97
    assert found.drop[defects == "none"].mean() < 0.01
    mine = found.drop & (defects != "none")
    assert (found.reasons[mine] == defects[mine]).mean() > 0.9
    assert (found.reasons[found.scores < 0.1] == "").all()
    assert [note.split(":")[0] for note in found.notes] == ["collection-1", "collection-2", "threshold 0.500"]
    assert all("resembles the simulated cells" in note for note in found.notes[:2])


def test_a_stricter_share_drops_more(synthetic, measured):
    usual, strict = (assess(synthetic, measured, None, share) for share in (0.05, 0.001))
    assert (strict.drop >= usual.drop).all()
    model = load_model()
    level = np.sort(model.calibration["below_even"])[0]
    assert any(note.startswith(f"threshold {level:.3f}") for note in strict.notes)
    assert any("too few to guarantee" in note for note in assess(synthetic, measured, None, 1e-6).notes)
    with pytest.raises(ArgumentError, match="--max-bad-passed must be a share above 0 and below 1, got 1"):
        assess(synthetic, measured, None, 1)


def test_held_out_cells_are_counted_below_and_above():
    model = load_model()
    passed, num_bad, dropped, num_good = held_out_counts(model, 0.5)
    assert num_bad + num_good == 8_000
    assert (passed / num_bad, dropped / num_good) < (0.01, 0.01)
    assert held_out_counts(model, 0.0)[0] == 0


def test_cells_unlike_the_simulated_ones_are_judged_by_their_own_bulk(synthetic, measured):
    other = measured.copy()
    other[:, FEATURES.index("sharpness")] += 3
    found = assess(synthetic, other)
    assert sum("does not resemble the simulated cells" in note for note in found.notes) == 2
    assert not any(note.startswith("threshold") for note in found.notes)
    assert found.drop.mean() < 0.3


def test_an_unreadable_cell_is_dropped_and_told(synthetic, measured):
    broken = measured.copy()
    broken[[3, 9]] = np.nan
    found = assess(synthetic, broken)
    assert found.drop[[3, 9]].all()
    assert found.scores[[3, 9]].tolist() == [1, 1]
    assert found.reasons[[3, 9]].tolist() == [UNREADABLE] * 2
    assert found.notes[-1] == "unreadable: 2 cells, dropped; fastcell verify lists the reasons"
    nothing = assess(synthetic, np.full_like(measured, np.nan))
    assert nothing.drop.all()


def test_labels_take_the_place_of_the_model_and_stand(synthetic, measured, defects):
    # To this user doublets are good cells.
    kinds = np.where(np.isin(defects, ("none", "doublet")), "good", "bad").astype(object)
    found = assess(synthetic, measured, HandLabels(np.arange(400), kinds[:400]), 0.1)
    assert found.drop[:400].tolist() == (kinds[:400] == "bad").tolist()
    rest = np.arange(400, 600)
    doublets = rest[defects[rest] == "doublet"]
    assert found.drop[doublets].mean() < 0.3 < assess(synthetic, measured).drop[doublets].mean()
    assert found.notes[0].startswith("labels: model fitted to")
    assert "in cross-validation on them" in found.notes[1]
    # Labelled as no more than bad, a cell keeps the reason that is known otherwise.
    assert set(found.reasons[found.drop]) <= {"empty", "cut", "defocused", "ghost", "doublet", "bad", ""}


def test_few_labels_teach_nothing_and_stand_all_the_same(synthetic, measured):
    plain = assess(synthetic, measured)
    good, bad = int(np.argmin(plain.scores)), int(np.argmax(plain.scores))
    found = assess(synthetic, measured, HandLabels(np.array([good, bad]), np.array(["torn", "good"], dtype=object)))
    changed = np.flatnonzero(found.drop != plain.drop)
    assert sorted(changed.tolist()) == sorted([good, bad])
    assert found.reasons[good] == "torn"
    assert any("labels: 1 good and 1 bad ones, too few for a model" in note for note in found.notes)


def test_a_class_that_is_hit_hardest_is_named(synthetic, measured):
    bad = synthetic.labels == 2
    usual = assess(synthetic, measured)
    worse = measured.copy()
    for rows in collections(synthetic, np.ones(len(synthetic), bool)).values():
        worse[rows] = measured[rows[np.argmin(usual.scores[rows])]]
    worse[bad, FEATURES.index("foreground")] = 0
    worse[bad, FEATURES.index("contrast")] = 3
    worse[bad, FEATURES.index("snr")] = 0.4
    notes = assess(synthetic, worse).notes
    assert any(
        note.startswith(f"class {synthetic.info.classes[2]}: ") and "naturally resemble" in note for note in notes
    )
    assert not any(note.startswith("class") for note in assess(synthetic, measured).notes)


def test_cells_without_a_collection_are_one(synthetic):
    names = ["a", None, "a", None, "b"]
    place = synthetic.table.schema.get_field_index("collection")
    table = synthetic.table.slice(0, 5).set_column(place, "collection", pa.array(names, pa.string()))
    some = Manifest(synthetic.path, synthetic.info, table)
    chosen = np.array([True, True, False, True, True])
    found = {name: rows.tolist() for name, rows in collections(some, chosen).items()}
    assert found == {"no collection": [1, 3], "a": [0], "b": [4]}
    none = Manifest(synthetic.path, synthetic.info, table.set_column(place, "collection", pa.nulls(5, pa.string())))
    assert list(collections(none, np.ones(5, bool))) == ["cells"]
