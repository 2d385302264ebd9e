"""Elements of a page: embedded pictures and shares as text."""

import base64

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fastcell.errors import DataError
from fastcell.plots.picture_places import KEY, PicturePlace, format_picture_places
from fastcell.report.page_elements import Picture, data_uri, embed_png, percent


def test_pictures_of_others_are_refused(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="must be a picture drawn by fastcell"):
        embed_png(path, "title")
    with pytest.raises(DataError, match=r"none\.png must be a picture drawn by fastcell"):
        embed_png(tmp_path / "none.png", "title")
    cv2.imwrite(str(path), np.zeros((30, 300), np.uint8))
    picture = embed_png(path, "title", "caption")
    assert picture == Picture("title", picture.source, 2.0, "caption", "caption")


def test_other_kinds_of_pictures_are_refused(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (4, 4)).save(path, "GIF")
    with pytest.raises(DataError, match="must be a picture drawn by fastcell"):
        embed_png(path, "title")


def test_the_picture_says_how_wide_it_was_drawn(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (600, 100)).save(path, dpi=(200, 200))
    assert embed_png(path, "title").inches == 3.0


def test_what_a_screen_reader_says(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (4, 4)).save(path)
    assert embed_png(path, "title").alt == "title"
    assert embed_png(path, "title", "caption").alt == "caption"
    assert embed_png(path, "title", "caption", "alt").alt == "alt"


def test_the_source_is_the_file_itself(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (4, 4), 77).save(path)
    kind, _, content = embed_png(path, "title").source.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == path.read_bytes()
    assert data_uri(b"\xff\x00") == "data:image/png;base64,/wA="


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [(0.754, 0, "75\u00a0%"), (0.7543, 1, "75.4\u00a0%"), (1, 0, "100\u00a0%"), (0, 2, "0.00\u00a0%")],
)
def test_shares_do_not_break_before_the_sign(share, decimals, text):
    assert percent(share, decimals) == text


def test_what_the_dark_theme_inverts_has_a_hole_for_each_cell(tmp_path):
    told = PngImagePlugin.PngInfo()
    told.add_text(KEY, format_picture_places([PicturePlace(0.1, 0.2, 0.5, 0.75)]))
    for name in ("contact_sheet", "losses"):
        Image.new("L", (40, 40)).save(tmp_path / f"{name}.png", pnginfo=told)
    picture = embed_png(tmp_path / "contact_sheet.png", "title")
    assert picture.css_class == "picture cells"
    near, far, *cell = [f"calc(.4rem + {share} * (100% - .8rem))" for share in ("0", "1", "0.1", "0.2", "0.5", "0.75")]
    left, top, right, bottom = cell
    corners = [(near, near), (far, near), (far, far), (near, far), (near, near)]
    corners += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top), (near, near)]
    assert picture.around_cells == f"polygon(evenodd, {', '.join(f'{x} {y}' for x, y in corners)})"
    plot = embed_png(tmp_path / "losses.png", "title")  # a heat map is inverted as a whole
    assert (plot.css_class, plot.places, plot.around_cells) == ("picture plot", (), "")
