"""Choose, record and open the backend that runs the network of a checkpoint on this machine.

``choice.json`` beside the network files records the speed of each backend, its agreement with torch, and the chosen
backend. A record is valid for one set of weights, program versions and processor model; if one of them has changed, the
record is ignored. This module loads torch only for the backend torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcell import __version__
from fastcell.inference.backends.agreement import Agreement
from fastcell.inference.backends.interface import NetworkBackend
from fastcell.inference.backends.network_files import (
    CHOICE_FILE,
    NetworkDescription,
    NetworkFiles,
    files_of_network,
)
from fastcell.inference.backends.programs import check_combination, check_installed, versions
from fastcell.storage.checked_json import read_checked_json, write_checked_json
from fastcell.system.cpu_features import cpu_features


@dataclass(frozen=True)
class Compared:
    """A backend whose speed was measured, and possibly its agreement with torch.

    Attributes:
        program: one of `fastcell.inference.backends.programs.PROGRAMS`.
        precision: ``fp32``, ``bf16`` or ``int8``.
        us_per_cell: time of a cell in one thread [us].
        agreement: comparison with torch; None if it was not made.
    """

    program: str
    precision: str
    us_per_cell: float
    agreement: Agreement | None = None

    @property
    def title(self) -> str:
        """Program and precision."""
        return f"{self.program} {self.precision}"


@dataclass(frozen=True)
class Choice:
    """Record of the choice of a backend.

    Attributes:
        chosen: (program, precision), or None if none was chosen.
        compared: backends that were timed.
        origin: checkpoint hash, versions and processor for which the record holds.
    """

    chosen: tuple[str, str] | None
    compared: list[Compared]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def find(self, program: str, precision: str) -> Compared | None:
        """Return the entry of a backend, or None."""
        return next((one for one in self.compared if (one.program, one.precision) == (program, precision)), None)

    def with_compared(self, one: Compared) -> Choice:
        """Return a copy of the record in which the entry of one backend is added or replaced."""
        others = [old for old in self.compared if (old.program, old.precision) != (one.program, one.precision)]
        return Choice(self.chosen, [*others, one], self.origin)


def origin_of(files: NetworkFiles) -> dict[str, Any]:
    """Return the checkpoint hash, versions and processor for which a valid record must have been made."""
    return {
        "fastcell": __version__,
        "checkpoint": files.checkpoint_hash,
        "versions": versions(),
        "cpu": list(cpu_features()),
    }


def read_choice(files: NetworkFiles) -> Choice | None:
    """Return the record of the choice; None if there is no valid one."""
    content = read_checked_json(files.folder / CHOICE_FILE)
    if content is None or content.get("origin") != origin_of(files):
        return None
    try:
        compared = [
            Compared(
                str(one["program"]),
                str(one["precision"]),
                float(one["us_per_cell"]),
                None if one["agreement"] is None else Agreement.from_json(one["agreement"]),
            )
            for one in content["compared"]
        ]
        chosen = content["chosen"]
        return Choice(None if chosen is None else (str(chosen[0]), str(chosen[1])), compared, content["origin"])
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def write_choice(files: NetworkFiles, choice: Choice) -> None:
    """Write the record with the present weights, versions and processor as its origin."""
    content = {
        "origin": origin_of(files),
        "chosen": choice.chosen,
        "compared": [
            {
                "program": one.program,
                "precision": one.precision,
                "us_per_cell": round(one.us_per_cell, 2),
                "agreement": None if one.agreement is None else one.agreement.to_json(),
            }
            for one in choice.compared
        ],
    }
    files.folder.mkdir(parents=True, exist_ok=True)
    write_checked_json(files.folder / CHOICE_FILE, content)


def is_prepared(files: NetworkFiles, program: str, precision: str) -> bool:
    """Return whether the files of a backend other than torch exist, are intact, and belong to these weights."""
    return files.has(*files_of_network(program, precision))


def resolve(
    checkpoint: Path,
    backend: str | None,
    precision: str = "auto",
    data_path: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    trust: Sequence[str] = (),
) -> tuple[str, str]:
    """Return program and precision of the requested backend, after preparing it. Loads torch only if needed.

    Args:
        checkpoint: checkpoint of a run.
        backend: one of `PROGRAMS`; ``auto`` for the fastest one that agrees with torch; None for the earlier choice of
            ``auto`` if there is one, else torch.
        precision: a precision, or ``auto`` for the fastest one that agrees with torch.
        data_path: data set of the run; None for the path stored in the run.
        say: function that receives a line for the user before each slow step.
        trust: packages whose code the network may import; not needed for a backend that is prepared.

    Raises:
        ArgumentError: the program does not offer the precision, or a network of the user's own is not trusted.
        FastcellError: a package, the run or its data set is missing.
    """
    files = NetworkFiles(checkpoint)
    if backend is None and precision == "auto":
        return _chosen_before(files) or ("torch", "fp32")
    program = backend or "torch"
    if program == "torch" and precision == "auto":
        return "torch", "fp32"
    if program != "auto" and precision != "auto":
        check_combination(program, precision)
        return _prepared(files, program, precision, data_path, say, trust)
    known = read_choice(files)
    if known is not None and known.chosen is not None:
        found = known.chosen
        if program in ("auto", found[0]) and precision in ("auto", found[1]):
            return _prepared(files, *found, data_path, say, trust)
    if program != "auto":
        check_installed(program, "fp32", False)
    from fastcell.inference.backends.prepare import Preparation, choose  # loads torch

    chosen = choose(Preparation(checkpoint, data_path, say, trust), program, precision).chosen
    assert chosen is not None
    return chosen


def _chosen_before(files: NetworkFiles) -> tuple[str, str] | None:
    """Return (program, precision) of an earlier choice that can run without torch, or None."""
    if not (files.folder / CHOICE_FILE).is_file():
        return None
    choice = read_choice(files)
    if choice is None or choice.chosen is None or choice.chosen[0] == "torch":
        return None
    return choice.chosen if is_prepared(files, *choice.chosen) else None


def _prepared(
    files: NetworkFiles,
    program: str,
    precision: str,
    data_path: str | None,
    say: Callable[[str], None],
    trust: Sequence[str],
) -> tuple[str, str]:
    """Return a backend; write its files first if they are missing."""
    if program != "torch":
        prepared = is_prepared(files, program, precision)
        check_installed(program, precision, prepared)
        if not prepared:
            from fastcell.inference.backends.prepare import Preparation  # loads torch

            Preparation(files.checkpoint, data_path, say, trust).prepare(program, precision)
    return program, precision


def open_prepared(
    files: NetworkFiles, program: str, precision: str, threads: int = 1
) -> tuple[NetworkBackend, NetworkDescription]:
    """Return a backend other than torch, whose files exist already, and the description of its network.

    Args:
        files: files for which `is_prepared` is True.
        program, precision: the backend.
        threads: maximum number of simultaneous calls.

    Raises:
        FastcellError: the package of the program is not installed.
    """
    description = files.read()
    assert description is not None
    path = files.folder / files_of_network(program, precision)[0]
    size = description.preprocessing.image_size
    if program == "openvino":
        from fastcell.inference.backends.openvino_network import OpenVinoNetwork

        return OpenVinoNetwork(path, precision, size, description.num_features, threads), description
    from fastcell.inference.backends.onnxruntime_network import OnnxRuntimeNetwork

    return OnnxRuntimeNetwork(path, precision, size, description.num_features), description
