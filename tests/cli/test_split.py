"""The command `fastcell split`."""

from collections.abc import Callable

from fastcell.cli import main as cli
from fastcell.dataset.manifest import Manifest

Make = Callable[..., Manifest]


def groups_csv(folder, num, name="groups.csv"):
    path = folder / name
    path.write_text("cell_id,donor\n" + "".join(f"{cell},d{cell % 7}\n" for cell in range(num)))
    return path


def test_command_says_shares_groups_and_copies(make_dataset, tmp_path, capsys):
    manifest = make_dataset(140)
    arguments = ["split", str(manifest.path), "--group-by", f"{groups_csv(tmp_path, 140)}:donor", "--no-near"]
    assert cli.main([*arguments, "--folds", "3"]) == 0
    said = capsys.readouterr().out
    assert "140 of them without copies" in said
    assert "exact, rotated or mirrored     0      0" in said
    assert "train: " in said
    assert "by-donor-fold-2" in said
    assert cli.main(arguments) == 2
    assert "--force" in capsys.readouterr().err
