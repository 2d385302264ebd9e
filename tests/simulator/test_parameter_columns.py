"""Columns of a parameter row: numbered without gaps, series side by side."""

from fastcell.simulator.parameter_columns import F
from fastcell.simulator.simulate import draw_parameters


def test_columns_count_from_0_without_gaps():
    assert [int(column) for column in F] == list(range(len(F)))
    assert draw_parameters(range(3), 0).shape == (3, len(F))


def test_columns_that_loops_step_through_stand_side_by_side():
    names = [column.name for column in F]
    for series in ("wave", "phase"):
        first = names.index(f"{series}_2")
        assert names[first : first + 4] == [f"{series}_{number}" for number in range(2, 6)]


def test_names_are_those_of_the_tables_on_disk():
    assert [column.name for column in F][:12] == [
        "class_index", "recording", "defect", "height", "width", "diameter_um", "deformation", "irregularity",
        "nucleus_ratio", "nucleus_contrast", "density", "granularity",
    ]  # fmt: skip
