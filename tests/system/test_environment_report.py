"""The report on the environment: right about this machine, and never in anyone's way."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from fastcell import __version__
from fastcell.system import environment_report, resources


def test_report_without_probes_is_plain_data_and_right() -> None:
    import numpy

    result = environment_report.report(probe=False)
    assert json.loads(json.dumps(result)) == result
    assert result["fastcell"] == __version__
    assert result["packages"]["numpy"] == numpy.__version__
    assert result["num_cpus"] == resources.num_cpus()
    assert "parts" not in result


def test_probes_run_apart_and_find_torch_and_dali() -> None:
    import torch

    parts = {
        part["name"]: part for part in environment_report.probe_parts(["torch", "torch on CUDA", "DALI on the CPU"])
    }
    assert parts["torch"]["usable"]
    assert torch.__version__ in parts["torch"]["detail"]
    assert parts["torch on CUDA"]["usable"] == torch.cuda.is_available()
    assert parts["DALI on the CPU"]["usable"], parts["DALI on the CPU"]


@pytest.mark.parametrize(
    ("stub", "detail"),
    [
        ("import os\nos.abort()\n", "the probe ended with status -6"),
        ("raise ImportError('library\\n  of another  build')\n", "library of another build"),
        ("raise SystemExit(3)\n", "3"),
        ("import time\ntime.sleep(60)\n", "no answer within 3 s"),
    ],
)
def test_a_broken_library_is_a_line_of_the_report(
    stub: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(stub)
    (tmp_path / "onnxruntime.py").write_text("__version__ = '9.9'\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    first, second = environment_report.probe_parts(["timm", "onnxruntime"], timeout_s=3)
    assert (first["usable"], first["detail"]) == (False, detail)
    assert (second["usable"], second["detail"]) == (True, "onnxruntime 9.9")


def test_facts_that_cannot_be_had_are_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr(environment_report.os, "sysconf", refuse)
    monkeypatch.setattr(environment_report.subprocess, "run", refuse)
    monkeypatch.setattr(environment_report.Path, "read_text", refuse)
    monkeypatch.setattr(resources, "driver_cuda_version", lambda: (13, 0))
    result = environment_report.report()
    assert result["memory_bytes"] is None
    assert result["commit"] is None
    assert result["gpus"] == []
    assert {part["detail"] for part in result["parts"]} == {"the probe could not start: refused"}
    text = environment_report.render(result)
    assert "memory        unknown" in text
    assert "serves CUDA 13.0" in text


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
def test_conflicts(packages: dict[str, str], cuda: tuple[int, int] | None, count: int, words: str) -> None:
    warnings = environment_report._conflicts(packages, cuda)
    assert len(warnings) == count
    assert words in " ".join(warnings)


@pytest.mark.parametrize(("cuda", "extra"), [(None, "cpu"), ((11, 8), "cpu"), ((12, 4), "cu12"), ((13, 0), "cu13")])
def test_way_out_names_the_extra_of_this_driver(
    cuda: tuple[int, int] | None, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "driver_cuda_version", lambda: cuda)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (part,) = environment_report.probe_parts(["torch"])
    assert f"fastcell[{extra}]" in part["way_out"]


def test_gpus_are_read_from_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "NVIDIA H100 80GB HBM3, 81559 MiB, 580.65.06, 9.0\n"
    monkeypatch.setattr(environment_report, "_output", lambda command: line + "an error message\n")
    assert environment_report._gpus() == [
        "NVIDIA H100 80GB HBM3 (81559 MiB, driver 580.65.06, sm_90)",
        "an error message",
    ]
