"""Commands and training on data sets of object stores and web servers: the results are those from disk."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fixtures.stores import serve_folder

from fastcell.cli.main import COMMANDS, main
from fastcell.dataset.manifest import Manifest

FIT = [
    "--preset=fast",
    "--data.image_size=16",
    "--data.batch_size=16",
    "--data.threads=1",
    "--data.store=stream",
    "--trainer.max_epochs=2",
    "--checkpoint_every_steps=2",
]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Folder of 240 simulated cells in 12 shards."""
    from fastcell.simulator.synth import synthesize

    path = tmp_path_factory.mktemp("on-disk") / "cells"
    synthesize(path, 240, seed=0, shard_cells=20, jobs=1)
    return path


@pytest.fixture
def store(cells, tmp_path, tmp_cache):
    """Web server of a copy of the data set; the cache folder is new."""
    shutil.copytree(cells, tmp_path / "served" / "cells")
    with serve_folder(tmp_path / "served") as served:
        yield served


def run_of(runs):
    (folder,) = runs.iterdir()
    return folder


def weights(run):
    checkpoint = run / "best.ckpt" if (run / "best.ckpt").exists() else run / "last.ckpt"
    return torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]


def same_weights(first, second):
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def digest(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_info_and_verify(store, cells, capsys):
    address = f"{store.url}/cells"
    assert main(["info", str(cells)]) == 0
    on_disk = capsys.readouterr().out
    assert main(["info", address]) == 0
    assert capsys.readouterr().out == on_disk.replace(str(cells), address)
    assert main(["verify", address]) == 0
    path = store.folder / "cells" / "shard-000003.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    assert main(["verify", address]) == 1
    assert "other bytes than were packed" in capsys.readouterr().out
    path.unlink()
    assert main(["verify", address]) == 1
    assert f"the shard is missing from {address}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "s3x://bucket/cells"], "address must be one whose scheme is known"),
        (["info", "https://me:secret@host/cells"], "DATA must be an address without a password"),
        (["pack", "http://host/images", "cells"], "must be a path on this machine, got 'http://host/images'"),
        (["predict", "s3://bucket/run", "cells", "--out", "x.csv"], "must be a path on this machine, got 's3:"),
        (["info", "http://host/cells", "--figures", "s3://bucket/x"], "--figures must be a path on this machine"),
        (["explain", "run", "--out", "s3://bucket/x"], "--out must be a path on this machine"),
        (["report", "run", "-o", "s3://bucket/x.html"], "-o must be a path on this machine"),
        (["pack", "images", "--out", "http://host/x"], "OUT must be a place that can be written"),
        (["export", "http://host/run", "x.onnx"], "must be a path on this machine, got 'http://host/run'"),
        (["export", "run", "s3://bucket/x.onnx"], "must be a path on this machine, got 's3://bucket/x.onnx'"),
        (["convert", "s3://bucket/x.parquet", "x.csv", "--data", "cells"], "must be a path on this machine, got 's3:"),
        (["compare", "cells", "--out", "s3://bucket/x"], "--out must be a path on this machine"),
        (["distill", "run", "cells", "--out", "s3://bucket/x"], "--out must be a path on this machine"),
    ],
)
def test_other_addresses_are_refused(words, message, capsys):
    assert main(words) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "secret" not in text


WORDS = {
    "audit": "AT",
    "bench": "AT",
    "compare": "AT",
    "convert": "AT x.csv|x.parquet AT|x.parquet x.csv --data AT",
    "count": "AT run|x.parquet AT|x.parquet run --out AT",
    "distill": "AT cells|run AT|run cells --out AT",
    "explain": "AT|run --out AT",
    "export": "AT x.onnx|run AT|run x.onnx --data AT",
    "fit": "AT|cells --out AT|cells --start_from AT",
    "index": "AT|cells --out AT",
    "info": "AT|cells --figures AT",
    "pack": "AT cells|images AT|images --out AT",
    "predict": "AT cells --out x.csv|run AT --out x.csv|run cells --out AT",
    "qc": "AT|cells --review AT",
    "report": "AT|run --out AT",
    "review": "AT",
    "serve": "AT",
    "split": "AT|cells --group-by AT",
    "synth": "AT --cells 12",
    "test": "AT|run AT",
    "validate": "AT|run AT",
    "verify": "AT|cells --list AT",
    "watch": "AT images --out x.csv|run AT --out x.csv|run images --out AT",
}
"""Places of addresses in the words of each command."""


def test_every_command_has_words():
    assert set(WORDS) == set(COMMANDS) - {"completion", "doctor"}


@pytest.mark.parametrize("at", ["s3:///cells", "nonsense://bucket/cells", "simplecache::memory://cells", "http://0/c"])
def test_no_command_takes_a_wrong_address(at, tmp_path, tmp_cache, monkeypatch, capsys):
    """Each command ends with one line, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastcell.remote.place.TRIES", 1)
    for command, texts in WORDS.items():
        for text in texts.split("|"):
            words = [command, *text.replace("AT", at).split()]
            capsys.readouterr()
            assert main(words) == 2, words
            error = capsys.readouterr().err
            assert error.startswith("fastcell: error: "), (words, error)
            assert error.count("\n") == 1, (words, error)
            assert [path.name for path in tmp_path.iterdir() if path != tmp_cache] == [], words


def test_batches_are_those_on_disk(store, cells, tmp_path):
    from fastcell.loading.datamodule import CellDataModule

    store.faults.every = 11
    found = []
    for path, options in (
        (str(cells), {}),
        (f"{store.url}/cells", {"cache": str(tmp_path / "objects"), "cache_gib": 1}),
    ):
        data = CellDataModule(path, image_size=16, batch_size=32, store="stream", threads=1, seed=3, **options)
        data.setup("fit")
        found.append([(batch.images.numpy(), batch.cell_ids.numpy()) for batch in data.train_dataloader()])
        data.teardown("fit")
    for (images, ids), (expected, expected_ids) in zip(found[1], found[0], strict=True):
        assert np.array_equal(ids, expected_ids)
        assert np.array_equal(images, expected)
    assert list((tmp_path / "objects" / "objects").rglob("*.tar"))


@pytest.mark.slow
def test_commands_give_the_files_of_the_disk(store, cells, tmp_path, capsys):
    address = f"{store.url}/cells"
    store.faults.every = 100
    store.faults.bytes_per_s = 50e6
    for name, data in (("disk", str(cells)), ("web", address)):
        assert main(["fit", data, f"--runs={tmp_path / name}", *FIT]) == 0
    disk, web = run_of(tmp_path / "disk"), run_of(tmp_path / "web")
    assert same_weights(disk, web)
    for name in ("predictions.parquet", "metrics.csv", "confusion.csv"):
        assert digest(disk / name) == digest(web / name), name
    for name, run, data in (("disk", disk, str(cells)), ("web", web, address)):
        assert main(["predict", str(run), data, "--out", str(tmp_path / f"{name}.csv")]) == 0
    assert digest(tmp_path / "disk.csv") == digest(tmp_path / "web.csv")
    assert main(["test", str(web)]) == 0
    assert main(["validate", str(web)]) == 0
    assert main(["explain", str(web), "--out", str(tmp_path / "figures")]) == 0
    assert main(["report", str(web), "--out", str(tmp_path / "report.html")]) == 0
    assert main(["audit", address, "--permutations", "20", "--out", str(tmp_path / "audit")]) == 0
    capsys.readouterr()
    assert main(["qc", address]) == 2
    assert "DATA must be in a place that can be written" in capsys.readouterr().err
    assert address in (web / "config.yaml").read_text()


def test_splits_are_written_beside_the_shards(cells, tmp_path, tmp_cache):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(cells), "/split/cells", recursive=True)
    shutil.copytree(cells, tmp_path / "cells")
    address = "memory://split/cells"
    words = ["--folds", "2", "--name", "cv", "--jobs", "1", "--no-near"]
    for place in (address, str(tmp_path / "cells")):
        assert main(["split", place, *words]) == 0
    for name in ("duplicates.parquet", "splits/cv.parquet", "splits/cv-fold-0.parquet", "splits/cv-fold-1.parquet"):
        assert memory.cat(f"/split/cells/{name}") == (tmp_path / "cells" / name).read_bytes(), name
    assert main(["split", address, "--name", "cv", "--jobs", "1", "--no-near", "--force"]) == 0
    assert Manifest.open(address).split_names() == ["cv", "default"]
    assert not memory.exists("/split/cells/splits/cv-fold-0.parquet")
    memory.rm("/split", recursive=True)


def test_a_web_server_takes_no_split(store, capsys):
    assert main(["split", f"{store.url}/cells"]) == 2
    assert "DATA must be in a place that can be written" in capsys.readouterr().err


@pytest.mark.slow
def test_studies_and_students_are_those_of_the_disk(store, cells, tmp_path):
    address = f"{store.url}/cells"
    for name, data in (("disk", str(cells)), ("web", address)):
        study = ["--methods", "knn,svm", "--volumes", "1", "--seeds", "1", "--splits", "default", "--jobs", "1"]
        assert main(["compare", data, "--out", str(tmp_path / f"study-{name}"), *study]) == 0
        assert main(["fit", data, f"--runs={tmp_path / name}", *FIT]) == 0
        run, students = run_of(tmp_path / name), tmp_path / f"students-{name}"
        options = ["--budget", "1s", "--model.network=cellnet", "--data.image_size=24", "--trainer.max_epochs=1"]
        assert main(["distill", str(run), data, "--out", str(students), *options]) == 0
        assert main(["predict", str(run), data, "--out", str(tmp_path / f"{name}.parquet")]) == 0
        assert main(["convert", str(tmp_path / f"{name}.parquet"), str(tmp_path / f"{name}.csv"), "--data", data]) == 0
        assert main(["export", str(run), str(tmp_path / f"{name}.onnx"), "--data", data, "--check", "20"]) == 0
    results = [sorted((tmp_path / f"study-{name}").rglob("*.csv")) for name in ("disk", "web")]
    assert [path.name for path in results[0]] == [path.name for path in results[1]]
    assert same_weights(run_of(tmp_path / "students-disk"), run_of(tmp_path / "students-web"))
    assert digest(tmp_path / "disk.csv") == digest(tmp_path / "web.csv")


@pytest.mark.slow
def test_damaged_cells_are_lost_as_on_disk(store, cells, tmp_path):
    broken = store.folder / "cells"
    manifest = Manifest.open(broken)
    path = manifest.shard_path(2)
    data = bytearray(path.read_bytes())
    for row in np.flatnonzero(manifest.shard_index == 2)[:3]:
        data[manifest.column("offset")[row] + 9] ^= 255
    path.write_bytes(data)
    manifest.shard_path(5).unlink()
    shutil.copytree(broken, tmp_path / "broken")
    for name, place in (("disk", str(tmp_path / "broken")), ("web", f"{store.url}/cells")):
        assert main(["fit", place, f"--runs={tmp_path / name}", *FIT]) == 0
    disk, web = run_of(tmp_path / "disk"), run_of(tmp_path / "web")
    assert same_weights(disk, web)
    assert (disk / "losses.csv").read_text() == (web / "losses.csv").read_text()
    assert len((web / "losses.csv").read_text().splitlines()) == 1 + 3 + 20


@pytest.mark.slow
def test_a_killed_run_goes_on_from_s3(s3_store, cells, tmp_path, tmp_cache):
    address = s3_store.put(cells, "cells")
    s3_store.faults.every = 100
    assert main(["fit", str(cells), f"--runs={tmp_path / 'disk'}", *FIT, "--trainer.max_epochs=6"]) == 0
    command = [sys.executable, "-m", "fastcell", "fit", address, f"--runs={tmp_path / 's3'}", *FIT]
    process = subprocess.Popen([*command, "--trainer.max_epochs=6"], start_new_session=True)
    while not list((tmp_path / "s3").glob("*/*.ckpt")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = run_of(tmp_path / "s3")
    assert main(["fit", "--resume", str(folder)]) == 0
    assert same_weights(run_of(tmp_path / "disk"), folder)


@pytest.mark.slow
def test_two_ranks_share_one_cache(store, cells, tmp_path):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    for name, place in (("disk", str(cells)), ("web", f"{store.url}/cells")):
        command = [sys.executable, "-m", "fastcell", "fit", place, f"--runs={tmp_path / name}", *FIT, *two]
        assert subprocess.run(command, timeout=250).returncode == 0
    assert same_weights(run_of(tmp_path / "disk"), run_of(tmp_path / "web"))
    shards = [path.name for path in (store.folder / "cells").glob("*.tar")]
    assert [store.faults.bytes_of(name) for name in shards] == [1] * len(shards)
