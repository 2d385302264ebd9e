"""Every command of docs/tutorial.md runs on the real T cells; FASTCELL_FREEZE=1 writes the outputs that it shows."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastcell.predictions.prediction_summary import describe_unlike
from fastcell.stats.confusion_correction import Confusion
from fastcell.stats.intervals import group_note
from fastcell.stats.scores import describe_unit

REPO_DIR = Path(__file__).resolve().parent.parent
PAGE = REPO_DIR / "docs" / "tutorial.md"
STEP = re.compile(r"```sh\n(.*?)```\n\n<!-- output: (.*?) -->\n```text\n(.*?)```", re.DOTALL)
ORIGIN = re.compile(r"(?<=<!-- output of: machine -->\n).*", re.DOTALL)


class Step(NamedTuple):
    commands: str
    shown: str
    """Regular expression of the lines of the output that the page shows."""
    output: str


def steps():
    return [Step(*found) for found in STEP.findall(PAGE.read_text(encoding="utf-8"))]


def test_every_block_of_commands_has_its_output():
    text = PAGE.read_text(encoding="utf-8")
    assert len(steps()) == text.count("```sh\n") == text.count("```text\n") > 5
    for step in steps():
        lines = step.output.splitlines()
        assert lines, step.commands
        assert [line for line in lines if not re.search(step.shown, line)] == []
    assert re.search(r"commit \w+, 20\d\d-\d\d-\d\d", text.rpartition("<!-- output of: machine -->\n")[2])


def test_words_of_the_outputs_are_those_of_the_program():
    """The numbers are those of a run; what stands around them is what the program of now prints."""
    text = PAGE.read_text(encoding="utf-8")
    unit = describe_unit({"num_groups": 1, "interval_by": "cell", "interval_note": group_note(1)})
    assert f"\nintervals: 95 %, {unit}; 175 cells\n" in text
    confusion = Confusion(["activated", "quiescent"], np.array([[[40, 8], [3, 124]]]))
    warnings = confusion.warnings()
    assert len(warnings) == 2
    for warning in warnings:
        assert f"\nwarning: {warning}\n" in text
    (numbers,) = re.findall(r"^(\d+) of (\d+) cells .* unlike", text, re.MULTILINE)
    assert f"\n{describe_unlike({'donor_4': tuple(map(int, numbers))})}\n" in text


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_runs(real_data, tmp_path):
    (tmp_path / "tcell").symlink_to(real_data / "tcell")
    script = tmp_path / "run"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastcell "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(REPO_DIR), "COLUMNS": "110"}
    found = {}
    for step in steps():
        done = subprocess.run(
            ["bash", "-ec", step.commands],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout
        lines = [line.rstrip() for line in done.stdout.splitlines() if re.search(step.shown, line)]
        assert lines, done.stdout
        found[step.commands] = "\n".join(lines) + "\n"
    assert (tmp_path / "donor-4.fcs").read_bytes().startswith(b"FCS3.1")
    if os.environ.get("FASTCELL_FREEZE"):
        write_outputs(found)


def write_outputs(found):
    text = PAGE.read_text(encoding="utf-8")
    for step in steps():
        head = f"```sh\n{step.commands}```\n\n<!-- output: {step.shown} -->\n```text\n"
        assert text.count(head + step.output) == 1
        text = text.replace(head + step.output, head + found[step.commands])
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=REPO_DIR, text=True).strip()
    today = datetime.now(timezone.utc).date().isoformat()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "nvidia-dali-cuda130", "numpy"))
    origin = f"The outputs are of {os.cpu_count()} cores ({platform.machine()}) without a GPU; {packages}; commit "
    PAGE.write_text(ORIGIN.sub(f"{origin}{commit}, {today}.\n", text), encoding="utf-8")
