"""The command ``fastcell serve``: classes of cells as they come, by a stream protocol and HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastcell.cli.next_steps import data_of_run, show_next
from fastcell.cli.options import MOST_THREADS, File, LiveArguments, Run, check_least
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import invalid
from fastcell.storage.places import local_path
from fastcell.system.messages import print_line, print_remark
from fastcell.system.text import printable

_MOST_TOKEN_FILE = 1024


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
    opening: LiveArguments = LiveArguments(),  # noqa: B008, immutable
    threads: int | None = None,
    token_file: File = None,
) -> int:
    """Classify cells while an instrument records them. Programs send cells over a socket and receive predictions in the
    same order, or send images and arrays by HTTP. After SIGTERM or Ctrl-C the server answers the cells that it has
    received, and ends.

    Args:
        run: run folder of fastcell fit, or a checkpoint in it
        socket: unix socket of the stream protocol
        port: TCP port of the stream protocol; 0 for a free one [default: 7300, or none with --socket or --stdin]
        http: HTTP port, with a page, /classify, /health and /metrics; 0 for a free one, -1 for none [default: 7301, or
            none with --stdin]
        stdin: read the stream protocol from standard input and write predictions to standard output
        host: address of the ports; if it is not a loopback address, clients need the token that is printed
        max_latency_ms: target for the time from arrival to answer, which limits the size of batches [ms]
        queue: maximum number of waiting cells
        when_full: reaction to a full queue: wait (the sender waits) or drop (new cells are dropped, and the answer says
            so)
        drop_log: CSV file for the ids of dropped cells, created when the first cell is dropped
        opening: classification
        threads: threads that classify [default: number of cores minus one]
        token_file: file with the token that clients must send

    Examples:
        fastcell serve runs/20260131-142501-donors-cellnet
        fastcell serve runs/20260131-142501-donors-cellnet --socket /tmp/cells.sock --when-full drop
    """
    check_least(1, queue=queue)
    if threads is not None and not 0 < threads <= MOST_THREADS:
        raise invalid("--threads", f"from 1 to {MOST_THREADS}", threads, "Leave it out for the default")
    if not 0 < max_latency_ms < 1e6:
        raise invalid("--max_latency_ms", "above 0", max_latency_ms, "10 is a usual value")
    if http is not None and http < -1:
        raise invalid("--http", "a port, 0 or -1", http, "0 takes a free port, -1 none")
    from fastcell.live.drop_log import check_drop_log
    from fastcell.live.serve import ServeOptions, check_addresses, serve_cells
    from fastcell.system import library_settings, resources

    log = check_drop_log(drop_log)
    path = None if socket is None else str(local_path("--socket", socket))
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    say = print_remark if stdin else print_line
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
        threads or max(1, resources.num_cpus() - 1),
        log,
    )
    if Path(run).exists():  # opening takes seconds; a missing run is an error at once
        check_addresses(options)
    live = opening.open(run, options.workers, say)
    program = live.classifier.backend
    if program.name == "torch":
        live.classifier.threads = options.workers
        options = options._replace(workers=1)
    else:
        live.classifier.threads = 1
    about = {"run": str(run), "backend": f"{program.name} {program.precision}", "classes": ", ".join(live.classes)}
    say(f"serving {printable(run)}: {about['backend']}, {options.workers} thread{'s' * (options.workers > 1)}")
    counts = serve_cells(live, options, about, say)
    lost = counts.dropped + counts.abandoned
    say(
        f"{counts.received:,} cells received, {counts.answered:,} classified, {counts.unusable:,} unusable, "
        f"{counts.dropped:,} dropped, {counts.abandoned:,} of clients that went away"
        + (f"; ids in {printable(drop_log)}" if lost else "")
    )
    if not stdin:  # standard output holds the answers
        show_next(("bench", *data_of_run(Path(run)), "--run", run, "--latency"))
    return 0


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    rule, hint = "a file with 8 to 256 letters and digits", "Write a long random word"
    path = local_path("--token_file", file)
    if not path.is_file():
        raise invalid("--token_file", rule, file, hint)
    with open(path, "rb") as there:
        token = there.read(_MOST_TOKEN_FILE).decode("utf-8", "replace").strip()
    if not 8 <= len(token) <= 256 or not token.isascii() or not token.isprintable() or " " in token:
        raise invalid("--token_file", rule, file, hint)
    return token


main = entry(serve)
