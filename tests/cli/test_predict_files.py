"""``fastcell predict`` with files: its options, its messages and what it prints."""

import pytest
from fixtures.unpacked_files import make_deep_folder, make_flat_folder

from fastcell.cli.predict import main as predict_main
from fastcell.errors import ArgumentError, DataError


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window", "0", "9"], None),
        (["--trainer.devices=2"], "--trainer.devices must be 1 for files that are not packed"),
        (["--trainer.precision=bf16-mixed"], "--trainer.precision must be 32-true for files"),
        (["--data.predict_split=test"], "--data.predict_split must be given for a packed data set"),
        (["--tile=4x"], "--tile must be height x width in pixels"),
        (["--um_per_px=-1"], "--um-per-px must be micrometres from 1e-6 to 1e6"),
    ],
)
def test_options_that_do_not_fit_files(trained_run, tmp_path, flags, message):
    src, out = make_flat_folder(tmp_path / "src"), tmp_path / "p.csv"
    arguments = [str(trained_run), str(src), "--out", str(out), *flags]
    if message is None:  # a window is for 16-bit cells only
        assert predict_main(arguments) == 0
    else:
        with pytest.raises(ArgumentError, match=message):
            predict_main(arguments)
        assert not out.exists()


def test_what_cannot_be_classified(trained_run, trained_data, tmp_path):
    out = str(tmp_path / "p.csv")
    with pytest.raises(ArgumentError, match="--pattern must be given for files that are not packed"):
        predict_main([str(trained_run), str(trained_data), "--pattern={name}", "--out", out])
    with pytest.raises(ArgumentError, match=r"--window must be given for 16-bit cells \(9 in deep, the first"):
        predict_main([str(trained_run), str(make_deep_folder(tmp_path / "deep")), "--out", out])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable cell: 1 bad cell: empty file \(1\)"):
        predict_main([str(trained_run), str(tmp_path / "bad"), "--out", out])


def test_progress_shows_on_stderr_and_the_counts_on_stdout(trained_run, tmp_path, capsys):
    src = make_flat_folder(tmp_path / "src")
    out = tmp_path / "p.csv"
    assert predict_main([str(trained_run), str(src), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fewer than 40 validation cells: the limits come from training cells")
    assert lines[1].startswith("MB231 ")
    assert "of 7 cells" in lines[2]
    assert lines[3].startswith("7 rows, ")
    assert any(line.startswith("next: fastcell count") for line in lines)


@pytest.mark.parametrize("option", ["--table", "--labels"])
def test_a_table_that_is_read_is_not_replaced(trained_run, tmp_path, option):
    src, table = make_flat_folder(tmp_path / "src"), tmp_path / "table.csv"
    table.write_text("path,label\n")
    with pytest.raises(ArgumentError, match="--out must be a different file from the input"):
        predict_main([str(trained_run), str(src), f"{option}={table}", "--out", str(table)])
    assert table.read_text() == "path,label\n"
