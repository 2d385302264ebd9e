"""Do two processes on one device train as one does? Over gloo, which takes CUDA tensors: NCCL refuses two on one GPU.

Each process is a machine of its own to Lightning, with one device. Shown: both end with the same weights, near those of
one process on the same global batches; and the cells per second of both together and of one.

    python benchmarks/two_ranks.py [--cells 4000] [--batch 512] [--epochs 2]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fastcell.system import library_settings, resources

library_settings.limit_spinning()  # before torch is there, as the command line does

import pytorch_lightning as pl
import torch
from harness import Result
from pytorch_lightning.strategies import DDPStrategy
from step import make_trainer

from fastcell.loading.datamodule import CellDataModule
from fastcell.models.lightning_module import CellModule
from fastcell.simulator.synth import synthesize
from fastcell.training.progress_bar import Throughput

LIMIT_S = 200


@dataclass
class RanksRow:
    """A training.

    Attributes:
        ranks: number of processes.
        device: that all of them use.
        cells_per_s: of all together, in training steps.
        steps: optimizer steps.
        apart: distance of the weights from those of one process, as a share of the distance that these have gone.
        loss: validation loss at the end.
    """

    ranks: int
    device: str
    cells_per_s: float
    steps: int
    apart: float
    loss: float


def main():
    """Train with one process and with two, compare, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4000, help="synthetic cells (%(default)s)")
    parser.add_argument("--batch", type=int, default=512, help="cells in a global batch (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the images (%(default)s)")
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        train(options, Path(options.rank_of))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        synthesize(folder / "cells", options.cells, 0)
        ends = {num: run_ranks(folder, num) for num in (1, 2)}
        rows = compare(ends, folder)
    for row in rows:
        rate = f"{row.cells_per_s:,.0f} cells/s"
        print(f"{row.ranks} on {row.device}: {rate}, loss {row.loss:.4f}, apart {row.apart:.1e}")
    settings = {name: getattr(options, name) for name in ("cells", "batch", "epochs", "size")}
    print(f"wrote {Result('two-ranks', 'synthetic cells', settings, rows).save()}")


def run_ranks(folder, num):
    """Train with `num` processes, and return what each has said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(resources.num_cpus() // num, 1))
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": threads}
    command = [sys.executable, *sys.argv, "--rank-of", str(folder)]
    started = [
        subprocess.Popen(command, env={**common, "NODE_RANK": str(rank), "NUM_RANKS": str(num)}, stderr=subprocess.PIPE)
        for rank in range(num)
    ]
    try:
        for process in started:
            error = process.communicate(timeout=LIMIT_S)[1]
            if process.returncode:
                raise SystemExit(f"a process of {num} ended with {process.returncode}: {error.decode()[-1500:]}")
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"{num}-{rank}.json").read_text()) for rank in range(num)]


def train(options, folder):
    """Train as one rank, and write its weights and rate."""
    library_settings.quiet()
    num, rank = int(os.environ["NUM_RANKS"]), int(os.environ["NODE_RANK"])
    pl.seed_everything(0, verbose=False)
    data = CellDataModule(str(folder / "cells"), batch_size=options.batch, image_size=options.size, store="bank")
    model = CellModule(classes=data.classes, preprocessing=data.preprocessing.to_dict(), learning_rate=1e-4)
    torch.save(model.network.state_dict(), folder / f"start-{rank}.pt")
    throughput = Throughput()
    trainer = make_trainer(
        accelerator="gpu" if resources.has_gpu() else "cpu",
        benchmark=None,
        num_nodes=num,
        strategy="auto" if num == 1 else DDPStrategy(process_group_backend="gloo"),
        max_epochs=options.epochs,
        limit_val_batches=1.0,
        use_distributed_sampler=False,
        callbacks=[throughput],
    )
    trainer.fit(model, datamodule=data)
    device = str(model.device)
    torch.save(model.cpu().network.state_dict(), folder / f"end-{num}-{rank}.pt")
    said = {
        "cells_per_s": throughput.rate("train"),
        "steps": trainer.global_step,
        "loss": float(trainer.callback_metrics["valid_loss"]),
        "device": device,
    }
    (folder / f"{num}-{rank}.json").write_text(json.dumps(said))


def compare(ends, folder):
    """Stop unless two ranks have one network and the steps of one process; say how far apart they are.

    They are some way apart, for each rank normalises over its own part of a batch.
    """
    start, alone, first, second = (
        _weights(folder / name) for name in ("start-0.pt", "end-1-0.pt", "end-2-0.pt", "end-2-1.pt")
    )
    if not torch.equal(first, second):
        raise SystemExit(f"the weights of two ranks differ by up to {float((first - second).abs().max()):.1e}")
    apart = float((first - alone).norm() / (alone - start).norm())
    (one,), (two, _) = ends[1], ends[2]
    if two["steps"] != one["steps"] or not apart < 0.8:
        raise SystemExit(f"two ranks made {two['steps']} steps for {one['steps']}, and end {apart:.1%} apart")
    return [RanksRow(num, said["device"], said["cells_per_s"], said["steps"], far, said["loss"])
            for num, said, far in ((1, one, 0.0), (2, two, apart))]  # fmt: skip


def _weights(path):
    """Learned weights without the statistics of batch normalisation, which each rank keeps of its own cells."""
    state = torch.load(path, weights_only=True)
    learned = [value for name, value in state.items() if "running" not in name and "num_" not in name]
    return torch.cat([value.double().ravel() for value in learned])


if __name__ == "__main__":
    main()
