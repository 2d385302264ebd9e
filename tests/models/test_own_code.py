"""Hash of the modules of a user's own parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.own_modules import MakeModule

from fastcell.errors import ArgumentError
from fastcell.models import registry
from fastcell.models.own_code import check_code, code_of

CODE = """
from torch import nn

class Drops(nn.Sequential):
    def __init__(self, num_classes, image_size):
        super().__init__(nn.Flatten(), nn.Dropout(0.1), nn.Linear(image_size**2, num_classes))

def loss(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="none")
"""


@pytest.fixture
def code(make_own_module: MakeModule) -> Path:
    return make_own_module(CODE)


def test_what_counts_as_a_change(code: Path) -> None:
    settings = {"model.network": {"class_path": "nets_of_test.Drops"}, "model.loss": "nets_of_test.loss"}
    saved = code_of(settings)
    assert [*saved] == ["--model.network nets_of_test.Drops", "--model.loss nets_of_test.loss"]
    code.write_text(CODE.replace("\nclass", "\n# a comment\n\n\nclass"))
    check_code(saved, settings)
    check_code({}, settings)  # a run of an earlier version
    code.write_text(CODE.replace("0.1", "0.2"))
    with pytest.raises(ArgumentError, match="nets_of_test.Drops must be as in the run"):
        check_code(saved, settings)


def test_a_registered_network_counts_and_libraries_do_not(code: Path) -> None:
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
