"""200 classes, 10,000 groups and very long names, through the commands."""

import re

import numpy as np
import pytest

from fastcell.cli.main import main
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.manifest import Manifest
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.packing.summary import describe_dataset
from fastcell.quality.quality_table import dropped_by_class
from fastcell.report.data_summary import describe_contents
from fastcell.storage.staging import staging

SMALL = [
    "--preset=fast",
    "--data.image_size=16",
    "--data.threads=1",
    "--trainer.max_steps=10",
    "--trainer.max_epochs=-1",
]


def make(out, num, classes, groups, key):
    rng = np.random.default_rng(0)
    records = [
        Record(
            f"{key}{number}.npy",
            (rng.integers(0, 60, (8, 8)) + number % 3 * 80).astype(np.uint8),
            "raw",
            classes[number % len(classes)],
            groups[number % len(groups)],
        )
        for number in range(num)
    ]
    sides = np.array(["train", "train", "train", "valid", "test"])[np.arange(num) // len(classes) % 5]
    with staging(out) as folder:
        shard = write_cell_shard(folder / "shard-000000.tar", records, None, sorted(set(classes)))
        return finish_dataset(folder, out, [shard], DatasetInfo("large", sorted(set(classes))), {"default": sides}).path


LONG_NAMES = pytest.param(100, ["x" * 4_000, "ö" * 4_000], ["g" * 10_000], "k" * 3_000, id="long names")
LARGE = [
    pytest.param(2_000, [f"class {number:03d}" for number in range(200)], ["one", "two"], "k", id="200 classes"),
    pytest.param(10_000, ["a", "b"], [f"group {number}" for number in range(10_000)], "k", id="10,000 groups"),
    LONG_NAMES,
]


@pytest.mark.parametrize(("num", "classes", "groups", "key"), LARGE)
def test_light_commands(num, classes, groups, key, tmp_path, capsys):
    data = make(tmp_path / "set", num, classes, groups, key)
    for words in (
        ["info", data],
        ["verify", data],
        ["split", data, "--name", "x", "--no-near", "--jobs", "1", "--allow-absent"],
        ["split", data, "--name", "g", "--group-by", "group", "--no-near", "--jobs", "1", "--allow-absent"],
    ):
        assert len(assert_ends_well([str(word) for word in words], capsys).splitlines()) < 60


@pytest.fixture
def many_classes(tmp_path):
    """Manifest of 300 classes: 1 cell of each, 60 more of class 7, in two groups."""
    names = [f"class {number:03d}" for number in range(300)]
    return Manifest.open(make(tmp_path / "set", 360, [*names, *["class 007"] * 60], ["one", "two"], "k"))


def test_a_table_of_many_classes_has_the_largest_and_one_row_of_all_others(many_classes, capsys):
    drop = many_classes.class_codes == 7
    words = ["--group-by=none", "--name=x", "--no-near", "--jobs=1", "--allow-absent"]
    assert main(["split", str(many_classes.path), *words]) == 0
    tables = {
        "info": (describe_contents(many_classes), "smaller rows", "total"),
        "pack": (describe_dataset(many_classes), "smaller classes", "all"),
        "split": (capsys.readouterr().out, "smaller classes", "all"),
        "qc": ("\n".join(dropped_by_class(many_classes, drop, np.full(360, "cut", object))), "other rows", "total"),
    }
    for name, (text, others, last) in tables.items():
        rows = [line for line in text.splitlines() if line.startswith(("class 0", "class 1", "281 ", last))]
        counts = [[int(word) for word in re.findall(r"(?<= )\d+(?= |$)", row[9:])] for row in rows]
        assert [row[: len(f"281 {others}")] for row in rows].count(f"281 {others}") == 1, (name, text)
        assert len(rows) == 21, name
        assert counts[7][-1 if name == "info" else 0] >= 36, name
        for column in range(2 if name == "qc" else 3):
            assert sum(row[column] for row in counts[:-1]) == counts[-1][column], name


def assert_ends_well(words, capsys):
    """Run a command: status 0, or 2 with a message of two lines at most. Return its output."""
    status = main(words)
    out, err = capsys.readouterr()
    message = "fastcell: error: " + err.rpartition("fastcell: error: ")[2]
    assert status == 0 or (status == 2 and err.endswith(message) and message.count("\n") <= 2), (words[0], err[-2_000:])
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("num", "classes", "groups", "key"), [LONG_NAMES])
def test_every_command(num, classes, groups, key, tmp_path, capsys):
    data = make(tmp_path / "set", num, classes, groups, key)
    assert main(["fit", str(data), f"--out={tmp_path / 'runs'}", *SMALL]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    table = tmp_path / "p.parquet"
    for words in (
        ["info", data, "--figures", tmp_path / "figures"],
        ["verify", data],
        ["qc", data, "--jobs", "1", "--review", tmp_path / "review"],
        ["split", data, "--name", "x", "--no-near", "--jobs", "1", "--allow-absent"],
        ["predict", run, data, "--out", table],
        ["convert", table, tmp_path / "p.csv"],
        ["convert", table, tmp_path / "p.fcs"],
        ["count", table, run],
        ["explain", run, "--cells", "3", "--embed", "50", "--positions", "4"],
        ["report", run, "--cells", "10"],
        ["audit", data, "--permutations", "20", "--cells", "2000", "--jobs", "1"],
    ):
        assert_ends_well([str(word) for word in words], capsys)
