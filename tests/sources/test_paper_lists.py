"""The paper's released lists: numbers and split kept, lines that cannot be read named."""

import pytest
from fixtures.written_bytes import fill

from fastcell.errors import DataError
from fastcell.sources.paper_lists import ReleasedLists
from fastcell.sources.registry import open_source


def scan(root):
    return open_source(root).scan()


def released(root, **texts):
    fill(root, "img/t0.jpg", "img/t1.jpg", "img/v.jpg", "img/s.jpg", "img/free.jpg")
    default = {
        "Train.txt": "img/t0.jpg 2\nimg/t1.jpg 0\n\n",
        "valid.txt": "./img/v.jpg 0\r\n",
        "TEST.txt": "img\\s.jpg\t2\n",
        "label.txt": "\ufeffTHP1 0\nMCF 7 1\nMB231 2\n",
    }
    for name, text in {**default, **{key.replace("_", "."): text for key, text in texts.items()}}.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


def test_released_lists_keep_numbers_and_split(tmp_path):
    source = open_source(released(tmp_path))
    listing = source.scan()
    assert isinstance(source, ReleasedLists)
    assert listing.classes == ["THP1", "MCF 7", "MB231"]
    assert [(item.key, item.class_name) for item in listing.items] == [
        ("img/s.jpg", "MB231"),
        ("img/t0.jpg", "MB231"),
        ("img/t1.jpg", "THP1"),
        ("img/v.jpg", "THP1"),
    ]
    assert listing.splits == {"paper": ["test", "train", "train", "valid"]}
    assert listing.notes == ["images that no list names are left out: 1."]
    assert source.load(listing.items[0]) == b"bytes of img/s.jpg"


def test_released_lists_reject_missing_and_repeated_files(tmp_path):
    released(tmp_path, TEST_txt="img/gone.jpg 0\nimg/t1.jpg 0\nimg/note.txt 0\nimg/s.jpg 2\n")
    (tmp_path / "img" / "note.txt").write_text("x")
    listing = scan(tmp_path)
    assert [(bad.item.key, bad.source, bad.reason) for bad in listing.rejected] == [
        ("img/gone.jpg", "TEST.txt", "file is missing"),
        ("img/t1.jpg", "TEST.txt", "listed twice, first in Train.txt line 2"),
        ("img/note.txt", "TEST.txt", "not a kind of image that can be read"),
    ]
    assert listing.splits["paper"] == ["test", "train", "train", "valid"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"Train_txt": "img/t0.jpg 0\nimg/t1.jpg\n"}, r"Train.txt line 2: must be 'text number', got 'img/t1.jpg'"),
        ({"Train_txt": "img/t0.jpg one\n"}, r"Train.txt line 1: must be"),
        ({"Train_txt": "img/t0.jpg 5\n"}, r"Train.txt line 1: the label must be one of 0, 1, 2, got 5"),
        ({"Train_txt": "../t0.jpg 0\n"}, r"Train.txt line 1: the path must lie in the folder"),
        ({"label_txt": "THP1 0\nMCF7 0\n"}, r"label.txt line 2: name and number must be new"),
        ({"labels_txt": "THP1 0\n"}, r"must hold one list of classes.* got label.txt, labels.txt"),
        ({"label_txt": ""}, r"label.txt must name at least one class"),
        ({"Train_txt": "", "valid_txt": "", "TEST_txt": ""}, r"the lists must name at least one image"),
    ],
)
def test_released_lists_that_cannot_be_read_name_the_line(tmp_path, texts, message):
    with pytest.raises(DataError, match=message):
        scan(released(tmp_path, **texts))


def test_released_lists_without_classes(tmp_path):
    released(tmp_path)
    (tmp_path / "label.txt").unlink()
    with pytest.raises(DataError, match=r"got none. Add it, or give --pattern"):
        scan(tmp_path)


def test_numbers_with_gaps_are_told(tmp_path):
    listing = scan(released(tmp_path, label_txt="THP1 0\nMB231 2\nPBMC 7\n"))
    assert listing.classes == ["THP1", "MB231", "PBMC"]
    assert "The label numbers 0, 2, 7 are replaced by 0 to 2." in listing.notes


def test_a_number_of_thousands_of_digits_is_a_line_to_mend(tmp_path):
    root = released(tmp_path, **{"Train.txt": f"img/t0.jpg {'9' * 5000}\n"})
    with pytest.raises(DataError, match=r"Train\.txt line 1: must be 'text number'"):
        scan(root)
