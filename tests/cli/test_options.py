"""Options that several commands share."""

from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcell.cli import options
from fastcell.cli.options import add_split_arguments, parse_shares, scored_run, split_options
from fastcell.errors import ArgumentError
from fastcell.splits.by_group import split_by_group
from fastcell.splits.make_splits import SplitOptions, make_splits

SHARES = (0.65, 0.15, 0.20)


def test_arguments_become_options_and_options_splits() -> None:
    parser = argparse.ArgumentParser()
    add_split_arguments(parser)
    chosen = split_options(parser.parse_args(["--split", "80/10/10", "--split-seed", "7", "--folds", "3"]))
    assert chosen == SplitOptions((0.8, 0.1, 0.1), 7, 3)
    splits = make_splits(np.arange(30) % 2, None, chosen)
    assert list(splits) == ["default", "fold-0", "fold-1", "fold-2"]
    assert (splits["default"] == split_by_group(np.arange(30) % 2, None, (0.8, 0.1, 0.1), 7)).all()
    assert split_options(parser.parse_args(["--folds", "groups"])).folds == "groups"
    none = split_options(parser.parse_args(["--split", "none"]))
    assert make_splits(np.zeros(3), None, none)["default"].tolist() == ["", "", ""]


@pytest.mark.parametrize("text", ["65/15", "65/15/30", "-5/55/50", "a/b/c", "", "nan/50/50"])
def test_shares_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="--split must be three shares"):
        parse_shares(text)


def test_shares_may_be_parts_of_one() -> None:
    assert parse_shares("0.65/0.15/0.2") == pytest.approx(SHARES)


@pytest.mark.parametrize("words", [["--folds", "1"], ["--folds", "many"], ["--split-seed", "-1"]])
def test_arguments_out_of_rule_are_refused(words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_split_arguments(parser)
    with pytest.raises(ArgumentError, match=words[0]):
        split_options(parser.parse_args(words))


def test_a_checkpoint_stands_for_its_run(tmp_path: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_bytes(b"weights")
    assert scored_run(str(tmp_path)) == tmp_path
    assert scored_run(str(tmp_path / "best.ckpt")) == tmp_path
    assert scored_run(str(tmp_path / "no.csv")) == tmp_path / "no.csv"
    with pytest.raises(ArgumentError, match=r"the checkpoint that was scored \(best.ckpt\)"):
        scored_run(str(tmp_path / "last.ckpt"))


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {entry.name: entry.default for entry in parameters if entry.default is not entry.empty}


def test_names_and_defaults_are_those_of_the_function_behind() -> None:
    """What an option is called and what it is when left out, against the function that the command calls."""
    from fastcell.audit.collect import audit
    from fastcell.bench import engine_parts, measure
    from fastcell.cli import bench, doctor, explain, pack
    from fastcell.compare import run_study
    from fastcell.compare.baselines import BACKENDS
    from fastcell.compare.run_study import StudyOptions
    from fastcell.dataset.schema import LAYOUTS
    from fastcell.explain.explanation import EXPLANATION_PARTS, Explanation
    from fastcell.inference.onnx.export import export
    from fastcell.packing.index import index
    from fastcell.packing.pack import pack as pack_images
    from fastcell.quality.review_sheets import control_quality
    from fastcell.report.page import PageOptions
    from fastcell.simulator.synth import synthesize
    from fastcell.sources.registry import FORMATS
    from fastcell.splits.resplit import resplit
    from fastcell.training import recipe

    explained = {"cells": "num_occluded", "embed": "num_embedded"}
    functions: dict[str, tuple[Any, dict[str, str]]] = {
        "audit": (audit, {"cells": "most_cells"}),
        "compare": (StudyOptions, {}),
        "explain": (Explanation, explained),
        "export": (export, {"check": "num_cells"}),
        "index": (index, {}),
        "pack": (pack_images, {}),
        "qc": (control_quality, {}),
        "report": (PageOptions, {"cells": "num_cells"}),
        "split": (resplit, {}),
        "synth": (synthesize, {"cells": "num_cells"}),
    }
    not_alike = {"split", "labels", "table", "format", "out", "parts", "bench"}  # texts that are read first
    for name, (function, renamed) in functions.items():
        defaults = defaults_of(function)
        compared = 0
        for action in importlib.import_module(f"fastcell.cli.{name}")._parser()._actions:
            behind = renamed.get(action.dest, action.dest)
            if behind in defaults and action.dest not in not_alike and action.default != argparse.SUPPRESS:
                assert action.default == defaults[behind], (name, action.dest)
                compared += 1
        assert compared > 2, (name, compared)
    assert tuple(EXPLANATION_PARTS) == explain.EXPLANATION_PARTS
    assert {name: kind.help for name, kind in FORMATS.items()} == pack.FORMATS
    assert tuple(engine_parts.PROBES) == doctor.PROBES
    for name in ("CELLS", "SECONDS", "QUICK_SECONDS"):
        assert getattr(bench, name) == getattr(measure, name)
    assert (options.LAYOUTS, options.PRESETS) == (LAYOUTS, recipe.PRESETS)
    compare = importlib.import_module("fastcell.cli.compare")
    assert (compare.BACKENDS, compare.STUDIES, compare.SELECTS) == (BACKENDS, run_study.STUDIES, recipe.SELECTS)
    assert run_study.DEFAULT_VOLUMES["volume"] == compare.DEFAULT_VOLUMES
