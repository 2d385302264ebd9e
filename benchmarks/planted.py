"""Write a simulated set with a known fault: the background of one class is some grey levels brighter than the others'.

Every class is in every recording, and recordings differ as the simulator's do, so nothing but the cell and the planted
background depends on the class. `fastcell compare --study leakage` then shows two things at once: what augmenting
before splitting invents, and, by the kNN that sees the outer frame alone, what the background gives away. With
``--background 0`` the frame has nothing to tell.

    python benchmarks/planted.py OUT [--cells 20000] [--background 8]
    fastcell compare OUT/set --study leakage --methods cnn,knn,frame --folds 2 --seeds 1 --trainer.max_epochs 4 \\
        --data.image_size 64
"""

from __future__ import annotations

import argparse
from pathlib import Path

from audit import background_plant, make_cells, write_set


def main() -> None:
    """Write the images and the packed set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for images/ and set/")
    parser.add_argument("--cells", type=int, default=20_000, help="(%(default)s)")
    parser.add_argument("--background", type=float, default=8.0, help="grey levels of 255 (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"OUT must be a new or empty folder, got {options.out}")
    cells = make_cells(options.seed, options.cells, "crossed", 1.0)
    manifest = write_set(options.out, cells, options.seed, background_plant(options.background))
    print(f"wrote {manifest.path}: {len(manifest):,} cells, background of the second class + {options.background:g}")


if __name__ == "__main__":
    main()
