"""The command `fastcell bench`, on cells of every kind."""

import json

import cv2
import numpy as np
import pytest

from fastcell.cli import main as cli
from fastcell.packing import pack

PARTS = [
    "read",
    "decoded",
    "batches, stream",
    "batches, stream of blocks",
    "batches, bank",
    "classify, network alone",
    "classify, whole way",
    "train, network alone",
    "train, from the bank",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for cell in range(60):
        path = folder / "AB"[cell % 2] / f"{cell:02d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(1, 200, tuple(rng.integers(9, 24, 2))).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def data(images, tmp_path_factory):
    return pack.pack(images, tmp_path_factory.mktemp("data") / "cells").path


@pytest.mark.parametrize(("layout", "pattern"), [("cell", None), ("block", "**/{name}")], ids=["cell", "unlabelled"])
def test_the_command_times_every_part(images, tmp_path, capsys, layout, pattern):
    data = pack.pack(images, tmp_path / "cells", layout=layout, pattern=pattern).path
    before = sorted(path.name for path in data.iterdir())
    out = tmp_path / "bench.json"
    arguments = ["--seconds", "0.5", "--instrument-rate", "1e4", "--threads", "1", "--out", str(out)]
    assert cli.main(["bench", str(data), *arguments]) == 0
    text = capsys.readouterr().out
    content = json.loads(out.read_text())
    wanted = [part for part in PARTS if layout == "cell" or "blocks" not in part]
    assert [entry["part"] for entry in content["rows"]] == wanted
    for entry in content["rows"]:
        assert 0 < entry["low"] <= entry["cells_per_s"] <= entry["high"]
        assert entry["num_rounds"] == 3
        assert f"{entry['cells_per_s']:,.0f}" in text
    assert content["settings"]["cells"] == 60
    assert "python" in content["environment"]
    assert "Your instrument's 10,000 cells/s" in text
    assert sorted(path.name for path in data.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instrument-rate", "0"], "--instrument-rate must be cells per second, above 0"),
        (["--seconds", "-1"], "--seconds must be above 0 and at most 86,400"),
        (["--seconds", "1e30"], "--seconds must be above 0 and at most 86,400"),
        (["--cells", "0"], "--cells must be a number above 0"),
        (["--threads", "-1"], "--threads must be from 0 to 1024"),
        (["--preset", "slow"], "--preset must be one of demo, paper, fast, thorough"),
        (["--ckpt_path", "none.ckpt"], "checkpoint must be a file"),
        (["--out", "nowhere/x.json"], "--out must be a file in an existing folder"),
    ],
)
def test_bad_arguments_are_messages(data, capsys, arguments, message):
    assert cli.main(["bench", str(data), *arguments]) == 2
    assert message in capsys.readouterr().err
