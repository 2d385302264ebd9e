"""Frozen bytes: shards and tables that synth and pack write, the batches that training gets."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastcell

FILE = "bytes.json.xz"
LAYOUTS = ["cell", "block"]
ENCODER = {"opencv": cv2.__version__}  # writes the images that are not taken over as they are


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def table_of(path):
    """Columns, types and values of a parquet file: its own bytes hold the version of the library that wrote it."""
    table = pq.read_table(path)
    found = {"rows": table.num_rows}
    for name in table.column_names:
        column = table.column(name)
        values = column.to_pylist()
        if pa.types.is_floating(column.type):  # written and read by one bit pattern, NaN included
            values = [None if value is None else float(value).hex() for value in values]
        text = json.dumps([value.hex() if isinstance(value, bytes) else value for value in values], default=str)
        found[name] = f"{column.type} {digest(text.encode())}"
    return found


def content(folder):
    """Every file of a data set: bytes, but of parquet what it holds."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): table_of(path)
        if path.suffix == ".parquet"
        else digest(of_first_version(path.read_bytes()))
        for path in paths
    }


def of_first_version(data):
    """Return bytes as the version made them under which they were frozen: they name the version."""
    return data.replace(f'"fastcell {fastcell.__version__}'.encode(), b'"fastcell 0.1.0')


def block_words(layout, num):
    """Words for `num` cells per block, which only the layout block takes."""
    return ["--block-cells", num] if layout == "block" else []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_synth(layout, frozen, call, tmp_path):
    out = tmp_path / "cells"
    words = ["--cells", 90, "--seed", 3, "--shard-cells", 40, *block_words(layout, 16), "--defects", 0.2, "--jobs", 1]
    call("synth", out, "--layout", layout, *words)
    frozen(FILE, f"synth {layout}", content(out), versions=ENCODER)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pack_images(layout, frozen, call, images, tmp_path):
    out = tmp_path / "cells"
    words = [
        "--shard-cells",
        50,
        *block_words(layout, 16),
        "--seed",
        2,
        "--um-per-px",
        0.5,
        "--jobs",
        1,
        "--name",
        "drawn",
    ]
    call("pack", images, out, "--layout", layout, "--pattern", "{group}/{class}/{name}", *words)
    frozen(FILE, f"pack {layout}", content(out))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pack_stack(layout, depth, frozen, call, draw_cell, tmp_path):
    """One .npy array of cells, with labels beside it."""
    stack = np.stack([np.resize(draw_cell(number, number % 2), (20, 22)) for number in range(60)])
    np.save(tmp_path / "stack.npy", stack if depth == 8 else stack.astype(np.uint16) * 200 + 7)
    (tmp_path / "labels.txt").write_text("".join(f"{'AB'[number % 2]}\n" for number in range(60)))
    words = [
        "--name",
        "stack",
        "--labels",
        tmp_path / "labels.txt",
        "--shard-cells",
        32,
        *block_words(layout, 8),
        "--jobs",
        1,
    ]
    words += [] if depth == 8 else ["--window", 15_000, 42_000]
    call("pack", tmp_path / "stack.npy", tmp_path / "cells", "--layout", layout, *words)
    frozen(FILE, f"pack stack of {depth} bits, {layout}", content(tmp_path / "cells"), versions=ENCODER)


BATCHES = """
import json, sys
import numpy as np
import pytorch_lightning as pl
import torch
import fastcell


class Recorder(pl.LightningModule):
    def __init__(self, steps):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.wanted, self.seen = steps, {}

    def training_step(self, batch, index):
        step = self.global_step + 1
        if step in self.wanted:
            images = batch.images.double()
            high, wide = images.shape[-2:]
            ramp = torch.linspace(-1, 1, wide, dtype=torch.float64)
            self.seen[f"step {step}"] = {
                "cell_ids": batch.cell_ids.tolist(),
                "labels": batch.labels.tolist(),
                "weight": batch.weight.tolist(),
                "shape": [str(batch.images.dtype), *batch.images.shape],
                "mean": images.mean((1, 2, 3)).tolist(),
                "std": images.std((1, 2, 3)).tolist(),
                "across": (images * ramp).mean((1, 2, 3)).tolist(),
                "down": (images * ramp[:, None]).mean((1, 2, 3)).tolist(),
                "pixels of the first": images[0, 0, ::5, ::5].flatten().tolist(),
            }
        return self.weight * batch.images.mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def record(path, store, ranks, steps, options):
    module = fastcell.CellDataModule(path, batch_size=8, image_size=24, threads=1, seed=5, store=store, **options)
    model = Recorder(steps)
    trainer = pl.Trainer(
        accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", max_epochs=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )
    trainer.fit(model, datamodule=module)
    return trainer.global_rank, model.seen


if __name__ == "__main__":
    path, store, ranks, steps, options, out = json.loads(sys.argv[1])
    rank, seen = record(path, store, ranks, steps, options)
    with open(f"{out}.{rank}", "w") as file:
        json.dump(seen, file)
"""
STEPS = [1, 5, 14]  # an epoch has 10


def record_batches(path, store, ranks, folder, options):
    """What each rank sees; two ranks are processes of their own, which start the script again."""
    if ranks == 1:
        names = {"__name__": "record"}
        exec(BATCHES, names)
        return {"rank 0": names["record"](str(path), store, ranks, STEPS, options)[1]}
    (folder / "record.py").write_text(BATCHES)
    settings = json.dumps([str(path), store, ranks, STEPS, options, str(folder / "seen")])
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(fastcell.__file__).parents[1])}
    command = [sys.executable, str(folder / "record.py"), settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return {f"rank {rank}": json.loads((folder / f"seen.{rank}").read_text()) for rank in range(ranks)}


@pytest.mark.parametrize(
    ("store", "ranks", "options"),
    [
        ("bank", 1, {}),
        ("stream", 1, {}),
        ("stream", 1, {"fit": "contain", "normalization": "standardize", "balance": "oversample"}),
        pytest.param("bank", 2, {}, marks=pytest.mark.slow),
        pytest.param("stream", 2, {}, marks=pytest.mark.slow),
    ],
    ids=["bank", "stream", "options", "bank of two ranks", "stream of two ranks"],
)
def test_batches(store, ranks, options, frozen, packed, tmp_path):
    """Values to 1e-4: a fused multiply-add rounds once, two operations twice."""
    found = record_batches(packed, store, ranks, tmp_path, options)
    name = f"batches of {store}, {ranks} ranks, {json.dumps(options)}"
    frozen(FILE, name, found, tolerance=1e-4)
