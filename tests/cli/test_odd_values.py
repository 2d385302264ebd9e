"""Odd values of every argument: status 0, or status 2 with a message of one or two lines, and nothing left behind."""

import importlib
import os
import shutil
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from fastcell.cli.lightning_options import own_arguments
from fastcell.cli.main import main
from fastcell.cli.signature import Argument, parts_of, read_command

COMMANDS = {
    "info": "DATA",
    "verify": "DATA --jobs 1",
    "split": "DATA --name x --no-near --jobs 1 --force",
    "qc": "DATA --jobs 1",
    "count": "TABLE RUN",
    "convert": "TABLE out.csv",
    "index": "TARS --overwrite --jobs 1",
    "pack": "IMAGES out --jobs 1 --split none",
    "synth": "out --cells 12 --jobs 1",
    "predict": "RUN DATA --out out.parquet",
    "test": "RUN DATA",
    "validate": "RUN DATA",
    "export": "RUN out.onnx --check 5",
    "explain": "RUN --cells 1 --embed 20 --positions 4 --parts calibration --out out",
    "report": "RUN --cells 5 --no-explain --out out.html",
    "audit": "DATA --permutations 20 --cells 100 --jobs 1 --out out",
    "compare": "DATA --methods knn --volumes 1 --seeds 1 --splits default --jobs 1 --out out",
    "bench": "DATA --seconds 0.1 --cells 50",
    "serve": "RUN --port 0 --http 0 --threads 1",
    "watch": "RUN IMAGES --out out.parquet --poll 0.05 --until_idle 0.2 --threads 1",
}
"""A call of each command that succeeds."""
LIGHTNING = {
    "data.path": str,
    "data.split_name": str,
    "data.eval_batch_size": int,
    "data.threads": int,
    "data.dtype": str,
    "data.decoder": str,
    "data.predict_split": str,
    "trainer.devices": int,
    "trainer.limit_test_batches": float,
    "trainer.precision": str,
    "seed_everything": int,
}
"""Settings of Lightning's commands, besides their own."""
UNTIL_SIGTERM = {"serve", "watch"}
"""Commands that run until a signal."""
DEFAULT = {"info", "verify", "count", "convert"}
"""Commands that are quick enough to be tried each time."""

NUMBERS = [
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-300",
    "9" * 30,
    "-" + "9" * 18,
    "x",
    "1e3",
    " 1",
    "0x10",
    "1,5",
]
LONG = (" 1", "1e3", "0x10")
"""Numbers that are good, but make a measurement of many seconds."""
WRONG_PATHS = ["", "FILE/x", "s3://bucket/x", "http://host/x", "/proc/x", "x" * 300, "a\0b", "../" * 40 + "proc/x.csv"]
INPUTS = [
    *WRONG_PATHS,
    " ",
    "FOLDER",
    "FILE",
    "MISSING/x",
    "\udcff",
    "/dev/null",
    "/dev/zero",
    ",",
    "-1",
    "nan",
    "[",
    "{}",
    "*",
]
OUTPUTS = [*WRONG_PATHS, "\udcff", "PIPE", "FOLDER", "FILE"]
OUT = ("out", "list_", "figures", "review")


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained_data, trained_run):
    """Folder with what the commands read, and the files that odd values name."""
    root = tmp_path_factory.mktemp("odd") / "donors"
    shutil.copytree(trained_data, root / "DATA")
    shutil.copytree(trained_data, root / "TARS", ignore=lambda _, names: [x for x in names if not x.endswith(".tar")])
    shutil.copytree(trained_run, root / "RUN")
    shutil.copy(trained_run / "predictions.parquet", root / "TABLE.parquet")
    for name in ("FOLDER", "IMAGES/a"):
        (root / name).mkdir(parents=True)
    (root / "FILE").write_text("text\n")
    (root / "FILE.csv").write_text("a,b\n1,2\n")
    shutil.copy(next(trained_run.glob("*.png")), root / "IMAGES" / "a" / "1.png")
    os.mkfifo(root / "PIPE")
    return root


def arguments_of(command):
    if command in ("predict", "test", "validate"):
        yield from own_arguments(command).values()
        for name, kind in LIGHTNING.items():
            if name != "data.predict_split" or command == "predict":
                yield Argument(name, kind, None, "")
        return
    function = getattr(importlib.import_module(f"fastcell.cli.{command}"), command)
    yield from (entry for entry in read_command(function).arguments if not entry.spelled.takes_dotted)


def odd_values(argument):
    kinds = parts_of(argument.hint)
    if bool in kinds and not {int, float, str} & set(kinds):
        return ["x"] if argument.dest == "tta" else []
    if {int, float} & set(kinds):
        return NUMBERS
    if argument.choices:
        return ["", "x", ",", "None"]
    return OUTPUTS if argument.dest in OUT else INPUTS


def calls(command):
    """Every odd value in a call that is good but for it."""
    base = [word + ".parquet" if word == "TABLE" else word for word in COMMANDS[command].split()]
    yield "good", base
    first_option = next((number for number, word in enumerate(base) if word.startswith("-")), len(base))
    positionals = 0
    for argument in arguments_of(command):
        for value in odd_values(argument):
            if argument.dest == "seconds" and value in LONG:
                continue
            if argument.positional and positionals < first_option:
                words = [value if number == positionals else word for number, word in enumerate(base)]
            elif argument.positional:
                words = [*base[:first_option], value, *base[first_option:]]
            else:
                flag = "--" + argument.dest if "." in argument.dest else argument.flag
                words = [*drop(base, flag), f"{flag}={value}"]
            yield f"{argument.dest}={value[:20]!r}", words
        positionals += argument.positional


def drop(words, flag):
    """Words without an option and its value."""
    if flag not in words:
        return list(words)
    at = words.index(flag)
    has_value = at + 1 < len(words) and not words[at + 1].startswith("--")
    return words[:at] + words[at + 1 + has_value :]


def listing(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextmanager
def ended_soon():
    """Send SIGTERM to this process again and again."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    timer = signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 1.5, 0.5)
    try:
        yield
    except KeyboardInterrupt:  # a second signal
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, timer)
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "command", [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
@pytest.mark.timeout(900)
def test_odd_values_are_refused_in_a_line_or_two(command, place, tmp_path, monkeypatch, capsys):
    wrong = []
    for number, (what, words) in enumerate(calls(command)):
        if number % 40 == 0:  # what good values have written is in the way of the next ones
            folder = shutil.copytree(place, tmp_path / str(number), copy_function=shutil.copy2, ignore=pipes)
            os.mkfifo(folder / "PIPE")
            monkeypatch.chdir(folder)
        for out in ("out", "out.html", "out.csv", "out.onnx", "out.parquet"):
            shutil.rmtree(out, ignore_errors=True) if Path(out).is_dir() else Path(out).unlink(missing_ok=True)
        before = listing(folder)
        capsys.readouterr()
        try:
            with ended_soon() if command in UNTIL_SIGTERM else nullcontext():
                status = main([command, *words])
        except (Exception, SystemExit) as error:  # noqa: BLE001, all of them are listed
            wrong.append(f"{what}: {type(error).__name__}: {error}"[:300])
            continue
        good = (0, 1, 2, 3, 143) if command in UNTIL_SIGTERM else (0, 1, 2, 3)  # 143: before its handler
        text = capsys.readouterr().err
        last = text[text.rfind("fastcell: error: ") :]
        if what == "good" and status != 0:
            wrong.append(f"{what}: {text}")
        elif status not in good or (status == 2 and ("fastcell: error: " not in last or last.count("\n") > 2)):
            wrong.append(f"{what}: status {status}: {last[:300]}")
        elif "Traceback" in text:
            wrong.append(f"{what}: {text[:300]}")
        elif status == 2 and (left := listing(folder) - before):
            wrong.append(f"{what}: left {sorted(left)[:5]}")
        elif any(name.partition(":")[0] in ("s3", "http") for name in os.listdir(folder)):
            wrong.append(f"{what}: made a folder of an address")
            shutil.rmtree("s3:", ignore_errors=True)
            shutil.rmtree("http:", ignore_errors=True)
    assert wrong == []


def pipes(folder, names):
    return [name for name in names if (Path(folder) / name).is_fifo()]
