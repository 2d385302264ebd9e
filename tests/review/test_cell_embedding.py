"""The embedding: components by value, its cache, cells that cannot be read."""

import numpy as np

from fastcell.review.cell_columns import CellAnswers
from fastcell.review.cell_embedding import (
    CellEmbedding,
    EmbeddingJob,
    embed_quality,
    keep_embedding,
    principal_components,
    read_embedding,
)
from fastcell.review.thumbnails import Thumbnails


def test_components_keep_what_varies():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(500, 2)) * [1, 1]
    values = np.stack([plane[:, 0], plane[:, 0] * 100 + 5, plane[:, 1], np.full(500, 7)], 1).astype(np.float32)
    values[3] = np.nan
    found = principal_components(values)
    assert np.isnan(found[3]).all()
    good = np.arange(500) != 3
    assert abs(np.corrcoef(found[good, 0], plane[good, 0])[0, 1]) > 0.999  # two columns of four say the same
    assert abs(np.corrcoef(found[good, 1], plane[good, 1])[0, 1]) > 0.99
    assert np.isnan(principal_components(np.full((5, 3), np.nan, np.float32))).all()
    assert principal_components(values[:1]).tolist() == [[0]]
    assert principal_components(np.empty((4, 0), np.float32)).shape == (4, 1)


def test_quality_of_every_cell(planted):
    counted = []
    found = embed_quality(planted(60), counted.append)
    assert (found.source, found.answers, sum(counted)) == ("quality", None, 60)
    assert found.values.shape[0] == 60
    assert found.points.shape == (60, 2)
    assert np.isfinite(found.values).all()


def test_cache(tmp_path):
    answers = CellAnswers(["a", "b"], np.eye(2, dtype=np.float32), np.array([np.nan, 2], np.float32))
    found = CellEmbedding("run", np.arange(6, dtype=np.float32).reshape(2, 3), answers)
    path = tmp_path / "cache" / "one.npz"
    keep_embedding(path, found)
    back = read_embedding(path, 2)
    assert back is not None
    assert back.answers is not None
    assert (back.source, back.answers.classes) == ("run", ["a", "b"])
    np.testing.assert_array_equal(back.values, found.values)
    np.testing.assert_array_equal(back.answers.probabilities, answers.probabilities)
    assert read_embedding(path, 3) is None  # of other cells
    path.write_bytes(path.read_bytes()[:-40])
    assert read_embedding(path, 2) is None
    assert read_embedding(tmp_path / "nothing.npz", 2) is None
    for number in range(12):
        keep_embedding(tmp_path / "cache" / f"{number}.npz", found)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 8
    (tmp_path / "file").write_text("")
    keep_embedding(tmp_path / "file" / "one.npz", found)  # no folder: none is kept, and nothing fails


def test_a_run_that_does_not_open_is_told(planted, tmp_cache, tmp_path):
    data = planted(20)
    job = EmbeddingJob(data, Thumbnails(data), tmp_path / "no run", lambda run: None)
    job.start(lambda found: None)
    job._thread.join()
    assert job.error
    assert not job.running
