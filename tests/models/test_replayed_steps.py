"""Steps from indices to weights: no wait of the host, what is captured and replayed, and what if it cannot be."""

import copy
import logging

import pytest
import torch
from fixtures.host_waits import HostWaitError, no_host_waits

from fastcell.loading.batch import PlannedSteps
from fastcell.models import replayed_steps
from fastcell.models.lightning_module import CellModule
from fastcell.models.replayed_steps import WARM_UP_STEPS, ReplayedSteps
from fastcell.models.weight_average import WeightAverage
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.transform import CellPool, make_clock, transform

CELLS, BATCH, GROUP = 24, 8, 4


def make_pool():
    torch.manual_seed(5)
    heights, widths = torch.randint(12, 30, (2, CELLS), dtype=torch.int32)
    sizes = heights.long() * widths
    pixels = torch.randint(0, 255, (int(sizes.sum()),), dtype=torch.uint8)
    return CellPool(pixels, sizes.cumsum(0) - sizes, heights, widths)


def make_plan(seed=0, num=GROUP):
    torch.manual_seed(seed)
    index = torch.randint(0, CELLS, (num, BATCH))
    weight = torch.ones(num, BATCH)
    weight[-1, -2:] = 0
    positions = torch.arange(num * BATCH).view(num, BATCH)
    return PlannedSteps(index, positions, index % 3, index, weight, weight.sum(1).long(), make_clock(7, seed))


def make_steps(loss=None, **settings):
    torch.manual_seed(1)
    model = CellModule(classes=["a", "b", "c"], preprocessing={"image_size": 16}, **settings).train()
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-3, fused=True)
    pool, changes = make_pool(), Augmentation(blur_sigma=1.0, noise_std=4.0)

    def images(index, positions, clock):
        return transform(pool, index, positions, clock, image_size=16, augmentation=changes)

    average = None if model.average is None else (model.average, model.network)
    return model, optimizer, ReplayedSteps(make_plan(), GROUP, 3, images, loss or loss_of(model), optimizer, average)


def loss_of(model):
    return lambda batch, total, score: model.batch_loss(batch, lambda weight: total, score)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_no_operation_of_a_step_makes_the_host_wait(precision):
    _, _, steps = make_steps(ema_decay=0.9, input_norm=True, label_smoothing=0.1)
    plan, rates = make_plan(), [[1e-3]] * GROUP
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
        steps.run(plan, rates)  # allocates the state of the optimizer, as the steps before a capture do
        steps._cursor.zero_()
        with no_host_waits() as names:
            for _ in range(2):
                steps._step()
    assert names.count("fastcell::transform") == 2
    assert sum("convolution_backward" in name for name in names) == 6
    assert any("_fused_adamw_" in name for name in names)


@pytest.mark.parametrize(
    "wait",
    [
        lambda logits: logits.sum().item(),
        lambda logits: float(logits.sum()),
        lambda logits: logits.detach().cpu(),
        lambda logits: logits.detach().numpy(),
        lambda logits: torch.cuda.synchronize(),
        lambda logits: logits.nonzero(),
        lambda logits: logits[logits > 0],
        lambda logits: logits.masked_select(logits > 0),
        lambda logits: torch.tensor([1.0, 2.0, 3.0]) * logits,
        lambda logits: bool((logits > 0).any()),
        lambda logits: torch.unique(logits > 0),
    ],
)
def test_each_kind_of_wait_is_found(wait):
    model, _, _ = make_steps()

    def loss(batch, total, score):
        with torch.no_grad():
            wait(model(batch.images))
        return loss_of(model)(batch, total, score)

    _, _, steps = make_steps(loss)
    with no_host_waits(), pytest.raises(HostWaitError):
        steps._step()


def test_a_backward_pass_that_waits_is_found():
    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    model, _, _ = make_steps()
    _, _, steps = make_steps(lambda *what: Waits.apply(loss_of(model)(*what)))
    with no_host_waits(), pytest.raises(HostWaitError, match="item"):
        steps._step()


def test_rates_of_each_step_are_used_and_the_groups_keep_theirs():
    """Against torch's own optimizer with numbers, step by step."""
    model, optimizer, steps = make_steps()
    twin = copy.deepcopy(model)
    plain = torch.optim.AdamW(twin.network.parameters(), lr=1e-3, fused=True)
    plan, rates = make_plan(), [1e-3, 5e-3, 1e-4, 0.0]
    steps.run(plan, [[rate] for rate in rates])
    for step, rate in enumerate(rates):
        images = steps.images(plan.cells[step], plan.positions[step], plan.clock)
        batch = replayed_steps.Batch(images, plan.labels[step], plan.cell_ids[step], plan.weight[step])
        plain.zero_grad()
        loss_of(twin)(batch, plan.totals[step], lambda *_: None).backward()
        plain.param_groups[0]["lr"] = rate
        plain.step()
    for ours, theirs in zip(model.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert optimizer.param_groups[0]["capturable"] is False
    assert all(isinstance(value["step"], torch.Tensor) for value in optimizer.state.values())


def test_a_short_group_makes_its_own_steps_alone_and_sums_are_read_once():
    _, _, steps = make_steps()
    steps.run(make_plan(0), [[1e-3]] * GROUP)
    first = steps.take_sums()
    assert int(first["confusion"].sum()) == GROUP * BATCH - 2  # two cells of weight 0
    assert float(first["weight_sum"]) == GROUP * BATCH - 2
    steps.run(make_plan(1, 2), [[1e-3]] * 2)
    assert int(steps.take_sums()["confusion"].sum()) == 2 * BATCH - 2
    assert float(steps.take_sums()["loss_sum"]) == 0


def test_the_average_of_planned_steps_is_that_of_single_updates():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    one, planned = WeightAverage(layer, 0.9), WeightAverage(layer, 0.9)
    shares = torch.tensor(planned.shares_of_next(12))
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(1 - 12 / 21)
    for share in shares:
        with torch.no_grad():
            layer[0].weight.add_(torch.randn(3, 2))
            layer(torch.randn(4, 2))
        one.update_parameters(layer)
        planned.mix(layer, share)
    planned.count(12)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(planned.state_dict()[name], value)
    assert planned.shares_of_next(1) == one.shares_of_next(1)


class FakeCuda:
    """Streams, capture and replay of torch.cuda, noted; a replay runs what was captured, on the CPU."""

    def __init__(self, monkeypatch, fails=""):
        self.events = []
        self.capturing, cuda = False, self
        step = ReplayedSteps._step

        def noted_step(steps):
            self.events.append("captured" if self.capturing else f"step on {self.stream}")
            if self.capturing and fails:
                raise RuntimeError(f"{fails}\nmore lines")
            if not self.capturing:
                step(steps)

        class Stream:
            def __init__(self, device=None, name="side"):
                self.name = name

            def wait_stream(self, other):
                cuda.events.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self):
                cuda.events.append("replay")
                step(cuda.steps)

        class Capture:
            def __init__(self, graph, stream, capture_error_mode):
                assert capture_error_mode == "thread_local"
                assert stream.name == "side"

            def __enter__(self):
                assert not any(p.grad is not None for group in cuda.optimizer.param_groups for p in group["params"])
                cuda.capturing = True

            def __exit__(self, *_):
                cuda.capturing = False

        class On:
            def __init__(self, stream):
                self.name = stream.name

            def __enter__(self):
                cuda.stream = self.name

            def __exit__(self, *_):
                cuda.stream = "main"

        self.stream = "main"
        monkeypatch.setattr(ReplayedSteps, "_step", noted_step)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(name="main"))
        monkeypatch.setattr(torch.cuda, "stream", On)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", Capture)
        self.model, self.optimizer, self.steps = make_steps()
        self.steps._stream = Stream()


def test_first_steps_are_made_beside_then_one_is_captured_and_replayed(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    cuda.steps.run(make_plan(0), [[1e-3]] * GROUP)
    beside = ["side waits for main", "step on side", "main waits for side"]
    assert cuda.events == [*beside * WARM_UP_STEPS, "captured", "replay"]
    assert cuda.steps.is_captured
    cuda.steps.run(make_plan(1), [[1e-3]] * GROUP)
    assert cuda.events[3 * WARM_UP_STEPS + 2 :] == ["replay"] * GROUP
    monkeypatch.undo()
    model, _, steps = make_steps()  # the same without streams and graphs
    for seed in (0, 1):
        steps.run(make_plan(seed), [[1e-3]] * GROUP)
    assert not steps.is_captured
    for ours, theirs in zip(cuda.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_that_cannot_be_captured_is_made_without_a_graph_and_said(monkeypatch, caplog):
    cuda = FakeCuda(monkeypatch, fails="operation not permitted when stream is capturing")
    with caplog.at_level(logging.INFO, "fastcell"):
        for seed in range(2):
            cuda.steps.run(make_plan(seed), [[1e-3]] * GROUP)
    assert cuda.events.count("captured") == 1
    assert cuda.events.count("step on main") == 2 * GROUP - WARM_UP_STEPS
    assert not cuda.steps.is_captured
    (record,) = caplog.records
    assert record.getMessage().endswith("no CUDA graph of a step can be made: operation not permitted when stream is "
                                        "capturing")  # fmt: skip
