"""Write a simulated set with two known faults, for `fastcell compare --study leakage` to show.

Every class is in every recording, and recordings differ as the simulator's do, so nothing but the cell depends on the
class. Planted are a background, the second class's, that is some grey levels brighter than the others', which a kNN
that sees the outer frame alone can read; and a rare class, the first: few cells of it are there, so balancing the
classes makes many copies of each, and augmenting before splitting puts them on both sides. ``--background 0`` and
``--rare 0`` leave these out.

    python benchmarks/planted.py OUT [--cells 20000] [--background 8] [--rare 150]
    fastcell compare OUT/set --study leakage --methods cnn,knn,frame --folds 2 --seeds 1 --trainer.max_epochs 4 \\
        --data.image_size 64
"""

import argparse
from pathlib import Path

from audit import background_plant, make_cells, write_set


def main():
    """Write the images and the packed set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for images/ and set/")
    parser.add_argument("--cells", type=int, default=20_000, help="(%(default)s)")
    parser.add_argument("--background", type=float, default=8.0, help="grey levels of 255 (%(default)s)")
    parser.add_argument("--rare", type=int, default=150, help="cells of the first class; 0: as many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"OUT must be a new or empty folder, got {options.out}")
    manifest = write_planted(options.out, options.cells, options.background, options.rare, options.seed)
    what = f"background of the second class + {options.background:g}, {(manifest.labels == 0).sum():,} of the first"
    print(f"wrote {manifest.path}: {len(manifest):,} cells, {what}")


def write_planted(out, num_cells, background, num_rare, seed):
    """Images in ``out/images`` and the packed set in ``out/set``.

    Args:
        out: new folder.
        num_cells: of all classes.
        background: of the second class, grey levels of 255 brighter.
        num_rare: cells of the first class; 0 for as many as of the others.
        seed: of the simulation.
    """
    # A quarter or so is of the first class, and most of that is left out.
    cells = make_cells(seed, num_cells if not num_rare else 2 * num_cells, "crossed", 1.0)
    if num_rare:
        rare = [cell for cell in cells if cell.label == 0][:num_rare]
        cells = [*rare, *(cell for cell in cells if cell.label != 0)][:num_cells]
    return write_set(out, cells, seed, background_plant(background))


if __name__ == "__main__":
    main()
