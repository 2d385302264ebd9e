"""Prediction without a trainer: corrupt cells, interruption and other grey-level windows."""

import os
import signal
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.errors import ArgumentError, StoppedError
from fastcell.inference.backends.network_files import NetworkDescription
from fastcell.loading.preprocessing import Preprocessing
from fastcell.predictions.without_trainer import PredictionTask, predict_without_trainer

NETWORK = NetworkDescription("0", "cellnet", ["a", "b"], Preprocessing(16), "cross_entropy", 0)


class Means:
    """Backend whose logits are the first pixel of an image and its negative."""

    name, precision = "means", "fp32"

    def __init__(self, at=-1, act=lambda: None):
        self.calls, self.at, self.act = 0, at, act

    def run(self, images):
        self.calls += 1
        if self.calls == self.at:
            self.act()
        first = images[:, 0, 0, :1]
        return np.concatenate([first, -first], axis=1), np.empty((len(images), 0), np.float32)


@pytest.fixture
def task(make_dataset, tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    return PredictionTask(make_dataset(50), tmp_path / "best.ckpt", tmp_path / "p.parquet", chunk=7)


def test_every_cell_has_a_row_and_a_chunk_of_one_is_padded(task, capsys):
    predict_without_trainer(task, Means(), NETWORK)
    table = pq.read_table(task.out)
    assert table.num_rows == 50
    first = table.column("p_a").to_numpy()
    assert table.column("class").to_pylist() == np.where(first >= 0.5, "a", "b").tolist()
    assert "50 rows" in capsys.readouterr().out


def test_a_corrupt_cell_has_a_reason_and_the_others_their_answers(task):
    predict_without_trainer(task, Means(), NETWORK)
    whole = pq.read_table(task.out)
    row = task.manifest.table.slice(12, 1).to_pylist()[0]
    path = task.manifest.path / row["shard"]
    content = bytearray(path.read_bytes())
    content[row["offset"] + 5] ^= 255
    path.write_bytes(content)
    predict_without_trainer(task, Means(), NETWORK)
    found = pq.read_table(task.out)
    assert found.column("reason").to_pylist()[12] == "other bytes than were packed"
    assert found.column("class").null_count == 1
    for name in ("p_a", "class"):
        kept, before = (table.column(name).to_pylist() for table in (found, whole))
        assert kept[:12] + kept[13:] == before[:12] + before[13:]


def test_a_stopped_run_goes_on_where_it_was(task, capsys):
    predict_without_trainer(task, Means(), NETWORK)
    whole = task.out.read_bytes()
    task.out.unlink()
    stopped = Means(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match="The same command resumes from there"):
        predict_without_trainer(task, stopped, NETWORK)
    assert not task.out.exists()
    again = Means()
    predict_without_trainer(task, again, NETWORK)
    assert task.out.read_bytes() == whole
    assert again.calls < 8
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_another_window_than_that_of_training_is_refused(make_dataset, task):
    deep = replace(task, manifest=make_dataset(10, name="deep", encoding="png16"))
    network = replace(NETWORK, preprocessing=Preprocessing(16, window=(0.0, 900.0)))
    with pytest.raises(ArgumentError, match="window of the data must be 0 to 900 as in training"):
        predict_without_trainer(deep, Means(), network)
