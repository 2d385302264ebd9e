"""Labels by hand hold everywhere a manifest is read."""

import numpy as np

from fastcell.cli.info import main as info
from fastcell.dataset.cell_hashes import version_id
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.marks.journal import Mark, append_marks
from fastcell.dataset.views import SteadyManifest, ViewConfig, select
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.same_data import cells_and_labels


def say(data, cells, **said):
    append_marks(data.path, data.table, lambda: [Mark.now("anna", np.array(cells, np.int64), **said)])


def test_views_labels_and_columns_obey(make_dataset):
    data = make_dataset(30)
    before = data.column("class").tolist()
    say(data, [0, 1], label="B")
    say(data, [2], label="new")
    say(data, [3], label="")
    now = Manifest.open(data.path)
    assert now.info.classes == ["A", "B", "C", "new"]
    assert now.column("class").tolist() == ["B", "B", "new", None, *before[4:]]
    assert now.labels.tolist()[:4] == [1, 1, 3, -1]
    assert now.recorded_classes().to_pylist() == before
    rows = select(now, ViewConfig(labelled=True))
    assert rows.class_counts().tolist()[3] == 1
    assert 3 not in rows.rows
    assert select(SteadyManifest.of(now), ViewConfig()).labels.tolist() == now.labels.tolist()
    assert version_id(now) != version_id(data)


def test_an_unlabelled_set_gets_classes(make_dataset):
    data = make_dataset(30, labelled=False)
    say(data, [], classes=("unused",))
    assert Manifest.open(data.path).info.classes == []
    say(data, [4, 5], label="b")
    say(data, [6], label="a")
    module = CellDataModule(str(data.path), image_size=32)
    assert module.classes == ["b", "a"]
    assert module._labels()[4:7].tolist() == [0, 0, 1]
    assert (module._labels()[:] >= 0).sum() == 3


def test_a_run_that_goes_on_sees_it(make_dataset):
    data = make_dataset(30)

    def hashed():
        return cells_and_labels(select(Manifest.open(data.path), ViewConfig("train", labelled=True)))

    before = hashed()
    say(data, [0], label=str(data.column("class")[0]))  # confirmed: nothing is another
    assert hashed() == before
    say(data, [0], label="C")
    assert hashed() != before


def test_info_counts_them(make_dataset, capsys):
    data = make_dataset(30)
    name = str(data.column("class")[0])
    say(data, [0], label=name)
    say(data, [1, 2], label="new")
    say(data, [5], unsure=True, tag="look\u00e9")
    assert info([str(data.path)]) == 0
    out = capsys.readouterr().out
    assert "labels by hand: 3 cells (0 had none, 2 changed, 1 confirmed), by anna, last 20" in out
    assert "marks: unsure 1, look\u00e9 1" in out
    assert "\nnew " in out  # a row of the table of classes


def test_sets_without_marks_say_nothing(make_dataset, capsys):
    data = make_dataset(30)
    assert Manifest.open(data.path).marked is None
    assert info([str(data.path)]) == 0
    assert "by hand" not in capsys.readouterr().out
