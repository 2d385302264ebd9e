"""Hostile inputs by the thousand: nothing may crash, hang, fill the memory or leave a file where it does not belong.

    python tests/fuzz/runner.py FOLDER --cases 10000 --decode 500

Workers run the cases, so that one that dies takes only itself along and is known by its seed. What our `decode` accepts
then goes through DALI's decoder, in a process of its own too. Prints a report; exit status 1 where there is a fault.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]


def run_workers(script, folder, first, stop, jobs):
    """The rows of `script` for all numbers of range(first, stop), shared by `jobs` processes."""
    rows = []
    threads = [
        threading.Thread(target=_run_until_done, args=(script, folder, first + job, stop, jobs, rows))
        for job in range(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(rows, key=lambda row: row["seed"])


def _run_until_done(script, folder, first, stop, step, rows):
    """Start the script anew behind the case that ended it, until all are done."""
    while first < stop:
        command = [sys.executable, str(HERE / script), str(folder), str(first), str(stop), str(step)]
        log = folder / f"{Path(script).stem}-{first}.log"
        begun = None
        with open(log, "wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            for line in process.stdout:
                row = json.loads(line)
                if "begin" in row:
                    begun = row["begin"]
                else:
                    rows.append(row)
                    begun = None
        if begun is None:
            if process.returncode:
                raise RuntimeError(f"{script} did not start: {log.read_text(errors='replace')[-2000:]}")
            return
        said = log.read_text(errors="replace")[-2000:]
        fault = f"ended the process with {process.returncode}: {said}"
        rows.append({"seed": begun, "kind": "?", "outcome": "fault", "fault": fault, "s": 0.0, "bytes": 0})
        first = begun + step


def summarize(rows):
    """Counts, the slowest and the largest case, and every fault."""
    outcomes = collections.Counter(f"{row['kind']} {row['outcome']}" for row in rows)
    return {
        "cases": len(rows),
        "outcomes": dict(sorted(outcomes.items())),
        "slowest_s": max((row["s"] for row in rows), default=0.0),
        "largest_bytes": max((row["bytes"] for row in rows), default=0),
        "faults": {row["seed"]: row["fault"] for row in rows if row["fault"]},
    }


def main():
    parser = argparse.ArgumentParser(description="Give hostile inputs to everything that opens a file.")
    parser.add_argument("folder", type=Path, help="for the inputs; must not exist")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--decode", type=int, default=500, help="accepted images that DALI decodes, at most")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    options.folder.mkdir()
    begin = time.perf_counter()
    rows = run_workers("worker.py", options.folder, options.first, options.first + options.cases, options.jobs)
    report = {"validators": summarize(rows)}
    accepted = sorted((options.folder / "accepted").iterdir())[: options.decode]
    if accepted:
        report["dali"] = summarize(run_workers("dali_worker.py", options.folder, 0, len(accepted), 1))
    report["seconds"] = round(time.perf_counter() - begin, 1)
    print(json.dumps(report, indent=1))
    return any(part["faults"] for part in report.values() if isinstance(part, dict))


if __name__ == "__main__":
    sys.exit(main())
