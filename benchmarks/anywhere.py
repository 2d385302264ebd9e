"""Cells per second from an S3 server on this machine, beside webdataset that reads the same objects, in turns.

Each round is one epoch over all cells in one process: 128 x 128 float32 images, divided by their mean, in batches of
256, with one thread for decoding. The server is moto's, a process of its own; it answers slowly (some 20 ms a
request), so first epochs are bound by it.

* ``fastcell, empty cache``: the first epoch; shards are downloaded while earlier ones are decoded;
* ``fastcell, full cache``: every later epoch;
* ``fastcell, disk``: the same data set in a folder;
* ``webdataset``: the same shards by its own reader of ``http://`` (curl), which downloads them in every epoch, and
  OpenCV.

    python benchmarks/anywhere.py [--cells 20000] [--rounds 5]
"""

from __future__ import annotations

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
import numpy as np
import webdataset
from harness import Contestant, Result, print_rows, time_turns

from fastcell.cli.synth import main as synth
from fastcell.dataset.manifest import read_info
from fastcell.loading.datamodule import CellDataModule

SIZE, BATCH, BUCKET = 128, 256, "cells-of-a-benchmark"
REFERENCE = "webdataset + OpenCV"


def start_server() -> tuple[subprocess.Popen[bytes], str]:
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


def fastcell_epoch(path: str, cache: Path) -> int:
    """Read one epoch with fastcell's stream; return the number of cells."""
    options = {"store": "stream", "threads": 1, "augment": False, "balance": "none", "split_name": "default"}
    data = CellDataModule(path, image_size=SIZE, eval_batch_size=BATCH, cache=str(cache), **options)
    data.setup("predict")
    num = sum(len(batch.images) for batch in data.predict_dataloader())
    data.teardown("predict")
    return num


def webdataset_epoch(urls: list[str]) -> int:
    """Read one epoch with webdataset and OpenCV; return the number of cells."""
    num, batch = 0, np.empty((BATCH, 1, SIZE, SIZE), np.float32)
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        pixels = cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_GRAYSCALE)
        image = cv2.resize(pixels, (SIZE, SIZE)).astype(np.float32)
        batch[num % BATCH, 0] = image / image.mean()
        num += 1
    return num


def main() -> None:
    """Run the rounds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    server, url = start_server()
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
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

            def first_epoch() -> int:
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
            rows = time_turns(entries, arguments.rounds).rows(REFERENCE)
        finally:
            server.terminate()
            server.wait()
    print_rows(rows, REFERENCE)
    absent = dict.fromkeys(("LitData", "MosaicML Streaming", "webshart"), "not installed in this environment")
    cells = f"{arguments.cells:,} simulated cells"
    print(Result("anywhere", cells, vars(arguments), rows, absent=absent).save())


if __name__ == "__main__":
    main()
