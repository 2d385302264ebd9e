"""Every option of `pack` and `index` beside every format: it changes what is made, or it is refused."""

from __future__ import annotations

import inspect
import io
import tarfile
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, FastcellError
from fastcell.packing.index import index
from fastcell.packing.option_effects import PACK_OPTIONS, check_split_seed_used
from fastcell.packing.pack import pack
from fastcell.sources.registry import FORMATS, ReadOptions
from fastcell.splits.make_splits import SplitOptions

h5py = pytest.importorskip("h5py")

NUM = 24
COMMON = {"jobs": 1, "allow_absent": True, "name": "cells"}  # the name may follow from OUT
PIXELS = np.random.default_rng(0).integers(1, 256, (NUM, 6, 8)).astype(np.uint8)


def png(number: int) -> bytes:
    return cv2.imencode(".png", PIXELS[number])[1].tobytes()


def make_rtdc(root: Path) -> None:
    for i in range(4):
        part = PIXELS[6 * i : 6 * i + 6]
        with h5py.File(root / f"{i}.rtdc", "w") as file:
            file.attrs["imaging:pixel size"] = 0.34
            file["events/image"], file["events/image_bg"] = part, part // 2
            file["events/area"] = np.arange(6.0)


def make_ifcb(root: Path) -> None:
    for i in range(4):
        rows = [f"{k},{','.join('0' * 8)},{k},0,8,6,{48 * k},0" for k in range(6)]
        (root / f"IFCB5_2012_028_08151{i}.adc").write_text("\n".join(rows))
        (root / f"IFCB5_2012_028_08151{i}.roi").write_bytes(PIXELS[6 * i : 6 * i + 6].tobytes())


def make_tars(root: Path) -> None:
    with tarfile.open(root / "x.tar", "w") as archive:
        for i in range(NUM):
            for name, data in ((f"d{i % 4}/{i:03d}.png", png(i)), (f"d{i % 4}/{i:03d}.cls", b"%d" % (i % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def make_images(root: Path) -> None:
    for i in range(NUM):
        (root / f"{'AB'[i % 2]}").mkdir(exist_ok=True)
        (root / f"{'AB'[i % 2]}" / f"d{i % 4}_{i:03d}.png").write_bytes(png(i))


def make_lists(root: Path) -> None:
    make_images(root)
    names = [f"{'AB'[i % 2]}/d{i % 4}_{i:03d}.png {i % 2}\n" for i in range(NUM)]
    (root / "Train.txt").write_text("".join(names[:16]))
    (root / "Test.txt").write_text("".join(names[16:]))
    (root / "labels.txt").write_text("A 0\nB 1\n")


def make_tiff(root: Path) -> None:
    for name, part in (("A", PIXELS[:11]), ("B", PIXELS[11:])):
        (root / name).mkdir()
        tifffile.imwrite(root / name / "s.tif", part, photometric="minisblack", metadata=None)


def make_arrays(root: Path) -> None:
    (root / "A").mkdir()
    np.savez(root / "A" / "a.npz", images=PIXELS, area=np.arange(NUM) + 0.5)


MAKERS = {
    "rtdc": make_rtdc,
    "ifcb": make_ifcb,
    "tars": make_tars,
    "lists": make_lists,
    "tiff": make_tiff,
    "images": make_images,
    "arrays": make_arrays,
}
PATTERNS = {
    "rtdc": "{class}.rtdc",
    "ifcb": "IFCB5_2012_028_{class}",
    "tars": "{group}/{name}",
    "images": "{class}/{group}_{name}",
    "tiff": "{group}/{name}",
    "arrays": "{group}/{name}",
}


def source_of(folder: Path, name: str) -> Path:
    root = folder / name
    if not root.is_dir():
        root.mkdir(parents=True)
        MAKERS[name](root)
    return root


def made(manifest: Manifest) -> dict[str, Any]:
    """All that a data set says about its cells."""
    table = manifest.table.to_pydict()
    features = manifest.features()
    return {
        "rows": {name: [repr(value) for value in values] for name, values in table.items()},
        "splits": {name: manifest.split(name).tolist() for name in manifest.split_names()},
        "info": {**vars(manifest.info), "shards": None},
        "features": None if features is None else repr(features.to_pydict()),
    }


def options_of(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """A value of each option that differs from its default, as arguments of `pack`."""
    keys = made_of(folder, name)["rows"]["key"]
    table, labels = folder / f"{name}.csv", folder / "labels.txt"
    table.write_text("path,label\n" + "".join(f"{key[1:-1]},t{i % 2}\n" for i, key in enumerate(keys[:20])))
    labels.write_text("".join(f"l{i % 2}\n" for i in range(NUM)))
    read = {
        "pattern": PATTERNS.get(name, "{class}/{name}"),
        "tile": (3, 4),
        "channel": 1,
        "table": table,
        "labels": labels,
        "subtract_background": True,
        "pages": "cells",
    }
    packing = {
        "layout": {"layout": "block"},
        "shard_cells": {"shard_cells": 5},
        "block_cells": {"block_cells": 4},
        "seed": {"seed": 5},
        "split": {"split": SplitOptions((0.5, 0.0, 0.5))},
        "split_seed": {"split": SplitOptions(seed=3)},
        "folds": {"split": SplitOptions(folds=2)},
        "window": {"window": (10.0, 90.0)},
        "um_per_px": {"um_per_px": 0.5},
        "collection": {"collection": "May"},
        "name": {"name": "other"},
        "source": {"origin": "a laboratory"},
        "licence": {"licence": "CC BY 4.0"},
    }
    formats = {"format": name} if name == "lists" else {}
    found = {option: {"read": ReadOptions(**{**formats, option: value})} for option, value in read.items()}
    if name == "tiff":
        found["pages"] = {"read": ReadOptions(pages="channels", channel=1)}
    return {**found, **packing}


@cache
def made_of(folder: Path, name: str) -> dict[str, Any]:
    return made(pack(source_of(folder, name), folder / f"{name}-out", **COMMON))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("options")


@pytest.mark.parametrize("name", FORMATS)
def test_each_option_has_an_effect_or_is_refused(folder, tmp_path, name):
    before = made_of(folder, name)
    refused = {}
    for option, arguments in options_of(folder, name).items():
        try:
            after = made(pack(source_of(folder, name), tmp_path / option, **{**COMMON, **arguments}))
        except FastcellError as error:
            refused[option] = str(error)
        else:
            assert after != before, option
    assert [
        name for name, text in refused.items() if name != "channel" and f"--{name.replace('_', '-')}" not in text
    ] == []
    told = {field.name for field in fields(ReadOptions)} - {"format"}
    of_format = {option for option in told if option not in FORMATS[name].options}
    on_cells = {"block_cells", "window"} | ({"um_per_px"} if name == "rtdc" else set())
    # of the folder of stacks no file tells channels; the single images have none
    maybe = {"channel"} if name in ("tars", "lists", "images", "tiff") else set()
    assert of_format | on_cells <= set(refused) <= of_format | on_cells | maybe


def test_the_tables_hold_every_option():
    asked = {*inspect.signature(pack).parameters, *inspect.signature(index).parameters}
    asked -= {"src", "out", "tars", "verbose", "command"}  # no options of the user
    asked -= {"read", "pattern"}  # the options of reading
    renamed = {"origin": "source"}
    assert {renamed.get(name, name) for name in asked} | {"split_seed", "folds"} == set(PACK_OPTIONS)
    used = {option for kind in FORMATS.values() for option in kind.options}
    assert used == {field.name for field in fields(ReadOptions)} - {"format"}


def test_options_of_index(tmp_path):
    root = tmp_path / "tars"
    root.mkdir()
    make_tars(root)
    before = made(index(root, out=tmp_path / "before", name="cells"))
    cases = {
        "pattern": {"pattern": "{group}/{name}"},
        "split": {"split": SplitOptions(None)},
        "um_per_px": {"um_per_px": 0.5},
        "name": {"name": "other"},
    }
    for option, arguments in cases.items():
        assert made(index(root, out=tmp_path / option, **{"name": "cells", **arguments})) != before, option
    refused = [
        ("--window must be given for 16-bit cells", {"window": (0.0, 9.0)}),
        (r"--pattern must be without {class}, which a .cls or .json gives", {"pattern": "{class}/{name}"}),
        ("--split-seed must be given with a split or folds", {"split": SplitOptions(None, 3)}),
    ]
    for message, arguments in refused:
        with pytest.raises(ArgumentError, match=message):
            index(root, out=tmp_path / "refused", **arguments)


def test_a_pattern_whose_fields_are_overridden_is_refused(folder, tmp_path):
    images = source_of(folder, "images")
    table = tmp_path / "t.csv"
    table.write_text("path,label,group\nA/d0_000.png,x,1\n")
    with pytest.raises(ArgumentError, match=r"--pattern must be without {class}, which the table gives"):
        pack(images, tmp_path / "out", pattern="{class}/{name}", read=ReadOptions(table=table))
    np.savez(tmp_path / "A.npz", images=PIXELS, labels=np.arange(NUM) % 2)
    with pytest.raises(ArgumentError, match=r"--pattern must be without {class}, which each file gives"):
        pack(tmp_path / "A.npz", tmp_path / "out", pattern="{class}.npz")
    check_split_seed_used(None)
