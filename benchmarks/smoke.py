"""Does everything that a GPU does run at all? Each kernel, DALI's decoder and training steps, once and by value.

Takes seconds. It stops at the first thing that is wrong, so that nothing is timed on a machine that computes something
else. With no GPU the same is done on the CPU.

    python benchmarks/smoke.py
"""

import tempfile
import time
from pathlib import Path

from fastcell.system import library_settings, resources

library_settings.limit_spinning()  # before torch is there, as the command line does

import numpy as np
import pytorch_lightning as pl
import torch
from step import make_trainer

from fastcell.bench.engine_parts import images_of_all_kernels
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.shard_reader import ShardFiles
from fastcell.dataset.single_cells import read_cells
from fastcell.loading.bank_loader import BankLoader, PlannedLoader
from fastcell.loading.datamodule import CellDataModule
from fastcell.loading.loader import GroupedLoader
from fastcell.models.lightning_module import CellModule
from fastcell.simulator.synth import synthesize

CELLS = 600


def main():
    """Run all checks; the first that fails ends the program."""
    library_settings.quiet()
    device = torch.device("cuda", 0) if resources.has_gpu() else torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        path = synthesize(Path(folder) / "cells", CELLS, 0, jobs=1).path
        for name, check in CHECKS.items():
            start = time.perf_counter()
            said = check(path, device)
            print(f"{name}: {said}, {time.perf_counter() - start:.1f} s", flush=True)


def check_kernels(path, device):
    """Both kernels agree with their CPU twins."""
    worst = 0.0
    for image, twin in zip(images_of_all_kernels(device), images_of_all_kernels(None), strict=True):
        worst = max(worst, float((image.cpu() - twin).abs().max() / twin.abs().max()))
    if not worst <= 1e-5:
        raise SystemExit(f"a kernel differs from its CPU twin by {worst:.1e} of the largest value")
    return f"largest difference {worst:.1e}"


def check_decoder(path, device):
    """DALI decodes the JPEG of each cell as the threads do, up to a grey level or two of its inverse transform."""
    try:
        from fastcell.loading.decode_dali import DaliDecoder
    except ModuleNotFoundError as error:
        return f"left out, {error}"
    manifest = Manifest.open(path)
    files = ShardFiles(manifest, {})
    stored = files.read(np.arange(64))
    files.close()
    encoded = [np.frombuffer(stored.bytes_of(place), np.uint8) for place in range(64)]
    decoder = DaliDecoder(64, 1, device.index if device.type == "cuda" else None)
    decoder.feed(encoded)
    pixels = decoder.take()
    found = [np.asarray(cell)[:, :, 0] for cell in (pixels.as_cpu() if device.type == "cuda" else pixels)]
    worst = 0
    for cell, want in zip(found, read_cells(manifest, range(64)), strict=True):
        worst = max(worst, int(np.abs(cell.astype(int) - want.astype(int)).max()))
    if worst > 3:
        raise SystemExit(f"DALI's pixels differ by {worst} grey levels from those of the threads")
    return f"64 cells, largest difference {worst} grey levels"


def check_training(path, device):
    """Loss falls, from the bank and from the stream, with and without gradient scaling of the precision."""
    said = []
    for store in ("bank", "stream"):
        pl.seed_everything(0)
        data = CellDataModule(str(path), batch_size=64, image_size=64, store=store)
        model = CellModule(classes=data.classes, preprocessing=data.preprocessing.to_dict())
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if device.type == "cuda" else "32-true",
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(model, datamodule=data)
        loss = float(trainer.callback_metrics["train_loss"])
        if not loss < np.log(len(data.classes)):
            raise SystemExit(f"the loss of three epochs from the {store} is {loss:.2f}, no better than a guess")
        said.append(f"{store} {loss:.2f}")
    return f"loss of the third epoch: {', '.join(said)}"


class Captures(pl.Callback):
    """Notes whether the steps of a training were replays of a CUDA graph."""

    seen = False

    def on_train_batch_end(self, trainer, pl_module, *_):
        assert isinstance(pl_module, CellModule)
        self.seen |= pl_module._planned.is_captured


def check_planned_steps(path, device):
    """Steps from indices, on a GPU replays of a CUDA graph, end at the weights of steps on batches."""
    said = []
    for precision in ("32-true", "bf16-mixed") if device.type == "cuda" else ("32-true",):
        ends, captured, begin = [], Captures(), torch.empty(0)
        for kind in (GroupedLoader, PlannedLoader):
            pl.seed_everything(0, verbose=False)
            data = CellDataModule(str(path), batch_size=64, image_size=64, store="bank")
            data.trainer = trainer = make_trainer(16, precision=precision, callbacks=[captured])
            data.setup("fit")
            loader = data.train_dataloader()
            assert isinstance(loader, BankLoader)
            loader.pads = True
            described = {"classes": data.classes, "preprocessing": data.preprocessing.to_dict()}
            model = CellModule(steps_per_call=4, learning_rate=1e-4, **described)
            begin = torch.cat([values.detach().ravel() for values in model.network.parameters()])
            trainer.fit(model, kind(loader, 4))
            ends.append(torch.cat([values.detach().cpu().ravel() for values in model.network.parameters()]))
        if device.type == "cuda" and not captured.seen:
            raise SystemExit(f"no CUDA graph of a training step was captured in {precision}")
        apart = float((ends[1] - ends[0]).norm() / (ends[0] - begin).norm())
        if not apart < 0.1:
            raise SystemExit(f"planned steps in {precision} end {apart:.1%} of their way apart from steps on batches")
        said.append(f"{precision} {apart:.1e}")
    return f"apart by the share of the way {', '.join(said)}"


CHECKS = {
    "kernels": check_kernels,
    "decoder": check_decoder,
    "training": check_training,
    "planned steps": check_planned_steps,
}

if __name__ == "__main__":
    main()
