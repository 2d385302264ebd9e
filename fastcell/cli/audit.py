"""The command ``fastcell audit``: what a classifier reads that is not the cell."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_jobs_argument, scored_run
from fastcell.cli.parser import CommandParser
from fastcell.errors import StrictError, invalid

MOST_CELLS = 20_000
PERMUTATIONS = 500


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0, also where problems are found. Errors are raised, see `audit`; with ``--strict`` a problem raises StrictError
        (exit status 3) when everything is written.
    """
    options = _parser().parse_args(argv)
    from fastcell.audit.collect import audit
    from fastcell.audit.write_report import describe_audit, write_audit
    from fastcell.dataset.manifest import Manifest
    from fastcell.system.messages import printer

    manifest = Manifest.open(options.data)
    folder = Path(options.out) if options.out else manifest.path / "audit"
    if not folder.absolute().parent.is_dir() or (folder.exists() and not folder.is_dir()):
        raise invalid("--out", "a folder, or one to be made in a folder that is there", str(folder), "Make it first")
    found = audit(
        manifest,
        None if options.run is None else str(scored_run(options.run)),
        most_cells=options.cells,
        permutations=options.permutations,
        seed=options.seed,
        jobs=options.jobs,
        say=printer(True),
    )
    text = describe_audit(manifest, found)
    print(text, flush=True)
    written = write_audit(manifest, found, folder, text)
    print("\nwrote " + ", ".join(path.name for path in written) + f" into {folder}", flush=True)
    problems = found.of("problem")
    if options.strict and problems:
        names = ", ".join(finding.key for finding in problems)
        raise StrictError(
            f"--strict: the audit must find no problem, got {len(problems)} ({names}). See the report above."
        )
    show_next(("split", manifest.path), ("fit", manifest.path))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell audit",
        "DATA [RUN]",
        description="Look for what a classifier can read that is not the cell: background, brightness, image size, "
        "files, recordings; copies across splits, doubtful labels, drift.",
        epilog="Writes audit.txt, audit.json, label_noise.csv and figures. Exit status: 0 whatever is found; 3 with "
        "--strict where there is a problem; 2 for an error.",
    )
    parser.add_argument("data", metavar="DATA", help="folder of the data set")
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="run of fit on it, or a file of predict: drift of confidence"
    )
    parser.add_argument("-o", "--out", metavar="DIR", help="where report and figures go (default: DATA/audit)")
    parser.add_argument(
        "--cells", type=int, default=MOST_CELLS, metavar="N", help="most cells that are read (default: %(default)s)"
    )
    parser.add_argument(
        "--permutations",
        type=int,
        default=PERMUTATIONS,
        metavar="R",
        help="of each chance level (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice of cells (default: 0)")
    add_jobs_argument(parser, "threads that read")
    parser.add_argument("--strict", action="store_true", help="end with status 3 where a problem is found")
    return parser
