"""Hash of the modules of a user's own parts."""

import sys

import pytest

from fastcell.errors import ArgumentError
from fastcell.models import registry
from fastcell.models.own_code import changed_parts, check_code, code_of

CODE = """
from torch import nn

class Drops(nn.Sequential):
    def __init__(self, num_classes, image_size):
        super().__init__(nn.Flatten(), nn.Dropout(0.1), nn.Linear(image_size**2, num_classes))

def loss(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="none")
"""


@pytest.fixture
def code(make_own_module):
    return make_own_module(CODE)


def test_what_counts_as_a_change(code):
    settings = {"model.network": {"class_path": "nets_of_test.Drops"}, "model.loss": "nets_of_test.loss"}
    saved = code_of(settings)
    assert [*saved] == ["--model.network nets_of_test.Drops", "--model.loss nets_of_test.loss"]
    code.write_text(CODE.replace("\nclass", "\n# a comment\n\n\nclass"))
    check_code(saved, settings)
    check_code({}, settings)  # a run of an earlier version
    code.write_text(CODE.replace("0.1", "0.2"))
    with pytest.raises(ArgumentError, match="nets_of_test.Drops must be as in the run"):
        check_code(saved, settings)


def test_a_registered_network_counts_and_libraries_do_not(code):
    import nets_of_test  # type: ignore[import-not-found]

    registry.register_network("drops", nets_of_test.Drops)
    settings = {
        "model.network": "drops",
        "model.loss": {"class_path": "torch.nn.CrossEntropyLoss"},
        "model.metrics": ["torchmetrics.classification.MulticlassF1Score"],
        "data.batch_augmentation": None,
    }
    assert [*code_of(settings)] == ["--model.network drops"]
    assert code_of({"model.network": "cellnet"}) == {}


def test_modules_of_the_same_author_count(code):
    package = code.parent / "parts_of_test"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py"):
        (package / name).write_text("")
    (package / "nets.py").write_text(
        "import numpy\nfrom torch import nn\nfrom scipy.stats import norm\nfrom . import layers\n"
        "from .inner.deep import size\nclass Net(nn.Flatten):\n    pass\n"
    )
    (package / "layers.py").write_text("import nets_of_test  # beside the package, not in it\n")
    (package / "inner" / "deep.py").write_text("from ..layers import *\nsize = 3\n")
    settings = {"model.network": "parts_of_test.nets.Net"}
    saved = code_of(settings)
    title = "--model.network parts_of_test.nets.Net"
    inner = ("parts_of_test", "parts_of_test.layers", "parts_of_test.inner", "parts_of_test.inner.deep")
    assert {*saved} == {title, *(f"{title} ({name})" for name in inner)}
    assert changed_parts(saved, settings) == []
    (package / "inner" / "deep.py").write_text("from ..layers import *\nsize = 4\n")
    assert changed_parts(saved, settings) == [f"{title} (parts_of_test.inner.deep)"]
    for name in [*sys.modules]:
        if name.startswith("parts_of_test"):
            del sys.modules[name]


def test_a_module_alone_counts_with_those_beside_it(code):
    (code.parent / "beside_of_test.py").write_text("size = 3\n")
    others = code.parent / "site-packages"
    others.mkdir()
    (others / "installed_of_test.py").write_text("")
    code.write_text("import os, beside_of_test\n" + CODE)
    assert [*code_of({"model.network": "nets_of_test.Drops"})] == [
        "--model.network nets_of_test.Drops",
        "--model.network nets_of_test.Drops (beside_of_test)",
    ]
    sys.modules.pop("beside_of_test", None)
