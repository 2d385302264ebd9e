"""The command `fastcell info`."""

import pytest

from fastcell.cli.info import main
from fastcell.errors import ArgumentError
from fastcell.report.data_summary import describe_contents


def test_tables_and_figures(make_dataset, tmp_path, capsys):
    manifest = make_dataset(30)
    figures = tmp_path / "figures"
    assert main([str(manifest.path), "--figures", str(figures)]) == 0
    lines = capsys.readouterr().out.splitlines()
    *lines, first, second = lines
    assert (first, second) == (f"next: fastcell audit {manifest.path}", f"next: fastcell fit {manifest.path}")
    assert lines[: -len(list(figures.glob("*.png")))] == describe_contents(manifest).splitlines()
    assert sorted(line for line in lines if line.startswith("wrote ")) == [
        f"wrote {path}" for path in sorted(figures.glob("*.png"))
    ]


def test_a_seed_below_zero(tmp_path):
    with pytest.raises(ArgumentError, match="--seed must be at least 0, got -1"):
        main([str(tmp_path), "--seed", "-1"])
