"""A result file gives back its rows, is compact, and all that git keeps stay small."""

import lzma
import math
import subprocess
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).parents[2]
LARGEST_TREE = int(7.3 * 2**20)


@pytest.fixture
def result_files(program):
    return program("result_files")


def test_rows_come_back_with_six_digits(result_files, tmp_path):
    rows = [
        {"name": "a", "value": 1 / 3, "nested": {"low": 123456789.0}, "list": (0.1 + 0.2, None), "flag": True},
        {"name": "b", "value": math.inf, "nested": {"low": 1e-9}, "list": [], "flag": False},
    ]
    path = tmp_path / "x.json"
    result_files.write_result(path, {"bench": "try", "settings": {"batch": 8.0}, "rows": rows})
    found = result_files.read_result(path)
    assert found["settings"] == {"batch": 8.0}
    assert found["rows"] == [
        {"name": "a", "value": 0.333333, "nested": {"low": 123457000.0}, "list": [0.3, None], "flag": True},
        {"name": "b", "value": math.inf, "nested": {"low": 1e-9}, "list": [], "flag": False},
    ]
    lines = path.read_text().splitlines()
    assert lines[-7:-5] == ['"name": ["a","b"],', '"value": [0.333333,Infinity],']  # a line a column
    again = tmp_path / "y.json"
    result_files.write_result(again, found)
    assert again.read_bytes() == path.read_bytes()


def test_rows_of_different_keys_are_refused(result_files, tmp_path):
    with pytest.raises(ValueError, match=r"must have the keys \['a'\]"):
        result_files.write_result(tmp_path / "x.json", {"rows": [{"a": 1}, {"b": 1}]})
    assert list(tmp_path.iterdir()) == []


def plain(path):
    """Bytes of a result before compression, whose own differ with the version of the library."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def test_every_kept_result_is_of_this_form(result_files, tmp_path):
    folder = REPO_DIR / "benchmarks" / "results"
    paths = result_files.result_paths(folder)
    assert paths
    for path in paths:
        again = result_files.write_result(tmp_path / path.name, result_files.read_result(path))
        assert plain(again) == plain(path), path.name
    written, kept = ({path.name for path in place.glob("environment-*")} for place in (tmp_path, folder))
    assert written == kept  # each of them is of a result


def test_every_kept_result_names_a_commit_of_this_history(result_files):
    try:
        done = subprocess.run(["git", "rev-list", "HEAD"], cwd=REPO_DIR, capture_output=True, text=True, check=True)
        shallow = subprocess.run(
            ["git", "rev-parse", "--is-shallow-repository"], cwd=REPO_DIR, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    if shallow.stdout.strip() == "true":
        pytest.skip("a checkout without its history")
    known = {name[:7] for name in done.stdout.split()}
    paths = result_files.result_paths(REPO_DIR / "benchmarks" / "results")
    commits = {path.name: result_files.read_result(path)["commit"] for path in paths}
    assert not {name: commit for name, commit in commits.items() if commit.removesuffix("-dirty")[:7] not in known}
    assert all(f"-{commit}.json" in name for name, commit in commits.items())


def test_large_results_are_compressed(result_files, tmp_path):
    rows = [{"row": number, "value": 0.5} for number in range(2000)]
    path = result_files.write_result(tmp_path / "x.json", {"bench": "try", "rows": rows})
    assert path == tmp_path / "x.json.xz"
    assert path.stat().st_size < len(plain(path)) / 3
    assert result_files.read_result(path)["rows"] == rows
    assert result_files.write_result(path, {"bench": "try", "rows": rows}) == path
    small = result_files.write_result(tmp_path / "b.json", {"rows": []})
    assert small == tmp_path / "b.json"
    assert result_files.result_paths(tmp_path) == [small, path]
    assert result_files.result_paths(tmp_path, "x*") == [path]


def test_results_of_one_machine_share_what_describes_it(result_files, tmp_path):
    machine = {"cpu": "AMD EPYC", "packages": {"torch": "2.13.0"}, "gpus": []}
    results = [{"environment": machine | {"load_average_end": [load, 0.5]}, "rows": []} for load in (1.5, 2.5)]
    paths = [result_files.write_result(tmp_path / f"{number}.json", one) for number, one in enumerate(results)]
    (shared,) = tmp_path.glob("environment-*")
    assert [result_files.read_result(path) for path in paths] == results
    assert result_files.result_paths(tmp_path) == paths
    for path in paths:
        assert result_files.write_result(path, result_files.read_result(path)) == path
    result_files.write_result(tmp_path / "2.json", {"environment": machine | {"cpu": "another"}, "rows": []})
    assert len(list(tmp_path.glob("environment-*"))) == 2
    assert b"EPYC" in plain(shared)


def test_tracked_files_stay_small():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO_DIR, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [REPO_DIR / name.decode() for name in listed.split(b"\0") if name]
    sizes = sorted(((path.stat().st_size, path.name) for path in paths if path.is_file()), reverse=True)
    total = sum(size for size, _ in sizes)
    assert total < LARGEST_TREE, f"{total / 2**20:.2f} MiB; the largest: {sizes[:8]}"
