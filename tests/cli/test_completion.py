"""The completion scripts: static, complete, and obeyed by real shells."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from fastcell.cli.completion import Options, bash_script, main, options_of_command, zsh_script
from fastcell.cli.main import COMMANDS

OPTIONS = {
    "pack": Options({"--layout": ["cell", "block"], "--jobs": []}, []),
    "fit": Options({"--data.fit": ["stretch", "scale"], "--data.path": [], "--parts": ["a,b"]}, []),
    "completion": Options({"--out": []}, ["bash", "zsh"]),
}


class Shell:
    """An interactive shell in a terminal of its own, with the script of `OPTIONS` loaded."""

    def __init__(self, name, folder):
        self.line, self.folder = folder / "line", folder
        (folder / "one.txt").touch()
        (folder / "pack").mkdir()
        program = shutil.which(name)
        assert program is not None
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C"}
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execve(program, [program, *{"bash": ["--norc", "-i"], "zsh": ["-f", "-i"]}[name]], environment)
        if name == "bash":
            (folder / "script").write_text(bash_script(OPTIONS))
            self.send('source ./script; bind -x \'"\\C-g": printf %s "$READLINE_LINE" > next; mv next line\'\n')
            self.send("bind 'set bell-style none'; bind 'set show-all-if-ambiguous off'\n")
        else:
            (folder / "_fastcell").write_text(zsh_script(OPTIONS))
            self.send("fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; setopt no_beep no_auto_menu\n")
            self.send("show() { print -rn -- \"$BUFFER\" > next; mv next line }; zle -N show; bindkey '^G' show\n")
        assert self.typed("ready") == "ready"

    def send(self, text):
        os.write(self.terminal, text.encode())

    def typed(self, text):
        """The command line after keys were pressed, ^G being the one that tells it."""
        self.line.unlink(missing_ok=True)
        self.send(f"{text}\x07")
        deadline = time.monotonic() + 20
        while not self.line.exists():
            if select.select([self.terminal], [], [], 0.01)[0]:
                os.read(self.terminal, 65536)
            assert time.monotonic() < deadline, "no answer of the shell"
        self.send("\x15")  # clears the line
        return self.line.read_text()

    def close(self):
        self.send("\x15exit\n")
        os.close(self.terminal)
        os.waitpid(self.process, 0)


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request, tmp_path_factory):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    opened = Shell(request.param, tmp_path_factory.mktemp(request.param))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("fastcell pa\t", "fastcell pack "),
        ("fastcell xy\t", "fastcell xy"),
        ("fastcell pack --la\t", "fastcell pack --layout "),
        ("fastcell pack one.txt --j\t", "fastcell pack one.txt --jobs "),
        ("fastcell pack --layout b\t", "fastcell pack --layout block "),
        ("fastcell pack --layout=b\t", "fastcell pack --layout=block "),
        ("fastcell fit --data.f\t", "fastcell fit --data.fit "),
        ("fastcell fit --data.fit st\t", "fastcell fit --data.fit stretch "),
        ("fastcell fit --data.fit=st\t", "fastcell fit --data.fit=stretch "),
        ("fastcell fit --data.fit s\t", "fastcell fit --data.fit s"),
        ("fastcell fit --la\t", "fastcell fit --la"),
        ("fastcell fit --layout b\t", "fastcell fit --layout b"),
        ("fastcell completion z\t", "fastcell completion zsh "),
        ("fastcell completion --o\t", "fastcell completion --out "),
        ("fastcell fit on\t", "fastcell fit one.txt "),
        ("fastcell pack --jobs on\t", "fastcell pack --jobs one.txt "),
        ("fastcell fit --data.path=on\t", "fastcell fit --data.path=one.txt "),
        ("fastcell fit pa\t", "fastcell fit pack/"),
    ],
)
def test_a_real_shell_completes(shell, line, completed):
    assert shell.typed(line) == completed


def test_zsh_text():
    script = zsh_script(OPTIONS)
    assert script.startswith("#compdef fastcell\n")
    assert '("pack --layout") compadd -- cell block; return ;;' in script
    assert "(pack) compadd -- --layout --jobs ;;" in script


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_every_command_is_in_the_script(name, tmp_path):
    if name == "bash" or shutil.which("zsh"):
        assert main([name, "--out", str(tmp_path / "script")]) == 0
        subprocess.run([name, "-n", str(tmp_path / "script")], check=True, timeout=20)
        script = (tmp_path / "script").read_text()
        assert " ".join(COMMANDS) in script
        assert "python" not in script
        for text in ("fit --data.fit", "stretch contain scale", "pack --layout", "cell block"):
            assert text in script
    assert "--help_all" in options_of_command("test").choices
    assert "--probe" not in options_of_command("doctor").choices
    assert "--data.path" not in options_of_command("report").choices
    assert options_of_command("completion").words == ["bash", "zsh"]
