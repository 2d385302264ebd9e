"""Search settings of ``fastcell fit`` with Optuna: bad trials end after a few epochs.

    python examples/search_settings.py cells --trials 20

Trials are judged on the validation subset. Score the settings that were found once, on the test subset: ``fastcell
test RUN``.
"""

import argparse

import optuna

import fastcell


def search(data: str, trials: int, epochs: int, out: str = "search") -> optuna.Study:
    """Return the study; each trial trains one network and reports its balanced accuracy after each epoch."""

    def objective(trial: optuna.Trial) -> float:
        settings = {
            "model.learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "model.weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.2, log=True),
            "model.network": trial.suggest_categorical("network", ["cellnet", "gao"]),
            "data.image_size": 32,
            "trainer.max_epochs": epochs,
        }

        def report(scores: fastcell.EpochScores) -> None:
            trial.report(scores.valid["balanced_accuracy"], scores.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        result = fastcell.fit(data, preset="fast", out=out, settings=settings, on_epoch=report, verbose=False)
        trial.set_user_attr("run", str(result.run))
        return max(each.valid["balanced_accuracy"] for each in result.epochs)

    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=trials)
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="packed data set")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    found = search(options.data, options.trials, options.epochs)
    print(found.best_trial.value, found.best_trial.params, found.best_trial.user_attrs["run"])
