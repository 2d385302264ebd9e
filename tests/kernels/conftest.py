"""Compiles the CUDA sources without a GPU: as host C++ with g++, and for real architectures with NVRTC."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from fastcell.ops.cuda_kernels import kernel_dir

HERE = Path(__file__).resolve().parent


def _compile(kernels, unit, target, *flags):
    command = ["g++", "-std=c++17", "-Wno-unknown-pragmas", "-I", str(kernels), "-I", str(HERE), *flags]
    done = subprocess.run([*command, str(HERE / unit), "-o", str(target)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def gxx():
    if shutil.which("g++") is None:
        pytest.skip("no g++: the CUDA sources cannot be compiled as host C++")


@pytest.fixture(scope="session")
def build_library(gxx, tmp_path_factory):
    """Compile one source of a folder, e.g. ``normalize``, into a library of host functions."""

    def build(kernels, stem, *flags):
        target = tmp_path_factory.mktemp("host") / f"{stem}.so"
        return ctypes.CDLL(str(_compile(kernels, f"{stem}_host.cpp", target, "-O2", "-fPIC", "-shared", *flags)))

    return build


@pytest.fixture(scope="module")
def host_library(build_library, request):
    """The source that the test module is named after, as host functions."""
    return build_library(kernel_dir(), request.path.stem.removeprefix("test_"))


@pytest.fixture
def mutant(tmp_path):
    """Copy the sources into a folder with one text replaced, and return the folder."""

    def make(name, old, new):
        target = tmp_path / "kernels"
        shutil.copytree(kernel_dir(), target)
        text = (target / name).read_text()
        assert text.count(old) == 1, f"{old!r} must occur once in {name}"
        (target / name).write_text(text.replace(old, new))
        return target

    return make


SANITIZERS = {
    "thread": ("-fsanitize=thread", "-DFEW_ENTRIES"),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DFEW_ENTRIES"),
}


@pytest.fixture
def sanitized(gxx, tmp_path):
    """Run the kernels of a folder under a sanitizer.

    ``thread``: ThreadSanitizer; exit code 66 means a data race. ``address``: AddressSanitizer and
    UndefinedBehaviorSanitizer; exit code 1 and a report mean an error.
    """

    def run(kernels, stem, sanitizer):
        program, flags = tmp_path / "program", SANITIZERS[sanitizer]
        command = ["g++", flags[0], "-x", "c++", "-", "-o", str(program)]
        if subprocess.run(command, input="int main() {}", text=True, capture_output=True).returncode:
            pytest.skip(f"this g++ has no sanitizer for {flags[0]}")
        _compile(kernels, f"{stem}_main.cpp", program, "-O1", "-g", *flags)
        # A sanitizer cannot map its shadow under some address layouts: setarch -R switches randomisation off.
        prefix = ["setarch", "-R"] if shutil.which("setarch") else []
        options = {"ASAN_OPTIONS": "detect_stack_use_after_return=0", "TSAN_OPTIONS": "halt_on_error=1"}
        environment = {**os.environ, **options}

        def start(*command):
            return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)

        done = start(*prefix, str(program))
        if "unexpected memory mapping" in done.stderr or "Operation not permitted" in done.stderr:
            done = start(str(program))
        if "unexpected memory mapping" in done.stderr:
            pytest.skip("the sanitizer cannot run under this kernel's address layout")
        return done

    return run


class Resources(NamedTuple):
    """What one kernel takes on one architecture."""

    registers: int
    spilled_bytes: int
    shared_bytes: int  # static; a launch adds the dynamic ones


@pytest.fixture(scope="session")
def nvrtc():
    """Compile a source for an architecture, e.g. ``sm_90``, with macros, and return every entry's resources."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = sorted(path for place in places for path in place.glob("*/lib/libnvrtc.so.*"))
    if not found:
        pytest.skip("no NVRTC: install nvidia-cuda-nvrtc")
    for builtins in found[-1].parent.glob("libnvrtc-builtins.so.*"):  # libnvrtc opens it by its bare name
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(found[-1]))

    def compile_source(name, architecture, **macros):
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        source = (kernel_dir() / name).read_bytes()
        assert library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None) == 0
        options = ["-std=c++17", f"-arch={architecture}", f"-I{kernel_dir()}", "-ftz=true", "-Xptxas=-v"]
        options += [f"-D{macro}={value}" for macro, value in macros.items()]
        raw = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = library.nvrtcCompileProgram(program, len(options), raw)
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        library.nvrtcDestroyProgram(ctypes.byref(program))
        text = log.value.decode()
        assert failed == 0, text
        pattern = (
            r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers(.*)"
        )
        found = {}
        for report in text.split("Compiling ")[1:]:
            match = re.search(pattern, report, re.S)
            assert match, report
            entry, stores, loads, registers, rest = match.groups()
            shared = re.search(r"(\d+) bytes smem", rest)  # not named if there are none
            found[entry] = Resources(int(registers), int(stores) + int(loads), int(shared.group(1)) if shared else 0)
        return found

    return compile_source
