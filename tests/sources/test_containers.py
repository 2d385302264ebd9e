"""Files of many cells: what their paths tell, how their cells are listed, and what a worker holds decoded."""

from pathlib import Path

import numpy as np
import pytest

from fastcell.errors import BadCell, DataError
from fastcell.sources import containers
from fastcell.sources.containers import Collector, Container, RunCache, check_count, find_containers


def fill(root, *keys):
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123456789")
    return root


def test_files_beside_each_other_are_unlabelled_and_in_folders_labelled(tmp_path):
    flat = find_containers(fill(tmp_path / "flat", "m10.x", "m9.X", "notes.md"), (".x",), None, group_by_file=True)
    assert [(item.key, item.class_name, item.group) for item in flat[0]] == [
        ("m9.X", None, "m9.X"),
        ("m10.x", None, "m10.x"),
    ]
    assert flat[1] == ["files of other kinds are left out: 1 (.md 1)."]
    folders = find_containers(fill(tmp_path / "deep", "A/m.x", "B/m.x"), (".x",), None, group_by_file=False)[0]
    assert [(item.key, item.class_name, item.group) for item in folders] == [("A/m.x", "A", None), ("B/m.x", "B", None)]
    with pytest.raises(DataError, match=r"can be read in several ways.*Depths found: 1 \(1 files\), 2 \(2 files\)"):
        find_containers(fill(tmp_path / "deep", "m.x"), (".x",), None, group_by_file=False)


def test_pattern_of_a_file_needs_no_name(tmp_path):
    root = fill(tmp_path, "day1/A/donor2.x")
    (found,) = find_containers(root, (".x",), "{collection}/{class}/{group}.x", group_by_file=True)[0]
    assert (found.collection, found.class_name, found.group) == ("day1", "A", "donor2")


def test_one_file_has_no_group_and_a_key_without_its_folder(tmp_path):
    root = fill(tmp_path, "A/m.x") / "A" / "m.x"
    (found,) = find_containers(root, (".x",), None, group_by_file=True)[0]
    assert found == Container("m.x", str(root))


def test_collector_numbers_keys_and_runs():
    found = Collector(Path("root"))
    one, two = Container("a", "/a", "A"), Container("b", "/b", "B", "g")
    found.add(one, [3, 1_234_567], [("x",), ("y",)], runs=np.array([0, 1]), cell_bytes=containers.WINDOW_BYTES)
    found.add(two, [0, 1], [(), ()], classes=["C", None], runs=np.array([0, 0]), cell_bytes=1)
    found.empty(Container("c", "/c"))
    listing = found.finish(lambda: iter(()))
    assert [item.key for item in listing.items] == ["a/000003", "a/1234567", "b/000000", "b/000001"]
    assert [item.class_name for item in listing.items] == ["A", "A", "C", None]
    assert listing.classes == ["A", "C"]
    assert listing.notes == ["quarantined 1 file without a usable cell (c)."]
    assert [(bad.item.key, bad.reason) for bad in listing.rejected] == [("c", "no cell in the file")]
    assert listing.runs is not None
    assert listing.runs.numbers.tolist() == [0, 1, 2, 2]
    assert listing.runs.num_bytes == 2 * containers.WINDOW_BYTES + 2


def test_what_fits_into_the_cache_has_no_runs():
    found = Collector(Path("root"))
    found.add(Container("a", "/a"), [0, 1], [(), ()], runs=np.array([0, 0]), cell_bytes=100)
    assert found.finish(lambda: iter(())).runs is None


def test_files_that_cannot_be_read_are_quarantined_among_others(tmp_path):
    places = [Container(name, f"/data/{name}", "A", "g") for name in "abcd"]

    def read(found, good):
        errors = (DataError("/data/a: b is wrong."), FileNotFoundError(2, "No such file"), BadCell("truncated"))
        for place, error in zip(places, errors, strict=False):
            with found.reading(place):
                raise error
        if good:
            with found.reading(places[3]):
                found.add(places[3], [0], [()])
        return found.finish(lambda: iter(()))

    listing = read(Collector(tmp_path), True)
    assert [item.key for item in listing.items] == ["d/000000"]
    assert [(bad.item.key, bad.item.class_name, bad.source, bad.reason) for bad in listing.rejected] == [
        ("a", "A", "a", "file that cannot be used: b is wrong."),
        ("b", "A", "b", "cannot be read: No such file"),
        ("c", "A", "c", "truncated"),
    ]
    assert listing.notes == ["quarantined 3 files without a usable cell (a, b, c)."]
    with pytest.raises(DataError, match="/data/a: b is wrong"):
        read(Collector(tmp_path), False)


def test_no_cell_at_all_is_an_error():
    found = Collector(Path("root"), unit="event")
    found.empty(Container("a.x", "/a.x"))
    with pytest.raises(DataError, match=r"root: no usable cell: no event in a.x\. Choose other files"):
        found.finish(lambda: iter(()))


def test_cache_gives_up_the_least_recently_used():
    cache, made = RunCache(300), []

    def get(name, num):
        def make():
            made.append(name)
            return np.zeros(num, np.uint8)

        return cache.get((name,), make)

    for name in ("a", "b", "c", "a", "d", "a", "b"):
        get(name, 100)
    assert made == ["a", "b", "c", "d", "b"]
    get("large", 1000)
    get("large", 1000)
    assert made.count("large") == 1


def test_more_cells_than_bytes_are_refused():
    check_count(Container("a", "/a"), 4096, 10)
    with pytest.raises(DataError, match="has 10 bytes, too few for the 4,097 cells in its header"):
        check_count(Container("a", "/a"), 4097, 10)
