"""Figures of the studies show the numbers of their tables."""

import numpy as np
import pyarrow.csv
import pytest

from fastcell.compare import figures
from fastcell.compare.figures import draw_bars, draw_losses, draw_resolutions, draw_volumes
from fastcell.compare.result_tables import Entry
from fastcell.plots import figure_files


@pytest.fixture
def shown(monkeypatch):
    """Figures in the order in which they were saved."""
    kept = []
    save = figure_files.save_figure

    def keep(figure, stem, data, caption):
        kept.append(figure)
        save(figure, stem, data, caption)

    monkeypatch.setattr(figures, "save_figure", keep)
    return kept


def entry(method="svm", scheme="default", volume=1.0, size=32, accuracy=0.9, num_train=100.0):
    return Entry(
        scheme, method, size, volume, "test", num_train, 40, 2, 1, accuracy, 0.02, accuracy - 0.05, accuracy + 0.03,
        [accuracy - 0.01, accuracy + 0.01], accuracy, accuracy, accuracy, 1.0, 10.0, "cpu", "cell", 40, "",
    )  # fmt: skip


def test_accuracy_by_volume(tmp_path, shown):
    entries = [entry(volume=v, num_train=100 * v, accuracy=a) for v, a in ((1.0, 0.9), (0.1, 0.7), (0.095, 0.6))]
    entries.append(entry("knn", accuracy=0.8))
    draw_volumes(entries, {"svm": "SVM", "knn": "kNN"}, tmp_path / "volumes", "title", "caption")
    axes = shown[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["SVM", "kNN"]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_linestyle() != "None"]
    beside = np.exp(-0.01 * np.log(100 / 9.5))  # half a step of 2 % of the axis
    assert lines[0].get_xdata().tolist() == pytest.approx(beside * np.array([9.5, 10, 100]))
    assert lines[0].get_ydata().tolist() == [0.6, 0.7, 0.9]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "100"]  # 9.5 would run into 10
    rows = pyarrow.csv.read_csv(tmp_path / "volumes.csv").to_pylist()
    assert [(row["method"], row["accuracy"]) for row in rows] == [
        ("svm", 0.9), ("svm", 0.7), ("svm", 0.6), ("knn", 0.8),
    ]  # fmt: skip
    assert rows[0]["by_seed"] == "0.890000 0.910000"


def test_methods_at_one_volume_do_not_hide_each_other(tmp_path, shown):
    entries = [entry(method) for method in ("svm", "knn", "frame")]
    draw_volumes(entries, {}, tmp_path / "volumes", "title", "caption")
    axes = shown[0].axes[0]
    places = [line.get_xdata().item() for line in axes.lines if line.get_marker() in figures.MARKERS[:3]]
    assert places == pytest.approx([100 * np.exp(-0.008), 100, 100 * np.exp(0.008)])
    assert axes.get_xlim() == pytest.approx((100 * np.exp(-0.4), 100 * np.exp(0.4)))


def test_accuracy_by_iteration(tmp_path, shown):
    steps = np.array([10.0, 20.0])
    points = np.stack([np.stack([steps, values], axis=1) for values in ([0.2, 0.4], [0.4, 0.8])])
    draw_losses({"mse": {"valid_accuracy": points, "train_accuracy": points}}, tmp_path / "losses", "title", "caption")
    assert shown[0].axes[0].lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.6])
    rows = pyarrow.csv.read_csv(tmp_path / "losses.csv").to_pylist()
    assert len(rows) == 8
    assert rows[3] == {"measure": "valid_accuracy", "loss": "mse", "seed": 1, "iteration": 20, "value": 0.8}


def test_accuracy_by_size_and_volume(tmp_path, shown):
    entries = [entry(size=16, accuracy=0.5), entry(size=64, accuracy=0.75), entry(size=64, volume=0.1, num_train=10.0)]
    draw_resolutions(entries, tmp_path / "sizes", "title", "caption")
    axes = shown[0].axes[0]
    values = axes.images[0].get_array()
    assert np.ma.filled(values, np.nan)[0].tolist() == [0.9, 0.75]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["64 × 64", "16 × 16"]
    assert "0.750\n± 0.020" in [text.get_text() for text in axes.texts]
    assert (tmp_path / "sizes.png").exists()


def test_bars_by_scheme_with_the_largest_class(tmp_path, shown):
    entries = [entry(scheme="leaky", accuracy=0.9), entry(scheme="honest", accuracy=0.6), entry("knn", "honest", 0.5)]
    texts = {"leaky": "augmented first", "honest": "split first"}
    draw_bars(entries, {"svm": "SVM", "knn": "kNN"}, texts, 0.4, tmp_path / "bars", "title", "caption")
    axes = shown[0].axes[0]
    heights = sorted(round(bar.get_height(), 6) for bar in axes.patches)
    assert heights == [0.6, 0.9, 0.9]
    assert axes.get_legend_handles_labels()[1] == ["augmented first", "split first"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["SVM", "kNN"]
    assert "largest class\n0.400" in [text.get_text() for text in axes.texts]
    assert 0.4 in [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
