"""Training from Python: scores as a result, scores of each epoch, and a search that ends bad trials early."""

import csv
import importlib.util
from pathlib import Path

import pytest

import fastcell

EXAMPLE = Path(__file__).parents[2] / "examples" / "search_settings.py"
SMALL = {"data.image_size": 16, "data.threads": 1, "trainer.max_epochs": 2}


def test_scores_are_those_of_the_run_folder(trained_data, tmp_path, capsys):
    seen = []
    settings = {**SMALL, "model.network": "gao", "freeze": "features.0"}
    result = fastcell.fit(
        trained_data, preset="fast", out=tmp_path, settings=settings, on_epoch=seen.append, verbose=False
    )
    assert capsys.readouterr().out == ""
    assert result.run.parent == tmp_path
    assert result.epochs == seen
    assert [each.epoch for each in seen] == [0, 1]
    with open(result.run / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["valid_loss"]]
    assert [float(row["valid_loss"]) for row in rows] == [pytest.approx(each.valid["loss"]) for each in seen]
    assert result.scores["test"]["accuracy"]["value"] == pytest.approx(
        fastcell.load(result.run).scores["accuracy"]["value"]
    )


def test_an_exception_ends_the_training_and_is_passed_on(trained_data, tmp_path):
    class Enough(Exception):  # noqa: N818, not an error
        pass

    def stop(scores):
        raise Enough(scores.epoch)

    with pytest.raises(Enough, match="0"):
        fastcell.fit(trained_data, preset="fast", out=tmp_path, settings=SMALL, on_epoch=stop, verbose=False)
    assert not list(tmp_path.glob("*/metrics.json"))


def test_messages_are_those_of_the_command(trained_data, tmp_path):
    with pytest.raises(fastcell.ArgumentError, match="network must be a known name, got 'alexnet'"):
        fastcell.fit(trained_data, out=tmp_path, settings={"model.network": "alexnet"}, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_search_ends_bad_trials_early(trained_data, tmp_path):
    optuna = pytest.importorskip("optuna")
    spec = importlib.util.spec_from_file_location("search_settings", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    study = example.search(str(trained_data), trials=6, epochs=3, out=str(tmp_path))
    states = [trial.state for trial in study.trials]
    assert optuna.trial.TrialState.FAIL not in states
    assert optuna.trial.TrialState.PRUNED in states
    for trial in study.trials:
        assert len(trial.intermediate_values) <= 3
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value == max(trial.intermediate_values.values())
            assert Path(trial.user_attrs["run"]).is_dir()
