"""The last lines of every command: what to do next."""

import importlib
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from fixtures.golden_files import check_golden, run_command

from fastcell.cli.completion import Options
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.lightning_parser import place_positionals
from fastcell.cli.next_steps import after_predict, data_of_run, existing_data, fit_step, next_lines
from fastcell.cli.parser import parse_words
from fastcell.cli.signature import read_command
from fastcell.dataset.manifest import Manifest

pytestmark = pytest.mark.usefixtures("quick_figures")


def test_words_are_quoted():
    assert list(next_lines(("fit", Path("my cells"), "--preset", "fast"), ("doctor",))) == [
        "next: fastcell fit 'my cells' --preset fast",
        "next: fastcell doctor",
    ]
    assert list(next_lines()) == []


def test_no_training_is_named_where_two_classes_are_missing(planted, make_set):
    both = planted(30, groups=0, folder="both")
    assert fit_step(both) == [("fit", str(both.path))]
    one = planted(30, groups=0, names=["left"] * 30, folder="one")
    assert fit_step(one) == []
    assert fit_step(make_set(6)) == []


def test_a_word_that_a_terminal_would_obey_can_be_copied_all_the_same():
    word = "a'b\\ \x1b[1m\n\u202e\udcff"
    (line,) = next_lines(("fit", word))
    assert line == r"next: fastcell fit $'a\'b\\ \x1b[1m\x0a\xe2\x80\xae\xff'"
    said = subprocess.run(["bash", "-c", f"printf %s {line.partition('fit ')[2]}"], capture_output=True, check=True)
    assert said.stdout == word.encode("utf-8", "surrogateescape")


def next_of(arguments, capsys, status=0):
    """The lines about what is next, which are the last ones: commands that their parsers take, with no placeholder."""
    code, out, err = run_command([str(word) for word in arguments], capsys)
    assert code == status, err
    lines = out.splitlines()
    found = [line for line in lines if line.startswith("next: ")]
    assert lines[len(lines) - len(found) :] == found
    for line in found:
        _, _, name, *words = shlex.split(line)
        assert not {"RUN", "DATA", "OUT", "FILE", "CELLS", "NEW_IMAGES"} & set(words), line
        if name in LIGHTNING_COMMANDS:
            place_positionals(name, words)
        else:
            parse_words(read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name)), words)
    return found


@pytest.fixture
def place(tmp_path, trained_run, trained_data, monkeypatch):
    """A working folder with a data set ``cells`` and a run ``run``, both small."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_data, "cells")
    shutil.copytree(trained_run, "run")
    return tmp_path


def test_data_sets(place, capsys):
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Path("images", name).mkdir(parents=True)
        for number in range(8):
            cv2.imwrite(f"images/{name}/{number}.png", rng.integers(0, 255, (20, 20)).astype(np.uint8))
    said = []
    for words, status in (
        (["synth", "simulated", "--cells", "40", "--jobs", "1"], 0),
        (["pack", "images", "--out", "packed", "--jobs", "1"], 0),
        (["index", "packed", "-o", "indexed", "--jobs", "1"], 0),
        (["verify", "cells"], 0),
        (["info", "cells"], 0),
        (["qc", "cells", "--jobs", "1"], 0),
        (["qc", "cells", "--jobs", "1", "--out", "review"], 0),
        (["split", "cells", "--no-near", "--name", "mine", "--jobs", "1"], 0),
        (["audit", "cells", "--cells", "100", "--permutations", "20", "--jobs", "1"], 0),
    ):
        if words[0] == "index":
            for path in Path("packed").iterdir():
                if path.suffix != ".tar":
                    path.unlink() if path.is_file() else shutil.rmtree(path)
        said += [f"$ fastcell {' '.join(words)}", *next_of(words, capsys, status), ""]
    shard = next(Path("packed").glob("*.tar"))
    assert shard.is_file()
    damaged = next(Path("simulated").glob("*.tar"))
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    said += ["$ fastcell verify simulated", *next_of(["verify", "simulated"], capsys, 1), ""]
    check_golden("next", "data", "\n".join(said))


def test_runs(place, monkeypatch, capsys):
    """RUN is a folder or a checkpoint, DATA may be left out; options in the old spelling do the same."""
    monkeypatch.setattr("fastcell.explain.explanation.draw_parts", lambda *_: {})
    light = ["--data.threads=1", "--trainer.accelerator=cpu"]
    said = []
    for words in (
        ["fit", "cells", "--data.image_size=16", "--trainer.max_steps=2", "--trainer.max_epochs=-1", "-o", "runs"],
        ["validate", "run", "cells"],
        ["test", "run", "cells", "--out", "test.parquet"],
        ["test", "--ckpt-path=run/best.ckpt", "--data.path=cells"],
        ["predict", "run", "cells", "-o", "all.parquet"],
        ["predict", "run/last.ckpt", "cells", "--out=all.fcs", "--data.predict-split=test"],
        ["count", "all.parquet", "run"],
        ["count", "all.parquet", "--confusion", "run/predictions.parquet"],
        ["convert", "all.parquet", "--out", "table.csv"],
        ["convert", "all.parquet", "--out", "table.fcs"],
        ["convert", "run/predictions.parquet", "table.csv"],
        ["explain", "run", "--data", "cells", "-o", "figures"],
        ["explain", "run/last.ckpt", "--data.path", "cells"],
        ["fit", "--resume", "run"],
    ):
        lightning = words[0] in ("fit", "validate", "test", "predict")
        found = next_of([*words, *(light if lightning else [])], capsys)
        if words[:2] == ["fit", "cells"]:
            (run,) = Path("runs").iterdir()
            found = [line.replace(run.name, "20260131-142501-donors-cellnet") for line in found]
        said += [f"$ fastcell {' '.join(words)}", *found, ""]
    check_golden("next", "runs", "\n".join(said))


def test_commands_that_take_long(place, monkeypatch, capsys):
    """The work itself is replaced."""

    def page(folders, out, options):
        Path("page.html").write_text("page")
        return Path("page.html")

    def graph(run, out, **options):
        out.write_bytes(b"graph")
        return SimpleNamespace(probability=0.0, num_same=1, num_cells=1), SimpleNamespace(origin="1 cell")

    def folder(run, out, **options):
        out.mkdir(exist_ok=True)
        return SimpleNamespace(largest=0.0, num_cells=1, origin="1 cell")

    def student(run, *_, **__):
        networks = [SimpleNamespace(backend="openvino int8")]
        return SimpleNamespace(run=Path(run), scores=SimpleNamespace(networks=networks))

    backend = SimpleNamespace(name="torch", precision="fp32")
    live = SimpleNamespace(backend=backend, preprocessing=SimpleNamespace(depth=8))
    opened = SimpleNamespace(classifier=live, classes=["a"], window=None, min_confidence=0.0)
    counts = SimpleNamespace(received=0, answered=0, unusable=0, dropped=0, abandoned=0)
    monkeypatch.setattr("fastcell.inference.sharing.share.share", folder)
    monkeypatch.setattr("fastcell.cli.distill_from_python.distill", student)
    monkeypatch.setattr("fastcell.live.live_classifier.open_live", lambda *_, **__: (opened, SimpleNamespace(lines=[])))
    monkeypatch.setattr("fastcell.live.serve.check_addresses", lambda _: None)
    monkeypatch.setattr("fastcell.live.serve.serve_cells", lambda *_: counts)
    monkeypatch.setattr("fastcell.live.watch.watch", lambda *_: None)
    monkeypatch.setattr("fastcell.predictions.from_source.closing_lines", lambda *_: [])
    monkeypatch.setattr("fastcell.cli.bench._measure_latency", lambda *_: {})
    parts = SimpleNamespace(text="parts", where="here", settings={})
    monkeypatch.setattr("fastcell.report.write_page.write_page", page)
    monkeypatch.setattr("fastcell.inference.onnx.export.export", graph)
    monkeypatch.setattr("fastcell.bench.timed_parts.make_parts", lambda *_: parts)
    monkeypatch.setattr("fastcell.bench.measure.time_parts", lambda *_: [])
    monkeypatch.setattr("fastcell.bench.measure.format_rows", lambda *_: "rows")
    monkeypatch.setattr("fastcell.bench.measure.conclude", lambda *_: ["conclusion"])
    monkeypatch.setattr("fastcell.bench.engine_parts.probe_parts", lambda _: {})
    monkeypatch.setattr("fastcell.system.environment_report.format_environment", lambda _: "environment")
    study = SimpleNamespace(out_dir=Path("comparison"))
    monkeypatch.setattr("fastcell.compare.run_study.open_study", lambda *_: (study, []))
    monkeypatch.setattr("fastcell.compare.run_study.run_study", lambda *_, **__: ["table"])
    Path("comparison").mkdir()
    Path("comparison/study.json").write_text('{"study": "volume", "source": "cells", "changes": []}')
    Path("of-default-data").mkdir()
    Path("of-default-data/study.json").write_text('{"study": "volume", "changes": []}')
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    settings["data"]["path"] = "cells"
    Path("run/config.yaml").write_text(yaml.safe_dump(settings))
    shutil.copytree("run", "lost")
    settings["data"]["path"] = "gone"
    Path("lost/config.yaml").write_text(yaml.safe_dump(settings))
    said = []
    for words in (
        ["report", "run"],
        ["report", "comparison", "run"],
        ["report", "lost"],
        ["report", "lost", "--data", "cells"],
        ["report", "comparison"],
        ["report", "of-default-data"],
        ["export", "run", "cells.onnx"],
        ["export", "run/best.ckpt", "-o", "cells.onnx"],
        ["export", "lost", "-o", "cells.onnx"],
        ["export", "run", "shared"],
        ["export", "lost", "-o", "shared"],
        ["bench", "cells", "--run", "run"],
        ["bench", "cells", "--run", "run", "--latency"],
        ["distill", "run"],
        ["distill", "lost"],
        ["serve", "run"],
        ["serve", "lost", "--stdin"],
        ["watch", "run", "cells", "today.csv"],
        ["watch", "run", "cells", "-o", "today.fcs"],
        ["compare", "cells"],
        ["doctor"],
        ["doctor", "--json"],
        ["completion", "bash"],
    ):
        if words[0] == "completion":
            monkeypatch.setattr("fastcell.cli.completion.options_of_command", lambda _: Options({"--out": []}, []))
        said += [f"$ fastcell {' '.join(words)}", *next_of(words, capsys), ""]
    check_golden("next", "long", "\n".join(said))


def test_without_data_a_run_is_scored_on_its_own(place, capsys):
    words = ["test", "run", "-o", "own.parquet", "--data.threads=1", "--trainer.accelerator=cpu"]
    assert run_command(words, capsys)[0] == 0
    assert run_command([*words[:2], "cells", "--out", "named.parquet", *words[4:]], capsys)[0] == 0
    assert Path("own.parquet").read_bytes() == Path("named.parquet").read_bytes()
    assert len(Manifest.open("cells").table) == 200


def test_a_data_set_that_a_file_names(tmp_path):
    """No word for a place where no data set is, or whose name would change the terminal."""
    (tmp_path / "cells\x1b[2J").mkdir()
    (tmp_path / "cells\x1b[2J" / "manifest.parquet").touch()
    (tmp_path / "cells").mkdir()
    assert existing_data(str(tmp_path / "cells\x1b[2J")) == []
    assert existing_data(str(tmp_path / "cells")) == existing_data(None) == []
    (tmp_path / "cells" / "manifest.parquet").touch()
    assert existing_data(str(tmp_path / "cells")) == [tmp_path / "cells"]
    assert data_of_run(tmp_path) == data_of_run(tmp_path / "gone") == []


def test_predictions_of_a_shared_model_cannot_be_counted_with_it(tmp_path):
    (tmp_path / "config.yaml").touch()
    run, shared = tmp_path / "best.ckpt", tmp_path / "model.safetensors"
    table, events = tmp_path / "p.csv", tmp_path / "p.fcs"
    convert = ("convert", table, events)
    assert after_predict(table, run) == [("count", table, tmp_path), convert]
    assert after_predict(table, shared) == [convert]
    assert (after_predict(events, run), after_predict(events, shared)) == ([("report", tmp_path)], [])
