"""The command ``fastcell qc``: poor images and their faults, as scores, tables, contact sheets and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import fit_step, show_next
from fastcell.cli.options import Data, EngineArguments
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import ArgumentError
from fastcell.system.messages import print_line
from fastcell.system.text import printable

CsvFile = Annotated[str | None, Spelled("FILE.csv")]


def qc(
    data: Data,
    *,
    labels: CsvFile = None,
    max_bad_passed: Annotated[float, Spelled("SHARE")] = 0.05,
    apply: bool = False,
    review: Annotated[str | None, Spelled("DIR", also=("-o", "--out"))] = None,
    verdicts: CsvFile = None,
    jobs: int | None = None,
    engine: EngineArguments,
) -> int:
    """Quality control: measure every image (focus, contrast, cut cells, number of cells, ghost images and more), score
    it from 0 (good) to 1 (bad), and name the fault. Scores, faults and features are written to quality.parquet; no
    image is deleted.

    The scores are calibrated on simulated cells of the ATOM microscope if the data resemble them, else on outliers of
    the data set, or on --labels if these have at least 20 good and 20 bad cells; the output names the method. To
    change single verdicts, edit review.csv or verdicts.csv: edited rows are kept.

    Args:
        data: folder made by pack, index or synth
        labels: learn from this CSV file, with the columns cell_id or key, and label (good, bad, or the name of a fault)
        max_bad_passed: maximum share of bad cells that may pass, among the cells used for calibration
        apply: write verdicts.csv, so that poor cells are excluded from training and evaluation
        review: write a contact sheet for each fault, and review.csv for editing
        verdicts: import an edited review.csv into verdicts.csv, and do nothing else
        jobs: threads [default: one per CPU]; with --backend, workers [default: all]
        engine: see EngineArguments

    Examples:
        fastcell qc cells --review review
        fastcell qc cells --verdicts review/review.csv
    """
    from fastcell.dataset.manifest import Manifest
    from fastcell.quality.quality_table import QUALITY_FILE, dropped_by_class
    from fastcell.quality.review_sheets import control_quality, not_applied, write_review
    from fastcell.quality.verdicts_file import apply_drops, take_verdicts

    manifest = Manifest.open(data)
    if verdicts is not None:
        manifest.check_writable()
        if labels or review or apply:
            raise ArgumentError("--verdicts must be given alone, got other options with it. Run the command twice.")
        print_line(take_verdicts(manifest, Path(verdicts)))
        show_next(*fit_step(manifest))
        return 0
    folder = Path(review) if review else None
    with engine.use(jobs, data) as num_jobs:
        found, how = control_quality(
            manifest,
            labels=None if labels is None else Path(labels),
            max_bad_passed=max_bad_passed,
            review=folder,
            jobs=num_jobs,
            by_workers=engine.backend is not None,
        )
    print_line("\n".join([how, *found.notes, "", *dropped_by_class(manifest, found.drop, found.reasons), ""]))
    print_line(f"wrote {printable(manifest.place_of(QUALITY_FILE))}")
    if folder is not None:
        for path in write_review(manifest, found, folder):
            print_line(f"wrote {printable(path)}")
    print_line(apply_drops(manifest, found.drop, found.reasons) if apply else not_applied(manifest, found))
    if folder is not None:
        show_next(("qc", manifest.place, "--verdicts", folder / "review.csv"), *fit_step(manifest))
    elif found.drop.any():
        show_next(("review", manifest.place, "--select", "qc=drop sort=-quality"), *fit_step(manifest))
    else:
        sheets = "review" if manifest.is_at_address else str(manifest.path / "review")
        show_next(("qc", manifest.place, "--review", sheets), *fit_step(manifest))
    return 0


main = entry(qc)
