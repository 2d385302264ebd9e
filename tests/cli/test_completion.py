"""The completion scripts: static, complete, and understood by the shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fastcell.cli.completion import bash_script, main, options_of_command, zsh_script
from fastcell.cli.main import COMMANDS

OPTIONS = {"pack": {"--layout": ["cell", "block"], "--jobs": []}, "fit": {"--data.fit": ["stretch", "scale"]}}


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["fastcell", "p"], ["pack"]),
        (["fastcell", ""], ["pack", "fit"]),
        (["fastcell", "pack", "a", "--"], ["--layout", "--jobs"]),
        (["fastcell", "pack", "--layout", ""], ["cell", "block"]),
        (["fastcell", "pack", "--layout", "=", "b"], ["block"]),
        (["fastcell", "fit", "--data.fit", "="], ["stretch", "scale"]),
        (["fastcell", "fit", "--layout", ""], []),
        (["fastcell", "pack", "a"], []),
    ],
)
def test_bash(words: list[str], replies: list[str], tmp_path: Path) -> None:
    (tmp_path / "script").write_text(bash_script(OPTIONS))
    code = f'source {tmp_path}/script; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _fastcell; echo ${{COMPREPLY[*]}}'
    done = subprocess.run(["bash", "-c", code, "bash", *words], capture_output=True, text=True, timeout=20, check=True)
    assert (done.stdout.split(), done.stderr) == (replies, "")


def test_zsh(tmp_path: Path) -> None:
    script = zsh_script(OPTIONS)
    assert script.startswith("#compdef fastcell\n")
    assert '("pack --layout") compadd -- cell block; return ;;' in script
    assert "(fit) compadd -- --data.fit ;;" in script
    if shutil.which("zsh") is not None:
        (tmp_path / "_fastcell").write_text(script)
        subprocess.run(["zsh", "-n", str(tmp_path / "_fastcell")], check=True, timeout=20)


def test_every_command_is_in_the_script(tmp_path: Path) -> None:
    assert main(["bash", "--out", str(tmp_path / "script")]) == 0
    script = (tmp_path / "script").read_text()
    assert f'list="{" ".join(COMMANDS)}"' in script
    assert '"fit --data.fit") list="stretch contain scale" ;;' in script
    assert '"pack --layout") list="cell block" ;;' in script
    assert "python" not in script
    for name in COMMANDS:
        assert f"                {name}) list=" in script
    assert "--help_all" in options_of_command("test")
    assert "--probe" not in options_of_command("doctor")
