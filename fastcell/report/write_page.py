"""Write one HTML page about a run and comparisons."""

from __future__ import annotations

from pathlib import Path

from fastcell.errors import ArgumentError, invalid
from fastcell.report.compare_sections import is_study, repeat_command, study_section
from fastcell.report.page import PageOptions, render_page
from fastcell.report.run_page import run_page
from fastcell.report.study_page import study_page
from fastcell.runs.open_run import open_run
from fastcell.storage.places import check_output_file
from fastcell.storage.whole_files import write_text


def write_page(folders: list[Path], out: Path | None = None, options: PageOptions | None = None) -> Path:
    """Write the page of a run, of comparisons, or of both.

    Args:
        folders: At most one run folder of ``fastcell fit``, and any number of folders of ``fastcell compare``.
        out: Path of the page; None for ``report.html`` in the first folder.
        options: Options of the page; None for the defaults.

    Returns:
        Path of the page.

    Raises:
        ArgumentError: There are two runs, the page cannot be written, the run has no labelled cells, or its scores
            cannot be meaningful (see `fastcell.splits.obstacles`) and `options.allow_absent` is not set.
        DataError: A run, a comparison or a data set cannot be read.
    """
    options = options or PageOptions()
    studies = [folder for folder in folders if is_study(folder)]
    runs = [folder for folder in folders if folder not in studies]
    if len(runs) > 1:
        rule = "one run of fastcell fit, and any number of folders of fastcell compare"
        raise invalid("PATH", rule, ", ".join(map(str, runs)), "Write a page for each run")
    out = folders[0] / "report.html" if out is None else out
    if folders[0].is_dir():  # else the message is about the run
        check_output_file("--out", out)
    page = (
        run_page(open_run(runs[0], options.data_path, options.trust), options) if runs else study_page(studies, options)
    )
    for number, folder in enumerate(studies, start=1):
        section, values = study_section(folder, number)
        if values.get("cautions") and not options.allow_absent:
            raise ArgumentError(
                f"{folder} must be a comparison with meaningful scores, got cautions: {' '.join(values['cautions'])} "
                "Compare on another split; --allow-absent writes the page nevertheless."
            )
        page.cautions += [line for line in values.get("cautions", []) if line not in page.cautions]
        page.sections.insert(page.place_of_studies + number - 1, section)
        page.sections[-1].code.append((f"{section.title}: command", repeat_command(values)))
        if "changes" not in values:
            page.sections[-1].paragraphs.append(
                f"{folder}/study.json is of a version that did not write the arguments that change the preset: what "
                "--model.*, --data.* and --trainer.* have set is under recipe there."
            )
    write_text(out, render_page(page))
    return out
