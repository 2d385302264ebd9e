"""The report on the environment, as text and as JSON."""

import json
import sys

from fastcell.bench import engine_parts
from fastcell.cli import doctor
from fastcell.cli.doctor import main


def test_the_command_prints_the_report(capsys, monkeypatch):
    probes = {"timm": (lambda: "x", "Optional: pip install timm.")}
    monkeypatch.setattr(engine_parts, "PROBES", probes)
    monkeypatch.setattr(doctor, "PROBES", probes)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("fastcell")
    assert "-> Optional: pip install timm." in text
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"][0]["usable"] is False
