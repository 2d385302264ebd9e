"""The kernels' rivals make the kernels' images, and a row says what its rates and bytes mean."""

import numpy as np
import pytest
import torch

TINY = {"batch": 6, "num_batches": 2, "out_bytes": 1 << 20, "least_cells": 6}


@pytest.fixture
def kernel(program):
    return program("kernel")


@pytest.fixture
def rivals(program):
    return program("kernel_rivals")


def tiny(kernel):
    return kernel.Plan(device=torch.device("cpu"), **TINY)


def case(rivals, stages="all", data="ragged", size=32, dtype=torch.float32, kernel="transform"):
    return rivals.Case(kernel, stages, data, size, dtype, TINY["batch"])


@pytest.mark.parametrize("data", ["ragged", "square"])
@pytest.mark.parametrize("stages", ["plain", "affine", "blur"])
def test_torch_and_dali_make_the_kernels_images(kernel, rivals, stages, data):
    cells = rivals.make_cells(data, 2, TINY["batch"], torch.device("cpu"))
    calls = kernel.make_calls(case(rivals, stages, data), cells, 2)
    images = {who: call(1, torch.empty(TINY["batch"], 1, 32, 32)) for who, (_, call) in calls.items()}
    assert list(images) == ["fastcell", "torch", "DALI"]
    for who in ("torch", "DALI"):
        assert float((images[who] - images["fastcell"]).abs().max()) < 2e-3
    assert images["torch"].mean((1, 2, 3)).numpy() == pytest.approx(1, abs=1e-5)
    other = calls["torch"][1](0, torch.empty(TINY["batch"], 1, 32, 32))
    assert float((other - images["torch"]).abs().max()) > 0.1  # another batch is another one


@pytest.mark.parametrize("data", ["ragged", "square"])
def test_gathers_from_the_pool_are_grid_sample(kernel, rivals, data):
    cells = rivals.make_cells(data, 1, TINY["batch"], torch.device("cpu"))
    rival = rivals.TorchTransform(case(rivals, "affine", data, 64), cells, kernel.STAGES["affine"], 1, 2)
    assert float((rival._gather(0, 64) - rival._sample(0)).abs().max()) < 0.2  # grey levels of white noise


def test_every_case_has_all_contestants_and_bytes(kernel, rivals):
    cases = [case(rivals, "all", "ragged"), case(rivals, "divide", "square", 128, torch.float16, "normalize")]
    turns, differences, moved = kernel.run(cases, tiny(kernel), 2, {})
    rows = kernel.make_rows(turns, differences, moved)
    assert [row.contestant for row in rows] == ["limit: copy", "limit: write", *["fastcell", "torch", "DALI"] * 2]
    assert moved["fastcell: normalize divide, square, 128 px, float16"] == 128 * 128 * 3
    heights, widths = (
        getattr(rivals.make_cells("ragged", 2, 6, torch.device("cpu")), n) for n in ("heights", "widths")
    )
    pixels = float((heights.astype(np.int64) * widths).mean())
    assert moved["DALI: transform all, ragged, 32 px, float32"] == pixels + 4 * 32 * 32
    ours, torchs = rows[2], rows[3]
    assert (ours.ratio, ours.advantage, ours.difference) == (1.0, 1.0, 0.0)
    assert (ours.kernel, ours.stages, ours.data, ours.size, ours.dtype) == ("transform", "all", "ragged", 32, "float32")
    assert 0 < torchs.difference < 2e-3
    assert rows[0].copy_share == 1.0


def test_a_row_compares_bytes_with_the_copys(kernel, program):
    harness = program("harness")
    names = ["limit: copy", "limit: write", "fastcell: normalize divide, x", "torch: normalize divide, x"]
    rate = np.array([[100.0, 50.0, 20.0, 5.0], [200.0, 50.0, 20.0, 10.0], [400.0, 50.0, 20.0, 2.0]])
    entries = {name: harness.Contestant(name, lambda: 0, batch=8) for name in names}
    turns = harness.Turns(names, dict.fromkeys(names, ""), rate, rate, np.ones(4, np.int64), entries)
    moved = {"limit: copy": 10.0, "limit: write": 5.0, names[2]: 40.0, names[3]: 40.0}
    _, write, ours, torchs = kernel.make_rows(turns, {}, moved)
    assert ours.gb_per_s == pytest.approx(20 * 40 / 1e9)
    assert ours.us_per_batch == pytest.approx(8 / 20 * 1e6)
    assert ours.copy_share == pytest.approx(20 * 40 / (200 * 10))
    assert (torchs.advantage, torchs.ratio) == pytest.approx((4.0, 0.25))
    assert write.copy_share == pytest.approx(50 * 5 / (200 * 10))


def test_a_wrong_rival_is_not_timed(kernel, rivals, monkeypatch):
    right = rivals.TorchTransform.grey
    tilt = torch.linspace(0, 1, 32)
    monkeypatch.setattr(rivals.TorchTransform, "grey", lambda self, number: right(self, number) + tilt)
    with pytest.raises(
        SystemExit, match=r"torch, transform plain, square, 32 px, float32: differs by .* Nothing timed"
    ):
        kernel.run([case(rivals, "plain", "square")], tiny(kernel), rounds=1, absent={"DALI": "not asked"})


def test_a_dali_that_differs_is_left_out_and_named(kernel, rivals, monkeypatch):
    call = rivals.DaliTransform.__call__
    monkeypatch.setattr(rivals.DaliTransform, "__call__", lambda *arguments: call(*arguments) + 0.01)
    absent = {}
    turns, _, _ = kernel.run([case(rivals, "plain", "square")], tiny(kernel), 1, absent)
    assert absent == {"DALI: transform plain, square, 32 px, float32": "differs by 1.0e-02"}
    assert [name.partition(":")[0] for name in turns.names[2:]] == ["fastcell", "torch"]


def test_missing_noise_is_seen(kernel, rivals, monkeypatch):
    call = rivals.TorchTransform.__call__
    monkeypatch.setattr(rivals.TorchTransform, "__call__", lambda self, n, out, noise=True: call(self, n, out, False))
    with pytest.raises(SystemExit, match="torch, .*: noise is 0.000 of what was drawn"):
        kernel.run([case(rivals, "noise", "square", 128)], tiny(kernel), rounds=1, absent={"DALI": "not asked"})


def test_calls_rotate_through_cells_and_memory(kernel, rivals):
    seen = []
    plan, buffer = tiny(kernel), torch.zeros(1 << 20, dtype=torch.uint8)
    calls = kernel.rotating(lambda number, out: seen.append((number, out.data_ptr())), case(rivals), plan, buffer, "x")
    work = kernel.Timed(plan, buffer, calls, TINY["batch"], captured=True)
    for _ in range(3):
        assert work().cells == TINY["batch"]
    assert [number for number, _ in seen] == [0, 1, 0]
    assert abs(seen[1][1] - seen[0][1]) >= len(buffer) // 2 - TINY["batch"] * 32 * 32 * 4
