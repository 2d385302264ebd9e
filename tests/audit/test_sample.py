"""The cells that an audit looks at: which ones, in which order, and what is measured on them."""

from collections import Counter

import cv2
import numpy as np
import pytest

from fastcell.audit.background import BACKGROUND_FEATURES
from fastcell.audit.sample import SAMPLE_SIDE, acquisition_order, choose_rows, names_of, read_sample
from fastcell.dataset.single_cells import read_cells


def test_names_are_empty_where_null_and_none_where_all_are(planted, make_set):
    manifest = planted(12, groups=2, folder="grouped")
    assert names_of(manifest, "group").tolist() == (["donor-0"] * 3 + ["donor-1"] * 3) * 2
    assert names_of(manifest, "collection") is None
    assert names_of(make_set(3), "class") is None


def test_every_class_of_every_group_gives_its_share(planted):
    manifest = planted(120, groups=4)  # 10 cells of each of 3 x 4 strata
    rows = choose_rows(manifest, 60)
    assert rows.tolist() == sorted(set(rows.tolist()))
    strata = Counter(zip(manifest.labels[rows].tolist(), manifest.groups[rows].tolist(), strict=True))
    assert len(strata) == 12
    assert set(strata.values()) == {5}
    assert choose_rows(manifest, 60).tolist() == rows.tolist()
    assert choose_rows(manifest, 60, seed=1).tolist() != rows.tolist()
    assert choose_rows(manifest, 120).tolist() == list(range(120))


def test_small_classes_keep_their_cells(planted):
    names = ["left" if number % 10 else "right" for number in range(200)]
    manifest = planted(200, groups=0, names=names)
    rows = choose_rows(manifest, 50)
    counts = np.bincount(manifest.labels[rows])
    assert len(rows) == 50
    assert counts[1] == 20  # all of them: below 50 by class, and below the half


def test_dropped_cells_are_left_out(planted):
    manifest = planted(12)
    (manifest.path / "verdicts.csv").write_text("cell_id,verdict,reason\n0,drop,blur\n7,drop,blur\n")
    assert choose_rows(type(manifest).open(manifest.path), 100).tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]


def test_order_is_by_collection_group_class_and_natural_key():
    keys = np.array(["10", "2", "1", "3", "a", "b"])
    labels = np.array([0, 0, 0, 0, 1, 0])
    groups = np.array(["g1", "g1", "g2", "g1", "g1", "g1"])
    collections = np.array(["x", "x", "x", "x", "x", "w"])
    assert keys[acquisition_order(labels, groups, collections, keys)].tolist() == ["b", "2", "3", "10", "a", "1"]
    assert keys[acquisition_order(labels * 0, None, None, keys)].tolist() == ["1", "2", "3", "10", "a", "b"]


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_what_is_measured(make_audit_set, layout):
    manifest = make_audit_set(24, layout=layout)
    sample = read_sample(manifest, np.arange(24), jobs=1)
    assert (len(sample), sample.num_bad, sample.classes) == (24, 0, ["A", "B"])
    assert sample.keys.tolist() == manifest.column("key")[sample.rows].tolist()
    assert sample.labels.tolist() == manifest.labels[sample.rows].tolist()
    assert sample.groups.tolist() == sorted(sample.groups.tolist())
    assert sample.collections is None
    pixels = list(read_cells(manifest, sample.rows))
    np.testing.assert_array_equal(
        sample.images[0], cv2.resize(pixels[0], (SAMPLE_SIDE, SAMPLE_SIDE), interpolation=cv2.INTER_AREA)
    )
    np.testing.assert_allclose(sample.feature("mean_intensity"), [cell.mean() for cell in pixels], rtol=1e-5)
    assert sample.feature("height").tolist() == [len(cell) for cell in pixels]
    level = sample.backgrounds[:, BACKGROUND_FEATURES.index("level")]
    np.testing.assert_allclose(level, 120, atol=6)
    np.testing.assert_allclose(np.median(sample.extents[:, 1:], axis=0), 22, atol=5)  # discs of radius 11
    np.testing.assert_allclose(np.median(sample.extents[:, 0]), np.pi * 11**2, rtol=0.4)
    corners = np.s_[:2, [0, 0, -1], [0, -1, 0]]
    np.testing.assert_allclose(sample.grey[corners] / sample.weight[corners], 120, atol=6)
    assert sample.weight[2].max() == 0  # no unlabelled cell
    assert sample.weight[:2, 16, 16].max() == 0  # always cell
    if layout == "block":
        assert set(sample.settings) == {"raw, 8 bit, 1 channels"}
    else:
        assert all(text.startswith("png 08000000") for text in sample.settings)
        stored = manifest.column("bytes")[sample.rows]
        np.testing.assert_array_equal(sample.file_bytes[:, 0], stored)
        assert (sample.file_bytes[:, 1] == sample.file_bytes[0, 1]).all()


def test_cells_that_cannot_be_read_are_counted(make_audit_set):
    manifest = make_audit_set(12)
    with open(manifest.shard_path(int(manifest.shard_index[5])), "r+b") as file:
        file.seek(int(manifest.column("offset")[5]) + 20)
        file.write(b"\xff\x00\xff")
    sample = read_sample(manifest, np.arange(12), jobs=2)
    assert sample.num_bad == 1
    assert sorted(sample.rows.tolist()) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
