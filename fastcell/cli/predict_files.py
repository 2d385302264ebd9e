"""``fastcell predict RUN FILES``: classify cells of files that are not packed, in one process without a trainer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcell.cli.lightning_options import FileArguments
from fastcell.cli.options import ReadingArguments, packages_of
from fastcell.errors import invalid
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line
from fastcell.system.text import join_lines

_DEVICES = {"auto": None, "cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
_PRECISIONS = (None, "auto", "32", "32-true", 32)


@dataclass(frozen=True)
class FilesToPredict:
    """A request to ``fastcell predict`` for files.

    Attributes:
        what: path of the files.
        checkpoint: file of the network.
        config: values of all options.
    """

    what: str
    checkpoint: str
    config: Any

    @classmethod
    def of(cls, config: Any) -> FilesToPredict | None:
        """Return the task that the options describe; None for a packed data set.

        Raises:
            ArgumentError: an option applies only to the other kind of data.
        """
        path = config.data.path
        if path is None or not Path(path).exists() or (Path(path) / "dataset.json").exists():
            _refuse_reading_options(config)
            return None
        _refuse_options_of_packed_data(config)
        return cls(str(path), str(config.ckpt_path), config)

    def predict(self, out: Path) -> None:
        """Classify the cells, write them to `out` and print the number of cells of each class.

        Raises:
            ArgumentError: `out` is one of the files to read.
        """
        from fastcell.inference.open_classifier import load
        from fastcell.inference.source_cells import open_cells
        from fastcell.predictions.answer_limits import read_answer_limits
        from fastcell.predictions.from_source import closing_lines, predict_source

        config = self.config
        check_output_file("--out", out, self.what, *filter(None, (config.table, config.labels)))
        accelerator = str(config.trainer.accelerator)
        if accelerator not in _DEVICES:
            raise invalid("--trainer.accelerator", f"one of {', '.join(_DEVICES)}", accelerator, "Leave it out")
        threads = config.data.threads or None
        classifier = load(
            self.checkpoint,
            device=None if config.backend not in (None, "torch") else _DEVICES[accelerator],
            backend=config.backend,
            precision=config.precision,
            tta=config.tta,
            threads=threads,
            trust=packages_of(config.trust),
        )
        if config.data.eval_batch_size is not None:
            classifier.chunk = config.data.eval_batch_size
        limits = read_answer_limits(Path(self.checkpoint), classifier.classes, config.min_confidence, config.accuracy)
        for line in limits.lines:
            print_line(line)
        reading = ReadingArguments(**{name: getattr(config, name) for name in ReadingArguments._fields})
        given = None if config.window is None else (float(config.window[0]), float(config.window[1]))
        cells = open_cells(
            self.what,
            read=reading.read(config.pattern),
            window=classifier.checked_window(given),
            um_per_px=config.um_per_px,
            depth=classifier.preprocessing.depth,
        )
        for note in cells.listing.notes:
            print_line(f"note: {note}")
        start = time.monotonic()
        predictions = predict_source(
            classifier, cells, out, Path(self.checkpoint), print_line, min_confidence=limits.min_confidence
        )
        print_line(join_lines(closing_lines(predictions, time.monotonic() - start)))


def _refuse_reading_options(config: Any) -> None:
    defaults: Mapping[str, Any] = FileArguments._field_defaults | ReadingArguments._field_defaults
    for name, default in defaults.items():
        if getattr(config, name) != default:
            hint = "A packed data set has been read already: leave it out"
            raise invalid(f"--{name}", "given for files that are not packed", getattr(config, name), hint)


def _refuse_options_of_packed_data(config: Any) -> None:
    trainer, data = config.trainer, config.data
    hint = "Leave it out, or pack the files first"
    if data.predict_split is not None:
        raise invalid("--data.predict_split", "given for a packed data set", data.predict_split, hint)
    if str(trainer.devices) not in ("auto", "1") or trainer.num_nodes != 1:
        raise invalid("--trainer.devices", "1 for files that are not packed", trainer.devices, hint)
    if trainer.precision not in _PRECISIONS:
        raise invalid("--trainer.precision", "32-true for files that are not packed", trainer.precision, hint)
