"""Predictions of a run: calibration, unsure answers, cells unlike those of training; on any number of parts."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.stopped_runs import launch

from fastcell.cli.count import main as count
from fastcell.cli.predict import main as predict
from fastcell.errors import ArgumentError, DataError
from fastcell.inference.confidence import CHECKPOINT_KEY as CONFIDENCE_KEY
from fastcell.inference.unlike.training_cells import CHECKPOINT_KEY
from fastcell.predictions.answer_limits import read_answer_limits
from fastcell.predictions.table import read_predictions
from fastcell.runs.checkpoint import read_checkpoint, save_checkpoint
from fastcell.runs.run_folder import scored_checkpoint
from fastcell.simulator.synth import synthesize


def noise(image, number):
    return np.random.default_rng(number).integers(0, 256, image.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Cells of the simulator; a third of them is replaced by noise."""
    import cv2

    from fastcell.sources.load_cells import load_cells

    folder = tmp_path_factory.mktemp("other")
    synthesize(folder / "synth", 60, seed=3, jobs=1)
    cells = load_cells(folder / "synth")
    for number, image in enumerate(cells.images):
        place = folder / "images" / ("noise" if number < 20 else "same")
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number:03d}.png"), noise(image, number) if number < 20 else image)
    return folder / "images"


def test_reading_what_a_checkpoint_says(trained_run, tmp_path):
    checkpoint = scored_checkpoint(trained_run)
    limits = read_answer_limits(checkpoint, ["a"], None, None)
    assert limits.known.num_training == 130
    assert limits.known.num_held_out == 0  # 30 validation cells are too few for limits, and for a temperature
    assert limits.confidence.temperature == 1
    assert limits.lines == [limits.known.caution]
    assert limits.known.caution == (
        "fewer than 40 validation cells: the limits come from training cells, so more than 5% of new cells of the same "
        "kind may look unlike them"
    )
    assert limits.min_confidence == 0


def test_an_older_checkpoint_says_what_it_lacks(trained_run, tmp_path):
    content = read_checkpoint(scored_checkpoint(trained_run))
    for name in (CHECKPOINT_KEY, CONFIDENCE_KEY):
        del content[name]
    save_checkpoint(content | {"fastcell_format": 2}, tmp_path / "old.ckpt")
    limits = read_answer_limits(tmp_path / "old.ckpt", ["a"], 0.5, None)
    assert limits.known is None
    assert len(limits.lines) == 2
    assert limits.lines[0].startswith("the checkpoint has no statistics of training cells (an older version wrote it")
    assert limits.lines[1] == "the checkpoint has no temperature: probabilities are not calibrated"
    values = np.float32([[0.2, 0.8]])
    assert limits.calibrate(values) is values
    with pytest.raises(ArgumentError, match="--accuracy needs validation cells in the checkpoint, got none"):
        read_answer_limits(tmp_path / "old.ckpt", ["a"], None, 0.9)


def test_limits_that_do_not_fit_are_refused(trained_run, tmp_path):
    checkpoint = scored_checkpoint(trained_run)
    with pytest.raises(ArgumentError, match="must not be given together"):
        read_answer_limits(checkpoint, ["a"], 0.5, 0.9)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="--min_confidence must be from 0 to 1"):
            read_answer_limits(checkpoint, ["a"], value, None)
    with pytest.raises(ArgumentError, match="a class must not be named 'unsure'"):
        read_answer_limits(checkpoint, ["unsure", "b"], 0.5, None)
    assert len(read_answer_limits(checkpoint, ["unsure", "b"], None, None).lines) == 1
    content = read_checkpoint(checkpoint)
    content[CHECKPOINT_KEY]["limits"] = torch.zeros(3)
    save_checkpoint(content, tmp_path / "damaged.ckpt")
    with pytest.raises(DataError, match="statistics of training cells in the checkpoint are damaged"):
        read_answer_limits(tmp_path / "damaged.ckpt", ["a"], None, None)


def test_predict_marks_cells_and_count_leaves_them_out(trained_run, other_data, tmp_path, capsys):
    from fastcell.cli.pack import main as pack

    data, out = tmp_path / "cells", tmp_path / "p.parquet"
    pattern = ["--pattern", "{group}/{name}", "--split", "none", "--jobs", "1"]
    assert pack([str(other_data), str(data), *pattern]) == 0
    words = [str(trained_run), str(data), "--out", str(out), "--min_confidence", "0.6"]
    capsys.readouterr()
    assert predict(words) == 0
    said = capsys.readouterr().out
    table = pq.read_table(out)
    strange = np.array(table.column("group").to_pylist()) == "noise"
    unlike = table.column("unlike_training").to_numpy(zero_copy_only=False)
    scores = table.column("unlike_score").to_numpy(zero_copy_only=False)
    assert unlike[strange].all()
    assert unlike[~strange].mean() < 0.3
    np.testing.assert_array_equal(unlike, scores > 1)
    why = np.array(table.column("unlike_reason").to_pylist(), object)
    np.testing.assert_array_equal(why != None, unlike)  # noqa: E711
    confidence = table.column("confidence").to_numpy(zero_copy_only=False)
    names = np.array(table.column("class").to_pylist(), object)
    np.testing.assert_array_equal(names == "unsure", confidence < np.float32(0.6))
    reasons = np.array(table.column("reason").to_pylist(), object)
    assert set(reasons[names == "unsure"]) == {"confidence below 0.6"}
    num = int(unlike.sum())
    assert (
        f"{num} of 60 cells ({num / 60:.1%}) look unlike training cells, chance 5%; above chance in noise 20 of 20"
        in said
    )
    assert f"unsure {(names == 'unsure').sum()}" in said
    read = read_predictions(out)
    np.testing.assert_array_equal(read.unsure, names == "unsure")
    np.testing.assert_array_equal(read.unlike_training, unlike)
    np.testing.assert_array_equal(read.called() < 0, names == "unsure")
    assert count([str(out), str(trained_run), "--out", str(tmp_path / "counts.csv")]) == 0
    said = capsys.readouterr().out
    assert f"{num} cells unlike those of training are not counted" in said
    counted = read.called()[(read.called() >= 0) & ~unlike]
    lines = (tmp_path / "counts.csv").read_text().splitlines()[1:]
    assert sum(int(line.split(",")[2]) for line in lines) == len(counted)


def test_predictions_do_not_depend_on_chunks_or_interruptions(trained_run, trained_data, tmp_path, monkeypatch):
    from fastcell.predictions import saved_parts

    def table(name, *more):
        out = tmp_path / name
        assert (
            predict([str(trained_run), str(trained_data), "--out", str(out), "--trainer.accelerator=cpu", *more]) == 0
        )
        return out.read_bytes()

    whole = table("whole.csv", "--data.eval_batch_size=32")
    assert whole.splitlines()[0].endswith(b'"reason","unlike_training","unlike_score","unlike_reason"')
    monkeypatch.setattr(saved_parts, "SAVE_EVERY_S", 0.0)
    assert table("parts.csv", "--data.eval_batch_size=32") == whole
    assert table("threads.csv", "--data.eval_batch_size=32", "--data.threads=3") == whole


@pytest.mark.slow
def test_predictions_do_not_depend_on_layout_and_ranks(trained_run, other_data, tmp_path):
    """All columns, among them those of unlike cells, from cell and block shards, by 1, 2 and 3 processes."""
    from fastcell.cli.pack import main as pack

    tables = []
    for layout in ("cell", "block"):
        data = tmp_path / layout
        words = ["--layout", layout, *(["--block_cells", "7"] if layout == "block" else [])]
        assert pack([str(other_data), str(data), "--pattern", "{group}/{name}", "--split", "none", *words]) == 0
        for ranks in (1, 2, 3):
            out = tmp_path / f"{layout}-{ranks}.csv"
            command = ["predict", str(trained_run), str(data), "--out", str(out), "--data.eval_batch_size=8"]
            assert launch([*command, f"--trainer.devices={ranks}"]).wait(120) == 0
            assert out.read_bytes() == (tmp_path / f"{layout}-1.csv").read_bytes()
        tables.append(read_predictions(tmp_path / f"{layout}-1.csv").table.sort_by("key"))
    cells, blocks = tables  # their order differs, and with it the batches and the rounding
    for name in ("key", "class", "unlike_training", "unlike_reason"):
        assert cells.column(name).equals(blocks.column(name))
    np.testing.assert_allclose(cells.column("unlike_score"), blocks.column("unlike_score"), rtol=1e-4)
    assert 20 <= sum(cells.column("unlike_training").to_pylist()) < 60
