"""transform of a pool on a GPU: the twin's values in every variant, bounds, streams, pinned memory, graph capture."""

import numpy as np
import pytest
import torch

from fastcell.errors import ArgumentError
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.constants import GPU_IMAGE_SIZES, MODES
from fastcell.ops.transform import CellPool, _settings, _transform, make_clock, transform

pytestmark = pytest.mark.gpu
DTYPES = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # relative to the image's largest value
PLAIN = Augmentation.none()
CHANGES = {
    "none": PLAIN,
    "flips": Augmentation(True, True, 0, 0, 0, 0, 0, 0, 0),
    "affine": Augmentation(True, True, 180.0, 0.2, 0.5, 0, 0, 0, 0),
    "blur": Augmentation(False, False, 0, 0, 0, 3.0, 1.0, 0, 0),
    "widest blur": Augmentation(False, False, 0, 0, 0, 16.0, 1.0, 0, 0),
    "noise": Augmentation(False, False, 0, 0, 0, 0, 0, 20.0, 1.0),
    "all": Augmentation(True, True, 180.0, 0.2, 0.5, 2.0, 0.7, 20.0, 0.7),
}
SIZES = [(21, 102), (68, 440), (128, 128), (1, 1), (1, 9), (300, 700), (40, 40), (33, 7)]


def pool_of(dtype=torch.uint8, fills=True, count=40):
    rng = np.random.default_rng(3)
    heights, widths = (np.array([SIZES[i % len(SIZES)][axis] for i in range(count)], np.int32) for axis in (0, 1))
    sizes = heights.astype(np.int64) * widths
    top, kind = (256, np.uint8) if dtype == torch.uint8 else (65536, np.uint16)
    return CellPool(
        torch.from_numpy(rng.integers(0, top, int(sizes.sum())).astype(kind)),
        torch.from_numpy(np.cumsum(sizes) - sizes),
        torch.from_numpy(heights),
        torch.from_numpy(widths),
        torch.from_numpy(rng.uniform(0, 255, count).astype(np.float32)) if fills else None,
        torch.from_numpy(np.where(np.arange(count) % 5 == 0, np.nan, 0.3).astype(np.float32)),
    )


def on_gpu(pool):
    return CellPool(*(None if column is None else column.cuda() for column in pool))


def batch(count=100, cells=40):
    rng = np.random.default_rng(count)
    index = torch.from_numpy(rng.integers(0, cells, count))
    return index, torch.from_numpy(rng.integers(0, 2**45, count)), make_clock(2**63 + 11, 70_000)


def assert_close(got, want, bound):
    got, want = got.float().cpu().flatten(1), want.flatten(1)
    scale = want.abs().amax(1, keepdim=True)
    assert ((got - want).abs() <= bound * scale + 1e-30).all()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("fits", ["stretch", "contain", "scale"])
def test_agrees_with_the_twin(fits, size, out_dtype, dtype, change):
    pool, columns = pool_of(dtype, fits != "stretch"), batch()
    gpu, on_device = on_gpu(pool), [column.cuda() for column in columns]
    for mode in MODES:
        options = {
            "image_size": size,
            "fit": fits,
            "augmentation": CHANGES[change],
            "mode": mode,
            "scale_um_per_px": 0.4,
        }
        want = transform(pool, *columns, **options)
        assert_close(transform(gpu, *on_device, dtype=out_dtype, **options), want, DTYPES[out_dtype])


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", GPU_IMAGE_SIZES)
def test_every_side_with_and_without_the_filter(size, antialias):
    pool, columns = pool_of(torch.uint8, True), batch()
    for fits in ("stretch", "contain"):
        options = {"image_size": size, "fit": fits, "augmentation": CHANGES["all"], "antialias": antialias}
        want = transform(pool, *columns, **options)
        assert_close(transform(on_gpu(pool), *[column.cuda() for column in columns], **options), want, 1e-5)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_batches_of_any_size(count):
    pool, columns = pool_of(), batch(count)
    options = {"image_size": 32, "augmentation": CHANGES["all"]}
    got = transform(on_gpu(pool), *(column.cuda() for column in columns), **options)
    assert_close(got, transform(pool, *columns, **options), 1e-5)


def test_pool_in_pinned_host_memory():
    pool, columns = pool_of(), [column.cuda() for column in batch()]
    pinned = on_gpu(pool)._replace(pixels=pool.pixels.pin_memory())
    assert torch.equal(transform(pinned, *columns), transform(on_gpu(pool), *columns))


def test_nothing_outside_of_the_pool_is_read():
    pool, (index, position, clock) = on_gpu(pool_of()), [column.cuda() for column in batch(6)]
    index = torch.tensor([0, 40, -1, 2**40, 1, 2], device="cuda")
    height = pool.height.clone()
    height[1] = 10**6
    images = transform(pool._replace(height=height), index, position, clock)
    assert torch.isnan(images).flatten(1).all(1).tolist() == [False, True, True, True, True, False]
    assert torch.isfinite(images[[0, 5]]).all()


def test_launches_on_the_current_stream():
    pool, (index, position, clock) = on_gpu(pool_of()), [column.cuda() for column in batch()]
    want = transform(pool, torch.full_like(index, 3), position, clock)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        index.fill_(3)
        got = transform(pool, index, position, clock)
    stream.synchronize()
    assert torch.equal(got, want)


def test_graph_capture_replays_on_new_indices_and_another_epoch():
    pool, (index, position, clock) = on_gpu(pool_of()), [column.cuda() for column in batch()]
    out = torch.empty(100, 1, 128, 128, device="cuda")
    options = {"augmentation": CHANGES["all"], "out": out}
    transform(pool, index, position, clock, **options)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        transform(pool, index, position, clock, **options)
    index.copy_(index.flip(0))
    clock.copy_(make_clock(5, 6).cuda())
    graph.replay()
    want = transform(pool, index, position, clock, augmentation=CHANGES["all"])
    assert torch.equal(out, want)


def test_compiles_without_a_graph_break():
    pool, columns = on_gpu(pool_of()), [column.cuda() for column in batch()]

    def step(index, position, clock):
        return transform(pool, index, position, clock, augmentation=CHANGES["all"]) * 2

    torch.testing.assert_close(torch.compile(step, fullgraph=True)(*columns), step(*columns))


def test_contract_and_errors():
    pool, columns = on_gpu(pool_of()), [column.cuda() for column in batch(8)]
    settings = _settings("contain", CHANGES["all"], 0, None, 1e-6, True)
    torch.library.opcheck(_transform, (*pool, *columns, 64, torch.float16, settings, 1))
    with pytest.raises(ArgumentError, match="image_size must be a multiple of 8 from 16 to 128 on a GPU, got 100"):
        transform(pool, *columns, image_size=100)
    with pytest.raises(ArgumentError, match="pixels must be on cuda:0, or in pinned memory"):
        transform(pool._replace(pixels=pool.pixels.cpu()), *columns)
    with pytest.raises(ArgumentError, match="position must be on cuda:0, as index is"):
        transform(pool, columns[0], columns[1].cpu(), columns[2])
