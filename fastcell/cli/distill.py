"""The command ``fastcell distill``: a small, fast network that learns from a trained one."""

from __future__ import annotations

from typing import Annotated

from fastcell.cli.next_steps import data_of_run, show_next
from fastcell.cli.options import OtherData, Preset, Run, Trust, packages_of
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.errors import invalid

Changes = Annotated[tuple[str, ...], Spelled(shown=False, takes_dotted=True)]


def distill(
    run: Run,
    data: OtherData = None,
    *,
    budget: Annotated[str, Spelled("TIME")] = "10us",
    out: Annotated[str, Spelled("DIR", also=("-o",))] = "runs",
    preset: Preset = "fast",
    temperature: float = 2.0,
    share: float = 0.7,
    trust: Trust = None,
    allow_absent: bool = False,
    changes: Changes = (),
) -> int:
    """Train a small, fast network (the student) with the class probabilities of a trained one (the teacher), and
    compare the two on the same cells. The result is an ordinary run.

    Students of several sizes, with images of 24, 32 and 48 pixels, are timed on this machine in the fastest installed
    program (with OpenVINO, in 8 bits). The largest one within the budget is trained for three times the epochs of the
    preset. The teacher classifies every training cell with the same random changes, and the loss compares the student
    with the teacher's class probabilities and with the labels. These options of fastcell fit override the settings:
    --model.*, --data.*, --trainer.*.

    Args:
        run: run folder of the teacher, or a checkpoint in it
        data: data set to train on [default: data set of the teacher]
        budget: processor time of the student per cell in one thread, without the preprocessing
        out: parent folder of the new run folder
        preset: settings of the training
        temperature: temperature of the compared probabilities; values above 1 give unlikely classes more weight
        share: weight of the teacher in the loss, above 0 and at most 1; the labels have the rest
        trust: packages whose code the teacher may import, separated by commas
        allow_absent: train even if a subset lacks a class, or class and recording cannot be told apart
        changes: options of fastcell fit that override the settings

    Examples:
        fastcell distill runs/20260131-142501-donors-cellnet --budget 10us
        fastcell distill runs/20260131-142501-donors-cellnet cells --trainer.max_epochs 20
    """
    from fastcell.cli.distill_from_python import distill

    options = {"budget": budget, "out": out, "preset": preset, "temperature": temperature, "share": share}
    further = {"settings": _settings(changes), "trust": packages_of(trust), "allow_absent": allow_absent}
    done = distill(run, data, **options, **further)  # type: ignore[arg-type]
    program, precision = done.scores.networks[-1].backend.split()
    how = ("--out", "predictions.parquet", "--backend", program, "--precision", precision)
    cells = data_of_run(done.run)
    show_next(("report", done.run), *([("predict", done.run, *cells, *how)] if cells else []))
    return 0


def _settings(words: tuple[str, ...]) -> dict[str, str]:
    """Return options as names (without dashes) and values.

    Raises:
        ArgumentError: an option has no value, or is none of ``--model.*``, ``--data.*``, ``--trainer.*``.
    """
    rest, found = list(words), {}
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.removeprefix("--")
        if not name.startswith(("model.", "data.", "trainer.")):
            raise invalid("options", "those of distill, or --model.*, --data.*, --trainer.* of fit", f"--{name}",
                          "See fastcell fit --help_all")  # fmt: skip
        if not equals and not rest:
            raise invalid(f"--{name}", "given with a value", "none", "Write for example --trainer.max_epochs 20")
        found[name] = value if equals else rest.pop(0)
    return found


main = entry(distill)
