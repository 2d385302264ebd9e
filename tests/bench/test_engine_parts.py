"""Parts of the engine: tried apart, with a hint where one is not usable."""

import os
import subprocess
import sys
import types

import pytest

from fastcell.bench import engine_parts
from fastcell.system import resources
from fastcell.system.optional_packages import install_hint


def test_probes_run_apart_and_find_torch_and_dali():
    import torch

    parts = {part["name"]: part for part in engine_parts.probe_parts(["torch", "torch on CUDA", "DALI on the CPU"])}
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
def test_a_broken_library_is_a_line_of_the_report(stub, detail, tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(stub)
    (tmp_path / "onnxruntime.py").write_text("__version__ = '9.9'\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    first, second = engine_parts.probe_parts(["timm", "onnxruntime"], timeout_s=3)
    assert (first["usable"], first["detail"]) == (False, detail)
    assert (second["usable"], second["detail"]) == (True, "onnxruntime 9.9")


@pytest.mark.parametrize(("cuda", "extra"), [(None, "cpu"), ((11, 8), "cpu"), ((12, 4), "cu12"), ((13, 0), "cu13")])
def test_way_out_names_the_extra_of_this_driver(cuda, extra, monkeypatch):
    monkeypatch.setattr(resources, "driver_cuda_version", lambda: cuda)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (part,) = engine_parts.probe_parts(["DALI on the CPU"])
    assert part["way_out"] == install_hint(extra=extra)


def test_a_probe_that_cannot_start_is_a_line_for_each_part(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("refused")

    monkeypatch.setattr(subprocess, "run", refuse)
    parts = engine_parts.probe_parts(list(engine_parts.PROBES))
    assert [part["name"] for part in parts] == list(engine_parts.PROBES)
    assert {(part["usable"], part["detail"]) for part in parts} == {(False, "the probe could not start: refused")}


@pytest.mark.parametrize(("wrong", "message"), [(None, None), (0, "the kernel normalize"), (1, "the kernel transform")])
def test_the_kernels_are_compared_with_their_twins_on_a_stream_of_their_own(wrong, message, monkeypatch):
    import torch

    on_stream, made = [], engine_parts.images_of_all_kernels

    class Stream:
        def __init__(self, device): ...

        def __enter__(self):
            on_stream.append(True)

        def __exit__(self, *error):
            on_stream.clear()

        def synchronize(self): ...

    def images(device):
        assert bool(on_stream) == (device is not None)
        found = made(None)
        if device is not None and wrong is not None:
            found[wrong][1, 0, 5, 5] += 0.5
        return found

    monkeypatch.setattr(resources, "driver_cuda_version", lambda: (13, 0))
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    sys.modules["cupy"].__version__ = "14.2"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(engine_parts, "images_of_all_kernels", images)
    if message is None:
        assert engine_parts._probe_cupy() == "CuPy 14.2, both kernels agree with their CPU twins"
    else:
        with pytest.raises(RuntimeError, match=message):
            engine_parts._probe_cupy()
