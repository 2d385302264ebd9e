"""The command line: light to load, and clear about what went wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fastcell import __version__
from fastcell.cli import main as cli
from fastcell.errors import DataError, StrictError
from fastcell.system.optional_packages import extra_for_driver, extra_for_gpu, install_hint

HEAVY = ["torch", "nvidia.dali", "cupy", "pytorch_lightning", "lightning_fabric", "numpy", "pyarrow", "numba", "cv2"]
PARTS = {
    "lightning_cli",
    "lightning_command",
    "lightning_fit",
    "lightning_scores",
    "lightning_options",
    "lightning_parser",
    "next_steps",
    "options",
    "slips",
}
PARTS |= {"full_help", "help_page", "parser", "short_help", "signature", "trainer_names"}
PARTS |= {"class_arguments", "class_paths", "trainer_options", "shorter_training", "fit_from_python"}
PARTS |= {"predict_files", "quick_predict", "backend_of_ranks", "distill_from_python"}
REPO_DIR = Path(__file__).resolve().parents[2]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=REPO_DIR, capture_output=True, text=True, timeout=60)


@pytest.fixture
def command(monkeypatch):
    """Put a function behind ``fastcell probe``."""

    def install(function: Callable[[list[str]], int], handles_signals: bool = False) -> None:
        module = ModuleType("fastcell.cli.probe")
        module.main = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fastcell.cli.probe", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", "probe")
        if handles_signals:
            monkeypatch.setattr(cli, "HANDLE_SIGNALS", {"probe"})

    return install


@pytest.mark.parametrize(
    "code",
    [
        "import fastcell",
        "import fastcell.system.resources",
        "import fastcell.cli.main as cli; assert cli.main(['--help']) == 0",
        "import fastcell.cli.main as cli; assert cli.main(['--version']) == 0",
        "import fastcell.cli.main as cli; assert cli.main(['nonsense']) == 2",
    ],
)
def test_nothing_heavy_is_loaded(code):
    check = f"{code}\nimport sys, json\nprint()\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = run_python("-c", check)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_module_runs_as_the_command():
    done = run_python("-m", "fastcell", "--version")
    assert (done.returncode, done.stdout) == (0, f"fastcell {__version__}\n")


def test_every_module_is_a_command():
    modules = {path.stem for path in (REPO_DIR / "fastcell" / "cli").glob("*.py")}
    assert modules == {*cli.COMMANDS, "__init__", "main", *PARTS}


def test_no_command_prints_the_usage_as_an_error(capsys):
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: fastcell COMMAND")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("predcit", "predict"), ("fitt", "fit"), ("docter", "doctor"), ("trian", "fit"), ("train", "fit")],
)
def test_unknown_command_suggests_the_nearest(typed, meant, capsys):
    assert cli.main([typed]) == 2
    err = capsys.readouterr().err
    assert f"got {typed!r}. Did you mean 'fastcell {meant}'?" in err


def test_unlike_any_command(capsys):
    assert cli.main(["xyzzy"]) == 2
    assert "'fastcell --help' lists them." in capsys.readouterr().err


def test_arguments_and_status_pass_through(command):
    seen = []
    command(lambda argv: seen.append(argv) or 7)
    assert cli.main(["probe", "--a", "b"]) == 7
    command(lambda argv: seen.append(argv) or 0, handles_signals=True)
    assert cli.main(["probe", "--a"]) == 0
    assert seen == [["--a", "b"], ["--a"]]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            DataError("it is cut short. Pack again.", shard="s.tar", key="k"),
            2,
            "shard 's.tar', cell 'k': it is cut short.",
        ),
        (StrictError("2 bad cells."), 3, "2 bad cells."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/d/x"),
            2,
            "no space left on the disk for '/d/x'. Free some",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left on the disk. Free some"),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), 2, "no permission for '/d/x' (Permission denied)"),
        (FileNotFoundError(errno.ENOENT, "Gone", "x"), 2, "gone: 'x'. Check the path."),
        (OSError(errno.EROFS, "Read-only file system", "/d/x"), 2, "no permission for '/d/x' (Read-only file system)"),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_errors_are_one_line(error, status, message, command, capsys):
    def fail(argv: list[str]) -> int:
        raise error

    command(fail)
    assert cli.main(["probe"]) == status
    err = capsys.readouterr().err
    assert err.startswith(f"fastcell: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        ("cupy.cuda", install_hint(extra=extra_for_gpu())),
        ("nvidia.dali", install_hint(extra=extra_for_driver())),
        ("onnxruntime", install_hint(extra="onnx")),
        ("cv2", install_hint("opencv-python-headless")),
        ("h5py", install_hint("h5py")),
    ],
)
def test_missing_packages_are_one_line(module, hint, command, capsys):
    def fail(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    command(fail)
    assert cli.main(["probe"]) == 2
    err = capsys.readouterr().err
    assert err == f"fastcell: error: the package {module} is not installed. {hint}\n"


def test_a_missing_module_of_the_program_is_a_bug(command):
    def fail(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'fastcell.nothing'", name="fastcell.nothing")

    command(fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError(errno.EINVAL, "wrong", "x")])
def test_bugs_keep_their_traceback(error, command):
    def fail(argv: list[str]) -> int:
        raise error

    command(fail)
    with pytest.raises(type(error)):
        cli.main(["probe"])


def test_memory_that_ran_out_names_the_limit_of_the_shell(monkeypatch, command, capsys):
    failures = [MemoryError(), ImportError("x.so: failed to map segment from shared object")] * 2

    def fail(argv: list[str]) -> int:
        raise failures.pop()

    command(fail)
    for limit, said in ((-1, "memory ran out. Take fewer --jobs"), (3 << 30, "ulimit -v allows 3,145,728 KiB. Allow")):
        monkeypatch.setattr(cli.resource, "getrlimit", lambda kind, limit=limit: (limit, -1))
        for _ in range(2):
            assert cli.main(["probe"]) == 2
            assert said in capsys.readouterr().err


def test_a_reader_that_went_away_is_no_error():
    code = (
        "import sys\nfrom fastcell.cli import main as cli\n"
        "cli.usage = lambda: 'x' * 1_000_000\n"  # more than a pipe holds
        "sys.exit(cli.main(['--help']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPO_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        err = child.stderr.read()
        child.wait(60)
    assert (child.returncode, err) == (141, b"")


def test_lazy_names_resolve_and_unknown_ones_do_not():
    import fastcell

    assert fastcell.StrictError is StrictError
    assert "CellDataModule" in dir(fastcell)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fastcell.nonsense  # noqa: B018


def test_termination_ends_like_an_interrupt(command, tmp_path, capsys):
    def work(argv: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            (tmp_path / "removed").touch()
        return 0

    before = signal.getsignal(signal.SIGTERM)
    command(work)
    assert cli.main(["probe"]) == 143
    assert capsys.readouterr().err == "fastcell: error: terminated.\n"
    assert (tmp_path / "removed").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("own", [False, True])
def test_signals_are_left_to_commands_that_handle_them(own, command):
    before, seen = signal.getsignal(signal.SIGTERM), []
    command(lambda argv: seen.append(signal.getsignal(signal.SIGTERM)) or 0, handles_signals=own)
    assert cli.main(["probe"]) == 0
    assert (seen == [before]) == own


TAKE_ADDRESSES = [
    "fit",
    "validate",
    "test",
    "predict",
    "info",
    "verify",
    "qc",
    "review",
    "audit",
    "explain",
    "report",
    "bench",
    "index",
    "pack",
    "synth",
    "split",
    "compare",
    "distill",
]  # the store is not there


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"doctor", "completion"}))
def test_an_address_is_no_path_and_no_folder_is_made_of_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        ["s3://bucket/cells"],
        ["--out=gs://b/x"],
        ["x", "-o", "https://b/x"],
        ["y", "z", "hf://b/x", "--jobs", "1"],
    ]
    for given in words:
        assert cli.main([name, *given]) == 2
        told = capsys.readouterr().err
        assert told.startswith("fastcell: error: ")
        assert name in TAKE_ADDRESSES or "must be a path on this machine, got '" in told
    assert os.listdir(tmp_path) == []


def test_a_limit_of_memory_that_is_too_small_for_torch_is_known_before(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("resource.getrlimit", lambda kind: (650_000 << 10, -1))
    for command in ("fit", "predict", "explain", "compare"):
        assert cli.main([command, str(tmp_path / "none")]) == 2
        assert "memory ran out: ulimit -v allows 650,000 KiB. Allow more (ulimit -v)" in capsys.readouterr().err


def test_a_thread_that_cannot_start_is_a_lack_of_memory(monkeypatch, capsys):
    def fail(arguments: list[str]) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("fastcell.cli.info.main", fail)
    assert cli.main(["info", "cells"]) == 2
    assert "memory ran out" in capsys.readouterr().err
