"""Views select the right rows, each as often as it should count."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.split_table import write_split
from fastcell.dataset.rows.write_rows import write_manifest, write_quarantine
from fastcell.dataset.schema import QUARANTINE_SCHEMA, SCHEMA
from fastcell.dataset.views import ViewConfig, _subsample, select
from fastcell.errors import ArgumentError, DataError


def make_manifest(folder, classes, **columns):
    num = len(classes)
    values = {
        "cell_id": list(range(num)),
        "key": [f"{i}.png" for i in range(num)],
        "shard": ["shard-000000.tar"] * num,
        "offset": [512 + 1024 * i for i in range(num)],
        "encoding": ["png"] * num,
        "depth": [8] * num,
        "class": classes,
        "group": [None] * num,
        "collection": [None] * num,
        "byte_hash": [b"\0" * 16] * num,
        "pixel_hash": [b"\0" * 16] * num,
        "block": [-1] * num,
        **columns,
    }
    arrays = [pa.array(values.get(field.name, [1] * num), field.type) for field in SCHEMA]
    table = pa.table(arrays, schema=SCHEMA)
    names = sorted({name for name in classes if name is not None})
    shards = [{"name": "shard-000000.tar", "bytes": 1024 * (num + 1), "num_cells": num}]
    info = DatasetInfo("t", names, shards=shards, num_cells=num)
    folder.mkdir(exist_ok=True, parents=True)
    write_manifest(folder, table, info)
    return Manifest.open(folder)


@pytest.fixture
def manifest(tmp_path):
    """6 cells of a, 3 of b, 1 without a class; first eight train, the others test."""
    made = make_manifest(tmp_path / "d", [*"aaabaabba", None])
    write_split(made.path, "default", np.array(["train"] * 8 + ["test"] * 2))
    return made


def test_split_and_labels(manifest):
    view = select(manifest, ViewConfig(split="train"))
    assert view.rows.tolist() == list(range(8))
    assert view.labels.tolist() == [0, 0, 0, 1, 0, 0, 1, 1]
    assert view.class_counts().tolist() == [5, 3]
    assert select(manifest, ViewConfig(split="test", labelled=True)).rows.tolist() == [8]
    assert select(manifest, ViewConfig()).labels[-1] == -1


def test_an_empty_part_is_refused_with_the_way_out(manifest):
    with pytest.raises(ArgumentError, match=r"no cell in the valid subset of split 'default'.*fastcell info"):
        select(manifest, ViewConfig(split="valid"))
    with pytest.raises(ArgumentError, match="split_name must be one of default, got 'other'"):
        select(manifest, ViewConfig(split="train", split_name="other"))


def test_quarantined_and_dropped_cells_are_in_no_view(manifest):
    columns = {field.name: pa.array(["x", "y"], pa.string()) for field in QUARANTINE_SCHEMA}
    columns["cell_id"] = pa.array([2, None], pa.int64())
    write_quarantine(manifest.path, pa.table(columns, schema=QUARANTINE_SCHEMA))
    (manifest.path / "verdicts.csv").write_text("cell_id,verdict,reason\n0,drop,blur\n1,keep,\n")
    assert select(manifest, ViewConfig(split="train")).rows.tolist() == [1, 3, 4, 5, 6, 7]
    assert select(manifest, ViewConfig(split="train", quality=False)).rows.tolist() == [0, 1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "text", ["cell_id,verdict\n0,maybe\n", "cell_id,verdict\n99,drop\n", "key,verdict\n0,drop\n", ""]
)
def test_broken_verdicts_are_an_error(manifest, text):
    (manifest.path / "verdicts.csv").write_text(text)
    with pytest.raises(DataError, match=r"verdicts\.csv"):
        select(manifest, ViewConfig())


def test_oversample_makes_classes_count_alike(manifest):
    view = select(manifest, ViewConfig(split="train", balance="oversample"))
    assert view.class_counts().tolist() == [5, 5]
    assert (np.diff(view.rows) >= 0).all()
    assert set(view.rows.tolist()) == set(range(8))
    assert np.bincount(view.rows)[[3, 6, 7]].max() == 2


def test_weights_have_mean_one_over_the_rows(manifest):
    view = select(manifest, ViewConfig(split="train", balance="weights"))
    np.testing.assert_allclose(view.class_weights, [8 / (2 * 5), 8 / (2 * 3)], rtol=1e-6)
    assert view.class_weights[view.labels].mean() == pytest.approx(1)


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), share=st.floats(0.01, 1.0), seed=st.integers(0, 2**31)
)
def test_a_share_is_taken_of_every_class(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    kept = _subsample(np.arange(len(labels)), labels, float(share), seed)
    assert (np.diff(kept) > 0).all()
    for label, count in enumerate(counts):
        assert abs((labels[kept] == label).sum() - count * share) <= 1


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5), data=st.data(), seed=st.integers(0, 2**31))
def test_a_number_of_cells_is_met_exactly(counts, data, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    wanted = data.draw(st.integers(1, len(labels)))
    kept = _subsample(np.arange(len(labels)), labels, wanted, seed)
    assert len(np.unique(kept)) == wanted
    assert all(abs((labels[kept] == k).sum() - n * wanted / len(labels)) <= 1 for k, n in enumerate(counts))


def test_subsample_is_seeded(tmp_path):
    manifest = make_manifest(tmp_path / "d", ["a"] * 500 + ["b"] * 500)
    one, same, other = (select(manifest, ViewConfig(subsample=0.1, seed=seed)).rows for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("config", [{"split": "dev"}, {"balance": "yes"}, {"subsample": 1.5}, {"subsample": 0}])
def test_a_bad_config_names_the_argument(config):
    with pytest.raises(ArgumentError, match=next(iter(config))):
        ViewConfig(**config)


def test_more_cells_than_there_are(manifest):
    with pytest.raises(ArgumentError, match="subsample must be at most 8"):
        select(manifest, ViewConfig(split="train", subsample=9))


def test_auto_repeats_rare_classes_of_the_selected_cells(tmp_path):
    made = make_manifest(tmp_path / "d", [*"a" * 33, *"b" * 3, *"a" * 10, "c", None])
    write_split(made.path, "default", np.array(["train"] * 36 + ["test"] * 12))
    auto = select(made, ViewConfig("train", balance="auto"))
    assert auto.class_counts().tolist() == [33, 30, 0]
    assert auto.cell_counts().tolist() == [33, 3, 0]
    np.testing.assert_allclose(auto.emphasis(), [1, 10, 0])
    assert select(made, ViewConfig("train", balance="auto", balance_cap=4)).class_counts().tolist() == [33, 12, 0]
    plain = select(made, ViewConfig("test", balance="auto"))  # 10 to 1 is not unbalanced
    assert plain.rows.tolist() == list(range(36, 48))
    assert plain.emphasis() is None
    weighted = select(made, ViewConfig("train", balance="weights"))
    assert weighted.emphasis() is weighted.class_weights


def test_a_cap_that_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="balance_cap must be a number of repeats, 1 or more, got 0"):
        ViewConfig("train", balance="auto", balance_cap=0)
