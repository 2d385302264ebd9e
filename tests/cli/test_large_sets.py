"""200 classes, 10,000 groups and very long names, through the commands."""

import numpy as np
import pytest

from fastcell.cli.main import main
from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
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
        shard = write_cell_shard(folder / "shard-000000.tar", records, None, sorted(classes))
        return finish_dataset(folder, out, [shard], DatasetInfo("large", sorted(classes)), {"default": sides}).path


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
        assert_ends_well([str(word) for word in words], capsys)


def assert_ends_well(words, capsys):
    """Run a command: status 0, or 2 with a message of two lines at most."""
    status = main(words)
    err = capsys.readouterr().err
    message = "fastcell: error: " + err.rpartition("fastcell: error: ")[2]
    assert status == 0 or (status == 2 and err.endswith(message) and message.count("\n") <= 2), (words[0], err[-2_000:])


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
