"""Settings of the trainer that cannot work are refused before training, in one line."""

import os
import re

import pytest

from fastcell.cli.main import main

SMALL = ["--preset=fast", "--data.image_size=16", "--data.threads=1", "--data.batch_size=32", "--trainer.max_epochs=1"]
STOPPING = "--trainer.callbacks=EarlyStopping"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.barebones=true"], "--trainer.barebones must be false"),
        (["--trainer.enable_checkpointing=false"], "--trainer.enable_checkpointing must be true"),
        (["--trainer.precision=bf16-true"], "--trainer.precision must be one of auto, 32-true, 16-mixed, bf16-mixed"),
        (["--trainer.precision=true"], "--trainer.precision must be one of auto, 32-true, .*, got 'true'"),
        (["--seed_everything=-1"], "--seed_everything must be a whole number from 0 to 4,294,967,295, got -1"),
        (["--seed_everything=4294967296"], "--seed_everything must be a whole number from 0 to"),
        (["--data.seed=-1"], "seed must be a whole number from 0 to"),
        (["--trainer.logger=CSVLogger"], "--trainer.logger CSVLogger needs save_dir. Add --trainer.logger.save_dir="),
        (["--trainer.precision=16-true"], "--trainer.precision must be one of"),
        (["--trainer.accelerator=cpu", "--trainer.devices=1000"], "--trainer.devices must be at most"),
        (["--trainer.devices=99999999999999999999"], "--trainer.devices must be at most"),
        (["--trainer.accelerator=cpu", "--trainer.devices=0"], "--trainer.devices must be above 0, got '0'"),
        (["--trainer.accelerator=cpu", "--trainer.devices=-1"], "--trainer.devices must be above 0, got '-1'"),
        ([STOPPING, "--trainer.callbacks.monitor=val_loss"], "monitor of EarlyStopping must be one of train_loss, .*"),
        (
            ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.monitor=x"],
            "monitor of ModelCheck",
        ),
        ([STOPPING, "--trainer.callbacks.monitor=valid_loss", "--trainer.limit_val_batches=0"], "monitor of Early"),
        (["--trainer.limit_test_batches=0"], "--trainer.limit_test_batches must be above 0, got 0"),
        (["--trainer.val_check_interval=1000"], "--trainer.val_check_interval must be at most 6, the batches"),
        (["--trainer.max_time=abc"], "not a valid duration"),
        (["--trainer.strategy=nothing"], "nothing"),
        (["--trainer.strategy=ddp_spawn"], "--trainer.strategy must be one that starts its own processes"),
        (["--trainer.val_check_interval=0"], "--trainer.val_check_interval must be at least 1, got 0"),
        (["--trainer.check_val_every_n_epoch=0"], "--trainer.check_val_every_n_epoch must be at least 1"),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches must be at least 1"),
        (["--trainer.precision=transformer-engine"], "--trainer.precision must be one of"),
        (["--trainer.accelerator=tpu"], "the package torch_xla is not installed. Install it: .* -m pip install"),
        (["--trainer.callbacks=Timer"], "Timer"),
        (["--data.batch_size=1"], "--data.batch_size must be at least 2: batch normalisation needs two cells"),
        (["--data.batch_size=1000000000"], "batch_size must be at most 1,048,576, got 1000000000"),
        (["--trainer.logger=NeptuneLogger"], "--trainer.logger must be"),
        (["--trainer.logger=CometLogger"], "the package comet.ml is not installed. Install it: .* -m pip install"),
        (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=/proc/x"], "no such file or directory: '/proc/x'"),
    ],
)
def test_what_cannot_work_is_one_line_and_leaves_nothing(words, said, trained_data, tmp_path, capsys):
    assert main(["fit", str(trained_data), f"--out={tmp_path / 'runs'}", *SMALL, *words]) == 2
    captured = capsys.readouterr()
    assert re.search(f"^fastcell: error: .*{said}", captured.err), captured.err
    assert captured.err.count("\n") == 1
    assert "epoch 1" not in captured.out
    assert not (tmp_path / "runs").exists() or os.listdir(tmp_path / "runs") == []


def test_any_loggers_stand_beside_the_record_of_the_run(trained_data, tmp_path):
    loggers = (
        ["--trainer.logger=false"],
        ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'csv'}"],
    )
    for number, words in enumerate(loggers):
        assert main(["fit", str(trained_data), f"--out={tmp_path / str(number)}", *SMALL, *words]) == 0
        (run,) = (tmp_path / str(number)).iterdir()
        assert (run / "metrics.csv").read_text().startswith("step,epoch,learning_rate,train_loss,train_accuracy")
        assert (run / "metrics.json").is_file()
        assert (run / "curves.png").is_file()
    (table,) = (tmp_path / "csv").rglob("metrics.csv")
    assert "valid_loss" in table.read_text()


def test_a_single_callback_is_a_callback(trained_data, tmp_path):
    words = ["--trainer.callbacks=LearningRateMonitor"]
    assert main(["fit", str(trained_data), f"--out={tmp_path / 'runs'}", *SMALL, *words]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert "lr-AdamW" in (run / "metrics.csv").read_text().splitlines()[0]


def test_a_callback_that_monitors_what_is_there_works(trained_data, tmp_path, capsys):
    words = [STOPPING, "--trainer.callbacks.monitor=valid_accuracy", "--trainer.callbacks.mode=max"]
    assert main(["fit", str(trained_data), f"--out={tmp_path / 'runs'}", *SMALL, *words]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "metrics.json").is_file()


@pytest.mark.parametrize(("command", "limit"), [("test", "limit_test_batches"), ("validate", "limit_val_batches")])
def test_nothing_to_score_is_refused(command, limit, trained_run, capsys):
    assert main([command, str(trained_run), f"--trainer.{limit}=0"]) == 2
    assert f"--trainer.{limit} must be above 0, got 0. There is nothing to score" in capsys.readouterr().err
