"""Near copies are found, strangers are not, and the recall that is said is that of planted copies."""

import numpy as np
import pytest
from fixtures.textured_discs import textured_disc

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.splits.copies.exact import read_duplicates
from fastcell.splits.copies.near import find_strata, near_copies
from fastcell.splits.copies.planting import PLANTED_KINDS, plant
from fastcell.splits.describe import describe_copies
from fastcell.storage.staging import staging


def store(folder, images, collections=None):
    records = [
        Record(f"{number}", image, "raw", "A", None, collections[number] if collections else None)
        for number, image in enumerate(images)
    ]
    with staging(folder) as stage:
        shard = write_cell_shard(stage / "shard-000000.tar", records, None, ["A"])
        return finish_dataset(stage, folder, [shard], DatasetInfo("near", ["A"]))


def test_planted_copies_are_found_and_no_strangers(tmp_path):
    cells = [textured_disc(number) for number in range(120)]
    rng = np.random.default_rng(5)
    copies = [plant(cells[number], PLANTED_KINDS[number % len(PLANTED_KINDS)], rng) for number in range(40)]
    grey = [np.full((36, 36), 80 + number, np.uint8) for number in range(3)]
    manifest = store(tmp_path / "set", cells + copies + grey)
    found = near_copies(manifest, jobs=1)
    assert found.near is not None
    assert found.near.num_plain == 3
    members = [pair.tolist() for pair in found.members()]
    assert all(len(pair) == 2 and pair[1] - pair[0] == 120 for pair in members)  # none but copies
    assert len(members) >= 34  # of 40
    assert {one % len(PLANTED_KINDS) for one, _ in members} == set(range(len(PLANTED_KINDS)))  # of every kind
    assert set(found.kinds.tolist()) == {"near"}
    assert found.correlations.min() >= 0.98
    assert [item.kind for item in found.near.recall] == list(PLANTED_KINDS)
    assert all(item.planted == 100 for item in found.near.recall)
    assert min(item.found for item in found.near.recall) >= 60  # 69 of the rescaled ones as of now
    assert min(item.found for item in found.near.recall[:6]) >= 85  # 94
    text = "\n".join(describe_copies(manifest, found, ()))
    assert all(kind in text for kind in PLANTED_KINDS)
    assert "not planted, so recall unknown: crops, scales beyond 0.8 to 1.25, JPEG of a quality below 50" in text
    found.write(manifest)
    again = read_duplicates(manifest)
    assert again is not None
    assert again.near == found.near


def test_a_kind_is_planted_once_in_a_cell(tmp_path):
    found = near_copies(store(tmp_path / "set", [textured_disc(number) for number in range(12)]), jobs=1)
    assert found.near is not None
    assert [item.planted for item in found.near.recall] == [12] * len(PLANTED_KINDS)
    assert all(item.interval()[1] - item.interval()[0] > 0.2 for item in found.near.recall)


def test_exact_and_near_copies_of_one_cell_are_one_set(tmp_path):
    cells = [textured_disc(number) for number in range(60)]
    near = plant(cells[0], PLANTED_KINDS[1], np.random.default_rng(1))
    found = near_copies(store(tmp_path / "set", [*cells, np.ascontiguousarray(np.rot90(cells[0])), near]), jobs=1)
    assert [members.tolist() for members in found.members()] == [[0, 60, 61]]
    assert found.kinds.tolist() == ["exact", "exact", "near"]
    assert found.correlations[:2].tolist() == [1.0, 1.0]
    assert found.correlations[2] < 1


def test_copies_are_looked_for_within_a_collection(tmp_path):
    manifest = store(tmp_path / "set", [textured_disc(0), textured_disc(1), textured_disc(2)], ["x", "y", "x"])
    assert [part.tolist() for part in find_strata(manifest, np.arange(3))] == [[0, 2], [1]]


@pytest.mark.parametrize("images", [[], [np.full((4, 4), 3, np.uint8)] * 3])
def test_nothing_to_compare(tmp_path, images):
    manifest = store(tmp_path / "set", [textured_disc(0), *images])
    found = near_copies(manifest, jobs=1)
    assert found.near is not None
    assert found.near.recall == ()
