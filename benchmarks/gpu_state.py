"""What `gpu_all` keeps between its starts: outcomes of parts, results, and one archive of all of it."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import asdict, dataclass

from result_files import read_result, write_result

COMMIT_VARIABLE = "FASTCELL_COMMIT"
ARCHIVE = "gpu_all.tar.gz"


@dataclass
class Outcome:
    """What became of a part.

    Attributes:
        status: ``passed``, ``failed``, ``timed out``, ``skipped``, ``interrupted`` or ``running``.
        seconds: it ran [s].
        reason: why, for all but ``passed``; for that, what is worth saying.
        log: its output, relative to the folder of results.
        results: files it has written, likewise.
        later: whether another start runs it again.
    """

    status: str
    seconds: float = 0.0
    reason: str = ""
    log: str = ""
    results: tuple[str, ...] = ()
    later: bool = False


class State:
    """Outcomes of parts, in a file that is whole at any moment.

    Args:
        path: of the file.
        identity: what a run must have in common with the one that wrote the file; other runs start afresh.
    """

    def __init__(self, path, identity):
        self.path, self.identity = path, identity
        self.outcomes = {}
        self.note = ""
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["identity"] == identity:
                for name, values in stored["parts"].items():
                    self.outcomes[name] = Outcome(**{**values, "results": tuple(values["results"])})
            else:
                self.note = f"{path} is of another run ({stored['identity']}): starting afresh"
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            self.note = f"{path} cannot be read ({error!r}): starting afresh"

    def set(self, name, outcome):
        """Record an outcome."""
        self.outcomes[name] = outcome
        parts = {name: asdict(value) for name, value in self.outcomes.items()}
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"identity": self.identity, "parts": parts}, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.path)

    def done(self, name):
        """Whether a part has ended."""
        return name in self.outcomes and not self.outcomes[name].later


def write_archive(archive, work):
    """Write all of the working folder as one file, whole or not at all."""
    fresh = archive.with_suffix(".new")
    with tarfile.open(fresh, "w:gz") as tar:
        tar.add(work, arcname=".")
    fresh.replace(archive)


def unpack(archive, work):
    """Put back what an earlier start has kept; a file that cannot be read is said and left."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        print(f"{archive} cannot be read ({error}): starting afresh")


def snapshot(folder):
    """Time of change of each result."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*") if path.is_file() and path.suffix != ".new"}


def collect(folder, before, out):
    """Move the results written since `before` to `out`, with the commit by variable where git does not know it."""
    names = []
    commit = os.environ.get(COMMIT_VARIABLE, "")
    for name, changed in sorted(snapshot(folder).items()):
        if before.get(name) == changed:
            continue
        path = folder / name
        target = out / (name.replace("-unknown.", f"-{commit}.") if commit else name)
        if commit and name.endswith(("-unknown.json", "-unknown.json.xz")):
            write_result(path, {**read_result(path), "commit": commit})
        if path != target:
            shutil.move(path, target)
        names.append(target.name)
    return names
