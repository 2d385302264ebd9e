"""Recordings of one class each through the commands: what is refused, and what goes on when it is allowed."""

import cv2
import numpy as np
import pytest


def test_recordings_are_of_one_class_each(program, tmp_path):
    program("refusals").write_recordings(tmp_path / "images", 3)
    found = sorted(path.relative_to(tmp_path / "images").as_posix() for path in tmp_path.glob("images/*/*"))
    assert found == [f"{name}_{number:03d}.png" for name in ("alive/rec1", "dead/rec2") for number in range(3)]


def test_donors_are_told_by_the_names(program, tmp_path):
    for name in ("donor_1/quiescent", "donor_1/activated", "donor_4/activated"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "cells" / name / "a.png"), np.zeros((8, 8), np.uint8))
    program("refusals").copy_donors(tmp_path / "cells", tmp_path / "images")
    found = sorted(path.relative_to(tmp_path / "images").as_posix() for path in tmp_path.glob("images/*/*"))
    assert found == ["activated/donor4_a.png", "quiescent/donor1_a.png"]


@pytest.mark.slow
def test_every_command_refuses_and_goes_on_where_it_is_allowed(program, tmp_path):
    refusals = program("refusals")
    refusals.write_recordings(tmp_path / "images")
    steps = {command: (code, accuracy) for command, code, accuracy in refusals.run_commands(tmp_path, refusals.HERE)}
    codes = {command: code for command, (code, _) in steps.items()}
    allowed = [command for command in codes if "allow" in command]
    assert codes == {command: 0 if command == "pack --split none" or command in allowed else 2 for command in codes}
    assert len(allowed) == 4
    assert [command for command, (_, accuracy) in steps.items() if accuracy is not None] == ["fit --allow_absent"]
