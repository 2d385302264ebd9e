"""Latency, drops and memory of ``fastcell serve`` under a steady stream of cells from another process.

    python benchmarks/live.py paper=RUN student=RUN --rates 0 1000 10000 highest --seconds 60 \\
        -- --backend openvino --precision int8

Each rate is a server with ``--when_full drop`` and a sender, both processes of their own on this machine. The sender
sends each cell when it is due, whatever the server does; the latency of a cell is the time from then until the sender
has its answer. Rate 0 sends a cell after the answer to the one before. ``highest`` is the highest rate without a drop
in 8 s: rates are doubled until cells are dropped, then the range is divided 3 times; the row ``drops begin`` is the
lowest rate at which cells were dropped. Rows go to ``--work`` as they are
measured, and a repeated call goes on there; at the end they become a result. Where other programs use the machine,
latencies are theirs too: the CPU time of a cell and the p99 of the quietest 5 s say more about the server, and of
``--tries`` the one is kept in which the server waited least for a core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Result

from fastcell.live.client import Client
from fastcell.live.protocol import AnswerStatus

STEP_S = 8.0
FIRST_RATE = 1000.0
DIVISIONS = 3
TICK_S = 0.0005
QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
EARLY_S = 5.0
QUIET_S = 5.0
STEP_QUEUE = 1024
"""Cells that may wait in a step: few, so that a rate above what the server can do shows within it."""


@dataclass
class LiveRow:
    """One rate.

    Attributes:
        network: name of the network.
        wanted: the rate that was asked for.
        rate: cells due in a second; 0 for one by one.
        seconds: duration.
        sent, answered, dropped: numbers of cells.
        p50_ms, p99_ms, p999_ms: latency of the answered cells, seen by the sender.
        quiet_p99_ms: p99 of the 5 s in which it was lowest.
        early_mib, end_mib: memory of the server after 5 s, and at the end.
        server_us: CPU time of the server per cell.
        sender_share: cores that the sender used.
        waited: time that the threads of the server waited for a core, in s per s.
        load: load average of the machine at the end.
    """

    network: str
    wanted: str
    rate: float
    seconds: float
    sent: int
    answered: int
    dropped: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    quiet_p99_ms: float
    early_mib: float
    end_mib: float
    server_us: float
    sender_share: float
    waited: float
    load: float


def send(address, rate, seconds, side):
    """Send cells at a rate and return latencies and counts. A rate of 0 sends one cell at a time, each after the
    answer to the one before."""
    cells = np.random.default_rng(0).integers(0, 256, (4096, side, side), dtype=np.uint8)
    latencies = []
    windows = {}
    dropped = answered = sent = 0
    with Client(address, timeout=600) as client:

        def take(least):
            nonlocal dropped, answered
            rows = client.receive(least).rows
            now = time.perf_counter_ns()
            good = rows["status"] == AnswerStatus.ANSWERED
            dropped += int((rows["status"] == AnswerStatus.DROPPED).sum())
            answered += int(good.sum())
            latencies.append(((now - rows["time"][good].astype(np.int64)) / 1e6).astype(np.float32))
            windows.setdefault(int((now / 1e9 - start) / QUIET_S), []).append(latencies[-1])

        client.predict(cells[:512])
        start = time.perf_counter()
        cpu = time.process_time()
        while (now := time.perf_counter()) < start + seconds:
            if not rate:
                place = sent % len(cells)
                client.send(cells[place : place + 1], times=[time.perf_counter_ns()])
                sent += 1
                take(1)
                continue
            due = int((now - start) * rate) + 1  # cell n is due at n / rate
            if due > sent:
                numbers = np.arange(sent, min(due, sent + len(cells)))
                times = ((start + numbers / rate) * 1e9).astype(np.uint64)
                client.send(cells[numbers % len(cells)], numbers, times=times)
                sent = int(numbers[-1]) + 1
            until_next = start + sent / rate - time.perf_counter()
            if select.select([client], [], [], min(max(until_next, 0.0), TICK_S))[0]:
                take(0)
        while client.unanswered:
            take(1)
        taken = time.perf_counter() - start
        cpu = time.process_time() - cpu
    found = np.concatenate(latencies)
    row = {"sent": sent, "answered": answered, "dropped": dropped, "seconds": round(taken, 1)}
    row["sender_share"] = round(cpu / taken, 3)
    whole = [np.concatenate(windows[number]) for number in range(int(seconds / QUIET_S)) if number in windows]
    row["quiet_p99_ms"] = round(min(float(np.quantile(some, 0.99)) for some in whole if len(some)), 3)
    return row | {name: round(float(np.quantile(found, share)), 3) for name, share in QUANTILES.items()}


class Server:
    """`fastcell serve` as a process.

    Attributes:
        address: path of its socket.
    """

    def __init__(self, run, words, folder, queue):
        self.address = str(folder / "live.sock")
        command = [sys.executable, "-m", "fastcell", "serve", run, "--socket", self.address, "--http", "-1"]
        command += ["--when_full", "drop", "--drop_log", str(folder / "dropped.csv")]
        command += [*([] if queue is None else ["--queue", str(queue)]), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        # reads up to the first such line, or to the end of a server that did not start
        if not any(line.startswith("stream ") for line in self.process.stdout):
            raise SystemExit("the server did not start")

    def rss_mib(self):
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    def cpu_s(self):
        """CPU time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def waited_s(self):
        """Time that its threads were ready to run and had no core."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[1]) for task in tasks) / 1e9


@contextmanager
def served(run, options, queue=None):
    """A server that ends at the end."""
    server = Server(run, options.words, options.folder, queue)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def measure(server, network, wanted, rate, seconds, side):
    """Return the row of one rate."""
    command = [sys.executable, __file__, "send", server.address, str(rate), str(seconds), str(side)]
    begin, cpu, waited = time.monotonic(), server.cpu_s(), server.waited_s()
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    early = end = last = delay = 0.0
    while sender.poll() is None:
        end, last, delay = server.rss_mib(), server.cpu_s(), server.waited_s() - waited
        if time.monotonic() - begin < EARLY_S:
            early = end
        time.sleep(0.25)
    assert sender.stdout is not None
    found = json.loads(sender.stdout.read())
    us = (last - cpu) / max(found["sent"], 1) * 1e6
    waits, load = round(delay / found["seconds"], 3), round(os.getloadavg()[0], 1)
    return LiveRow(network, wanted, rate, early_mib=early, end_mib=end, server_us=us, waited=waits, load=load, **found)


def highest(server, network, side):
    """Return the highest rate without a drop, and the row of the lowest rate with drops."""
    good, first, rate, divisions = 0.0, None, FIRST_RATE, 0
    while divisions < DIVISIONS:
        row = measure(server, network, "drops begin", round(rate), STEP_S, side)
        print(row, flush=True)
        if row.dropped:
            first = row
        else:
            good = row.rate
        divisions += first is not None
        rate = math.sqrt(max(good, 1.0) * first.rate) if first is not None else 2 * rate
    assert first is not None
    return good, first


def rows_in(work):
    """Return the rows that were measured before."""
    return [LiveRow(**json.loads(line)) for line in work.read_text().splitlines()] if work.exists() else []


def main():
    if sys.argv[1:2] == ["send"]:
        print(json.dumps(send(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))))
        return
    own, words = sys.argv[1:], list[str]()
    if "--" in own:
        own, words = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--rates", nargs="+", default=["0", "1000", "10000", "highest"], help="cells/s")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--side", type=int, default=80, help="side of the cells [px]")
    parser.add_argument("--folder", type=Path, required=True, help="for the socket")
    parser.add_argument("--work", type=Path, required=True, help="rows that were measured, a line each")
    options = parser.parse_args(own)
    options.words = words
    options.folder.mkdir(parents=True, exist_ok=True)
    for network in options.networks:
        name, run = network.split("=", 1)
        for wanted in options.rates:
            if any(row.network == name and row.wanted == wanted for row in rows_in(options.work)):
                continue
            rows, rate = [], 0.0
            if wanted == "highest":
                with served(run, options, STEP_QUEUE) as server:
                    rate, first = highest(server, name, options.side)
                rows.append(first)
            else:
                rate = float(wanted)
            with served(run, options) as server:
                tries = [
                    measure(server, name, wanted, rate, options.seconds, options.side) for _ in range(options.tries)
                ]
            rows.append(min(tries, key=lambda row: row.waited))
            print(rows[-1], flush=True)
            with open(options.work, "a") as file:
                file.writelines(json.dumps(vars(row)) + "\n" for row in rows)
    settings = {
        "tries": options.tries,
        "side": options.side,
        "options": " ".join(words),
        "cores": os.cpu_count(),
    }
    print(f"wrote {Result('live', 'noise of one size', settings, rows_in(options.work)).save()}")


if __name__ == "__main__":
    main()
