"""A run folder in which a file is missing: the page does without it or says in one line what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastcell.cli.main import main


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


COMMANDS = {"report": ["report", "RUN", "--cells", "5", "--no-explain"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_file_of_a_run_may_be_missing(
    command: str, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback; status 0, or 2 with one line."""
    for name in files_of(trained_run):
        run = shutil.copytree(trained_run, tmp_path / "run")
        (run / name).unlink()
        capsys.readouterr()
        status = main([str(run) if word == "RUN" else word for word in COMMANDS[command]])
        err = capsys.readouterr().err
        assert status == 0 or (status == 2 and err.splitlines()[-1].startswith("fastcell: error: ")), (name, err)
        assert "Traceback" not in err, name
        shutil.rmtree(run)
