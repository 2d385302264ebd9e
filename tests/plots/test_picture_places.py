"""Where a saved figure shows images: the places in its PNG are those of the pixels."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fastcell.plots.basic_figures import contact_sheet
from fastcell.plots.figure_files import save_figure
from fastcell.plots.picture_places import KEY, PicturePlace, format_picture_places, parse_picture_places


def saved(figure, folder):
    """Grey levels and places of the PNG of a figure."""
    save_figure(figure, folder / "cells", None, "A caption of some words, which takes a line below the cells. " * 3)
    with Image.open(folder / "cells.png") as image:
        return np.asarray(image.convert("L")), parse_picture_places(image.info[KEY])


def pixels(place, levels):
    height, width = levels.shape
    rows, columns = (place.top * height, place.bottom * height), (place.left * width, place.right * width)
    return slice(*(round(edge) for edge in rows)), slice(*(round(edge) for edge in columns))


def test_places_are_those_of_the_cells(tmp_path):
    cells = {"round": [np.full((40, 40), 128, np.uint8)] * 2, "long name\n3 of 7": [np.full((20, 36), 90, np.uint8)]}
    levels, places = saved(contact_sheet(cells, "Cells", 3, notes={name: ["G1"] * 3 for name in cells}), tmp_path)
    assert len(places) == 3
    inside = np.zeros(levels.shape, bool)
    for place, level in zip(places, (128, 128, 90), strict=True):
        rows, columns = pixels(place, levels)
        assert np.abs(levels[rows, columns][2:-2, 2:-2].astype(int) - level).max() <= 1  # as the colour map rounds
        inside[rows, columns] = True
    rest = ~inside & np.isin(levels, (89, 90, 128))  # beside edges of letters
    assert rest.sum() < 0.01 * inside.sum()


def test_a_color_bar_keeps_its_colors_beside_its_map(tmp_path):
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.arange(6.0).reshape(2, 3), cmap="gray")
    figure.colorbar(image, ax=axes)
    levels, (shown, bar) = saved(figure, tmp_path)
    rows, columns = pixels(bar, levels)
    column = levels[rows, columns][2:-2, 4]
    assert bar.left > shown.right
    assert column[0] > 245
    assert column[-1] < 10
    assert (np.diff(column.astype(int)) <= 0).all()


def test_places_stay_where_a_second_layout_would_move_them(tmp_path):
    """Rows of cells and maps with a colour bar each: the layout made twice differs by some pixels."""
    figure = Figure(figsize=(11.6, 5), layout="constrained")
    grid = figure.subplots(3, 8)
    for line in grid:
        for axes in line:
            image = axes.imshow(np.full((32, 32), 0.5), cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_title("p = 0.5", fontsize=7, pad=2)
        line[0].set_ylabel("a long name", rotation=0, ha="right")
        figure.colorbar(image, ax=line, fraction=0.02, pad=0.01)
    levels, places = saved(figure, tmp_path)
    assert len(places) == 27
    for place in places[:24]:
        rows, columns = pixels(place, levels)
        assert np.abs(levels[rows, columns][2:-2, 2:-2].astype(int) - 128).max() <= 1
        beside = levels[rows.start + 2 : rows.stop - 2, [columns.start - 3, columns.stop + 2]]
        assert beside.min() > 200


@pytest.mark.parametrize("kind", ["line", "heat map"])
def test_figures_without_cells_state_no_places(tmp_path, kind):
    figure = Figure(figsize=(3, 2), layout="constrained")
    if kind == "line":
        figure.add_subplot().plot([0, 1])
    else:
        figure.add_subplot().imshow(np.eye(2), cmap="Blues")
    save_figure(figure, tmp_path / "plot", None, "Numbers.")
    with Image.open(tmp_path / "plot.png") as image:
        assert KEY not in image.info


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "{", "{}", "[1]", "[[0,0,1]]", "[[0,0,1,2]]", "[[0,0,1,NaN]]", "[[0,0,1,Infinity]]", '[["x",0,1,1]]',
     '[[0,0,1,"1%);}"]]', "[" * 100_000],
)  # fmt: skip
def test_texts_of_others_give_no_places(text):
    assert parse_picture_places(text) == []


def test_places_come_back():
    places = [PicturePlace(0.0, 0.25, 0.5, 1.0), PicturePlace(0.5, 0.0, 0.75, 0.125)]
    assert parse_picture_places(format_picture_places(places)) == places
    assert len(parse_picture_places(json.dumps([[0, 0, 1, 1]] * 5_000))) == 2_000
