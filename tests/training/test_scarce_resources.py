"""Machines that lack something, as `fit` and `pack` meet them: real full and read-only disks, no shared memory."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from fixtures.process_state import one_thread

from fastcell.cli import fit, pack
from fastcell.training.resume import latest_point

FIT = (
    "--data.image_size=16 --data.batch_size=12 --data.threads=1 --trainer.accelerator=cpu --trainer.max_epochs=4 "
    "--checkpoint_every_steps=2"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for number, name in enumerate(("dim", "bright")):
        (folder / name).mkdir()
        for cell in range(60):
            pixels = rng.normal(80 + 60 * number, 30, tuple(rng.integers(14, 24, 2)))
            cv2.imwrite(str(folder / name / f"{cell:03d}.png"), pixels.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def data(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "cells"
    assert pack.main([str(images), str(out)]) == 0
    return out


def in_own_mounts(script):
    """Run a shell script that may mount file systems, which nobody else sees; `$fastcell` in it is the command."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("mounting a full or a read-only disk needs unshare (util-linux) and user namespaces")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-uc", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "fastcell": f"{sys.executable} -m fastcell"},
        check=False,
    )


COMMANDS = """
import json, pathlib, sys
from fastcell.cli.main import main

for name, words in json.loads(sys.argv[1]).items():
    sys.stderr = open(pathlib.Path(sys.argv[2]) / f"{name}.err", "w")
    status = main(words)
    sys.stderr.close()
    (pathlib.Path(sys.argv[2]) / f"{name}.status").write_text(str(status))
"""


@pytest.fixture(scope="module")
def disks(images, data, tmp_path_factory):
    """Folder with NAME.err and NAME.status of commands that write to a full and to a read-only disk, in one process.

    `full` is what was on the full disk at the end.
    """
    root = tmp_path_factory.mktemp("disks")
    (root / "disk").mkdir()
    (root / "read-only").mkdir()
    fit_words = ["fit", f"--data.path={data}", *FIT.split()]
    commands = {
        "full": [*fit_words, f"--runs={root}/disk/runs"],
        "fit": [*fit_words, f"--runs={root}/read-only/runs"],
        "pack": ["pack", str(images), f"{root}/read-only/cells"],
    }
    words = shlex.join([sys.executable, "-c", COMMANDS, json.dumps(commands), str(root)])
    done = in_own_mounts(
        f"mount -t tmpfs -o size=5m tmpfs {root}/disk && mount -t tmpfs -o ro tmpfs {root}/read-only && {words} && "
        f"cp -r {root}/disk/runs {root}/full"
    )
    assert done.returncode == 0, done.stderr
    return root


def last_weights(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def test_a_full_disk_ends_fit_with_its_points_kept(data, disks, tmp_path, capsys):
    errors = (disks / "full.err").read_text()
    assert (disks / "full.status").read_text() == "2", errors
    assert "no space left on the disk" in errors
    assert re.search(r"go on with `fastcell fit --resume \S+`", errors)
    assert "Traceback" not in errors
    (folder,) = (disks / "full").iterdir()
    point, torn = latest_point(folder)
    assert point is not None
    assert torn == []
    assert not [path.name for path in folder.iterdir() if ".partial" in path.name]
    with one_thread():  # as in `disks`: sums in the same order
        assert fit.main([f"--resume={folder}"]) == 0
        assert f"resuming from {point}" in capsys.readouterr().out
        assert fit.main([f"--data.path={data}", *FIT.split(), f"--runs={tmp_path}/whole"]) == 0
    (whole,) = (tmp_path / "whole").iterdir()
    ours, theirs = last_weights(folder), last_weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("command", ["fit", "pack"])
def test_a_read_only_disk_is_a_message(disks, command):
    errors = (disks / f"{command}.err").read_text()
    assert (disks / f"{command}.status").read_text() == "2", errors
    assert "read-only file system" in errors.lower()
    assert "Traceback" not in errors


@pytest.mark.slow
def test_nothing_needs_shared_memory(images, data, tmp_path):
    """As in a container whose /dev/shm is full: pack, which says so, then training in two processes."""
    done = in_own_mounts(
        f"mount -t tmpfs -o size=4k tmpfs /dev/shm; set -e; $fastcell pack {images} {tmp_path}/cells --jobs 2; "
        f"$fastcell fit --data.path={data} {FIT} --runs={tmp_path}/runs --trainer.strategy=ddp --trainer.devices=2 "
        "--trainer.max_epochs=1"
    )
    assert done.returncode == 0, done.stderr
    assert "/dev/shm is full or cannot be written: one process does all" in done.stderr
    assert (tmp_path / "cells" / "manifest.parquet").read_bytes() == (data / "manifest.parquet").read_bytes()
