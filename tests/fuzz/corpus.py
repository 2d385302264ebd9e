"""Healthy inputs of every kind, the same in every process: what `mutations` makes hostile."""

from __future__ import annotations

import io
import tarfile
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image

from fastcell.dataset.dataset_info import DatasetInfo
from fastcell.dataset.rows.write_rows import write_quarantine
from fastcell.models.lightning_module import CellModule
from fastcell.packing.finish_dataset import finish_dataset
from fastcell.packing.records import Record
from fastcell.packing.shard_writer import write_block_shard, write_cell_shard
from fastcell.storage.staging import staging

CLASSES = ["a", "b"]


class Corpus(NamedTuple):
    """Bytes by name: images, tars, checkpoints; and data sets as {file name: bytes}."""

    images: dict[str, bytes]
    tars: dict[str, bytes]
    datasets: dict[str, dict[str, bytes]]
    checkpoints: dict[str, bytes]


def make_corpus(folder):
    """Build all of it; `folder` is for files on the way."""
    images = make_images()
    return Corpus(images, make_tars(images), make_datasets(folder, images), make_checkpoints())


def make_images():
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (21, 34)).astype(np.uint8), (0, 0), 2)
    colour = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    deep = grey.astype(np.uint16) * 257
    return {
        "grey.jpg": _encode(grey, ".jpg"),
        "colour.jpg": _encode(colour, ".jpg"),
        "progressive.jpg": _encode(colour, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "restart.jpg": _encode(grey, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "exif.jpg": _pillow(grey, "JPEG", exif=_orientation(6)),
        "grey.png": _encode(grey, ".png"),
        "colour.png": _encode(colour, ".png"),
        "alpha.png": _encode(np.dstack([colour, grey]), ".png"),
        "deep.png": _encode(deep, ".png"),
        "palette.png": _pillow(grey, "PNG", "P"),
        "one-bit.png": _pillow(grey > 127, "PNG"),
        "exif.png": _pillow(grey, "PNG", exif=_orientation(8)),
        "animated.png": _pillow(grey, "PNG", save_all=True, append_images=[Image.fromarray(grey[::-1].copy())]),
        "grey.tif": _encode(grey, ".tif"),
        "plain.tif": _tiff(grey),
        "deep.tif": _tiff(deep, byteorder=">"),
        "tiled.tif": _tiff(np.tile(grey, (2, 1)), tile=(16, 16)),
        "colour.tif": _tiff(colour, photometric="rgb"),
        "big.tif": _tiff(grey, bigtiff=True),
        "lzw.tif": _pillow(grey, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _pillow(grey, "TIFF", compression="tiff_deflate"),
        "grey.npy": _npy(grey),
        "deep.npy": _npy(np.asfortranarray(deep)),
        "three-axes.npy": _npy(grey[None]),
    }


def make_tars(images):
    members = []
    for number, (name, data) in enumerate(images.items()):
        stem = f"cells/{number:03d}-{name.replace('.', '-')}"
        members += [(f"{stem}.{name[-3:]}", data), (f"{stem}.cls", b"%d" % (number % 2))]
    facts = b'{"class_name": "1", "group": "donor", "um_per_px": 0.25}'
    members += [("cells/long-" + "x" * 120 + ".png", images["grey.png"]), ("cells/facts.json", facts)]
    members += [("cells/facts.jpg", images["grey.jpg"])]
    formats = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    return {f"{name}.tar": _tar(members[: 6 if name == "ustar" else None], form) for name, form in formats.items()}


def make_datasets(folder, images):
    names = [name for name in images if name not in ("deep.png", "deep.tif", "deep.npy", "tiled.tif")]
    records = [
        Record(f"{number:03d}/{name}", images[name], name[-3:], CLASSES[number % 2], f"donor {number % 3}")
        for number, name in enumerate(names * 2)
    ]
    sides = np.array([("train", "valid", "test")[number * 3 // len(records)] for number in range(len(records))])
    found = {}
    for layout in ("cell", "block"):
        out = folder / layout
        with staging(out) as temporary:
            half = len(records) // 2
            results = []
            for number, part in enumerate((records[:half], records[half:])):
                path = temporary / f"shard-{number:06d}.tar"
                blocks = [(str(sides[number * half]), part[:8]), ("", part[8:])]
                results.append(
                    write_cell_shard(path, part, None, CLASSES) if layout == "cell" else write_block_shard(path, blocks)
                )
            splits = {"default": sides} if layout == "cell" else None
            finish_dataset(temporary, out, results, DatasetInfo(layout, CLASSES, layout), splits)
        write_quarantine(out, _quarantine())
        (out / "verdicts.csv").write_text("cell_id,verdict,reason\n1,drop,blurred\n2,keep,\n")
        found[layout] = {
            path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
        }
    return found


def make_checkpoints():
    found = {}
    for name, decay in (("plain", None), ("averaged", 0.9)):
        torch.manual_seed(0)
        model = CellModule("gao", classes=CLASSES, preprocessing={"image_size": 16}, ema_decay=decay)
        content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "epoch": 1}
        model.on_save_checkpoint(content)
        file = io.BytesIO()
        torch.save(content, file)
        found[f"{name}.ckpt"] = file.getvalue()
    return found


def _quarantine():
    from fastcell.dataset.schema import QUARANTINE_SCHEMA, make_table

    row = (None, "bad.png", "source", "a", None, None, "truncated")
    return make_table([row, (3, *row[1:])], QUARANTINE_SCHEMA)


def _encode(pixels, extension, *options):
    return cv2.imencode(extension, pixels, list(options))[1].tobytes()


def _pillow(pixels, form, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def _orientation(number):
    exif = Image.Exif()
    exif[0x112] = number
    return exif


def _tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _npy(pixels):
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def _tar(members, form):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()
