"""The report on the environment: right about this machine, and never in anyone's way."""

import json
import subprocess
from pathlib import Path

import pytest

from fastcell import __version__
from fastcell.system import environment_report, resources

REPO_DIR = Path(__file__).resolve().parents[2]


def test_report_without_probes_is_plain_data_and_right():
    import numpy

    result = environment_report.describe_environment()
    assert json.loads(json.dumps(result)) == result
    assert result["fastcell"] == __version__
    assert result["packages"]["numpy"] == numpy.__version__
    assert result["num_cpus"] == resources.num_cpus()
    assert "parts" not in result


def test_facts_that_cannot_be_had_are_left_open(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("refused")

    monkeypatch.setattr(environment_report.os, "sysconf", refuse)
    monkeypatch.setattr(environment_report.subprocess, "run", refuse)
    monkeypatch.setattr(environment_report.Path, "read_text", refuse)
    monkeypatch.setattr(resources, "driver_cuda_version", lambda: (13, 0))
    result = environment_report.describe_environment()
    assert result["memory_bytes"] is None
    assert result["commit"] is None
    assert result["gpus"] == []
    text = environment_report.format_environment(result)
    assert "memory        unknown" in text
    assert "serves CUDA 13.0" in text


@pytest.mark.skipif(not (REPO_DIR / ".git").exists(), reason="no git checkout")
def test_the_commit_of_a_checkout_is_named():
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO_DIR, capture_output=True, text=True, check=True)
    assert environment_report.describe_environment()["commit"] == done.stdout.strip()


BOTH = {"nvidia-dali-cuda120": "2.4.0", "nvidia-dali-cuda130": "2.4.0"}


@pytest.mark.parametrize(
    ("packages", "cuda", "count", "words"),
    [
        ({"nvidia-dali-cuda130": "2.4.0"}, None, 0, ""),
        (BOTH, None, 1, "nvidia-dali-cuda120 and nvidia-dali-cuda130 are both installed"),
        ({"nvidia-dali-cuda130": "2.4.0"}, (13, 1), 0, ""),
        ({"nvidia-dali-cuda130": "2.4.0"}, (12, 8), 1, "nvidia-dali-cuda130 needs a driver for CUDA 13"),
        ({"nvidia-dali-cuda120": "2.4.0"}, (12, 8), 0, ""),
        ({"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"}, (13, 0), 1, "Uninstall both builds of CuPy"),
        ({}, (11, 8), 1, "the driver serves CUDA 11.8"),
    ],
)
def test_conflicts(packages, cuda, count, words):
    warnings = environment_report._conflicts(packages, cuda)
    assert len(warnings) == count
    assert words in " ".join(warnings)


def test_gpus_are_read_from_nvidia_smi(monkeypatch):
    line = "NVIDIA H100 80GB HBM3, 81559 MiB, 580.65.06, 9.0\n"
    monkeypatch.setattr(environment_report, "_output", lambda command: line + "an error message\n")
    assert environment_report._gpus() == [
        "NVIDIA H100 80GB HBM3 (81559 MiB, driver 580.65.06, sm_90)",
        "an error message",
    ]
