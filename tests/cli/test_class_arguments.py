"""Arguments of a class that are read from its source: the same as those of the class itself."""

import inspect
import typing

import pytest

from fastcell.cli.class_arguments import arguments_of_class, first_sentence, plain_text
from fastcell.cli.signature import REQUIRED, choices_of
from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule


@pytest.mark.parametrize("kind", [CellModule, CellDataModule])
def test_as_python_knows_them(kind):
    found = arguments_of_class(kind.__module__, kind.__name__)
    known = dict(list(inspect.signature(kind.__init__).parameters.items())[1:])
    hints = typing.get_type_hints(kind.__init__)
    assert list(found) == list(known)
    for name, argument in found.items():
        if argument.hint is not object and typing.get_origin(argument.hint) is not dict:
            parts = {part for part in typing.get_args(argument.hint) or [argument.hint] if "object" not in str(part)}
            assert parts <= set(typing.get_args(hints[name]) or [hints[name]]), name
        assert choices_of(argument.hint) == choices_of(hints[name]), name
        if name != "augmentation":
            assert argument.default == known[name].default, name
    assert found.get("augmentation", argument._replace(default=REQUIRED)).default is REQUIRED
    assert all(argument.text for argument in found.values())


def test_types_of_other_modules():
    found = arguments_of_class("fastcell.loading.datamodule", "CellDataModule")
    assert found["normalization"].choices == ["divide", "subtract", "standardize"]
    assert found["predict_split"].choices == ["train", "valid", "test"]
    assert found["depth"].choices == ["8", "16"]
    assert found["subsample"].hint == int | float | None
    assert found["augmentation"].hint is object
    assert found["image_size"].text == "side of the square images, 8 to 1024 [px]."


def test_texts_without_markup():
    assert plain_text("Use :class:`~a.b.Timer`, or ``None``. Default: ``1``.") == "Use Timer, or null"
    assert plain_text("see `fastcell.models.schedule`\n  here.") == "see fastcell.models.schedule here"
    assert first_sentence("share such as 0.5. The rest") == "share such as 0.5"
    assert first_sentence("side [px]") == "side [px]"
