"""The command ``fastcell serve``: classes of cells as they come, by a stream protocol and HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastcell.cli.options import File, Run, Trust, Window, check_least, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import invalid
from fastcell.system.messages import print_line, print_remark
from fastcell.system.text import printable

MOST_THREADS = 1024


def serve(
    run: Run,
    *,
    socket: Annotated[str | None, Spelled("PATH")] = None,
    port: int | None = None,
    http: int | None = None,
    stdin: bool = False,
    host: str = "127.0.0.1",
    max_latency_ms: float = 10.0,
    queue: int = 4096,
    when_full: Literal["wait", "drop"] = "wait",
    drop_log: Annotated[str, Spelled("FILE")] = "dropped.csv",
    min_confidence: float | None = None,
    accuracy: float | None = None,
    window: Window = None,
    backend: Literal["auto", "torch", "onnxruntime", "openvino"] | None = None,
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
    threads: int | None = None,
    token_file: File = None,
    trust: Trust = None,
) -> int:
    """Classify cells as an instrument takes them. A program sends frames over a socket and gets answers in order, or
    sends images and arrays by HTTP. SIGTERM or Ctrl-C ends the server after the last answers.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        socket: unix socket of the stream protocol
        port: TCP port of the stream protocol, 0 for a free one [default: 7300, or none beside --socket or --stdin]
        http: port of HTTP: a page, /classify, /health, /metrics; 0 for a free one, -1 for none [default: 7301, or none
            with --stdin]
        stdin: take frames from standard input and write answers to standard output
        host: address of the ports; from another than a loopback address, clients need the token that is printed
        max_latency_ms: target of the time from arrival to answer, which bounds the batches
        queue: number of cells that may wait
        when_full: treatment of cells that find the queue full: the sender waits, or the newest are dropped, answered so
        drop_log: CSV file for the ids of dropped cells; it is made with the first one
        min_confidence: flag cells with a lower confidence as unsure
        accuracy: flag cells as unsure so that the others have this accuracy on validation cells
        window: grey levels of 16-bit cells that become black and white [default: those of the run]
        backend: program that runs the network [default: the one that auto has chosen before, else torch]
        precision: arithmetic of the network
        threads: threads that classify [default: one less than cores]
        token_file: file with the token that clients must send
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell serve runs/20260131-142501-donors-cellnet
        fastcell serve runs/20260131-142501-donors-cellnet --socket /tmp/cells.sock --when_full drop
    """
    check_least(1, queue=queue)
    if threads is not None and not 0 < threads <= MOST_THREADS:
        raise invalid("--threads", f"from 1 to {MOST_THREADS}", threads, "Leave it out for the default")
    if not 0 < max_latency_ms < 1e6:
        raise invalid("--max_latency_ms", "above 0", max_latency_ms, "10 is a usual value")
    if http is not None and http < -1:
        raise invalid("--http", "a port, 0 or -1", http, "0 takes a free port, -1 none")
    from fastcell.live.drop_log import check_drop_log
    from fastcell.live.live_classifier import open_live
    from fastcell.live.serve import ServeOptions, serve_cells
    from fastcell.storage.places import local_path
    from fastcell.system import library_settings, resources

    log = check_drop_log(drop_log)
    path = None if socket is None else str(local_path("--socket", socket))
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    say = print_remark if stdin else print_line
    workers = threads or max(1, resources.num_cpus() - 1)
    live, limits = open_live(
        run,
        backend=backend,
        precision=precision,
        threads=workers,
        trust=packages_of(trust),
        window=window,
        min_confidence=min_confidence,
        accuracy=accuracy,
    )
    for line in limits.lines:
        say(line)
    program = live.classifier.backend
    if program.name == "torch":
        live.classifier.threads, workers = workers, 1
    else:
        live.classifier.threads = 1
    elsewhere = socket is not None or stdin
    options = ServeOptions(
        path,
        host,
        7300 if port is None and not elsewhere else port,
        (None if stdin else 7301) if http is None else None if http < 0 else http,
        stdin,
        _token(token_file),
        max_latency_ms,
        queue,
        when_full,
        workers,
        log,
    )
    about = {"run": str(run), "backend": f"{program.name} {program.precision}", "classes": ", ".join(live.classes)}
    say(f"serving {printable(run)}: {about['backend']}, {workers} thread{'s' * (workers > 1)}")
    counts = serve_cells(live, options, about, say)
    lost = counts.dropped + counts.abandoned
    say(
        f"{counts.received:,} cells received, {counts.answered:,} classified, {counts.unusable:,} unusable, "
        f"{counts.dropped:,} dropped, {counts.abandoned:,} of clients that went away"
        + (f"; ids in {printable(drop_log)}" if lost else "")
    )
    return 0


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    token = Path(file).read_text(encoding="utf-8").strip()
    if not 8 <= len(token) <= 256 or not token.isascii() or not token.isprintable() or " " in token:
        raise invalid("--token_file", "a file with 8 to 256 letters and digits", file, "Write a long random word")
    return token


main = entry(serve)
