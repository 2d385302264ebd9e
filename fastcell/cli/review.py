"""The command ``fastcell review``: a local page to see, sort, correct and label cells."""

from __future__ import annotations

from typing import Annotated

from fastcell.cli.next_steps import fit_step, show_next
from fastcell.cli.options import Data, Trust, packages_of, scored_run
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import ArgumentError, invalid
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line
from fastcell.system.text import printable


def review(
    data: Data,
    run: Annotated[str | None, Spelled("RUN")] = None,
    *,
    select: Annotated[str | None, Spelled("QUERY")] = None,
    classes: Annotated[str | None, Spelled("A,B,...")] = None,
    who: Annotated[str | None, Spelled("NAME")] = None,
    split_name: Annotated[str, Spelled("NAME")] = "default",
    port: Annotated[int | None, Spelled("N")] = None,
    export: Annotated[str | None, Spelled("FILE", also=("-o", "--out"))] = None,
    trust: Trust = None,
) -> int:
    """Open a page in the browser to view, sort, correct and label cells, with a gallery, filters, gates, keys for
    classes, and suggestions of cells to label next. The page is available on this machine only.

    Labels by hand, unsure cells, tags and verdicts are stored in marks.jsonl beside the manifest, and verdicts also in
    verdicts.csv. All commands then use the labels by hand instead of the recorded classes.

    Args:
        data: folder made by pack, index or synth
        run: run of fastcell fit, whose predictions, confidence and embedding the page shows
        select: cells to show first: a table with the column cell_id or key, or a query such as 'class=A|B quality>=0.5
            sort=-quality'
        classes: names of further classes that can be chosen, separated by commas
        who: name stored with each mark [default: user name]
        split_name: split whose subsets are shown
        port: port of the page [default: a free one]
        export: write all marks as a .csv or .parquet table, and open no page
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell review cells
        fastcell review cells runs/20260131-142501-donors-cellnet --select 'agrees=no sort=-confidence'
        fastcell review cells --export marks.csv
    """
    from fastcell.dataset.manifest import Manifest
    from fastcell.dataset.marks.replay import MarkedCells

    manifest = Manifest.open(data)
    if manifest.is_at_address:
        rule = "a folder on this machine, in which the marks are stored"
        raise invalid("DATA", rule, manifest.place, "Copy the data set")
    if split_name != "default":
        manifest.packed_split(split_name)  # an error that names the splits, if there is no such one
    if export is not None:
        from fastcell.review.mark_table import export_marks, mark_table

        if select or classes or run:
            raise ArgumentError("--export must be given alone, got other options with it. Run the command twice.")
        out = check_output_file("--export", export)
        table = mark_table(manifest, manifest.marked or MarkedCells(len(manifest)), ~manifest.verdicts())
        export_marks(out, table)
        num = table.num_rows
        print_line(f"wrote {printable(export)} ({num:,} cell{'s' * (num != 1)})")
        show_next(("split", manifest.place), *fit_step(Manifest.open(data)))
        return 0
    manifest.check_writable()
    from fastcell.review.marking import checked_person
    from fastcell.review.review_set import ReviewOptions
    from fastcell.review.serve_page import first_query, serve_page, this_person

    folder = None if run is None else scored_run(run)
    if folder is not None:
        from fastcell.runs.run_folder import find_checkpoint

        if not find_checkpoint(folder).is_file():
            raise invalid("RUN", "a run folder or a checkpoint", str(run), "Give a folder made by fastcell fit")
    person = checked_person(who if who is not None else this_person())
    query = first_query(select, manifest)
    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    options = ReviewOptions(folder, split_name, person, query, packages_of(trust))
    serve_page(manifest, options, port or 0, names, print_line)
    show_next(("split", manifest.place), *fit_step(Manifest.open(data)))
    return 0


main = entry(review)
