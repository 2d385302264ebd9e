"""Chunks here and on an engine: the same table, corrupt cells of all workers, progress over tasks."""

from dataclasses import replace

import joblib
import numpy as np
import pytest

from fastcell.cli.predict import main
from fastcell.dataset.corrupt_cells import CorruptCells
from fastcell.errors import DataError, FastcellError
from fastcell.inference.backends.choice import open_prepared
from fastcell.inference.backends.network_files import NetworkFiles
from fastcell.predictions import classified_chunks as module
from fastcell.predictions.classified_chunks import ChunkSettings, EngineJob, classified_chunks, classified_on_engine
from fastcell.runs.run_folder import find_checkpoint

INT8 = ["--backend=openvino", "--precision=int8"]


@pytest.fixture
def job(prepared_run, make_dataset):
    manifest = make_dataset(50)
    settings = ChunkSettings(chunk=7, tta=False, known=None)
    checkpoint = find_checkpoint(prepared_run)
    return manifest, EngineJob(str(manifest.path), None, checkpoint, "openvino", "int8", settings, "replace")


def joined(parts):
    return [np.concatenate(columns) for columns in zip(*[(p[0], p[1], p[2].scores) for p in parts], strict=True)]


def test_tasks_hold_whole_chunks_and_give_the_same_answers(job, monkeypatch):
    manifest, job = job
    rows = np.arange(3, 47)
    backend, network = open_prepared(NetworkFiles(job.checkpoint), "openvino", "int8")
    alone = joined(classified_chunks(rows, backend, network, CorruptCells(manifest), job.settings, 1))
    monkeypatch.setattr(module, "_TASK_CELLS", 20)  # two chunks of seven
    with joblib.parallel_config("threading", n_jobs=2):
        parts = list(classified_on_engine(job, rows, CorruptCells(manifest)))
    assert [len(part.cell_ids) for part in parts] == [14, 14, 14, 2]
    for one, other in zip(joined(parts), alone, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


def test_corrupt_cells_of_workers_are_known_here(job):
    manifest, job = job
    row = manifest.table.slice(12, 1).to_pylist()[0]
    path = manifest.path / row["shard"]
    content = bytearray(path.read_bytes())
    content[row["offset"] + 5] ^= 255
    path.write_bytes(content)
    corrupt = CorruptCells(manifest)
    with joblib.parallel_config("threading", n_jobs=2):
        (part,) = classified_on_engine(job, np.arange(50), corrupt)
        assert list(corrupt.reasons) == [12]
        assert part.cell_ids.tolist() == [*range(12), *range(13, 50)]
        strict = replace(job, on_bad_cell="error", key="other")
        with pytest.raises(DataError, match="other bytes than were packed"):
            list(classified_on_engine(strict, np.arange(50), CorruptCells(manifest)))


def test_a_worker_opens_a_data_set_once_a_command(job):
    _, job = job
    module._opened.cache_clear()
    for key in ("one", "one", "two"):
        module._classify((replace(job, key=key), np.arange(5)))
    assert module._opened.cache_info().misses == 2


def predicted(run, data, out, *words):
    assert main([str(run), str(data), "--out", str(out), *words]) == 0
    return out.read_bytes()


@pytest.mark.slow
def test_engines_write_the_file_of_one_process(prepared_run, trained_data, tmp_path):
    distributed = pytest.importorskip("distributed")
    alone = predicted(prepared_run, trained_data, tmp_path / "alone.parquet", *INT8)
    loky = ["--engine", "loky", "--data.threads", "2", "--data.eval_batch_size=31"]
    assert predicted(prepared_run, trained_data, tmp_path / "loky.parquet", *INT8, *loky) == alone
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as dask:
        way = ["--engine=dask", "--scheduler", dask.scheduler_address]
        assert predicted(prepared_run, trained_data, tmp_path / "dask.parquet", *INT8, *way) == alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend=torch", "--engine=loky"], "--engine must be given with a backend other than torch, got 'loky'"),
        ([*INT8, "--scheduler=tcp://x:1"], "--scheduler must be given with --engine dask, got 'tcp://x:1'"),
        ([*INT8, "--engine=loky", "--seed_everything=3"], "--engine must be given with a backend other than torch"),
    ],
)
def test_what_no_engine_can_do(prepared_run, trained_data, tmp_path, words, message):
    with pytest.raises(FastcellError, match=message):
        main([str(prepared_run), str(trained_data), "--out", str(tmp_path / "p.csv"), *words])
    assert list(tmp_path.iterdir()) == []
