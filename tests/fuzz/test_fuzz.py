"""Hostile inputs do no harm: a few hundred of them here, ten thousand among the slow tests.

A fault is reported with its seed; `python tests/fuzz/worker.py FOLDER SEED` repeats that case and leaves its input.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PATH = os.pathsep.join([str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def fuzz(folder, cases, decode, *options):
    command = [sys.executable, str(HERE / "runner.py"), str(folder / "fuzz")]
    command += [f"--cases={cases}", f"--decode={decode}", *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PATH}, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["validators"]["faults"] == {}
    assert report["dali"]["faults"] == {}
    assert done.returncode == 0
    assert report["validators"]["cases"] == cases
    for kind in ("image", "tar", "dataset", "checkpoint"):  # neither all refused nor all taken
        assert report["validators"]["outcomes"][f"{kind} accepted"] > cases / 200
    return report


def test_some_hostile_inputs(tmp_path):
    """In one process: each takes longer to start than the cases take."""
    assert fuzz(tmp_path, 360, 20, "--jobs=1")["dali"]["cases"] == 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_hostile_inputs(tmp_path):
    report = fuzz(tmp_path, 10_000, 450, "--first=1000")
    assert report["dali"]["outcomes"] == {"dali same size": 450}


def test_the_runner_knows_a_crash_by_its_seed(tmp_path):
    sys.path.insert(0, str(HERE))
    try:
        import runner
    finally:
        sys.path.remove(str(HERE))
    script = tmp_path / "crash.py"
    script.write_text(
        "import json, os, sys\n"
        "first, stop, step = map(int, sys.argv[2:])\n"
        "for seed in range(first, stop, step):\n"
        "    print(json.dumps({'begin': seed}), flush=True)\n"
        "    os.abort() if seed == 3 else None\n"
        "    row = {'seed': seed, 'kind': 'k', 'outcome': 'o', 'fault': '', 's': 0, 'bytes': 0}\n"
        "    print(json.dumps(row), flush=True)\n"
    )
    report = runner.summarize(runner.run_workers(str(script), tmp_path, 0, 6, 2))
    assert report["cases"] == 6
    assert list(report["faults"]) == [3]
    assert "ended the process with -6" in report["faults"][3]
