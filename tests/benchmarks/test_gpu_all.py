"""The command for a GPU machine: each part is judged by what it did, a second start goes on, budgets are kept."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS_DIR = Path(__file__).parents[2] / "benchmarks"
REPO_DIR = BENCHMARKS_DIR.parent

# A part that writes a result as the harness does outside of git, and one that waits until it is let go.
WRITES = """\
import json, pathlib
folder = pathlib.Path(__file__).parent / "results"
folder.mkdir(exist_ok=True)
result = {"commit": "unknown", "columns": {"a": [1]}}
(folder / "kernel-cpu-2026-01-02-unknown.json").write_text(json.dumps(result))
(folder / "kernel-cpu-2026-01-02-unknown.png").write_text("a picture")
"""
WAITS = """\
import os, pathlib, time
folder = pathlib.Path(__file__).parent
(folder / "pid").write_text(str(os.getpid()))
while not (folder / "go").exists():
    time.sleep(0.02)
"""
# Written in two pieces, or this file would be taken for one with GPU tests.
TESTS = (
    "import pytest\n\n@pytest.mark."
    """gpu
def test_one():
    pytest.skip("no GPU here")

def test_two():
    assert False
"""
)


@pytest.fixture
def gpu_all(program):
    return program("gpu_all")


@pytest.fixture
def part_of(program):
    return program("gpu_parts").Part


@pytest.fixture
def checkout(tmp_path):
    """A checkout without git, with small programs in place of some parts."""
    folder = tmp_path / "checkout"
    (folder / "benchmarks").mkdir(parents=True)
    for name in ("gpu_all.py", "gpu_parts.py", "gpu_state.py", "gpu_all", "harness.py", "result_files.py"):
        shutil.copy(BENCHMARKS_DIR / name, folder / "benchmarks" / name)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_a.py").write_text(TESTS)
    (folder / "tests" / "test_b.py").write_text("this is no test of a GPU, and no Python\n")
    (folder / "benchmarks" / "smoke.py").write_text("print('all is well')\n")
    (folder / "benchmarks" / "kernel.py").write_text(WRITES)
    (folder / "benchmarks" / "step.py").write_text("import sys\nprint('no luck')\nsys.exit(3)\n")
    (folder / "benchmarks" / "loader.py").write_text(WAITS)
    (folder / "benchmarks" / "baselines.py").write_text("import fastcell\nprint(fastcell.__file__)\n")
    return folder


def start(checkout, out, *more):
    variables = {**os.environ, "PYTHONPATH": str(REPO_DIR), "PYTHON": sys.executable, "FASTCELL_COMMIT": "abc1234"}
    command = [checkout / "benchmarks" / "gpu_all", "--device", "cpu", "--work", out, "--out", out.parent, *more]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_state(out):
    try:
        return json.loads((out / "gpu_all" / "state.json").read_text())["parts"]
    except FileNotFoundError:
        return {}


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_second_start_goes_on_where_the_first_was_cut_off(checkout, tmp_path, kill):
    out = tmp_path / "out"
    first = start(checkout, out)
    wait_for((checkout / "benchmarks" / "pid").exists)
    wait_for(lambda: (checkout / "benchmarks" / "pid").read_text())
    pid = int((checkout / "benchmarks" / "pid").read_text())
    first.send_signal(kill)
    said = first.communicate(timeout=60)[0]
    assert first.returncode == (-signal.SIGKILL if kill == signal.SIGKILL else 130)
    wait_for(lambda: not is_alive(pid), 20)
    assert read_state(out)["loader"]["status"] == ("running" if kill == signal.SIGKILL else "interrupted")
    assert "[2/13] kernel: passed" in said

    (checkout / "benchmarks" / "go").touch()
    second = start(checkout, out)
    said = second.communicate(timeout=120)[0]
    assert second.returncode == 1, said
    parts = read_state(out)
    status = {name: part["status"] for name, part in parts.items()}
    gone = dict.fromkeys(("train", "paper", "predict", "latency", "ranks", "accuracy", "scale"), "skipped")
    done = {
        "smoke": "passed",
        "tests": "skipped",
        "kernel": "passed",
        "step": "failed",
        "loader": "passed",
        "baselines": "passed",
    }
    assert status == done | gone
    assert "kernel: passed in an earlier start" in said
    assert "[6/13] loader: passed in" in said
    assert parts["tests"]["reason"] == "0 passed, 0 failed, 1 skipped: no GPU here"
    assert parts["step"]["reason"] == "exit code 3"
    assert parts["scale"]["reason"] == "no such program: benchmarks/scale.py"
    assert "no luck" in (out / "gpu_all" / "step.log").read_text()
    assert str(checkout) not in (out / "gpu_all" / "baselines.log").read_text()  # PYTHONPATH leads to the package
    assert str(REPO_DIR / "fastcell") in (out / "gpu_all" / "baselines.log").read_text()
    assert parts["kernel"]["results"] == ["kernel-cpu-2026-01-02-abc1234.json", "kernel-cpu-2026-01-02-abc1234.png"]
    saved = json.loads((out / "kernel-cpu-2026-01-02-abc1234.json").read_text())
    assert saved == {"commit": "abc1234", "columns": {"a": [1]}}
    assert list((checkout / "benchmarks" / "results").iterdir()) == []
    summary = (out / "gpu_all" / "summary.txt").read_text()
    assert "nothing is left to do" in summary
    assert [line.split()[0] for line in summary.splitlines()[1:-1]] == [
        *("smoke", "kernel", "train", "paper", "predict", "loader", "latency", "tests", "ranks", "accuracy", "step"),
        *("scale", "baselines"),
    ]
    shutil.rmtree(out)  # another machine, with the archive alone
    again = start(checkout, out)
    said = again.communicate(timeout=120)[0]
    assert "kernel: passed in an earlier start" in said
    assert (out / "kernel-cpu-2026-01-02-abc1234.json").exists()
    assert (tmp_path / "gpu_all.tar.gz").exists()


def test_where_the_first_part_fails_nothing_is_timed(checkout, tmp_path):
    (checkout / "benchmarks" / "smoke.py").write_text("raise SystemExit('a kernel differs')\n")
    out = tmp_path / "out"
    process = start(checkout, out)
    assert "nothing else is run" in process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert set(read_state(out)) == {"smoke"}
    (checkout / "benchmarks" / "smoke.py").write_text("print('mended')\n")
    (checkout / "benchmarks" / "go").touch()
    assert start(checkout, out, "--only", "smoke,kernel").wait(60) == 0
    assert {part["status"] for part in read_state(out).values()} == {"passed"}


def test_a_budget_leaves_the_least_worthy_parts_for_later(checkout, tmp_path):
    (checkout / "benchmarks" / "go").touch()
    out = tmp_path / "out"
    process = start(checkout, out, "--budget", "179", "--only", "kernel,loader,latency")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    parts = read_state(out)
    assert {name: part["status"] for name, part in parts.items()} == {
        "kernel": "skipped",
        "loader": "skipped",
        "latency": "skipped",
    }
    assert "of the budget were left, it may take 180 s" in parts["kernel"]["reason"]
    assert parts["latency"]["reason"] == "no such program: benchmarks/predict.py"
    assert "left for another start: kernel, loader" in said
    assert start(checkout, out, "--only", "kernel,loader").wait(60) == 0
    assert read_state(out)["kernel"]["status"] == "passed"


def test_a_part_shrinks_before_it_is_left_out(gpu_all, part_of):
    part = part_of("kernel", "", ("benchmarks/kernel.py", "--rounds", "7"), ("--quick",), 90, 60)
    assert gpu_all.choose(part, False, 91)[:2] == (["benchmarks/kernel.py", "--rounds", "7"], 90)
    arguments, limit_s, note = gpu_all.choose(part, False, 89)
    assert (arguments, limit_s, note) == (
        ["benchmarks/kernel.py", "--quick"],
        60,
        "in small: 89 s of the budget were left",
    )
    assert gpu_all.choose(part, False, 59)[0] is None
    assert gpu_all.choose(part, True, 91)[:2] == (["benchmarks/kernel.py", "--quick"], 60)
    assert gpu_all.choose(part, True, 91, slack=2) == (None, 0.0, "91 s of the budget were left, it may take 120 s")


def test_a_part_that_takes_too_long_ends_with_its_children(gpu_all, tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    begin = time.monotonic()
    assert gpu_all.run(["-c", code], 1.0, tmp_path / "log") is None
    assert time.monotonic() - begin < 20
    pid = int((tmp_path / "log").read_text())
    wait_for(lambda: not is_alive(pid), 10)
    assert gpu_all.judge(None, 1.0).status == "timed out"
    assert gpu_all.judge(-9, 1.0).reason == "signal 9"


REPORT = '<testsuites><testsuite errors="{}" failures="{}" skipped="{}" tests="{}">{}</testsuite></testsuites>'


@pytest.mark.parametrize(
    ("counts", "code", "has_gpu", "status", "reason"),
    [
        ((0, 0, 1, 5), 0, True, "passed", "4 passed, 0 failed, 1 skipped"),
        ((0, 2, 0, 5), 1, True, "failed", "3 passed, 2 failed, 0 skipped; exit code 1"),
        ((1, 0, 0, 5), 2, True, "failed", "4 passed, 1 failed, 0 skipped; exit code 2"),
        ((0, 0, 5, 5), 0, True, "failed", "0 passed, 0 failed, 5 skipped: why"),
        ((0, 0, 5, 5), 0, False, "skipped", "0 passed, 0 failed, 5 skipped: why"),
        ((0, 0, 0, 0), 5, True, "failed", "0 passed, 0 failed, 0 skipped: none found"),
        ((0, 0, 0, 3), -11, True, "failed", "3 passed, 0 failed, 0 skipped; exit code -11"),
    ],
)
def test_tests_that_were_skipped_have_not_passed_on_a_gpu(gpu_all, tmp_path, counts, code, has_gpu, status, reason):
    skipped = '<testcase name="a"><skipped message="why"/></testcase>' if counts[2] else ""
    (tmp_path / "report.xml").write_text(REPORT.format(*counts, skipped))
    outcome = gpu_all.judge_tests(tmp_path / "report.xml", code, has_gpu)
    assert (outcome.status, outcome.reason) == (status, reason)
    assert gpu_all.judge_tests(tmp_path / "none.xml", 4, True).reason == "exit code 4, no report"


def test_another_commit_or_a_broken_file_starts_afresh(gpu_all, tmp_path):
    path = tmp_path / "state.json"
    state = gpu_all.State(path, {"commit": "a"})
    state.set("kernel", gpu_all.Outcome("passed", 1.5, results=("r.json",)))
    again = gpu_all.State(path, {"commit": "a"})
    assert again.done("kernel")
    assert again.outcomes["kernel"] == gpu_all.Outcome("passed", 1.5, results=("r.json",))
    other = gpu_all.State(path, {"commit": "b"})
    assert not other.done("kernel")
    assert "is of another run" in other.note
    path.write_text("{")
    assert "cannot be read" in gpu_all.State(path, {"commit": "a"}).note


def test_every_benchmark_that_is_named_exists_or_is_said_to_be_missing(gpu_all, capsys):
    assert gpu_all.main(["--dry-run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    for part in (part for part in gpu_all.PARTS if part.name != "tests"):
        program = part.command[0]
        if (REPO_DIR / program).is_file():
            text = (REPO_DIR / program).read_text()
            for option in (word for word in (*part.command, *(part.small or ())) if word.startswith("--")):
                assert f'"{option}"' in text, f"{program} has no {option}"
        else:
            assert f"no such program: {program}" in said
    files = [word for word in gpu_all.gpu_tests(Path("r.xml")) if word.startswith("tests/")]
    assert "tests/gpu/test_transform_gpu.py" in files
    assert not any(file.startswith("tests/benchmarks/") for file in files)


def test_what_took_too_long_is_run_once_more_in_small(gpu_all, part_of, tmp_path):
    (tmp_path / "gpu_all").mkdir()
    part = part_of("slow", "", ("-c", "import time; time.sleep(60)"), ("import time; time.sleep(61)",), 1, 1)
    state = gpu_all.State(tmp_path / "state.json", {})
    gpu_all.run_parts([part], state, tmp_path, 100, 1, small=False, has_gpu=True)
    assert (state.outcomes["slow"].status, state.done("slow")) == ("timed out", False)
    assert gpu_all.exit_code([part], state) == 1
    gpu_all.run_parts([part], state, tmp_path, 0, 1, small=False, has_gpu=True)  # no time: nothing is forgotten
    assert (state.outcomes["slow"].status, state.done("slow")) == ("timed out", False)
    quick = part_of("slow", "", part.command, ("print(1)",), 1, 60)
    gpu_all.run_parts([quick], state, tmp_path, 100, 1, small=False, has_gpu=True)
    assert (state.outcomes["slow"].status, state.done("slow")) == ("passed", True)
    assert state.outcomes["slow"].reason == "in small: it took too long in an earlier start"
    short = part_of("short", "", ("-c", "print(1)"), ("print(2)",), 50, 20)
    kept = gpu_all.State(tmp_path / "short.json", {})
    for budget_s, is_done, reason in ((30, False, "in small: 30 s of the budget were left"), (60, True, "")):
        gpu_all.run_parts([short], kept, tmp_path, budget_s, 1, small=False, has_gpu=True)
        assert (kept.outcomes["short"].status, kept.done("short")) == ("passed", is_done)
        assert kept.outcomes["short"].reason == reason
    assert (tmp_path / "gpu_all" / "slow.log").read_text() == "1\n"
    again = gpu_all.State(tmp_path / "again.json", {})
    gpu_all.run_parts([part], again, tmp_path, 100, 1, small=True, has_gpu=True)
    assert again.done("slow")  # there is nothing smaller


def test_scale_takes_the_sizes_that_it_is_given(gpu_all, program):
    (part,) = (part for part in gpu_all.PARTS if part.name == "scale")
    for arguments in (part.command, part.small):
        given = dict(itertools.pairwise(arguments))
        assert int(given.get("--stored", 20_000)) >= program("linked_rows").SHARD_CELLS
        assert int(given["--max-rows"]) >= program("scale").SIZES[1]


def test_its_programs_start_without_packages_that_they_do_not_need(gpu_all):
    """As on a machine with CuPy, Lightning and Numba, and without DALI, jsonargparse and readers of formats."""
    code = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[2].split(","):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
for program in sys.argv[1].split(","):
    importlib.import_module(program)
"""
    programs = {Path(part.command[0]).stem for part in gpu_all.PARTS if part.command[0].endswith(".py")}
    assert {"smoke", "kernel", "train", "predict", "loader"} <= programs
    missing = "nvidia.dali,jsonargparse,docstring_parser,imagecodecs,webdataset,openvino,starlette"
    command = [sys.executable, "-c", code, ",".join(sorted(programs)), missing]
    subprocess.run(command, check=True, cwd=REPO_DIR / "benchmarks", env={**os.environ, "PYTHONPATH": str(REPO_DIR)})
