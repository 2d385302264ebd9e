"""Recordings in the keys of cells without groups: a start or end that determines the class, but no number."""

import numpy as np
import pytest

from fastcell.audit.key_groups import find_key_parts, key_finding
from fastcell.packing.pack import pack

CLASSES = ["alive", "S_phase"]


def labelled(*keys):
    """Keys and labels of (pattern with {} for the number, label, how many)."""
    names = [pattern.format(number) for pattern, _, num in keys for number in range(num)]
    return names, np.concatenate([np.full(num, label) for _, label, num in keys])


@pytest.mark.parametrize(
    ("keys", "names", "determines"),
    [
        ([("alive/rec1_{:03d}.png", 0, 20), ("S_phase/rec2_{:03d}.png", 1, 20)], ["rec1", "rec2"], True),
        (
            [("x/alive/2024-01 a-{}.tif", 0, 20), ("x/S_phase/2024-02 a-{}.tif", 1, 20)],
            ["x 2024 01", "x 2024 02"],
            True,
        ),
        (
            [
                ("a/d1_{}.png", 0, 9),
                ("a/d2_{}.png", 0, 9),
                ("b/d3_{}.png", 1, 9),
                ("b/d4_{}.png", 1, 9),
            ],
            ["a", "b"],
            True,
        ),
        (
            [("alive/d1_{}.png", 0, 9), ("alive/d2_{}.png", 0, 9), ("S_phase/d1_x{}.png", 1, 9)],
            ["d1", "d2"],
            False,
        ),
        ([("alive/{:03d}_rec1.png", 0, 20), ("S_phase/{:03d}_rec2.png", 1, 20)], ["rec1", "rec2"], True),
        ([("rec1_{}.png", 0, 40), ("rec2_{}.png", 1, 40), ("rec1_x{}.png", 1, 2)], ["rec1", "rec2"], True),  # strays
        ([("rec1_{}.png", 0, 40), ("rec1_x{}.png", 1, 1), ("rec2_{}.png", 0, 40)], ["rec1", "rec2"], False),  # rare
        ([("{:03d} alive day 1.tif", 0, 9), ("{:03d} S_phase day 2.tif", 1, 9)], ["1", "2"], True),
    ],
)
def test_parts(keys, names, determines):
    found = find_key_parts(*labelled(*keys), CLASSES)
    assert found is not None
    assert (found.names, found.determines) == (names, determines)
    assert found.table.sum() == sum(num for _, _, num in keys)


@pytest.mark.parametrize(
    "keys",
    [
        [("alive/{:03d}.png", 0, 30), ("S_phase/{:03d}.png", 1, 30)],  # the class itself and a number
        [("alive_{}.png", 0, 30), ("S_phase_{}.png", 1, 30)],
        [("cell-{}.png", 0, 30), ("cell-1{}.png", 1, 30)],  # one prefix
        [("alive/rec1_{}.png", 0, 30), ("alive/rec2_{}.png", 0, 30)],  # one class
        [("alive/cell{}_1.png", 0, 30), ("S_phase/cell{}_1.png", 1, 30)],  # one end
        [("alive/rec1_{}.png", 0, 30), ("alive/rec2_{}.png", -1, 30)],
    ],
)
def test_class_names_and_numbers_are_no_recordings(keys):
    assert find_key_parts(*labelled(*keys), CLASSES) is None


def test_real_montages_of_one_phase_each_are_found(real_data, tmp_path):
    src = tmp_path / "src"
    for name in ("G1", "Prophase", "S_phase"):
        (src / name).mkdir(parents=True)
        for path in sorted((real_data / "jurkat" / name).glob("*.png"))[:40]:
            (src / name / path.name).symlink_to(path)
    made = pack(src, tmp_path / "set", jobs=1)
    finding = key_finding(made)
    assert finding.verdict == "warning"
    assert "G1 has CP0008 alone, Prophase has CP0001 alone, S_phase has CP0009 alone" in finding.says["else"]
    assert "each of one class" in finding.says["else"]
    assert "{group}" in finding.advice["warning"]


def test_sets_with_groups_are_skipped(make_dataset):
    assert key_finding(make_dataset(30)).verdict in ("ok", "skipped")
