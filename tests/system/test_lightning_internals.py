"""Each test fails where Lightning renames what `fastcell.system.lightning_internals` reaches for."""

import gc
import sys
import weakref
from subprocess import Popen
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import SIGTERMException

from fastcell.system.lightning_internals import (
    attached,
    batches_begun,
    detach,
    has_trainer,
    rank_processes,
    replace_stop_check,
    stop_after_step,
)


class Line(pl.LightningModule):
    """Fits a line; `on_step` is called in each step."""

    def __init__(self, on_step=lambda module: None):
        super().__init__()
        self.layer, self.on_step, self.steps = torch.nn.Linear(1, 1), on_step, 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        self.on_step(self)
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(**settings):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, max_epochs=2, **quiet, **settings)


def batches():
    return torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=2)


def test_a_run_leaves_after_the_step():
    module = Line(lambda module: stop_after_step(module.trainer) if module.steps == 2 else None)
    with pytest.raises(SIGTERMException):
        make_trainer().fit(module, batches())
    assert module.steps == 2
    assert module.trainer.global_step == 2


def test_lightning_asks_the_stop_check_before_each_step_of_several_ranks(monkeypatch):
    asked, module, trainer = [], Line(), make_trainer(use_distributed_sampler=False)

    def check():
        asked.append(module.steps)
        if module.steps == 3:
            raise SIGTERMException

    class PretendTwo(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
            monkeypatch.setattr(type(trainer), "world_size", property(lambda trainer: 2))
            replace_stop_check(trainer, check)

        def on_exception(self, trainer, pl_module, exception):
            monkeypatch.undo()

    with attached(trainer, PretendTwo()), pytest.raises(SIGTERMException):
        trainer.fit(module, batches())
    assert asked == [0, 1, 2, 3]


def test_batches_of_the_epoch_are_counted():
    begun = []
    make_trainer().fit(Line(lambda module: begun.append(batches_begun(module.trainer))), batches())
    assert begun == [1, 2, 3, 4, 1, 2, 3, 4]


def test_processes_of_the_launcher(monkeypatch):
    trainer = make_trainer()
    assert rank_processes(trainer) == []
    strategy = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False).strategy
    strategy._configure_launcher()
    assert isinstance(strategy.launcher, _SubprocessScriptLauncher)
    started = Popen([sys.executable, "-c", ""])
    started.wait()
    strategy.launcher.procs.append(started)
    assert rank_processes(SimpleNamespace(strategy=strategy)) == [started]


def test_a_module_knows_whether_it_has_a_trainer():
    module, trainer = Line(), make_trainer()
    assert not has_trainer(module)
    trainer.fit(module, batches())
    assert has_trainer(module)
    detach(module)
    assert not has_trainer(module)
    with pytest.raises(RuntimeError, match="not attached"):
        module.trainer  # noqa: B018
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None


def test_a_callback_is_called_inside_the_block_alone():
    class Count(pl.Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs += 1

    count, trainer = Count(), make_trainer()
    with attached(trainer, count):
        trainer.fit(Line(), batches())
    assert count.epochs == 2
    assert count not in trainer.callbacks
    make_trainer().fit(Line(), batches())
    assert count.epochs == 2
