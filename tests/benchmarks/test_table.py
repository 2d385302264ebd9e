"""The README says what the results say."""

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("table", BENCHMARKS_DIR / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_result(folder, name, date, rows):
    machine = {"packages": {"torch": "2.13.0", "torchmetrics": "1"}, "gpus": [], "cpu": "some CPU", "num_cpus": 2}
    result = {
        "data": "d",
        "settings": {"batch": 256},
        "rows": rows,
        "environment": machine,
        "commit": "abc",
        "date": date,
    }
    (folder / name).write_text(json.dumps(result))


ROW = {
    "contestant": "ours",
    "what": "all of it",
    "ratio": 5.0,
    "ratio_low": 4.9,
    "ratio_high": 5.1,
    "cells_per_s": 12345.6,
    "low": 12000.0,
    "high": 13000.0,
    "cpu_us_per_cell": 81.4,
}


def test_the_newest_result_is_shown(table, tmp_path):
    write_result(tmp_path, "loader-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [{**ROW, "ratio": 4.0}])
    write_result(tmp_path, "loader-gpu-2026-01-03-abc.json", "2026-01-03T00:00:00Z", [ROW])
    text = table.render("a\n<!-- table:loader -->\nold\n<!-- /table -->\nb\n", tmp_path)
    assert "| ours | 5.00 (4.90..5.10) | 12,346 (12,000..13,000) | 81 µs | all of it |" in text
    assert "old" not in text
    assert "no GPU, some CPU, 2 cores; torch 2.13.0; commit abc, 2026-01-03" in text
    assert text.startswith("a\n<!-- table:loader -->\n| |")
    assert text.endswith("<!-- /table -->\nb\n")
    assert table.render(text, tmp_path) == text


def test_trainings_are_shown_by_seed(table, tmp_path):
    row = {
        "way": "bank",
        "accuracies": [0.91, 0.93],
        "accuracy_mean": 0.92,
        "accuracy_std": 0.01414,
        "cells_per_s": 1234.5,
    }
    write_result(tmp_path, "stores-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    text = table.render("<!-- table:stores -->\n<!-- /table -->", tmp_path)
    assert "| bank | 0.920 ± 0.014 | 0.910, 0.930 | 1,234 |" in text


def test_minutes_are_shown_some_of_them(table, tmp_path):
    rates = {"cells_per_s": 1999.6, "cells_per_cpu_s": 1500.2}
    rows = [
        {"minute": minute, "resident_mb": 1000.4 + minute, "open_files": 20.0, "threads": 9.0, **rates}
        for minute in range(1, 8)
    ]
    write_result(tmp_path, "soak-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    text = table.render("<!-- table:soak -->\n<!-- /table -->", tmp_path)
    assert "| 5 | 1,005 MB | 20 | 9 | 2,000 | 1,500 |" in text
    assert [line.split()[1] for line in text.splitlines() if " MB " in line] == ["1", "2", "5"]


def test_a_bench_without_results_says_so(table, tmp_path):
    text = table.render("<!-- table:x -->\n<!-- /table -->", tmp_path)
    assert text == "<!-- table:x -->\nNo result of `x` yet.\n<!-- /table -->"


def test_readmes_are_up_to_date(table):
    assert table.main(["--check"]) == 0, "run `python benchmarks/table.py`"


def test_copies_and_audits_are_shown_row_by_row(table, tmp_path):
    copies = {"data": "Jurkat", "copies": "blurred", "found": 95, "of": 100, "low": -1e-20, "high": 0.9784}
    write_result(tmp_path, "duplicates-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [copies])
    found = {"kind": "planted", "what": "tilt", "expected": "drift", "found": 3, "sets": 4, "other_alarms": {"x": 1}}
    write_result(tmp_path, "audit-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [found])
    text = "<!-- table:duplicates -->\n<!-- /table -->\n<!-- table:audit -->\n<!-- /table -->"
    text = table.render(text, tmp_path, "results")
    assert "| Jurkat | blurred | 95 of 100 | 0.9500 (0.0000..0.9784) |" in text
    assert "| planted | tilt | drift | 3 of 4 | x 1 |" in text
    assert "[audit-cpu-2026-01-02-abc.json](results/audit-cpu-2026-01-02-abc.json)" in text


def test_what_quality_control_finds_is_shown_by_kind(table, tmp_path):
    row = {"kind": "cut", "faults": "milder", "num": 1234, "recall": 0.98, "low": 0.97, "high": 0.99}
    row |= {"found_even": 0.9, "even_low": 0.85, "even_high": 0.95}
    write_result(tmp_path, "quality-found-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    text = table.render("<!-- table:quality-found -->\n<!-- /table -->\n", tmp_path)
    assert "| cut, milder | 1,234 | 0.9800 (0.9700..0.9900) | 0.9000 (0.8500..0.9500) |" in text
