"""Scores in copies of real RT-DC files, read with h5py; the originals stay as they are."""

import hashlib

import h5py
import hdf5plugin  # noqa: F401  (reads the chunks of the real files)
import numpy as np
import pytest

from fastcell.errors import ArgumentError, DataError
from fastcell.predictions import to_rtdc

CLASSES = ["MCF7", "PBMC", "mcf-10a"]
TAGS = ["mcf", "pbm", "mc1"]


def make_file(path, num_events=6):
    with h5py.File(path, "w") as file:
        file["events/image"] = np.zeros((num_events, 4, 5), np.uint8)
        file["events/deform"] = np.arange(num_events, dtype=float)
    return path


def make_scores(num_events, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(3), num_events).astype(np.float32)


def write(source, out, events, scores, classes=CLASSES):
    return to_rtdc.write_scores(source, out, to_rtdc.EventScores(events, scores), classes, TAGS)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "num_events"), [("dcnum_cytoshot-test-data", 40), ("dcnum_dcnum_thresh_example", 13)])
def test_real_files(real_data, tmp_path, name, num_events):
    source = real_data / "rtdc" / f"{name}.rtdc"
    before = digest(source)
    events = np.arange(0, num_events, 2)[::-1]
    scores = make_scores(len(events))
    scores[1] = np.nan
    out = tmp_path / "copy.rtdc"
    assert write(source, out, events, scores).num_events == num_events
    assert digest(source) == before
    expected = np.full((num_events, 3), np.nan, np.float32)
    expected[events] = scores
    with h5py.File(out) as copy, h5py.File(source, locking=False) as original:  # as the reader may hold it
        for column, tag in enumerate(TAGS):
            np.testing.assert_array_equal(copy[f"events/ml_score_{tag}"][:], expected[:, column])
        # dclab's definition: the number of the largest in the sorted features, -1 where there is none
        names = sorted(feature for feature in copy["events"] if feature.startswith("ml_score_"))
        matrix = np.stack([copy["events"][feature][:] for feature in names], axis=1)
        known = ~np.isnan(matrix).all(axis=1)
        classes = np.full(num_events, -1)
        classes[known] = np.nanargmax(matrix[known], axis=1)
        assert names == ["ml_score_mc1", "ml_score_mcf", "ml_score_pbm"]
        np.testing.assert_array_equal(copy["events/ml_class"][:], classes)
        assert copy["logs/fastcell"][2:].tolist() == [
            b"ml_score_mcf, 1, MCF7",
            b"ml_score_pbm, 2, PBMC",
            b"ml_score_mc1, 0, mcf-10a",
        ]
        np.testing.assert_array_equal(copy["events/deform"][:], original["events/deform"][:])
        assert copy["events/image"].shape == original["events/image"].shape
        assert set(original["events"]) <= set(copy["events"])
        assert copy.attrs["setup:software version"].startswith(
            original.attrs["setup:software version"] + " | fastcell "
        )


def test_a_file_without_events(real_data, tmp_path):
    source = real_data / "rtdc" / "dcnum_shapein_empty_M001.rtdc"
    none = np.empty(0, np.int64)
    assert write(source, tmp_path / "a.rtdc", none, np.empty((0, 3), np.float32)).num_events == 0
    with h5py.File(tmp_path / "a.rtdc") as copy:
        assert copy["events/ml_class"].shape == copy["events/ml_score_mcf"].shape == (0,)


def test_scores_of_an_earlier_classifier_are_replaced(tmp_path):
    source = make_file(tmp_path / "a.rtdc")
    with h5py.File(source, "r+") as file:
        file["events/ml_score_old"] = np.ones(6)
        file["events/ml_class"] = np.zeros(6)
    write(source, tmp_path / "b.rtdc", np.arange(6), make_scores(6))
    write(tmp_path / "b.rtdc", tmp_path / "c.rtdc", np.arange(6), make_scores(6, 1))
    with h5py.File(tmp_path / "c.rtdc") as file:
        assert sorted(file["events"]) == ["deform", "image", "ml_class", *(f"ml_score_{tag}" for tag in sorted(TAGS))]
        np.testing.assert_array_equal(file["events/ml_score_mcf"][:], make_scores(6, 1)[:, 0])


def test_the_original_is_never_the_copy(tmp_path):
    source = make_file(tmp_path / "a.rtdc")
    before = digest(source)
    (tmp_path / "link.rtdc").symlink_to(source)
    for out in (source, tmp_path / "link.rtdc"):
        with pytest.raises(DataError, match="another file than the one it is a copy of"):
            write(source, out, np.arange(6), make_scores(6))
    assert digest(source) == before


def test_a_group_that_lies_in_another_file_is_not_written_to(tmp_path):
    victim = make_file(tmp_path / "victim.rtdc")
    before = digest(victim)
    with h5py.File(tmp_path / "a.rtdc", "w") as file:
        file["events"] = h5py.ExternalLink(str(victim), "/events")
    with pytest.raises(DataError, match="must hold a group events"):
        write(tmp_path / "a.rtdc", tmp_path / "b.rtdc", np.arange(6), make_scores(6))
    assert digest(victim) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rtdc", "victim.rtdc"]


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "a.rtdc").write_bytes(content)
    with pytest.raises(DataError, match="cannot be used as an RT-DC file|must hold a group events"):
        write(tmp_path / "a.rtdc", tmp_path / "b.rtdc", np.arange(6), make_scores(6))
    assert not (tmp_path / "b.rtdc").exists()


def test_more_events_than_bytes(tmp_path):
    with h5py.File(tmp_path / "a.rtdc", "w") as file:
        file.create_dataset("events/image", (10**12, 1, 1), np.uint8, chunks=(1024, 1, 1))
    with pytest.raises(DataError, match="claims to hold 1,000,000,000,000 events"):
        write(tmp_path / "a.rtdc", tmp_path / "b.rtdc", np.arange(6), make_scores(6))
    assert not (tmp_path / "b.rtdc").exists()


@pytest.mark.parametrize("events", [[0, 6], [1, 1]])
def test_events_that_the_file_does_not_have(tmp_path, events):
    make_file(tmp_path / "a.rtdc")
    with pytest.raises(DataError, match="has 6 events"):
        write(tmp_path / "a.rtdc", tmp_path / "b.rtdc", np.array(events), make_scores(2))
    assert not (tmp_path / "b.rtdc").exists()


def test_cells_go_to_their_files():
    found = to_rtdc.events_by_file(["d/M1.rtdc/000003", "M2.RTDC/000000", "d/M1.rtdc/1000000"])
    assert {name: (rows.tolist(), events.tolist()) for name, (rows, events) in found.items()} == {
        "d/M1.rtdc": ([0, 2], [3, 1_000_000]),
        "M2.RTDC": ([1], [0]),
    }


@pytest.mark.parametrize("key", ["a.png", "../M1.rtdc/000001", "/tmp/M1.rtdc/000001", "M1.rtdc", "M1.rtdc/-1"])
def test_other_cells_are_refused(key):
    with pytest.raises(DataError, match="must be an event of an RT-DC file"):
        to_rtdc.events_by_file([key])


def test_three_characters_for_each_class():
    assert to_rtdc.score_tags(CLASSES) == TAGS
    assert to_rtdc.score_tags(["a", "A", "a", "µ", "Ü", "B 1", "12345"]) == [
        "axx",
        "ax1",
        "ax2",
        "xxx",
        "xx1",
        "b1x",
        "123",
    ]
    many = to_rtdc.score_tags(["cell"] * 300)
    assert len(set(many)) == 300
    assert to_rtdc.check_tags(many, ["c"] * 300) == many


@pytest.mark.parametrize("tags", [["abc", "abd"], ["abc", "abc", "abd"], ["abc", "abD", "abe"], ["abc", "ab", "abd"]])
def test_tags_that_dclab_would_not_know(tags):
    with pytest.raises(ArgumentError, match="--scores must be 3 different names of three characters"):
        to_rtdc.check_tags(tags, CLASSES)


def test_lines_of_the_log_keep_to_100_bytes(tmp_path):
    source = make_file(tmp_path / "m.rtdc")
    classes = ["short", "x" * 250, "Größe" * 40]
    write(source, tmp_path / "copy.rtdc", np.arange(6), make_scores(6), classes)
    with h5py.File(tmp_path / "copy.rtdc") as file:
        lines = file["logs/fastcell"][:].tolist()
    assert max(map(len, lines)) <= 100
    text = [line.decode() for line in lines]  # no letter is torn
    assert "ml_score_mcf, 1, short" in text
    first = next(i for i, line in enumerate(text) if line.startswith("ml_score_pbm"))
    assert (
        "".join([text[first], *(line[2:] for line in text[first + 1 : first + 3])]) == f"ml_score_pbm, 2, {'x' * 250}"
    )
