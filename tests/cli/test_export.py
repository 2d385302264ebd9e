"""The command `fastcell export`."""

import pytest

from fastcell.cli import main as cli
from fastcell.system.optional_packages import install_hint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m.txt"], "OUT must be a file name that ends in .onnx, or a new folder"),
        (["none/m.onnx"], "OUT must be a file in an existing folder"),
        (["m.onnx", "--check", "0"], "--check must be at least 1 cell"),
        (["m.onnx", "--data", "none"], "is not a packed data set"),
    ],
)
def test_arguments_that_cannot_be(trained_run, tmp_path, capsys, arguments, message):
    assert cli.main(["export", str(trained_run), str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert cli.main(["export", str(trained_run), str(tmp_path / "m.onnx")]) == 2
    assert install_hint(extra="onnx") in capsys.readouterr().err
