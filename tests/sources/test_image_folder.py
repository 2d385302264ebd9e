"""Image folders: patterns, and refusals that show the other readings."""

import os
import subprocess
from pathlib import Path

import pytest
from fixtures.written_bytes import fill

from fastcell.errors import ArgumentError, BadCell, DataError
from fastcell.sources.base import SourceItem
from fastcell.sources.image_folder import ImageFolder, Pattern, find_images
from fastcell.sources.registry import open_source


def scan(root, pattern=None):
    return open_source(root, pattern).scan()


@pytest.mark.parametrize(
    ("pattern", "key", "fields"),
    [
        ("{class}/{name}", "G1/a.png", {"class": "G1", "name": "a.png"}),
        ("{class}/{name}", "G1/b/a.png", None),
        ("{class}_{name}", "MB231_01.jpg", {"class": "MB231", "name": "01.jpg"}),
        ("{class}_{name}", "a_b_c.jpg", {"class": "a", "name": "b_c.jpg"}),
        ("{class}_{name}", "plain.jpg", None),
        ("{group}/{class}/{name}", "d 1/α β/x.png", {"group": "d 1", "class": "α β", "name": "x.png"}),
        ("{collection}/*/{class}-{name}", "c/any/T-1.tif", {"collection": "c", "class": "T", "name": "1.tif"}),
        ("{class}/**/{name}", "G1/a/b/x.png", {"class": "G1", "name": "x.png"}),
        ("{class}/**/{name}", "G1/x.png", {"class": "G1", "name": "x.png"}),
        ("run.1/{name}", "run.1/x.png", {"name": "x.png"}),
        ("run.1/{name}", "runs1/x.png", None),
    ],
)
def test_pattern_reads_a_path(pattern, key, fields):
    assert Pattern(pattern).match(key) == fields


def test_a_field_ends_at_its_first_fit():
    assert Pattern("{class}_{name}").match("S_phase_01.png") == {"class": "S", "name": "phase_01.png"}


@pytest.mark.parametrize("text", ["{class}/", "{name}/{name}", "{label}/{name}", "", "{}/{name}"])
def test_pattern_that_cannot_be_is_refused(text):
    with pytest.raises(ArgumentError, match="--pattern must be"):
        Pattern(text)


def test_class_folders_need_no_pattern(tmp_path):
    fill(tmp_path, "c10/a.JPG", "c9/b.png", "c9/a.tiff", "c9/sub.d.npy", "c9/x.jpeg")
    fill(tmp_path, "SOURCE.md", "c9/.hid.png", ".git/x.png")
    listing = scan(tmp_path)
    assert [item.key for item in listing.items] == ["c10/a.JPG", "c9/a.tiff", "c9/b.png", "c9/sub.d.npy", "c9/x.jpeg"]
    assert [item.encoding for item in listing.items] == ["jpg", "tif", "png", "npy", "jpg"]
    assert listing.classes == ["c9", "c10"]
    assert listing.notes == [
        "files of other kinds are left out: 1 (.md 1).",
        "hidden files or folders are left out: 2.",
    ]


def test_spaces_unicode_and_broken_names(tmp_path):
    fill(tmp_path, "T cell/µ 1.png", "naïve/Ω.png")
    broken = os.fsencode(tmp_path) + b"/na\xefve"
    fill(Path(os.fsdecode(broken)), "a.png")
    source = open_source(tmp_path)
    listing = source.scan()
    assert listing.classes == ["na\\udcefve", "naïve", "T cell"]
    stored = {item.class_name: source.load(item) for item in listing.items}
    assert stored == {
        "na\\udcefve": b"bytes of a.png",
        "naïve": "bytes of naïve/Ω.png".encode(),
        "T cell": "bytes of T cell/µ 1.png".encode(),
    }


def test_ambiguous_depth_prints_both_readings(tmp_path):
    fill(tmp_path, "d1/act/a.png", "d2/act/b.png")
    with pytest.raises(DataError) as caught:
        scan(tmp_path)
    message = str(caught.value)
    assert "'d1/act/a.png' is 3 levels deep" in message
    assert "--pattern '{class}/**/{name}' reads it as class 'd1'" in message
    assert "--pattern '{group}/{class}/{name}' reads it as class 'act', group 'd1'" in message
    assert scan(tmp_path, "{class}/**/{name}").classes == ["d1", "d2"]
    listing = scan(tmp_path, "{group}/{class}/{name}")
    assert [(item.group, item.class_name) for item in listing.items] == [("d1", "act"), ("d2", "act")]


def test_mixed_depths_are_told(tmp_path):
    fill(tmp_path, "A/a.png", "A/deep/b.png", "overview.png")
    with pytest.raises(DataError, match=r"Depths found: 1 \(1 images\), 2 \(1 images\), 3 \(1 images\)"):
        scan(tmp_path)


def test_flat_folder_asks_what_it_is(tmp_path):
    fill(tmp_path, "THP1_1.png", "MCF7_1.png")
    with pytest.raises(DataError) as caught:
        scan(tmp_path)
    assert "no class folders" in str(caught.value)
    assert "'{class}_{name}' reads it as class 'MCF7'" in str(caught.value)
    assert "'{name}' reads it as an unlabelled cell" in str(caught.value)
    assert scan(tmp_path, "{class}_{name}").classes == ["MCF7", "THP1"]
    unlabelled = scan(tmp_path, "{name}")
    assert unlabelled.classes == []
    assert [item.class_name for item in unlabelled.items] == [None, None]


def test_folder_without_images_is_refused(tmp_path):
    fill(tmp_path, "notes.md")
    with pytest.raises(
        DataError, match=r"must hold images .* got none. Files of other kinds are left out: 1 \(.md 1\).*Check"
    ):
        scan(tmp_path)


def test_pipes_are_passed_over_and_broken_links_listed(tmp_path):
    fill(tmp_path, "A/a.png")
    os.mkfifo(tmp_path / "A" / "pipe.png")  # reading it would wait for ever
    (tmp_path / "A" / "lost.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "A" / "linked.png").symlink_to(tmp_path / "A" / "a.png")
    assert [item.key for item in scan(tmp_path).items] == ["A/a.png", "A/linked.png", "A/lost.png"]


def test_links_are_followed_but_never_in_circles(tmp_path):
    fill(tmp_path / "src", "A/a.png")
    fill(tmp_path / "elsewhere", "b.png")
    (tmp_path / "src" / "B").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    assert [item.key for item in scan(tmp_path / "src").items] == ["A/a.png", "B/b.png"]


def test_real_folders(real_data):
    jurkat = scan(real_data / "jurkat")
    assert len(jurkat.items) == 2393
    assert jurkat.classes == ["Anaphase", "G1", "G2", "Metaphase", "Prophase", "S_phase", "Telophase"]
    assert sum(item.class_name == "G1" for item in jurkat.items) == 654
    with pytest.raises(DataError, match=r"\{group\}/\{class\}/\{name\}"):
        scan(real_data / "tcell")
    atom = scan(real_data / "atom-samples", "{class}_{name}")
    assert len(atom.items) == 30
    assert atom.classes == ["MB231", "MCF7", "PBMC", "THP1"]


def test_folders_deeper_than_the_stack(tmp_path):
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1_200):
            os.mkdir("d", dir_fd=handle)
            above, handle = handle, os.open("d", os.O_RDONLY, dir_fd=handle)
            os.close(above)
        os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        assert find_images(tmp_path)[0] == ["d/" * 1_200 + "a.png"]
    finally:  # too deep for who clears up behind the tests
        os.close(handle)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_links_that_multiply_are_refused(tmp_path):
    for level in range(20):  # 2^20 paths to the last one
        folder = tmp_path / f"{level}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(f"../{level + 1}")
    (tmp_path / "20").mkdir()
    with pytest.raises(DataError, match="may be reached by at most 64 paths"):
        find_images(tmp_path)


def test_a_file_of_holes_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadCell, match="too large: 1,099,511,627,776 bytes"):
        ImageFolder(tmp_path).load(SourceItem("a.png", "png"))
