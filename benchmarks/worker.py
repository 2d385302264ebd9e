"""Contestants in processes of their own, seen from the benchmark: start, take a turn, images, memory, end.

The other end is `serve.py` or `peers/ffcv_worker.py`.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
from harness import Done
from serve import descendants

# glibc keeps freed memory, for all alike: page faults of large tensors are not what is compared.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 62), "MALLOC_TOP_PAD_": str(1 << 26)}
_SAMPLE_S = 0.1
_PR_SET_PDEATHSIG = 1


class WorkerError(Exception):
    """A worker that did not start, ended, or answered with an error."""


class Worker:
    """A process that speaks the protocol; a call is one epoch.

    Between its turns it is stopped (SIGSTOP), with all it started: nobody makes batches in another's turn.

    Args:
        command: program and arguments.
        log: file for all that it prints.
        timeout_s: for one answer.
        variables: of its environment, beside those of this process.

    Attributes:
        packages: versions that it told.
        first_batch_cold_s: of its first epoch, once that is over.
        peak_rss_mb, gpu_memory_mb: likewise.
    """

    def __init__(self, command, log, timeout_s=300, variables=None):
        self.log, self.timeout_s = log, timeout_s
        self.first_batch_cold_s = None
        self.peak_rss_mb = None
        self.gpu_memory_mb = None
        self._gpu_before = gpu_memory_used_mb()
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                env={**os.environ, "TMPDIR": str(log.parent), **(variables or {})},  # peers leave files there
            )
        self.packages = {}
        try:
            ready = self._answer()
        except WorkerError:
            self.close()
            raise
        self.packages = ready["packages"]
        self.first_batch_cold_s = ready.get("first_batch_s")  # of a worker whose first epoch comes before `ready`

    def __call__(self):
        """One epoch; memory is that of the first."""
        done = self.ask("go")
        spent = (done["cells"], done["seconds"], done["cpu_seconds"])
        return Done(*spent, done.get("first_batch_s"), self.peak_rss_mb, self.gpu_memory_mb)

    def first_epoch(self):
        """The first epoch, which opens the data, with its memory: proportional set size, looked at ten times a second.

        Shared pages count in parts, so that the sum over processes is memory that is really taken. The GPU's is what
        more is in use afterwards than before the process began.
        """
        sampler = _Sampler(self.process.pid)
        done = self()
        self.peak_rss_mb = sampler.stop()
        if self.first_batch_cold_s is None:
            self.first_batch_cold_s = done.first_batch_s
        after = gpu_memory_used_mb()
        if after is not None and self._gpu_before is not None:
            self.gpu_memory_mb = max(after - self._gpu_before, 0.0)
        return done

    def ask(self, line):
        """Send a line, return the answer."""
        assert self.process.stdin is not None
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # the answer says what happened
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def close(self):
        """End the process and what it started."""
        assert self.process.stdin is not None
        self._signal(signal.SIGCONT)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
            self.process.wait(5)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)  # its session: it and what it started

    def _answer(self):
        assert self.process.stdout is not None
        late = threading.Event()

        def end():
            late.set()
            self.process.kill()

        watch = threading.Timer(self.timeout_s, end)
        watch.daemon = True
        watch.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watch.cancel()  # also where the benchmark is asked to end meanwhile: it would wait for the timer
        if late.is_set():
            raise WorkerError(f"it gave no answer within {self.timeout_s:g} s")
        if not line:
            said = (self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise WorkerError(f"its process ended with status {self.process.wait()}: {said}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer


def _end_with_parent():
    """Linux: SIGKILL for this process when the benchmark is gone; stopped, it would not see its input end."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Sampler:
    """Looks at the memory of a process and its children from a thread."""

    def __init__(self, pid):
        self._pid, self._peak, self._end = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._end.wait(_SAMPLE_S):
            self._peak = max(self._peak, tree_memory_mb(self._pid))

    def stop(self):
        """The most that was seen [MB]."""
        self._end.set()
        self._thread.join()
        return max(self._peak, tree_memory_mb(self._pid))


def tree_memory_mb(pid):
    """Proportional set size of a process and all its children [MB, 10**6 bytes]."""
    total = 0
    for each in [pid, *descendants(pid)]:
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # ended meanwhile
        total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total * 1024 / 1e6


def gpu_memory_used_mb():
    """Memory taken on the first GPU, by whomever [MB, 10**6 bytes]; None without one."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return float(done.stdout.split()[0]) * 2**20 / 1e6
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def write_source(manifest, folder):
    """The stored files of all cells one behind the other, and where each begins: what peers make their files of.

    Writes `cells.bin` and `cells.npy`, int64 (n, 5): offset, bytes, height, width, label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tars = {shard["name"]: (manifest.path / shard["name"]).read_bytes() for shard in manifest.info.shards}
    shard, offset, size = (manifest.column(name) for name in ("shard", "offset", "bytes"))
    with open(folder / "cells.bin", "wb") as file:
        for name, begin, count in zip(shard, offset, size, strict=True):
            file.write(tars[name][begin : begin + count])
    columns = (np.cumsum(size) - size, size, manifest.column("height"), manifest.column("width"), manifest.labels)
    np.save(folder / "cells.npy", np.stack(columns, axis=1).astype(np.int64))
    return folder
