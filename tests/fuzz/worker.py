"""Runs cases, one seed after the other, and says of each what became of it: one line of JSON on stdout.

    python tests/fuzz/worker.py FOLDER FIRST STOP STEP     the seeds of range(FIRST, STOP, STEP)
    python tests/fuzz/worker.py FOLDER SEED                one of them; its input stays in FOLDER

A line `{"begin": SEED}` goes before each, so that a process that dies has said of what.
"""

import faulthandler
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch
from corpus import make_corpus
from mutated_values import mutate_checkpoint, mutate_dataset
from mutations import mutate_image, mutate_tar

from fastcell.dataset.decode import decode
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.image_headers import MAX_PIXELS
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.single_cells import read_cells
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import BadCell, FastcellError
from fastcell.packing.index import index
from fastcell.packing.summary import describe_dataset
from fastcell.report.data_summary import describe_contents
from fastcell.runs.checkpoint import load_classifier
from fastcell.sources.webdataset_samples import list_samples

LIMIT_S = 5.0
LIMIT_BYTES = 400 << 20  # beyond what the process had before the case
ADDRESS_BYTES = 8 << 30  # likewise, of addresses


def kind_of(seed):
    """What a seed is a case of."""
    return ("image", "dataset", "image", "tar", "image", "dataset", "image", "tar", "image", "checkpoint")[seed % 10]


def run_case(seed, corpus, folder):
    """Make the input of a seed in `folder` and give it to those who must stand it; says what they did with it."""
    rng = random.Random(seed)
    return {"image": _image, "tar": _tar, "dataset": _dataset, "checkpoint": _checkpoint}[kind_of(seed)](
        rng, corpus, folder, seed
    )


def _image(rng, corpus, folder, seed):
    name, other = rng.choice(list(corpus.images)), rng.choice(list(corpus.images.values()))
    data = mutate_image(rng, name, corpus.images[name], other)
    (folder / "in" / name).write_bytes(data)
    with DecoderMessages() as messages:
        cell = decode(data, name[-3:], (0.0, 65535.0))
        messages.check()
    height, width = cell.pixels.shape
    assert cell.pixels.dtype == "uint8" and cell.pixels.flags.c_contiguous and 0 < height * width <= MAX_PIXELS  # noqa: PT018
    assert cell.encoding != "npy" or len(data) >= height * width
    if cell.encoding in ("jpg", "png") and cell.depth == 8:
        (folder.parent / "accepted" / f"{seed:08d}-{height}-{width}.{cell.encoding}").write_bytes(data)
    return "accepted"


def _tar(rng, corpus, folder, seed):
    name, other = rng.choice(list(corpus.tars)), rng.choice(list(corpus.tars.values()))
    data = mutate_tar(rng, corpus.tars[name], other)
    path = folder / "in" / name
    path.write_bytes(data)
    samples, _ = list_samples(path)
    for sample in samples:
        for member in (sample.image, sample.cls, sample.json):
            assert member is None or 0 < member.offset <= member.offset + member.size <= len(data)
    manifest = index(folder / "in", out=folder / "in" / "out" if seed % 4 == 3 else None, window=(0, 65535), jobs=1)
    _use(manifest)
    return "accepted"


def _dataset(rng, corpus, folder, seed):
    files = mutate_dataset(rng, corpus.datasets[rng.choice(list(corpus.datasets))])
    (folder / "in" / "splits").mkdir()
    for name, data in files.items():
        (folder / "in" / name).write_bytes(data)
    _use(Manifest.open(folder / "in"))
    return "accepted"


def _use(manifest):
    manifest.blocks() if manifest.info.layout == "block" else None
    assert manifest.shard_index.min(initial=0) >= 0
    for config in (
        ViewConfig(),
        ViewConfig("train", balance="oversample", labelled=True),
        ViewConfig("test", subsample=1),
    ):
        try:
            view = select(manifest, config)
            assert 0 <= view.rows.min() <= view.rows.max() < len(manifest)
        except FastcellError:
            if config == ViewConfig():
                raise
    describe_dataset(manifest)
    describe_contents(manifest)
    for _ in read_cells(manifest, range(min(8, len(manifest)))):
        pass


def _checkpoint(rng, corpus, folder, seed):
    name = rng.choice(list(corpus.checkpoints))
    data = mutate_checkpoint(rng, corpus.checkpoints[name], corpus.checkpoints["plain.ckpt"])
    path = folder / "in" / name
    path.write_bytes(data)
    model = load_classifier(path)
    with torch.no_grad():
        size = int(model.preprocessing.get("image_size", 128))
        assert model(torch.ones(1, 1, size, size)).shape == (1, len(model.classes))
    return "accepted"


def snapshot(folder):
    """Name and time of change of all that a case must not touch."""
    kept = {"in"}
    found = set()
    for path in folder.iterdir():
        if path.name not in kept:
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def memory(name):
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise KeyError(name)


def watched(seed, corpus, folder):
    """`run_case`, with what it took: faults are errors of a kind that is none of ours, memory, stray files."""
    shutil.rmtree(folder / "in", ignore_errors=True)
    (folder / "in").mkdir()
    before = snapshot(folder)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    resident, begin = memory("VmRSS"), time.perf_counter()
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    fault = ""
    try:
        outcome = run_case(seed, corpus, folder)
    except (FastcellError, BadCell) as error:
        outcome = type(error).__name__
        if isinstance(error.__cause__, MemoryError):
            fault = "".join(traceback.format_exception(error))
    except BaseException as error:  # noqa: BLE001, that there is none is what is tested
        outcome, fault = "fault", "".join(traceback.format_exception(error))
    faulthandler.cancel_dump_traceback_later()
    taken = memory("VmHWM") - resident
    if taken > LIMIT_BYTES:
        fault += f"took {taken:,} bytes of memory"
    if snapshot(folder) != before:
        fault += f"touched files outside of its folder: {snapshot(folder) ^ before}"
    seconds = time.perf_counter() - begin
    return {"seed": seed, "kind": kind_of(seed), "outcome": outcome, "fault": fault, "s": seconds, "bytes": taken}


def main():
    folder, *numbers = sys.argv[1:]
    first, stop, step = (*map(int, numbers),) if len(numbers) == 3 else (int(numbers[0]), int(numbers[0]) + 1, 1)
    place = Path(folder) / f"worker-{os.getpid()}"
    place.mkdir(parents=True)
    (place.parent / "accepted").mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    corpus = make_corpus(place / "corpus")
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ADDRESS_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in range(first, stop, step):
        print(json.dumps({"begin": seed}), flush=True)
        print(json.dumps(watched(seed, corpus, place)), flush=True)


if __name__ == "__main__":
    main()
