"""The command `fastcell compare`: methods on the same cells, over volume, loss, resolution, or orders of splitting."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcell.errors import ArgumentError, invalid
from fastcell.system import library_settings

STUDIES = ("volume", "loss", "resolution", "leakage")
DEFAULT_METHODS = {
    "volume": "cnn,gao,svm,knn",
    "loss": "cnn",
    "resolution": "cnn",
    "leakage": "cnn,svm,knn,frame",
}
DEFAULT_VOLUMES = {
    "volume": "0.001,0.005,0.01,0.05,0.1,0.5,1",  # the paper's seven as shares of its largest, rounded
    "loss": "1",
    "resolution": "0.01,0.1,1",
    "leakage": "1",
}
_EPILOG = """
Every method gets the same splits, the same subsamples and the same preprocessed cells (those of the preset), and its
parameters or weights are picked on the same validation part, which is whole at every volume, as the test part is.

A network is trained for the preset's epochs, but for no fewer than --min-steps optimizer steps (or the whole
training's, where that is less): else a small volume would only show a short training. A preset that counts steps, as
paper does, takes as many at every volume. SVM and kNN pick C, gamma and k by validation accuracy.

A cell of the table (a method on one split, volume and seed) that is finished is a file in OUT/cells and is not
computed again; after Ctrl-C or a crash the same command goes on. --model.*, --data.* and --trainer.max_epochs,
max_steps, precision of `fastcell fit` change the preset.
"""


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0. Errors are raised.
    """
    options, changes = _parser().parse_known_args(argv)

    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    study, methods = _open(options, changes)
    from fastcell.training.resume import held

    with held(study.out_dir, "--out"):
        try:
            report = _run(study, methods, options, changes)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            raise
    print("\n".join(report))
    print(f"written to {study.out_dir}", flush=True)
    return 0


def _run(study: Any, methods: list[str], options: argparse.Namespace, changes: Sequence[str]) -> list[str]:
    """Run the study that is asked for and write its report; returns its lines."""
    from fastcell.compare.runner import write_study_report
    from fastcell.compare.volume_study import check_volumes, run_volumes

    volumes = check_volumes(options.volumes or DEFAULT_VOLUMES[options.study])
    asked = {
        "source": None if options.data is None else str(study.manifest.path.absolute()),
        "source_cells": len(study.manifest),
        "changes": list(changes),
    }
    if options.study == "loss":
        from fastcell.compare.loss_study import run_losses

        lines = run_losses(study, options.seeds, options.steps)
    elif options.study == "resolution":
        from fastcell.compare.resolution_study import check_sizes, run_resolutions

        lines, _ = run_resolutions(study, methods, volumes, options.seeds, check_sizes(options.sizes))
    elif options.study == "leakage":
        from fastcell.compare.leakage_study import leakage_study, run_leakage

        study = leakage_study(study, options.copies, options.folds, 0)
        lines, _, _ = run_leakage(study, methods, volumes, options.seeds)
    else:
        lines, _, _ = run_volumes(study, methods, volumes, options.seeds)
    study.drop_images()
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "out")}
    return write_study_report(study, methods, settings, lines, asked)


def _open(options: argparse.Namespace, changes: Sequence[str]) -> tuple[Any, list[str]]:
    """The study and its methods. What can be wrong is looked at before anything takes time.

    Raises:
        ArgumentError: an argument breaks its rule.
    """
    for name, least in (("seeds", 1), ("steps", 1), ("folds", 2), ("jobs", 0), ("min_steps", 0)):
        if getattr(options, name) < least:
            raise invalid(f"--{name.replace('_', '-')}", f"{least} or more", getattr(options, name), "See --help")
    if options.study == "leakage" and options.splits is not None:
        raise invalid("--splits", "absent in --study leakage", options.splits, "It makes its own; see --folds")
    components = _components(options.pca)
    from fastcell.compare.baselines import find_backend
    from fastcell.compare.resolution_study import check_sizes
    from fastcell.compare.runner import Study, check_methods, units_of
    from fastcell.compare.split_schemes import SplitManifest, find_schemes
    from fastcell.compare.volume_study import check_volumes
    from fastcell.dataset.manifest import Manifest
    from fastcell.simulator.synth import make_default_dataset
    from fastcell.training.recipe import read_recipe

    methods = check_methods(options.methods or DEFAULT_METHODS[options.study])
    check_volumes(options.volumes or DEFAULT_VOLUMES[options.study])
    check_sizes(options.sizes)
    find_backend(options.backend)
    recipe = read_recipe(options.preset, changes, options.select)
    manifest = Manifest.open(options.data or make_default_dataset(verbose=True))
    if not (manifest.labels >= 0).any():
        raise ArgumentError(
            f"{manifest.path} must have labels to compare methods on, got none. Pack it with a --pattern that has "
            "{class}."
        )
    schemes = [] if options.study == "leakage" else find_schemes(manifest, options.splits)
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise invalid("--out", "a folder", options.out, "Choose another name")
    out.mkdir(parents=True, exist_ok=True)
    units, unit = units_of(manifest)
    study = Study(
        manifest=SplitManifest.of(manifest, {name: s for one in schemes for name, s in one.splits.items()}),
        schemes={scheme.name: scheme for scheme in schemes},
        recipe=recipe,
        out_dir=out,
        units=units,
        unit=unit,
        components=components,
        backend=options.backend,
        min_steps=options.min_steps,
        jobs=options.jobs,
        say=lambda line: print(line, flush=True),
    )
    return study, methods


def _components(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise invalid("--pca", "a number of components, or none", text, "64 is the default")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell compare",
        description="Compare networks, SVM and kNN on the same cells, with tables and figures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("data", nargs="?", metavar="DATA", help="packed data set (default: the synthetic default set)")
    parser.add_argument(
        "--out", default="comparison", help="folder for tables, figures and finished cells (%(default)s)"
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
    parser.add_argument("--volumes", help=f"shares of the training cells ({DEFAULT_VOLUMES['volume']})")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (%(default)s)")
    parser.add_argument(
        "--splits",
        help="with commas: names of splits, folds (all fold-*), groups (each group left out in turn), random (folds "
        "that ignore groups); of several, the difference is told (groups if there are 2 to 10, else default)",
    )
    parser.add_argument("--preset", default="demo", help="of the networks, and of everybody's images (%(default)s)")
    parser.add_argument(
        "--select",
        choices=("best", "last"),
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
    parser.add_argument(
        "--backend", default="auto", help="of SVM and kNN: auto, cuml, sklearnex or sklearn (%(default)s)"
    )
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
