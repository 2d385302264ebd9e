"""The command ``fastcell watch``: the table of predict, signals, and processes that are killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.processes import living_after
from fixtures.unpacked_files import assert_equal_tables, make_flat_folder

from fastcell.cli.main import main


def predicted(run, source, out):
    assert main(["predict", str(run), str(source), "--out", str(out), "--data.threads", "1"]) == 0
    return pq.read_table(out)


def test_the_table_is_that_of_predict(trained_run, tmp_path, capsys):
    source = make_flat_folder(tmp_path / "cells")
    out = tmp_path / "w.parquet"
    words = ["watch", str(trained_run), str(source), "--out", str(out), "--until_idle", "0.3", "--poll", "0.05"]
    assert main([*words, "--threads", "1", "--min_confidence", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "next: fastcell count" in said
    command = ["predict", str(trained_run), str(source), "--out", str(tmp_path / "p.parquet"), "--min_confidence=0.5"]
    assert main(command) == 0
    assert_equal_tables(pq.read_table(out), pq.read_table(tmp_path / "p.parquet"))


def test_sigterm_ends_with_the_table(trained_run, tmp_path):
    source = make_flat_folder(tmp_path / "cells")
    out = tmp_path / "w.csv"

    def end():
        limit = time.monotonic() + 60
        while not list(tmp_path.glob(".w.csv*/run-*/saved/*.saved")) and time.monotonic() < limit:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    assert main(["watch", str(trained_run), str(source), str(out), "--poll", "0.05"]) == 0
    thread.join()
    assert len(out.read_text().splitlines()) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing", "--out", "w.csv"], "FOLDER must be"),
        ([".", "--out", "w.txt"], "--out must be"),
        ([".", "--out", "w.csv", "--poll", "0"], "--poll must be above 0"),
        ([".", "--out", "w.csv", "--window", "9", "3"], "--window must be two grey levels"),
        ([".", "--out", "w.csv", "--um_per_px", "0"], "--um-per-px must be micrometres"),
        ([".", "--out", "w.csv", "--pattern", "{kind}"], "--pattern must be made of"),
        ([".", "--out", "w.csv", "--until_idle", "-1"], "--until_idle must be above 0"),
    ],
)
def test_wrong_options_are_named(trained_run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["watch", str(trained_run), *words]) == 2
    assert message in capsys.readouterr().err


WRITE_FOLDER = """
import sys, time, numpy as np, cv2
from pathlib import Path
folder = Path(sys.argv[1])
for number in range(200):
    image = np.random.default_rng(number).integers(0, 255, (20 + number % 5, 18 + number % 7), dtype=np.uint8)
    data = cv2.imencode(".png", image)[1].tobytes()
    with open(folder / f"{number:04d}.png", "wb", buffering=0) as file:
        file.write(data[:100])
        time.sleep(0.02)
        file.write(data[100:])
    time.sleep(float(sys.argv[2]))
"""
WRITE_RTDC = """
import sys, time, numpy as np, h5py
images = np.random.default_rng(0).integers(0, 255, (200, 20, 24), dtype=np.uint8)
swmr = sys.argv[3] == "swmr"
with h5py.File(sys.argv[1] + "/now.rtdc", "w", libver="latest" if swmr else "earliest", locking=False) as file:
    file.attrs["imaging:pixel size"] = 0.34
    shown = file.create_dataset("events/image", (0, 20, 24), "u1", chunks=(16, 20, 24), maxshape=(None, 20, 24))
    if swmr:
        file.swmr_mode = True
    for number in range(0, 200, 2):
        shown.resize(number + 2, 0)
        shown[number : number + 2] = images[number : number + 2]
        file.flush()
        time.sleep(0.02 + float(sys.argv[2]) * 2)
"""
WRITE_BINS = """
import sys, time, numpy as np
rng = np.random.default_rng(0)
for hour in range(4):
    name = f"{sys.argv[1]}/D20200101T0{hour}0000_IFCB010"
    open(name + ".hdr", "w").write("softwareVersion: test\\n")
    sent = 0
    with open(name + ".adc", "wb", 0) as adc, open(name + ".roi", "wb", 0) as roi:
        for number in range(50):
            height, width = 20 + number % 5, 18 + number % 7
            row = (",".join(map(str, [number, *[0] * 12, 9, 9, width, height, sent, *[0] * 6])) + "\\n").encode()
            pixels = rng.integers(0, 255, height * width, dtype=np.uint8).tobytes()
            for data, file in ((row[:25], adc), (pixels[:99], roi), (row[25:], adc), (pixels[99:], roi)):
                file.write(data)
                time.sleep(0.01)
            sent += len(pixels)
            time.sleep(float(sys.argv[2]))
"""
WRITERS = {"folder": WRITE_FOLDER, "rtdc": WRITE_RTDC, "swmr": WRITE_RTDC, "ifcb": WRITE_BINS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WRITERS))
def test_a_watch_killed_20_times_has_each_cell_once(trained_run, tmp_path, kind):
    """Another process writes; the command is killed 20 times at random moments, then runs to its end."""
    source = tmp_path / "cells"
    source.mkdir()
    rng = random.Random(kind)
    out = tmp_path / "w.parquet"
    watched = source / "now.rtdc" if kind in ("rtdc", "swmr") else source
    writer = subprocess.Popen([sys.executable, "-c", WRITERS[kind], str(source), "0.5", kind])
    while not list(source.iterdir()):
        time.sleep(0.02)
    words = [sys.executable, "-m", "fastcell", "watch", str(trained_run), str(watched), "--out", str(out)]
    words += ["--poll", "0.05", "--threads", "1"]
    for _ in range(20):
        process = subprocess.Popen(words, stdout=-3, start_new_session=True)
        time.sleep(rng.uniform(1.0, 8.0))
        process.kill()
        assert process.wait() == -9
        assert living_after(process.pid, 20) == []
    last = subprocess.Popen([*words, "--until_idle", "5"], stdout=-3)
    assert last.wait(280) == 0
    assert writer.wait(10) == 0
    table = pq.read_table(out)
    assert table.num_rows == 200
    assert len(set(table.column("key").to_pylist())) == 200
    assert np.isfinite(table.column("confidence").to_numpy(zero_copy_only=False)).all()
    assert_equal_tables(table, predicted(trained_run, watched, tmp_path / "p.parquet"))
    assert not list(tmp_path.glob(".w*"))
