"""The default length of a run that starts from weights: half of the preset's, unless the user decides it."""

import pytest

from fastcell.cli.shorter_training import shorter_length


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        ([], ["--trainer.max_epochs=8"]),
        (["--preset=fast"], ["--trainer.max_epochs=20"]),
        (["--preset", "paper"], ["--trainer.max_steps=1500"]),
        (["--trainer.max_epochs=3"], []),
        (["--trainer.max_steps", "3"], []),
        (["--trainer.max_time=00:01:00:00"], []),
    ],
)
def test_half_of_the_preset(arguments, added):
    assert shorter_length(arguments) == added


def test_a_file_of_settings_decides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {max_steps: 9}\n")
    assert shorter_length(["--config", str(path)]) == []
    path.write_text("data: {batch_size: 9}\n")
    assert shorter_length(["-c", str(path)]) == ["--trainer.max_epochs=8"]
