"""Optional packages: imported where they are there, a command to install them where they are not."""

from __future__ import annotations

import json.decoder
from pathlib import Path

import pytest

from fastcell.errors import FastcellError
from fastcell.system.optional_packages import require


def test_a_package_that_is_there_is_imported() -> None:
    assert require("json.decoder", "formats") is json.decoder


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_a_missing_one_says_how_to_install_it(name: str) -> None:
    with pytest.raises(FastcellError) as caught:
        require(name, "onnx")
    assert str(caught.value) == f'the package {name} is not installed. Install it: pip install "fastcell[onnx]".'


def test_a_package_that_itself_lacks_another_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        require("half_installed", "formats")
