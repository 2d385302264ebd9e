"""Network files of a run, for inference without torch, in the folder ``RUN/backends/CHECKPOINT/``.

    network.json            classes, preprocessing, loss, and the hashes of checkpoint and files
    network.onnx            weights in 32 bits, from images to logits and features
    openvino-int8.xml/.bin  8-bit network of OpenVINO
    onnxruntime-int8.onnx   8-bit network of ONNX Runtime
    arrays.npz              arrays that the checkpoint holds beside the weights
    choice.json             the chosen backend, its agreement with torch and its speed (`choice`)

The files belong to the checkpoint whose hash they hold; for a different checkpoint they are written again. A file is
used only if its hash equals the one in network.json. Both .json files also hold a hash of their own content.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcell import __version__
from fastcell.errors import DataError, FastcellError
from fastcell.loading.preprocessing import Preprocessing
from fastcell.storage.checked_json import read_checked_json, write_checked_json
from fastcell.storage.whole_files import file_hash, replace_file

FOLDER = "backends"
DESCRIPTION_FILE = "network.json"
NETWORK_FILE = "network.onnx"
ARRAYS_FILE = "arrays.npz"
CHOICE_FILE = "choice.json"
QUANTISED_FILES = {"openvino": "openvino-int8.xml", "onnxruntime": "onnxruntime-int8.onnx"}

_FORMAT = 2
_MOST_ARRAY_BYTES = 1 << 30


@dataclass(frozen=True)
class NetworkDescription:
    """Description of a network, without its weights.

    Attributes:
        checkpoint: hash of the checkpoint file (`file_hash`).
        network: name of the network.
        classes: K class names, in the order of the outputs.
        preprocessing: preprocessing of its images.
        loss: loss of the training; it determines how logits become probabilities.
        num_features: F, number of penultimate activations.
        values: further plain values of the checkpoint, such as the temperature.
        files: hash of each file, by name.
        tta: whether the run averages probabilities over the four flips.
    """

    checkpoint: str
    network: str
    classes: list[str]
    preprocessing: Preprocessing
    loss: str
    num_features: int
    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    tta: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the content of network.json."""
        content = {"format": _FORMAT, "fastcell": __version__, **self.__dict__}
        return {**content, "preprocessing": self.preprocessing.to_dict()}


class NetworkFiles:
    """Folder of the network files of one checkpoint.

    Args:
        checkpoint: checkpoint of a run.

    Attributes:
        folder: the folder; it may not exist.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.folder = checkpoint.parent / FOLDER / checkpoint.stem
        self._hash: str | None = None

    @property
    def checkpoint_hash(self) -> str:
        """Hash of the present content of the checkpoint."""
        if self._hash is None:
            self._hash = file_hash(self.checkpoint)
        return self._hash

    def read(self) -> NetworkDescription | None:
        """Return the description of the network; None if it is missing, damaged, or belongs to other weights."""
        content = read_checked_json(self.folder / DESCRIPTION_FILE)
        if content is None or content.get("format") != _FORMAT or content.get("fastcell") != __version__:
            return None
        try:
            names = NetworkDescription.__dataclass_fields__
            values = {name: content[name] for name in names if name != "tta" or name in content}
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            found = NetworkDescription(**values)
        except (KeyError, TypeError, ValueError, FastcellError):
            return None
        return found if found.checkpoint == self.checkpoint_hash else None

    def write(self, description: NetworkDescription, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the description and the arrays of the checkpoint. The files listed in the description must exist."""
        path = self.folder / ARRAYS_FILE
        replace_file(path, lambda temporary: _save_arrays(temporary, arrays))
        files = {**description.files, ARRAYS_FILE: file_hash(path)}
        self._describe(description, files)

    def add(self, *names: str) -> None:
        """Add the hashes of further files to the description."""
        description = self.read()
        assert description is not None
        self._describe(description, {**description.files, **{name: file_hash(self.folder / name) for name in names}})

    def _describe(self, description: NetworkDescription, files: dict[str, str]) -> None:
        described = NetworkDescription(**{**description.__dict__, "files": files})
        write_checked_json(self.folder / DESCRIPTION_FILE, described.to_json())

    def has(self, *names: str) -> bool:
        """Return whether these files and the arrays exist, are intact, and belong to these weights."""
        description = self.read()
        return description is not None and all(self._is_whole(name, description) for name in (*names, ARRAYS_FILE))

    def _is_whole(self, name: str, description: NetworkDescription) -> bool:
        path = self.folder / name
        return path.is_file() and description.files.get(name) == file_hash(path)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the checkpoint other than weights. Python objects in the file are refused."""
        try:
            with np.load(self.folder / ARRAYS_FILE, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.folder / ARRAYS_FILE} cannot be read. Remove {self.folder}, and repeat.") from error

    def is_writable(self) -> bool:
        """Return whether files can be written into the folder, which is created if it is missing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK | os.X_OK)


def files_of_network(program: str, precision: str) -> list[str]:
    """Return the names of the files that a backend runs."""
    if precision != "int8":
        return [NETWORK_FILE]
    name = QUANTISED_FILES[program]
    return [name, str(Path(name).with_suffix(".bin"))] if program == "openvino" else [name]


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if sum(array.nbytes for array in arrays.values()) > _MOST_ARRAY_BYTES:
        raise DataError("the arrays beside the weights must have at most 1 GiB. Use the backend torch.")
    with open(path, "wb") as file:
        np.savez(file, **dict[str, Any](arrays))
