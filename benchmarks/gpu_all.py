"""Everything that a GPU machine is wanted for, in one command: benchmarks in order of importance, then the GPU tests.

Each part runs in its own process with a time limit. Its log, its results and a line in ``gpu_all/state.json`` are in
the folder ``--work`` as soon as it ends, and then all of it in one file, ``gpu_all.tar.gz`` in ``--out``: a run that is
cut off loses one part at most. The same command goes on behind it, on another machine from the archive in ``--out``:
parts that have ended, well or not, are not run again (``--again`` does), those that were cut off, ran in a smaller size
for want of time or had no time left are, and what took too long is run once more in its smaller size. A part that fails
does not stop the others, but for the first: where that computes something else than the CPU, nothing is worth timing.
The exit code is 1 if any has failed or timed out.

``--budget`` bounds the whole of one start. A part whose time limit no longer fits is run in a smaller size, or left out
where that does not fit either, and the summary says so. Nothing is downloaded. The commit in the results is that of the
checkout; outside of git, the variable FASTCELL_COMMIT's.

    benchmarks/gpu_all [--out DIR] [--budget 480] [--dry-run] [--device auto|gpu|cpu] [--small] [--only kernel,step]

``--device cpu`` runs all parts in small sizes on a machine with no GPU. It shows that the command works, and measures
nothing worth keeping.
"""

import argparse
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from gpu_parts import BENCHMARKS_DIR, PARTS, REPO_DIR
from gpu_state import ARCHIVE, COMMIT_VARIABLE, Outcome, State, collect, snapshot, unpack, write_archive

GRACE_S = 5.0  # between being asked to end and being made to


CPU_SLACK = 3.0  # times the limits, on a machine with no GPU: it need not be fast


class StopRequest(Exception):  # noqa: N818, nothing is wrong
    """The command was asked to end."""


def main(argv=None):
    """Run what is left to do; returns the exit code."""
    options = parse(argv)
    has_gpu = find_gpu() if options.device != "cpu" else False
    if options.device == "gpu" and not has_gpu:
        print("--device gpu needs a GPU that torch can use, found none. Take --device cpu to try the command.")
        return 2
    small = options.small or not has_gpu
    slack = options.slack or (1.0 if has_gpu else CPU_SLACK)
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    if options.dry_run:
        print_plan(parts, small, options.budget, slack)
        return 0
    folder = options.work / "gpu_all"
    folder.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    archive = options.out / ARCHIVE
    name = find_commit()
    identity = {"commit": name, "gpu": has_gpu, "small": options.small}
    if options.again:
        (folder / "state.json").unlink(missing_ok=True)
    elif archive.exists() and not (folder / "state.json").exists():
        unpack(archive, options.work)
    state = State(folder / "state.json", identity)
    print(f"commit {name}, {'GPU' if has_gpu else 'CPU, small sizes'}, {options.budget:.0f} s; {archive}")
    if state.note:
        print(state.note)
    signal.signal(signal.SIGTERM, stop)
    try:
        run_parts(parts, state, options.work, options.budget, slack, small, has_gpu, archive)
    except (StopRequest, KeyboardInterrupt):
        print(summarize(parts, state, folder))
        write_archive(archive, options.work)
        return 130
    print(summarize(parts, state, folder))
    write_archive(archive, options.work)
    return exit_code(parts, state)


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=BENCHMARKS_DIR / "results", help=f"where {ARCHIVE} is (%(default)s)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "fastcell-gpu-all",
        help="results and logs, before they are in the archive (%(default)s)",
    )
    parser.add_argument("--budget", type=float, default=480, help="seconds for this start (%(default)s)")
    parser.add_argument("--slack", type=float, help="times the time limits (1; 3 on a machine with no GPU)")
    parser.add_argument("--device", choices=("auto", "gpu", "cpu"), default="auto", help="(%(default)s)")
    parser.add_argument("--small", action="store_true", help="small sizes on a GPU too")
    parser.add_argument("--only", type=lambda text: text.split(","), help="these parts, with commas between them")
    parser.add_argument("--again", action="store_true", help="forget what an earlier start has done")
    parser.add_argument("--dry-run", action="store_true", help="list what would be run")
    options = parser.parse_args(argv)
    known = {part.name for part in PARTS}
    if options.only and not known.issuperset(options.only):
        parser.error(f"--only must be of {', '.join(sorted(known))}, got {','.join(options.only)}.")
    options.out, options.work = options.out.resolve(), options.work.resolve()
    return options


def run_parts(parts, state, out, budget_s, slack, small, has_gpu, archive=None):
    """Run the parts that are left, one after the other; `archive` holds all of `out` behind each of them."""
    end = time.monotonic() + budget_s
    for number, part in enumerate(parts, 1):
        head = f"[{number}/{len(parts)}] {part.name}"
        if state.done(part.name):
            print(f"{head}: {state.outcomes[part.name].status} in an earlier start")
            continue
        too_long = part.name in state.outcomes and state.outcomes[part.name].status == "timed out"
        arguments, limit_s, note = choose(part, small or too_long, end - time.monotonic(), slack)
        if too_long and not small and arguments is not None:
            note = "in small: it took too long in an earlier start"
        if arguments is None:
            if not too_long:
                state.set(part.name, Outcome("skipped", reason=note, later=not note.startswith("no such")))
            print(f"{head}: skipped, {note}", flush=True)
            continue
        log = out / "gpu_all" / f"{part.name}.log"
        report = out / "gpu_all" / f"{part.name}.xml"
        if part.name == "tests":
            arguments += gpu_tests(report)
        print(f"{head}: {' '.join(arguments)} (at most {limit_s:.0f} s)", flush=True)
        state.set(part.name, Outcome("running", log=str(log.relative_to(out)), later=True))
        report.unlink(missing_ok=True)
        before, start = snapshot(BENCHMARKS_DIR / "results"), time.monotonic()
        try:
            code = run(arguments, limit_s, log)
        except (StopRequest, KeyboardInterrupt):
            seconds = time.monotonic() - start
            state.set(part.name, Outcome("interrupted", seconds, "asked to end", str(log.relative_to(out)), (), True))
            raise
        outcome = judge(code, limit_s)
        # The next start has a smaller size for what took too long.
        is_full = tuple(arguments) == part.command or part.small is None
        outcome.later = code is None and part.small is not None and is_full
        outcome.later |= not is_full and not small and not too_long  # for want of time: in full another time
        if part.name == "tests" and code is not None:
            outcome = judge_tests(report, code, has_gpu)
        outcome.seconds, outcome.log = time.monotonic() - start, str(log.relative_to(out))
        outcome.reason = "; ".join(text for text in (outcome.reason, note) if text)
        outcome.results = tuple(collect(BENCHMARKS_DIR / "results", before, out))
        state.set(part.name, outcome)
        if archive is not None:
            write_archive(archive, out)
        print(f"{head}: {outcome.status} in {outcome.seconds:.0f} s {outcome.reason}", flush=True)
        if outcome.status in ("failed", "timed out"):
            print("".join(f"    {line}\n" for line in tail(log)), end="", flush=True)
        if part.name == "smoke" and outcome.status == "failed":
            print("the first part has failed: nothing else is run, and this part again at the next start")
            outcome.later = True
            state.set(part.name, outcome)
            return


def choose(part, small, left_s, slack=1):
    """Arguments for the interpreter, time limit [s], and what is worth saying; None where the part cannot run."""
    program = part.command[0]
    if program.endswith(".py") and not (REPO_DIR / program).is_file():
        return None, 0.0, f"no such program: {program}"
    if not small and left_s >= part.limit_s * slack:
        return list(part.command), part.limit_s * slack, ""
    least_s = slack * (part.limit_s if part.small is None else part.small_limit_s)
    if left_s < least_s:
        return None, 0.0, f"{max(left_s, 0):.0f} s of the budget were left, it may take {least_s:.0f} s"
    if part.small is None:
        return list(part.command), least_s, ""
    return [program, *part.small], least_s, "" if small else f"in small: {left_s:.0f} s of the budget were left"


def gpu_tests(report):
    """Arguments of pytest: the files with GPU tests, without what the project's settings ask of other plug-ins."""
    files = [
        str(path.relative_to(REPO_DIR))
        for path in sorted((REPO_DIR / "tests").rglob("test_*.py"))
        if re.search(r"^(@|pytestmark = )pytest\.mark\.gpu\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    settings = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
    return [*settings, "-m", "gpu", "-q", "-rs", f"--junitxml={report}", *files]


def run(arguments, limit_s, log):
    """Run the interpreter in the checkout, output into `log`; its exit code, None where it took too long."""
    paths = [str(REPO_DIR), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPO_DIR,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end_group(process)


def die_with_parent():
    """In a child: be killed when its parent ends, even by SIGKILL, so that it does not disturb the next start."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def end_group(process):
    """End what is left of a part: its process and those that it has started."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait_s)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.poll()


def judge(code, limit_s):
    """What an exit code means."""
    if code is None:
        return Outcome("timed out", reason=f"took more than {limit_s:.0f} s")
    if code == 0:
        return Outcome("passed")
    return Outcome("failed", reason=f"signal {-code}" if code < 0 else f"exit code {code}")


def judge_tests(report, code, has_gpu):
    """What pytest's report means: on a GPU machine tests that were skipped have not passed."""
    try:
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
    except (OSError, ElementTree.ParseError, AssertionError):
        return Outcome("failed", reason=f"exit code {code}, no report")
    total, failed, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    ran = total - skipped
    counts = f"{ran - failed} passed, {failed} failed, {skipped} skipped"
    if failed or code not in (0, 5):
        return Outcome("failed", reason=f"{counts}; exit code {code}")
    if ran:
        return Outcome("passed", reason=counts)
    why = next((element.get("message", "") for element in suite.iter("skipped")), "none found")
    return Outcome("failed" if has_gpu else "skipped", reason=f"{counts}: {why}")


def find_commit():
    """The checkout's commit as results name it, else the variable's value, else ``unknown``."""
    sys.path.insert(0, str(BENCHMARKS_DIR))
    sys.path.insert(1, str(REPO_DIR))
    from harness import commit

    name = commit()
    return os.environ.get(COMMIT_VARIABLE, name) if name == "unknown" else name


def find_gpu():
    """Whether torch can use a GPU; asked in another process, so that this one holds no GPU memory."""
    code = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def stop(number, frame):
    """Handle SIGTERM."""
    raise StopRequest


def tail(path, lines=15):
    """The last lines of a log."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]


def print_plan(parts, small, budget_s, slack):
    """List what would be run, in order."""
    print(f"{budget_s:.0f} s for all; in this order, as far as it goes:")
    for part in parts:
        arguments, limit_s, note = choose(part, small, budget_s, slack)
        command = note if arguments is None else f"{' '.join(arguments)} (at most {limit_s:.0f} s)"
        print(f"  {part.name:<10} {part.what}: {command}")


def summarize(parts, state, folder):
    """A line for each part; also written to ``summary.txt``."""
    lines = [f"{'part':<11}{'status':<13}{'s':>6}  reason, results"]
    missing = Outcome("not run", later=True)
    for part in parts:
        outcome = state.outcomes.get(part.name, missing)
        said = ", ".join(filter(None, [outcome.reason, *outcome.results]))
        lines.append(f"{part.name:<11}{outcome.status:<13}{outcome.seconds:>6.0f}  {said}".rstrip())
    left = [part.name for part in parts if not state.done(part.name)]
    lines.append(f"left for another start: {', '.join(left)}" if left else "nothing is left to do")
    text = "\n".join(lines)
    (folder / "summary.txt").write_text(text + "\n", encoding="utf-8")
    return "\n" + text


def exit_code(parts, state):
    """0, or 1 where a part has failed or timed out."""
    bad = ("failed", "timed out")
    return int(any(state.outcomes[part.name].status in bad for part in parts if part.name in state.outcomes))


if __name__ == "__main__":
    sys.exit(main())
