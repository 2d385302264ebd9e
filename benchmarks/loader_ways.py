"""Ways from stored cells to batches in the engine's own environment; as a program, one of them as a worker.

SOURCE is the folder of a packed data set. The protocol is that of `serve.py`. Every way shuffles, and ends in the same
batch: (B, 1, size, size) float32, the whole cell stretched to the square, divided by the image's own mean.

    python loader_ways.py SOURCE MODE [--threads N] [--batch 256] [--size 128] [--device cpu] [--augment]

    STORE-TRANSFORM     this engine: stream or bank, fused or dali, as `CellDataModule` sets it up
    stream-fused-DECODER    the stream with another decoder in front of the fused transform, dali or threads
    webdataset-opencv   webdataset's README: WebDataset with shard and sample shuffle, decoding in `map_tuple`, batches
                        made in the worker, WebLoader; cv2.imdecode and cv2.resize
    webdataset-pillow   the same with Pillow's decoder and bilinear resize of the decoded pixels by cv2
    dali                DALI's own operators end to end (readers.webdataset, decoders.image, resize, mean); on a GPU the
                        decoder is "mixed" and the rest on the GPU, as in its getting started
    memmap              torch DataLoader over a memory-mapped uint8 array of resized cells
    tensor              one uint8 tensor of resized cells on the device, indexed; with --augment by affine_grid and
                        grid_sample (as airbench has it)
    limit-read          every tar read in pieces of 1 MiB, nothing else
    limit-decode        cv2.imdecode of bytes in memory, one thread for each core
    limit-decode-own    the same by `fastcell.ops.jpeg`, a batch in a call
    limit-copy          the cells' decoded pixels gathered into a batch, uint8; on a GPU, that batch to the device
    limit-write         a constant written into the float32 batch
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from dali_index import write_dali_index
from serve import Way, serve
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.ops.augmentation import Augmentation
from fastcell.system import library_settings

SIZE, BATCH = 128, 256
AFFINE = Augmentation(blur_sigma=0.0, noise_std=0.0)


class FastcellWay(Way):
    """This engine's training loader."""

    store = transform = decoder = ""
    modules = (
        "fastcell.loading.datamodule",
        "fastcell.loading.transforms",
        "fastcell.loading.stores.stream",
        "nvidia.dali.fn",
    )

    def open(self):
        """The data module as a user sets it up."""
        options = self.options
        augmentation = AFFINE if options.augment else None
        self.loader = training_loader(
            options.source,
            self.store,
            self.transform,
            options.threads,
            augmentation,
            options.device,
            options.batch,
            self.decoder,
        )

    def epoch(self, number):
        """The last batch is padded with cells of weight 0."""
        self.loader.set_epoch(number)
        for index, batch in enumerate(self.loader, start=1):
            if index < len(self.loader):
                yield batch.images, batch.cell_ids
            else:
                there = batch.weight > 0
                yield batch.images[there], batch.cell_ids[there]

    def in_order(self):
        """Numbers of cells as an array."""
        for images, rows in self.epoch(0):
            yield images, torch.as_tensor(rows).cpu().numpy()


def fastcell_way(store, transform, decoder):
    """A class for one combination."""
    return type("FastcellWay", (FastcellWay,), {"store": store, "transform": transform, "decoder": decoder})


def training_loader(
    path, store, transform="fused", threads=1, augmentation=None, device=None, batch=BATCH, decoder="auto"
):
    """The engine's loader as a user would set it up, on a device of which no trainer tells it."""
    # Here, as peers and limits do without Lightning.
    from fastcell.loading.datamodule import CellDataModule
    from fastcell.loading.loader import BatchLoader

    device = device or torch.device("cpu")

    class OnDevice(CellDataModule):
        def _config(self):
            return replace(super()._config(), device=device)

    module = OnDevice(
        str(path),
        batch_size=batch,
        store=store,
        transform=transform,
        decoder=decoder,
        threads=threads,
        dtype="float32",
        balance="none",
        augment=augmentation is not None,
        augmentation=augmentation or Augmentation.none(),
    )
    module.setup("fit")
    loader = module.train_dataloader()
    assert isinstance(loader, BatchLoader)
    return loader


class Packed(Way):
    """A way over a packed data set."""

    @cached_property
    def manifest(self):
        """Of SOURCE."""
        return Manifest.open(self.options.source)


class WebDataset(Packed):
    """Webdataset through torch's DataLoader."""

    packages = ("webdataset", "opencv-python-headless")
    modules = ("webdataset",)
    decoder = "opencv"

    def open(self):
        """The loader; its workers are kept."""
        self.loader = webdataset_loader(self.options.source, self.options.workers, self.decoder, self.options.batch)

    def epoch(self, number):
        """The key travels in the label's place."""
        for images, keys in self.loader:
            yield torch.as_tensor(images), keys

    def in_order(self):
        """Rows of the keys."""
        row_of = {Path(key).with_suffix("").as_posix(): row for row, key in enumerate(self.manifest.column("key"))}
        for images, keys in self.epoch(0):
            yield images, np.array([row_of[key] for key in keys])


class WebDatasetPillow(WebDataset):
    """The same with Pillow."""

    packages = ("webdataset", "pillow")
    modules = ("webdataset", "PIL.Image")
    decoder = "pillow"


def webdataset_loader(data, workers, decoder="opencv", batch=BATCH):
    """Webdataset as its documentation advises; batches of (images (B, 1, 128, 128), keys)."""
    import webdataset

    shards = sorted(str(path) for path in data.glob("*.tar"))
    decode = {"opencv": to_image, "pillow": pillow_to_image}[decoder]
    source = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), workersplitter=webdataset.split_by_worker)
        .shuffle(1000)
        .to_tuple("jpg", "__key__")
        .map_tuple(decode)
        .batched(batch)
    )
    more = {"prefetch_factor": 4, "persistent_workers": True} if workers else {}
    return webdataset.WebLoader(source, batch_size=None, num_workers=workers, **more)


def to_image(jpeg):
    """What a user would write: decode, resize, divide by the mean; (1, 128, 128) float32."""
    return square(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE))


def pillow_to_image(jpeg):
    """The same with Pillow as decoder. Its own resize takes an average where a side shrinks, so cv2 does that."""
    import io

    from PIL import Image

    return square(np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")))


def square(image):
    """(H, W) uint8 to (1, 128, 128) float32, divided by its mean."""
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return (image / image.mean())[None]


class Dali(Packed):
    """DALI's own operators."""

    modules = ("nvidia.dali.fn", "nvidia.dali.plugin.pytorch")

    def prepare(self):
        """Write the index files."""
        self.files = write_dali_index(self.manifest, self.options.folder / "index")

    def open(self):
        """Pipeline and iterator, which go on from epoch to epoch."""
        self.iterator = dali_iterator(self.files, self.options.threads, self.options.device, self.options.batch)

    def epoch(self, number):
        """The iterator starts anew by itself."""
        for batch in self.iterator:
            yield batch[0]["images"], None

    def in_order(self):
        """A second pipeline, which does not shuffle: its order is the manifest's."""
        begin, options = 0, self.options
        for batch in dali_iterator(self.files, options.threads, options.device, options.batch, shuffle=False):
            images = batch[0]["images"]
            yield images, np.arange(begin, begin + len(images))
            begin += len(images)


def dali_iterator(files, threads, device=None, batch=BATCH, shuffle=True):
    """DALI's own operators end to end, as in its documentation; batches of ``[{"images": (B, 1, 128, 128)}]``."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    on_gpu = device is not None and device.type == "cuda"

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=0 if on_gpu else None)
    def graph():
        jpeg = fn.readers.webdataset(**files, ext=["img"], random_shuffle=shuffle, initial_fill=1024, name="reader")
        image = fn.decoders.image(jpeg, device="mixed" if on_gpu else "cpu", output_type=types.GRAY)
        image = fn.resize(image, size=(SIZE, SIZE), interp_type=types.INTERP_LINEAR, antialias=False, dtype=types.FLOAT)
        image = image / fn.reductions.mean(image)
        return fn.transpose(image, perm=[2, 0, 1])

    with library_settings.quiet_dali():
        return DALIGenericIterator(
            graph(), ["images"], reader_name="reader", last_batch_policy=LastBatchPolicy.PARTIAL, auto_reset=True
        )


class Resized(Packed):
    """Resized cells in one array: (N, 1, 128, 128) uint8, a file of its own."""

    def prepare(self):
        """Write the array."""
        self.path = self.options.folder / "pixels.npy"
        if not self.path.exists() or len(np.load(self.path, mmap_mode="r")) != len(self.manifest):
            cells = [resize(cell) for cell in read_cells(self.manifest, range(len(self.manifest)))]
            np.save(self.path, np.stack(cells)[:, None])


def resize(cell):
    """(H, W) uint8 to (128, 128) uint8."""
    return cv2.resize(cell, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


class Memmap(Resized):
    """torch DataLoader over a memory-mapped array."""

    def open(self):
        """Map the file."""
        self.loader = DataLoader(
            _Mapped(self.path),
            batch_size=self.options.batch,
            shuffle=True,
            collate_fn=tuple,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.options.device.type == "cuda",
        )

    def epoch(self, number):
        """uint8 to the device, where it is divided."""
        for pixels, rows in self.loader:
            images = pixels.to(self.options.device, non_blocking=True).float()
            yield images / images.mean((1, 2, 3), keepdim=True), rows.numpy()


class _Mapped(Dataset):
    """Whole batches at a time, as torch fetches them where `__getitems__` is there."""

    def __init__(self, path):
        self.path = path
        self.num_cells = len(np.load(path, mmap_mode="r"))

    def __len__(self):
        return self.num_cells

    @cached_property
    def pixels(self):
        """Mapped where it is read: in the worker."""
        return np.load(self.path, mmap_mode="r")

    def __getitems__(self, rows):
        return torch.from_numpy(self.pixels[rows]), torch.tensor(rows)


class Tensor(Resized):
    """The whole set as one uint8 tensor on the device."""

    def open(self):
        """Load it."""
        self.pool = torch.from_numpy(np.load(self.path)).to(self.options.device)

    def epoch(self, number):
        """A random permutation, a batch of it at a time."""
        for rows in torch.randperm(len(self.pool), device=self.pool.device).split(self.options.batch):
            yield gather(self.pool, rows, self.options.augment), rows

    def in_order(self):
        """Numbers of cells as an array."""
        for images, rows in self.epoch(0):
            yield images, torch.as_tensor(rows).cpu().numpy()


def gather(pool, rows, affine=False):
    """Some cells of a uint8 pool (N, 1, 128, 128) as a batch, augmented by grid_sample where asked for."""
    images = pool[rows].float()
    if affine:
        images = sample(images, random_maps(len(rows)).to(pool.device))
    return images / images.mean((1, 2, 3), keepdim=True)


def sample(images, maps):
    """Bilinear sample of (B, 1, S, S) at (B, 2, 3) maps in grid_sample's coordinates, -1..1."""
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_maps(count):
    """Flips, rotation, magnification and shift of `AFFINE`, in grid_sample's coordinates."""
    angle = torch.empty(count).uniform_(-1, 1) * np.deg2rad(AFFINE.rotation_deg)
    magnify = torch.empty(count).uniform_(1 / (1 + AFFINE.scale), 1 + AFFINE.scale)
    mirror = (torch.randint(0, 2, (2, count)) * 2 - 1) / magnify
    shift = torch.empty(2, count).uniform_(-1, 1) * 2 * AFFINE.translation
    row_x = torch.stack([mirror[0] * angle.cos(), -mirror[0] * angle.sin(), shift[0]], dim=1)
    row_y = torch.stack([mirror[1] * angle.sin(), mirror[1] * angle.cos(), shift[1]], dim=1)
    return torch.stack([row_x, row_y], dim=1)


class ReadAlone(Packed):
    """The bytes of the tars, page cache to process."""

    def epoch(self, number):
        """In pieces."""
        piece = bytearray(1 << 20)
        for shard in self.manifest.info.shards:
            with open(self.manifest.path / shard["name"], "rb", buffering=0) as file:
                while file.readinto(piece):
                    pass
        return len(self.manifest)


class DecodeAlone(Packed):
    """cv2.imdecode of every cell, bytes already in memory."""

    def open(self):
        """Read them."""
        tars = {shard["name"]: (self.manifest.path / shard["name"]).read_bytes() for shard in self.manifest.info.shards}
        columns = (self.manifest.column(name) for name in ("shard", "offset", "bytes"))
        self.cells = [tars[shard][offset : offset + size] for shard, offset, size in zip(*columns, strict=True)]

    def epoch(self, number):
        """A part for each thread."""
        threads = self.options.threads
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(self._decode, [self.cells[start::threads] for start in range(threads)]))

    def _decode(self, cells):
        for jpeg in cells:
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        return len(cells)


class DecodeOwn(DecodeAlone):
    """The engine's loops for grey JPEG, a batch in a call, into memory of its own."""

    def open(self):
        """Read them; their sides are in the manifest."""
        super().open()
        heights, widths = (self.manifest.column(name).tolist() for name in ("height", "width"))
        self.cells = list(zip(self.cells, heights, widths, strict=True))

    def _decode(self, cells):
        from fastcell.ops.jpeg import decode_jpegs

        for begin in range(0, len(cells), self.options.batch):
            jpegs, heights, widths = zip(*cells[begin : begin + self.options.batch], strict=True)
            sizes, sides = np.array([len(jpeg) for jpeg in jpegs]), np.array([heights, widths], np.int32)
            pixels = sides[0].astype(np.int64) * sides[1]
            out = np.empty(int(pixels.sum()), np.uint8)
            data = np.frombuffer(b"".join(jpegs), np.uint8)
            starts, offsets = np.cumsum(sizes) - sizes, np.cumsum(pixels) - pixels
            assert decode_jpegs(data, starts, sizes, *sides, out, offsets).all()
        return len(cells)


class CopyAlone(Packed):
    """Decoded pixels in random order into a batch of their own, nothing computed."""

    def open(self):
        """Decode."""
        self.cells = [np.ascontiguousarray(cell).reshape(-1) for cell in read_cells(self.manifest, self._rows())]
        most = sum(sorted(map(len, self.cells))[-self.options.batch :])
        self.batch = torch.empty(most, dtype=torch.uint8, pin_memory=self.options.device.type == "cuda")

    def _rows(self):
        return range(len(self.manifest))

    def epoch(self, number):
        """A batch at a time, one thread."""
        order, out = np.random.default_rng(number).permutation(len(self.cells)).tolist(), self.batch.numpy()
        for begin in range(0, len(order), self.options.batch):
            parts = [self.cells[row] for row in order[begin : begin + self.options.batch]]
            end = sum(map(len, parts))
            np.concatenate(parts, out=out[:end])
            if self.options.device.type == "cuda":
                self.batch[:end].to(self.options.device, non_blocking=True)
                torch.cuda.current_stream(self.options.device).synchronize()  # the next batch is written over it
        return len(order)


class WriteAlone(Packed):
    """What every way has to do at least: write the batch."""

    def open(self):
        """Where it goes."""
        size = self.options.size
        self.batch = torch.empty((self.options.batch, 1, size, size), device=self.options.device)

    def epoch(self, number):
        """One constant, one thread."""
        num_batches = -(-len(self.manifest) // self.options.batch)
        for value in range(num_batches):
            self.batch.fill_(value)
        return num_batches * self.options.batch


WAYS = {
    **{
        f"{store}-{how}": fastcell_way(store, how, decoder)
        for store in ("stream", "bank")
        for how, decoder in (("fused", "auto"), ("dali", "dali"))
    },
    **{f"stream-fused-{decoder}": fastcell_way("stream", "fused", decoder) for decoder in ("dali", "threads")},
    "webdataset-opencv": WebDataset,
    "webdataset-pillow": WebDatasetPillow,
    "dali": Dali,
    "memmap": Memmap,
    "tensor": Tensor,
    "limit-read": ReadAlone,
    "limit-decode": DecodeAlone,
    "limit-decode-own": DecodeOwn,
    "limit-copy": CopyAlone,
    "limit-write": WriteAlone,
}


if __name__ == "__main__":
    library_settings.quiet()
    library_settings.raise_malloc_thresholds()
    cv2.setNumThreads(0)
    serve(WAYS, __doc__ or "")
