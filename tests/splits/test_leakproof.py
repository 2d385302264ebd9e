"""pack never puts exact copies on two sides: default and folds, both layouts, with and without groups."""

import cv2
import numpy as np
import pytest

from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.packing.index import index
from fastcell.packing.pack import pack
from fastcell.packing.verify import verify
from fastcell.splits.by_group import SUBSETS, split_by_group
from fastcell.splits.copies.exact import exact_sets
from fastcell.splits.leakproof import Copies, make_leakproof_splits
from fastcell.splits.make_splits import SplitOptions


@pytest.fixture
def donors(tmp_path):
    """Five donors of 2 x 20 cells; donor_3 has a turned cell of donor_1, and donors 0 and 2 a blank frame each."""
    rng = np.random.default_rng(0)
    for donor in range(5):
        for name in "AB":
            folder = tmp_path / "src" / f"donor_{donor}" / name
            folder.mkdir(parents=True)
            for number in range(20):
                cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (12, 12)).astype(np.uint8))
    source = tmp_path / "src"
    image = cv2.imread(str(source / "donor_1" / "A" / "3.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(source / "donor_3" / "A" / "copy.png"), np.rot90(np.asarray(image)))
    for donor in (0, 2):
        cv2.imwrite(str(source / f"donor_{donor}" / "A" / "blank.png"), np.full((12, 12), 9, np.uint8))
    return source


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_groups_with_a_common_cell_go_together_and_are_named(donors, tmp_path, layout, capsys):
    options = SplitOptions(folds=3)
    pattern = "{group}/{class}/{name}"
    manifest = pack(donors, tmp_path / "out", pattern=pattern, layout=layout, split=options, jobs=1, verbose=True)
    said = capsys.readouterr().err
    assert "donor_1, donor_3 share copies" in said
    assert "copy.png" in said
    found = exact_sets(manifest)
    assert len(found) == 2
    keys, groups = manifest.column("key"), manifest.groups[:]
    assert groups is not None
    blank = np.array(["blank" in key for key in keys])
    for name in manifest.split_names():
        sides = manifest.split(name)
        assert len(found.spanning(sides)) == 0
        for donor in set(groups.tolist()):
            assert len(set(sides[(groups == donor) & ~blank].tolist())) == 1
        assert set(sides[np.isin(groups, ["donor_1", "donor_3"]) & ~blank].tolist()) < set(SUBSETS)
        assert set(sides[blank].tolist()) in ({""}, {"train"}, {"valid"}, {"test"})
    assert verify(manifest.path).whole
    assert len(select(manifest, ViewConfig("train"))) == (manifest.split() == "train").sum()


def test_too_few_groups_left_takes_the_copies_out(donors, tmp_path, capsys):
    pattern = "{group}/{class}/{name}"
    options = SplitOptions(folds=5)
    manifest = pack(donors, tmp_path / "out", pattern=pattern, split=options, jobs=1, verbose=True)
    assert "copies are in no subset" in capsys.readouterr().err
    keys = manifest.column("key").tolist()
    pair = [keys.index("donor_1/A/3.png"), keys.index("donor_3/A/copy.png")]
    for name in manifest.split_names():
        assert manifest.split(name)[pair].tolist() == ["", ""]


def test_index_keeps_copies_together(donors, tmp_path):
    packed = pack(donors, tmp_path / "packed", pattern="*/{class}/{name}", jobs=1)
    for name in ("dataset.json", "manifest.parquet"):
        (packed.path / name).unlink()
    manifest = index(packed.path, out=tmp_path / "indexed", split=SplitOptions(folds=4), jobs=1)
    found = exact_sets(manifest)
    assert len(found) == 2
    assert [len(found.spanning(manifest.split(name))) for name in manifest.split_names()] == [0] * 5


def test_units_stay_together_with_exact_shares_and_little_moves():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 5000)
    sets = np.where(rng.random(5000) < 0.6, rng.integers(0, 300, 5000), -1)
    copies = Copies(sets, np.zeros(5000, bool))
    splits, notes = make_leakproof_splits(labels, None, SplitOptions(folds=5), copies, str)
    assert notes == []
    for sides in splits.values():
        assert all(len(set(sides[sets == number].tolist())) == 1 for number in range(300))
    assert [(splits["default"] == number).mean() for number in range(3)] == pytest.approx([0.65, 0.15, 0.2], abs=0.005)
    assert (sum((splits[f"fold-{i}"] == SUBSETS.index("test")).astype(int) for i in range(5)) == 1).all()
    pair = np.full(5000, -1)
    pair[[3, 70]] = 0
    assert (split_by_group(labels, None, units=pair) != split_by_group(labels, None)).sum() < 10


def test_strict_refuses_what_copies_make_impossible():
    labels, groups = np.zeros(9, np.int64), ["a", "b", "c"] * 3
    sets = np.full(9, -1)
    sets[[0, 1]] = 0
    copies = Copies(sets, np.zeros(9, bool))
    with pytest.raises(ArgumentError, match="groups must be at least 3.*The groups a, b share copies"):
        make_leakproof_splits(labels, groups, SplitOptions(), copies, str, strict=True)
