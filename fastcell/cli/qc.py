"""The command ``fastcell qc``: which images are poor and why, as scores, tables, contact sheets and verdicts."""

from __future__ import annotations

from pathlib import Path

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import add_data_argument, add_jobs_argument
from fastcell.cli.parser import CommandParser
from fastcell.errors import ArgumentError

DEFAULT_MOST_PASSED = 0.05


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `control_quality` and `take_verdicts`.
    """
    options = _parser().parse_args(argv)
    from fastcell.dataset.manifest import Manifest
    from fastcell.quality.quality_table import QUALITY_FILE, dropped_by_class
    from fastcell.quality.review_sheets import control_quality, not_applied, write_review
    from fastcell.quality.verdicts_file import apply_drops, take_verdicts

    manifest = Manifest.open(options.data)
    if options.verdicts is not None:
        if options.labels or options.review or options.apply:
            raise ArgumentError("--verdicts must be given alone, got other options with it. Run the command twice.")
        print(take_verdicts(manifest, Path(options.verdicts)))
        show_next(("fit", manifest.path))
        return 0
    review = Path(options.review) if options.review else None
    found, how = control_quality(
        manifest,
        labels=None if options.labels is None else Path(options.labels),
        max_bad_passed=options.max_bad_passed,
        review=review,
        jobs=options.jobs,
    )
    print("\n".join([how, *found.notes, "", *dropped_by_class(manifest, found.drop, found.reasons), ""]), flush=True)
    print(f"wrote {manifest.path / QUALITY_FILE}")
    if review is not None:
        for path in write_review(manifest, found, review):
            print(f"wrote {path}")
    print(apply_drops(manifest, found.drop, found.reasons) if options.apply else not_applied(manifest, found))
    if review is not None:
        show_next(("qc", manifest.path, "--verdicts", review / "review.csv"), ("fit", manifest.path))
    else:
        show_next(("qc", manifest.path, "--review", manifest.path / "review"), ("fit", manifest.path))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell qc",
        "DATA",
        description="Quality control: measure every image (focus, contrast, cuts, number of cells, ghosts and more), "
        "score it from 0 (good) to 1 (bad), and say why. Scores, reasons and features go to quality.parquet; nothing "
        "is deleted.",
        epilog="Scores come from simulated cells of the ATOM microscope where the data look like them, from what "
        "stands out in the set where they do not, and from --labels where there are 20 good and 20 bad ones; the "
        "output says which. To change single verdicts, edit review.csv or verdicts.csv: edited rows stay as they are.",
    )
    add_data_argument(parser)
    parser.add_argument(
        "--labels", metavar="FILE.csv", help="learn from these: cell_id or key, and label (good, bad, or a reason)"
    )
    parser.add_argument(
        "--max-bad-passed",
        type=float,
        default=DEFAULT_MOST_PASSED,
        metavar="SHARE",
        help="at most this share of bad cells may pass, on the cells that the scores are calibrated with (%(default)s)",
    )
    parser.add_argument("--apply", action="store_true", help="write verdicts.csv, so that views leave poor cells out")
    parser.add_argument(
        "--review", "-o", "--out", metavar="DIR", help="write contact sheets per reason and review.csv, to be edited"
    )
    parser.add_argument(
        "--verdicts", metavar="FILE.csv", help="take an edited review.csv into verdicts.csv; that alone"
    )
    add_jobs_argument(parser, "threads")
    return parser
