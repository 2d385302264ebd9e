"""The command ``fastcell compare``: networks, SVM and kNN on the same cells."""

from __future__ import annotations

from typing import Annotated, Literal

from fastcell.cli.next_steps import show_next
from fastcell.cli.options import DataOrDefault, Preset
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line, print_remark
from fastcell.system.text import printable

Names = Annotated[str | None, Spelled("A,B,...")]
Changes = Annotated[tuple[str, ...], Spelled(shown=False, takes_dotted=True)]


def compare(
    data: DataOrDefault = None,
    *,
    out: Annotated[str, Spelled("DIR", also=("-o",))] = "comparison",
    study: Literal["volume", "loss", "resolution", "leakage"] = "volume",
    methods: Names = None,
    volumes: Names = None,
    seeds: int = 3,
    splits: Names = None,
    preset: Preset = "demo",
    select: Literal["best", "last"] | None = None,
    min_steps: int = 600,
    pca: Annotated[str, Spelled("N")] = "64",
    backend: Literal["auto", "cuml", "sklearnex", "sklearn"] = "auto",
    jobs: int = 0,
    sizes: Annotated[str, Spelled("A,B,...")] = "16,32,64,128",
    steps: int = 600,
    copies: float = 1.3,
    folds: Annotated[int, Spelled("K")] = 5,
    allow_absent: bool = False,
    changes: Changes = (),
) -> int:
    """Compare networks, SVM and kNN on the same cells, with tables and figures.

    All methods get the same splits, subsamples and preprocessed cells (the preprocessing of the preset). Parameters and
    weights are selected on the validation subset. The validation and test subsets are complete at every volume of
    training.

    A network is trained for the preset's epochs, but at least for --min-steps optimizer steps (or for as many as a
    training on all cells has, if these are fewer), because a small volume would otherwise mean few steps. With a preset
    that sets the number of steps, such as paper, training takes that number at every volume. SVM and kNN select C,
    gamma and k by validation accuracy.

    Each finished entry of the table (a method on one split, volume and seed) is saved in OUT/cells and is not computed
    again: after Ctrl-C or a crash the same command resumes. If several splits are given, the differences between them
    are reported. These options of fastcell fit override the preset: --model.*, --data.*, --trainer.max_epochs,
    --trainer.max_steps, --trainer.precision.

    Args:
        data: folder made by pack, index or synth [default: 8,000 simulated cells]
        out: folder for tables, figures and finished entries
        study: quantity that is varied: volume (share of the training cells), loss (loss function), resolution (image
            size and volume), or leakage (augmentation before the split, as in the paper, or after it)
        methods: methods to compare: cnn (network of the preset), gao, svm, knn, frame (kNN on the border of the image
            alone), or names of other networks [default: cnn,gao,svm,knn,frame; for resolution cnn; for leakage
            cnn,svm,knn,frame]
        volumes: shares of the training cells [default: 0.001,0.005,0.01,0.05,0.1,0.5,1]
        seeds: number of random seeds; they are 0 to N - 1
        splits: splits to compare on: names, folds (all splits fold-*), groups (each group is the test subset once), or
            random (folds that ignore groups) [default: groups if there are 2 to 10 groups, else the split default]
        preset: settings of the networks, and preprocessing for all methods
        select: weights to use: best (of the lowest validation loss) or last [default: as the preset]
        min_steps: minimum number of optimizer steps at small volumes
        pca: number of principal components for SVM and kNN, or none
        backend: library of SVM and kNN
        jobs: processes for SVM and kNN; 0 for a number that suits the size of the data
        sizes: image sizes of --study resolution [px]
        steps: training steps of --study loss
        copies: images per cell of the largest class in --study leakage; other classes get the same number of images
        folds: number of folds of --study leakage
        allow_absent: continue even if a subset lacks a class, or class and recording cannot be told apart
        changes: options of fastcell fit that override the preset

    Examples:
        fastcell compare cells --methods cnn,knn --volumes 0.1,1 --seeds 3
        fastcell compare cells --study leakage --out leakage
    """
    from fastcell.compare.run_study import StudyOptions, open_study, run_study
    from fastcell.system import library_settings

    options = StudyOptions(
        study=study,
        methods=methods,
        volumes=volumes,
        seeds=seeds,
        splits=splits,
        preset=preset,
        select=select,
        min_steps=min_steps,
        pca=pca,
        backend=backend,
        jobs=jobs,
        sizes=sizes,
        steps=steps,
        copies=copies,
        folds=folds,
        allow_absent=allow_absent,
    )
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    opened, chosen = open_study(data, out, options, changes, print_line)
    try:
        report = run_study(opened, chosen, options, changes, default_data=data is None)
    except KeyboardInterrupt:
        print_remark("stopped; the same command resumes from here")
        raise
    print_line("\n".join([*report, f"written to {printable(opened.out_dir)}"]))
    show_next(("report", opened.out_dir))
    return 0


main = entry(compare)
