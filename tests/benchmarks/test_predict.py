"""All ways of predicting give the same predictions; limits are named by value; latencies are what was timed."""

import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest

from fastcell.simulator.simulate import simulate
from fastcell.simulator.synth import synthesize

SIZE = 32


@pytest.fixture
def predict(program):
    return program("predict")


def test_tars_blocks_and_memory_give_the_same_predictions(predict, tmp_path):
    checkpoint, out = tmp_path / "model.ckpt", tmp_path / "predictions.parquet"
    trainer = predict.make_trainer()
    trainer.strategy.connect(predict.make_model("cellnet", SIZE))
    trainer.save_checkpoint(checkpoint)
    kept, tables = predict.Kept(), {}
    sets = {layout: synthesize(tmp_path / layout, 60, 0, layout=layout, jobs=1) for layout in ("cell", "block")}
    for name, layout, bank in (("cell", "cell", None), ("block", "block", None), ("bank", "cell", kept)):
        command = predict.Command(
            lambda layout=layout, bank=bank: predict.make_module(sets[layout], checkpoint, 16, bank), checkpoint, out
        )
        command.out = _Kept(out)
        assert command() == 60
        tables[name] = pq.read_table(out).sort_by("key")
    assert kept.bank is not None
    assert kept.bank.is_full
    first = tables["cell"]
    assert first.num_rows == 60
    assert first.column("reason").null_count == 60
    for table in tables.values():
        assert table.column("key").equals(first.column("key"))
        chances = [table.column(name).to_numpy() for name in ("p_MB231", "p_MCF7", "p_PBMC", "p_THP1")]
        expected = [first.column(name).to_numpy() for name in ("p_MB231", "p_MCF7", "p_PBMC", "p_THP1")]
        np.testing.assert_allclose(chances, expected, atol=1e-6)
    module = predict.make_module(sets["cell"], checkpoint, 16, None)
    assert predict.Loading(lambda: module)() == 60
    assert predict.Looping(predict.make_module(sets["cell"], checkpoint, 16, None), checkpoint, 60)() == 64


class _Kept(type(__import__("pathlib").Path())):
    """A file that the command leaves."""

    def unlink(self, missing_ok=False):
        pass


def test_the_slower_part_alone_is_what_binds(predict, program):
    names = [*predict.WAYS, *(f"{way}, loader alone" for way in predict.WAYS), predict.NETWORK]
    rate = {"cell layout, loader alone": 90.0, "block layout, loader alone": 400.0, "bank, loader alone": 800.0}
    rates = np.array([[rate.get(name, 100.0) for name in names]] * 3)
    cpu = np.array([[30.0 if name in predict.WAYS else 11.0 for name in names]] * 3)
    turns = program("harness").Turns(names, dict.fromkeys(names, "x"), rates, cpu, np.full(len(names), 10))
    what = {row.contestant: row.what for row in predict.name_limits(turns)}
    assert what["cell layout"] == "x; the loader is the limit (90 alone), the rest takes 8 µs"
    assert what["bank"] == "x; the network is the limit (100 alone), the rest takes 8 µs"


@pytest.fixture
def latency(program):
    return program("latency")


def test_percentiles_of_all_calls_with_an_interval_over_blocks(latency):
    spent = np.tile(np.arange(1.0, 101.0), (20, 1))  # every block alike: no spread between blocks
    points, low, high = latency.percentiles(spent)
    assert points.tolist() == pytest.approx([50.5, 99.0, 100.0], abs=0.1)
    assert low.tolist() == pytest.approx(points.tolist())
    assert high.tolist() == pytest.approx(points.tolist())
    spent[3] += 1000  # one block in twenty was disturbed
    row = latency.summarize("w", "x", "cpu", 1, spent)
    assert row.p99_us > 1000
    assert row.p99_low < 101 < 1000 < row.p99_high
    assert row.p50_high < 60
    assert (row.max_us, row.num_calls, row.num_blocks) == (1100.0, 2000, 20)


def test_ways_take_turns_block_by_block(latency, monkeypatch):
    monkeypatch.setattr(latency, "BLOCK", 3)
    monkeypatch.setattr(latency, "WARM_UP", 1)
    calls = []
    cells = [np.full((1, 1), number, np.uint8) for number in range(4)]
    ways = {name: (lambda cell, name=name: calls.append((name, int(cell[0, 0]))) or 0) for name in "ab"}
    awake = []
    monkeypatch.setattr(latency, "keep_awake", lambda way, some: awake.append((len(calls), way)))
    spent = latency.time_calls(ways, cells, 2)
    assert calls[:2] == [("a", 0), ("b", 0)]  # not timed
    first, second = [0, 1, 2], [3, 0, 1]
    assert calls[2:] == [(way, cell) for block in (first, second) for way in "ab" for cell in block]
    assert awake == [(2 + 3 * block, ways["ab"[block % 2]]) for block in range(4)]  # directly before its own block
    assert {name: values.shape for name, values in spent.items()} == {"a": (2, 3), "b": (2, 3)}
    assert all((values > 0).all() for values in spent.values())


def test_a_way_is_kept_awake_by_its_own_calls(latency, monkeypatch):
    now = iter(np.arange(0.0, 1.0, 0.006))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: float(next(now)))
    seen = []
    latency.keep_awake(lambda cell: seen.append(cell) or 0, ["a", "b", "c"])
    assert seen == ["a", "b", "c", "a"]  # 20 ms of calls of 6 ms


def test_torch_and_onnx_runtime_call_the_same_classes_and_all_of_them(predict, latency, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = predict.make_model("cellnet", SIZE)
    cells = [np.ascontiguousarray(cell.pixels) for cell in itertools.islice(simulate(40, seed=1), 40)]
    latency.spread_classes(model, cells)
    by_torch = latency.ByTorch(model)
    found = [by_torch(cell) for cell in cells]
    assert len(set(found)) >= 2
    by_onnx = latency.ByOnnx(latency._copy(model), 1, tmp_path)
    assert [by_onnx(cell) for cell in cells] == found


def test_ways_that_differ_are_not_timed(latency):
    cells = [np.zeros((2, 2), np.uint8)] * 10
    numbers = itertools.cycle(range(2))
    mixed = ("", lambda cell: next(numbers))
    with pytest.raises(SystemExit, match="classes differ"):
        latency.compare({"a": mixed, "b": ("", lambda cell: 0)}, cells)
    with pytest.raises(SystemExit, match="one class"):
        latency.compare({"a": ("", lambda cell: 0), "b": ("", lambda cell: 0)}, cells)
