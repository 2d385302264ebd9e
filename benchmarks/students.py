"""How much accuracy does a student network lose beside its teacher, and what does its network cost?

Students that `fastcell distill` or `fastcell fit` has trained classify the test cells of their data set, in torch and
in faster programs; the teacher classifies the same cells. Differences are paired, with 95 % intervals.

    python benchmarks/students.py --cells NAME --teacher RUN --students RUN RUN [--cells NAME ...]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from harness import Result

from fastcell.runs.run_folder import find_checkpoint
from fastcell.training.distillation.student_scores import score_student

BACKENDS = (("torch", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


@dataclass
class Student:
    """A student in one backend, beside its teacher.

    Attributes:
        cells: what was classified.
        num_cells: number of test cells.
        student: network and image size.
        trained: number of epochs, whether a teacher was there, and how the cell was fitted unless stretched.
        backend: program and precision.
        student_us: processor time of the network per cell in one thread [us].
        teacher_accuracy, accuracy: of all test cells.
        difference: accuracy minus that of the teacher, ``{"value", "low", "high"}``.
        balanced_difference: balanced accuracy minus that of the teacher.
        calibration_error: expected calibration error.
        commit: that the student was trained at.
    """

    cells: str
    num_cells: int
    student: str
    trained: str
    backend: str
    student_us: float
    teacher_accuracy: float
    accuracy: float
    difference: dict[str, float]
    balanced_difference: dict[str, float]
    calibration_error: float
    commit: str


def main(argv=None):
    """Score, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", action="append", required=True, help="name of a set")
    parser.add_argument("--teacher", action="append", required=True, type=Path, help="run of the teacher of that set")
    parser.add_argument("--students", action="append", required=True, type=Path, nargs="+", help="its students")
    options = parser.parse_args(argv)
    rows = []
    for cells, teacher, students in zip(options.cells, options.teacher, options.students, strict=True):
        for student in students:
            rows += score(cells, teacher, student)
    print(f"wrote {Result('students', 'test cells', {'seeds': 1}, rows).save()}")


def score(cells, teacher, student):
    """Return a row for each backend."""
    environment = json.loads((student / "environment.json").read_text())
    config = yaml.safe_load((student / "config.yaml").read_text())
    trained = f"{config['trainer']['max_epochs']} epochs" + ("" if environment.get("teacher") else " without a teacher")
    if config["data"]["fit"] != "stretch":
        trained += f", fit {config['data']['fit']}"
    scores = score_student(student, find_checkpoint(teacher), BACKENDS)
    first, *others = scores.networks
    rows = []
    for one in others:
        row = Student(
            cells, scores.num_cells, one.network, trained, one.backend, one.us_per_cell or 0.0,
            first.accuracy["value"], one.accuracy["value"], difference(one, "difference"),
            difference(one, "balanced_difference"), one.calibration_error.value, (environment["commit"] or "")[:7],
        )  # fmt: skip
        print(f"{cells:<28}{row.student:<24}{trained:<30}{row.backend:<16}{row.accuracy:.3f} {row.difference}")
        rows.append(row)
    return rows


def difference(scores, name):
    """Return a difference from the teacher with its interval."""
    found = getattr(scores, name).as_json()
    return {key: found[key] for key in ("value", "low", "high")}


if __name__ == "__main__":
    main()
