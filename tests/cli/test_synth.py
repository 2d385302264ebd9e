"""The command `fastcell synth`."""

import pyarrow.parquet as pq
import pytest

from fastcell.cli.synth import main
from fastcell.errors import ArgumentError


def test_command_prints_what_it_made(tmp_path, capsys):
    out = tmp_path / "set"
    assert main([str(out), "--cells", "300", "--seed", "7", "--defects", "0", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "300 cells" in printed
    assert "synthetic" in printed
    assert set(pq.read_table(out / "truth.parquet").column("defect").to_pylist()) == {"none"}
    with pytest.raises(ArgumentError, match="OUT must be a new or empty folder"):
        main([str(out), "--cells", "300"])
