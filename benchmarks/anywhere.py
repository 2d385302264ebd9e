"""Cells per second from an S3 server on this machine, beside webdataset that reads the same objects, in turns.

Each round is one epoch over all cells in one process: 128 x 128 float32 images, divided by their mean, in batches of
256, with one thread for decoding. The server is moto's, a process of its own; it answers slowly (some 20 ms a
request), so first epochs are bound by it.

* ``fastcell, empty cache``: the first epoch; shards are downloaded while earlier ones are decoded;
* ``fastcell, full cache``: every later epoch;
* ``fastcell, disk``: the same data set in a folder;
* ``webdataset``: the same shards by its own reader of ``http://`` (curl), which downloads them in every epoch, and
  OpenCV;
* ``LitData`` and ``MosaicML Streaming``, in the environment of `peers/README.md`: the same JPEG files in chunks and
  shards of their own, from the same server, every epoch with an empty local cache, in stored order.

A peer has 60 s to start and to write its files, and 60 s for an epoch; one that needs longer is left out, with the
reason. With the default sizes everything takes about two minutes. On a machine that does other work, wall times say
little: compare CPU times. Those of the server are in nobody's row.

    python benchmarks/anywhere.py [--cells 6000] [--rounds 5]

webshart reads folders and the Hugging Face hub, but no other server; `loader.py` measures it on local tars.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import cv2
import loader
import numpy as np
import webdataset
from harness import Contestant, Result, print_rows, time_turns
from worker import MALLOC, Worker, WorkerError, write_source

from fastcell.cli.synth import main as synth
from fastcell.dataset.dataset_info import read_info
from fastcell.dataset.manifest import Manifest
from fastcell.loading.datamodule import CellDataModule

SIZE, BATCH, BUCKET = 128, 256, "cells-of-a-benchmark"
PEERS = {"LitData": "litdata-remote", "MosaicML Streaming": "mosaic-remote"}
REFERENCE = "webdataset + OpenCV"
LIMIT_S = 60.0
"""Longest time a peer may take for its start, and for an epoch [s]."""


def start_server():
    """Start an S3 server; return its process and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def fastcell_epoch(path, cache):
    """Read one epoch with fastcell's stream; return the number of cells."""
    options = {"store": "stream", "threads": 1, "augment": False, "balance": "none", "split_name": "default"}
    data = CellDataModule(path, image_size=SIZE, eval_batch_size=BATCH, cache=str(cache), **options)
    data.setup("predict")
    num = sum(len(batch.images) for batch in data.predict_dataloader())
    data.teardown("predict")
    return num


def webdataset_epoch(urls):
    """Read one epoch with webdataset and OpenCV; return the number of cells."""
    num, batch = 0, np.empty((BATCH, 1, SIZE, SIZE), np.float32)
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        pixels = cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_GRAYSCALE)
        image = cv2.resize(pixels, (SIZE, SIZE)).astype(np.float32)
        batch[num % BATCH, 0] = image / image.mean()
        num += 1
    return num


def start_peers(source, folder, num_cells):
    """Start the workers of `PEERS`; return them, and the reason for each that cannot take part."""
    workers, absent = {}, {"webshart": "reads folders and the Hugging Face hub, no other server"}
    for name, mode in PEERS.items():
        python = os.environ.get(loader.PYTHONS[loader.PEERS])
        if not python:
            absent[name] = f"{loader.PYTHONS[loader.PEERS]} names no Python that has it (benchmarks/peers/README.md)"
            continue
        command = [python, Path(__file__).parent / loader.PEERS, source, mode, "--folder", folder]
        command += ["--threads", 1, "--batch", BATCH, "--size", SIZE]
        try:
            worker = Worker(command, folder / f"{mode}.log", LIMIT_S, MALLOC)
        except WorkerError as error:
            absent[name] = str(error)
            continue
        try:
            cells = worker.first_epoch().cells
            if cells != num_cells:
                raise WorkerError(f"it gave {cells:,} of {num_cells:,} cells")
            workers[name] = worker
        except WorkerError as error:
            absent[name] = str(error)
            worker.close()
    return workers, absent


def main():
    """Run the rounds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    server, url = start_server()
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FASTCELL_BENCHMARK_BUCKET": f"s3://{BUCKET}",
    }
    workers = {}
    with tempfile.TemporaryDirectory() as name:
        try:
            folder = Path(name) / "cells"
            synth([str(folder), "--cells", str(arguments.cells), "--shard-cells", "2000", "--jobs", "1"])
            client = boto3.client("s3")
            client.create_bucket(Bucket=BUCKET)
            for path in sorted(folder.rglob("*.*")):
                client.upload_file(str(path), BUCKET, f"cells/{path.relative_to(folder)}")
            shards = read_info(folder).shards
            keys = [{"Bucket": BUCKET, "Key": f"cells/{shard['name']}"} for shard in shards]
            urls = [client.generate_presigned_url("get_object", Params=key) for key in keys]
            address, full, empty = f"s3://{BUCKET}/cells", Path(name) / "full", Path(name) / "empty"

            def first_epoch():
                shutil.rmtree(empty, ignore_errors=True)
                return fastcell_epoch(address, empty)

            ways = {
                REFERENCE: ("every epoch over HTTP", lambda: webdataset_epoch(urls)),
                "fastcell, empty cache": ("first epoch from s3://", first_epoch),
                "fastcell, full cache": ("later epochs from s3://", lambda: fastcell_epoch(address, full)),
                "fastcell, disk": ("every epoch from a folder", lambda: fastcell_epoch(str(folder), full)),
            }
            data = f"ragged JPEG, {sum(shard['bytes'] for shard in shards) / 1e6:.0f} MB in {len(shards)} shards"
            entries = {
                way: Contestant(what, work, data, SIZE, BATCH, "float32", threads=1)
                for way, (what, work) in ways.items()
            }
            source = write_source(Manifest.open(folder), Path(name) / "source")
            workers, absent = start_peers(source, Path(name), arguments.cells)
            entries |= {
                peer: Contestant("first epoch from s3://", worker, data, SIZE, BATCH, "float32", threads=1)
                for peer, worker in workers.items()
            }
            rows = time_turns(entries, arguments.rounds).rows(REFERENCE)
        finally:
            for worker in workers.values():
                worker.close()
            server.terminate()
            server.wait()
    print_rows(rows, REFERENCE)
    cells = f"{arguments.cells:,} simulated cells"
    print(Result("anywhere", cells, vars(arguments), rows, absent=absent).save())


if __name__ == "__main__":
    main()
