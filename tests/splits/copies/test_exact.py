"""Exact copies are found completely, turned and mirrored; nothing else is; the sidecar comes back; splits hold them."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.errors import DataError
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.splits.copies.exact import canonical, exact_sets, read_duplicates
from fastcell.storage.staging import staging

Store = Callable[..., Manifest]


@pytest.fixture
def store(tmp_path):
    """Function that packs arrays as one data set, in their order."""

    def make(images, name="set"):
        records = [Record(f"{number}", np.ascontiguousarray(image), "raw", "A") for number, image in enumerate(images)]
        with staging(tmp_path / name) as folder:
            shard = write_cell_shard(folder / "shard-000000.tar", records, None, ["A"])
            return finish_dataset(folder, tmp_path / name, [shard], DatasetInfo(name, ["A"]))

    return make


def noise(number, shape):
    return np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)


def turn(image, which):
    return np.rot90(image[:, ::-1] if which >= 4 else image, which % 4)


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (12, 5), (1, 7), (1, 1)])
def test_one_form_for_all_turns_and_another_for_other_images(shape):
    image = noise(1, shape)
    assert len({canonical(turn(image, which)) for which in range(8)}) == 1
    other = image.copy()
    other[0, 0] ^= 1
    assert canonical(other) != canonical(image)


def test_all_turned_copies_are_found_and_no_others(store):
    images = [noise(number, (12, 12 + number % 3)) for number in range(60)]
    copies = [turn(images[number], number % 8) for number in range(24)]  # all eight of each shape
    found = exact_sets(store(images + copies))
    assert [members.tolist() for members in found.members()] == [[number, 60 + number] for number in range(24)]
    assert set(found.kinds.tolist()) == {"exact"}
    assert found.correlations.tolist() == [1.0] * 48


def test_images_with_equal_mean_and_border_are_told_apart(store):
    # The same frame and the same sum, other pixels inside: they are read, and are no copies.
    first, second = np.full((8, 8), 50, np.uint8), np.full((8, 8), 50, np.uint8)
    first[3, 3:5] = 90, 10
    second[2, 2], second[5, 5] = 90, 10
    found = exact_sets(store([first, second, first.T]))
    assert found.num_read == 3
    assert [members.tolist() for members in found.members()] == [[0, 2]]


def test_rows_limit_the_search_and_blank_frames_are_known(store):
    grey = np.full((6, 6), 7, np.uint8)
    manifest = store([noise(0, (6, 6)), grey, noise(0, (6, 6)), grey])
    found = exact_sets(manifest)
    assert [members.tolist() for members in found.members()] == [[0, 2], [1, 3]]
    assert found.blank.tolist() == [False, False, True, True]
    assert len(exact_sets(manifest, [0, 1])) == 0
    assert len(exact_sets(manifest, [])) == 0


def test_sets_on_two_sides(store):
    found = exact_sets(store([noise(0, (6, 6)), noise(1, (6, 6)), noise(0, (6, 6)), noise(1, (6, 6))]))
    assert found.spanning(np.array(["train", "test", "test", "test"])).tolist() == [0]
    assert found.spanning(np.array(["train", "test", "", "test"])).tolist() == []


def test_sidecar_comes_back_and_another_data_set_has_none(store):
    manifest = store([noise(0, (6, 6)), noise(1, (6, 6)), noise(0, (6, 6))])
    assert read_duplicates(manifest) is None
    found = exact_sets(manifest)
    path = found.write(manifest)
    again = read_duplicates(manifest)
    assert again is not None
    assert again.cell_ids.tolist() == [0, 2]
    assert again.sets.tolist() == [0, 0]
    other = store([noise(3, (6, 6)), noise(4, (6, 6)), noise(5, (6, 6))], "other")
    (other.path / path.name).write_bytes(path.read_bytes())
    assert read_duplicates(other) is None


@pytest.mark.parametrize("column", ["cell_id", "set", "kind"])
def test_damaged_sidecars_are_refused(store, column):
    manifest = store([noise(0, (6, 6)), noise(0, (6, 6))])
    path = exact_sets(manifest).write(manifest)
    table = pq.read_table(path)
    bad = pa.array(["odd"] * 2) if column == "kind" else pa.array([5, 5], pa.int64())
    pq.write_table(table.set_column(table.column_names.index(column), column, bad), path)
    with pytest.raises(DataError, match="Remove it and search again"):
        read_duplicates(manifest)


def test_jurkat_has_no_exact_copy(real_data, tmp_path):
    from fastcell.packing.pack import pack

    assert len(exact_sets(pack(real_data / "jurkat", tmp_path / "jurkat", jobs=1))) == 0
