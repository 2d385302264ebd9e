"""Each figure is there as picture, as vector and as numbers, whole or not at all."""

import cv2
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from fastcell.plots.figure_files import FigureFiles, save_png


def line_figure():
    figure = Figure(figsize=(3, 2), layout="constrained")
    figure.add_subplot().plot([0, 1], [0, 1])
    return figure


def test_three_files_and_the_caption(tmp_path):
    figures = FigureFiles(tmp_path / "new" / "folder")
    caption = "A line of 2 points, in no unit. " * 5
    figures.add("line", line_figure(), caption, pa.table({"x": [0, 1], "class": ["a,b", 'c"d']}))
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["line.csv", "line.pdf", "line.png"]
    assert cv2.imread(str(folder / "line.png")) is not None
    assert (folder / "line.pdf").read_bytes().startswith(b"%PDF-")
    assert (folder / "line.csv").read_text() == '"x","class"\n0,"a,b"\n1,"c""d"\n'
    assert figures.captions == {"line": caption}


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        FigureFiles(tmp_path / name).add("line", line_figure(), "A line.", pa.table({"x": [0]}))
    for kind in ("png", "pdf", "csv"):
        assert (tmp_path / "a" / f"line.{kind}").read_bytes() == (tmp_path / "b" / f"line.{kind}").read_bytes()


def test_text_in_the_pdf_stays_text(tmp_path):
    FigureFiles(tmp_path).add("line", line_figure(), "A line.", pa.table({"x": [0]}))
    pdf = (tmp_path / "line.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_a_failure_leaves_no_torn_file(tmp_path, monkeypatch):
    figures = FigureFiles(tmp_path)
    figure = line_figure()

    def fail(*_, **__):
        raise OSError("full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="full"):
        figures.add("line", figure, "A line.", pa.table({"x": [0]}))
    assert list(tmp_path.iterdir()) == []
    assert figures.captions == {}


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path):
    """A name is no formula, and what it cannot show is an escape; without this the first raises an error."""
    figure = line_figure()
    figure.set_size_inches(12, 8)
    axes = figure.axes[0]
    axes.set_title("$\\frac{")
    axes.set_xticks([0, 1], ["a\x1b[31m", "$\\frac{" + 90 * "x"])
    axes.set_yscale("log")  # its numbers are formulas
    FigureFiles(tmp_path).add("line", figure, "Cells of $\\frac{ and \x07.", pa.table({"x": [0]}))
    save_png(figure, tmp_path / "again.png")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a\\x1b[31m", f"$\\frac{{{'x' * 32}…"]
    assert axes.get_yticklabels()[0].get_parse_math()
    assert figure.get_supxlabel() == "Cells of $\\frac{ and \\x07."
