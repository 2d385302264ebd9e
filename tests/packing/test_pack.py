"""`fastcell pack`: what lands in the shards, what does not, and that nothing half-made is left behind."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import joblib
import numpy as np
import pytest
import tifffile
import webdataset
from fixtures.image_files import SHAPES, draw_image, write_image

from fastcell.cli import main as cli
from fastcell.cli.pack import main
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.errors import ArgumentError, DataError
from fastcell.packing.pack import pack
from fastcell.sources.registry import open_source
from fastcell.splits.by_group import SUBSETS
from fastcell.splits.make_splits import SplitOptions


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(data):
    """What a shard holds of an image file: its bytes, or the pixels of a TIFF."""
    if data[:2] not in (b"II", b"MM"):
        return data
    file = io.BytesIO()
    np.save(file, tifffile.imread(io.BytesIO(data)))
    return file.getvalue()


def test_stored_bytes_and_rows_are_those_of_the_files(image_files, tmp_path):
    manifest = pack(image_files, tmp_path / "out", shard_cells=16, um_per_px=0.5, collection="day 1", name="mine")
    assert len(manifest) == 60
    assert manifest.info.classes == ["c8", "c9", "c10"]
    assert [shard["num_cells"] for shard in manifest.info.shards] == [16, 16, 16, 12]
    assert (manifest.info.name, manifest.info.um_per_px, manifest.info.num_quarantined) == ("mine", 0.5, 0)
    keys = manifest.column("key").tolist()
    assert sorted(keys) == sorted(str(path.relative_to(image_files)) for path in image_files.rglob("*.*"))
    assert keys != sorted(keys)
    for row in manifest.table.to_pylist():
        data = (image_files / row["key"]).read_bytes()
        with open(manifest.path / row["shard"], "rb") as file:
            file.seek(row["offset"])
            assert file.read(row["bytes"]) == stored(data)
        number = int(Path(row["key"]).stem)
        assert (row["height"], row["width"]) == SHAPES[number % 5]
        assert row["class"] == f"c{number % 3 + 8}"
        assert row["collection"] == "day 1"
        assert row["um_per_px"] == 0.5
    for row, pixels in zip(manifest.table.to_pylist(), read_cells(manifest, range(60)), strict=True):
        number = int(Path(row["key"]).stem)
        if row["encoding"] != "jpg":
            assert (pixels == draw_image(number, SHAPES[number % 5])).all()
        assert row["mean_intensity"] == pytest.approx(pixels.mean(), rel=1e-5)


def test_webdataset_reads_the_shards(image_files, tmp_path):
    manifest = pack(image_files, tmp_path / "out", shard_cells=25)
    urls = [str(manifest.shard_path(i)) for i in range(len(manifest.info.shards))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 60
    for sample, row in zip(samples, manifest.table.to_pylist(), strict=True):
        assert sample[row["encoding"]] == stored((image_files / row["key"]).read_bytes())
        assert int(sample["cls"]) == manifest.info.classes.index(row["class"])


def test_split_is_stratified_and_kept_beside_the_manifest(image_files, tmp_path):
    manifest = pack(image_files, tmp_path / "out", split=SplitOptions((0.6, 0.2, 0.2), seed=4, folds=3))
    sides = manifest.split()
    assert [[int(((manifest.labels == k) & (sides == side)).sum()) for side in SUBSETS] for k in range(3)] == [
        [12, 4, 4]
    ] * 3
    assert manifest.split_names() == ["default", "fold-0", "fold-1", "fold-2"]
    tested = sum((manifest.split(f"fold-{i}") == "test").astype(int) for i in range(3))
    assert (tested == 1).all()
    none = pack(image_files, tmp_path / "none", split=SplitOptions(None))
    assert set(none.split().tolist()) == {""}


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_same_bytes_whatever_the_number_of_jobs(image_files, tmp_path, layout):
    args = {"layout": layout, "shard_cells": 10, "block_cells": 8 if layout == "block" else None}
    one = pack(image_files, tmp_path / "one", jobs=1, **args)
    two = pack(image_files, tmp_path / "two", jobs=2, **args)
    assert len(one.info.shards) > 4
    assert snapshot(one.path) == snapshot(two.path)
    other = pack(image_files, tmp_path / "other", jobs=1, seed=1, **args)
    assert sorted(one.column("key").tolist()) == sorted(other.column("key").tolist())
    assert one.column("key").tolist() != other.column("key").tolist()


def test_joblib_context_of_the_caller_is_obeyed(image_files, tmp_path):
    with joblib.parallel_config(backend="threading", n_jobs=2):
        threads = pack(image_files, tmp_path / "threads", shard_cells=10)
    assert snapshot(threads.path) == snapshot(pack(image_files, tmp_path / "one", shard_cells=10, jobs=1).path)


def test_blocks_hold_cells_of_one_side_in_every_split(image_files, tmp_path):
    manifest = pack(image_files, tmp_path / "out", layout="block", block_cells=6, split=SplitOptions(folds=2))
    blocks = manifest.column("block")
    assert len(manifest) == 60
    for name in manifest.split_names():
        sides = manifest.split(name)
        assert all(len(set(sides[blocks == block].tolist())) == 1 for block in set(blocks.tolist()))
    assert np.bincount(blocks).max() <= 6
    assert (np.array(manifest.blocks().column("split").to_pylist())[blocks] == manifest.split()).all()
    for row, pixels in zip(manifest.table.to_pylist(), read_cells(manifest, range(60)), strict=True):
        number = int(Path(row["key"]).stem)
        if not row["key"].endswith("jpg"):
            assert (pixels == draw_image(number, SHAPES[number % 5])).all()


def test_bad_cells_go_to_quarantine_with_class_and_reason(image_files, tmp_path, capsys):
    (image_files / "c8" / "zero.jpg").write_bytes(b"")
    (image_files / "c9" / "text.png").write_text("no image")
    whole = (image_files / "c9" / "001.jpg").read_bytes()
    (image_files / "c9" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (image_files / "c10" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert main([str(image_files), str(tmp_path / "out")]) == 0
    manifest = Manifest.open(tmp_path / "out")
    assert len(manifest) == 60
    bad = {row["key"]: row for row in manifest.quarantine().to_pylist()}
    assert {key: row["class"] for key, row in bad.items()} == {
        "c8/zero.jpg": "c8",
        "c9/text.png": "c9",
        "c9/cut.jpg": "c9",
        "c10/gone.png": "c10",
    }
    assert bad["c9/cut.jpg"]["reason"] == "truncated"
    assert bad["c10/gone.png"]["reason"].startswith("cannot be read: No such file")
    assert all(row["cell_id"] is None and row["source"] == "cells" and row["reason"] for row in bad.values())
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines() if line.startswith("c9 ")] == [["c9", "13", "3", "4", "20", "2"]]
    assert "quarantined 4 cells" in out
    assert "1 of c9: truncated, e.g. c9/cut.jpg" in out


def test_colour_is_kept_as_stored_and_said_once(tmp_path, capsys):
    for i in range(6):
        write_image(tmp_path / "src" / f"c{i % 2}" / f"{i}.png", draw_image(i, (20, 30, 3) if i < 3 else (20, 30)))
    assert main([str(tmp_path / "src"), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("Images with colour or alpha are read as grey: 3") == 1
    manifest = Manifest.open(tmp_path / "out")
    assert sorted(manifest.column("channels").tolist()) == [1, 1, 1, 3, 3, 3]
    row = manifest.column("key").tolist().index("c0/0.png")
    (pixels,) = read_cells(manifest, [row])
    expected = cv2.cvtColor(draw_image(0, (20, 30, 3)), cv2.COLOR_BGR2GRAY)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_released_lists_bring_their_split(tmp_path):
    src = tmp_path / "release"
    for i in range(20):
        write_image(src / "img" / f"{i}.jpg", draw_image(i, (128, 128)))
    lines = [f"img/{i}.jpg {i % 2}\n" for i in range(20)]
    (src / "train.txt").write_text("".join(lines[:12]))
    (src / "valid.txt").write_text("".join(lines[12:15]))
    (src / "test.txt").write_text("".join(lines[15:]) + "img/99.jpg 1\n")
    (src / "label.txt").write_text("THP1 0\nMCF7 1\n")
    manifest = pack(src, tmp_path / "out")
    assert manifest.info.classes == ["THP1", "MCF7"]
    assert manifest.split_names() == ["default", "paper"]
    paper = dict(zip(manifest.column("key").tolist(), manifest.split("paper").tolist(), strict=True))
    assert [paper[f"img/{i}.jpg"] for i in range(20)] == ["train"] * 12 + ["valid"] * 3 + ["test"] * 5
    assert [row["reason"] for row in manifest.quarantine().to_pylist()] == ["file is missing"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "tar"}, "--layout must be one of"),
        ({"shard_cells": 0}, "--shard-cells must be"),
        ({"block_cells": 0}, "--block-cells must be"),
        ({"seed": -1}, "--seed must be"),
        ({"window": (5.0, 5.0)}, "--window must be two grey levels"),
        ({"um_per_px": 0.0}, "--um-per-px must be micrometres from 1e-6 to 1e6"),
        ({"jobs": 0}, "--jobs must be"),
        ({"split": SplitOptions(folds=61)}, "--folds must be 2 to 60"),
    ],
)
def test_arguments_out_of_rule_are_refused(image_files, tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        pack(image_files, tmp_path / "to" / "out", **options)
    assert not (tmp_path / "to").exists() or list((tmp_path / "to").iterdir()) == []


def test_no_usable_cell_and_empty_folder_make_nothing(tmp_path):
    src = tmp_path / "src"
    (src / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="must hold images"):
        pack(src, tmp_path / "out")
    (src / "a" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable cell: 1 bad"):
        pack(src, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_out_that_is_there_is_never_touched(image_files, tmp_path):
    out = tmp_path / "out"
    pack(image_files, out)
    before = snapshot(out)
    with pytest.raises(ArgumentError, match=r"OUT must be .*It contains a data set"):
        pack(image_files, out, seed=1)
    assert snapshot(out) == before
    with pytest.raises(DataError, match=r"cannot be written.*(exists|Not a directory)"):
        pack(image_files, image_files / "c8" / "000.png" / "out")


def test_no_write_permission_is_said(image_files, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root, as in a container, may write everywhere
    with pytest.raises(DataError, match=r"out cannot be written: Permission denied .* name another place"):
        pack(image_files, tmp_path / "out")


def test_killed_worker_is_explained(image_files, tmp_path, monkeypatch):
    source = open_source(image_files)
    killing = SimpleNamespace(
        name="cells",
        describe=source.describe,
        scan=source.scan,
        stamp=source.stamp,
        load=lambda item: os.kill(os.getpid(), signal.SIGKILL),
    )
    monkeypatch.setattr("fastcell.packing.pack.open_source", lambda *arguments: killing)
    with pytest.raises(DataError, match=r"a worker process was killed.*--jobs"):
        pack(image_files, tmp_path / "to" / "out", jobs=2, shard_cells=30)
    assert list((tmp_path / "to").iterdir()) == []


def run(*words, limit_bytes=None):
    def limit():
        import resource

        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    environment = dict(os.environ, PYTHONPATH=str(Path(cli.__file__).parents[2]))
    return subprocess.run(
        [sys.executable, "-m", "fastcell", "pack", *words],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=environment,
    )


def test_full_disk_leaves_nothing(image_files, tmp_path):
    result = run(str(image_files), str(tmp_path / "to" / "out"), limit_bytes=20_000)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"fastcell: error: {tmp_path}/to/out cannot be written: ")
    assert list((tmp_path / "to").iterdir()) == []


def test_donors_are_never_on_two_sides(real_data, tmp_path):
    result = run(
        str(real_data / "tcell"), str(tmp_path / "out"), "--pattern", "{group}/{class}/{name}", "--folds", "groups"
    )
    assert result.returncode == 0, result.stderr
    manifest = Manifest.open(tmp_path / "out")
    assert len(manifest) == 656
    assert manifest.groups is not None
    for name in ("default", "fold-0", "fold-1", "fold-2", "fold-3"):
        sides = manifest.split(name)
        assert set(sides.tolist()) == set(SUBSETS)
        assert all(len(set(sides[manifest.groups[:] == f"donor_{i}"].tolist())) == 1 for i in range(1, 5))
    assert [set(manifest.groups[manifest.split(f"fold-{i}") == "test"].tolist()) for i in range(4)] == [
        {"donor_1"},
        {"donor_2"},
        {"donor_3"},
        {"donor_4"},
    ]
    assert "share" in result.stdout
    assert "61.1 %" in result.stdout


def test_real_cells_pack(real_data, tmp_path):
    jurkat = pack(real_data / "jurkat", tmp_path / "jurkat", split=SplitOptions(folds=5))
    assert len(jurkat) == 2393
    assert jurkat.info.num_quarantined == 0
    assert set(jurkat.column("height").tolist()) == {40}
    sides = jurkat.split()
    assert np.abs(np.array([(sides == side).mean() for side in SUBSETS]) - (0.65, 0.15, 0.20)).max() < 0.002
    assert all(((jurkat.split(f"fold-{i}") == "test") & (jurkat.labels == 0)).any() for i in range(5))
    atom = pack(real_data / "atom-samples", tmp_path / "atom", pattern="{class}_{name}", strict=True)
    assert np.bincount(atom.labels).tolist() == [6, 8, 8, 8]
    assert set(zip(atom.column("height").tolist(), atom.column("width").tolist(), strict=True)) == {(128, 128)}


def test_memory_by_need(image_files, tmp_path):
    """A kilobyte of image asks for a kilobyte: under 3 GiB of addresses, and 300 MiB more than the libraries take."""
    code = (
        "import resource, sys; from fastcell.packing.pack import pack; from fastcell.dataset.decode import decode;"
        "decode(open(sys.argv[3], 'rb').read(), 'tif');"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'));"
        "limit = min(3 << 30, (int(status['VmSize'].split()[0]) << 10) + (300 << 20));"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit));"
        "print(len(pack(sys.argv[1], sys.argv[2], jobs=1)))"
    )
    paths = [str(image_files), str(tmp_path / "out"), str(next(image_files.rglob("*.tif")))]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "60", done.stderr
