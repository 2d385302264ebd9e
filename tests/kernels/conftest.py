"""Compiles the CUDA sources without a GPU: as host C++ with g++, and for real architectures with NVRTC."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fastcell.ops._source import kernel_dir

HERE = Path(__file__).resolve().parent


def _compile(kernels: Path, unit: str, target: Path, *flags: str) -> Path:
    command = ["g++", "-std=c++17", "-Wno-unknown-pragmas", "-I", str(kernels), "-I", str(HERE), *flags]
    done = subprocess.run([*command, str(HERE / unit), "-o", str(target)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def gxx() -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the CUDA sources cannot be compiled as host C++")


@pytest.fixture(scope="session")
def build_library(gxx: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], ctypes.CDLL]:
    """Compile the kernels of a folder into a library of host functions."""

    def build(kernels: Path) -> ctypes.CDLL:
        target = tmp_path_factory.mktemp("host") / "kernels.so"
        return ctypes.CDLL(str(_compile(kernels, "host_tu.cpp", target, "-O2", "-fPIC", "-shared")))

    return build


@pytest.fixture(scope="session")
def host_library(build_library: Callable[[Path], ctypes.CDLL]) -> ctypes.CDLL:
    return build_library(kernel_dir())


@pytest.fixture
def mutant(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """Copy the sources into a folder with one text replaced, and return the folder."""

    def make(name: str, old: str, new: str) -> Path:
        target = tmp_path / "kernels"
        shutil.copytree(kernel_dir(), target)
        text = (target / name).read_text()
        assert text.count(old) == 1, f"{old!r} must occur once in {name}"
        (target / name).write_text(text.replace(old, new))
        return target

    return make


@pytest.fixture
def thread_sanitizer(gxx: None, tmp_path: Path) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Run the kernels of a folder under ThreadSanitizer; exit code 66 means a data race."""

    def run(kernels: Path) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "program"
        command = ["g++", "-fsanitize=thread", "-x", "c++", "-", "-o", str(program)]
        if subprocess.run(command, input="int main() {}", text=True, capture_output=True).returncode:
            pytest.skip("this g++ has no ThreadSanitizer")
        _compile(kernels, "host_main.cpp", program, "-O1", "-g", "-fsanitize=thread")
        # ThreadSanitizer cannot map its shadow under some address layouts: setarch -R switches randomisation off.
        prefix = ["setarch", "-R"] if shutil.which("setarch") else []
        done = subprocess.run([*prefix, str(program)], capture_output=True, text=True, timeout=240)
        if "unexpected memory mapping" in done.stderr or "Operation not permitted" in done.stderr:
            done = subprocess.run([str(program)], capture_output=True, text=True, timeout=240)
        if "unexpected memory mapping" in done.stderr:
            pytest.skip("ThreadSanitizer cannot run under this kernel's address layout")
        return done

    return run


class Resources(NamedTuple):
    """What one kernel takes on one architecture."""

    registers: int
    spilled_bytes: int


@pytest.fixture(scope="session")
def nvrtc() -> Callable[[str, str], dict[str, Resources]]:
    """Compile a source for an architecture, e.g. ``sm_90``, and return every entry's resources."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = sorted(path for place in places for path in place.glob("*/lib/libnvrtc.so.*"))
    if not found:
        pytest.skip("no NVRTC: install nvidia-cuda-nvrtc")
    for builtins in found[-1].parent.glob("libnvrtc-builtins.so.*"):  # libnvrtc opens it by its bare name
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(found[-1]))

    def compile_source(name: str, architecture: str) -> dict[str, Resources]:
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        source = (kernel_dir() / name).read_bytes()
        assert library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None) == 0
        options = ["-std=c++17", f"-arch={architecture}", f"-I{kernel_dir()}", "-ftz=true", "-Xptxas=-v"]
        raw = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = library.nvrtcCompileProgram(program, len(options), raw)
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        library.nvrtcDestroyProgram(ctypes.byref(program))
        text = log.value.decode()
        assert failed == 0, text
        pattern = r"entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
        return {
            entry: Resources(int(registers), int(stores) + int(loads))
            for entry, stores, loads, registers in re.findall(pattern, text, re.S)
        }

    return compile_source
