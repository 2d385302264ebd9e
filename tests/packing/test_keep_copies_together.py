"""Exact copies of a cell end in one subset, in any turn; splits that a source brings stay, with a note."""

import numpy as np

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.packing.keep_copies_together import keep_exact_copies_together, note_spanning
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.splits.leakproof import Copies
from fastcell.splits.make_splits import SplitOptions, make_splits

INFO = DatasetInfo("x", ["A"])
OPTIONS = SplitOptions((0.5, 0.0, 0.5))


def write(folder, images):
    keys = [f"{i:02d}.npy" for i in range(len(images))]
    records = (Record(key, image, "raw", "A") for key, image in zip(keys, images, strict=True))
    return [write_cell_shard(folder / "s.tar", records, None, ["A"])], keys


def cells(num):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (6, 9), dtype=np.uint8) for _ in range(num)]


def test_copies_are_in_one_subset(tmp_path):
    images = cells(12)
    images += [np.rot90(image).copy() for image in images[:6]] + [image[:, ::-1].copy() for image in images[:6]]
    results, keys = write(tmp_path, images)
    labels = np.zeros(24, np.int64)
    splits = make_splits(labels, None, OPTIONS)
    given = {**splits, "paper": np.repeat(np.int8([0, 2]), 12)}
    made, notes = keep_exact_copies_together(
        tmp_path, results, INFO, keys.__getitem__, np.arange(len(keys)), given, labels, None, OPTIONS, ["paper"]
    )
    for i in range(6):
        assert len({made["default"][i], made["default"][12 + i], made["default"][18 + i]}) == 1
    assert abs((made["default"] == 0).sum() - 12) <= 1
    assert (made["paper"] == given["paper"]).all()
    assert notes[0] == "18 cells are exact copies, some rotated or mirrored, in 6 sets."
    assert len(notes) == 2
    _, noted = keep_exact_copies_together(
        tmp_path, results, INFO, keys.__getitem__, np.arange(len(keys)), splits, np.arange(24) // 18, None, OPTIONS
    )
    assert noted[1].startswith("6 sets of copies are of different classes: one label of each is wrong.")
    assert notes[1].startswith("The split 'paper' of the source has exact copies of 6 cells in more than one subset")


def test_sets_without_copies_or_splits_stay_as_they_are(tmp_path):
    results, keys = write(tmp_path, cells(8))
    labels = np.zeros(8, np.int64)
    splits = make_splits(labels, None, OPTIONS)
    assert keep_exact_copies_together(
        tmp_path, results, INFO, keys.__getitem__, np.arange(len(keys)), splits, labels, None, OPTIONS
    ) == (splits, [])
    none = {"default": np.full(8, -1, np.int8)}
    assert keep_exact_copies_together(
        tmp_path, results, INFO, keys.__getitem__, np.arange(len(keys)), none, labels, None, OPTIONS
    ) == (none, [])


def test_copies_on_two_sides_of_a_given_split_are_told():
    copies = Copies(np.array([0, 0, 1, 1, -1]), np.zeros(5, bool))
    assert note_spanning("mine", np.array(["train", "train", "test", "test", "test"]), copies) == []
    assert note_spanning("mine", np.array(["train", "", "test", "train", "test"]), copies) == [
        "The split 'mine' of the source has exact copies of 1 cell in more than one subset; it is not changed."
    ]
    (line,) = note_spanning("mine", np.array(["train", "test", "test", "train", "test"]), copies)
    assert "has exact copies of 2 cells" in line
