"""Manifests of many rows over few stored cells are true ones; exponents, costs and the model of ranks are right."""

import numpy as np
import pytest

from fastcell.simulator.synth import synthesize


@pytest.fixture
def linked_rows(program):
    return program("linked_rows")


@pytest.fixture
def scale(program):
    return program("scale")


def test_every_step_is_measured(scale, linked_rows, tmp_path):
    base = synthesize(tmp_path / "base", 400, 0, shard_cells=400, jobs=1)
    path = tmp_path / "rows"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "write_rows", lambda *given: linked_rows.write_rows(*given, 400))
        made = scale.make(base, path, 1200)
    made |= scale.open_first(path)
    found = scale.measure(path)
    assert set(made) | set(found) | {"two ranks, alone", "two ranks, shared"} == set(scale.WHAT)
    assert made["manifest"][0] == pytest.approx((path / "manifest.parquet").stat().st_size / 1e6)
    assert made["mapped files"] == [0, 0]
    assert found["start"][0] == pytest.approx(
        sum(found[name][0] for name in ("open", "select", "loader", "first batch"))
    )
    assert not (path / "predictions.parquet").exists()


def test_exponents_come_from_the_upper_two_decades(scale):
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    rounds = [[[9.0, 2e-6 * size**1.5 if size >= 10_000 else 7.0]] * 2 for size in sizes]
    row = scale.fit_growth("open", sizes, rounds)
    assert row.exponent == pytest.approx(1.5)
    assert (row.exponent_low, row.exponent_high) == pytest.approx((1.5, 1.5), abs=1e-6)
    assert row.at_computed == pytest.approx(2e-6 * 1e9 + row.per_row / 1e9 * 99_000_000)
    assert (row.fitted_from, row.num_rounds, row.values) == (10_000, 2, [9.0] * 4)
    assert row.per_row == pytest.approx(2e-6 * (1e9 - 100_000**1.5) / 900_000 * 1e9)
    memory = scale.fit_growth("memory, start", sizes[2:], [[[100.0, 100.0]], [[190.0, 190.0]]])
    assert (memory.unit, memory.per_row, memory.exponent_low) == ("MB", pytest.approx(100.0), None)


def test_a_noisy_slope_has_an_interval_around_it(scale):
    rows = np.array([1e4, 1e5, 1e6])
    slope, low, high = scale.fit_exponent(rows, rows * [1.0, 1.2, 1.0])
    # log10 values 4, 5.0792, 6: slope 1, residual deviation sqrt(0.0792**2 * 2 / 3), 12.706 = t(0.975, 1)
    assert slope == pytest.approx(1.0)
    assert high - slope == pytest.approx(12.706 * np.log10(1.2) * np.sqrt(2 / 3) / np.sqrt(2), rel=1e-3)
    assert slope - low == pytest.approx(high - slope)


def test_the_model_of_ranks_takes_the_narrowest_limit(program):
    ranks = program("ranks")
    costs = ranks.Costs(single_us=5.0, shared_us=45.0, cell_bytes=1e5, bandwidth=4e10)
    assert costs.rate(1, 1) == pytest.approx(20_000)  # one core's time
    assert costs.rate(1, 4) == pytest.approx(80_000)
    assert costs.rate(1, 32) == pytest.approx(200_000)  # what one process does alone
    assert costs.rate(8, 4) == pytest.approx(400_000)  # memory
    lines = ranks.describe("stream", costs, {"stream, 2 x 1": 39_000.0, "bank, 1 x 1": 1.0})
    assert "2 x 1: model 40,000, measured 39,000 cells/s" in lines
    assert sum("measured" in line for line in lines) == 1


def test_costs_of_a_cell_are_those_measured(program, tmp_path):
    ranks = program("ranks")
    base = synthesize(tmp_path / "base", 30, 0, jobs=1)
    costs = ranks.make_costs(50.0, 8.0, base, True, 1e10)
    pixels = (base.column("height").astype(int) * base.column("width")).mean()
    assert (costs.single_us, costs.shared_us) == (8.0, 42.0)
    assert costs.cell_bytes == pytest.approx(base.column("bytes").mean() + 2 * pixels + 4 * 128 * 128)


def test_two_ranks_share_the_cells_of_an_epoch(program, tmp_path):
    ranks = program("ranks")
    base = synthesize(tmp_path / "base", 600, 0, jobs=1)
    loaders = ranks.Loaders(base)
    assert loaders.epoch("stream", 0, 1, 1).cells == 3 * 256  # the last batch is filled up
    assert loaders.epoch("stream", 1, 2, 1).cells == 2 * 256
    assert loaders.epoch("bank", 1, 2, 1).cells == 8 * 2 * 256
    assert 0 < loaders.single("stream") < 1e-3
    assert 0 < loaders.single("bank") < 1e-3


def test_a_worker_answers_every_order(program, tmp_path):
    ranks = program("ranks")
    base = synthesize(tmp_path / "base", 600, 0, jobs=1)
    worker = ranks.Worker(base.path, 0)
    try:
        cells, seconds, cpu_s = worker.ask(["stream", 0, 1, 1, sorted(ranks.os.sched_getaffinity(0))[:1]])
        assert cells == 3 * 256
        assert 0 < cpu_s <= seconds * 4
        assert 0 < worker.ask(["single", "stream"])[0] < 1e-3
        assert worker.ask(["copy"])[0] > 1e8
    finally:
        worker.close()
    assert worker.process.returncode == 0
