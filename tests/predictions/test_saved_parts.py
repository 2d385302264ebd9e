"""Parts of predictions without torch, and the job that they belong to."""

import numpy as np
import pytest

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.errors import DataError
from fastcell.predictions.saved_parts import PartStore, saved_parts


def test_parts_of_two_processes_and_an_interrupted_run_are_joined(make_dataset, tmp_path):
    losses = CorruptCells(make_dataset(30))

    def store(rank, *pairs):
        found = PartStore(losses)
        done = found.take_over(tmp_path)
        found.begin(tmp_path, rank)
        for ids in pairs:
            ids = np.array(ids)
            found.add(ids, np.stack([ids / 100, 1 - ids / 100], axis=1).astype(np.float32))
        found.save()
        return found, done.tolist()

    assert store(0, [5, 2])[1] == []
    second, done = store(1, [9], [1])
    assert done == [2, 5]
    for joined in (second.joined(), *second.in_order()):
        assert joined.cell_ids.tolist() == [1, 2, 5, 9]
        assert joined.probabilities[:, 0].tolist() == pytest.approx([0.01, 0.02, 0.05, 0.09])
        assert joined.probabilities.dtype == np.float32
    assert not list(PartStore(losses).in_order())
    with pytest.raises(DataError, match="no cell could be read"):
        PartStore(losses).joined()


def test_another_job_finds_nothing(make_dataset, tmp_path):
    manifest = make_dataset(10)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")

    def leave(settings):
        with saved_parts(tmp_path / "p.csv", manifest, checkpoint, settings, print) as stage:
            (stage.saved_dir / "part.saved").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave({"tta": False})
    with saved_parts(tmp_path / "p.csv", manifest, checkpoint, {"tta": False}, print) as stage:
        assert stage.num_saved == 1
    with pytest.raises(KeyboardInterrupt):
        leave({"tta": False})
    with saved_parts(tmp_path / "p.csv", manifest, checkpoint, {"tta": True}, print) as stage:
        assert stage.num_saved == 0
    with pytest.raises(KeyboardInterrupt):
        leave({"tta": False})
    checkpoint.write_bytes(b"other weights")
    with saved_parts(tmp_path / "p.csv", manifest, checkpoint, {"tta": False}, print) as stage:
        assert stage.num_saved == 0
