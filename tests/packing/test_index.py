"""`fastcell index` on tars of the webdataset library, GNU tar and Python: the same cells, labels and bytes."""

import json
import resource
import shutil
import subprocess
import tarfile

import cv2
import joblib
import numpy as np
import pytest
import webdataset

from fastcell.cli.index import main
from fastcell.dataset import tar
from fastcell.dataset.dataset_info import DatasetInfo, read_info
from fastcell.dataset.decode import decode
from fastcell.dataset.manifest import Manifest
from fastcell.errors import ArgumentError, DataError, StrictError
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.index import index
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_cell_shard
from fastcell.sources.webdataset_samples import find_tars
from fastcell.splits.make_splits import SplitOptions
from fastcell.storage.staging import staging


def image(seed, extension="png", deep=False):
    pixels = cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (20, 30)).astype(np.uint8), (0, 0), 2)
    return cv2.imencode(f".{extension}", pixels.astype(np.uint16) * 16 if deep else pixels)[1].tobytes()


def write(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".d")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        for name, data in files:
            source.write_bytes(data if isinstance(data, bytes) else str(data).encode())
            file.add(source, name)
    source.unlink()
    return path.parent


def stored(manifest):
    rows = manifest.table.select(["shard", "offset", "bytes"]).to_pylist()
    return [(manifest.path / row["shard"]).read_bytes()[row["offset"] :][: row["bytes"]] for row in rows]


def test_tars_of_the_webdataset_library(tmp_path):
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"s-{shard}.tar")) as writer:
            for i in range(6):
                key = f"{6 * shard + i:04d}"
                writer.write({"__key__": key, "png": image(6 * shard + i), "cls": i % 3, "json": {"donor": f"d{i}"}})
    manifest = index(tmp_path)
    assert manifest.column("key").tolist() == [f"{i:04d}.png" for i in range(12)]
    assert manifest.info.classes == ["0", "1", "2"]
    assert manifest.labels.tolist() == [0, 1, 2, 0, 1, 2] * 2
    assert manifest.groups[:].tolist() == [f"d{i}" for i in range(6)] * 2
    assert stored(manifest) == [image(i) for i in range(12)]
    assert set(manifest.split().tolist()) == {"train", "valid", "test"}
    for donor in set(manifest.groups[:]):
        assert len(set(manifest.split()[manifest.groups[:] == donor])) == 1
    assert {tuple(row.values()) for row in manifest.table.select(["height", "width", "depth"]).to_pylist()} == {
        (20, 30, 8)
    }


def test_it_measures_as_pack_does(tmp_path):
    given = [Record(f"{i}.png", image(i), "png", "A", um_per_px=0.5) for i in range(5)]
    with staging(tmp_path / "packed") as folder:
        result = write_cell_shard(folder / "s.tar", given, None, ["A"])
        packed = finish_dataset(folder, tmp_path / "packed", [result], DatasetInfo("x", ["A"]))
    (tmp_path / "tars").mkdir()
    shutil.copy(tmp_path / "packed" / "s.tar", tmp_path / "tars" / "s.tar")
    (tmp_path / "tars" / "classes.txt").write_text("A\n")
    assert index(tmp_path / "tars", um_per_px=0.5).table.equals(packed.table)


@pytest.mark.parametrize("tar_format", ["gnu", "pax", "ustar", "v7"])
def test_real_cells_through_gnu_tar(tmp_path, real_data, tar_format):
    command = ["tar", f"--format={tar_format}", "-cf", str(tmp_path / "a.tar"), "-C", str(real_data), "atom-samples"]
    subprocess.run(command, check=True)
    manifest = index(tmp_path, pattern="*/{class}_{name}", split=SplitOptions((0.5, 0.0, 0.5)))
    assert manifest.info.classes == ["MB231", "MCF7", "PBMC", "THP1"]
    assert np.bincount(manifest.labels).tolist() == [6, 8, 8, 8]
    for key, data in zip(manifest.column("key"), stored(manifest), strict=True):
        assert data == (real_data / key).read_bytes()


def test_long_names_folders_extensions_and_missing_labels(tmp_path, capsys):
    long = "run/" + "n" * 200
    files = [(f"{long}.PNG", image(0)), (f"{long}.cls", "G1"), ("./b.tiff", image(1, "tiff")), ("b.txt", "caption")]
    files += [("c.jpg", image(2, "jpg")), ("c.png", image(2)), ("c.json", json.dumps({"class": "G2"})), ("d.cls", "G2")]
    write(tmp_path / "sub" / "a.tar", files)
    main([str(tmp_path), "--split", "none", "--name", "wild"])
    output = capsys.readouterr()
    manifest = Manifest.open(tmp_path)
    assert manifest.column("key").tolist() == [f"{long}.PNG", "b.tiff", "c.jpg"]
    assert manifest.column("shard").tolist() == ["sub/a.tar"] * 3
    assert manifest.column("encoding").tolist() == ["png", "tif", "jpg"]
    assert manifest.column("class").tolist() == ["G1", None, "G2"]
    assert manifest.split().tolist() == ["", "", ""]
    assert stored(manifest)[:2] == [image(0), image(1, "tiff")]
    assert "samples without an image are left out: 1" in output.err
    assert "members that are not read: .txt 1, .png 1" in output.err
    assert "wild: 3 cells in 1 shard" in output.out


def test_class_file_names_numbers(tmp_path):
    write(tmp_path / "a.tar", [("a.png", image(0)), ("a.cls", 2), ("b.png", image(1)), ("b.cls", 0)])
    (tmp_path / "classes.txt").write_text("THP1\nMCF7\nPBMC\n")
    manifest = index(tmp_path)
    assert manifest.info.classes == ["THP1", "MCF7", "PBMC"]
    assert manifest.column("class").tolist() == ["PBMC", "THP1"]
    assert manifest.labels.tolist() == [2, 0]


def test_same_names_in_several_tars_and_twice_in_one(tmp_path):
    write(tmp_path / "a.tar", [("0.png", image(0)), ("0.cls", 0), ("0.png", image(1)), ("0.cls", 1)])
    write(tmp_path / "b.tar", [("0.png", image(2)), ("0.cls", 1)])
    manifest = index(tmp_path)
    assert manifest.column("key").tolist() == ["a.tar/0.png", "a.tar/0.png#2", "b.tar/0.png"]
    assert manifest.labels.tolist() == [0, 1, 1]
    assert stored(manifest) == [image(i) for i in range(3)]


BAD = [
    ("empty.png", b"", "empty file"),
    ("cut.png", image(1)[:200], "truncated"),
    ("short.jpg", image(1, "jpg")[:-2], "truncated"),
    ("early.jpg", image(1, "jpg")[:-80] + b"\xff\xd9", "damaged: Corrupt JPEG data: premature end of data segment"),
    ("text.jpg", b"text", "not an image"),
]


def test_bad_cells_go_to_quarantine(tmp_path, capfd):
    folder = write(
        tmp_path / "t" / "a.tar", [("ok.png", image(0)), ("ok.cls", 0), *((name, data) for name, data, _ in BAD)]
    )
    with pytest.raises(StrictError, match=r"--strict refuses 5 bad cells: truncated \(2\)"):
        index(folder, strict=True)
    assert not (folder / "dataset.json").exists()
    assert main([str(folder)]) == 0
    manifest = Manifest.open(folder)
    assert manifest.column("key").tolist() == ["ok.png"]
    bad = manifest.quarantine().select(["key", "source", "reason"]).to_pylist()
    assert [tuple(row.values()) for row in bad] == [(name, "a.tar", reason) for name, _, reason in BAD]
    assert manifest.info.num_quarantined == 5
    output = capfd.readouterr()
    assert "Corrupt" not in output.err
    assert "quarantined 5 cells" in output.out


def test_recordings_of_one_class_each_are_indexed_with_a_caution(tmp_path, capsys):
    """An index chooses no cells, so it says what a pack would refuse, and does not advise training."""
    names = [f"{name}_{number}.png" for name in ("alive/rec1", "dead/rec2") for number in range(6)]
    write(tmp_path / "a.tar", [(name, image(place)) for place, name in enumerate(names)])
    words = [str(tmp_path), "--split", "50/0/50", "--jobs", "1", "--overwrite"]
    assert main([*words, "--pattern", "{class}/{group}_{name}"]) == 0
    output = capsys.readouterr()
    expected = "note: Caution: class and group cannot be told apart: alive is from group rec1 only, dead is from"
    assert expected in output.out
    assert "next: fastcell qc" in output.out
    assert "next: fastcell fit" not in output.out
    assert main([*words, "--pattern", "{class}/{name}"]) == 0
    output = capsys.readouterr()
    assert "Caution" not in output.out
    assert "next: fastcell fit" in output.out


def test_links_in_the_tar_go_to_quarantine(tmp_path):
    (tmp_path / "a.png").write_bytes(image(0))
    (tmp_path / "b.png").hardlink_to(tmp_path / "a.png")
    subprocess.run(["tar", "-cf", "t.tar", "a.png", "b.png"], check=True, cwd=tmp_path)
    manifest = index(tmp_path)
    assert manifest.column("key").tolist() == ["a.png"]
    assert manifest.quarantine().column("reason").to_pylist() == ["link or sparse file in the tar"]


def test_unreadable_labels_are_counted(tmp_path, capsys):
    write(
        tmp_path / "a.tar",
        [("a.png", image(0)), ("a.cls", ""), ("b.png", image(1)), ("b.json", "{"), ("c.png", image(2))],
    )
    manifest = index(tmp_path, verbose=True)
    assert manifest.labels.tolist() == [-1, -1, -1]
    assert "cells whose label cannot be read count as unlabelled: 2" in capsys.readouterr().err


def test_sixteen_bit_needs_its_window(tmp_path):
    write(tmp_path / "a.tar", [("a.png", image(0, deep=True))])
    with pytest.raises(ArgumentError, match=r"--window must be given for 16-bit cells .* --window \d+ \d+"):
        index(tmp_path)
    assert not (tmp_path / "dataset.json").exists()
    manifest = index(tmp_path, window=(0, 4080))
    assert manifest.info.window == [0.0, 4080.0]
    assert manifest.column("depth").tolist() == [16]
    assert manifest.column("mean_intensity")[0] == pytest.approx(decode(image(0), "png").pixels.mean(), rel=1e-6)


def test_a_folder_of_its_own(tmp_path):
    tars = write(tmp_path / "tars" / "a.tar", [("a.png", image(0)), ("bad.png", b"")])
    write(tmp_path / "tars" / "empty.tar", [("bad.png", b"")])
    before = {path.name: path.read_bytes() for path in tars.iterdir()}
    manifest = index(tars, out=tmp_path / "out" / "set")
    assert manifest.column("shard").tolist() == ["../../tars/a.tar"]
    assert stored(manifest) == [image(0)]
    assert {path.name: path.read_bytes() for path in tars.iterdir()} == before
    assert manifest.info.num_quarantined == 2
    with pytest.raises(ArgumentError, match="OUT must be a new or empty folder"):
        index(tars, out=tmp_path / "out" / "set")


def test_a_manifest_that_is_there(tmp_path):
    write(tmp_path / "a.tar", [("a.png", image(0)), ("b.png", image(1)), ("bad.png", b"")])
    index(tmp_path)
    with pytest.raises(ArgumentError, match="Give --overwrite"):
        index(tmp_path)
    write(tmp_path / "a.tar", [("a.png", image(0))])
    assert len(index(tmp_path, overwrite=True, split=SplitOptions(None))) == 1
    assert not (tmp_path / "quarantine.parquet").exists()
    (tmp_path / "verdicts.csv").write_text("cell_id,verdict\n0,drop\n")
    with pytest.raises(ArgumentError, match=r"Move verdicts.csv away"):
        index(tmp_path, overwrite=True)
    text = (tmp_path / "dataset.json").read_text().replace(read_info(tmp_path).created_by, "fastcell 0.1.0")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ArgumentError, match="fastcell packed it"):
        index(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (lambda folder: None, DataError, "must hold WebDataset tars, got none"),
        (lambda folder: (folder / "a.tar.gz").write_bytes(b"x"), DataError, "1 compressed tars, the first a.tar.gz"),
        (lambda folder: (folder / "a.tar").write_bytes(b"x" * 2000), DataError, "a.tar is not a tar file"),
        (
            lambda folder: write(folder / "a.tar", [("a.txt", "x")]),
            DataError,
            "no usable cell: no jpg, png, tif or npy in .*a.tar",
        ),
        (
            lambda folder: write(folder / "a.tar", [("a.png", "x")]),
            DataError,
            r"no usable cell: 1 bad cell: not an image \(1\)",
        ),
    ],
)
def test_folders_that_cannot_be_indexed(tmp_path, prepare, error, message):
    prepare(tmp_path)
    with pytest.raises(error, match=message):
        index(tmp_path)
    assert not (tmp_path / "dataset.json").exists()


def test_a_tar_that_ends_early_gives_no_cell(tmp_path):
    write(tmp_path / "a.tar", [(f"{i}.png", image(i)) for i in range(20)])
    path = tmp_path / "a.tar"
    path.write_bytes(path.read_bytes()[:15_000])
    with pytest.raises(DataError, match=r"a.tar is truncated.*none of its cells were used"):
        index(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.tar"]


def test_arguments_that_cannot_be(tmp_path):
    write(tmp_path / "a.tar", [("G1/a.png", image(0))])
    for arguments, message in (
        ({"window": (5, 5)}, "--window must be two grey levels"),
        ({"um_per_px": 0.0}, "--um-per-px must be micrometres from 1e-6 to 1e6"),
        ({"pattern": "{group}/{class}/{name}"}, "--pattern must be one that matches .* It does not match G1/a.png"),
        ({"jobs": 0}, "--jobs must be from 1 to 10,000"),
    ):
        with pytest.raises(ArgumentError, match=message):
            index(tmp_path, **arguments)
    with pytest.raises(ArgumentError, match="TARS must be a folder"):
        find_tars(tmp_path / "a.tar")


def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcell.packing.read_tars._PART_CELLS", 3)
    write(tmp_path / "a.tar", [(f"{i}.png", image(i)) for i in range(10)])
    one = index(tmp_path, jobs=1, um_per_px=1.0)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        three = index(tmp_path, overwrite=True, um_per_px=1.0)
    assert one.table.equals(three.table)
    assert one.split().tolist() == three.split().tolist()


def test_label_files_and_images_of_any_size_take_no_memory(tmp_path):
    for name, size in (("a.cls", 1 << 32), ("b.png", 1 << 33)):
        header = bytearray(tar.make_header(name.encode(), min(size, (8 << 30) - 1)))
        good = [("a.png", image(1)), ("c.png", image(2))]
        body = b"".join(tar.make_header(n.encode(), len(d)) + d + tar.padding(len(d)) for n, d in good)
        with open(tmp_path / "s.tar", "wb") as file:  # a file of holes: it takes no room on the disk
            file.write(body + bytes(header))
            file.seek(len(body) + 512 + min(size, (8 << 30) - 1) + (-min(size, (8 << 30) - 1) % 512))
            file.write(tar.END)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        manifest = index(tmp_path, jobs=1, overwrite=True)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
        assert manifest.column("key").tolist() == ["a.png", "c.png"]
        bad = manifest.quarantine().column("reason").to_pylist()
        assert bad == ([] if name == "a.cls" else ["too large: 8,589,934,591 bytes"])
