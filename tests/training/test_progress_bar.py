from types import SimpleNamespace

import pytest
import torch

from fastcell.loading.batch import Batch
from fastcell.training import progress_bar
from fastcell.training.progress_bar import EpochLines, Throughput


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(progress_bar.time, "perf_counter", lambda: now.time)
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now.time)
    return now


def batch_of(cells):
    return Batch(torch.zeros(cells, 1, 8, 8), *(torch.zeros(cells) for _ in range(3)))


def test_rate_counts_cells_of_all_ranks_and_leaves_out_validation(clock):
    trainer, batch = SimpleNamespace(world_size=2), batch_of(32)
    throughput = Throughput()
    assert throughput.rate("train") == 0
    throughput.on_train_epoch_start(trainer, None)
    clock.time += 2
    throughput.on_train_batch_end(trainer, None, None, batch, 0)
    throughput.on_validation_epoch_start(trainer, None)
    clock.time += 10
    throughput.on_validation_batch_end(trainer, None, None, batch, 0)
    throughput.on_validation_end(trainer, None)
    clock.time += 2
    throughput.on_train_batch_end(trainer, None, None, batch, 1)
    assert throughput.rate("train") == pytest.approx(128 / 4)
    assert throughput.rate("validate") == pytest.approx(64 / 10)


def test_rate_counts_every_batch_of_a_call(clock):
    trainer, throughput = SimpleNamespace(world_size=1), Throughput()
    throughput.on_train_epoch_start(trainer, None)
    clock.time += 2
    throughput.on_train_batch_end(trainer, None, None, (batch_of(32), batch_of(16)), 0)
    assert throughput.rate("train") == pytest.approx(48 / 2)


def test_waiting_counts_from_the_end_of_a_batch_to_the_next(clock):
    trainer, batch = SimpleNamespace(world_size=1), batch_of(32)
    throughput = Throughput()
    throughput.on_train_epoch_start(trainer, None)
    for waits, works in ((1.0, 2.0), (0.5, 3.0)):
        clock.time += waits
        throughput.on_train_batch_start(trainer, None, batch, 0)
        clock.time += works
        throughput.on_train_batch_end(trainer, None, None, batch, 0)
    throughput.on_validation_epoch_start(trainer, None)
    clock.time += 100
    throughput.on_validation_end(trainer, None)
    clock.time += 0.25
    throughput.on_train_batch_start(trainer, None, batch, 0)
    assert throughput.waited_s == pytest.approx(1.75)


def test_lines_come_at_most_once_a_second(clock, capsys):
    trainer = SimpleNamespace(
        is_global_zero=True,
        should_stop=False,
        max_epochs=3,
        current_epoch=0,
        global_step=7,
        callback_metrics={"valid_loss": torch.tensor(0.25), "valid_accuracy": torch.tensor(0.5)},
    )
    lines = EpochLines(Throughput())
    lines.on_train_epoch_end(trainer, None)
    clock.time += 0.5
    lines.on_train_epoch_end(trainer, None)
    assert capsys.readouterr().out == "epoch 1/3  step 7  valid loss 0.250  valid accuracy 0.500  0 cells/s\n"
    clock.time += 1
    lines.on_train_epoch_end(trainer, None)
    assert capsys.readouterr().out.count("\n") == 1
    trainer.current_epoch = 2
    lines.on_train_epoch_end(trainer, None)  # the last one is never left out
    assert capsys.readouterr().out.startswith("epoch 3/3")
