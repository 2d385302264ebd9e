"""How large is an installation? Sizes of the packages in the environment that runs this, by their own lists of files.

python benchmarks/installation.py            # with the Python of a new environment
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import Result

LEAST_MB = 40.0


@dataclass
class Package:
    """One package, or what all others take together.

    Attributes:
        package: name and version.
        extra: optional dependency group of fastcell that asks for it; empty for those of every installation.
        installed_mb: size of its files [MB, 10**6 bytes].
    """

    package: str
    extra: str
    installed_mb: float


def main():
    """Measure, print and write the result."""
    extras = asked_by_extras()
    found = [
        Package(f"{one.name} {one.version}", extras.get(normal(one.name), ""), size(one))
        for one in importlib.metadata.distributions(path=[entry for entry in sys.path if "site-packages" in entry])
    ]
    found.sort(key=lambda one: -one.installed_mb)
    large = [one for one in found if one.installed_mb >= LEAST_MB]
    small = [one.installed_mb for one in found if one.installed_mb < LEAST_MB]
    whole = sum(path.lstat().st_size for path in Path(sys.prefix).rglob("*") if not path.is_dir()) / 1e6
    rows = [*large, Package(f"{len(small)} others", "", sum(small)), Package("the environment", "", whole)]
    for row in rows:
        print(f"{row.installed_mb:>8,.0f} MB  {row.package}  {row.extra}")
    print(f"wrote {Result('installation', 'packages of a new environment', {}, rows).save()}")


def asked_by_extras():
    """Return the extra of each package that only extras of fastcell ask for."""
    found = {}
    for line in importlib.metadata.requires("fastcell") or []:
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        name = normal(re.split(r"[^\w.-]", line)[0])
        if extra is not None and extra[1] not in ("dev", "bench", "cpu", "cu12", "cu13"):
            found.setdefault(name, extra[1])
    return found


def normal(name):
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def size(one):
    """Return the size of a package's files [MB]."""
    places = (Path(str(one.locate_file(file))) for file in one.files or [])
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6


if __name__ == "__main__":
    main()
