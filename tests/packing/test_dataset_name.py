"""Names of data sets whose user gave none."""

from pathlib import Path

import numpy as np
import pytest

from fastcell.dataset.dataset_info import read_info
from fastcell.packing.dataset_name import name_dataset
from fastcell.packing.pack import pack


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/2024-05-03_donorA/images", "2024-05-03_donorA"),
        ("/data/2024-05-03_donorA/export/raw_images_01/train", "2024-05-03_donorA"),
        ("/mnt/d/jurkat", "jurkat"),
        ("/data/jurkat images/TIFF", "jurkat images"),
        ("/data/20240503/IMG", "20240503"),  # a date tells sets apart, a small number does not
        ("/data/run/12/img_3", "run"),
        ("/home/anna/Documents/platelets/Images", "platelets"),
        ("/data/images/2/", "new-set"),
        ("/home/anna/images", "new-set"),  # a user is no data set
        ("/data/zellen/Bilder", "Bilder"),
        ("/", "new-set"),
        ("/tmp/tmpk3j_9x2a/images", "new-set"),  # tempfile.mkdtemp
        ("/tmp/tmp.Xy12AbCdEf/donor A/images", "donor A"),
        ("/tmp/tmp.Xy12AbCdEf", "new-set"),  # mktemp -d
        ("/tmp/pytest-of-anna/pytest-3/images", "new-set"),
        ("/data/test_plate_3/images", "test_plate_3"),
        ("/scratch/3f2504e0-4f89-11d3-9a0c-0305e82c3301/cells", "scratch"),
        ("/data/9b74c9897bac770ffc029102a200c5de/images", "new-set"),
        ("/data/2024050312345678/images", "2024050312345678"),  # digits alone are a date
        ("/data/tmp_donors/images", "tmp_donors"),
    ],
)
def test_nearest_part_that_is_not_generic(source, name):
    assert name_dataset(source, "/results/new-set") == name


def test_a_file_is_named_by_its_stem(tmp_path):
    folder = tmp_path / "donorB"
    folder.mkdir()
    for file, name in (
        ("jurkat.rtdc", "jurkat"),
        ("stack.ome.tif", "donorB"),
        ("cells.npy", "donorB"),
        ("day2.v3.npy", "day2.v3"),
    ):
        (folder / file).touch()
        assert name_dataset(folder / file) == name


def test_the_folder_decides_if_nothing_else_says_more(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: Path("/srv/people/anna"))
    assert name_dataset("/srv/people/anna/images", "/srv/people/anna/out") == "out"
    assert name_dataset("/srv/people/anna/images") == "images"  # nothing better is known
    assert name_dataset("/data/images") == "images"


def test_names_that_utf_8_cannot_hold_are_escaped():
    assert name_dataset("/data/donor\udcff/images") == "donor\\udcff"


def test_pack_takes_the_name_of_the_donor(tmp_path):
    source = tmp_path / "donor A" / "images"
    for label in "ab":
        (source / label).mkdir(parents=True)
        for number in range(8):
            np.save(source / label / f"{number}.npy", np.full((5, 6), number + 1, np.uint8))
    pack(source, tmp_path / "one", jobs=1)
    pack(source, tmp_path / "two", jobs=1, name="mine")
    assert [read_info(tmp_path / out).name for out in ("one", "two")] == ["donor A", "mine"]
