"""DATA and RUN as arguments, and what types allow."""

from pathlib import Path
from typing import get_type_hints

import pytest

from fastcell.cli.lightning_parser import place_positionals, same_spelling, value_of
from fastcell.cli.signature import choices_of
from fastcell.errors import ArgumentError


@pytest.mark.parametrize(
    ("command", "words", "placed"),
    [
        ("fit", [], []),
        ("fit", ["cells"], ["--data.path=cells"]),
        ("fit", ["--preset", "fast", "cells"], ["--preset", "fast", "--data.path=cells"]),
        ("fit", ["cells", "--preset=fast"], ["--preset=fast", "--data.path=cells"]),
        ("fit", ["--config", "a.yaml", "cells"], ["--config", "a.yaml", "--data.path=cells"]),
        ("fit", ["--print_config", "cells"], ["--print_config", "--data.path=cells"]),
        ("test", ["run", "cells"], ["--ckpt_path=run", "--data.path=cells"]),
        ("test", ["run"], ["--ckpt_path=run"]),
        ("test", ["--ckpt_path", "run", "cells"], ["--ckpt_path", "run", "--data.path=cells"]),
        ("predict", ["run", "-o", "a.csv", "cells"], ["-o", "a.csv", "--ckpt_path=run", "--data.path=cells"]),
        ("predict", ["run", "-oa.csv", "cells"], ["-oa.csv", "--ckpt_path=run", "--data.path=cells"]),
        ("fit", ["--resume", "--preset", "fast"], ["--resume", "--preset", "fast"]),
        ("fit", ["--trainer.max_epochs", "-1", "cells"], ["--trainer.max_epochs", "-1", "--data.path=cells"]),
    ],
)
def test_positionals_become_options(command, words, placed):
    assert place_positionals(command, words) == placed


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("fit", ["a", "b"], "unexpected argument 'b'"),
        ("fit", ["a", "--data.path=b"], "DATA must be given once"),
        ("test", ["run", "a", "b"], "unexpected argument 'b'"),
        ("test", ["--ckpt_path=run", "a", "b"], "unexpected argument 'b'"),
    ],
)
def test_positionals_that_are_too_many(command, words, message):
    with pytest.raises(ArgumentError, match=message):
        place_positionals(command, words)


def test_values_before_parsing():
    assert value_of("--preset", ["--preset=a", "--preset", "b"]) == "b"
    assert value_of("--resume", ["--resume", "--preset=a"]) is None
    assert value_of("--preset", ["--presets=a", "--preset"]) is None


def test_names_with_a_fixed_set_of_values_are_literals():
    """A setting that the data module checks against names has those names as its type."""
    from fastcell.dataset.class_balance import BALANCES
    from fastcell.dataset.corrupt_cells import ON_BAD_CELL
    from fastcell.dataset.schema import SPLITS
    from fastcell.loading.datamodule import CellDataModule
    from fastcell.loading.decode_choice import DECODERS
    from fastcell.loading.settings import DTYPES
    from fastcell.loading.stores.placement import STORES
    from fastcell.loading.transforms import TRANSFORMS
    from fastcell.ops.constants import FITS, MODES

    hints = get_type_hints(CellDataModule.__init__)
    for name, values in {
        "fit": FITS,
        "normalization": MODES,
        "balance": BALANCES,
        "predict_split": SPLITS,
        "store": STORES,
        "transform": TRANSFORMS,
        "decoder": DECODERS,
        "dtype": ("auto", *DTYPES),
        "on_bad_cell": ON_BAD_CELL,
        "depth": (8, 16),
    }.items():
        assert choices_of(hints[name]) == [str(value) for value in values], name


def test_dashes_in_the_names_of_options():
    words = ["--ckpt-path=a-b", "--data.image-size", "-o", "a-b", "c-d=e-f"]
    assert same_spelling(words) == ["--ckpt_path=a-b", "--data.image_size", "-o", "a-b", "c-d=e-f"]


def test_data_as_other_commands_spell_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.yaml").touch()
    assert same_spelling(["--data", "cells"]) == ["--data.path", "cells"]
    assert same_spelling(["--data=cells", "x"]) == ["--data.path=cells", "x"]
    assert same_spelling(["--data"]) == ["--data.path"]
    assert same_spelling(["--data", "data.yaml"]) == ["--data", "data.yaml"]
    assert same_spelling(["--data=data.yaml"]) == ["--data=data.yaml"]
