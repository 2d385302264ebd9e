"""Parts by class path: how they are written, imported, built and trusted."""

import sys

import pytest
from torch import nn

from fastcell.errors import ArgumentError
from fastcell.system.own_parts import (
    OwnPart,
    build_part,
    check_trusted,
    import_trusted,
    own_part,
    part_name,
    usable_part,
)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("cellnet", None),
        ("resnet18", None),
        (None, None),
        ("my.Net", OwnPart("my.Net", {})),
        ({"class_path": "a.b.Net"}, OwnPart("a.b.Net", {})),
        ({"class_path": "a.b.Net", "init_args": {"w": 1}}, OwnPart("a.b.Net", {"w": 1})),
        ({"class_path": "a.b.Net", "init_args": None}, OwnPart("a.b.Net", {})),
    ],
)
def test_how_a_part_is_written(value, part):
    assert own_part(value, "network") == part


@pytest.mark.parametrize(
    "value",
    [{}, {"class_path": "Net"}, {"class_path": "a.Net", "args": {}}, {"class_path": 3}, {"class_path": "a.Net; b"},
     {"class_path": "a.Net", "init_args": [1]}],
)  # fmt: skip
def test_a_part_written_otherwise_is_refused(value):
    with pytest.raises(ArgumentError, match="network must be a name, or class_path"):
        own_part(value, "network")


@pytest.mark.parametrize(
    ("value", "name"),
    [("gao", "gao"), ("a.b.Net", "Net"), ({"class_path": "a.b.Net"}, "Net"), ("resnet-18", "resnet-18")],
)
def test_names_for_titles(value, name):
    assert part_name(value) == name


def test_arguments_that_are_offered_are_passed_if_they_are_taken():
    part = OwnPart("torch.nn.Linear", {"in_features": 3, "out_features": 2})
    layer = build_part(part, "network", {"num_classes": 7, "bias": False, "out_features": 9})
    assert layer.weight.shape == (2, 3)
    assert layer.bias is None


def test_a_function_gets_its_arguments_and_a_class_is_built():
    assert usable_part(OwnPart("math.pow", {}), "loss", {})(2, 3) == 8
    assert usable_part(OwnPart("torch.nn.functional.relu", {"inplace": True}), "loss", {}).keywords == {"inplace": True}
    assert isinstance(usable_part(OwnPart("torch.nn.ReLU", {}), "loss", {}), nn.ReLU)


def test_the_working_folder_is_searched(tmp_path, monkeypatch):
    (tmp_path / "beside_me_part.py").write_text(
        "class Net:\n    def __init__(self, width=1):\n        self.width = width\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.delitem(sys.modules, "beside_me_part", raising=False)
    assert build_part(OwnPart("beside_me_part.Net", {"width": 5}), "network", {}).width == 5


@pytest.mark.parametrize("name", ["os; import sys", "", "a b", "-x", "../x"])
def test_trust_takes_names_of_packages_only(name):
    with pytest.raises(ArgumentError, match="trust must be the name of a package"):
        import_trusted([name])


@pytest.mark.parametrize(
    ("path", "trust", "good"),
    [
        ("torch.nn.Linear", (), True),
        ("torchmetrics.classification.MulticlassF1Score", (), True),
        ("torch.nn.Module.apply", (), False),
        ("torch.nn.functional.relu", (), False),
        ("torch.hub.load", (), False),
        ("my_package.Net", (), False),
        ("my_package.Net", ("my_package",), True),
        ("my_package.nets.Net", ("my_package",), True),
        ("my_package2.Net", ("my_package",), False),
        ("my_package.Net", ("my_package.nets",), False),
    ],
)
@pytest.mark.parametrize("argument", ["network", "loss", "metrics"])
def test_whose_code_is_trusted(path, trust, good, argument):
    hparams = {argument: [{"class_path": path}] if argument == "metrics" else {"class_path": path}}
    if good:
        check_trusted(hparams, trust, "last.ckpt")
        return
    with pytest.raises(ArgumentError, match=r"last\.ckpt was trained with code that is not of fastcell"):
        check_trusted(hparams, trust, "last.ckpt")
