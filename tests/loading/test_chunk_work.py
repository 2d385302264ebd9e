"""Work on chunks: the images of the loaders, the same for any number of threads, with corrupt cells marked."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import View
from fastcell.errors import DataError
from fastcell.loading.chunk_work import work_on_chunks
from fastcell.loading.loader import CellLoader
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share

Make = Callable[..., Manifest]


def images_with(manifest, rows, preprocessing, chunk, threads):
    results = list(work_on_chunks(manifest, rows, chunk, preprocessing, lambda cells, images: images, threads=threads))
    assert [len(result.value) for result in results][:-1] == [chunk] * (len(results) - 1)
    assert all(result.good.all() for result in results)
    ids = np.concatenate([result.cell_ids for result in results])
    return ids, np.concatenate([result.value for result in results])


@pytest.mark.parametrize(
    ("layout", "encoding", "preprocessing"),
    [
        ("cell", "png", Preprocessing(16)),
        ("cell", "jpg", Preprocessing(24, "contain", "standardize", antialias=True)),
        ("block", "npy", Preprocessing(16, "scale", "subtract")),
        ("cell", "png16", Preprocessing(16, window=(0.0, 65535.0), depth=16)),
    ],
)
def test_images_are_those_of_the_loader_for_any_number_of_threads(make_dataset, layout, encoding, preprocessing):
    manifest = make_dataset(41, layout=layout, encoding=encoding)
    rows = np.delete(np.arange(41), [3, 20])
    loader = CellLoader(View(manifest, rows), evaluation_share(39, 39), preprocessing)
    (batch,) = list(loader)
    for chunk, threads in ((7, 1), (7, 3), (100, 2)):
        ids, images = images_with(manifest, rows, preprocessing, chunk, threads)
        np.testing.assert_array_equal(ids, rows)
        np.testing.assert_array_equal(images, batch.images.numpy())


@pytest.mark.parametrize("threads", [1, 3])
def test_corrupt_cells_are_marked_and_the_others_keep_their_images(make_dataset, threads):
    manifest = make_dataset(30)
    _, whole = images_with(manifest, np.arange(30), Preprocessing(16), 8, 1)
    row = manifest.table.slice(12, 1).to_pylist()[0]
    path = manifest.path / row["shard"]
    content = bytearray(path.read_bytes())
    content[row["offset"] + 5] ^= 255
    path.write_bytes(content)
    found = CorruptCells(manifest)
    results = list(
        work_on_chunks(
            manifest,
            np.arange(30),
            8,
            Preprocessing(16),
            lambda cells, images: images,
            corrupt_cells=found,
            threads=threads,
        )
    )
    good = np.concatenate([result.good for result in results])
    images = np.concatenate([result.value for result in results])
    assert np.flatnonzero(~good).tolist() == [12]
    assert list(found.reasons) == [12]
    np.testing.assert_array_equal(images[good], whole[good])
    with pytest.raises(DataError, match="other bytes than were packed"):
        list(work_on_chunks(manifest, np.arange(30), 8, Preprocessing(16), lambda cells, images: None))


def test_work_that_fails_or_is_left_ends_without_a_thread(make_dataset):
    import threading

    manifest = make_dataset(60)

    def fail(cells, images):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(work_on_chunks(manifest, np.arange(60), 4, Preprocessing(16), fail, threads=2))
    work = work_on_chunks(manifest, np.arange(60), 4, Preprocessing(16), lambda cells, images: 0, threads=2)
    next(work)
    work.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("fastcell-chunks", "fastcell-batches"))]


def test_torch_is_not_loaded():
    code = (
        "import sys, fastcell.loading.chunk_work; print([n for n in ('torch', 'nvidia', 'cupy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
