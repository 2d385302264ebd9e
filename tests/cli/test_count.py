"""The command `fastcell count`: RUN by position, as an option, as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.golden_files import run_command

CONFUSION = "true,a,b\na,8,2\nb,1,9\n"
PREDICTIONS = "cell_id,key,class,p_a,p_b\n0,x,a,0.9,0.1\n1,y,b,0.2,0.8\n2,z,a,0.7,0.3\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "confusion.csv").write_text(CONFUSION)
    (tmp_path / "run" / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "new.csv").write_text(PREDICTIONS)
    return tmp_path


def test_a_run_is_given_in_any_spelling(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = set()
    for words in (["run"], ["--confusion", "run"], ["run/confusion.csv"], ["run/best.ckpt"]):
        status, out, err = run_command(["count", "new.csv", *words, "-o", "counts.csv"], capsys)
        assert status == 0, err
        said.add(out + (place / "counts.csv").read_text())
    assert len(said) == 1


def test_no_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["count", "new.csv"], capsys)[0] == 2
