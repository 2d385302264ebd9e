"""Images that our `decode` accepted, through DALI's decoder on the CPU, one at a time: the same sizes come out.

python tests/fuzz/dali_worker.py FOLDER FIRST STOP STEP     of FOLDER/accepted, in the order of names
"""

import faulthandler
import json
import sys
import time
from pathlib import Path

import numpy as np
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

LIMIT_S = 5.0


def make_pipeline():
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        data = fn.external_source(name="data", ndim=1, dtype=types.UINT8)
        pipeline.set_outputs(fn.decoders.image(data, device="cpu", output_type=types.GRAY))
    pipeline.build()
    return pipeline


def decode_one(pipeline, path):
    """What is wrong; empty where nothing is."""
    _, height, width = path.stem.split("-")
    pipeline.feed_input("data", [np.frombuffer(path.read_bytes(), np.uint8)])
    (cells,) = pipeline.run()
    found = tuple(cells.shape()[0])
    return "" if found == (int(height), int(width), 1) else f"{path.name} is {found} to DALI"


def main():
    folder, first, stop, step = Path(sys.argv[1]), *map(int, sys.argv[2:])
    paths = sorted((folder / "accepted").iterdir())
    pipeline = make_pipeline()
    for number in range(first, stop, step):
        seed = int(paths[number].name.partition("-")[0])
        print(json.dumps({"begin": number}), flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        begin = time.perf_counter()
        try:
            fault = decode_one(pipeline, paths[number])
        except RuntimeError as error:  # a refusal is no crash, but decode promises that what it accepts can be read
            fault = f"{paths[number].name}: {error}"
            pipeline = make_pipeline()
        faulthandler.cancel_dump_traceback_later()
        row = {"seed": seed, "kind": "dali", "outcome": "fault" if fault else "same size", "fault": fault}
        print(json.dumps({**row, "s": time.perf_counter() - begin, "bytes": 0}), flush=True)


if __name__ == "__main__":
    main()
