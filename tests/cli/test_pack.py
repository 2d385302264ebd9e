"""The command `fastcell pack`."""

import numpy as np
import pytest
import webdataset
from fixtures.image_files import draw_image, write_image

from fastcell.cli import main as cli
from fastcell.cli.pack import main
from fastcell.dataset.manifest import Manifest
from fastcell.errors import StrictError
from fastcell.packing.pack import pack
from fastcell.sources.registry import FORMATS


def test_help_lists_the_formats(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and kind.help in told for name, kind in FORMATS.items())
    assert "--formats " in told
    assert main(["--formats", "--strict"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert all(f"read: {kind.read} not: {kind.unread}" in words for kind in FORMATS.values())


def test_strict_makes_nothing_and_exits_3(image_files, tmp_path, capsys):
    (image_files / "c8" / "zero.jpg").write_bytes(b"")
    with pytest.raises(StrictError, match=r"1 bad.*c8/zero.jpg"):
        pack(image_files, tmp_path / "to" / "out", strict=True)
    assert list((tmp_path / "to").iterdir()) == []
    assert cli.main(["pack", str(image_files), str(tmp_path / "to" / "out"), "--strict"]) == 3
    assert "fastcell: error: --strict refuses 1 bad" in capsys.readouterr().err
    (image_files / "c8" / "zero.jpg").unlink()
    assert cli.main(["pack", str(image_files), str(tmp_path / "to" / "out"), "--strict"]) == 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_16_bit_needs_its_window(tmp_path, capsys, jobs):
    src, out = tmp_path / "src", tmp_path / "out"
    for i in range(8):
        write_image(src / f"c{i % 2}" / f"{i}.png", np.full((20, 30), 400 + 100 * i, dtype=np.uint16))
    words = ["pack", str(src), str(out), "--jobs", jobs]
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert "--window" in message
    assert "levels from 400 to 1100" in message
    assert ".png'" in message
    assert not out.exists()
    assert cli.main([*words, "--window", "400", "1100"]) == 0
    manifest = Manifest.open(out)
    assert manifest.info.window == [400.0, 1100.0]
    assert set(manifest.column("depth").tolist()) == {16}
    means = dict(zip(manifest.column("key").tolist(), manifest.column("mean_intensity").tolist(), strict=True))
    assert [means[f"c{i % 2}/{i}.png"] for i in range(8)] == pytest.approx([255 * i / 7 for i in range(8)], abs=0.51)


def test_unlabelled_folder_packs(tmp_path, capsys):
    for i in range(10):
        write_image(tmp_path / "src" / f"{i}.png", draw_image(i, (10, 12)))
    assert cli.main(["pack", str(tmp_path / "src"), str(tmp_path / "out")]) == 2
    assert "'{name}' reads it as an unlabelled cell" in capsys.readouterr().err
    words = ["pack", str(tmp_path / "src"), str(tmp_path / "out"), "--pattern", "{name}", "--split", "none"]
    assert cli.main(words) == 0
    manifest = Manifest.open(tmp_path / "out")
    assert manifest.info.classes == []
    assert set(manifest.labels.tolist()) == {-1}
    assert "No cell has a class" in capsys.readouterr().out
    samples = list(webdataset.WebDataset(str(manifest.shard_path(0)), shardshuffle=False))
    assert all("cls" not in sample for sample in samples)


def test_one_class_is_packed_and_said(tmp_path, capsys):
    for i in range(10):
        write_image(tmp_path / "src" / "only" / f"{i}.png", draw_image(i, (10, 12)))
    assert main([str(tmp_path / "src"), str(tmp_path / "out")]) == 0
    assert "All labelled cells are of one class" in capsys.readouterr().out


def test_few_labelled_cells_are_packed_whatever_their_split(tmp_path, capsys):
    """Three cells of three classes cannot be split, ten can: a label that is rare among them is refused."""
    for i, name in enumerate("ABC"):
        write_image(tmp_path / "few" / name / f"{i}.png", draw_image(i, (10, 12)))
    assert main([str(tmp_path / "few"), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "The number of labelled cells (3) is too small" in printed
    assert "next: fastcell fit" not in printed
    for i in range(3, 10):
        write_image(tmp_path / "few" / "A" / f"{i}.png", draw_image(i, (10, 12)))
    assert cli.main(["pack", str(tmp_path / "few"), str(tmp_path / "more")]) == 2
    assert "--allow-absent" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
