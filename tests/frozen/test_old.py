"""What an earlier version made still works: a data set, a finished run, a stopped run, a pickled estimator.

``old/made.tar.xz`` holds them, with weights rounded to few levels, ``old/expected.json.xz`` what they gave. The cells
of the runs are packed anew: `test_bytes` says that they are the same bytes. Where the archive is missing,
``FASTCELL_FREEZE=1`` makes it anew with the version at hand.
"""

import io
import json
import os
import pickle
import pickletools
import re
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import fastcell
from fastcell.cli.main import main
from fastcell.runs.prediction_columns import FORMAT_METADATA
from fastcell.storage.formats import FORMATS

HERE = Path(__file__).parent / "old"
ARCHIVE = HERE / "made.tar.xz"
FILE = "old/expected.json.xz"
FREEZES = os.environ.get("FASTCELL_FREEZE") == "1"
MOST_BYTES = 62_000
LEVELS = 2  # of a weight, on each side of zero
STOPPED_AFTER = 9
CPU = "--trainer.accelerator=cpu"
FIT = [
    "--preset=fast",
    "--model.network=gao",
    "--data.image_size=16",
    "--data.batch_size=8",
    "--data.threads=1",
    "--data.path=cells",
    "--runs=runs",
    CPU,
]

# -- how the archive was made


def rounded(value, name=""):
    """Values of few levels in place of a tensor's; a variance does not become zero."""
    if isinstance(value, dict):
        return {key: rounded(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(rounded(item, name) for item in value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.numel() < 6:
        return value
    step = value.abs().max() / LEVELS
    if step == 0:
        return value
    up = name == "exp_avg_sq" or name.endswith("running_var")
    return (torch.ceil(value / step) if up else torch.round(value / step)) * step


def without_path(value, path):
    """The same with `/old` in place of a path in texts, keys included."""
    if isinstance(value, dict):
        return {without_path(key, path): without_path(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [without_path(item, path) for item in value]
    return value.replace(path, "/old") if isinstance(value, str) else value


def round_checkpoint(path, root):
    content = torch.load(path, weights_only=True)
    for name in ("state_dict", "optimizer_states"):
        content[name] = rounded(content[name])
    save_checkpoint(without_path(content, root), path)


def save_checkpoint(content, path):
    """Without the name of the file in it, so that equal tensors in two files are equal bytes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())


def share_tensors(root):
    """Take what no test goes on from, or compares, from the point of the stopped run: it costs the archive nothing."""
    point = torch.load(root / f"stopped/step-{STOPPED_AFTER:09d}.ckpt", weights_only=True)
    shared = {"stopped": ("state_dict", "optimizer_states"), "finished": ("optimizer_states",)}
    for path in (root / folder / f"{name}.ckpt" for folder in shared for name in ("best", "last")):
        content = torch.load(path, weights_only=True)
        for part in shared[path.parent.name]:
            content[part] = with_tensors_of(content[part], point[part])
        save_checkpoint(content, path)


def with_tensors_of(value, other):
    """The same with the tensors that stand in the same places of another value."""
    if isinstance(value, dict):
        return {key: with_tensors_of(item, other[key]) for key, item in value.items()}
    if isinstance(value, list):
        return [with_tensors_of(*pair) for pair in zip(value, other, strict=True)]
    return other if isinstance(value, torch.Tensor) and value.numel() > 5 else value


def make_finished_run(call, patch):
    """Its scores are those of the rounded weights: they are rounded when training has ended, before the evaluation."""
    import pytorch_lightning as pl

    fit = pl.Trainer.fit

    def fit_and_round(self, model, *args, **kwargs):
        fit(self, model, *args, **kwargs)
        model.load_state_dict(rounded(model.state_dict()))
        for optimizer in self.optimizers:
            optimizer.load_state_dict(rounded(optimizer.state_dict()))

    with patch.context() as inner:
        inner.setattr(pl.Trainer, "fit", fit_and_round)
        call("fit", *FIT, "--trainer.max_epochs=6")
    (folder,) = Path("runs").iterdir()
    folder.rename("finished")


def make_stopped_run(call, patch):
    import pytorch_lightning as pl

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == STOPPED_AFTER:
                os.kill(os.getpid(), signal.SIGTERM)

    fit = pl.Trainer.fit

    def fit_and_stop(self, *args, **kwargs):
        self.callbacks.append(Stop())
        fit(self, *args, **kwargs)

    with patch.context() as inner:
        inner.setattr(pl.Trainer, "fit", fit_and_stop)
        words = ["--trainer.max_epochs=3", "--model.ema_decay=0.9", "--checkpoint_every_steps=4"]
        call("fit", *FIT, *words, status=143)
    (folder,) = Path("runs").iterdir()
    folder.rename("stopped")
    Path("stopped/step-000000008.ckpt").unlink()


def estimator_cells(draw_cell):
    return [draw_cell(number, number % 3) for number in range(60)], np.array(["a", "b", "c"])[np.arange(60) % 3]


def make_estimator(draw_cell):
    model = fastcell.CellClassifier(network="gao", image_size=16, epochs=12, batch_size=12, threads=1, random_state=0)
    model.fit(*estimator_cells(draw_cell))
    model.module_.load_state_dict(rounded(model.module_.state_dict()))
    Path("estimator.pickle").write_bytes(pickle.dumps(model, protocol=4))


def pack_cells(out, num, call, draw_cell, png):
    """Pack cells as donor/class/name: 6 donors, 3 classes."""
    images = out.parent / "images"
    for number in range(num):
        path = images / f"donor-{number // 3 % 6}" / "ABC"[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(draw_cell(number, number % 3)))
    words = ["--pattern", "{group}/{class}/{name}", "--split", "60/15/25", "--name", "images", "--jobs", 1]
    call("pack", images, out, *words)
    shutil.rmtree(images)


def make_archive(root, call, draw_cell, png):
    root = root.resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("FASTCELL_CACHE_DIR", str(root / "cache"))
        pack_cells(root / "few", 18, call, draw_cell, png)
        pack_cells(root / "cells", 72, call, draw_cell, png)
        make_finished_run(call, patch)
        make_stopped_run(call, patch)
        make_estimator(draw_cell)
    shutil.rmtree(root / "runs")
    shutil.rmtree(root / "cells")
    shutil.rmtree(root / "cache", ignore_errors=True)
    for path in root.rglob("*.*"):
        if path.suffix == ".ckpt":
            round_checkpoint(path, str(root))
        elif path.suffix in (".png", ".pdf"):  # for the eye, and large
            path.unlink()
        elif path.name == "environment.json":
            values = without_path(json.loads(path.read_text()), str(root))
            path.write_text(json.dumps({**values, "platform": "Linux", "commit": None}, indent=1))
    share_tensors(root)
    HERE.mkdir(exist_ok=True)

    def plain(item):
        item.mtime, item.uid, item.gid, item.uname, item.gname = 0, 0, 0, "", ""
        return item

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as file:
        for path in sorted(root.iterdir()):
            file.add(path, path.name, filter=plain)


# -- what it gives


@pytest.fixture(scope="module")
def made(tmp_path_factory, call, draw_cell, png):
    """The archive, unpacked, and the cells of its runs."""
    if FREEZES and not ARCHIVE.exists():
        make_archive(tmp_path_factory.mktemp("make"), call, draw_cell, png)
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as file:
        file.extractall(folder, filter="data")
    pack_cells(folder / "cells", 72, call, draw_cell, png)
    return folder


@pytest.fixture
def old(made, tmp_path, monkeypatch):
    """A copy of its own for each test, in which it works: the runs name their data set as `cells`."""
    shutil.copytree(made, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def columns(path):
    """A table of predictions or counts by column."""
    read = pq.read_table if path.suffix == ".parquet" else pyarrow.csv.read_csv
    return read(path).to_pydict()


def sizes_of_weights(path):
    """Of each tensor its norm and that of each quarter, so that a change of order shows as well."""
    content = torch.load(path, weights_only=True)
    found = {"steps": [float(content["global_step"])]}
    for name, value in content["state_dict"].items():
        flat = value.double().flatten()
        parts = torch.tensor_split(flat, 4) if len(flat) >= 16 else ()
        found[name] = [float(part.norm()) for part in (flat, *parts)]
    return found


def test_size_and_paths(made):
    """Small enough for a repository, without a word of the machine that made it."""
    assert sum(path.stat().st_size for path in HERE.iterdir()) <= MOST_BYTES
    for path in made.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for place in (b"/tmp/", b"/home/", b"/root/", b"pytest-of"):
                assert place not in content, (path.name, place)


def test_data_set(old, call, frozen):
    call("verify", "few")
    call("info", "few")
    call("split", "few", "--group-by", "group", "--name", "new", "--no-near", "--allow-absent", "--jobs", 1)
    manifest = fastcell.Manifest.open("few")
    keys = manifest.column("key").tolist()
    found = {"cells": len(keys), "first keys": keys[:5], "classes": manifest.info.classes}
    found["sides"] = "".join(side[0] for side in manifest.split().tolist())
    frozen(FILE, "data set", found)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_finished_run_is_applied(command, old, call, frozen):
    call(command, "--ckpt_path=finished/last.ckpt", "--data.path=cells", "--out=out.parquet", CPU)
    table = columns(old / "out.parquet")
    found = {"table": table}
    if command != "predict":
        hits = [one == other for one, other in zip(table["true_class"], table["class"], strict=True)]
        found["accuracy"] = f"{sum(hits)} of {len(hits)}"
    frozen(FILE, f"{command} of the finished run", found, tolerance=1e-6)
    if command == "test":  # the run's own table, by the version that made it, which wrote no column `event`
        older = {**columns(old / "finished/predictions.parquet"), "event": table["event"]}
        frozen(FILE, "test of the finished run", {**found, "table": older}, tolerance=1e-6)


def test_best_weights_and_flips(old, call, frozen):
    call("predict", "--ckpt_path=finished/best.ckpt", "--data.path=cells", "--out=out.csv", "--tta=true", CPU)
    frozen(FILE, "predict of best.ckpt with flips", columns(old / "out.csv"), tolerance=1e-6)


def test_count(old, call, frozen):
    call("predict", "--ckpt_path=finished/last.ckpt", "--data.path=cells", "--out=out.csv", CPU)
    for confusion in ("finished", "finished/confusion.csv"):
        call("count", "out.csv", "--confusion", confusion, "--out", "count.csv")
        frozen(FILE, f"count with {confusion}", columns(old / "count.csv"), tolerance=1e-3)


@pytest.mark.slow
def test_explain_and_report(old, call, frozen):
    call("explain", "finished", "--cells=4", "--positions=4", "--embed=12")
    values = json.loads((old / "finished/explain/explain.json").read_text())
    numbers = {name: values[name] for name in ("checkpoint", "cells", "part", "calibration", "classes", "reject")}
    frozen(FILE, "explain, numbers", numbers, tolerance=1e-4)
    frozen(FILE, "explain, errors", columns(old / "finished/explain/errors.csv"), tolerance=1e-5)
    frozen(FILE, "explain, occlusion", columns(old / "finished/explain/occlusion_mean.csv"), tolerance=1e-5)
    call("report", "finished", "--no-explain", "--cells", 10, "--allow-absent")
    page = (old / "finished/report.html").read_text(encoding="utf-8")
    metrics = json.loads((old / "finished/metrics.json").read_text())
    frozen(FILE, "scores of the finished run", metrics["test"], tolerance=1e-7)
    assert f"{100 * metrics['test']['accuracy']['value']:.1f}" in page
    frozen(FILE, "sections of the report", re.findall(r"<section[^>]* id=\"([^\"]+)\"", page))


@pytest.mark.slow
def test_audit(old, call, frozen):
    call("audit", "cells", "finished", "--out", "audit", "--permutations", 20, "--jobs", 1)
    values = json.loads((old / "audit/audit.json").read_text())
    frozen(FILE, "audit", {item["key"]: item["verdict"] for item in values["findings"]})


@pytest.mark.slow
def test_export(old, call, frozen, draw_cell):
    onnxruntime = pytest.importorskip("onnxruntime")
    call("export", "finished", "net.onnx", "--check", 10)
    session = onnxruntime.InferenceSession(str(old / "net.onnx"))
    (entry,) = session.get_inputs()
    cells = [draw_cell(number, 1) for number in range(4)]
    outputs = [session.run(None, {entry.name: cell[None, None]}) for cell in cells]
    found = {"input": entry.name, "outputs": [[np.ravel(value).tolist() for value in output] for output in outputs]}
    frozen(FILE, "export of the finished run", found, tolerance=1e-5)


def test_stopped_run_goes_on(old, call, frozen):
    """Once and once more, to the same bits; to the recorded weights but for rounding."""
    shutil.copytree("stopped", "again")
    for folder in ("stopped", "again"):
        call("fit", f"--resume={folder}", "--allow-absent")
        assert not list(Path(folder).glob("step-*"))
    one, other = (torch.load(f"{name}/last.ckpt", weights_only=True)["state_dict"] for name in ("stopped", "again"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    frozen(FILE, "weights of the resumed run", sizes_of_weights(old / "stopped/last.ckpt"), relative=1e-4)
    frozen(FILE, "files of the resumed run", sorted(path.name for path in Path("stopped").iterdir()))
    with open("stopped/metrics.csv", encoding="utf-8") as file:
        frozen(FILE, "columns and steps of the resumed run", [file.readline().strip(), len(file.readlines())])


def test_older_formats_are_what_the_archive_holds(old):
    """So that the tests here are of older formats: checkpoints 1, a run and predictions without a number."""
    for path in old.glob("*/*.ckpt"):
        assert torch.load(path, weights_only=True)["fastcell_format"] == 1 < FORMATS["checkpoint"].number
    assert "format" not in json.loads(Path("finished/environment.json").read_text())
    assert FORMAT_METADATA.keys().isdisjoint(pq.read_schema("finished/predictions.parquet").metadata or {})
    assert json.loads(Path("few/dataset.json").read_text())["format_version"] == FORMATS["data set"].number


def test_an_older_run_keeps_its_word(old, capsys):
    before = {path.name: path.read_bytes() for path in Path("finished").iterdir()}
    assert main(["fit", "--resume=finished"]) == 0
    assert "finished is finished, nothing to do." in capsys.readouterr().out
    for folder, words, named in (
        ("finished", "--model.learning_rate=1", "--model.learning_rate of a resumed run must be 0.002"),
        ("stopped", "--data.batch_size=9", "--data.batch_size of a resumed run must be 8"),
        ("stopped", "--trainer.max_epochs=9", "--trainer.max_epochs of a resumed run must be 3"),
    ):
        assert main(["fit", f"--resume={folder}", words]) == 2
        assert named in capsys.readouterr().err
    text = Path("stopped/config.yaml").read_text()
    Path("stopped/config.yaml").write_text(text.replace("learning_rate: 0.002", "learning_rate: 0.2"))
    assert main(["fit", "--resume=stopped"]) == 2  # the checkpoint holds the arguments of the model
    assert "--model.learning_rate of a resumed run must be 0.002" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("finished").iterdir()} == before


def test_point_in_a_new_run(old, call):
    (point,) = [path for path in Path("stopped").glob("step-*.ckpt") if f"{STOPPED_AFTER:09d}" in path.name]
    call("fit", "--config", "stopped/config.yaml", f"--ckpt_path={point}", "--runs=new", "--allow-absent")
    (folder,) = Path("new").iterdir()
    before, now = (torch.load(path, weights_only=True)["global_step"] for path in (point, folder / "last.ckpt"))
    assert before == STOPPED_AFTER < now


def test_config_repeats_the_run(old, call, frozen):
    """For one epoch: a grey level that one processor rounds up and another down moves weights more with every step."""
    call("fit", "--config", "finished/config.yaml", "--runs=new", "--trainer.max_epochs=1", "--allow-absent")
    (folder,) = Path("new").iterdir()
    frozen(FILE, "weights of fit --config", sizes_of_weights(folder / "last.ckpt"), relative=1e-3)
    before, now = (yaml.safe_load(path.joinpath("config.yaml").read_text()) for path in (old / "finished", folder))
    asked = {**before, "runs": "new", "trainer": {**before["trainer"], "max_epochs": 1}}
    for name, values in asked.items():  # the finished run is older than some settings
        assert {key: now[name][key] for key in values} == values if isinstance(values, dict) else now[name] == values


# -- the estimator


def modules_in(data):
    """Every `module name` pair that a pickle would import, from its texts and its globals."""
    texts = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(str(argument))
        elif code.name == "GLOBAL":
            yield str(argument)
        elif code.name == "STACK_GLOBAL":
            yield " ".join(texts[-2:])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_pickled_estimator(old, frozen, draw_cell):
    data = Path("estimator.pickle").read_bytes()
    assert "fastcell.sklearn CellClassifier" in list(modules_in(data))
    model = pickle.loads(data)
    assert isinstance(model, fastcell.CellClassifier)
    cells, names = estimator_cells(draw_cell)
    found = {"classes": model.predict(cells).tolist(), "probabilities": model.predict_proba(cells).tolist()}
    frozen(FILE, "estimator", {**found, "score": model.score(cells, names)}, tolerance=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(cells), np.array(model.predict_proba(cells)))


def test_new_pickles_name_the_same_place(old):
    """A fitted one and a plain one, in every protocol: of this package that one name alone."""
    fitted = pickle.loads(Path("estimator.pickle").read_bytes())
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for model in (fitted, fastcell.CellClassifier()):
            data = pickle.dumps(model, protocol=protocol)
            assert b"fastcell.sklearn" in data
            named = {name for name in modules_in(data) if name.startswith("fastcell")}
            assert named <= {"fastcell.sklearn CellClassifier"}, named
            assert data.count(b"fastcell") == data.count(b"fastcell.sklearn"), "a module beside fastcell.sklearn"
