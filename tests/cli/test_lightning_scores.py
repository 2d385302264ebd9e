"""What test, validate and predict take from a run."""

from fixtures.golden_files import run_command


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, capsys):
    status, _, err = run_command(["test", str(tmp_path)], capsys)
    assert status == 2
    assert "must be a checkpoint, or a run folder with a checkpoint" in err
