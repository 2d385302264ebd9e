"""``python -m fastcell`` is the ``fastcell`` command."""

import sys

from fastcell.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
