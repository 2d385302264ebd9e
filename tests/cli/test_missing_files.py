"""A run folder in which a file is missing: every command does without it or says in one line what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastcell.cli.main import main


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


COMMANDS = {
    "report": ["report", "RUN", "--cells", "5", "--no-explain"],
    "explain": ["explain", "RUN", "--parts", "calibration"],
    "count": ["count", "TABLE", "RUN"],
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_file_of_a_run_may_be_missing(
    command: str, trained_run: Path, trained_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback; status 0, or 2 with one line."""
    table = tmp_path / "p.parquet"
    assert main(["predict", str(trained_run), str(trained_data), "--out", str(table)]) == 0
    for name in files_of(trained_run):
        run = shutil.copytree(trained_run, tmp_path / "run")
        (run / name).unlink()
        capsys.readouterr()
        status = main([{"RUN": str(run), "TABLE": str(table)}.get(word, word) for word in COMMANDS[command]])
        err = capsys.readouterr().err
        assert status == 0 or (status == 2 and err.splitlines()[-1].startswith("fastcell: error: ")), (name, err)
        assert "Traceback" not in err, name
        shutil.rmtree(run)
