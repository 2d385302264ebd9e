"""What the kernels are measured against: the plain torch expressions and the DALI operators that they replace.

Both get more than their user would: every draw, map and tap is worked out before the clock starts, while the kernel's
time includes its draw; cells that are only resized go through ``interpolate`` and ``fn.resize``, not through a warp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from fastcell.ops.augmentation import draw
from fastcell.ops.constants import EPS
from fastcell.ops.matrices import matrices
from fastcell.ops.transform import CellPool
from fastcell.system.library_settings import quiet_dali

SIDE = 128  # of square raw cells [px]


@dataclass(frozen=True)
class Case:
    """One call that is timed.

    Attributes:
        kernel: ``transform`` or ``normalize``.
        stages: a key of `kernel.STAGES`, or the mode of ``normalize``.
        data: ``ragged`` or ``square`` raw cells.
        size: S, side of the images [px].
        dtype: of the images.
        batch: B.
    """

    kernel: str
    stages: str
    data: str
    size: int
    dtype: torch.dtype
    batch: int

    @property
    def name(self):
        """As rows and logs show it."""
        return f"{self.kernel} {self.stages}, {self.data}, {self.size} px, {str(self.dtype).removeprefix('torch.')}"


class Cells(NamedTuple):
    """The cells of a case, cut into batches.

    Attributes:
        pool: of R x B cells, on the device.
        index: (R, B) int64, each cell once.
        position: (R, B) int64.
        heights, widths: (R, B) int32, of the cells at `index`.
        offsets: (R, B) int64, first pixel of each.
    """

    pool: CellPool
    index: torch.Tensor
    position: torch.Tensor
    heights: np.ndarray
    widths: np.ndarray
    offsets: np.ndarray

    @property
    def num_batches(self):
        """R."""
        return len(self.index)

    def views(self, number):
        """(H, W, 1) uint8 of each cell of a batch."""
        columns = (self.offsets[number], self.heights[number], self.widths[number])
        return [
            self.pool.pixels[offset : offset + height * width].view(height, width, 1)
            for offset, height, width in zip(*(column.tolist() for column in columns), strict=True)
        ]


def make_cells(data, num_batches, batch, device, seed=0):
    """White noise: square cells of 128 x 128, or ragged ones of 20 to 60 by 60 to 440 pixels, in a random order."""
    rng = np.random.default_rng(seed)
    count, ragged = num_batches * batch, data == "ragged"
    heights = (rng.integers(20, 61, count) if ragged else np.full(count, SIDE)).astype(np.int32)
    widths = (rng.integers(60, 441, count) if ragged else np.full(count, SIDE)).astype(np.int32)
    sizes = heights.astype(np.int64) * widths
    offsets = np.cumsum(sizes) - sizes
    torch.manual_seed(seed)
    pixels = torch.randint(0, 256, (int(sizes.sum()),), dtype=torch.uint8, device=device)
    columns = (torch.from_numpy(column).to(device) for column in (offsets, heights, widths))
    index = rng.permutation(count).reshape(num_batches, batch)
    position = np.arange(count, dtype=np.int64).reshape(num_batches, batch)
    return Cells(
        CellPool(pixels, *columns),
        torch.from_numpy(index).to(device),
        torch.from_numpy(position).to(device),
        heights[index],
        widths[index],
        offsets[index],
    )


class TorchTransform:
    """Gather, sample, blur, noise and mean as torch expressions.

    Square cells: one `grid_sample` of the batch. Ragged ones: `grid_sample` cell by cell on the CPU, where that is the
    quicker, and four gathers from the pool for all cells at a time on a GPU, where a launch per cell would be slow.

    Args:
        case: what is asked for.
        cells: in batches.
        augmentation: of the case.
        seed, epoch: of the draw.
    """

    def __init__(self, case, cells, augmentation, seed, epoch):
        self.case, self.cells = case, cells
        self.device = cells.index.device
        self.moves = _moves(augmentation)
        self.maps, self.grids, self.taps, self.std = [], [], [], []
        for number in range(cells.num_batches):
            drawn, maps = _draw(case, cells, augmentation, seed, epoch, number)
            # Maps from pixel centres to source points as grid_sample wants them: from -1..1 to -1..1.
            scale = 2 / np.stack([cells.widths[number], cells.heights[number]], axis=1)[:, :, None]
            linear = maps[:, :, :2] * scale * (case.size / 2)
            shift = maps[:, :, 2:] * scale + linear.sum(2, keepdims=True) - 1
            self.grids.append(self._send(np.concatenate([linear, shift], axis=2)))
            self.maps.append(self._send(maps))
            self.taps.append(self._send(_taps(drawn.blur_sigma)) if (drawn.blur_sigma > 0).any() else None)
            self.std.append(self._send(drawn.noise_std)[:, None, None, None] if (drawn.noise_std > 0).any() else None)
        # Slicing the pool is bookkeeping, done before the clock starts.
        loops = case.data == "ragged" and self.device.type == "cpu"
        self.views = [[view[None, None, :, :, 0] for view in cells.views(n)] for n in range(len(cells.index)) if loops]

    def __call__(self, number, out, noise=True):
        """Write batch `number` into `out` (B, 1, S, S)."""
        images, std = self.grey(number), self.std[number]
        if noise and std is not None:
            images = images + std * torch.randn_like(images)
        return out.copy_(images / images.mean((1, 2, 3), keepdim=True).clamp(min=EPS))

    def grey(self, number):
        """(B, 1, S, S) float32 grey levels, before noise."""
        images = self._sample(number)
        taps = self.taps[number]
        return images if taps is None else blur(images, taps)

    def _sample(self, number):
        size, index = self.case.size, self.cells.index[number]
        shape = [len(index), 1, size, size]
        if self.case.data == "square":
            images = self.cells.pool.pixels.view(-1, 1, SIDE, SIDE)[index].float()
            if self.moves:
                return _grid_sample(images, functional.affine_grid(self.grids[number], shape, align_corners=False))
            return images if size == SIDE else _resize(images, size)
        if self.device.type == "cuda":
            return self._gather(number, size)
        if not self.moves:
            return torch.cat([_resize(view.float(), size) for view in self.views[number]])
        grid = functional.affine_grid(self.grids[number], shape, align_corners=False)
        return torch.cat([_grid_sample(view.float(), grid[n : n + 1]) for n, view in enumerate(self.views[number])])

    def _gather(self, number, size):
        """Bilinear samples of all cells at a time, by index into the pool."""
        pool, index = self.cells.pool, self.cells.index[number]
        maps = self.maps[number][:, :, :, None, None]
        offset, height, width = (column[index].view(-1, 1, 1) for column in (pool.offset, pool.height, pool.width))
        centre = torch.arange(size, device=self.device) + 0.5
        x, y = (maps[:, a, 0] * centre + maps[:, a, 1] * centre[:, None] + maps[:, a, 2] - 0.5 for a in (0, 1))
        x, y = torch.minimum(x.clamp(min=0), width - 1.0), torch.minimum(y.clamp(min=0), height - 1.0)
        left, top = x.long(), y.long()
        share_x, share_y = x - left, y - top
        right, bottom = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)

        def level(row, column):
            return pool.pixels[offset + row * width + column].float()

        upper = torch.lerp(level(top, left), level(top, right), share_x)
        lower = torch.lerp(level(bottom, left), level(bottom, right), share_x)
        return torch.lerp(upper, lower, share_y)[:, None]

    def _send(self, values):
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)


class DaliTransform:
    """DALI's resize or warp_affine, gaussian_blur, noise.gaussian and mean; feeding the cells is part of it.

    DALI has no gather and no bfloat16: cells go in as a list (or, square ones on a GPU, as one gathered tensor), and
    torch converts to bfloat16. The batch is otherwise taken as DALI left it, without a copy.

    Args:
        case: what is asked for.
        cells: in batches.
        augmentation: of the case.
        seed, epoch: of the draw.
        num_batches: the first of `cells`, which can be asked for.
    """

    def __init__(self, case, cells, augmentation, seed, epoch, num_batches):
        self.case, self.cells, self.on_gpu = case, cells, cells.index.is_cuda
        self.moves = _moves(augmentation)
        self.inputs = []
        for number in range(num_batches):
            drawn, maps = _draw(case, cells, augmentation, seed, epoch, number)
            columns = {"matrix": maps.astype(np.float32)} if self.moves else {}
            if (drawn.blur_sigma > 0).any():
                columns["radius"] = np.ceil(3 * drawn.blur_sigma).astype(np.int32)
                columns["sigma"] = np.where(drawn.blur_sigma > 0, drawn.blur_sigma, np.float32(1))
            if (drawn.noise_std > 0).any():
                columns["std"] = drawn.noise_std
            self.inputs.append(columns)
        views = [cells.views(number) for number in range(num_batches)]
        self.views = views if self.on_gpu else [[view.numpy() for view in batch] for batch in views]
        self.pipeline = self._build()

    def __call__(self, number, out, noise=True):
        """Make batch `number`; it comes back, `out` is used for bfloat16 alone."""
        columns = self.inputs[number]
        if "std" in columns and not noise:
            columns = columns | {"std": np.zeros_like(columns["std"])}
        for name, value in columns.items():
            self.pipeline.feed_input(name, value)
        cells = self.views[number]
        if self.on_gpu and self.case.data == "square":
            cells = self.cells.pool.pixels.view(-1, SIDE, SIDE, 1)[self.cells.index[number]]
        self.pipeline.feed_input("cells", cells, **_stream(self.on_gpu))
        return _output(self.pipeline, self.on_gpu, out)

    def _build(self):
        from nvidia.dali import fn, types

        size, columns = self.case.size, self.inputs[0]

        def column(name, ndim, dtype=types.FLOAT):
            return fn.external_source(name=name, ndim=ndim, dtype=dtype)

        def graph(cells):
            if self.moves:
                warp = {"matrix": column("matrix", 2), "size": (size, size), "inverse_map": True}
                images = fn.warp_affine(cells, dtype=types.FLOAT, **warp)
            else:
                options = {"interp_type": types.INTERP_LINEAR, "antialias": False, "dtype": types.FLOAT}
                images = fn.resize(cells, size=(size, size), **options)
            if "sigma" in columns:
                window = 2 * column("radius", 0, types.INT32) + 1
                images = fn.gaussian_blur(images, sigma=column("sigma", 0), window_size=window)
            if "std" in columns:
                images = fn.noise.gaussian(images, stddev=column("std", 0), seed=1)
            return images / fn.reductions.mean(images)

        return _pipeline(graph, self.case, self.on_gpu)


class TorchNormalize:
    """``x / mean`` or ``(x - mean) / deviation`` of a batch of square images."""

    def __init__(self, case, images):
        self.case, self.images = case, images

    def __call__(self, number, out, noise=True):
        """Write batch `number` into `out`."""
        images = self.images[number].float()
        if self.case.stages == "divide":
            return out.copy_(images / images.mean((1, 2, 3), keepdim=True).clamp(min=EPS))
        variance, mean = torch.var_mean(images, (1, 2, 3), correction=0, keepdim=True)
        return out.copy_((images - mean) / variance.sqrt().clamp(min=EPS))


class DaliNormalize:
    """DALI's ``fn.normalize``, or a division by ``fn.reductions.mean``; feeding the batch is part of it."""

    def __init__(self, case, images):
        from nvidia.dali import fn

        self.case, self.images, self.on_gpu = case, images, images.is_cuda

        def graph(cells):
            if case.stages == "divide":
                return cells / fn.reductions.mean(cells)
            return fn.normalize(cells, axes=(0, 1), ddof=0)

        self.pipeline = _pipeline(graph, case, self.on_gpu)

    def __call__(self, number, out, noise=True):
        """Make batch `number`; it comes back, `out` is used for bfloat16 alone."""
        images = self.images[number].reshape(-1, SIDE, SIDE, 1)
        self.pipeline.feed_input("cells", images if self.on_gpu else images.numpy(), **_stream(self.on_gpu))
        return _output(self.pipeline, self.on_gpu, out)


def blur(images, taps):
    """Convolve (B, 1, S, S) by rows and columns with (B, 2 R + 1) taps, mirrored about the outermost pixel centres."""
    radius, count = taps.shape[1] // 2, len(images)
    padded = functional.pad(images.transpose(0, 1), (radius,) * 4, mode="reflect")
    rows = functional.conv2d(padded, taps[:, None, None, :], groups=count)
    return functional.conv2d(rows, taps[:, None, :, None], groups=count).transpose(0, 1)


def _taps(sigma):
    """(B, 2 R + 1) float32 of (B,) deviations [px]: each of radius ceil(3 sigma), R the widest of them; 0 beyond it."""
    radius = np.ceil(3 * sigma)
    at = np.arange(-radius.max(), radius.max() + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        taps = np.where(np.abs(at) <= radius[:, None], np.exp(-0.5 * (at / sigma[:, None]) ** 2), 0)
    taps[sigma == 0] = at == 0
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)


def _moves(augmentation):
    flips = augmentation.flip_horizontal or augmentation.flip_vertical
    return flips or augmentation.rotation_deg > 0 or augmentation.translation > 0 or augmentation.scale > 0


def _draw(case, cells, augmentation, seed, epoch, number):
    """The draw of a batch, and its (B, 2, 3) float64 maps."""
    drawn = draw(augmentation, seed, epoch, cells.position[number].cpu().numpy())
    moved = drawn if _moves(augmentation) else None
    return drawn, matrices(cells.heights[number], cells.widths[number], case.size, draw=moved)


def _resize(images, size):
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def _grid_sample(images, grid):
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _pipeline(graph, case, on_gpu):
    """A built pipeline of ``graph(cells)``, of float16 for that, else of float32."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    device = torch.cuda.current_device() if on_gpu else None
    pipeline = Pipeline(batch_size=case.batch, num_threads=1, device_id=device, prefetch_queue_depth=1, seed=1)
    with pipeline:
        place = "gpu" if on_gpu else "cpu"
        images = graph(fn.external_source(name="cells", device=place, ndim=3, dtype=types.UINT8, layout="HWC"))
        half = case.dtype == torch.float16
        pipeline.set_outputs(fn.cast(images, dtype=types.FLOAT16) if half else images)
    with quiet_dali():
        pipeline.build()
    return pipeline


def _stream(on_gpu):
    return {"cuda_stream": torch.cuda.current_stream().cuda_stream} if on_gpu else {}


def _output(pipeline, on_gpu, out):
    (output,) = pipeline.run(torch.cuda.current_stream().cuda_stream) if on_gpu else pipeline.run()
    images = torch.from_dlpack(output.as_tensor()).reshape(out.shape)
    return out.copy_(images) if out.dtype == torch.bfloat16 else images
