"""The README says what the results say."""

import json
from pathlib import Path

import pytest

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def table(program):
    return program("table")


def write_result(folder, name, date, rows):
    machine = {"packages": {"torch": "2.13.0", "torchmetrics": "1"}, "gpus": [], "cpu": "some CPU", "num_cpus": 2}
    result = {
        "data": "d",
        "settings": {"batch": 256},
        "environment": machine,
        "commit": "abc",
        "date": date,
    }
    columns = list(dict.fromkeys(key for row in rows for key in row))
    result["columns"] = {key: [row.get(key) for row in rows] for key in columns}
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


@pytest.mark.parametrize("settings", [{}, {"intervals": "by group (6)"}])
def test_intervals_of_former_results_are_left_out(table, tmp_path, settings):
    entry = {"value": 0.9, "low": 0.8, "high": 0.95}
    row = {"method": "CNN", "accuracy": entry, "balanced_accuracy": entry, "gain": None, "fit_s": 1.0, "std": None}
    write_result(tmp_path, "compare-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    file = tmp_path / "compare-cpu-2026-01-02-abc.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"settings": settings}))
    text = table.render("<!-- table:compare -->\n<!-- /table -->", tmp_path)
    assert ("Without intervals: this result" in text) == (not settings)
    assert ("| 0.900 (0.800..0.950) |" in text) == bool(settings)
    assert ("| 0.900 |" in text) == (not settings)


@pytest.mark.parametrize(("num", "least_p"), [(2, "0.5"), (4, "0.125"), (6, None)])
def test_differences_of_few_groups_are_no_verdicts(table, tmp_path, num, least_p):
    entry = {"value": 0.9, "low": 0.8, "high": 0.95}
    gain = {"value": 0.2, "low": 0.1, "high": 0.3, "verdict": "cannot tell"}
    row = {"method": "kNN", "accuracy": entry, "balanced_accuracy": entry, "gain": gain, "fit_s": 1.0, "std": None}
    write_result(tmp_path, "compare-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    file = tmp_path / "compare-cpu-2026-01-02-abc.json"
    settings = {"intervals": f"by group ({num}), assumed"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"settings": settings}))
    text = table.render("<!-- table:compare -->\n<!-- /table -->", tmp_path)
    assert "| +0.200 (+0.100..+0.300); cannot tell |" in text
    assert (f"With {num} groups no difference can be significant (the smallest possible p is {least_p})" in text) == (
        num < 6
    )
    assert ("can be significant" in text) == (num < 6)


def test_a_bench_without_results_says_so(table, tmp_path):
    text = table.render("<!-- table:x -->\n<!-- /table -->", tmp_path)
    assert text == "<!-- table:x -->\nNo result of `x` yet.\n<!-- /table -->"


def test_readmes_are_up_to_date(table):
    assert table.main(["--check"]) == 0, "run `python benchmarks/table.py`"


def test_who_is_absent_and_what_the_load_was(table, tmp_path):
    write_result(tmp_path, "loader-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [ROW])
    path = tmp_path / "loader-cpu-2026-01-02-abc.json"
    result = json.loads(path.read_text())
    result |= {"absent": {"FFCV": "not installed"}, "packages": {"spdl": "0.8.0"}}
    result["environment"] |= {"load_average_start": [0.26, 1, 1], "load_average_end": [1.04, 1, 1]}
    path.write_text(json.dumps(result))
    text = table.table("loader", tmp_path)
    assert "2 cores, load 0.3 at the start and 1.0 at the end; spdl 0.8.0, torch 2.13.0; commit abc" in text
    assert text.endswith("Left out: FFCV (not installed).")
