"""Where the CUDA sources are looked for."""

from __future__ import annotations

import pytest

from fastcell.errors import FastcellError
from fastcell.ops import _source


def test_every_source_of_the_checkout_is_found():
    for name in ("cell.cuh", "normalize.cu", "README.md"):
        assert _source.kernel_source(name) == (_source.kernel_dir() / name).read_text(encoding="utf-8")


def test_the_installed_folder_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "fastcell"
    installed, checkout = package / "_kernels", tmp_path / "kernels"
    monkeypatch.setattr(_source, "_PACKAGE_DIR", package)
    checkout.mkdir()
    (checkout / "a.cu").write_text("checkout")
    assert _source.kernel_dir() == checkout
    assert _source.kernel_source("a.cu") == "checkout"
    installed.mkdir(parents=True)
    (installed / "a.cu").write_text("installed")
    assert _source.kernel_dir() == installed
    assert _source.kernel_source("a.cu") == "installed"


def test_errors_name_both_places(tmp_path, monkeypatch):
    monkeypatch.setattr(_source, "_PACKAGE_DIR", tmp_path / "fastcell")
    for call in (_source.kernel_dir, lambda: _source.kernel_source("a.cu")):
        with pytest.raises(FastcellError) as caught:
            call()
        assert str(tmp_path / "fastcell" / "_kernels") in str(caught.value)
        assert str(tmp_path / "kernels") in str(caught.value)
