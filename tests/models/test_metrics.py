import math
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fastcell.models.metrics import RunningScores, accuracy, balanced_accuracy, batch_confusion

LOGITS = torch.eye(3)[[0, 1, 1, 2, 0, 2]]
LABELS = torch.tensor([0, 1, 2, 2, -1, 0])
WEIGHT = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
LOSSES = torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0, 100.0])


def test_confusion_by_hand():
    confusion = batch_confusion(LOGITS.argmax(1), LABELS, WEIGHT, 3)
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_scores_by_hand():
    scores = RunningScores(3)
    scores.update(LOGITS, LABELS, LOSSES, WEIGHT)
    scores.update(LOGITS, LABELS, LOSSES, WEIGHT)
    found = scores.compute()
    assert found["confusion"].tolist() == [[2, 0, 0], [0, 2, 0], [0, 2, 2]]
    assert float(found["loss"]) == pytest.approx(2.5)
    assert float(found["accuracy"]) == pytest.approx(3 / 4)
    assert float(found["balanced_accuracy"]) == pytest.approx((1 + 1 + 0.5) / 3)
    scores.reset()
    assert int(scores.confusion.sum()) == 0
    assert math.isnan(float(accuracy(scores.confusion)))


def test_balanced_accuracy_leaves_out_classes_without_cells():
    confusion = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 2]])
    assert float(balanced_accuracy(confusion)) == pytest.approx((0.75 + 1) / 2)
    assert float(accuracy(confusion)) == pytest.approx(5 / 6)


def _score_on_rank(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank, timeout=timedelta(seconds=60))
    scores = RunningScores(3)
    scores.update(*(values[rank::2] for values in (LOGITS, LABELS, LOSSES, WEIGHT)))
    torch.save(scores.compute(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_scores_are_exact_over_two_ranks(tmp_path):
    # new interpreters: a fork of one whose OpenMP threads have run would hang
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    single = RunningScores(3)
    single.update(LOGITS, LABELS, LOSSES, WEIGHT)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert {name: value.tolist() for name, value in found.items()} == {
            name: value.tolist() for name, value in single.compute().items()
        }


if __name__ == "__main__":
    _score_on_rank(int(sys.argv[1]), sys.argv[2])
