"""Where the CUDA sources are looked for, and how they are compiled."""

import contextlib
import sys
import types

import pytest
import torch

from fastcell.errors import FastcellError
from fastcell.ops import cuda_kernels


def test_every_source_of_the_checkout_is_found():
    for name in ("cell.cuh", "normalize.cu", "README.md"):
        assert cuda_kernels.kernel_source(name) == (cuda_kernels.kernel_dir() / name).read_text(encoding="utf-8")


def test_the_installed_folder_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "fastcell"
    installed, checkout = package / "_kernels", tmp_path / "kernels"
    monkeypatch.setattr(cuda_kernels, "_PACKAGE_DIR", package)
    checkout.mkdir()
    (checkout / "a.cu").write_text("checkout")
    assert cuda_kernels.kernel_dir() == checkout
    assert cuda_kernels.kernel_source("a.cu") == "checkout"
    installed.mkdir(parents=True)
    (installed / "a.cu").write_text("installed")
    assert cuda_kernels.kernel_dir() == installed
    assert cuda_kernels.kernel_source("a.cu") == "installed"


def test_errors_name_both_places(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_kernels, "_PACKAGE_DIR", tmp_path / "fastcell")
    for call in (cuda_kernels.kernel_dir, lambda: cuda_kernels.kernel_source("a.cu")):
        with pytest.raises(FastcellError) as caught:
            call()
        assert str(tmp_path / "fastcell" / "_kernels") in str(caught.value)
        assert str(tmp_path / "kernels") in str(caught.value)


class FakeKernel:
    max_dynamic_shared_size_bytes = 49152


class FakeCupy(types.ModuleType):
    """Notes what is compiled, for which device and with which options."""

    def __init__(self):
        super().__init__("cupy")
        self.compiled = []
        self.cuda = types.SimpleNamespace(Device=self.on, Stream=types.SimpleNamespace(from_external=self.external))
        self.device = -1
        self.streams = []

    @contextlib.contextmanager
    def on(self, device):
        self.device = device
        yield
        self.device = -1

    @contextlib.contextmanager
    def _within(self, stream):
        self.streams.append((self.device, stream))
        yield

    def external(self, stream):
        """A stream belongs to the device that is current now, as in CuPy."""
        return self._within((self.device, stream))

    def RawModule(self, code, options):  # CuPy's name
        self.compiled.append((self.device, code, options))
        return types.SimpleNamespace(get_function=lambda entry: FakeKernel())


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    caches = (cuda_kernels.get_kernel, cuda_kernels._compile)
    for cached in caches:
        cached.cache_clear()
    yield fake
    for cached in caches:
        cached.cache_clear()


def test_a_source_is_compiled_once_for_a_device_and_its_macros(cupy):
    first = cuda_kernels.get_kernel(0, "normalize.cu", "normalize_u8_f32_any")
    assert cuda_kernels.get_kernel(0, "normalize.cu", "normalize_u8_f32_any") is first
    assert cuda_kernels.get_kernel(0, "normalize.cu", "normalize_u8_f32_pack") is not first
    cuda_kernels.get_kernel(1, "normalize.cu", "normalize_u8_f32_any")
    macros = ("CELL_SIZE=64", "CELL_BLUR=1")
    cuda_kernels.get_kernel(1, "transform.cu", "transform", macros, 65536)
    headers = f"-DCELL_HEADERS=0x{cuda_kernels.headers_hash()}"
    options = ("-std=c++17", f"-I{cuda_kernels.kernel_dir()}", headers)
    normalize, transform = (cuda_kernels.kernel_source(name) for name in ("normalize.cu", "transform.cu"))
    assert cupy.compiled == [
        (0, normalize, options),
        (1, normalize, options),
        (1, transform, (*options, "-DCELL_SIZE=64", "-DCELL_BLUR=1")),
    ]


def test_an_edited_header_is_compiled_again(monkeypatch, tmp_path, cupy):
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    (kernels / "a.cu").write_text("kernel")
    (kernels / "cell.cuh").write_text("1")
    monkeypatch.setattr(cuda_kernels, "_PACKAGE_DIR", tmp_path / "fastcell")
    cuda_kernels.get_kernel(0, "a.cu", "a")
    (kernels / "cell.cuh").write_text("2")
    cuda_kernels.get_kernel.cache_clear()  # another process
    cuda_kernels._compile.cache_clear()
    cuda_kernels.get_kernel(0, "a.cu", "a")
    (first, second) = cupy.compiled
    assert first[:2] == second[:2] == (0, "kernel")
    assert first[2] != second[2]


def test_a_launch_takes_the_stream_for_one_of_its_device(monkeypatch, cupy):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    calls = []

    def kernel(blocks, threads, arguments, shared_mem):
        calls.append((cupy.device, blocks, threads, arguments, shared_mem))

    cuda_kernels.launch(kernel, torch.device("cuda", 1), 7, 256, (1, 2), 64)
    assert cupy.streams == [(1, (1, "stream of cuda:1"))]
    assert calls == [(1, (7,), (256,), (1, 2), 64)]


def test_shared_memory_is_asked_for_where_it_is_needed(cupy):
    assert cuda_kernels.get_kernel(0, "normalize.cu", "a").max_dynamic_shared_size_bytes == 49152
    assert cuda_kernels.get_kernel(0, "transform.cu", "a", (), 65536).max_dynamic_shared_size_bytes == 65536
    assert cuda_kernels.import_cupy("transform", "cells") is cupy


def test_an_error_names_what_needs_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        FastcellError, match="^transform needs CuPy for cells on a GPU, got no such module.*'fastcell doctor'"
    ):
        cuda_kernels.import_cupy("transform", "cells")
