"""The bar of a whole run: what a terminal shows."""

import os
import pty
import re
import sys
import threading

import pytest

from fastcell.cli.main import main
from fastcell.training import run_bar
from fastcell.training.run_bar import RunBar

SMALL = ["--data.image_size=16", "--data.threads=1", "--data.batch_size=16", "--preset=fast"]


class Screen:
    """A pseudo terminal in place of stdout and stderr, of so many columns."""

    def __init__(self, columns, monkeypatch):
        import fcntl
        import struct
        import termios

        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._file = os.fdopen(terminal, "w")
        self._text = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        monkeypatch.setattr(sys, "stdout", self._file)
        monkeypatch.setattr(sys, "stderr", self._file)
        monkeypatch.setattr(run_bar, "_DRAW_EVERY_S", 0.0)

    def _read(self):
        while True:
            try:
                data = os.read(self._controller, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self._text += data

    def lines(self):
        """Close the terminal and return everything that was drawn, each state of a line by itself."""
        self._file.close()
        self._reader.join(10)
        os.close(self._controller)
        return [line for line in re.split(r"[\r\n]+", self._text.decode()) if line.strip()]


@pytest.fixture
def screen(monkeypatch):
    with monkeypatch.context() as patch:
        yield lambda columns=110: Screen(columns, patch)


def bars(lines):
    return [line for line in lines if "|" in line and "step" in line]


def steps_of(lines):
    return [int(found[1]) for line in lines if (found := re.search(r"step (\d+)/", line))]


def percent(line):
    return int(line.split("%")[0])


def test_one_bar_for_the_whole_run(screen, trained_data, tmp_path):
    """200 cells: 130 train, 30 valid, 40 test; 9 steps an epoch."""
    shown = screen()
    assert (
        main(
            [
                "fit",
                str(trained_data),
                *SMALL,
                "--data.balance=none",
                "--trainer.max_epochs=3",
                f"--runs={tmp_path / 'runs'}",
            ]
        )
        == 0
    )
    lines = shown.lines()
    drawn = bars(lines)
    steps = steps_of(drawn)
    assert set(steps) == set(range(28))
    assert steps == sorted(steps)
    percents = [percent(line) for line in drawn]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert {found[1] for line in drawn if (found := re.search(r"epoch (\d/\d)", line))} == {"1/3", "2/3", "3/3"}
    assert any("final evaluation" in line for line in drawn)
    assert any(re.search(r"valid accuracy 0\.\d{3}", line) for line in drawn)
    assert not any("images/s" in line or "left" in line for line in drawn[:12])  # the first ten steps
    assert re.fullmatch(r"100%\|█+\| step 27, \d+ s", drawn[-1].strip())
    after = lines[len(lines) - lines[::-1].index(drawn[-1]) :]
    assert next(line.split(":")[0] for line in after if not line.startswith("Caution: ")).startswith("test subset, ")
    assert not any("epoch 1/3  step" in line for line in lines)  # no line per epoch beside the bar


def test_a_resumed_run_starts_where_it_is(screen, trained_data, tmp_path):
    plain = ["--model.schedule=constant", "--model.warmup=0", "--trainer.max_epochs=-1"]
    arguments = ["fit", str(trained_data), *SMALL, *plain, f"--runs={tmp_path / 'runs'}"]
    assert main([*arguments, "--trainer.max_steps=12"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    # the run was piped: its settings hold what was asked for, so that it may resume on a terminal
    assert "enable_progress_bar: null" in (folder / "config.yaml").read_text()
    shown = screen()
    assert main([*arguments, "--trainer.max_steps=20", f"--ckpt_path={folder / 'last.ckpt'}"]) == 0
    drawn = bars(shown.lines())
    assert set(steps_of(drawn)) == set(range(12, 21))
    first = next(line for line in drawn if "step 12/20" in line)
    assert 50 <= percent(first) <= 60


def test_a_narrow_terminal_gets_no_broken_line(screen, trained_data, tmp_path):
    shown = screen(44)
    assert (
        main(
            [
                "fit",
                str(trained_data),
                *SMALL,
                "--data.balance=none",
                "--trainer.max_epochs=2",
                f"--runs={tmp_path / 'runs'}",
            ]
        )
        == 0
    )
    drawn = bars(shown.lines())
    assert all(len(line) <= 44 for line in drawn)
    assert any("step 3/18, epoch 1/2" in line for line in drawn)
    assert any(line.rstrip().endswith("step 12/18") for line in drawn)  # the validation accuracy has no room


def test_other_commands_count_their_cells(screen, trained_data, trained_run, tmp_path):
    shown = screen()
    assert main(["test", str(trained_run), str(trained_data)]) == 0
    assert main(["predict", str(trained_run), str(trained_data), "--out", str(tmp_path / "p.csv")]) == 0
    lines = shown.lines()
    ends = [line.split("| ")[1].strip() for line in lines if line.startswith("100%|")]
    assert re.fullmatch(r"(\d+) of \1 cells", ends[0])
    assert ends[-1] == "200 of 200 cells"


def test_other_ranks_show_nothing(capsys):
    from types import SimpleNamespace

    bar = RunBar()
    trainer = SimpleNamespace(is_global_zero=False, sanity_checking=False, num_test_batches=[3])
    bar.on_fit_start(trainer, None)
    bar.on_train_start(trainer, None)
    bar.on_test_start(trainer, None)
    bar.on_test_batch_end(trainer, None, None, None, 0)
    bar.on_test_end(trainer, None)
    assert capsys.readouterr() == ("", "")
