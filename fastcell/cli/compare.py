"""The command ``fastcell compare``: networks, SVM and kNN on the same cells."""

from __future__ import annotations

import sys

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import PRESETS
from fastcell.cli.parser import CommandParser

BACKENDS = ("auto", "cuml", "sklearnex", "sklearn")
STUDIES = ("volume", "loss", "resolution", "leakage")
SELECTS = ("best", "last")
DEFAULT_VOLUMES = "0.001,0.005,0.01,0.05,0.1,0.5,1"

_EPILOG = """
Every method gets the same splits, the same subsamples and the same preprocessed cells (those of the preset), and its
parameters or weights are picked on the same validation part, which is whole at every volume, as the test part is.

A network is trained for the preset's epochs, but for no fewer than --min-steps optimizer steps (or the whole
training's, where that is less): else a small volume would only show a short training. A preset that counts steps, as
paper does, takes as many at every volume. SVM and kNN pick C, gamma and k by validation accuracy.

A cell of the table (a method on one split, volume and seed) that is finished is a file in OUT/cells and is not
computed again; after Ctrl-C or a crash the same command goes on. --model.*, --data.* and --trainer.max_epochs,
max_steps, precision of fastcell fit change the preset.
"""


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised, see `open_study`.
    """
    parser = _parser()
    arguments, changes = parser.parse_known_args(argv)
    unknown = [word for word in changes if word.startswith("--") and "." not in word.partition("=")[0]]
    if unknown:
        parser.refuse_unknown(unknown)
    from fastcell.compare.run_study import StudyOptions, open_study, run_study
    from fastcell.system import library_settings
    from fastcell.system.messages import print_line

    values = vars(arguments)
    data, out = values.pop("data"), values.pop("out")
    options = StudyOptions(**values)

    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    study, methods = open_study(data, out, options, changes, print_line)
    try:
        report = run_study(study, methods, options, changes, default_data=data is None)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    print("\n".join(report))
    print_line(f"written to {study.out_dir}")
    show_next(("report", study.out_dir))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell compare",
        "[DATA]",
        description="Compare networks, SVM and kNN on the same cells, with tables and figures.",
        epilog=_EPILOG.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n").strip(),
        allow_abbrev=False,
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="packed data set (default: the synthetic default set)")
    parser.add_argument(
        "-o", "--out", default="comparison", help="folder for tables, figures and finished cells (%(default)s)"
    )
    parser.add_argument(
        "--study",
        choices=STUDIES,
        default="volume",
        help="what is varied: volume (share of the training cells), loss, resolution (image size and volume), or "
        "leakage: the paper's order, augment and then split, against splitting first (%(default)s)",
    )
    parser.add_argument(
        "--methods",
        help="with commas: cnn (the preset's network), gao, svm, knn, frame (a kNN that sees the outer frame alone), "
        "or names of networks (cnn,gao,svm,knn; for resolution cnn, for leakage cnn,svm,knn,frame)",
    )
    parser.add_argument("--volumes", help=f"shares of the training cells ({DEFAULT_VOLUMES})")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (%(default)s)")
    parser.add_argument(
        "--splits",
        help="with commas: names of splits, folds (all fold-*), groups (each group left out in turn), random (folds "
        "that ignore groups); of several, the difference is told (groups if there are 2 to 10, else default)",
    )
    parser.add_argument(
        "--preset", choices=PRESETS, default="demo", help="of the networks, and of everybody's images (%(default)s)"
    )
    parser.add_argument(
        "--select",
        choices=SELECTS,
        help="weights of the least validation loss, or the last ones (the preset's)",
    )
    parser.add_argument(
        "--min-steps",
        type=int,
        default=600,
        metavar="N",
        help="optimizer steps of small volumes (%(default)s)",
    )
    parser.add_argument("--pca", default="64", metavar="N", help="components for SVM and kNN, or none (%(default)s)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="of SVM and kNN (%(default)s)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes for SVM and kNN; 0 chooses")
    parser.add_argument("--sizes", default="16,32,64,128", help="image sizes of --study resolution [px] (%(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="iterations of --study loss (%(default)s)")
    parser.add_argument(
        "--copies",
        type=float,
        default=1.3,
        help="images per cell of the largest class in --study leakage; other classes get as many images (%(default)s)",
    )
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="of --study leakage (%(default)s)")
    return parser
