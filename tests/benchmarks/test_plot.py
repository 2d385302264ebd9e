"""What is drawn is what the result says."""

import pytest


@pytest.fixture
def plot(program):
    return program("plot")


def row(name, rate, low, high):
    return {"contestant": name, "cells_per_s": rate, "low": low, "high": high, "ratio": 1.0, "num_rounds": 5}


def result(rows):
    machine = {"gpus": [], "cpu": "some CPU", "num_cpus": 2}
    values = {"bench": "try", "data": "cells", "settings": {"batch": 256}, "commit": "abc", "date": "2026-01-02T00:00"}
    return {**values, "rows": rows, "environment": machine}


ROWS = [
    row("fastcell, stream", 1000.0, 900.0, 1100.0),
    row("theirs", 500.0, 450.0, 520.0),
    row("limit: decode", 1400.0, 1300.0, 1500.0),
    row("limit: read", 99000.0, 90000.0, 100000.0),
]


def test_bars_are_the_medians_and_lines_the_ranges(plot):
    (axes,) = plot.bars(result(ROWS)).axes
    widths = [bar.get_width() for bar in axes.patches[:4]]
    top = 1.5 * 1100
    assert widths == pytest.approx([1000, 500, 1400, 1.14 * top])
    ends = [line.get_segments()[0][:, 0].tolist() for line in axes.collections]
    assert ends == [pytest.approx([900, 1100]), pytest.approx([450, 520]), pytest.approx([1300, 1500])]
    assert [text.get_text() for text in axes.texts] == ["1,000", "500", "1,400", "99,000 \u2192"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [each["contestant"] for each in ROWS]
    assert axes.get_xlim()[1] == pytest.approx(1.14 * top)


def test_kinds_differ_in_colour_and_hatching(plot):
    (axes,) = plot.bars(result(ROWS)).axes
    ours, theirs, limit, _ = axes.patches[:4]
    assert len({bar.get_facecolor() for bar in (ours, theirs, limit)}) == 3
    assert len({bar.get_hatch() for bar in (ours, theirs, limit)}) == 3


def test_a_limit_in_reach_is_a_line_through_all_bars(plot):
    (axes,) = plot.bars(result(ROWS)).axes
    lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert lines == [1400.0]


def test_newest_results_of_rates_are_drawn(plot, program, tmp_path, monkeypatch, capsys):
    write = program("result_files").write_result
    write(tmp_path / "try-cpu-2026-01-02-abc.json", result(ROWS))
    other = {**result([{"minute": 1}]), "bench": "soak"}
    write(tmp_path / "soak-cpu-2026-01-02-abc.json", other)
    monkeypatch.setattr("sys.argv", ["plot.py", "--results", str(tmp_path)])
    plot.main()
    assert [path.name for path in tmp_path.glob("*.png")] == ["try-cpu-2026-01-02-abc.png"]
    assert (tmp_path / "try-cpu-2026-01-02-abc.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("sys.argv", ["plot.py", "soak", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no rates"):
        plot.main()


def test_of_kernels_the_usual_side_and_type_are_drawn(plot):
    case = {
        "kernel": "transform",
        "stages": "all",
        "data": "ragged",
        "size": 128,
        "dtype": "float32",
        "copy_share": 0.1,
    }
    rows = [
        {**row("limit: copy", 900.0, 800.0, 1000.0), **case, "kernel": "copy", "stages": "", "size": 0, "dtype": ""},
        {**row("fastcell", 100.0, 90.0, 110.0), **case},
        {**row("fastcell", 400.0, 390.0, 410.0), **case, "size": 32},
        {**row("torch", 50.0, 40.0, 60.0), **case},
        {**row("torch", 60.0, 50.0, 70.0), **case, "kernel": "normalize", "stages": "divide"},
    ]
    axes = plot.bars(result(rows)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fastcell: all, ragged", "torch: all, ragged"]
    assert not plot.is_rates({"rows": [{**rows[1], "agreement": None}]})
