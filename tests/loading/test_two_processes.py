"""Training in two processes: disjoint parts of each epoch, and no collective operation that is not needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fastcell
from fastcell.dataset.views import ViewConfig, select
from fastcell.loading.order import NUM_PARTS, BankOrder, fill_order

DDP_SCRIPT = """
import json, sys
import pytorch_lightning as pl
sys.path.insert(0, {folder!r})
from fixtures.recorded_training import Collectives, Recorder, data, trainer
from fastcell.dataset.manifest import Manifest
from fastcell.models.lightning_module import CellModule

if __name__ == "__main__":
    for number, options in enumerate({options!r}):
        model = Recorder()
        module = data(Manifest.open({path!r}), batch_size=8, **options)
        fit = trainer(devices=2, strategy="ddp", max_epochs=2)
        fit.fit(model, datamodule=module)
        with open({out!r} + f"{{number}}.{{fit.global_rank}}", "w") as file:
            json.dump({{"seen": model.seen, "steps": model.steps, "weight": model.weight.item()}}, file)
    for balance in ("none", "weights"):
        module = data(Manifest.open({path!r}), batch_size=8, store="bank", balance=balance)
        model = CellModule(classes=module.classes, preprocessing=module.preprocessing.to_dict())
        calls = Collectives()
        fit = trainer(devices=2, strategy="ddp", max_epochs=2, callbacks=[calls])
        fit.fit(model, datamodule=module)
        with open({out!r} + f"{{balance}}.{{fit.global_rank}}", "w") as file:
            json.dump(calls.of_steps, file)
"""
DDP_OPTIONS = [
    {"store": "stream"},
    {"store": "bank"},
    {"store": "bank", "bank_gib": 1500 / 2**30},
]


def train_in_two_processes(manifest, folder):
    """What the two ranks see, for each of DDP_OPTIONS, and the collectives that a step of `CellModule` calls.

    One training after the other runs in the same two processes.
    """
    here, root = str(Path(__file__).parents[1]), str(Path(fastcell.__file__).parent.parent)
    script = folder / "ddp.py"
    script.write_text(DDP_SCRIPT.format(folder=here, path=str(manifest.path), out=f"{folder}/", options=DDP_OPTIONS))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PL_GLOBAL_SEED": "5", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    names = [*range(len(DDP_OPTIONS)), "none", "weights"]
    return [[json.loads((folder / f"{name}.{rank}").read_text()) for rank in (0, 1)] for name in names]


def test_two_processes_train_on_disjoint_parts(make_dataset, tmp_path):
    """From a bank they draw, together, the batches that one process would."""
    manifest = make_dataset(101)
    *trained, plain, weighted = train_in_two_processes(manifest, tmp_path)
    for ranks, num_parts in zip(trained, (0, 1, NUM_PARTS), strict=True):
        assert_disjoint_parts(manifest, ranks, num_parts)
    assert plain == [[[]] * 16] * 2  # the weight of a global batch is known; DDP's own sums are made in C++
    assert weighted == [[["all_reduce"]] * 16] * 2


def assert_disjoint_parts(manifest, ranks, num_parts):
    assert ranks[0]["steps"] == ranks[1]["steps"]
    for part, rows in (("train", range(60)), ("valid", range(60, 80))):
        for epoch in (0, 1):
            parts = [{cell for at, cells in rank["seen"][part] if at == epoch for cell in cells} for rank in ranks]
            assert parts[0].isdisjoint(parts[1])
            assert parts[0] | parts[1] == set(rows)
    if num_parts:
        view = select(manifest, ViewConfig("train", labelled=True))
        order, filled = BankOrder(60, 8, 5, num_parts, 16), fill_order(view, 5)
        steps = [set(one[1]) | set(two[1]) for one, two in zip(*(rank["seen"]["train"] for rank in ranks), strict=True)]
        for epoch in (0, 1):
            batches = order.batches(epoch)
            for step in range(order.steps):
                want = filled[batches.entries[step][batches.real[step]]]
                assert steps[epoch * order.steps + step] == set(want.tolist())
