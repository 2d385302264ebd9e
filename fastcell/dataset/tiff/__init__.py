"""TIFF, read by tifffile and imagecodecs behind limits on sizes and pages; imported only where a TIFF is read."""

from fastcell.errors import FastcellError
from fastcell.system.optional_packages import install_command

try:
    import imagecodecs  # noqa: F401
    import tifffile  # noqa: F401
except ImportError as error:
    raise FastcellError(
        f"TIFF is read by tifffile and imagecodecs, and {error.name} cannot be imported. Install them: "
        + install_command("tifffile>=2024.2.12", "imagecodecs>=2024.1.1")
    ) from None
