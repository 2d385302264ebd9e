"""The command ``fastcell audit``: confounders, class information outside the cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastcell.cli.next_steps import fit_step, show_next
from fastcell.cli.options import Data, OutFolder, Trust, check_seed, packages_of, scored_run
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import StrictError
from fastcell.storage.places import check_output_folder
from fastcell.system.messages import print_line
from fastcell.system.text import printable


def audit(
    data: Data,
    run: Annotated[str | None, Spelled("RUN")] = None,
    *,
    out: OutFolder = None,
    cells: int = 20_000,
    permutations: int = 500,
    seed: int = 0,
    jobs: int | None = None,
    strict: bool = False,
    trust: Trust = None,
) -> int:
    """Find confounders: class information in background, brightness, image size, files or recordings. Find also
    copies of a cell in several subsets, doubtful labels, and drift between recordings.

    Writes audit.txt, audit.json, label_noise.csv and figures. Exit status: 0 whatever is found; with --strict, 3 if a
    problem is found; 2 for an error.

    Args:
        data: folder made by pack, index or synth
        run: run of fastcell fit whose training cells are compared with DATA; if it was trained on DATA, its confidence
            is also tested for drift. If RUN is a table of predictions for DATA, only the drift test is made
        out: folder for the report and the figures [default: DATA/audit, or audit here if DATA is an address]
        cells: maximum number of cells to read
        permutations: number of permutations per test
        seed: random seed of the sample of cells
        jobs: reading threads [default: one per CPU]
        strict: exit with status 3 if a problem is found
        trust: packages whose code the network of the run may import, separated by commas

    Examples:
        fastcell audit cells
        fastcell audit cells runs/20260131-142501-donors-cellnet --strict
    """
    check_seed("--seed", seed)
    from fastcell.audit.collect import audit
    from fastcell.audit.write_report import describe_audit, write_audit
    from fastcell.dataset.manifest import Manifest
    from fastcell.system.messages import printer

    manifest = Manifest.open(data)
    default = Path("audit") if manifest.is_at_address else manifest.path / "audit"
    folder = check_output_folder("--out", Path(out) if out else default)
    found = audit(
        manifest,
        None if run is None else str(scored_run(run)),
        most_cells=cells,
        permutations=permutations,
        seed=seed,
        jobs=jobs,
        say=printer(True),
        trust=packages_of(trust),
    )
    text = describe_audit(manifest, found)
    print_line(text)
    written = write_audit(manifest, found, folder, text)
    print_line("\nwrote " + ", ".join(path.name for path in written) + f" into {printable(folder)}")
    problems = found.of("problem")
    if strict and problems:
        names = ", ".join(finding.key for finding in problems)
        raise StrictError(
            f"--strict: the audit must find no problem, got {len(problems)} ({names}). See the report above."
        )
    if found.noise is not None and len(found.noise.candidates()):
        runs = [] if run is None else [run]
        show_next(("review", manifest.place, *runs, "--select", folder / "label_noise.csv"), ("split", manifest.place))
    else:
        show_next(("split", manifest.place), *fit_step(manifest))
    return 0


main = entry(audit)
