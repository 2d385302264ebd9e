"""Splits: groups whole, shares near, strata exact, folds complete, refusals clear."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from fastcell.cli.options import add_split_arguments, parse_shares, split_options
from fastcell.errors import ArgumentError
from fastcell.splits.by_group import split_by_group
from fastcell.splits.make_splits import SplitOptions, make_splits

SHARES = (0.65, 0.15, 0.20)


def test_arguments_become_options_and_options_splits() -> None:
    parser = argparse.ArgumentParser()
    add_split_arguments(parser)
    options = split_options(parser.parse_args(["--split", "80/10/10", "--split-seed", "7", "--folds", "3"]))
    assert options == SplitOptions((0.8, 0.1, 0.1), 7, 3)
    splits = make_splits(np.arange(30) % 2, None, options)
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
