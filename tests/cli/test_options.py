"""Options that several commands share."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, get_args

import numpy as np
import pytest

from fastcell.cli import options
from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.main import COMMANDS, main
from fastcell.cli.options import SplitArguments, check_least, check_seed, parse_shares, scored_run
from fastcell.cli.signature import REQUIRED, read_command
from fastcell.errors import ArgumentError
from fastcell.splits.by_group import split_by_group
from fastcell.splits.make_splits import SplitOptions, make_splits

SHARES = (0.65, 0.15, 0.20)


def test_arguments_become_options_and_options_splits():
    chosen = SplitArguments("80/10/10", 7, "3").read()
    assert chosen == SplitOptions((0.8, 0.1, 0.1), 7, 3)
    splits = make_splits(np.arange(30) % 2, None, chosen)
    assert list(splits) == ["default", "fold-0", "fold-1", "fold-2"]
    assert (splits["default"] == split_by_group(np.arange(30) % 2, None, (0.8, 0.1, 0.1), 7)).all()
    assert SplitArguments(folds="groups").read().folds == "groups"
    none = SplitArguments("none").read()
    assert make_splits(np.zeros(3), None, none)["default"].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("text", ["65/15", "65/15/30", "-5/55/50", "a/b/c", "", "nan/50/50"])
def test_shares_that_cannot_be_are_refused(text):
    with pytest.raises(ArgumentError, match="--split must be three shares"):
        parse_shares(text)


def test_shares_may_be_parts_of_one():
    assert parse_shares("0.65/0.15/0.2") == pytest.approx(SHARES)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"folds": "1"}, "--folds"), ({"folds": "many"}, "--folds"), ({"split_seed": -1}, "--split-seed")],
)
def test_arguments_out_of_rule_are_refused(arguments, name):
    with pytest.raises(ArgumentError, match=name):
        SplitArguments(**arguments).read()


def test_a_checkpoint_stands_for_its_run(tmp_path):
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_bytes(b"weights")
    assert scored_run(str(tmp_path)) == tmp_path
    assert scored_run(str(tmp_path / "best.ckpt")) == tmp_path
    assert scored_run(str(tmp_path / "no.csv")) == tmp_path / "no.csv"
    with pytest.raises(ArgumentError, match=r"the checkpoint that was scored \(best.ckpt\)"):
        scored_run(str(tmp_path / "last.ckpt"))


def parameters_of(function: Any) -> dict[str, Any]:
    """Names of what a function takes, with the defaults; REQUIRED where there is none."""
    return {entry.name: entry.default for entry in inspect.signature(function).parameters.values()}


def behind(name: str) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """What stands behind a command: its parameters with defaults; argument -> parameter where the names differ;
    arguments that no parameter takes as they are, with the reason."""
    from fastcell.audit.collect import audit
    from fastcell.bench import measure
    from fastcell.bench.timed_parts import make_parts
    from fastcell.cli.distill_from_python import distill
    from fastcell.compare.run_study import StudyOptions, open_study
    from fastcell.explain.explanation import Explanation
    from fastcell.inference.onnx.export import export
    from fastcell.inference.sharing.share import share
    from fastcell.inference.source_cells import open_cells
    from fastcell.live.live_classifier import open_live
    from fastcell.live.serve import ServeOptions
    from fastcell.live.watch import WatchTask
    from fastcell.packing.index import index
    from fastcell.packing.pack import pack
    from fastcell.packing.verify import verify
    from fastcell.predictions.convert import convert
    from fastcell.predictions.counts import count
    from fastcell.quality.review_sheets import control_quality
    from fastcell.report.data_summary import draw_figures
    from fastcell.report.page import PageOptions
    from fastcell.review.review_set import ReviewOptions
    from fastcell.review.serve_page import serve_page
    from fastcell.runs.open_run import open_run
    from fastcell.simulator.synth import synthesize
    from fastcell.sources.registry import ReadOptions
    from fastcell.splits.make_splits import SplitOptions
    from fastcell.splits.resplit import resplit
    from fastcell.system.environment_report import describe_environment

    place = "the command's own default place"
    packages = "a list behind"
    split = {"split": "read into SplitOptions", "folds": "read into SplitOptions"}
    engine = {"backend": "read into EngineArguments", "scheduler": "read into EngineArguments"}
    renamed_split = {"split_seed": "SplitOptions.seed"}
    splitting = {f"SplitOptions.{key}": value for key, value in parameters_of(SplitOptions).items()}
    table = {
        "synth": ([synthesize, splitting], {"cells": "num_cells", **renamed_split}, split),
        "pack": (
            [pack, ReadOptions, splitting],
            {**renamed_split, "source": "origin"},
            {**split, "tile": "read into two numbers", "formats": "prints a page instead", **engine},
        ),
        "index": ([index, splitting], renamed_split, split),
        "split": ([resplit, splitting], {"data": "path", **renamed_split}, {**split, "no_near": "not near"}),
        "verify": ([verify], {"data": "path"}, {"list_": place, **engine}),
        "qc": (
            [control_quality],
            {"data": "manifest"},
            {"apply": "another step", "verdicts": "another step", **engine},
        ),
        "explain": (
            [Explanation, {"data_path": parameters_of(open_run)["data_path"]}],
            {"cells": "num_occluded", "embed": "num_embedded", "data": "data_path"},
            {"out": place, "parts": "all of EXPLANATION_PARTS", "trust": packages},
        ),
        "report": (
            [PageOptions],
            {"cells": "num_cells", "data": "data_path"},
            {"runs": "folders", "out": place, "no_explain": "not explain", "trust": packages},
        ),
        "review": (
            [serve_page, ReviewOptions],
            {"data": "manifest", "select": "query"},
            {"export": "another step", "trust": packages},
        ),
        "info": ([draw_figures], {"data": "manifest", "figures": "folder"}, {}),
        "audit": ([audit], {"cells": "most_cells"}, {"out": place, "strict": "another status", "trust": packages}),
        "bench": (
            [make_parts, {"cells": measure.CELLS, "seconds": None}],
            {"data": "manifest", "run": "checkpoint"},
            {
                "quick": "seconds",
                "instrument_rate": "for the conclusion",
                "latency": "another measurement",
                "out": place,
                "preset": "fit's",
                "threads": "no default behind",
                "trust": packages,
            },
        ),
        "distill": ([distill], {"run": "teacher"}, {"changes": "read into settings", "trust": packages}),
        "serve": (
            [ServeOptions, open_live],
            {"socket": "socket_path"},
            {
                "http": "-1 for none",
                "port": "another one beside a socket",
                "threads": "workers",
                "trust": packages,
                "drop_log": "a path behind",
                "token_file": "read into the token",
            },
        ),
        "watch": (
            [WatchTask, open_live, open_cells, ReadOptions],
            {"folder": "source", "until_idle": "until_idle_s", "poll": "poll_s"},
            {"tile": "read into two numbers", "trust": packages, "min_confidence": "a number behind"},
        ),
        "convert": ([convert], {"scores": "tags"}, {}),
        "count": ([count], {}, {"out": place}),
        "export": ([export, share], {"check": "num_cells"}, {"trust": packages}),
        "compare": ([StudyOptions, open_study], {}, {}),
        "doctor": ([describe_environment], {}, {"json": "how it is printed", "probe": "parts"}),
        "completion": ([], {}, {"shell": "two functions", "out": place}),
    }
    functions, renamed, apart = table[name]
    found = {}
    for function in functions:
        found |= function if isinstance(function, dict) else parameters_of(function)
    return found, renamed, apart


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in LIGHTNING_COMMANDS])
def test_names_and_defaults_are_those_of_the_function_behind(name):
    """What an option is called and what it is when left out, against what the command calls."""
    found, renamed, apart = behind(name)
    arguments = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name)).arguments
    names = {argument.dest for argument in arguments}
    assert set(renamed) | set(apart) <= names
    for argument in arguments:
        if argument.dest in apart:
            continue
        parameter = renamed.get(argument.dest, argument.dest)
        assert parameter in found, (name, argument.dest)
        if argument.default is not REQUIRED and found[parameter] is not REQUIRED:
            assert argument.default == found[parameter], (name, argument.dest)


def test_defaults_of_the_split():
    assert SplitArguments().read() == SplitOptions()


def test_names_are_those_of_the_parts_behind():
    """Literals of the command line, which imports nothing heavy, are the names that the engine knows."""
    from fastcell.bench import engine_parts, measure
    from fastcell.cli import bench, compare, doctor, explain, pack
    from fastcell.compare import run_study
    from fastcell.compare.baselines import BACKENDS
    from fastcell.dataset.schema import LAYOUTS
    from fastcell.explain.explanation import EXPLANATION_PARTS
    from fastcell.sources.registry import FORMATS
    from fastcell.sources.tiff_pages import Pages
    from fastcell.system.engines import EngineName
    from fastcell.training import recipe

    def choices(function: Any) -> dict[str, tuple[str, ...]]:
        return {entry.dest: tuple(entry.choices) for entry in read_command(function).arguments if entry.choices}

    assert choices(explain.explain) == {"parts": tuple(EXPLANATION_PARTS)}
    assert choices(pack.pack) == {
        "format": tuple(FORMATS),
        "pages": get_args(Pages),
        "layout": LAYOUTS,
        "backend": get_args(EngineName),
    }
    assert choices(doctor.doctor) == {"probe": tuple(engine_parts.PROBES)}
    assert choices(bench.bench) == {"preset": recipe.PRESETS}
    assert choices(compare.compare) == {
        "study": run_study.STUDIES,
        "preset": recipe.PRESETS,
        "select": ("best", "last"),
        "backend": BACKENDS,
    }
    assert options.PRESETS == recipe.PRESETS
    for number in ("CELLS", "SECONDS", "QUICK_SECONDS"):
        assert getattr(bench, number) == getattr(measure, number)
    volumes = next(entry for entry in read_command(compare.compare).arguments if entry.dest == "volumes")
    assert run_study.DEFAULT_VOLUMES["volume"] in volumes.text


@pytest.mark.parametrize("seed", [-1, 2**32, 10**12])
def test_seeds_out_of_range(seed, tmp_path, capsys):
    for command in ("explain", "report", "audit"):
        assert main([command, str(tmp_path), "--seed", str(seed)]) == 2
        assert "--seed must be a whole number from 0 to 4,294,967,295" in capsys.readouterr().err
    check_seed("--seed", 2**32 - 1)


def test_least_values():
    check_least(1, cells=1, embed=2)
    with pytest.raises(ArgumentError, match="--embed must be at least 1, got 0"):
        check_least(1, cells=1, embed=0)
