"""The data-volume study: right where the answer is known, resumable, and open about what it leaves out."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from fastcell.compare import baselines, runner
from fastcell.compare.saved_results import Task
from fastcell.compare.split_schemes import Scheme
from fastcell.compare.volume_study import (
    check_volumes,
    leave_out_small_classes,
    make_tasks,
    run_volumes,
    usable_volumes,
)
from fastcell.dataset.rows.split_table import write_split
from fastcell.errors import ArgumentError

CLASSES = ["left", "right", "top"]


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_planted_difference_is_found_at_every_volume(planted, study_of):
    study = study_of(planted())
    lines, entries, _ = run_volumes(study, ["svm", "knn"], [0.25, 1.0], 2)
    assert [(e.method, e.part, e.volume) for e in entries if e.accuracy < 1] == []
    assert len(entries) == 2 * 2 * 3
    assert {round(e.num_train) for e in entries} == {18, 72}
    assert any(
        re.fullmatch(r"\| kNN \| test \|( 1\.000 ± 0\.000 \(0\.\d{3}\.\.1\.000\) \|){2}", line) for line in lines
    )
    assert "| recall | SVM | **1.000** | **1.000** | **1.000** |" in lines
    assert (study.out_dir / "accuracy_by_volume-default.pdf").read_bytes()[:5] == b"%PDF-"
    drawn = read_csv(study.out_dir / "accuracy_by_volume-default.csv")
    assert {row["accuracy"] for row in drawn} == {"1.000000"}
    assert len(read_csv(study.out_dir / "classes.csv")) == 2 * 2 * 3 * 3


def test_all_methods_get_the_same_cells(planted, study_of):
    study = study_of(planted())
    results = study.run(
        [Task(method, "default", "default", 0.3, seed, 16) for method in ("svm", "knn") for seed in (0, 1)]
    )
    rows = [result.of("train")[0].tolist() for result in results]
    assert rows[0] == rows[2]
    assert rows[1] == rows[3]
    assert rows[0] != rows[1]
    assert results[0].of("test")[0].tolist() == results[1].of("test")[0].tolist()


def test_what_is_finished_is_not_computed_again(planted, study_of, monkeypatch):
    manifest = planted()
    whole = study_of(manifest, out="whole")
    run_volumes(whole, ["svm", "knn"], [0.5, 1.0], 1)

    fit, fitted = runner._fit_baseline, []

    def interrupted(task, *arguments):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(task)
        return fit(task, *arguments)

    monkeypatch.setattr(runner, "_fit_baseline", interrupted)
    study = study_of(manifest, out="broken")
    with pytest.raises(KeyboardInterrupt):
        run_volumes(study, ["svm", "knn"], [0.5, 1.0], 1)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.cells_dir.iterdir()}
    assert len(before) == 2

    def counted(task, *arguments):
        fitted.append(task)
        return fit(task, *arguments)

    monkeypatch.setattr(runner, "_fit_baseline", counted)
    study = study_of(manifest, out="broken")
    run_volumes(study, ["svm", "knn"], [0.5, 1.0], 1)
    assert len(fitted) == 4
    assert len(set(fitted)) == 4
    assert "2 of 4 tasks are finished, 2 remain" in study.lines
    for name, (data, written) in before.items():
        assert (study.cells_dir / name).read_bytes() == data
        assert (study.cells_dir / name).stat().st_mtime_ns == written
    timed = ("fit_s", "predict_us")
    for name in ("accuracy.csv", "classes.csv", "differences.csv"):
        mine, theirs = (
            [{k: v for k, v in row.items() if k not in timed} for row in read_csv(folder / name)]
            for folder in (study.out_dir, whole.out_dir)
        )
        assert mine == theirs
    finished = {path: path.read_bytes() for path in study.out_dir.rglob("*") if path.suffix in (".csv", ".pdf", ".png")}
    again = study_of(manifest, out="broken")
    run_volumes(again, ["svm", "knn"], [0.5, 1.0], 1)
    assert len(fitted) == 4
    assert {path: path.read_bytes() for path in finished} == finished


def test_other_settings_are_computed_anew(planted, study_of):
    manifest = planted()
    run_volumes(study_of(manifest), ["knn"], [1.0], 1)
    study = study_of(manifest, components=4)
    run_volumes(study, ["knn"], [1.0], 1)
    assert not any("are there" in line for line in study.lines)


def test_a_volume_needs_five_cells_of_every_class_in_every_split(planted, study_of):
    names = [CLASSES[number % 2] for number in range(100)] + ["top"] * 40
    manifest = planted(num=140, names=names)
    study = study_of(manifest)
    train = manifest.labels[manifest.split() == "train"]
    assert np.bincount(train).argmin() == CLASSES.index("top")
    just = 5 / np.bincount(train).min()
    kept, notes = usable_volumes(study, "default", [0.1, just, 1.0])
    assert kept == [just, 1.0]
    assert notes == ["volume 0.1 is left out: only 2 training cells of top in default, fewer than 5"]
    lines, entries, _ = run_volumes(study, ["knn"], [0.1, 1.0], 1)
    assert {entry.volume for entry in entries} == {1.0}
    assert lines[lines.index("## Left out") + 2] == f"- {notes[0]}"
    with pytest.raises(ArgumentError, match="--volumes must leave 5 training cells of every class, but no volume does"):
        run_volumes(study, ["knn"], [0.1], 1)


def test_folds_are_pooled_and_every_cell_counts_once(planted, study_of):
    study = study_of(planted(groups=4), None)
    _, entries, _ = run_volumes(study, ["knn"], [1.0], 1)
    (test,) = [entry for entry in entries if entry.part == "test"]
    assert (test.num_cells, test.num_splits, test.accuracy) == (120, 4, 1.0)


def test_two_ways_of_dividing_are_set_against_each_other(planted, study_of):
    """Each donor has its own wiring of class and brightness, so only donors that were seen can be read."""

    def by_donor(name, number):
        donor = number // 3 % 4
        cell = np.full((12, 16), 60.0)
        shift = (CLASSES.index(name) + donor) % 3
        cell[3 * donor : 3 * donor + 3, 5 * shift : 5 * shift + 5] = 200
        return np.clip(cell + np.random.default_rng(number).normal(0, 2, cell.shape), 1, 255).astype(np.uint8)

    study = study_of(planted(draw=by_donor), "groups,random")
    lines, entries, differences = run_volumes(study, ["knn"], [1.0], 1)
    accuracy = {entry.scheme: entry.accuracy for entry in entries if entry.part == "test"}
    assert accuracy["random"] > 0.98
    assert accuracy["groups"] < 0.7
    last = differences[-1]
    assert (last.first, last.second, last.num_cells) == ("kNN, random", "kNN, groups", 120)
    assert last.value == pytest.approx(accuracy["random"] - accuracy["groups"])
    assert last.low > 0
    assert "## The same cells with different splits" in lines


def test_a_method_that_cannot_take_a_volume_is_left_out_with_its_reason(planted, study_of, monkeypatch):
    monkeypatch.setitem(baselines.MAX_SVM_CELLS, "sklearn", 40)
    study = study_of(planted())
    tasks, notes = make_tasks(study, ["svm", "knn"], [0.5, 1.0], 1, [16])
    assert {(task.method, task.volume) for task in tasks} == {("svm", 0.5), ("knn", 0.5), ("knn", 1.0)}
    assert notes == ["SVM is left out at volume 1: 72 training cells, at most 40 with sklearn"]


def test_networks_and_baselines_in_one_table(planted, study_of):
    study = study_of(planted(), min_steps=48)
    study.recipe = replace(study.recipe, trainer={"max_epochs": 16})
    lines, entries, differences = run_volumes(study, ["cnn", "gao", "knn"], [1.0], 1)
    tests = {entry.method: entry for entry in entries if entry.part == "test"}
    assert tests["cnn"].accuracy > 0.9
    assert tests["cnn"].device == "cpu"
    assert tests["gao"].accuracy > 0.5
    assert [(one.first, one.second) for one in differences] == [
        ("CNN", "Gao et al."),
        ("CNN", "kNN"),
        ("Gao et al.", "kNN"),
    ]
    assert any(line.startswith("| Gao et al. | cpu |") for line in lines)


@pytest.mark.slow
def test_processes_give_the_same(planted, study_of):
    manifest = planted()
    tasks = [Task("knn", "default", "default", 1.0, seed, 16) for seed in range(2)]
    alone = study_of(manifest, out="alone").run(tasks)
    together = study_of(manifest, out="together", jobs=2).run(tasks)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)


def test_lost_cells_take_no_part(planted, study_of):
    manifest = planted()
    row = int(np.flatnonzero(manifest.split() == "test")[0])
    shard = manifest.shard_path(0)
    data = bytearray(shard.read_bytes())
    data[int(manifest.column("offset")[row]) + 130] ^= 255
    shard.write_bytes(data)
    study = study_of(manifest)
    (result,) = study.run([Task("knn", "default", "default", 1.0, 0, 16)])
    assert row not in result.rows
    assert len(result.rows) == 119
    assert any("(`fastcell verify` lists them): 1" in line for line in study.lines)


@pytest.mark.parametrize("text", ["", "0", "1.5", "a,b", "0.1,-1"])
def test_volumes_are_shares(text):
    with pytest.raises(ArgumentError, match=r"--volumes must be shares of the training cells in \(0, 1\]"):
        check_volumes(text)


def test_volumes_are_sorted():
    assert check_volumes("1, 0.1,0.1") == [0.1, 1.0]


def test_a_split_without_validation_cells(planted, study_of):
    manifest = planted()
    sides = manifest.split()
    write_split(manifest.path, "two", np.where(sides == "valid", "train", sides))
    study = study_of(manifest, "two")
    _, entries, _ = run_volumes(study, ["knn"], [1.0], 1)
    assert [entry.part for entry in entries] == ["train", "test"]
    assert entries[-1].accuracy == 1


def test_a_class_with_too_few_cells_is_left_out_and_the_others_go_on(make_dataset):
    manifest = make_dataset(60)  # 12 training cells of A, B and C
    subsets = manifest.split()
    few = np.flatnonzero((manifest.labels == 2) & (subsets == "train"))[4:]
    thin = np.where(np.isin(np.arange(60), few), "", subsets)
    schemes = [Scheme("mine", "mine", {"mine": thin})]
    ((kept,), notes) = leave_out_small_classes(manifest, schemes, 1.0)
    assert notes == ["Classes with fewer than 5 training cells are left out of all scores: C (4)."]
    assert (kept.splits["mine"] == np.where(manifest.labels == 2, "", thin)).all()
    alone = np.where(manifest.labels == 2, "test", np.where(subsets == "test", "train", thin))
    ((kept,), notes) = leave_out_small_classes(
        manifest, [Scheme("two", "two", {"mine": thin, "alone": alone})], 1.0, True
    )
    assert list(kept.splits) == ["mine"]
    assert notes[1:] == ["1 of the 2 splits of two have no test cell of another class."]
    whole = [Scheme("all", "all", {"all": subsets})]
    assert leave_out_small_classes(manifest, whole, 1.0) == (whole, [])
    with pytest.raises(ArgumentError, match=r"got fewer of A \(4\), B \(4\), C \(1\). Use larger --volumes, or a data"):
        leave_out_small_classes(manifest, schemes, 0.3)
    none = [Scheme("mine", "mine", {"mine": np.where(manifest.labels > 0, "", thin)})]
    with pytest.raises(ArgumentError, match=r"^--splits must have 5 .*other --splits, or a data set") as told:
        leave_out_small_classes(manifest, none, 1.0, allow_absent=True)
    assert "larger" not in str(told.value)
