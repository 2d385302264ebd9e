"""What each program offers, and what is said where a package is missing."""

import importlib.util

import pytest

from fastcell.errors import ArgumentError, FastcellError
from fastcell.inference.backends import programs


def test_a_precision_that_a_program_lacks_is_refused_with_one_that_has_it():
    with pytest.raises(ArgumentError, match="--precision must be fp32 or int8 with --backend onnxruntime, got 'bf16'"):
        programs.check_combination("onnxruntime", "bf16")
    with pytest.raises(ArgumentError, match="Take --backend openvino for int8"):
        programs.check_combination("torch", "int8")
    for program, offered in programs.OFFERED.items():
        for precision in offered:
            programs.check_combination(program, precision)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else real(name))
    assert not programs.can_run("openvino", "int8", prepared=False)
    assert programs.missing_packages("openvino", "int8", prepared=True) == programs.missing_packages(
        "openvino", "fp32", prepared=True
    )
    with pytest.raises(FastcellError, match=r"openvino int8 needs the package nncf\. Install it: .*(openvino|nncf)"):
        programs.check_installed("openvino", "int8", False)


def test_versions_are_those_of_the_packages():
    import torch

    assert programs.versions()["torch"] == torch.__version__
