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


def test_exit_codes_before_and_now(table, tmp_path):
    rows = [
        {"command": "fit", "exit_code": 2, "exit_code_before": 0, "test_accuracy": None, "test_accuracy_before": 0.5},
        {"command": "fit --allow", "exit_code": 0, "exit_code_before": None, "test_accuracy": 0.25},
    ]
    write_result(tmp_path, "refusals-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    text = table.render("<!-- table:refusals -->\n<!-- /table -->", tmp_path)
    assert "| `fit` | 0 | 2 | 0.500 | - |\n| `fit --allow` | - | 0 | - | 0.250 |" in text


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
    assert (f"No difference of {num} groups can be significant (the least p is {least_p})" in text) == (num < 6)
    assert ("can be significant" in text) == (num < 6)


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
    assert "[result](results/audit-cpu-2026-01-02-abc.json)" in text


def test_answers_are_shown_by_case_or_one_by_one(table, tmp_path):
    def row(case, measure, value, note=""):
        return {"part": "trap", "case": case, "measure": measure, "value": value, "note": note}

    rows = [row("pack", "exit code", 2, "refused"), row("fit", "exit code", 0), row("fit", "test accuracy", 0.5)]
    write_result(tmp_path, "answers-trap-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    lines = table.table("answers-trap", tmp_path).splitlines()
    assert lines[:4] == [
        "| | exit code | test accuracy |",
        "|---|--:|--:|",
        "| pack | 2 | - |",
        "| fit | 0 | 0.500 |",
    ]
    rows = [
        row("600 cells", "CPU seconds", 1.5),
        row("all", "exponent", 1.25),
        row("zoom", "share found", 0.9, "of 10"),
    ]
    write_result(tmp_path, "answers-copies-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    lines = table.table("answers-copies", tmp_path).splitlines()
    assert lines[2:5] == [
        "| 600 cells | CPU seconds | 1.500 | - |",
        "| all | exponent | 1.250 | - |",
        "| zoom | share found | 0.900 | of 10 |",
    ]


def test_what_quality_control_finds_is_shown_by_kind(table, tmp_path):
    row = {"kind": "cut", "faults": "milder", "num": 1234, "recall": 0.98, "low": 0.97, "high": 0.99}
    row |= {"found_even": 0.9, "even_low": 0.85, "even_high": 0.95}
    write_result(tmp_path, "quality-found-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    text = table.render("<!-- table:quality-found -->\n<!-- /table -->\n", tmp_path)
    assert "| cut, milder | 1,234 | 0.9800 (0.9700..0.9900) | 0.9000 (0.8500..0.9500) |" in text


def test_columns_that_were_measured_are_shown(table, tmp_path):
    measured = {"data": "ragged, JPEG", "threads": 2, "first_batch_s": 0.0312, "first_batch_cold_s": 1.46}
    rows = [{**ROW, **measured, "peak_rss_mb": 1234.4, "gpu_memory_mb": None}, {**ROW, "contestant": "limit: read"}]
    write_result(tmp_path, "loader-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    lines = table.table("loader", tmp_path).splitlines()
    assert lines[0] == (
        "| | ratio (95 %) | cells/s, median (range) | CPU time per cell | data | cores | first batch "
        "| first batch, fresh process | memory, peak | |"
    )
    assert lines[1].count("|") == lines[0].count("|") == lines[2].count("|")
    assert "| 81 µs | ragged, JPEG | 2 | 31 ms | 1.5 s | 1,234 MB | all of it |" in lines[2]
    assert "| 81 µs | - | - | - | - | - | all of it |" in lines[3]


def test_who_is_absent_and_what_the_load_was(table, tmp_path):
    write_result(tmp_path, "loader-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [ROW])
    path = tmp_path / "loader-cpu-2026-01-02-abc.json"
    result = json.loads(path.read_text())
    result |= {"absent": {"FFCV": "not installed"}, "packages": {"spdl": "0.8.0"}}
    result["environment"] |= {"load_average_start": [0.26, 1, 1], "load_average_end": [1.04, 1, 1]}
    path.write_text(json.dumps(result))
    text = table.table("loader", tmp_path)
    assert "2 cores, load 0.3 at the start and 1.0 at the end; spdl 0.8.0, torch 2.13.0; commit abc" in text
    assert text.endswith("Without FFCV: not installed.")


def test_kernels_are_shown_case_by_case(table, tmp_path):
    case = {"kernel": "transform", "stages": "all", "data": "ragged", "size": 64, "dtype": "float16"}
    rates = {"cells_per_s": 12345.6, "low": 12000.0, "high": 13000.0, "gb_per_s": 1.26, "copy_share": 0.123}
    times = {"advantage": 1.0, "advantage_low": 1.0, "advantage_high": 1.0}
    slow = {"advantage": 5.678, "advantage_low": 5.5, "advantage_high": 6.0}
    limit = {**case, "kernel": "limit: copy", "stages": "", "data": "", "size": 0, "dtype": "", "copy_share": 1.0}
    rows = [{**rates, **times, **limit, "contestant": "limit: copy"}]
    rows += [{**case, **rates, **times, "contestant": "fastcell"}, {**case, **rates, **slow, "contestant": "torch"}]
    write_result(tmp_path, "kernel-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", rows)
    text = table.render("<!-- table:kernel -->\n<!-- /table -->", tmp_path)
    assert "| limit: copy | - | - | - | 1.3 | 100% | - | - |" in text
    row = "| transform: all | ragged | 64 px, float16 | 12,346 (12,000..13,000) | 1.3 | 12% | 5.68 (5.50..6.00) | - |"
    assert row in text


def test_baselines_and_their_growth_are_shown(table, tmp_path):
    row = {"method": "svm", "step": "fit", "backend": "cuml", "num_train": 20000, "features": 64, "seconds": 1.2345}
    row |= {"ratio": 7.0, "ratio_low": 6.5, "ratio_high": 7.5, "accuracy": 0.88, "agreement": None}
    write_result(tmp_path, "baselines-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [row])
    growth = {"method": "svm", "step": "fit", "backend": "cuml", "features": 64, "exponent": 2.1, "low": 1.9}
    growth |= {"high": 2.3, "from_cells": 1000, "to_cells": 20000}
    write_result(tmp_path, "baselines-growth-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [growth])
    marks = "<!-- table:baselines -->\n<!-- /table -->\n<!-- table:baselines-growth -->\n<!-- /table -->"
    text = table.render(marks, tmp_path)
    assert "| svm, fit | cuml | 20,000 | 64 | 1.23 | 7.00 (6.50..7.50) | 0.880 | - |" in text
    assert "| svm, fit | cuml | 64 | 2.10 (1.90..2.30) | 1,000 to 20,000 |" in text


def test_training_prediction_and_growth_have_tables_of_their_own(table, tmp_path):
    stalled = {**ROW, "contestant": "bank", "stall": 0.1234, "stall_low": 0.1, "stall_high": 0.2}
    write_result(tmp_path, "train-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [stalled])
    paper = {"paper": "preset paper", "iterations": 12, "cells_per_s": 520.4, "validate_s": 0.0, "measured_s": 41.26}
    paper |= {"whole_s": 7500.0, "is_calculated": True}
    write_result(tmp_path, "train-paper-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [paper])
    target = {"recipe": "demo", "target": 0.99, "cells": 5200, "seconds": [4.0, None], "best": [0.991, 0.98]}
    target |= {"mean_s": 4.0, "std_s": None}
    write_result(tmp_path, "train-accuracy-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [target])
    percentiles = {
        f"{name}_{part}": 10.0 * place
        for name, place in (("p50", 1), ("p99", 2), ("p999", 3))
        for part in ("us", "low", "high")
    }
    latency = {"latency": "CPU, eager", "what": "torch", "max_us": 1234.5, "num_calls": 5000, **percentiles}
    write_result(tmp_path, "latency-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [latency])
    growth = {"quantity": "open", "what": "read", "unit": "s", "rows": [10_000, 1_000_000], "values": [0.01234, 1.5]}
    growth |= {"exponent": 0.98, "exponent_low": 0.9, "exponent_high": 1.06, "per_row": 1278.0}
    write_result(tmp_path, "scale-cpu-2026-01-02-abc.json", "2026-01-02T00:00:00Z", [growth])
    names = ("train", "train-paper", "train-accuracy", "latency", "scale")
    text = table.render("\n".join(f"<!-- table:{name} -->\n<!-- /table -->" for name in names), tmp_path)
    assert "| bank | 12% (10%..20%) | 12,346 (12,000..13,000) | 81 µs | all of it |" in text
    assert "| preset paper | 12 | 520 | 0.0 s | 41.3 s | 7,500.0 s, calculated from those run, no measurement |" in text
    assert "| demo | 99.0% | 5,200 | 4.0 s, no | 0.9910, 0.9800 | 4.0 s |" in text
    assert "| CPU, eager | 10 (10..10) | 20 (20..20) | 30 (30..30) | 1,234 | 5,000 | torch |" in text
    assert "| rows: | 10,000 | 1,000,000 | exponent (95 %) | one row adds | |" in text
    assert "| open [s] | 0.0123 | 1.5 | 0.98 (0.90..1.06) | 1,278 ns | read |" in text
