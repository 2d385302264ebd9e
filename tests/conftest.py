"""Fixtures of all tests: real data beside the checkout, a private cache folder, small data sets, a run, and the GPU."""

import logging
import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

# The BLAS of NumPy and SciPy reads its number of threads once, when it is loaded. The matrices of these tests are
# small: on a busy machine threads that wait for each other made an audit take five times as long, and twice the CPU
# time. Processes that tests start have the default.
with pytest.MonkeyPatch.context() as _patch:
    _patch.setenv("OPENBLAS_NUM_THREADS", os.environ.get("OPENBLAS_NUM_THREADS", "1"))
    import numpy as np
    import scipy.linalg  # noqa: F401

from fastcell.system.library_settings import limit_spinning
from fastcell.system.optional_packages import send_no_reports

limit_spinning()  # as the command does before it loads torch
send_no_reports()  # of the tests that import ONNX Runtime themselves

# No test asserts speed: on a busy machine any example may take longer than the 200 ms that hypothesis allows by itself.
hypothesis.settings.register_profile("any_speed", deadline=None)
hypothesis.settings.load_profile("any_speed")

pytest_plugins = [
    "fixtures.audit_sets",
    "fixtures.chromium_browser",
    "fixtures.figure_checks",
    "fixtures.image_files",
    "fixtures.own_modules",
    "fixtures.prepared_run",
    "fixtures.process_state",
    "fixtures.review_pages",
    "fixtures.quick_figures",
    "fixtures.slow_share",
    "fixtures.stores",
    "fixtures.studies",
    "pytester",
]

REPO_DIR = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_files(tmp_path_factory):
    """Let libraries leave their temporary files in the folder of the tests, which is removed at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t", numbered=False)))
        patch.setattr(tempfile, "tempdir", None)  # which is read from it at the next use
        yield


@pytest.fixture(scope="session")
def real_data():
    """Folder of real cells: $FASTCELL_REAL_DATA, else ../shared/data beside the checkout."""
    path = Path(os.environ.get("FASTCELL_REAL_DATA") or REPO_DIR.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip("no real data: set FASTCELL_REAL_DATA to a folder that holds jurkat/, tcell/ and atom-samples/")
    return path


@pytest.fixture
def tmp_cache(tmp_path, monkeypatch):
    """Point fastcell's cache folder to a fresh place for one test, subprocesses included."""
    path = tmp_path / "cache"
    monkeypatch.setenv("FASTCELL_CACHE_DIR", str(path))
    return path


@pytest.fixture(scope="session")
def gpu():
    """Name of the first GPU; the test is skipped where there is none."""
    from fastcell.system import resources

    if not resources.has_gpu():
        pytest.skip("no NVIDIA GPU usable by torch")
    import torch

    return torch.cuda.get_device_name(0)


@pytest.fixture(autouse=True)
def _gpu_marker(request):
    if request.node.get_closest_marker("gpu") is not None:
        request.getfixturevalue("gpu")


@pytest.fixture(autouse=True)
def _own_logging():
    """Begin with the log as it is in a new process: a command that ran in this one showed its remarks itself."""
    log = logging.getLogger("fastcell")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    log.handlers.clear()


@pytest.fixture(scope="session")
def trained_data(tmp_path_factory):
    """Folder of 200 simulated cells."""
    from fastcell.simulator.synth import synthesize

    path = tmp_path_factory.mktemp("trained") / "cells"
    synthesize(path, 200, seed=0, jobs=1)
    return path


@pytest.fixture(scope="session")
def trained_run(trained_data):
    """Run folder of a small network after 40 steps on `trained_data`."""
    from fastcell.cli.fit import main

    runs = trained_data.parent / "runs"
    arguments = ["--data.image_size=32", "--data.threads=1", "--trainer.max_steps=40", "--trainer.max_epochs=-1"]
    assert main(["--preset=fast", f"--data.path={trained_data}", f"--runs={runs}", *arguments]) == 0
    (folder,) = runs.iterdir()
    return folder


@pytest.fixture
def make_set(tmp_path):
    """Function that packs unlabelled cells into tmp_path/set: so many, or with these keys."""

    def make(num_cells=0, keys=None):
        from fastcell.dataset.dataset_info import DatasetInfo
        from fastcell.packing.finish_dataset import finish_dataset
        from fastcell.packing.records import Record
        from fastcell.packing.shard_writer import write_cell_shard
        from fastcell.storage.staging import staging

        names = keys or [f"cell-{number:03d}" for number in range(num_cells)]
        rng = np.random.default_rng(0)
        records = [Record(name, rng.integers(0, 255, (6, 7)).astype(np.uint8), "raw") for name in names]
        with staging(tmp_path / "set") as folder:
            result = write_cell_shard(folder / "shard-000000.tar", records, None, [])
            sides = {"default": np.full(len(names), "test")}
            return finish_dataset(folder, tmp_path / "set", [result], DatasetInfo("cells"), sides)

    return make


TAGGED_CLASSES = ["A", "B", "C"]


def tagged_pixels(number):
    """(H, W) uint8 of a size that depends on `number`, which its first two pixels hold; the rest is noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(1, 200, (3 + number % 5, 4 + number % 7)).astype(np.uint8)
    pixels[0, :2] = divmod(number, 256)
    return pixels


def _tagged_record(number, encoding, labelled):
    import cv2

    from fastcell.packing.records import Record

    pixels = tagged_pixels(number)
    data = pixels
    if encoding == "png16":
        data = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    elif encoding != "npy":
        data = cv2.imencode(f".{encoding}", pixels)[1].tobytes()
    name = TAGGED_CLASSES[number % 3] if labelled else None
    return Record(
        f"cell-{number:05d}.{encoding}", data, "raw" if encoding == "npy" else encoding[:3], name, um_per_px=0.25
    )


@pytest.fixture
def make_dataset(tmp_path):
    """Function that packs `num_cells` tagged cells: the first 60 % train, 20 % valid, 20 % test."""

    def make(
        num_cells=100,
        *,
        name="set",
        layout="cell",
        encoding="png",
        num_shards=3,
        block_cells=16,
        labelled=True,
        sides=(0.6, 0.8),
    ):
        from fastcell.dataset.dataset_info import DatasetInfo
        from fastcell.packing.finish_dataset import finish_dataset
        from fastcell.packing.shard_writer import write_block_shard, write_cell_shard
        from fastcell.storage.staging import staging

        window = (0.0, 65535.0) if encoding == "png16" else None
        edges = [int(num_cells * side) for side in sides]
        side = np.array(["train"] * edges[0] + ["valid"] * (edges[1] - edges[0]) + ["test"] * (num_cells - edges[1]))
        results = []
        with staging(tmp_path / name) as folder:
            for shard, numbers in enumerate(np.array_split(np.arange(num_cells), num_shards)):
                path = folder / f"shard-{shard:06d}.tar"
                records = [_tagged_record(number, encoding, labelled) for number in numbers.tolist()]
                if layout == "cell":
                    results.append(write_cell_shard(path, records, window, TAGGED_CLASSES))
                    continue
                blocks = []
                for part in ("train", "valid", "test"):
                    of_part = [record for record, number in zip(records, numbers, strict=True) if side[number] == part]
                    blocks += [(part, of_part[i : i + block_cells]) for i in range(0, len(of_part), block_cells)]
                results.append(write_block_shard(path, blocks, window))
            info = DatasetInfo(
                name, TAGGED_CLASSES if labelled else [], layout, window=list(window) if window else None
            )
            return finish_dataset(folder, tmp_path / name, results, info, {"default": side})

    return make


@pytest.fixture
def tagged():
    """`tagged_pixels`: the pixels of a cell of `make_dataset`."""
    return tagged_pixels


PLANTED_CLASSES = ["left", "right", "top"]
PLACES = {"left": np.s_[:, :4], "right": np.s_[:, -4:], "top": np.s_[:4, :]}


def bright(name, seed, noise=10.0):
    """(12, 16) uint8: a cell of a class is bright at one side."""
    cell = np.full((12, 16), 60.0)
    cell[PLACES[name]] = 180
    return np.clip(cell + np.random.default_rng(seed).normal(0, noise, cell.shape), 1, 255).astype(np.uint8)


@pytest.fixture
def planted(tmp_path):
    """Function that packs `num` cells, classes in turn, in `groups` groups in turn, 60 / 20 / 20 %."""

    def make(num=120, *, groups=4, draw=bright, names=None, folder="set"):
        from fastcell.dataset.dataset_info import DatasetInfo
        from fastcell.packing.finish_dataset import finish_dataset
        from fastcell.packing.records import Record
        from fastcell.packing.shard_writer import write_cell_shard
        from fastcell.storage.staging import staging

        labels = names or [PLANTED_CLASSES[number % 3] for number in range(num)]
        records = [
            Record(
                f"cell-{number:04d}.npy",
                draw(labels[number], number),
                "raw",
                labels[number],
                f"donor-{number // 3 % groups}" if groups else None,
            )
            for number in range(num)
        ]
        sides = np.array(["train", "train", "train", "valid", "test"])[np.arange(num) // 3 % 5]
        out = tmp_path / folder
        with staging(out) as hidden:
            shard = write_cell_shard(hidden / "shard-000000.tar", records, None, PLANTED_CLASSES)
            return finish_dataset(hidden, out, [shard], DatasetInfo("planted", PLANTED_CLASSES), {"default": sides})

    return make
