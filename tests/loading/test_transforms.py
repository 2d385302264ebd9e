"""Both transforms do the same to a cell; each is what `fastcell.ops.cpu.transform` says it is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.loading import transforms
from fastcell.loading.array_loader import make_pool
from fastcell.loading.geometry import Geometry
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import evaluation_share
from fastcell.loading.stores import stream
from fastcell.loading.stores.stream import CellReader
from fastcell.loading.transform_dali import DaliTransform
from fastcell.loading.transforms import FusedGpuTransform, FusedTransform, make_transform, resolve_transform
from fastcell.ops.augmentation import Augmentation, draw
from fastcell.ops.matrices import matrices
from fastcell.ops.transform import make_clock

Make = Callable[..., Manifest]
QUIET = {"noise_probability": 0.0}  # the generators differ
BATCH, SIZE = 24, 32


def read(manifest):
    return next(CellReader(select(manifest, ViewConfig()), evaluation_share(len(manifest), BATCH)).epoch(0))


def both(manifest, preprocessing, augmentation):
    geometry, positions = Geometry(manifest, preprocessing, augmentation, 7), np.arange(100, 100 + BATCH)
    fused = FusedTransform(geometry, epoch=3)(read(manifest), positions)
    dali = DaliTransform(geometry, 3, BATCH)(read(manifest), positions)
    return fused, dali


@pytest.mark.parametrize("normalization", ["divide", "subtract", "standardize"])
def test_normalisations_agree(make_dataset, normalization):
    fused, dali = both(make_dataset(40), Preprocessing(SIZE, normalization=normalization), None)
    np.testing.assert_allclose(dali.numpy(), fused.numpy(), atol=2e-4 * float(fused.abs().max()))


def test_antialias_without_augmentation_agrees(make_dataset):
    """Cells of at most 7 x 10 pixels into 8 x 8: some axes shrink. DALI repeats the edge, fused does not."""
    manifest = make_dataset(40)
    fused, dali = both(manifest, Preprocessing(8, antialias=True), None)
    plain, _ = both(manifest, Preprocessing(8), None)
    np.testing.assert_allclose(dali.numpy(), fused.numpy(), atol=0.05)
    np.testing.assert_allclose(dali[:, :, 1:-1, 1:-1].numpy(), fused[:, :, 1:-1, 1:-1].numpy(), atol=5e-3)
    assert (fused - plain).abs().max() > 0.05


def test_noise_has_the_same_strength(make_dataset):
    noisy = Augmentation(**{**Augmentation.none().to_dict(), "noise_std": 20.0, "noise_probability": 1.0})
    manifest = make_dataset(40)
    quiet = Augmentation(**{**noisy.to_dict(), **QUIET})
    preprocessing = Preprocessing(64, normalization="subtract")
    clean, _ = both(manifest, preprocessing, quiet)
    fused, dali = both(manifest, preprocessing, noisy)
    std = draw(noisy, 7, 3, np.arange(100, 100 + BATCH)).noise_std
    for images in (fused, dali):
        np.testing.assert_allclose((images - clean).std((1, 2, 3)).numpy(), std, rtol=0.06, atol=0.05)


def test_fused_samples_at_the_matrix(make_dataset):
    """One output pixel computed by hand, in the middle of a cell."""
    manifest = make_dataset(40)
    cells = read(manifest)
    images = FusedTransform(Geometry(manifest, Preprocessing(SIZE, normalization="subtract"), None, 0))(
        cells, np.arange(BATCH)
    )
    slot, x, y = 5, 13, 17
    pixels = np.asarray(cells.pixels[slot])[:, :, 0].astype(float)
    grey = np.empty((SIZE, SIZE))
    matrix = matrices(cells.heights, cells.widths, SIZE)[slot]
    for row in range(SIZE):
        for column in range(SIZE):
            u, v = matrix @ (column + 0.5, row + 0.5, 1) - 0.5
            u, v = np.clip(u, 0, pixels.shape[1] - 1), np.clip(v, 0, pixels.shape[0] - 1)
            left, top = min(int(u), pixels.shape[1] - 2), min(int(v), pixels.shape[0] - 2)
            part = pixels[top : top + 2, left : left + 2]
            grey[row, column] = (1 - (v - top), v - top) @ part @ (1 - (u - left), u - left)
    assert abs(float(images[slot, 0, y, x]) - (grey[y, x] - grey.mean())) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["fused", "dali"])
def test_dtypes(make_dataset, dtype, name):
    manifest = make_dataset(40)
    options = {"epoch": 0, "batch": BATCH, "threads": 1, "device_id": None, "rank": 0}
    geometry = Geometry(manifest, Preprocessing(SIZE), None, 0)
    exact = make_transform(name, geometry, dtype=torch.float32, **options)(read(manifest), np.arange(BATCH))
    images = make_transform(name, geometry, dtype=dtype, **options)(read(manifest), np.arange(BATCH))
    assert images.dtype == dtype
    assert torch.equal(images, exact.to(dtype))


def test_auto_takes_fused_wherever_its_kernel_does_the_work():
    for device_id, preprocessing, want in (
        (None, Preprocessing(100, antialias=True), "fused"),
        (0, Preprocessing(128), "fused"),
        (0, Preprocessing(32, "scale"), "fused"),
        (0, Preprocessing(100), "dali"),
        (0, Preprocessing(16, antialias=True), "fused"),
        (0, Preprocessing(136), "dali"),
    ):
        assert resolve_transform("auto", preprocessing, device_id) == want
        assert resolve_transform("dali", preprocessing, device_id) == "dali"
    with pytest.raises(ArgumentError, match="image_size must be a multiple of 8 from 16 to 128 on a GPU, got 100"):
        resolve_transform("fused", Preprocessing(100), 0)
    with pytest.raises(ArgumentError, match="transform must be one of auto, fused, dali, got 'gpu'"):
        resolve_transform("gpu", Preprocessing(), None)


def test_what_each_name_makes(make_dataset):
    geometry = Geometry(make_dataset(10), Preprocessing(SIZE), None, 0)
    options = {"epoch": 0, "batch": 4, "dtype": torch.float32, "threads": 1, "rank": 0}
    made = [
        make_transform(name, geometry, device_id=device_id, **options) for name, device_id in
        (("auto", None), ("dali", None), ("auto", 0))
    ]  # fmt: skip
    assert [type(transform) for transform in made] == [FusedTransform, DaliTransform, FusedGpuTransform]


STRONG = Augmentation(
    rotation_deg=180, translation=0.2, scale=0.5, blur_sigma=2.0, blur_probability=0.5, noise_probability=0.0
)


@pytest.mark.parametrize("layout", ["cell", "block"])
@pytest.mark.parametrize("fit", ["stretch", "contain", "scale"])
@pytest.mark.parametrize("augmentation", [None, STRONG], ids=["plain", "augmented"])
def test_dali_equals_fused(make_dataset, layout, fit, augmentation):
    """Grey levels over the mean, so the unit is about 1; DALI's coordinates are float32, hence 1e-3 at steep pixels."""
    preprocessing = Preprocessing(SIZE, fit, scale_um_per_px=0.1)
    fused, dali = both(make_dataset(40, layout=layout), preprocessing, augmentation)
    assert fused.shape == dali.shape == (BATCH, 1, SIZE, SIZE)
    np.testing.assert_allclose(dali.numpy(), fused.numpy(), atol=1e-3)
    np.testing.assert_allclose(fused.mean((1, 2, 3)).numpy(), 1, atol=1e-4)
    assert fused.std() > 0.1


class Done:
    """A stream, and an event on it, whose work is done."""

    def record_event(self):
        return self

    def query(self):
        return True


def test_a_gpu_reads_blocks_where_they_were_read_to(make_dataset, monkeypatch):
    """The kernel's arguments lead to the buffers of the reader, which nobody copies; images are those of the CPU."""
    manifest, sizes = make_dataset(40, layout="block", encoding="npy"), []

    def pinned(num):
        sizes.append(num)
        return np.empty(num, np.uint8)

    monkeypatch.setattr(stream, "pinned_bytes", pinned)
    monkeypatch.setattr(transforms, "PoolWriter", None)  # a copy would fail
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: Done())
    view = select(manifest, ViewConfig("train"))
    share = evaluation_share(len(view), 16)
    geometry = Geometry(manifest, Preprocessing(SIZE), STRONG, 3)
    here = CellReader(view, share, threads=1)
    there = CellReader(view, share, threads=1, device_id=0)
    on_cpu = FusedTransform(geometry)
    on_gpu = FusedGpuTransform(geometry, 0, torch.float32, torch.device("cpu"))
    for step, (one, two) in enumerate(zip(here.epoch(0), there.epoch(0), strict=True)):
        assert two.pool is not None
        assert one.pool is None
        images = on_gpu(two, share.positions(step))
        torch.testing.assert_close(images, on_cpu(one, share.positions(step)), rtol=1e-5, atol=1e-5)
    assert sum(sizes) >= int(manifest.column("bytes")[view.rows].sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(make_dataset, dtype):
    """Lightning sets it to bfloat16 during a step in bf16-true, while a thread makes the next images."""
    manifest = make_dataset(BATCH)
    geometry, positions = Geometry(manifest, Preprocessing(SIZE), STRONG, 3), np.arange(BATCH)
    cells = read(manifest)
    expected = FusedTransform(geometry, dtype=dtype)(cells, positions)
    pool = make_pool([pixels[:, :, 0] for pixels in cells.pixels])._replace(border=None)
    given = torch.arange(BATCH), torch.from_numpy(positions), make_clock(3, 0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(FusedTransform(geometry, dtype=dtype)(cells, positions), expected)
        found = geometry.transform(pool, *given, dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-5)
